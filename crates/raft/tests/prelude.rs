//! The prelude's names are none of the standard library's: both can be imported whole.

#![allow(
    unused_imports,
    reason = "the globs of most modules of the standard library are only there to collide"
)]
#![deny(ambiguous_glob_imports)]

mod both {
    pub(crate) use std::any::*;
    pub(crate) use std::borrow::*;
    pub(crate) use std::cell::*;
    pub(crate) use std::cmp::*;
    pub(crate) use std::collections::hash_map::*;
    pub(crate) use std::error::*;
    pub(crate) use std::fmt::*;
    pub(crate) use std::fs::*;
    pub(crate) use std::future::*;
    pub(crate) use std::hash::*;
    pub(crate) use std::io::*;
    pub(crate) use std::net::*;
    pub(crate) use std::num::*;
    pub(crate) use std::ops::*;
    pub(crate) use std::path::*;
    pub(crate) use std::process::*;
    pub(crate) use std::sync::atomic::*;
    pub(crate) use std::sync::mpsc::*;
    pub(crate) use std::sync::*;
    pub(crate) use std::task::*;
    pub(crate) use std::thread::*;
    pub(crate) use std::time::*;
    pub(crate) use trimaran_raft::prelude::*;
}

use both::{
    AppendPlan, Body, Config, Configuration, Event, Group, GroupId, Handled, HardState, Heartbeats, Input, Liveness,
    LogIndex, LogView, MemoryLog, Message, NodeId, Payload, Persist, Progress, Proposed, ReadId, Recovered, Role,
    Snapshot, SnapshotStatus, Status, Term, TermAt, Token, Tuning,
};
use std::collections::BTreeSet;

/// The names between `start` and the next brace that closes.
fn names<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    let (_, rest) = text.split_once(start).expect("it is there");
    let (list, _) = rest.split_once('}').expect("it ends");
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

#[test]
fn all_names_of_the_prelude_are_compared() {
    let exported = names(include_str!("../src/lib.rs"), "pub mod prelude {\n    pub use crate::{");
    let compared = names(include_str!("prelude.rs"), "\nuse both::{");
    assert_eq!(exported, compared);
    assert!(exported.len() > 20);
}

/// A driver with a clock of the operating system's.
#[test]
fn a_driver_may_use_both_kinds_of_instants() {
    use std::time::*;
    use trimaran_raft::{self as raft, prelude::*};

    let (started, log) = (Instant::now(), MemoryLog::new());
    let config = Config::standalone(NodeId(1), [NodeId(1)]);
    let mut group = Group::new(config, Recovered::default(), raft::Instant::ZERO, &log);
    let mut output = raft::Output::default();
    let now = raft::Instant::ZERO + started.elapsed();
    group.step(now, Input::Tick, &log, &mut output);
    assert_eq!(group.term(), Term(1));
}
