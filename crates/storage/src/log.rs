//! A replica's log: committed entries in segments of record batches, the tail in memory (and in the journal).
//!
//! # Where an entry lives
//! An appended entry is in memory, and in the journal. Once it is committed, a [`FlushJob`] writes it into a segment; only
//! then may the journal let go of it. So a segment never has to take anything back, and its end is committed. Some
//! flushed entries stay in memory, because they are what followers and consumers ask for next.
//!
//! # Look-up
//! By index: the index file has a record of fixed size for each entry. By offset and by timestamp: bisection, among the
//! segments in memory, within one on disk (in the page cache, that is). Nothing is kept in memory for an entry that is
//! only in a segment, and no file is kept open: a replica that is idle costs a few hundred bytes.
//!
//! # What is believed of a disk
//! Nothing that a checksum does not confirm. Index records bear one, batches bear their own, and what a batch's checksum
//! does not cover (base offset, leader epoch, length) is known from elsewhere and compared on every read.

mod flush;
mod read;
mod recovery;
mod segment;
mod sidecar;
mod tail;

#[cfg(test)]
mod tests;

pub use self::flush::{FlushJob, Flushed};
pub use self::read::{Chunk, Entries, FileSlice, LoadJob};
pub use crate::scale::HighWatermark;

use self::recovery::Known;
use self::segment::{Segment, SegmentReader};
use self::sidecar::{NO_TIMESTAMP, Record, Start};
use self::tail::{Tail, TailEntry};
use crate::fs::Fs;
use crate::journal::RecoveredGroup;
use crate::scale::{LogEnd, TermStarts};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Entry, GroupId, LogIndex, LogView, Payload, Term, TermAt};
use trimaran_wire::batch::{BatchHeader, LeaderEpoch, Offset};

/// Sizes and limits of one log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of record batches in a segment before the next one is begun. One batch may exceed it alone; beyond 4 GiB a
    /// new one is begun in any case.
    pub segment_bytes: u64,
    /// How much later than a segment's first batch (by their timestamps, in milliseconds) a batch may be before it begins
    /// the next segment. Lets time-based retention do its work where little is written.
    pub segment_ms: u64,
    /// Flushed entries kept in memory for reads of the tail, at most, their overhead included.
    pub tail_bytes: u64,
}

/// What must go; `None` keeps for ever.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Bytes of record batches beyond which the oldest segments go.
    pub bytes: Option<u64>,
    /// Milliseconds after which a segment goes, counted from the largest timestamp in it.
    pub ms: Option<u64>,
}

/// What is known of one stored batch without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    /// The entry that carries it.
    pub index: LogIndex,
    /// That entry's term.
    pub term: Term,
    /// The first record's offset.
    pub base_offset: Offset,
    /// The last record's offset.
    pub last_offset: Offset,
    /// The largest timestamp of a record, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// -1 if the producer is not idempotent.
    pub producer_id: i64,
    /// -1 if the producer is not idempotent.
    pub producer_epoch: i16,
    /// The first record's sequence number; -1 if the producer is not idempotent.
    pub base_sequence: i32,
}

/// Why a log can't be opened, read or written.
#[derive(Debug)]
pub enum LogError {
    /// The operating system refused: a full or broken disk, missing rights.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The disk, or someone, changed what had been written and synced.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The tail found in the journal does not continue the segments: some were removed, or the folder is another's.
    Gap {
        /// The entry after the segments' last.
        expected: LogIndex,
        /// The journal's first.
        found: LogIndex,
    },
    /// An entry that can't stand where it was put: not the next index, or not a record batch with the next offset and
    /// the entry's term. The caller's fault, or that of whoever the caller had it from.
    Malformed {
        /// The entry.
        index: LogIndex,
        /// What does not fit.
        what: &'static str,
    },
    /// The log does not hold these entries: deleted, or not there yet.
    NotHeld {
        /// The first one asked for.
        first: LogIndex,
        /// The last one asked for.
        last: LogIndex,
    },
    /// Below the log's start or beyond the high watermark.
    OutOfRange {
        /// The first offset that is still held.
        start: Offset,
        /// The high watermark.
        end: Offset,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            LogError::Corrupt { path, position, what } => {
                write!(f, "{} is corrupt at byte {position}: {what}", path.display())
            }
            LogError::Gap { expected, found } => {
                write!(
                    f,
                    "the segments end before entry {expected}, and the journal begins with entry {found}"
                )
            }
            LogError::Malformed { index, what } => write!(f, "entry {index} does not continue the log: {what}"),
            LogError::NotHeld { first, last } => write!(f, "entries {first} to {last} are not in the log"),
            LogError::OutOfRange { start, end } => write!(f, "the log holds offsets from {start} to before {end}"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } => Some(source),
            LogError::Corrupt { .. }
            | LogError::Gap { .. }
            | LogError::Malformed { .. }
            | LogError::NotHeld { .. }
            | LogError::OutOfRange { .. } => None,
        }
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> LogError + '_ {
    move |source| LogError::Io {
        path: path.to_owned(),
        source,
    }
}

