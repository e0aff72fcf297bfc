//! Between brokers: what `raft` says becomes `wire`'s frames and back, and what arrives finds its shard.

#[cfg(test)]
mod tests;
mod twins;

pub(crate) use twins::Twins;

mod outbound;

use crate::control::{ControlInput, ControlQueue, METADATA};
use crate::ids;
use crate::metrics::Metrics;
use crate::server::account_frame;
use crate::shards::Mailboxes;
use crate::starts::{self, NotAdmitted, StartStore};
use bytes::Bytes;
pub(crate) use outbound::Outbound;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use trimaran_multiraft::{Input, PeerSink};
use trimaran_raft::{self as raft, NodeId};
use trimaran_registry::starts::{Accepted, Account, Announcement, Refusal, Start};
use trimaran_registry::{BrokerId, Founders, Incarnation, limits};
use trimaran_transport::{Admission, Handshake, PeerId, PeerService};
use trimaran_wire::peer::{self as wire, Frame};

/// News of peers (heartbeats, the agents' messages) that wait for the control thread; beyond it they are dropped, as
/// on a network. Far above what a cluster of the largest size says in a second.
const CONTROL_LIMIT: usize = 65_536;

/// Record bytes after which a frame to a peer is full. A frame is the unit of what can be dropped, and of what a
/// heartbeat has to wait for; one message alone may be larger.
const FRAME_PAYLOAD_BYTES: usize = 1 << 20;

impl PeerSink for Outbound {
    fn send(&mut self, to: NodeId, messages: Vec<(raft::GroupId, raft::Message)>) {
        for frame in frames(self.reroute(to, messages)) {
            self.send_direct(to, &Frame::Groups(frame));
        }
    }
}

/// As many frames as it takes, none of them too full.
fn frames(messages: Vec<(raft::GroupId, raft::Message)>) -> Vec<Vec<(wire::GroupId, wire::Message)>> {
    let (mut frames, mut bytes) = (vec![Vec::new()], 0);
    for (group, message) in messages {
        let payload = payload_bytes(&message);
        let last = frames.last().map_or(0, Vec::len);
        if last == wire::FULL_AFTER_MESSAGES || (bytes > 0 && bytes + payload > FRAME_PAYLOAD_BYTES) {
            frames.push(Vec::new());
            bytes = 0;
        }
        bytes += payload;
        let message = (wire::GroupId(group.0), to_wire(message));
        frames.last_mut().expect("there is one").push(message);
    }
    frames.retain(|frame| !frame.is_empty());
    frames
}

fn payload_bytes(message: &raft::Message) -> usize {
    match &message.body {
        raft::Body::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
        raft::Body::Snapshot { snapshot, .. } => snapshot.data.len(),
        _ => 0,
    }
}

/// The peers' side of this broker: both ends of the handshake, and the receiver of their frames.
pub(crate) struct Peers {
    /// The cluster that this broker belongs to.
    pub(crate) cluster_id: String,
    /// This broker.
    pub(crate) node: NodeId,
    /// This start of it.
    pub(crate) start: Announcement,
    /// The starts of the others.
    pub(crate) starts: StartStore,
    /// Conflicts between this process and others that run under some broker's id.
    pub(crate) twins: Twins,
    /// The cluster's founders, as configured. A broker that was told others is not let in.
    pub(crate) founders: Founders,
    /// Where this broker's peer listener is reached.
    pub(crate) address: String,
    /// Brokers that are no founders and have said hello.
    pub(crate) newcomers: Mutex<BTreeSet<NodeId>>,
    /// Where groups' messages go.
    pub(crate) mailboxes: Mailboxes,
    /// Where everything else goes.
    pub(crate) control: Arc<ControlQueue>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
}

impl Peers {
    fn welcome(&self) -> Vec<Bytes> {
        wire::encode(&Frame::Welcome(wire::Welcome {
            protocol: wire::PROTOCOL_VERSION,
            cluster_id: self.cluster_id.clone(),
            broker: wire_broker(self.node),
            incarnation: self.start.start.incarnation.0,
        }))
    }

