//! Produce: checks each partition's batch, appends it in the order of the connection, and answers when the acks ask.

mod check;

use super::authorization::{Operation, Resource};
use super::context::{Answer, Context};
use super::decompression::{self, Decompression};
use super::errors::{self, Failure};
use super::partitions;
use super::turns::Turn;
use crate::clock::wall_clock_ms;
use crate::coordinators::topic as offsets_topic;
use crate::engine::{Acks, AppendError, Appended, ClusterView, Engine, Pending};
use crate::ids;
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use trimaran_raft::GroupId;
use trimaran_registry::topic_config::{CompressionType, TimestampType};
use trimaran_registry::{PartitionIndex, TopicConfig, catalog};
use trimaran_transport::Reply;
use trimaran_wire::api::RequestHeader;
use trimaran_wire::batch::{self, BatchHeader, Compressor, Contents};
use trimaran_wire::produce::{
    FIRST_SERVED_VERSION, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopicResponse, encode_response,
};
use trimaran_wire::{LeaderHint, LeaderHint as Hint};

/// The first version with hints to the new leader (KIP-951).
const FIRST_HINT_VERSION: i16 = 10;

/// The time that a batch may wait to be read where many are large. Below the 30 s that clients wait for an answer by
/// default.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// One partition of a request, before anything is handed over.
enum Checked {
    Sound(Prepared),
    /// Reading its records, or compressing them, takes so long that it has to be done elsewhere.
    Unread(Unread),
    Refused(Failure),
}

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
struct Topic<P> {
    name: String,
    parts: Vec<(i32, P)>,
}

impl<P> Topic<P> {
    fn map<Q>(self, mut to: impl FnMut(P) -> Q) -> Topic<Q> {
        let parts = self.parts.into_iter();
        Topic {
            parts: parts.map(|(index, part)| (index, to(part))).collect(),
            name: self.name,
        }
    }
}

/// Write on each topic, and on the transactional id, if there is one.
impl Answer for ProduceRequest {
    const AT_ONCE: bool = true;

    /// Checks every batch. Those that can be read at once are handed over before this returns, so that they stay in the
    /// order of the connection. If reading a batch takes longer, the future that is returned hands over its request,
    /// and those behind it, in the same order.
    fn answer(self, context: Context) -> impl Future<Output = Reply> + Send + 'static {
        let acks = self.acks;
        let progress = begin(&context, self);
        // The view is not kept while the request waits: newer ones take its place.
        let Context { header, shared, .. } = context;
        async move {
            let engine = &shared.engine;
            let (topics, deadline) = match progress {
                Progress::Appending(topics, deadline) => (topics, deadline),
                Progress::Reading(mut turn, topics, timeout_ms) => {
                    let topics = read_all(&shared.decompression, topics).await;
                    if turn.come().await.is_err() {
                        return Reply::Close;
                    }
                    let topics = append(engine, topics);
                    turn.finish();
                    (topics, deadline(acks, timeout_ms, Instant::now()))
                }
            };
            let response = collect(engine, header.version, topics, deadline).await;
            finish(&header, acks, response)
        }
    }
}

/// A request's progress by the time that the next one of its connection may begin.
enum Progress {
    /// All its batches are handed over. The producer waits until then.
    Appending(Vec<Topic<Part>>, Option<Instant>),
    /// It waits for its turn: batches of its own or of an earlier request are still to be read. The timeout is in
    /// milliseconds.
    Reading(Turn, Vec<Topic<Checked>>, i32),
}

fn begin(context: &Context, request: ProduceRequest) -> Progress {
    let rules = Rules::of(context, &request);
    let ProduceRequest { acks, timeout_ms, .. } = request;
    let topics = request.topics.into_iter().map(|topic| {
        let allowed = context.authorize(Operation::Write, Resource::Topic(&topic.name));
        let checked = |part: ProducePartition| {
            let index = part.index;
            let checked = match &allowed {
                Ok(()) => checked(&context.view, &rules, &topic.name, part),
                Err(failure) => Checked::Refused(failure.clone()),
            };
            (index, checked)
        };
        Topic {
            parts: topic.partitions.into_iter().map(checked).collect(),
            name: topic.name,
        }
    });
    let topics: Vec<Topic<Checked>> = topics.collect();
    let mut parts = topics.iter().flat_map(|topic| &topic.parts);
    let has_to_wait = parts.any(|(_, part)| matches!(part, Checked::Unread(_)));
    match context.shared.turns.next(context.session.id(), has_to_wait) {
        None => {
            let topics = append(context.engine(), topics);
            Progress::Appending(topics, deadline(acks, timeout_ms, Instant::now()))
        }
        Some(turn) => Progress::Reading(turn, topics, timeout_ms),
    }
}

