//! The position at which a log begins: all that a replica needs to go on from the middle of a group's history.
//!
//! A log's state is the log itself, so a snapshot of it is no more than a position: what lies before the first entry is
//! deleted for everybody, and what follows is sent as ordinary entries. What must be known at the position is its term
//! (the next append is checked against it), its offset (the next batch is stamped with it), and who belongs to the
//! group there (the entry that said so may lie before it).
//!
//! # What a snapshot carries
//! Beside index, term and configuration: the offset that comes next, and what idempotent producers sent last before the
//! position, which the log behind it does not hold.
//!
//! | at | field |
//! |---|---|
//! | 0 | version `u8`: 2, or 1 where there is nothing but the offset |
//! | 1 | offset `i64` |
//! | 9 | number of batches `u32` |
//! | 13 | the batches, as told in [`crate::producers`], ascending by index |

use crate::codec::{take, take_counted};
use crate::offsets::LogEnd;
use crate::producers::{self, ProducedBatch, put_batches, take_batches};
use bytes::Bytes;
use std::fmt;
use trimaran_raft::{Configuration, LogIndex, Snapshot};
use trimaran_wire::batch::Offset;

/// A position in a group's log, with what is needed to go on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// The last entry that is not there any more, and what it leads to: the log goes on behind it.
    pub end: LogEnd,
    /// The group's configuration at that entry.
    pub configuration: Configuration,
    /// The last batches of each idempotent producer up to there, ascending by index; no more than [`MAX_SENT_BATCHES`].
    pub producers: Vec<ProducedBatch>,
}

impl LogStart {
    /// The position as a snapshot: what a leader sends to a follower, and what the journal keeps
    /// ([`crate::journal::JournalBatch::reset`]).
    pub fn to_snapshot(&self) -> Snapshot {
        Snapshot {
            index: self.end.index,
            term: self.end.term,
            configuration: self.configuration.clone(),
            data: Bytes::from(encode_position(self.end.offset, &self.producers)),
        }
    }

    /// The position that a snapshot is of.
    ///
    /// # Errors
    /// Its data are of another version, of another length, or say what can't be.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<LogStart, BadPosition> {
        let (offset, producers) = decode_position(&snapshot.data, snapshot.index)?;
        let (index, term) = (snapshot.index, snapshot.term);
        Ok(LogStart {
            end: LogEnd { index, term, offset },
            configuration: snapshot.configuration.clone(),
            producers,
        })
    }
}

/// Why a position can't be used: its sender is of another version, or faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPosition(pub(crate) &'static str);

impl fmt::Display for BadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a position in a log: {}", self.0)
    }
}

impl std::error::Error for BadPosition {}

/// Batches of producers that a position names: a mebibyte of them, some six thousand producers with all that they may
/// have in flight, or five times as many that sent little. They go through the journal, and a broker that was away for
/// long resets all of its logs at once; few of them have more than some dozens.
pub const MAX_SENT_BATCHES: usize = (1 << 20) / producers::RECORD_LEN;

/// The version of what [`encode_position`] writes.
const POSITION_VERSION: u8 = 2;
/// An offset alone: also what followers of before know.
const OFFSET_VERSION: u8 = 1;

/// Encodes a snapshot's data, beside index, term and configuration: the offset that the next record gets, and what
/// producers sent last before the position, ascending by index. What is too much is left out, as [`producers::newest`]
/// does.
pub fn encode_position(offset: Offset, batches: &[ProducedBatch]) -> Vec<u8> {
    let batches = producers::newest(batches, MAX_SENT_BATCHES);
    let version = if batches.is_empty() {
        OFFSET_VERSION
    } else {
        POSITION_VERSION
    };
    let mut bytes = vec![version];
    bytes.extend_from_slice(&offset.0.to_le_bytes());
    if !batches.is_empty() {
        put_batches(&mut bytes, &batches);
    }
    bytes
}

