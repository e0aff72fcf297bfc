//! A batch of records that are written together, and each record's layout on disk.
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
//! | 10 | reset, before version 5 | group `u64`, index `u64`, term `u64`, offset `u64`, configuration |
//! | 11 | start, before version 5 | as 10 |
//! | 12 | configured | group `u64`, index `u64` |
//! | 13 | reset, before version 5, with batches of producers | as 10, then how many `u32`, and 36 bytes each |
//! | 14 | start, before version 5, with batches of producers | as 13 |
//! | 15 | owner: behind 1 in each file of an owned journal, and alone for each start | id 16 bytes, number of the start `u64` |
//! | 16 | reset | group `u64`, index `u64`, term `u64`, configuration, length `u32`, data |
//! | 17 | start, where a file begins: the reset that a group's store does not reflect yet | as 16 |
//!
//! A configuration is three counts `u32` (voters, outgoing voters, learners), then their ids `u64` in that order.
//!
//! Kinds from 8 on are in frames of version 2, from 13 on in those of version 3, 15 in those of version 4, 16 and 17 in
//! those of version 5. Kinds 10, 11, 13 and 14 are read, and not written any more.

use super::owner::OwnerId;
use crate::codec::{CUT_SHORT, put_configuration, take, take_configuration, take_counted, take_number};
use bytes::Bytes;
use std::collections::BTreeSet;
use trimaran_raft::{Entry, GroupId, HardState, Life, LogIndex, NodeId, Payload, Snapshot, Term};

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
    pub(super) const OLD_RESET: u8 = 10;
    pub(super) const OLD_START: u8 = 11;
    pub(super) const CONFIGURED: u8 = 12;
    pub(super) const OLD_RESET_AND_PRODUCERS: u8 = 13;
    pub(super) const OLD_START_AND_PRODUCERS: u8 = 14;
    pub(super) const OWNER: u8 = 15;
    pub(super) const RESET: u8 = 16;
    pub(super) const START: u8 = 17;
}

/// The longest data of a position: each file of the journal begins with the positions that are still needed. Twice what
/// a position of the replica logs takes. What is larger, such as a state machine's snapshot, belongs into its own file.
pub const MAX_RESET_BYTES: usize = 2 << 20;

/// Writes of one or more groups that become durable together, in order.
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

    /// Appends to the group's entries. The first one follows the group's last entry, or replaces the entries from its
    /// index on, none of which was released; the others follow it. Payloads are not copied.
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

    /// Writes a group's entries that are not released again, so that the older files that hold them can be recycled.
    /// The answer to [`crate::journal::Journal::groups_to_flush`] where nothing (more) can be released, because the
    /// rest is not committed.
    ///
    /// Give it the whole tail: entries supersede everything behind them.
    pub fn rewrite(&mut self, group: GroupId, unflushed: &[Entry]) {
        self.rewritten.insert(group);
        self.entries(group, unflushed);
    }

    /// The group's log begins behind this position from now on: what was journaled of its entries is gone, and so is
    /// what was released. At [`LogIndex::ZERO`], the log is empty.
    ///
    /// The journal keeps the position, its data included, until entries up to there are released
    /// ([`crate::journal::Journal::release`]): until the group's store reflects it. It never looks into the data, which
    /// must not be longer than [`MAX_RESET_BYTES`]: each file repeats them.
    pub fn reset(&mut self, group: GroupId, start: &Snapshot) {
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
    /// The first one of a file. What follows it in its frame replaces all hard states and flushed marks that were
    /// known.
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
    /// The group's log begins behind this position: all earlier records of its entries are void.
    Reset {
        group: GroupId,
        start: Box<Snapshot>,
    },
    /// A reset of an earlier file, which the group's folder may not reflect. Voids nothing.
    Start {
        group: GroupId,
        start: Box<Snapshot>,
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
            Record::Reset { group, start } => put_position(to, kind::RESET, *group, start),
            Record::Start { group, start } => put_position(to, kind::START, *group, start),
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
            kind @ (kind::RESET | kind::OLD_RESET | kind::OLD_RESET_AND_PRODUCERS) => Record::Reset {
                group: GroupId(take_number(body)?),
                start: Box::new(take_position(kind, body)?),
            },
            kind @ (kind::START | kind::OLD_START | kind::OLD_START_AND_PRODUCERS) => Record::Start {
                group: GroupId(take_number(body)?),
                start: Box::new(take_position(kind, body)?),
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

fn put_position(to: &mut Vec<u8>, kind: u8, group: GroupId, start: &Snapshot) {
    put(to, kind, [group.0, start.index.0, start.term.0]);
    put_configuration(to, &start.configuration);
    let len = u32::try_from(start.data.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&len.to_le_bytes());
    to.extend_from_slice(&start.data);
}

fn take_position(kind: u8, body: &mut &[u8]) -> Result<Snapshot, &'static str> {
    let index = LogIndex(take_counted(body)?);
    let term = Term(take_counted(body)?);
    let (configuration, data) = match kind {
        kind::RESET | kind::START => {
            let configuration = take_configuration(body)?;
            (configuration, take_bytes(body)?)
        }
        _ => {
            let offset = take::<8>(body)?;
            let configuration = take_configuration(body)?;
            let has_producers = [kind::OLD_RESET_AND_PRODUCERS, kind::OLD_START_AND_PRODUCERS].contains(&kind);
            (configuration, take_old_data(offset, has_producers, body)?)
        }
    };
    Ok(Snapshot {
        index,
        term,
        configuration,
        data,
    })
}

/// The positions of versions before 5, as the data that the replica logs give them today (`crate::snapshot`): a
/// version, the offset, and the batches of producers.
fn take_old_data(offset: [u8; 8], has_producers: bool, body: &mut &[u8]) -> Result<Bytes, &'static str> {
    const BATCH_LEN: usize = 36;
    if !has_producers {
        return Ok([&[1][..], &offset].concat().into());
    }
    let count = take::<4>(body)?;
    let len = (u32::from_le_bytes(count) as usize).saturating_mul(BATCH_LEN);
    let (batches, rest) = body.split_at_checked(len).ok_or(CUT_SHORT)?;
    *body = rest;
    Ok([&[2][..], &offset, &count, batches].concat().into())
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
    take_bytes(body).map(Payload::Data)
}

/// Takes a length `u32` and so many bytes off the front of a record.
fn take_bytes(body: &mut &[u8]) -> Result<Bytes, &'static str> {
    let len = u32::from_le_bytes(take(body)?) as usize;
    let (bytes, rest) = body.split_at_checked(len).ok_or(CUT_SHORT)?;
    *body = rest;
    Ok(Bytes::copy_from_slice(bytes))
}
