//! The 61-byte header of Kafka's record batch, format v2, read and patched in place.

use bytes::{Bytes, BytesMut};

/// A position in a partition, counted in records from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Offset(pub i64);

/// What Kafka calls the leader epoch, and Raft the term: the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LeaderEpoch(pub i32);

/// Bytes in a batch header.
pub const HEADER_LEN: usize = 61;

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

/// A decoded header. All fields are as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "skeleton")]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes of the whole batch, the 12 bytes of base offset and length included.
    pub length: u32,
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl BatchHeader {
    /// Reads and checks the structure: magic, length against `bytes`, counts. Does not check the CRC.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        todo!()
    }
    pub fn last_offset(&self) -> Offset {
        todo!()
    }
    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        todo!()
    }
    /// None if the producer is not idempotent.
    pub fn producer(&self) -> Option<ProducerStamp> {
        todo!()
    }
    pub fn is_control(&self) -> bool {
        todo!()
    }
    pub fn is_transactional(&self) -> bool {
        todo!()
    }
}

/// Why bytes are no record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "skeleton")]
pub enum BatchError {
    Truncated,
    BadMagic(i8),
    BadLength(i32),
    BadCrc { stored: u32, computed: u32 },
    BadCount,
}

/// Checks the CRC-32C of exactly one batch.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let _ = batch;
    todo!()
}

/// Writes what a leader decides: base offset and leader epoch. Neither is under the CRC.
pub fn stamp(batch: &mut BytesMut, base_offset: Offset, epoch: LeaderEpoch) {
    let _ = (batch, base_offset, epoch);
    todo!()
}

/// One uncompressed record batch from keys and values, for the project's own records (metadata commands, tests, the
/// command line).
pub fn build(timestamp_ms: i64, records: &[(Option<&[u8]>, Option<&[u8]>)]) -> BytesMut {
    let _ = (timestamp_ms, records);
    todo!()
}

/// The values of the records of an uncompressed batch, as slices of it. Bounded by the batch's own length.
pub fn values(batch: &Bytes) -> Result<Vec<Option<Bytes>>, BatchError> {
    let _ = batch;
    todo!()
}
