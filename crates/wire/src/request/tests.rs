mod responses;

use super::*;
use crate::api::{ApiSpec, TABLE};
use crate::batch::Offset;
use crate::testing::{Rng, consumer_groups as groups};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProducerId,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::{self as kp, StrBytes};
use std::fmt::Debug;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn name(name: &'static str) -> TopicName {
    TopicName(text(name))
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_bytes([7; 16])
}

fn encoded(request: &impl Encodable, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    request.encode(&mut out, version).unwrap();
    out
}

fn header(api: Api, version: i16) -> RequestHeader {
    RequestHeader {
        api,
        version,
        correlation_id: 1,
        client_id: None,
    }
}

/// A request of every API that kafka-protocol decodes, with something in every field that the version has.
fn sample(api: Api, version: i16) -> BytesMut {
    match api {
        Api::Produce | Api::Fetch => BytesMut::new(),
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
        Api::DescribeCluster => encoded(&DescribeClusterRequest::default(), version),
    }
}

fn reassign() -> AlterPartitionReassignmentsRequest {
    use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let partition = ReassignablePartition::default()
        .with_partition_index(3)
        .with_replicas(Some(vec![BrokerId(1), BrokerId(2)]));
    let taken_back = ReassignablePartition::default().with_replicas(None);
    let topic = ReassignableTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition, taken_back]);
    AlterPartitionReassignmentsRequest::default().with_topics(vec![topic])
}

fn reassignments() -> ListPartitionReassignmentsRequest {
    use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
    let topic = ListPartitionReassignmentsTopics::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![1, 2]);
    ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic]))
}

fn list_offsets(version: i16) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(3)
        .with_current_leader_epoch(if version >= 4 { 9 } else { -1 })
        .with_timestamp(1_700_000_000_000);
    let topic = ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition.clone(), partition]);
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(i8::from(version >= 2))
        .with_topics(vec![topic])
}

fn metadata(version: i16) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(name("t")));
    let topic = if version >= 10 {
        topic.with_topic_id(uuid())
    } else {
        topic
    };
    MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(version < 4)
        .with_include_topic_authorized_operations(version >= 8)
}

fn find_coordinator(version: i16) -> FindCoordinatorRequest {
    let request = FindCoordinatorRequest::default().with_key_type(i8::from(version >= 1));
    if version >= 4 {
        request.with_coordinator_keys(vec![text("a"), text("b")])
    } else {
        request.with_key(text("a"))
    }
}

fn api_versions(version: i16) -> ApiVersionsRequest {
    let request = ApiVersionsRequest::default();
    if version < 3 {
        return request;
    }
    request
        .with_client_software_name(text("librdkafka"))
        .with_client_software_version(text("2.0.2"))
}

fn create_topics() -> CreateTopicsRequest {
    let assignment = CreatableReplicaAssignment::default()
        .with_partition_index(0)
        .with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
    let config = CreatableTopicConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1")));
    let topic = CreatableTopic::default()
        .with_name(name("t"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment])
        .with_configs(vec![config.clone(), config.with_value(None)]);
    CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(5)
        .with_validate_only(true)
}

fn delete_topics(version: i16) -> DeleteTopicsRequest {
    let request = DeleteTopicsRequest::default().with_timeout_ms(5);
    if version < 6 {
        return request.with_topic_names(vec![name("a"), name("b")]);
    }
    let by_name = DeleteTopicState::default().with_name(Some(name("a")));
    request.with_topics(vec![by_name, DeleteTopicState::default().with_topic_id(uuid())])
}

fn init_producer_id(version: i16) -> InitProducerIdRequest {
    let request = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("tx"))));
    if version >= 3 {
        request.with_producer_id(ProducerId(4)).with_producer_epoch(2)
    } else {
        request
    }
}

