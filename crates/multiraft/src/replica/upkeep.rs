//! The care for a log beside appends: flushes of what is committed, retention, and a way to cope when its disk fails.

use super::Replica;
use crate::health::{Damage, Failure};
use crate::mailbox::{Lost, Outbox};
use crate::requests::AppendError;
use crate::sabotage::Sabotage;
use crate::step_context::StepContext;
use trimaran_raft::{Configuration, Input as CoreInput, Liveness, NodeId, TransferError};
use trimaran_storage::log::{Flushed, LogError};

/// Below this, what is unflushed is written to the journal again rather than to a segment when the journal wants to get
/// rid of it: a little more in a write that happens anyway is cheaper than more files and syncs.
const SMALL_TAIL_BYTES: u64 = 4 << 10;

impl Replica {
    fn note_damage(&mut self, error: LogError, context: &StepContext) {
        // Without other voters nobody could lead, to fill it again: what is not damaged is all there is.
        let Configuration { voters, outgoing, .. } = self.group.configuration();
        let alone = voters.iter().chain(outgoing).all(|node| *node == context.config.node);
        if error.is_damage() && self.health.damage.is_none() && !alone {
            self.health.damage = Some(Damage {
                error,
                give_up_at: context.now + context.config.tuning.election_timeout,
                is_reported: false,
                is_given_up: false,
            });
        }
    }

    /// A damaged leader has a moment for a handover, which is quicker than an election. Then it takes no part any more,
    /// and is to be opened as lost once no job of its log is under way.
    pub(crate) fn check_damage(&mut self, context: &mut StepContext, out: &mut Outbox) {
        let Some(damage) = &self.health.damage else { return };
        if !self.health.abstains {
            if self.leads() && context.now < damage.give_up_at {
                return;
            }
            self.abstain(context, out);
        }
        let Some(damage) = self.health.damage.as_mut().filter(|_| !self.flush.is_running) else {
            return;
        };
        if !core::mem::replace(&mut damage.is_reported, true) {
            out.lost.push(Lost {
                group: self.id,
                error: damage.error.clone(),
            });
            if damage.is_given_up {
                out.forget_past(self.id, &self.founders, self.hard_state);
            }
        }
    }

    pub(crate) fn abstain(&mut self, context: &mut StepContext, out: &mut Outbox) {
        self.health.abstains = true;
        self.abstention(context)
            .announce(self.group.configuration().members(), out);
        self.refuse_pending(&AppendError::Storage, out);
        self.appends.waiters.fail_all(&AppendError::Lost, out);
        self.loads.clear();
        self.in_sync.end();
        self.leader_rebalance.end();
        self.end_handover(Err(TransferError::NotLeader), context, out);
    }

    /// A replica whose log failed gives up its leadership for as long as that lasts: to one voter after the other,
    /// since the first one asked may be as badly off. One whose segments can't be written tries again after each pause,
    /// and serves nobody until that succeeds.
    pub(crate) fn check_failure(&mut self, context: &mut StepContext, out: &mut Outbox) {
        let now = context.now;
        let pause = self.health.pause(context.config.failure_pause);
        if let Some(error) = self.health.failing.take() {
            self.note_damage(error, context);
            self.health.failure.get_or_insert(Failure::new(now)).until = now + pause;
        }
        if let (Some(failure), Some(unwritable)) = (&mut self.health.failure, &mut self.health.unwritable)
            && failure.until <= now
        {
            unwritable.is_retry_due = true;
            failure.until = now + pause;
            // Where nothing is produced, nothing comes that could be refused.
            if let Some(leader) = self.group.leader().filter(|leader| *leader != context.config.node) {
                self.ask_to_retire(leader, context, out);
            }
        }
        let Some(failure) = self.health.failure.filter(|failure| failure.until > now) else {
            self.health.failure = None;
            return;
        };
        if !self.leads() {
            self.health.failure = Some(Failure {
                ask_again_at: now,
                ..failure
            });
        } else if failure.ask_again_at <= now
            && let Some(successor) = self.successor(failure.asked)
        {
            self.health.failure = Some(Failure {
                asked: Some(successor),
                ask_again_at: now + context.config.tuning.election_timeout,
                ..failure
            });
            self.step(CoreInput::Transfer(Some(successor)), context, out);
        }
    }

    /// The next voter after this one that lives and holds everything that is committed.
    fn successor(&self, after: Option<NodeId>) -> Option<NodeId> {
        let voters = self.group.voters();
        let place = after.and_then(|after| voters.iter().position(|&voter| voter == after));
        let (before, rest) = voters.split_at(place.map_or(0, |place| place + 1));
        let could = |node: NodeId| {
            let progress = self.group.progress(node);
            progress.is_some_and(|progress| {
                progress.liveness == Liveness::Alive && progress.match_index >= self.group.commit()
            })
        };
        rest.iter().chain(before).copied().find(|&node| could(node))
    }

