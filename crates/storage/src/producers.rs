//! The last batches of idempotent producers (KIP-98), so that none is stored twice.
//!
//! While the batches are in a log, they are found there. What retention deletes of them is kept beside it (`producers`,
//! a file in the replica's folder), and sent to a follower whose log is to begin behind it ([`crate::snapshot`]).
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

use crate::codec::{CUT_SHORT, take, take_counted};
use crate::log::BatchMeta;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use trimaran_raft::LogIndex;
use trimaran_wire::batch::{BatchHeader, Offset, ProducerStamp};

/// Batches kept of a producer: as many as it may have in flight (Kafka's `ProducerStateEntry`).
pub const KEPT_BATCHES: usize = 5;
/// Producers kept of a group: up to 36 MB in memory, and a file of at most 12 MB. One that is forgotten may begin with
/// any sequence again.
pub const MAX_PRODUCERS: usize = 65_536;

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

/// As many of these batches as that, ascending by index as they are: all those of the producers that sent something
/// last.
pub fn newest(batches: &[ProducedBatch], count: usize) -> Vec<ProducedBatch> {
    if batches.len() <= count {
        return batches.to_vec();
    }
    let mut of_producers = BTreeMap::<i64, Vec<ProducedBatch>>::new();
    for batch in batches {
        of_producers.entry(batch.producer).or_default().push(*batch);
    }
    let mut newest_first: Vec<_> = of_producers.into_values().collect();
    newest_first.sort_unstable_by_key(|batches| Reverse(batches.last().map(|last| last.index)));
    let mut room = count;
    let mut kept: Vec<_> = newest_first
        .into_iter()
        .take_while(|batches| {
            let fits = batches.len() <= room;
            room = room.saturating_sub(batches.len());
            fits
        })
        .flatten()
        .collect();
    kept.sort_unstable_by_key(|batch| batch.index);
    kept
}

/// Appends batches to a record: how many `u32`, then the batches.
pub(crate) fn put_batches(to: &mut Vec<u8>, batches: &[ProducedBatch]) {
    let count = u32::try_from(batches.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&count.to_le_bytes());
    batches.iter().for_each(|batch| put_batch(to, batch));
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

/// Takes what [`put_batches`] has put off the front of a record: no more than `limit`.
pub(crate) fn take_batches(
    from: &mut &[u8],
    first: LogIndex,
    limit: usize,
) -> Result<Vec<ProducedBatch>, &'static str> {
    let count = u32::from_le_bytes(take(from)?) as usize;
    if count > limit {
        return Err("it names more batches of producers than it may");
    }
    take_so_many(from, count, first)
}

/// Takes `count` batches off the front of a record: their indexes ascend, and lie before `first`. The count is held
/// against what is left before anything is allocated.
pub(crate) fn take_so_many(
    from: &mut &[u8],
    count: usize,
    first: LogIndex,
) -> Result<Vec<ProducedBatch>, &'static str> {
    if from.len() / RECORD_LEN < count {
        return Err(CUT_SHORT);
    }
    let mut batches = Vec::with_capacity(count);
    let mut before = LogIndex::ZERO;
    for _ in 0..count {
        let batch = take_batch(from)?;
        if batch.index <= before || batch.index >= first {
            return Err("a producer's batch is not where it can be");
        }
        before = batch.index;
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