fn offset_for_leader_epoch(version: i16) -> OffsetForLeaderEpochRequest {
    let partition = OffsetForLeaderPartition::default()
        .with_partition(1)
        .with_leader_epoch(2);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(name("t"))
        .with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    if version >= 3 {
        request.with_replica_id(BrokerId(-1))
    } else {
        request
    }
}

fn describe_configs(version: i16) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(Some(vec![text("retention.ms"), text("cleanup.policy")]));
    let every_key = resource.clone().with_configuration_keys(None);
    DescribeConfigsRequest::default()
        .with_resources(vec![resource, every_key])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3)
}

fn create_partitions() -> CreatePartitionsRequest {
    let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
    let topic = CreatePartitionsTopic::default()
        .with_name(name("t"))
        .with_count(3)
        .with_assignments(Some(vec![assignment.clone(), assignment]));
    CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(5)
}

/// Every API that kafka-protocol decodes, in every version, with a sample.
fn samples() -> impl Iterator<Item = (&'static ApiSpec, i16, BytesMut)> {
    let guarded = TABLE.iter().filter(|spec| spec.request.is_some());
    guarded.flat_map(|spec| (spec.min..=spec.max).map(move |v| (spec, v, sample(spec.api, v))))
}

/// The schemas say what kafka-protocol's encoders write: to the byte.
#[test]
fn schemas_agree_with_an_independent_encoder() {
    for (spec, version, body) in samples() {
        let mut reader = Reader::new(&body, spec.api.is_flexible(version));
        schema::walk(spec.request.unwrap(), version, &mut reader).unwrap();
        assert_eq!(reader.left(), 0, "{} {version}", spec.name);
    }
}

/// A request as kafka-protocol's own client frames it.
fn framed_elsewhere<C: Call + kp::Request>(version: i16, request: &C) -> BytesMut {
    let mut frame = BytesMut::new();
    let header = kafka_protocol::messages::RequestHeader::default()
        .with_request_api_key(<C as kp::Request>::KEY)
        .with_request_api_version(version)
        .with_correlation_id(9)
        .with_client_id(Some(text("a-client")));
    kp::encode_request_header_into_buffer(&mut frame, &header).unwrap();
    request.encode(&mut frame, version).unwrap();
    frame
}

/// Encodes a request as a client does, and reads it as a broker does.
fn through_the_wire<C: Call + kp::Request>(version: i16, request: &C) -> Request {
    let frame = encode_request(version, 9, Some("a-client"), request).unwrap();
    assert_eq!(frame, framed_elsewhere(version, request), "{:?} {version}", C::API);
    let mut frame = BytesMut::from(frame);
    let header = api::decode_header(&mut frame).unwrap();
    let expected = RequestHeader {
        api: C::API,
        version,
        correlation_id: 9,
        client_id: Some("a-client".to_owned()),
    };
    assert_eq!(header, expected);
    decode_request(&header, frame).unwrap()
}

fn check_round_trip<C: Call + kp::Request + PartialEq + Debug>(
    request: impl Fn(i16) -> C,
    unwrap: impl Fn(Request) -> Option<C>,
) -> Vec<(Api, i16)> {
    let versions = C::API.spec().min..=C::API.spec().max;
    let check = |version| {
        let expected = request(version);
        let decoded = unwrap(through_the_wire(version, &expected));
        assert_eq!(decoded, Some(expected), "{:?} {version}", C::API);
        (C::API, version)
    };
    versions.map(check).collect()
}

macro_rules! round_trip {
    ($api:ident, $request:expr) => {
        check_round_trip($request, |request| match request {
            Request::$api(request) => Some(request),
            _ => None,
        })
    };
}

