//! Records of `__consumer_offsets`: out of what a read has found, and into batches.

use super::copy::{Growth, Mark};
use crate::clock::wall_clock_ms;
use crate::engine::Engine;
use bytes::{Bytes, BytesMut};
use std::fmt;
use trimaran_coordinator::record::DecodeError;
use trimaran_coordinator::{Coordinator, Offset, Record};
use trimaran_multiraft::ReadResult;
use trimaran_raft::GroupId;
use trimaran_storage::log::LogError;
use trimaran_wire::batch::{self, BatchError, KeyValue};

/// The most that a batch may decompress to: four times the largest that a coordinator writes, which are not compressed.
const MAX_BATCH_BYTES: usize = 4 * trimaran_coordinator::limits::WRITE_BYTES;

/// Why records can't be replayed.
#[derive(Debug)]
pub(super) enum ReplayError {
    /// A segment can't be read; its replica has been told.
    Log(LogError),
    /// A batch is not one.
    Batch(BatchError),
    /// A record is not of a kind that this version knows.
    Record(Offset, DecodeError),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Log(error) => error.fmt(f),
            ReplayError::Batch(error) => error.fmt(f),
            ReplayError::Record(offset, error) => write!(f, "the record at offset {}: {error}", offset.0),
        }
    }
}

/// The outcome of a replay.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replayed {
    /// The offset from which to go on.
    pub(super) next: batch::Offset,
    /// The last mark behind a copy of the state.
    pub(super) mark: Option<Mark>,
}

/// Replays what was read.
pub(super) async fn replay(
    engine: &Engine,
    group: GroupId,
    read: ReadResult,
    coordinator: &mut Coordinator,
    growth: &mut Growth,
) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed::default();
    for bytes in engine.load(group, read.chunks).await.map_err(ReplayError::Log)? {
        replay_batches(bytes, coordinator, growth, &mut replayed)?;
        // A long log must not keep other tasks from this thread.
        tokio::task::yield_now().await;
    }
    Ok(replayed)
}

fn replay_batches(
    bytes: Bytes,
    coordinator: &mut Coordinator,
    growth: &mut Growth,
    replayed: &mut Replayed,
) -> Result<(), ReplayError> {
    for found in batch::split(bytes) {
        let (header, batch) = found.map_err(ReplayError::Batch)?;
        growth.add(batch.len());
        replayed.next = header.next_offset();
        // Markers of transactions: none of a consumer group's state.
        if header.is_control() {
            continue;
        }
        for record in batch::records(&batch, MAX_BATCH_BYTES).map_err(ReplayError::Batch)? {
            let record = record.map_err(ReplayError::Batch)?;
            let offset = Offset(record.offset.0);
            let (key, value) = (record.key.as_deref().unwrap_or_default(), record.value.as_deref());
            let applied = coordinator.replay(offset, key, value);
            applied.map_err(|error| ReplayError::Record(offset, error))?;
            if let Some(mark) = Mark::of(key, value) {
                growth.copied(mark);
                replayed.mark = Some(mark);
            }
        }
    }
    Ok(())
}

/// Records as one batch.
pub(super) fn batch(records: &[Record]) -> BytesMut {
    let pairs = records.iter();
    let pairs: Vec<KeyValue<'_>> = pairs
        .map(|record| (Some(&record.key[..]), record.value.as_deref()))
        .collect();
    batch::build(wall_clock_ms(), &pairs)
}
