//! Deadlines, in the order in which they come.

use std::collections::BTreeSet;
use std::sync::Arc;

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The end of a member's session.
    Session { group: Arc<str>, member: Arc<str> },
    /// The end of the time in which a new member must join with the id that it was given.
    Promise { group: Arc<str>, member: Arc<str> },
    /// The end of the time in which members must join.
    Join { group: Arc<str> },
    /// The end of the time in which members must ask for their assignments.
    Sync { group: Arc<str> },
    /// The next portion of what is done in the background.
    Background,
}

impl Due {
    /// The group that it concerns.
    pub(crate) fn group(&self) -> Option<&Arc<str>> {
        match self {
            Due::Session { group, .. } | Due::Promise { group, .. } | Due::Join { group } | Due::Sync { group } => {
                Some(group)
            }
            Due::Background => None,
        }
    }
}

/// A set of deadlines. To cancel one takes the time for which it was set.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(u64, Due)>);

impl Timers {
    pub(crate) fn set(&mut self, at_ms: u64, due: Due) {
        self.0.insert((at_ms, due));
    }

    pub(crate) fn cancel(&mut self, at_ms: u64, due: Due) {
        self.0.remove(&(at_ms, due));
    }

    /// The first deadline.
    pub(crate) fn first(&self) -> Option<u64> {
        self.0.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes the first one if it has come.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<(u64, Due)> {
        if self.first()? <= now_ms {
            self.0.pop_first()
        } else {
            None
        }
    }
}
