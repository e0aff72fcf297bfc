//! Ways to break the life cycle of replicas on purpose.
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
    /// A replica that is open passes for one that could not be opened, and is opened once more.
    OpenTwice,
    /// A replica that is closed is opened again before its folder is deleted, with what it holds.
    KeepDeleted,
    /// A replica that has lost what it promised is opened as one that has promised nothing.
    OpenLostAsWhole,
    /// What the group's members should be is not told again to a replica that was being opened when it was said.
    ForgetWishes,
    /// A broker says that it is ready while its replicas are being opened.
    ReadyAtOnce,
    /// An answer leaves before the view that shows what it says.
    AnswerFirst,
    /// The registration of a former start of the broker passes for this one's.
    TrustFormerRegistration,
}

#[cfg(feature = "sabotage")]
impl Sabotage {
    /// All of them.
    pub const ALL: &'static [Sabotage] = &[
        Sabotage::OpenTwice,
        Sabotage::KeepDeleted,
        Sabotage::OpenLostAsWhole,
        Sabotage::ForgetWishes,
        Sabotage::ReadyAtOnce,
        Sabotage::AnswerFirst,
        Sabotage::TrustFormerRegistration,
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
