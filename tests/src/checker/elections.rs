//! How often groups elect. Terms cost nothing, and a group that begins one after the other breaks no promise of Raft's: it
//! only serves nobody, and may keep a whole cluster busy. So there is a law about it, with two bounds.
//!
//! A member that can't find a leader waits before it stands again, for an election timeout or a random part of it (which
//! grows with each failure); and whoever grants a candidate something waits for a whole one. So by itself a group
//! begins about one term in an election timeout. More of them come from outside: a broker that crashes, a
//! leadership that is handed over, a failover on request. Hence an account for each group: it is debited with each
//! term, and credited with one an election timeout; no fault may overdraw it by more than [`MOST_AT_ONCE`].
//!
//! Once faults have stopped, a leader is elected after few attempts, and stays; a leadership that is given back costs one more.
//! That makes [`MOST_AFTERWARDS`].

use super::{Law, Violation};
use std::collections::BTreeMap;

/// Terms that a group may begin at once. In 2,581 runs of breadth it was nine at most; what this law is there for
/// begins a thousand a second.
pub const MOST_AT_ONCE: u64 = 40;

/// Terms that a group may begin after all faults have stopped. Of the same runs: nine at most.
pub const MOST_AFTERWARDS: u64 = 40;

/// Judges all groups of a cluster, while it runs.
#[derive(Debug)]
pub struct ElectionChecker {
    /// The groups' election timeout. All times are in microseconds.
    timeout: u64,
    calm: bool,
    groups: BTreeMap<u64, Account>,
}

/// How one group elects.
#[derive(Debug, Default)]
struct Account {
    term: u64,
    /// What its terms have cost and is not paid: each costs an election timeout, and time pays.
    debt: u64,
    /// Until when it has been paid.
    paid_at: u64,
    /// Terms since faults stopped.
    afterwards: u64,
}

impl Account {
    fn debit(&mut self, now: u64, terms: u64, timeout: u64) {
        let paid = now.saturating_sub(self.paid_at);
        self.debt = self.debt.saturating_sub(paid) + terms.saturating_mul(timeout);
        self.paid_at = now;
    }
}

impl ElectionChecker {
    /// No group has elected yet. `timeout`: how long a member without a leader waits about, in microseconds.
    pub fn new(timeout: u64) -> ElectionChecker {
        ElectionChecker {
            timeout,
            calm: false,
            groups: BTreeMap::new(),
        }
    }

    /// From now on nothing goes wrong.
    pub fn faults_stop(&mut self) {
        self.calm = true;
    }

    /// A member of `group` is in this term.
    pub fn reached(&mut self, now: u64, group: u64, term: u64) -> Result<(), Violation> {
        let account = self.groups.entry(group).or_default();
        let begun = term.saturating_sub(account.term);
        if begun == 0 {
            return Ok(());
        }
        account.term = term;
        account.debit(now, begun, self.timeout);
        account.afterwards += if self.calm { begun } else { 0 };
        let broken = |what: String| Err(Violation::new(Law::ElectionsEnd, format!("group {group} {what}")));
        if account.debt > self.timeout * MOST_AT_ONCE {
            return broken(format!("reaches term {term}, {MOST_AT_ONCE} too many for its time"));
        }
        if account.afterwards > MOST_AFTERWARDS {
            return broken(format!("has begun {MOST_AFTERWARDS} terms since faults stopped"));
        }
        Ok(())
    }

    /// The terms of all groups together.
    pub fn terms(&self) -> u64 {
        self.groups.values().map(|account| account.term).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: u64 = 100_000;

    #[track_caller]
    fn caught(result: Result<(), Violation>) {
        assert_eq!(result.expect_err("a bad history passed").law, Law::ElectionsEnd);
    }

    #[test]
    fn a_term_in_each_election_timeout_passes() {
        let mut checker = ElectionChecker::new(TIMEOUT);
        for term in 1..1_000 {
            checker.reached(term * TIMEOUT, 1, term).unwrap();
            checker.reached(term * TIMEOUT + 1, 1, term).unwrap();
        }
        assert_eq!(checker.terms(), 999);
    }

    #[test]
    fn what_a_fault_causes_passes_and_is_paid_in_time() {
        let mut checker = ElectionChecker::new(TIMEOUT);
        checker.reached(0, 1, MOST_AT_ONCE).unwrap();
        checker.reached(0, 2, MOST_AT_ONCE).unwrap();
        let later = MOST_AT_ONCE * TIMEOUT;
        checker.reached(later, 1, 2 * MOST_AT_ONCE).unwrap();
        caught(checker.reached(later, 1, 2 * MOST_AT_ONCE + 1));
    }

    #[test]
    fn terms_faster_than_their_time_are_caught() {
        let mut checker = ElectionChecker::new(TIMEOUT);
        let mut terms = (1..1_000).map(|term| checker.reached(term * TIMEOUT / 2, 1, term));
        caught(terms.find(Result::is_err).expect("too many"));
    }

    #[test]
    fn elections_without_end_are_caught_however_slow() {
        let mut checker = ElectionChecker::new(TIMEOUT);
        checker.reached(0, 1, 7).unwrap();
        checker.faults_stop();
        for term in 8..8 + MOST_AFTERWARDS {
            checker.reached(term * 10 * TIMEOUT, 1, term).unwrap();
        }
        caught(checker.reached(1_000 * TIMEOUT, 1, 8 + MOST_AFTERWARDS));
    }
}
