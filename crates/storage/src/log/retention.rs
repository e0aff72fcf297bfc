//! Deleting what is old, or too much: by whole segments.

use super::index::Start;
use super::segment::{self, Name, Segment};
use super::{LogError, ReplicaLog, flush, io_error, producer_snapshot};
use crate::fs::Mode;
use crate::producers::ProducedBatch;
use trimaran_raft::{LogIndex, LogView};
use trimaran_wire::batch::Offset;

/// The limits beyond which segments are deleted; `None` keeps for ever.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Bytes of record batches beyond which the oldest segments go.
    pub bytes: Option<u64>,
    /// Milliseconds after which a segment goes, counted from the largest timestamp in it, or from when its file was
    /// last written to if its records have no timestamps that mean anything.
    pub ms: Option<u64>,
}

impl ReplicaLog {
    /// Deletes whole segments that retention allows, none that holds an entry above `floor`; returns how many. Entries
    /// that are not in segments are never deleted. If all that is flushed is too old, the last segment goes as well,
    /// and an empty one takes its place.
    ///
    /// Before anything goes, `produced` is asked for the last batches of each idempotent producer that lie before the
    /// entry which the log is to begin with, ascending by index: they are kept ([`ReplicaLog::producer_snapshot`]).
    ///
    /// # Errors
    /// [`LogError::Io`]; what was not deleted is found again at the next start.
    pub fn retain(
        &mut self,
        now_ms: i64,
        retention: &Retention,
        floor: LogIndex,
        produced: impl FnOnce(LogIndex) -> Vec<ProducedBatch>,
    ) -> Result<usize, LogError> {
        let count = self.expendable(now_ms, retention, floor)?;
        self.delete_first(count, produced)
    }

    /// Deletes whole segments of which every record lies before `before`, none that holds an entry above `floor`, and
    /// never the last one; returns how many. For a log whose user has written again what it still needs of them.
    /// `produced` is as in [`ReplicaLog::retain`].
    ///
    /// # Errors
    /// [`LogError::Io`]; what was not deleted is found again at the next start.
    pub fn trim(
        &mut self,
        before: Offset,
        floor: LogIndex,
        produced: impl FnOnce(LogIndex) -> Vec<ProducedBatch>,
    ) -> Result<usize, LogError> {
        let before_last = self.segments.len().saturating_sub(1);
        let may_go =
            |segment: &&Segment| !segment.is_empty() && segment.end.index <= floor && segment.end.offset <= before;
        let count = self.segments[..before_last].iter().take_while(may_go).count();
        self.delete_first(count, produced)
    }

    fn delete_first(
        &mut self,
        count: usize,
        produced: impl FnOnce(LogIndex) -> Vec<ProducedBatch>,
    ) -> Result<usize, LogError> {
        let Some(last) = count.checked_sub(1).map(|last| self.segments[last]) else {
            return Ok(0);
        };
        let first = last.end.index.next();
        let batches = produced(first);
        // Without any, a file of earlier is left behind: it counts for nothing in a log that begins later.
        if !batches.is_empty() {
            producer_snapshot::write(&*self.fs, &self.dir, self.group, first, &batches)?;
        }
        if count == self.segments.len() {
            let created = flush::create(&*self.fs, &self.dir, Start::after(self.group, &last.end));
            // Half of it may be there, and what is flushed next goes to the old one.
            self.sweep |= created.is_err();
            self.segments.push(created?);
        }
        for _ in 0..count {
            self.delete_oldest()?;
        }
        Ok(count)
    }

    /// How many segments, from the oldest on, must go and may.
    fn expendable(&self, now_ms: i64, retention: &Retention, floor: LogIndex) -> Result<usize, LogError> {
        let mut size = self.size_bytes();
        for (number, segment) in self.segments.iter().enumerate() {
            let is_last = number + 1 == self.segments.len();
            let may_go = !segment.is_empty() && segment.end.index <= floor;
            let expired = may_go && !(is_last && self.flushing) && self.is_expired(segment, now_ms, retention)?;
            let beyond = |bytes| size.saturating_sub(bytes) >= segment.bytes;
            let must_go = expired || (!is_last && retention.bytes.is_some_and(beyond));
            if !(may_go && must_go) {
                return Ok(number);
            }
            size -= segment.bytes;
        }
        Ok(self.segments.len())
    }

    fn is_expired(&self, segment: &Segment, now_ms: i64, retention: &Retention) -> Result<bool, LogError> {
        let Some(limit) = retention.ms else { return Ok(false) };
        // A segment without a record holds nothing that could be missed.
        let is_older = |since: i64| u64::try_from(now_ms.saturating_sub(since)).is_ok_and(|age| age > limit);
        Ok(segment.bytes == 0 || is_older(self.newest_ms(segment)?))
    }

    /// The time from which a segment's age counts. Producers may leave timestamps out (-1), or send what lies before
    /// 1970; as in Kafka (`LogSegment.largestTimestamp`), the file tells instead how old its last record is at least.
    fn newest_ms(&self, segment: &Segment) -> Result<i64, LogError> {
        if segment.latest_timestamp >= 0 {
            return Ok(segment.latest_timestamp);
        }
        let path = segment.log_path(&self.dir);
        let file = self.fs.open(&path, Mode::Read).map_err(io_error(&path))?;
        file.modified_ms().map_err(io_error(&path))
    }

    /// Not the last one.
    fn delete_oldest(&mut self) -> Result<(), LogError> {
        let oldest = self.segments.remove(0);
        self.terms.trim(oldest.end.index);
        self.configurations.trim(oldest.end.index.next());
        self.evict();
        segment::remove(&*self.fs, &self.dir, &Name::of(&oldest.start), self.group)
    }

    /// The batches that idempotent producers had sent last before the log's first entry, and that retention has
    /// deleted, here or where the log was filled from; ascending by index. With those that the log holds, that is what
    /// they have sent last. May block.
    ///
    /// # Errors
    /// [`LogError::Io`] and [`LogError::Corrupt`] from the file of producers.
    pub fn producer_snapshot(&self) -> Result<Vec<ProducedBatch>, LogError> {
        match &self.reset {
            // The folder says it later.
            Some(start) => Ok(start.producers.clone()),
            None => producer_snapshot::read(&*self.fs, &self.dir, self.group, self.first_index()),
        }
    }
}
