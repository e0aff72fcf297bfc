//! A replica's log: committed entries in segments of record batches, the tail in memory (and in the journal).
//!
//! # Where an entry lives
//! An appended entry is in memory, and in the journal. Once it is committed, a [`FlushJob`] writes it into a segment;
//! only then may the journal release it. So a segment never has to take anything back, and its end is committed. Some
//! flushed entries stay in memory, because they are what followers and consumers ask for next.
//!
//! # Look-up
//! By index: the index file has a record of fixed size for each entry. By offset and by timestamp: bisection, among the
//! segments in memory, within one on disk (in the page cache, that is). Nothing is kept in memory for an entry that is
//! only in a segment, and no file is kept open: a replica that is idle costs a few hundred bytes.
//!
//! # What is believed of a disk
//! Nothing that a checksum does not confirm; what it does not confirm is read again before it counts as damage. Index
//! records bear one, batches bear their own, and what a batch's checksum does not cover (base offset, leader epoch,
//! length) is known from elsewhere and compared on every read.
//!
//! # Driving it
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use trimaran_raft::{Entry, GroupId, LogIndex, Payload, Term};
//! use trimaran_storage::fs::faulty::FaultyFs;
//! use trimaran_storage::journal::{Journal, JournalBatch, JournalOptions};
//! use trimaran_storage::log::{LogOptions, ReplicaLog};
//! use trimaran_wire::batch::{self, LeaderEpoch, Offset};
//!
//! let (fs, group) = (Arc::new(FaultyFs::new(1)), GroupId(7));
//! let options = JournalOptions { file_bytes: 1 << 20, max_files: 4 };
//! let (mut journal, mut found) = Journal::open(fs.clone(), Path::new("/journal"), options)?;
//! let recovered = found.remove(&group).unwrap_or_default();
//! let options = LogOptions { segment_bytes: 1 << 30, segment_ms: u64::MAX, tail_bytes: 1 << 20 };
//! let mut log = ReplicaLog::open(fs, Path::new("/logs/7"), group, options, recovered)?;
//! journal.release(group, log.flushed_index())?;
//!
//! // The core wants an entry to be persisted: into the log at once, and into the journal with what others want.
//! let mut records = batch::build(0, &[(None, Some(b"hello"))]);
//! batch::stamp(&mut records, log.next_offset(), LeaderEpoch(1));
//! let entries = [Entry { index: LogIndex(1), term: Term(1), payload: Payload::Data(records.freeze()) }];
//! log.append(&entries)?;
//! let mut batch = JournalBatch::default();
//! batch.entries(group, &entries);
//! journal.write(&batch)?;
//!
//! // It is committed: consumers may read it, and it may go to a segment, and then it is released from the journal.
//! let upto = log.high_watermark(LogIndex(1));
//! assert_eq!(log.read(Offset(0), upto, 1 << 20)?.len(), 1);
//! let flushed = log.flush(LogIndex(1)).expect("one entry").run()?;
//! journal.release(group, flushed.upto)?;
//! log.flushed(flushed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod configurations;
mod error;
mod flush;
mod index;
mod lookup;
mod producer_snapshot;
mod quarantine;
mod read;
mod recovery;
mod retention;
mod segment;
mod tail;

#[cfg(test)]
mod tests;

pub use self::error::LogError;
pub use self::flush::{FlushJob, Flushed};
pub use self::quarantine::delete as delete_quarantine;
pub use self::read::{Chunk, Entries, FileSlice, LoadJob};
pub use self::retention::Retention;
pub use crate::offsets::HighWatermark;

use self::configurations::Configurations;
use self::error::{corrupt, io_error};
use self::index::NO_TIMESTAMP;
use self::recovery::Known;
use self::segment::Segment;
use self::tail::{Tail, TailEntry};
use crate::fs::Fs;
use crate::journal::RecoveredGroup;
use crate::offsets::{LogEnd, TermStarts};
use crate::snapshot::LogStart;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Configuration, Entry, GroupId, LogIndex, LogView, Payload, Term};
use trimaran_wire::batch::{BatchHeader, Offset};

/// Sizes and limits of one log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of record batches in a segment before the next one is begun. One batch may exceed it alone; beyond 4 GiB a
    /// new one is begun in any case.
    pub segment_bytes: u64,
    /// How much later than a segment's first batch (by their timestamps, in milliseconds) a batch may be before it
    /// begins the next segment. Lets time-based retention do its work where little is written.
    pub segment_ms: u64,
    /// Flushed entries kept in memory for reads of the tail, at most, their overhead included.
    pub tail_bytes: u64,
}

