//! What Raft promises, checked from what members say and hold (Raft paper, figure 3).

use super::{Law, Violation};
use std::collections::BTreeMap;

/// A fingerprint of an entry's payload, computed by the observer.
pub type Fingerprint = u64;

/// An entry as an observer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its place, counted from one.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// The term of the entry before it (zero before the first).
    pub previous_term: u64,
    /// What it carries.
    pub payload: Fingerprint,
}

/// Judges all groups of a cluster, while it runs.
#[derive(Debug, Default)]
pub struct RaftChecker {
    groups: BTreeMap<u64, Truth>,
}

/// What is certain about one group.
#[derive(Debug, Default)]
struct Truth {
    /// Who led each term, by the first that said so.
    leaders: BTreeMap<u64, i32>,
    /// What an entry made in a term at an index is, by the first that showed it.
    entries: BTreeMap<(u64, u64), (u64, Fingerprint)>,
    /// Committed entries: index 1 is at position 0.
    committed: Vec<(u64, Fingerprint)>,
}

impl RaftChecker {
    /// Nothing seen yet.
    pub fn new() -> RaftChecker {
        RaftChecker::default()
    }

    /// Somebody (the leader itself or a member that follows it) says that `leader` leads `group` in `term`.
    pub fn leads(&mut self, group: u64, term: u64, leader: i32) -> Result<(), Violation> {
        let known = *self.truth(group).leaders.entry(term).or_insert(leader);
        if known == leader {
            return Ok(());
        }
        Err(Violation::new(
            Law::OneLeaderATerm,
            format!("group {group} term {term}: broker {known} and broker {leader}"),
        ))
    }

    /// An entry was seen, in a message or in a log: it must be the same wherever it is seen, and so must its
    /// predecessor's term (by induction, everything before it).
    pub fn entry(&mut self, group: u64, seen: Seen) -> Result<(), Violation> {
        let now = (seen.previous_term, seen.payload);
        let known = *self.truth(group).entries.entry((seen.index, seen.term)).or_insert(now);
        if known == now {
            return Ok(());
        }
        Err(Violation::new(
            Law::LogsMatch,
            format!(
                "group {group} entry {} of term {}: previous term and payload were {known:?} and are {now:?}",
                seen.index, seen.term
            ),
        ))
    }

    /// `broker` holds this entry as committed.
    pub fn committed(&mut self, group: u64, broker: i32, seen: Seen) -> Result<(), Violation> {
        self.entry(group, seen)?;
        let committed = &mut self.truth(group).committed;
        let now = (seen.term, seen.payload);
        match usize::try_from(seen.index - 1).ok().and_then(|at| committed.get(at)) {
            Some(known) if *known == now => Ok(()),
            Some(known) => Err(Violation::new(
                Law::CommittedStays,
                format!(
                    "group {group} entry {}: committed as {known:?}, and as {now:?} at broker {broker}",
                    seen.index
                ),
            )),
            None if committed.len() as u64 + 1 == seen.index => {
                committed.push(now);
                Ok(())
            }
            None => Err(Violation::new(
                Law::CommittedStays,
                format!(
                    "group {group}: broker {broker} shows entry {} as committed after {} of them",
                    seen.index,
                    committed.len()
                ),
            )),
        }
    }

    /// How many entries of a group are known to be committed.
    pub fn committed_len(&self, group: u64) -> u64 {
        self.groups.get(&group).map_or(0, |truth| truth.committed.len() as u64)
    }

    /// `broker` serves as leader of `term` and its log has these terms, from the first entry it holds on: it must have
    /// everything that earlier terms' leaders committed. (Later ones may have committed more: it just does not know yet
    /// that it leads no longer.)
    pub fn leader_log(
        &self,
        group: u64,
        broker: i32,
        leads: u64,
        first_index: u64,
        terms: &mut dyn Iterator<Item = u64>,
    ) -> Result<(), Violation> {
        let Some(truth) = self.groups.get(&group) else {
            return Ok(());
        };
        let skip = usize::try_from(first_index.saturating_sub(1)).unwrap_or(usize::MAX);
        let before = |entry: &&(u64, Fingerprint)| entry.0 < leads;
        for (at, (term, _)) in truth.committed.iter().take_while(before).enumerate().skip(skip) {
            let index = at + 1;
            let held = terms.next();
            if held != Some(*term) {
                return Err(Violation::new(
                    Law::LeaderHasCommitted,
                    format!("group {group}: leader {broker} holds {held:?} at {index}, where term {term} is committed"),
                ));
            }
        }
        Ok(())
    }

    /// A running replica's commit index went from `before` to `now`.
    pub fn commit_index(group: u64, broker: i32, before: u64, now: u64) -> Result<(), Violation> {
        if now >= before {
            return Ok(());
        }
        Err(Violation::new(
            Law::CommitRises,
            format!("group {group} at broker {broker}: from {before} to {now}"),
        ))
    }

