//! Reading what is no longer in memory, on threads that may block.

use super::index::{Kind, Record};
use super::segment::{self, SegmentReader, check_batch, check_described, read_bounded};
use super::{LogError, corrupt};
use crate::fs::{File, Wrong};
use crate::offsets::{Epochs, term};
use bytes::Bytes;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use trimaran_raft::{Configuration, Entry, LogIndex, Payload};
use trimaran_wire::batch::{BatchHeader, HEADER_LEN, Offset};

/// A run of bytes of a stored log: whole record batches, back to back.
#[derive(Clone)]
pub enum Chunk {
    /// From the tail.
    Memory(Bytes),
    /// From a segment; read it where blocking is allowed.
    File(FileSlice),
}

/// A range of a segment file, readable from any thread even if the segment is deleted meanwhile. It keeps the file
/// open.
#[derive(Clone)]
pub struct FileSlice {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) position: u64,
    pub(super) length: usize,
    /// The first record's offset.
    pub(super) base: Offset,
    /// The offset after the last record.
    pub(super) next: Offset,
    pub(super) epochs: Epochs,
}

impl FileSlice {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is nothing in it. The log gives out none that are empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// One pread, and more only if something is wrong. Every batch is checked: that its checksum is right, and that
    /// offsets and leader epochs, which the checksum does not cover, are those that belong here.
    ///
    /// # Errors
    /// [`LogError::Io`], or [`LogError::Corrupt`] with the position of the damaged batch.
    pub fn read(&self) -> Result<Bytes, LogError> {
        let read = || read_bounded(&*self.file, &self.path, self.position, self.length);
        segment::sound(&*self.file, &self.path, self.length, read, |bytes| self.check(bytes))
    }

    /// The offset of its first record.
    pub fn base_offset(&self) -> Offset {
        self.base
    }

    /// The most that [`FileSlice::read_front`] reads: one batch may be longer than what is wanted.
    ///
    /// # Errors
    /// [`LogError::Io`], or [`LogError::Corrupt`] if the file is cut short.
    pub fn front_len(&self, max_bytes: usize) -> Result<usize, LogError> {
        if self.length <= max_bytes {
            return Ok(self.length);
        }
        Ok(self.first_length()?.max(max_bytes).min(self.length))
    }

    /// Reads whole batches from its beginning, about `max_bytes` of them but at least one, and cuts them off. Checked
    /// as by [`FileSlice::read`].
    ///
    /// # Errors
    /// As [`FileSlice::read`]; then nothing is cut off.
    pub fn read_front(&mut self, max_bytes: usize) -> Result<Bytes, LogError> {
        if self.length <= max_bytes {
            let bytes = self.read()?;
            self.cut_front(self.length, self.next);
            return Ok(bytes);
        }
        let most = self.front_len(max_bytes)?;
        let read = || read_bounded(&*self.file, &self.path, self.position, most);
        let (bytes, next) = segment::sound(&*self.file, &self.path, most, read, |bytes| self.check_front(bytes))?;
        self.cut_front(bytes.len(), next);
        Ok(bytes)
    }

    fn cut_front(&mut self, bytes: usize, next: Offset) {
        self.position += bytes as u64;
        self.length -= bytes;
        self.base = next;
    }

    /// The length of the first batch, as its header says: not checked yet.
    fn first_length(&self) -> Result<usize, LogError> {
        let header = read_bounded(&*self.file, &self.path, self.position, HEADER_LEN.min(self.length))?;
        Ok(BatchHeader::length_in(&header).unwrap_or(0))
    }

    /// The whole batches that the bytes begin with, and the offset after them.
    fn check_front(&self, bytes: Vec<u8>) -> Result<(Bytes, Offset), Wrong> {
        let (whole, next) = self.check_batches(&bytes, |rest| {
            BatchHeader::length_in(rest).is_some_and(|length| length <= rest.len())
        })?;
        if whole == 0 {
            return Err(Wrong {
                position: self.position,
                what: "there is no record batch",
            });
        }
        Ok((Bytes::from(bytes).slice(..whole), next))
    }

