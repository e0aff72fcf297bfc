//! Keeps consumer groups: their committed offsets, as a pure replicated state machine.
//!
//! Every partition of the coordinator's topic is a consensus group of its own, and has one [`OffsetStore`] on each of its
//! replicas. [`partition_for`] says which partition keeps a group (or a transactional id). The leader checks a
//! [`Command`] with [`OffsetStore::check`], proposes its bytes, and every replica applies it once it is committed.
//!
//! The crate deliberately does not know Kafka's protocol, Raft, topics' existence or clocks: times stand in the
//! commands, so that all replicas see the same ones.
//!
//! ```
//! use trimaran_coordinator::{Command, CommandIndex, Commit, Mode, Offset, OffsetStore, partition_for};
//!
//! assert_eq!(partition_for("hello", 50), 22); // the same as in Kafka: "hello".hashCode() is 99162322
//! let mut store = OffsetStore::default();
//! let commit = Commit { offset: Offset(42), leader_epoch: Some(3), metadata: "mark".into() };
//! let command = Command::Commit {
//!     group: "billing".into(),
//!     now_ms: 1_700_000_000_000,
//!     mode: Mode::Replace,
//!     offsets: vec![("orders".into(), 0, commit.clone())],
//! };
//! store.check(&command).unwrap();
//! store.apply(CommandIndex(1), &Command::decode(&command.encode()).unwrap());
//! assert_eq!(store.committed("billing", "orders", 0), Some(&commit));
//! ```
#![forbid(unsafe_code)]

mod admin;
mod background;
mod command;
mod committed;
mod config;
mod context;
mod coordinator;
mod group;
mod leading;
pub mod limits;
mod members;
mod offsets;
mod output;
mod partition;
pub mod record;
mod refuse;
pub mod request;
mod sabotage;
mod state;
mod timers;
mod words;
mod writer;

pub use command::{Command, Commit, DecodeError, Mode, Offset};
pub use config::Config;
pub use coordinator::{Coordinator, GroupCursor, StatePortion};
pub use offsets::{CommandIndex, OffsetError, OffsetStore, Outcome};
pub use output::{Output, Record, Write, WriteError, WriteId};
pub use partition::partition_for;
pub use request::{Reply, Request, Ticket};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use state::Replayed;
pub use words::{Error, Generation, Time, TopicId};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
