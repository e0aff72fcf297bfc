//! A segment: two files, `BASEOFFSET.FIRSTINDEX.log` with record batches back to back, and `.index` beside it.
//!
//! The name begins with the base offset, in twenty digits, because Kafka's tools expect it to; the index makes it
//! unique, since a segment may hold entries and no record.

use super::index::{self, NO_TIMESTAMP, RECORD_LEN, Record, Start};
use super::{LogError, LogOptions, corrupt, io_error};
use crate::fs::{File, Fs, Mode, Wrong, read_exact_at, read_until_sound};
use crate::offsets::{LogEnd, leader_epoch};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{GroupId, LogIndex, Term};
use trimaran_wire::batch::{BatchHeader, Offset, verify_crc};

/// Records that are read at once where many are.
const RECORDS_AT_ONCE: u64 = 1024;

/// No log counts this far: what is beyond is no segment's name, and what is below leaves room to count on.
const MAX_NUMBER: u64 = 1 << 62;

/// A segment, as far as it is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: Start,
    /// The last entry's; the start's if it is empty.
    pub(super) end: LogEnd,
    /// Bytes of record batches.
    pub(super) bytes: u64,
    /// The largest timestamp of its first batch, from which its age is counted.
    pub(super) first_timestamp: i64,
    /// The largest timestamp in it.
    pub(super) latest_timestamp: i64,
}

impl Segment {
    pub(super) fn empty(start: Start) -> Segment {
        Segment {
            start,
            end: start.end(),
            bytes: 0,
            first_timestamp: NO_TIMESTAMP,
            latest_timestamp: NO_TIMESTAMP,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end.index < self.start.index
    }

    /// Entries in it.
    pub(super) fn entries(&self) -> u64 {
        self.end.index.next().0 - self.start.index.0
    }

    /// Bytes of the index file.
    pub(super) fn index_bytes(&self) -> u64 {
        (1 + self.entries()) * RECORD_LEN as u64
    }

    /// Another entry is in it.
    pub(super) fn push(&mut self, record: &Record) {
        self.end = record.end();
        self.bytes = record.position_end();
        self.latest_timestamp = record.latest_timestamp;
        if record.is_batch() && self.first_timestamp == NO_TIMESTAMP {
            self.first_timestamp = record.max_timestamp;
        }
    }

    /// Whether an entry of this length and timestamp belongs into the next one.
    pub(super) fn is_full(&self, options: &LogOptions, length: u64, timestamp: i64) -> bool {
        if self.is_empty() {
            return false;
        }
        let timed = self.first_timestamp >= 0 && timestamp >= 0;
        let age = timestamp.saturating_sub(self.first_timestamp);
        let aged = timed && u64::try_from(age).is_ok_and(|age| age > options.segment_ms);
        aged || self.bytes + length > options.segment_bytes
            || self.index_bytes() > options.segment_bytes.max(RECORDS_AT_ONCE * RECORD_LEN as u64)
            || !index::fits(&self.start, &self.end, self.bytes + length)
    }

    pub(super) fn log_path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.log", Name::of(&self.start).stem()))
    }

    pub(super) fn index_path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.index", Name::of(&self.start).stem()))
    }
}

/// The numbers in a segment's file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) index: LogIndex,
    pub(super) offset: Offset,
}

impl Name {
    pub(super) fn of(start: &Start) -> Name {
        Name {
            index: start.index,
            offset: start.offset,
        }
    }

    pub(super) fn stem(&self) -> String {
        format!("{:020}.{}", self.offset.0, self.index.0)
    }

    /// None for files that are no segment's.
    pub(super) fn parse(path: &Path) -> Option<(Name, Kind)> {
        let (rest, kind) = match path.extension()?.to_str()? {
            "log" => (path.file_stem()?, Kind::Log),
            "index" => (path.file_stem()?, Kind::Index),
            _ => return None,
        };
        let (offset, index) = rest.to_str()?.split_once('.')?;
        let name = Name {
            index: LogIndex(index.parse().ok()?),
            offset: Offset(offset.parse().ok()?),
        };
        let possible = (1..=MAX_NUMBER).contains(&name.index.0) && (0..=MAX_NUMBER as i64).contains(&name.offset.0);
        (possible && rest.to_str()? == name.stem()).then_some((name, kind))
    }
}

/// Which of a segment's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Log,
    Index,
}

