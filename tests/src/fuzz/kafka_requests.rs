//! Requests of Kafka clients: header and body, as they stand in a frame.
//!
//! kafka-protocol is the second opinion. Its own encoders write the seeds; what the hot path's hand-written decoders read
//! is compared with what it reads; and what it decodes behind the project's walk must survive being encoded.

use super::consumer_groups as groups;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, ProducerId, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::fmt::Debug;
use trimaran_wire::api::{self, Api, RequestHeader, TABLE};
use trimaran_wire::batch;
use trimaran_wire::fetch::FetchRequest;
use trimaran_wire::produce::ProduceRequest;
use trimaran_wire::request::{MAX_ELEMENTS, Request, decode_request};

pub(super) fn target(data: &[u8]) {
    let mut frame = BytesMut::from(data);
    let Ok(header) = api::decode_header(&mut frame) else {
        return;
    };
    assert!(header.api.spec().accepts(header.version));
    let body = frame.freeze();
    let decoded = decode_request(&header, BytesMut::from(&body[..]));
    let Ok(request) = decoded else { return };
    match &request {
        Request::Produce(request) => produce(&header, &body, request),
        Request::Fetch(request) => fetch(&header, &body, request),
        Request::ListOffsets(request) => again(&header, request),
        Request::Metadata(request) => again(&header, request),
        Request::OffsetCommit(request) => again(&header, request),
        Request::OffsetFetch(request) => again(&header, request),
        Request::FindCoordinator(request) => again(&header, request),
        Request::JoinGroup(request) => again(&header, request),
        Request::Heartbeat(request) => again(&header, request),
        Request::LeaveGroup(request) => again(&header, request),
        Request::SyncGroup(request) => again(&header, request),
        Request::DescribeGroups(request) => again(&header, request),
        Request::ListGroups(request) => again(&header, request),
        Request::ApiVersions(request) => again(&header, request),
        Request::CreateTopics(request) => again(&header, request),
        Request::DeleteTopics(request) => again(&header, request),
        Request::InitProducerId(request) => again(&header, request),
        Request::OffsetForLeaderEpoch(request) => again(&header, request),
        Request::DescribeConfigs(request) => again(&header, request),
        Request::CreatePartitions(request) => again(&header, request),
        Request::DeleteGroups(request) => again(&header, request),
        Request::AlterPartitionReassignments(request) => again(&header, request),
        Request::ListPartitionReassignments(request) => again(&header, request),
        Request::OffsetDelete(request) => again(&header, request),
        Request::DescribeCluster(request) => again(&header, request),
    }
}

/// Encoded and decoded again, it is the same.
fn again<T: Encodable + Decodable + PartialEq + Debug>(header: &RequestHeader, request: &T) {
    let version = header.version;
    let mut encoded = BytesMut::new();
    request
        .encode(&mut encoded, version)
        .unwrap_or_else(|error| panic!("{:?} {version} can't be encoded: {error}: {request:?}", header.api));
    let decoded = decode_request(header, encoded.clone());
    assert!(decoded.is_ok(), "{decoded:?}");
    let decoded = T::decode(&mut encoded.freeze(), version).expect("it was walked and decoded before");
    assert_eq!(decoded, *request);
}

fn produce(header: &RequestHeader, body: &Bytes, request: &ProduceRequest) {
    let partitions = || request.topics.iter().flat_map(|topic| &topic.partitions);
    let records: usize = partitions()
        .filter_map(|partition| partition.records.as_ref())
        .map(BytesMut::len)
        .sum();
    assert!(records <= body.len() && partitions().count() <= MAX_ELEMENTS);
    let Some(expected) = canonical::<kp::ProduceRequest>(header, body) else {
        return;
    };
    assert_eq!(request.acks, expected.acks);
    assert_eq!(request.timeout_ms, expected.timeout_ms);
    let transactional_id = expected.transactional_id.map(|id| id.to_string());
    assert_eq!(request.transactional_id, transactional_id);
    assert_eq!(request.topics.len(), expected.topic_data.len());
    for (topic, expected) in request.topics.iter().zip(expected.topic_data) {
        assert_eq!(topic.name.as_str(), expected.name.as_str());
        let found = topic
            .partitions
            .iter()
            .map(|p| (p.index, p.records.clone().map(BytesMut::freeze)));
        assert!(found.eq(expected.partition_data.into_iter().map(|p| (p.index, p.records))));
    }
}

