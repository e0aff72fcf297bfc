//! The budget for memory that grows with load, and its shares.
//!
//! Everything that a client, a peer or a full disk can make grow belongs to a share, and each share has a limit of its
//! own: what is over it waits, or gets an error that clients retry, and the other shares don't notice. The total is
//! `limits.memory_bytes`; without that key it follows from the machine or the container (`memory/machine.rs`). See decision 30.

mod machine;

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use machine::{Machine, Origin};

/// The largest default. A log wants its memory in the page cache, which serves readers of segments; Kafka's default heap
/// is as large.
const MAX_DEFAULT_BYTES: u64 = 1 << 30;

/// Part of the memory that the default takes.
const DEFAULT_PART: u64 = 4;

/// The smallest budget: below it not even one batch of a megabyte fits into every share.
pub const MIN_BYTES: u64 = 64 << 20;

/// The unit in which reservations are counted. A semaphore's permits are 32 bits wide: in bytes they would end at 4 GiB.
const UNIT: u64 = 1024;

/// The budget of a broker. The rest, which no share has, is for what hardly grows with load: code, stacks, connections,
/// the catalog, and what the allocator keeps.
#[derive(Debug)]
pub struct MemoryBudget {
    total: u64,
    /// Log tails: five sixteenths. Enforced by the shards, which drop what is in segments already, the idlest first, and
    /// refuse appends when what is not exceeds it.
    tails: u64,
    /// Bytes in use by the tails, as the shards last said: one value a shard.
    tails_held: Vec<AtomicU64>,
    /// Clients' requests being worked on: a quarter.
    requests: u64,
    /// Messages that wait for a peer, with what was read for replicas that are behind: an eighth.
    peers: u64,
    /// Responses that wait for their sockets: an eighth.
    pub responses: Share,
    /// Records being decompressed, for validation and for look-ups: a sixteenth.
    pub decompression: Share,
}

impl MemoryBudget {
    /// The shares of `total`, for a broker of `shards`.
    pub fn new(total: u64, shards: usize) -> MemoryBudget {
        let total = total.max(MIN_BYTES);
        MemoryBudget {
            total,
            tails: total / 16 * 5,
            tails_held: (0..shards.max(1)).map(|_| AtomicU64::new(0)).collect(),
            requests: total / 4,
            peers: total / 8,
            responses: Share::new("responses", total / 8),
            decompression: Share::new("decompression", total / 16),
        }
    }

    /// The whole of it, in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes for log tails, all shards together.
    pub fn tails(&self) -> u64 {
        self.tails
    }

    /// Bytes for clients' requests being worked on.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Bytes that may wait for each of so many peers. Entries from a log's tail are counted there as well; those that were
    /// read from segments, for a replica that is behind, only here.
    pub fn queue_of_peer(&self, peers: usize) -> u64 {
        self.peers / peers.max(1) as u64
    }

    /// A shard says what its tails take.
    pub fn note_tails(&self, shard: usize, bytes: u64) {
        if let Some(held) = self.tails_held.get(shard) {
            held.store(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that the tails take, all shards together.
    pub fn tails_held(&self) -> u64 {
        self.tails_held.iter().map(|held| held.load(Ordering::Relaxed)).sum()
    }

    /// The shares that are reserved from.
    pub fn shares(&self) -> [&Share; 2] {
        [&self.responses, &self.decompression]
    }
}

/// The default of `limits.memory_bytes` on a machine: a quarter of its memory, but no more than a gigabyte.
pub fn default_bytes(machine: &Machine) -> u64 {
    (machine.bytes / DEFAULT_PART).clamp(MIN_BYTES, MAX_DEFAULT_BYTES)
}

/// One part of the budget: what is reserved is counted until the [`Reservation`] is dropped. Waiters are served in the
/// order in which they came.
pub struct Share {
    name: &'static str,
    bytes: u64,
    free: Arc<Semaphore>,
    refused: AtomicU64,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} bytes", self.name, self.held(), self.bytes)
    }
}

/// Bytes of a [`Share`], given back when dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
    /// Permits that the share has in all.
    most: u32,
}

struct Held {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Reservation {
    /// Bytes reserved: at least those asked for, unless that was more than the share.
    pub fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * UNIT
    }

    /// Whether so many bytes were reserved, or all that there are.
    pub fn covers(&self, bytes: u64) -> bool {
        self.permit.num_permits() >= self.most.min(units(bytes)) as usize
    }

