//! Where replicas go: spread over racks and brokers, leaders even.
//!
//! In three passes. Members: every partition takes the least loaded brokers, from as many racks as there are; brokers
//! that are equally loaded are told apart by a hash, so that two brokers share few partitions and a lost broker's load
//! falls on many. Leaders: an even choice among each partition's members, which exists whenever members are even (a flow
//! argument: let every member lead a fraction of each of its partitions), and is found by moving leaderships along chains.
//! Order: who stands first after the leader takes over when it fails, so that place is spread too.

use crate::{BrokerId, CatalogError, limits};
use std::collections::{BTreeMap, VecDeque};

/// A broker that may be given replicas, with what it holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The broker.
    pub id: BrokerId,
    /// Its rack, if it names one. Brokers without one are each in a rack of their own.
    pub rack: Option<String>,
    /// Replicas it holds already, as leader or not.
    pub replicas: usize,
    /// Partitions of which it is the preferred leader already.
    pub leaders: usize,
}

/// Places `partitions` new partitions of `replication_factor` replicas each. The result has one list a partition, the
/// preferred leader first. The same input always gives the same result.
///
/// # Errors
/// [`CatalogError::InvalidReplicationFactor`] if it is zero, above [`limits::REPLICATION_FACTOR`], or there are fewer
/// candidates.
pub fn place(
    candidates: &[Candidate],
    partitions: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<BrokerId>>, CatalogError> {
    let available = candidates.len().min(limits::REPLICATION_FACTOR);
    if replication_factor == 0 || replication_factor > available {
        let asked = i32::try_from(replication_factor).unwrap_or(i32::MAX);
        return Err(CatalogError::InvalidReplicationFactor { asked, available });
    }
    let mut plan = Plan::new(candidates);
    plan.choose_members(partitions, replication_factor);
    plan.level_members();
    plan.choose_leaders();
    plan.level_leaders();
    Ok(plan.into_replicas(candidates))
}

/// Brokers are positions in the list of candidates here.
type Position = usize;

struct Plan {
    /// Each broker's rack, as a number.
    racks: Vec<usize>,
    /// Each broker's id, for the hash.
    ids: Vec<BrokerId>,
    /// Each broker's replicas, the new ones included.
    load: Vec<usize>,
    /// Each broker's leaderships, the new ones included.
    leading: Vec<usize>,
    /// Each new partition's replicas; the first leads.
    members: Vec<Vec<Position>>,
}

impl Plan {
    fn new(candidates: &[Candidate]) -> Plan {
        Plan {
            racks: number_racks(candidates),
            ids: candidates.iter().map(|c| c.id).collect(),
            load: candidates.iter().map(|c| c.replicas).collect(),
            leading: candidates.iter().map(|c| c.leaders).collect(),
            members: Vec::new(),
        }
    }

    fn brokers(&self) -> std::ops::Range<Position> {
        0..self.ids.len()
    }

    fn choose_members(&mut self, partitions: usize, replication_factor: usize) {
        for partition in 0..partitions {
            let mut members = Vec::with_capacity(replication_factor);
            while members.len() < replication_factor {
                let Some(next) = self.next_member(partition, &members) else {
                    break;
                };
                self.load[next] += 1;
                members.push(next);
            }
            self.members.push(members);
        }
    }

    /// Racks first, then load; a broker that leads less is the better member among equals, since it can take the lead.
    fn next_member(&self, partition: usize, members: &[Position]) -> Option<Position> {
        self.brokers()
            .filter(|broker| !members.contains(broker))
            .min_by_key(|&broker| {
                let shared = self.in_rack(members, self.racks[broker]);
                (
                    shared,
                    self.load[broker],
                    self.leading[broker],
                    self.hash(partition, broker),
                )
            })
    }

    fn in_rack(&self, members: &[Position], rack: usize) -> usize {
        members.iter().filter(|&&member| self.racks[member] == rack).count()
    }

    fn hash(&self, partition: usize, broker: Position) -> u64 {
        scramble(scramble(partition as u64) ^ u64::from(self.ids[broker].0.unsigned_abs()))
    }

    /// Where racks got in the way of an even load: moves single replicas from a broker to one with two fewer, as long
    /// as no partition is spread over fewer racks by it. Every move brings two loads closer, so it ends.
    fn level_members(&mut self) {
        while let Some((partition, place, to)) = self.levelling_move() {
            let from = std::mem::replace(&mut self.members[partition][place], to);
            self.load[from] -= 1;
            self.load[to] += 1;
        }
    }

    fn levelling_move(&self) -> Option<(usize, usize, Position)> {
        let least = *self.load.iter().min()?;
        self.members.iter().enumerate().find_map(|(partition, members)| {
            let (place, &from) = members
                .iter()
                .enumerate()
                .max_by_key(|(_, member)| self.load[**member])?;
            if self.load[from] < least + 2 {
                return None;
            }
            let to = self.brokers().find(|&to| self.may_replace(members, from, to))?;
            Some((partition, place, to))
        })
    }

    fn may_replace(&self, members: &[Position], from: Position, to: Position) -> bool {
        let beside = |rack| self.in_rack(members, rack);
        let (left, entered) = (self.racks[from], self.racks[to]);
        self.load[to] + 2 <= self.load[from]
            && !members.contains(&to)
            && (left == entered || beside(entered) < beside(left))
    }

    fn choose_leaders(&mut self) {
        for partition in 0..self.members.len() {
            let members = &self.members[partition];
            let best = (0..members.len())
                .min_by_key(|&place| (self.leading[members[place]], self.hash(partition, members[place])));
            if let Some(place) = best {
                self.members[partition].swap(0, place);
                self.leading[self.members[partition][0]] += 1;
            }
        }
    }

    /// While some broker leads two more than another and leaderships can be handed down a chain between them, they are.
    fn level_leaders(&mut self) {
        while let Some(chain) = self.levelling_chain() {
            for (partition, place) in chain {
                self.leading[self.members[partition][0]] -= 1;
                self.members[partition].swap(0, place);
                self.leading[self.members[partition][0]] += 1;
            }
        }
    }

    fn levelling_chain(&self) -> Option<Vec<(usize, usize)>> {
        let least = *self.leading.iter().min()?;
        let led = self.led_partitions();
        let mut tops: Vec<Position> = self.brokers().filter(|&b| self.leading[b] >= least + 2).collect();
        tops.sort_by_key(|&broker| std::cmp::Reverse(self.leading[broker]));
        tops.into_iter().find_map(|top| self.chain_down_from(top, &led))
    }

    fn led_partitions(&self) -> Vec<Vec<usize>> {
        let mut led = vec![Vec::new(); self.ids.len()];
        for (partition, members) in self.members.iter().enumerate() {
            led[members[0]].push(partition);
        }
        led
    }

    /// Breadth first from `top`, along "leads a partition of which that one is a member", to a broker that leads at
    /// least two fewer. The steps come last first: each gives a partition, and the place of its new leader.
    fn chain_down_from(&self, top: Position, led: &[Vec<usize>]) -> Option<Vec<(usize, usize)>> {
        let mut reached: Vec<Option<(Position, usize, usize)>> = vec![None; self.ids.len()];
        let mut queue = VecDeque::from([top]);
        while let Some(broker) = queue.pop_front() {
            if self.leading[broker] + 2 <= self.leading[top] {
                return Some(trace(top, broker, &reached));
            }
            for &partition in &led[broker] {
                for (place, &member) in self.members[partition].iter().enumerate().skip(1) {
                    if member != top && reached[member].is_none() {
                        reached[member] = Some((broker, partition, place));
                        queue.push_back(member);
                    }
                }
            }
        }
        None
    }

    fn into_replicas(mut self, candidates: &[Candidate]) -> Vec<Vec<BrokerId>> {
        let mut successions: BTreeMap<(Position, Position), usize> = BTreeMap::new();
        for partition in 0..self.members.len() {
            let mut members = std::mem::take(&mut self.members[partition]);
            let leader = members[0];
            members[1..].sort_by_key(|&member| {
                (
                    successions.get(&(leader, member)).copied(),
                    self.hash(partition, member),
                )
            });
            if let Some(&second) = members.get(1) {
                *successions.entry((leader, second)).or_default() += 1;
            }
            self.members[partition] = members;
        }
        let id = |&member: &Position| candidates[member].id;
        self.members
            .iter()
            .map(|members| members.iter().map(id).collect())
            .collect()
    }
}

fn trace(top: Position, bottom: Position, reached: &[Option<(Position, usize, usize)>]) -> Vec<(usize, usize)> {
    let mut chain = Vec::new();
    let mut broker = bottom;
    while let (true, Some((from, partition, place))) = (broker != top, reached[broker]) {
        chain.push((partition, place));
        broker = from;
    }
    chain
}

fn number_racks(candidates: &[Candidate]) -> Vec<usize> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut racks = Vec::with_capacity(candidates.len());
    for (position, candidate) in candidates.iter().enumerate() {
        // A rack has the number of its first broker, which no broker without a rack can have.
        racks.push(match &candidate.rack {
            Some(rack) => *known.entry(rack).or_insert(position),
            None => position,
        });
    }
    racks
}

/// SplitMix64's mixing function.
pub(crate) fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