    /// Returns the broker that says hello, or the reason why it is not let in.
    fn examine(&self, hello: &wire::Hello) -> Result<NodeId, wire::Refused> {
        if hello.protocol != wire::PROTOCOL_VERSION {
            return Err(wire::Refused::Version {
                supported: wire::PROTOCOL_VERSION,
            });
        }
        if hello.cluster_id != self.cluster_id {
            return Err(wire::Refused::OtherCluster {
                cluster_id: self.cluster_id.clone(),
            });
        }
        if hello.to != wire_broker(self.node) {
            return Err(wire::Refused::OtherBroker {
                broker: wire_broker(self.node),
            });
        }
        self.known(hello.broker).ok_or(wire::Refused::UnknownBroker)
    }

    /// Another broker that may be in the cluster.
    fn known(&self, broker: wire::BrokerId) -> Option<NodeId> {
        let node = u64::try_from(broker.0).map(NodeId).ok();
        node.filter(|node| *node != self.node && self.lets_in(*node))
    }

    fn compare_founders(&self, hello: &wire::Hello) -> Result<(), wire::Refused> {
        if founders(hello) == self.founders {
            Ok(())
        } else {
            Err(wire::Refused::OtherFounders {
                founders: wire_brokers(&self.founders),
            })
        }
    }

    /// Nothing may be taken from a start whose data folder is behind what this broker has seen. A process that was told
    /// other founders has promised nothing to anybody, so its start is not noted.
    fn admit_start(&self, from: SocketAddr, hello: &wire::Hello) -> Result<(), wire::Refused> {
        let broker = BrokerId(hello.broker.0);
        let announced = announced(hello);
        let judged = self.starts.judge(broker, &announced);
        judged.map_err(|refusal| self.refused(from, broker, announced.start, refusal))?;
        self.compare_founders(hello)?;
        match self.starts.admit(broker, &announced) {
            Ok(Accepted::Again | Accepted::Later) => Ok(()),
            Ok(Accepted::OtherFolder(before)) => {
                starts::say_other_folder(broker, from, announced.start, before);
                Ok(())
            }
            Err(NotAdmitted::Refused(refusal)) => Err(self.refused(from, broker, announced.start, refusal)),
            Err(NotAdmitted::Io(error)) => {
                starts::say_not_noted(broker, &error);
                Err(wire::Refused::Other(format!(
                    "the peer can't write its data folder: {error}"
                )))
            }
        }
    }

    fn refused(&self, from: SocketAddr, broker: BrokerId, start: Start, refusal: Refusal) -> wire::Refused {
        self.say_refused(from, broker, start, refusal);
        match refusal {
            Refusal::Superseded(seen) => wire::Refused::Superseded(starts::to_wire(seen)),
            Refusal::RolledBack(seen) => wire::Refused::RolledBack(starts::to_wire(seen)),
            Refusal::AnotherRuns(alive) => wire::Refused::AnotherRuns(starts::to_wire(alive)),
        }
    }

    fn say_refused(&self, from: SocketAddr, broker: BrokerId, start: Start, refusal: Refusal) {
        if !self.twins.may_say() {
            return;
        }
        let broker = ids::broker_name(broker);
        match refusal {
            Refusal::Superseded(seen) => tracing::warn!(
                broker, %from, start = %start, seen = %seen,
                "refuses a process that runs as a broker of which a later start was seen"
            ),
            Refusal::RolledBack(seen) => tracing::error!(
                broker, %from, start = %start, seen = %seen,
                "refuses a broker whose data folder is older than what it has promised: a former folder, or an old \
                 copy. It stops, and is filled again when it is started again. See \"Former data folders\" in \
                 docs/operations.md"
            ),
            Refusal::AnotherRuns(alive) => tracing::error!(
                broker, %from, start = %start, alive = %alive,
                "refuses a second process that runs as a broker which is alive: give each broker its own `broker.id`"
            ),
        }
    }

