//! ListOffsets and OffsetForLeaderEpoch.

#[cfg(test)]
mod tests;

use super::authorization::{Operation, Resource};
use super::context::{Answer, Context};
use super::decompression::{Decompression, MAX_DECOMPRESSED_BYTES};
use super::errors::{self, Failure};
use super::partitions;
use crate::engine::{ClusterView, Engine, ReadError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use trimaran_multiraft::{OffsetAnswer, OffsetLookup, OffsetQuery};
use trimaran_raft::GroupId;
use trimaran_storage::log::Chunk;
use trimaran_transport::Reply;
use trimaran_wire::batch::{self, BatchHeader, LeaderEpoch, Offset};

/// Timestamps that are questions of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

/// The leader epoch of an offset whose epoch is unknown.
const NO_EPOCH: i32 = -1;

/// The first version of ListOffsets that tells leader epochs.
const FIRST_EPOCH_VERSION: i16 = 4;

/// The time that a question for a timestamp may wait until its batch is read, where many are. Below the 30 s that
/// clients wait for an answer by default.
const SEARCH_WITHIN: Duration = Duration::from_secs(10);

/// Describe on each topic.
impl Answer for ListOffsetsRequest {
    async fn answer(self, context: Context) -> Reply {
        context.respond(&list(&context, &self).await)
    }
}

/// Every partition's question is asked before the first answer is waited for.
async fn list(context: &Context, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let (engine, version) = (context.engine(), context.version());
    let twice = asked_twice(request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (topic.name.as_str(), partition.partition_index))
    }));
    let questions: Vec<_> = request
        .topics
        .iter()
        .map(|topic| {
            let name = topic.name.as_str();
            let allowed = context.authorize(Operation::Describe, Resource::Topic(name));
            let ask = |partition: &ListOffsetsPartition| {
                let index = partition.partition_index;
                let is_twice = twice.contains(&(name, index));
                let asked = allowed
                    .clone()
                    .and_then(|()| question(&context.view, version, name, partition, is_twice));
                (index, asked.map(|question| question.ask(engine)))
            };
            (topic.name.clone(), topic.partitions.iter().map(ask).collect::<Vec<_>>())
        })
        .collect();
    let mut topics = Vec::with_capacity(questions.len());
    for (name, partitions) in questions {
        let mut answers = Vec::with_capacity(partitions.len());
        for (index, asked) in partitions {
            let found = match asked {
                Ok(asked) => asked.found(engine, &context.shared.decompression, version).await,
                Err(failure) => Err(failure),
            };
            answers.push(listed(version, index, found));
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(name)
                .with_partitions(answers),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Partitions that a request names more than once: which answer would be whose?
fn asked_twice<'a>(partitions: impl Iterator<Item = (&'a str, i32)>) -> BTreeSet<(&'a str, i32)> {
    let mut seen = BTreeSet::new();
    partitions.filter(|partition| !seen.insert(*partition)).collect()
}

/// One partition's question.
struct Question {
    group: GroupId,
    query: OffsetQuery,
    current_epoch: Option<LeaderEpoch>,
}

fn question(
    view: &ClusterView,
    version: i16,
    topic: &str,
    partition: &ListOffsetsPartition,
    twice: bool,
) -> Result<Question, Failure> {
    if twice {
        return Err(Failure::new(
            ResponseError::InvalidRequest,
            "a partition is named twice",
        ));
    }
    Ok(Question {
        group: partitions::group(view, topic, partition.partition_index)?,
        query: query(version, partition.timestamp)?,
        current_epoch: epoch(partition.current_leader_epoch),
    })
}

/// -1 is none: the client does not want its epoch checked.
fn epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

