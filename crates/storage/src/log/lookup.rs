//! Finding entries by index, and batches by offset and by timestamp: in memory, or by bisection on disk.

use super::index::{NO_TIMESTAMP, Record};
use super::read::{Chunk, Entries, FileSlice, LoadJob};
use super::segment::{Segment, SegmentReader};
use super::tail::TailEntry;
use super::{BatchMeta, LogError, ReplicaLog, configurations};
use crate::offsets::HighWatermark;
use trimaran_raft::{Entry, LogIndex, LogView, Payload, Term, TermAt};
use trimaran_wire::batch::{BatchHeader, LeaderEpoch, Offset};

impl ReplicaLog {
    /// The entries `first..=last`, for replication. None if `last` is below `first`.
    ///
    /// # Errors
    /// [`LogError::NotHeld`]; [`LogError::Io`] if a segment can't be opened.
    pub fn entries(&self, first: LogIndex, last: LogIndex) -> Result<Entries, LogError> {
        if last < first {
            return Ok(Entries::Ready(Vec::new()));
        }
        if first < self.first_index() || last > self.last_index() {
            return Err(LogError::NotHeld { first, last });
        }
        let here = self.tail.since(first).take_while(|entry| entry.entry.index <= last);
        let memory: Vec<Entry> = here.map(|entry| entry.entry.clone()).collect();
        let missing = memory.first().map_or(last, |held| held.index.prev());
        if missing < first {
            return Ok(Entries::Ready(memory));
        }
        let configurations = self.configurations.between(first, missing);
        let mut parts = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.end.index >= first) {
            if segment.start.index > missing {
                break;
            }
            let range = (segment.start.index.max(first), segment.end.index.min(missing));
            parts.push((self.reader(segment)?, range.0, range.1));
        }
        Ok(Entries::Load(LoadJob {
            parts,
            configurations,
            configurations_path: configurations::path(&self.dir),
            memory,
        }))
    }

    /// Whole batches from the one that holds `from`, below `upto`, about `max_bytes` of them but at least one.
    /// Empty if `from == upto`.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`]; [`LogError::Io`] and [`LogError::Corrupt`] from a segment's index.
    pub fn read(&self, from: Offset, upto: HighWatermark, max_bytes: usize) -> Result<Vec<Chunk>, LogError> {
        let (start, end) = (self.start_offset(), upto.0);
        if from < start || from > end {
            return Err(LogError::OutOfRange { start, end });
        }
        let mut chunks = Vec::new();
        let mut next = from;
        let mut room = max_bytes as u64;
        while next < end {
            if let Some(tail) = self.tail.holding(next) {
                read_tail(tail, end, room, &mut chunks);
                break;
            }
            let Some(slice) = self.slice(next, end, room, chunks.is_empty())? else {
                break;
            };
            next = slice.next;
            room = room.saturating_sub(slice.length as u64);
            chunks.push(Chunk::File(slice));
        }
        Ok(chunks)
    }

    /// The first batch below `upto` whose max timestamp is at least `timestamp_ms`: to be searched for the record.
    ///
    /// # Errors
    /// [`LogError::Io`] and [`LogError::Corrupt`] from a segment's index.
    pub fn batch_by_timestamp(
        &self,
        timestamp_ms: i64,
        upto: HighWatermark,
    ) -> Result<Option<(BatchMeta, Chunk)>, LogError> {
        let reaches =
            |segment: &&Segment| segment.latest_timestamp != NO_TIMESTAMP && segment.latest_timestamp >= timestamp_ms;
        let found = self.segments.iter().find(reaches);
        let found = found.map(|segment| self.first_at(segment, timestamp_ms)).transpose()?;
        let found = match found {
            Some(record) => Some(self.located(&record)?),
            None => self
                .unflushed_batches()
                .find(|(meta, _)| meta.max_timestamp >= timestamp_ms),
        };
        Ok(found.filter(|(meta, _)| meta.last_offset < upto.0))
    }

    /// The batch below `upto` with the largest timestamp (ListOffsets -3); the first of several. None if no record has
    /// a timestamp: negative ones count as none. `upto` must not be below what is flushed, which is committed.
    ///
    /// # Errors
    /// [`LogError::Io`] and [`LogError::Corrupt`] from a segment's index.
    pub fn max_timestamp(&self, upto: HighWatermark) -> Result<Option<(BatchMeta, Chunk)>, LogError> {
        let latest = self
            .segments
            .iter()
            .map(|segment| segment.latest_timestamp)
            .max()
            .unwrap_or(NO_TIMESTAMP);
        let in_tail = self
            .unflushed_batches()
            .take_while(|(meta, _)| meta.last_offset < upto.0)
            .filter(|(meta, _)| meta.max_timestamp >= 0);
        let best = in_tail.reduce(|best, next| {
            if next.0.max_timestamp > best.0.max_timestamp {
                next
            } else {
                best
            }
        });
        match (
            self.segments.iter().find(|segment| segment.latest_timestamp == latest),
            best,
        ) {
            (_, Some(best)) if best.0.max_timestamp > latest => Ok(Some(best)),
            (Some(segment), _) if latest >= 0 => {
                let record = self.first_at(segment, latest)?;
                Ok(Some(self.located(&record)?))
            }
            (_, best) => Ok(best),
        }
    }

    /// The largest epoch that is at most `epoch`, and the offset where it ends (the start of the next one, or
    /// `next_offset`). KIP-101, KIP-320. None if every epoch held is above it.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.terms.epoch_end(epoch, self.next_offset())
    }

    /// All batches held from `from` on, in order: what is needed to rebuild producer state. May block.
    ///
    /// # Errors
    /// [`LogError::Io`] and [`LogError::Corrupt`] from a segment's index.
    pub fn batches(&self, from: LogIndex) -> Result<Vec<BatchMeta>, LogError> {
        let mut metas = Vec::new();
        for segment in self
            .segments
            .iter()
            .filter(|segment| !segment.is_empty() && segment.end.index >= from)
        {
            let records = self
                .reader(segment)?
                .records(segment.start.index.max(from), segment.end.index)?;
            metas.extend(records.iter().filter_map(Record::meta));
        }
        metas.extend(
            self.unflushed_batches()
                .map(|(meta, _)| meta)
                .filter(|meta| meta.index >= from),
        );
        Ok(metas)
    }

    fn reader(&self, segment: &Segment) -> Result<SegmentReader, LogError> {
        SegmentReader::open(&*self.fs, &self.dir, segment)
    }

    /// A run of batches of one segment, from the one that holds `from`. None if not even that one may be returned.
    fn slice(&self, from: Offset, end: Offset, room: u64, at_least_one: bool) -> Result<Option<FileSlice>, LogError> {
        let place = self.segments.partition_point(|segment| segment.end.offset <= from);
        let Some(segment) = self.segments.get(place) else {
            return Ok(None);
        };
        let reader = self.reader(segment)?;
        let (start, last) = (segment.start.index, segment.end.index);
        let index = reader.partition_point(start, last, |record| record.next_offset <= from)?;
        let first = reader.record(index)?;
        let position = u64::from(first.position);
        let fits =
            |record: &Record| record.next_offset <= end && record.position_end().saturating_sub(position) <= room;
        if first.next_offset > end || (!at_least_one && !fits(&first)) {
            return Ok(None);
        }
        let after = reader.partition_point(index.next(), last, fits)?;
        let last = reader.record(after.prev())?;
        Ok(Some(self.file_slice(&reader, &first, &last)))
    }

    fn file_slice(&self, reader: &SegmentReader, first: &Record, last: &Record) -> FileSlice {
        let (file, path) = reader.log();
        let position = u64::from(first.position);
        FileSlice {
            file,
            path,
            position,
            length: usize::try_from(last.position_end().saturating_sub(position)).unwrap_or(usize::MAX),
            base: first.base_offset,
            next: last.next_offset,
            epochs: self.terms.epochs(first.base_offset, last.next_offset),
        }
    }

    /// The first record of a segment from which on its latest timestamp is at least this. There is one.
    fn first_at(&self, segment: &Segment, timestamp: i64) -> Result<Record, LogError> {
        let reader = self.reader(segment)?;
        let (first, last) = (segment.start.index, segment.end.index);
        let index = reader.partition_point(first, last, |record| {
            record.latest_timestamp == NO_TIMESTAMP || record.latest_timestamp < timestamp
        })?;
        if index > last {
            return Err(reader.corrupt_index(last, "its timestamps contradict each other"));
        }
        reader.record(index)
    }

    /// A flushed batch, from memory if it is there.
    fn located(&self, record: &Record) -> Result<(BatchMeta, Chunk), LogError> {
        let segment = self.segments.iter().find(|segment| segment.end.index >= record.index);
        let reader = self.reader(segment.expect("a record was found in a segment"))?;
        let meta = record
            .meta()
            .ok_or_else(|| reader.corrupt_index(record.index, "an entry without a batch has a timestamp"))?;
        let chunk = match self.tail.get(record.index).map(|held| &held.entry.payload) {
            Some(Payload::Data(batch)) => Chunk::Memory(batch.clone()),
            _ => Chunk::File(self.file_slice(&reader, record, record)),
        };
        Ok((meta, chunk))
    }

    fn unflushed_batches(&self) -> impl Iterator<Item = (BatchMeta, Chunk)> {
        self.tail.since(self.flushed.index.next()).filter_map(|held| {
            let Payload::Data(batch) = &held.entry.payload else {
                return None;
            };
            Some((meta_of(held, batch), Chunk::Memory(batch.clone())))
        })
    }

    /// The average length of flushed entries, as good a guess as any where they are not read.
    fn average_bytes(&self) -> u64 {
        let bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        let entries: u64 = self.segments.iter().map(Segment::entries).sum();
        bytes.checked_div(entries).unwrap_or(0)
    }
}

