//! The broker's monotonic clock, in the words of `raft`.

use std::time::Duration;
use trimaran_raft::Instant;

/// Counts from the start of the process. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// Starts at zero.
    pub(crate) fn start() -> Clock {
        Clock {
            origin: std::time::Instant::now(),
        }
    }

    /// The present.
    pub(crate) fn now(self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The same moment on the standard library's clock, for waiting.
    pub(crate) fn std(self, at: Instant) -> std::time::Instant {
        self.origin + Duration::from_micros(at.0.min(u64::from(u32::MAX) * 1_000_000))
    }
}

/// Milliseconds since 1970, as Kafka's timestamps have it.
pub(crate) fn wall_clock_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