/// kafka-protocol has no older version.
fn produce_round_trips() -> Vec<(Api, i16)> {
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    let check = |version| {
        let data = PartitionProduceData::default()
            .with_index(4)
            .with_records(Some(Bytes::from_static(b"records")));
        let topic = TopicProduceData::default()
            .with_name(name("t"))
            .with_partition_data(vec![data]);
        let request = kafka_protocol::messages::ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(5)
            .with_topic_data(vec![topic]);
        let Request::Produce(decoded) = through_the_wire(version, &request) else {
            panic!("no Produce")
        };
        assert_eq!((decoded.acks, decoded.timeout_ms), (-1, 5));
        assert_eq!(
            (&decoded.topics[0].name[..], decoded.topics[0].partitions[0].index),
            ("t", 4)
        );
        assert_eq!(
            decoded.topics[0].partitions[0].records.as_deref(),
            Some(&b"records"[..])
        );
        (Api::Produce, version)
    };
    let versions = crate::produce::FIRST_SERVED_VERSION..=Api::Produce.spec().max;
    versions.map(check).collect()
}

fn fetch_round_trips() -> Vec<(Api, i16)> {
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    let check = |version| {
        let partition = FetchPartition::default()
            .with_partition(4)
            .with_fetch_offset(42)
            .with_partition_max_bytes(1000);
        let topic = FetchTopic::default().with_partitions(vec![partition]);
        let topic = if version < 13 {
            topic.with_topic(name("t"))
        } else {
            topic.with_topic_id(uuid())
        };
        let request = kafka_protocol::messages::FetchRequest::default()
            .with_max_wait_ms(7)
            .with_min_bytes(1)
            .with_topics(vec![topic]);
        let Request::Fetch(decoded) = through_the_wire(version, &request) else {
            panic!("no Fetch")
        };
        assert_eq!((decoded.max_wait_ms, decoded.min_bytes), (7, 1));
        let partition = &decoded.topics[0].partitions[0];
        assert_eq!((partition.index, partition.fetch_offset), (4, Offset(42)));
        (Api::Fetch, version)
    };
    let versions = Api::Fetch.spec().min..=Api::Fetch.spec().max;
    versions.map(check).collect()
}

#[test]
fn requests_of_every_version_are_encoded_and_decoded() {
    let checked = [
        produce_round_trips(),
        fetch_round_trips(),
        round_trip!(ListOffsets, list_offsets),
        round_trip!(Metadata, metadata),
        round_trip!(OffsetCommit, groups::offset_commit),
        round_trip!(OffsetFetch, groups::offset_fetch),
        round_trip!(FindCoordinator, find_coordinator),
        round_trip!(JoinGroup, groups::join_group),
        round_trip!(Heartbeat, groups::heartbeat),
        round_trip!(LeaveGroup, groups::leave_group),
        round_trip!(SyncGroup, groups::sync_group),
        round_trip!(DescribeGroups, groups::describe_groups),
        round_trip!(ListGroups, groups::list_groups),
        round_trip!(ApiVersions, api_versions),
        round_trip!(CreateTopics, |_| create_topics()),
        round_trip!(DeleteTopics, delete_topics),
        round_trip!(InitProducerId, init_producer_id),
        round_trip!(OffsetForLeaderEpoch, offset_for_leader_epoch),
        round_trip!(DescribeConfigs, describe_configs),
        round_trip!(CreatePartitions, |_| create_partitions()),
        round_trip!(DeleteGroups, |_| groups::delete_groups()),
        round_trip!(AlterPartitionReassignments, |_| reassign()),
        round_trip!(ListPartitionReassignments, |_| reassignments()),
        round_trip!(OffsetDelete, |_| groups::offset_delete()),
        round_trip!(DescribeCluster, |_| DescribeClusterRequest::default()),
    ];
    let all = TABLE.iter().flat_map(|spec| {
        let oldest = if spec.api == Api::Produce { 3 } else { spec.min };
        (oldest..=spec.max).map(|version| (spec.api, version))
    });
    assert_eq!(checked.concat(), all.collect::<Vec<_>>());
}