fn fetch(header: &RequestHeader, body: &Bytes, request: &FetchRequest) {
    let Some(expected) = canonical::<kp::FetchRequest>(header, body) else {
        return;
    };
    let replica = if header.version >= 15 {
        expected.replica_state.replica_id
    } else {
        expected.replica_id
    };
    assert_eq!(request.replica_id, replica.0);
    assert_eq!(request.max_wait_ms, expected.max_wait_ms);
    assert_eq!(request.min_bytes, expected.min_bytes);
    assert_eq!(request.max_bytes, expected.max_bytes);
    assert_eq!(request.isolation_level, expected.isolation_level);
    assert_eq!(
        (request.session_id, request.session_epoch),
        (expected.session_id, expected.session_epoch)
    );
    assert_eq!(request.rack_id.as_str(), expected.rack_id.as_str());
    assert_eq!(request.topics.len(), expected.topics.len());
    for (topic, expected) in request.topics.iter().zip(expected.topics) {
        assert_eq!(topic.name.as_str(), expected.topic.as_str());
        assert_eq!(topic.topic_id.0, *expected.topic_id.as_bytes());
        let found = topic
            .partitions
            .iter()
            .map(|p| (p.index, p.fetch_offset.0, p.max_bytes));
        let wanted = expected.partitions.iter();
        assert!(found.eq(wanted.map(|p| (p.partition, p.fetch_offset, p.partition_max_bytes))));
        for (found, wanted) in topic.partitions.iter().zip(&expected.partitions) {
            let epoch = |epoch: i32| (epoch >= 0).then_some(epoch);
            assert_eq!(
                found.current_leader_epoch.map(|found| found.0),
                epoch(wanted.current_leader_epoch)
            );
            assert_eq!(
                found.last_fetched_epoch.map(|found| found.0),
                epoch(wanted.last_fetched_epoch)
            );
        }
    }
}

/// What kafka-protocol reads, where the body is just as it would write it. Elsewhere (tags whose length is not that of
/// their content, for one) it is not an authority.
fn canonical<T: Encodable + Decodable>(header: &RequestHeader, body: &Bytes) -> Option<T> {
    let value = T::decode(&mut body.clone(), header.version).ok()?;
    let mut encoded = BytesMut::new();
    value.encode(&mut encoded, header.version).ok()?;
    (encoded == body[..]).then_some(value)
}

/// A frame of every API in every version, with something in every field that the version has; and two that stop early.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for spec in TABLE {
        for version in spec.min..=spec.max {
            let mut frame = BytesMut::new();
            frame.put_i16(spec.key);
            frame.put_i16(version);
            frame.put_i32(77);
            frame.put_i16(4);
            frame.put_slice(b"fuzz");
            if spec.api.is_flexible(version) {
                frame.put_u8(0);
            }
            frame.put(body(spec.api, version));
            frames.push(frame.to_vec());
        }
    }
    frames.push(vec![0, 18, 0, 99, 0, 0, 0, 5]);
    frames.push(vec![0, 77, 0, 0]);
    frames
}

