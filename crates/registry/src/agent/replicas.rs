//! Which replicas this broker opens and closes, and how a partition gets from some brokers to others.
//!
//! A reassignment is done by the leader of the partition's group, wherever it is: it takes in the new members, lets go
//! of the old ones, and its agent reports when that is done; then the brokers that are left delete what they have. Two
//! things could go wrong if leaders acted on what they last heard:
//!
//! - A leader whose catalog is old would undo what was done: it would lead the group back to brokers that have deleted
//!   their replicas, or are about to. So the members of the target say how far their catalogs are, and nobody tells its
//!   shard of a new target before all of them know it. Until then its shard is told to leave the group's members as they
//!   are. So whoever can lead the group once it has arrived wants it there.
//! - A broker that starts replays the whole history of the catalog, including where a partition once was. So before its
//!   registration comes by, which is behind all that happened before this start, it closes nothing because of a
//!   reassignment, and tells no shard where a partition should be.

use super::{Agent, Effect, Message, OpenReplica, Purpose, Registration};
use crate::catalog::{Outcome, Partition, Topic, Wish};
use crate::{BrokerId, CommandIndex, GroupId, Instant, PartitionIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The replicas of this broker.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Ordered to be opened, and not to be closed since.
    open: BTreeSet<GroupId>,
    /// Waiting to be opened; see [`super::AgentConfig::known_groups`].
    withheld: BTreeSet<GroupId>,
    /// On their way to other brokers, with a replica here.
    moving: BTreeMap<GroupId, Moving>,
    /// How far other brokers' catalogs are, at least.
    heard: BTreeMap<BrokerId, CommandIndex>,
    /// The registration of this start has been applied.
    settled: bool,
}

#[derive(Debug)]
struct Moving {
    /// The command that asked for it.
    since: CommandIndex,
    /// The shard knows of it.
    told: bool,
    /// The group has arrived.
    arrived: bool,
    /// The controller is being told that.
    reporting: bool,
}

impl Agent {
    /// What a change of the catalog means for the replicas on this broker.
    pub(super) fn follow(&mut self, now: Instant, outcome: &Outcome, effects: &mut Vec<Effect>) {
        match outcome {
            Outcome::TopicCreated(topic) => self.open_from(topic, PartitionIndex(0), effects),
            Outcome::PartitionsAdded { topic, first } => self.open_from(topic, *first, effects),
            Outcome::TopicConfigured(topic) => self.configure(topic, effects),
            Outcome::TopicDeleted(topic) => self.delete(topic, effects),
            // The registration of this start: replayed ones say nothing of what came after them.
            Outcome::BrokerRegistered(broker)
                if *broker == self.id() && self.registration() == Registration::Registered =>
            {
                self.settle(now, effects);
            }
            Outcome::BrokerRegistered(broker)
                if self.replicas.settled && !self.config.metadata_replicas.contains(broker) =>
            {
                self.name_newcomers(effects);
            }
            Outcome::Reassigning { topic, partition } => self.reassigning(topic, *partition, effects),
            Outcome::Reassigned { topic, partition, .. } => self.reassigned(now, topic, *partition, effects),
            Outcome::BrokerRegistered(_)
            | Outcome::ClusterFounded
            | Outcome::ProducerIds { .. }
            | Outcome::Refused(_)
            | Outcome::Baseless
            | Outcome::Repeated
            | Outcome::Stale => {}
        }
    }

    fn open_from(&mut self, topic: &Arc<Topic>, first: PartitionIndex, effects: &mut Vec<Effect>) {
        for (partition, _) in held(topic, self.id()).filter(|(partition, _)| *partition >= first) {
            self.open(topic, partition, effects);
        }
    }

    /// Orders a replica to be opened, unless it is, or must wait.
    fn open(&mut self, topic: &Topic, partition: PartitionIndex, effects: &mut Vec<Effect>) {
        let Some(placed) = topic.partition(partition) else {
            return;
        };
        let group = placed.group;
        if self.replicas.open.contains(&group) {
            return;
        }
        if !self.replicas.settled && !self.config.known_groups.contains(&group) {
            self.replicas.withheld.insert(group);
            return;
        }
        self.replicas.withheld.remove(&group);
        self.replicas.open.insert(group);
        effects.push(Effect::Open(OpenReplica {
            group,
            founders: placed.founders.clone(),
            replicas: self.wanted(placed).unwrap_or_default(),
            standing: placed.standing(self.id(), self.catalog.folder_since(self.id())),
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition,
            config: topic.config.clone(),
        }));
    }

