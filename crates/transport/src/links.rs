//! Outgoing links: one connection a peer, kept up by itself.

use crate::{LinkLimits, LinkStatistics};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Names a peer. What the number means is the caller's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "peer-{}", self.0)
    }
}

/// What happened to the connection to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected, and the welcome was accepted. Frames sent from now on have a chance to arrive.
    Connected(PeerId),
    /// A connection that was [`LinkEvent::Connected`] is gone. Frames on their way are lost. The link tries again at once.
    Closed(PeerId, String),
    /// The peer's machine answered that nobody listens on the peer's port, where there was a peer before: evidence that
    /// its process is gone. Only after a [`LinkEvent::Connected`] to the same address; repeated at most once an attempt.
    Refused(PeerId),
    /// The peer answered, but the welcome was not acceptable: another cluster, another version, another peer at that
    /// address. Tried again with the longest pause.
    HandshakeRejected(PeerId, String),
}

/// What the two ends say to each other before frames flow. The bytes belong to the caller.
pub trait Handshake: Send + Sync + 'static {
    /// The first frame on every connection to this peer, as chunks.
    fn hello(&self, to: PeerId) -> Vec<Bytes>;

    /// Checks the peer's answer.
    ///
    /// # Errors
    /// Why the peer is not the right one, for a [`LinkEvent::HandshakeRejected`].
    fn check_welcome(&self, from: PeerId, welcome: Bytes) -> Result<(), String>;
}

/// The outgoing links of this process, one a peer.
///
/// All methods may be called from any thread, and none blocks. Dropping the last clone closes every link.
#[derive(Clone)]
pub struct PeerLinks {
    _todo: (),
}

#[allow(unused_variables, clippy::todo, reason = "bodies follow at once")]
impl PeerLinks {
    /// Links without a peer yet. `events` is called from the links' tasks, and must not block; events of one peer come
    /// in order. `seed` sets the pauses' jitter: give each process its own.
    ///
    /// # Panics
    /// Outside of a Tokio runtime (with I/O and time enabled), on which the links will run.
    pub fn new<H: Handshake>(
        handshake: Arc<H>,
        limits: LinkLimits,
        seed: u64,
        events: impl Fn(LinkEvent) + Send + Sync + 'static,
    ) -> PeerLinks {
        todo!()
    }

    /// Adds a peer at `address` (`host:port`, resolved at each attempt), or moves it there. Does nothing if it is there
    /// already.
    pub fn set_peer(&self, peer: PeerId, address: &str) {
        todo!()
    }

    /// Closes the link to a peer and forgets it. No event follows.
    pub fn remove_peer(&self, peer: PeerId) {
        todo!()
    }

    /// Queues one frame for a peer, as chunks that are written back to back. Says whether it was queued: `false` if the
    /// peer is unknown, or its last attempt to connect failed, or the frame is longer than the whole queue may be. A
    /// queued frame may still be lost: the caller repeats what matters.
    pub fn send(&self, peer: PeerId, chunks: Vec<Bytes>) -> bool {
        todo!()
    }

    /// The peer gave a sign of life by another way: if the link is pausing, it tries at once.
    pub fn wake(&self, peer: PeerId) {
        todo!()
    }

    /// Whether the link is connected, its handshake done.
    pub fn is_connected(&self, peer: PeerId) -> bool {
        todo!()
    }

    /// The counters of every link, in the order of the ids.
    pub fn statistics(&self) -> Vec<(PeerId, Arc<LinkStatistics>)> {
        todo!()
    }

    /// Sends what is queued, at most until `deadline` from now, and closes every link. Frames sent later are dropped.
    pub async fn close(&self, deadline: Duration) {
        todo!()
    }
}
