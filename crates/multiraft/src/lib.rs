//! Drives all the Raft groups that live on a broker, in shards, over one journal.
//!
//! # What it is
//!
//! - [`Shard`]: some of a broker's groups, driven by one thread. It drains a mailbox of [`Input`]s, steps each group
//!   that has something to do, and fills an [`Outbox`]: one journal batch for all groups, one envelope a peer, the
//!   answers that are due, jobs for threads that may block. It never waits for a disk: what depends on a write stays in
//!   the cores until the batch's sequence comes back by [`Input::Persisted`].
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
//!     out.quorum_lost  -> an operator
//!     out.contradictions -> an operator
//! }
//! ```
//!
//! The README has the same as a program.
//!
//! # Files, along the way of a batch
//!
//! Values come first and import no logic: `requests` (requests, answers, errors), `config`, `opening` (how a replica
//! comes to a shard), `mailbox` (inputs and outputs). Then the parts of a replica, each with its data: `appends`,
//! `producers`, `loads` (entries to be read for followers), `in_sync`, `reads`, `handover`, `leader_rebalance`,
//! `membership` (from the members that a group has to those that it is to have), `health` (how its log failed).
//! `step_context` is shared by a shard's replicas, with `timers`, `throttle`, `tails` and `numbers`.
//!
//! `shard` dispatches to `replica`, which puts its parts together around a core and a log; `replica/` has what
//! concerns several parts: `appends` → `replication` → `reads`, and `snapshots`, `upkeep` (flushes, retention, a
//! failing log), `unwritable`. `drain` hands over everything; `abstention` speaks for replicas that take no part;
//! `envelope`, `liveness`, `watchdog` and `intervals` stand for themselves.
#![forbid(unsafe_code)]

mod abstention;
mod appends;
mod config;
mod drain;
pub mod envelope;
mod handover;
mod health;
mod in_sync;
mod intervals;
mod leader_rebalance;
mod liveness;
mod lives;
mod loads;
mod mailbox;
mod membership;
mod numbers;
mod opening;
mod producers;
mod reads;
mod replica;
mod requests;
mod sabotage;
mod shard;
mod step_context;
mod tails;
mod throttle;
mod timers;
mod watchdog;

pub use config::ShardConfig;
pub use intervals::{BudgetOutOfRange, Headroom, IntervalPlan, Safety};
pub use liveness::{Heartbeat, LivenessConfig, LivenessEvent, LivenessMonitor};
pub use lives::Lives;
pub use mailbox::{
    Completion, Contradiction, GroupStatus, Input, LeaderChange, Load, Loaded, Lost, Members, Outbox, PeerSink,
    QuorumLost, RefusedEntries, Ticket, TransferOutcome,
};
pub use opening::{Damaged, Open};
pub use requests::{
    Acks, AppendError, Appended, GroupOptions, InSync, OffsetAnswer, OffsetLookup, OffsetQuery, ReadError, ReadRequest,
    ReadResult,
};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use shard::Shard;
pub use watchdog::{Watchdog, Worker};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
