//! One limit on what all requests together spend on reading compressed batches, and on compressing them: threads, and memory.
//!
//! Kafka streams as well, but in as many threads as handle requests. Here a batch that is not read at once goes to a thread that
//! may block, so that a burst of large ones delays neither heartbeats nor small requests.

use super::errors::Failure;
use crate::memory::MemoryBudget;
use kafka_protocol::ResponseError;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use trimaran_wire::batch::{self, BatchError};

/// The bytes that the records of one batch may decompress to: far above what is in a batch of the largest size that topics allow by
/// default, and little enough to be read in a fraction of a second.
pub(super) const MAX_DECOMPRESSED_BYTES: usize = 128 << 20;

/// Permission to read batches, for as many at a time as there are cores, within the share of memory that is theirs
/// ([`MemoryBudget::decompression`]).
#[derive(Clone)]
pub(super) struct Decompression {
    slots: Arc<Semaphore>,
    memory: Arc<MemoryBudget>,
}

/// One of the batches that may be read at a time. Its memory is asked for once the batch is known; nobody who holds memory
/// waits for a slot.
pub(super) struct Slot {
    slot: OwnedSemaphorePermit,
    memory: Arc<MemoryBudget>,
}

impl Decompression {
    pub(super) fn new(memory: Arc<MemoryBudget>) -> Decompression {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        Decompression::with_slots(cores, memory)
    }

    fn with_slots(slots: usize, memory: Arc<MemoryBudget>) -> Decompression {
        Decompression {
            slots: Arc::new(Semaphore::new(slots)),
            memory,
        }
    }

    /// Waits for a slot until the deadline.
    pub(super) async fn slot(&self, deadline: Instant) -> Result<Slot, Failure> {
        match timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(Slot {
                slot,
                memory: Arc::clone(&self.memory),
            }),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(too_busy()),
        }
    }
}

impl Slot {
    /// Waits until the deadline for the memory that reading this batch takes, and `more` bytes, and reads it on a thread that may
    /// block.
    /// Dropping the future does not stop a read that has begun, nor give back before its end what it was permitted.
    pub(super) async fn read<B, T>(
        self,
        batch: B,
        more: usize,
        deadline: Instant,
        read: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, Failure>
    where
        B: AsRef<[u8]> + Send + 'static,
        T: Send + 'static,
    {
        let cost = batch::decompression_cost(batch.as_ref(), MAX_DECOMPRESSED_BYTES);
        // If there is none, the reader will say what is wrong with the batch.
        let bytes = cost.map_or(0, |cost| cost.memory).saturating_add(more) as u64;
        let patience = deadline.saturating_duration_since(Instant::now());
        let Some(memory) = self.memory.decompression.reserve(bytes, patience).await else {
            return Err(too_busy());
        };
        let slot = self.slot;
        let reading = tokio::task::spawn_blocking(move || {
            let found = read(batch.as_ref());
            drop((memory, slot));
            found
        });
        reading
            .await
            .map_err(|_| Failure::new(ResponseError::KafkaStorageError, "the broker is stopping"))
    }
}

/// Every client asks again after its back-off.
fn too_busy() -> Failure {
    let message = "too many compressed batches are being read; try again, or send smaller ones";
    Failure::new(ResponseError::RequestTimedOut, message)
}

/// The result of `validate` if that takes no longer than copying the batch; none if it has to be read on another thread.
pub(super) fn validate_at_once(bytes: &[u8]) -> Result<Option<batch::Contents>, BatchError> {
    /// Decompressed bytes, which takes about a tenth of a millisecond. Most batches of clients with their defaults have fewer.
    const AT_ONCE: usize = 256 << 10;
    if batch::decompression_cost(bytes, MAX_DECOMPRESSED_BYTES)?.piece > AT_ONCE {
        return Ok(None);
    }
    match batch::validate(bytes, AT_ONCE) {
        Ok(contents) => Ok(Some(contents)),
        Err(BatchError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
