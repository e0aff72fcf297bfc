//! From one state to the next. Nothing here may ever decide otherwise than it did, or old logs replay differently.

use super::session::{Admission, Session};
use super::{Broker, Catalog, Change, Command, Folder, Load, Outcome, Partition, RequestId, Run, Topic};
use crate::{
    AssignmentFault, BrokerId, CatalogError, CommandIndex, FolderId, GroupId, PartitionIndex, TopicConfig, TopicId,
};
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
            Admission::New if self.counts_on_strangers(&command.change) => Outcome::Baseless,
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

    /// Whether it puts replicas on a broker that is not registered. A group that is founded there has founders that
    /// came later than it did, which must be taken in by those that came before: by nobody.
    fn counts_on_strangers(&self, change: &Change) -> bool {
        let is_stranger = |broker: &BrokerId| self.broker(*broker).is_none();
        match change {
            Change::CreateTopic { partitions, .. } | Change::AddPartitions { partitions, .. } => {
                partitions.iter().flatten().any(is_stranger)
            }
            Change::Reassign { replicas, .. } => replicas.iter().any(is_stranger),
            Change::FoundCluster(_)
            | Change::RegisterBroker(_)
            | Change::DeleteTopic(_)
            | Change::ConfigureTopic { .. }
            | Change::AllocateProducerIds { .. }
            | Change::RegisterFolder { .. }
            | Change::CancelReassignment { .. }
            | Change::FinishReassignment { .. }
            | Change::Refuse(_) => false,
        }
    }

    fn change(&mut self, change: &Change) -> Result<Outcome, CatalogError> {
        match change {
            Change::FoundCluster(id) => self.found(id),
            Change::RegisterBroker(broker) => self.register(broker, None),
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
            Change::RegisterFolder { broker, folder } => self.register(broker, Some(*folder)),
            Change::Reassign {
                id,
                partition,
                replicas,
            } => self.reassign(*id, *partition, replicas),
            Change::CancelReassignment { id, partition } => self.cancel_reassignment(*id, *partition),
            Change::FinishReassignment { id, partition, since } => self.finish_reassignment(*id, *partition, *since),
            Change::Refuse(error) => Err(error.clone()),
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

    /// Without a folder's id nobody knows whether it is the one that the broker had: as long as that is so, it isn't.
    fn register(&mut self, broker: &Broker, folder: Option<FolderId>) -> Result<Outcome, CatalogError> {
        match self.brokers.get(&broker.id) {
            Some(known) if known.incarnation > broker.incarnation => Err(CatalogError::StaleIncarnation),
            _ => {
                Arc::make_mut(&mut self.brokers).insert(broker.id, Arc::new(broker.clone()));
                let known = self.folders.get(&broker.id);
                if folder.is_none() || known.is_none_or(|known| known.id != folder) {
                    let since = self.applied;
                    Arc::make_mut(&mut self.folders).insert(broker.id, Folder { id: folder, since });
                }
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
            unload(loads, partition);
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
            let partition = Partition::new(self.next_group, replicas, self.applied);
            load(loads, &partition);
            topic.partitions.push(partition);
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

    fn reassign(
        &mut self,
        id: TopicId,
        partition: PartitionIndex,
        replicas: &[BrokerId],
    ) -> Result<Outcome, CatalogError> {
        check_replicas(&[replicas.to_vec()])?;
        let since = self.applied;
        let change = |found: &mut Partition| {
            found.reassign(replicas, since);
            Ok(())
        };
        let (topic, ()) = self.change_partition(id, partition, change)?;
        Ok(Outcome::Reassigning { topic, partition })
    }

    /// The way back is a reassignment, too: replicas that were taken in have to be let go in good order.
    fn cancel_reassignment(&mut self, id: TopicId, partition: PartitionIndex) -> Result<Outcome, CatalogError> {
        let since = self.applied;
        let change = |found: &mut Partition| match found.reassignment {
            Some(_) => {
                found.reassign(&found.replicas.clone(), since);
                Ok(())
            }
            None => Err(CatalogError::NoReassignment),
        };
        let (topic, ()) = self.change_partition(id, partition, change)?;
        Ok(Outcome::Reassigning { topic, partition })
    }

    fn finish_reassignment(
        &mut self,
        id: TopicId,
        partition: PartitionIndex,
        since: CommandIndex,
    ) -> Result<Outcome, CatalogError> {
        let change = |found: &mut Partition| match &found.reassignment {
            Some(under_way) if under_way.since == since => Ok(found.finish()),
            _ => Err(CatalogError::NoReassignment),
        };
        let (topic, left) = self.change_partition(id, partition, change)?;
        Ok(Outcome::Reassigned { topic, partition, left })
    }

    fn change_partition<T>(
        &mut self,
        id: TopicId,
        partition: PartitionIndex,
        change: impl FnOnce(&mut Partition) -> Result<T, CatalogError>,
    ) -> Result<(Arc<Topic>, T), CatalogError> {
        let mut topic = Topic::clone(self.topic_by_id(id).ok_or(CatalogError::UnknownTopic)?);
        let at = usize::try_from(partition.0).map_err(|_| CatalogError::UnknownPartition)?;
        let found = topic.partitions.get_mut(at).ok_or(CatalogError::UnknownPartition)?;
        let before = found.clone();
        let changed = change(found)?;
        let loads = Arc::make_mut(&mut self.loads);
        unload(loads, &before);
        load(loads, found);
        Ok((self.put(topic), changed))
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

/// A broker that a partition is on its way to counts as if it had it already, or the next one would be sent there, too.
fn load(loads: &mut BTreeMap<BrokerId, Load>, partition: &Partition) {
    for replica in partition.assigned() {
        let load = loads.entry(replica).or_default();
        load.replicas += 1;
        load.leaders += usize::from(partition.wanted().first() == Some(&replica));
    }
}

fn unload(loads: &mut BTreeMap<BrokerId, Load>, partition: &Partition) {
    for replica in partition.assigned() {
        let load = loads.entry(replica).or_default();
        load.replicas -= 1;
        load.leaders -= usize::from(partition.wanted().first() == Some(&replica));
    }
}
