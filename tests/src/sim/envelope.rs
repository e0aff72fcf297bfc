//! Frames between brokers: their bytes, their names in a trace, and their words in other crates' types.

use bytes::Bytes;
use trimaran_multiraft::Heartbeat;
use trimaran_multiraft::envelope::{self as groups, Messages};
use trimaran_raft::{Body, NodeId};
use trimaran_registry::starts::Start;
use trimaran_registry::{FolderId, Incarnation};
use trimaran_wire::peer::{self, Frame, Handshake, PROTOCOL_VERSION};

/// A frame as it goes over the network.
pub fn encode(frame: &Frame) -> Bytes {
    frame.encode(PROTOCOL_VERSION).concat().into()
}

/// The kind of a frame, in a word.
pub fn name(bytes: &Bytes) -> &'static str {
    match Frame::decode(bytes.clone()) {
        Ok(Frame::Heartbeat(_)) => "heartbeat",
        Ok(Frame::Control(_)) => "control",
        Ok(Frame::FailOver(_)) => "fail over",
        Ok(Frame::Relayed(_)) => "relayed",
        Ok(Frame::Groups(messages)) => match groups::decode(messages).as_deref() {
            Ok([(_, message)]) => body_name(&message.body),
            Ok(_) => "groups",
            Err(_) => "garbage",
        },
        Err(_) => match Handshake::decode(bytes) {
            Ok(Handshake::Inquiry(_)) => "inquiry",
            Ok(Handshake::Account(_)) => "account",
            _ => "garbage",
        },
    }
}

fn body_name(body: &Body) -> &'static str {
    match body {
        Body::PreVote { .. } => "pre-vote",
        Body::PreVoteReply { .. } => "pre-vote reply",
        Body::Vote { .. } => "vote",
        Body::VoteReply { .. } => "vote reply",
        Body::Append { .. } => "append",
        Body::AppendAccepted { .. } => "accepted",
        Body::AppendRejected { .. } => "rejected",
        Body::Heartbeat { .. } => "group heartbeat",
        Body::HeartbeatReply { .. } => "group heartbeat reply",
        Body::TimeoutNow => "timeout now",
        Body::Snapshot { .. } => "snapshot",
        Body::Lost { .. } => "lost",
        Body::Rejoin { .. } => "rejoin",
        Body::Seek => "seek",
    }
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

/// A shard's messages for one peer.
pub fn groups_out(messages: &Messages) -> Frame {
    Frame::Groups(groups::encode(messages).concat().into())
}
