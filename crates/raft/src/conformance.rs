//! A conformance test for implementations of [`LogView`].
//!
//! A group relies on what [`LogView`] documents: a log that answers one question differently can lose committed
//! entries, or stall. [`check`] drives a log through random appends, truncations, resets and deletions, compares all of
//! its answers with those of a plain model after each operation, and returns the first one that differs.
//!
//! With the feature `conformance`, in a test of the crate that implements the log:
//!
//! ```
//! use trimaran_raft::conformance::{TestLog, check};
//! use trimaran_raft::{LogIndex, MemoryLog, Persist};
//!
//! impl TestLog for Mine {
//!     fn apply(&mut self, write: &Persist) {
//!         self.0.apply(write);
//!     }
//!
//!     fn compact(&mut self, upto: LogIndex) {
//!         self.0.compact(upto);
//!     }
//! }
//! # struct Mine(MemoryLog);
//! # impl trimaran_raft::LogView for Mine {
//! #     fn first_index(&self) -> LogIndex { self.0.first_index() }
//! #     fn last_index(&self) -> LogIndex { self.0.last_index() }
//! #     fn term_at(&self, index: LogIndex) -> trimaran_raft::TermAt { self.0.term_at(index) }
//! #     fn last_index_with_term_at_most(&self, term: trimaran_raft::Term, upto: LogIndex) -> LogIndex {
//! #         self.0.last_index_with_term_at_most(term, upto)
//! #     }
//! #     fn fit(&self, first: LogIndex, last: LogIndex, max_bytes: u64) -> (LogIndex, u64) {
//! #         self.0.fit(first, last, max_bytes)
//! #     }
//! # }
//!
//! for seed in 0..20 {
//!     check(seed, &mut Mine(MemoryLog::new())).expect("the log conforms");
//! }
//! ```

use crate::{Configuration, Entry, LogIndex, LogView, NodeId, Payload, Persist, Snapshot, Term, TermAt, Token};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// Operations of one run. After each of them every question is asked, so a run takes some milliseconds.
const OPERATIONS: usize = 60;

/// Entries that are appended at once, at most.
const MOST_ENTRIES: u64 = 5;

/// A log that can be checked: what a driver does to it.
pub trait TestLog: LogView {
    /// Applies a write, as a driver does before the group's next step.
    fn apply(&mut self, write: &Persist);

    /// Deletes entries from the beginning, up to and including `upto` at most. A log that can only delete whole files
    /// may keep more, or all.
    fn compact(&mut self, upto: LogIndex);

    /// Everything up to this entry is committed and durable: a log that moves such entries out of memory does so now.
    fn committed(&mut self, upto: LogIndex) {
        let _ = upto;
    }

    /// The payload of the next entry of `write`, about `bytes` long: for logs that don't hold arbitrary bytes. It
    /// follows the entries that `write` has so far, which are not applied yet.
    fn payload(&mut self, write: &Persist, term: Term, bytes: usize) -> Bytes {
        let _ = (write, term);
        Bytes::from(alloc::vec![0; bytes])
    }

    /// Whether [`LogView::fit`] counts the bytes of entry `index` exactly. An estimate will do for entries that are not
    /// in memory.
    fn counts_exactly(&self, index: LogIndex) -> bool {
        let _ = index;
        true
    }
}

/// An answer that differs from what [`LogView`] documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The seed of the run: repeats it.
    pub seed: u64,
    /// The operations so far.
    pub operations: Vec<String>,
    /// The question.
    pub question: String,
    /// The answer that is documented.
    pub expected: String,
    /// The log's answer.
    pub answer: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for operation in &self.operations {
            writeln!(f, "{operation}")?;
        }
        let Divergence {
            seed,
            question,
            expected,
            answer,
            ..
        } = self;
        write!(f, "seed {seed}: {question} is {answer}, and should be {expected}")
    }
}

impl core::error::Error for Divergence {}

/// Drives a new, empty log through a run of random operations.
///
/// # Errors
/// The first answer that differs. A panic of the log is passed on.
pub fn check(seed: u64, log: &mut impl TestLog) -> Result<(), Divergence> {
    let mut run = Run {
        seed,
        chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        model: Model::default(),
        operations: Vec::new(),
        token: 0,
    };
    run.compare(log)?;
    for _ in 0..OPERATIONS {
        run.operate(log);
        run.adopt_start(log)?;
        run.compare(log)?;
    }
    Ok(())
}

