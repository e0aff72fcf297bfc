//! Clients' requests, and nodes' answers.

use std::collections::BTreeMap;
use std::fmt;

/// A log.
pub(super) type Key = String;

/// A message: every one that is sent is another number.
pub(super) type Value = u64;

/// A client's request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    Send { key: Key, value: Value },
    Poll { offsets: BTreeMap<Key, u64> },
    Commit { offsets: BTreeMap<Key, u64> },
    List { keys: Vec<Key> },
    Leader { topic: Key, partition: u32 },
    Failover { topic: Key, partition: u32, failed: String },
}

/// A node's answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Sent { offset: u64 },
    Polled { messages: BTreeMap<Key, Vec<(u64, Value)>> },
    Committed,
    Listed { offsets: BTreeMap<Key, u64> },
    Leads { leader: String, term: u64 },
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Done(Answer),
    /// By Maelstrom's rules it did not happen, and won't.
    Refused(u64),
    /// The request may have been carried out, or may be yet.
    Unknown,
}

/// A request with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) client: usize,
    pub(super) node: String,
    /// The times of its start and its end, in microseconds.
    pub(super) invoked_us: u64,
    pub(super) completed_us: u64,
    pub(super) request: Request,
    pub(super) outcome: Outcome,
    /// Part of the reading of everything, at the end.
    pub(super) last: bool,
}

impl Request {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Request::Send { .. } => "send",
            Request::Poll { .. } => "poll",
            Request::Commit { .. } => "commit_offsets",
            Request::List { .. } => "list_committed_offsets",
            Request::Leader { .. } => "partition_leader",
            Request::Failover { .. } => "partition_failover",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation {
            client,
            node,
            invoked_us,
            completed_us,
            request,
            outcome,
            ..
        } = self;
        write!(
            f,
            "{invoked_us:>10} {completed_us:>10} client {client} at {node}: {request:?} -> {outcome:?}"
        )
    }
}
