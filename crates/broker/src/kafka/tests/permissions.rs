//! Clients without permission: what they are told, what they must not learn, and that nothing is done for them.

use super::words::{
    OFFSETS, commit_request, fetch_request, group_id, join_request, leave_request, only_partition, produce_request,
    read, records, topic_name,
};
use super::{Client, TestBroker, text};
use crate::kafka::{Authorizer, Operation, Resource, Session};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{self as kp, BrokerId, TransactionalId};
use trimaran_wire::TopicId;
use trimaran_wire::api::{Api, TABLE};
use trimaran_wire::fetch::FIRST_TOPIC_ID_VERSION;
use trimaran_wire::produce::FIRST_SERVED_VERSION;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC: i16 = 29;
const GROUP: i16 = 30;
const CLUSTER: i16 = 31;
const TRANSACTIONAL_ID: i16 = 53;
const UNKNOWN_TOPIC_ID: i16 = 100;

const NOT_ASKED: i32 = i32::MIN;

/// A topic that there is, and one that there is not.
const NAMES: [&str; 2] = ["secret", "none"];

/// Allows what a function allows.
struct Allow<F>(F);

impl<F: Fn(Operation, Resource<'_>) -> bool + Send + Sync + 'static> Authorizer for Allow<F> {
    fn allows(&self, _: &Session, operation: Operation, resource: Resource<'_>) -> bool {
        self.0(operation, resource)
    }
}

fn nothing() -> impl Authorizer {
    Allow(|_, _: Resource<'_>| false)
}

/// A broker with the topic `secret`, which holds one record; a client that may do everything; and the topic's id.
async fn broker() -> (TestBroker, Client, TopicId) {
    let broker = TestBroker::start().await;
    let mut owner = broker.with_topic("secret", 1, &[]).await;
    assert_eq!(owner.produce("secret", 0, records(&["x"])).await.error_code, 0);
    let id = owner.metadata(&["secret"]).await.topics[0].topic_id.into();
    (broker, owner, id)
}

fn creatable(name: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
}

async fn all_topics(client: &mut Client) -> Vec<(String, usize)> {
    let request = kp::MetadataRequest::default().with_topics(None);
    let response: kp::MetadataResponse = client.ask(Api::Metadata, 12, &request).await;
    let topics = response.topics.into_iter();
    topics
        .map(|topic| (topic.name.unwrap().to_string(), topic.partitions.len()))
        .collect()
}

/// The errors that a client without any permission gets for each topic, group or other resource that it names.
async fn errors(client: &mut Client, api: Api, version: i16, id: TopicId) -> Vec<i16> {
    match api {
        Api::Produce => produce(client, version).await,
        Api::Fetch => fetch(client, version, id).await,
        Api::ListOffsets => list_offsets(client, version).await,
        Api::Metadata => metadata(client, version).await,
        Api::FindCoordinator => find_coordinator(client, version).await,
        Api::OffsetCommit
        | Api::OffsetFetch
        | Api::JoinGroup
        | Api::Heartbeat
        | Api::LeaveGroup
        | Api::SyncGroup
        | Api::DescribeGroups
        | Api::ListGroups
        | Api::DeleteGroups
        | Api::OffsetDelete => group_errors(client, api, version).await,
        Api::ApiVersions => {
            let mut request = kp::ApiVersionsRequest::default();
            if version >= 3 {
                request = request
                    .with_client_software_name(text("x"))
                    .with_client_software_version(text("1"));
            }
            let response: kp::ApiVersionsResponse = client.ask(api, version, &request).await;
            assert_eq!(response.api_keys.len(), TABLE.len());
            vec![response.error_code]
        }
        Api::CreateTopics => {
            let request = kp::CreateTopicsRequest::default()
                .with_topics(NAMES.map(creatable).to_vec())
                .with_timeout_ms(1_000);
            let response: kp::CreateTopicsResponse = client.ask(api, version, &request).await;
            let topics = response.topics.iter();
            topics.map(|topic| topic.error_code).collect()
        }
        Api::DeleteTopics => {
            let request = kp::DeleteTopicsRequest::default().with_timeout_ms(1_000);
            let named = |name| DeleteTopicState::default().with_name(Some(topic_name(name)));
            let request = match version {
                ..6 => request.with_topic_names(NAMES.map(topic_name).to_vec()),
                _ => request.with_topics(NAMES.map(named).to_vec()),
            };
            let response: kp::DeleteTopicsResponse = client.ask(api, version, &request).await;
            response.responses.iter().map(|topic| topic.error_code).collect()
        }
        Api::InitProducerId => {
            let idempotent = kp::InitProducerIdRequest::default().with_transactional_id(None);
            let transactional = idempotent
                .clone()
                .with_transactional_id(Some(TransactionalId(text("t"))));
            let mut codes = Vec::new();
            for request in [idempotent, transactional] {
                let response: kp::InitProducerIdResponse = client.ask(api, version, &request).await;
                assert_eq!(response.producer_id.0, -1);
                codes.push(response.error_code);
            }
            codes
        }
        Api::OffsetForLeaderEpoch => offset_for_leader_epoch(client, version).await,
        Api::DescribeConfigs => describe_configs(client, version).await,
        Api::CreatePartitions => {
            let grown = |name| {
                CreatePartitionsTopic::default()
                    .with_name(topic_name(name))
                    .with_count(2)
            };
            let request = kp::CreatePartitionsRequest::default()
                .with_topics(NAMES.map(grown).to_vec())
                .with_timeout_ms(1_000);
            let response: kp::CreatePartitionsResponse = client.ask(api, version, &request).await;
            response.results.iter().map(|topic| topic.error_code).collect()
        }
        Api::AlterPartitionReassignments => alter_reassignments(client, version).await,
        Api::ListPartitionReassignments => list_reassignments(client, version).await,
        Api::DescribeCluster => {
            let request = kp::DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
            let response: kp::DescribeClusterResponse = client.ask(api, version, &request).await;
            // Clients need the brokers, but must not learn what they may do.
            assert_eq!((response.brokers.len(), response.cluster_authorized_operations), (1, 0));
            vec![response.error_code]
        }
    }
}

/// The errors that a client without any permission gets for each group, or for each topic of a group.
async fn group_errors(client: &mut Client, api: Api, version: i16) -> Vec<i16> {
    match api {
        Api::OffsetCommit => {
            let request = commit_request("g", NAMES, 0).with_retention_time_ms(-1);
            let response: kp::OffsetCommitResponse = client.ask(api, version, &request).await;
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code).collect()
        }
        Api::OffsetFetch => {
            let fetched = client.committed(version, "g", Some(&NAMES)).await;
            assert!(
                fetched
                    .partitions
                    .iter()
                    .all(|partition| partition.committed_offset == -1)
            );
            match version {
                1 => fetched
                    .partitions
                    .iter()
                    .map(|partition| partition.error_code)
                    .collect(),
                _ => vec![fetched.error_code],
            }
        }
        Api::JoinGroup => {
            let response: kp::JoinGroupResponse = client.ask(api, version, &join_request("g", "m", version)).await;
            assert!((response.generation_id, response.members.len()) == (-1, 0));
            vec![response.error_code]
        }
        Api::Heartbeat => {
            let request = kp::HeartbeatRequest::default().with_group_id(group_id("g"));
            let response: kp::HeartbeatResponse = client.ask(api, version, &request).await;
            vec![response.error_code]
        }
        Api::LeaveGroup => {
            let response: kp::LeaveGroupResponse = client.ask(api, version, &leave_request("g", "m", version)).await;
            assert!(response.members.is_empty());
            vec![response.error_code]
        }
        Api::SyncGroup => {
            let request = kp::SyncGroupRequest::default().with_group_id(group_id("g"));
            let response: kp::SyncGroupResponse = client.ask(api, version, &request).await;
            assert!(response.assignment.is_empty());
            vec![response.error_code]
        }
        Api::DescribeGroups => {
            let request = kp::DescribeGroupsRequest::default()
                .with_groups(vec![group_id("g")])
                .with_include_authorized_operations(version >= 3);
            let response: kp::DescribeGroupsResponse = client.ask(api, version, &request).await;
            let group = &response.groups[0];
            assert_eq!(
                (group.authorized_operations, group.group_state.as_str()),
                (NOT_ASKED, "")
            );
            vec![group.error_code]
        }
        Api::ListGroups => {
            let response: kp::ListGroupsResponse = client.ask(api, version, &kp::ListGroupsRequest::default()).await;
            assert!(response.groups.is_empty(), "groups are not shown");
            vec![response.error_code]
        }
        Api::DeleteGroups => {
            let request = kp::DeleteGroupsRequest::default().with_groups_names(vec![group_id("g")]);
            let response: kp::DeleteGroupsResponse = client.ask(api, version, &request).await;
            response.results.iter().map(|result| result.error_code).collect()
        }
        Api::OffsetDelete => {
            let request = kp::OffsetDeleteRequest::default().with_group_id(group_id("g"));
            let response: kp::OffsetDeleteResponse = client.ask(api, version, &request).await;
            vec![response.error_code]
        }
        other => panic!("{other:?} is not about groups"),
    }
}

async fn produce(client: &mut Client, version: i16) -> Vec<i16> {
    let mut request = produce_request(NAMES[0], 0, -1, records(&["y"]));
    let other = produce_request(NAMES[1], 0, -1, records(&["y"]));
    request.topic_data.extend(other.topic_data);
    let response: kp::ProduceResponse = client.ask(Api::Produce, version, &request).await;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions
        .map(|partition| {
            assert_eq!(partition.base_offset, -1);
            partition.error_code
        })
        .collect()
}

async fn fetch(client: &mut Client, version: i16, id: TopicId) -> Vec<i16> {
    let by_name = |name| fetch_request(name, 0, 0).topics.remove(0);
    // Only ids that exist: one that doesn't is told from them, as it is by Kafka.
    let topics = match version {
        ..FIRST_TOPIC_ID_VERSION => NAMES.map(by_name),
        _ => [
            by_name("").with_topic_id(id.into()),
            by_name("").with_topic_id(id.into()),
        ],
    };
    let mut request = fetch_request("", 0, 0).with_topics(topics.to_vec());
    // An error is told at once, however long the client would wait.
    request = request.with_max_wait_ms(60_000).with_min_bytes(1_000_000);
    let response: kp::FetchResponse = client.ask(Api::Fetch, version, &request).await;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            assert_eq!(
                (
                    partition.high_watermark,
                    partition.records.as_ref().map_or(0, |r| r.len())
                ),
                (-1, 0)
            );
            partition.error_code
        })
        .collect()
}

