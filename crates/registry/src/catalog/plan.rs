//! From a wish to a change: rules, limits and placement. May change from version to version, since only its result
//! stands in the log.

use super::{Broker, Catalog, Change, Endpoint, Layout, NewTopic, Partition, Topic, TopicRef, Wish};
use crate::placement::{self, Candidate};
use crate::{
    AssignmentFault, BrokerId, CatalogError, FolderId, NameFault, PartitionIndex, TopicId, limits, topic_config,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Catalog {
    /// Makes a change of a wish, or says why it can't be. Nothing happens until the change is applied. `avoid` names
    /// brokers that are believed to be down: they get replicas only if there are not enough others.
    pub fn plan(&self, wish: &Wish, avoid: &BTreeSet<BrokerId>) -> Result<Change, CatalogError> {
        match wish {
            Wish::FoundCluster(id) => self.plan_cluster(id),
            Wish::RegisterBroker { broker, folder } => self.plan_broker(broker, *folder),
            Wish::CreateTopic(id, topic) => self.plan_topic(*id, topic, avoid),
            Wish::DeleteTopic(topic) => Ok(Change::DeleteTopic(self.existing(topic)?.id)),
            Wish::AddPartitions {
                topic,
                total,
                assignments,
            } => self.plan_partitions(topic, *total, assignments.as_deref(), avoid),
            Wish::ConfigureTopic { topic, config } => self.plan_configuration(topic, config),
            Wish::AllocateProducerIds => Ok(Change::AllocateProducerIds {
                count: limits::PRODUCER_ID_BLOCK as u32,
            }),
            Wish::Reassign {
                topic,
                partition,
                replicas,
            } => self.plan_reassignment(topic, *partition, replicas),
            Wish::CancelReassignment { topic, partition } => self.plan_cancellation(topic, *partition),
            Wish::FinishReassignment {
                topic,
                partition,
                since,
            } => Ok(Change::FinishReassignment {
                id: *topic,
                partition: *partition,
                since: *since,
            }),
        }
    }

    fn existing(&self, topic: &TopicRef) -> Result<&Arc<Topic>, CatalogError> {
        self.resolve(topic).ok_or(CatalogError::UnknownTopic)
    }

    fn plan_cluster(&self, id: &str) -> Result<Change, CatalogError> {
        match self.cluster_id() {
            Some(is) if is != id => Err(CatalogError::WrongCluster { is: is.to_owned() }),
            _ => Ok(Change::FoundCluster(id.to_owned())),
        }
    }

    fn plan_broker(&self, broker: &Broker, folder: FolderId) -> Result<Change, CatalogError> {
        check_broker(broker).map_err(|reason| CatalogError::InvalidBroker(reason.to_owned()))?;
        match self.broker(broker.id) {
            Some(known) if known.incarnation > broker.incarnation => Err(CatalogError::StaleIncarnation),
            None if self.brokers.len() >= limits::BROKERS => Err(CatalogError::TooManyBrokers),
            _ => Ok(Change::RegisterFolder {
                broker: broker.clone(),
                folder,
            }),
        }
    }

    fn plan_topic(&self, id: TopicId, topic: &NewTopic, avoid: &BTreeSet<BrokerId>) -> Result<Change, CatalogError> {
        check_name(&topic.name).map_err(CatalogError::InvalidName)?;
        if self.topic_by_id(id).is_none() {
            self.check_name_is_free(&topic.name)?;
        }
        topic_config::check(&topic.config)?;
        let partitions = self.plan_layout(&topic.layout, avoid)?;
        Ok(Change::CreateTopic {
            id,
            name: topic.name.clone(),
            partitions,
            config: topic.config.clone(),
        })
    }

    fn check_name_is_free(&self, name: &str) -> Result<(), CatalogError> {
        if self.topic(name).is_some() {
            return Err(CatalogError::TopicExists);
        }
        match self.topics().find(|topic| collide(&topic.name, name)) {
            Some(topic) => Err(CatalogError::InvalidName(NameFault::Collides(topic.name.to_string()))),
            None => Ok(()),
        }
    }

    fn plan_layout(&self, layout: &Layout, avoid: &BTreeSet<BrokerId>) -> Result<Vec<Vec<BrokerId>>, CatalogError> {
        match layout {
            Layout::Spread {
                partitions,
                replication_factor,
            } => {
                let count = usize::try_from(*partitions).unwrap_or(0);
                if count == 0 {
                    return Err(CatalogError::InvalidPartitions {
                        asked: *partitions,
                        present: 0,
                    });
                }
                self.check_room(count, 0)?;
                self.place(count, *replication_factor, avoid)
            }
            Layout::Manual(assignments) => {
                if assignments.is_empty() {
                    return Err(CatalogError::InvalidPartitions { asked: 0, present: 0 });
                }
                self.check_room(assignments.len(), 0)?;
                let factor = assignments.first().map_or(0, Vec::len);
                self.check_assignments(assignments, factor, 0)?;
                Ok(assignments.clone())
            }
        }
    }

    fn check_room(&self, more: usize, present: usize) -> Result<(), CatalogError> {
        if present.saturating_add(more) > limits::PARTITIONS_PER_TOPIC {
            return Err(CatalogError::TooManyPartitions {
                limit: limits::PARTITIONS_PER_TOPIC,
            });
        }
        if self.partition_count.saturating_add(more) > limits::PARTITIONS_PER_CLUSTER {
            return Err(CatalogError::TooManyPartitions {
                limit: limits::PARTITIONS_PER_CLUSTER,
            });
        }
        Ok(())
    }

    fn place(
        &self,
        partitions: usize,
        replication_factor: i32,
        avoid: &BTreeSet<BrokerId>,
    ) -> Result<Vec<Vec<BrokerId>>, CatalogError> {
        let (down, up): (Vec<_>, Vec<_>) = self.candidates().partition(|candidate| avoid.contains(&candidate.id));
        let mut candidates = up;
        let factor = usize::try_from(replication_factor).unwrap_or(0);
        if candidates.len() < factor {
            candidates.extend(down);
            candidates.sort_by_key(|candidate| candidate.id);
        }
        let refused = |_| CatalogError::InvalidReplicationFactor {
            asked: replication_factor,
            available: candidates.len().min(limits::REPLICATION_FACTOR),
        };
        placement::place(&candidates, partitions, factor).map_err(refused)
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.brokers().map(|broker| {
            let load = self.load(broker.id);
            Candidate {
                id: broker.id,
                rack: broker.rack.clone(),
                replicas: load.replicas,
                leaders: load.leaders,
            }
        })
    }

    fn check_assignments(
        &self,
        assignments: &[Vec<BrokerId>],
        factor: usize,
        first: usize,
    ) -> Result<(), CatalogError> {
        for (position, replicas) in assignments.iter().enumerate() {
            self.check_assignment(replicas, factor)
                .map_err(|reason| CatalogError::InvalidAssignment {
                    partition: first + position,
                    reason,
                })?;
        }
        Ok(())
    }

    fn check_assignment(&self, replicas: &[BrokerId], factor: usize) -> Result<(), AssignmentFault> {
        if replicas.is_empty() || replicas.len() > limits::REPLICATION_FACTOR {
            return Err(AssignmentFault::Count);
        }
        for (place, replica) in replicas.iter().enumerate() {
            if replicas[..place].contains(replica) {
                return Err(AssignmentFault::Duplicate(replica.0));
            }
            if self.broker(*replica).is_none() {
                return Err(AssignmentFault::UnknownBroker(replica.0));
            }
        }
        if replicas.len() != factor {
            Err(AssignmentFault::Uneven)
        } else {
            Ok(())
        }
    }

    fn plan_partitions(
        &self,
        topic: &str,
        total: i32,
        assignments: Option<&[Vec<BrokerId>]>,
        avoid: &BTreeSet<BrokerId>,
    ) -> Result<Change, CatalogError> {
        let topic = self.topic(topic).ok_or(CatalogError::UnknownTopic)?;
        let present = topic.partitions.len();
        let more = usize::try_from(total).unwrap_or(0).saturating_sub(present);
        if more == 0 {
            return Err(CatalogError::InvalidPartitions { asked: total, present });
        }
        self.check_room(more, present)?;
        let factor = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
        let partitions = match assignments {
            None => self.place(more, i32::try_from(factor).unwrap_or(i32::MAX), avoid)?,
            Some(assignments) if assignments.len() == more => {
                self.check_assignments(assignments, factor, present)?;
                assignments.to_vec()
            }
            Some(assignments) => {
                let partition = present + assignments.len().min(more);
                return Err(CatalogError::InvalidAssignment {
                    partition,
                    reason: AssignmentFault::Count,
                });
            }
        };
        Ok(Change::AddPartitions {
            id: topic.id,
            present: present as u32,
            partitions,
        })
    }

    /// The topic, and one of its partitions.
    fn existing_partition(
        &self,
        topic: &TopicRef,
        partition: PartitionIndex,
    ) -> Result<(&Arc<Topic>, &Partition), CatalogError> {
        let topic = self.existing(topic)?;
        let found = topic.partition(partition).ok_or(CatalogError::UnknownPartition)?;
        Ok((topic, found))
    }

    /// Any number of replicas will do: that is how a topic's replication factor is changed.
    fn plan_reassignment(
        &self,
        topic: &TopicRef,
        partition: PartitionIndex,
        replicas: &[BrokerId],
    ) -> Result<Change, CatalogError> {
        let (topic, _) = self.existing_partition(topic, partition)?;
        self.check_assignment(replicas, replicas.len())
            .map_err(|reason| CatalogError::InvalidAssignment {
                partition: usize::try_from(partition.0).unwrap_or(0),
                reason,
            })?;
        Ok(Change::Reassign {
            id: topic.id,
            partition,
            replicas: replicas.to_vec(),
        })
    }

    fn plan_cancellation(&self, topic: &TopicRef, partition: PartitionIndex) -> Result<Change, CatalogError> {
        let (topic, found) = self.existing_partition(topic, partition)?;
        match found.reassignment {
            Some(_) => Ok(Change::CancelReassignment {
                id: topic.id,
                partition,
            }),
            None => Err(CatalogError::NoReassignment),
        }
    }

    fn plan_configuration(&self, topic: &TopicRef, config: &BTreeMap<String, String>) -> Result<Change, CatalogError> {
        let topic = self.existing(topic)?;
        topic_config::check(config)?;
        Ok(Change::ConfigureTopic {
            id: topic.id,
            config: config.clone(),
        })
    }
}

/// Kafka's rules for a topic's name, on their own: nothing about other topics.
pub fn check_name(name: &str) -> Result<(), NameFault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err(NameFault::Empty),
        "." | ".." => Err(NameFault::Dots),
        _ if name.len() > limits::TOPIC_NAME_BYTES => Err(NameFault::TooLong),
        _ => match name.chars().find(|&c| !allowed(c)) {
            Some(c) => Err(NameFault::Character(c)),
            None => Ok(()),
        },
    }
}

/// Whether two different names would be the same in metrics, where '.' becomes '_'.
fn collide(left: &str, right: &str) -> bool {
    let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
    left.len() == right.len() && left.bytes().map(plain).eq(right.bytes().map(plain))
}

fn check_broker(broker: &Broker) -> Result<(), &'static str> {
    let host_ok = |endpoint: &Endpoint| endpoint.host.len() <= limits::HOST_BYTES;
    if broker.id.0 < 0 {
        return Err("its id is negative");
    }
    if ![&broker.client, &broker.peer, &broker.admin].into_iter().all(host_ok) {
        return Err("a host name is too long");
    }
    if broker
        .rack
        .as_ref()
        .is_some_and(|rack| rack.len() > limits::LABEL_BYTES)
    {
        return Err("its rack's name is too long");
    }
    Ok(())
}
