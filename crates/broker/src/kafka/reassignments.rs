//! AlterPartitionReassignments and ListPartitionReassignments: any broker takes them, each partition succeeds or fails
//! for itself (KIP-455).

#[cfg(test)]
mod tests;

use super::authorization::{Access, Operation, Resource};
use super::context::{Answer, Context};
use super::errors::{self, Failure};
use super::partitions::text;
use super::topics::deadline;
use crate::engine::{ClusterView, Engine};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    self as kafka, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use trimaran_registry::agent::AdminRequest;
use trimaran_registry::catalog::{Partition, Topic, TopicRef};
use trimaran_registry::{BrokerId, PartitionIndex};
use trimaran_transport::Reply;

/// Partitions of one request that are asked for at a time: a broker may have a limited number of requests open at the
/// controller, and others need some of them.
const AT_A_TIME: usize = 64;

/// A partition of the request.
type Named = (TopicName, i32);

// --- AlterPartitionReassignments ---

/// Alter on the cluster.
impl Answer for AlterPartitionReassignmentsRequest {
    async fn answer(self, context: Context) -> Reply {
        let response = match context.authorize(Operation::Alter, Resource::Cluster) {
            Ok(()) => alter(context.engine(), &self).await,
            Err(failure) => refused(&self, &failure),
        };
        context.respond(&response)
    }
}

/// A refusal of the whole request: Kafka says it of the response, and again of each partition.
fn refused(request: &AlterPartitionReassignmentsRequest, failure: &Failure) -> AlterPartitionReassignmentsResponse {
    let outcomes = wanted(request).map(|(named, _)| (named, Err(failure.clone())));
    AlterPartitionReassignmentsResponse::default()
        .with_error_code(failure.code())
        .with_error_message(failure.text())
        .with_responses(by_topic(outcomes))
}

fn wanted(request: &AlterPartitionReassignmentsRequest) -> impl Iterator<Item = (Named, &ReassignablePartition)> {
    request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| ((topic.name.clone(), partition.partition_index), partition))
    })
}

async fn alter(engine: &Engine, request: &AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse {
    let until = Instant::now() + deadline(request.timeout_ms);
    let wanted: Vec<_> = wanted(request).collect();
    let repeated = repeated(wanted.iter().map(|(named, _)| named.clone()));
    let mut outcomes = Vec::with_capacity(wanted.len());
    for part in wanted.chunks(AT_A_TIME) {
        let left = until.saturating_duration_since(Instant::now());
        outcomes.extend(ask(engine, part, &repeated, left).await);
    }
    AlterPartitionReassignmentsResponse::default().with_responses(by_topic(outcomes))
}

/// The partitions that come more than once: none of them can be served, since it is not clear what is meant.
fn repeated(named: impl Iterator<Item = Named>) -> BTreeSet<Named> {
    let mut seen = BTreeSet::new();
    named.filter(|named| !seen.insert(named.clone())).collect()
}

async fn ask(
    engine: &Engine,
    wanted: &[(Named, &ReassignablePartition)],
    repeated: &BTreeSet<Named>,
    left: Duration,
) -> Vec<(Named, Result<(), Failure>)> {
    let begin = |(named, partition): &(Named, &ReassignablePartition)| match repeated.contains(named) {
        true => Err(Failure::new(
            ResponseError::InvalidRequest,
            "the partition is named twice in one request",
        )),
        false => Ok(engine.admin(reassignment(named, partition), left)),
    };
    let asked: Vec<_> = wanted.iter().map(begin).collect();
    let mut outcomes = Vec::with_capacity(asked.len());
    for ((named, _), asked) in wanted.iter().zip(asked) {
        let outcome = match asked {
            Ok(answer) => answer.await.map(drop).map_err(|error| errors::admin(&error)),
            Err(failure) => Err(failure),
        };
        outcomes.push((named.clone(), outcome));
    }
    outcomes
}

/// No replicas at all mean that the reassignment under way is to be taken back.
fn reassignment(named: &Named, partition: &ReassignablePartition) -> AdminRequest {
    let replicas = partition.replicas.as_ref();
    AdminRequest::Reassign {
        topic: TopicRef::Name(named.0.to_string()),
        partition: PartitionIndex(named.1),
        replicas: replicas.map(|ids| ids.iter().map(|id| BrokerId(id.0)).collect()),
    }
}

fn by_topic(outcomes: impl IntoIterator<Item = (Named, Result<(), Failure>)>) -> Vec<ReassignableTopicResponse> {
    let mut topics: Vec<ReassignableTopicResponse> = Vec::new();
    for ((name, partition), outcome) in outcomes {
        let mut response = ReassignablePartitionResponse::default().with_partition_index(partition);
        if let Err(failure) = outcome {
            response = response
                .with_error_code(failure.code())
                .with_error_message(failure.text());
        }
        match topics.last_mut().filter(|topic| topic.name == name) {
            Some(topic) => topic.partitions.push(response),
            None => topics.push(
                ReassignableTopicResponse::default()
                    .with_name(name)
                    .with_partitions(vec![response]),
            ),
        }
    }
    topics
}

// --- ListPartitionReassignments ---

/// Describe on the cluster.
impl Answer for ListPartitionReassignmentsRequest {
    async fn answer(self, context: Context) -> Reply {
        context.respond(&list(context.access(), &context.view, &self))
    }
}

/// The reassignments under way, of the partitions asked for or of all. A partition that does not exist has none.
fn list(
    access: Access<'_>,
    view: &ClusterView,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    if let Err(failure) = access.authorize(Operation::Describe, Resource::Cluster) {
        return not_listed(request, &failure);
    }
    let all = |_: i32| true;
    let topics = match &request.topics {
        None => view.catalog.topics().filter_map(|topic| ongoing(topic, all)).collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = view.catalog.topic(asked.name.as_str())?;
                ongoing(topic, |partition| asked.partition_indexes.contains(&partition))
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse::default().with_topics(topics)
}

/// A refusal of the whole request, with the partitions that it named: the shape in which Kafka refuses.
fn not_listed(request: &ListPartitionReassignmentsRequest, failure: &Failure) -> ListPartitionReassignmentsResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter();
        let named = |index: &i32| OngoingPartitionReassignment::default().with_partition_index(*index);
        OngoingTopicReassignment::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.map(named).collect())
    });
    ListPartitionReassignmentsResponse::default()
        .with_error_code(failure.code())
        .with_error_message(failure.text())
        .with_topics(topics.collect())
}

fn ongoing(topic: &Topic, asked: impl Fn(i32) -> bool) -> Option<OngoingTopicReassignment> {
    let moving = (0i32..)
        .zip(&topic.partitions)
        .filter(|(at, partition)| partition.reassignment.is_some() && asked(*at));
    let partitions: Vec<_> = moving.map(|(at, partition)| described(at, partition)).collect();
    let name = TopicName(text(&topic.name));
    (!partitions.is_empty()).then(|| {
        OngoingTopicReassignment::default()
            .with_name(name)
            .with_partitions(partitions)
    })
}

fn described(at: i32, partition: &Partition) -> OngoingPartitionReassignment {
    let ids = |ids: Vec<BrokerId>| ids.into_iter().map(|id| kafka::BrokerId(id.0)).collect();
    OngoingPartitionReassignment::default()
        .with_partition_index(at)
        .with_replicas(ids(partition.assigned()))
        .with_adding_replicas(ids(partition.adding()))
        .with_removing_replicas(ids(partition.removing()))
}
