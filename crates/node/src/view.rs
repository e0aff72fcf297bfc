//! What this broker knows of the cluster, at a moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use trimaran_registry::catalog::{Broker, Partition};
use trimaran_registry::{BrokerId, Catalog, LeaderView, Standing};

/// A view of the cluster as this broker knows it at one moment. Never changes: a newer one is published beside it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Brokers, topics, partitions, configuration: as of the last metadata command applied here.
    pub catalog: Catalog,
    /// The leaders and in-sync replicas of all groups, as of the last news.
    pub leaders: LeaderView,
    /// The leader of the metadata group, as far as known.
    pub controller: Option<BrokerId>,
    /// Brokers that are out of contact with this one and with all that it hears. Empty where this broker hears from no
    /// majority: then it may well be itself that is out of contact, and knows nothing of the others.
    pub unreachable: BTreeSet<BrokerId>,
    /// Brokers whose machines refuse connections: their processes have ended, so none of them leads anything. Known even
    /// where nobody is heard.
    pub refusing: BTreeSet<BrokerId>,
    /// This broker is registered, and has opened every replica that the catalog gives it.
    pub ready: bool,
}

impl ClusterView {
    /// The registered brokers that clients can be sent to.
    pub fn reachable_brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.catalog
            .brokers()
            .filter(|broker| !self.unreachable.contains(&broker.id))
    }

    /// The broker that leads a group, if one is known that may be running and in reach.
    pub fn leader(&self, group: trimaran_registry::GroupId) -> Option<BrokerId> {
        let leader = self.leaders.leader(group)?;
        (!self.is_lost(leader)).then_some(leader)
    }

    /// Whether a broker is known to be out of reach, or to run no more.
    pub fn is_lost(&self, broker: BrokerId) -> bool {
        self.unreachable.contains(&broker) || self.refusing.contains(&broker)
    }

    /// The name that an operator knows a group by: its topic and partition.
    pub fn group_name(&self, group: trimaran_registry::GroupId) -> Option<String> {
        if group == trimaran_registry::METADATA_GROUP {
            return Some("the cluster's metadata".to_owned());
        }
        let (topic, partition) = self.catalog.partition_of(group)?;
        Some(format!("{}-{}", topic.name, partition.0))
    }

    /// Whether a majority of a partition's replicas is in contact. Where none leads, those don't count whose disk is another one than
    /// when the partition was created: they may have been filled since, but no leader says so.
    fn can_decide(&self, partition: &Partition, is_led: bool) -> bool {
        let replicas = &partition.replicas;
        let counts = |broker: &&BrokerId| {
            !self.is_lost(**broker) && (is_led || self.catalog.standing(partition, **broker) == Standing::Founding)
        };
        replicas.iter().filter(counts).count() * 2 > replicas.len()
    }

    /// The state of all partitions, as seen from here.
    pub fn partition_health(&self) -> PartitionHealth {
        let partitions = self.catalog.topics().flat_map(|topic| &topic.partitions);
        partitions.fold(PartitionHealth::default(), |mut health, partition| {
            let in_sync = self.leaders.leadership(partition.group);
            let in_sync = in_sync.map_or(0, |leadership| leadership.in_sync.len());
            let is_led = self.leader(partition.group).is_some();
            health.offline += u64::from(!is_led);
            health.without_quorum += u64::from(!self.can_decide(partition, is_led));
            // A leader that has not reported yet is in sync with itself.
            health.under_replicated += u64::from(in_sync.max(usize::from(is_led)) < partition.replicas.len());
            health
        })
    }
}

/// How many partitions of the cluster need an operator's attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionHealth {
    /// Partitions without a leader: Kafka's `OfflinePartitionsCount`.
    pub offline: u64,
    /// Partitions of whose replicas a majority is out of contact or has lost its disk.
    pub without_quorum: u64,
    /// Partitions with fewer replicas in sync than they have: Kafka's `UnderReplicatedPartitions`, over all brokers.
    pub under_replicated: u64,
}
