//! What is committed is on the disks of a majority: what Trimaran says an acknowledgement means.
//!
//! Whoever feeds this tells it what each broker writes, and when the write has been synced; it keeps its own account of
//! what each disk holds, and knows nothing of what members believe about one another.

use super::{Law, Violation};
use std::collections::{BTreeMap, VecDeque};

/// A log as far as its terms go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What is up to here is not in it any more: it was committed.
    start: u64,
    /// Of the entries behind that.
    terms: Vec<u64>,
}

impl Terms {
    /// A log that begins behind `start`.
    pub fn behind(start: u64, terms: impl IntoIterator<Item = u64>) -> Terms {
        Terms {
            start,
            terms: terms.into_iter().collect(),
        }
    }

    fn last(&self) -> u64 {
        self.start + self.terms.len() as u64
    }

    fn at(&self, index: u64) -> Option<u64> {
        let place = usize::try_from(index.checked_sub(self.start + 1)?).ok()?;
        self.terms.get(place).copied()
    }

    /// Whether everything up to this entry is there, or was: logs that agree on an entry agree on all before it.
    fn holds(&self, index: u64, term: u64) -> bool {
        index <= self.start || self.at(index) == Some(term)
    }

    /// What follows `before` is replaced.
    fn replace(&mut self, change: Change) {
        match change.before.checked_sub(self.start).map(usize::try_from) {
            Some(Ok(kept)) if kept <= self.terms.len() => {
                self.terms.truncate(kept);
                self.terms.extend(change.terms);
            }
            // It starts over.
            _ => *self = Terms::behind(change.before, change.terms),
        }
    }
}

/// A log as it can be seen at a member.
pub trait Look {
    /// The place before its first entry.
    fn start(&self) -> u64;
    /// Its last entry's place.
    fn last(&self) -> u64;
    /// An entry's term; zero if it isn't there.
    fn term(&self, index: u64) -> u64;
}

/// What a write changes: everything behind a place.
#[derive(Clone, Debug)]
struct Change {
    before: u64,
    terms: Vec<u64>,
}

/// One replica's part of a disk.
#[derive(Debug, Default)]
struct Share {
    /// Synced.
    durable: Terms,
    /// Synced, before the disk lost it. It may have been acknowledged then.
    former: Terms,
    /// Handed to the disk, by the number of the write.
    under_way: VecDeque<(u64, Change)>,
    /// As it will be.
    seen: Terms,
    /// The disk may lose something.
    may_lose: bool,
}

/// All disks of a cluster.
#[derive(Debug, Default)]
pub struct Disks {
    /// By broker, shard and group. Each shard numbers its own writes.
    shares: BTreeMap<(u32, usize, u64), Share>,
    /// How far each group is known to be committed.
    committed: BTreeMap<u64, u64>,
}

impl Disks {
    /// A replica is opened with what its disk holds. If the disk may lose something, what it held before counts on: it
    /// may have been acknowledged, which nobody can take back.
    pub fn opened(&mut self, (broker, shard, group): (u32, usize, u64), log: &impl Look, may_lose: bool) {
        let held = Terms::behind(log.start(), (log.start() + 1..=log.last()).map(|index| log.term(index)));
        // Another number of shards is another shard.
        let before = self.shares.remove(&(broker, shard, group)).unwrap_or_default();
        let is_there = held.holds(before.durable.last(), before.durable.terms.last().copied().unwrap_or(0));
        let former = match may_lose {
            true if is_there => before.former,
            true => before.durable,
            false => Terms::default(),
        };
        let share = Share {
            seen: held.clone(),
            durable: held,
            former,
            under_way: VecDeque::new(),
            may_lose,
        };
        self.shares.insert((broker, shard, group), share);
    }

    /// A replica's log was written to, if it was: the write with this number carries it.
    pub fn written(&mut self, at: (u32, usize, u64), sequence: u64, log: &impl Look) {
        let share = self.shares.entry(at).or_default();
        let last = log.last();
        if share.seen.last() == last && share.seen.holds(last, log.term(last)) {
            return; // logs that end alike are alike
        }
        let mut before = last.min(share.seen.last());
        while before > log.start() && !share.seen.holds(before, log.term(before)) {
            before -= 1;
        }
        let before = before.max(log.start());
        let change = Change {
            before,
            terms: (before + 1..=last).map(|index| log.term(index)).collect(),
        };
        share.seen.replace(change.clone());
        share.under_way.push_back((sequence, change));
    }

