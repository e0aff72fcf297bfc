//! What clients asked, and what nodes answered.

use std::collections::BTreeMap;
use std::fmt;

/// A log.
pub(super) type Key = String;

/// A message: every one that is sent is another number.
pub(super) type Value = u64;

/// What a client asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    Send { key: Key, value: Value },
    Poll { offsets: BTreeMap<Key, u64> },
    Commit { offsets: BTreeMap<Key, u64> },
    List { keys: Vec<Key> },
    Leader { topic: Key, partition: u32 },
    Failover { topic: Key, partition: u32, failed: String },
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Sent { offset: u64 },
    Polled { messages: BTreeMap<Key, Vec<(u64, Value)>> },
    Committed,
    Listed { offsets: BTreeMap<Key, u64> },
    Leads { leader: String, term: u64 },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Done(Answer),
    /// By Maelstrom's rules it did not happen, and won't.
    Refused(u64),
    /// It may have happened, or may yet.
    Unknown,
}

/// A request with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) client: usize,
    pub(super) node: String,
    /// When it was made and when it was over, in microseconds.
    pub(super) invoked_us: u64,
    pub(super) completed_us: u64,
    pub(super) request: Request,
    pub(super) outcome: Outcome,
    /// It belongs to the reading of everything, at the end.
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
