//! The other brokers: both ends of the handshake with them, and the way of their frames to shards and control thread.

mod outbound;
#[cfg(test)]
mod tests;
mod twins;
mod versions;

use crate::control::{ControlInput, ControlQueue};
use crate::ids;
use crate::metrics::Metrics;
use crate::server::account_frame;
use crate::shards::Mailboxes;
use crate::starts::{self, NotAdmitted, StartStore};
use bytes::Bytes;
pub(crate) use outbound::Outbound;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use trimaran_multiraft::envelope::{self, Messages};
use trimaran_multiraft::{Input, PeerSink};
use trimaran_raft::{self as raft, NodeId};
use trimaran_registry::starts::{Accepted, Account, Announcement, Refusal, Start};
use trimaran_registry::{BrokerId, Founders, Incarnation, limits};
use trimaran_transport::{Admission, Handshake, PeerId, PeerService};
use trimaran_wire::peer::{self as wire, Frame};
pub(crate) use twins::Twins;
pub(crate) use versions::Agreed;

/// News of peers (heartbeats, the agents' messages) that wait for the control thread; beyond it they are dropped, as
/// on a network. Far above what a cluster of the largest size says in a second.
const CONTROL_LIMIT: usize = 65_536;

impl PeerSink for Outbound {
    fn send(&mut self, to: NodeId, messages: Messages) {
        for messages in envelope::split(self.reroute(to, messages)) {
            self.send_groups(to, &messages);
        }
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
    /// The versions of the peer protocol that this broker speaks.
    pub(crate) versions: wire::Versions,
    /// The version that each connection to another broker speaks.
    pub(crate) agreed: Agreed,
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
    fn welcome(&self, version: u8) -> Vec<Bytes> {
        let welcome = wire::Welcome {
            protocol: version,
            cluster_id: self.cluster_id.clone(),
            broker: wire_broker(self.node),
            incarnation: self.start.start.incarnation.0,
        };
        wire::Handshake::Welcome(welcome).encode()
    }

    /// Returns the broker that says hello and the version to speak with it, or the reason why it is not let in.
    fn examine(&self, hello: &wire::Hello) -> Result<(NodeId, u8), wire::Refused> {
        let Some(version) = self.versions.common(hello.versions) else {
            return Err(wire::Refused::Version {
                supported: self.versions.nearest(hello.versions),
            });
        };
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
        let node = self.known(hello.broker).ok_or(wire::Refused::UnknownBroker)?;
        Ok((node, version))
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
            answer: wire::Handshake::Refused(refused).encode(),
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
    fn relayed(&self, from: NodeId, relayed: wire::Relayed) {
        if relayed.to == wire_broker(self.node) {
            self.take_relayed(relayed);
        } else if relayed.from == wire_broker(from) {
            self.control.offer(ControlInput::PassOn(relayed), CONTROL_LIMIT);
        } else {
            self.metrics.bad_frames.inc();
        }
    }

    /// Nothing is taken from a start that has not been judged, whatever way it comes: a former data folder could vote
    /// through the third broker. Judging may wait for the disk, which the link that the frame came on must not; the
    /// frame is dropped, and its sender tries again.
    fn take_relayed(&self, relayed: wire::Relayed) {
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
        match Frame::decode(relayed.frame) {
            Ok(frame @ (Frame::Groups(_) | Frame::Control(_) | Frame::FailOver(_))) => self.take(origin, frame),
            _ => _ = self.metrics.bad_frames.inc(),
        }
    }

    fn take(&self, from: NodeId, frame: Frame) {
        match frame {
            Frame::Groups(messages) => match envelope::decode(messages) {
                Ok(messages) => self.groups(from, messages),
                Err(error) => self.bad_frame(from, &error),
            },
            Frame::Heartbeat(heartbeat) => {
                self.starts.heard(ids::broker(from));
                let heartbeat = heartbeat_from_wire(heartbeat);
                let heard = ControlInput::Node(trimaran_node::Input::Heartbeat(from, heartbeat));
                self.control.offer(heard, CONTROL_LIMIT);
            }
            Frame::Control(message) => {
                let message = ControlInput::Node(trimaran_node::Input::Agent(from, message));
                self.control.offer(message, CONTROL_LIMIT);
            }
            Frame::FailOver(request) => {
                let group = raft::GroupId(request.group.0);
                let failed = request.failed.map(|broker| NodeId(u64::from(broker.0.unsigned_abs())));
                self.mailboxes.of(group).tell(Input::Failover { group, failed });
            }
            Frame::Relayed(relayed) => self.relayed(from, relayed),
        }
    }

    fn bad_frame(&self, from: NodeId, error: &dyn Display) {
        self.metrics.bad_frames.inc();
        tracing::debug!(%from, %error, "a frame of a peer can't be read");
    }

    fn no_common_version(&self, peer: NodeId, theirs: u8) -> String {
        versions::advice(self.versions, wire::Versions::only(theirs), &format!("broker {peer}"))
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
            wire::Refused::Version { .. } => {
                let name = format!("broker {broker}");
                let advice = versions::advice(self.versions, hello.versions, &name);
                format!("{name} at {from} was refused: {advice}")
            }
            _ => format!("broker {broker} of cluster {cluster} at {from} was refused: {refused:?}"),
        }
    }

    fn groups(&self, from: NodeId, mut messages: Messages) {
        envelope::detach(&mut messages);
        let mut parts: Vec<Part> = Vec::new();
        parts.resize_with(self.mailboxes.all().len(), Part::default);
        for (group, message) in messages {
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
    messages: Messages,
    bytes: usize,
}

impl Handshake for Peers {
    fn hello(&self, to: PeerId) -> Vec<Bytes> {
        let hello = wire::Hello {
            versions: self.versions,
            cluster_id: self.cluster_id.clone(),
            broker: wire_broker(self.node),
            incarnation: self.start.start.incarnation.0,
            to: wire_broker(NodeId(to.0)),
            folder: starts::to_wire(self.start.start).folder,
            previous: self.start.previous.0,
            founders: wire_brokers(&self.founders),
            address: self.address.clone(),
        };
        wire::Handshake::Hello(hello).encode()
    }

    fn check_welcome(&self, from: PeerId, welcome: Bytes) -> Result<(), String> {
        let peer = NodeId(from.0);
        let welcome = match wire::Handshake::decode(&welcome) {
            Ok(wire::Handshake::Welcome(welcome)) => welcome,
            Ok(wire::Handshake::Refused(wire::Refused::Version { supported })) => {
                return Err(self.no_common_version(peer, supported));
            }
            Ok(wire::Handshake::Refused(refused)) => {
                let reason = format!("it refused this broker: {refused}");
                if self.twins.is_final(from, &refused) {
                    self.control.push(ControlInput::Disowned(peer, refused));
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
        if welcome.broker != wire_broker(peer) {
            return Err(format!(
                "broker {} answers at the address that `cluster.voters` gives for broker {}",
                welcome.broker.0, from.0
            ));
        }
        if !self.versions.contains(welcome.protocol) {
            return Err(self.no_common_version(peer, welcome.protocol));
        }
        self.agreed.note(peer, welcome.protocol);
        self.twins.accepted(from);
        Ok(())
    }
}

impl PeerService for Peers {
    fn admit(&self, from: SocketAddr, hello: Bytes) -> Admission {
        let hello = match wire::Handshake::decode(&hello) {
            Ok(wire::Handshake::Hello(hello)) => hello,
            Ok(wire::Handshake::Inquiry(inquiry)) => return self.account_for(from, &inquiry),
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
        let examined = self.examine(&hello).and_then(|examined| {
            self.admit_start(from, &hello)?;
            Ok(examined)
        });
        match examined {
            Ok((node, version)) => {
                if !self.founders.contains(ids::broker(node)) {
                    self.control
                        .offer(ControlInput::Newcomer(node, hello.address), CONTROL_LIMIT);
                }
                Admission::Welcome(PeerId(node.0), self.welcome(version))
            }
            Err(refused) => Admission::Rejected {
                reason: self.why(from, &hello, &refused),
                answer: wire::Handshake::Refused(refused).encode(),
            },
        }
    }

    fn frame(&self, from: PeerId, frame: Bytes) {
        let from = NodeId(from.0);
        match Frame::decode(frame) {
            Ok(frame) => self.take(from, frame),
            Err(error) => self.bad_frame(from, &error),
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
