//! Who waits for a shard's answers: a slab of waiters, named by tickets.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use trimaran_multiraft::{Completion, Ticket};

/// The waiters of one shard. A ticket is a slot and the slot's generation: a late answer to a ticket whose waiter is
/// gone finds a newer generation, and nobody.
pub(crate) struct Tickets {
    slab: Mutex<Slab>,
    /// More waiters than this are refused: each costs memory until its answer comes.
    limit: usize,
}

#[derive(Default)]
struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    waiter: Option<Waiter>,
}

struct Waiter {
    answer: oneshot::Sender<Completion>,
    since: Instant,
}

impl Tickets {
    /// No waiters yet, and at most `limit`.
    pub(crate) fn new(limit: usize) -> Tickets {
        Tickets {
            slab: Mutex::new(Slab::default()),
            limit: limit.min(u32::MAX as usize),
        }
    }

    /// A new ticket, and where its answer will come; none if too many wait already.
    pub(crate) fn issue(&self) -> Option<(Ticket, oneshot::Receiver<Completion>)> {
        let (sender, receiver) = oneshot::channel();
        let mut slab = self.lock();
        let at = slab.vacant(self.limit)?;
        let slot = &mut slab.slots[at as usize];
        slot.waiter = Some(Waiter {
            answer: sender,
            since: Instant::now(),
        });
        Some((ticket(at, slot.generation), receiver))
    }

    /// Hands an answer to the request that waits for it. Returns how long it took; none if the ticket is not known.
    pub(crate) fn complete(&self, ticket: Ticket, completion: Completion) -> Option<Duration> {
        let waiter = self.lock().remove(ticket)?;
        // A request that gave up doesn't want the answer.
        let _ = waiter.answer.send(completion);
        Some(waiter.since.elapsed())
    }

    /// Nobody waits for this any longer.
    pub(crate) fn forget(&self, ticket: Ticket) {
        self.lock().remove(ticket);
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        let slab = self.lock();
        slab.slots.len() - slab.free.len()
    }

    /// Everybody who waits learns that no answer will come.
    pub(crate) fn close(&self) {
        *self.lock() = Slab::default();
    }

    fn lock(&self) -> MutexGuard<'_, Slab> {
        self.slab.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slab {
    fn vacant(&mut self, limit: usize) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        if self.slots.len() >= limit {
            return None;
        }
        self.slots.push(Slot {
            generation: 0,
            waiter: None,
        });
        u32::try_from(self.slots.len() - 1).ok()
    }

    fn remove(&mut self, Ticket(number): Ticket) -> Option<Waiter> {
        let (at, generation) = ((number & u64::from(u32::MAX)) as u32, (number >> 32) as u32);
        let slot = self.slots.get_mut(at as usize)?;
        if slot.generation != generation {
            return None;
        }
        let waiter = slot.waiter.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(at);
        Some(waiter)
    }
}

fn ticket(at: u32, generation: u32) -> Ticket {
    Ticket(u64::from(generation) << 32 | u64::from(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Completion {
        Completion::Status(None)
    }

    #[test]
    fn an_answer_finds_its_waiter_once() {
        let tickets = Tickets::new(8);
        let (first, mut waits) = tickets.issue().unwrap();
        tickets.complete(first, answer());
        assert!(matches!(waits.try_recv(), Ok(Completion::Status(None))));
        let (second, mut waits) = tickets.issue().unwrap();
        tickets.complete(first, answer());
        assert!(
            waits.try_recv().is_err(),
            "a late answer must not reach the slot's next waiter"
        );
        tickets.complete(second, answer());
        assert!(waits.try_recv().is_ok());
        assert_eq!(tickets.waiting(), 0);
    }

    #[test]
    fn too_many_are_refused_and_room_is_used_again() {
        let tickets = Tickets::new(2);
        let (first, _a) = tickets.issue().unwrap();
        let (_second, _b) = tickets.issue().unwrap();
        assert!(tickets.issue().is_none());
        tickets.forget(first);
        assert!(tickets.issue().is_some());
    }

    #[test]
    fn closing_tells_everybody() {
        let tickets = Tickets::new(2);
        let (_, mut waits) = tickets.issue().unwrap();
        tickets.close();
        assert!(matches!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }
}
