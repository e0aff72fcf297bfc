//! From a client's names to groups, and from leaderships to the hints that clients are given.

use super::errors::{self, Failure};
use crate::engine::{ClusterView, Engine};
use crate::ids;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::time::Duration;
use trimaran_raft::GroupId;
use trimaran_registry as registry;
use trimaran_registry::catalog::{Broker, Topic};
use trimaran_registry::{BrokerId, PartitionIndex, Term, TopicId};
use trimaran_wire::batch::LeaderEpoch;
use trimaran_wire::{LeaderHint, NodeEndpoint};

/// The time that a new topic's answer waits for all its partitions' leaders to serve, so that its creator can use it at
/// once. A replica that is down must not hold the answer up: the topic is there in any case.
const LEADERS_DEADLINE: Duration = Duration::from_secs(1);

/// The group of a partition that is named.
pub(super) fn group(view: &ClusterView, topic: &str, partition: i32) -> Result<GroupId, Failure> {
    let found = view.catalog.partition(topic, PartitionIndex(partition));
    found
        .map(|found| ids::group(found.group))
        .ok_or_else(errors::unknown_partition)
}

/// A topic by its id (KIP-516).
pub(super) fn topic_by_id(view: &ClusterView, id: trimaran_wire::TopicId) -> Result<&Arc<Topic>, Failure> {
    let found = view.catalog.topic_by_id(TopicId(id.0));
    found.ok_or_else(|| Failure::new(ResponseError::UnknownTopicId, "there is no topic of that id"))
}

/// The term as clients know it. Terms stay far below 2^31: each takes an election.
pub(super) fn leader_epoch(term: Term) -> LeaderEpoch {
    LeaderEpoch(i32::try_from(term.0).unwrap_or(i32::MAX))
}

/// A group's leader, for a client that asked the wrong broker: none if that is not known, or is this broker.
pub(super) fn hint(view: &ClusterView, own: BrokerId, group: GroupId) -> Option<LeaderHint> {
    let leadership = view.leaders.leadership(ids::catalog_group(group))?;
    let leader = leadership.leader.filter(|leader| *leader != own)?;
    Some(LeaderHint {
        leader_id: leader.0,
        leader_epoch: leader_epoch(leadership.term),
    })
}

/// The addresses of the brokers that hints name, each once.
pub(super) fn endpoints(view: &ClusterView, hints: impl Iterator<Item = LeaderHint>) -> Vec<NodeEndpoint> {
    let mut ids: Vec<i32> = hints.map(|hint| hint.leader_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let brokers = ids.into_iter().filter_map(|id| view.catalog.broker(BrokerId(id)));
    brokers.map(|broker| endpoint(broker)).collect()
}

fn endpoint(broker: &Broker) -> NodeEndpoint {
    NodeEndpoint {
        node_id: broker.id.0,
        host: broker.client.host.clone(),
        port: i32::from(broker.client.port),
        rack: broker.rack.clone(),
    }
}

/// Waits until all the groups' leaders serve, as far as this broker knows, but not for long.
pub(super) async fn await_leaders(engine: &Engine, groups: &[registry::GroupId], left: Duration) {
    let serves = |view: &ClusterView, group: &registry::GroupId| {
        let leadership = view.leaders.leadership(*group);
        leadership.is_some_and(|leadership| leadership.serving)
    };
    if !groups.is_empty() {
        let all = |view: &Arc<ClusterView>| groups.iter().all(|group| serves(view, group));
        // At the deadline the topic is there all the same; its users find out who leads.
        let _ = engine.wait_until(left.min(LEADERS_DEADLINE), all).await;
    }
}

/// A text for the control plane's messages.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