    /// Deletes what a damaged log left behind, once the group has filled the new one.
    pub(crate) fn delete_quarantine(&mut self) {
        if self.log.has_quarantine() && !self.is_barred() {
            // What is left after an error is found again at the next start.
            let _ = self.log.delete_quarantine();
        }
    }

    /// A flush came back.
    pub(crate) fn flushed(&mut self, result: Result<Flushed, LogError>, context: &StepContext) {
        // One that this opening of the group has not asked for says nothing about its log.
        if !core::mem::take(&mut self.flush.is_running) && !context.breakage.is(Sabotage::FlushTwice) {
            return;
        }
        match result {
            Ok(flushed) => {
                self.log.flushed(flushed);
                self.health.note_writable();
            }
            Err(error) => {
                self.log.flush_failed();
                self.health.note_unwritable(error.clone());
                self.health.note(error);
            }
        }
    }

    /// Tells the shard what the tail takes.
    pub(crate) fn note_tail(&mut self, context: &mut StepContext) {
        let (unflushed, flushed) = self.log.tail_bytes();
        if (unflushed, flushed) != (self.flush.tail.unflushed, self.flush.tail.flushed) {
            context.tails.note(self.id, &mut self.flush.tail, unflushed, flushed);
        }
    }

    /// Gives up what is in segments as well: others need the memory more.
    pub(crate) fn shed_tail(&mut self, context: &mut StepContext) {
        self.log.shed_tail();
        self.note_tail(context);
    }

    /// The replica is dropped, and its tail with it.
    pub(crate) fn leave_tails(&mut self, context: &mut StepContext) {
        context.tails.note(self.id, &mut self.flush.tail, 0, 0);
    }

    pub(crate) fn flush_if_due(&mut self, context: &mut StepContext, out: &mut Outbox) {
        if self.health.abstains {
            self.flush.due_at = None;
            return;
        }
        if let Some(unwritable) = &mut self.health.unwritable
            && core::mem::take(&mut unwritable.is_retry_due)
        {
            // Without anything to write (it was truncated, or a reset has made it void) there is nothing to fail.
            if !self.flush(context, out) && !self.flush.is_running && self.flush.resetting.is_none() {
                self.health.note_writable();
            }
        }
        // What a reset has made void is deleted at once, for its room's sake.
        if self.log.is_resetting() && self.health.failure.is_none() {
            self.flush(context, out);
        }
        // Blank entries alone are not worth a segment.
        let unflushed = self.log.unflushed_bytes() > 0 && self.log.flushed_index() < self.applied.index;
        if !unflushed || self.health.failure.is_some() {
            self.flush.due_at = None;
            return;
        }
        let age = context.config.flush_age;
        let flush_at = *self.flush.due_at.get_or_insert(context.now + age);
        let is_large = self.log.unflushed_bytes() >= context.config.flush_bytes;
        if is_large || flush_at <= context.now || context.tails.should_flush(&self.flush.tail) {
            self.flush.due_at = Some(context.now + age);
            self.flush(context, out);
        }
    }

    /// True if a job went out. What others have made durable and thereby committed, and this journal does not hold yet,
    /// stays where it is: after a crash the journal would go on behind a gap.
    fn flush(&mut self, context: &StepContext, out: &mut Outbox) -> bool {
        // The journal has to know first that what was there is void.
        if self.flush.resetting.is_some() {
            return false;
        }
        if context.breakage.is(Sabotage::FlushTwice) {
            self.log.flush_failed();
        }
        let job = self.log.flush(self.applied.index.min(self.group.durable()));
        let any = job.is_some();
        self.flush.is_running |= any;
        out.flushes.extend(job);
        any
    }

    /// The journal can't recycle its oldest file because of this group. What is committed goes to a segment if that is
    /// worth one; the rest of the tail is written to the journal again.
    pub(crate) fn flush_now(&mut self, context: &StepContext, out: &mut Outbox) {
        // The journal has been told to forget it.
        if self
            .health
            .damage
            .as_ref()
            .is_some_and(|damage| damage.is_given_up && damage.is_reported)
        {
            return;
        }
        // What a job that is out leaves behind will be asked for again.
        if self.flush.is_running && !context.breakage.is(Sabotage::FlushTwice) {
            return;
        }
        let worth_a_segment = self.log.unflushed_bytes() >= SMALL_TAIL_BYTES && self.health.failure.is_none();
        if !(worth_a_segment && self.flush(context, out)) {
            out.journal.rewrite(self.id, &self.log.unflushed());
        }
    }

    /// Deletes what retention allows. Entries that a voter in contact lacks are kept.
    pub(crate) fn retain(&mut self, now_ms: i64) {
        if self.health.abstains {
            return;
        }
        let replicated_index = self.group.replicated_index().min(self.applied.index);
        let produced = |first| self.producers.before(first);
        let retained = self
            .log
            .retain(now_ms, &self.options.retention, replicated_index, produced);
        let trimmed = retained.and_then(|_| self.log.trim(self.trim_before, replicated_index, produced));
        if let Err(error) = trimmed {
            self.health.note(error);
        }
    }
}