fn corrupt(path: &Path, position: u64, what: &'static str) -> LogError {
    LogError::Corrupt {
        path: path.to_owned(),
        position,
        what,
    }
}

/// One replica's log; owned by the shard that drives its group.
pub struct ReplicaLog {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    group: GroupId,
    options: LogOptions,
    /// Contiguous; the last one is written to, and may be empty.
    segments: Vec<Segment>,
    /// Where terms begin, from the place before the first entry on.
    terms: TermStarts,
    tail: Tail,
    /// Where the segments end.
    flushed: LogEnd,
    /// A [`FlushJob`] is out.
    flushing: bool,
    /// The last [`FlushJob`] failed: the next one must expect its leftovers.
    sweep: bool,
}

impl ReplicaLog {
    /// Opens the segments in `dir`, checks their end, and puts the journal's tail behind them. A replica that the
    /// journal does not know is opened with the default. Nothing is created before the first flush.
    ///
    /// Of the segments, what is known to have been durable is checked at its ends, and everything else whenever it is
    /// read. May block.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] and [`LogError::Gap`] if something is missing that was once durable and that the journal
    /// does not hold either.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        group: GroupId,
        options: LogOptions,
        recovered: RecoveredGroup,
    ) -> Result<ReplicaLog, LogError> {
        let first = recovered.entries.first().map(|entry| entry.index);
        let known = Known {
            group,
            flushed: recovered.flushed,
            rest_in_journal: first.is_some_and(|first| first <= recovered.flushed.next()),
        };
        let found = recovery::recover(&*fs, dir, &known)?;
        let flushed = found.segments.last().map_or(LogEnd::default(), |last| last.end);
        check_joint(dir, found.segments.last(), &flushed, &recovered)?;
        let mut log = ReplicaLog {
            fs,
            dir: dir.to_owned(),
            group,
            options,
            segments: found.segments,
            terms: found.terms,
            tail: Tail::default(),
            flushed,
            flushing: false,
            sweep: flushed.index < recovered.flushed,
        };
        let stale = recovered.entries.partition_point(|entry| entry.index <= flushed.index);
        log.append(&recovered.entries[stale..])?;
        Ok(log)
    }

    /// Whose log it is.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The last entry that is durable in segments: always committed.
    pub fn flushed_index(&self) -> LogIndex {
        self.flushed.index
    }

    /// Where the log ends, on both scales: what an entry must follow to be appended.
    pub fn end(&self) -> LogEnd {
        self.tail.end().unwrap_or(self.flushed)
    }

    /// Appends to the tail. Entries must be contiguous, and each record batch must be stamped with the next offset and
    /// its entry's term (a peer's entries are to be checked by [`LogEnd::after`] before they get to the core).
    ///
    /// # Errors
    /// [`LogError::Malformed`]: an entry does not follow; nothing was appended.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        let before = self.end();
        let mut end = before;
        for entry in entries {
            match end.after(entry) {
                Ok(after) => {
                    self.terms.push(entry.term, entry.index, end.offset);
                    self.tail.push(TailEntry {
                        entry: entry.clone(),
                        base: end.offset,
                        next: after.offset,
                    });
                    end = after;
                }
                Err(what) => {
                    self.truncate_from(before.index.next());
                    return Err(LogError::Malformed {
                        index: entry.index,
                        what,
                    });
                }
            }
        }
        Ok(())
    }

    /// Deletes the tail from here on; never reaches into the segments (they hold committed entries only).
    ///
    /// # Panics
    /// If `from` is in a segment: a committed entry was to be deleted, and a stopped replica is safer than a wrong one.
    pub fn truncate_from(&mut self, from: LogIndex) {
        assert!(
            from > self.flushed.index,
            "committed entries are not truncated: {from} of group {}",
            self.group
        );
        self.tail.truncate(from);
        self.terms.truncate(from);
    }

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
        let here = self.tail.from(first).take_while(|entry| entry.entry.index <= last);
        let memory: Vec<Entry> = here.map(|entry| entry.entry.clone()).collect();
        let missing = memory.first().map_or(last, |held| held.index.prev());
        if missing < first {
            return Ok(Entries::Ready(memory));
        }
        let mut parts = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.end.index >= first) {
            if segment.start.index > missing {
                break;
            }
            let range = (segment.start.index.max(first), segment.end.index.min(missing));
            parts.push((self.reader(segment)?, range.0, range.1));
        }
        Ok(Entries::Load(LoadJob { parts, memory }))
    }

    /// The first offset that is still held.
    pub fn start_offset(&self) -> Offset {
        self.segments.first().map_or(Offset::ZERO, |first| first.start.offset)
    }

    /// The offset after the last appended record, committed or not.
    pub fn next_offset(&self) -> Offset {
        self.end().offset
    }

    /// The offset after the last record at or below `commit`. What is in segments is committed in any case.
    pub fn high_watermark(&self, commit: LogIndex) -> HighWatermark {
        let offset = if commit <= self.flushed.index {
            self.flushed.offset
        } else {
            self.tail.get(commit).map_or(self.next_offset(), |entry| entry.next)
        };
        HighWatermark(offset)
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
            if let Some(tail) = self.tail.from_offset(next) {
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

    /// The batch below `upto` with the largest timestamp (ListOffsets -3); the first of several. `upto` must not be below
    /// what is flushed, which is committed.
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
            .take_while(|(meta, _)| meta.last_offset < upto.0);
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
            (Some(segment), _) if latest != NO_TIMESTAMP => {
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

    /// Bytes in memory that are not in segments yet.
    pub fn unflushed_bytes(&self) -> u64 {
        self.tail.unflushed_bytes()
    }

    /// All entries that are not in segments yet, for [`crate::journal::JournalBatch::rewrite`].
    pub fn unflushed(&self) -> Vec<Entry> {
        self.tail
            .from(self.flushed.index.next())
            .map(|entry| entry.entry.clone())
            .collect()
    }

    /// Committed entries that are not in segments yet, to be written; none while a job is out or nothing is there.
    pub fn flush(&mut self, committed: LogIndex) -> Option<FlushJob> {
        let upto = committed.min(self.last_index());
        if self.flushing || upto <= self.flushed.index {
            return None;
        }
        self.flushing = true;
        let entries = self.tail.from(self.flushed.index.next());
        Some(FlushJob {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            group: self.group,
            options: self.options.clone(),
            active: self.segments.last().copied(),
            end: self.flushed,
            entries: entries.take_while(|entry| entry.entry.index <= upto).cloned().collect(),
            sweep: self.sweep,
        })
    }

    /// The outcome of this log's [`FlushJob`].
    pub fn flushed(&mut self, flushed: Flushed) {
        debug_assert_eq!(flushed.group, self.group);
        for segment in flushed.segments {
            match self.segments.last_mut() {
                Some(last) if last.start == segment.start => *last = segment,
                _ => self.segments.push(segment),
            }
        }
        let before = self.flushed.index;
        self.flushed = self.segments.last().map_or(self.flushed, |last| last.end);
        self.flushing = false;
        self.sweep = false;
        self.tail.flushed(before.next(), self.flushed.index);
        self.evict();
    }

    /// A [`FlushJob`] failed (or was dropped): its entries are still unflushed, and a later one tries again.
    pub fn flush_failed(&mut self) {
        self.flushing = false;
        self.sweep = true;
    }

    /// Deletes whole segments that retention allows, none that holds an entry above `floor`; returns how many. Entries
    /// that are not in segments are never deleted. If all that is flushed is too old, the last segment goes as well, and
    /// an empty one takes its place.
    ///
    /// # Errors
    /// [`LogError::Io`]; what was not deleted is found again at the next start.
    pub fn retain(&mut self, now_ms: i64, retention: &Retention, floor: LogIndex) -> Result<usize, LogError> {
        let mut deleted = 0;
        while let Some(oldest) = self.segments.first().copied() {
            if oldest.is_empty() || oldest.end.index > floor || !self.must_go(&oldest, now_ms, retention) {
                break;
            }
            if self.segments.len() == 1 {
                if self.flushing || !is_expired(&oldest, now_ms, retention) {
                    break;
                }
                let start = Start::after(self.group, &oldest.end);
                let created = flush::create(&*self.fs, &self.dir, start);
                // Half of it may be there, and what is flushed next goes to the old one.
                self.sweep |= created.is_err();
                self.segments.push(created?);
            }
            self.segments.remove(0);
            self.terms.trim(oldest.end.index);
            self.evict();
            segment::remove(&*self.fs, &self.dir, &segment::Name::of(&oldest.start), self.group)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Bytes of record batches in segments and in the unflushed tail.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + self.unflushed_bytes()
    }

    /// From now on these limits hold; segments that are there stay as they are.
    pub fn reconfigure(&mut self, options: LogOptions) {
        self.options = options;
        self.evict();
    }

    fn evict(&mut self) {
        self.tail
            .evict(self.first_index(), self.flushed.index, self.options.tail_bytes);
    }

    fn must_go(&self, oldest: &Segment, now_ms: i64, retention: &Retention) -> bool {
        let excess = retention
            .bytes
            .is_some_and(|bytes| self.size_bytes().saturating_sub(bytes) >= oldest.bytes);
        (excess && self.segments.len() > 1) || is_expired(oldest, now_ms, retention)
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
        self.tail.from(self.flushed.index.next()).filter_map(|held| {
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
        self.segments.first().map_or(LogIndex(1), |first| first.start.index)
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
        let average = self.average_bytes();
        let fitting = max_bytes.checked_div(average).unwrap_or(u64::MAX).min(on_disk);
        let mut bytes = fitting * average;
        if fitting < on_disk {
            let count = fitting.max(1);
            return (LogIndex(first.0 + count - 1), count * average);
        }
        let mut end = LogIndex(first.0 + on_disk).prev();
        for entry in self.tail.from(in_memory).take_while(|entry| entry.entry.index <= last) {
            let more = bytes + entry.entry.payload.len() as u64;
            if more > max_bytes && end >= first {
                break;
            }
            (bytes, end) = (more, entry.entry.index);
        }
        (end.max(first), bytes)
    }
}

/// Segments and journal together must hold everything.
fn check_joint(
    dir: &Path,
    last: Option<&Segment>,
    flushed: &LogEnd,
    recovered: &RecoveredGroup,
) -> Result<(), LogError> {
    let first = recovered.entries.first().map(|entry| entry.index);
    let joined = first.is_some_and(|first| first <= flushed.index.next());
    if joined || (first.is_none() && flushed.index >= recovered.flushed) {
        return Ok(());
    }
    if flushed.index < recovered.flushed {
        let (path, position) = match last {
            Some(last) => (last.index_path(dir), last.index_bytes()),
            None => (dir.to_owned(), 0),
        };
        return Err(corrupt(
            &path,
            position,
            "the log ends before what was once durable in it",
        ));
    }
    Err(LogError::Gap {
        expected: flushed.index.next(),
        found: first.unwrap_or_default(),
    })
}

fn is_expired(segment: &Segment, now_ms: i64, retention: &Retention) -> bool {
    retention.ms.is_some_and(|ms| {
        // A segment without a record holds nothing that could be missed.
        let age = now_ms.saturating_sub(segment.latest_timestamp);
        segment.latest_timestamp == NO_TIMESTAMP || u64::try_from(age).is_ok_and(|age| age > ms)
    })
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

/// The largest timestamp in an entry that was checked when it was appended.
fn max_timestamp_of(entry: &Entry) -> i64 {
    match &entry.payload {
        Payload::Data(batch) => BatchHeader::parse(batch).map_or(NO_TIMESTAMP, |header| header.max_timestamp),
        Payload::Blank => NO_TIMESTAMP,
    }
}
