//! Kafka requests as the tests' clients make them, and what of the answers is of interest.

use super::kafka::PATIENCE;
use crate::sim::records::{self, Read as ReadRecord};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ProduceRequest};
use std::time::Duration;
use trimaran_client::RequestError;
use trimaran_client::blocking::Connection;
use trimaran_client::requests::{self, FetchLimits};
use uuid::Uuid;

/// The first version that answers with the topic's id.
pub(crate) const CREATE_TOPICS_VERSION: i16 = 7;
pub(crate) const DELETE_TOPICS_VERSION: i16 = 4;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
/// The first version that names topics by their ids.
const FETCH_BY_ID_VERSION: i16 = 13;
const LIST_OFFSETS_VERSION: i16 = 5;

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

/// How a consumer reads a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    /// The topic.
    pub(crate) topic: &'a str,
    /// The topic's id, if it is to be named by that.
    pub(crate) id: Option<Uuid>,
    /// The partition.
    pub(crate) partition: i32,
    /// The consumer's rack, or nothing.
    pub(crate) rack: &'a str,
    /// How long an answer may take.
    pub(crate) patience: Duration,
}

impl<'a> Reading<'a> {
    /// A consumer without a rack that names the topic by its name.
    pub(crate) fn of(topic: &'a str, partition: i32) -> Reading<'a> {
        Reading {
            topic,
            id: None,
            partition,
            rack: "",
            patience: PATIENCE,
        }
    }

    /// Reads records from an offset on.
    ///
    /// # Errors
    /// The broker refuses, or answers what is no batch.
    pub(crate) fn fetch(self, connection: &mut Connection, from: i64, wait_ms: i32) -> Result<Fetched, RequestError> {
        let version = if self.id.is_some() {
            FETCH_BY_ID_VERSION
        } else {
            FETCH_VERSION
        };
        let answer = connection.call(version, &self.request(from, wait_ms), self.patience)?;
        let found = requests::fetched(&answer)?;
        let bytes = found.records.clone().unwrap_or_default();
        let mut records = if bytes.is_empty() {
            Vec::new()
        } else {
            records::decode(&bytes).map_err(RequestError::Malformed)?
        };
        // Whole batches are answered, so the first one may begin before what was asked for.
        records.retain(|read| read.offset >= from);
        Ok(Fetched {
            records,
            high_watermark: found.high_watermark,
            preferred: (found.preferred_read_replica.0 >= 0).then_some(found.preferred_read_replica.0),
        })
    }

    fn request(&self, from: i64, wait_ms: i32) -> FetchRequest {
        let topic = match self.id {
            Some(id) => FetchTopic::default().with_topic_id(id),
            None => FetchTopic::default().with_topic(requests::topic_name(self.topic)),
        };
        let limits = FetchLimits {
            max_wait_ms: wait_ms,
            max_bytes: 16 << 20,
            partition_max_bytes: 4 << 20,
        };
        requests::fetch(topic, &[(self.partition, from)], self.rack, limits)
    }
}

/// The offset that a timestamp stands for (-1: the end, -2: the start), as a partition's leader says.
///
/// # Errors
/// It does not answer, or refuses.
pub(crate) fn offset(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<i64, RequestError> {
    let request = requests::list_offsets(topic, partition, timestamp);
    requests::listed_offset(&connection.call(LIST_OFFSETS_VERSION, &request, PATIENCE)?)
}

/// Creates one topic.
pub(crate) fn create_topic(
    topic: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, &str)],
) -> CreateTopicsRequest {
    requests::create_topic(topic, partitions, replicas, configs.iter().copied(), 10_000)
}

/// Deletes one topic.
pub(crate) fn delete_topic(topic: &str) -> DeleteTopicsRequest {
    requests::delete_topic(topic, 10_000)
}

/// A produce request of one batch.
pub(crate) fn produce(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    requests::produce(topic, partition, batch, acks, 30_000)
}

/// Sends one batch; see [`poll_produced`].
pub(crate) fn send_produce(connection: &mut Connection, request: &ProduceRequest) -> Result<(), RequestError> {
    connection.send(PRODUCE_VERSION, request)
}

/// The base offset that the first batch without an answer was acknowledged with, if the answer comes within so long.
pub(crate) fn poll_produced(connection: &mut Connection, wait: Duration) -> Result<Option<i64>, RequestError> {
    let answer = connection.poll::<ProduceRequest>(PRODUCE_VERSION, wait)?;
    answer.map(|answer| requests::produced(&answer)).transpose()
}
