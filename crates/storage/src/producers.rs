//! What idempotent producers sent last (KIP-98): what has to be known of a batch so that it is not stored twice.
//!
//! While the batches are in a log, they are found there. What retention deletes of them is remembered beside it
//! (`producers`, a file in the replica's folder).
//!
//! # How a batch looks on disk
//!
//! | at | field |
//! |---|---|
//! | 0 | producer id `i64` |
//! | 8 | index `u64` |
//! | 16 | offset of the first record `i64` |
//! | 24 | sequence of the first record `i32` |
//! | 28 | sequence of the last record `i32` |
//! | 32 | producer epoch `i16` |
//! | 34 | zero `u16` |
//!
//! All little-endian.

use crate::log::BatchMeta;
use crate::start::{take, take_counted};
use trimaran_raft::LogIndex;
use trimaran_wire::batch::{BatchHeader, Offset, ProducerStamp};

/// Batches remembered a producer: as many as it may have in flight (Kafka's `ProducerStateEntry`).
pub const KEPT_BATCHES: usize = 5;
/// Producers remembered a group. Some 300 bytes each; one that is forgotten may begin with any sequence again.
pub const MAX_PRODUCERS: usize = 4_096;

/// Bytes of a batch on disk.
pub(crate) const RECORD_LEN: usize = 36;

/// A batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedBatch {
    /// Whose it is.
    pub producer: i64,
    /// The producer's epoch: a later one fences those before it.
    pub epoch: i16,
    /// Of its first record.
    pub first_sequence: i32,
    /// Of its last record.
    pub last_sequence: i32,
    /// Where it is, was, or will be stored.
    pub index: LogIndex,
    /// Its first record's offset there.
    pub base_offset: Offset,
}

impl ProducedBatch {
    /// None if the producer is not idempotent.
    pub fn of_header(index: LogIndex, base_offset: Offset, header: &BatchHeader) -> Option<ProducedBatch> {
        let ProducerStamp {
            id,
            epoch,
            first_sequence,
        } = header.producer()?;
        Some(ProducedBatch {
            producer: id,
            epoch,
            first_sequence,
            last_sequence: advanced(first_sequence, i64::from(header.last_offset_delta)),
            index,
            base_offset,
        })
    }

    /// None if the producer is not idempotent.
    pub fn of_meta(meta: &BatchMeta) -> Option<ProducedBatch> {
        (meta.producer_id >= 0).then(|| ProducedBatch {
            producer: meta.producer_id,
            epoch: meta.producer_epoch,
            first_sequence: meta.base_sequence,
            last_sequence: advanced(meta.base_sequence, meta.last_offset.0 - meta.base_offset.0),
            index: meta.index,
            base_offset: meta.base_offset,
        })
    }

    /// The sequence that the producer's next batch begins with, unless its epoch is a new one.
    pub fn next_sequence(&self) -> i32 {
        advanced(self.last_sequence, 1)
    }
}

/// A sequence number some records later. They wrap from 2^31 - 1 to 0 (Kafka's `DefaultRecordBatch.incrementSequence`).
fn advanced(sequence: i32, by: i64) -> i32 {
    let wrapped = (i64::from(sequence) + by).rem_euclid(1 << 31);
    i32::try_from(wrapped).unwrap_or(0)
}

/// Appends a batch to a record.
pub(crate) fn put_batch(to: &mut Vec<u8>, batch: &ProducedBatch) {
    to.extend_from_slice(&batch.producer.to_le_bytes());
    to.extend_from_slice(&batch.index.0.to_le_bytes());
    to.extend_from_slice(&batch.base_offset.0.to_le_bytes());
    to.extend_from_slice(&batch.first_sequence.to_le_bytes());
    to.extend_from_slice(&batch.last_sequence.to_le_bytes());
    to.extend_from_slice(&batch.epoch.to_le_bytes());
    to.extend_from_slice(&[0; 2]);
}

/// Takes `count` batches off the front of a record: their indexes ascend, and lie before `first`. The count is held against
/// what is left before anything is allocated.
pub(crate) fn take_batches(
    from: &mut &[u8],
    count: usize,
    first: LogIndex,
) -> Result<Vec<ProducedBatch>, &'static str> {
    if from.len() / RECORD_LEN < count {
        return Err(crate::start::CUT_SHORT);
    }
    let mut batches = Vec::with_capacity(count);
    let mut after = LogIndex::ZERO;
    for _ in 0..count {
        let batch = take_batch(from)?;
        if batch.index <= after || batch.index >= first {
            return Err("a producer's batch is not where it can be");
        }
        after = batch.index;
        batches.push(batch);
    }
    Ok(batches)
}

fn take_batch(from: &mut &[u8]) -> Result<ProducedBatch, &'static str> {
    let batch = ProducedBatch {
        producer: i64::from_le_bytes(take(from)?),
        index: LogIndex(take_counted(from)?),
        base_offset: Offset(take_counted(from)? as i64),
        first_sequence: i32::from_le_bytes(take(from)?),
        last_sequence: i32::from_le_bytes(take(from)?),
        epoch: i16::from_le_bytes(take(from)?),
    };
    let zero: [u8; 2] = take(from)?;
    if zero != [0; 2] {
        return Err("it was written by a newer version");
    }
    let is_idempotent =
        batch.producer >= 0 && batch.epoch >= 0 && batch.first_sequence >= 0 && batch.last_sequence >= 0;
    match is_idempotent {
        true => Ok(batch),
        false => Err("a batch is of no idempotent producer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap() {
        assert_eq!(advanced(i32::MAX, 1), 0);
        assert_eq!(advanced(i32::MAX - 2, 5), 2);
    }
}
