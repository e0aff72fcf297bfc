//! The versions of the peer protocol that the other brokers speak.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use trimaran_raft::NodeId;
use trimaran_wire::peer::{PROTOCOL_VERSION, Versions};

/// The version that this broker's connection to each other one speaks, or spoke last. All clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agreed(Arc<RwLock<BTreeMap<NodeId, u8>>>);

impl Agreed {
    /// A welcome has named the version.
    pub(super) fn note(&self, peer: NodeId, version: u8) {
        let mut versions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        versions.insert(peer, version);
    }

    /// The version to encode a frame in. Before the first connection, the one of the newest release: nothing is sent
    /// then. A frame that waits while its receiver is exchanged for another release may arrive in a version that the
    /// receiver doesn't speak; it is dropped there like any frame that a network loses.
    pub(super) fn with(&self, peer: NodeId) -> u8 {
        self.known(peer).unwrap_or(PROTOCOL_VERSION)
    }

    /// The version for a frame to a broker that is reached through another one. If there never was a connection to it,
    /// the version that this one speaks: in a cluster of two neighbouring releases it is likely to be understood.
    pub(super) fn through(&self, other: NodeId, peer: NodeId) -> u8 {
        self.known(peer).unwrap_or_else(|| self.with(other))
    }

    fn known(&self, peer: NodeId) -> Option<u8> {
        let versions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        versions.get(&peer).copied()
    }
}

/// What to do about two brokers without a common version, one of which is this one: `theirs` is any version of the
/// other's.
pub(super) fn advice(own: Versions, theirs: Versions, other: &str) -> String {
    let update = if theirs.highest < own.lowest {
        other
    } else {
        "this broker"
    };
    format!(
        "it speaks {theirs} of the peer protocol, this broker {own}: update {update}; see \"Stop, restart, upgrade\" \
         in docs/operations.md"
    )
}