    /// Checks batches as long as `goes_on` says that there is another one: where they end, and the offset after them.
    fn check_batches(&self, bytes: &[u8], goes_on: impl Fn(&[u8]) -> bool) -> Result<(usize, Offset), Wrong> {
        let mut position = 0;
        let mut offset = self.base;
        while position < bytes.len() && goes_on(&bytes[position..]) {
            let at = self.position + position as u64;
            let damaged = |what| Wrong { position: at, what };
            let rest = &bytes[position..];
            let header = BatchHeader::parse(rest).map_err(|_| damaged("there is no record batch"))?;
            let epoch = self.epochs.at(offset).and_then(term).unwrap_or_default();
            let length = header.length as usize;
            offset = check_batch(&rest[..length], offset, epoch).map_err(damaged)?;
            position += length;
        }
        Ok((position, offset))
    }

    fn check(&self, bytes: Vec<u8>) -> Result<Bytes, Wrong> {
        let (_, offset) = self.check_batches(&bytes, |_| true)?;
        if offset != self.next {
            return Err(Wrong {
                position: self.position,
                what: "batches are missing",
            });
        }
        Ok(Bytes::from(bytes))
    }
}

/// Entries for replication: at hand, or to be loaded.
pub enum Entries {
    /// They were in memory.
    Ready(Vec<Entry>),
    /// Some are in segments only.
    Load(LoadJob),
}

/// Reads entries that are no longer in memory, for replication; runs on any thread that may block. It keeps the
/// segments' files open: they may be deleted meanwhile.
pub struct LoadJob {
    /// Segments, and of each the entries wanted.
    pub(super) parts: Vec<(SegmentReader, LogIndex, LogIndex)>,
    /// The configurations among them.
    pub(super) configurations: Vec<(LogIndex, Configuration)>,
    /// Where those are on disk.
    pub(super) configurations_path: PathBuf,
    /// The entries that follow them in memory.
    pub(super) memory: Vec<Entry>,
}

impl LoadJob {
    /// All the entries asked for, in order. Every batch is checked.
    ///
    /// # Errors
    /// [`LogError::Io`], or [`LogError::Corrupt`] with file and position.
    pub fn run(&self) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        for (reader, first, last) in &self.parts {
            let records = reader.records(*first, *last)?;
            self.load(reader, &records, &mut entries)?;
        }
        entries.extend(self.memory.iter().cloned());
        Ok(entries)
    }

    /// One pread for all the batches that the records describe, and more only if something is wrong.
    fn load(&self, reader: &SegmentReader, records: &[Record], entries: &mut Vec<Entry>) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(());
        };
        let start = u64::from(first.position);
        let length = last.position_end().checked_sub(start);
        let length = length.ok_or_else(|| reader.corrupt_index(last.index, "positions go back"))?;
        if let Some(back) = records.windows(2).find(|pair| pair[1].position < pair[0].position) {
            return Err(reader.corrupt_index(back[1].index, "positions go back"));
        }
        let bytes = reader.read_log(start, length as usize, |bytes| check_all(bytes, start, records))?;
        for record in records {
            let payload = match record.kind {
                Kind::Blank => Payload::Blank,
                Kind::Batch => Payload::Data(bytes.slice(range(record, start))),
                Kind::Configuration => Payload::Configuration(Box::new(self.configuration(record.index)?)),
            };
            entries.push(Entry {
                index: record.index,
                term: record.term,
                payload,
            });
        }
        Ok(())
    }

    fn configuration(&self, index: LogIndex) -> Result<Configuration, LogError> {
        let found = self.configurations.iter().find(|(other, _)| *other == index);
        let missing = || corrupt(&self.configurations_path, 0, "the configuration of an entry is missing");
        found
            .map(|(_, configuration)| configuration.clone())
            .ok_or_else(missing)
    }
}

/// Where the record's batch is in the bytes from `start` on. Positions ascend, and the last one ends the bytes.
fn range(record: &Record, start: u64) -> Range<usize> {
    let from = (u64::from(record.position) - start) as usize;
    from..from + record.length as usize
}

fn check_all(bytes: Vec<u8>, start: u64, records: &[Record]) -> Result<Bytes, Wrong> {
    for record in records.iter().filter(|record| record.is_batch()) {
        let position = u64::from(record.position);
        let what = "positions go back";
        let batch = bytes.get(range(record, start)).ok_or(Wrong { position, what })?;
        check_described(batch, record)?;
    }
    Ok(Bytes::from(bytes))
}
