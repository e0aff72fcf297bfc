//! Metadata: brokers, topics, partitions and who leads them, answered by any broker; and topics created on the way.

#[cfg(test)]
mod tests;

use super::authorization::{Access, Operation, Resource};
use super::cluster::{self, NOT_ASKED};
use super::context::{Answer, Context};
use super::errors::{self, Failure};
use super::partitions::{self, text};
use super::topics;
use crate::coordinators::topic as offsets_topic;
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

/// Topics that may be under automatic creation at a time. A client that asks for more gets the same answer, and asks
/// again.
const MAX_CREATIONS: usize = 256;

/// The time that an automatic creation may take before the next Metadata request may begin it again.
const CREATION_DEADLINE: Duration = Duration::from_secs(10);

/// Topics that are being created because someone asked for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Creations {
    names: Arc<Mutex<BTreeSet<String>>>,
}

impl Creations {
    /// Begins to create a topic with the defaults, unless that is under way. Nobody waits for it: clients ask again.
    pub(super) fn begin(&self, engine: &Engine, name: &str) {
        if !self.reserve(name) {
            return;
        }
        let settings = engine.settings();
        let request = if offsets_topic::is_internal(name) {
            offsets_topic::creation(settings, &engine.catalog())
        } else {
            topics::automatic(name, &settings.cluster.topic_defaults)
        };
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

/// Describe on each topic: one that is not allowed is refused where it was named, and left out where all were asked
/// for. Create on the cluster, or else on the topic, where asking for a topic creates it.
impl Answer for MetadataRequest {
    async fn answer(self, context: Context) -> Reply {
        let engine = context.engine();
        let settings = engine.settings();
        let question = Question {
            access: context.access(),
            view: &context.view,
            configured_id: &settings.cluster.id,
            version: context.version(),
            creates: settings.cluster.auto_create_topics && self.allow_auto_topic_creation,
            request: &self,
        };
        let (response, missing) = question.describe();
        for name in missing.iter().filter(|_| question.creates) {
            context.shared.creations.begin(engine, name);
        }
        context.respond(&response)
    }
}

/// A request, and everything that its answer depends on.
#[derive(Clone, Copy)]
struct Question<'a> {
    access: Access<'a>,
    view: &'a ClusterView,
    configured_id: &'a str,
    version: i16,
    /// Asking for a topic that doesn't exist creates it.
    creates: bool,
    request: &'a MetadataRequest,
}

impl Question<'_> {
    /// The answer, and the names of topics that were asked for, may exist, and don't.
    fn describe(self) -> (MetadataResponse, Vec<String>) {
        let mut wanted = Vec::new();
        let topics = match self.asked() {
            None => {
                let topics = self.view.catalog.topics();
                let allowed =
                    topics.filter(|topic| self.access.allows(Operation::Describe, Resource::Topic(&topic.name)));
                allowed.map(|topic| self.found(topic)).collect()
            }
            Some(topics) => topics.iter().map(|topic| self.one(topic, &mut wanted)).collect(),
        };
        let response = MetadataResponse::default()
            .with_brokers(self.view.reachable_brokers().map(|broker| described(broker)).collect())
            .with_cluster_id(Some(cluster::cluster_id(self.view, self.configured_id)))
            .with_controller_id(cluster::controller(self.view))
            .with_topics(topics)
            .with_cluster_authorized_operations(self.cluster_operations());
        (response, wanted)
    }

    fn cluster_operations(self) -> i32 {
        // Versions 8 to 10 have the field.
        let asked = (8..=10).contains(&self.version) && self.request.include_cluster_authorized_operations;
        cluster::operations(self.access, asked)
    }

    /// The topics asked for, each once; none means all. Version 0 has no null and asks for all with an empty list.
    fn asked(&self) -> Option<Vec<&MetadataRequestTopic>> {
        let topics = self.request.topics.as_ref()?;
        if self.version == 0 && topics.is_empty() {
            return None;
        }
        let mut seen = BTreeSet::new();
        let unique = topics
            .iter()
            .filter(|topic| seen.insert((topic.topic_id, topic.name.clone())));
        Some(unique.collect())
    }

    fn one(self, asked: &MetadataRequestTopic, wanted: &mut Vec<String>) -> MetadataResponseTopic {
        let Some(name) = asked
            .name
            .as_ref()
            .filter(|_| asked.topic_id.is_nil() || self.version < 12)
        else {
            return self.by_id(asked);
        };
        match self.named(name, wanted) {
            Ok(topic) => self.found(topic),
            Err(failure) => missing(Some(name), TopicId::NONE, &failure),
        }
    }

    fn named(&self, name: &str, wanted: &mut Vec<String>) -> Result<&Topic, Failure> {
        self.access.authorize(Operation::Describe, Resource::Topic(name))?;
        if let Some(topic) = self.view.catalog.topic(name) {
            return Ok(topic);
        }
        check_name(name).map_err(|fault| errors::catalog(&CatalogError::InvalidName(fault)))?;
        if self.creates && !self.access.allows(Operation::Create, Resource::Cluster) {
            self.access.authorize(Operation::Create, Resource::Topic(name))?;
        }
        // The first answer is "unknown" even where the topic is being created: clients ask again, and it is there.
        wanted.push(name.to_owned());
        Err(errors::unknown_partition())
    }

    /// Ids are no secret, as in Kafka: the answer to a client that lacks permission may tell which of them are topics'.
    fn by_id(self, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
        let id = TopicId::from(asked.topic_id);
        let topic = partitions::topic_by_id(self.view, id).and_then(|topic| {
            self.access
                .authorize(Operation::Describe, Resource::Topic(&topic.name))?;
            Ok(topic)
        });
        match topic {
            Ok(topic) => self.found(topic),
            Err(failure) => missing(None, id, &failure),
        }
    }

    fn found(self, topic: &Topic) -> MetadataResponseTopic {
        let partitions = (0i32..)
            .zip(&topic.partitions)
            .map(|(index, p)| partition(self.view, index, p));
        let operations = if self.request.include_topic_authorized_operations {
            self.access.operations(Resource::Topic(&topic.name))
        } else {
            NOT_ASKED
        };
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(&topic.name))))
            .with_topic_id(TopicId(topic.id.0).into())
            .with_is_internal(offsets_topic::is_internal(&topic.name))
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(operations)
    }
}

fn missing(name: Option<&str>, id: TopicId, failure: &Failure) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(failure.code())
        .with_name(name.map(|name| TopicName(text(name))))
        .with_topic_id(id.into())
        .with_topic_authorized_operations(NOT_ASKED)
}

fn partition(view: &ClusterView, index: i32, partition: &Partition) -> MetadataResponsePartition {
    let leadership = view.leaders.leadership(partition.group);
    let leader = view.leader(partition.group);
    let reported = leadership.map_or(&[][..], |leadership| &leadership.in_sync[..]);
    // A leader that has not reported yet is in sync with itself.
    let in_sync = if reported.is_empty() {
        leader.as_slice()
    } else {
        reported
    };
    // While it moves: where it is and where it goes, as from Kafka.
    let replicas = partition.assigned();
    let offline: Vec<_> = replicas
        .iter()
        .copied()
        .filter(|replica| view.is_lost(*replica))
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
