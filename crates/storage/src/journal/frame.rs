//! A frame: one batch on disk. A header of 48 bytes, the records, and zeros up to a multiple of eight.
//!
//! | at | field |
//! |---|---|
//! | 0 | magic `TRIJ` |
//! | 4 | version `u16`: 5, or 1 to 4 as older ones wrote it, without the later kinds of records |
//! | 6 | zero `u16` |
//! | 8 | length of the records in bytes `u32` |
//! | 12 | CRC-32C of the records `u32` |
//! | 16 | sequence number of the file `u64`: frames from before the file was recycled have another |
//! | 24 | number of the batch `u64`, one more than the frame before it |
//! | 32 | the oldest file that was still needed `u64` |
//! | 40 | number of records `u32` |
//! | 44 | CRC-32C of the 44 bytes before it `u32` |
//!
//! All little-endian. The header's layout stays as it is in later versions; what the records look like may change.

use super::batch::Record;
use super::{GroupState, MAX_NUMBER};
use crate::fs::{File, Wrong, read_exact_at, read_until_sound};
use std::io::{self, IoSlice};
use std::iter;
use std::sync::Arc;
use trimaran_raft::{GroupId, HardState, LogIndex};

pub(super) const HEADER_LEN: usize = 48;
/// Frames begin at multiples of this, so that a search for one does not have to look at every byte.
pub(super) const ALIGNMENT: usize = 8;
const MAGIC: [u8; 4] = *b"TRIJ";
const VERSION: u16 = 5;
/// The oldest version that is read.
const OLDEST_VERSION: u16 = 1;

/// Payloads from this size on are handed to the operating system where they are; smaller ones are cheaper copied.
const INLINE_BYTES: usize = 4096;
/// The writer's buffer is given back beyond this, lest one large batch keeps it for ever.
const KEPT_BUFFER_BYTES: usize = 4 << 20;
/// Read ahead this many bytes.
const WINDOW_BYTES: usize = 256 << 10;

/// The numbers that tell frames apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The sequence number of the file.
    pub(super) file: u64,
    /// The number of the batch.
    pub(super) batch: u64,
    /// The oldest file that was still needed.
    pub(super) oldest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u16,
    pub(super) body_len: u32,
    body_crc: u32,
    pub(super) numbers: Numbers,
    pub(super) records: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.numbers.file.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.numbers.batch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.numbers.oldest.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.records.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None if it is no header, or a damaged one.
    fn decode(bytes: &[u8; HEADER_LEN]) -> Option<Header> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let valid = bytes[0..4] == MAGIC
            && crc32c::crc32c(&bytes[..44]) == u32_at(44)
            && [16, 24, 32].iter().all(|at| u64_at(*at) <= MAX_NUMBER);
        valid.then(|| Header {
            version: u16::from_le_bytes([bytes[4], bytes[5]]),
            body_len: u32_at(8),
            body_crc: u32_at(12),
            numbers: Numbers {
                file: u64_at(16),
                batch: u64_at(24),
                oldest: u64_at(32),
            },
            records: u32_at(40),
        })
    }

    pub(super) fn is_known_version(&self) -> bool {
        (OLDEST_VERSION..=VERSION).contains(&self.version)
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_len(&self) -> u64 {
        frame_len(u64::from(self.body_len))
    }
}

fn frame_len(body_len: u64) -> u64 {
    HEADER_LEN as u64 + body_len.next_multiple_of(ALIGNMENT as u64)
}

/// Collects the records of a frame and writes it at once. Its buffers are reused.
#[derive(Default)]
pub(super) struct FrameWriter {
    /// The header's place, then records, the large payloads left out.
    small: Vec<u8>,
    /// Where large payloads belong: behind this many bytes of `small`, the payload of that record of the batch.
    large: Vec<(usize, usize)>,
    large_bytes: u64,
    records: u32,
}

impl FrameWriter {
    /// Empties the frame.
    pub(super) fn begin(&mut self) {
        self.small.clear();
        self.small.resize(HEADER_LEN, 0);
        self.large.clear();
        self.large_bytes = 0;
        self.records = 0;
    }

    /// A record of the journal's own.
    pub(super) fn put(&mut self, record: &Record) {
        record.encode_head(&mut self.small);
        self.small.extend_from_slice(record.payload());
        self.records += 1;
    }

