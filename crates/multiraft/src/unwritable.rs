//! A replica whose segments can't be written: its folder is gone, its file system is read-only, its disk is broken or full.
//!
//! What it holds in memory and in the journal is whole, so it goes on as a member. But neither may grow without bound, and one
//! bad folder is no reason to stop a broker:
//!
//! 1. It serves nobody, hands over what it leads, and tries again after a pause, each longer than the one before
//!    ([`mind_failure`](crate::upkeep)).
//! 2. It takes no more entries than [`Replica::is_saturated`] allows. To its leader they are lost on the way; it falls out of
//!    sync, and its group goes on with the others.
//! 3. After [`GIVE_UP_FAILURES`] it asks its leader to do without it ([`Life::retiring`]). The leader makes it a learner, as it
//!    does one that has lost what it promised. This one has lost nothing, and its promises hold until then: nothing is given up
//!    where the others could not do without it, and two of three full disks lose nothing.
//! 4. Once that change is committed, the leader says so ([`Body::Rejoin`]). Nothing depends on this replica any more: it gives
//!    up its log, the journal forgets its entries, and it is opened as lost as soon as its folder can be written again.
//!
//! See `docs/decisions/0028-a-replica-that-cant-write-is-done-without.md`.

use crate::desk::Desk;
use crate::mailbox::Outbox;
use crate::replica::Replica;
use crate::sabotage::Sabotage;
use crate::upkeep::Damage;
use core::time::Duration;
use trimaran_raft::{Body, HardState, Life, LogView, Message, NodeId, Term};
use trimaran_storage::log::LogError;

/// So many flushes in a row must fail before a replica asks to be done without: with pauses of 5, 10, 20 and 40 seconds, a
/// disk that is full, or away, for a minute costs no replica.
const GIVE_UP_FAILURES: u32 = 5;

/// The longest pause between two attempts, in multiples of the first one: a minute.
const MAX_PAUSES: u32 = 12;

/// How many times what is flushed at once may be unflushed while flushes fail: as much as a busy replica holds anyway.
const MAX_UNFLUSHED: u64 = 2;

/// The segments can't be written at present.
#[derive(Clone, Debug)]
pub(crate) struct Unwritable {
    /// The last error.
    error: LogError,
    /// Flushes that have failed since the last one that did not.
    failures: u32,
    /// It is time to try again.
    pub(crate) is_retry_due: bool,
}

impl Replica {
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

    /// How long a failed log is left alone.
    pub(crate) fn failure_pause(&self, desk: &Desk) -> Duration {
        let failures = self.unwritable.as_ref().map_or(1, |known| known.failures.max(1));
        let times = 1u32.checked_shl(failures - 1).unwrap_or(MAX_PAUSES).min(MAX_PAUSES);
        desk.config.failure_pause.saturating_mul(times)
    }

    /// Whether it takes no more entries until it can write those that it has.
    fn is_saturated(&self, desk: &Desk) -> bool {
        let most = match desk.breakage.is(Sabotage::HoardUnflushed) {
            true => u64::MAX,
            false => desk.config.flush_bytes.saturating_mul(MAX_UNFLUSHED),
        };
        self.unwritable.is_some() && self.log.unflushed_bytes() >= most
    }

    /// Whether it has tried for long enough. A group whose state is kept in memory goes on at all costs: a broker without the
    /// catalog is none.
    fn is_hopeless(&self, desk: &Desk) -> bool {
        let has_tried = |known: &Unwritable| known.failures >= GIVE_UP_FAILURES;
        let may_go = !self.options.deliver && !desk.breakage.is(Sabotage::HoardUnflushed);
        may_go && self.unwritable.as_deref().is_some_and(has_tried)
    }

    /// Loses what this replica could not hold, as the network might have. False if the message is to be taken as it is.
    pub(crate) fn is_lost_on_the_way(
        &mut self,
        from: NodeId,
        message: &mut Message,
        desk: &mut Desk,
        out: &mut Outbox,
    ) -> bool {
        let term = message.term;
        match &mut message.body {
            Body::Append { entries, .. } if !entries.is_empty() => {
                if !self.is_hopeless(desk) && !self.is_saturated(desk) {
                    return false;
                }
                // Of a new leader it has to know.
                if !self.follows(from, term) {
                    entries.clear();
                    return false;
                }
                self.ask_to_be_done_without(from, desk, out);
                true
            }
            Body::Rejoin { life, .. } if life.is_retiring() => {
                // A late answer is about another time: see `Life::retiring`.
                let is_meant = *life == Life::retiring(self.log.last_index()) && self.is_hopeless(desk);
                if is_meant && self.follows(from, term) {
                    self.give_up(desk, out);
                }
                true
            }
            _ => false,
        }
    }

    fn follows(&self, leader: NodeId, term: Term) -> bool {
        self.group.term() == term && self.group.leader() == Some(leader)
    }

    pub(crate) fn ask_to_be_done_without(&self, leader: NodeId, desk: &Desk, out: &mut Outbox) {
        if self.is_hopeless(desk) {
            let life = Life::retiring(self.log.last_index());
            let (term, body) = (self.group.term(), Body::Lost { life });
            out.send(leader, self.id, Message { term, body });
        }
    }

    /// It is a learner, and committed to be one: whatever it holds and promised, the others do without it.
    fn give_up(&mut self, desk: &mut Desk, out: &mut Outbox) {
        let Some(unwritable) = self
            .unwritable
            .as_ref()
            .filter(|_| !self.broken && self.damage.is_none())
        else {
            return;
        };
        let life = Life(self.hard_state.life.0.saturating_add(1));
        self.damage = Some(Damage::given_up(unwritable.error.clone(), desk.now));
        self.hard_state = HardState::lost(self.hard_state, life);
        self.take_no_part(desk, out);
    }
}
