//! The memory of a shard's log tails: one limit for all of them.
//!
//! A tail holds what is not in segments yet, and some of what is. The latter is given up when memory is short,
//! beginning with the log that was not written to for longest. The former becomes the latter by flushes, which begin
//! earlier when many logs have something to flush; and where even that is not enough, a leader takes no more appends of
//! a group that holds more than its part.

use std::collections::BTreeMap;
use trimaran_raft::GroupId;

/// The bytes of one log's tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) unflushed: u64,
    pub(crate) flushed: u64,
    /// Its place among those that have something to give up; 0: none.
    place: u64,
}

/// The bytes of all tails of a shard.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    /// All together; none: no limit.
    limit: Option<u64>,
    unflushed: u64,
    flushed: u64,
    /// Logs with something unflushed.
    active: u64,
    /// Logs with something flushed in memory, in the order of their last flushes.
    idlest: BTreeMap<u64, GroupId>,
    places: u64,
}

impl Tails {
    pub(crate) fn new(limit: Option<u64>) -> Tails {
        Tails {
            limit,
            ..Tails::default()
        }
    }

    /// Bytes of all tails.
    pub(crate) fn bytes(&self) -> u64 {
        self.unflushed + self.flushed
    }

    /// A group's tail takes something else than `held` says, which is brought up to date.
    pub(crate) fn note(&mut self, group: GroupId, held: &mut Held, unflushed: u64, flushed: u64) {
        self.unflushed = self.unflushed - held.unflushed + unflushed;
        self.flushed = self.flushed - held.flushed + flushed;
        self.active = self.active - u64::from(held.unflushed > 0) + u64::from(unflushed > 0);
        if held.flushed != flushed {
            self.idlest.remove(&held.place);
            held.place = 0;
            if flushed > 0 {
                self.places += 1;
                held.place = self.places;
                self.idlest.insert(held.place, group);
            }
        }
        (held.unflushed, held.flushed) = (unflushed, flushed);
    }

    /// The group whose tail is to be given up next, if memory is short.
    pub(crate) fn to_shed(&self) -> Option<GroupId> {
        let is_short = self.bytes() > self.limit?;
        let idlest = self.idlest.values().next();
        idlest.copied().filter(|_| is_short)
    }

    /// Half of the limit is for what is unflushed; a log that is far from its part of that may exceed it.
    fn unflushed_limit(&self) -> Option<u64> {
        Some(self.limit? / 2)
    }

    /// A log's part of what may be unflushed, if all that are active have the same.
    fn part(&self, limit: u64) -> u64 {
        limit / self.active.max(1)
    }

    /// Whether a log that holds so much is to be flushed although it would not be for its own sake.
    pub(crate) fn should_flush(&self, held: &Held) -> bool {
        self.unflushed_limit()
            .is_some_and(|limit| self.unflushed > limit / 2 && held.unflushed >= self.part(limit))
    }

    /// Whether a log that holds so much may take more. One that may not is to be flushed.
    pub(crate) fn has_room(&self, held: &Held) -> bool {
        self.unflushed_limit()
            .is_none_or(|limit| self.unflushed < limit || held.unflushed < self.part(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tails with a limit, and what groups hold of them.
    struct Shard {
        tails: Tails,
        held: Vec<Held>,
    }

    impl Shard {
        fn new(limit: u64, groups: usize) -> Shard {
            Shard {
                tails: Tails::new(Some(limit)),
                held: vec![Held::default(); groups],
            }
        }

        fn note(&mut self, group: usize, unflushed: u64, flushed: u64) {
            self.tails
                .note(GroupId(group as u64), &mut self.held[group], unflushed, flushed);
        }

        /// Gives up tails until memory is not short: whose.
        fn shed(&mut self) -> Vec<u64> {
            let mut shed = Vec::new();
            while let Some(group) = self.tails.to_shed() {
                let at = group.0 as usize;
                self.note(at, self.held[at].unflushed, 0);
                shed.push(group.0);
            }
            shed
        }
    }

    #[test]
    fn the_idlest_tails_are_given_up_first_and_no_more_than_needed() {
        let mut shard = Shard::new(100, 4);
        for group in 0..4 {
            shard.note(group, 0, 25);
        }
        assert!(shard.shed().is_empty());
        shard.note(0, 0, 40);
        assert_eq!(shard.shed(), [1], "the first was written to since");
        shard.note(3, 30, 25);
        assert_eq!(shard.shed(), [2]);
        assert_eq!(shard.tails.bytes(), 95);
    }

    #[test]
    fn what_is_not_in_segments_is_never_given_up() {
        let mut shard = Shard::new(100, 2);
        shard.note(0, 90, 0);
        shard.note(1, 90, 5);
        assert_eq!(shard.shed(), [1]);
        assert_eq!(shard.tails.bytes(), 180);
    }

    #[test]
    fn many_active_logs_are_flushed_earlier() {
        let mut shard = Shard::new(160, 8);
        shard.note(0, 30, 0);
        assert!(!shard.tails.should_flush(&shard.held[0]), "memory is not short");
        for group in 1..8 {
            shard.note(group, 5, 0);
        }
        // Each one's part is ten.
        assert!(shard.tails.should_flush(&shard.held[0]) && !shard.tails.should_flush(&shard.held[1]));
        shard.note(0, 0, 30);
        shard.note(1, 20, 0);
        for group in 2..8 {
            shard.note(group, 1, 0);
        }
        assert!(
            !shard.tails.should_flush(&shard.held[1]),
            "more than its part, but memory is not short"
        );
    }

    #[test]
    fn whoever_has_no_room_is_flushed() {
        for (one, other) in [(1, 1), (50, 0), (50, 50), (99, 2), (2, 200)] {
            let mut shard = Shard::new(100, 2);
            shard.note(0, one, 0);
            shard.note(1, other, 0);
            for held in &shard.held {
                assert!(
                    shard.tails.has_room(held) || shard.tails.should_flush(held),
                    "{one}, {other}"
                );
            }
        }
    }

    #[test]
    fn over_the_limit_only_the_large_are_refused() {
        let mut shard = Shard::new(100, 3);
        shard.note(0, 40, 0);
        assert!(shard.tails.has_room(&shard.held[0]));
        shard.note(1, 15, 0);
        assert!(!shard.tails.has_room(&shard.held[0]));
        assert!(shard.tails.has_room(&shard.held[1]) && shard.tails.has_room(&shard.held[2]));
        shard.note(0, 0, 40);
        assert!(shard.tails.has_room(&shard.held[0]));
    }

    #[test]
    fn a_group_that_leaves_takes_its_bytes_along() {
        let mut shard = Shard::new(100, 2);
        shard.note(0, 60, 60);
        shard.note(1, 10, 0);
        shard.note(0, 0, 0);
        assert_eq!((shard.tails.bytes(), shard.tails.active), (10, 1));
        assert!(shard.tails.to_shed().is_none() && shard.tails.idlest.is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_short() {
        let mut tails = Tails::new(None);
        let mut held = Held::default();
        tails.note(GroupId(1), &mut held, u64::MAX / 2, 7);
        assert!(tails.has_room(&held) && tails.to_shed().is_none());
        assert!(!tails.should_flush(&held));
    }
}
