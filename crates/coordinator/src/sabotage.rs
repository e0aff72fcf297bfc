//! Ways to break the coordinator on purpose, each a bug that a coordinator could have.
//!
//! Only tests can: without the feature `sabotage` nothing of it is compiled in.
#![cfg_attr(
    not(feature = "sabotage"),
    allow(
        unreachable_pub,
        dead_code,
        reason = "without the feature it only gives names to what is never done"
    )
)]

/// Its built-in bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sabotage {
    /// A commit is answered before it is written.
    AnswerCommitsAtOnce,
    /// An assignment is given to the members before it is written.
    AnswerSyncsAtOnce,
    /// An offset is shown before it is written.
    ShowUnwritten,
    /// A group is written without its members.
    ForgetMembers,
    /// A static member that is replaced stays a member.
    KeepReplacedTwin,
    /// The new id of a static member is not written.
    ForgetReplacement,
    /// A rebalance ends in the generation in which it began.
    KeepGeneration,
    /// A new leader counts the sessions of its predecessor's members as over.
    KeepOldSessions,
    /// Offsets expire although their group has members.
    ExpireOccupied,
    /// A commit is accepted whatever its generation.
    IgnoreGeneration,
    /// A rebalance that a member's departure calls for is forgotten with the leader.
    ForgetDeparture,
    /// A leader that resigns leaves its clients waiting.
    KeepWaiters,
}

#[cfg(feature = "sabotage")]
impl Sabotage {
    /// All of them.
    pub const ALL: &'static [Sabotage] = &[
        Sabotage::AnswerCommitsAtOnce,
        Sabotage::AnswerSyncsAtOnce,
        Sabotage::ShowUnwritten,
        Sabotage::ForgetMembers,
        Sabotage::KeepReplacedTwin,
        Sabotage::ForgetReplacement,
        Sabotage::KeepGeneration,
        Sabotage::KeepOldSessions,
        Sabotage::ExpireOccupied,
        Sabotage::IgnoreGeneration,
        Sabotage::ForgetDeparture,
        Sabotage::KeepWaiters,
    ];
}

/// What is broken: in a product build, nothing, at no cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Breakage {
    #[cfg(feature = "sabotage")]
    how: Option<Sabotage>,
}

impl Breakage {
    #[cfg(not(feature = "sabotage"))]
    pub(crate) const fn is(self, _: Sabotage) -> bool {
        false
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn is(self, how: Sabotage) -> bool {
        self.how == Some(how)
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn of(how: Sabotage) -> Breakage {
        Breakage { how: Some(how) }
    }
}