fn query(version: i16, timestamp: i64) -> Result<OffsetQuery, Failure> {
    match timestamp {
        LATEST => Ok(OffsetQuery::Latest),
        EARLIEST => Ok(OffsetQuery::Earliest),
        MAX_TIMESTAMP if version >= 7 => Ok(OffsetQuery::MaxTimestamp),
        // There is no tiered storage, so what is local is everything (KIP-405).
        EARLIEST_LOCAL if version >= 8 => Ok(OffsetQuery::Earliest),
        0.. => Ok(OffsetQuery::Timestamp(timestamp)),
        _ => Err(Failure::new(
            ResponseError::UnsupportedVersion,
            "this timestamp is not defined in this version",
        )),
    }
}

impl Question {
    fn ask(self, engine: &Engine) -> Asked {
        Asked {
            answer: engine.offsets(self.group, self.query, self.current_epoch),
            question: self,
        }
    }
}

/// A question that a shard has.
struct Asked {
    question: Question,
    answer: crate::engine::Pending<Result<OffsetLookup, ReadError>>,
}

/// An offset that was found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    offset: Offset,
    timestamp_ms: i64,
    epoch: i32,
}

impl Found {
    /// An offset that does not belong to a record that was looked at.
    fn at(offset: Offset, epoch: i32) -> Found {
        Found {
            offset,
            timestamp_ms: -1,
            epoch,
        }
    }

    /// There is no such record; that is no error.
    fn nothing() -> Found {
        Found::at(Offset(-1), NO_EPOCH)
    }
}

impl Asked {
    async fn found(self, engine: &Engine, decompression: &Decompression, version: i16) -> Result<Found, Failure> {
        let Question { group, query, .. } = self.question;
        let lookup = self.answer.await.map_err(|error| errors::lookup(&error, version))?;
        match lookup.answer {
            // The epoch of the first record is not known without reading it, and -1 says so.
            OffsetAnswer::At(offset) if query == OffsetQuery::Earliest => Ok(Found::at(offset, NO_EPOCH)),
            OffsetAnswer::At(offset) => Ok(Found::at(offset, lookup.epoch.0)),
            OffsetAnswer::InBatch(meta, chunk) => {
                let timestamp_ms = match query {
                    OffsetQuery::Timestamp(timestamp_ms) => timestamp_ms,
                    OffsetQuery::Earliest
                    | OffsetQuery::Latest
                    | OffsetQuery::MaxTimestamp
                    | OffsetQuery::EpochEnd { .. } => meta.max_timestamp,
                };
                search(engine, decompression, group, chunk, timestamp_ms).await
            }
            OffsetAnswer::None | OffsetAnswer::EpochEnd(..) => Ok(Found::nothing()),
        }
    }
}

/// Finds the record in its batch, on a thread that may block: the batch may have to be read and decompressed. Only so
/// many batches are in memory for that at a time, of all requests together.
async fn search(
    engine: &Engine,
    decompression: &Decompression,
    group: GroupId,
    chunk: Chunk,
    timestamp_ms: i64,
) -> Result<Found, Failure> {
    let deadline = Instant::now() + SEARCH_WITHIN;
    let slot = decompression.slot(deadline).await?;
    let loaded = engine
        .load(group, vec![chunk])
        .await
        .map_err(|error| errors::storage(&error))?;
    let Some(batch) = loaded.into_iter().next() else {
        return Ok(Found::nothing());
    };
    let found = slot
        .read(batch, 0, deadline, move |bytes| search_batch(bytes, timestamp_ms))
        .await?;
    Ok(found?.unwrap_or_else(Found::nothing))
}

/// The record in a stored batch. If its records can't be read (earlier versions did not look at them before they stored
/// a batch), the batch's first offset is the best answer: nothing that the client wants lies before.
fn search_batch(bytes: &[u8], timestamp_ms: i64) -> Result<Option<Found>, Failure> {
    let header = BatchHeader::parse(bytes).map_err(|error| errors::storage(&error))?;
    let found = match batch::find_timestamp(bytes, timestamp_ms, MAX_DECOMPRESSED_BYTES) {
        Ok(found) => found,
        Err(_) => Some((header.base_offset, header.max_timestamp)),
    };
    Ok(found.map(|(offset, timestamp_ms)| Found {
        offset,
        timestamp_ms,
        epoch: header.leader_epoch.0,
    }))
}

