//! A replica's log: committed entries in segments of record batches, the tail in memory (and in the journal).

use crate::fs::Fs;
use crate::journal::RecoveredGroup;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Entry, GroupId, LogIndex, LogView, Term, TermAt};
use trimaran_wire::batch::{LeaderEpoch, Offset};

pub use crate::scale::HighWatermark;

#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "skeleton")]
pub struct LogOptions {
    pub segment_bytes: u64,
    pub segment_ms: u64,
    /// Flushed entries kept in memory for reads of the tail, at most.
    pub tail_bytes: u64,
}

/// What must go; `None` keeps for ever.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "skeleton")]
pub struct Retention {
    pub bytes: Option<u64>,
    pub ms: Option<u64>,
}

/// What is known of one stored batch without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "skeleton")]
pub struct BatchMeta {
    pub index: LogIndex,
    pub term: Term,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

/// A run of bytes of a stored log: whole record batches, back to back.
#[derive(Clone)]
pub enum Chunk {
    /// From the tail.
    Memory(Bytes),
    /// From a segment; read it where blocking is allowed.
    File(FileSlice),
}

/// A range of a segment file, readable from any thread even if the segment is deleted meanwhile.
#[derive(Clone)]
pub struct FileSlice {
    _todo: (),
}

#[allow(missing_docs, reason = "skeleton")]
impl FileSlice {
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// One pread.
    pub fn read(&self) -> Result<Bytes, LogError> {
        todo!()
    }
}

#[derive(Debug)]
#[allow(missing_docs, reason = "skeleton")]
pub enum LogError {
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    Corrupt {
        path: PathBuf,
        position: u64,
        what: &'static str,
    },
    /// The tail found in the journal does not continue the segments.
    Gap {
        expected: LogIndex,
        found: LogIndex,
    },
    /// An entry that can't stand where it was put: not the next index, or not a record batch with the next offset and
    /// the entry's term.
    Malformed {
        index: LogIndex,
        what: &'static str,
    },
    /// The log does not hold these entries: deleted, or not there yet.
    NotHeld {
        first: LogIndex,
        last: LogIndex,
    },
    /// Below the log's start or beyond the high watermark.
    OutOfRange {
        start: Offset,
        end: Offset,
    },
}

/// Writes committed entries into segments; runs on any thread that may block.
pub struct FlushJob {
    _todo: (),
}

#[allow(missing_docs, reason = "skeleton")]
impl FlushJob {
    pub fn group(&self) -> GroupId {
        todo!()
    }
    pub fn bytes(&self) -> u64 {
        todo!()
    }
    /// Writes and syncs.
    pub fn run(self) -> Result<Flushed, LogError> {
        todo!()
    }
}

/// What a [`FlushJob`] made durable; goes back to its log by [`ReplicaLog::flushed`], and `upto` to
/// [`crate::journal::Journal::release`].
pub struct Flushed {
    #[allow(missing_docs, reason = "skeleton")]
    pub group: GroupId,
    #[allow(missing_docs, reason = "skeleton")]
    pub upto: LogIndex,
}

/// Reads entries that are no longer in memory, for replication; runs on any thread that may block.
pub struct LoadJob {
    _todo: (),
}

#[allow(missing_docs, reason = "skeleton")]
impl LoadJob {
    pub fn run(&self) -> Result<Vec<Entry>, LogError> {
        todo!()
    }
}

/// Entries for replication: at hand, or to be loaded.
pub enum Entries {
    #[allow(missing_docs, reason = "skeleton")]
    Ready(Vec<Entry>),
    #[allow(missing_docs, reason = "skeleton")]
    Load(LoadJob),
}

/// One replica's log; owned by the shard that drives its group.
pub struct ReplicaLog {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl ReplicaLog {
    /// Opens the segments in `dir`, checks their end, and puts the journal's tail behind them. A replica that the
    /// journal does not know is opened with the default. Nothing is created before the first flush.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        group: GroupId,
        options: LogOptions,
        recovered: RecoveredGroup,
    ) -> Result<ReplicaLog, LogError> {
        todo!()
    }
    pub fn group(&self) -> GroupId {
        todo!()
    }
    /// The last entry that is durable in segments: always committed.
    pub fn flushed_index(&self) -> LogIndex {
        todo!()
    }
    /// Appends to the tail. Entries must be contiguous, and each record batch must be stamped with the next offset and
    /// its entry's term; otherwise nothing is appended and [`LogError::Malformed`] says why (a peer's entries are to be
    /// refused before they get to the core, see [`crate::scale`]).
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        todo!()
    }
    /// Deletes the tail from here on; never reaches into the segments (they hold committed entries only).
    pub fn truncate_from(&mut self, from: LogIndex) {
        todo!()
    }
    pub fn entries(&self, first: LogIndex, last: LogIndex) -> Result<Entries, LogError> {
        todo!()
    }
    /// The first offset that is still held.
    pub fn start_offset(&self) -> Offset {
        todo!()
    }
    /// The offset after the last appended record, committed or not.
    pub fn next_offset(&self) -> Offset {
        todo!()
    }
    /// The offset after the last record at or below `commit`.
    pub fn high_watermark(&self, commit: LogIndex) -> HighWatermark {
        todo!()
    }
    /// Whole batches from the one that holds `from`, below `upto`, about `max_bytes` of them but at least one.
    /// Empty if `from == upto`.
    pub fn read(&self, from: Offset, upto: HighWatermark, max_bytes: usize) -> Result<Vec<Chunk>, LogError> {
        todo!()
    }
    /// The first batch below `upto` whose max timestamp is at least `timestamp_ms`: to be searched for the record.
    pub fn batch_by_timestamp(
        &self,
        timestamp_ms: i64,
        upto: HighWatermark,
    ) -> Result<Option<(BatchMeta, Chunk)>, LogError> {
        todo!()
    }
    /// The batch below `upto` with the largest timestamp (ListOffsets -3).
    pub fn max_timestamp(&self, upto: HighWatermark) -> Result<Option<(BatchMeta, Chunk)>, LogError> {
        todo!()
    }
    /// The largest epoch that is at most `epoch`, and the offset where it ends (the start of the next one, or
    /// `next_offset`). KIP-101, KIP-320.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        todo!()
    }
    /// All batches held from `from` on, in order: what is needed to rebuild producer state. May block.
    pub fn batches(&self, from: LogIndex) -> Result<Vec<BatchMeta>, LogError> {
        todo!()
    }
    /// Bytes in memory that are not in segments yet.
    pub fn unflushed_bytes(&self) -> u64 {
        todo!()
    }
    /// Committed entries that are not in segments yet, to be written; none while a job is out or nothing is there.
    pub fn flush(&mut self, committed: LogIndex) -> Option<FlushJob> {
        todo!()
    }
    pub fn flushed(&mut self, flushed: Flushed) {
        todo!()
    }
    /// A [`FlushJob`] failed (or was dropped): its entries are still unflushed, and a later one tries again.
    pub fn flush_failed(&mut self) {
        todo!()
    }
    /// All entries that are not in segments yet, for [`crate::journal::JournalBatch::rewrite`].
    pub fn unflushed(&self) -> Vec<Entry> {
        todo!()
    }
    /// Deletes whole segments that retention allows, none that holds an entry above `floor`; returns how many.
    pub fn retain(&mut self, now_ms: i64, retention: &Retention, floor: LogIndex) -> Result<usize, LogError> {
        todo!()
    }
    /// Bytes in segments and tail.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    pub fn reconfigure(&mut self, options: LogOptions) {
        todo!()
    }
}

impl LogView for ReplicaLog {
    fn first_index(&self) -> LogIndex {
        todo!()
    }
    fn last_index(&self) -> LogIndex {
        todo!()
    }
    fn term_at(&self, _index: LogIndex) -> TermAt {
        todo!()
    }
    fn last_index_with_term_at_most(&self, _term: Term, _upto: LogIndex) -> LogIndex {
        todo!()
    }
    fn fit(&self, _first: LogIndex, _last: LogIndex, _max_bytes: u64) -> (LogIndex, u64) {
        todo!()
    }
}
