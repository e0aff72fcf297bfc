//! Metadata: brokers, topics, partitions and who leads them, answered by any broker; and topics created on the way.

#[cfg(test)]
mod tests;

use super::cluster;
use super::errors::{self, Failure};
use super::partitions::{self, text};
use super::{respond, topics};
use crate::engine::{ClusterView, Engine};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use trimaran_registry::agent::AdminError;
use trimaran_registry::catalog::{Broker, Partition, Topic, check_name};
use trimaran_registry::{self as registry, CatalogError};
use trimaran_transport::Reply;
use trimaran_wire::TopicId;
use trimaran_wire::api::RequestHeader;

/// Without an authorizer, everything that can be done to a topic may be done: the bits of read (3), write (4), create
/// (5), delete (6), alter (7), describe (8), describe configs (10) and alter configs (11), as in Kafka.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// What stands for "not asked for" among authorized operations.
const NOT_ASKED: i32 = i32::MIN;

/// Topics that may be under automatic creation at a time. Whoever asks for more gets the same answer, and asks again.
const MAX_CREATIONS: usize = 256;

/// How long an automatic creation may take before the next Metadata request may begin it again.
const CREATION_DEADLINE: Duration = Duration::from_secs(10);

/// Topics that are being created because someone asked for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Creations {
    names: Arc<Mutex<BTreeSet<String>>>,
}

impl Creations {
    /// Begins to create a topic with the defaults, unless that is under way. Nobody waits for it: clients ask again.
    fn begin(&self, engine: &Engine, name: &str) {
        if !self.reserve(name) {
            return;
        }
        let request = topics::automatic(name, &engine.settings().cluster.topic_defaults);
        let creation = engine.admin(request, CREATION_DEADLINE);
        let (creations, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            // Someone else may have been faster.
            let created = creation.await;
            if let Err(error) = created.map(drop).or_else(forgive_existing) {
                tracing::warn!(topic = name, ?error, "a topic was asked for and can't be created");
            }
            creations.names().remove(&name);
        });
    }

    fn reserve(&self, name: &str) -> bool {
        let mut names = self.names();
        names.len() < MAX_CREATIONS && names.insert(name.to_owned())
    }

    fn names(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forgive_existing(error: AdminError) -> Result<(), AdminError> {
    match error {
        AdminError::Refused(CatalogError::TopicExists) => Ok(()),
        AdminError::Refused(_) | AdminError::TimedOut | AdminError::Overloaded => Err(error),
    }
}

pub(super) fn answer(
    engine: &Engine,
    creations: &Creations,
    header: &RequestHeader,
    request: &MetadataRequest,
) -> Reply {
    let view = engine.view();
    let (response, wanted) = describe(&view, &engine.settings().cluster.id, header.version, request);
    if engine.settings().cluster.auto_create_topics && request.allow_auto_topic_creation {
        wanted.iter().for_each(|name| creations.begin(engine, name));
    }
    respond(header, &response)
}

/// The answer, and the names of topics that were asked for, may exist, and don't.
pub(super) fn describe(
    view: &ClusterView,
    configured_id: &str,
    version: i16,
    request: &MetadataRequest,
) -> (MetadataResponse, Vec<String>) {
    let mut wanted = Vec::new();
    let topics = match asked(version, request) {
        None => view.catalog.topics().map(|topic| found(view, topic, request)).collect(),
        Some(topics) => topics
            .iter()
            .map(|topic| one(view, version, topic, request, &mut wanted))
            .collect(),
    };
    let response = MetadataResponse::default()
        .with_brokers(view.reachable_brokers().map(|broker| described(broker)).collect())
        .with_cluster_id(Some(cluster::cluster_id(view, configured_id)))
        .with_controller_id(cluster::controller(view))
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations(version, request));
    (response, wanted)
}

fn cluster_operations(version: i16, request: &MetadataRequest) -> i32 {
    // Versions 8 to 10 have the field.
    cluster::cluster_operations((8..=10).contains(&version) && request.include_cluster_authorized_operations)
}

