//! What the core asks of the log. All of it is answered from memory.

use crate::{LogIndex, Term};

/// What is known about the term at an index. Three cases, because "deleted" and "not there yet" call for different
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
