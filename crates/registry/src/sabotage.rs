//! Ways to break the registry on purpose, each a bug that a real implementation had.
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
    /// A deleted topic's groups are given to the next topic that is created (the bug that Ra's unique ids rule out).
    ReuseGroupIds,
    /// A folder's last start is not compared with what others have seen of its broker: an old copy passes for sound.
    TrustOldFolders,
    /// The number of a start follows the wall clock and the folder only: behind a clock that was set back, a new
    /// folder's start passes for an earlier one.
    IncarnationFromClock,
    /// A data folder keeps its name when its journal is gone (Trimaran's own: any file in the journal's place counted).
    KeepFolderName,
    /// The metadata group is opened with the founders that the configuration names, whatever the folder has noted.
    BelieveConfiguration,
}

#[cfg(feature = "sabotage")]
impl Sabotage {
    /// All of them.
    pub const ALL: &'static [Sabotage] = &[
        Sabotage::ReuseGroupIds,
        Sabotage::TrustOldFolders,
        Sabotage::IncarnationFromClock,
        Sabotage::KeepFolderName,
        Sabotage::BelieveConfiguration,
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