    /// A broker that starts asks what is known of it.
    fn account_for(&self, from: SocketAddr, inquiry: &wire::Inquiry) -> Admission {
        let refuse = |refused: wire::Refused| Admission::Rejected {
            reason: format!(
                "broker {} at {from} asks what is known of it: {refused}",
                inquiry.broker.0
            ),
            answer: wire::encode(&Frame::Refused(refused)),
        };
        if inquiry.cluster_id != self.cluster_id {
            return refuse(wire::Refused::OtherCluster {
                cluster_id: self.cluster_id.clone(),
            });
        }
        let asker = BrokerId(inquiry.broker.0);
        let own = ids::broker(self.node);
        let account = if asker == own {
            Account {
                seen: Some(self.start.start),
                alive: Some(self.start.start),
            }
        } else {
            self.starts.account_for(asker)
        };
        let last = starts::from_wire(inquiry.last);
        if let Some(alive) = account.alive.filter(|alive| alive.folder != last.folder)
            && self.twins.may_say()
        {
            tracing::error!(
                broker = ids::broker_name(asker), %from, alive = %alive,
                "a second process wants to start as a broker which is alive, with another data folder: it is refused \
                 for as long as that one runs. Give each broker its own `broker.id`; to replace the one that runs, \
                 stop it first"
            );
        }
        Admission::Answered(account_frame(&self.cluster_id, own, &account))
    }

    /// Founders always, and as many others as a cluster may have.
    fn lets_in(&self, node: NodeId) -> bool {
        if self.founders.contains(ids::broker(node)) {
            return true;
        }
        let mut newcomers = self.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
        newcomers.len() < limits::BROKERS && newcomers.insert(node) || newcomers.contains(&node)
    }

    /// A frame that two brokers out of contact sent through a third one: it is for this broker, or to be passed on,
    /// once.
    fn relayed(&self, from: NodeId, frame_bytes: usize, relayed: wire::Relayed) {
        if relayed.to == wire_broker(self.node) {
            self.take_relayed(frame_bytes, relayed);
        } else if relayed.from == wire_broker(from) {
            self.control.offer(ControlInput::PassOn(relayed), CONTROL_LIMIT);
        } else {
            self.metrics.bad_frames.inc();
        }
    }

    /// Nothing is taken from a start that has not been judged, whatever way it comes: a former data folder could vote
    /// through the third broker. Judging may wait for the disk, which the link that the frame came on must not; the
    /// frame is dropped, and its sender tries again.
    fn take_relayed(&self, frame_bytes: usize, relayed: wire::Relayed) {
        let Some(origin) = self.known(relayed.from) else {
            self.metrics.bad_frames.inc();
            return;
        };
        let broker = ids::broker(origin);
        let announced = Announcement {
            start: starts::from_wire(relayed.start),
            previous: Incarnation(relayed.previous),
        };
        if !self.starts.is_noted(broker, announced.start) {
            if self.starts.is_due(broker, &announced) {
                self.control
                    .offer(ControlInput::Announced(broker, announced), CONTROL_LIMIT);
            }
            return;
        }
        match wire::decode(relayed.frame) {
            Ok(frame @ (Frame::Groups(_) | Frame::Control(_) | Frame::FailOver(_))) => {
                self.take(origin, frame_bytes, frame);
            }
            _ => _ = self.metrics.bad_frames.inc(),
        }
    }

    fn take(&self, from: NodeId, frame_bytes: usize, frame: Frame) {
        match frame {
            Frame::Groups(messages) => self.groups(from, frame_bytes, messages),
            Frame::Heartbeat(heartbeat) => {
                self.starts.heard(ids::broker(from));
                let heartbeat = heartbeat_from_wire(heartbeat);
                self.control
                    .offer(ControlInput::Heartbeat(from, heartbeat), CONTROL_LIMIT);
            }
            Frame::Control(message) => {
                self.control.offer(ControlInput::Agent(from, message), CONTROL_LIMIT);
            }
            Frame::FailOver(request) => {
                let group = raft::GroupId(request.group.0);
                let failed = request.failed.map(|broker| NodeId(u64::from(broker.0.unsigned_abs())));
                self.mailboxes.of(group).tell(Input::Failover { group, failed });
            }
            Frame::Relayed(relayed) => self.relayed(from, frame_bytes, relayed),
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refused(_) | Frame::Inquiry(_) | Frame::Account(_) => {
                self.metrics.bad_frames.inc();
                tracing::debug!(%from, "a peer says hello or answers one where it should not");
            }
        }
    }

