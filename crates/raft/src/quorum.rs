//! Counting: what a majority holds, and who has said yes.
//!
//! Pure functions over iterators, so that nothing is allocated and a joint configuration can ask twice.

use crate::LogIndex;

/// The least number of `voters` of which any two such groups share a member (Raft paper, section 5.2).
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest index that at least `count` of `held` have reached; the place before the first entry if there are not
/// that many. Quadratic in the number of voters, which is at most a handful, and free of allocation.
pub(crate) fn held_by(count: usize, held: impl Iterator<Item = LogIndex> + Clone) -> LogIndex {
    let reached = |index: LogIndex| held.clone().filter(|other| *other >= index).count() >= count;
    held.clone()
        .filter(|index| reached(*index))
        .max()
        .unwrap_or(LogIndex::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, expected) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)] {
            assert_eq!(majority(voters), expected, "{voters} voters");
        }
    }

    #[test]
    fn held_by_is_the_count_th_highest() {
        let check = |count, held: &[u64], expected| {
            let found = held_by(count, held.iter().copied().map(LogIndex));
            assert_eq!(found, LogIndex(expected), "{count} of {held:?}");
        };
        check(1, &[7], 7);
        check(2, &[5, 9, 7], 7);
        check(3, &[5, 9, 7], 5);
        check(2, &[4, 4, 0], 4);
        check(3, &[9, 1, 1, 8, 3], 3);
        check(4, &[1, 2, 3], 0);
        check(2, &[], 0);
    }
}
