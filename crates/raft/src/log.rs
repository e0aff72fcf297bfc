//! The core's questions to the log, all of them answered from memory.

use crate::{Configuration, Entry, LogIndex, Output, Payload, Persist, Snapshot, Term, Token};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// The term at an index, as far as it is known. Three cases, because "deleted" and "not there yet" call for different
/// answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermAt {
    /// The entry is there (or is the place just before the first one), and this is its term.
    Known(Term),
    /// The entry was there, and has been deleted by retention.
    Compacted,
    /// The log does not reach that far.
    Missing,
}

/// A group's log as the core sees it: terms and lengths, never payloads. Must not block.
///
/// The log includes everything the core has asked to persist so far, durable or not: a [`crate::Persist`] is applied
/// to it before the next step.
///
/// With the feature `conformance`, `conformance::check` tests an implementation.
pub trait LogView {
    /// The first entry that is still held; one more than `last_index` if there is none.
    fn first_index(&self) -> LogIndex;

    /// The last entry; the place before the first one if there is none.
    fn last_index(&self) -> LogIndex;

    /// The term at `index`. Known for the place just before `first_index` too ([`Term::ZERO`] at [`LogIndex::ZERO`]).
    fn term_at(&self, index: LogIndex) -> TermAt;

    /// The largest index that is at most `upto` and whose term is at most `term`; the place before the first held
    /// entry if there is none. Finds in one round where two logs may agree.
    fn last_index_with_term_at_most(&self, term: Term, upto: LogIndex) -> LogIndex;

    /// The largest `end` in `first..=last` for which the payloads of `first..=end` are at most `max_bytes` together,
    /// but at least `first`; and how many bytes they are. An estimate will do for entries that are no longer in memory.
    fn fit(&self, first: LogIndex, last: LogIndex, max_bytes: u64) -> (LogIndex, u64);
}

/// A log in memory, for tests and examples, and the plainest driver there can be: apply each [`Persist`], read what an
/// [`crate::AppendPlan`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemoryLog {
    /// The place before the first held entry, and its term.
    start: LogIndex,
    start_term: Term,
    entries: Vec<Entry>,
    /// Ascending; the first one may be that in force at `start`.
    configurations: Vec<(LogIndex, Configuration)>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> MemoryLog {
        MemoryLog::default()
    }

    /// A log as it was found on disk: behind `start` if it has been shortened, from the first entry on otherwise. What
    /// [`MemoryLog::configurations`] then says is what [`crate::Recovered`] asks for.
    ///
    /// # Panics
    /// If the entries don't continue the position, or each other: they are not those of one log.
    pub fn recovered(start: Option<Snapshot>, entries: Vec<Entry>) -> MemoryLog {
        let mut log = MemoryLog::new();
        log.apply(&Persist {
            token: Token(0),
            hard_state: None,
            reset: start.map(Box::new),
            truncate_from: None,
            entries,
        });
        log
    }

    /// Resets, truncates and appends, as a step has decided.
    ///
    /// # Panics
    /// If the entries don't continue the log: they come from another group.
    pub fn apply(&mut self, persist: &Persist) {
        if let Some(reset) = &persist.reset {
            (self.start, self.start_term) = (reset.index, reset.term);
            self.entries.clear();
            self.configurations = vec![(reset.index, reset.configuration.clone())];
        }
        if let Some(from) = persist.truncate_from {
            self.configurations.retain(|(index, _)| *index < from);
            self.entries.truncate(self.position(from));
        }
        for entry in &persist.entries {
            assert_eq!(entry.index, self.last_index().next(), "entries continue the log");
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configurations.push((entry.index, (**configuration).clone()));
            }
            self.entries.push(entry.clone());
        }
    }

    /// Does what a step has decided: applies its write, and turns the appends that it planned into messages, behind the
    /// others. Returns the write. A driver with a disk writes it there, in the order of tokens, and reports
    /// [`crate::Input::Persisted`] with its token once it is durable; for a log that is only in memory, that is at
    /// once. The rest of `output` is for the network and the state machine.
    ///
    /// ```
    /// use trimaran_raft::*;
    ///
    /// let (mut log, mut output) = (MemoryLog::new(), Output::default());
    /// let config = Config::standalone(NodeId(1), [NodeId(1), NodeId(2)]);
    /// let mut group = Group::new(config, Recovered::default(), Instant::ZERO, &log);
    ///
    /// group.step(Instant(1), Input::Campaign, &log, &mut output);
    /// assert_eq!(log.carry_out(&mut output), None, "to ask for pre-votes takes no write");
    /// assert!(matches!(output.messages[0].1.body, Body::PreVote { .. }));
    /// ```
    ///
    /// # Panics
    /// As [`MemoryLog::apply`].
    pub fn carry_out(&mut self, output: &mut Output) -> Option<Persist> {
        let persist = output.persist.take();
        persist.iter().for_each(|persist| self.apply(persist));
        for plan in output.appends.drain(..) {
            let entries = self.entries(plan.first, plan.last).to_vec();
            output.messages.push((plan.to, plan.with(entries)));
        }
        persist
    }

    /// The entries `first..=last`, as far as they are held; none if `last` is below `first`.
    pub fn entries(&self, first: LogIndex, last: LogIndex) -> &[Entry] {
        let end = self.position(last.next()).min(self.entries.len());
        self.entries.get(self.position(first)..end).unwrap_or(&[])
    }

    /// For [`crate::Recovered::configurations`].
    pub fn configurations(&self) -> &[(LogIndex, Configuration)] {
        &self.configurations
    }

    /// The configuration in force at `index`, as far as the log tells: none if it is the group's first one.
    pub fn configuration_at(&self, index: LogIndex) -> Option<&Configuration> {
        let at_or_before = self.configurations.iter().rev().find(|(at, _)| *at <= index);
        at_or_before.map(|(_, configuration)| configuration)
    }

    /// Forgets the entries up to and including `upto`, as retention does.
    pub fn compact(&mut self, upto: LogIndex) {
        let upto = upto.min(self.last_index());
        if let TermAt::Known(term) = self.term_at(upto) {
            let count = self.position(upto.next());
            self.entries.drain(..count);
            (self.start, self.start_term) = (upto, term);
            let settled = self.configurations.iter().filter(|(at, _)| *at <= upto).count();
            self.configurations.drain(..settled.saturating_sub(1));
        }
    }

    /// Where an entry of that index is or would be.
    fn position(&self, index: LogIndex) -> usize {
        usize::try_from(index.0.saturating_sub(self.start.0 + 1)).unwrap_or(usize::MAX)
    }
}

