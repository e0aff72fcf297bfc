//! Kafka's record batch, format v2: the 61-byte header, read and patched in place; the records inside, read one by one.
//!
//! What a client sent is what is stored, replicated and served. The broker needs the header, the CRC-32C, and two
//! fields that lie outside of the CRC ([`stamp`]). Records are looked at only where something forces it: a search by
//! timestamp, the command line's consumer, the project's own records. Source of the layout: Kafka's
//! `DefaultRecordBatch` and `DefaultRecord`.

mod compression;
mod recompress;
mod record;
mod validate;
mod walk;

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use core::fmt;

pub use compression::{Compression, DecompressionCost, decompression_cost};
pub use recompress::{Compressor, recompress};
pub use record::{Record, RecordHeader, Records, find_timestamp, records};
pub use validate::{Contents, TimestampOf, validate};

/// A position in a partition, counted in records from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of a partition.
    pub const ZERO: Offset = Offset(0);
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What Kafka calls the leader epoch, and Raft the term: the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LeaderEpoch(pub i32);

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes in a batch header.
pub const HEADER_LEN: usize = 61;

/// The timestamp of a record or batch that has none.
pub const NO_TIMESTAMP: i64 = -1;

/// Bytes that the batch's own length field does not count: base offset and the length field itself.
const LENGTH_OVERHEAD: usize = 12;

/// The only record format that is stored.
const MAGIC_V2: i8 = 2;

/// Where fields begin, in bytes from the start of the batch.
mod at {
    pub(super) const BASE_OFFSET: usize = 0;
    pub(super) const LENGTH: usize = 8;
    pub(super) const LEADER_EPOCH: usize = 12;
    pub(super) const MAGIC: usize = 16;
    pub(super) const CRC: usize = 17;
    /// The first byte under the CRC.
    pub(super) const ATTRIBUTES: usize = 21;
    pub(super) const LAST_OFFSET_DELTA: usize = 23;
    pub(super) const BASE_TIMESTAMP: usize = 27;
    pub(super) const MAX_TIMESTAMP: usize = 35;
    pub(super) const PRODUCER_ID: usize = 43;
    pub(super) const PRODUCER_EPOCH: usize = 51;
    pub(super) const BASE_SEQUENCE: usize = 53;
    pub(super) const RECORD_COUNT: usize = 57;
}

/// Bits of the attributes.
mod bits {
    pub(super) const COMPRESSION: i16 = 0b111;
    pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
    pub(super) const TRANSACTIONAL: i16 = 1 << 4;
    pub(super) const CONTROL: i16 = 1 << 5;
    /// The base timestamp is the time from which on tombstones may go (KIP-534); set by who compacts.
    pub(super) const DELETE_HORIZON: i16 = 1 << 6;
}

/// A producer's identity within its epoch, and the sequence number of a batch's first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of the first record.
    pub first_sequence: i32,
}