/// The log as it should be: the terms and lengths of its entries, and what is committed.
#[derive(Default)]
struct Model {
    start: u64,
    start_term: u64,
    entries: Vec<(u64, u64)>,
    committed: u64,
    /// Entries up to here may be deleted.
    compacted: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    fn last_term(&self) -> u64 {
        self.entries.last().map_or(self.start_term, |(term, _)| *term)
    }

    fn at(&self, index: u64) -> Option<(u64, u64)> {
        let place = index.checked_sub(self.start + 1)?;
        self.entries.get(usize::try_from(place).ok()?).copied()
    }

    fn term_at(&self, index: u64) -> TermAt {
        match self.at(index) {
            Some((term, _)) => TermAt::Known(Term(term)),
            None if index == self.start => TermAt::Known(Term(self.start_term)),
            None if index < self.start => TermAt::Compacted,
            None => TermAt::Missing,
        }
    }

    fn last_index_with_term_at_most(&self, term: u64, upto: u64) -> u64 {
        let held = (self.start + 1..=upto.min(self.last())).rev();
        let found = held
            .into_iter()
            .find(|index| self.at(*index).is_some_and(|(at, _)| at <= term));
        found.unwrap_or(self.start)
    }

    fn bytes(&self, first: u64, last: u64) -> u64 {
        (first..=last)
            .filter_map(|index| self.at(index))
            .map(|(_, bytes)| bytes)
            .sum()
    }

    fn fit(&self, first: u64, last: u64, max_bytes: u64) -> (u64, u64) {
        let fits = |end: &u64| *end == first || self.bytes(first, *end) <= max_bytes;
        let end = (first..=last).take_while(fits).last().unwrap_or(first);
        (end, self.bytes(first, end))
    }
}

struct Run {
    seed: u64,
    /// Xorshift64*.
    chance: u64,
    model: Model,
    operations: Vec<String>,
    token: u64,
}

