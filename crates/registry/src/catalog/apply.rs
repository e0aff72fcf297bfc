//! From one state to the next. Nothing here may ever decide otherwise than it did, or old logs replay differently.

use super::session::{Admission, Session};
use super::{Broker, Catalog, Change, Command, Load, Outcome, Partition, RequestId, Run, Topic};
use crate::{AssignmentFault, BrokerId, CatalogError, CommandIndex, GroupId, PartitionIndex, TopicConfig, TopicId};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Catalog {
    /// Applies the command at `index` of the metadata group's log: in order, the same on every broker.
    ///
    /// An index that was applied before, and a request that was applied before, do nothing.
    pub fn apply(&mut self, index: CommandIndex, command: &Command) -> Outcome {
        if index <= self.applied {
            return Outcome::Repeated;
        }
        self.applied = index;
        match self.admit(command.request) {
            Admission::Repeated => Outcome::Repeated,
            Admission::Stale => Outcome::Stale,
            Admission::New => {
                self.record(command.request, command.settled);
                self.change(&command.change).unwrap_or_else(Outcome::Refused)
            }
        }
    }

    fn admit(&self, request: RequestId) -> Admission {
        self.sessions
            .get(&request.broker)
            .map_or(Admission::New, |session| session.admits(request))
    }

    /// Whether a request was never applied, and may be.
    pub(crate) fn is_new(&self, request: RequestId) -> bool {
        self.admit(request) == Admission::New
    }

    fn record(&mut self, request: RequestId, settled: u64) {
        let session = Arc::make_mut(&mut self.sessions).entry(request.broker).or_default();
        Arc::<Session>::make_mut(session).record(request, settled);
    }

    fn change(&mut self, change: &Change) -> Result<Outcome, CatalogError> {
        match change {
            Change::FoundCluster(id) => self.found(id),
            Change::RegisterBroker(broker) => self.register(broker),
            Change::CreateTopic {
                id,
                name,
                partitions,
                config,
            } => self.create(*id, name, partitions, config),
            Change::DeleteTopic(id) => self.delete(*id),
            Change::AddPartitions {
                id,
                present,
                partitions,
            } => self.add_partitions(*id, *present, partitions),
            Change::ConfigureTopic { id, config } => self.configure(*id, config),
            Change::AllocateProducerIds { count } => Ok(self.allocate_producer_ids(*count)),
        }
    }

    /// The first id stays.
    fn found(&mut self, id: &str) -> Result<Outcome, CatalogError> {
        match &self.cluster_id {
            Some(is) if **is != *id => Err(CatalogError::WrongCluster { is: is.to_string() }),
            _ => {
                self.cluster_id = Some(id.into());
                Ok(Outcome::ClusterFounded)
            }
        }
    }

    fn register(&mut self, broker: &Broker) -> Result<Outcome, CatalogError> {
        match self.brokers.get(&broker.id) {
            Some(known) if known.incarnation > broker.incarnation => Err(CatalogError::StaleIncarnation),
            _ => {
                Arc::make_mut(&mut self.brokers).insert(broker.id, Arc::new(broker.clone()));
                Ok(Outcome::BrokerRegistered(broker.id))
            }
        }
    }

    fn create(
        &mut self,
        id: TopicId,
        name: &str,
        partitions: &[Vec<BrokerId>],
        config: &BTreeMap<String, String>,
    ) -> Result<Outcome, CatalogError> {
        if self.names.contains_key(&id) {
            return Ok(Outcome::Repeated); // a retry that outlived its session
        }
        if self.topics.contains_key(name) {
            return Err(CatalogError::TopicExists);
        }
        if partitions.is_empty() {
            return Err(CatalogError::InvalidPartitions { asked: 0, present: 0 });
        }
        check_replicas(partitions)?;
        let topic = Topic {
            id,
            name: name.into(),
            partitions: Vec::new(),
            overrides: config.clone(),
            config: TopicConfig::lenient(config),
        };
        Arc::make_mut(&mut self.names).insert(id, topic.name.clone());
        Ok(Outcome::TopicCreated(self.grow(topic, partitions)))
    }

    /// Groups of a deleted topic are gone for good: `next_group` doesn't go back.
    fn delete(&mut self, id: TopicId) -> Result<Outcome, CatalogError> {
        let topic = self.topic_by_id(id).cloned().ok_or(CatalogError::UnknownTopic)?;
        Arc::make_mut(&mut self.topics).remove(&topic.name);
        Arc::make_mut(&mut self.names).remove(&id);
        let runs = Arc::make_mut(&mut self.runs);
        let loads = Arc::make_mut(&mut self.loads);
        for partition in &topic.partitions {
            runs.remove(&partition.group);
            unload(loads, &partition.replicas);
        }
        self.partition_count -= topic.partitions.len();
        if self.breakage.is(crate::sabotage::Sabotage::ReuseGroupIds) {
            let end = |(first, run): (&GroupId, &Run)| GroupId(first.0 + run.count as u64);
            self.next_group = self.runs.last_key_value().map_or(GroupId(1), end);
        }
        Ok(Outcome::TopicDeleted(topic))
    }

    fn add_partitions(
        &mut self,
        id: TopicId,
        planned_at: u32,
        partitions: &[Vec<BrokerId>],
    ) -> Result<Outcome, CatalogError> {
        let topic = self.topic_by_id(id).ok_or(CatalogError::UnknownTopic)?;
        let present = topic.partitions.len();
        if usize::try_from(planned_at) != Ok(present) || partitions.is_empty() {
            let asked = i32::try_from(planned_at as usize + partitions.len()).unwrap_or(i32::MAX);
            return Err(CatalogError::InvalidPartitions { asked, present });
        }
        check_replicas(partitions)?;
        let topic = Topic::clone(topic);
        Ok(Outcome::PartitionsAdded {
            topic: self.grow(topic, partitions),
            first: partition_index(present),
        })
    }

    /// Gives a topic more partitions, each with a group that was never used before.
    fn grow(&mut self, mut topic: Topic, partitions: &[Vec<BrokerId>]) -> Arc<Topic> {
        let run = Run {
            topic: topic.name.clone(),
            first: topic.partitions.len(),
            count: partitions.len(),
        };
        Arc::make_mut(&mut self.runs).insert(self.next_group, run);
        let loads = Arc::make_mut(&mut self.loads);
        for replicas in partitions {
            load(loads, replicas);
            topic.partitions.push(Partition {
                group: self.next_group,
                replicas: replicas.as_slice().into(),
            });
            self.next_group = GroupId(self.next_group.0 + 1);
        }
        self.partition_count += partitions.len();
        self.put(topic)
    }

    fn put(&mut self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        Arc::make_mut(&mut self.topics).insert(topic.name.clone(), topic.clone());
        topic
    }

    fn configure(&mut self, id: TopicId, config: &BTreeMap<String, String>) -> Result<Outcome, CatalogError> {
        let mut topic = Topic::clone(self.topic_by_id(id).ok_or(CatalogError::UnknownTopic)?);
        topic.overrides = config.clone();
        topic.config = TopicConfig::lenient(config);
        Ok(Outcome::TopicConfigured(self.put(topic)))
    }

    fn allocate_producer_ids(&mut self, count: u32) -> Outcome {
        let first = self.next_producer_id;
        // 2^63 ids in blocks of at most 2^32: two billion blocks later, one a millisecond, it is the year 2094.
        self.next_producer_id = first.saturating_add(i64::from(count));
        Outcome::ProducerIds {
            first,
            count: self.next_producer_id - first,
        }
    }
}