/// Reads the batches that could not be read at once.
async fn read_all(decompression: &Decompression, topics: Vec<Topic<Checked>>) -> Vec<Topic<Checked>> {
    let deadline = Instant::now() + READ_WITHIN;
    let mut read = Vec::with_capacity(topics.len());
    for Topic { name, parts } in topics {
        let mut read_parts = Vec::with_capacity(parts.len());
        for (index, part) in parts {
            let part = match part {
                Checked::Unread(unread) => match unread.read(decompression, deadline).await {
                    Ok(prepared) => Checked::Sound(prepared),
                    Err(failure) => Checked::Refused(failure),
                },
                Checked::Sound(_) | Checked::Refused(_) => part,
            };
            read_parts.push((index, part));
        }
        read.push(Topic {
            name,
            parts: read_parts,
        });
    }
    read
}

/// Hands over every batch that may be appended.
fn append(engine: &Engine, topics: Vec<Topic<Checked>>) -> Vec<Topic<Part>> {
    let append = |part| match part {
        Checked::Sound(prepared) => Part::Appending {
            group: prepared.group,
            log_append_time_ms: prepared.log_append_time_ms,
            answer: engine.append(prepared.group, prepared.batch, prepared.acks),
        },
        Checked::Refused(failure) => Part::Refused(failure),
        // Not reached: all have been read.
        Checked::Unread(_) => Part::Refused(check::not_read()),
    };
    topics.into_iter().map(|topic| topic.map(append)).collect()
}

/// Until when the producer waits for the in-sync replicas; none if it does not wait for them. The timeout of a request
/// says nothing about the leader's own log (Kafka's `timeout.ms`): a producer that were told so, although its batch is
/// stored, would store it twice.
fn deadline(acks: i16, timeout_ms: i32, now: Instant) -> Option<Instant> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    (acks == -1).then(|| now + timeout)
}

/// The rules that hold for all batches of a request.
struct Rules {
    version: i16,
    acks: Result<Acks, Failure>,
    now_ms: i64,
}

impl Rules {
    fn of(context: &Context, request: &ProduceRequest) -> Rules {
        Rules {
            version: context.version(),
            acks: acks(context, request),
            now_ms: wall_clock_ms(),
        }
    }
}

