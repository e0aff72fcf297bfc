//! What is written together, and how each record of it looks on disk.
//!
//! Integers are little-endian and of fixed width. A record begins with a byte that says what it is:
//!
//! | byte | record | then |
//! |---|---|---|
//! | 1 | begin | end of the previous file `u64` |
//! | 2 | hard state | group `u64`, term `u64`, whether there is a vote `u8`, vote `u64` |
//! | 3 | flushed | group `u64`, index `u64` |
//! | 4 | truncate | group `u64`, first index that goes `u64` |
//! | 5 | blank entry | group `u64`, index `u64`, term `u64` |
//! | 6 | entry | group `u64`, index `u64`, term `u64`, length `u32`, payload |
//! | 7 | forget | group `u64` |
//! | 8 | configuration entry | group `u64`, index `u64`, term `u64`, configuration |
//! | 9 | hard state of a member that lost something | as 2, then barred `u64`, life `u64` |
//! | 10 | reset | group `u64`, index `u64`, term `u64`, offset `u64`, configuration |
//! | 11 | start, where a file begins: the reset that a group's folder does not reflect yet | as 10 |
//! | 12 | configured | group `u64`, index `u64` |
//! | 13 | reset, and what producers sent before | as 10, then how many batches `u32`, and these |
//! | 14 | start, and what producers sent before | as 13 |
//! | 15 | owner: behind 1 in each file of an owned journal, and alone for each start | id 16 bytes, number of the start `u64` |
//!
//! Kinds from 8 on are in frames of version 2, from 13 on in those of version 3, and 15 in those of version 4. How a configuration looks is told in
//! [`crate::start`], and a producer's batch in [`crate::producers`].

use super::owner::OwnerId;
use crate::producers::put_batches;
use crate::start::{
    CUT_SHORT, LogStart, put_configuration, put_start, take, take_configuration, take_counted, take_number, take_start,
    take_start_and_producers,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use trimaran_raft::{Entry, GroupId, HardState, Life, LogIndex, NodeId, Payload, Term};

mod kind {
    pub(super) const BEGIN: u8 = 1;
    pub(super) const HARD_STATE: u8 = 2;
    pub(super) const FLUSHED: u8 = 3;
    pub(super) const TRUNCATE: u8 = 4;
    pub(super) const BLANK: u8 = 5;
    pub(super) const DATA: u8 = 6;
    pub(super) const FORGET: u8 = 7;
    pub(super) const CONFIGURATION: u8 = 8;
    pub(super) const LOSER: u8 = 9;
    pub(super) const RESET: u8 = 10;
    pub(super) const START: u8 = 11;
    pub(super) const CONFIGURED: u8 = 12;
    pub(super) const RESET_AND_PRODUCERS: u8 = 13;
    pub(super) const START_AND_PRODUCERS: u8 = 14;
    pub(super) const OWNER: u8 = 15;
}

/// What one or more groups want written together, in order.
///
/// A group's entries supersede what the journal holds of the group from the first one's index on.
#[derive(Clone, Debug, Default)]
pub struct JournalBatch {
    records: Vec<Record>,
    bytes: u64,
    /// Groups whose tail is written again. Some of it may have been released meanwhile.
    rewritten: BTreeSet<GroupId>,
}

impl JournalBatch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Payload bytes in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The group's hard state is now this one.
    pub fn hard_state(&mut self, group: GroupId, state: HardState) {
        self.records.push(Record::HardState { group, state });
    }

    /// The group's entries from here on are gone.
    pub fn truncate(&mut self, group: GroupId, from: LogIndex) {
        self.records.push(Record::Truncate { group, from });
    }

    /// Appends to the group's entries. The first one follows the group's last entry, or replaces the entries from its index
    /// on, none of which was released; the others follow it. Payloads are not copied.
    pub fn entries(&mut self, group: GroupId, entries: &[Entry]) {
        self.records.reserve(entries.len());
        for entry in entries {
            self.bytes += entry.payload.len() as u64;
            self.records.push(Record::Entry {
                group,
                entry: entry.clone(),
            });
        }
    }

    /// Writes a group's whole unflushed tail ([`crate::log::ReplicaLog::unflushed`]) again, so that the older files
    /// that held it can be recycled. The answer to [`crate::journal::Journal::laggards`] where nothing (more) can be
    /// flushed, because the rest of the tail is not committed.
    ///
    /// It must be the whole tail: entries supersede everything behind them.
    pub fn rewrite(&mut self, group: GroupId, unflushed: &[Entry]) {
        self.rewritten.insert(group);
        self.entries(group, unflushed);
    }

    /// The group's log begins anew behind this position ([`crate::log::ReplicaLog::reset`]): what was journaled of its
    /// entries is gone, and so is what its segments held, up to the position. At [`LogIndex::ZERO`], the log is empty.
    ///
    /// The journal remembers the position until it is told that the group's segments go further
    /// ([`crate::journal::Journal::release`]).
    pub fn reset(&mut self, group: GroupId, start: &LogStart) {
        let start = Box::new(start.clone());
        self.records.push(Record::Reset { group, start });
    }

    /// The group is gone for good: nothing of it is needed or recovered from here on.
    pub fn forget(&mut self, group: GroupId) {
        self.records.push(Record::Forget { group });
    }

    /// Appends another batch's records behind this one's.
    pub fn extend(&mut self, mut other: JournalBatch) {
        self.bytes += other.bytes;
        self.records.append(&mut other.records);
        self.rewritten.append(&mut other.rewritten);
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn rewrites(&self, group: GroupId) -> bool {
        self.rewritten.contains(&group)
    }
}

/// One thing that a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The first one of a file. What follows it in its frame replaces all hard states and flushed marks that were known.
    Begin {
        /// Where the last frame of the file before this one ends; zero if there is none.
        previous_end: u64,
    },
    HardState {
        group: GroupId,
        state: HardState,
    },
    /// The group's entries up to here were durable in its segments.
    Flushed {
        group: GroupId,
        upto: LogIndex,
    },
    Truncate {
        group: GroupId,
        from: LogIndex,
    },
    Entry {
        group: GroupId,
        entry: Entry,
    },
    Forget {
        group: GroupId,
    },
    /// The group's log begins anew: all that was said of its entries before is void.
    Reset {
        group: GroupId,
        start: Box<LogStart>,
    },
    /// A reset of an earlier file, which the group's folder may not reflect. Voids nothing.
    Start {
        group: GroupId,
        start: Box<LogStart>,
    },
    /// This configuration entry was durable in the group's folder, and is the last one of those.
    Configured {
        group: GroupId,
        index: LogIndex,
    },
    /// Whose journal it is, and which of the owner's starts writes from here on.
    Owner {
        id: OwnerId,
        start: u64,
    },
}

