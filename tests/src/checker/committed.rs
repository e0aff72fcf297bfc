//! Offsets that consumers commit: what is looked up was committed, and is never behind what was known to be committed
//! before the lookup began.

use super::{Law, Violation};
use std::collections::{BTreeMap, BTreeSet};

/// A partition, or a key: anything that an offset is committed for.
pub type Key = usize;

/// The outcome of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged at this time.
    Done {
        /// In the observer's unit.
        at: u64,
    },
    /// Refused for certain.
    Refused,
    /// Unknown: it may have happened, or may yet.
    Unknown,
}

/// Judges the commits and lookups of one consumer group. All times are the observer's.
#[derive(Clone, Debug, Default)]
pub struct CommitChecker {
    attempts: BTreeSet<(Key, i64)>,
    /// The offsets that were known to be committed, and from when on.
    known: BTreeMap<Key, Vec<(u64, i64)>>,
    lookups: Vec<Lookup>,
}

#[derive(Clone, Copy, Debug)]
struct Lookup {
    key: Key,
    began: u64,
    found: Option<i64>,
}

impl CommitChecker {
    /// Nothing seen yet.
    pub fn new() -> CommitChecker {
        CommitChecker::default()
    }

    /// An offset was committed, or may have been.
    pub fn committed(&mut self, key: Key, offset: i64, fate: Fate) {
        if fate != Fate::Refused {
            self.attempts.insert((key, offset));
        }
        if let Fate::Done { at } = fate {
            self.known.entry(key).or_default().push((at, offset));
        }
    }

    /// A lookup from `began` to `ended` found this.
    pub fn found(&mut self, key: Key, began: u64, ended: u64, found: Option<i64>) {
        self.lookups.push(Lookup { key, began, found });
        if let Some(offset) = found {
            self.known.entry(key).or_default().push((ended, offset));
        }
    }

    /// Everything that is wrong. Consumers are taken to commit ever higher offsets.
    pub fn judge(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for Lookup { key, began, found } in &self.lookups {
            let known = self.known.get(key).into_iter().flatten();
            let least = known.filter(|(at, _)| at < began).map(|(_, offset)| *offset).max();
            if *found < least {
                let detail = format!("of {key}: from {least:?} to {found:?}");
                wrong.push(Violation::new(Law::CommittedOffsetStays, detail));
            }
            if let Some(offset) = found
                && !self.attempts.contains(&(*key, *offset))
            {
                let detail = format!("of {key}: {offset} was never committed");
                wrong.push(Violation::new(Law::CommittedOffsetStays, detail));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits 5 with this fate and then looks up, from time 20 on.
    fn caught(fate: Fate, found: Option<i64>) -> bool {
        let mut checker = CommitChecker::new();
        checker.committed(0, 3, Fate::Done { at: 5 });
        checker.committed(0, 5, fate);
        checker.committed(1, 9, Fate::Done { at: 5 });
        checker.found(0, 20, 25, found);
        let wrong = checker.judge();
        assert!(wrong.iter().all(|violation| violation.law == Law::CommittedOffsetStays));
        !wrong.is_empty()
    }

    #[test]
    fn what_was_acknowledged_before_is_found() {
        assert!(!caught(Fate::Done { at: 10 }, Some(5)));
        assert!(caught(Fate::Done { at: 10 }, Some(3)), "it went back");
        assert!(caught(Fate::Done { at: 10 }, None), "it is gone");
        assert!(!caught(Fate::Done { at: 20 }, Some(3)), "both at once");
    }

    #[test]
    fn what_may_have_happened_may_be_found() {
        assert!(!caught(Fate::Unknown, Some(5)) && !caught(Fate::Unknown, Some(3)));
        assert!(caught(Fate::Refused, Some(5)), "it was refused");
        assert!(caught(Fate::Unknown, Some(9)), "nobody committed it there");
    }

    #[test]
    fn what_was_found_once_stays() {
        let mut checker = CommitChecker::new();
        checker.committed(0, 5, Fate::Unknown);
        checker.found(0, 10, 15, Some(5));
        checker.found(0, 20, 25, None);
        assert_eq!(checker.judge().len(), 1);
    }
}
