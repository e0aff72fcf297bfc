//! The writes that are under way, and those that have reached the disk.
//!
//! The core never sees a disk: it hands out writes under increasing tokens and is told how far they are durable.
//! Everything that depends on a write asks here, so that nothing can leave too early by mistake.

use crate::{Entry, LogIndex, Snapshot, Term, Token};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The end of the log when a write was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark {
    token: Token,
    /// Once the write is durable, so is the log up to here. Lowered when a later write truncates below it.
    last: LogIndex,
    /// As `last`, but never lowered.
    #[cfg(any(test, feature = "sabotage"))]
    written: LogIndex,
    /// The write installs a snapshot.
    #[cfg(any(test, feature = "sabotage"))]
    reset: bool,
}

/// The writes of one group, in flight and done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Durability {
    issued: Token,
    completed: Token,
    /// The write that carries the current hard state.
    hard_state: Token,
    /// The log is durable, with its current contents, up to here.
    index: LogIndex,
    /// In the order of their tokens.
    marks: VecDeque<Mark>,
}

impl Durability {
    /// Whatever was found at start is durable.
    pub(crate) fn recovered(last: LogIndex) -> Durability {
        Durability {
            issued: Token(0),
            completed: Token(0),
            hard_state: Token(0),
            index: last,
            marks: VecDeque::new(),
        }
    }

    /// The log is durable, with its current contents, up to here.
    pub(crate) fn index(&self) -> LogIndex {
        self.index
    }

    /// Whether the last hard state that was handed out is durable.
    pub(crate) fn hard_state_is_durable(&self) -> bool {
        self.completed >= self.hard_state
    }

    /// Whether no write is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.completed == self.issued
    }

    /// Names the next write. `last` is where the log ends after it. If it truncates, [`Durability::truncated`] comes
    /// first.
    pub(crate) fn issue(&mut self, write: &Write, last: LogIndex) -> Token {
        self.issued = Token(self.issued.0 + 1);
        if write.hard_state {
            self.hard_state = self.issued;
        }
        if write.replaces() || !write.entries.is_empty() {
            self.marks.push_back(Mark {
                token: self.issued,
                last,
                #[cfg(any(test, feature = "sabotage"))]
                written: last,
                #[cfg(any(test, feature = "sabotage"))]
                reset: write.reset.is_some(),
            });
        }
        self.issued
    }

    /// Calls the last completed token zero, and counts the others from there.
    pub(crate) fn rename(&mut self) {
        let zero = self.completed.0;
        let rename = |token: &mut Token| token.0 = token.0.saturating_sub(zero);
        rename(&mut self.issued);
        rename(&mut self.completed);
        rename(&mut self.hard_state);
        self.marks.iter_mut().for_each(|mark| rename(&mut mark.token));
    }

    /// Entries from here on are replaced: an older write that completes later says nothing about the new ones
    /// (otherwise a leader counts what its disk doesn't hold).
    pub(crate) fn truncated(&mut self, from: LogIndex) {
        let kept = from.prev();
        self.index = self.index.min(kept);
        for mark in &mut self.marks {
            mark.last = mark.last.min(kept);
        }
    }

    /// Everything up to this write is durable. False, and nothing changes, if that was known, or if no such write was
    /// handed out.
    pub(crate) fn complete(&mut self, token: Token) -> bool {
        if token <= self.completed || token > self.issued {
            return false;
        }
        self.completed = token;
        while let Some(mark) = self.marks.front().filter(|mark| mark.token <= token) {
            assert!(
                mark.last >= self.index,
                "a write completed that shortens the durable log"
            );
            self.index = mark.last;
            self.marks.pop_front();
        }
        true
    }
}

/// Ways to get it wrong: see [`crate::group::Sabotage`].
#[cfg(any(test, feature = "sabotage"))]
impl Durability {
    /// The newest write that ends no further than this one.
    pub(crate) fn mistaken(&self, token: Token) -> Token {
        let written = self
            .marks
            .iter()
            .find(|mark| mark.token == token)
            .map(|mark| mark.written);
        let newest = self.marks.iter().rev().find(|mark| Some(mark.written) <= written);
        newest.map_or(token, |mark| mark.token)
    }