async fn list_offsets(client: &mut Client, version: i16) -> Vec<i16> {
    let asked = |name| {
        ListOffsetsTopic::default()
            .with_name(topic_name(name))
            .with_partitions(vec![ListOffsetsPartition::default().with_timestamp(-1)])
    };
    let request = kp::ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(NAMES.map(asked).to_vec());
    let response: kp::ListOffsetsResponse = client.ask(Api::ListOffsets, version, &request).await;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            assert_eq!((partition.offset, partition.timestamp), (-1, -1));
            partition.error_code
        })
        .collect()
}

async fn metadata(client: &mut Client, version: i16) -> Vec<i16> {
    let named = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let mut request = kp::MetadataRequest::default().with_topics(Some(NAMES.map(named).to_vec()));
    request = request.with_include_topic_authorized_operations(version >= 8);
    request = request.with_include_cluster_authorized_operations((8..=10).contains(&version));
    let response: kp::MetadataResponse = client.ask(Api::Metadata, version, &request).await;
    assert_eq!(response.brokers.len(), 1, "clients need them");
    if (8..=10).contains(&version) {
        assert_eq!(response.cluster_authorized_operations, 0);
    }
    let all =
        kp::MetadataRequest::default().with_topics((version >= 1).then_some(()).map_or(Some(Vec::new()), |()| None));
    let all: kp::MetadataResponse = client.ask(Api::Metadata, version, &all).await;
    assert_eq!(all.topics.len(), 0, "nothing is said of what was not named");
    let codes = response.topics.iter().map(|topic| {
        assert!(topic.topic_id.is_nil() && topic.partitions.is_empty());
        assert_eq!(topic.topic_authorized_operations, NOT_ASKED);
        topic.error_code
    });
    codes.collect()
}

