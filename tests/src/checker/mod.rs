//! The laws, and nothing of how they are kept.
//!
//! Each checker is fed with what could be seen from outside and says what contradicts itself. None of them calls the
//! code it judges: a bug there cannot hide itself here. Every law has a test in which a made-up history breaks it.

pub mod committed;
pub mod disks;
pub mod elections;
pub mod history;
pub mod raft;
pub mod views;

use std::fmt;

/// What was seen and must not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which law was broken.
    pub law: Law,
    /// What exactly was seen.
    pub detail: String,
}

impl Violation {
    /// A violation of `law`.
    pub fn new(law: Law, detail: impl Into<String>) -> Violation {
        Violation {
            law,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law.statement(), self.detail)
    }
}

impl std::error::Error for Violation {}

/// Everything that is promised and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// Election Safety (Raft paper, figure 3).
    OneLeaderATerm,
    /// Log Matching (Raft paper, figure 3).
    LogsMatch,
    /// State Machine Safety (Raft paper, figure 3).
    CommittedStays,
    /// Leader Completeness (Raft paper, figure 3).
    LeaderHasCommitted,
    /// An acknowledgement means: on the disks of a majority.
    CommittedIsHeld,
    /// No member acknowledges what its disk doesn't hold (Raft paper, section 5.3: before it answers).
    AcknowledgedIsHeld,
    /// Majorities of configurations that follow one another have a member in common (Raft dissertation, section 4.1).
    MajoritiesMeet,
    /// A replica's commit index does not fall while it runs.
    CommitRises,
    /// What was acknowledged can be read.
    AcknowledgedStays,
    /// A record of an idempotent producer is in the log once at most.
    NoDuplicate,
    /// A record is never seen at two offsets.
    OneOffset,
    /// Offsets are 0, 1, 2, ….
    OffsetsContiguous,
    /// What was read stays, at its offset.
    ReadStays,
    /// A consumer's reads go up, without gaps.
    ReadsInOrder,
    /// A producer's records are in the order in which it sent them, and a record sent after another was acknowledged
    /// comes after it.
    SentInOrder,
    /// Nobody reads what nobody sent.
    NothingInvented,
    /// Once faults stop, the cluster works again within a bound.
    Converges,
    /// While only the link between two brokers is cut, every broker knows every leader within a bound.
    LeadersAreFound,
    /// A group elects now and then, and not without end.
    ElectionsEnd,
    /// An idle cluster's groups say nothing.
    IdleIsSilent,
    /// No well-behaved client is told that it broke the protocol.
    NoFalseAccusation,
    /// What a producer was told is not stored is not stored.
    RefusedStaysOut,
    /// Who reads to the end reads what was acknowledged.
    AcknowledgedIsRead,
    /// A batch is in the log wholly or not at all.
    BatchesStayWhole,
    /// The offset that a consumer group committed does not go back, and is one that was committed.
    CommittedOffsetStays,
    /// What a broker publishes is true: it is registered and has opened its replicas before it says that it is ready,
    /// and a view shows what an answer says before the answer leaves.
    ViewsAreTrue,
    /// A failover on request makes another member lead.
    FailoverMoves,
}

impl Law {
    /// The law in words.
    pub fn statement(self) -> &'static str {
        match self {
            Law::OneLeaderATerm => "at most one leader a term",
            Law::LogsMatch => "logs match",
            Law::CommittedStays => "a committed entry is never lost or changed",
            Law::LeaderHasCommitted => "a leader has every committed entry",
            Law::CommittedIsHeld => "what is committed is on the disks of a majority",
            Law::AcknowledgedIsHeld => "who acknowledges has it on disk",
            Law::MajoritiesMeet => "majorities of one configuration and of the next have a member in common",
            Law::CommitRises => "a commit index does not fall",
            Law::AcknowledgedStays => "no acknowledged record is lost",
            Law::NoDuplicate => "no record is there twice",
            Law::OneOffset => "no record is at two offsets",
            Law::OffsetsContiguous => "offsets are contiguous from 0",
            Law::ReadStays => "no record that was read disappears",
            Law::ReadsInOrder => "reads go in offset order",
            Law::SentInOrder => "the log keeps the order of sending",
            Law::NothingInvented => "nobody reads what nobody sent",
            Law::Converges => "the cluster converges once faults stop",
            Law::LeadersAreFound => "every broker knows every leader while only the link between two is cut",
            Law::ElectionsEnd => "groups don't elect without end",
            Law::IdleIsSilent => "idle groups say nothing",
            Law::NoFalseAccusation => "no client is blamed for what it did not do",
            Law::RefusedStaysOut => "no refused record is stored",
            Law::AcknowledgedIsRead => "who reads to the end reads what was acknowledged",
            Law::BatchesStayWhole => "a batch is stored wholly or not at all",
            Law::CommittedOffsetStays => "a committed offset never goes back",
            Law::ViewsAreTrue => "what a broker publishes is true",
            Law::FailoverMoves => "a failover makes another one lead",
        }
    }
}
