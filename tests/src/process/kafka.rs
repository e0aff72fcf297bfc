//! A small blocking Kafka client whose every wait is known: for measuring the brokers rather than a client's back-off.

use super::requests::{self, Fetched, Reading, good, topic_name};
use crate::checker::history::RecordId;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    InitProducerIdRequest, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use uuid::Uuid;

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

/// A connection to one broker. Answers come in the order of the requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation: i32,
    /// The requests that have no answer yet.
    awaited: VecDeque<i32>,
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
            awaited: VecDeque::new(),
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
        self.awaited.push_back(self.correlation);
        Ok(())
    }

    /// Waits until an answer begins, and leaves it where it is.
    ///
    /// # Errors
    /// It does not, or the connection broke.
    pub fn await_bytes(&mut self, wait: Duration) -> Result<(), ClientError> {
        self.stream.set_read_timeout(Some(wait))?;
        match self.stream.peek(&mut [0])? {
            0 => Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// Waits so long for the answer to the first request that has none yet; none if it has not come by then.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn poll<R: Request>(&mut self, version: i16, wait: Duration) -> Result<Option<R::Response>, ClientError> {
        let Some(mut frame) = self.poll_frame(wait)? else {
            return Ok(None);
        };
        let malformed = |error: anyhow::Error| ClientError::Malformed(error.to_string());
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).map_err(malformed)?;
        let awaited = self.awaited.pop_front();
        if awaited != Some(header.correlation_id) {
            return Err(ClientError::Malformed(format!(
                "an answer to {} instead of {awaited:?}",
                header.correlation_id
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
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long one broker may take to say who leads.
const METADATA_PATIENCE: Duration = Duration::from_millis(250);

/// The first version with topic ids for topics that are asked for by name.
const METADATA_VERSION: i16 = 12;

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

    /// The same of the topic with this id: one of the same name that was deleted before may be all that some brokers know.
    pub fn leader_by_id(&self, topic: &str, id: Uuid, partition: i32) -> Option<Leader> {
        let told = self.brokers.iter().filter_map(|broker| {
            let metadata = self.metadata(*broker, topic).ok()?;
            let is_meant = metadata.topics.first().is_some_and(|found| found.topic_id == id);
            is_meant.then(|| leader_in(&metadata, partition)).flatten()
        });
        told.max_by_key(|leader| leader.epoch)
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
        let request = requests::create_topic(topic, partitions, replicas, configs);
        let answer = self.anywhere(requests::CREATE_TOPICS_VERSION, &request)?;
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
        requests::offset(&mut Connection::open(leader.address)?, topic, partition, timestamp)
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
        Reading {
            rack,
            ..Reading::of(topic, partition)
        }
        .fetch(&mut Connection::open(broker)?, 0, 0)
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
            let fetched = Reading::of(topic, partition).fetch(&mut connection, from, 0)?;
            all.extend(fetched.records.iter().map(|read| (read.offset, read.record)));
            if all.last().map_or(0, |(offset, _)| offset + 1) >= fetched.high_watermark {
                return Ok(all);
            }
        }
    }
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
