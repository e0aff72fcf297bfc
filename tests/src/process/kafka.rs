//! A small blocking Kafka client whose every wait is known: for measuring the brokers rather than a client's back-off.

use crate::checker::history::RecordId;
use crate::sim::records::{self, Read as ReadRecord};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    MetadataResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Why a request has no good answer.
#[derive(Debug)]
pub enum ClientError {
    /// The connection broke, or there was none.
    Io(io::Error),
    /// No answer within the time given. The connection is of no use any more.
    TimedOut,
    /// The answer does not follow the protocol.
    Malformed(String),
    /// A Kafka error code.
    Code(i16),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Io(error) => write!(f, "{error}"),
            ClientError::TimedOut => f.write_str("no answer in time"),
            ClientError::Malformed(what) => write!(f, "not the protocol: {what}"),
            ClientError::Code(code) => match ResponseError::try_from_code(*code) {
                Some(error) => write!(f, "{error:?} ({code})"),
                None => write!(f, "error {code}"),
            },
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut,
            _ => ClientError::Io(error),
        }
    }
}

/// A connection to one broker, with at most one request under way.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation: i32,
    /// Bytes of an answer that has not arrived wholly.
    partial: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or not in time.
    pub fn open(address: SocketAddr) -> Result<Connection, ClientError> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            correlation: 0,
            partial: BytesMut::new(),
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<R: Request>(&mut self, version: i16, request: &R, wait: Duration) -> Result<R::Response, ClientError> {
        self.send(version, request)?;
        let deadline = Instant::now() + wait;
        loop {
            if let Some(answer) = self.poll::<R>(version, deadline.saturating_duration_since(Instant::now()))? {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                return Err(ClientError::TimedOut);
            }
        }
    }

    /// Sends a request; its answer comes by [`Connection::poll`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<(), ClientError> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("trimaran-tests")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let malformed = |error: anyhow::Error| ClientError::Malformed(error.to_string());
        header
            .encode(&mut frame, R::header_version(version))
            .map_err(malformed)?;
        request.encode(&mut frame, version).map_err(malformed)?;
        let length = i32::try_from(frame.len() - 4).map_err(|error| ClientError::Malformed(error.to_string()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        self.stream.write_all(&frame)?;
        Ok(())
    }

    /// Waits so long for the answer to the request that was sent last; none if it has not come by then.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn poll<R: Request>(&mut self, version: i16, wait: Duration) -> Result<Option<R::Response>, ClientError> {
        let Some(mut frame) = self.poll_frame(wait)? else {
            return Ok(None);
        };
        let malformed = |error: anyhow::Error| ClientError::Malformed(error.to_string());
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).map_err(malformed)?;
        if header.correlation_id != self.correlation {
            return Err(ClientError::Malformed(format!(
                "an answer to {} instead of {}",
                header.correlation_id, self.correlation
            )));
        }
        R::Response::decode(&mut frame, version).map(Some).map_err(malformed)
    }

    fn poll_frame(&mut self, wait: Duration) -> Result<Option<Bytes>, ClientError> {
        let deadline = Instant::now() + wait;
        let mut chunk = [0; 64 << 10];
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.partial.extend_from_slice(&chunk[..read]),
                Err(error) => match ClientError::from(error) {
                    ClientError::TimedOut => return Ok(None),
                    other => return Err(other),
                },
            }
        }
    }

    fn whole_frame(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(length) = self.partial.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| ClientError::Malformed("a frame of negative length".to_owned()))?;
        if self.partial.len() < 4 + length {
            return Ok(None);
        }
        let mut frame = self.partial.split_to(4 + length).freeze();
        Ok(Some(frame.split_off(4)))
    }
}

/// A partition's leader, as a broker told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its id.
    pub id: i32,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its epoch.
    pub epoch: i32,
}

/// Knows all brokers of a cluster, and asks whichever answers.
#[derive(Clone, Debug)]
pub struct KafkaClient {
    brokers: Vec<SocketAddr>,
}

/// How long a request that nothing depends on may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one broker may take to say who leads.
const METADATA_PATIENCE: Duration = Duration::from_millis(250);

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const METADATA_VERSION: i16 = 9;