    pub(super) fn put_state(&mut self, group: GroupId, state: &GroupState) {
        if state.hard_state != HardState::default() {
            self.put(&Record::HardState {
                group,
                state: state.hard_state,
            });
        }
        if let Some(start) = &state.start {
            let start = start.clone();
            self.put(&Record::Start { group, start });
        }
        self.put_flushed(group, state);
    }

    pub(super) fn put_flushed(&mut self, group: GroupId, state: &GroupState) {
        let (upto, index) = (state.flushed, state.configured);
        if upto != LogIndex::ZERO {
            self.put(&Record::Flushed { group, upto });
        }
        if index != LogIndex::ZERO {
            self.put(&Record::Configured { group, index });
        }
    }

    /// The records of a batch. Large payloads stay where they are: [`FrameWriter::write`] is given the same records.
    pub(super) fn put_all(&mut self, records: &[Record]) {
        for (number, record) in records.iter().enumerate() {
            let payload = record.payload();
            if payload.len() < INLINE_BYTES {
                self.put(record);
            } else {
                record.encode_head(&mut self.small);
                self.large.push((self.small.len(), number));
                self.large_bytes += payload.len() as u64;
                self.records += 1;
            }
        }
    }

    fn body_len(&self) -> u64 {
        (self.small.len() - HEADER_LEN) as u64 + self.large_bytes
    }

    /// Bytes of the whole frame as it is now.
    pub(super) fn frame_len(&self) -> u64 {
        frame_len(self.body_len())
    }

