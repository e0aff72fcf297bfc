//! The two scales, and the only place that converts between them.
//!
//! Raft counts entries by index, from one, and elections by term. Kafka counts records by offset, from zero, and calls
//! the term a leader epoch. Raft's own entries have an index and no offset, so that clients see 0, 1, 2, ... A commit
//! index is inclusive, a high watermark exclusive:
//!
//! ```text
//! index          1       2         3       4
//! entry          blank   batch     blank   batch
//! offsets        -       0, 1, 2   -       3, 4
//! term           1       1         2       2
//! commit 1 is high watermark 0; commit 2 and 3 are high watermark 3; commit 4 is high watermark 5
//! ```

use std::collections::VecDeque;
use trimaran_raft::{Entry, LogIndex, Payload, Term};
use trimaran_wire::batch::{BatchHeader, LeaderEpoch, Offset};

/// The offset after the last committed record: exclusive, unlike a commit index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HighWatermark(pub Offset);

/// The leader epoch of a term: the same number. Kafka's are 31 bits wide; terms beyond them are never reached.
pub fn leader_epoch(term: Term) -> LeaderEpoch {
    LeaderEpoch(i32::try_from(term.0).unwrap_or(i32::MAX))
}

/// The term of a leader epoch; none for the negative ones, by which Kafka says that it knows none.
pub fn term(epoch: LeaderEpoch) -> Option<Term> {
    u64::try_from(epoch.0).ok().map(Term)
}

/// Where a log ends, on both scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The last entry.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The offset that the next record gets.
    pub offset: Offset,
}

impl LogEnd {
    /// The end after `entry`, which must follow this one: the next index, a term that does not go back, and as its
    /// payload exactly one record batch, stamped with the next offset and the entry's term.
    ///
    /// Check a peer's entries by this before they get to the core. The batch's CRC is not checked.
    ///
    /// # Errors
    /// The mismatch.
    pub fn after(&self, entry: &Entry) -> Result<LogEnd, &'static str> {
        if entry.index != self.index.next() {
            return Err("it is not the next entry");
        }
        if entry.term < self.term {
            return Err("its term is lower than the one before it");
        }
        let offset = match &entry.payload {
            Payload::Blank | Payload::Configuration(_) => self.offset,
            Payload::Data(batch) => self.offset_after(batch, entry.term)?,
        };
        Ok(LogEnd {
            index: entry.index,
            term: entry.term,
            offset,
        })
    }

    fn offset_after(&self, batch: &[u8], term: Term) -> Result<Offset, &'static str> {
        let header = BatchHeader::parse_only(batch).map_err(|_| "its payload is not exactly one record batch")?;
        if header.base_offset != self.offset {
            return Err("its record batch is not stamped with the next offset");
        }
        if header.leader_epoch != leader_epoch(term) {
            return Err("its record batch is not stamped with its term");
        }
        let last = self.offset.0.checked_add(i64::from(header.last_offset_delta));
        let next = last.and_then(|last| last.checked_add(1));
        next.map(Offset).ok_or("its offsets are too large")
    }
}

/// Where each term begins in a log, on both scales. There are few: one an election.
#[derive(Clone, Debug, Default)]
pub(crate) struct TermStarts {
    /// Terms, indexes ascend; offsets do not descend.
    starts: VecDeque<TermStart>,
}

/// The first entry of a term, as far as the log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TermStart {
    term: Term,
    index: LogIndex,
    /// The first record's offset, if the term has one.
    offset: Offset,
}

impl TermStarts {
    /// An entry of this term is at `index`, and the next record's offset there is `offset`.
    pub(crate) fn push(&mut self, term: Term, index: LogIndex, offset: Offset) {
        if self.starts.back().is_none_or(|last| last.term < term) {
            self.starts.push_back(TermStart { term, index, offset });
        }
    }

    /// Entries from `from` on are gone.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        while self.starts.back().is_some_and(|last| last.index >= from) {
            self.starts.pop_back();
        }
    }

    /// Nothing before `index` will be asked for.
    pub(crate) fn trim(&mut self, index: LogIndex) {
        while self.starts.get(1).is_some_and(|second| second.index <= index) {
            self.starts.pop_front();
        }
        if self.starts.len() * 4 < self.starts.capacity() {
            self.starts.shrink_to_fit();
        }
    }

    /// The term of the entry at `index`, which must lie between the first start and the log's end.
    pub(crate) fn at(&self, index: LogIndex) -> Option<Term> {
        let after = self.starts.partition_point(|start| start.index <= index);
        Some(self.starts.get(after.checked_sub(1)?)?.term)
    }

    /// The last index, at most `upto`, whose term is at most `term`; the one before the first start if there is none.
    pub(crate) fn last_index_at_most(&self, term: Term, upto: LogIndex) -> LogIndex {
        let after = self.starts.partition_point(|start| start.term <= term);
        self.starts.get(after).map_or(upto, |next| next.index.prev().min(upto))
    }

    /// See [`crate::log::ReplicaLog::epoch_end`].
    pub(crate) fn epoch_end(&self, epoch: LeaderEpoch, next_offset: Offset) -> Option<(LeaderEpoch, Offset)> {
        let wanted = term(epoch)?;
        let after = self.starts.partition_point(|start| start.term <= wanted);
        let start = self.starts.get(after.checked_sub(1)?)?;
        let end = self.starts.get(after).map_or(next_offset, |next| next.offset);
        Some((leader_epoch(start.term), end))
    }

    /// From which offset on batches bear which epoch, for a run of batches from `base` to before `next`.
    pub(crate) fn epochs(&self, base: Offset, next: Offset) -> Epochs {
        let after = self.starts.partition_point(|start| start.offset <= base);
        let run = self
            .starts
            .iter()
            .skip(after.saturating_sub(1))
            .take_while(|start| start.offset < next);
        Epochs(run.map(|start| (start.offset, leader_epoch(start.term))).collect())
    }
}

/// Which epoch a run of batches must bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(Offset, LeaderEpoch)>);

impl Epochs {
    /// The epoch of the batch whose first record has this offset.
    pub(crate) fn at(&self, base: Offset) -> Option<LeaderEpoch> {
        let after = self.0.partition_point(|(offset, _)| *offset <= base);
        Some(self.0.get(after.checked_sub(1)?)?.1)
    }
}

#[cfg(test)]
mod tests;
