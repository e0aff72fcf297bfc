//! How fast a shard reads segments for followers that are far behind.
//!
//! A replica that is filled again, or one that was away for long, is sent all it lacks. Without a limit that takes the
//! disk and the network from producers and consumers. So reads from segments for followers take tokens of a bucket
//! that fills at a steady rate; a read that finds none is queued. Nothing else waits: what is in memory is sent at
//! once.

use crate::timers::Armed;
use core::time::Duration;
use std::collections::VecDeque;
use trimaran_raft::{AppendPlan, GroupId, Instant};

/// The bucket holds what fills it in this time: short enough for the rate to be a rate, long enough that a timer that
/// is late costs nothing.
const BURST: Duration = Duration::from_millis(250);

/// A read that waits for its turn. It holds no file open: thousands may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) group: GroupId,
    pub(crate) plan: AppendPlan,
    pub(crate) bytes: u64,
}

/// The bucket, and the line before it.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// None: no limit.
    bytes_per_second: Option<u64>,
    /// A read may begin while this is above zero, and takes what it takes: so one that is larger than the bucket is not
    /// held up for ever.
    available: i64,
    updated: Instant,
    line: VecDeque<Parked>,
    armed: Armed,
}

impl Throttle {
    /// With a full bucket.
    pub(crate) fn new(bytes_per_second: Option<u64>, now: Instant) -> Throttle {
        Throttle {
            bytes_per_second,
            available: bytes_per_second.map_or(0, |rate| filled(rate, BURST)),
            updated: now,
            line: VecDeque::new(),
            armed: Armed::default(),
        }
    }

    /// Whether a read of so many bytes may begin. If not, it is queued.
    pub(crate) fn admit(&mut self, now: Instant, parked: Parked) -> bool {
        if self.bytes_per_second.is_none() {
            return true;
        }
        self.fill(now);
        if self.available <= 0 || !self.line.is_empty() {
            self.line.push_back(parked);
            return false;
        }
        self.take(parked.bytes);
        true
    }

    /// Whose turn it is, if anybody's; [`Throttle::take`] is to follow if its read begins.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Parked> {
        self.fill(now);
        if self.available > 0 {
            self.line.pop_front()
        } else {
            None
        }
    }

    /// A read has begun.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.available = self.available.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The wheel calls.
    pub(crate) fn called(&mut self, now: Instant) {
        self.armed.is_called(now);
    }

    /// When to set the timer for the next read, if it is not set for that time or before.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        let rate = self.bytes_per_second.filter(|_| !self.line.is_empty())?.max(1);
        let missing = u128::from(self.available.min(0).unsigned_abs()) + 1;
        let micros = (missing * 1_000_000).div_ceil(u128::from(rate));
        let at = self.updated + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.armed.needs(at).then_some(at)
    }

    fn fill(&mut self, now: Instant) {
        let Some(rate) = self.bytes_per_second else { return };
        let more = filled(rate, now.since(self.updated));
        // What is less than a byte is not lost: time goes on from where it was counted.
        if more > 0 {
            self.available = self.available.saturating_add(more).min(filled(rate, BURST).max(1));
            self.updated = now;
        }
    }
}

/// Bytes that come in this time.
fn filled(rate: u64, time: Duration) -> i64 {
    i64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