/// Decodes what [`encode_position`] wrote for the position behind `index`.
///
/// # Errors
/// The data are of another version, of another length, or say what can't be.
pub fn decode_position(mut bytes: &[u8], index: LogIndex) -> Result<(Offset, Vec<ProducedBatch>), BadPosition> {
    let from = &mut bytes;
    let [version] = take(from).map_err(BadPosition)?;
    if ![OFFSET_VERSION, POSITION_VERSION].contains(&version) {
        return Err(BadPosition("it is of an unknown version"));
    }
    let offset = Offset(take_counted(from).map_err(BadPosition)? as i64);
    let batches = match version {
        OFFSET_VERSION => Vec::new(),
        _ => take_batches(from, index.next(), MAX_SENT_BATCHES).map_err(BadPosition)?,
    };
    match from.is_empty() {
        true => Ok((offset, batches)),
        false => Err(BadPosition("it is of a wrong length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trimaran_raft::{NodeId, Term};

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn start() -> LogStart {
        LogStart {
            end: LogEnd {
                index: LogIndex(7),
                term: Term(3),
                offset: Offset(99),
            },
            configuration: Configuration {
                voters: nodes(&[1, 2, 3]),
                outgoing: nodes(&[2, 4]),
                learners: nodes(&[5]),
            },
            producers: Vec::new(),
        }
    }

    #[test]
    fn a_position_is_a_snapshot() {
        let start = LogStart {
            producers: vec![sent(4, 7, 40)],
            ..start()
        };
        let mut snapshot = start.to_snapshot();
        assert_eq!(LogStart::from_snapshot(&snapshot), Ok(start));
        snapshot.data = snapshot.data.slice(1..);
        assert!(LogStart::from_snapshot(&snapshot).is_err());
    }

    /// A batch of two records.
    fn sent(index: u64, producer: i64, sequence: i32) -> ProducedBatch {
        ProducedBatch {
            producer,
            epoch: 3,
            first_sequence: sequence,
            last_sequence: sequence + 1,
            index: LogIndex(index),
            base_offset: Offset(2 * index as i64),
        }
    }

    #[test]
    fn an_offset_alone_is_nine_bytes_and_no_other() {
        let bytes = encode_position(Offset(258), &[]);
        assert_eq!(bytes, [1, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_position(&bytes, LogIndex(9)), Ok((Offset(258), Vec::new())));
        let negative = encode_position(Offset(-1), &[]);
        for wrong in [&[][..], &bytes[..8], &[2; 9], &[3; 9], &[1; 10], &negative] {
            assert!(decode_position(wrong, LogIndex(9)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_position_names_what_producers_sent() {
        let batches = [sent(4, 7, 40), sent(6, 258, 0)];
        let bytes = encode_position(Offset(258), &batches);
        let mut golden = vec![2, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
        for (producer, index, offset, sequence) in [(7i64, 4u64, 8i64, 40i32), (258, 6, 12, 0)] {
            golden.extend(producer.to_le_bytes());
            golden.extend(index.to_le_bytes());
            golden.extend(offset.to_le_bytes());
            golden.extend(sequence.to_le_bytes());
            golden.extend((sequence + 1).to_le_bytes());
            golden.extend([3, 0, 0, 0]);
        }
        assert_eq!(bytes, golden);
        assert_eq!(
            decode_position(&bytes, LogIndex(6)),
            Ok((Offset(258), batches.to_vec()))
        );
        assert!(decode_position(&bytes, LogIndex(5)).is_err(), "6 lies behind it");
        for len in 0..bytes.len() {
            assert!(decode_position(&bytes[..len], LogIndex(6)).is_err(), "{len} bytes");
        }
        assert!(decode_position(&[&bytes[..], &[0]].concat(), LogIndex(6)).is_err());
    }

    #[test]
    fn a_position_names_the_newest_producers_and_no_more_than_it_may() {
        let count = MAX_SENT_BATCHES as u64 + 2;
        // The producer of the first two batches has sent the last one, too.
        let batches: Vec<_> = (1..=count)
            .map(|index| {
                sent(
                    index,
                    if [1, 2, count].contains(&index) {
                        0
                    } else {
                        index as i64
                    },
                    0,
                )
            })
            .collect();
        let bytes = encode_position(Offset(0), &batches);
        assert!(bytes.len() <= (1 << 20) + 13);
        let (_, named) = decode_position(&bytes, LogIndex(count)).unwrap();
        assert_eq!(named.len(), MAX_SENT_BATCHES);
        assert_eq!(named[..3], [batches[0], batches[1], batches[4]]);
        let mut more = vec![2; 9];
        put_batches(&mut more, &batches);
        more[1..9].fill(0);
        assert!(decode_position(&more, LogIndex(count)).is_err(), "more than it may");
    }
}
