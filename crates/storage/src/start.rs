//! Where a log begins: what a replica needs to go on from the middle of a group's history.
//!
//! A log's state is the log itself, so a snapshot of it is no more than a position: what lies before the first entry is
//! deleted for everybody, and what follows is sent as ordinary entries. What must be known at the position is its term
//! (the next append is checked against it), its offset (the next batch is stamped with it), and who belongs to the group
//! there (the entry that said so may lie before it).
//!
//! # How a configuration looks on disk
//! Three counts `u32` (voters, outgoing voters, learners), then their ids `u64` in that order; all little-endian.

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

/// The version of what [`encode_offset`] writes.
const OFFSET_VERSION: u8 = 1;

/// What a snapshot carries beside index, term and configuration: a version, and the offset that the next record gets.
pub fn encode_offset(offset: Offset) -> [u8; 9] {
    let mut bytes = [OFFSET_VERSION; 9];
    bytes[1..].copy_from_slice(&offset.0.to_le_bytes());
    bytes
}

/// What [`encode_offset`] wrote.
///
/// # Errors
/// It is of another version, of another length, or negative.
pub fn decode_offset(bytes: &[u8]) -> Result<Offset, BadPosition> {
    let Some((version, number)) = bytes.split_first() else {
        return Err(BadPosition("it is empty"));
    };
    if *version != OFFSET_VERSION {
        return Err(BadPosition("it is of an unknown version"));
    }
    let number = number.try_into().map_err(|_| BadPosition("it is of a wrong length"))?;
    let offset = i64::from_le_bytes(number);
    if !(0..=MAX_NUMBER as i64).contains(&offset) {
        return Err(BadPosition("it is negative, or larger than any can be"));
    }
    Ok(Offset(offset))
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

/// Appends a position to a record: index, term, offset, configuration.
pub(crate) fn put_start(to: &mut Vec<u8>, start: &LogStart) {
    let LogEnd { index, term, offset } = start.end;
    for number in [index.0, term.0, offset.0 as u64] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    put_configuration(to, &start.configuration);
}

/// Takes a position off the front of a record.
pub(crate) fn take_start(from: &mut &[u8]) -> Result<LogStart, &'static str> {
    let index = LogIndex(take_counted(from)?);
    let term = Term(take_counted(from)?);
    let offset = Offset(take_counted(from)? as i64);
    Ok(LogStart {
        end: LogEnd { index, term, offset },
        configuration: take_configuration(from)?,
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

    #[test]
    fn an_offset_is_nine_bytes_and_no_other() {
        let bytes = encode_offset(Offset(258));
        assert_eq!(bytes, [1, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_offset(&bytes), Ok(Offset(258)));
        for wrong in [&[][..], &bytes[..8], &[2; 9], &[1; 10], &encode_offset(Offset(-1))] {
            assert!(decode_offset(wrong).is_err(), "{wrong:?}");
        }
    }
}
