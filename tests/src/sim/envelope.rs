//! The core's messages as the peer envelope carries them, and back.

use bytes::{Bytes, BytesMut};
use trimaran_multiraft::Heartbeat;
use trimaran_raft::{Body, Configuration, Entry, GroupId, Life, LogIndex, Message, NodeId, Payload, Snapshot, Term};
use trimaran_registry::starts::Start;
use trimaran_registry::{FolderId, Incarnation};
use trimaran_wire::peer::{self, Frame, PeerError};

/// A frame as it goes over the network.
pub fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    for chunk in peer::encode(frame) {
        out.extend_from_slice(&chunk);
    }
    out.freeze()
}

/// The kind of a frame, in a word.
pub fn name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) => "hello",
        Frame::Welcome(_) => "welcome",
        Frame::Refused(_) => "refused",
        Frame::Inquiry(_) => "inquiry",
        Frame::Account(_) => "account",
        Frame::Heartbeat(_) => "heartbeat",
        Frame::Control(_) => "control",
        Frame::FailOver(_) => "fail over",
        Frame::Relayed(_) => "relayed",
        Frame::Groups(messages) => match messages.as_slice() {
            [(_, message)] => body_name(&message.body),
            _ => "groups",
        },
    }
}

fn body_name(body: &peer::Body) -> &'static str {
    match body {
        peer::Body::PreVote { .. } => "pre-vote",
        peer::Body::PreVoteReply { .. } => "pre-vote reply",
        peer::Body::Vote { .. } => "vote",
        peer::Body::VoteReply { .. } => "vote reply",
        peer::Body::Append { .. } => "append",
        peer::Body::AppendAccepted { .. } => "accepted",
        peer::Body::AppendRejected { .. } => "rejected",
        peer::Body::Heartbeat { .. } => "group heartbeat",
        peer::Body::HeartbeatReply { .. } => "group heartbeat reply",
        peer::Body::TimeoutNow => "timeout now",
        peer::Body::Snapshot { .. } => "snapshot",
        peer::Body::Lost { .. } => "lost",
        peer::Body::Rejoin { .. } => "rejoin",
        peer::Body::Seek => "seek",
    }
}

/// Reads a frame.
pub fn decode(bytes: Bytes) -> Result<Frame, PeerError> {
    peer::decode(bytes)
}

/// A monitor's heartbeat as the envelope carries it.
pub fn heartbeat_out(heartbeat: Heartbeat) -> Frame {
    Frame::Heartbeat(peer::Heartbeat {
        incarnation: heartbeat.incarnation,
        sequence: heartbeat.sequence,
        echo_sequence: heartbeat.echo_sequence,
        echo_incarnation: heartbeat.echo_incarnation,
        hears: heartbeat.hears.into_iter().map(broker).collect(),
    })
}

/// The inverse of [`heartbeat_out`].
pub fn heartbeat_in(heartbeat: peer::Heartbeat) -> Heartbeat {
    Heartbeat {
        incarnation: heartbeat.incarnation,
        sequence: heartbeat.sequence,
        echo_sequence: heartbeat.echo_sequence,
        echo_incarnation: heartbeat.echo_incarnation,
        hears: heartbeat.hears.into_iter().map(node).collect(),
    }
}

/// A start of a broker.
pub fn start_out(start: Start) -> peer::Start {
    peer::Start {
        folder: peer::FolderId(start.folder.0),
        incarnation: start.incarnation.0,
    }
}

/// The inverse of [`start_out`].
pub fn start_in(start: peer::Start) -> Start {
    Start {
        folder: FolderId(start.folder.0),
        incarnation: Incarnation(start.incarnation),
    }
}

fn broker(node: NodeId) -> peer::BrokerId {
    peer::BrokerId(i32::try_from(node.0).unwrap_or(i32::MAX))
}

fn node(broker: peer::BrokerId) -> NodeId {
    NodeId(u64::try_from(broker.0).unwrap_or(0))
}

/// A shard's envelope for one peer.
pub fn groups_out(messages: Vec<(GroupId, Message)>) -> Frame {
    Frame::Groups(
        messages
            .into_iter()
            .map(|(group, message)| (peer::GroupId(group.0), message_out(message)))
            .collect(),
    )
}

/// The inverse of [`groups_out`].
pub fn groups_in(messages: Vec<(peer::GroupId, peer::Message)>) -> Vec<(GroupId, Message)> {
    messages
        .into_iter()
        .map(|(group, message)| (GroupId(group.0), message_in(message)))
        .collect()
}

