//! Responses, as the project's own client reads them.

use super::{name, text, uuid};
use crate::api::{self, Api, TABLE};
use crate::batch::{LeaderEpoch, Offset};
use crate::fetch::{self, FetchPartitionResponse, FetchResponse, FetchTopicResponse};
use crate::produce::{self, ProducePartitionResponse, ProduceResponse, ProduceTopicResponse};
use crate::request::{Response, decode_response, encode_response};
use crate::testing::{Rng, consumer_groups as groups};
use crate::{LeaderHint, NodeEndpoint, TopicId, WireError};
use bytes::Bytes;
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
use kafka_protocol::messages::{self as kp, BrokerId};
use std::fmt::Debug;

/// Frames that were encoded, one for each version.
type Frames = Vec<(Api, i16, Bytes)>;

fn check<T: Response + PartialEq + Debug>(frames: &mut Frames, api: Api, response: impl Fn(i16) -> T) {
    assert_eq!(T::API, api);
    for version in api.spec().min.max(if api == Api::Produce { 3 } else { 0 })..=api.spec().max {
        let expected = response(version);
        let frame = encode_response(version, 77, &expected).unwrap();
        let decoded = decode_response::<T>(version, frame.clone());
        assert_eq!(decoded, Ok((77, expected)), "{api:?} {version}");
        frames.push((api, version, frame));
    }
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
        topic.with_topic_id(uuid())
    } else {
        topic
    };
    kp::MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_topics(vec![topic])
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

fn find_coordinator(version: i16) -> kp::FindCoordinatorResponse {
    let response = kp::FindCoordinatorResponse::default();
    if version < 4 {
        return response.with_host(text("h")).with_port(1).with_node_id(BrokerId(1));
    }
    response.with_coordinators(vec![Coordinator::default().with_key(text("g")).with_host(text("h"))])
}

fn reassign(_: i16) -> kp::AlterPartitionReassignmentsResponse {
    use kafka_protocol::messages::alter_partition_reassignments_response::{
        ReassignablePartitionResponse, ReassignableTopicResponse,
    };
    let partition = ReassignablePartitionResponse::default()
        .with_error_code(39)
        .with_error_message(Some(text("m")));
    let topic = ReassignableTopicResponse::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    kp::AlterPartitionReassignmentsResponse::default().with_responses(vec![topic])
}

fn reassignments(_: i16) -> kp::ListPartitionReassignmentsResponse {
    use kafka_protocol::messages::list_partition_reassignments_response::{
        OngoingPartitionReassignment, OngoingTopicReassignment,
    };
    let partition = OngoingPartitionReassignment::default()
        .with_replicas(vec![BrokerId(1), BrokerId(2)])
        .with_adding_replicas(vec![BrokerId(2)])
        .with_removing_replicas(vec![BrokerId(1)]);
    let topic = OngoingTopicReassignment::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    kp::ListPartitionReassignmentsResponse::default().with_topics(vec![topic])
}