impl LogView for MemoryLog {
    fn first_index(&self) -> LogIndex {
        self.start.next()
    }

    fn last_index(&self) -> LogIndex {
        LogIndex(self.start.0 + self.entries.len() as u64)
    }

    fn term_at(&self, index: LogIndex) -> TermAt {
        match index.cmp(&self.start) {
            Ordering::Less => TermAt::Compacted,
            Ordering::Equal => TermAt::Known(self.start_term),
            Ordering::Greater => match self.entries.get(self.position(index)) {
                Some(entry) => TermAt::Known(entry.term),
                None => TermAt::Missing,
            },
        }
    }

    fn last_index_with_term_at_most(&self, term: Term, upto: LogIndex) -> LogIndex {
        let held = self.entries(self.first_index(), upto.min(self.last_index()));
        LogIndex(self.start.0 + held.partition_point(|entry| entry.term <= term) as u64)
    }

    fn fit(&self, first: LogIndex, last: LogIndex, max_bytes: u64) -> (LogIndex, u64) {
        let mut fit = (first.prev(), 0);
        for entry in self.entries(first, last) {
            let bytes = fit.1 + entry.payload.len() as u64;
            if bytes > max_bytes && entry.index > first {
                break;
            }
            fit = (entry.index, bytes);
        }
        fit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn log(terms: &[u64]) -> MemoryLog {
        let entry = |(at, term): (usize, &u64)| Entry {
            index: LogIndex(at as u64 + 1),
            term: Term(*term),
            payload: Payload::Data(Bytes::from(vec![0; 10])),
        };
        let mut log = MemoryLog::new();
        let entries = terms.iter().enumerate().map(entry).collect();
        log.apply(&Persist {
            token: Token(1),
            hard_state: None,
            reset: None,
            truncate_from: None,
            entries,
        });
        log
    }

    #[test]
    fn a_log_is_built_from_what_was_recovered() {
        let entry = |(index, term)| Entry {
            index: LogIndex(index),
            term: Term(term),
            payload: Payload::Blank,
        };
        let snapshot = Snapshot {
            index: LogIndex(3),
            term: Term(2),
            configuration: Configuration::of_voters([crate::NodeId(1)]),
            data: Bytes::new(),
        };
        let log = MemoryLog::recovered(Some(snapshot), [(4, 2), (5, 3)].map(entry).into());
        assert_eq!((log.first_index(), log.last_index()), (LogIndex(4), LogIndex(5)));
        assert_eq!(log.term_at(LogIndex(3)), TermAt::Known(Term(2)));
        assert_eq!(log.configurations().len(), 1);
        let whole = MemoryLog::recovered(None, [(1, 1), (2, 1)].map(entry).into());
        assert_eq!((whole.first_index(), whole.last_index()), (LogIndex(1), LogIndex(2)));
    }

    #[test]
    fn terms_are_known_missing_or_compacted() {
        let mut log = log(&[1, 1, 2, 3]);
        assert_eq!(log.term_at(LogIndex(0)), TermAt::Known(Term(0)));
        assert_eq!(log.term_at(LogIndex(3)), TermAt::Known(Term(2)));
        assert_eq!(log.term_at(LogIndex(5)), TermAt::Missing);
        log.compact(LogIndex(2));
        assert_eq!(log.term_at(LogIndex(1)), TermAt::Compacted);
        assert_eq!(log.term_at(LogIndex(2)), TermAt::Known(Term(1)));
        assert_eq!((log.first_index(), log.last_index()), (LogIndex(3), LogIndex(4)));
    }

    #[test]
    fn the_last_index_of_a_term_is_found() {
        let mut log = log(&[1, 1, 2, 2, 5]);
        let check = |log: &MemoryLog, term, upto, expected| {
            let found = log.last_index_with_term_at_most(Term(term), LogIndex(upto));
            assert_eq!(found, LogIndex(expected), "term {term} upto {upto}");
        };
        check(&log, 2, 9, 4);
        check(&log, 2, 3, 3);
        check(&log, 4, 5, 4);
        check(&log, 0, 5, 0);
        check(&log, 9, 0, 0);
        log.compact(LogIndex(3));
        check(&log, 1, 5, 3);
        check(&log, 2, 5, 4);
    }

    #[test]
    fn at_least_one_entry_fits() {
        let log = log(&[1, 1, 1]);
        assert_eq!(log.fit(LogIndex(1), LogIndex(3), 25), (LogIndex(2), 20));
        assert_eq!(log.fit(LogIndex(2), LogIndex(3), 0), (LogIndex(2), 10));
        assert_eq!(log.fit(LogIndex(1), LogIndex(2), 99), (LogIndex(2), 20));
    }
}
