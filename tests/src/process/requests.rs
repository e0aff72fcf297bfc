//! Kafka requests as the tests' clients make them, and what of the answers is of interest.

use super::kafka::{ClientError, Connection, PATIENCE};
use crate::sim::records::{self, Read as ReadRecord};
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;
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
    pub(crate) fn fetch(self, connection: &mut Connection, from: i64, wait_ms: i32) -> Result<Fetched, ClientError> {
        let version = if self.id.is_some() {
            FETCH_BY_ID_VERSION
        } else {
            FETCH_VERSION
        };
        let answer = connection.call(version, &self.request(from, wait_ms), self.patience)?;
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
            None => FetchTopic::default().with_topic(topic_name(self.topic)),
        };
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(16 << 20)
            .with_session_epoch(-1)
            .with_rack_id(StrBytes::from_string(self.rack.to_owned()))
            .with_topics(vec![topic.with_partitions(vec![
                    FetchPartition::default()
                        .with_partition(self.partition)
                        .with_current_leader_epoch(-1)
                        .with_last_fetched_epoch(-1)
                        .with_fetch_offset(from)
                        .with_partition_max_bytes(4 << 20),
                ])])
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
) -> Result<i64, ClientError> {
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
    let answer = connection.call(LIST_OFFSETS_VERSION, &request, PATIENCE)?;
    let found = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())
        .ok_or_else(|| ClientError::Malformed("an empty answer".to_owned()))?;
    good(found.error_code)?;
    Ok(found.offset)
}

/// Creates one topic.
pub(crate) fn create_topic(
    topic: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, &str)],
) -> CreateTopicsRequest {
    let configs = configs
        .iter()
        .map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*key).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        })
        .collect();
    CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
        CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(configs),
    ])
}

/// Deletes one topic.
pub(crate) fn delete_topic(topic: &str) -> DeleteTopicsRequest {
    DeleteTopicsRequest::default()
        .with_timeout_ms(10_000)
        .with_topic_names(vec![topic_name(topic)])
}

/// A produce request of one batch.
pub(crate) fn produce(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
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
pub(crate) fn send_produce(connection: &mut Connection, request: &ProduceRequest) -> Result<(), ClientError> {
    connection.send(PRODUCE_VERSION, request)
}

/// The base offset that the first batch without an answer was acknowledged with, if the answer comes within so long.
pub(crate) fn poll_produced(connection: &mut Connection, wait: Duration) -> Result<Option<i64>, ClientError> {
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

pub(super) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Whether an error code says that all is well.
pub(crate) fn good(code: i16) -> Result<(), ClientError> {
    if code == 0 {
        Ok(())
    } else {
        Err(ClientError::Code(code))
    }
}
