//! The order of a connection's appends, where some batches are still being checked on another thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use trimaran_transport::ConnectionId;

/// The last turn of each connection that has one.
#[derive(Clone, Default)]
pub(super) struct Turns {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    last: Mutex<HashMap<ConnectionId, Last>>,
    /// Turns that are not over. Almost always zero, and then nobody has to take the lock.
    count: AtomicUsize,
    /// Turns given out so far.
    given: AtomicU64,
}

struct Last {
    number: u64,
    /// Resolves when the turn is over.
    over: oneshot::Receiver<()>,
}

/// A request's turn to append: after the one before it on its connection, and before the next one.
pub(super) struct Turn {
    inner: Arc<Inner>,
    connection: ConnectionId,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    over: Option<oneshot::Sender<()>>,
}

/// The request before this one was given up, so this one must not be appended in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

impl Turns {
    /// The next turn of a connection, to be called in the order of its requests. None if the request may append at once: it
    /// need not wait itself (`has_to_wait`), and no request before it is waiting.
    pub(super) fn next(&self, connection: ConnectionId, has_to_wait: bool) -> Option<Turn> {
        if !has_to_wait && self.inner.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut last = self.inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_to_wait && !last.contains_key(&connection) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let number = self.inner.given.fetch_add(1, Ordering::Relaxed);
        let before = last.insert(connection, Last { number, over: receiver });
        self.inner.count.fetch_add(1, Ordering::AcqRel);
        Some(Turn {
            inner: Arc::clone(&self.inner),
            connection,
            number,
            before: before.map(|before| before.over),
            over: Some(sender),
        })
    }
}

impl Turn {
    /// Waits until every request before this one has appended.
    pub(super) async fn come(&mut self) -> Result<(), GivenUp> {
        if let Some(before) = &mut self.before {
            before.await.map_err(|_| GivenUp)?;
            self.before = None;
        }
        Ok(())
    }

    /// The request has appended what it had to append: the next one may.
    pub(super) fn finish(mut self) {
        if let Some(over) = self.over.take() {
            // Nobody may be waiting.
            let _ = over.send(());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut last = self.inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Given up: what follows finds that out from the channel, as long as there is no later turn.
        let is_last = last
            .get(&self.connection)
            .is_some_and(|last| last.number == self.number);
        if is_last {
            last.remove(&self.connection);
        }
        self.inner.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ONE: ConnectionId = ConnectionId(1);

    #[tokio::test]
    async fn requests_append_in_their_order() {
        let turns = Turns::default();
        assert!(turns.next(ONE, false).is_none(), "nobody waits");
        let mut first = turns.next(ONE, true).unwrap();
        let mut second = turns.next(ONE, false).unwrap();
        assert!(turns.next(ConnectionId(2), false).is_none(), "another connection");
        first.come().await.unwrap();
        let early = tokio::time::timeout(Duration::ZERO, second.come()).await;
        assert!(early.is_err(), "the first has not appended yet");
        first.finish();
        second.come().await.unwrap();
        let mut third = turns.next(ONE, false).unwrap();
        second.finish();
        third.come().await.unwrap();
        third.finish();
        assert!(turns.next(ONE, false).is_none(), "all are through");
        assert_eq!(turns.inner.count.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn nothing_is_appended_behind_a_request_that_was_given_up() {
        let turns = Turns::default();
        let first = turns.next(ONE, true).unwrap();
        let mut second = turns.next(ONE, false).unwrap();
        drop(first);
        assert_eq!(second.come().await, Err(GivenUp));
        let mut third = turns.next(ONE, false).unwrap();
        drop(second);
        assert_eq!(third.come().await, Err(GivenUp));
    }
}
