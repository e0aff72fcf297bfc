//! The way to the other brokers: over this broker's link to each, or through a third broker where that one is cut.
//!
//! Only what brokers need to know of the cluster takes the way through a third one: the metadata group's messages, and
//! what the registry's agents say. Records of partitions don't: a third broker's network would carry them twice, and a
//! partition goes on with those of its replicas that reach each other.

use super::{Agreed, wire_broker};
use crate::starts;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use trimaran_multiraft::envelope::{self, Messages};
use trimaran_node::METADATA;
use trimaran_raft::NodeId;
use trimaran_registry::starts::Announcement;
use trimaran_transport::{PeerId, PeerLinks};
use trimaran_wire::peer::{self as wire, Frame};

/// Queues frames for the other brokers, or drops them. Cheap to clone; all clones take the same ways.
#[derive(Clone)]
pub(crate) struct Outbound {
    links: PeerLinks,
    own: NodeId,
    /// This broker's start, which a broker that is reached through a third one must know of.
    start: Announcement,
    /// The version that each link speaks.
    agreed: Agreed,
    /// The brokers that the link to is silent, each with the one that passes frames on to it.
    routes: Arc<RwLock<BTreeMap<NodeId, NodeId>>>,
}

impl Outbound {
    pub(crate) fn new(links: PeerLinks, own: NodeId, start: Announcement, agreed: Agreed) -> Outbound {
        Outbound {
            links,
            own,
            start,
            agreed,
            routes: Arc::default(),
        }
    }

    /// From now on these are the ways around links that are silent.
    pub(crate) fn set_routes(&self, routes: BTreeMap<NodeId, NodeId>) {
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = routes;
    }

    /// Queues a frame for a peer, wherever the way leads.
    pub(crate) fn send(&self, to: NodeId, frame: &Frame) {
        match self.route(to) {
            Some(through) => {
                let version = self.agreed.through(through, to);
                self.send_through(through, to, &frame.encode(version));
            }
            None => self.send_direct(to, frame),
        }
    }

    /// Queues a frame for a peer on the link to it.
    pub(crate) fn send_direct(&self, to: NodeId, frame: &Frame) {
        self.links.send(PeerId(to.0), frame.encode(self.agreed.with(to)));
    }

    /// As [`Outbound::send_direct`], before all others.
    pub(crate) fn send_urgent(&self, to: NodeId, frame: &Frame) {
        self.links.send_urgent(PeerId(to.0), frame.encode(self.agreed.with(to)));
    }

    /// As [`Outbound::send_direct`], for messages of groups, of which it copies no record.
    pub(super) fn send_groups(&self, to: NodeId, messages: &Messages) {
        let frame = wire::encode_groups(self.agreed.with(to), envelope::encode(messages));
        self.links.send(PeerId(to.0), frame);
    }

    /// Sends the metadata group's messages on through a third broker if there is no other way; returns those that
    /// remain.
    pub(super) fn reroute(&self, to: NodeId, messages: Messages) -> Messages {
        let Some(through) = self.route(to) else {
            return messages;
        };
        let (metadata, others) = messages.into_iter().partition(|(group, _)| *group == METADATA);
        let version = self.agreed.through(through, to);
        for messages in envelope::split(metadata) {
            let frame = wire::encode_groups(version, envelope::encode(&messages));
            self.send_through(through, to, &frame);
        }
        others
    }

    fn send_through(&self, through: NodeId, to: NodeId, frame: &[Bytes]) {
        let relayed = wire::Relayed {
            from: wire_broker(self.own),
            to: wire_broker(to),
            start: starts::to_wire(self.start.start),
            previous: self.start.previous.0,
            frame: Bytes::from(frame.concat()),
        };
        self.send_direct(through, &Frame::Relayed(relayed));
    }

    fn route(&self, to: NodeId) -> Option<NodeId> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(&to).copied()
    }

    /// Adds a broker at that address, or moves it there.
    pub(crate) fn set_peer(&self, node: NodeId, address: &str) {
        self.links.set_peer(PeerId(node.0), address);
    }

    /// The peer gave a sign of life: its link tries at once.
    pub(crate) fn wake(&self, node: NodeId) {
        self.links.wake(PeerId(node.0));
    }
}
