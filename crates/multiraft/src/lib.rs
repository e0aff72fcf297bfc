//! Drives all the Raft groups that live on a broker.
#![forbid(unsafe_code)]

mod appends;
mod in_sync;
mod intervals;
mod leaving;
mod liveness;
mod producers;
mod reads;
mod replica;
mod replication;
mod shard;
mod timers;

pub use appends::{Acks, AppendError, Appended};
pub use in_sync::InSync;
pub use intervals::{BudgetOutOfRange, Headroom, IntervalPlan, Safety};
pub use liveness::{Heartbeat, LivenessConfig, LivenessEvent, LivenessMonitor};
pub use reads::{OffsetAnswer, OffsetLookup, OffsetQuery, ReadError, ReadRequest, ReadResult};
pub use replica::{GroupOptions, Open};
pub use shard::{
    Completion, GroupStatus, Input, LeaderChange, Load, Loaded, Outbox, Shard, ShardConfig, Ticket, TransferOutcome,
};

/// Where a shard's messages go. May lose them.
pub trait PeerSink {
    /// Sends one envelope of group messages to a peer, or drops it.
    fn send(&mut self, to: trimaran_raft::NodeId, messages: Vec<(trimaran_raft::GroupId, trimaran_raft::Message)>);
}