    /// A shard's writes up to this one are synced.
    pub fn synced(&mut self, broker: u32, shard: usize, sequence: u64) {
        for share in self
            .of(broker)
            .filter(|((_, of, _), _)| *of == shard)
            .map(|(_, share)| share)
        {
            while share.under_way.front().is_some_and(|(number, _)| *number <= sequence) {
                let Some((_, change)) = share.under_way.pop_front() else {
                    break;
                };
                // A damaged log is given up while its broker runs.
                if share.may_lose && change.before < share.durable.last() {
                    share.former = share.durable.clone();
                }
                share.durable.replace(change);
            }
        }
    }

    /// A broker's process ends: nobody will hear what became of its last writes.
    pub fn stopped(&mut self, broker: u32) {
        self.of(broker).for_each(|(_, share)| share.under_way.clear());
    }

    /// A member says that its disk holds its log up to here.
    pub fn acknowledged(&self, broker: u32, group: u64, index: u64) -> Result<(), Violation> {
        let of_broker = self.shares.range((broker, 0, 0)..(broker + 1, 0, 0));
        let shares = of_broker.filter(|((_, _, of), _)| *of == group).map(|(_, share)| share);
        let holds = |share: &Share| {
            let Some(term) = share.seen.at(index) else {
                // A snapshot is being written over it: it was committed, so its term can't be another.
                return index <= share.seen.start && index <= share.durable.last();
            };
            share.durable.holds(index, term) || share.former.holds(index, term)
        };
        match shares.into_iter().find(|share| !holds(share)) {
            None => Ok(()),
            Some(share) => Err(Violation::new(
                Law::AcknowledgedIsHeld,
                format!(
                    "group {group}: broker {broker} says that it holds all up to {index}; its disk does up to {}",
                    share.durable.last()
                ),
            )),
        }
    }

    /// A leader says that all up to this entry is committed: by a majority of each of these sets of voters (as they
    /// are, or as they were a moment ago, before what is committed changed them).
    pub fn committed(
        &mut self,
        group: u64,
        (index, term): (u64, u64),
        now: &[Vec<u32>],
        before: &[Vec<u32>],
    ) -> Result<(), Violation> {
        let upto = self.committed.get(&group).copied().unwrap_or(0);
        if index <= upto || self.is_held(group, (index, term), now) || self.is_held(group, (index, term), before) {
            self.committed.insert(group, index.max(upto));
            return Ok(());
        }
        let holders: Vec<u32> = self.holders(group, index, term).collect();
        Err(Violation::new(
            Law::CommittedIsHeld,
            format!("group {group} entry {index} of term {term} is on the disks of {holders:?}; voters are {now:?}"),
        ))
    }

    fn is_held(&self, group: u64, (index, term): (u64, u64), sets: &[Vec<u32>]) -> bool {
        let has_majority = |voters: &Vec<u32>| {
            let held = self
                .holders(group, index, term)
                .filter(|broker| voters.contains(broker));
            2 * held.count() > voters.len()
        };
        !sets.is_empty() && sets.iter().all(has_majority)
    }

