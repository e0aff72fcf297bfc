//! OffsetCommit, OffsetFetch and OffsetDelete.

use super::{ask, owned, unexpected};
use crate::engine::ClusterView;
use crate::kafka::authorization::{Operation, Resource};
use crate::kafka::context::{Answer, Context};
use crate::kafka::errors::{self, Failure};
use crate::kafka::partitions::{self, text};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use trimaran_coordinator::request::{
    GroupFetch, OffsetCommit, OffsetDelete, OffsetFetch, PartitionCommit, PartitionOffset, TopicCommit, TopicOffsets,
    TopicOutcome,
};
use trimaran_coordinator::{Error, Generation, Offset, Reply as Outcome, Request};
use trimaran_transport::Reply;

/// The first version of OffsetCommit in which a member of a group that doesn't exist hears so (KIP-848).
const FIRST_GROUP_ID_NOT_FOUND_VERSION: i16 = 9;

/// The versions of OffsetCommit that say how long the offsets are kept.
const RETENTION_VERSIONS: std::ops::RangeInclusive<i16> = 2..=4;

/// The first version of OffsetFetch with an error for the group, and with null for all topics.
const FIRST_GROUP_ERROR_VERSION: i16 = 2;

/// The first version of OffsetFetch that asks for several groups (KIP-709).
const FIRST_BATCHED_VERSION: i16 = 8;

/// The offset and the leader epoch where nothing is committed.
const NONE: i64 = -1;
const NO_EPOCH: i32 = -1;

/// The errors of a topic's partitions, in the order of the request. Those that need no coordinator are known at once;
/// the others come from it, in the same order.
struct Errors {
    topic: TopicName,
    partitions: Vec<(i32, Option<Failure>)>,
}

impl Errors {
    /// Puts the coordinator's outcomes where nothing was known.
    fn complete(self, outcomes: &mut impl Iterator<Item = i16>) -> (TopicName, Vec<(i32, i16)>) {
        let partitions = self.partitions.into_iter().map(|(index, known)| {
            let code = match known {
                Some(failure) => failure.code(),
                None => outcomes.next().unwrap_or_else(|| unexpected().code()),
            };
            (index, code)
        });
        (self.topic, partitions.collect())
    }
}

/// The coordinator's outcomes, partition by partition; or its error for each.
fn codes(outcome: Result<Vec<TopicOutcome>, Failure>) -> Box<dyn Iterator<Item = i16> + Send> {
    match outcome {
        Ok(topics) => {
            let partitions = topics.into_iter().flat_map(|topic| topic.partitions);
            Box::new(partitions.map(|(_, result)| result.err().map_or(0, |error| errors::coordinator(error).code())))
        }
        Err(failure) => Box::new(std::iter::repeat(failure.code())),
    }
}

/// What a client may do with a topic of its group, partition by partition: nothing is known of those that may be passed
/// on.
fn check(
    context: &Context,
    operation: Operation,
    topic: &TopicName,
    indexes: impl Iterator<Item = i32>,
    exists: impl Fn(&ClusterView, &str, i32) -> bool,
) -> Errors {
    let allowed = context.authorize(operation, Resource::Topic(topic)).err();
    let failure = |index| match &allowed {
        Some(failure) => Some(failure.clone()),
        None => (!exists(&context.view, topic, index)).then(errors::unknown_partition),
    };
    Errors {
        partitions: indexes.map(|index| (index, failure(index))).collect(),
        topic: topic.clone(),
    }
}

fn is_there(view: &ClusterView, topic: &str, index: i32) -> bool {
    partitions::group(view, topic, index).is_ok()
}

// --- OffsetCommit ---

/// Read on the group, and on each topic.
impl Answer for OffsetCommitRequest {
    async fn answer(self, context: Context) -> Reply {
        // What the group's permission refuses is refused for every partition, whatever the topic.
        let refused = context
            .authorize(Operation::Read, Resource::Group(&self.group_id))
            .err();
        let (commit, known) = split(&context, &self, refused.as_ref());
        let mut outcomes = codes(commit_offsets(&context, commit).await);
        let topics = known.into_iter().map(|errors| {
            let (topic, partitions) = errors.complete(&mut outcomes);
            let partitions = partitions.into_iter().map(|(index, code)| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(code)
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic)
                .with_partitions(partitions.collect())
        });
        context.respond(&OffsetCommitResponse::default().with_topics(topics.collect()))
    }
}

