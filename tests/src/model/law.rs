//! What must hold in every state that can be reached.

use std::fmt;

/// What must hold in every state that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// Election Safety (Raft paper, figure 3).
    OneLeaderATerm,
    /// A leader has the votes of a majority (Raft paper, section 5.2).
    LeaderIsElected,
    /// Log Matching (Raft paper, figure 3).
    LogsMatch,
    /// Leader Completeness (Raft paper, figure 3).
    LeaderHasCommitted,
    /// State Machine Safety (Raft paper, figure 3).
    CommittedStays,
    /// A commit index rises, until a crash.
    CommitRises,
    /// What is committed is on the disks of a majority.
    CommittedIsDurable,
    /// A member votes for one candidate a term, whatever it forgets in a crash.
    OneVoteATerm,
    /// No vote and no acknowledgement leaves before it is on disk.
    PromisesAreDurable,
    /// A leader serves when its first entry is committed, and all before it applied.
    ServesWhenItMay,
    /// A read sees what was committed when it was asked for (Raft dissertation, section 6.4).
    ReadsAreFresh,
    /// No deadline is in the past.
    WhatIsDueIsDone,
    /// The core's own assertions hold.
    NoAssertionFails,
    /// When all faults end, the group elects a leader and commits.
    Converges,
}

impl Law {
    /// The law in words.
    pub fn statement(self) -> &'static str {
        match self {
            Law::OneLeaderATerm => "at most one leader a term",
            Law::LeaderIsElected => "a leader has the votes of a majority, of both while voters are exchanged",
            Law::LogsMatch => "logs with an entry of the same index and term are the same up to it",
            Law::LeaderHasCommitted => "a leader has what earlier terms have committed",
            Law::CommittedStays => "what is committed stays, everywhere the same",
            Law::CommitRises => "a commit index does not fall",
            Law::CommittedIsDurable => "what is committed is on the disks of a majority",
            Law::OneVoteATerm => "one vote a term, crashes or not",
            Law::PromisesAreDurable => "what is promised is on disk",
            Law::ServesWhenItMay => "a leader serves when its first entry is committed and all before it applied",
            Law::ReadsAreFresh => "a read sees all that was committed when it was asked for",
            Law::WhatIsDueIsDone => "what is due is done",
            Law::NoAssertionFails => "the core's own assertions hold",
            Law::Converges => "when all faults end, the group goes on",
        }
    }

    /// It is broken: this was seen.
    pub(super) fn broken<T>(self, detail: String) -> Result<T, Violation> {
        Err(Violation::new(self, detail))
    }
}

/// What was seen and must not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which law was broken.
    pub law: Law,
    /// What exactly was seen.
    pub detail: String,
}

impl Violation {
    pub(super) fn new(law: Law, detail: impl Into<String>) -> Violation {
        let detail = detail.into();
        Violation { law, detail }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law.statement(), self.detail)
    }
}

impl std::error::Error for Violation {}