#[test]
fn a_request_that_no_broker_could_read_is_not_encoded() {
    let request = MetadataRequest::default();
    let unknown = WireError::UnsupportedVersion {
        api: Api::Metadata,
        version: 99,
        correlation_id: 9,
    };
    assert_eq!(encode_request(99, 9, None, &request), Err(unknown));
    let long = "x".repeat(32_768);
    let refused = encode_request(9, 9, Some(&long), &request);
    assert!(matches!(refused, Err(WireError::Malformed(_))), "{refused:?}");
    // Version 1 can't say that no topic is to be created.
    let forbids = MetadataRequest::default().with_allow_auto_topic_creation(false);
    let refused = encode_request(1, 9, None, &forbids);
    assert!(matches!(refused, Err(WireError::Malformed(_))), "{refused:?}");
    // No client id, and an empty one.
    assert_eq!(
        encode_request(0, 5, None, &ApiVersionsRequest::default()).unwrap(),
        &[0, 18, 0, 0, 0, 0, 0, 5, 255, 255][..]
    );
    assert_eq!(
        encode_request(0, 5, Some(""), &ApiVersionsRequest::default()).unwrap(),
        &[0, 18, 0, 0, 0, 0, 0, 5, 0, 0][..]
    );
}

#[test]
fn no_topics_and_all_topics_are_told_apart() {
    for version in 1..=12 {
        for topics in [None, Some(Vec::new())] {
            let request = MetadataRequest::default().with_topics(topics.clone());
            let decoded = decode_request(&header(Api::Metadata, version), encoded(&request, version)).unwrap();
            let Request::Metadata(decoded) = decoded else {
                panic!("{decoded:?}")
            };
            assert_eq!(decoded.topics, topics);
        }
    }
}

#[test]
fn cut_requests_are_errors() {
    for (spec, version, body) in samples() {
        for length in 0..body.len() {
            let cut = BytesMut::from(&body[..length]);
            assert!(
                decode_request(&header(spec.api, version), cut).is_err(),
                "{} {version} {length}",
                spec.name
            );
        }
    }
}

#[test]
fn bytes_behind_a_request_are_ignored() {
    for (spec, version, mut body) in samples() {
        body.extend_from_slice(b"more");
        assert!(
            decode_request(&header(spec.api, version), body).is_ok(),
            "{} {version}",
            spec.name
        );
    }
}

/// kafka-protocol would allocate what these counts say.
#[test]
fn counts_beyond_the_frame_are_refused() {
    let topics = |count: &[u8]| decode_request(&header(Api::Metadata, 1), BytesMut::from(count));
    let refused = |claimed| Err(WireError::Count { claimed, left: 0 });
    assert_eq!(topics(&[0x7f, 0xff, 0xff, 0xff]), refused(i64::from(i32::MAX)));
    assert_eq!(topics(&[0x80, 0, 0, 0]), refused(i64::from(i32::MIN)));
    let compact = decode_request(
        &header(Api::Metadata, 9),
        BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x0f][..]),
    );
    assert_eq!(compact, refused(i64::from(u32::MAX) - 1));
    let too_long = decode_request(
        &header(Api::Metadata, 9),
        BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x7f][..]),
    );
    assert_eq!(too_long, Err(WireError::Number));
}

#[test]
fn a_frame_of_empty_elements_is_refused() {
    let count = MAX_ELEMENTS + 1;
    let mut body = BytesMut::new();
    body.put_i32(i32::try_from(count).unwrap());
    body.put_bytes(0, 2 * count);
    assert_eq!(
        decode_request(&header(Api::Metadata, 1), body),
        Err(WireError::TooManyElements)
    );
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(4);
    let samples: Vec<_> = samples().collect();
    for round in 0..400 {
        for (spec, version, body) in &samples {
            let bytes = if round % 4 == 0 {
                rng.bytes(64)
            } else {
                rng.mutate(body)
            };
            let _ = decode_request(&header(spec.api, *version), BytesMut::from(&bytes[..]));
        }
    }
}
