//! Where a log begins: what a replica needs to go on from the middle of a group's history.
//!
//! A log's state is the log itself, so a snapshot of it is no more than a position: what lies before the first entry is
//! deleted for everybody, and what follows is sent as ordinary entries. What must be known at the position is its term
//! (the next append is checked against it), its offset (the next batch is stamped with it), and who belongs to the group
//! there (the entry that said so may lie before it).
//!
//! # How a configuration looks on disk
//! Three counts `u32` (voters, outgoing voters, learners), then their ids `u64` in that order; all little-endian.
//!
//! # What a snapshot carries
//! Beside index, term and configuration: the offset that comes next, and what idempotent producers sent last before the
//! position, which nobody can read in the log behind it.
//!
//! | at | field |
//! |---|---|
//! | 0 | version `u8`: 2, or 1 where there is nothing but the offset |
//! | 1 | offset `i64` |
//! | 9 | number of batches `u32` |
//! | 13 | the batches, as told in [`crate::producers`], ascending by index |

use crate::producers::{self, ProducedBatch, put_batches, take_batches};
use crate::scale::LogEnd;
use std::fmt;
use trimaran_raft::{Configuration, LogIndex, NodeId, Term};
use trimaran_wire::batch::Offset;

/// A position in a group's log, with what is needed to go on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// The last entry that is not there any more, and what it leads to: the log goes on behind it.
    pub end: LogEnd,
    /// Who belongs to the group at that entry.
    pub configuration: Configuration,
    /// The last batches of each idempotent producer up to there, ascending by index; no more than [`MAX_SENT_BATCHES`].
    pub producers: Vec<ProducedBatch>,
}

/// Why a position can't be used: whoever sent it is of another version, or lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPosition(&'static str);

impl fmt::Display for BadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a position in a log: {}", self.0)
    }
}

impl std::error::Error for BadPosition {}

/// Batches of producers that a position names: a mebibyte of them, some six thousand producers with all that they may have in
/// flight, or five times as many that sent little. They go through the journal, and a broker that was away for long begins
/// anew with all of its logs at once; few of them have more than some dozens.
pub const MAX_SENT_BATCHES: usize = (1 << 20) / producers::RECORD_LEN;

/// The version of what [`encode_position`] writes.
const POSITION_VERSION: u8 = 2;
/// An offset alone: also what followers of before know.
const OFFSET_VERSION: u8 = 1;

/// What a snapshot carries beside index, term and configuration: the offset that the next record gets, and what producers
/// sent last before the position, ascending by index. What is too much is left out, as [`producers::newest`] does.
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

/// What [`encode_position`] wrote for the position behind `index`.
///
/// # Errors
/// It is of another version, of another length, or says what can't be.
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

/// What a record on disk is not.
pub(crate) const CUT_SHORT: &str = "a record is cut short";

/// Appends a configuration to a record.
pub(crate) fn put_configuration(to: &mut Vec<u8>, configuration: &Configuration) {
    let Configuration {
        voters,
        outgoing,
        learners,
    } = configuration;
    for nodes in [voters, outgoing, learners] {
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        to.extend_from_slice(&count.to_le_bytes());
    }
    for node in voters.iter().chain(outgoing).chain(learners) {
        to.extend_from_slice(&node.0.to_le_bytes());
    }
}

/// Takes a configuration off the front of a record. Counts are held against what is left before anything is allocated.
pub(crate) fn take_configuration(from: &mut &[u8]) -> Result<Configuration, &'static str> {
    let mut counts = [0; 3];
    for count in &mut counts {
        *count = u32::from_le_bytes(take(from)?) as usize;
    }
    let configuration = Configuration {
        voters: take_nodes(from, counts[0])?,
        outgoing: take_nodes(from, counts[1])?,
        learners: take_nodes(from, counts[2])?,
    };
    match configuration.check() {
        Ok(()) => Ok(configuration),
        Err(_) => Err("no group can have these members"),
    }
}

fn take_nodes(from: &mut &[u8], count: usize) -> Result<Vec<NodeId>, &'static str> {
    if from.len() / size_of::<u64>() < count {
        return Err(CUT_SHORT);
    }
    (0..count).map(|_| Ok(NodeId(take_number(from)?))).collect()
}

/// Appends a position to a record, without its producers: index, term, offset, configuration.
pub(crate) fn put_start(to: &mut Vec<u8>, start: &LogStart) {
    let LogEnd { index, term, offset } = start.end;
    for number in [index.0, term.0, offset.0 as u64] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    put_configuration(to, &start.configuration);
}

/// Takes a position without producers off the front of a record.
pub(crate) fn take_start(from: &mut &[u8]) -> Result<LogStart, &'static str> {
    let index = LogIndex(take_counted(from)?);
    let term = Term(take_counted(from)?);
    let offset = Offset(take_counted(from)? as i64);
    Ok(LogStart {
        end: LogEnd { index, term, offset },
        configuration: take_configuration(from)?,
        producers: Vec::new(),
    })
}

/// Takes a position off the front of a record, its producers behind it.
pub(crate) fn take_start_and_producers(from: &mut &[u8]) -> Result<LogStart, &'static str> {
    let start = take_start(from)?;
    Ok(LogStart {
        producers: take_batches(from, start.end.index.next(), MAX_SENT_BATCHES)?,
        ..start
    })
}

pub(crate) fn take_number(from: &mut &[u8]) -> Result<u64, &'static str> {
    Ok(u64::from_le_bytes(take(from)?))
}

/// Nothing is counted this far: whatever is beyond was not written by us, and what is below leaves room to count on.
const MAX_NUMBER: u64 = 1 << 62;

/// An index, a term or an offset.
pub(crate) fn take_counted(from: &mut &[u8]) -> Result<u64, &'static str> {
    let number = take_number(from)?;
    if number > MAX_NUMBER {
        return Err("an index or a term is larger than any can be");
    }
    Ok(number)
}

pub(crate) fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, rest) = from.split_first_chunk().ok_or(CUT_SHORT)?;
    *from = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_position_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        put_start(&mut bytes, &start());
        let mut rest = &bytes[..];
        assert_eq!(take_start(&mut rest), Ok(start()));
        assert!(rest.is_empty());
        for len in 0..bytes.len() {
            assert_eq!(take_start(&mut &bytes[..len]), Err(CUT_SHORT), "{len} bytes");
        }
    }

    #[test]
    fn a_position_is_these_bytes() {
        let mut bytes = Vec::new();
        put_start(&mut bytes, &start());
        let numbers = [7u64, 3, 99];
        let counts = [3u32, 2, 1];
        let ids = [1u64, 2, 3, 2, 4, 5];
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        let counts = counts.iter().flat_map(|count| count.to_le_bytes());
        let ids = ids.iter().flat_map(|id| id.to_le_bytes());
        assert_eq!(bytes, numbers.chain(counts).chain(ids).collect::<Vec<u8>>());
    }

    #[test]
    fn a_count_that_can_not_be_is_not_allocated() {
        let bytes = [0xff; 12];
        assert_eq!(take_configuration(&mut &bytes[..]), Err(CUT_SHORT));
        assert!(take_configuration(&mut &[0; 12][..]).is_err(), "nobody votes");
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
