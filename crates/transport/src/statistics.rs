//! Counters that the owner exports. Plain atomics: reading them disturbs nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a listener. One value may serve several listeners.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Connections accepted and kept.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections turned away because of a limit on their number.
    pub turned_away: AtomicU64,
    /// Requests being worked on now, or whose response waits for its turn.
    pub in_flight: AtomicU64,
    /// Bytes of requests being worked on now that count towards [`crate::Limits::in_flight_bytes_total`].
    pub request_bytes: AtomicU64,
    /// Frames received.
    pub frames_in: AtomicU64,
    /// Frames sent.
    pub frames_out: AtomicU64,
    /// Bytes received, lengths included.
    pub bytes_in: AtomicU64,
    /// Bytes sent, lengths included.
    pub bytes_out: AtomicU64,
    /// Connections that this side closed, by reason.
    pub closed: CloseCounters,
}

/// Connections that this side closed, by reason.
#[derive(Debug, Default)]
pub struct CloseCounters {
    /// A frame longer than the limit, or of negative length.
    pub oversized: AtomicU64,
    /// Nothing in flight and nothing received for [`crate::Limits::idle_timeout`].
    pub idle: AtomicU64,
    /// A frame that began and didn't go on, or too slowly, or for which there was no room.
    pub stalled: AtomicU64,
    /// Responses that the client didn't take.
    pub slow_reader: AtomicU64,
    /// The rest of a response that had begun could not be read any more.
    pub unreadable: AtomicU64,
    /// The service said [`crate::Reply::Close`].
    pub by_service: AtomicU64,
    /// The service panicked, or answered with a frame longer than a length can say: a bug of our own.
    pub failed: AtomicU64,
    /// Cut because what was in flight was not finished by the deadline of a shutdown, or of a client's own half close.
    pub not_drained: AtomicU64,
    /// A peer's hello was not acceptable.
    pub not_admitted: AtomicU64,
}

/// The counters of one outgoing link.
#[derive(Debug, Default)]
pub struct LinkStatistics {
    /// 1 while connected (the handshake done), else 0.
    pub connected: AtomicU64,
    /// Times that a connection was made, handshake included.
    pub connects: AtomicU64,
    /// Times that such a connection was lost.
    pub closes: AtomicU64,
    /// Attempts that failed, refused and rejected ones included.
    pub failed_attempts: AtomicU64,
    /// Frames written.
    pub frames_out: AtomicU64,
    /// Bytes written, lengths included.
    pub bytes_out: AtomicU64,
    /// Frames dropped: the queue was full, or the peer not there.
    pub dropped_frames: AtomicU64,
    /// Their bytes.
    pub dropped_bytes: AtomicU64,
    /// Bytes that wait in the queue now.
    pub queued_bytes: AtomicU64,
}

/// Counts a connection as open while it lasts.
pub(crate) struct Open(Arc<Statistics>);

impl Open {
    pub(crate) fn begin(statistics: Arc<Statistics>) -> Open {
        add(&statistics.accepted, 1);
        add(&statistics.open, 1);
        Open(statistics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        subtract(&self.0.open, 1);
    }
}

/// Adds `amount` to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

/// Takes `amount` from a gauge to which it was added before.
pub(crate) fn subtract(gauge: &AtomicU64, amount: usize) {
    gauge.fetch_sub(amount as u64, Ordering::Relaxed);
}
