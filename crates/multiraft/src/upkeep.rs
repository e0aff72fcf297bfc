//! What a log needs beside appends: flushes of what is committed, retention, and a way to cope when its disk fails.

use crate::desk::Desk;
use crate::mailbox::Outbox;
use crate::replica::Replica;
use crate::sabotage::Sabotage;
use core::time::Duration;
use trimaran_raft::{Input as CoreInput, Instant, Liveness, NodeId};
use trimaran_storage::log::{Flushed, LogError};

/// How long a replica whose log failed serves nobody before it tries again (a full disk may have been made
/// room on; a broken one fails again).
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

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

impl Replica {
    /// A replica whose log failed gives up its leadership for as long as that lasts: to one voter after the other, since
    /// the first one asked may be as badly off.
    pub(crate) fn mind_failure(&mut self, desk: &mut Desk, out: &mut Outbox) {
        let now = desk.now;
        if core::mem::take(&mut self.failing) {
            self.failure.get_or_insert(Failure::new(now)).until = now + FAILURE_PAUSE;
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

    /// A flush came back.
    pub(crate) fn flushed(&mut self, result: Result<Flushed, LogError>, desk: &Desk) {
        // One that this opening of the group has not asked for says nothing about its log.
        if !core::mem::take(&mut self.is_flushing) && !desk.breakage.is(Sabotage::FlushTwice) {
            return;
        }
        match result {
            Ok(flushed) => self.log.flushed(flushed),
            Err(_) => {
                self.log.flush_failed();
                self.note_failure();
            }
        }
    }

    pub(crate) fn flush_if_due(&mut self, desk: &mut Desk, out: &mut Outbox) {
        // Blank entries alone are not worth a segment.
        let unflushed = self.log.unflushed_bytes() > 0 && self.log.flushed_index() < self.applied;
        if !unflushed || self.failure.is_some() {
            self.flush_at = None;
            return;
        }
        let age = desk.config.flush_age;
        let flush_at = *self.flush_at.get_or_insert(desk.now + age);
        if self.log.unflushed_bytes() >= desk.config.flush_bytes || flush_at <= desk.now {
            self.flush_at = Some(desk.now + age);
            self.flush(desk, out);
        }
    }

    /// True if a job went out. What others have made durable and thereby committed, and this journal does not hold yet,
    /// stays where it is: after a crash the journal would go on behind a gap.
    fn flush(&mut self, desk: &Desk, out: &mut Outbox) -> bool {
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
        // What a job that is out leaves behind will be asked for again.
        if self.is_flushing && !desk.breakage.is(Sabotage::FlushTwice) {
            return;
        }
        let worth_a_segment = self.log.unflushed_bytes() >= SMALL_TAIL_BYTES && self.failure.is_none();
        if !(worth_a_segment && self.flush(desk, out)) {
            out.journal.rewrite(self.id, &self.log.unflushed());
        }
    }

    /// Deletes what retention allows. What any voter lacks is spared.
    pub(crate) fn retain(&mut self, now_ms: i64, desk: &Desk) {
        let floor = match desk.breakage.is(Sabotage::RetainUnheld) {
            true => self.applied,
            false => self.group.floor().min(self.applied),
        };
        if self.log.retain(now_ms, &self.options.retention, floor).is_err() {
            self.note_failure();
        }
    }
}
