//! What a log needs beside appends: flushes of what is committed, retention, and a way to cope when its disk fails.

use crate::desk::Desk;
use crate::mailbox::Outbox;
use crate::replica::Replica;
use core::time::Duration;
use trimaran_raft::{Input as CoreInput, Instant};
use trimaran_storage::log::{Flushed, LogError};

/// How long a replica whose log failed neither leads nor serves before it tries again (a full disk may have been made
/// room on; a broken one fails again).
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Below this, what is unflushed is written to the journal again rather than to a segment when the journal wants to get
/// rid of it: a little more in a write that happens anyway is cheaper than files and syncs of its own.
const SMALL_TAIL_BYTES: u64 = 4 << 10;
/// How often a replica that should not lead tries to get rid of its leadership.
const FAILURE_HANDOVER_INTERVAL: Duration = Duration::from_secs(1);

/// The log failed lately: the replica neither leads nor serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) until: Instant,
    /// When to try (again) to hand over a leadership.
    pub(crate) hand_over_at: Instant,
}

impl Replica {
    /// A replica whose log failed gives up its leadership, and asks again for as long as nobody takes it.
    pub(crate) fn mind_failure(&mut self, desk: &mut Desk, out: &mut Outbox) {
        if core::mem::take(&mut self.failing) {
            let hand_over_at = self.failure.map_or(desk.now, |failure| failure.hand_over_at);
            self.failure = Some(Failure {
                until: desk.now + FAILURE_PAUSE,
                hand_over_at,
            });
        }
        let Some(failure) = &mut self.failure else { return };
        if failure.until <= desk.now {
            self.failure = None;
        } else if failure.hand_over_at <= desk.now {
            failure.hand_over_at = desk.now + FAILURE_HANDOVER_INTERVAL;
            if self.leads() {
                self.step(CoreInput::Transfer(None), desk, out);
            }
        }
    }

    /// A flush came back.
    pub(crate) fn flushed(&mut self, result: Result<Flushed, LogError>) {
        self.is_flushing = false;
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
            self.flush(out);
        }
    }

    /// True if a job went out. What others have made durable and thereby committed, and this journal does not hold yet,
    /// stays where it is: after a crash the journal would go on behind a gap.
    fn flush(&mut self, out: &mut Outbox) -> bool {
        let job = self.log.flush(self.applied.min(self.group.durable()));
        let any = job.is_some();
        self.is_flushing |= any;
        out.flushes.extend(job);
        any
    }

    /// The journal can't recycle its oldest file because of this group. What is committed goes to a segment if that is
    /// worth one; the rest of the tail is written to the journal again.
    pub(crate) fn flush_now(&mut self, out: &mut Outbox) {
        // What a job that is out leaves behind will be asked for again.
        if self.is_flushing {
            return;
        }
        let worth_a_segment = self.log.unflushed_bytes() >= SMALL_TAIL_BYTES && self.failure.is_none();
        if !(worth_a_segment && self.flush(out)) {
            out.journal.rewrite(self.id, &self.log.unflushed());
        }
    }

    /// Deletes what retention allows. What any voter lacks is spared.
    pub(crate) fn retain(&mut self, now_ms: i64) {
        let floor = self.group.floor().min(self.applied);
        if self.log.retain(now_ms, &self.options.retention, floor).is_err() {
            self.note_failure();
        }
    }
}