/// A segment that is open for reading. Nothing in its files is believed.
pub(super) struct SegmentReader {
    pub(super) segment: Segment,
    index: Arc<dyn File>,
    index_path: PathBuf,
    log: Arc<dyn File>,
    log_path: PathBuf,
}

impl SegmentReader {
    pub(super) fn open(fs: &dyn Fs, dir: &Path, segment: &Segment) -> Result<SegmentReader, LogError> {
        let (log_path, index_path) = (segment.log_path(dir), segment.index_path(dir));
        Ok(SegmentReader {
            segment: *segment,
            index: fs.open(&index_path, Mode::Read).map_err(io_error(&index_path))?,
            log: fs.open(&log_path, Mode::Read).map_err(io_error(&log_path))?,
            index_path,
            log_path,
        })
    }

    pub(super) fn log(&self) -> (Arc<dyn File>, PathBuf) {
        (self.log.clone(), self.log_path.clone())
    }

    /// Bytes of the index file and of the log file as they are.
    pub(super) fn lengths(&self) -> Result<(u64, u64), LogError> {
        let index = self.index.len().map_err(io_error(&self.index_path))?;
        Ok((index, self.log.len().map_err(io_error(&self.log_path))?))
    }

    pub(super) fn corrupt_index(&self, at: LogIndex, what: &'static str) -> LogError {
        corrupt(&self.index_path, self.record_position(at), what)
    }

    fn record_position(&self, index: LogIndex) -> u64 {
        (index.0 - self.segment.start.index.prev().0) * RECORD_LEN as u64
    }

