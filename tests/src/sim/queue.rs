//! What happens next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Virtual time in microseconds since the run began.
pub type Micros = u64;

/// Events in the order of their time, and at one time in the order in which they were scheduled.
#[derive(Debug)]
pub struct Queue<E> {
    order: BinaryHeap<Reverse<(Micros, u64)>>,
    /// Looked up by number and never iterated over.
    events: HashMap<u64, E>,
    scheduled: u64,
    now: Micros,
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue {
            order: BinaryHeap::new(),
            events: HashMap::new(),
            scheduled: 0,
            now: 0,
        }
    }
}

impl<E> Queue<E> {
    /// The time of the event that happened last.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Lets `event` happen at `time`, or now if that has passed.
    pub fn at(&mut self, time: Micros, event: E) {
        self.scheduled += 1;
        self.order.push(Reverse((time.max(self.now), self.scheduled)));
        self.events.insert(self.scheduled, event);
    }

    /// Lets `event` happen after `delay`.
    pub fn after(&mut self, delay: Micros, event: E) {
        self.at(self.now.saturating_add(delay), event);
    }

    /// Goes on to the next event.
    pub fn next_event(&mut self) -> Option<E> {
        let Reverse((time, number)) = self.order.pop()?;
        self.now = time;
        self.events.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_the_order_of_scheduling() {
        let mut queue = Queue::default();
        queue.at(5, "c");
        queue.at(3, "a");
        queue.at(3, "b");
        assert_eq!(queue.next_event(), Some("a"));
        queue.after(0, "b2");
        assert_eq!(queue.next_event(), Some("b"));
        assert_eq!(queue.next_event(), Some("b2"));
        assert_eq!(queue.now(), 3);
        queue.at(1, "late");
        assert_eq!(queue.next_event(), Some("late"));
        assert_eq!(queue.now(), 3);
        assert_eq!(queue.next_event(), Some("c"));
        assert_eq!(queue.next_event(), None);
    }
}
