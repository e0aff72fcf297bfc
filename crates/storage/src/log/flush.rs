//! Writing committed entries into segments.

use super::index::{RECORD_LEN, Record, Start};
use super::segment::{self, Name, Segment};
use super::tail::TailEntry;
use super::{LogError, LogOptions, configurations, io_error, producer_snapshot};
use crate::fs::{File, Fs, Mode};
use crate::offsets::LogEnd;
use crate::snapshot::LogStart;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{GroupId, LogIndex, Payload};

/// Writes committed entries into segments; runs on any thread that may block. At most one a log is out at a time, and
/// its outcome goes back by [`super::ReplicaLog::flushed`] or [`super::ReplicaLog::flush_failed`].
pub struct FlushJob {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    pub(super) group: GroupId,
    pub(super) options: LogOptions,
    /// The last segment, if there is any.
    pub(super) active: Option<Segment>,
    /// Where the segments end.
    pub(super) end: LogEnd,
    /// The entries that follow there; all committed.
    pub(super) entries: Vec<TailEntry>,
    /// An earlier job failed and may have left something behind the end.
    pub(super) sweep: bool,
    /// The log was reset to this position, and its folder does not reflect that.
    pub(super) reset: Option<Box<LogStart>>,
    /// How often the log had been reset.
    pub(super) resets: u64,
    /// Bytes of the file of configurations.
    pub(super) configurations_bytes: u64,
}

/// The result of a [`FlushJob`]: goes back to its log by [`super::ReplicaLog::flushed`], and `upto` to
/// [`crate::journal::Journal::release`].
#[derive(Debug)]
pub struct Flushed {
    /// Whose entries they are.
    pub group: GroupId,
    /// The last one.
    pub upto: LogIndex,
    /// The last segment of before, and new ones.
    pub(super) segments: Vec<Segment>,
    /// How often the log had been reset.
    pub(super) resets: u64,
    /// Bytes of the file of configurations.
    pub(super) configurations_bytes: u64,
}

impl FlushJob {
    /// Whose entries are written.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Bytes of record batches to be written.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.entry.payload.len() as u64).sum()
    }

    /// Writes and syncs. Each segment is durable, batches before index, before the next one is begun: after a crash
    /// only the last one can be torn.
    ///
    /// # Errors
    /// [`LogError::Io`]: nothing is known to be written. A later job writes it all again.
    pub fn run(self) -> Result<Flushed, LogError> {
        if self.sweep {
            self.sweep()?;
        }
        if self.reset.is_some() {
            self.remove_what_was()?;
        }
        let configurations_bytes = self.write_configurations()?;
        self.write_producers()?;
        let mut segments = Vec::new();
        let mut writer = match &self.active {
            Some(segment) => SegmentWriter::open(&self.dir, *segment),
            None => self.begin(&self.end),
        };
        let mut before = self.end;
        for entry in &self.entries {
            if writer.is_full(&self.options, entry) {
                segments.push(writer.finish(&*self.fs, &self.dir)?);
                writer = self.begin(&before);
            }
            writer.push(before, entry);
            before = entry.end();
        }
        let upto = self.entries.last().map_or(self.end.index, |last| last.entry.index);
        segments.push(writer.finish(&*self.fs, &self.dir)?);
        Ok(Flushed {
            group: self.group,
            upto,
            segments,
            resets: self.resets,
            configurations_bytes,
        })
    }

    /// They go first: an entry in a segment is a promise that its configuration is there.
    fn write_configurations(&self) -> Result<u64, LogError> {
        let mut at = self.configurations_bytes;
        if let Some(start) = &self.reset {
            at = configurations::begin(&*self.fs, &self.dir, self.group, start)?.file_bytes;
        }
        let list = self.entries.iter().filter_map(|entry| match &entry.entry.payload {
            Payload::Configuration(configuration) => Some((entry.entry.index, &**configuration)),
            Payload::Blank | Payload::Data(_) => None,
        });
        configurations::append(&*self.fs, &self.dir, self.group, at, list)
    }

    /// The batches of producers before the position. The segment that begins there goes last: the journal need not say
    /// it then.
    fn write_producers(&self) -> Result<(), LogError> {
        match &self.reset {
            Some(start) => producer_snapshot::begin(&*self.fs, &self.dir, self.group, start),
            None => Ok(()),
        }
    }

    /// Removes all segments: they are from before the reset. A crash in between leaves it to be done again, since the
    /// journal holds on to the reset.
    fn remove_what_was(&self) -> Result<(), LogError> {
        for (name, _) in self.list()?.iter().filter_map(|path| Name::parse(path)) {
            segment::remove(&*self.fs, &self.dir, &name, self.group)?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<PathBuf>, LogError> {
        match self.fs.list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            paths => paths.map_err(io_error(&self.dir)),
        }
    }

    /// A segment whose files are made only when it is finished.
    fn begin(&self, end: &LogEnd) -> SegmentWriter {
        SegmentWriter::new(&self.dir, Segment::empty(Start::after(self.group, end)))
    }

    /// Removes what a failed job left: segments behind the end, and bytes behind the end of the last one.
    fn sweep(&self) -> Result<(), LogError> {
        let known = self.active.map(|segment| Name::of(&segment.start));
        for (name, _) in self.list()?.iter().filter_map(|path| Name::parse(path)) {
            if name.index > self.end.index && known != Some(name) {
                segment::remove(&*self.fs, &self.dir, &name, self.group)?;
            }
        }
        match &self.active {
            Some(segment) => cut(&*self.fs, &self.dir, segment),
            None => Ok(()),
        }
    }
}

