//! CreateTopics, DeleteTopics and CreatePartitions: any broker takes them, each item succeeds or fails for itself.

#[cfg(test)]
mod tests;

use super::authorization::{Operation, Resource};
use super::context::{Answer, Context};
use super::errors::{self, Failure};
use super::partitions::{self, text};
use crate::coordinators::topic as offsets_topic;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    self as kafka, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use trimaran_registry::agent::{AdminError, AdminReply, AdminRequest};
use trimaran_registry::catalog::{Layout, NewTopic, Topic, TopicRef};
use trimaran_registry::{BrokerId, CatalogError, topic_config};
use trimaran_transport::Reply;
use trimaran_wire::TopicId;

/// A client that does not want to wait still gets the controller's answer if it comes at once.
const MIN_DEADLINE: Duration = Duration::from_millis(100);

/// The registry counts no more than a minute.
const MAX_DEADLINE: Duration = Duration::from_secs(60);

/// Kafka's sources of configuration, as far as topics have them.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_DEFAULT: i8 = 5;

pub(super) fn deadline(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).clamp(MIN_DEADLINE, MAX_DEADLINE)
}

/// Refuses what would destroy the state of consumer groups.
fn check_is_external(name: &str, hint: &str) -> Result<(), Failure> {
    if !offsets_topic::is_internal(name) {
        return Ok(());
    }
    let message = format!("{name} holds the state of consumer groups: {hint}");
    Err(Failure::new(ResponseError::InvalidTopicException, message))
}

fn invalid(message: &str) -> Failure {
    Failure::new(ResponseError::InvalidRequest, message)
}

/// The names that come more than once: none of them can be served, since it is not clear what is meant.
fn repeated<T: Ord + Clone>(names: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(name.clone())).collect()
}

// --- CreateTopics ---

/// Create on the cluster, or else on each topic; DescribeConfigs on a topic whose numbers and configuration are shown.
impl Answer for CreateTopicsRequest {
    async fn answer(self, context: Context) -> Reply {
        context.respond(&create(&context, &self).await)
    }
}

async fn create(context: &Context, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let (engine, access) = (context.engine(), context.access());
    let may_create_any = access.allows(Operation::Create, Resource::Cluster);
    let may_create = |name: &str| match may_create_any {
        true => Ok(()),
        false => access.authorize(Operation::Create, Resource::Topic(name)),
    };
    let started = Instant::now();
    let deadline = deadline(request.timeout_ms);
    let repeated = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    let mut named = BTreeSet::new();
    // A name that comes more than once is answered once, as from Kafka.
    let topics = request.topics.iter().filter(|topic| named.insert(topic.name.clone()));
    let asked: Vec<_> = topics
        .map(|topic| {
            let wish = if repeated.contains(&topic.name) {
                Err(invalid("the topic is named twice in one request"))
            } else {
                may_create(&topic.name).and_then(|()| new_topic(topic, &engine.settings().cluster.topic_defaults))
            };
            let asked = wish.map(|wish| {
                let topic = wish.clone();
                let validate_only = request.validate_only;
                (
                    wish,
                    engine.admin(AdminRequest::CreateTopic { topic, validate_only }, deadline),
                )
            });
            (topic.name.clone(), asked)
        })
        .collect();
    let mut results = Vec::with_capacity(asked.len());
    let mut groups = Vec::new();
    for (name, asked) in asked {
        let outcome = match asked {
            Ok((wish, answer)) => created(&wish, answer.await),
            Err(failure) => Err(failure),
        };
        if let Ok(Created::Topic(topic)) = &outcome {
            groups.extend(topic.partitions.iter().map(|partition| partition.group));
        }
        let may_see = access.allows(Operation::DescribeConfigs, Resource::Topic(&name));
        results.push(create_result(name, outcome, may_see));
    }
    partitions::await_leaders(engine, &groups, deadline.saturating_sub(started.elapsed())).await;
    CreateTopicsResponse::default().with_topics(results)
}

/// The topic that was asked for, as the registry takes it. The cluster's own defaults become the new topic's settings,
/// where it does not bring others.
fn new_topic(topic: &CreatableTopic, defaults: &BTreeMap<String, String>) -> Result<NewTopic, Failure> {
    check_is_external(
        &topic.name,
        "the first consumer group creates it; the settings `groups.offsets_…` say how",
    )?;
    let mut settings = defaults.clone();
    settings.extend(config(topic)?);
    Ok(NewTopic {
        name: topic.name.to_string(),
        layout: layout(topic)?,
        config: settings,
    })
}

