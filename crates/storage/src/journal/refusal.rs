//! Requests that the journal refuses before it writes anything, because the next open would fail or entries would be
//! lost.

use super::batch::{MAX_RESET_BYTES, Record};
use super::{JournalBatch, JournalError, MAX_NUMBER, RecoveredGroup};
use std::collections::BTreeMap;
use std::fmt;
use trimaran_raft::{Configuration, Entry, GroupId, LogIndex, Payload, Snapshot, Term};

/// Why a request was refused. The caller's state and the journal's have diverged: a bug of the caller, or two callers
/// that write the same group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An entry doesn't follow the group's last one. After a gap the journal could not be opened any more.
    Gap {
        /// The entry's index.
        index: LogIndex,
        /// The group's last entry, or the position behind which its log begins; zero if it has none.
        last: LogIndex,
    },
    /// An entry's term is lower than that of the entry before it.
    TermGoesBack {
        /// The entry's index.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// The term of the entry before it.
        before: Term,
    },
    /// An entry that was released would be replaced or truncated. Of what was released, the journal keeps nothing.
    Released {
        /// The first entry that would be.
        index: LogIndex,
        /// The last entry that was released, or the position behind which the log begins.
        released: LogIndex,
    },
    /// Entries that the journal has never had would be released, and with them all that are written up to there later.
    BeyondEnd {
        /// The last entry to be released.
        upto: LogIndex,
        /// The group's last entry.
        last: LogIndex,
    },
    /// An index or a term is larger than the journal counts (2^62).
    TooLarge,
    /// The data of a position are longer than [`MAX_RESET_BYTES`].
    TooLong,
    /// A configuration that no group can have, such as one without voters.
    BadConfiguration,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Gap { index, last } => write!(
                f,
                "entry {index} does not follow entry {last}, the last one of the group; write entry {} first, or let \
                 the log begin elsewhere by a reset",
                last.next()
            ),
            Refusal::TermGoesBack { index, term, before } => write!(
                f,
                "entry {index} has term {term}, and the entry before it has term {before}; terms never go back \
                 within a log"
            ),
            Refusal::Released { index, released } => write!(
                f,
                "entry {index} can't be replaced or truncated: everything up to {released} was released, or lies \
                 before the beginning of the log"
            ),
            Refusal::BeyondEnd { upto, last } => write!(
                f,
                "entries up to {upto} can't be released: the group's last entry is {last}; release only what was \
                 written"
            ),
            Refusal::TooLarge => f.write_str("an index or a term is larger than 2^62"),
            Refusal::TooLong => write!(
                f,
                "the data of a position are longer than {MAX_RESET_BYTES} bytes; keep them in a file, and its name in \
                 the journal"
            ),
            Refusal::BadConfiguration => {
                f.write_str("no group can have this configuration; Configuration::check says why")
            }
        }
    }
}

/// Where a group's entries end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// The last entry that was released, or the position behind which the log begins.
    released: LogIndex,
    /// The last entry; never below `released`.
    last: LogIndex,
    /// Its term; zero if that is not known.
    term: Term,
}

impl End {
    fn recovered(group: &RecoveredGroup) -> End {
        let start = group.start.as_ref().map(|start| (start.index, start.term));
        let (begin, term) = start.unwrap_or_default();
        let released = group.flushed.max(begin);
        let last = group.entries.last().map(|entry| (entry.index, entry.term));
        let (last, term) = last
            .filter(|(index, _)| *index >= released)
            .unwrap_or((released, if released == begin { term } else { Term::ZERO }));
        End { released, last, term }
    }

    fn append(&mut self, entry: &Entry, is_rewrite: bool) -> Result<(), Refusal> {
        let (index, term, last) = (entry.index, entry.term, self.last);
        if index.0 > MAX_NUMBER || term.0 > MAX_NUMBER {
            return Err(Refusal::TooLarge);
        }
        if index == LogIndex::ZERO || index > last.next() {
            return Err(Refusal::Gap { index, last });
        }
        if index <= self.released {
            // A tail that was to be written again, and was released while it waited.
            if is_rewrite {
                (self.last, self.term) = (self.released, Term::ZERO);
                return Ok(());
            }
            let released = self.released;
            return Err(Refusal::Released { index, released });
        }
        if index == last.next() && term < self.term {
            let before = self.term;
            return Err(Refusal::TermGoesBack { index, term, before });
        }
        if let Payload::Configuration(configuration) = &entry.payload {
            check_configuration(configuration)?;
        }
        (self.last, self.term) = (index, term);
        Ok(())
    }