fn describe_cluster(_: i16) -> kp::DescribeClusterResponse {
    let broker = DescribeClusterBroker::default()
        .with_host(text("h"))
        .with_rack(Some(text("r")));
    kp::DescribeClusterResponse::default()
        .with_cluster_id(text("c"))
        .with_brokers(vec![broker])
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

fn epoch_ends(_: i16) -> kp::OffsetForLeaderEpochResponse {
    let partition = EpochEndOffset::default().with_leader_epoch(3).with_end_offset(9);
    let topic = OffsetForLeaderTopicResult::default()
        .with_topic(name("t"))
        .with_partitions(vec![partition]);
    kp::OffsetForLeaderEpochResponse::default().with_topics(vec![topic])
}

/// With the features that other brokers tell.
fn api_versions(version: i16) -> kp::ApiVersionsResponse {
    use kafka_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
    let response = api::versions_response(0);
    if version < 3 {
        return response;
    }
    response
        .with_supported_features(vec![
            SupportedFeatureKey::default().with_name(text("f")).with_max_version(2),
        ])
        .with_finalized_features_epoch(4)
        .with_finalized_features(vec![FinalizedFeatureKey::default().with_name(text("f"))])
        .with_zk_migration_ready(true)
}

fn endpoint() -> NodeEndpoint {
    NodeEndpoint {
        node_id: 2,
        host: "h".into(),
        port: 9092,
        rack: None,
    }
}

fn hint() -> Option<LeaderHint> {
    Some(LeaderHint {
        leader_id: 2,
        leader_epoch: LeaderEpoch(9),
    })
}

fn own_frames() -> Frames {
    let mut frames = Frames::new();
    for version in 3..=Api::Produce.spec().max {
        let refused = ProducePartitionResponse {
            record_errors: vec![(1, Some("m".into()))],
            current_leader: hint(),
            ..ProducePartitionResponse::refused(0, 6, None)
        };
        let topics = vec![ProduceTopicResponse {
            name: "t".into(),
            partitions: vec![refused],
        }];
        let response = ProduceResponse {
            topics,
            throttle_time_ms: 0,
            node_endpoints: vec![endpoint()],
        };
        frames.push((
            Api::Produce,
            version,
            produce::encode_response(version, 77, &response).concat().into(),
        ));
    }
    for version in Api::Fetch.spec().min..=Api::Fetch.spec().max {
        let partition = FetchPartitionResponse {
            aborted_transactions: Some(vec![(1, Offset(2))]),
            records: vec![Bytes::from_static(b"records")],
            diverging_epoch: Some((LeaderEpoch(1), Offset(2))),
            current_leader: hint(),
            ..FetchPartitionResponse::failed(0, 0)
        };
        let topic = FetchTopicResponse {
            name: "t".into(),
            topic_id: TopicId([1; 16]),
            partitions: vec![partition],
        };
        let response = FetchResponse {
            topics: vec![topic],
            node_endpoints: vec![endpoint()],
            ..FetchResponse::default()
        };
        frames.push((
            Api::Fetch,
            version,
            fetch::encode_response(version, 77, &response).concat().into(),
        ));
    }
    frames
}

/// Every response in every version, checked where it can be on the way.
fn all_frames() -> Frames {
    let mut frames = own_frames();
    check(&mut frames, Api::ListOffsets, list_offsets);
    check(&mut frames, Api::Metadata, metadata);
    check(&mut frames, Api::OffsetCommit, |_| groups::offset_committed());
    check(&mut frames, Api::OffsetFetch, groups::offset_fetched);
    check(&mut frames, Api::FindCoordinator, find_coordinator);
    check(&mut frames, Api::JoinGroup, groups::joined_group);
    check(&mut frames, Api::Heartbeat, |_| kp::HeartbeatResponse::default());
    check(&mut frames, Api::LeaveGroup, groups::left_group);
    check(&mut frames, Api::SyncGroup, groups::synced_group);
    check(&mut frames, Api::DescribeGroups, groups::described_groups);
    check(&mut frames, Api::ListGroups, groups::listed_groups);
    check(&mut frames, Api::ApiVersions, api_versions);
    check(&mut frames, Api::CreateTopics, create_topics);
    check(&mut frames, Api::DeleteTopics, |_| {
        let topic = DeletableTopicResult::default().with_name(Some(name("t")));
        kp::DeleteTopicsResponse::default().with_responses(vec![topic; 2])
    });
    check(&mut frames, Api::InitProducerId, |_| {
        kp::InitProducerIdResponse::default()
    });
    check(&mut frames, Api::OffsetForLeaderEpoch, epoch_ends);
    check(&mut frames, Api::DescribeConfigs, describe_configs);
    check(&mut frames, Api::CreatePartitions, |_| {
        let topic = CreatePartitionsTopicResult::default()
            .with_name(name("t"))
            .with_error_message(Some(text("m")));
        kp::CreatePartitionsResponse::default().with_results(vec![topic; 2])
    });
    check(&mut frames, Api::DeleteGroups, |_| groups::deleted_groups());
    check(&mut frames, Api::AlterPartitionReassignments, reassign);
    check(&mut frames, Api::ListPartitionReassignments, reassignments);
    check(&mut frames, Api::OffsetDelete, |_| groups::offset_deleted());
    check(&mut frames, Api::DescribeCluster, describe_cluster);
    frames
}

/// Whether a frame is read, whatever it is.
fn decodes(api: Api, version: i16, frame: Bytes) -> Result<i32, WireError> {
    fn id<T>(decoded: Result<(i32, T), WireError>) -> Result<i32, WireError> {
        decoded.map(|(id, _)| id)
    }
    match api {
        Api::Produce => id(decode_response::<kp::ProduceResponse>(version, frame)),
        Api::Fetch => id(decode_response::<kp::FetchResponse>(version, frame)),
        Api::ListOffsets => id(decode_response::<kp::ListOffsetsResponse>(version, frame)),
        Api::Metadata => id(decode_response::<kp::MetadataResponse>(version, frame)),
        Api::OffsetCommit => id(decode_response::<kp::OffsetCommitResponse>(version, frame)),
        Api::OffsetFetch => id(decode_response::<kp::OffsetFetchResponse>(version, frame)),
        Api::FindCoordinator => id(decode_response::<kp::FindCoordinatorResponse>(version, frame)),
        Api::JoinGroup => id(decode_response::<kp::JoinGroupResponse>(version, frame)),
        Api::Heartbeat => id(decode_response::<kp::HeartbeatResponse>(version, frame)),
        Api::LeaveGroup => id(decode_response::<kp::LeaveGroupResponse>(version, frame)),
        Api::SyncGroup => id(decode_response::<kp::SyncGroupResponse>(version, frame)),
        Api::DescribeGroups => id(decode_response::<kp::DescribeGroupsResponse>(version, frame)),
        Api::ListGroups => id(decode_response::<kp::ListGroupsResponse>(version, frame)),
        Api::ApiVersions => id(decode_response::<kp::ApiVersionsResponse>(version, frame)),
        Api::CreateTopics => id(decode_response::<kp::CreateTopicsResponse>(version, frame)),
        Api::DeleteTopics => id(decode_response::<kp::DeleteTopicsResponse>(version, frame)),
        Api::InitProducerId => id(decode_response::<kp::InitProducerIdResponse>(version, frame)),
        Api::OffsetForLeaderEpoch => id(decode_response::<kp::OffsetForLeaderEpochResponse>(version, frame)),
        Api::DescribeConfigs => id(decode_response::<kp::DescribeConfigsResponse>(version, frame)),
        Api::CreatePartitions => id(decode_response::<kp::CreatePartitionsResponse>(version, frame)),
        Api::DeleteGroups => id(decode_response::<kp::DeleteGroupsResponse>(version, frame)),
        Api::AlterPartitionReassignments => id(decode_response::<kp::AlterPartitionReassignmentsResponse>(
            version, frame,
        )),
        Api::ListPartitionReassignments => id(decode_response::<kp::ListPartitionReassignmentsResponse>(
            version, frame,
        )),
        Api::OffsetDelete => id(decode_response::<kp::OffsetDeleteResponse>(version, frame)),
        Api::DescribeCluster => id(decode_response::<kp::DescribeClusterResponse>(version, frame)),
    }
}

#[test]
fn responses_of_every_version_are_read() {
    let frames = all_frames();
    let versions: i16 = TABLE.iter().map(|spec| spec.max - spec.min + 1).sum();
    assert_eq!(
        frames.len(),
        versions as usize - 3,
        "all but the oldest versions of Produce"
    );
    for (api, version, frame) in frames {
        assert_eq!(decodes(api, version, frame), Ok(77), "{api:?} {version}");
    }
}

#[test]
fn cut_responses_are_errors() {
    for (api, version, frame) in all_frames() {
        for length in 0..frame.len() {
            assert!(
                decodes(api, version, frame.slice(..length)).is_err(),
                "{api:?} {version} {length}"
            );
        }
    }
}

/// A count inside a tagged field, which kafka-protocol would allocate for as well.
#[test]
fn counts_in_tagged_fields_are_checked() {
    let mut frame = vec![0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0];
    frame.extend([1, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let refused = decodes(Api::ApiVersions, 3, Bytes::from(frame.clone()));
    assert!(matches!(refused, Err(WireError::Count { .. })), "{refused:?}");
    // A tag that is longer than its content.
    frame.truncate(11);
    frame.extend([1, 3, 2, 1, 0]);
    assert_eq!(decodes(Api::ApiVersions, 3, Bytes::from(frame)), Err(WireError::Tag(3)));
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(8);
    let frames = all_frames();
    for _ in 0..300 {
        for (api, version, frame) in &frames {
            let _ = decodes(*api, *version, Bytes::from(rng.mutate(frame)));
        }
    }
}
