//! The log as it will be once this step's write is applied to it: what was told later in a step is judged by what was
//! told earlier.

use super::{Group, Step};
use crate::{LogIndex, Term, TermAt};

impl Group {
    /// [`crate::LogView::term_at`].
    pub(super) fn term_at(&self, step: &Step, index: LogIndex) -> TermAt {
        match self.write.term_at(index) {
            Some(term) => TermAt::Known(term),
            None => step.log.term_at(index),
        }
    }

    /// [`crate::LogView::last_index_with_term_at_most`].
    pub(super) fn last_index_with_term_at_most(&self, step: &Step, term: Term, upto: LogIndex) -> LogIndex {
        let is_such = |entry: &&crate::Entry| entry.index <= upto && entry.term <= term;
        match self.write.entries.iter().rev().find(is_such) {
            Some(entry) => entry.index,
            None => step.log.last_index_with_term_at_most(term, upto),
        }
    }

    /// [`crate::LogView::fit`], up to the end.
    pub(super) fn fit(&self, step: &Step, first: LogIndex, max_bytes: u64) -> (LogIndex, u64) {
        let in_log = step.log.last_index();
        let (mut last, mut bytes) = (first.prev(), 0);
        if first <= in_log {
            (last, bytes) = step.log.fit(first, in_log, max_bytes);
            assert!(first <= last && last <= in_log, "the log found no entry that fits");
            if last < in_log {
                return (last, bytes);
            }
        }
        for entry in self.write.entries_from(last.next()) {
            let more = bytes + entry.payload.len() as u64;
            if entry.index > first && more > max_bytes {
                break;
            }
            (last, bytes) = (entry.index, more);
        }
        (last, bytes)
    }

    /// The term at an index of a leader's log: its own from its first entry on.
    pub(super) fn leader_term_at(&self, step: &Step, index: LogIndex) -> TermAt {
        let is_held = index.next() >= step.log.first_index() && index <= self.last.index;
        if index >= self.leading.first && is_held {
            return TermAt::Known(self.hard.term);
        }
        self.term_at(step, index)
    }
}
