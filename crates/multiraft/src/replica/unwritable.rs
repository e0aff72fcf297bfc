//! A replica whose segments can't be written: its folder is gone, its file system is read-only, its disk is broken or
//! full.
//!
//! Its entries in memory and in the journal are whole, so it goes on as a member. But neither may grow without bound,
//! and one bad folder is no reason to stop a broker:
//!
//! 1. It serves nobody, hands over what it leads, and tries again after a pause, each longer than the one before
//!    ([`check_failure`](super::upkeep)).
//! 2. It takes no more entries than [`Replica::is_saturated`] allows. To its leader they are lost on the way; it falls
//!    out of sync, and its group goes on with the others.
//! 3. After [`GIVE_UP_FAILURES`] it asks its leader to do without it ([`Life::retiring`]). The leader makes it a
//!    learner, as it does one that has lost what it promised. This one has lost nothing, and its promises hold until
//!    then: nothing is given up where the others could not do without it, and two of three full disks lose nothing.
//! 4. Once that change is committed, the leader says so ([`Body::Rejoin`]). Nothing depends on this replica any more:
//!    it gives up its log, the journal forgets its entries, and it is opened as lost as soon as its folder can be
//!    written again.
//!
//! See `docs/decisions/0028-a-replica-that-cant-write-is-done-without.md`.

use super::Replica;
use crate::health::{Damage, Unwritable};
use crate::mailbox::Outbox;
use crate::sabotage::Sabotage;
use crate::step_context::StepContext;
use trimaran_raft::{Body, HardState, Life, LogView, Message, NodeId, Term};

/// So many flushes in a row must fail before a replica asks to be done without: with pauses of 5, 10, 20 and 40
/// seconds, a disk that is full, or away, for a minute costs no replica.
const GIVE_UP_FAILURES: u32 = 5;

/// How many times what is flushed at once may be unflushed while flushes fail: as much as a busy replica holds anyway.
const MAX_UNFLUSHED: u64 = 2;

impl Replica {
    /// Whether it takes no more entries until it can write those that it has.
    fn is_saturated(&self, context: &StepContext) -> bool {
        let most = match context.breakage.is(Sabotage::HoardUnflushed) {
            true => u64::MAX,
            false => context.config.flush_bytes.saturating_mul(MAX_UNFLUSHED),
        };
        self.health.unwritable.is_some() && self.log.unflushed_bytes() >= most
    }

    /// Whether it has tried for long enough. A group whose state is kept in memory goes on at all costs: a broker
    /// without the catalog is none.
    fn should_retire(&self, context: &StepContext) -> bool {
        let has_tried = |known: &Unwritable| known.failures >= GIVE_UP_FAILURES;
        let may_go = !self.options.deliver && !context.breakage.is(Sabotage::HoardUnflushed);
        may_go && self.health.unwritable.as_deref().is_some_and(has_tried)
    }

    /// Loses what this replica could not hold, as the network might have. False if the message is to be taken as it is.
    pub(crate) fn drops(
        &mut self,
        from: NodeId,
        message: &mut Message,
        context: &mut StepContext,
        out: &mut Outbox,
    ) -> bool {
        let term = message.term;
        match &mut message.body {
            Body::Append { entries, .. } if !entries.is_empty() => {
                if !self.should_retire(context) && !self.is_saturated(context) {
                    return false;
                }
                // Of a new leader it has to know.
                if !self.follows(from, term) {
                    entries.clear();
                    return false;
                }
                self.ask_to_retire(from, context, out);
                true
            }
            Body::Rejoin { life, .. } if life.is_retiring() => {
                // A late answer is about another time: see `Life::retiring`.
                let is_meant = *life == Life::retiring(self.log.last_index()) && self.should_retire(context);
                if is_meant && self.follows(from, term) {
                    self.give_up(context, out);
                }
                true
            }
            _ => false,
        }
    }

    fn follows(&self, leader: NodeId, term: Term) -> bool {
        self.group.term() == term && self.group.leader() == Some(leader)
    }

    pub(crate) fn ask_to_retire(&self, leader: NodeId, context: &StepContext, out: &mut Outbox) {
        if self.should_retire(context) {
            let life = Life::retiring(self.log.last_index());
            let (term, body) = (self.group.term(), Body::Lost { life });
            out.send(leader, self.id, Message { term, body });
        }
    }

    /// Gives up the log: as a learner, and committed to be one, it is needed for nothing that it holds and promised.
    fn give_up(&mut self, context: &mut StepContext, out: &mut Outbox) {
        let Some(unwritable) = self
            .health
            .unwritable
            .as_ref()
            .filter(|_| !self.health.abstains && self.health.damage.is_none())
        else {
            return;
        };
        let life = Life(self.hard_state.life.0.saturating_add(1));
        self.health.damage = Some(Damage::given_up(unwritable.error.clone(), context.now));
        self.hard_state = HardState::lost(self.hard_state, life);
        self.abstain(context, out);
    }
}