    /// For the log.
    fn why(&self, from: SocketAddr, hello: &wire::Hello, refused: &wire::Refused) -> String {
        let (broker, cluster) = (hello.broker.0, &hello.cluster_id);
        match refused {
            wire::Refused::OtherFounders { .. } => {
                let theirs = founders(hello);
                format!(
                    "broker {broker} at {from} was refused: its `cluster.voters` names {theirs}, this broker's names \
                     {}: the list says who founded the cluster, and never changes. Correct it where it is wrong; see \
                     \"Growing a cluster\" in docs/operations.md",
                    self.founders
                )
            }
            _ => format!("broker {broker} of cluster {cluster} at {from} was refused: {refused:?}"),
        }
    }

    fn groups(&self, from: NodeId, frame_bytes: usize, messages: Vec<(wire::GroupId, wire::Message)>) {
        let mut parts: Vec<Part> = Vec::new();
        parts.resize_with(self.mailboxes.all().len(), Part::default);
        for (group, message) in messages {
            let group = raft::GroupId(group.0);
            let mut message = from_wire(message);
            part_from(&mut message, frame_bytes);
            let part = &mut parts[self.mailboxes.shard_of(group)];
            part.bytes += size(&message);
            part.messages.push((group, message));
        }
        for (shard, part) in parts.into_iter().enumerate() {
            let count = part.messages.len() as u64;
            if count > 0 && !self.mailboxes.shard(shard).messages(from, part.messages, part.bytes) {
                self.metrics.dropped_messages.inc_by(count);
            }
        }
    }
}

/// The messages of one frame for one shard.
#[derive(Default)]
struct Part {
    messages: Vec<(raft::GroupId, raft::Message)>,
    bytes: usize,
}

impl Handshake for Peers {
    fn hello(&self, to: PeerId) -> Vec<Bytes> {
        wire::encode(&Frame::Hello(wire::Hello {
            protocol: wire::PROTOCOL_VERSION,
            cluster_id: self.cluster_id.clone(),
            broker: wire_broker(self.node),
            incarnation: self.start.start.incarnation.0,
            to: wire_broker(NodeId(to.0)),
            folder: starts::to_wire(self.start.start).folder,
            previous: self.start.previous.0,
            founders: wire_brokers(&self.founders),
            address: self.address.clone(),
        }))
    }

