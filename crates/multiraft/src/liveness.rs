//! One heartbeat a pair of brokers, and graded evidence from it.

use core::time::Duration;
use trimaran_raft::{Instant, Liveness, NodeId};

/// What brokers tell each other in a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts the starts of the sender's process: a change means that it restarted.
    pub incarnation: u64,
    /// Counts the sender's heartbeats to this receiver, from one.
    pub sequence: u64,
    /// The highest sequence the sender has had from the receiver, of the receiver's incarnation `echo_incarnation`:
    /// proof that the way there works too.
    pub echo_sequence: u64,
    /// See `echo_sequence`.
    pub echo_incarnation: u64,
}

/// Intervals, derived from `failover_budget_ms`.
#[derive(Clone, Debug)]
pub struct LivenessConfig {
    #[allow(missing_docs, reason = "skeleton")]
    pub node: NodeId,
    #[allow(missing_docs, reason = "skeleton")]
    pub incarnation: u64,
    /// Between heartbeats to a peer.
    pub interval: Duration,
    /// Silence (in either direction) that makes a peer suspected.
    pub timeout: Duration,
}

/// What the monitor decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessEvent {
    /// Send this to the peer, now.
    Send(NodeId, Heartbeat),
    /// Tell all shards: [`crate::Input::Liveness`].
    Changed(NodeId, Liveness),
    /// Tell all shards: [`crate::Input::Restored`].
    Restored(NodeId),
}

/// Watches the other brokers. Sans-I/O; one a broker.
pub struct LivenessMonitor {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl LivenessMonitor {
    pub fn new(config: LivenessConfig, peers: &[NodeId], now: Instant) -> LivenessMonitor {
        todo!()
    }
    pub fn add_peer(&mut self, now: Instant, peer: NodeId) {
        todo!()
    }
    pub fn remove_peer(&mut self, peer: NodeId) {
        todo!()
    }
    pub fn received(&mut self, now: Instant, from: NodeId, heartbeat: Heartbeat, events: &mut Vec<LivenessEvent>) {
        todo!()
    }
    /// The connection closed and an immediate reconnect was refused.
    pub fn refused(&mut self, now: Instant, peer: NodeId, events: &mut Vec<LivenessEvent>) {
        todo!()
    }
    /// The own disk stalls (or works again): no heartbeats while it does.
    pub fn set_stalled(&mut self, stalled: bool) {
        todo!()
    }
    pub fn tick(&mut self, now: Instant, events: &mut Vec<LivenessEvent>) {
        todo!()
    }
    pub fn deadline(&self) -> Instant {
        todo!()
    }
    pub fn liveness(&self, peer: NodeId) -> Liveness {
        todo!()
    }
}
