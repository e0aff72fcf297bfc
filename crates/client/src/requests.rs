//! Kafka's requests about one topic or one partition, and what of their responses is of interest. They suit every
//! version of their API unless they say otherwise.

use crate::RequestError;
use bytes::Bytes;
use trimaran_wire::kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use trimaran_wire::kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use trimaran_wire::kafka_protocol::messages::fetch_response::PartitionData;
use trimaran_wire::kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use trimaran_wire::kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use trimaran_wire::kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use trimaran_wire::kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse, InitProducerIdRequest,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, ProduceRequest, ProduceResponse, TopicName,
};
use trimaran_wire::kafka_protocol::protocol::StrBytes;

/// ListOffsets' name for the end of a partition.
pub const LATEST: i64 = -1;

/// ListOffsets' name for the beginning of a partition.
pub const EARLIEST: i64 = -2;

/// A client that is no replica.
const NO_REPLICA: BrokerId = BrokerId(-1);

/// A topic's name in Kafka's messages.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Metadata of these topics, or of all.
pub fn metadata(topics: Option<&[&str]>, create: bool) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    MetadataRequest::default()
        .with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(create)
}

/// Creates a topic; -1 stands for the cluster's default number of partitions or replicas.
pub fn create_topic<'a>(
    name: &str,
    partitions: i32,
    replicas: i16,
    config: impl IntoIterator<Item = (&'a str, &'a str)>,
    timeout_ms: i32,
) -> CreateTopicsRequest {
    let setting = |(key, value): (&str, &str)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(key.to_owned()))
            .with_value(Some(StrBytes::from_string(value.to_owned())))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
        .with_configs(config.into_iter().map(setting).collect());
    CreateTopicsRequest::default()
        .with_timeout_ms(timeout_ms)
        .with_topics(vec![topic])
}

/// Deletes a topic. Up to version 5.
pub fn delete_topic(name: &str, timeout_ms: i32) -> DeleteTopicsRequest {
    DeleteTopicsRequest::default()
        .with_timeout_ms(timeout_ms)
        .with_topic_names(vec![topic_name(name)])
}

/// A new producer's id.
pub fn producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

/// A batch for one partition, with `acks` as in Kafka: -1 for all, 1 for the leader, 0 for none.
pub fn produce(topic: &str, partition: i32, batch: Bytes, acks: i16, timeout_ms: i32) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(vec![topic])
}

/// The base offset of the batch of [`produce`].
///
/// # Errors
/// [`RequestError::Code`], and [`RequestError::Malformed`] if the response says nothing of the partition.
pub fn produced(response: &ProduceResponse) -> Result<i64, RequestError> {
    let topic = response.responses.first();
    let found = topic.and_then(|topic| topic.partition_responses.first());
    let found = found.ok_or_else(incomplete)?;
    good(found.error_code)?;
    Ok(found.base_offset)
}

/// The limits of a fetch's response, in bytes and time.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// The time that a broker may wait before it answers with nothing.
    pub max_wait_ms: i32,
    /// Bytes of the whole response.
    pub max_bytes: i32,
    /// Bytes of one partition's part of it.
    pub partition_max_bytes: i32,
}

/// Reads partitions of a topic from these offsets on, as a consumer in `rack` (or in none, if that is empty).
pub fn fetch(topic: FetchTopic, positions: &[(i32, i64)], rack: &str, limits: FetchLimits) -> FetchRequest {
    let partition = |(partition, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(limits.partition_max_bytes)
    };
    FetchRequest::default()
        .with_replica_id(NO_REPLICA)
        .with_max_wait_ms(limits.max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(limits.max_bytes)
        .with_session_epoch(-1)
        .with_rack_id(StrBytes::from_string(rack.to_owned()))
        .with_topics(vec![topic.with_partitions(positions.iter().map(partition).collect())])
}

/// The result of a fetch of one partition.
///
/// # Errors
/// [`RequestError::Code`], and [`RequestError::Malformed`] if the response says nothing of the partition.
pub fn fetched(response: &FetchResponse) -> Result<&PartitionData, RequestError> {
    good(response.error_code)?;
    let topic = response.responses.first();
    let found = topic.and_then(|topic| topic.partitions.first());
    let found = found.ok_or_else(incomplete)?;
    good(found.error_code)?;
    Ok(found)
}

/// The offset of a timestamp in milliseconds, or of [`LATEST`] or [`EARLIEST`].
pub fn list_offsets(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    ListOffsetsRequest::default()
        .with_replica_id(NO_REPLICA)
        .with_topics(vec![topic])
}

/// The offset that [`list_offsets`] asked for.
///
/// # Errors
/// [`RequestError::Code`], and [`RequestError::Malformed`] if the response says nothing of the partition.
pub fn listed_offset(response: &ListOffsetsResponse) -> Result<i64, RequestError> {
    let topic = response.topics.first();
    let found = topic.and_then(|topic| topic.partitions.first());
    let found = found.ok_or_else(incomplete)?;
    good(found.error_code)?;
    Ok(found.offset)
}

/// Turns an error code into a result.
///
/// # Errors
/// [`RequestError::Code`].
pub fn good(code: i16) -> Result<(), RequestError> {
    match code {
        0 => Ok(()),
        code => Err(RequestError::Code(code)),
    }
}

fn incomplete() -> RequestError {
    RequestError::Malformed("the response says nothing of what was asked".to_owned())
}
