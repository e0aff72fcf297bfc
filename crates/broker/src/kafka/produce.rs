//! Produce: checks each partition's batch, appends it in the order of the connection, and answers when the acks ask.

mod check;

use super::errors::{self, Failure};
use super::{done, partitions};
use crate::clock::wall_clock_ms;
use crate::engine::{Acks, AppendError, Appended, ClusterView, Engine, Pending};
use crate::ids;
use bytes::BytesMut;
use kafka_protocol::ResponseError;
use std::time::Duration;
use tokio::time::Instant;
use trimaran_raft::GroupId;
use trimaran_registry::topic_config::TimestampType;
use trimaran_registry::{PartitionIndex, TopicConfig};
use trimaran_transport::Reply;
use trimaran_transport::Work;
use trimaran_wire::api::RequestHeader;
use trimaran_wire::batch;
use trimaran_wire::produce::{
    FIRST_SERVED_VERSION, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopicResponse, encode_response,
};
use trimaran_wire::{LeaderHint, LeaderHint as Hint};

/// The first version with hints to the new leader (KIP-951).
const FIRST_HINT_VERSION: i16 = 10;

/// One partition of a request.
enum Part {
    /// It was refused before it reached its group.
    Refused(Failure),
    /// It is on its way.
    Appending {
        group: GroupId,
        /// The time of appending, if the topic stamps it.
        log_append_time_ms: i64,
        answer: Pending<Result<Appended, AppendError>>,
    },
}

/// A topic of a request, with its partitions' numbers.
struct Topic {
    name: String,
    parts: Vec<(i32, Part)>,
}

/// Hands over every batch before it returns; what it returns waits for the answers.
pub(super) fn begin(engine: Engine, header: RequestHeader, request: ProduceRequest) -> Work {
    let view = engine.view();
    let rules = Rules::of(&header, &request);
    let acks = request.acks;
    let deadline = deadline(acks, request.timeout_ms, Instant::now());
    let topics = request.topics.into_iter().map(|topic| {
        let parts = topic.partitions.into_iter();
        let parts = parts.map(|part| (part.index, begin_part(&engine, &view, &rules, &topic.name, part)));
        Topic {
            parts: parts.collect(),
            name: topic.name,
        }
    });
    let topics: Vec<Topic> = topics.collect();
    if topics.is_empty() {
        return done(finish(&header, acks, ProduceResponse::default()));
    }
    Box::pin(async move {
        let response = collect(&engine, header.version, topics, deadline).await;
        finish(&header, acks, response)
    })
}

/// Until when the producer waits for the in-sync replicas; none if it does not wait for them. The timeout of a request says
/// nothing about the leader's own log (Kafka's `timeout.ms`): a producer that were told so, although its batch is stored,
/// would store it twice.
fn deadline(acks: i16, timeout_ms: i32, now: Instant) -> Option<Instant> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    (acks == -1).then(|| now + timeout)
}

/// What holds for all batches of a request alike.
struct Rules {
    version: i16,
    acks: Result<Acks, Failure>,
    now_ms: i64,
}

impl Rules {
    fn of(header: &RequestHeader, request: &ProduceRequest) -> Rules {
        Rules {
            version: header.version,
            acks: acks(header.version, request),
            now_ms: wall_clock_ms(),
        }
    }
}

fn acks(version: i16, request: &ProduceRequest) -> Result<Acks, Failure> {
    if version < FIRST_SERVED_VERSION {
        let message = "Produce before version 3 is offered only so that old clients keep compression on";
        return Err(Failure::new(ResponseError::UnsupportedVersion, message));
    }
    if request.transactional_id.is_some() {
        return Err(check::no_transactions());
    }
    match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        other => {
            let message = format!("acks must be 0, 1 or -1 (all), not {other}");
            Err(Failure::new(ResponseError::InvalidRequiredAcks, message))
        }
    }
}

fn begin_part(engine: &Engine, view: &ClusterView, rules: &Rules, topic: &str, part: ProducePartition) -> Part {
    match prepare(view, rules, topic, part) {
        Ok(prepared) => Part::Appending {
            group: prepared.group,
            log_append_time_ms: prepared.log_append_time_ms,
            answer: engine.append(prepared.group, prepared.batch, prepared.acks),
        },
        Err(failure) => Part::Refused(failure),
    }
}

/// A batch that may be appended.
struct Prepared {
    group: GroupId,
    acks: Acks,
    batch: BytesMut,
    /// -1 if the producer's timestamps stay.
    log_append_time_ms: i64,
}