fn body(api: Api, version: i16) -> BytesMut {
    match api {
        Api::Produce => produce_body(version),
        Api::Fetch => encoded(&fetch_sample(version), version),
        Api::ListOffsets => encoded(&list_offsets(version), version),
        Api::Metadata => encoded(&metadata(version), version),
        Api::OffsetCommit => encoded(&groups::offset_commit(version), version),
        Api::OffsetFetch => encoded(&groups::offset_fetch(version), version),
        Api::FindCoordinator => encoded(&find_coordinator(version), version),
        Api::JoinGroup => encoded(&groups::join_group(version), version),
        Api::Heartbeat => encoded(&groups::heartbeat(version), version),
        Api::LeaveGroup => encoded(&groups::leave_group(version), version),
        Api::SyncGroup => encoded(&groups::sync_group(version), version),
        Api::DescribeGroups => encoded(&groups::describe_groups(version), version),
        Api::ListGroups => encoded(&groups::list_groups(version), version),
        Api::ApiVersions => encoded(&api_versions(version), version),
        Api::CreateTopics => encoded(&create_topics(), version),
        Api::DeleteTopics => encoded(&delete_topics(version), version),
        Api::InitProducerId => encoded(&init_producer_id(version), version),
        Api::OffsetForLeaderEpoch => encoded(&offset_for_leader_epoch(version), version),
        Api::DescribeConfigs => encoded(&describe_configs(version), version),
        Api::CreatePartitions => encoded(&create_partitions(), version),
        Api::DeleteGroups => encoded(&groups::delete_groups(), version),
        Api::AlterPartitionReassignments => encoded(&reassign(), version),
        Api::ListPartitionReassignments => encoded(&reassignments(), version),
        Api::OffsetDelete => encoded(&groups::offset_delete(), version),
        Api::DescribeCluster => encoded(&kp::DescribeClusterRequest::default(), version),
    }
}

fn encoded(request: &impl Encodable, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    request
        .encode(&mut out, version)
        .expect("a sample has only what its version has");
    out
}

pub(super) fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

pub(super) fn name(name: &'static str) -> TopicName {
    TopicName(text(name))
}

fn reassign() -> kp::AlterPartitionReassignmentsRequest {
    use kp::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let partition = ReassignablePartition::default()
        .with_partition_index(3)
        .with_replicas(Some(vec![kp::BrokerId(1), kp::BrokerId(2)]));
    let taken_back = ReassignablePartition::default().with_replicas(None);
    let topic = ReassignableTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition, taken_back]);
    kp::AlterPartitionReassignmentsRequest::default().with_topics(vec![topic])
}

fn reassignments() -> kp::ListPartitionReassignmentsRequest {
    use kp::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
    let topic = ListPartitionReassignmentsTopics::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![1, 2]);
    kp::ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic]))
}

/// kafka-protocol has no versions below 3, which begin with the transactional id.
fn produce_body(version: i16) -> BytesMut {
    let records = batch::build(1_700_000_000_000, &[(Some(b"k"), Some(b"v")), (None, None)]).freeze();
    let partition = PartitionProduceData::default()
        .with_index(3)
        .with_records(Some(records));
    let none = PartitionProduceData::default().with_index(4).with_records(None);
    let topic = TopicProduceData::default()
        .with_name(name("t"))
        .with_partition_data(vec![partition, none]);
    let request = kp::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1500)
        .with_topic_data(vec![topic.clone(), topic]);
    let mut body = encoded(&request, version.max(3));
    if version < 3 { body.split_off(2) } else { body }
}

fn fetch_sample(version: i16) -> kp::FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(3)
        .with_fetch_offset(42)
        .with_partition_max_bytes(1 << 20)
        .with_current_leader_epoch(if version >= 9 { 7 } else { -1 })
        .with_last_fetched_epoch(if version >= 12 { 6 } else { -1 });
    let topic = FetchTopic::default().with_partitions(vec![partition.clone(), partition]);
    let topic = if version >= 13 {
        topic.with_topic_id(uuid())
    } else {
        topic.with_topic(name("t"))
    };
    let mut request = kp::FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    if version >= 7 {
        let forgotten = ForgottenTopic::default().with_partitions(vec![1, 2]);
        let forgotten = if version >= 13 {
            forgotten.with_topic_id(uuid())
        } else {
            forgotten.with_topic(name("f"))
        };
        request = request
            .with_session_id(9)
            .with_session_epoch(2)
            .with_forgotten_topics_data(vec![forgotten]);
    }
    if version >= 11 {
        request = request.with_rack_id(text("rack"));
    }
    if version >= 15 {
        request.replica_state.replica_id = BrokerId(5);
        request.replica_state.replica_epoch = 6;
    }
    request
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_bytes([7; 16])
}

fn list_offsets(version: i16) -> kp::ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(3)
        .with_current_leader_epoch(if version >= 4 { 9 } else { -1 })
        .with_timestamp(1_700_000_000_000);
    let topic = ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition; 2]);
    kp::ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(i8::from(version >= 2))
        .with_topics(vec![topic])
}

