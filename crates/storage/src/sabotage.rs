//! Ways to break the storage on purpose, each a bug that a real implementation had.
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

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sabotage {
    /// A journal that ends before its mark passes for the latest one (Trimaran's own: an older copy brought back).
    IgnoreMark,
}

#[cfg(feature = "sabotage")]
impl Sabotage {
    /// All of them.
    pub const ALL: &'static [Sabotage] = &[Sabotage::IgnoreMark];
}

/// The bug that is built into a journal: in a product build, nothing, at no cost.
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