/// A decoded header. Fields are as on the wire unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; what a producer sends here means nothing until [`stamp`] replaces it.
    pub base_offset: Offset,
    /// Bytes of the whole batch, the 12 bytes of base offset and length included (the wire's field leaves them out).
    pub length: u32,
    /// The epoch (Raft: the term) of the leader that stored the batch.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on. [`verify_crc`] checks it.
    pub crc: u32,
    /// Compression, timestamp type, and whether the batch is transactional or a control batch; see the methods.
    pub attributes: i16,
    /// The last record's offset, relative to the base offset; zero or more.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 that records' timestamps are relative to.
    pub base_timestamp: i64,
    /// The largest timestamp of a record, or the time of appending; milliseconds since 1970.
    pub max_timestamp: i64,
    /// -1 if the producer is not idempotent.
    pub producer_id: i64,
    /// -1 if the producer is not idempotent.
    pub producer_epoch: i16,
    /// -1 if the producer is not idempotent.
    pub base_sequence: i32,
    /// How many records the batch says it holds; at most `last_offset_delta + 1`.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header of the batch at the start of `bytes` and checks the structure: magic, that the whole batch is
    /// there, counts that agree with each other and with the length. More may follow the batch. Does not check the CRC.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // The magic of older formats is at the same place: name it even where too few bytes follow.
        let magic = i8::from_be_bytes(array(bytes, at::MAGIC)?);
        if magic != MAGIC_V2 {
            return Err(BatchError::BadMagic(magic));
        }
        let length = i32::from_be_bytes(array(bytes, at::LENGTH)?);
        let total = whole_length(length)?;
        if bytes.len() < HEADER_LEN || bytes.len() < total {
            return Err(BatchError::Truncated);
        }
        let header = BatchHeader {
            base_offset: Offset(i64::from_be_bytes(array(bytes, at::BASE_OFFSET)?)),
            length: u32::try_from(total).map_err(|_| BatchError::BadLength(length))?,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(array(bytes, at::LEADER_EPOCH)?)),
            crc: u32::from_be_bytes(array(bytes, at::CRC)?),
            attributes: i16::from_be_bytes(array(bytes, at::ATTRIBUTES)?),
            last_offset_delta: i32::from_be_bytes(array(bytes, at::LAST_OFFSET_DELTA)?),
            base_timestamp: i64::from_be_bytes(array(bytes, at::BASE_TIMESTAMP)?),
            max_timestamp: i64::from_be_bytes(array(bytes, at::MAX_TIMESTAMP)?),
            producer_id: i64::from_be_bytes(array(bytes, at::PRODUCER_ID)?),
            producer_epoch: i16::from_be_bytes(array(bytes, at::PRODUCER_EPOCH)?),
            base_sequence: i32::from_be_bytes(array(bytes, at::BASE_SEQUENCE)?),
            record_count: i32::from_be_bytes(array(bytes, at::RECORD_COUNT)?),
        };
        header.check_counts()?;
        Ok(header)
    }

    /// Like [`BatchHeader::parse`], for bytes that must be exactly one batch: what a producer sends for a partition
    /// (Kafka's `ProduceRequest.validateRecords`).
    pub fn parse_only(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        if bytes.len() > header.length as usize {
            return Err(BatchError::TrailingBytes);
        }
        Ok(header)
    }

    /// The length of the batch that the bytes begin with, as its header claims; none if the claim is cut off or absurd.
    pub fn length_in(bytes: &[u8]) -> Option<usize> {
        let field = bytes.get(at::LENGTH..LENGTH_OVERHEAD)?;
        let claimed = i32::from_be_bytes(field.try_into().ok()?);
        usize::try_from(claimed).ok()?.checked_add(LENGTH_OVERHEAD)
    }

    /// A compacted batch holds fewer records than its offsets span, never more. An uncompressed one can't hold more
    /// records than its bytes allow.
    fn check_counts(&self) -> Result<(), BatchError> {
        let span = i64::from(self.last_offset_delta) + 1;
        let count = i64::from(self.record_count);
        let fits = self.attributes & bits::COMPRESSION != 0
            || count * record::MIN_RECORD_LEN as i64 <= i64::from(self.length) - HEADER_LEN as i64;
        if span < 1 || count < 0 || count > span || !fits {
            return Err(BatchError::BadCount);
        }
        Ok(())
    }

    /// The offset of the last record. Inclusive.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// None if the producer is not idempotent.
    pub fn producer(&self) -> Option<ProducerStamp> {
        (self.producer_id >= 0).then_some(ProducerStamp {
            id: self.producer_id,
            epoch: self.producer_epoch,
            first_sequence: self.base_sequence,
        })
    }

    /// Whether the batch holds transaction markers, which only brokers write.
    pub fn is_control(&self) -> bool {
        self.attributes & bits::CONTROL != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & bits::TRANSACTIONAL != 0
    }

    /// Whether timestamps are the time of appending, the same for every record, rather than the producer's.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & bits::LOG_APPEND_TIME != 0
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_bits((self.attributes & bits::COMPRESSION) as u8)
    }
}

/// The `N` bytes at `from`.
fn array<const N: usize>(bytes: &[u8], from: usize) -> Result<[u8; N], BatchError> {
    let slice = bytes.get(from..).and_then(|rest| rest.get(..N));
    slice
        .and_then(|slice| slice.try_into().ok())
        .ok_or(BatchError::Truncated)
}

/// The length of the whole batch from the wire's field, which is no shorter than a header.
fn whole_length(field: i32) -> Result<usize, BatchError> {
    let rest = usize::try_from(field).map_err(|_| BatchError::BadLength(field))?;
    let total = rest + LENGTH_OVERHEAD;
    if total < HEADER_LEN {
        Err(BatchError::BadLength(field))
    } else {
        Ok(total)
    }
}

