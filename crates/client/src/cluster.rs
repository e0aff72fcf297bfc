//! The cluster as a broker's Metadata describes it.

use std::collections::BTreeMap;
use trimaran_wire::kafka_protocol::messages::list_partition_reassignments_response::OngoingTopicReassignment;
use trimaran_wire::kafka_protocol::messages::{BrokerId, MetadataResponse};

/// A broker, as Metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: i32,
    /// `host:port` for clients.
    pub address: String,
    /// Its rack.
    pub rack: Option<String>,
}

/// A partition, as Metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub index: i32,
    /// Its leader's id; none during an election.
    pub leader: Option<i32>,
    /// Its leader epoch.
    pub epoch: i32,
    /// Its replicas.
    pub replicas: Vec<i32>,
    /// The replicas in sync.
    pub in_sync: Vec<i32>,
}

/// The content of a broker's Metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster's id.
    pub id: Option<String>,
    /// The controller's id; none if the broker knows of none, because it is not in contact with a majority.
    pub controller: Option<i32>,
    /// The brokers that clients can be sent to. Those that are out of contact are left out.
    pub brokers: Vec<BrokerInfo>,
    /// The topics that were asked for.
    pub topics: BTreeMap<String, Vec<PartitionInfo>>,
    /// Topics that were asked for and have errors: the code.
    pub errors: BTreeMap<String, i16>,
}

impl ClusterInfo {
    /// The leader of a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<&BrokerInfo> {
        let partitions = self.topics.get(topic)?;
        let leader = partitions.iter().find(|known| known.index == partition)?.leader?;
        self.broker(leader)
    }

    /// The broker of this id.
    pub fn broker(&self, id: i32) -> Option<&BrokerInfo> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// A measure of what a broker knows, to choose between brokers that know no controller.
    pub(crate) fn knowledge(&self) -> (usize, usize) {
        (self.partitions().count(), self.brokers.len())
    }

    /// All partitions, with their topics' names.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, &PartitionInfo)> {
        let topics = self.topics.iter();
        topics.flat_map(|(topic, all)| all.iter().map(move |partition| (topic.as_str(), partition)))
    }
}

impl From<MetadataResponse> for ClusterInfo {
    fn from(response: MetadataResponse) -> ClusterInfo {
        let brokers = response.brokers.iter().map(|broker| BrokerInfo {
            id: broker.node_id.0,
            address: host_and_port(&broker.host, broker.port),
            rack: broker.rack.as_ref().map(|rack| rack.to_string()),
        });
        let mut info = ClusterInfo {
            id: response.cluster_id.as_ref().map(|id| id.to_string()),
            controller: (response.controller_id.0 >= 0).then_some(response.controller_id.0),
            brokers: brokers.collect(),
            ..ClusterInfo::default()
        };
        for topic in response.topics {
            let name = topic.name.map_or_else(String::new, |name| name.0.to_string());
            if topic.error_code != 0 {
                info.errors.insert(name, topic.error_code);
                continue;
            }
            let partitions = topic.partitions.iter().map(|partition| PartitionInfo {
                index: partition.partition_index,
                leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
                epoch: partition.leader_epoch,
                replicas: ids(&partition.replica_nodes),
                in_sync: ids(&partition.isr_nodes),
            });
            let mut partitions: Vec<PartitionInfo> = partitions.collect();
            partitions.sort_by_key(|partition| partition.index);
            info.topics.insert(name, partitions);
        }
        info
    }
}

/// A partition on its way to other brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReassignmentInfo {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Brokers that have a replica, or will.
    pub replicas: Vec<i32>,
    /// Of these, those that don't count yet.
    pub adding: Vec<i32>,
    /// Of these, those that give theirs up.
    pub removing: Vec<i32>,
}

/// The partitions of one topic that are on their way.
pub(crate) fn reassignments(topic: &OngoingTopicReassignment) -> Vec<ReassignmentInfo> {
    let partitions = topic.partitions.iter().map(|partition| ReassignmentInfo {
        topic: topic.name.to_string(),
        partition: partition.partition_index,
        replicas: ids(&partition.replicas),
        adding: ids(&partition.adding_replicas),
        removing: ids(&partition.removing_replicas),
    });
    partitions.collect()
}

fn ids(ids: &[BrokerId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}

/// An address to connect to: an IPv6 address needs brackets before its port.
fn host_and_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_can_be_connected_to() {
        assert_eq!(host_and_port("::1", 9092), "[::1]:9092");
        assert_eq!(host_and_port("10.0.0.1", 9092), "10.0.0.1:9092");
        assert_eq!(host_and_port("kafka-1", 9092), "kafka-1:9092");
    }

    #[test]
    fn no_controller_is_told_from_one() {
        let controller =
            |id| ClusterInfo::from(MetadataResponse::default().with_controller_id(BrokerId(id))).controller;
        assert_eq!(controller(-1), None);
        assert_eq!(controller(0), Some(0));
    }
}
