//! Requests that many tests send, in few words.

use super::Client;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};
use trimaran_wire::api::Api;
use trimaran_wire::batch::{self, BatchHeader};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;

pub(in crate::kafka) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A batch with these values, at a timestamp.
pub(in crate::kafka) fn records_at(timestamp_ms: i64, values: &[&str]) -> Bytes {
    let records: Vec<_> = values.iter().map(|value| (None, Some(value.as_bytes()))).collect();
    batch::build(timestamp_ms, &records).freeze()
}

/// A batch with these values, now.
pub(in crate::kafka) fn records(values: &[&str]) -> Bytes {
    records_at(crate::clock::wall_clock_ms(), values)
}

/// A batch of one record of so many zeros, compressed as clients do.
pub(in crate::kafka) fn compressed_zeros(compression: Compression, length: usize) -> Bytes {
    let timestamp = crate::clock::wall_clock_ms();
    let zeros = vec![0; length];
    let mut plain = batch::build(timestamp, &[(None, Some(&zeros))]).freeze();
    let records = RecordBatchDecoder::decode(&mut plain).unwrap().records;
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

pub(in crate::kafka) fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(20_000)
        .with_topic_data(vec![topic])
}

/// Asks for one partition, for whatever is there.
pub(in crate::kafka) fn fetch_request(topic: &str, partition: i32, from: i64) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(from)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 24)
        .with_topics(vec![topic])
}

pub(in crate::kafka) fn only_partition(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

/// Offsets and values of all records in a partition's answer.
pub(in crate::kafka) fn read(partition: &PartitionData) -> Vec<(i64, String)> {
    let bytes = partition.records.clone().unwrap_or_default();
    let mut found = Vec::new();
    for part in batch::split(bytes) {
        let (_, batch) = part.unwrap();
        batch::verify_crc(&batch).unwrap();
        for record in batch::records(&batch, 1 << 20).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push((record.offset.0, value));
        }
    }
    found
}

pub(in crate::kafka) fn headers(partition: &PartitionData) -> Vec<BatchHeader> {
    let bytes = partition.records.clone().unwrap_or_default();
    batch::split(bytes).map(|part| part.unwrap().0).collect()
}

impl Client {
    /// Produces with acks=all in the newest version, and returns the partition's answer. While a leader that is known may
    /// not serve yet, it asks again, as every client does.
    pub(in crate::kafka) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, partition, -1, batch);
        loop {
            let response: ProduceResponse = self.ask(Api::Produce, 11, &request).await;
            let partition = &response.responses[0].partition_responses[0];
            if partition.error_code != NOT_LEADER_OR_FOLLOWER {
                return partition.clone();
            }
        }
    }

    pub(in crate::kafka) async fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> PartitionData {
        let request = fetch_request(topic, partition, from);
        loop {
            let response: FetchResponse = self.ask(Api::Fetch, 12, &request).await;
            let partition = only_partition(&response);
            if partition.error_code != NOT_LEADER_OR_FOLLOWER {
                return partition.clone();
            }
        }
    }

    pub(in crate::kafka) async fn offset(
        &mut self,
        version: i16,
        topic: &str,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(0)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let response: ListOffsetsResponse = self.ask(Api::ListOffsets, version, &request).await;
        response.topics[0].partitions[0].clone()
    }

    pub(in crate::kafka) async fn metadata(&mut self, topics: &[&str]) -> MetadataResponse {
        let topics = topics
            .iter()
            .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let request = MetadataRequest::default().with_topics(Some(topics.collect()));
        self.ask(Api::Metadata, 12, &request).await
    }
}