impl KafkaClient {
    /// A client of these brokers.
    pub fn new(brokers: Vec<SocketAddr>) -> KafkaClient {
        KafkaClient { brokers }
    }

    /// All brokers but one.
    pub(super) fn others(&self, than: SocketAddr) -> Vec<SocketAddr> {
        self.brokers.iter().copied().filter(|broker| *broker != than).collect()
    }

    /// Asks one broker about a topic.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metadata(&self, broker: SocketAddr, topic: &str) -> Result<MetadataResponse, ClientError> {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![
                MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
            ]))
            .with_allow_auto_topic_creation(false);
        Connection::open(broker)?.call(METADATA_VERSION, &request, METADATA_PATIENCE)
    }

    /// The leader of a partition with the highest epoch that any broker tells.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        self.brokers
            .iter()
            .filter_map(|broker| leader_in(&self.metadata(*broker, topic).ok()?, partition))
            .max_by_key(|leader| leader.epoch)
    }

    /// What any broker answers, in whatever order they are ready to.
    fn anywhere<R: Request>(&self, version: i16, request: &R) -> Result<R::Response, ClientError> {
        let mut last = ClientError::TimedOut;
        for broker in &self.brokers {
            let answer =
                Connection::open(*broker).and_then(|mut connection| connection.call(version, request, PATIENCE));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replicas: i16,
        configs: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let configs = configs
            .iter()
            .map(|(key, value)| {
                CreatableTopicConfig::default()
                    .with_name(StrBytes::from_string((*key).to_owned()))
                    .with_value(Some(StrBytes::from_string((*value).to_owned())))
            })
            .collect();
        let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
            CreatableTopic::default()
                .with_name(topic_name(topic))
                .with_num_partitions(partitions)
                .with_replication_factor(replicas)
                .with_configs(configs),
        ]);
        let answer = self.anywhere(5, &request)?;
        answer.topics.iter().try_for_each(|topic| good(topic.error_code))
    }

    /// A producer id.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub fn producer_id(&self) -> Result<i64, ClientError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = self.anywhere(4, &request)?;
        good(answer.error_code)?;
        Ok(answer.producer_id.0)
    }

    /// The offset that this timestamp stands for (-1: the end, -2: the start), from the partition's leader.
    ///
    /// # Errors
    /// There is no leader, or it refuses.
    pub fn offset(&self, topic: &str, partition: i32, timestamp: i64) -> Result<i64, ClientError> {
        let leader = self
            .leader(topic, partition)
            .ok_or_else(|| ClientError::Malformed("nobody knows a leader".to_owned()))?;
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![
                        ListOffsetsPartition::default()
                            .with_partition_index(partition)
                            .with_current_leader_epoch(-1)
                            .with_timestamp(timestamp),
                    ]),
            ]);
        let answer = Connection::open(leader.address)?.call(5, &request, PATIENCE)?;
        let found = answer
            .topics
            .first()
            .and_then(|topic| topic.partitions.first())
            .ok_or_else(|| ClientError::Malformed("an empty answer".to_owned()))?;
        good(found.error_code)?;
        Ok(found.offset)
    }

    /// What one broker answers to a consumer in a rack that reads a partition from its first offset on.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn fetch_in_rack(
        &self,
        broker: SocketAddr,
        topic: &str,
        partition: i32,
        rack: &str,
    ) -> Result<Fetched, ClientError> {
        fetch_in_rack(&mut Connection::open(broker)?, topic, partition, (0, 0), rack)
    }

    /// Everything a partition holds, from its leader, from the first offset to the high watermark at the time of the
    /// last answer.
    ///
    /// # Errors
    /// There is no leader, or it refuses.
    pub fn read_all(&self, topic: &str, partition: i32) -> Result<Vec<(i64, RecordId)>, ClientError> {
        let leader = self
            .leader(topic, partition)
            .ok_or_else(|| ClientError::Malformed("nobody knows a leader".to_owned()))?;
        let mut connection = Connection::open(leader.address)?;
        let mut all: Vec<(i64, RecordId)> = Vec::new();
        loop {
            let from = all.last().map_or(0, |(offset, _)| offset + 1);
            let (records, high_watermark) = fetch(&mut connection, topic, partition, from, 0)?;
            all.extend(records.iter().map(|read| (read.offset, read.record)));
            if all.last().map_or(0, |(offset, _)| offset + 1) >= high_watermark {
                return Ok(all);
            }
        }
    }
}

