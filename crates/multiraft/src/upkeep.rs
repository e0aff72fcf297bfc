//! What a log needs beside appends: flushes of what is committed, retention, and a way to cope when its disk fails.

use crate::appends::AppendError;
use crate::desk::Desk;
use crate::mailbox::{Lost, Outbox};
use crate::opening;
use crate::replica::Replica;
use crate::sabotage::Sabotage;
use trimaran_raft::{Configuration, Input as CoreInput, Instant, Liveness, NodeId, TransferError};
use trimaran_storage::log::{Flushed, LogError};

/// Below this, what is unflushed is written to the journal again rather than to a segment when the journal wants to get
/// rid of it: a little more in a write that happens anyway is cheaper than files and syncs of its own.
const SMALL_TAIL_BYTES: u64 = 4 << 10;

/// The log failed lately: the replica serves nobody, and hands over what it leads. It goes on as a member, since what it
/// holds in memory and in the journal is whole: it votes, and whoever has the longest log may have to lead until another
/// one holds as much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    until: Instant,
    /// Who was asked last to take over.
    asked: Option<NodeId>,
    /// When to ask another one, if it has not taken over by then.
    ask_again_at: Instant,
}

impl Failure {
    fn new(now: Instant) -> Failure {
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
    error: LogError,
    /// A leader that nobody relieves leads no longer than this.
    give_up_at: Instant,
    /// The shard was asked to open it as lost.
    is_reported: bool,
    /// The group does without it, so the journal need not keep what it held.
    is_given_up: bool,
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

impl Replica {
    fn note_damage(&mut self, error: LogError, desk: &Desk) {
        // Without other voters nobody could lead, to fill it again: what is not damaged is all there is.
        let Configuration { voters, outgoing, .. } = self.group.configuration();
        let alone = voters.iter().chain(outgoing).all(|node| *node == desk.config.node);
        if error.is_damage() && self.damage.is_none() && !alone {
            self.damage = Some(Damage {
                error,
                give_up_at: desk.now + desk.config.tuning.election_timeout,
                is_reported: false,
                is_given_up: false,
            });
        }
    }

    /// A damaged leader has a moment for a handover, which is quicker than an election. Then it takes no part any more,
    /// and is to be opened as lost once no job of its log is under way.
    pub(crate) fn mind_damage(&mut self, desk: &mut Desk, out: &mut Outbox) {
        let Some(damage) = &self.damage else { return };
        if !self.broken {
            if self.leads() && desk.now < damage.give_up_at {
                return;
            }
            self.take_no_part(desk, out);
        }
        let Some(damage) = self.damage.as_mut().filter(|_| !self.is_flushing) else {
            return;
        };
        if !core::mem::replace(&mut damage.is_reported, true) {
            out.lost.push(Lost {
                group: self.id,
                error: damage.error.clone(),
            });
            if damage.is_given_up {
                opening::forget_past(self.id, &self.founders, self.hard_state, out);
            }
        }
    }

    pub(crate) fn take_no_part(&mut self, desk: &mut Desk, out: &mut Outbox) {
        self.broken = true;
        self.silence(desk).begin(self.group.configuration().members(), out);
        self.refuse_pending(&AppendError::Storage, out);
        self.waiters.fail_all(&AppendError::Lost, out);
        self.loads.clear();
        self.in_sync.end();
        self.end_giving_back();
        self.end_handover(Err(TransferError::NotLeader), desk, out);
    }

    /// It waits to be opened as lost.
    pub(crate) fn awaits_reopening(&self) -> bool {
        self.damage.as_ref().is_some_and(|damage| damage.is_reported)
    }

    /// A replica whose log failed gives up its leadership for as long as that lasts: to one voter after the other, since
    /// the first one asked may be as badly off. One whose segments can't be written tries again after each pause, and serves
    /// nobody until that succeeds.
    pub(crate) fn mind_failure(&mut self, desk: &mut Desk, out: &mut Outbox) {
        let now = desk.now;
        let pause = self.failure_pause(desk);
        if let Some(error) = self.failing.take() {
            self.note_damage(error, desk);
            self.failure.get_or_insert(Failure::new(now)).until = now + pause;
        }
        if let (Some(failure), Some(unwritable)) = (&mut self.failure, &mut self.unwritable)
            && failure.until <= now
        {
            unwritable.is_retry_due = true;
            failure.until = now + pause;
            // Where nothing is produced, nothing comes that could be refused.
            if let Some(leader) = self.group.leader().filter(|leader| *leader != desk.config.node) {
                self.ask_to_be_done_without(leader, desk, out);
            }
        }
        let Some(failure) = self.failure.filter(|failure| failure.until > now) else {
            self.failure = None;
            return;
        };
        if !self.leads() {
            self.failure = Some(Failure {
                ask_again_at: now,
                ..failure
            });
        } else if failure.ask_again_at <= now
            && let Some(successor) = self.successor(failure.asked)
        {
            self.failure = Some(Failure {
                asked: Some(successor),
                ask_again_at: now + desk.config.tuning.election_timeout,
                ..failure
            });
            self.step(CoreInput::Transfer(Some(successor)), desk, out);
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

    /// What a damaged log left behind is deleted once the group has filled the new one.
    pub(crate) fn clear_aside(&mut self) {
        if self.log.has_quarantine() && !self.is_barred() {
            // What is left after an error is found again at the next start.
            let _ = self.log.delete_quarantine();
        }
    }

    /// A flush came back.
    pub(crate) fn flushed(&mut self, result: Result<Flushed, LogError>, desk: &Desk) {
        // One that this opening of the group has not asked for says nothing about its log.
        if !core::mem::take(&mut self.is_flushing) && !desk.breakage.is(Sabotage::FlushTwice) {
            return;
        }
        match result {
            Ok(flushed) => {
                self.log.flushed(flushed);
                self.note_writable();
            }
            Err(error) => {
                self.log.flush_failed();
                self.note_unwritable(error.clone());
                self.note_failure(error);
            }
        }
    }

    /// Tells the shard what the tail takes.
    pub(crate) fn note_tail(&mut self, desk: &mut Desk) {
        let (unflushed, flushed) = self.log.tail_bytes();
        if (unflushed, flushed) != (self.tail.unflushed, self.tail.flushed) {
            desk.tails.note(self.id, &mut self.tail, unflushed, flushed);
        }
    }

    /// Gives up what is in segments as well: others need the memory more.
    pub(crate) fn shed_tail(&mut self, desk: &mut Desk) {
        self.log.shed_tail();
        self.note_tail(desk);
    }

    /// The replica is dropped, and its tail with it.
    pub(crate) fn leave_tails(&mut self, desk: &mut Desk) {
        desk.tails.note(self.id, &mut self.tail, 0, 0);
    }

    pub(crate) fn flush_if_due(&mut self, desk: &mut Desk, out: &mut Outbox) {
        if self.broken {
            self.flush_at = None;
            return;
        }
        if let Some(unwritable) = &mut self.unwritable
            && core::mem::take(&mut unwritable.is_retry_due)
        {
            // Without anything to write (it was truncated, or a reset has made it void) there is nothing to fail.
            if !self.flush(desk, out) && !self.is_flushing && self.resetting.is_none() {
                self.note_writable();
            }
        }
        // What a reset has made void is deleted at once, for its room's sake.
        if self.log.is_resetting() && self.failure.is_none() {
            self.flush(desk, out);
        }
        // Blank entries alone are not worth a segment.
        let unflushed = self.log.unflushed_bytes() > 0 && self.log.flushed_index() < self.applied;
        if !unflushed || self.failure.is_some() {
            self.flush_at = None;
            return;
        }
        let age = desk.config.flush_age;
        let flush_at = *self.flush_at.get_or_insert(desk.now + age);
        let is_large = self.log.unflushed_bytes() >= desk.config.flush_bytes;
        if is_large || flush_at <= desk.now || desk.tails.should_flush(&self.tail) {
            self.flush_at = Some(desk.now + age);
            self.flush(desk, out);
        }
    }

    /// True if a job went out. What others have made durable and thereby committed, and this journal does not hold yet,
    /// stays where it is: after a crash the journal would go on behind a gap.
    fn flush(&mut self, desk: &Desk, out: &mut Outbox) -> bool {
        // The journal has to know first that what was there is void.
        if self.resetting.is_some() {
            return false;
        }
        if desk.breakage.is(Sabotage::FlushTwice) {
            self.log.flush_failed();
        }
        let job = self.log.flush(self.applied.min(self.group.durable()));
        let any = job.is_some();
        self.is_flushing |= any;
        out.flushes.extend(job);
        any
    }

    /// The journal can't recycle its oldest file because of this group. What is committed goes to a segment if that is
    /// worth one; the rest of the tail is written to the journal again.
    pub(crate) fn flush_now(&mut self, desk: &Desk, out: &mut Outbox) {
        // The journal has been told to forget it.
        if self
            .damage
            .as_ref()
            .is_some_and(|damage| damage.is_given_up && damage.is_reported)
        {
            return;
        }
        // What a job that is out leaves behind will be asked for again.
        if self.is_flushing && !desk.breakage.is(Sabotage::FlushTwice) {
            return;
        }
        let worth_a_segment = self.log.unflushed_bytes() >= SMALL_TAIL_BYTES && self.failure.is_none();
        if !(worth_a_segment && self.flush(desk, out)) {
            out.journal.rewrite(self.id, &self.log.unflushed());
        }
    }

    /// Deletes what retention allows. What a voter in contact lacks is spared.
    pub(crate) fn retain(&mut self, now_ms: i64) {
        if self.broken {
            return;
        }
        let replicated_index = self.group.replicated_index().min(self.applied);
        let produced = |first| self.producers.before(first);
        if let Err(error) = self
            .log
            .retain(now_ms, &self.options.retention, replicated_index, produced)
        {
            self.note_failure(error);
        }
    }
}
