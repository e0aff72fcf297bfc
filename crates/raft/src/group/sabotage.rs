//! Ways to break the core on purpose, each a bug that a real implementation had.
//!
//! Only tests can: without the feature `sabotage` (or this crate's own tests) nothing of it is compiled in. Whoever tests
//! the core must find every one of them, or would not find it if it came in by mistake.
#![cfg_attr(
    not(feature = "sabotage"),
    allow(unreachable_pub, reason = "it can be named from outside only with the feature")
)]

use super::Group;

/// What a broken group does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sabotage {
    /// A member that loses its leader or its candidacy forgets whom it voted for in the term (redpanda #19).
    ForgetVote,
    /// Votes leave before they are durable.
    VoteAtOnce,
    /// Vote requests leave before the candidate's term and vote are durable.
    StandAtOnce,
    /// A vote goes to a candidate whose log is shorter.
    VoteForShorterLog,
    /// A follower acknowledges what is not durable.
    AcknowledgeAtOnce,
    /// A leader counts itself before its own disk has answered (etcd #14370, openraft a9f696a9).
    CountSelfAtOnce,
    /// A write that was truncated meanwhile still vouches for its length (Ra 39490978, redpanda 2327254c).
    KeepMarks,
    /// A late append cuts off what followed it.
    TruncateWithoutConflict,
    /// A leader serves when it has won the vote (redpanda #5025).
    ServeAtOnce,
    /// Bytes proposed in an earlier leadership count for ever (etcd-raft a370b6f).
    KeepUncommittedBytes,
    /// A member whose leader asks for votes goes on believing in it (etcd #8243).
    BelieveForEver,
    /// What got no answer is not sent again.
    SendOnce,
}

#[cfg(any(test, feature = "sabotage"))]
impl Sabotage {
    /// All of them.
    pub const ALL: &'static [Sabotage] = &[
        Sabotage::ForgetVote,
        Sabotage::VoteAtOnce,
        Sabotage::StandAtOnce,
        Sabotage::VoteForShorterLog,
        Sabotage::AcknowledgeAtOnce,
        Sabotage::CountSelfAtOnce,
        Sabotage::KeepMarks,
        Sabotage::TruncateWithoutConflict,
        Sabotage::ServeAtOnce,
        Sabotage::KeepUncommittedBytes,
        Sabotage::BelieveForEver,
        Sabotage::SendOnce,
    ];
}

#[cfg(any(test, feature = "sabotage"))]
impl Group {
    /// From now on this member is broken in that way: for tests of tests.
    pub fn sabotage(&mut self, how: Sabotage) {
        self.sabotage = Some(how);
    }

    pub(super) fn is_broken(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }
}

#[cfg(not(any(test, feature = "sabotage")))]
impl Group {
    pub(super) const fn is_broken(&self, _: Sabotage) -> bool {
        false
    }
}
