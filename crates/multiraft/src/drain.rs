//! Leaving well: every leadership is handed over before a broker stops.
//!
//! In passes: a follower that is not caught up now may be in a moment, and while one leadership is given away another
//! may arrive. A pass ends when all its handovers have, or when its time is up.

use crate::mailbox::{Completion, Outbox, Ticket, TransferOutcome};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use trimaran_raft::{GroupId, Instant, TransferError};

/// Passes without a single success after which what is left is kept.
const FRUITLESS_PASSES: u32 = 3;
/// Length of a pass in election timeouts: the core gives a target one to take over, and another leader is then known
/// after one more.
const PASS_TIMEOUTS: u32 = 3;

/// A handover of everything that is under way, or done: a broker that drains takes no leadership any more.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    tickets: Vec<Ticket>,
    handed_over: usize,
    /// Handovers of this pass that have not ended.
    asked: BTreeSet<GroupId>,
    /// Of this pass.
    kept: BTreeMap<GroupId, TransferError>,
    succeeded: bool,
    fruitless: u32,
    /// When the next pass begins at the latest, or not before.
    next_pass: Instant,
    armed: bool,
}

impl Drain {
    pub(crate) fn new(ticket: Ticket) -> Drain {
        Drain {
            tickets: vec![ticket],
            ..Drain::default()
        }
    }

    /// One more wants to know.
    pub(crate) fn join(&mut self, ticket: Ticket) {
        if self.tickets.is_empty() {
            self.handed_over = 0;
            self.fruitless = 0;
        }
        self.tickets.push(ticket);
    }

    /// Handovers have ended.
    pub(crate) fn note(&mut self, ended: impl Iterator<Item = (GroupId, Result<(), TransferError>)>) {
        for (group, outcome) in ended {
            self.asked.remove(&group);
            match outcome {
                Ok(()) => {
                    self.handed_over += 1;
                    self.succeeded = true;
                }
                Err(error) => {
                    self.kept.insert(group, error);
                }
            }
        }
    }

    /// Whether somebody waits, and the last pass is over.
    pub(crate) fn pass_is_due(&self, now: Instant) -> bool {
        let over = self.asked.is_empty() && (self.kept.is_empty() || self.succeeded);
        !self.tickets.is_empty() && (over || now >= self.next_pass)
    }

    /// Begins a pass over what is `led` still, or answers if nothing is or nothing helps.
    pub(crate) fn begin_pass(&mut self, now: Instant, timeout: Duration, led: &[GroupId], out: &mut Outbox) {
        self.fruitless = if self.succeeded { 0 } else { self.fruitless + 1 };
        if led.is_empty() || self.fruitless > FRUITLESS_PASSES {
            return self.answer(led, out);
        }
        self.succeeded = false;
        self.kept.clear();
        self.asked = led.iter().copied().collect();
        self.next_pass = now + timeout * PASS_TIMEOUTS;
        self.armed = false;
    }

    fn answer(&mut self, led: &[GroupId], out: &mut Outbox) {
        self.asked.clear();
        let reason = |group| self.kept.get(&group).copied().unwrap_or(TransferError::TimedOut);
        let kept: Vec<_> = led.iter().map(|&group| (group, reason(group))).collect();
        for ticket in self.tickets.drain(..) {
            let outcome = TransferOutcome {
                handed_over: self.handed_over,
                kept: kept.clone(),
            };
            out.completions.push((ticket, Completion::Transferred(outcome)));
        }
    }

    /// The groups to hand over in the pass that has begun.
    pub(crate) fn asked(&self) -> impl Iterator<Item = GroupId> {
        self.asked.iter().copied()
    }

    /// When to look again, once a pass.
    pub(crate) fn arm(&mut self, now: Instant) -> Option<Instant> {
        let waits = !self.tickets.is_empty() && !self.armed;
        self.armed |= waits;
        waits.then_some(self.next_pass.max(now))
    }
}