    /// Whether there is a replica on this broker, as far as it was ordered.
    pub(super) fn is_open(&self, group: GroupId) -> bool {
        self.replicas.open.contains(&group)
    }

    fn configure(&self, topic: &Topic, effects: &mut Vec<Effect>) {
        let open = held(topic, self.id()).filter(|(_, group)| self.replicas.open.contains(group));
        effects.extend(open.map(|(_, group)| Effect::Configure {
            group,
            config: topic.config.clone(),
        }));
    }

    fn delete(&mut self, topic: &Topic, effects: &mut Vec<Effect>) {
        for partition in &topic.partitions {
            let group = partition.group;
            self.replicas.withheld.remove(&group);
            self.replicas.moving.remove(&group);
            if self.replicas.open.remove(&group) {
                effects.push(Effect::Close(group));
            }
            self.leaders.forget(group);
            self.news.forget(group);
        }
    }

    /// Everything that was committed before this start is applied: what is in the catalog now is what is.
    fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.replicas.settled = true;
        self.name_newcomers(effects);
        let catalog = self.catalog.clone();
        let placed = |group: &GroupId| {
            let (topic, partition) = catalog.partition_of(*group)?;
            Some((topic, partition, topic.partition(partition)?))
        };
        for group in self.replicas.open.clone() {
            match placed(&group) {
                Some((_, _, here)) if here.is_on(self.id()) => self.tell_wanted(here, effects),
                _ => self.close(now, group, effects),
            }
        }
        for group in std::mem::take(&mut self.replicas.withheld) {
            if let Some((topic, partition, here)) = placed(&group).filter(|(_, _, here)| here.is_on(self.id())) {
                self.open(topic, partition, effects);
                self.tell_wanted(here, effects);
            }
        }
        self.announce_to(&self.curious(), effects);
    }

    fn close(&mut self, now: Instant, group: GroupId, effects: &mut Vec<Effect>) {
        self.replicas.moving.remove(&group);
        if self.replicas.open.remove(&group) {
            self.resign(now, group);
            self.leaders.unsee(group);
            effects.push(Effect::Close(group));
        }
    }

    // --- Reassignment ---

    fn reassigning(&mut self, topic: &Arc<Topic>, partition: PartitionIndex, effects: &mut Vec<Effect>) {
        let Some(placed) = topic.partition(partition).filter(|placed| placed.is_on(self.id())) else {
            return;
        };
        let moving = Moving {
            since: placed.wanted_since(),
            told: false,
            arrived: false,
            reporting: false,
        };
        self.replicas.moving.insert(placed.group, moving);
        self.open(topic, partition, effects);
        if self.replicas.settled {
            self.tell_wanted(placed, effects);
            if placed.wanted().contains(&self.id()) {
                self.announce_to(&placed.hosts(), effects);
            }
        }
    }

    fn reassigned(&mut self, now: Instant, topic: &Arc<Topic>, partition: PartitionIndex, effects: &mut Vec<Effect>) {
        let Some(placed) = topic.partition(partition) else {
            return;
        };
        self.replicas.moving.remove(&placed.group);
        match (placed.is_on(self.id()), self.replicas.settled) {
            (true, true) => self.tell_wanted(placed, effects),
            (false, true) => self.close(now, placed.group, effects),
            (false, false) => _ = self.replicas.withheld.remove(&placed.group),
            (true, false) => {}
        }
    }

    /// Where a partition should be, once every broker that could lead it there knows.
    fn wanted(&self, placed: &Partition) -> Option<Arc<[BrokerId]>> {
        let knows = |member: &BrokerId, since: CommandIndex| {
            *member == self.id() || self.replicas.heard.get(member).is_some_and(|heard| *heard >= since)
        };
        let all_know = match &placed.reassignment {
            Some(under_way) => under_way.target.iter().all(|member| knows(member, under_way.since)),
            None => true,
        };
        (all_know && self.replicas.settled).then(|| placed.wanted().clone())
    }

    /// Tells the shard where a partition should be; or to leave its members as they are, if that is not known to
    /// everyone.
    fn tell_wanted(&mut self, placed: &Partition, effects: &mut Vec<Effect>) {
        let group = placed.group;
        if !self.replicas.open.contains(&group) {
            return;
        }
        let wanted = self.wanted(placed);
        if let Some(moving) = self.replicas.moving.get_mut(&group) {
            moving.told = wanted.is_some();
        }
        effects.push(Effect::Replicas {
            group,
            replicas: wanted.unwrap_or_default(),
            since: placed.wanted_since(),
        });
    }

    /// Another broker's catalog is that far.
    pub(super) fn heard(&mut self, from: BrokerId, index: CommandIndex, effects: &mut Vec<Effect>) {
        let known = self.replicas.heard.entry(from).or_default();
        if *known >= index {
            return;
        }
        *known = index;
        let untold = self.replicas.moving.iter().filter(|(_, moving)| !moving.told);
        let untold: Vec<GroupId> = untold.map(|(group, _)| *group).collect();
        let catalog = self.catalog.clone();
        for group in untold {
            let found = catalog.partition_of(group);
            let placed = found.and_then(|(topic, partition)| topic.partition(partition));
            if let Some(placed) = placed.filter(|placed| self.wanted(placed).is_some()) {
                self.tell_wanted(placed, effects);
            }
        }
    }

    /// Who waits to hear how far this broker's catalog is.
    fn curious(&self) -> BTreeSet<BrokerId> {
        let mut curious = BTreeSet::new();
        for group in self.replicas.moving.keys() {
            let found = self.catalog.partition_of(*group);
            let placed = found.and_then(|(topic, partition)| topic.partition(partition));
            if let Some(placed) = placed.filter(|placed| placed.wanted().contains(&self.id())) {
                curious.extend(placed.hosts());
            }
        }
        curious
    }

    fn announce_to(&self, others: &BTreeSet<BrokerId>, effects: &mut Vec<Effect>) {
        let index = self.catalog.applied();
        let message = Message::Applied { index }.encode();
        let others = others.iter().filter(|other| **other != self.id());
        effects.extend(others.map(|other| Effect::Send(*other, message.clone())));
    }

    /// What others may have missed is said again; to `only` one of them, or to all.
    pub(super) fn announce(&self, only: Option<BrokerId>, effects: &mut Vec<Effect>) {
        if !self.replicas.settled || self.replicas.moving.is_empty() {
            return;
        }
        let mut curious = self.curious();
        if let Some(only) = only {
            curious.retain(|other| *other == only);
        }
        self.announce_to(&curious, effects);
    }

    /// A group that is led here has these members, and nothing more to change, given where it should be as of `since`.
    pub(super) fn members(&mut self, group: GroupId, since: CommandIndex, voters: &[BrokerId], learners: &[BrokerId]) {
        let found = self.catalog.partition_of(group);
        let placed = found.and_then(|(topic, partition)| topic.partition(partition));
        let (Some(placed), Some(moving)) = (placed, self.replicas.moving.get_mut(&group)) else {
            return;
        };
        let target = placed.wanted();
        let there = learners.is_empty() && voters.len() == target.len() && voters.iter().all(|id| target.contains(id));
        if there && moving.told && moving.since == since {
            moving.arrived = true;
            self.report_arrivals();
        }
    }

    /// Tells the controller of groups that have arrived. What doesn't fit among the open requests waits.
    pub(super) fn report_arrivals(&mut self) {
        for (group, moving) in &mut self.replicas.moving {
            if !moving.arrived || moving.reporting {
                continue;
            }
            let Some((topic, partition)) = self.catalog.partition_of(*group) else {
                continue;
            };
            let wish = Wish::FinishReassignment {
                topic: topic.id,
                partition,
                since: moving.since,
            };
            moving.reporting = self.requests.open(wish, Purpose::Arrival(*group), None).is_ok();
        }
    }

    /// The controller has heard of an arrival, and has done something about it, or not.
    pub(super) fn arrival_reported(&mut self, group: GroupId) {
        if let Some(moving) = self.replicas.moving.get_mut(&group) {
            moving.reporting = false;
        }
    }

    /// Whether something is to be looked at again and again.
    pub(super) fn has_arrivals(&self) -> bool {
        self.replicas.moving.values().any(|moving| moving.arrived)
    }
}

/// The partitions of a topic that have a replica on this broker.
pub(super) fn held(topic: &Topic, broker: BrokerId) -> impl Iterator<Item = (PartitionIndex, GroupId)> + '_ {
    let numbered = (0..).map(PartitionIndex).zip(&topic.partitions);
    numbered
        .filter(move |(_, p)| p.is_on(broker))
        .map(|(number, p)| (number, p.group))
}
