//! The index file beside a segment: what is known of each entry without reading it. Records of 64 bytes, so that an
//! entry's record is found by its index, and an offset or a timestamp by bisection.
//!
//! The first record is the segment's own:
//!
//! | at | field |
//! |---|---|
//! | 0 | version `u8`, 1 |
//! | 1 | kind `u8`, 0 |
//! | 4 | magic `TRIS` |
//! | 8 | first index `u64` |
//! | 16 | base offset `i64` |
//! | 24 | term of the entry before the first one `u64` |
//! | 32 | group `u64` |
//! | 60 | CRC-32C of the 60 bytes before it `u32` |
//!
//! Then one an entry:
//!
//! | at | field |
//! |---|---|
//! | 0 | version `u8`, 1 |
//! | 1 | kind `u8`: 1 blank, 2 record batch, 3 configuration (see `configurations.rs`) |
//! | 2 | producer epoch `i16` |
//! | 4 | index, counted from the segment's first `u32` |
//! | 8 | term `u64` |
//! | 16 | offset of the first record (where there is none: of the next one), counted from the base offset `u32` |
//! | 20 | last offset delta `i32`, -1 where there is no record |
//! | 24 | position in the segment in bytes `u32` |
//! | 28 | length in bytes `u32` |
//! | 32 | largest timestamp in the batch `i64` |
//! | 40 | largest timestamp in the segment up to here `i64`: ascends, and so can be bisected |
//! | 48 | producer id `i64` |
//! | 56 | base sequence `i32` |
//! | 60 | CRC-32C of the segment's group, first index and base offset and of the 60 bytes before it `u32` |
//!
//! All little-endian; what is not listed is zero.

use crate::log::BatchMeta;
use crate::offsets::LogEnd;
use trimaran_raft::{Entry, GroupId, LogIndex, Payload, Term};
use trimaran_wire::batch::{BatchHeader, Offset};

pub(super) const RECORD_LEN: usize = 64;
/// The largest timestamp of an entry that has none.
pub(super) const NO_TIMESTAMP: i64 = i64::MIN;
const CRC_AT: usize = 60;
const VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"TRIS";
const KIND_START: u8 = 0;
const KIND_BLANK: u8 = 1;
const KIND_DATA: u8 = 2;
const KIND_CONFIGURATION: u8 = 3;

/// Where a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) group: GroupId,
    /// Its first entry, whether it is there or not.
    pub(super) index: LogIndex,
    /// The offset that the first record gets.
    pub(super) offset: Offset,
    /// The term of the entry before the first one.
    pub(super) previous_term: Term,
}

impl Start {
    pub(super) fn after(group: GroupId, end: &LogEnd) -> Start {
        Start {
            group,
            index: end.index.next(),
            offset: end.offset,
            previous_term: end.term,
        }
    }

    /// The end of an empty segment.
    pub(super) fn end(&self) -> LogEnd {
        LogEnd {
            index: self.index.prev(),
            term: self.previous_term,
            offset: self.offset,
        }
    }

    pub(super) fn encode(&self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        bytes[0] = VERSION;
        bytes[1] = KIND_START;
        bytes[4..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous_term.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.group.0.to_le_bytes());
        seal(&mut bytes, 0);
        bytes
    }

    /// Whether the checksum is right.
    pub(super) fn is_whole(bytes: &[u8; RECORD_LEN]) -> bool {
        is_sealed(bytes, 0)
    }

    pub(super) fn decode(bytes: &[u8; RECORD_LEN]) -> Result<Start, &'static str> {
        check(bytes, 0)?;
        if bytes[1] != KIND_START || bytes[4..8] != MAGIC {
            return Err("it does not begin with a segment's record");
        }
        Ok(Start {
            index: LogIndex(u64_at(bytes, 8)),
            offset: Offset(u64_at(bytes, 16) as i64),
            previous_term: Term(u64_at(bytes, 24)),
            group: GroupId(u64_at(bytes, 32)),
        })
    }

    /// The beginning of the records' CRCs, so that those of another segment don't pass.
    fn seed(&self) -> u32 {
        let numbers = [self.group.0, self.index.0, self.offset.0 as u64];
        numbers
            .iter()
            .fold(0, |crc, number| crc32c::crc32c_append(crc, &number.to_le_bytes()))
    }
}

/// The kind of an entry's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Blank,
    /// A record batch, in the segment.
    Batch,
    /// A configuration, in the file of configurations.
    Configuration,
}

/// An entry, as far as it is known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) kind: Kind,
    pub(super) base_offset: Offset,
    /// The offset after its last record; the base offset if it has none.
    pub(super) next_offset: Offset,
    pub(super) position: u32,
    pub(super) length: u32,
    pub(super) max_timestamp: i64,
    /// Of the segment up to here.
    pub(super) latest_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
}