    fn holders(&self, group: u64, index: u64, term: u64) -> impl Iterator<Item = u32> + '_ {
        let holds = move |share: &Share| share.durable.holds(index, term) || share.former.holds(index, term);
        let of_group = self.shares.iter().filter(move |((_, _, of), _)| *of == group);
        of_group
            .filter(move |(_, share)| holds(share))
            .map(|((broker, _, _), _)| *broker)
    }

    fn of(&mut self, broker: u32) -> impl Iterator<Item = (&(u32, usize, u64), &mut Share)> {
        self.shares.range_mut((broker, 0, 0)..(broker + 1, 0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Look for Terms {
        fn start(&self) -> u64 {
            self.start
        }

        fn last(&self) -> u64 {
            Terms::last(self)
        }

        fn term(&self, index: u64) -> u64 {
            self.at(index).unwrap_or(0)
        }
    }

    const GROUP: u64 = 7;

    fn log(terms: &[u64]) -> Terms {
        Terms::behind(0, terms.iter().copied())
    }

    /// Three brokers with empty logs.
    fn three() -> Disks {
        let mut disks = Disks::default();
        for broker in 1..=3 {
            disks.opened((broker, 0, GROUP), &log(&[]), false);
        }
        disks
    }

    fn commits(disks: &mut Disks, index: u64, term: u64) -> bool {
        let voters = [vec![1, 2, 3]];
        disks.committed(GROUP, (index, term), &voters, &[]).is_ok()
    }

    #[test]
    fn a_majority_that_has_synced_commits() {
        let mut disks = three();
        for broker in 1..=2 {
            disks.written((broker, 0, GROUP), 1, &log(&[1]));
            disks.synced(broker, 0, 1);
        }
        assert!(commits(&mut disks, 1, 1));
    }

    #[test]
    fn what_is_only_on_its_way_to_disks_is_caught() {
        let mut disks = three();
        for broker in 1..=3 {
            disks.written((broker, 0, GROUP), 4, &log(&[1, 1]));
        }
        disks.synced(1, 0, 4);
        disks.synced(2, 0, 3);
        disks.synced(3, 1, 9); // another shard's
        assert!(!commits(&mut disks, 2, 1));
    }

    #[test]
    fn a_write_whose_outcome_nobody_heard_of_does_not_count() {
        let mut disks = three();
        for broker in 1..=2 {
            disks.written((broker, 0, GROUP), 1, &log(&[1]));
        }
        disks.synced(1, 0, 1);
        disks.stopped(2);
        disks.synced(2, 0, 1);
        assert!(!commits(&mut disks, 1, 1));
        disks.opened((2, 0, GROUP), &log(&[1]), false);
        assert!(commits(&mut disks, 1, 1), "it was found on the disk");
    }

    #[test]
    fn what_was_replaced_does_not_count() {
        let mut disks = three();
        for broker in 1..=2 {
            disks.written((broker, 0, GROUP), 1, &log(&[1, 1, 1]));
            disks.synced(broker, 0, 1);
        }
        disks.written((2, 0, GROUP), 2, &log(&[1, 2]));
        disks.synced(2, 0, 2);
        assert!(!commits(&mut disks, 2, 2));
        assert!(!commits(&mut disks, 3, 1));
        disks.written((3, 0, GROUP), 5, &log(&[1, 2]));
        disks.synced(3, 0, 5);
        assert!(commits(&mut disks, 2, 2));
    }

    #[test]
    fn an_acknowledgement_before_the_write_is_synced_is_caught() {
        let mut disks = three();
        disks.written((1, 0, GROUP), 1, &log(&[1, 1, 1]));
        assert!(disks.acknowledged(1, GROUP, 0).is_ok());
        assert!(disks.acknowledged(1, GROUP, 9).is_err(), "what is nowhere");
        assert!(disks.acknowledged(1, GROUP, 1).is_err());
        disks.written((1, 0, GROUP), 2, &log(&[1, 2]));
        disks.synced(1, 0, 1);
        assert!(disks.acknowledged(1, GROUP, 1).is_ok());
        assert!(
            disks.acknowledged(1, GROUP, 2).is_err(),
            "what is synced there was replaced"
        );
        disks.synced(1, 0, 2);
        assert!(disks.acknowledged(1, GROUP, 2).is_ok());
        disks.written((1, 0, GROUP), 3, &Terms::behind(9, []));
        assert!(disks.acknowledged(1, GROUP, 2).is_ok());
        assert!(
            disks.acknowledged(1, GROUP, 9).is_err(),
            "a snapshot that is not synced"
        );
    }

    #[test]
    fn while_voters_are_exchanged_both_sets_count() {
        let mut disks = three();
        for broker in 1..=2 {
            disks.written((broker, 0, GROUP), 1, &log(&[1]));
            disks.synced(broker, 0, 1);
        }
        let (old, new) = (vec![1, 2], vec![3, 4]);
        assert!(
            disks
                .committed(GROUP, (1, 1), &[old.clone(), new.clone()], &[])
                .is_err()
        );
        assert!(
            disks.committed(GROUP, (1, 1), &[new, old.clone()], &[old]).is_ok(),
            "before the exchange began"
        );
    }

    #[test]
    fn a_log_that_begins_anew_holds_what_is_before_it() {
        let mut disks = three();
        disks.written((1, 0, GROUP), 1, &log(&[1, 1, 1]));
        disks.synced(1, 0, 1);
        disks.written((2, 0, GROUP), 1, &Terms::behind(2, [1]));
        disks.synced(2, 0, 1);
        assert!(commits(&mut disks, 3, 1));
    }

    #[test]
    fn what_a_bad_disk_lost_was_held_once() {
        let mut disks = three();
        for broker in 1..=2 {
            disks.written((broker, 0, GROUP), 1, &log(&[1]));
            disks.synced(broker, 0, 1);
        }
        disks.opened((2, 0, GROUP), &log(&[]), true);
        assert!(commits(&mut disks, 1, 1));
        for broker in 1..=2 {
            disks.written((broker, 0, GROUP), 2, &log(&[1, 1]));
            disks.synced(broker, 0, 2);
        }
        disks.written((2, 0, GROUP), 3, &log(&[]));
        disks.synced(2, 0, 3);
        assert!(commits(&mut disks, 2, 1), "it was given up while the broker ran");
        disks.written((1, 0, GROUP), 4, &log(&[1, 1, 1]));
        disks.synced(1, 0, 4);
        assert!(!commits(&mut disks, 3, 1));
    }
}
