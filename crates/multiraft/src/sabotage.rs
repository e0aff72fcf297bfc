//! Ways to break a shard on purpose, each a bug that a real implementation had.
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
    /// A request that waits for an acknowledgement goes on waiting when its leader leads no more, and gets it for
    /// whatever is committed there (redpanda #3003).
    KeepWaiters,
    /// A second flush begins while one is under way, and whichever ends last says how far the log is flushed (redpanda
    /// #3100).
    FlushTwice,
    /// Records that only the leader's own disk holds are shown to readers (redpanda 73b8d009, 09917c71).
    ShowDurable,
    /// Of several committed entries that are delivered together the first is skipped (etcd-raft 8ecce32).
    SkipAtPageEnd,
    /// Of two writes that are reported together the newer one is lost (openraft #1960).
    LoseNewerToken,
    /// A term and a vote are written with the write after the one that they were given with (openraft's io_ordering).
    HardStateLater,
    /// A follower does not learn from its leader's log what producers sent last.
    ForgetProducers,
    /// Of the threads that groups depend on, only the journal's is watched: a broker whose shard hangs keeps its
    /// leaderships.
    WatchJournalOnly,
    /// A broker doesn't say that it has no replica of a group, or none any more, to those that take it for the leader.
    IgnoreUnknownGroups,
    /// A follower whose segments can't be written takes whatever its leader sends, and never asks to be done without.
    HoardUnflushed,
    /// A broker that is silent here is out of everybody's reach.
    BelieveOwnEyes,
}

#[cfg(feature = "sabotage")]
impl Sabotage {
    /// All of them.
    pub const ALL: &'static [Sabotage] = &[
        Sabotage::KeepWaiters,
        Sabotage::FlushTwice,
        Sabotage::ShowDurable,
        Sabotage::SkipAtPageEnd,
        Sabotage::LoseNewerToken,
        Sabotage::HardStateLater,
        Sabotage::ForgetProducers,
        Sabotage::WatchJournalOnly,
        Sabotage::IgnoreUnknownGroups,
        Sabotage::HoardUnflushed,
        Sabotage::BelieveOwnEyes,
    ];
}

/// The bugs built into a shard: in a product build, none, at no cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakage {
    #[cfg(feature = "sabotage")]
    pub(crate) shard: Option<Sabotage>,
    #[cfg(feature = "sabotage")]
    pub(crate) cores: Option<trimaran_raft::Sabotage>,
    /// For [`Sabotage::HardStateLater`]: what the next write of a group brings along.
    #[cfg(feature = "sabotage")]
    postponed: std::collections::BTreeMap<trimaran_raft::GroupId, trimaran_raft::HardState>,
}

#[cfg(not(feature = "sabotage"))]
impl Breakage {
    pub(crate) const fn is(&self, _: Sabotage) -> bool {
        false
    }

    pub(crate) const fn break_core(&self, _: &mut trimaran_raft::Group) {}
}

#[cfg(feature = "sabotage")]
impl Breakage {
    pub(crate) fn is(&self, how: Sabotage) -> bool {
        self.shard == Some(how)
    }

    pub(crate) fn break_core(&self, group: &mut trimaran_raft::Group) {
        if let Some(how) = self.cores {
            group.sabotage(how);
        }
    }

    /// Takes a hard state for later, and gives what was taken before.
    pub(crate) fn postpone(
        &mut self,
        group: trimaran_raft::GroupId,
        state: Option<trimaran_raft::HardState>,
    ) -> Option<trimaran_raft::HardState> {
        let before = self.postponed.remove(&group);
        self.postponed.extend(state.map(|state| (group, state)));
        before
    }
}
