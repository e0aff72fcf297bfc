//! Fetch: whole batches below the high watermark, as soon as there are enough of them.
//!
//! A request is answered in passes. A pass reads every partition at once. If it found enough, or an error, or the time
//! is over, it is the answer; otherwise the request waits until a partition has something new, and begins another pass.

mod limits;
mod records;
mod replica;
mod wait;

use self::records::Records;
use super::authorization::{Operation, Resource};
use super::context::{Answer, Context};
use super::errors::{self, Failure};
use super::partitions;
use crate::engine::{Engine, ReadError, ReadResult};
use kafka_protocol::ResponseError;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use trimaran_multiraft::{OffsetAnswer, OffsetQuery};
use trimaran_raft::GroupId;
use trimaran_registry::topic_config::CompressionType;
use trimaran_storage::log::Chunk;
use trimaran_transport::{Part, Reply, Source};
use trimaran_wire::LeaderHint;
use trimaran_wire::batch::{LeaderEpoch, Offset};
use trimaran_wire::fetch::{
    FIRST_TOPIC_ID_VERSION, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
    FetchTopicResponse, encode_around_records, encode_response,
};

/// The first version with hints to the new leader (KIP-951).
const FIRST_HINT_VERSION: i16 = 16;

/// The first version whose clients can read zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 10;

/// Bytes of records in one response, whatever the client asks for: Kafka's `fetch.max.bytes` for brokers, and its
/// default.
const MAX_RESPONSE_BYTES: usize = 55 << 20;

/// A partition of a request, in the order of the request.
#[derive(Clone, Debug)]
struct Wanted {
    index: i32,
    group: Result<GroupId, Failure>,
    from: Offset,
    current_epoch: Option<LeaderEpoch>,
    last_fetched_epoch: Option<LeaderEpoch>,
    max_bytes: usize,
}

/// A request whose names have become groups.
struct Plan {
    version: i16,
    /// Partitions of each topic, by position among `wanted`.
    topics: Vec<(FetchTopic, std::ops::Range<usize>)>,
    wanted: Vec<Wanted>,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
    reader: replica::Reader,
}

/// The outcome of a pass for a partition.
enum Found {
    Failed(Failure, Option<LeaderHint>),
    /// The consumer's log departs from this one.
    Diverging(LeaderEpoch, Offset, ReadResult),
    /// The consumer should read elsewhere.
    Elsewhere(i32, ReadResult),
    Read(ReadResult),
}

impl Found {
    /// Bytes of records.
    fn bytes(&self) -> usize {
        match self {
            Found::Read(result) => result.chunks.iter().map(chunk_len).sum(),
            Found::Failed(..) | Found::Diverging(..) | Found::Elsewhere(..) => 0,
        }
    }

    /// Drops the records; a new pass finds them again.
    fn drop_records(&mut self) {
        if let Found::Read(result) = self {
            result.chunks.clear();
        }
    }

    /// The client should know at once.
    fn is_urgent(&self) -> bool {
        !matches!(self, Found::Read(_))
    }
}

fn chunk_len(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Memory(bytes) => bytes.len(),
        Chunk::File(slice) => slice.len(),
    }
}

/// Bytes of records that are read before a response begins, so that damage to them is told as an error of their
/// partition. What follows is read as the socket takes it; damage there ends the connection, and the next request,
/// which begins at it, gets the error.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// A partition whose first records are not there after so long may wait for memory. What was read of those before it is
/// given back meanwhile, and read again later: others could wait for it in turn.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(500);

/// Read on each topic. A request that claims to come from another broker (`replica_id`) is a consumer's like any other:
/// brokers replicate in another way.
impl Answer for FetchRequest {
    async fn answer(self, context: Context) -> Reply {
        fetch(context, self).await
    }
}

async fn fetch(context: Context, request: FetchRequest) -> Reply {
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let (version, id) = (context.version(), context.header.correlation_id);
    if let Some(error) = refuse_session(&request) {
        let response = FetchResponse {
            error_code: error.code(),
            ..FetchResponse::default()
        };
        return Reply::Frame(encode_response(version, id, &response));
    }
    let plan = Plan::new(&context, request);
    // The view is not kept while the request waits: newer ones take its place.
    let shared = context.shared;
    let engine = &shared.engine;
    let found = long_poll(engine, &plan, deadline).await;
    let (response, records) = assemble(engine, plan, found).await;
    if records.iter().all(Option::is_none) {
        return Reply::Frame(encode_response(version, id, &response));
    }
    let lengths: Vec<usize> = records
        .iter()
        .map(|records| records.as_ref().map_or(0, Source::remaining))
        .collect();
    let around = encode_around_records(version, id, &response, &lengths);
    let mut parts = Vec::with_capacity(2 * around.len());
    let mut records = records.into_iter();
    for bytes in around {
        parts.push(Part::Bytes(bytes));
        if let Some(records) = records.next().flatten() {
            parts.push(Part::Source(Box::new(records)));
        }
    }
    Reply::Parts(parts)
}