async fn find_coordinator(client: &mut Client, version: i16) -> Vec<i16> {
    let mut codes = Vec::new();
    for key_type in 0..=i8::from(version >= 1) {
        let request = kp::FindCoordinatorRequest::default().with_key_type(key_type);
        let request = match version {
            ..4 => request.with_key(text("k")),
            _ => request.with_coordinator_keys(vec![text("k")]),
        };
        let response: kp::FindCoordinatorResponse = client.ask(Api::FindCoordinator, version, &request).await;
        let each = response.coordinators.iter().map(|coordinator| coordinator.error_code);
        codes.extend(each);
        if version < 4 {
            codes.push(response.error_code);
        }
    }
    codes
}

async fn offset_for_leader_epoch(client: &mut Client, version: i16) -> Vec<i16> {
    let asked = |name| {
        OffsetForLeaderTopic::default()
            .with_topic(topic_name(name))
            .with_partitions(vec![OffsetForLeaderPartition::default().with_leader_epoch(1)])
    };
    let mut request = kp::OffsetForLeaderEpochRequest::default().with_topics(NAMES.map(asked).to_vec());
    request = request.with_replica_id(BrokerId(if version >= 3 { -1 } else { -2 }));
    let response: kp::OffsetForLeaderEpochResponse = client.ask(Api::OffsetForLeaderEpoch, version, &request).await;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            assert_eq!((partition.leader_epoch, partition.end_offset), (-1, -1));
            partition.error_code
        })
        .collect()
}