/// The request that creates a topic because a client asked for it: with the defaults.
pub(super) fn automatic(name: &str, defaults: &BTreeMap<String, String>) -> AdminRequest {
    if defaults.is_empty() {
        return AdminRequest::EnsureTopic { name: name.to_owned() };
    }
    let topic = NewTopic {
        name: name.to_owned(),
        layout: Layout::Spread {
            partitions: -1,
            replication_factor: -1,
        },
        config: defaults.clone(),
    };
    AdminRequest::CreateTopic {
        topic,
        validate_only: false,
    }
}

fn layout(topic: &CreatableTopic) -> Result<Layout, Failure> {
    if topic.assignments.is_empty() {
        return Ok(Layout::Spread {
            partitions: topic.num_partitions,
            replication_factor: i32::from(topic.replication_factor),
        });
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err(invalid(
            "either numbers of partitions and replicas, or an assignment, but not both",
        ));
    }
    manual(&topic.assignments).map(Layout::Manual)
}

/// Partitions must be numbered from zero without gaps; in which order they are listed does not matter.
fn manual(assignments: &[CreatableReplicaAssignment]) -> Result<Vec<Vec<BrokerId>>, Failure> {
    let by_index: BTreeMap<i32, &CreatableReplicaAssignment> = assignments
        .iter()
        .map(|assignment| (assignment.partition_index, assignment))
        .collect();
    let consecutive = (0i32..)
        .zip(by_index.keys())
        .all(|(expected, index)| expected == *index);
    if by_index.len() != assignments.len() || !consecutive {
        let message = "the assigned partitions are not numbered from zero without gaps";
        return Err(Failure::new(ResponseError::InvalidReplicaAssignment, message));
    }
    Ok(by_index
        .values()
        .map(|assignment| registry_ids(&assignment.broker_ids))
        .collect())
}

fn registry_ids(ids: &[kafka::BrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(id.0)).collect()
}

fn config(topic: &CreatableTopic) -> Result<BTreeMap<String, String>, Failure> {
    let entries = topic.configs.iter().map(|entry| match &entry.value {
        Some(value) => Ok((entry.name.to_string(), value.to_string())),
        None => Err(Failure::new(
            ResponseError::InvalidConfig,
            format!("the value of '{}' is null", entry.name.as_str()),
        )),
    });
    entries.collect()
}

/// A topic that is there now, or that could be.
enum Created {
    Topic(std::sync::Arc<Topic>),
    Valid(NewTopic),
}

fn created(wish: &NewTopic, answer: Result<AdminReply, AdminError>) -> Result<Created, Failure> {
    match answer.map_err(|error| errors::admin(&error))? {
        AdminReply::Topic(topic) => Ok(Created::Topic(topic)),
        AdminReply::Valid | AdminReply::ProducerId(_) => Ok(Created::Valid(wish.clone())),
    }
}

fn create_result(name: TopicName, outcome: Result<Created, Failure>, may_see: bool) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(name);
    match outcome {
        Ok(created) if !may_see => {
            let hidden = result
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new()))
                .with_topic_config_error_code(ResponseError::TopicAuthorizationFailed.code());
            match created {
                Created::Topic(topic) => hidden.with_topic_id(TopicId(topic.id.0).into()),
                Created::Valid(_) => hidden,
            }
        }
        Ok(Created::Topic(topic)) => result
            .with_topic_id(TopicId(topic.id.0).into())
            .with_num_partitions(count(topic.partitions.len()))
            .with_replication_factor(replication(&topic))
            .with_configs(Some(described(&topic.overrides))),
        Ok(Created::Valid(wish)) => {
            let (partitions, replication_factor) = asked_numbers(&wish.layout);
            result
                .with_num_partitions(partitions)
                .with_replication_factor(replication_factor)
                .with_configs(Some(described(&wish.config)))
        }
        Err(failure) => result
            .with_error_code(failure.code())
            .with_error_message(failure.text())
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(None),
    }
}

fn count(partitions: usize) -> i32 {
    i32::try_from(partitions).unwrap_or(i32::MAX)
}

fn replication(topic: &Topic) -> i16 {
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    i16::try_from(replicas).unwrap_or(i16::MAX)
}