/// Why bytes are no record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than the header or its length field ask for.
    Truncated,
    /// A record format other than v2, or no records at all.
    BadMagic(i8),
    /// The length field is negative or shorter than a header.
    BadLength(i32),
    /// Bytes were changed on their way, or by a disk.
    BadCrc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Record count, last offset delta and length do not agree.
    BadCount,
    /// More bytes follow where exactly one batch is allowed.
    TrailingBytes,
    /// A compression code that Kafka does not define.
    UnknownCompression(u8),
    /// Compressed records where only uncompressed ones are read.
    Compressed,
    /// The compressed bytes are damaged.
    BadCompression,
    /// The records are larger than the caller allows once decompressed.
    TooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The batch would be longer than the caller allows once it is compressed in another way.
    Grown {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// A record does not follow the format.
    BadRecord,
    /// A producer's record does not follow the format, or not the record before it.
    InvalidRecord {
        /// Its place in the batch, from zero.
        position: i32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// More follows the last record that the batch counts.
    MoreRecords,
    /// An lz4 frame of a kind that Java's client can't read.
    UnreadableFrame,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Truncated => f.write_str("the record batch is cut short"),
            BatchError::BadMagic(magic) => write!(f, "record format {magic} is not supported, only 2 is"),
            BatchError::BadLength(length) => write!(f, "{length} is no length of a record batch"),
            BatchError::BadCrc { stored, computed } => {
                write!(
                    f,
                    "the record batch's CRC-32C is {stored:08x}, but its bytes give {computed:08x}"
                )
            }
            BatchError::BadCount => f.write_str("the record batch's counts contradict each other"),
            BatchError::TrailingBytes => f.write_str("bytes follow where exactly one record batch is allowed"),
            BatchError::UnknownCompression(code) => write!(f, "compression {code} is not defined"),
            BatchError::Compressed => f.write_str("the records are compressed where they must not be"),
            BatchError::BadCompression => f.write_str("the compressed records are damaged"),
            BatchError::TooLarge { limit } => write!(f, "the records decompress to more than {limit} bytes"),
            BatchError::Grown { limit } => {
                write!(f, "the batch is longer than {limit} bytes once it is compressed as its topic asks")
            }
            BatchError::BadRecord => f.write_str("a record does not follow the format"),
            BatchError::InvalidRecord { position, what } => write!(f, "record {position} of the batch is invalid: {what}"),
            BatchError::MoreRecords => f.write_str("the record batch holds more than the records that it counts"),
            BatchError::UnreadableFrame => f.write_str(
                "Java's clients can't read this lz4 frame: it must be of version 1, with independent blocks and without a dictionary",
            ),
        }
    }
}

impl std::error::Error for BatchError {}

/// Checks the CRC-32C of exactly one batch (as [`BatchHeader::parse_only`] accepts it).
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let stored = u32::from_be_bytes(array(batch, at::CRC)?);
    let computed = crc32c::crc32c(batch.get(at::ATTRIBUTES..).ok_or(BatchError::Truncated)?);
    if stored == computed {
        Ok(())
    } else {
        Err(BatchError::BadCrc { stored, computed })
    }
}

/// Writes what a leader decides: base offset and leader epoch. Neither is under the CRC.
///
/// # Panics
/// If `batch` is shorter than a header: it must have been parsed before.
pub fn stamp(batch: &mut BytesMut, base_offset: Offset, epoch: LeaderEpoch) {
    assert!(batch.len() >= HEADER_LEN, "only a parsed batch may be stamped");
    put(batch, at::BASE_OFFSET, &base_offset.0.to_be_bytes());
    put(batch, at::LEADER_EPOCH, &epoch.0.to_be_bytes());
}

/// Makes the batch's timestamps the time of appending (`message.timestamp.type=LogAppendTime`): sets the attribute bit
/// (and clears the one that only compaction sets) and the maximum timestamp, from which readers take every record's
/// timestamp, and recomputes the CRC.
///
/// # Panics
/// If `batch` is shorter than a header: it must have been parsed before.
pub fn set_log_append_time(batch: &mut BytesMut, now_ms: i64) {
    assert!(batch.len() >= HEADER_LEN, "only a parsed batch may be rewritten");
    batch[at::ATTRIBUTES + 1] |= bits::LOG_APPEND_TIME as u8;
    batch[at::ATTRIBUTES + 1] &= !(bits::DELETE_HORIZON as u8);
    put(batch, at::MAX_TIMESTAMP, &now_ms.to_be_bytes());
    write_crc(batch);
}

