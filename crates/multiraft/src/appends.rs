//! The batches of producers that wait: to be proposed together, or to be held by enough disks.

use crate::mailbox::{Completion, Outbox, Ticket};
use crate::requests::{Acks, AppendError, Appended};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use trimaran_raft::LogIndex;
use trimaran_storage::producers::ProducedBatch;
use trimaran_wire::batch::Offset;

/// A batch that waits for the end of the step, so that all batches for a group are proposed together.
#[derive(Debug)]
pub(crate) struct PendingAppend {
    pub(crate) batch: BytesMut,
    pub(crate) acks: Acks,
    pub(crate) ticket: Ticket,
}

/// A ticket that waits for its batch to be held by enough disks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) appended: Appended,
}

/// Tickets by what they wait for, each queue in offset order: those of one kind are answered in that order. The kinds
/// don't wait for each other.
#[derive(Debug, Default)]
pub(crate) struct AppendWaiters {
    /// [`Acks::Leader`].
    leader: VecDeque<Waiter>,
    /// [`Acks::All`].
    all: VecDeque<Waiter>,
}

impl AppendWaiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.leader.is_empty() && self.all.is_empty()
    }

    /// A duplicate's original may lie before what waits already; new batches go to the end.
    pub(crate) fn push(&mut self, acks: Acks, ticket: Ticket, appended: Appended, out: &mut Outbox) {
        let queue = match acks {
            Acks::None => return out.completions.push((ticket, Completion::Appended(Ok(appended)))),
            Acks::Leader => &mut self.leader,
            Acks::All => &mut self.all,
        };
        let place = queue.partition_point(|waiter| waiter.appended.index <= appended.index);
        queue.insert(place, Waiter { ticket, appended });
    }

    /// The leader's disk holds the log up to `durable`; it is committed and on enough disks up to `held`.
    pub(crate) fn complete(&mut self, durable: LogIndex, held: LogIndex, out: &mut Outbox) {
        complete_upto(&mut self.leader, durable, out, Ok);
        complete_upto(&mut self.all, held, out, Ok);
    }

    /// Answers those of [`Acks::All`] that are committed with an error: nothing more can be waited for.
    pub(crate) fn fail_committed(&mut self, commit: LogIndex, error: &AppendError, out: &mut Outbox) {
        complete_upto(&mut self.all, commit, out, |_| Err(error.clone()));
    }

    /// Answers all with an error.
    pub(crate) fn fail_all(&mut self, error: &AppendError, out: &mut Outbox) {
        complete_upto(&mut self.leader, LogIndex(u64::MAX), out, |_| Err(error.clone()));
        complete_upto(&mut self.all, LogIndex(u64::MAX), out, |_| Err(error.clone()));
    }
}

fn complete_upto(
    queue: &mut VecDeque<Waiter>,
    upto: LogIndex,
    out: &mut Outbox,
    answer: impl Fn(Appended) -> Result<Appended, AppendError>,
) {
    while let Some(waiter) = queue.front().filter(|waiter| waiter.appended.index <= upto) {
        out.completions
            .push((waiter.ticket, Completion::Appended(answer(waiter.appended))));
        queue.pop_front();
    }
}

/// Batches that passed, to be proposed together. Kept in the step context for its buffers.
#[derive(Debug, Default)]
pub(crate) struct Proposal {
    pub(crate) payloads: Vec<Bytes>,
    pub(crate) waiters: Vec<(Acks, Waiter)>,
    pub(crate) produced: Vec<ProducedBatch>,
    pub(crate) bytes: u64,
    pub(crate) next_offset: Offset,
    pub(crate) next_index: LogIndex,
}

impl Proposal {
    pub(crate) fn begin(&mut self, next_offset: Offset, next_index: LogIndex) {
        self.payloads.clear();
        self.waiters.clear();
        self.produced.clear();
        self.bytes = 0;
        self.next_offset = next_offset;
        self.next_index = next_index;
    }
}