fn metadata(version: i16) -> kp::MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(name("t")));
    let topic = if version >= 10 {
        topic.with_topic_id(uuid())
    } else {
        topic
    };
    kp::MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(version < 4)
        .with_include_topic_authorized_operations(version >= 8)
}

fn find_coordinator(version: i16) -> kp::FindCoordinatorRequest {
    let request = kp::FindCoordinatorRequest::default().with_key_type(i8::from(version >= 1));
    if version >= 4 {
        request.with_coordinator_keys(vec![text("a"), text("b")])
    } else {
        request.with_key(text("a"))
    }
}

fn api_versions(version: i16) -> kp::ApiVersionsRequest {
    let request = kp::ApiVersionsRequest::default();
    if version < 3 {
        return request;
    }
    request
        .with_client_software_name(text("librdkafka"))
        .with_client_software_version(text("2.0.2"))
}

fn create_topics() -> kp::CreateTopicsRequest {
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
    let config = CreatableTopicConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1")));
    let topic = CreatableTopic::default()
        .with_name(name("t"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment])
        .with_configs(vec![config.clone(), config.with_value(None)]);
    kp::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(5)
        .with_validate_only(true)
}

fn delete_topics(version: i16) -> kp::DeleteTopicsRequest {
    let request = kp::DeleteTopicsRequest::default().with_timeout_ms(5);
    if version < 6 {
        return request.with_topic_names(vec![name("a"), name("b")]);
    }
    let by_name = DeleteTopicState::default().with_name(Some(name("a")));
    request.with_topics(vec![by_name, DeleteTopicState::default().with_topic_id(uuid())])
}

fn init_producer_id(version: i16) -> kp::InitProducerIdRequest {
    let request = kp::InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("tx"))));
    if version >= 3 {
        request.with_producer_id(ProducerId(4)).with_producer_epoch(2)
    } else {
        request
    }
}

fn offset_for_leader_epoch(version: i16) -> kp::OffsetForLeaderEpochRequest {
    let partition = OffsetForLeaderPartition::default()
        .with_partition(1)
        .with_leader_epoch(2);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(name("t"))
        .with_partitions(vec![partition]);
    let request = kp::OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    if version >= 3 {
        request.with_replica_id(BrokerId(-1))
    } else {
        request
    }
}

fn describe_configs(version: i16) -> kp::DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(Some(vec![text("retention.ms"), text("cleanup.policy")]));
    let every_key = resource.clone().with_configuration_keys(None);
    kp::DescribeConfigsRequest::default()
        .with_resources(vec![resource, every_key])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3)
}

fn create_partitions() -> kp::CreatePartitionsRequest {
    let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
    let topic = CreatePartitionsTopic::default()
        .with_name(name("t"))
        .with_count(3)
        .with_assignments(Some(vec![assignment.clone(), assignment]));
    kp::CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_of_the_table_is_read() {
        for seed in seeds().iter().rev().skip(2) {
            let mut frame = BytesMut::from(&seed[..]);
            let header = api::decode_header(&mut frame).unwrap();
            assert_eq!((header.correlation_id, header.client_id.as_deref()), (77, Some("fuzz")));
            decode_request(&header, frame).unwrap_or_else(|error| panic!("{header:?}: {error}"));
        }
    }

    #[test]
    fn produce_and_fetch_are_compared_with_the_second_opinion() {
        let mut compared = 0;
        for seed in seeds().iter().rev().skip(2) {
            let mut frame = BytesMut::from(&seed[..]);
            let header = api::decode_header(&mut frame).unwrap();
            let body = frame.freeze();
            compared += match header.api {
                Api::Produce => usize::from(canonical::<kp::ProduceRequest>(&header, &body).is_some()),
                Api::Fetch => usize::from(canonical::<kp::FetchRequest>(&header, &body).is_some()),
                _ => 0,
            };
        }
        assert_eq!(compared, 9 + 13, "Produce from 3 to 11, Fetch from 4 to 16");
    }
}