    fn check_welcome(&self, from: PeerId, welcome: Bytes) -> Result<(), String> {
        let welcome = match wire::decode(welcome) {
            Ok(Frame::Welcome(welcome)) => welcome,
            Ok(Frame::Refused(refused)) => {
                let reason = format!("it refused this broker: {refused}");
                if self.twins.is_final(from, &refused) {
                    self.control.push(ControlInput::Disowned(NodeId(from.0), refused));
                }
                return Err(reason);
            }
            Ok(_) => return Err("it answered with something else than a welcome".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        if welcome.cluster_id != self.cluster_id {
            return Err(format!(
                "it belongs to cluster {}, this broker to {}: correct `cluster.voters` or `cluster.id`",
                welcome.cluster_id, self.cluster_id
            ));
        }
        if welcome.broker != wire_broker(NodeId(from.0)) {
            return Err(format!(
                "broker {} answers at the address that `cluster.voters` gives for broker {}",
                welcome.broker.0, from.0
            ));
        }
        if welcome.protocol != wire::PROTOCOL_VERSION {
            return Err(format!("it speaks version {} of the peer protocol", welcome.protocol));
        }
        self.twins.accepted(from);
        Ok(())
    }
}

impl PeerService for Peers {
    fn admit(&self, from: SocketAddr, hello: Bytes) -> Admission {
        let hello = match wire::decode(hello) {
            Ok(Frame::Hello(hello)) => hello,
            Ok(Frame::Inquiry(inquiry)) => return self.account_for(from, &inquiry),
            // Not one of ours: it would not understand an answer.
            Ok(_) => {
                return Admission::Rejected {
                    answer: Vec::new(),
                    reason: format!("{from} did not begin with a hello"),
                };
            }
            Err(error) => {
                return Admission::Rejected {
                    answer: Vec::new(),
                    reason: format!("{from} is no peer: {error}"),
                };
            }
        };
        let examined = self.examine(&hello).and_then(|node| {
            self.admit_start(from, &hello)?;
            Ok(node)
        });
        match examined {
            Ok(node) => {
                if !self.founders.contains(ids::broker(node)) {
                    self.control
                        .offer(ControlInput::Newcomer(node, hello.address), CONTROL_LIMIT);
                }
                Admission::Welcome(PeerId(node.0), self.welcome())
            }
            Err(refused) => Admission::Rejected {
                reason: self.why(from, &hello, &refused),
                answer: wire::encode(&Frame::Refused(refused)),
            },
        }
    }

    fn frame(&self, from: PeerId, frame: Bytes) {
        let from = NodeId(from.0);
        let frame_bytes = frame.len();
        match wire::decode(frame) {
            Ok(frame) => self.take(from, frame_bytes, frame),
            Err(error) => {
                self.metrics.bad_frames.inc();
                tracing::debug!(%from, %error, "a frame of a peer can't be read");
            }
        }
    }

    fn arrived(&self, peer: PeerId) {
        self.starts.arrived(ids::broker(NodeId(peer.0)));
        self.control.push(ControlInput::Arrived(NodeId(peer.0)));
    }

    fn left(&self, peer: PeerId) {
        self.starts.left(ids::broker(NodeId(peer.0)));
    }
}

fn announced(hello: &wire::Hello) -> Announcement {
    Announcement {
        start: starts::from_wire(wire::Start {
            folder: hello.folder,
            incarnation: hello.incarnation,
        }),
        previous: Incarnation(hello.previous),
    }
}

fn founders(hello: &wire::Hello) -> Founders {
    Founders::new(hello.founders.iter().map(|broker| BrokerId(broker.0)))
}

fn wire_broker(node: NodeId) -> wire::BrokerId {
    wire::BrokerId(i32::try_from(node.0).unwrap_or(i32::MAX))
}

/// Gives entries memory of their own if they are a small part of the frame that they came in: else one small entry
/// would keep all of it for as long as it is in the tail, uncounted.
fn part_from(message: &mut raft::Message, frame_bytes: usize) {
    let raft::Body::Append { entries, .. } = &mut message.body else {
        return;
    };
    for entry in entries {
        if let raft::Payload::Data(bytes) = &mut entry.payload
            && bytes.len() < frame_bytes / 2
        {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }
}

fn wire_brokers(founders: &Founders) -> Vec<wire::BrokerId> {
    founders.ids().iter().map(|broker| wire::BrokerId(broker.0)).collect()
}

/// A monitor's heartbeat as the frame carries it.
pub(crate) fn heartbeat_to_wire(heartbeat: trimaran_multiraft::Heartbeat) -> wire::Heartbeat {
    wire::Heartbeat {
        incarnation: heartbeat.incarnation,
        sequence: heartbeat.sequence,
        echo_sequence: heartbeat.echo_sequence,
        echo_incarnation: heartbeat.echo_incarnation,
        hears: heartbeat.hears.into_iter().map(wire_broker).collect(),
    }
}

/// The inverse of [`heartbeat_to_wire`].
pub(crate) fn heartbeat_from_wire(heartbeat: wire::Heartbeat) -> trimaran_multiraft::Heartbeat {
    trimaran_multiraft::Heartbeat {
        incarnation: heartbeat.incarnation,
        sequence: heartbeat.sequence,
        echo_sequence: heartbeat.echo_sequence,
        echo_incarnation: heartbeat.echo_incarnation,
        hears: nodes(&heartbeat.hears),
    }
}

/// Ids that no broker has name nobody.
fn nodes(brokers: &[wire::BrokerId]) -> Vec<NodeId> {
    brokers
        .iter()
        .filter_map(|broker| u64::try_from(broker.0).ok())
        .map(NodeId)
        .collect()
}

/// About what a message takes in memory.
fn size(message: &raft::Message) -> usize {
    let payloads = match &message.body {
        raft::Body::Append { entries, .. } => entries.iter().map(|entry| 48 + entry.payload.len()).sum(),
        raft::Body::Snapshot { snapshot, .. } => snapshot.data.len(),
        _ => 0,
    };
    64 + payloads
}

/// The core's message in the frame's words.
pub(crate) fn to_wire(message: raft::Message) -> wire::Message {
    let index = |index: raft::LogIndex| wire::LogIndex(index.0);
    let term = |term: raft::Term| wire::Term(term.0);
    let body = match message.body {
        raft::Body::PreVote { last_index, last_term } => wire::Body::PreVote {
            last_index: index(last_index),
            last_term: term(last_term),
        },
        raft::Body::PreVoteReply { granted, longer_log } => wire::Body::PreVoteReply { granted, longer_log },
        raft::Body::Vote {
            last_index,
            last_term,
            transfer,
        } => wire::Body::Vote {
            last_index: index(last_index),
            last_term: term(last_term),
            transfer,
        },
        raft::Body::VoteReply { granted } => wire::Body::VoteReply { granted },
        raft::Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries,
        } => wire::Body::Append {
            prev_index: index(prev_index),
            prev_term: term(prev_term),
            commit: index(commit),
            replicated_index: index(replicated_index),
            entries: entries.into_iter().map(entry_to_wire).collect(),
        },
        raft::Body::AppendAccepted {
            match_index,
            commit,
            life,
        } => wire::Body::AppendAccepted {
            match_index: index(match_index),
            commit: index(commit),
            life: life.0,
        },
        raft::Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => wire::Body::AppendRejected {
            prev_index: index(prev_index),
            hint_index: index(hint_index),
            hint_term: term(hint_term),
        },
        raft::Body::Heartbeat { commit, round } => wire::Body::Heartbeat {
            commit: index(commit),
            round,
        },
        raft::Body::HeartbeatReply { commit, round } => wire::Body::HeartbeatReply {
            commit: index(commit),
            round,
        },
        raft::Body::TimeoutNow => wire::Body::TimeoutNow,
        raft::Body::Snapshot {
            snapshot,
            commit,
            replicated_index,
        } => wire::Body::Snapshot {
            snapshot: Box::new(snapshot_to_wire(*snapshot)),
            commit: index(commit),
            replicated_index: index(replicated_index),
        },
        raft::Body::Lost { life } => wire::Body::Lost { life: life.0 },
        raft::Body::Rejoin { since, life } => wire::Body::Rejoin {
            since: index(since),
            life: life.0,
        },
        raft::Body::Seek => wire::Body::Seek,
    };
    wire::Message {
        term: term(message.term),
        body,
    }
}

fn entry_to_wire(entry: raft::Entry) -> wire::Entry {
    wire::Entry {
        term: wire::Term(entry.term.0),
        payload: match entry.payload {
            raft::Payload::Blank => wire::Payload::Blank,
            raft::Payload::Data(bytes) => wire::Payload::Data(bytes),
            raft::Payload::Configuration(configuration) => {
                wire::Payload::Configuration(configuration_to_wire(*configuration))
            }
        },
    }
}

/// The frame's message in the core's words. Entries get their indices back from their place.
pub(crate) fn from_wire(message: wire::Message) -> raft::Message {
    let index = |index: wire::LogIndex| raft::LogIndex(index.0);
    let term = |term: wire::Term| raft::Term(term.0);
    let body = match message.body {
        wire::Body::PreVote { last_index, last_term } => raft::Body::PreVote {
            last_index: index(last_index),
            last_term: term(last_term),
        },
        wire::Body::PreVoteReply { granted, longer_log } => raft::Body::PreVoteReply { granted, longer_log },
        wire::Body::Vote {
            last_index,
            last_term,
            transfer,
        } => raft::Body::Vote {
            last_index: index(last_index),
            last_term: term(last_term),
            transfer,
        },
        wire::Body::VoteReply { granted } => raft::Body::VoteReply { granted },
        wire::Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries,
        } => raft::Body::Append {
            prev_index: index(prev_index),
            prev_term: term(prev_term),
            commit: index(commit),
            replicated_index: index(replicated_index),
            entries: entries_from_wire(prev_index.0, entries),
        },
        wire::Body::AppendAccepted {
            match_index,
            commit,
            life,
        } => raft::Body::AppendAccepted {
            match_index: index(match_index),
            commit: index(commit),
            life: raft::Life(life),
        },
        wire::Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => raft::Body::AppendRejected {
            prev_index: index(prev_index),
            hint_index: index(hint_index),
            hint_term: term(hint_term),
        },
        wire::Body::Heartbeat { commit, round } => raft::Body::Heartbeat {
            commit: index(commit),
            round,
        },
        wire::Body::HeartbeatReply { commit, round } => raft::Body::HeartbeatReply {
            commit: index(commit),
            round,
        },
        wire::Body::TimeoutNow => raft::Body::TimeoutNow,
        wire::Body::Snapshot {
            snapshot,
            commit,
            replicated_index,
        } => raft::Body::Snapshot {
            snapshot: Box::new(snapshot_from_wire(*snapshot)),
            commit: index(commit),
            replicated_index: index(replicated_index),
        },
        wire::Body::Lost { life } => raft::Body::Lost { life: raft::Life(life) },
        wire::Body::Rejoin { since, life } => raft::Body::Rejoin {
            since: index(since),
            life: raft::Life(life),
        },
        wire::Body::Seek => raft::Body::Seek,
    };
    raft::Message {
        term: term(message.term),
        body,
    }
}

fn entries_from_wire(prev_index: u64, entries: Vec<wire::Entry>) -> Vec<raft::Entry> {
    let indices = (1..).map(|place| raft::LogIndex(prev_index.saturating_add(place)));
    entries
        .into_iter()
        .zip(indices)
        .map(|(entry, index)| raft::Entry {
            index,
            term: raft::Term(entry.term.0),
            payload: match entry.payload {
                wire::Payload::Blank => raft::Payload::Blank,
                // Copied: as a slice, the small entry of a quiet partition would keep the whole frame that
                // it came in, for as long as it is in the tail.
                wire::Payload::Data(bytes) => raft::Payload::Data(Bytes::copy_from_slice(&bytes)),
                wire::Payload::Configuration(configuration) => {
                    raft::Payload::Configuration(Box::new(configuration_from_wire(configuration)))
                }
            },
        })
        .collect()
}

fn snapshot_to_wire(snapshot: raft::Snapshot) -> wire::Snapshot {
    wire::Snapshot {
        index: wire::LogIndex(snapshot.index.0),
        term: wire::Term(snapshot.term.0),
        configuration: configuration_to_wire(snapshot.configuration),
        data: snapshot.data,
    }
}

fn snapshot_from_wire(snapshot: wire::Snapshot) -> raft::Snapshot {
    raft::Snapshot {
        index: raft::LogIndex(snapshot.index.0),
        term: raft::Term(snapshot.term.0),
        configuration: configuration_from_wire(snapshot.configuration),
        // Copied, like a payload.
        data: Bytes::copy_from_slice(&snapshot.data),
    }
}

fn configuration_to_wire(configuration: raft::Configuration) -> wire::Configuration {
    let nodes = |nodes: Vec<raft::NodeId>| nodes.into_iter().map(|node| wire::NodeId(node.0)).collect();
    wire::Configuration {
        voters: nodes(configuration.voters),
        outgoing: nodes(configuration.outgoing),
        learners: nodes(configuration.learners),
    }
}

fn configuration_from_wire(configuration: wire::Configuration) -> raft::Configuration {
    let nodes = |nodes: Vec<wire::NodeId>| nodes.into_iter().map(|node| raft::NodeId(node.0)).collect();
    raft::Configuration {
        voters: nodes(configuration.voters),
        outgoing: nodes(configuration.outgoing),
        learners: nodes(configuration.learners),
    }
}