/// A stored batch, as far as it is known without reading it.
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

/// One replica's log; owned by the shard that drives its group.
pub struct ReplicaLog {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    group: GroupId,
    options: LogOptions,
    /// Contiguous; the last one is written to, and may be empty.
    segments: Vec<Segment>,
    /// Where the log begins while there is no segment.
    base: LogEnd,
    configurations: Box<Configurations>,
    /// The position of a reset that the folder does not reflect yet.
    reset: Option<Box<LogStart>>,
    /// Files of a damaged log are in the folder.
    has_quarantine: bool,
    /// How often the log was reset since it was opened: tells a [`FlushJob`] of before from one of after.
    resets: u64,
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
    /// does not hold either; or if the segments hold entries of which the journal knows nothing, so that it is not the
    /// journal that belongs to them.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        group: GroupId,
        options: LogOptions,
        recovered: RecoveredGroup,
    ) -> Result<ReplicaLog, LogError> {
        let first = recovered.entries.first().map(|entry| entry.index);
        let start = recovered.start.as_deref().map(LogStart::from_snapshot).transpose();
        let start = start.map_err(|bad| corrupt(dir, 0, bad.0))?;
        let begin = start.as_ref().map_or(LogEnd::default(), |start| start.end);
        let recovered = RecoveredGroup {
            flushed: recovered.flushed.max(begin.index),
            ..recovered
        };
        let last = recovered.entries.last().map_or(LogIndex::ZERO, |entry| entry.index);
        let known = Known {
            group,
            flushed: recovered.flushed,
            journaled: recovered.flushed.max(last),
            configured: recovered.configured,
            start: start.as_ref(),
            rest_in_journal: first.is_some_and(|first| first <= recovered.flushed.next()),
        };
        let found = recovery::recover(&*fs, dir, &known)?;
        let has_quarantine = !quarantine::files(&*fs, dir)?.is_empty();
        let flushed = found.segments.last().map_or(LogEnd::default(), |last| last.end);
        check_joint(dir, found.segments.last(), &flushed, &recovered)?;
        let mut log = ReplicaLog {
            fs,
            dir: dir.to_owned(),
            group,
            options,
            segments: found.segments,
            base: LogEnd::default(),
            configurations: Box::new(found.configurations),
            reset: None,
            has_quarantine,
            resets: 0,
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

    /// Opens an empty log where a damaged one is, or none: that one's files are quarantined, under names that end in
    /// `.damaged`, until [`ReplicaLog::delete_quarantine`]. No [`FlushJob`] of the damaged log may be under way. To be
    /// journaled as a reset to the very beginning ([`crate::journal::JournalBatch::reset`]); until it is, the journal
    /// goes on taking the log for a damaged one. May block. Tries whether the folder can be written: a replica is not
    /// filled where nothing that it is given can stay.
    ///
    /// # Errors
    /// [`LogError::Io`]: some files may have been quarantined; what is left is still recognised as a damaged log.
    pub fn open_lost(fs: Arc<dyn Fs>, dir: &Path, group: GroupId, options: LogOptions) -> Result<ReplicaLog, LogError> {
        quarantine::quarantine(&*fs, dir, group)?;
        quarantine::check_writable(&*fs, dir)?;
        ReplicaLog::open(fs, dir, group, options, RecoveredGroup::default())
    }

    /// Whether files of a damaged log are kept beside this one.
    pub fn has_quarantine(&self) -> bool {
        self.has_quarantine
    }

    /// Deletes the quarantined files, once the log holds again what the damaged one should have held.
    ///
    /// # Errors
    /// [`LogError::Io`]; what was not deleted is found again at the next start.
    pub fn delete_quarantine(&mut self) -> Result<(), LogError> {
        self.has_quarantine = false;
        quarantine::delete(&*self.fs, &self.dir)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
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
                    self.configurations.push(entry);
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
        self.configurations.truncate(from);
    }

    /// Replaces the log by an empty one that begins behind a position that a leader named: the entries up to there are
    /// deleted at the leader, and nothing of what this log held is left. In memory at once; the caller journals it
    /// ([`crate::journal::JournalBatch::reset`]), and when that is durable, the next [`ReplicaLog::flush`] gives out a
    /// job that does the same to the folder. If a crash comes between, [`ReplicaLog::open`] does it.
    ///
    /// # Panics
    /// If the position lies before entries that are in segments: committed entries were to be deleted without need, and
    /// a stopped replica is safer than a wrong one.
    pub fn reset(&mut self, start: LogStart) {
        let LogEnd { index, term, offset } = start.end;
        assert!(
            index >= self.flushed.index,
            "a reset to {index} of group {} deletes committed entries",
            self.group
        );
        self.segments.clear();
        self.tail = Tail::default();
        self.terms = TermStarts::default();
        self.terms.push(term, index, offset);
        *self.configurations = Configurations::at(&start);
        (self.base, self.flushed) = (start.end, start.end);
        self.reset = Some(Box::new(start));
        self.resets += 1;
    }

    /// The place before the first entry, on both scales.
    pub fn start(&self) -> LogEnd {
        self.segments.first().map_or(self.base, |first| first.start.end())
    }

    /// The configurations that the log holds, ascending: the latest one at or before its start, and all later ones.
    /// None if none was ever entered: then the group's first one is in force.
    pub fn configurations(&self) -> &[(LogIndex, Configuration)] {
        &self.configurations.list
    }

    /// The first offset that is still held.
    pub fn start_offset(&self) -> Offset {
        self.start().offset
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

    /// Bytes in memory that are not in segments yet.
    pub fn unflushed_bytes(&self) -> u64 {
        self.tail.unflushed_bytes()
    }

    /// The tail's bytes in memory, overhead included: of entries that are not in segments yet, and of those that are.
    pub fn tail_bytes(&self) -> (u64, u64) {
        self.tail.weights()
    }

    /// Drops from memory what is in segments as well.
    pub fn shed_tail(&mut self) {
        self.tail.evict(self.first_index(), self.flushed.index, 0);
    }

    /// All entries that are not in segments yet, for [`crate::journal::JournalBatch::rewrite`].
    pub fn unflushed(&self) -> Vec<Entry> {
        self.tail
            .since(self.flushed.index.next())
            .map(|entry| entry.entry.clone())
            .collect()
    }

    /// Whether the entry, and all after it, need not be read from a segment.
    pub fn is_in_memory(&self, index: LogIndex) -> bool {
        self.tail.first_index().is_some_and(|first| first <= index)
    }

    /// Whether the log was reset and its folder does not reflect that yet: a [`FlushJob`] is worth its while.
    pub fn is_resetting(&self) -> bool {
        self.reset.is_some()
    }

    /// Committed entries that are not in segments yet, to be written; none while a job is out or nothing is there.
    /// After a [`ReplicaLog::reset`], `committed` must not reach its position before the journal has it.
    pub fn flush(&mut self, committed: LogIndex) -> Option<FlushJob> {
        let upto = committed.min(self.last_index());
        let is_reset = self.reset.is_some() && upto >= self.flushed.index;
        if self.flushing || (upto <= self.flushed.index && !is_reset) {
            return None;
        }
        self.flushing = true;
        let entries = self.tail.since(self.flushed.index.next());
        Some(FlushJob {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            group: self.group,
            options: self.options.clone(),
            active: self.segments.last().copied(),
            end: self.flushed,
            entries: entries.take_while(|entry| entry.entry.index <= upto).cloned().collect(),
            sweep: self.sweep,
            reset: self.reset.clone(),
            resets: self.resets,
            configurations_bytes: self.configurations.file_bytes,
        })
    }

    /// The outcome of this log's [`FlushJob`].
    pub fn flushed(&mut self, flushed: Flushed) {
        debug_assert_eq!(flushed.group, self.group);
        self.flushing = false;
        if flushed.resets != self.resets {
            // It was out when the log was reset. What it wrote is removed with the rest.
            return;
        }
        self.reset = None;
        self.configurations.file_bytes = flushed.configurations_bytes;
        for segment in flushed.segments {
            match self.segments.last_mut() {
                Some(last) if last.start == segment.start => *last = segment,
                _ => self.segments.push(segment),
            }
        }
        let before = self.flushed.index;
        self.flushed = self.segments.last().map_or(self.flushed, |last| last.end);
        self.sweep = false;
        self.tail.flushed(before.next(), self.flushed.index);
        self.evict();
    }

    /// A [`FlushJob`] failed (or was dropped): its entries are still unflushed, and a later one tries again.
    pub fn flush_failed(&mut self) {
        self.flushing = false;
        self.sweep = true;
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

/// The largest timestamp in an entry that was checked when it was appended.
fn max_timestamp_of(entry: &Entry) -> i64 {
    match &entry.payload {
        Payload::Data(batch) => BatchHeader::parse(batch).map_or(NO_TIMESTAMP, |header| header.max_timestamp),
        Payload::Blank | Payload::Configuration(_) => NO_TIMESTAMP,
    }
}