/// Cuts both files of a segment to what they are known to hold. The index goes first: it must never describe what is
/// not there.
pub(super) fn cut(fs: &dyn Fs, dir: &Path, segment: &Segment) -> Result<(), LogError> {
    let lengths = [
        (segment.index_path(dir), segment.index_bytes()),
        (segment.log_path(dir), segment.bytes),
    ];
    for (path, length) in lengths {
        let file = fs.open(&path, Mode::Write).map_err(io_error(&path))?;
        if file.len().map_err(io_error(&path))? != length {
            file.set_len(length).map_err(io_error(&path))?;
            file.sync_data().map_err(io_error(&path))?;
        }
    }
    Ok(())
}

/// Makes an empty segment, durably.
pub(super) fn create(fs: &dyn Fs, dir: &Path, start: Start) -> Result<Segment, LogError> {
    SegmentWriter::new(dir, Segment::empty(start)).finish(fs, dir)
}

/// Gathers what goes to a segment, so that each of its files gets one write and one sync.
struct SegmentWriter {
    segment: Segment,
    /// Its files are still to be made.
    is_new: bool,
    log_path: PathBuf,
    index_path: PathBuf,
    log_position: u64,
    batches: Vec<Bytes>,
    index_position: u64,
    records: Vec<u8>,
}

impl SegmentWriter {
    fn new(dir: &Path, segment: Segment) -> SegmentWriter {
        SegmentWriter {
            log_path: segment.log_path(dir),
            index_path: segment.index_path(dir),
            log_position: 0,
            batches: Vec::new(),
            index_position: 0,
            records: segment.start.encode().to_vec(),
            is_new: true,
            segment,
        }
    }

    /// Goes on behind what a segment holds.
    fn open(dir: &Path, segment: Segment) -> SegmentWriter {
        SegmentWriter {
            log_position: segment.bytes,
            index_position: segment.index_bytes(),
            records: Vec::new(),
            is_new: false,
            ..SegmentWriter::new(dir, segment)
        }
    }

    fn is_full(&self, options: &LogOptions, entry: &TailEntry) -> bool {
        let length = entry.entry.payload.len() as u64;
        self.segment
            .is_full(options, length, super::max_timestamp_of(&entry.entry))
    }

    fn push(&mut self, before: LogEnd, entry: &TailEntry) {
        // A segment is full before its positions no longer fit.
        let position = self.segment.bytes as u32;
        let record = Record::of(
            &entry.entry,
            &before,
            &entry.end(),
            position,
            self.segment.latest_timestamp,
        );
        self.records.extend_from_slice(&record.encode(&self.segment.start));
        if let Payload::Data(batch) = &entry.entry.payload {
            self.batches.push(batch.clone());
        }
        self.segment.push(&record);
    }

    /// Writes and syncs both files, batches first: a record in the index is a promise that its batch is there.
    fn finish(self, fs: &dyn Fs, dir: &Path) -> Result<Segment, LogError> {
        if self.is_new {
            fs.create_dir_all(dir).map_err(io_error(dir))?;
        }
        // The index is made first: a log without an index is never left behind by a crash.
        let index = self.open_file(fs, &self.index_path)?;
        let log = self.open_file(fs, &self.log_path)?;
        if !self.batches.is_empty() {
            let slices: Vec<IoSlice<'_>> = self.batches.iter().map(|batch| IoSlice::new(batch)).collect();
            log.write_all_at(&slices, self.log_position)
                .map_err(io_error(&self.log_path))?;
        }
        if self.is_new || !self.batches.is_empty() {
            log.sync_data().map_err(io_error(&self.log_path))?;
        }
        debug_assert_eq!(self.records.len() % RECORD_LEN, 0);
        index
            .write_all_at(&[IoSlice::new(&self.records)], self.index_position)
            .map_err(io_error(&self.index_path))?;
        index.sync_data().map_err(io_error(&self.index_path))?;
        if self.is_new {
            fs.sync_dir(dir).map_err(io_error(dir))?;
        }
        Ok(self.segment)
    }

    fn open_file(&self, fs: &dyn Fs, path: &Path) -> Result<Arc<dyn File>, LogError> {
        let mode = if self.is_new { Mode::Create } else { Mode::Write };
        let file = fs.open(path, mode).map_err(io_error(path))?;
        if self.is_new && !file.is_empty().map_err(io_error(path))? {
            file.set_len(0).map_err(io_error(path))?;
        }
        Ok(file)
    }
}