/// The commit that the coordinator gets, and the errors of the rest.
fn split(context: &Context, request: &OffsetCommitRequest, refused: Option<&Failure>) -> (OffsetCommit, Vec<Errors>) {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut known = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let errors = match refused {
            Some(failure) => Errors {
                topic: topic.name.clone(),
                partitions: indexes.map(|index| (index, Some(failure.clone()))).collect(),
            },
            None => check(context, Operation::Read, &topic.name, indexes, is_there),
        };
        topics.push(topic_commit(context, topic, &errors));
        known.push(errors);
    }
    topics.retain(|topic: &TopicCommit| !topic.partitions.is_empty());
    let version = context.version();
    let retention = Some(request.retention_time_ms).filter(|ms| *ms >= 0);
    let commit = OffsetCommit {
        group: request.group_id.to_string(),
        generation: Generation(request.generation_id_or_member_epoch),
        member_id: request.member_id.to_string(),
        instance_id: owned(&request.group_instance_id),
        retention_ms: retention.filter(|_| RETENTION_VERSIONS.contains(&version)),
        knows_group_id_not_found: version >= FIRST_GROUP_ID_NOT_FOUND_VERSION,
        topics,
    };
    (commit, known)
}

fn topic_commit(context: &Context, topic: &OffsetCommitRequestTopic, errors: &Errors) -> TopicCommit {
    let good = topic.partitions.iter().zip(&errors.partitions);
    let good = good.filter(|(_, (_, failure))| failure.is_none());
    TopicCommit {
        topic: topic.name.to_string(),
        topic_id: context.view.catalog.topic(&topic.name).map(|topic| topic.id.0),
        partitions: good.map(|(partition, _)| partition_commit(partition)).collect(),
    }
}

fn partition_commit(partition: &OffsetCommitRequestPartition) -> PartitionCommit {
    PartitionCommit {
        partition: partition.partition_index,
        offset: Offset(partition.committed_offset),
        leader_epoch: Some(partition.committed_leader_epoch).filter(|epoch| *epoch >= 0),
        metadata: owned(&partition.committed_metadata).unwrap_or_default(),
    }
}

async fn commit_offsets(context: &Context, commit: OffsetCommit) -> Result<Vec<TopicOutcome>, Failure> {
    let group = commit.group.clone();
    if commit.topics.is_empty() {
        return Ok(Vec::new());
    }
    match ask(context, &group, Request::OffsetCommit(commit)).await {
        Ok(Outcome::OffsetCommit(topics)) => Ok(topics),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(errors::coordinator(error)),
    }
}

// --- OffsetFetch ---

/// Describe on each group, and on each topic; topics that are not named are left out.
impl Answer for OffsetFetchRequest {
    async fn answer(self, context: Context) -> Reply {
        let response = match context.version() {
            FIRST_BATCHED_VERSION.. => fetch_groups(&context, self).await,
            _ => fetch_group(&context, self).await,
        };
        context.respond(&response)
    }
}

/// The topics that a group's offsets are asked of; none for all.
type Asked = Option<Vec<(TopicName, Vec<i32>)>>;

async fn fetch_groups(context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let topics = group.topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
        groups.push(
            match fetch(context, &group.group_id, topics, request.require_stable).await {
                Ok(topics) => response.with_topics(topics.into_iter().map(batched_topic).collect()),
                Err(failure) => response.with_error_code(failure.code()),
            },
        );
    }
    OffsetFetchResponse::default().with_groups(groups)
}

/// Before version 8 there is one group, and the answer is the response itself.
async fn fetch_group(context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics.map(|topic| (topic.name, topic.partition_indexes)).collect()
    });
    let topics: Asked = topics;
    let response = OffsetFetchResponse::default();
    match fetch(context, &request.group_id, topics.clone(), request.require_stable).await {
        Ok(topics) => response.with_topics(topics.into_iter().map(topic).collect()),
        Err(failure) if context.version() >= FIRST_GROUP_ERROR_VERSION => response.with_error_code(failure.code()),
        Err(failure) => {
            let topics = topics.unwrap_or_default().into_iter();
            response.with_topics(topics.map(|asked| topic(refused(asked, &failure))).collect())
        }
    }
}

/// A topic's offsets, each with an error code.
type Fetched = (TopicName, Vec<(PartitionOffset, i16)>);