/// Makes the batch's timestamps the producer's (`message.timestamp.type=CreateTime`), the largest of them
/// `max_timestamp`: clears the attribute bits that only brokers set. Computes the CRC only if something changes.
///
/// # Panics
/// If `batch` is shorter than a header: it must have been parsed before.
pub fn set_create_time(batch: &mut BytesMut, max_timestamp: i64) {
    assert!(batch.len() >= HEADER_LEN, "only a parsed batch may be rewritten");
    const BROKERS_BITS: u8 = (bits::LOG_APPEND_TIME | bits::DELETE_HORIZON) as u8;
    let attributes = batch[at::ATTRIBUTES + 1];
    let stored = &batch[at::MAX_TIMESTAMP..at::MAX_TIMESTAMP + 8];
    if attributes & BROKERS_BITS == 0 && stored == max_timestamp.to_be_bytes() {
        return;
    }
    batch[at::ATTRIBUTES + 1] = attributes & !BROKERS_BITS;
    put(batch, at::MAX_TIMESTAMP, &max_timestamp.to_be_bytes());
    write_crc(batch);
}

fn write_crc(batch: &mut BytesMut) {
    let crc = crc32c::crc32c(&batch[at::ATTRIBUTES..]);
    put(batch, at::CRC, &crc.to_be_bytes());
}

fn put(batch: &mut BytesMut, at: usize, bytes: &[u8]) {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A record's key and value, either of which may be missing.
pub type KeyValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// One uncompressed record batch from keys and values, for the project's own records (metadata commands, tests, the
/// command line). All records get the same timestamp, in milliseconds since 1970; base offset is 0 until [`stamp`].
///
/// # Panics
/// If `records` is empty, or if the batch would not fit an `i32`: callers limit what they put in.
pub fn build(timestamp_ms: i64, records: &[KeyValue<'_>]) -> BytesMut {
    assert!(!records.is_empty(), "a batch holds at least one record");
    let count = i32::try_from(records.len()).expect("fewer records than 2^31");
    let payload: usize = records.iter().map(|(key, value)| record::max_len(*key, *value)).sum();
    let mut batch = BytesMut::with_capacity(HEADER_LEN + payload);
    put_header(&mut batch, timestamp_ms, count);
    for (delta, (key, value)) in (0i32..).zip(records) {
        record::encode(&mut batch, delta, *key, *value);
    }
    let length = i32::try_from(batch.len() - LENGTH_OVERHEAD).expect("a batch is shorter than 2 GiB");
    put(&mut batch, at::LENGTH, &length.to_be_bytes());
    write_crc(&mut batch);
    batch
}

/// A header whose length and CRC are still to be filled in.
fn put_header(batch: &mut BytesMut, timestamp_ms: i64, count: i32) {
    batch.put_i64(0); // base offset
    batch.put_i32(0); // length
    batch.put_i32(-1); // leader epoch: not stored by a leader yet
    batch.put_i8(MAGIC_V2);
    batch.put_u32(0); // CRC
    batch.put_i16(0); // attributes
    batch.put_i32(count - 1); // last offset delta
    batch.put_i64(timestamp_ms); // base timestamp
    batch.put_i64(timestamp_ms); // max timestamp
    batch.put_i64(-1); // producer id
    batch.put_i16(-1); // producer epoch
    batch.put_i32(-1); // base sequence
    batch.put_i32(count);
}

/// Gives a batch a producer's identity and recomputes the CRC: what an idempotent producer does before it sends.
/// For the project's own clients and for tests.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_producer(batch: &mut BytesMut, producer: ProducerStamp) {
    assert!(batch.len() >= HEADER_LEN, "only a parsed batch may be rewritten");
    put(batch, at::PRODUCER_ID, &producer.id.to_be_bytes());
    put(batch, at::PRODUCER_EPOCH, &producer.epoch.to_be_bytes());
    put(batch, at::BASE_SEQUENCE, &producer.first_sequence.to_be_bytes());
    write_crc(batch);
}

/// The values of the records of an uncompressed batch, as slices of it. Bounded by the batch's own length.
pub fn values(batch: &Bytes) -> Result<Vec<Option<Bytes>>, BatchError> {
    if BatchHeader::parse(batch)?.compression()? != Compression::None {
        return Err(BatchError::Compressed);
    }
    records(batch, batch.len())?
        .map(|record| record.map(|record| record.value))
        .collect()
}

/// Splits stored bytes, batches back to back, into batches. Ends after the first error; a batch that a fetch's limit
/// cut off is [`BatchError::Truncated`].
pub fn split(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

/// The iterator of [`split`].
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchHeader::parse(&self.rest) {
            Ok(header) => Some(Ok((header, self.rest.split_to(header.length as usize)))),
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}
