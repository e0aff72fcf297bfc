//! Integers and configurations as records on disk hold them, taken from bytes that are not trusted.
//!
//! All little-endian. A configuration is three counts `u32` (voters, outgoing voters, learners), then their ids `u64`
//! in that order.

use trimaran_raft::{Configuration, NodeId};

/// The error of a record that ends before it should.
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

pub(crate) fn take_number(from: &mut &[u8]) -> Result<u64, &'static str> {
    Ok(u64::from_le_bytes(take(from)?))
}

/// The largest index, term or offset: whatever is beyond was not written by us, and what is below leaves room to count
/// on.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;

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

    #[test]
    fn a_configuration_is_these_bytes() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        let configuration = Configuration {
            voters: nodes(&[1, 2, 3]),
            outgoing: nodes(&[2, 4]),
            learners: nodes(&[5]),
        };
        let mut bytes = Vec::new();
        put_configuration(&mut bytes, &configuration);
        let counts = [3u32, 2, 1].iter().flat_map(|count| count.to_le_bytes());
        let ids = [1u64, 2, 3, 2, 4, 5]
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect::<Vec<u8>>();
        assert_eq!(bytes, counts.chain(ids).collect::<Vec<u8>>());
        let mut rest = &bytes[..];
        assert_eq!(take_configuration(&mut rest), Ok(configuration));
        assert!(rest.is_empty());
        for len in 0..bytes.len() {
            assert_eq!(take_configuration(&mut &bytes[..len]), Err(CUT_SHORT), "{len} bytes");
        }
    }

    #[test]
    fn a_count_that_can_not_be_is_not_allocated() {
        let bytes = [0xff; 12];
        assert_eq!(take_configuration(&mut &bytes[..]), Err(CUT_SHORT));
        assert!(take_configuration(&mut &[0; 12][..]).is_err(), "nobody votes");
    }
}