impl LogView for ReplicaLog {
    fn first_index(&self) -> LogIndex {
        self.start().index.next()
    }

    fn last_index(&self) -> LogIndex {
        self.end().index
    }

    fn term_at(&self, index: LogIndex) -> TermAt {
        if index > self.last_index() {
            TermAt::Missing
        } else if index == LogIndex::ZERO && self.first_index() == LogIndex(1) {
            TermAt::Known(Term::ZERO)
        } else if index < self.first_index().prev() {
            TermAt::Compacted
        } else {
            self.terms.at(index).map_or(TermAt::Compacted, TermAt::Known)
        }
    }

    fn last_index_with_term_at_most(&self, term: Term, upto: LogIndex) -> LogIndex {
        let index = self.terms.last_index_at_most(term, upto.min(self.last_index()));
        index.max(self.first_index().prev())
    }

    fn fit(&self, first: LogIndex, last: LogIndex, max_bytes: u64) -> (LogIndex, u64) {
        let in_memory = self.tail.first_index().unwrap_or(self.last_index().next()).max(first);
        let on_disk = in_memory.0.min(last.next().0) - first.0;
        let average = if on_disk == 0 { 0 } else { self.average_bytes() };
        let fitting = max_bytes.checked_div(average).unwrap_or(u64::MAX).min(on_disk);
        let mut bytes = fitting * average;
        if fitting < on_disk {
            let count = fitting.max(1);
            return (LogIndex(first.0 + count - 1), count * average);
        }
        let mut end = LogIndex(first.0 + on_disk).prev();
        for entry in self.tail.since(in_memory).take_while(|entry| entry.entry.index <= last) {
            let more = bytes + entry.entry.payload.len() as u64;
            if more > max_bytes && end >= first {
                break;
            }
            (bytes, end) = (more, entry.entry.index);
        }
        (end.max(first), bytes)
    }
}

/// Batches from memory, up to `end` and about `room` bytes, but one at least if there is none yet.
fn read_tail<'a>(entries: impl Iterator<Item = &'a TailEntry>, end: Offset, mut room: u64, chunks: &mut Vec<Chunk>) {
    for held in entries.take_while(|held| held.next <= end) {
        let Payload::Data(batch) = &held.entry.payload else {
            continue;
        };
        let length = batch.len() as u64;
        if length > room && !chunks.is_empty() {
            break;
        }
        room = room.saturating_sub(length);
        chunks.push(Chunk::Memory(batch.clone()));
    }
}

fn meta_of(held: &TailEntry, batch: &[u8]) -> BatchMeta {
    let header = BatchHeader::parse(batch).expect("a batch is checked when it is appended");
    BatchMeta {
        index: held.entry.index,
        term: held.entry.term,
        base_offset: held.base,
        last_offset: header.last_offset(),
        max_timestamp: header.max_timestamp,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    }
}