fn prepare(view: &ClusterView, rules: &Rules, topic: &str, part: ProducePartition) -> Result<Prepared, Failure> {
    let acks = rules.acks.clone()?;
    let found = view.catalog.topic(topic).ok_or_else(errors::unknown_partition)?;
    let partition = found
        .partition(PartitionIndex(part.index))
        .ok_or_else(errors::unknown_partition)?;
    let records = part.records.ok_or_else(check::no_batch)?;
    check::batch(&records, rules.version, &found.config, rules.now_ms)?;
    // In memory of its own: as a slice, a small batch would keep the whole frame that it came in, and whatever else the
    // connection's buffer held, for as long as it is in the tail. The copy is the only one on its way.
    let mut batch = BytesMut::from(&records[..]);
    Ok(Prepared {
        group: ids::group(partition.group),
        acks,
        log_append_time_ms: stamp_time(&mut batch, &found.config, rules.now_ms),
        batch,
    })
}

/// Rewrites the batch's timestamps if the topic wants the time of appending, and returns that time.
fn stamp_time(batch: &mut BytesMut, config: &TopicConfig, now_ms: i64) -> i64 {
    match config.timestamp_type {
        TimestampType::CreateTime => -1,
        TimestampType::LogAppendTime => {
            batch::set_log_append_time(batch, now_ms);
            now_ms
        }
    }
}

async fn collect(engine: &Engine, version: i16, topics: Vec<Topic>, deadline: Option<Instant>) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    let mut hints = Vec::new();
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.parts.len());
        for (index, part) in topic.parts {
            let mut outcome = collect_part(engine, index, part, deadline).await;
            outcome.current_leader = outcome.current_leader.filter(|_| version >= FIRST_HINT_VERSION);
            hints.extend(outcome.current_leader);
            partitions.push(outcome);
        }
        response.topics.push(ProduceTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    response.node_endpoints = partitions::endpoints(&engine.view(), hints.into_iter());
    response
}

async fn collect_part(engine: &Engine, index: i32, part: Part, deadline: Option<Instant>) -> ProducePartitionResponse {
    let (group, log_append_time_ms, answer) = match part {
        Part::Refused(failure) => return refused(index, failure),
        Part::Appending {
            group,
            log_append_time_ms,
            answer,
        } => (group, log_append_time_ms, answer),
    };
    let outcome = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, answer).await.ok(),
        None => Some(answer.await),
    };
    match outcome {
        Some(Ok(appended)) => ProducePartitionResponse {
            // A duplicate keeps the time that its original was given, which is not known here.
            log_append_time_ms: if appended.duplicate { -1 } else { log_append_time_ms },
            ..ProducePartitionResponse::stored(index, appended.base_offset, appended.start_offset)
        },
        Some(Err(error)) => ProducePartitionResponse {
            current_leader: hint(engine, group, &error),
            ..refused(index, errors::append(&error))
        },
        None => refused(index, check::timed_out()),
    }
}

fn refused(index: i32, failure: Failure) -> ProducePartitionResponse {
    ProducePartitionResponse::refused(index, failure.code(), Some(failure.message))
}

/// Who leads instead, if the error says that this broker does not: what the cluster's view knows, unless the replica
/// here knows another one.
fn hint(engine: &Engine, group: GroupId, error: &AppendError) -> Option<LeaderHint> {
    match error {
        AppendError::NotLeader { .. } | AppendError::UnknownGroup | AppendError::Lost => {}
        AppendError::NotServing
        | AppendError::Busy
        | AppendError::NotEnoughReplicas { .. }
        | AppendError::NotEnoughReplicasAfterAppend { .. }
        | AppendError::BadBatch(_)
        | AppendError::OutOfOrderSequence { .. }
        | AppendError::Fenced
        | AppendError::Storage => return None,
    }
    let hint: Hint = partitions::hint(&engine.view(), engine.broker_id(), group)?;
    let agrees = errors::other_leader(error).is_none_or(|leader| ids::broker(leader).0 == hint.leader_id);
    agrees.then_some(hint)
}

/// With acks=0 the producer expects no answer, so an error can only be told by closing the connection, as Kafka does.
fn finish(header: &RequestHeader, acks: i16, response: ProduceResponse) -> Reply {
    if acks != 0 {
        return Reply::Frame(encode_response(header.version, header.correlation_id, &response));
    }
    let failed = response.topics.iter().flat_map(|topic| {
        let failed = topic.partitions.iter().filter(|partition| partition.error_code != 0);
        failed.map(|partition| (&topic.name, partition))
    });
    match failed.into_iter().next() {
        None => Reply::Nothing,
        Some((topic, partition)) => {
            let (index, code) = (partition.index, partition.error_code);
            let message = partition.error_message.as_deref().unwrap_or_default();
            tracing::info!(
                topic,
                partition = index,
                code,
                message,
                "closes a connection that produced with acks=0"
            );
            Reply::Close
        }
    }
}
