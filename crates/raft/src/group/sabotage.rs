//! Ways to break the core on purpose, each a bug that a real implementation had. Only this crate's tests can: they
//! must find every one of them, or they would not find it if it came in by mistake.

use super::Group;

/// What to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// A member that loses its leader or its candidacy forgets whom it voted for in the term.
    ForgetVote,
    /// Votes leave before they are durable.
    VoteAtOnce,
    /// Vote requests leave before the candidate's term and vote are durable.
    StandAtOnce,
    /// A vote goes to a candidate whose log is shorter.
    VoteForShorterLog,
    /// A follower acknowledges what is not durable.
    AcknowledgeAtOnce,
    /// A leader counts itself before its own disk has answered.
    CountSelfAtOnce,
    /// A write that was truncated meanwhile still vouches for its length.
    KeepMarks,
    /// A late append cuts off what followed it.
    TruncateWithoutConflict,
    /// A leader serves when it has won the vote.
    ServeAtOnce,
    /// Bytes proposed in an earlier leadership count for ever.
    KeepUncommittedBytes,
    /// A member whose leader asks for votes goes on believing in it.
    BelieveForEver,
    /// What got no answer is not sent again.
    SendOnce,
}

impl Group {
    #[cfg(test)]
    pub(super) fn is_broken(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    #[cfg(not(test))]
    pub(super) const fn is_broken(&self, _: Sabotage) -> bool {
        false
    }
}
