//! Counting: what a majority holds, and who has said yes.
//!
//! Pure functions over iterators, so that nothing is allocated and a joint configuration can ask twice.

use crate::LogIndex;

/// The least number of `voters` of which any two such groups share a member (Raft paper, section 5.2).
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest index that at least `count` of `held` have reached; the place before the first entry if there are not
/// that many.
pub(crate) fn held_by(count: usize, held: impl Iterator<Item = LogIndex> + Clone) -> LogIndex {
    match count {
        // Nearly all groups have three voters, and a leader asks this several times a proposal.
        2 => second_highest(held),
        _ => highest_reached(count, held),
    }
}

fn second_highest(held: impl Iterator<Item = LogIndex>) -> LogIndex {
    let (mut highest, mut second) = (LogIndex::ZERO, LogIndex::ZERO);
    for index in held {
        second = second.max(highest.min(index));
        highest = highest.max(index);
    }
    second
}

/// Quadratic in the number of voters, which is at most a handful, and free of allocation.
fn highest_reached(count: usize, held: impl Iterator<Item = LogIndex> + Clone) -> LogIndex {
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
            let held = held.iter().copied().map(LogIndex);
            assert_eq!(held_by(count, held.clone()), LogIndex(expected), "{count} of {held:?}");
            assert_eq!(highest_reached(count, held), LogIndex(expected), "by counting");
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
