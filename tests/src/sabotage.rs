//! The simulation must be able to find bugs: here are some, each of which somebody had, built in one at a time.
//!
//! [`SCENARIOS`] says what went wrong, where, and which switch makes it go wrong here. Without the feature `sabotage` this is
//! a table and nothing else; with it, the binary `sabotage` runs the simulation with each switch until a checker (or an
//! assertion of the code itself) notices, and `cargo xtask sabotage --write` puts the outcome into `docs/testing.md`.

#[cfg(feature = "sabotage")]
mod search;

#[cfg(feature = "sabotage")]
pub use search::{Found, find, unlisted};

/// A bug that somebody had.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The room in which it is built in.
    pub room: Room,
    /// The switch that builds it in: a variant of that room's `Sabotage`.
    pub switch: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// Who had it.
    pub source: &'static str,
    /// Within so many seeds it must be noticed.
    pub bound: u64,
}

/// Whose `Sabotage` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// `raft`
    Raft,
    /// `multiraft`
    Multiraft,
    /// `registry`
    Registry,
}

impl Room {
    /// The crate's short name.
    pub fn name(self) -> &'static str {
        match self {
            Room::Raft => "raft",
            Room::Multiraft => "multiraft",
            Room::Registry => "registry",
        }
    }
}

const fn raft(switch: &'static str, what: &'static str, source: &'static str, bound: u64) -> Scenario {
    Scenario {
        room: Room::Raft,
        switch,
        what,
        source,
        bound,
    }
}

const fn multiraft(switch: &'static str, what: &'static str, source: &'static str, bound: u64) -> Scenario {
    Scenario {
        room: Room::Multiraft,
        switch,
        what,
        source,
        bound,
    }
}

