//! Requests that many tests send, in few words.

use super::Client;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, ProduceRequest,
    ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};
use trimaran_wire::api::Api;
use trimaran_wire::batch::{self, BatchHeader};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const MEMBER_ID_REQUIRED: i16 = 79;

/// The topic that holds the state of consumer groups.
pub(in crate::kafka) const OFFSETS: &str = "__consumer_offsets";

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

pub(in crate::kafka) fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

/// Commits an offset of each topic's first partition, with a note.
pub(in crate::kafka) fn commit_request<const N: usize>(
    group: &str,
    topics: [&str; N],
    offset: i64,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(StrBytes::from_static_str("note")));
    let topics = topics.map(|topic| {
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition.clone()])
    });
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.to_vec())
}

/// Joins with one protocol.
pub(in crate::kafka) fn join_request(group: &str, member: &str, version: i16) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(b"subscription"));
    JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(if version >= 1 { 20_000 } else { -1 })
        .with_member_id(StrBytes::from_string(member.to_owned()))
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

pub(in crate::kafka) fn leave_request(group: &str, member: &str, version: i16) -> LeaveGroupRequest {
    let member = StrBytes::from_string(member.to_owned());
    let request = LeaveGroupRequest::default().with_group_id(group_id(group));
    match version {
        ..3 => request.with_member_id(member),
        _ => request.with_members(vec![MemberIdentity::default().with_member_id(member)]),
    }
}

/// A group's committed offsets, whatever the version calls them.
#[derive(Debug)]
pub(in crate::kafka) struct Committed {
    pub(in crate::kafka) error_code: i16,
    /// Of all topics, one after the other.
    pub(in crate::kafka) partitions: Vec<OffsetFetchResponsePartitions>,
}

impl Client {
    /// Looks up a group's coordinator, as its members do before anything else: again, until there is one. Returns the
    /// broker's id.
    pub(in crate::kafka) async fn find_coordinator(&mut self, group: &str) -> i32 {
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
        loop {
            let response: FindCoordinatorResponse = self.ask(Api::FindCoordinator, 3, &request).await;
            if response.error_code != COORDINATOR_NOT_AVAILABLE {
                assert_eq!(response.error_code, 0, "{response:?}");
                return response.node_id.0;
            }
        }
    }

    /// Commits one topic's offset without membership. While the coordinator begins, it asks again, as every client does.
    pub(in crate::kafka) async fn commit(&mut self, group: &str, topic: &str, offset: i64) -> i16 {
        let request = commit_request(group, [topic], offset);
        loop {
            let response: OffsetCommitResponse = self.ask(Api::OffsetCommit, 8, &request).await;
            let code = response.topics[0].partitions[0].error_code;
            if code != COORDINATOR_LOAD_IN_PROGRESS {
                return code;
            }
        }
    }

    /// The committed offsets of these topics' first partitions, or of all.
    pub(in crate::kafka) async fn committed(
        &mut self,
        version: i16,
        group: &str,
        topics: Option<&[&str]>,
    ) -> Committed {
        let names = |topics: &[&str]| topics.iter().map(|topic| topic_name(topic)).collect::<Vec<_>>();
        let names = topics.map(names);
        let request = OffsetFetchRequest::default();
        if version < 8 {
            let topic = |name| {
                OffsetFetchRequestTopic::default()
                    .with_name(name)
                    .with_partition_indexes(vec![0])
            };
            let topics = names.map(|names| names.into_iter().map(topic).collect());
            let request = request.with_group_id(group_id(group)).with_topics(topics);
            let response: OffsetFetchResponse = self.ask(Api::OffsetFetch, version, &request).await;
            let found = response.topics.iter().flat_map(|topic| &topic.partitions);
            let found = found.map(|partition| {
                OffsetFetchResponsePartitions::default()
                    .with_committed_offset(partition.committed_offset)
                    .with_metadata(partition.metadata.clone())
                    .with_error_code(partition.error_code)
            });
            return Committed {
                error_code: response.error_code,
                partitions: found.collect(),
            };
        }
        let topic = |name| {
            OffsetFetchRequestTopics::default()
                .with_name(name)
                .with_partition_indexes(vec![0])
        };
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(names.map(|names| names.into_iter().map(topic).collect()));
        let response: OffsetFetchResponse = self
            .ask(Api::OffsetFetch, version, &request.with_groups(vec![asked]))
            .await;
        let found = &response.groups[0];
        Committed {
            error_code: found.error_code,
            partitions: found.topics.iter().flat_map(|topic| topic.partitions.clone()).collect(),
        }
    }

    /// Joins a group, in the way that the version has for new members.
    pub(in crate::kafka) async fn join(&mut self, group: &str, version: i16) -> JoinGroupResponse {
        let mut member = String::new();
        loop {
            let request = join_request(group, &member, version);
            let response: JoinGroupResponse = self.ask(Api::JoinGroup, version, &request).await;
            match response.error_code {
                COORDINATOR_LOAD_IN_PROGRESS => {}
                MEMBER_ID_REQUIRED => member = response.member_id.to_string(),
                _ => return response,
            }
        }
    }

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