    /// If two snapshots are being written, the second one is not waited for.
    pub(crate) fn lose_second_snapshot(&mut self) {
        let is_second = self.marks.iter().filter(|mark| mark.reset).count() > 1;
        if is_second && self.marks.back().is_some_and(|mark| mark.reset) {
            self.marks.pop_back();
        }
    }

    /// Takes what was durable before a truncation to be durable still.
    pub(crate) fn forget_truncation(&mut self, before: LogIndex) {
        self.index = before;
    }
}

/// The one write of the step that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    /// The hard state changed.
    pub(crate) hard_state: bool,
    pub(crate) reset: Option<Box<Snapshot>>,
    pub(crate) truncate_from: Option<LogIndex>,
    pub(crate) entries: Vec<Entry>,
}

impl Write {
    pub(crate) fn is_empty(&self) -> bool {
        !self.does_more_than_append() && self.entries.is_empty()
    }

    /// Whether it makes a promise, or replaces entries.
    pub(crate) fn does_more_than_append(&self) -> bool {
        self.hard_state || self.replaces()
    }

    /// Whether it replaces entries: what is known to be durable may be among them.
    pub(crate) fn replaces(&self) -> bool {
        self.reset.is_some() || self.truncate_from.is_some()
    }

    /// Its entries from this one on.
    pub(crate) fn entries_from(&self, index: LogIndex) -> &[Entry] {
        let first = self.entries.first().map_or(index, |entry| entry.index);
        let count = usize::try_from(index.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
        self.entries.get(count..).unwrap_or_default()
    }

    /// The term of one of its entries.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        let entry = self.entries_from(index).first()?;
        (entry.index == index).then_some(entry.term)
    }

    /// Takes back entries from this one on, and those of a log that ends at `end`.
    pub(crate) fn truncate(&mut self, from: LogIndex, end: LogIndex) {
        self.entries.retain(|entry| entry.index < from);
        if from <= end {
            self.truncate_from = Some(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;

    fn append(truncate_from: Option<u64>, first: u64, last: u64) -> Write {
        let entry = |index| Entry {
            index: LogIndex(index),
            term: Term(1),
            payload: Payload::Blank,
        };
        Write {
            hard_state: false,
            reset: None,
            truncate_from: truncate_from.map(LogIndex),
            entries: (first..=last).map(entry).collect(),
        }
    }

    #[test]
    fn a_token_stands_for_all_before_it() {
        let mut durability = Durability::recovered(LogIndex(4));
        durability.issue(&append(None, 5, 6), LogIndex(6));
        let second = durability.issue(&append(None, 7, 9), LogIndex(9));
        assert_eq!(durability.index(), LogIndex(4));
        assert!(durability.complete(second));
        assert_eq!(durability.index(), LogIndex(9));
        assert!(durability.is_idle());
    }

    #[test]
    fn late_repeated_and_unknown_tokens_change_nothing() {
        let mut durability = Durability::recovered(LogIndex(0));
        let first = durability.issue(&append(None, 1, 1), LogIndex(1));
        let second = durability.issue(&append(None, 2, 2), LogIndex(2));
        assert!(durability.complete(second));
        assert!(!durability.complete(first));
        assert!(!durability.complete(second));
        assert!(!durability.complete(Token(9)));
        assert_eq!(durability.index(), LogIndex(2));
    }

    #[test]
    fn a_write_that_completes_after_a_truncation_does_not_vouch_for_what_replaced_it() {
        let mut durability = Durability::recovered(LogIndex(0));
        let old = durability.issue(&append(None, 1, 9), LogIndex(9));
        durability.truncated(LogIndex(5));
        let new = durability.issue(&append(Some(5), 5, 7), LogIndex(7));
        assert!(durability.complete(old));
        assert_eq!(durability.index(), LogIndex(4));
        assert!(durability.complete(new));
        assert_eq!(durability.index(), LogIndex(7));
    }

    #[test]
    fn a_hard_state_waits_for_its_own_write() {
        let mut durability = Durability::recovered(LogIndex(0));
        let entries = durability.issue(&append(None, 1, 1), LogIndex(1));
        let vote = Write {
            hard_state: true,
            ..Write::default()
        };
        let vote = durability.issue(&vote, LogIndex(1));
        durability.complete(entries);
        assert!(!durability.hard_state_is_durable());
        durability.complete(vote);
        assert!(durability.hard_state_is_durable());
    }
}