impl Record {
    /// The group that it is about, if it is about one.
    pub(super) fn group(&self) -> Option<GroupId> {
        match self {
            Record::HardState { group, .. }
            | Record::Flushed { group, .. }
            | Record::Truncate { group, .. }
            | Record::Entry { group, .. }
            | Record::Forget { group }
            | Record::Reset { group, .. }
            | Record::Start { group, .. }
            | Record::Configured { group, .. } => Some(*group),
            Record::Begin { .. } | Record::Owner { .. } => None,
        }
    }

    /// Writes all but the payload of an entry.
    pub(super) fn encode_head(&self, to: &mut Vec<u8>) {
        match self {
            Record::Begin { previous_end } => put(to, kind::BEGIN, [*previous_end]),
            Record::HardState { group, state } if (state.barred, state.life) == (LogIndex::ZERO, Life(0)) => {
                put_hard_state(to, kind::HARD_STATE, *group, state);
            }
            Record::HardState { group, state } => {
                put_hard_state(to, kind::LOSER, *group, state);
                to.extend_from_slice(&state.barred.0.to_le_bytes());
                to.extend_from_slice(&state.life.0.to_le_bytes());
            }
            Record::Flushed { group, upto } => put(to, kind::FLUSHED, [group.0, upto.0]),
            Record::Truncate { group, from } => put(to, kind::TRUNCATE, [group.0, from.0]),
            Record::Entry { group, entry } => {
                let place = [group.0, entry.index.0, entry.term.0];
                match &entry.payload {
                    Payload::Blank => put(to, kind::BLANK, place),
                    Payload::Data(bytes) => {
                        put(to, kind::DATA, place);
                        // Longer ones don't fit a frame, which is refused as a whole.
                        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                        to.extend_from_slice(&len.to_le_bytes());
                    }
                    Payload::Configuration(configuration) => {
                        put(to, kind::CONFIGURATION, place);
                        put_configuration(to, configuration);
                    }
                }
            }
            Record::Forget { group } => put(to, kind::FORGET, [group.0]),
            Record::Reset { group, start } => {
                put_position(to, [kind::RESET, kind::RESET_AND_PRODUCERS], *group, start);
            }
            Record::Start { group, start } => {
                put_position(to, [kind::START, kind::START_AND_PRODUCERS], *group, start);
            }
            Record::Configured { group, index } => put(to, kind::CONFIGURED, [group.0, index.0]),
            Record::Owner { id, start } => {
                to.push(kind::OWNER);
                to.extend_from_slice(&id.0);
                to.extend_from_slice(&start.to_le_bytes());
            }
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Record::Entry {
                entry:
                    Entry {
                        payload: Payload::Data(bytes),
                        ..
                    },
                ..
            } => bytes,
            _ => &[],
        }
    }