fn listed(version: i16, index: i32, found: Result<Found, Failure>) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Ok(found) => response
            .with_timestamp(found.timestamp_ms)
            .with_offset(found.offset.0)
            .with_leader_epoch(if version >= FIRST_EPOCH_VERSION {
                found.epoch
            } else {
                NO_EPOCH
            }),
        Err(failure) => response
            .with_error_code(failure.code())
            .with_timestamp(-1)
            .with_offset(-1),
    }
}

/// Describe on each topic, or ClusterAction on the cluster.
impl Answer for OffsetForLeaderEpochRequest {
    async fn answer(self, context: Context) -> Reply {
        context.respond(&epoch_ends(&context, &self).await)
    }
}

/// Finds where epochs end. A consumer that has read beyond the end of an epoch was misled by a leader that lost its
/// last records (KIP-320).
async fn epoch_ends(context: &Context, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let (engine, access) = (context.engine(), context.access());
    let may_describe_all = access.allows(Operation::ClusterAction, Resource::Cluster);
    let questions: Vec<_> = request
        .topics
        .iter()
        .map(|topic| {
            let name = topic.topic.as_str();
            let allowed = match may_describe_all {
                true => Ok(()),
                false => access.authorize(Operation::Describe, Resource::Topic(name)),
            };
            let ask = |partition: &OffsetForLeaderPartition| {
                let group = allowed
                    .clone()
                    .and_then(|()| partitions::group(&context.view, name, partition.partition));
                let query = OffsetQuery::EpochEnd {
                    epoch: LeaderEpoch(partition.leader_epoch),
                };
                let current = epoch(partition.current_leader_epoch);
                (
                    partition.partition,
                    LeaderEpoch(partition.leader_epoch),
                    group.map(|group| engine.offsets(group, query, current)),
                )
            };
            (
                topic.topic.clone(),
                topic.partitions.iter().map(ask).collect::<Vec<_>>(),
            )
        })
        .collect();
    let mut topics = Vec::with_capacity(questions.len());
    for (name, partitions) in questions {
        let mut answers = Vec::with_capacity(partitions.len());
        for (index, asked_epoch, asked) in partitions {
            let end = match asked {
                Ok(pending) => epoch_end(asked_epoch, pending.await),
                Err(failure) => Err(failure),
            };
            answers.push(ended(index, end));
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(name)
                .with_partitions(answers),
        );
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

/// The largest epoch not above the one asked for, and its end; none if the epoch is unknown, which is no error: one
/// that is negative, before everything that is held, or above what this leader has seen.
fn epoch_end(
    asked: LeaderEpoch,
    answer: Result<OffsetLookup, ReadError>,
) -> Result<Option<(LeaderEpoch, Offset)>, Failure> {
    let lookup = answer.map_err(|error| errors::read(&error))?;
    if asked.0 < 0 || asked > lookup.epoch {
        return Ok(None);
    }
    match lookup.answer {
        OffsetAnswer::EpochEnd(epoch, end) => Ok(Some((epoch, end))),
        OffsetAnswer::At(_) | OffsetAnswer::InBatch(..) | OffsetAnswer::None => Ok(None),
    }
}

fn ended(index: i32, end: Result<Option<(LeaderEpoch, Offset)>, Failure>) -> EpochEndOffset {
    let response = EpochEndOffset::default().with_partition(index);
    match end {
        Ok(Some((epoch, end))) => response.with_leader_epoch(epoch.0).with_end_offset(end.0),
        Ok(None) => response.with_leader_epoch(NO_EPOCH).with_end_offset(-1),
        Err(failure) => response
            .with_error_code(failure.code())
            .with_leader_epoch(NO_EPOCH)
            .with_end_offset(-1),
    }
}
