//! A queue into one of the broker's threads.

use crate::workers::Activity;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Many threads push, one or a few take. Nobody holds the lock while working, so pushing never waits for work.
///
/// What is pushed by [`Queue::push`] is bounded by its senders (answers to work that was limited when it was accepted);
/// what comes from outside goes through [`Queue::offer`], which has a limit.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    /// What the one thread that takes is at; none if it is not watched, or if several take.
    taker: Option<Arc<Activity>>,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// Threads in `wait`: a push wakes one only if there is one.
    asleep: usize,
    closed: bool,
}

/// The queue is closed, and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> Queue<T> {
    /// An empty, open queue.
    pub(crate) fn new() -> Queue<T> {
        Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                asleep: 0,
                closed: false,
            }),
            ready: Condvar::new(),
            taker: None,
        }
    }

    /// An empty, open queue from which one thread takes. From the moment that something waits for it, that thread
    /// counts as busy: one that is not woken hangs as well as one that does not return.
    pub(crate) fn watched(taker: Arc<Activity>) -> Queue<T> {
        Queue {
            taker: Some(taker),
            ..Queue::new()
        }
    }

    /// Appends an item; drops it if the queue is closed.
    pub(crate) fn push(&self, item: T) {
        let mut state = self.lock();
        if !state.closed {
            state.items.push_back(item);
            self.wake(&state);
        }
    }

    /// Appends an item unless `limit` are waiting; says whether it did.
    pub(crate) fn offer(&self, item: T, limit: usize) -> bool {
        let mut state = self.lock();
        if state.closed || state.items.len() >= limit {
            return false;
        }
        state.items.push_back(item);
        self.wake(&state);
        true
    }

    /// Waits for an item.
    ///
    /// # Errors
    /// [`Closed`] once the queue is closed and everything in it was taken.
    pub(crate) fn pop(&self) -> Result<T, Closed> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Ok(item);
            }
            if state.closed {
                return Err(Closed);
            }
            state = self.sleep(state, None);
        }
    }

    /// Moves everything there is to `into`, waiting for something until `until` (for ever without one). May return
    /// early, with nothing.
    ///
    /// # Errors
    /// [`Closed`] once the queue is closed and everything in it was taken.
    pub(crate) fn take(&self, into: &mut Vec<T>, until: Option<Instant>) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.items.is_empty() && !state.closed {
            state = self.sleep(state, until);
        }
        if state.items.is_empty() && state.closed {
            return Err(Closed);
        }
        into.extend(state.items.drain(..));
        Ok(())
    }

    /// No more is accepted; what is there is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    fn wake(&self, state: &State<T>) {
        if state.asleep > 0 {
            if let Some(taker) = &self.taker {
                taker.called();
            }
            self.ready.notify_one();
        }
    }

    fn sleep<'a>(&self, mut state: MutexGuard<'a, State<T>>, until: Option<Instant>) -> MutexGuard<'a, State<T>> {
        state.asleep += 1;
        let mut state = match until {
            None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let patience = until.saturating_duration_since(Instant::now());
                let woken = self.ready.wait_timeout(state, patience);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.asleep -= 1;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No user code runs under the lock, so a panic elsewhere can't have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_over_in_order_and_ends_when_closed() {
        let queue = Arc::new(Queue::new());
        let taker = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                let mut all = Vec::new();
                while queue.take(&mut all, None).is_ok() {}
                all
            }
        });
        for n in 0..1000 {
            queue.push(n);
        }
        queue.close();
        queue.push(7);
        assert_eq!(taker.join().unwrap(), (0..1000).collect::<Vec<_>>());
        assert_eq!(queue.pop(), Err(Closed));
    }

    #[test]
    fn offers_are_limited() {
        let queue = Queue::new();
        assert!(queue.offer(1, 1));
        assert!(!queue.offer(2, 1));
        queue.push(3);
        assert_eq!((queue.pop(), queue.pop()), (Ok(1), Ok(3)));
    }

    #[test]
    fn taking_gives_up_at_its_deadline() {
        let queue: Queue<u8> = Queue::new();
        let mut none = Vec::new();
        assert_eq!(queue.take(&mut none, Some(Instant::now())), Ok(()));
        assert!(none.is_empty());
    }
}
