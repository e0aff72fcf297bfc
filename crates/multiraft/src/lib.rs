//! Drives all the Raft groups that live on a broker, in shards, over one journal.
//!
//! # What it is
//!
//! - [`Shard`]: some of a broker's groups, driven by one thread. It drains a mailbox of [`Input`]s, steps each group
//!   that has something to do, and fills an [`Outbox`]: one journal batch for all groups, one envelope a peer, the
//!   answers that are due, jobs for threads that may block. It never waits for a disk: what depends on a write stays in the
//!   cores until the batch's sequence comes back by [`Input::Persisted`].
//! - What a partition needs beside Raft: offsets stamped into batches, idempotent producers, acknowledgements,
//!   long polls, follower reads, the in-sync view, flushes and retention, handing over leaderships and
//!   giving them back, filling lost replicas again and exchanging replicas for others.
//! - [`envelope`]: the encoding of groups' messages between brokers.
//! - [`LivenessMonitor`]: one heartbeat a pair of brokers, and graded evidence from it.
//! - [`Watchdog`]: which threads heartbeats vouch for.
//! - [`IntervalPlan`] and [`Headroom`]: all intervals from one budget, and whether this machine keeps it.
//!
//! # What it deliberately does not know
//!
//! Sockets, threads, clocks, Kafka's requests and topics' names. Time is what it is told; groups and nodes are
//! numbers; a batch comes in checked, and goes out as it came but for its base offset and leader epoch. It runs no file
//! job itself (reads of old producers and metadata at opening excepted, and what retention deletes and remembers).
//!
//! # How to drive it
//!
//! ```text
//! loop {
//!     wait for inputs, or until shard.deadline()
//!     shard.step(now, &mut inputs, &mut out)
//!     out.journal      -> write and sync (elsewhere), then Input::Persisted(out.sequence)
//!     out.messages     -> peers; theirs come back as Input::Messages
//!     out.completions  -> the request with that ticket
//!     out.committed    -> state machines, before out.leaders is looked at
//!     out.flushes      -> run (elsewhere), then Input::Flushed, and release the journal
//!     out.loads        -> run (elsewhere), then Input::Loaded
//!     out.lost         -> set the log aside (elsewhere), then Input::Open with Open::lost
//!     out.members      -> the registry agent
//!     out.refused      -> an operator
//!     out.stranded     -> an operator
//!     out.contradictions -> an operator
//! }
//! ```
//!
//! The README has the same as a program.
//!
//! # Files, along the way of a batch
//!
//! `mailbox` (what goes in and out) → `shard` (dispatch) → `replica` (one group's core, log and waiters) → `appends`,
//! `producers` → `replication` → `in_sync` → `reads`. Beside them: `opening`, `damaged`, `upkeep`, `handover`,
//! `leaving`, `preference`, `membership` (from who belongs to a group to who is to), `snapshots`, `throttle`, `timers`,
//! `numbers`, `desk` (what a shard's replicas share); `liveness`, `watchdog` and `intervals` stand for themselves.
#![forbid(unsafe_code)]

mod appends;
mod damaged;
mod desk;
pub mod envelope;
mod handover;
mod in_sync;
mod intervals;
mod leaving;
mod liveness;
mod lives;
mod mailbox;
mod membership;
mod numbers;
mod opening;
mod preference;
mod producers;
mod reads;
mod replica;
mod replication;
mod sabotage;
mod shard;
mod snapshots;
mod tails;
mod throttle;
mod timers;
mod unwritable;
mod upkeep;
mod watchdog;

pub use appends::{Acks, AppendError, Appended};
pub use damaged::Damaged;
pub use in_sync::InSync;
pub use intervals::{BudgetOutOfRange, Headroom, IntervalPlan, Safety};
pub use liveness::{Heartbeat, LivenessConfig, LivenessEvent, LivenessMonitor};
pub use lives::Lives;
pub use mailbox::{
    Completion, Contradiction, GroupStatus, Input, LeaderChange, Load, Loaded, Lost, Members, Outbox, RefusedEntries,
    Stranded, Ticket, TransferOutcome,
};
pub use opening::{GroupOptions, Open};
pub use reads::{OffsetAnswer, OffsetLookup, OffsetQuery, ReadError, ReadRequest, ReadResult};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use shard::{Shard, ShardConfig};
pub use watchdog::{Watchdog, Worker};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

/// Where a shard's messages go. May lose them.
pub trait PeerSink {
    /// Sends one envelope of group messages to a peer, or drops it.
    fn send(&mut self, to: trimaran_raft::NodeId, messages: Vec<(trimaran_raft::GroupId, trimaran_raft::Message)>);
}
