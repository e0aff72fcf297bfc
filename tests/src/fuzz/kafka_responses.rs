//! Responses, as the project's own client reads them from a broker that it does not trust.

use super::consumer_groups as groups;
use super::kafka_requests::{name, text};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use std::fmt::Debug;
use trimaran_wire::api::{self, Api, ApiSpec, TABLE};
use trimaran_wire::batch::{self, LeaderEpoch, Offset};
use trimaran_wire::fetch::{self, FetchPartitionResponse, FetchResponse, FetchTopicResponse};
use trimaran_wire::produce::{self, ProducePartitionResponse, ProduceResponse, ProduceTopicResponse};
use trimaran_wire::request::{Response, decode_response, encode_response};
use trimaran_wire::{LeaderHint, NodeEndpoint, TopicId};

/// A line of the table, a version, a frame.
pub(super) fn target(data: &[u8]) {
    let [line, version, frame @ ..] = data else { return };
    let spec = &TABLE[usize::from(*line) % TABLE.len()];
    let (first, last) = versions(spec);
    let version = first + i16::from(*version) % (last - first + 1);
    let frame = Bytes::copy_from_slice(frame);
    match spec.api {
        Api::Produce => check::<kp::ProduceResponse>(spec.api, version, frame),
        Api::Fetch => check::<kp::FetchResponse>(spec.api, version, frame),
        Api::ListOffsets => check::<kp::ListOffsetsResponse>(spec.api, version, frame),
        Api::Metadata => check::<kp::MetadataResponse>(spec.api, version, frame),
        Api::OffsetCommit => check::<kp::OffsetCommitResponse>(spec.api, version, frame),
        Api::OffsetFetch => check::<kp::OffsetFetchResponse>(spec.api, version, frame),
        Api::FindCoordinator => check::<kp::FindCoordinatorResponse>(spec.api, version, frame),
        Api::JoinGroup => check::<kp::JoinGroupResponse>(spec.api, version, frame),
        Api::Heartbeat => check::<kp::HeartbeatResponse>(spec.api, version, frame),
        Api::LeaveGroup => check::<kp::LeaveGroupResponse>(spec.api, version, frame),
        Api::SyncGroup => check::<kp::SyncGroupResponse>(spec.api, version, frame),
        Api::DescribeGroups => check::<kp::DescribeGroupsResponse>(spec.api, version, frame),
        Api::ListGroups => check::<kp::ListGroupsResponse>(spec.api, version, frame),
        Api::ApiVersions => check::<kp::ApiVersionsResponse>(spec.api, version, frame),
        Api::CreateTopics => check::<kp::CreateTopicsResponse>(spec.api, version, frame),
        Api::DeleteTopics => check::<kp::DeleteTopicsResponse>(spec.api, version, frame),
        Api::InitProducerId => check::<kp::InitProducerIdResponse>(spec.api, version, frame),
        Api::OffsetForLeaderEpoch => check::<kp::OffsetForLeaderEpochResponse>(spec.api, version, frame),
        Api::DescribeConfigs => check::<kp::DescribeConfigsResponse>(spec.api, version, frame),
        Api::CreatePartitions => check::<kp::CreatePartitionsResponse>(spec.api, version, frame),
        Api::DeleteGroups => check::<kp::DeleteGroupsResponse>(spec.api, version, frame),
        Api::AlterPartitionReassignments => check::<kp::AlterPartitionReassignmentsResponse>(spec.api, version, frame),
        Api::ListPartitionReassignments => check::<kp::ListPartitionReassignmentsResponse>(spec.api, version, frame),
        Api::OffsetDelete => check::<kp::OffsetDeleteResponse>(spec.api, version, frame),
        Api::DescribeCluster => check::<kp::DescribeClusterResponse>(spec.api, version, frame),
    }
}

/// Those of the table, but for the oldest of Produce, which kafka-protocol does not have.
fn versions(spec: &ApiSpec) -> (i16, i16) {
    let first = if spec.api == Api::Produce {
        produce::FIRST_SERVED_VERSION
    } else {
        spec.min
    };
    (first, spec.max)
}