    /// Whether the segment's own record was written, whatever it says.
    pub(super) fn is_begun(&self) -> Result<bool, LogError> {
        let begun = self.checked(0, |bytes: &[u8; RECORD_LEN]| match Start::is_whole(bytes) {
            true => Ok(()),
            false => Err("a record's checksum is wrong"),
        });
        match begun {
            Ok(()) => Ok(true),
            Err(LogError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The segment's own record, which must be the expected one.
    pub(super) fn check_start(&self) -> Result<Start, LogError> {
        let start = self.checked(0, Start::decode)?;
        let expected = &self.segment.start;
        if (start.group, Name::of(&start)) != (expected.group, Name::of(expected)) {
            return Err(corrupt(&self.index_path, 0, "it belongs to another log"));
        }
        Ok(start)
    }

    /// The entry's record; it must be within the segment.
    pub(super) fn record(&self, index: LogIndex) -> Result<Record, LogError> {
        let start = &self.segment.start;
        self.checked(self.record_position(index), |bytes| Record::decode(bytes, start, index))
    }

    /// The records of `first..=last`, in order.
    pub(super) fn records(&self, first: LogIndex, last: LogIndex) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        let mut next = first;
        while next <= last {
            let count = (last.next().0 - next.0).min(RECORDS_AT_ONCE);
            records.extend(self.some_records(next, count)?);
            next = LogIndex(next.0 + count);
        }
        Ok(records)
    }

    /// One pread.
    fn some_records(&self, first: LogIndex, count: u64) -> Result<Vec<Record>, LogError> {
        let length = count as usize * RECORD_LEN;
        let read = || {
            let mut bytes = vec![0; length];
            self.read_index(&mut bytes, self.record_position(first))?;
            Ok(bytes)
        };
        let decode = |(chunk, index): (&[u8; RECORD_LEN], u64)| {
            let position = self.record_position(LogIndex(index));
            let wrong = |what| Wrong { position, what };
            Record::decode(chunk, &self.segment.start, LogIndex(index)).map_err(wrong)
        };
        let check = |bytes: Vec<u8>| bytes.as_chunks().0.iter().zip(first.0..).map(decode).collect();
        sound(&*self.index, &self.index_path, length, read, check)
    }

    /// The first entry in `first..=last` for which `before` is false; the one after `last` if it is true for all. Those
    /// for which it is true must come first.
    pub(super) fn partition_point(
        &self,
        first: LogIndex,
        last: LogIndex,
        before: impl Fn(&Record) -> bool,
    ) -> Result<LogIndex, LogError> {
        let (mut low, mut high) = (first.0, last.next().0);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&self.record(LogIndex(middle))?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(LogIndex(low))
    }

    fn read_index(&self, bytes: &mut [u8], position: u64) -> Result<(), LogError> {
        read_or_cut(&*self.index, &self.index_path, bytes, position)
    }

    /// The index record at `position`, if it passes this check.
    fn checked<T>(
        &self,
        position: u64,
        check: impl Fn(&[u8; RECORD_LEN]) -> Result<T, &'static str>,
    ) -> Result<T, LogError> {
        let read = || {
            let mut bytes = [0; RECORD_LEN];
            self.read_index(&mut bytes, position)?;
            Ok(bytes)
        };
        let check = |bytes| check(&bytes).map_err(|what| Wrong { position, what });
        sound(&*self.index, &self.index_path, RECORD_LEN, read, check)
    }

    /// Reads the batch that a record describes, and checks that it is the one.
    pub(super) fn check_batch(&self, record: &Record) -> Result<(), LogError> {
        if !record.is_batch() {
            return Ok(());
        }
        let check = |bytes: Vec<u8>| check_described(&bytes, record);
        self.read_log(u64::from(record.position), record.length as usize, check)
    }

    /// What `check` makes of bytes of the log file; what the file is too short for is not allocated.
    pub(super) fn read_log<T>(
        &self,
        position: u64,
        length: usize,
        check: impl Fn(Vec<u8>) -> Result<T, Wrong>,
    ) -> Result<T, LogError> {
        let read = || read_bounded(&*self.log, &self.log_path, position, length);
        sound(&*self.log, &self.log_path, length, read, check)
    }
}

/// Reads until what was read passes its check: only what fails it each time is damage. A file that is too short is not
/// read again.
pub(super) fn sound<B, T>(
    file: &dyn File,
    path: &Path,
    length: usize,
    read: impl Fn() -> Result<B, LogError>,
    check: impl Fn(B) -> Result<T, Wrong>,
) -> Result<T, LogError> {
    let verdict = read_until_sound(file, length as u64, || Ok(check(read()?)))?;
    verdict.map_err(|Wrong { position, what }| corrupt(path, position, what))
}

/// Checks that a batch is the one that its record describes.
pub(super) fn check_described(batch: &[u8], record: &Record) -> Result<(), Wrong> {
    let position = u64::from(record.position);
    match check_batch(batch, record.base_offset, record.term) {
        Ok(next) if next == record.next_offset => Ok(()),
        Ok(_) => Err(NOT_EXPECTED),
        Err(what) => Err(what),
    }
    .map_err(|what| Wrong { position, what })
}

const NOT_EXPECTED: &str = "a batch is not the one expected";

/// Reads `length` bytes, of which the file must have that many before they are allocated.
pub(super) fn read_bounded(file: &dyn File, path: &Path, position: u64, length: usize) -> Result<Vec<u8>, LogError> {
    let available = file.len().map_err(io_error(path))?.saturating_sub(position);
    if available < length as u64 {
        return Err(corrupt(path, position, CUT_SHORT));
    }
    let mut bytes = vec![0; length];
    read_or_cut(file, path, &mut bytes, position)?;
    Ok(bytes)
}

const CUT_SHORT: &str = "the file ends before what it should hold";

fn read_or_cut(file: &dyn File, path: &Path, bytes: &mut [u8], position: u64) -> Result<(), LogError> {
    read_exact_at(file, bytes, position).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => corrupt(path, position, CUT_SHORT),
        _ => io_error(path)(error),
    })
}

/// Checks that exactly one undamaged batch is there, with this base offset and term, and returns the offset after it.
pub(super) fn check_batch(bytes: &[u8], base: Offset, term: Term) -> Result<Offset, &'static str> {
    let header = BatchHeader::parse_only(bytes).map_err(|_| "there is no record batch")?;
    if header.base_offset != base || header.leader_epoch != leader_epoch(term) {
        return Err(NOT_EXPECTED);
    }
    verify_crc(bytes).map_err(|_| "a batch's checksum is wrong")?;
    Ok(header.next_offset())
}

/// Both files of a segment, the batches first.
pub(super) fn paths(dir: &Path, name: &Name, group: GroupId) -> [PathBuf; 2] {
    let start = Start {
        group,
        index: name.index,
        offset: name.offset,
        previous_term: Term::ZERO,
    };
    let segment = Segment::empty(start);
    [segment.log_path(dir), segment.index_path(dir)]
}

/// Removes both files of a segment, the log first: an index without a log is a segment that is being deleted or made.
pub(super) fn remove(fs: &dyn Fs, dir: &Path, name: &Name, group: GroupId) -> Result<(), LogError> {
    for path in paths(dir, name, group) {
        match fs.remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.map_err(io_error(&path))?,
        }
    }
    Ok(())
}