    /// A log holds two configurations, one right after the other, each with the sets of voters of which it takes a
    /// majority (two sets while voters are exchanged): a majority by the one and a majority by the other must have a
    /// member in common, or two leaders could decide side by side (Raft dissertation, sections 4.1 and 4.3).
    pub fn succession(group: u64, before: &[Vec<u32>], after: &[Vec<u32>]) -> Result<(), Violation> {
        let meet = |one: &Vec<u32>, other: &Vec<u32>| {
            let both = other.iter().filter(|voter| one.contains(voter)).count();
            let majorities = one.len() / 2 + other.len() / 2 + 2;
            majorities > one.len() + other.len() - both
        };
        if before.iter().any(|one| after.iter().any(|other| meet(one, other))) {
            return Ok(());
        }
        Err(Violation::new(
            Law::MajoritiesMeet,
            format!("group {group}: from {before:?} to {after:?}"),
        ))
    }

    fn truth(&mut self, group: u64) -> &mut Truth {
        self.groups.entry(group).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(index: u64, term: u64, previous_term: u64, payload: Fingerprint) -> Seen {
        Seen {
            index,
            term,
            previous_term,
            payload,
        }
    }

    #[track_caller]
    fn caught(result: Result<(), Violation>, law: Law) {
        assert_eq!(result.expect_err("a bad history passed").law, law);
    }

    #[test]
    fn a_good_history_passes() {
        let mut checker = RaftChecker::new();
        checker.leads(1, 1, 1).unwrap();
        checker.leads(1, 1, 1).unwrap();
        checker.leads(1, 2, 3).unwrap();
        checker.committed(1, 1, seen(1, 1, 0, 7)).unwrap();
        checker.committed(1, 2, seen(1, 1, 0, 7)).unwrap();
        checker.entry(1, seen(2, 1, 1, 8)).unwrap();
        checker.committed(1, 3, seen(2, 2, 1, 9)).unwrap();
        checker.leader_log(1, 3, 3, 1, &mut [1, 2, 2].into_iter()).unwrap();
        checker.leader_log(1, 3, 3, 2, &mut [2].into_iter()).unwrap();
        // Deposed without knowing it: what term 2 committed is none of its business.
        checker.leader_log(1, 1, 1, 1, &mut [1].into_iter()).unwrap();
        RaftChecker::commit_index(1, 3, 2, 2).unwrap();
    }

    #[test]
    fn two_leaders_in_a_term_are_caught() {
        let mut checker = RaftChecker::new();
        checker.leads(1, 5, 1).unwrap();
        checker.leads(2, 5, 2).unwrap();
        caught(checker.leads(1, 5, 2), Law::OneLeaderATerm);
    }

    #[test]
    fn one_place_with_two_payloads_is_caught() {
        let mut checker = RaftChecker::new();
        checker.entry(1, seen(4, 2, 2, 10)).unwrap();
        caught(checker.entry(1, seen(4, 2, 2, 11)), Law::LogsMatch);
    }

    #[test]
    fn one_entry_behind_two_predecessors_is_caught() {
        let mut checker = RaftChecker::new();
        checker.entry(1, seen(4, 2, 2, 10)).unwrap();
        caught(checker.entry(1, seen(4, 2, 1, 10)), Law::LogsMatch);
    }

    #[test]
    fn a_committed_entry_that_is_replaced_is_caught() {
        let mut checker = RaftChecker::new();
        checker.committed(1, 1, seen(1, 1, 0, 7)).unwrap();
        caught(checker.committed(1, 2, seen(1, 2, 0, 8)), Law::CommittedStays);
    }

    #[test]
    fn a_commit_that_skips_an_entry_is_caught() {
        let mut checker = RaftChecker::new();
        checker.committed(1, 1, seen(1, 1, 0, 7)).unwrap();
        caught(checker.committed(1, 1, seen(3, 1, 1, 8)), Law::CommittedStays);
    }

    #[test]
    fn a_leader_without_a_committed_entry_is_caught() {
        let mut checker = RaftChecker::new();
        checker.committed(1, 1, seen(1, 1, 0, 7)).unwrap();
        checker.committed(1, 1, seen(2, 1, 1, 8)).unwrap();
        caught(
            checker.leader_log(1, 2, 2, 1, &mut [1].into_iter()),
            Law::LeaderHasCommitted,
        );
        caught(
            checker.leader_log(1, 2, 2, 1, &mut [1, 3].into_iter()),
            Law::LeaderHasCommitted,
        );
    }

    #[test]
    fn voters_change_one_by_one_or_by_way_of_both() {
        let (old, new) = ([vec![1, 2, 3]], [vec![3, 4, 5]]);
        let both = [vec![3, 4, 5], vec![1, 2, 3]];
        for (before, after) in [
            (&old[..], &[vec![1, 2]][..]),
            (&[vec![1]], &[vec![1, 2]]),
            (&old, &both),
            (&both, &new),
            (&both, &old),
        ] {
            RaftChecker::succession(1, before, after).unwrap();
        }
        caught(RaftChecker::succession(1, &old, &new), Law::MajoritiesMeet);
        caught(
            RaftChecker::succession(1, &[vec![1, 2]], &[vec![1, 3, 4]]),
            Law::MajoritiesMeet,
        );
    }

    #[test]
    fn a_falling_commit_index_is_caught() {
        caught(RaftChecker::commit_index(1, 1, 3, 2), Law::CommitRises);
    }
}