impl Run {
    fn below(&mut self, end: u64) -> u64 {
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        (self.chance.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }

    /// A number in `first..=last`.
    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    fn operate(&mut self, log: &mut impl TestLog) {
        match self.below(10) {
            0..=3 => self.write(log, None),
            4 | 5 => {
                let from = self.between(self.model.committed + 1, self.model.last() + 1);
                self.write(log, Some(from).filter(|from| *from <= self.model.last()));
            }
            6 | 7 => {
                self.model.committed = self.between(self.model.committed, self.model.last());
                let committed = LogIndex(self.model.committed);
                self.operations.push(format!("committed up to {committed}"));
                log.committed(committed);
            }
            8 => {
                let upto = self.between(self.model.start, self.model.committed.max(self.model.start));
                self.model.compacted = self.model.compacted.max(upto);
                self.operations.push(format!("compact up to {upto}"));
                log.compact(LogIndex(upto));
            }
            _ => self.reset(log),
        }
    }

    /// Appends some entries, behind a truncation or at the end.
    fn write(&mut self, log: &mut impl TestLog, truncate_from: Option<u64>) {
        if let Some(from) = truncate_from {
            let kept = usize::try_from(from - self.model.start - 1).unwrap_or(usize::MAX);
            self.model.entries.truncate(kept);
        }
        let least = u64::from(truncate_from.is_none());
        self.append(log, None, truncate_from, least);
    }

    /// Begins again behind a snapshot's position, beyond everything that is held, perhaps with entries behind it.
    fn reset(&mut self, log: &mut impl TestLog) {
        let index = self.model.last() + self.between(1, 4);
        let term = self.model.last_term().max(1) + self.below(2);
        self.model = Model {
            start: index,
            start_term: term,
            entries: Vec::new(),
            committed: index,
            compacted: index,
        };
        let snapshot = Snapshot {
            index: LogIndex(index),
            term: Term(term),
            configuration: configuration(),
            data: Bytes::new(),
        };
        self.append(log, Some(snapshot), None, 0);
    }

    fn append(&mut self, log: &mut impl TestLog, reset: Option<Snapshot>, truncate_from: Option<u64>, least: u64) {
        self.token += 1;
        let mut write = Persist {
            token: Token(self.token),
            hard_state: None,
            reset: reset.map(Box::new),
            truncate_from: truncate_from.map(LogIndex),
            entries: Vec::new(),
        };
        for _ in 0..self.between(least, MOST_ENTRIES) {
            let entry = self.entry(log, &write);
            self.model.entries.push((entry.term.0, entry.payload.len() as u64));
            write.entries.push(entry);
        }
        self.apply(log, &write);
    }

    fn entry(&mut self, log: &mut impl TestLog, write: &Persist) -> Entry {
        let index = LogIndex(self.model.last() + 1);
        let term = Term(self.model.last_term().max(1) + self.below(5) / 3);
        let payload = match self.below(6) {
            0 => Payload::Blank,
            1 => Payload::Configuration(Box::new(configuration())),
            _ => {
                let bytes = usize::try_from(self.below(200)).unwrap_or_default();
                Payload::Data(log.payload(write, term, bytes))
            }
        };
        Entry { index, term, payload }
    }

    fn apply(&mut self, log: &mut impl TestLog, write: &Persist) {
        let mut text = String::from("write:");
        if let Some(reset) = &write.reset {
            text += &format!(" reset to {}/{}", reset.term, reset.index);
        }
        if let Some(from) = write.truncate_from {
            text += &format!(" truncate from {from}");
        }
        for entry in &write.entries {
            text += &format!(" {}/{} ({} bytes)", entry.term, entry.index, entry.payload.len());
        }
        self.operations.push(text);
        log.apply(write);
    }

    /// A log decides by itself how much of what may go it deletes.
    fn adopt_start(&mut self, log: &impl TestLog) -> Result<(), Divergence> {
        let (first, model) = (log.first_index().0, &mut self.model);
        if first <= model.start + 1 || first > model.compacted + 1 {
            return Ok(());
        }
        let start_term = model.at(first - 1).map_or(model.start_term, |(term, _)| term);
        let deleted = usize::try_from(first - 1 - model.start).unwrap_or(usize::MAX);
        model.entries.drain(..deleted);
        (model.start, model.start_term) = (first - 1, start_term);
        Ok(())
    }

    fn compare(&self, log: &impl TestLog) -> Result<(), Divergence> {
        let model = &self.model;
        let (first, last) = (model.start + 1, model.last());
        self.same("first_index()", LogIndex(first), log.first_index())?;
        self.same("last_index()", LogIndex(last), log.last_index())?;
        let places = || (first.saturating_sub(3)..=last + 3).chain([0, u64::MAX]);
        for index in places() {
            let question = format!("term_at({index})");
            self.same(&question, model.term_at(index), log.term_at(LogIndex(index)))?;
        }
        for upto in places() {
            for term in (0..=model.last_term() + 1).chain([u64::MAX]) {
                let question = format!("last_index_with_term_at_most({term}, {upto})");
                let expected = LogIndex(model.last_index_with_term_at_most(term, upto));
                let answer = log.last_index_with_term_at_most(Term(term), LogIndex(upto));
                self.same(&question, expected, answer)?;
            }
        }
        for (from, to) in (first..=last).flat_map(|from| (from..=last).map(move |to| (from, to))) {
            let all = model.bytes(from, to);
            for max_bytes in [0, 1, all / 2, all.saturating_sub(1), all, u64::MAX] {
                self.compare_fit(log, (from, to), max_bytes)?;
            }
        }
        Ok(())
    }

    fn compare_fit(&self, log: &impl TestLog, (first, last): (u64, u64), max_bytes: u64) -> Result<(), Divergence> {
        let question = format!("fit({first}, {last}, {max_bytes})");
        let answer = log.fit(LogIndex(first), LogIndex(last), max_bytes);
        let (end, bytes) = answer;
        if (first..=last).all(|index| log.counts_exactly(LogIndex(index))) {
            let (end, bytes) = self.model.fit(first, last, max_bytes);
            return self.same(&question, (LogIndex(end), bytes), answer);
        }
        let is_within = first <= end.0 && end.0 <= last;
        let fits = end.0 == first || bytes <= max_bytes;
        if is_within && fits && (max_bytes < u64::MAX || end.0 == last) {
            return Ok(());
        }
        Err(self.divergence(&question, "an entry of the range, that fits by its own count", &answer))
    }

    fn same<T: PartialEq + fmt::Debug>(&self, question: &str, expected: T, answer: T) -> Result<(), Divergence> {
        match expected == answer {
            true => Ok(()),
            false => Err(self.divergence(question, &format!("{expected:?}"), &answer)),
        }
    }

    fn divergence(&self, question: &str, expected: &str, answer: &dyn fmt::Debug) -> Divergence {
        Divergence {
            seed: self.seed,
            operations: self.operations.clone(),
            question: question.into(),
            expected: expected.into(),
            answer: format!("{answer:?}"),
        }
    }
}

fn configuration() -> Configuration {
    Configuration::of_voters([1, 2, 3].map(NodeId))
}

impl TestLog for crate::MemoryLog {
    fn apply(&mut self, write: &Persist) {
        crate::MemoryLog::apply(self, write);
    }