    /// Writes the frame, and returns how many bytes it took. Does not sync.
    pub(super) fn write(
        &mut self,
        file: &dyn File,
        position: u64,
        numbers: Numbers,
        records: &[Record],
    ) -> io::Result<u64> {
        let body_len = u32::try_from(self.body_len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a batch must be smaller than 4 GiB"))?;
        let header = Header {
            version: VERSION,
            body_len,
            body_crc: 0,
            numbers,
            records: self.records,
        };
        let total = header.frame_len();
        let padding = [0; ALIGNMENT];
        let padding = &padding[..(total - HEADER_LEN as u64 - u64::from(body_len)) as usize];
        let body_crc = self.slices(records).fold(0, crc32c::crc32c_append);
        let header = Header { body_crc, ..header }.encode();
        let result = if self.large.is_empty() {
            // The usual case: one buffer.
            self.small[..HEADER_LEN].copy_from_slice(&header);
            self.small.extend_from_slice(padding);
            file.write_all_at(&[IoSlice::new(&self.small)], position)
        } else {
            let body = self.slices(records);
            let slices: Vec<_> = iter::once(&header[..])
                .chain(body)
                .chain([padding])
                .map(IoSlice::new)
                .collect();
            file.write_all_at(&slices, position)
        };
        if self.small.capacity() > KEPT_BUFFER_BYTES {
            self.small = Vec::new();
        }
        result.map(|()| total)
    }

    /// The records in order: small ones together, large payloads each.
    fn slices<'a>(&'a self, records: &'a [Record]) -> impl Iterator<Item = &'a [u8]> {
        let starts = iter::once(HEADER_LEN).chain(self.large.iter().map(|(at, _)| *at));
        let ends = self.large.iter().map(|(at, _)| *at).chain([self.small.len()]);
        let payloads = self
            .large
            .iter()
            .map(|(_, number)| records[*number].payload())
            .chain([&[][..]]);
        starts
            .zip(ends)
            .zip(payloads)
            .flat_map(|((start, end), payload)| [&self.small[start..end], payload])
    }
}

/// Reads frames from a file of which nothing is believed.
pub(super) struct FrameReader {
    file: Arc<dyn File>,
    len: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl FrameReader {
    pub(super) fn new(file: Arc<dyn File>) -> io::Result<FrameReader> {
        let len = file.len()?;
        Ok(FrameReader {
            file,
            len,
            window: Vec::new(),
            window_start: 0,
        })
    }

    /// The header at `position`, if there is a valid one.
    pub(super) fn header(&mut self, position: u64) -> io::Result<Option<Header>> {
        let bytes = self.bytes(position, HEADER_LEN)?;
        Ok(bytes.and_then(|bytes| bytes.first_chunk()).and_then(Header::decode))
    }

    /// The records of the frame at `position`, if they are whole.
    pub(super) fn body(&mut self, position: u64, header: &Header) -> io::Result<Option<&[u8]>> {
        let bytes = self.bytes(position + HEADER_LEN as u64, header.body_len as usize)?;
        Ok(bytes.filter(|bytes| crc32c::crc32c(bytes) == header.body_crc))
    }

    /// The first position from `from` on at which a whole and valid frame begins that `wanted` accepts.
    pub(super) fn find(&mut self, from: u64, wanted: impl Fn(&Header) -> bool) -> io::Result<Option<u64>> {
        let mut position = from.next_multiple_of(ALIGNMENT as u64);
        while let Some(candidate) = self.find_magic(position)? {
            if let Some(header) = self.header(candidate)?
                && wanted(&header)
                && self.body(candidate, &header)?.is_some()
            {
                return Ok(Some(candidate));
            }
            position = candidate + ALIGNMENT as u64;
        }
        Ok(None)
    }

    fn find_magic(&mut self, mut position: u64) -> io::Result<Option<u64>> {
        while position + HEADER_LEN as u64 <= self.len {
            let len = (self.len - position).min(WINDOW_BYTES as u64) as usize / ALIGNMENT * ALIGNMENT;
            let bytes = self.bytes(position, len)?.unwrap_or_default();
            if let Some(at) = bytes
                .chunks_exact(ALIGNMENT)
                .position(|chunk| chunk.starts_with(&MAGIC))
            {
                return Ok(Some(position + (at * ALIGNMENT) as u64));
            }
            position += len as u64;
        }
        Ok(None)
    }

    /// Whether the file is empty, or all zeros.
    pub(super) fn is_blank(&mut self) -> io::Result<bool> {
        let mut position = 0;
        while position < self.len {
            let len = (self.len - position).min(WINDOW_BYTES as u64) as usize;
            let bytes = self.bytes(position, len)?.unwrap_or_default();
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            position += len as u64;
        }
        Ok(true)
    }

    /// Bytes of the file; none if it is shorter, so that no length from the disk is allocated unchecked.
    fn bytes(&mut self, position: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if position.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let window_end = self.window_start + self.window.len() as u64;
        if position < self.window_start || position + len as u64 > window_end {
            let wanted = (self.len - position).min(WINDOW_BYTES.max(len) as u64) as usize;
            self.window.clear();
            self.window.resize(wanted, 0);
            self.window_start = position;
            read_exact_at(&*self.file, &mut self.window, position)?;
        }
        let start = (position - self.window_start) as usize;
        Ok(Some(&self.window[start..start + len]))
    }

    /// Calls `read` until what it reads is sound, but not for ever. `what` is wrong if it isn't.
    pub(super) fn read_until_sound<T, E>(
        &mut self,
        position: u64,
        what: &'static str,
        mut read: impl FnMut(&mut FrameReader) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let (file, rest) = (self.file.clone(), self.len.saturating_sub(position));
        let read = || {
            let found = read(self)?;
            // What is wrong is not kept: the next attempt reads from the file.
            if found.is_none() {
                self.window.clear();
            }
            Ok(found.ok_or(Wrong { position, what }))
        };
        Ok(read_until_sound(&*file, rest, read)?.ok())
    }

    /// Header and records of the frame at `position`, if they are whole.
    fn whole(&mut self, position: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(header) = self.header(position)? else {
            return Ok(None);
        };
        let bytes = self.body(position, &header)?;
        Ok(bytes.map(|records| [&header.encode()[..], records].concat()))
    }

    /// Writes the frame at `position` as it was read, and syncs. False if it can't be read any more: what is not sound
    /// must not be written.
    pub(super) fn write_again(&mut self, position: u64) -> io::Result<bool> {
        let bytes = self.read_until_sound(position, "a frame's checksum is wrong", |frames| frames.whole(position))?;
        let Some(bytes) = bytes else { return Ok(false) };
        self.file.write_all_at(&[IoSlice::new(&bytes)], position)?;
        self.file.sync_data()?;
        Ok(true)
    }
}