fn asked_numbers(layout: &Layout) -> (i32, i16) {
    match layout {
        Layout::Spread {
            partitions,
            replication_factor,
        } => (*partitions, i16::try_from(*replication_factor).unwrap_or(i16::MAX)),
        Layout::Manual(replicas) => {
            let replication_factor = replicas.first().map_or(0, Vec::len);
            (
                count(replicas.len()),
                i16::try_from(replication_factor).unwrap_or(i16::MAX),
            )
        }
    }
}

fn described(overrides: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let lines = topic_config::describe(overrides).into_iter().map(|line| {
        CreatableTopicConfigs::default()
            .with_name(text(line.name))
            .with_value(Some(text(&line.value)))
            .with_config_source(if line.overridden { SOURCE_TOPIC } else { SOURCE_DEFAULT })
    });
    lines.collect()
}

// --- DeleteTopics ---

/// A topic to delete, as it was named.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Name(TopicName),
    Id(TopicId),
    /// Neither or both.
    Badly(Option<TopicName>, TopicId),
}

impl Named {
    fn reference(&self) -> Result<TopicRef, Failure> {
        match self {
            Named::Name(name) => Ok(TopicRef::Name(name.to_string())),
            Named::Id(id) => Ok(TopicRef::Id(trimaran_registry::TopicId(id.0))),
            Named::Badly(..) => Err(invalid("a topic is named either by its name or by its id")),
        }
    }

    fn result(self) -> DeletableTopicResult {
        let (name, id) = match self {
            Named::Name(name) => (Some(name), TopicId::NONE),
            Named::Id(id) => (None, id),
            Named::Badly(name, id) => (name, id),
        };
        DeletableTopicResult::default().with_name(name).with_topic_id(id.into())
    }
}

/// Delete on the cluster, or else on each topic, and Describe on each that is named by its name.
impl Answer for DeleteTopicsRequest {
    async fn answer(self, context: Context) -> Reply {
        let response = delete(&context, self).await;
        context.respond(&response)
    }
}

/// A topic that is named by its id is known to the authorizer by its name. As long as this broker does not know it,
/// only a client that may delete every topic can have it deleted.
fn authorize_deletion(context: &Context, named: &Named) -> Result<(), Failure> {
    let (access, view) = (context.access(), &context.view);
    if access.allows(Operation::Delete, Resource::Cluster) {
        return Ok(());
    }
    match named {
        Named::Name(name) => {
            // The answer to a deletion says whether there is such a topic.
            access.authorize(Operation::Describe, Resource::Topic(name))?;
            let allowed = access.authorize(Operation::Delete, Resource::Topic(name));
            match view.catalog.topic(name) {
                None if allowed.is_err() => Err(errors::unknown_partition()),
                _ => allowed,
            }
        }
        Named::Id(id) => {
            let topic = partitions::topic_by_id(view, *id)?;
            access.authorize(Operation::Delete, Resource::Topic(&topic.name))
        }
        // Refused in any case.
        Named::Badly(..) => Ok(()),
    }
}

fn check_deletion(context: &Context, named: &Named) -> Result<(), Failure> {
    let name = match named {
        Named::Name(name) => Some(name.as_str()),
        Named::Id(id) => partitions::topic_by_id(&context.view, *id)
            .ok()
            .map(|topic| &*topic.name),
        Named::Badly(..) => None,
    };
    check_is_external(name.unwrap_or_default(), "delete the groups instead (DeleteGroups)")
}

/// The name of a topic that was named by its id, if the client may know it.
fn visible_name(context: &Context, named: &Named) -> Option<TopicName> {
    let Named::Id(id) = named else { return None };
    let name = &partitions::topic_by_id(&context.view, *id).ok()?.name;
    let may_know = context.access().allows(Operation::Describe, Resource::Topic(name));
    may_know.then(|| TopicName(text(name)))
}