    /// Takes one record off the front of a frame's body. Payloads are copied, so that a small one does not keep the
    /// whole frame in memory.
    pub(super) fn decode(body: &mut &[u8]) -> Result<Record, &'static str> {
        let record = match u8::from_le_bytes(take(body)?) {
            kind::BEGIN => Record::Begin {
                previous_end: take_number(body)?,
            },
            kind::HARD_STATE => take_hard_state(body, |_| Ok((LogIndex::ZERO, Life(0))))?,
            kind::LOSER => take_hard_state(body, |body| {
                Ok((LogIndex(take_number(body)?), Life(take_number(body)?)))
            })?,
            kind::FLUSHED => Record::Flushed {
                group: GroupId(take_number(body)?),
                upto: LogIndex(take_counted(body)?),
            },
            kind::TRUNCATE => Record::Truncate {
                group: GroupId(take_number(body)?),
                from: LogIndex(take_counted(body)?),
            },
            kind::BLANK => decode_entry(body, |_| Ok(Payload::Blank))?,
            kind::DATA => decode_entry(body, decode_payload)?,
            kind::CONFIGURATION => decode_entry(body, |body| {
                Ok(Payload::Configuration(Box::new(take_configuration(body)?)))
            })?,
            kind::FORGET => Record::Forget {
                group: GroupId(take_number(body)?),
            },
            kind::RESET => Record::Reset {
                group: GroupId(take_number(body)?),
                start: Box::new(take_start(body)?),
            },
            kind::START => Record::Start {
                group: GroupId(take_number(body)?),
                start: Box::new(take_start(body)?),
            },
            kind::RESET_AND_PRODUCERS => Record::Reset {
                group: GroupId(take_number(body)?),
                start: Box::new(take_start_and_producers(body)?),
            },
            kind::START_AND_PRODUCERS => Record::Start {
                group: GroupId(take_number(body)?),
                start: Box::new(take_start_and_producers(body)?),
            },
            kind::CONFIGURED => Record::Configured {
                group: GroupId(take_number(body)?),
                index: LogIndex(take_counted(body)?),
            },
            kind::OWNER => Record::Owner {
                id: OwnerId(take(body)?),
                start: take_number(body)?,
            },
            _ => return Err("a record of an unknown kind"),
        };
        Ok(record)
    }
}

/// Of the kinds, the second one is for a position that names what producers sent.
fn put_position(to: &mut Vec<u8>, [bare, with_producers]: [u8; 2], group: GroupId, start: &LogStart) {
    let is_bare = start.producers.is_empty();
    put(to, if is_bare { bare } else { with_producers }, [group.0]);
    put_start(to, start);
    if !is_bare {
        put_batches(to, &start.producers);
    }
}

fn put_hard_state(to: &mut Vec<u8>, kind: u8, group: GroupId, state: &HardState) {
    put(to, kind, [group.0, state.term.0]);
    to.push(u8::from(state.vote.is_some()));
    to.extend_from_slice(&state.vote.unwrap_or_default().0.to_le_bytes());
}

fn take_hard_state(
    body: &mut &[u8],
    lost: impl FnOnce(&mut &[u8]) -> Result<(LogIndex, Life), &'static str>,
) -> Result<Record, &'static str> {
    let group = GroupId(take_number(body)?);
    let term = Term(take_counted(body)?);
    let voted = u8::from_le_bytes(take(body)?);
    let vote = NodeId(take_number(body)?);
    let vote = (voted != 0).then_some(vote);
    let (barred, life) = lost(body)?;
    Ok(Record::HardState {
        group,
        state: HardState {
            term,
            vote,
            barred,
            life,
        },
    })
}

fn put<const N: usize>(to: &mut Vec<u8>, kind: u8, numbers: [u64; N]) {
    to.push(kind);
    for number in numbers {
        to.extend_from_slice(&number.to_le_bytes());
    }
}

fn decode_entry(
    body: &mut &[u8],
    payload: impl FnOnce(&mut &[u8]) -> Result<Payload, &'static str>,
) -> Result<Record, &'static str> {
    let group = GroupId(take_number(body)?);
    let index = LogIndex(take_counted(body)?);
    let term = Term(take_counted(body)?);
    let payload = payload(body)?;
    Ok(Record::Entry {
        group,
        entry: Entry { index, term, payload },
    })
}

fn decode_payload(body: &mut &[u8]) -> Result<Payload, &'static str> {
    let len = u32::from_le_bytes(take(body)?) as usize;
    let (payload, rest) = body.split_at_checked(len).ok_or(CUT_SHORT)?;
    *body = rest;
    Ok(Payload::Data(Bytes::copy_from_slice(payload)))
}