fn check<T: Response + PartialEq + Debug>(api: Api, version: i16, frame: Bytes) {
    assert_eq!(T::API, api);
    let Ok((correlation_id, response)) = decode_response::<T>(version, frame) else {
        return;
    };
    let again = encode_response(version, correlation_id, &response)
        .unwrap_or_else(|error| panic!("{api:?} {version} can't be encoded: {error}: {response:?}"));
    assert_eq!(
        decode_response::<T>(version, again),
        Ok((correlation_id, response)),
        "{api:?} {version}"
    );
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (line, spec) in (0..).zip(TABLE) {
        let (first, last) = versions(spec);
        for version in first..=last {
            let mut seed = BytesMut::new();
            seed.put_u8(line);
            seed.put_u8(u8::try_from(version - first).expect("few versions"));
            seed.put(frame(spec.api, version));
            seeds.push(seed.to_vec());
        }
    }
    seeds
}

fn frame(api: Api, version: i16) -> Bytes {
    match api {
        Api::Produce => produce::encode_response(version, 77, &produced()).concat().into(),
        Api::Fetch => fetch::encode_response(version, 77, &fetched()).concat().into(),
        Api::ListOffsets => encoded(api, version, &list_offsets(version)),
        Api::Metadata => encoded(api, version, &metadata(version)),
        Api::OffsetCommit => encoded(api, version, &groups::offset_committed()),
        Api::OffsetFetch => encoded(api, version, &groups::offset_fetched(version)),
        Api::FindCoordinator => encoded(api, version, &find_coordinator(version)),
        Api::JoinGroup => encoded(api, version, &groups::joined_group(version)),
        Api::Heartbeat => encoded(api, version, &kp::HeartbeatResponse::default()),
        Api::LeaveGroup => encoded(api, version, &groups::left_group(version)),
        Api::SyncGroup => encoded(api, version, &groups::synced_group(version)),
        Api::DescribeGroups => encoded(api, version, &groups::described_groups(version)),
        Api::ListGroups => encoded(api, version, &groups::listed_groups(version)),
        Api::ApiVersions => encoded(api, version, &api::versions_response(0)),
        Api::CreateTopics => encoded(api, version, &create_topics(version)),
        Api::DeleteTopics => encoded(api, version, &delete_topics()),
        Api::InitProducerId => encoded(api, version, &kp::InitProducerIdResponse::default()),
        Api::OffsetForLeaderEpoch => encoded(api, version, &epoch_ends()),
        Api::DescribeConfigs => encoded(api, version, &describe_configs(version)),
        Api::CreatePartitions => encoded(api, version, &create_partitions()),
        Api::DeleteGroups => encoded(api, version, &groups::deleted_groups()),
        Api::AlterPartitionReassignments => encoded(api, version, &reassigned()),
        Api::ListPartitionReassignments => encoded(api, version, &reassignments()),
        Api::OffsetDelete => encoded(api, version, &groups::offset_deleted()),
        Api::DescribeCluster => encoded(api, version, &describe_cluster()),
    }
}

fn encoded(api: Api, version: i16, response: &impl Response) -> Bytes {
    assert_eq!(api, api_of(response));
    encode_response(version, 77, response).expect("a sample has only what its version has")
}

fn api_of<T: Response>(_: &T) -> Api {
    T::API
}

fn reassigned() -> kp::AlterPartitionReassignmentsResponse {
    use kp::alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse};
    let partition = ReassignablePartitionResponse::default()
        .with_error_code(39)
        .with_error_message(Some(text("m")));
    let topic = ReassignableTopicResponse::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    kp::AlterPartitionReassignmentsResponse::default().with_responses(vec![topic])
}

fn reassignments() -> kp::ListPartitionReassignmentsResponse {
    use kp::list_partition_reassignments_response::{OngoingPartitionReassignment, OngoingTopicReassignment};
    let partition = OngoingPartitionReassignment::default()
        .with_replicas(vec![BrokerId(1), BrokerId(2)])
        .with_adding_replicas(vec![BrokerId(2)])
        .with_removing_replicas(vec![BrokerId(1)]);
    let topic = OngoingTopicReassignment::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    kp::ListPartitionReassignmentsResponse::default().with_topics(vec![topic])
}

fn endpoint() -> NodeEndpoint {
    NodeEndpoint {
        node_id: 2,
        host: "h".into(),
        port: 9092,
        rack: None,
    }
}

const HINT: Option<LeaderHint> = Some(LeaderHint {
    leader_id: 2,
    leader_epoch: LeaderEpoch(9),
});

fn produced() -> ProduceResponse {
    let refused = ProducePartitionResponse {
        record_errors: vec![(1, Some("m".into()))],
        current_leader: HINT,
        ..ProducePartitionResponse::refused(0, 6, None)
    };
    let topic = ProduceTopicResponse {
        name: "t".into(),
        partitions: vec![refused],
    };
    ProduceResponse {
        topics: vec![topic],
        throttle_time_ms: 0,
        node_endpoints: vec![endpoint()],
    }
}