    /// The bytes, with this reservation for as long as they or a slice of them are in use.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held {
            bytes,
            _reservation: self,
        })
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.permit.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.permit.split(surplus));
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Share {
    /// A share of so many bytes, all of them free.
    pub fn new(name: &'static str, bytes: u64) -> Share {
        let permits = units(bytes).max(1) as usize;
        Share {
            name,
            bytes: permits as u64 * UNIT,
            free: Arc::new(Semaphore::new(permits)),
            refused: AtomicU64::new(0),
        }
    }

    /// Its name in the metrics.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The whole of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        self.free.available_permits() as u64 * UNIT
    }

    /// Bytes that are reserved.
    pub fn held(&self) -> u64 {
        self.bytes.saturating_sub(self.free())
    }

    /// Reservations that were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn reservation(&self, permit: OwnedSemaphorePermit) -> Reservation {
        Reservation {
            permit,
            most: units(self.bytes),
        }
    }

    /// Permits for `bytes`. More than the share has can't be had: then all of it, so that alone any size gets its turn.
    fn permits(&self, bytes: u64) -> u32 {
        units(bytes.min(self.bytes))
    }

    /// Reserves `bytes` at once; none if they are not free.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        match Arc::clone(&self.free).try_acquire_many_owned(self.permits(bytes)) {
            Ok(permit) => Some(self.reservation(permit)),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Reserves `bytes`, after waiting for them up to `patience`; none if they are not free by then.
    pub async fn reserve(&self, bytes: u64, patience: Duration) -> Option<Reservation> {
        let acquired = Arc::clone(&self.free).acquire_many_owned(self.permits(bytes));
        match tokio::time::timeout(patience, acquired).await {
            Ok(Ok(permit)) => Some(self.reservation(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_within_the_total() {
        for total in [MIN_BYTES, 1 << 30, 5 << 40] {
            let budget = MemoryBudget::new(total, 2);
            let shares: u64 = budget.shares().iter().map(|share| share.bytes()).sum();
            let peers = 4 * budget.queue_of_peer(4);
            assert!(budget.tails() + budget.requests() + peers + shares <= total / 8 * 7 + 2 * UNIT);
        }
        assert_eq!(MemoryBudget::new(1, 1).total(), MIN_BYTES, "a budget is never useless");
    }

    #[test]
    fn the_default_is_a_quarter_of_the_memory_and_a_gigabyte_at_most() {
        let of = |bytes| {
            default_bytes(&Machine {
                bytes,
                origin: Origin::Machine,
            })
        };
        assert_eq!(of(512 << 20), 128 << 20);
        assert_eq!(of(2 << 30), 512 << 20);
        assert_eq!(of(64 << 30), 1 << 30);
        assert_eq!(of(16 << 20), MIN_BYTES);
    }

    #[test]
    fn what_is_reserved_is_not_free_until_it_is_dropped() {
        let share = Share::new("test", 10 * UNIT);
        let one = share.try_reserve(6 * UNIT - 1).unwrap();
        assert_eq!((share.held(), share.free()), (6 * UNIT, 4 * UNIT));
        assert!(share.try_reserve(4 * UNIT + 1).is_none());
        assert_eq!(share.refused(), 1);
        drop(one);
        assert_eq!((share.held(), share.free()), (0, 10 * UNIT));
    }

    #[test]
    fn more_than_the_share_is_all_of_it() {
        let share = Share::new("test", 10 * UNIT);
        let all = share.try_reserve(u64::MAX).unwrap();
        assert_eq!((share.free(), all.bytes()), (0, 10 * UNIT));
        assert!(share.try_reserve(1).is_none(), "and only once");
    }

    #[test]
    fn a_reservation_can_shrink() {
        let share = Share::new("test", 10 * UNIT);
        let mut held = share.try_reserve(8 * UNIT).unwrap();
        held.shrink_to(2 * UNIT + 1);
        assert_eq!((held.bytes(), share.held()), (3 * UNIT, 3 * UNIT));
        held.shrink_to(u64::MAX);
        assert_eq!(held.bytes(), 3 * UNIT, "it never grows");
    }

    #[tokio::test]
    async fn waiting_ends_with_room_or_with_the_patience() {
        let share = Arc::new(Share::new("test", 10 * UNIT));
        let all = share.try_reserve(10 * UNIT).unwrap();
        assert!(share.reserve(UNIT, Duration::from_millis(1)).await.is_none());
        assert_eq!(share.refused(), 1);
        let waiting = tokio::spawn({
            let share = Arc::clone(&share);
            async move { share.reserve(UNIT, Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(all);
        assert!(waiting.await.unwrap().is_some());
    }
}