impl Record {
    /// Of an entry that was checked by [`LogEnd::after`]; `from` is the end before it, `to` the end after it.
    pub(super) fn of(entry: &Entry, from: &LogEnd, to: &LogEnd, position: u32, latest_timestamp: i64) -> Record {
        let bare = Record {
            index: entry.index,
            term: entry.term,
            kind: Kind::Blank,
            base_offset: from.offset,
            next_offset: to.offset,
            position,
            length: 0,
            max_timestamp: NO_TIMESTAMP,
            latest_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        };
        let batch = match &entry.payload {
            Payload::Blank => return bare,
            Payload::Configuration(_) => {
                return Record {
                    kind: Kind::Configuration,
                    ..bare
                };
            }
            Payload::Data(batch) => batch,
        };
        let header = BatchHeader::parse(batch).expect("a batch is checked when it is appended");
        Record {
            kind: Kind::Batch,
            length: header.length,
            max_timestamp: header.max_timestamp,
            latest_timestamp: latest_timestamp.max(header.max_timestamp),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            ..bare
        }
    }

    pub(super) fn end(&self) -> LogEnd {
        LogEnd {
            index: self.index,
            term: self.term,
            offset: self.next_offset,
        }
    }

    /// Where its bytes end in the segment.
    pub(super) fn position_end(&self) -> u64 {
        u64::from(self.position) + u64::from(self.length)
    }

    /// Whether it has bytes in the segment.
    pub(super) fn is_batch(&self) -> bool {
        self.kind == Kind::Batch
    }

    /// None if it is no batch.
    pub(super) fn meta(&self) -> Option<BatchMeta> {
        self.is_batch().then_some(BatchMeta {
            index: self.index,
            term: self.term,
            base_offset: self.base_offset,
            last_offset: Offset(self.next_offset.0 - 1),
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
        })
    }

    /// The distances from the start must fit 32 bits, see [`fits`].
    pub(super) fn encode(&self, start: &Start) -> [u8; RECORD_LEN] {
        let index = (self.index.0 - start.index.0) as u32;
        let offset = (self.base_offset.0 - start.offset.0) as u32;
        let delta = (self.next_offset.0 - self.base_offset.0 - 1) as i32;
        let mut bytes = [0; RECORD_LEN];
        bytes[0] = VERSION;
        bytes[1] = match self.kind {
            Kind::Blank => KIND_BLANK,
            Kind::Batch => KIND_DATA,
            Kind::Configuration => KIND_CONFIGURATION,
        };
        bytes[2..4].copy_from_slice(&self.producer_epoch.to_le_bytes());
        bytes[4..8].copy_from_slice(&index.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&offset.to_le_bytes());
        bytes[20..24].copy_from_slice(&delta.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.position.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.max_timestamp.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.latest_timestamp.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.producer_id.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.base_sequence.to_le_bytes());
        seal(&mut bytes, start.seed());
        bytes
    }

    /// Of the entry at `index`, which is where the record was found.
    pub(super) fn decode(bytes: &[u8; RECORD_LEN], start: &Start, index: LogIndex) -> Result<Record, &'static str> {
        check(bytes, start.seed())?;
        let kind = match bytes[1] {
            KIND_BLANK => Kind::Blank,
            KIND_DATA => Kind::Batch,
            KIND_CONFIGURATION => Kind::Configuration,
            _ => return Err("a record is of an unknown kind"),
        };
        if start.index.0.checked_add(u64::from(u32_at(bytes, 4))) != Some(index.0) {
            return Err("a record is not where it belongs");
        }
        let base = start.offset.0.saturating_add(i64::from(u32_at(bytes, 16)));
        Ok(Record {
            index,
            term: Term(u64_at(bytes, 8)),
            kind,
            base_offset: Offset(base),
            next_offset: Offset(base.saturating_add(i64::from(u32_at(bytes, 20) as i32) + 1)),
            position: u32_at(bytes, 24),
            length: u32_at(bytes, 28),
            max_timestamp: u64_at(bytes, 32) as i64,
            latest_timestamp: u64_at(bytes, 40) as i64,
            producer_id: u64_at(bytes, 48) as i64,
            producer_epoch: i16::from_le_bytes([bytes[2], bytes[3]]),
            base_sequence: u32_at(bytes, 56) as i32,
        })
    }
}

/// Whether a record at this place can say how far it is from the segment's start.
pub(super) fn fits(start: &Start, at: &LogEnd, position: u64) -> bool {
    let index = at.index.0 - start.index.prev().0;
    let offset = (at.offset.0 - start.offset.0).unsigned_abs();
    index.max(offset).max(position) < u64::from(u32::MAX)
}

fn seal(bytes: &mut [u8; RECORD_LEN], seed: u32) {
    let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

fn is_sealed(bytes: &[u8; RECORD_LEN], seed: u32) -> bool {
    crc32c::crc32c_append(seed, &bytes[..CRC_AT]) == u32_at(bytes, CRC_AT)
}

fn check(bytes: &[u8; RECORD_LEN], seed: u32) -> Result<(), &'static str> {
    if !is_sealed(bytes, seed) {
        return Err("a record's checksum is wrong");
    }
    if bytes[0] != VERSION {
        return Err("it was written by a newer version");
    }
    Ok(())
}

fn u32_at(bytes: &[u8; RECORD_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; RECORD_LEN], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