async fn describe_configs(client: &mut Client, version: i16) -> Vec<i16> {
    let resource = |kind, name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    let resources = vec![resource(2, NAMES[0]), resource(2, NAMES[1]), resource(4, "1")];
    let request = kp::DescribeConfigsRequest::default().with_resources(resources);
    let response: kp::DescribeConfigsResponse = client.ask(Api::DescribeConfigs, version, &request).await;
    let results = response.results.iter();
    results
        .map(|result| {
            assert!(result.configs.is_empty());
            result.error_code
        })
        .collect()
}

async fn alter_reassignments(client: &mut Client, version: i16) -> Vec<i16> {
    let moved = |name| {
        let partition = ReassignablePartition::default().with_replicas(Some(vec![BrokerId(1)]));
        ReassignableTopic::default()
            .with_name(topic_name(name))
            .with_partitions(vec![partition])
    };
    let request = kp::AlterPartitionReassignmentsRequest::default()
        .with_topics(NAMES.map(moved).to_vec())
        .with_timeout_ms(1_000);
    let response: kp::AlterPartitionReassignmentsResponse =
        client.ask(Api::AlterPartitionReassignments, version, &request).await;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    [response.error_code].into_iter().chain(codes).collect()
}

async fn list_reassignments(client: &mut Client, version: i16) -> Vec<i16> {
    let named = |name| {
        ListPartitionReassignmentsTopics::default()
            .with_name(topic_name(name))
            .with_partition_indexes(vec![0])
    };
    let named = kp::ListPartitionReassignmentsRequest::default().with_topics(Some(NAMES.map(named).to_vec()));
    let all = kp::ListPartitionReassignmentsRequest::default().with_topics(None);
    let mut codes = Vec::new();
    for request in [named, all] {
        let response: kp::ListPartitionReassignmentsResponse =
            client.ask(Api::ListPartitionReassignments, version, &request).await;
        let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        assert!(partitions.all(|partition| partition.replicas.is_empty()));
        codes.push(response.error_code);
    }
    codes
}