    fn compact(&mut self, upto: LogIndex) {
        crate::MemoryLog::compact(self, upto);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryLog;

    /// A log that answers one question wrongly.
    struct Wrong(MemoryLog, Mistake);

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Mistake {
        None,
        /// The place before the first entry counts as deleted.
        ForgetStart,
        /// Deleted entries count as missing.
        TakeCompactedForMissing,
        /// The entry with the highest such term, wherever it is.
        IgnoreUpto,
        /// The place before the log instead of the place before its first entry.
        GoBelowStart,
        FitNothing,
        IgnoreLimit,
        KeepTruncated,
        KeepWhatWasReset,
    }

    impl LogView for Wrong {
        fn first_index(&self) -> LogIndex {
            self.0.first_index()
        }

        fn last_index(&self) -> LogIndex {
            self.0.last_index()
        }

        fn term_at(&self, index: LogIndex) -> TermAt {
            match self.0.term_at(index) {
                TermAt::Known(_) if self.1 == Mistake::ForgetStart && index < self.first_index() => TermAt::Compacted,
                TermAt::Compacted if self.1 == Mistake::TakeCompactedForMissing => TermAt::Missing,
                right => right,
            }
        }

        fn last_index_with_term_at_most(&self, term: Term, upto: LogIndex) -> LogIndex {
            let upto = if self.1 == Mistake::IgnoreUpto {
                self.last_index()
            } else {
                upto
            };
            let right = self.0.last_index_with_term_at_most(term, upto);
            match self.1 {
                Mistake::GoBelowStart if right < self.first_index() => LogIndex::ZERO,
                _ => right,
            }
        }

        fn fit(&self, first: LogIndex, last: LogIndex, max_bytes: u64) -> (LogIndex, u64) {
            match self.1 {
                Mistake::FitNothing if max_bytes == 0 => (first.prev(), 0),
                Mistake::IgnoreLimit => self.0.fit(first, last, u64::MAX),
                _ => self.0.fit(first, last, max_bytes),
            }
        }
    }

    impl TestLog for Wrong {
        fn apply(&mut self, write: &Persist) {
            let mut write = write.clone();
            match self.1 {
                Mistake::KeepTruncated if write.entries.is_empty() => write.truncate_from = None,
                Mistake::KeepWhatWasReset if write.entries.is_empty() => write.reset = None,
                _ => {}
            }
            self.0.apply(&write);
        }

        fn compact(&mut self, upto: LogIndex) {
            self.0.compact(upto);
        }
    }

    fn first_divergence(mistake: Mistake) -> Option<Divergence> {
        (0..40).find_map(|seed| check(seed, &mut Wrong(MemoryLog::new(), mistake)).err())
    }

    #[test]
    fn a_log_in_memory_conforms() {
        for seed in 0..200 {
            if let Err(divergence) = check(seed, &mut MemoryLog::new()) {
                panic!("{divergence}");
            }
        }
    }

    #[test]
    fn each_mistake_is_found_by_the_question_that_it_is_about() {
        assert_eq!(first_divergence(Mistake::None), None);
        let check = |mistake, question: &str| {
            let found = first_divergence(mistake).unwrap_or_else(|| panic!("{mistake:?} is not found"));
            assert!(found.question.starts_with(question), "{mistake:?}: {found}");
        };
        check(Mistake::ForgetStart, "term_at");
        check(Mistake::TakeCompactedForMissing, "term_at");
        check(Mistake::IgnoreUpto, "last_index_with_term_at_most");
        check(Mistake::GoBelowStart, "last_index_with_term_at_most");
        check(Mistake::FitNothing, "fit");
        check(Mistake::IgnoreLimit, "fit");
    }

    /// A log that does not apply all of a write may panic at the next one; its answers differ before.
    #[test]
    fn a_write_that_is_not_applied_is_found() {
        for mistake in [Mistake::KeepTruncated, Mistake::KeepWhatWasReset] {
            let found = first_divergence(mistake).unwrap_or_else(|| panic!("{mistake:?} is not found"));
            assert!(found.question.ends_with("_index()"), "{mistake:?}: {found}");
        }
    }
}