    fn truncate(&mut self, from: LogIndex) -> Result<(), Refusal> {
        let released = self.released;
        if from <= released && released > LogIndex::ZERO {
            return Err(Refusal::Released { index: from, released });
        }
        if from.0 > MAX_NUMBER {
            return Err(Refusal::TooLarge);
        }
        if from <= self.last {
            (self.last, self.term) = (from.prev(), Term::ZERO);
        }
        Ok(())
    }

    fn reset(&mut self, start: &Snapshot) -> Result<(), Refusal> {
        let (index, term) = (start.index, start.term);
        if start.data.len() > MAX_RESET_BYTES {
            return Err(Refusal::TooLong);
        }
        if index.0 > MAX_NUMBER || term.0 > MAX_NUMBER {
            return Err(Refusal::TooLarge);
        }
        check_configuration(&start.configuration)?;
        *self = End {
            released: index,
            last: index,
            term,
        };
        Ok(())
    }
}

fn check_configuration(configuration: &Configuration) -> Result<(), Refusal> {
    configuration.check().map_err(|_| Refusal::BadConfiguration)
}

/// Where the groups' entries end: of all groups that the journal knows.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<GroupId, End>);

/// Where the groups of a batch end once it is written; none for a group that is forgotten.
#[derive(Debug, Default)]
pub(super) struct NewEnds(BTreeMap<GroupId, Option<End>>);

impl Ends {
    pub(super) fn recovered(groups: &BTreeMap<GroupId, RecoveredGroup>) -> Ends {
        let end = |(id, group): (&GroupId, &RecoveredGroup)| (*id, End::recovered(group));
        Ends(groups.iter().map(end).collect())
    }

    /// Checks a batch that is written behind those that led to `ends`, and notes in there what it leads to. After a
    /// refusal `ends` is as before.
    pub(super) fn check(&self, batch: &JournalBatch, ends: &mut NewEnds) -> Result<(), JournalError> {
        let mut changed = NewEnds::default();
        for record in batch.records() {
            let Some(group) = record.group() else { continue };
            let known = || {
                ends.0
                    .get(&group)
                    .copied()
                    .unwrap_or_else(|| self.0.get(&group).copied())
            };
            let slot = changed.0.entry(group).or_insert_with(known);
            if let Record::Forget { .. } = record {
                *slot = None;
                continue;
            }
            let end = slot.get_or_insert_default();
            let checked = match record {
                Record::Entry { entry, .. } => end.append(entry, batch.rewrites(group)),
                Record::Truncate { from, .. } => end.truncate(*from),
                Record::Reset { start, .. } => end.reset(start),
                Record::HardState { state, .. } if state.term.0 > MAX_NUMBER => Err(Refusal::TooLarge),
                _ => Ok(()),
            };
            checked.map_err(|what| JournalError::Refused { group, what })?;
        }
        ends.0.append(&mut changed.0);
        Ok(())
    }

    /// Checks that entries up to here may be released, and notes it. False if the group is unknown.
    pub(super) fn release(&mut self, group: GroupId, upto: LogIndex) -> Result<bool, JournalError> {
        let Some(end) = self.0.get_mut(&group) else {
            return Ok(false);
        };
        if upto > end.last {
            let what = Refusal::BeyondEnd { upto, last: end.last };
            return Err(JournalError::Refused { group, what });
        }
        end.released = end.released.max(upto);
        Ok(true)
    }

    /// The batches that led there are durable.
    pub(super) fn apply(&mut self, ends: NewEnds) {
        for (group, end) in ends.0 {
            match end {
                Some(end) => drop(self.0.insert(group, end)),
                None => drop(self.0.remove(&group)),
            }
        }
    }
}
