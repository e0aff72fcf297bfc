//! The ways in which a replica's log fails, and how far each has come.

use core::time::Duration;
use trimaran_raft::{Instant, NodeId};
use trimaran_storage::log::LogError;

/// The longest pause between two attempts, in multiples of the first one: a minute.
const MAX_PAUSES: u32 = 12;

/// The ways in which a replica's log has failed: usually none.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// How the log failed during this step.
    pub(crate) failing: Option<LogError>,
    /// The log failed lately.
    pub(crate) failure: Option<Failure>,
    /// Its segments can't be written.
    pub(crate) unwritable: Option<Box<Unwritable>>,
    /// The log is damaged.
    pub(crate) damage: Option<Damage>,
    /// The log is damaged, or disagrees with the core: this replica takes no part any more.
    pub(crate) abstains: bool,
}

impl Health {
    pub(crate) fn is_failed(&self) -> bool {
        self.failing.is_some() || self.abstains || self.failure.is_some() || self.damage.is_some()
    }

    /// The log could not be read or written: leadership is given up at the end of the step. Damage weighs more than
    /// anything else that comes with it.
    pub(crate) fn note(&mut self, error: LogError) {
        if self.failing.is_none() || error.is_damage() {
            self.failing = Some(error);
        }
    }

    /// A flush failed.
    pub(crate) fn note_unwritable(&mut self, error: LogError) {
        let failures = self.unwritable.as_ref().map_or(0, |known| known.failures);
        self.unwritable = Some(Box::new(Unwritable {
            error,
            failures: failures.saturating_add(1),
            is_retry_due: false,
        }));
    }

    /// A flush succeeded, or there is nothing more to flush.
    pub(crate) fn note_writable(&mut self) {
        if self.unwritable.take().is_some() {
            self.failure = None;
        }
    }

    /// How long a failed log is left alone, given the first pause.
    pub(crate) fn pause(&self, first: Duration) -> Duration {
        let failures = self.unwritable.as_ref().map_or(1, |known| known.failures.max(1));
        let times = 1u32.checked_shl(failures - 1).unwrap_or(MAX_PAUSES).min(MAX_PAUSES);
        first.saturating_mul(times)
    }

    /// The replica waits to be opened as lost.
    pub(crate) fn awaits_reopening(&self) -> bool {
        self.damage.as_ref().is_some_and(|damage| damage.is_reported)
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let failure = self.failure.map(|failure| failure.deadline(now));
        let damage = self.damage.as_ref().and_then(Damage::deadline);
        failure.into_iter().chain(damage).min()
    }
}

/// The log failed lately: the replica serves nobody, and hands over what it leads. It goes on as a member, since what
/// it holds in memory and in the journal is whole: it votes, and the member with the longest log may have to lead until
/// another one holds as much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) until: Instant,
    /// The node that was asked last to take over.
    pub(crate) asked: Option<NodeId>,
    /// When to ask another one, if it has not taken over by then.
    pub(crate) ask_again_at: Instant,
}

impl Failure {
    pub(crate) fn new(now: Instant) -> Failure {
        Failure {
            until: now,
            asked: None,
            ask_again_at: now,
        }
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        if self.ask_again_at > now {
            self.until.min(self.ask_again_at)
        } else {
            self.until
        }
    }
}

/// The log is damaged: what this replica has promised to hold, it does not hold. It neither votes nor leads until the
/// group has filled it again.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) error: LogError,
    /// A leader that nobody relieves leads no longer than this.
    pub(crate) give_up_at: Instant,
    /// The shard was asked to open it as lost.
    pub(crate) is_reported: bool,
    /// The group does without it, so the journal need not keep what it held.
    pub(crate) is_given_up: bool,
}

impl Damage {
    /// Nothing is damaged, but nothing can be written either, and the group does without it.
    pub(crate) fn given_up(error: LogError, now: Instant) -> Damage {
        Damage {
            error,
            give_up_at: now,
            is_reported: false,
            is_given_up: true,
        }
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.is_reported).then_some(self.give_up_at)
    }
}

/// The segments can't be written at present.
#[derive(Clone, Debug)]
pub(crate) struct Unwritable {
    /// The last error.
    pub(crate) error: LogError,
    /// Flushes that have failed since the last one that did not.
    pub(crate) failures: u32,
    /// Whether it is time to try again.
    pub(crate) is_retry_due: bool,
}