async fn delete(context: &Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let engine = context.engine();
    let deadline = deadline(request.timeout_ms);
    let named: Vec<Named> = to_delete(request);
    let repeated = repeated(named.iter().cloned());
    let asked: Vec<_> = named
        .into_iter()
        .map(|named| {
            let reference = if repeated.contains(&named) {
                Err(invalid("the topic is named twice in one request"))
            } else {
                named.reference()
            };
            let asked = reference
                .and_then(|topic| authorize_deletion(context, &named).map(|()| topic))
                .and_then(|topic| check_deletion(context, &named).map(|()| topic))
                .map(|topic| engine.admin(AdminRequest::DeleteTopic(topic), deadline));
            (named, asked)
        })
        .collect();
    let mut responses = Vec::with_capacity(asked.len());
    for (named, asked) in asked {
        let outcome = match asked {
            Ok(answer) => answer.await.map_err(|error| delete_failure(&named, &error)),
            Err(failure) => Err(failure),
        };
        let visible_name = visible_name(context, &named);
        responses.push(delete_result(named, visible_name, outcome));
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

/// Names up to version 5; names or ids from version 6 on.
fn to_delete(request: DeleteTopicsRequest) -> Vec<Named> {
    let by_name = request.topic_names.into_iter().map(Named::Name);
    let either = request
        .topics
        .into_iter()
        .map(|topic| match (topic.name, TopicId::from(topic.topic_id)) {
            (Some(name), TopicId::NONE) => Named::Name(name),
            (None, id) if id != TopicId::NONE => Named::Id(id),
            (name, id) => Named::Badly(name, id),
        });
    by_name.chain(either).collect()
}

fn delete_failure(named: &Named, error: &AdminError) -> Failure {
    match (named, error) {
        (Named::Id(_), AdminError::Refused(CatalogError::UnknownTopic)) => {
            Failure::new(ResponseError::UnknownTopicId, "there is no topic of that id")
        }
        _ => errors::admin(error),
    }
}

fn delete_result(
    named: Named,
    visible_name: Option<TopicName>,
    outcome: Result<AdminReply, Failure>,
) -> DeletableTopicResult {
    let result = named.result();
    match outcome {
        Ok(AdminReply::Topic(topic)) => result
            .with_name(Some(TopicName(text(&topic.name))))
            .with_topic_id(TopicId(topic.id.0).into()),
        Ok(AdminReply::Valid | AdminReply::ProducerId(_)) => result,
        Err(failure) => match visible_name {
            Some(name) => result.with_name(Some(name)),
            None => result,
        }
        .with_error_code(failure.code())
        .with_error_message(failure.text()),
    }
}

// --- CreatePartitions ---

/// Alter on each topic.
impl Answer for CreatePartitionsRequest {
    async fn answer(self, context: Context) -> Reply {
        context.respond(&grow(&context, &self).await)
    }
}

async fn grow(context: &Context, request: &CreatePartitionsRequest) -> CreatePartitionsResponse {
    let engine = context.engine();
    let started = Instant::now();
    let deadline = deadline(request.timeout_ms);
    let repeated = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    let mut named = BTreeSet::new();
    let topics = request.topics.iter().filter(|topic| named.insert(topic.name.clone()));
    let asked: Vec<_> = topics
        .map(|topic| {
            let asked = if repeated.contains(&topic.name) {
                Err(invalid("the topic is named twice in one request"))
            } else {
                context
                    .authorize(Operation::Alter, Resource::Topic(&topic.name))
                    .and_then(|()| {
                        check_is_external(
                            &topic.name,
                            "with more partitions, groups would be looked for elsewhere",
                        )
                    })
                    .map(|()| engine.admin(growth(topic, request.validate_only), deadline))
            };
            (topic.name.clone(), asked)
        })
        .collect();
    let mut results = Vec::with_capacity(asked.len());
    let mut groups = Vec::new();
    for (name, asked) in asked {
        let outcome = match asked {
            Ok(answer) => answer.await.map_err(|error| errors::admin(&error)),
            Err(failure) => Err(failure),
        };
        if let Ok(AdminReply::Topic(topic)) = &outcome {
            groups.extend(topic.partitions.iter().map(|partition| partition.group));
        }
        results.push(grow_result(name, outcome));
    }
    partitions::await_leaders(engine, &groups, deadline.saturating_sub(started.elapsed())).await;
    CreatePartitionsResponse::default().with_results(results)
}

fn growth(topic: &CreatePartitionsTopic, validate_only: bool) -> AdminRequest {
    let assignments = topic.assignments.as_ref().map(|assignments| {
        let replicas = assignments
            .iter()
            .map(|assignment| registry_ids(&assignment.broker_ids));
        replicas.collect()
    });
    AdminRequest::AddPartitions {
        topic: topic.name.to_string(),
        total: topic.count,
        assignments,
        validate_only,
    }
}

fn grow_result(name: TopicName, outcome: Result<AdminReply, Failure>) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(name);
    match outcome {
        Ok(_) => result,
        Err(failure) => result
            .with_error_code(failure.code())
            .with_error_message(failure.text()),
    }
}