const fn registry(switch: &'static str, what: &'static str, source: &'static str, bound: u64) -> Scenario {
    Scenario {
        room: Room::Registry,
        switch,
        what,
        source,
        bound,
    }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    raft(
        "ForgetVote",
        "a voter forgets its vote when it steps down within a term; a second candidate wins the same term",
        "redpanda #19",
        400,
    ),
    multiraft(
        "KeepWaiters",
        "the term changes while a producer waits; it is told of success, and its entry was truncated",
        "redpanda #3003",
        400,
    ),
    raft(
        "ServeAtOnce",
        "a leader serves when it is elected, before it knows what is committed",
        "redpanda #5025",
        400,
    ),
    raft(
        "KeepMarks",
        "a flush completes after a truncation and vouches for what is no longer there",
        "redpanda 2327254c",
        400,
    ),
    multiraft(
        "FlushTwice",
        "concurrent flushes finish out of order; the flushed index moves back",
        "redpanda #3100",
        400,
    ),
    raft(
        "CommitAfterResigning",
        "a leader that loses its leadership while it flushes advances its commit index all the same",
        "redpanda b41b5c6f",
        400,
    ),
    raft(
        "GrantingPutsOff",
        "granting a pre-vote resets the election timer; an even number of voters take turns for ever",
        "redpanda #11657, hashicorp/raft #609",
        400,
    ),
    raft(
        "HideTerm",
        "a refusal lacks the later term that it is due to; the leader never steps down",
        "redpanda #31547",
        400,
    ),
    multiraft(
        "ShowDurable",
        "a write becomes visible before a majority has it",
        "redpanda 73b8d009, 09917c71",
        400,
    ),
    raft(
        "IgnoreRefusals",
        "those with a high term and short logs against those with a low term and long ones: nobody is elected",
        "etcd #8501, openraft #1796, Ra #442",
        400,
    ),
    raft(
        "IgnoreLowerTerms",
        "a node with a lower term returns as the leader dies, and its pre-votes are ignored",
        "etcd #8243, canonical/raft #279",
        400,
    ),
    raft(
        "CountSelfAtOnce",
        "a leader acknowledges before its own disk has the entry; a crash loses it",
        "etcd #14370",
        400,
    ),
    multiraft(
        "SkipAtPageEnd",
        "a page of the log has one entry more or less than its limit says; entries are skipped",
        "etcd-raft 8ecce32",
        400,
    ),
    raft(
        "MistakeWrites",
        "overlapping writes of two terms: the old one's completion passes for the new one's",
        "etcd-raft, async_storage_writes_append_aba_race",
        400,
    ),
    raft(
        "KeepInflight",
        "the window of what is in flight is not emptied when the state changes; the flow stalls",
        "etcd-raft e419ba5",
        400,
    ),
    raft(
        "KeepUncommittedBytes",
        "the count of uncommitted bytes drifts; all proposals are refused for ever",
        "etcd-raft a370b6f",
        400,
    ),
    raft(
        "CountUnsorted",
        "the order of what the followers hold breaks; commit without a quorum",
        "openraft #1802",
        400,
    ),
    raft(
        "CountOldAnswers",
        "a late acknowledgement from before a log was truncated makes a false quorum",
        "openraft cecb5de8",
        400,
    ),
    raft(
        "CountFirstAtOnce",
        "a new leader counts its blank entry before it is flushed, then restarts",
        "openraft a9f696a9",
        400,
    ),
    multiraft(
        "LoseNewerToken",
        "two completions of writes come together; the newer one is lost, and the replica waits for ever",
        "openraft #1960",
        400,
    ),
    raft(
        "TakeRefusalForLoss",
        "a late conflict is read as a loss of data; the leader panics",
        "openraft #1500",
        400,
    ),
    multiraft(
        "HardStateLater",
        "the term's write is reordered behind what depends on it, and a crash comes between",
        "openraft, io_ordering.md",
        400,
    ),
    raft(
        "KeepDurable",
        "a truncation leaves the last durable index as it was; a leader commits what no disk holds",
        "Ra 39490978",
        400,
    ),
    raft(
        "CommitUnverified",
        "a follower advances its commit index before it has compared the logs",
        "Ra #508",
        400,
    ),
    raft(
        "CountHints",
        "a refusal's hint counts as an acknowledgement",
        "CCF #6016",
        400,
    ),
    registry(
        "ReuseGroupIds",
        "a topic is deleted and created again; the old one's log is replayed into the new group",
        "what Ra's unique ids are for",
        400,
    ),
    raft(
        "CommitOldTerms",
        "an entry of an earlier term is committed by counting who holds it",
        "Raft paper, figure 8",
        400,
    ),
    raft(
        "VoteAtOnce",
        "a vote leaves before it is on disk; after a crash the voter votes again",
        "Raft paper, figure 2",
        400,
    ),
    raft(
        "StandAtOnce",
        "a candidate asks for votes before its own is on disk",
        "Raft paper, figure 2",
        400,
    ),
    raft(
        "VoteForShorterLog",
        "a vote goes to a candidate whose log lacks something",
        "Raft paper, section 5.4.1",
        400,
    ),
    raft(
        "AcknowledgeAtOnce",
        "a follower acknowledges what its disk doesn't hold",
        "Raft paper, section 5.3",
        400,
    ),
    raft(
        "TruncateWithoutConflict",
        "a late append cuts off what followed it",
        "Raft paper, figure 2",
        400,
    ),
    raft(
        "BelieveForEver",
        "a follower goes on believing in a leader that asks for votes",
        "Trimaran's own, found by these tests",
        400,
    ),
    raft(
        "SendOnce",
        "what got no answer is not sent again",
        "any lossy network",
        400,
    ),
    multiraft(
        "ForgetProducers",
        "a new leader doesn't know what producers sent to the old one; a retry is stored twice",
        "KIP-98",
        400,
    ),
    multiraft(
        "RetainUnheld",
        "retention deletes what a follower still lacks",
        "decision 8",
        400,
    ),
];
