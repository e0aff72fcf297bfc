//! A sans-I/O Raft consensus core.
//!
//! A [`Group`] is one member of one consensus group. [`Group::step`] takes an [`Input`], the time and a view of the
//! member's log ([`LogView`]), and adds what is to be done to an [`Output`]: at most one durable write, messages, a new
//! commit index, events. It is a pure function of its state, its inputs and the time.
//!
//! It deliberately does not know clocks, sockets, disks, threads, what payloads mean, which group it is, and how
//! thousands of groups share one heartbeat, one journal and one connection a peer. All that is its driver's.
//!
//! To drive it (the README shows this as code):
//!
//! 1. [`Group::new`], with what was found on disk.
//! 2. For each thing that happens, [`Group::step`]. For several that are there at the same time, [`Group::handle`] for
//!    each, and [`Group::ready`] once: a burst then costs one write, one append a follower, one acknowledgement.
//! 3. Apply [`Output::persist`] to the log at once, and write it, in the order of tokens. When it is durable:
//!    [`Input::Persisted`].
//! 4. Send [`Output::messages`]; read what [`Output::appends`] name from the log, and send that too. No need to wait
//!    for the disk: what must wait for it waits inside.
//! 5. Apply what [`Output::committed`] allows, then say so: [`Input::Applied`].
//! 6. At [`Group::deadline`], [`Input::Tick`].
//! 7. To [`Event::NeedsSnapshot`] answer with [`Input::Snapshot`]; to [`Event::MemberLost`] with [`Input::Change`].
//!    After [`Event::ConfigurationChanged`] tell what is known of the liveness of new members.
//!
//! The laws, asserted in debug builds and checked by random runs, with steps of one input and of many: at most one
//! write a step; tokens complete in the order in which they were issued; a term's hard state is durable no later than
//! that term's entries; no vote and no acknowledgement leaves before its token; a commit never counts what is not
//! durable, here or elsewhere; the same inputs at the same times, in the same steps, give the same output.
//!
//! The modules: `group` dispatches inputs; `ready` ends a step, and `unstable` is the log as the step will leave it.
//! The other parts of a group are `election` (candidates and voters), `leadership` (a term's beginning and end, commit,
//! serving), `replication` (the leader's side), `following` (the followers' side), `snapshot`, `membership`
//! (configurations and majorities), `disk_loss` (members that lost what they promised), `leader_discovery` (members
//! that can't stand), `reading` (rounds of heartbeats and leases), `transfer` and `time`; `dispatch` sorts messages.
//! `progress`, `quorum` and `durability` are arithmetic without knowledge of messages.
//!
//! Sources: "the Raft paper" is Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (extended
//! version, 2014); "the dissertation" is Ongaro, *Consensus: Bridging Theory and Practice* (2014).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
mod configuration;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod durability;
mod group;
mod input;
mod log;
mod message;
mod output;
mod progress;
mod quorum;
mod types;

pub use config::{Config, Heartbeats, Recovered, Tuning};
pub use configuration::{Configuration, Malformed};
#[cfg(feature = "sabotage")]
pub use group::Sabotage;
pub use group::{Group, Handled};
pub use input::Input;
pub use log::{LogView, MemoryLog, TermAt};
pub use message::{AppendPlan, Body, Message};
pub use output::{
    ChangeError, Event, Output, Persist, Progress, ProposeError, Proposed, ReadError, Role, SafetyViolation,
    SnapshotStatus, Status, TransferError,
};
pub use progress::ProgressState;
pub use types::{
    Entry, GroupId, HardState, Instant, Life, Liveness, LogIndex, NodeId, Payload, ReadId, Snapshot, Term, Token,
};

/// The names that most drivers need, for `use trimaran_raft::prelude::*`. None of them is a name of the standard
/// library: [`Instant`], [`Entry`] and [`Output`] are to be named with the crate, as `raft::Instant`.
pub mod prelude {
    pub use crate::{
        AppendPlan, Body, Config, Configuration, Event, Group, GroupId, Handled, HardState, Heartbeats, Input,
        Liveness, LogIndex, LogView, MemoryLog, Message, NodeId, Payload, Persist, Progress, Proposed, ReadId,
        Recovered, Role, Snapshot, SnapshotStatus, Status, Term, TermAt, Token, Tuning,
    };
}

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
