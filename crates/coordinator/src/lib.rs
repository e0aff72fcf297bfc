//! Coordinates consumer groups: a pure replicated state machine in Kafka's own record formats.
//!
//! Each partition of `__consumer_offsets` has one [`Coordinator`] on each of its replicas, and [`partition_for`] says which
//! partition has which group. Followers [`replay`](Coordinator::replay) committed records. The leader takes a [`Request`]
//! with a [`Ticket`], and puts into an [`Output`] what it wants: a [`Write`] to be appended, a [`Reply`] to be sent.
//! Replies that depend on a write come when it is committed.
//!
//! The crate deliberately does not know clocks, sockets, Raft, or Kafka's protocol, except for the records ([`record`]).
//! The README shows a commit from the request to the failover.
//!
//! The way of a request: `coordinator` (who may be asked), `leading` (which group), then `group` and its parts for what
//! concerns members, `committed` for offsets, `admin` for administrators. `state` is what the log says, on every replica;
//! only committed records change it. `writer` keeps what waits for the log, `timers` what waits for time, `background`
//! what is done in portions.
//!
//! `OffsetStore` and its `Command`s are an older store of offsets, which `trimaran node` uses.
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
#[cfg(test)]
mod tests;
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
