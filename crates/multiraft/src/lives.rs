//! The lives of replicas that were lost.

use trimaran_raft::Life;

/// Lives that one start of a broker has to give, before it takes those of the next one. A broker that loses more
/// replicas between two starts has a disk that can't be used.
const LIVES_PER_START: u64 = 1 << 16;

/// Numbers the losses of a broker's replicas: each begins a [`Life`] that is higher than all that any replica of the
/// broker was in before. Incarnations rise from start to start whatever the clock says, so lives do.
#[derive(Clone, Debug)]
pub struct Lives {
    last: Life,
}

impl Lives {
    /// The lives of the start with this incarnation.
    pub fn new(incarnation: u64) -> Lives {
        Lives {
            last: Life(incarnation.saturating_mul(LIVES_PER_START)),
        }
    }

    /// The life that begins with the next loss. `known`: what the journal still has of the replica's life before.
    pub fn next(&mut self, known: Life) -> Life {
        self.last = Life(self.last.max(known).0.saturating_add(1));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_begins_a_higher_life_within_a_start_and_after_it() {
        let mut first = Lives::new(5);
        let lives = [first.next(Life(0)), first.next(Life(0)), Lives::new(6).next(Life(0))];
        assert!(lives.is_sorted_by(|one, next| one < next), "{lives:?}");
        let known = Life(u64::MAX / 2);
        assert_eq!(
            first.next(known),
            Life(known.0 + 1),
            "whatever the journal knows is lower"
        );
    }

    #[test]
    fn lives_are_higher_than_those_that_were_wall_clocks() {
        let now_ms = 1_800_000_000_000;
        assert!(Lives::new(1_700_000_000_000).next(Life(0)) > Life(now_ms));
    }
}