/// What a broker answers to a consumer.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The records, in their order.
    pub records: Vec<ReadRecord>,
    /// The offset behind the last one that consumers may see there.
    pub high_watermark: i64,
    /// The broker that the consumer should ask instead (KIP-392).
    pub preferred: Option<i32>,
}

/// Reads records from an offset on, and says what the high watermark is.
///
/// # Errors
/// The broker refuses, or answers what is no batch.
pub(super) fn fetch(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    from: i64,
    wait_ms: i32,
) -> Result<(Vec<ReadRecord>, i64), ClientError> {
    let fetched = fetch_in_rack(connection, topic, partition, (from, wait_ms), "")?;
    Ok((fetched.records, fetched.high_watermark))
}

/// The same as a consumer in a rack.
///
/// # Errors
/// See [`fetch`].
fn fetch_in_rack(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    (from, wait_ms): (i64, i32),
    rack: &str,
) -> Result<Fetched, ClientError> {
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(16 << 20)
        .with_session_epoch(-1)
        .with_rack_id(StrBytes::from_string(rack.to_owned()))
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(vec![
                    FetchPartition::default()
                        .with_partition(partition)
                        .with_current_leader_epoch(-1)
                        .with_last_fetched_epoch(-1)
                        .with_fetch_offset(from)
                        .with_partition_max_bytes(4 << 20),
                ]),
        ]);
    let answer = connection.call(FETCH_VERSION, &request, PATIENCE)?;
    good(answer.error_code)?;
    let found = answer
        .responses
        .first()
        .and_then(|topic| topic.partitions.first())
        .ok_or_else(|| ClientError::Malformed("an empty answer".to_owned()))?;
    good(found.error_code)?;
    let bytes = found.records.clone().unwrap_or_default();
    let mut records = if bytes.is_empty() {
        Vec::new()
    } else {
        records::decode(&bytes).map_err(ClientError::Malformed)?
    };
    records.retain(|read| read.offset >= from);
    Ok(Fetched {
        records,
        high_watermark: found.high_watermark,
        preferred: (found.preferred_read_replica.0 >= 0).then_some(found.preferred_read_replica.0),
    })
}

/// A produce request of one batch.
pub(super) fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic_name(topic))
                .with_partition_data(vec![
                    PartitionProduceData::default()
                        .with_index(partition)
                        .with_records(Some(batch)),
                ]),
        ])
}

/// Sends one batch; see [`poll_produced`].
pub(super) fn send_produce(connection: &mut Connection, request: &ProduceRequest) -> Result<(), ClientError> {
    connection.send(PRODUCE_VERSION, request)
}

/// The base offset that a batch was acknowledged with, if the answer comes within so long.
pub(super) fn poll_produced(connection: &mut Connection, wait: Duration) -> Result<Option<i64>, ClientError> {
    let Some(answer) = connection.poll::<ProduceRequest>(PRODUCE_VERSION, wait)? else {
        return Ok(None);
    };
    let found = answer
        .responses
        .first()
        .and_then(|topic| topic.partition_responses.first())
        .ok_or_else(|| ClientError::Malformed("an empty answer".to_owned()))?;
    good(found.error_code)?;
    Ok(Some(found.base_offset))
}

fn leader_in(metadata: &MetadataResponse, partition: i32) -> Option<Leader> {
    let found = metadata
        .topics
        .first()?
        .partitions
        .iter()
        .find(|found| found.partition_index == partition)?;
    let broker = metadata
        .brokers
        .iter()
        .find(|broker| broker.node_id == found.leader_id)?;
    Some(Leader {
        id: found.leader_id.0,
        address: format!("{}:{}", broker.host, broker.port).parse().ok()?,
        epoch: found.leader_epoch,
    })
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn good(code: i16) -> Result<(), ClientError> {
    if code == 0 {
        Ok(())
    } else {
        Err(ClientError::Code(code))
    }
}
