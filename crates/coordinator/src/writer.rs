//! The writes that are under way, and what waits for them.

use crate::limits::{RECORD_OVERHEAD_BYTES, WAITING_BYTES, WRITE_BYTES};
use crate::{Generation, Output, Record, Reply, Ticket, Write, WriteId};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a write changes beside the stored state, once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// These offsets of a group are no longer under way.
    Offsets {
        group: Arc<str>,
        keys: Vec<(Arc<str>, i32)>,
    },
    /// The assignments of a generation are in force.
    Assigned { group: Arc<str>, generation: Generation },
    /// A group is gone.
    Deleted { group: Arc<str> },
    /// A portion of the background work is done.
    Background,
}

/// A write that is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) records: Vec<Record>,
    pub(crate) effect: Effect,
    /// The replies that wait for it.
    pub(crate) replies: Vec<(Ticket, Reply)>,
}

/// The writes under way, in the order of the log.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The id of the first one in the queue.
    first: u64,
    queue: VecDeque<Pending>,
    bytes: usize,
}

impl Writer {
    /// No writes; the next one has this id.
    pub(crate) fn new(next: WriteId) -> Writer {
        Writer {
            first: next.0,
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The id of the next write.
    pub(crate) fn next(&self) -> WriteId {
        WriteId(self.first + self.queue.len() as u64)
    }

    /// Whether a write is under way.
    pub(crate) fn is_pending(&self, id: WriteId) -> bool {
        (self.first..self.next().0).contains(&id.0)
    }

    /// Whether so much is under way that clients must wait before they ask for more.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= WAITING_BYTES
    }

    /// Asks for records to be written together.
    pub(crate) fn submit(&mut self, records: Vec<Record>, effect: Effect, out: &mut Output) -> WriteId {
        let id = self.next();
        let bytes = records_len(&records);
        assert!(!records.is_empty() && bytes <= WRITE_BYTES, "a write of {bytes} bytes");
        self.bytes += bytes;
        out.writes.push(Write {
            id,
            records: records.clone(),
        });
        self.queue.push_back(Pending {
            records,
            effect,
            replies: Vec::new(),
        });
        id
    }

    /// Asks for records to be written in as many writes as they need, in order; the effect is the last one's, whose id
    /// is returned. Without records there is neither.
    pub(crate) fn submit_parts(&mut self, records: Vec<Record>, effect: Effect, out: &mut Output) -> Option<WriteId> {
        let mut part = Vec::new();
        let mut bytes = 0;
        for record in records {
            let size = record_len(&record);
            if bytes + size > WRITE_BYTES {
                self.submit(core::mem::take(&mut part), Effect::None, out);
                bytes = 0;
            }
            bytes += size;
            part.push(record);
        }
        (!part.is_empty()).then(|| self.submit(part, effect, out))
    }

    /// Sends a reply when the write is committed; at once if it is already.
    pub(crate) fn reply_after(&mut self, id: Option<WriteId>, ticket: Ticket, reply: Reply, out: &mut Output) {
        let pending = id.and_then(|id| {
            let place = id.0.checked_sub(self.first)?;
            self.queue.get_mut(usize::try_from(place).ok()?)
        });
        match pending {
            Some(pending) => pending.replies.push((ticket, reply)),
            None => out.replies.push((ticket, reply)),
        }
    }

    /// Takes the first write, which must be this one; none if it is of an earlier leadership.
    pub(crate) fn settle(&mut self, id: WriteId) -> Option<Pending> {
        if id.0 < self.first {
            return None;
        }
        assert_eq!(id.0, self.first, "outcomes come in the order of the writes");
        let pending = self.queue.pop_front().expect("a write that was asked for");
        self.first += 1;
        self.bytes -= records_len(&pending.records);
        Some(pending)
    }

    /// The replies that wait, when the leadership ends.
    pub(crate) fn into_replies(self) -> impl Iterator<Item = (Ticket, Reply)> {
        self.queue.into_iter().flat_map(|pending| pending.replies)
    }
}

/// The bytes that a record takes in a write.
pub(crate) fn record_len(record: &Record) -> usize {
    record.len() + RECORD_OVERHEAD_BYTES
}

fn records_len(records: &[Record]) -> usize {
    records.iter().map(record_len).sum()
}