fn fetched() -> FetchResponse {
    let partition = FetchPartitionResponse {
        aborted_transactions: Some(vec![(1, Offset(2))]),
        records: vec![batch::build(5, &[(None, Some(b"v"))]).freeze()],
        diverging_epoch: Some((LeaderEpoch(1), Offset(2))),
        current_leader: HINT,
        ..FetchPartitionResponse::failed(0, 0)
    };
    let topic = FetchTopicResponse {
        name: "t".into(),
        topic_id: TopicId([1; 16]),
        partitions: vec![partition],
    };
    FetchResponse {
        topics: vec![topic],
        node_endpoints: vec![endpoint()],
        ..FetchResponse::default()
    }
}

fn list_offsets(version: i16) -> kp::ListOffsetsResponse {
    let partition = ListOffsetsPartitionResponse::default()
        .with_offset(5)
        .with_leader_epoch(if version >= 4 { 3 } else { -1 });
    let topic = ListOffsetsTopicResponse::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    kp::ListOffsetsResponse::default().with_topics(vec![topic])
}

fn metadata(version: i16) -> kp::MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(text("h"))
        .with_port(9092);
    let partition = MetadataResponsePartition::default()
        .with_leader_id(BrokerId(1))
        .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
        .with_isr_nodes(vec![BrokerId(1)]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(name("t")))
        .with_partitions(vec![partition; 2]);
    let topic = if version >= 10 {
        topic.with_topic_id(uuid::Uuid::from_bytes([7; 16]))
    } else {
        topic
    };
    kp::MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_topics(vec![topic])
}

fn find_coordinator(version: i16) -> kp::FindCoordinatorResponse {
    let response = kp::FindCoordinatorResponse::default();
    if version < 4 {
        return response.with_host(text("h")).with_port(1).with_node_id(BrokerId(1));
    }
    response.with_coordinators(vec![Coordinator::default().with_key(text("g")).with_host(text("h"))])
}

fn create_topics(version: i16) -> kp::CreateTopicsResponse {
    let config = CreatableTopicConfigs::default()
        .with_name(text("k"))
        .with_value(Some(text("v")));
    let topic = CreatableTopicResult::default()
        .with_name(name("t"))
        .with_error_message(Some(text("m")));
    let topic = if version >= 5 {
        topic
            .with_num_partitions(3)
            .with_configs(Some(vec![config]))
            .with_topic_config_error_code(29)
    } else {
        topic
    };
    kp::CreateTopicsResponse::default().with_topics(vec![topic])
}

fn delete_topics() -> kp::DeleteTopicsResponse {
    let topic = DeletableTopicResult::default().with_name(Some(name("t")));
    kp::DeleteTopicsResponse::default().with_responses(vec![topic; 2])
}

fn epoch_ends() -> kp::OffsetForLeaderEpochResponse {
    let partition = EpochEndOffset::default().with_leader_epoch(3).with_end_offset(9);
    let topic = OffsetForLeaderTopicResult::default()
        .with_topic(name("t"))
        .with_partitions(vec![partition]);
    kp::OffsetForLeaderEpochResponse::default().with_topics(vec![topic])
}

fn describe_configs(version: i16) -> kp::DescribeConfigsResponse {
    let synonym = DescribeConfigsSynonym::default()
        .with_name(text("k"))
        .with_value(None)
        .with_source(5);
    let config = DescribeConfigsResourceResult::default()
        .with_name(text("k"))
        .with_value(Some(text("v")))
        .with_config_source(1)
        .with_synonyms(vec![synonym])
        .with_config_type(if version >= 3 { 2 } else { 0 });
    let result = DescribeConfigsResult::default()
        .with_resource_name(text("t"))
        .with_configs(vec![config]);
    kp::DescribeConfigsResponse::default().with_results(vec![result])
}

fn create_partitions() -> kp::CreatePartitionsResponse {
    let topic = CreatePartitionsTopicResult::default()
        .with_name(name("t"))
        .with_error_message(Some(text("m")));
    kp::CreatePartitionsResponse::default().with_results(vec![topic; 2])
}

fn describe_cluster() -> kp::DescribeClusterResponse {
    let broker = DescribeClusterBroker::default()
        .with_host(text("h"))
        .with_rack(Some(text("r")));
    kp::DescribeClusterResponse::default()
        .with_cluster_id(text("c"))
        .with_brokers(vec![broker])
}