fn acks(context: &Context, request: &ProduceRequest) -> Result<Acks, Failure> {
    if context.version() < FIRST_SERVED_VERSION {
        let message = "Produce before version 3 is offered only so that old clients keep compression on";
        return Err(Failure::new(ResponseError::UnsupportedVersion, message));
    }
    if let Some(id) = &request.transactional_id {
        context.authorize(Operation::Write, Resource::TransactionalId(id))?;
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

/// A batch that may be appended.
struct Prepared {
    group: GroupId,
    acks: Acks,
    batch: BytesMut,
    /// -1 if the producer's timestamps stay.
    log_append_time_ms: i64,
}

/// A batch whose records are still to be read.
struct Unread {
    group: GroupId,
    acks: Acks,
    records: Bytes,
    topic: Arc<catalog::Topic>,
    now_ms: i64,
}

fn checked(view: &ClusterView, rules: &Rules, topic: &str, part: ProducePartition) -> Checked {
    match unread(view, rules, topic, part).and_then(Unread::read_at_once) {
        Ok(checked) => checked,
        Err(failure) => Checked::Refused(failure),
    }
}

/// Checks everything but the records.
fn unread(view: &ClusterView, rules: &Rules, topic: &str, part: ProducePartition) -> Result<Unread, Failure> {
    let acks = rules.acks.clone()?;
    if offsets_topic::is_internal(topic) {
        let message = format!("only brokers write to {topic}");
        return Err(Failure::new(ResponseError::InvalidTopicException, message));
    }
    let found = view.catalog.topic(topic).ok_or_else(errors::unknown_partition)?;
    let partition = found
        .partition(PartitionIndex(part.index))
        .ok_or_else(errors::unknown_partition)?;
    let records = part.records.ok_or_else(check::no_batch)?;
    check::batch(&records, rules.version, &found.config)?;
    Ok(Unread {
        group: ids::group(partition.group),
        acks,
        records: records.freeze(),
        topic: Arc::clone(found),
        now_ms: rules.now_ms,
    })
}

impl Unread {
    /// Reads the records if that takes no time to speak of.
    fn read_at_once(self) -> Result<Checked, Failure> {
        if self.compressor().is_some() {
            return Ok(Checked::Unread(self));
        }
        let contents = decompression::validate_at_once(&self.records).map_err(errors::batch)?;
        match contents {
            Some(contents) => self.prepare(&contents, None).map(Checked::Sound),
            None => Ok(Checked::Unread(self)),
        }
    }

    /// Reads the records on a thread that may block, and compresses them as the topic asks.
    async fn read(self, decompression: &Decompression, deadline: Instant) -> Result<Prepared, Failure> {
        let slot = decompression.slot(deadline).await?;
        let compressor = self.compressor();
        let max_len = self.topic.config.max_message_bytes as usize;
        let more = compressor.map_or(0, |compressor| compressor.memory().saturating_add(max_len));
        let read = move |bytes: &[u8]| {
            let contents = batch::validate(bytes, decompression::MAX_DECOMPRESSED_BYTES)?;
            let recompress = |to| batch::recompress(bytes, to, decompression::MAX_DECOMPRESSED_BYTES, max_len);
            Ok((contents, compressor.map(recompress).transpose()?))
        };
        let read = slot.read(self.records.clone(), more, deadline, read).await?;
        let (contents, recompressed) = read.map_err(errors::batch)?;
        self.prepare(&contents, recompressed)
    }

    /// How the records must be compressed, if they come in another way than the topic asks. A batch that comes in the right one stays
    /// as it is, whatever its level: as in Kafka.
    fn compressor(&self) -> Option<Compressor> {
        let compressor = match self.topic.config.compression {
            CompressionType::Producer => return None,
            CompressionType::Uncompressed => Compressor::None,
            CompressionType::Gzip(level) => Compressor::Gzip(level),
            CompressionType::Snappy => Compressor::Snappy,
            CompressionType::Lz4(level) => Compressor::Lz4(level),
            CompressionType::Zstd(level) => Compressor::Zstd(level),
        };
        let found = BatchHeader::parse_only(&self.records).and_then(|header| header.compression());
        (found != Ok(compressor.compression())).then_some(compressor)
    }

    /// The batch as it is stored, now that its records are known to be sound.
    fn prepare(self, contents: &Contents, recompressed: Option<BytesMut>) -> Result<Prepared, Failure> {
        check::timestamps(contents, &self.topic.config, self.now_ms)?;
        // In memory of its own: as a slice, a small batch would keep the whole frame that it came in, and whatever else
        // the connection's buffer held, for as long as it is in the tail. The copy is the only one on its way.
        let mut batch = recompressed.unwrap_or_else(|| BytesMut::from(&self.records[..]));
        Ok(Prepared {
            group: self.group,
            acks: self.acks,
            log_append_time_ms: stamp_time(&mut batch, &self.topic.config, contents, self.now_ms),
            batch,
        })
    }
}

/// Makes the header say what the topic and the records say, and returns the time of appending, if the topic wants that.
fn stamp_time(batch: &mut BytesMut, config: &TopicConfig, contents: &Contents, now_ms: i64) -> i64 {
    match config.timestamp_type {
        TimestampType::CreateTime => {
            batch::set_create_time(batch, contents.max_timestamp());
            -1
        }
        TimestampType::LogAppendTime => {
            batch::set_log_append_time(batch, now_ms);
            now_ms
        }
    }
}

async fn collect(
    engine: &Engine,
    version: i16,
    topics: Vec<Topic<Part>>,
    deadline: Option<Instant>,
) -> ProduceResponse {
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
    let blamed = failure.record.map(|position| (position, Some(failure.message.clone())));
    ProducePartitionResponse {
        record_errors: blamed.into_iter().collect(),
        ..ProducePartitionResponse::refused(index, failure.code(), Some(failure.message))
    }
}

/// The leader, if the error says that this broker does not lead: the one that the cluster's view knows, unless the
/// replica here knows another one.
fn hint(engine: &Engine, group: GroupId, error: &AppendError) -> Option<LeaderHint> {
    match error {
        AppendError::NotLeader { .. } | AppendError::UnknownGroup | AppendError::Lost => {}
        AppendError::NotServing
        | AppendError::Busy
        | AppendError::TooManyProducers
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