/// Sessions are declined by answering with session 0, which is always allowed. So a client that names a session that
/// goes on names one that this broker never gave (KIP-227).
fn refuse_session(request: &FetchRequest) -> Option<ResponseError> {
    let full = matches!(request.session_epoch, 0 | -1);
    (!full).then_some(ResponseError::FetchSessionIdNotFound)
}

impl Plan {
    fn new(context: &Context, request: FetchRequest) -> Plan {
        let version = context.version();
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut wanted = Vec::new();
        for mut topic in request.topics {
            let first = wanted.len();
            let partitions = std::mem::take(&mut topic.partitions);
            let name = topic_name(context, &topic);
            wanted.extend(partitions.iter().map(|partition| want(context, &name, partition)));
            topics.push((topic, first..wanted.len()));
        }
        Plan {
            version,
            topics,
            wanted,
            min_bytes: size(request.min_bytes),
            max_bytes: size(request.max_bytes).min(MAX_RESPONSE_BYTES),
            read_committed: request.isolation_level == 1,
            reader: replica::Reader::new(context.engine(), version, &request.rack_id),
        }
    }
}

/// A size as clients say it; zero, if it is negative.
fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

/// The name of a topic that the client may read. There may be no such topic.
fn topic_name<'a>(context: &'a Context, topic: &'a FetchTopic) -> Result<&'a str, Failure> {
    let name = if context.version() >= FIRST_TOPIC_ID_VERSION {
        &*partitions::topic_by_id(&context.view, topic.topic_id)?.name
    } else {
        topic.name.as_str()
    };
    context.authorize(Operation::Read, Resource::Topic(name))?;
    Ok(name)
}

fn want(context: &Context, topic: &Result<&str, Failure>, partition: &FetchPartition) -> Wanted {
    let topic = topic.clone();
    Wanted {
        index: partition.index,
        group: topic.and_then(|topic| {
            check_compression(context, topic)?;
            partitions::group(&context.view, topic, partition.index)
        }),
        from: partition.fetch_offset,
        current_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
        max_bytes: size(partition.max_bytes),
    }
}

/// Clients that can't read what their topic is compressed with are told so. What a producer chose is not looked at: as in Kafka.
fn check_compression(context: &Context, topic: &str) -> Result<(), Failure> {
    let topic = context.view.catalog.topic(topic);
    let is_zstd = topic.is_some_and(|topic| matches!(topic.config.compression, CompressionType::Zstd(_)));
    if is_zstd && context.version() < FIRST_ZSTD_VERSION {
        let message = "the topic is compressed with zstd, which needs Fetch version 10 or later";
        return Err(Failure::new(ResponseError::UnsupportedCompressionType, message));
    }
    Ok(())
}

/// Passes, until one is the answer. A broker that stops answers at once.
async fn long_poll(engine: &Engine, plan: &Plan, deadline: Instant) -> Vec<Found> {
    loop {
        let mut found = pass(engine, plan).await;
        let bytes: usize = found.iter().map(Found::bytes).sum();
        let enough = bytes >= plan.min_bytes || found.iter().any(Found::is_urgent);
        if enough || plan.wanted.is_empty() || Instant::now() >= deadline || engine.is_stopping() {
            return found;
        }
        // A client that waits for more must not hold on to what the tails give back meanwhile.
        found.iter_mut().for_each(Found::drop_records);
        tokio::select! {
            () = wait::for_news(engine, plan, &found) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = engine.stopping() => {}
        }
        if bytes == 0 && (Instant::now() >= deadline || engine.is_stopping()) {
            return found;
        }
    }
}

/// Reads every partition once.
async fn pass(engine: &Engine, plan: &Plan) -> Vec<Found> {
    // All are asked before the first answer is waited for.
    let readings: Vec<_> = plan
        .wanted
        .iter()
        .map(|wanted| {
            let reading = wanted.group.as_ref().map(|group| {
                let max_bytes = wanted.max_bytes.min(plan.max_bytes);
                engine.read(plan.reader.request(*group, wanted, max_bytes, false))
            });
            (wanted, reading)
        })
        .collect();
    let mut budget = limits::Budget::new(plan.max_bytes);
    let mut all = Vec::with_capacity(readings.len());
    for (wanted, reading) in readings {
        let found = match reading {
            Err(failure) => Found::Failed(failure.clone(), None),
            Ok(reading) => found(engine, plan, wanted, reading.await).await,
        };
        all.push(limits::within(engine, plan, wanted, &mut budget, found).await);
    }
    all
}

async fn found(engine: &Engine, plan: &Plan, wanted: &Wanted, read: Result<ReadResult, ReadError>) -> Found {
    let Ok(group) = wanted.group else {
        return Found::Failed(errors::unknown_partition(), None);
    };
    let result = match read {
        Ok(result) => result,
        Err(error) => return failed(engine, group, &error),
    };
    if let Some((epoch, end)) = diverging(engine, group, wanted).await {
        return Found::Diverging(epoch, end, result);
    }
    match plan.reader.elsewhere(engine, &result) {
        Some(broker) => Found::Elsewhere(broker, result),
        None => Found::Read(result),
    }
}

