//! What one connection has in flight, and when it may have more.

use crate::statistics::{add, subtract};
use crate::{Limits, Statistics};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Requests and bytes in flight on one connection. One reader waits for room; requests end anywhere.
#[derive(Default)]
pub(crate) struct Flow {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// Something ended, or became smaller.
    changed: Notify,
}

impl Flow {
    /// Whether a request of `length` bytes may begin. Alone, any request may: else it could never be served.
    fn has_room(&self, length: usize, limits: &Limits) -> bool {
        let requests = self.requests();
        let bytes = self.bytes.load(Ordering::Acquire);
        requests == 0 || (requests < limits.pipeline && bytes.saturating_add(length) <= limits.in_flight_bytes)
    }

    /// Waits until a request of `length` bytes may begin. For one waiter at a time.
    pub(crate) async fn room(&self, length: usize, limits: &Limits) {
        while !self.has_room(length, limits) {
            self.changed.notified().await;
        }
    }

    /// Requests in flight.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

/// One request's part of a [`Flow`], from its arrival until its response is sent; given back when dropped.
pub(crate) struct InFlight {
    flow: Arc<Flow>,
    statistics: Arc<Statistics>,
    bytes: usize,
    /// Its part of what all connections may have in flight.
    permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    pub(crate) fn begin(
        flow: Arc<Flow>,
        statistics: Arc<Statistics>,
        bytes: usize,
        permit: Option<OwnedSemaphorePermit>,
    ) -> InFlight {
        let reserved = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        add(&statistics.request_bytes, reserved);
        flow.requests.fetch_add(1, Ordering::AcqRel);
        flow.bytes.fetch_add(bytes, Ordering::AcqRel);
        add(&statistics.in_flight, 1);
        InFlight {
            flow,
            statistics,
            bytes,
            permit,
        }
    }

    /// The request's bytes are gone, and its response's are here.
    pub(crate) fn exchange(&mut self, response_bytes: usize) {
        self.give_back();
        self.flow.bytes.fetch_add(response_bytes, Ordering::AcqRel);
        self.flow.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = response_bytes;
        self.flow.changed.notify_one();
    }
}

impl InFlight {
    fn give_back(&mut self) {
        if let Some(permit) = self.permit.take() {
            subtract(&self.statistics.request_bytes, permit.num_permits());
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.give_back();
        self.flow.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.flow.requests.fetch_sub(1, Ordering::AcqRel);
        subtract(&self.statistics.in_flight, 1);
        self.flow.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            pipeline: 2,
            in_flight_bytes: 10,
            ..Limits::default()
        }
    }

    fn begin(flow: &Arc<Flow>, bytes: usize) -> InFlight {
        InFlight::begin(flow.clone(), Arc::default(), bytes, None)
    }

    #[test]
    fn alone_any_request_may_begin() {
        let flow = Arc::new(Flow::default());
        assert!(flow.has_room(usize::MAX, &limits()));
        let one = begin(&flow, 4);
        assert!(flow.has_room(6, &limits()));
        assert!(!flow.has_room(7, &limits()));
        assert!(!flow.has_room(usize::MAX, &limits()));
        drop(one);
        assert!(flow.has_room(usize::MAX, &limits()));
    }

    #[test]
    fn the_pipeline_and_the_bytes_are_both_limits() {
        let flow = Arc::new(Flow::default());
        let mut one = begin(&flow, 1);
        let two = begin(&flow, 1);
        assert!(!flow.has_room(1, &limits()), "two requests are on their way");
        drop(two);
        one.exchange(10);
        assert!(!flow.has_room(1, &limits()), "a response waits to be sent");
        one.exchange(0);
        assert!(flow.has_room(10, &limits()));
    }

    #[tokio::test]
    async fn a_reader_that_waits_for_room_is_woken() {
        let flow = Arc::new(Flow::default());
        let one = begin(&flow, 10);
        let waiting = tokio::spawn({
            let flow = flow.clone();
            async move { flow.room(1, &limits()).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(one);
        waiting.await.unwrap();
    }
}