fn partition_index(number: usize) -> PartitionIndex {
    PartitionIndex(i32::try_from(number).unwrap_or(i32::MAX))
}

/// A partition without replicas, or with one twice, could never have a leader.
fn check_replicas(partitions: &[Vec<BrokerId>]) -> Result<(), CatalogError> {
    for (partition, replicas) in partitions.iter().enumerate() {
        let fault = |reason| CatalogError::InvalidAssignment { partition, reason };
        if replicas.is_empty() {
            return Err(fault(AssignmentFault::Count));
        }
        for (place, replica) in replicas.iter().enumerate() {
            if replicas[..place].contains(replica) {
                return Err(fault(AssignmentFault::Duplicate(replica.0)));
            }
        }
    }
    Ok(())
}

fn load(loads: &mut BTreeMap<BrokerId, Load>, replicas: &[BrokerId]) {
    for (place, replica) in replicas.iter().enumerate() {
        let load = loads.entry(*replica).or_default();
        load.replicas += 1;
        load.leaders += usize::from(place == 0);
    }
}

fn unload(loads: &mut BTreeMap<BrokerId, Load>, replicas: &[BrokerId]) {
    for (place, replica) in replicas.iter().enumerate() {
        let load = loads.entry(*replica).or_default();
        load.replicas -= 1;
        load.leaders -= usize::from(place == 0);
    }
}