/// The errors of [`errors`], in Kafka's codes.
fn expected(api: Api, version: i16) -> Vec<i16> {
    match api {
        Api::Produce | Api::Fetch | Api::ListOffsets | Api::Metadata | Api::OffsetForLeaderEpoch => vec![TOPIC; 2],
        Api::CreateTopics | Api::DeleteTopics | Api::CreatePartitions => vec![TOPIC; 2],
        Api::FindCoordinator if version == 0 => vec![GROUP],
        Api::FindCoordinator => vec![GROUP, TRANSACTIONAL_ID],
        Api::InitProducerId => vec![CLUSTER, TRANSACTIONAL_ID],
        Api::DescribeConfigs => vec![TOPIC, TOPIC, CLUSTER],
        Api::AlterPartitionReassignments => vec![CLUSTER; 3],
        Api::ListPartitionReassignments => vec![CLUSTER; 2],
        Api::OffsetCommit => vec![GROUP; 2],
        Api::OffsetFetch if version == 1 => vec![GROUP; 2],
        Api::OffsetFetch
        | Api::JoinGroup
        | Api::Heartbeat
        | Api::LeaveGroup
        | Api::SyncGroup
        | Api::DescribeGroups
        | Api::DeleteGroups
        | Api::OffsetDelete => vec![GROUP],
        // Nothing is refused, and nothing is shown.
        Api::ListGroups => vec![0],
        Api::ApiVersions | Api::DescribeCluster => vec![0],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_api_in_every_version_refuses_a_client_without_permissions() {
    let (broker, mut owner, id) = broker().await;
    // A group that there is.
    owner.find_coordinator("g").await;
    assert_eq!(owner.commit("g", "secret", 7).await, 0);
    let mut client = broker.connect_as(nothing()).await;
    for spec in TABLE {
        // Earlier versions of Produce are refused to everybody.
        let first = if spec.api == Api::Produce {
            FIRST_SERVED_VERSION
        } else {
            spec.min
        };
        for version in first..=spec.max {
            let errors = errors(&mut client, spec.api, version, id).await;
            assert_eq!(errors, expected(spec.api, version), "{} {version}", spec.name);
        }
    }
    // Nothing was done.
    assert_eq!(owner.offset(8, "secret", -1).await.offset, 1);
    assert_eq!(read(&owner.fetch("secret", 0, 0).await), [(0, "x".to_owned())]);
    let committed = owner.committed(8, "g", None).await;
    assert_eq!(
        (committed.error_code, committed.partitions[0].committed_offset),
        (0, 7),
        "{committed:?}"
    );
    let topics = all_topics(&mut owner).await.into_iter();
    let topics: Vec<_> = topics.filter(|(name, _)| name != OFFSETS).collect();
    assert_eq!(topics, [("secret".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_producer_without_permission_is_disconnected() {
    let (broker, mut owner, _) = broker().await;
    let mut client = broker.connect_as(nothing()).await;
    client
        .send(Api::Produce, 9, &produce_request("secret", 0, 0, records(&["y"])))
        .await;
    client.assert_closed().await;
    assert_eq!(owner.offset(8, "secret", -1).await.offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactional_producer_needs_its_id() {
    let (broker, _, _) = broker().await;
    let mut client = broker
        .connect_as(Allow(|_, resource: Resource<'_>| {
            resource != Resource::TransactionalId("t")
        }))
        .await;
    let request =
        produce_request("secret", 0, -1, records(&["y"])).with_transactional_id(Some(TransactionalId(text("t"))));
    let response: kp::ProduceResponse = client.ask(Api::Produce, 9, &request).await;
    let refused = &response.responses[0].partition_responses[0];
    assert_eq!((refused.error_code, refused.base_offset), (TRANSACTIONAL_ID, -1));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_pass_for_the_topics_that_are_allowed() {
    let (broker, mut owner, _) = broker().await;
    let open = broker.with_topic("open", 1, &[]).await;
    drop(open);
    let mut client = broker
        .connect_as(Allow(|operation, resource: Resource<'_>| {
            matches!(operation, Operation::Read | Operation::Write) && resource == Resource::Topic("open")
        }))
        .await;
    let mut request = produce_request("secret", 0, -1, records(&["y"]));
    request
        .topic_data
        .extend(produce_request("open", 0, -1, records(&["y"])).topic_data);
    let response: kp::ProduceResponse = client.ask(Api::Produce, 9, &request).await;
    let codes: Vec<_> = response
        .responses
        .iter()
        .map(|topic| (topic.name.to_string(), topic.partition_responses[0].error_code))
        .collect();
    assert_eq!(codes, [("secret".to_owned(), TOPIC), ("open".to_owned(), 0)]);
    assert_eq!(owner.offset(8, "secret", -1).await.offset, 1);

    let mut request = fetch_request("secret", 0, 0);
    request.topics.extend(fetch_request("open", 0, 0).topics);
    let response: kp::FetchResponse = client.ask(Api::Fetch, 12, &request).await;
    assert_eq!(only_partition(&response).error_code, TOPIC);
    assert_eq!(read(only_partition(&response)), []);
    let open = &response.responses[1].partitions[0];
    assert_eq!((open.error_code, read(open)), (0, vec![(0, "y".to_owned())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_no_secret_but_their_names_are() {
    let (broker, _, id) = broker().await;
    let mut client = broker.connect_as(nothing()).await;
    let other = TopicId([9; 16]);
    let by_id = |id: TopicId| MetadataRequestTopic::default().with_name(None).with_topic_id(id.into());
    let request = kp::MetadataRequest::default().with_topics(Some(vec![by_id(id), by_id(other)]));
    let response: kp::MetadataResponse = client.ask(Api::Metadata, 12, &request).await;
    let told: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.error_code, topic.name.clone(), topic.topic_id.into()))
        .collect();
    assert_eq!(told, [(TOPIC, None, id), (UNKNOWN_TOPIC_ID, None, other)]);

    let topic = |id: TopicId| fetch_request("", 0, 0).topics.remove(0).with_topic_id(id.into());
    let request = fetch_request("", 0, 0).with_topics(vec![topic(id), topic(other)]);
    let response: kp::FetchResponse = client.ask(Api::Fetch, 16, &request).await;
    let codes: Vec<_> = response
        .responses
        .iter()
        .map(|topic| topic.partitions[0].error_code)
        .collect();
    assert_eq!(codes, [TOPIC, UNKNOWN_TOPIC_ID]);
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_topic_creates_it_only_with_permission() {
    let (broker, mut owner, _) = broker().await;
    let describes = |operation, _: Resource<'_>| operation == Operation::Describe;
    let mut client = broker.connect_as(Allow(describes)).await;
    let codes =
        |response: &kp::MetadataResponse| -> Vec<_> { response.topics.iter().map(|topic| topic.error_code).collect() };
    assert_eq!(
        codes(&client.metadata(&["secret", "new", "bad name"]).await),
        [0, TOPIC, 17]
    );
    // A client that doesn't want it created needs no permission.
    let named = MetadataRequestTopic::default().with_name(Some(topic_name("new")));
    let request = kp::MetadataRequest::default()
        .with_topics(Some(vec![named]))
        .with_allow_auto_topic_creation(false);
    let response: kp::MetadataResponse = client.ask(Api::Metadata, 12, &request).await;
    assert_eq!(codes(&response), [UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(all_topics(&mut owner).await, [("secret".to_owned(), 1)]);

    let creates_new = |operation, resource: Resource<'_>| {
        operation == Operation::Describe || operation == Operation::Create && resource == Resource::Topic("new")
    };
    let mut client = broker.connect_as(Allow(creates_new)).await;
    let unknown = UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes(&client.metadata(&["other", "new"]).await), [TOPIC, unknown]);
    await_topic(&mut client, "new").await;
    let creates_all = |operation, resource: Resource<'_>| {
        operation == Operation::Describe || operation == Operation::Create && resource == Resource::Cluster
    };
    let mut client = broker.connect_as(Allow(creates_all)).await;
    assert_eq!(codes(&client.metadata(&["other"]).await), [unknown]);
    await_topic(&mut client, "other").await;
    let topics = all_topics(&mut owner).await.into_iter().map(|(name, _)| name);
    assert_eq!(topics.collect::<Vec<_>>(), ["new", "other", "secret"]);
}

/// Asks for a topic, as clients do, until it is there.
async fn await_topic(client: &mut Client, name: &str) {
    while client.metadata(&[name]).await.topics[0].error_code == UNKNOWN_TOPIC_OR_PARTITION {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authorized_operations_are_those_that_are_allowed() {
    let (broker, _, _) = broker().await;
    let some = |operation, resource: Resource<'_>| match resource {
        Resource::Topic(_) => matches!(operation, Operation::Read | Operation::Describe),
        Resource::Cluster => matches!(operation, Operation::Create | Operation::Describe),
        Resource::AnyTopic | Resource::Group(_) | Resource::TransactionalId(_) => false,
    };
    let mut client = broker.connect_as(Allow(some)).await;
    let named = MetadataRequestTopic::default().with_name(Some(topic_name("secret")));
    let request = kp::MetadataRequest::default()
        .with_topics(Some(vec![named]))
        .with_include_topic_authorized_operations(true)
        .with_include_cluster_authorized_operations(true);
    let response: kp::MetadataResponse = client.ask(Api::Metadata, 10, &request).await;
    assert_eq!(response.topics[0].topic_authorized_operations, 1 << 3 | 1 << 8);
    assert_eq!(response.cluster_authorized_operations, 1 << 5 | 1 << 8);
    let request = kp::DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let response: kp::DescribeClusterResponse = client.ask(Api::DescribeCluster, 1, &request).await;
    assert_eq!(response.cluster_authorized_operations, 1 << 5 | 1 << 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_and_shown_with_permission_each() {
    let (broker, mut owner, _) = broker().await;
    let some = |operation, resource: Resource<'_>| match operation {
        Operation::Create => matches!(resource, Resource::Topic("hidden" | "shown" | "checked")),
        Operation::DescribeConfigs => resource == Resource::Topic("shown"),
        _ => false,
    };
    let mut client = broker.connect_as(Allow(some)).await;
    let names = ["hidden", "shown", "denied", "secret"];
    let request = kp::CreateTopicsRequest::default()
        .with_topics(names.map(creatable).to_vec())
        .with_timeout_ms(20_000);
    let response: kp::CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &request).await;
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 0, TOPIC, TOPIC]);
    let [hidden, shown] = &response.topics[..2] else {
        panic!("{response:?}")
    };
    assert_eq!((hidden.num_partitions, hidden.replication_factor), (-1, -1));
    assert_eq!(
        (hidden.topic_config_error_code, hidden.configs.as_deref()),
        (TOPIC, Some(&[][..]))
    );
    assert!(!hidden.topic_id.is_nil());
    assert_eq!((shown.num_partitions, shown.topic_config_error_code), (1, 0));
    assert!(shown.configs.as_ref().is_some_and(|configs| !configs.is_empty()));
    // The field that says so came with version 5.
    let request = request.with_topics(vec![creatable("checked")]).with_validate_only(true);
    let response: kp::CreateTopicsResponse = client.ask(Api::CreateTopics, 4, &request).await;
    assert_eq!(response.topics[0].error_code, 0);
    let topics: Vec<_> = all_topics(&mut owner).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(topics, ["hidden", "secret", "shown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_deletion_tells_no_more_than_the_client_may_know() {
    let (broker, mut owner, id) = broker().await;
    let by_name = |name| DeleteTopicState::default().with_name(Some(topic_name(name)));
    let by_id = |id: TopicId| DeleteTopicState::default().with_name(None).with_topic_id(id.into());
    let other = TopicId([9; 16]);
    let request = kp::DeleteTopicsRequest::default()
        .with_topics(vec![by_name("secret"), by_name("none"), by_id(id), by_id(other)])
        .with_timeout_ms(20_000);
    let told = |response: kp::DeleteTopicsResponse| -> Vec<_> {
        let each = response.responses.into_iter();
        each.map(|topic| {
            (
                topic.error_code,
                topic.name.map(|name| name.to_string()),
                TopicId::from(topic.topic_id),
            )
        })
        .collect()
    };
    let none = TopicId::NONE;
    let name = |name: &str| Some(name.to_owned());
    let mut blind = broker.connect_as(nothing()).await;
    let response = told(blind.ask(Api::DeleteTopics, 6, &request).await);
    let expected = [
        (TOPIC, name("secret"), none),
        (TOPIC, name("none"), none),
        (TOPIC, None, id),
        (UNKNOWN_TOPIC_ID, None, other),
    ];
    assert_eq!(response, expected);
    let mut seeing = broker
        .connect_as(Allow(|operation, _: Resource<'_>| operation == Operation::Describe))
        .await;
    let response = told(seeing.ask(Api::DeleteTopics, 6, &request).await);
    let expected = [
        (TOPIC, name("secret"), none),
        (UNKNOWN_TOPIC_OR_PARTITION, name("none"), none),
        (TOPIC, name("secret"), id),
        (UNKNOWN_TOPIC_ID, None, other),
    ];
    assert_eq!(response, expected);
    assert_eq!(all_topics(&mut owner).await, [("secret".to_owned(), 1)]);

    // Without Describe, a name says nothing, and an id is enough.
    let mut deleting = broker
        .connect_as(Allow(|operation, resource: Resource<'_>| {
            operation == Operation::Delete && resource != Resource::Cluster
        }))
        .await;
    let unseen = request.clone().with_topics(vec![by_name("secret"), by_name("none")]);
    let response = told(deleting.ask(Api::DeleteTopics, 6, &unseen).await);
    assert_eq!(response, [(TOPIC, name("secret"), none), (TOPIC, name("none"), none)]);
    let request = request.with_topics(vec![by_id(id)]);
    let response = told(deleting.ask(Api::DeleteTopics, 6, &request).await);
    assert_eq!(response, [(0, name("secret"), id)]);
    assert_eq!(all_topics(&mut owner).await, []);
    drop(broker.with_topic("secret", 1, &[]).await);
    let mut full = broker
        .connect_as(Allow(|operation, resource: Resource<'_>| {
            matches!(operation, Operation::Delete | Operation::Describe) && resource == Resource::Topic("secret")
        }))
        .await;
    let response = told(full.ask(Api::DeleteTopics, 6, &unseen).await);
    assert_eq!((response[0].0, &response[1]), (0, &(TOPIC, name("none"), none)));
    assert_eq!(all_topics(&mut owner).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_needs_the_cluster_or_some_topic() {
    let (broker, _, _) = broker().await;
    let idempotent =
        |operation, resource: Resource<'_>| operation == Operation::IdempotentWrite && resource == Resource::Cluster;
    let writes = |operation, resource: Resource<'_>| operation == Operation::Write && resource == Resource::AnyTopic;
    for mut client in [
        broker.connect_as(Allow(idempotent)).await,
        broker.connect_as(Allow(writes)).await,
    ] {
        let request = kp::InitProducerIdRequest::default().with_transactional_id(None);
        let response: kp::InitProducerIdResponse = client.ask(Api::InitProducerId, 4, &request).await;
        assert_eq!(response.error_code, 0);
        assert!(response.producer_id.0 >= 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ends_of_epochs_are_told_to_brokers_and_to_clients_that_may_describe() {
    let (broker, _, _) = broker().await;
    let acts =
        |operation, resource: Resource<'_>| operation == Operation::ClusterAction && resource == Resource::Cluster;
    let describes =
        |operation, resource: Resource<'_>| operation == Operation::Describe && resource == Resource::Topic("secret");
    for (mut client, unknown) in [
        (broker.connect_as(Allow(acts)).await, UNKNOWN_TOPIC_OR_PARTITION),
        (broker.connect_as(Allow(describes)).await, TOPIC),
    ] {
        let asked = |name| {
            OffsetForLeaderTopic::default()
                .with_topic(topic_name(name))
                .with_partitions(vec![OffsetForLeaderPartition::default().with_leader_epoch(-1)])
        };
        let request = kp::OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(NAMES.map(asked).to_vec());
        let response: kp::OffsetForLeaderEpochResponse = client.ask(Api::OffsetForLeaderEpoch, 4, &request).await;
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| topic.partitions[0].error_code)
            .collect();
        assert_eq!(codes, [0, unknown]);
    }
}

/// A session knows its client from ApiVersions and from the requests' headers.
#[tokio::test(flavor = "multi_thread")]
async fn authorizers_see_the_session() {
    let (broker, _, _) = broker().await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    struct Watching(tokio::sync::mpsc::UnboundedSender<(String, String, crate::kafka::Client)>);
    impl Authorizer for Watching {
        fn allows(&self, session: &Session, _: Operation, _: Resource<'_>) -> bool {
            let listener = session.connection().listener.to_string();
            let _ = self
                .0
                .send((listener, session.principal().to_string(), session.client()));
            true
        }
    }
    let mut client = broker.connect_as(Watching(sender)).await;
    let request = kp::ApiVersionsRequest::default()
        .with_client_software_name(text("librdkafka"))
        .with_client_software_version(text("2.3.0"));
    let response: kp::ApiVersionsResponse = client.ask(Api::ApiVersions, 3, &request).await;
    assert_eq!(response.error_code, 0);
    client.metadata(&["secret"]).await;
    let (listener, principal, known) = seen.recv().await.unwrap();
    assert_eq!((listener.as_str(), principal.as_str()), ("guarded", "User:ANONYMOUS"));
    assert_eq!(known.id.as_deref(), Some("test"));
    let software = known.software.unwrap();
    assert_eq!((&*software.name, &*software.version), ("librdkafka", "2.3.0"));
}
