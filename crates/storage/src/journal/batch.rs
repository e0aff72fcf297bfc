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

use super::MAX_NUMBER;
use bytes::Bytes;
use trimaran_raft::{Entry, GroupId, HardState, LogIndex, NodeId, Payload, Term};

mod kind {
    pub(super) const BEGIN: u8 = 1;
    pub(super) const HARD_STATE: u8 = 2;
    pub(super) const FLUSHED: u8 = 3;
    pub(super) const TRUNCATE: u8 = 4;
    pub(super) const BLANK: u8 = 5;
    pub(super) const DATA: u8 = 6;
    pub(super) const FORGET: u8 = 7;
}

/// What one or more groups want written together, in order.
///
/// A group's entries supersede what the journal holds of the group from the first one's index on.
#[derive(Clone, Debug, Default)]
pub struct JournalBatch {
    records: Vec<Record>,
    bytes: u64,
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

    /// Appends to the group's entries; contiguous. Payloads are not copied.
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
        self.entries(group, unflushed);
    }

    /// The group is gone for good: nothing of it is needed or recovered from here on.
    pub fn forget(&mut self, group: GroupId) {
        self.records.push(Record::Forget { group });
    }

    /// Appends another batch's records behind this one's.
    pub fn extend(&mut self, mut other: JournalBatch) {
        self.bytes += other.bytes;
        self.records.append(&mut other.records);
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
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
}

impl Record {
    /// Writes all but the payload of an entry.
    pub(super) fn encode_head(&self, to: &mut Vec<u8>) {
        match self {
            Record::Begin { previous_end } => put(to, kind::BEGIN, [*previous_end]),
            Record::HardState { group, state } => {
                put(to, kind::HARD_STATE, [group.0, state.term.0]);
                to.push(u8::from(state.vote.is_some()));
                to.extend_from_slice(&state.vote.unwrap_or_default().0.to_le_bytes());
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
                    Payload::Configuration(_) => unreachable!("a log refuses it, so that it is never journaled"),
                }
            }
            Record::Forget { group } => put(to, kind::FORGET, [group.0]),
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
                previous_end: number(body)?,
            },
            kind::HARD_STATE => {
                let group = GroupId(number(body)?);
                let term = Term(counted(body)?);
                let voted = u8::from_le_bytes(take(body)?);
                let vote = NodeId(number(body)?);
                let vote = (voted != 0).then_some(vote);
                Record::HardState {
                    group,
                    state: HardState {
                        term,
                        vote,
                        ..HardState::default()
                    },
                }
            }
            kind::FLUSHED => Record::Flushed {
                group: GroupId(number(body)?),
                upto: LogIndex(counted(body)?),
            },
            kind::TRUNCATE => Record::Truncate {
                group: GroupId(number(body)?),
                from: LogIndex(counted(body)?),
            },
            kind::BLANK => decode_entry(body, |_| Ok(Payload::Blank))?,
            kind::DATA => decode_entry(body, decode_payload)?,
            kind::FORGET => Record::Forget {
                group: GroupId(number(body)?),
            },
            _ => return Err("a record of an unknown kind"),
        };
        Ok(record)
    }
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
    let group = GroupId(number(body)?);
    let index = LogIndex(counted(body)?);
    let term = Term(counted(body)?);
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

const CUT_SHORT: &str = "a record is cut short";

fn number(body: &mut &[u8]) -> Result<u64, &'static str> {
    Ok(u64::from_le_bytes(take(body)?))
}

/// An index or a term.
fn counted(body: &mut &[u8]) -> Result<u64, &'static str> {
    let number = number(body)?;
    if number > MAX_NUMBER {
        return Err("an index or a term is larger than any can be");
    }
    Ok(number)
}

fn take<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, rest) = body.split_first_chunk().ok_or(CUT_SHORT)?;
    *body = rest;
    Ok(*taken)
}