fn failed(engine: &Engine, group: GroupId, error: &ReadError) -> Found {
    let hint = match error {
        ReadError::NotLeader { .. } | ReadError::UnknownGroup | ReadError::FencedEpoch => {
            partitions::hint(&engine.view(), engine.broker_id(), group)
        }
        ReadError::NotServing
        | ReadError::UnknownEpoch
        | ReadError::OutOfRange { .. }
        | ReadError::Cancelled
        | ReadError::Storage => None,
    };
    Found::Failed(errors::read(error), hint)
}

/// The place where the reader's log departs from this one, if it says which epoch its last record has (KIP-595): that epoch ended
/// before the offset that it has reached.
async fn diverging(engine: &Engine, group: GroupId, wanted: &Wanted) -> Option<(LeaderEpoch, Offset)> {
    let epoch = wanted.last_fetched_epoch?;
    let lookup = engine
        .offsets(group, OffsetQuery::EpochEnd { epoch }, wanted.current_epoch)
        .await;
    match lookup.ok()?.answer {
        OffsetAnswer::EpochEnd(found, end) if found < epoch || end < wanted.from => Some((found, end)),
        OffsetAnswer::EpochEnd(..) | OffsetAnswer::At(_) | OffsetAnswer::InBatch(..) | OffsetAnswer::None => None,
    }
}

/// The response in the order of the request, and the records of each partition.
async fn assemble(engine: &Engine, plan: Plan, found: Vec<Found>) -> (FetchResponse, Vec<Option<Records>>) {
    let mut partitions = Vec::with_capacity(found.len());
    let mut all_records: Vec<Option<Records>> = Vec::with_capacity(found.len());
    let mut ahead = READ_AHEAD_BYTES;
    for (wanted, found) in plan.wanted.iter().zip(found) {
        let mut answer = pin!(partition(engine, &plan, wanted, found, &mut ahead));
        let (response, records) = match timeout(GIVE_BACK_AFTER, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                for records in all_records.iter_mut().flatten() {
                    Records::put_back(records, 0);
                }
                answer.await
            }
        };
        partitions.push(response);
        all_records.push(records);
    }
    let hints = partitions.iter().filter_map(|partition| partition.current_leader);
    let node_endpoints = partitions::endpoints(&engine.view(), hints);
    let mut partitions = partitions.into_iter();
    let topics = plan.topics.into_iter().map(|(topic, range)| FetchTopicResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: partitions.by_ref().take(range.len()).collect(),
    });
    let response = FetchResponse {
        topics: topics.collect(),
        node_endpoints,
        ..FetchResponse::default()
    };
    (response, all_records)
}

async fn partition(
    engine: &Engine,
    plan: &Plan,
    wanted: &Wanted,
    found: Found,
    ahead: &mut usize,
) -> (FetchPartitionResponse, Option<Records>) {
    let response = match found {
        Found::Failed(failure, hint) => FetchPartitionResponse {
            current_leader: hint.filter(|_| plan.version >= FIRST_HINT_VERSION),
            ..FetchPartitionResponse::failed(wanted.index, failure.code())
        },
        Found::Diverging(epoch, end, result) => FetchPartitionResponse {
            diverging_epoch: Some((epoch, end)),
            ..read(plan, wanted, &result)
        },
        Found::Elsewhere(broker, result) => FetchPartitionResponse {
            preferred_read_replica: Some(broker),
            ..read(plan, wanted, &result)
        },
        Found::Read(mut result) => {
            let chunks = std::mem::take(&mut result.chunks);
            let group = wanted.group.as_ref().ok();
            let mut records = group.and_then(|group| Records::new(engine, *group, chunks));
            if let Some(records) = records
                .as_mut()
                .filter(|records| *ahead > 0 && records.begins_in_file())
            {
                match records.read_ahead(*ahead).await {
                    Ok(read) => *ahead = ahead.saturating_sub(read),
                    Err(error) => {
                        let failure = errors::storage(&error);
                        return (FetchPartitionResponse::failed(wanted.index, failure.code()), None);
                    }
                }
            }
            return (read(plan, wanted, &result), records);
        }
    };
    (response, None)
}

/// Without transactions everything below the high watermark is decided, so it is the last stable offset as well.
fn read(plan: &Plan, wanted: &Wanted, result: &ReadResult) -> FetchPartitionResponse {
    FetchPartitionResponse {
        high_watermark: result.high_watermark.0,
        last_stable_offset: result.high_watermark.0,
        log_start_offset: result.start_offset,
        aborted_transactions: plan.read_committed.then(Vec::new),
        ..FetchPartitionResponse::failed(wanted.index, 0)
    }
}