fn message_out(message: Message) -> peer::Message {
    let (index, term) = (
        |index: LogIndex| peer::LogIndex(index.0),
        |term: Term| peer::Term(term.0),
    );
    let body = match message.body {
        Body::PreVote { last_index, last_term } => peer::Body::PreVote {
            last_index: index(last_index),
            last_term: term(last_term),
        },
        Body::PreVoteReply { granted, longer_log } => peer::Body::PreVoteReply { granted, longer_log },
        Body::Vote {
            last_index,
            last_term,
            transfer,
        } => peer::Body::Vote {
            last_index: index(last_index),
            last_term: term(last_term),
            transfer,
        },
        Body::VoteReply { granted } => peer::Body::VoteReply { granted },
        Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries,
        } => peer::Body::Append {
            prev_index: index(prev_index),
            prev_term: term(prev_term),
            commit: index(commit),
            replicated_index: index(replicated_index),
            entries: entries.into_iter().map(entry_out).collect(),
        },
        Body::AppendAccepted {
            match_index,
            commit,
            life,
        } => peer::Body::AppendAccepted {
            match_index: index(match_index),
            commit: index(commit),
            life: life.0,
        },
        Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => peer::Body::AppendRejected {
            prev_index: index(prev_index),
            hint_index: index(hint_index),
            hint_term: term(hint_term),
        },
        Body::Heartbeat { commit, round } => peer::Body::Heartbeat {
            commit: index(commit),
            round,
        },
        Body::HeartbeatReply { commit, round } => peer::Body::HeartbeatReply {
            commit: index(commit),
            round,
        },
        Body::TimeoutNow => peer::Body::TimeoutNow,
        Body::Snapshot {
            snapshot,
            commit,
            replicated_index,
        } => peer::Body::Snapshot {
            snapshot: Box::new(snapshot_to_wire(*snapshot)),
            commit: index(commit),
            replicated_index: index(replicated_index),
        },
        Body::Lost { life } => peer::Body::Lost { life: life.0 },
        Body::Rejoin { since, life } => peer::Body::Rejoin {
            since: index(since),
            life: life.0,
        },
        Body::Seek => peer::Body::Seek,
    };
    peer::Message {
        term: term(message.term),
        body,
    }
}

fn entry_out(entry: Entry) -> peer::Entry {
    peer::Entry {
        term: peer::Term(entry.term.0),
        payload: match entry.payload {
            Payload::Blank => peer::Payload::Blank,
            Payload::Data(bytes) => peer::Payload::Data(bytes),
            Payload::Configuration(configuration) => {
                peer::Payload::Configuration(configuration_to_wire(*configuration))
            }
        },
    }
}

fn message_in(message: peer::Message) -> Message {
    let (index, term) = (
        |index: peer::LogIndex| LogIndex(index.0),
        |term: peer::Term| Term(term.0),
    );
    let body = match message.body {
        peer::Body::PreVote { last_index, last_term } => Body::PreVote {
            last_index: index(last_index),
            last_term: term(last_term),
        },
        peer::Body::PreVoteReply { granted, longer_log } => Body::PreVoteReply { granted, longer_log },
        peer::Body::Vote {
            last_index,
            last_term,
            transfer,
        } => Body::Vote {
            last_index: index(last_index),
            last_term: term(last_term),
            transfer,
        },
        peer::Body::VoteReply { granted } => Body::VoteReply { granted },
        peer::Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries,
        } => Body::Append {
            prev_index: index(prev_index),
            prev_term: term(prev_term),
            commit: index(commit),
            replicated_index: index(replicated_index),
            entries: (prev_index.0 + 1..)
                .zip(entries)
                .map(|(at, entry)| entry_in(at, entry))
                .collect(),
        },
        peer::Body::AppendAccepted {
            match_index,
            commit,
            life,
        } => Body::AppendAccepted {
            match_index: index(match_index),
            commit: index(commit),
            life: Life(life),
        },
        peer::Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => Body::AppendRejected {
            prev_index: index(prev_index),
            hint_index: index(hint_index),
            hint_term: term(hint_term),
        },
        peer::Body::Heartbeat { commit, round } => Body::Heartbeat {
            commit: index(commit),
            round,
        },
        peer::Body::HeartbeatReply { commit, round } => Body::HeartbeatReply {
            commit: index(commit),
            round,
        },
        peer::Body::TimeoutNow => Body::TimeoutNow,
        peer::Body::Snapshot {
            snapshot,
            commit,
            replicated_index,
        } => Body::Snapshot {
            snapshot: Box::new(snapshot_from_wire(*snapshot)),
            commit: index(commit),
            replicated_index: index(replicated_index),
        },
        peer::Body::Lost { life } => Body::Lost { life: Life(life) },
        peer::Body::Rejoin { since, life } => Body::Rejoin {
            since: index(since),
            life: Life(life),
        },
        peer::Body::Seek => Body::Seek,
    };
    Message {
        term: term(message.term),
        body,
    }
}

fn entry_in(index: u64, entry: peer::Entry) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(entry.term.0),
        payload: match entry.payload {
            peer::Payload::Blank => Payload::Blank,
            peer::Payload::Data(bytes) => Payload::Data(bytes),
            peer::Payload::Configuration(configuration) => {
                Payload::Configuration(Box::new(configuration_from_wire(configuration)))
            }
        },
    }
}

fn snapshot_to_wire(snapshot: Snapshot) -> peer::Snapshot {
    peer::Snapshot {
        index: peer::LogIndex(snapshot.index.0),
        term: peer::Term(snapshot.term.0),
        configuration: configuration_to_wire(snapshot.configuration),
        data: snapshot.data,
    }
}

fn snapshot_from_wire(snapshot: peer::Snapshot) -> Snapshot {
    Snapshot {
        index: LogIndex(snapshot.index.0),
        term: Term(snapshot.term.0),
        configuration: configuration_from_wire(snapshot.configuration),
        // Copied, like a payload.
        data: Bytes::copy_from_slice(&snapshot.data),
    }
}

fn configuration_to_wire(configuration: Configuration) -> peer::Configuration {
    let nodes = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| peer::NodeId(node.0)).collect();
    peer::Configuration {
        voters: nodes(configuration.voters),
        outgoing: nodes(configuration.outgoing),
        learners: nodes(configuration.learners),
    }
}

fn configuration_from_wire(configuration: peer::Configuration) -> Configuration {
    let nodes = |nodes: Vec<peer::NodeId>| nodes.into_iter().map(|node| NodeId(node.0)).collect();
    Configuration {
        voters: nodes(configuration.voters),
        outgoing: nodes(configuration.outgoing),
        learners: nodes(configuration.learners),
    }
}