async fn fetch(
    context: &Context,
    group: &GroupId,
    asked: Asked,
    require_stable: bool,
) -> Result<Vec<Fetched>, Failure> {
    context.authorize(Operation::Describe, Resource::Group(group))?;
    let allowed = |topic: &str| context.authorize(Operation::Describe, Resource::Topic(topic));
    let Some(asked) = asked else {
        let topics = fetch_allowed(context, group, None, require_stable).await?;
        let visible = topics.into_iter().filter(|topic| allowed(&topic.topic).is_ok());
        return Ok(visible.map(found).collect());
    };
    let mut wanted = Vec::with_capacity(asked.len());
    for (topic, partitions) in &asked {
        if allowed(topic).is_ok() {
            wanted.push((topic.to_string(), partitions.clone()));
        }
    }
    let mut topics = fetch_allowed(context, group, Some(wanted), require_stable)
        .await?
        .into_iter();
    let each = asked.into_iter().map(|asked| match allowed(&asked.0) {
        Ok(()) => topics.next().map_or_else(|| refused(asked, &unexpected()), found),
        Err(failure) => refused(asked, &failure),
    });
    Ok(each.collect())
}

async fn fetch_allowed(
    context: &Context,
    group: &GroupId,
    topics: Option<Vec<(String, Vec<i32>)>>,
    require_stable: bool,
) -> Result<Vec<TopicOffsets>, Failure> {
    let fetch = OffsetFetch {
        groups: vec![GroupFetch {
            group: group.to_string(),
            topics,
        }],
        require_stable,
    };
    let mut groups = match ask(context, group, Request::OffsetFetch(fetch)).await {
        Ok(Outcome::OffsetFetch(groups)) => groups,
        Ok(_) => return Err(unexpected()),
        Err(error) => return Err(errors::coordinator(error)),
    };
    let group = groups.pop().ok_or_else(unexpected)?;
    group.topics.map_err(errors::coordinator)
}

fn found(topic: TopicOffsets) -> Fetched {
    let partitions = topic.partitions.into_iter();
    let with_code = |partition: PartitionOffset| {
        let code = partition
            .error
            .map_or(0, |error: Error| errors::coordinator(error).code());
        (partition, code)
    };
    (TopicName(text(&topic.topic)), partitions.map(with_code).collect())
}

fn refused((topic, partitions): (TopicName, Vec<i32>), failure: &Failure) -> Fetched {
    let nothing = |partition| PartitionOffset {
        partition,
        offset: Offset(NONE),
        leader_epoch: None,
        metadata: String::new(),
        error: None,
    };
    let partitions = partitions.into_iter();
    (
        topic,
        partitions.map(|index| (nothing(index), failure.code())).collect(),
    )
}

fn batched_topic((name, partitions): Fetched) -> OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|(partition, code)| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(partition.offset.0)
            .with_committed_leader_epoch(partition.leader_epoch.unwrap_or(NO_EPOCH))
            .with_metadata(Some(text(&partition.metadata)))
            .with_error_code(code)
    });
    OffsetFetchResponseTopics::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}

fn topic((name, partitions): Fetched) -> OffsetFetchResponseTopic {
    let partitions = partitions.into_iter().map(|(partition, code)| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(partition.offset.0)
            .with_committed_leader_epoch(partition.leader_epoch.unwrap_or(NO_EPOCH))
            .with_metadata(Some(text(&partition.metadata)))
            .with_error_code(code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}

// --- OffsetDelete ---

/// Delete on the group, and Read on each topic.
impl Answer for OffsetDeleteRequest {
    async fn answer(self, context: Context) -> Reply {
        let response = match delete(&context, &self).await {
            Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
            Err(failure) => OffsetDeleteResponse::default().with_error_code(failure.code()),
        };
        context.respond(&response)
    }
}

async fn delete(context: &Context, request: &OffsetDeleteRequest) -> Result<Vec<OffsetDeleteResponseTopic>, Failure> {
    let group = request.group_id.as_str();
    context.authorize(Operation::Delete, Resource::Group(group))?;
    let mut wanted = Vec::with_capacity(request.topics.len());
    let mut known = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let errors = check(context, Operation::Read, &topic.name, indexes, is_there);
        let good = errors.partitions.iter().filter(|(_, failure)| failure.is_none());
        let good: Vec<i32> = good.map(|(index, _)| *index).collect();
        if !good.is_empty() {
            wanted.push((topic.name.to_string(), good));
        }
        known.push(errors);
    }
    let delete = OffsetDelete {
        group: group.to_owned(),
        topics: wanted,
    };
    let outcomes = match ask(context, group, Request::OffsetDelete(delete)).await {
        Ok(Outcome::OffsetDelete(result)) => result.map_err(errors::coordinator)?,
        Ok(_) => return Err(unexpected()),
        Err(error) => return Err(errors::coordinator(error)),
    };
    let mut outcomes = codes(Ok(outcomes));
    let topics = known.into_iter().map(|errors| {
        let (topic, partitions) = errors.complete(&mut outcomes);
        let partitions = partitions.into_iter().map(|(index, code)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic)
            .with_partitions(partitions.collect())
    });
    Ok(topics.collect())
}