/// The topics asked for, each once; none means all. Version 0 has no null and asks for all with an empty list.
fn asked(version: i16, request: &MetadataRequest) -> Option<Vec<&MetadataRequestTopic>> {
    let topics = request.topics.as_ref()?;
    if version == 0 && topics.is_empty() {
        return None;
    }
    let mut seen = BTreeSet::new();
    let unique = topics
        .iter()
        .filter(|topic| seen.insert((topic.topic_id, topic.name.clone())));
    Some(unique.collect())
}

fn one(
    view: &ClusterView,
    version: i16,
    asked: &MetadataRequestTopic,
    request: &MetadataRequest,
    wanted: &mut Vec<String>,
) -> MetadataResponseTopic {
    let Some(name) = asked.name.as_ref().filter(|_| asked.topic_id.is_nil() || version < 12) else {
        return by_id(view, asked, request);
    };
    let name = name.as_str();
    if let Some(topic) = view.catalog.topic(name) {
        return found(view, topic, request);
    }
    let failure = match check_name(name) {
        Err(fault) => errors::catalog(&CatalogError::InvalidName(fault)),
        Ok(()) => {
            // The first answer is "unknown" even where the topic is being created: clients ask again, and it is there.
            wanted.push(name.to_owned());
            errors::unknown_partition()
        }
    };
    missing(Some(name), TopicId::NONE, &failure)
}

fn by_id(view: &ClusterView, asked: &MetadataRequestTopic, request: &MetadataRequest) -> MetadataResponseTopic {
    let id = TopicId::from(asked.topic_id);
    match partitions::topic_by_id(view, id) {
        Ok(topic) => found(view, topic, request),
        Err(failure) => missing(None, id, &failure),
    }
}

fn missing(name: Option<&str>, id: TopicId, failure: &Failure) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(failure.code())
        .with_name(name.map(|name| TopicName(text(name))))
        .with_topic_id(id.into())
        .with_topic_authorized_operations(NOT_ASKED)
}

fn found(view: &ClusterView, topic: &Topic, request: &MetadataRequest) -> MetadataResponseTopic {
    let partitions = (0i32..)
        .zip(&topic.partitions)
        .map(|(index, p)| partition(view, index, p));
    let operations = if request.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        NOT_ASKED
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(TopicId(topic.id.0).into())
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}

fn partition(view: &ClusterView, index: i32, partition: &Partition) -> MetadataResponsePartition {
    let leadership = view.leaders.leadership(partition.group);
    let leader = leadership
        .and_then(|leadership| leadership.leader)
        .filter(|leader| !view.unreachable.contains(leader));
    let reported = leadership.map_or(&[][..], |leadership| &leadership.in_sync[..]);
    // A leader that has not reported yet is in sync with itself.
    let in_sync = if reported.is_empty() {
        leader.as_slice()
    } else {
        reported
    };
    // While it is on its way: where it is and where it shall be, as from Kafka.
    let replicas = partition.assigned();
    let offline: Vec<_> = replicas
        .iter()
        .copied()
        .filter(|replica| view.unreachable.contains(replica))
        .collect();
    let error = if leader.is_some() {
        0
    } else {
        ResponseError::LeaderNotAvailable.code()
    };
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader.map_or(-1, |leader| leader.0)))
        .with_leader_epoch(leadership.map_or(-1, |leadership| partitions::leader_epoch(leadership.term).0))
        .with_replica_nodes(brokers(&replicas))
        .with_isr_nodes(brokers(in_sync))
        .with_offline_replicas(brokers(&offline))
}

fn brokers(ids: &[registry::BrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(id.0)).collect()
}

fn described(broker: &Broker) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(broker.id.0))
        .with_host(text(&broker.client.host))
        .with_port(i32::from(broker.client.port))
        .with_rack(broker.rack.as_deref().map(text))
}
