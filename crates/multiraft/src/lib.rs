//! Drives all the Raft groups that live on a broker.
#![forbid(unsafe_code)]

mod intervals;
mod liveness;
mod shard;

pub use intervals::{BudgetOutOfRange, Headroom, IntervalPlan, Safety};
pub use liveness::{Heartbeat, LivenessConfig, LivenessEvent, LivenessMonitor};
pub use shard::{
    Acks, AppendError, Appended, Completion, GroupOptions, GroupStatus, InSync, Input, LeaderChange, Load, Loaded,
    OffsetAnswer, OffsetLookup, OffsetQuery, Open, Outbox, ReadError, ReadRequest, ReadResult, Shard, ShardConfig,
    Ticket, TransferOutcome,
};

/// Where a shard's messages go. May lose them.
pub trait PeerSink {
    /// Sends one envelope of group messages to a peer, or drops it.
    fn send(&mut self, to: trimaran_raft::NodeId, messages: Vec<(trimaran_raft::GroupId, trimaran_raft::Message)>);
}
