//! An administrator's stories.

use super::words::{records, topic_name};
use super::{Client, TestBroker, text};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeClusterRequest, DescribeClusterResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, MetadataRequest, MetadataResponse,
};
use trimaran_wire::api::Api;

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

async fn create(client: &mut Client, topics: Vec<CreatableTopic>, validate_only: bool) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(20_000)
        .with_validate_only(validate_only);
    let response: CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &request).await;
    response.topics
}

/// The topic's error code once it is no longer unknown: clients ask again, too.
async fn settled(client: &mut Client, name: &str) -> MetadataResponse {
    loop {
        let response = client.metadata(&[name]).await;
        let topic = &response.topics[0];
        let leaderless = topic.partitions.iter().any(|partition| partition.error_code != 0);
        if topic.error_code != 3 && !leaderless {
            return response;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_and_bad_topics_of_one_request_fail_separately() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("exists", 1, &[]).await;
    let bad_config = CreatableTopicConfig::default()
        .with_name(text("retention.m"))
        .with_value(Some(text("1")));
    let results = create(
        &mut client,
        vec![
            topic("good", 3, 1),
            topic("exists", 1, 1),
            topic("bad name", 1, 1),
            topic("wide", 1, 2),
            topic("none", 0, 1),
            topic("twice", 1, 1),
            topic("twice", 1, 1),
            topic("defaults", -1, -1),
            topic("odd", 1, 1).with_configs(vec![bad_config]),
        ],
        false,
    )
    .await;
    let codes: Vec<_> = results
        .iter()
        .map(|result| (result.name.as_str(), result.error_code))
        .collect();
    let expected = [
        ("good", 0),
        ("exists", 36),
        ("bad name", 17),
        ("wide", 38),
        ("none", 37),
        ("twice", 42),
        ("defaults", 0),
        ("odd", 40),
    ];
    assert_eq!(codes, expected);
    let good = &results[0];
    assert_eq!((good.num_partitions, good.replication_factor), (3, 1));
    assert!(!good.topic_id.is_nil());
    assert!(good.configs.as_ref().is_some_and(|configs| configs.len() > 10));
    assert!(
        results[7]
            .error_message
            .as_ref()
            .is_some_and(|message| message.contains("retention.ms"))
    );
    assert_eq!(client.metadata(&["good"]).await.topics[0].partitions.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_alone_creates_nothing() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("exists", 1, &[]).await;
    let results = create(&mut client, vec![topic("t", 2, 1), topic("exists", 1, 1)], true).await;
    assert_eq!(
        results.iter().map(|result| result.error_code).collect::<Vec<_>>(),
        [0, 36]
    );
    let request = MetadataRequest::default().with_topics(None);
    let all: MetadataResponse = client.ask(Api::Metadata, 12, &request).await;
    assert_eq!(all.topics.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_topic_can_be_used_at_once() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 4, &[]).await;
    for partition in 0..4 {
        assert_eq!(client.produce("t", partition, records(&["x"])).await.error_code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_asked_for_is_unknown_first_and_then_there() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    assert_eq!(client.metadata(&["t", "not good"]).await.topics[0].error_code, 3);
    let response = settled(&mut client, "t").await;
    assert_eq!(
        (response.topics[0].error_code, response.topics[0].partitions.len()),
        (0, 1)
    );
    // Its leader is named once it is known, which is a moment before it serves: clients try again.
    let not_leader = ResponseError::NotLeaderOrFollower.code();
    let mut produced = client.produce("t", 0, records(&["x"])).await.error_code;
    while produced == not_leader {
        produced = client.produce("t", 0, records(&["x"])).await.error_code;
    }
    assert_eq!(produced, 0);
    let all: MetadataResponse = client
        .ask(Api::Metadata, 12, &MetadataRequest::default().with_topics(None))
        .await;
    assert_eq!(all.topics.len(), 1, "the invalid name was not created");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_created_where_the_setting_or_the_client_is_against_it() {
    let broker = TestBroker::with(|settings| settings.cluster.auto_create_topics = false).await;
    let mut client = broker.connect().await;
    assert_eq!(client.metadata(&["t"]).await.topics[0].error_code, 3);
    // A topic that is created behind it would follow anything that was begun before.
    create(&mut client, vec![topic("other", 1, 1)], false).await;
    assert_eq!(client.metadata(&["t"]).await.topics[0].error_code, 3);
    let willing = TestBroker::start().await;
    let mut client = willing.connect().await;
    let asked =
        kafka_protocol::messages::metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![asked]))
        .with_allow_auto_topic_creation(false);
    let _: MetadataResponse = client.ask(Api::Metadata, 9, &request).await;
    create(&mut client, vec![topic("other", 1, 1)], false).await;
    let again: MetadataResponse = client.ask(Api::Metadata, 9, &request).await;
    assert_eq!(again.topics[0].error_code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_defaults_become_a_new_topics_settings() {
    let broker = TestBroker::with(|settings| {
        settings
            .cluster
            .topic_defaults
            .insert("retention.ms".into(), "5000".into());
    })
    .await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    client.metadata(&["automatic"]).await;
    settled(&mut client, "automatic").await;
    let catalog = broker.server.engine().catalog();
    for name in ["t", "automatic"] {
        assert_eq!(catalog.topic(name).unwrap().config.retention_ms, Some(5_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_comes_again_has_another_id_and_no_records() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    client.produce("t", 0, records(&["old"])).await;
    let old = client.metadata(&["t"]).await.topics[0].topic_id;
    let by_name = DeleteTopicState::default().with_name(Some(topic_name("t")));
    let unknown = DeleteTopicState::default().with_name(Some(topic_name("none")));
    let unknown_id = DeleteTopicState::default()
        .with_name(None)
        .with_topic_id(trimaran_wire::TopicId([9; 16]).into());
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![by_name, unknown, unknown_id])
        .with_timeout_ms(20_000);
    let response: DeleteTopicsResponse = client.ask(Api::DeleteTopics, 6, &request).await;
    let codes: Vec<_> = response.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, 3, 100]);
    assert_eq!(response.responses[0].topic_id, old);
    let new = create(&mut client, vec![topic("t", 1, 1)], false).await;
    assert_ne!(new[0].topic_id, old);
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("t")])
        .with_timeout_ms(20_000);
    let response: DeleteTopicsResponse = client.ask(Api::DeleteTopics, 3, &request).await;
    assert_eq!(response.responses[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topic_that_grows_gets_its_own_answer() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 2, &[]).await;
    let grow = |name: &str, count| {
        CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
    };
    let mut codes = async |version, topics: Vec<CreatePartitionsTopic>, validate_only| {
        let request = CreatePartitionsRequest::default()
            .with_topics(topics.into_iter().map(|topic| topic.with_assignments(None)).collect())
            .with_timeout_ms(20_000)
            .with_validate_only(validate_only);
        let response: CreatePartitionsResponse = client.ask(Api::CreatePartitions, version, &request).await;
        response
            .results
            .iter()
            .map(|result| result.error_code)
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(3, vec![grow("t", 4)], true).await, [0]);
    assert_eq!(
        codes(3, vec![grow("t", 2), grow("none", 2)], false).await,
        [37, 3],
        "nothing has grown yet"
    );
    assert_eq!(codes(0, vec![grow("t", 3), grow("t", 4)], false).await, [42]);
    assert_eq!(codes(1, vec![grow("t", 4)], false).await, [0]);
    assert_eq!(client.produce("t", 3, records(&["x"])).await.error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described() {
    let broker = TestBroker::with(|settings| settings.broker.rack = Some("north".into())).await;
    let mut client = broker.connect().await;
    for version in 0..=1 {
        let response: DescribeClusterResponse = client
            .ask(Api::DescribeCluster, version, &DescribeClusterRequest::default())
            .await;
        assert_eq!(
            (
                response.error_code,
                response.cluster_id.as_str(),
                response.controller_id.0
            ),
            (0, "trimaran", 1)
        );
        let own = &response.brokers[0];
        assert_eq!((own.broker_id.0, own.rack.as_deref()), (1, Some("north")));
        assert_eq!(own.port, i32::from(broker.server.addresses().client.port()));
    }
    let controllers = DescribeClusterRequest::default().with_endpoint_type(2);
    let response: DescribeClusterResponse = client.ask(Api::DescribeCluster, 1, &controllers).await;
    assert_eq!(response.error_code, 114);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_request_is_answered() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    for version in 0..=12 {
        let asked = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default();
        let request = MetadataRequest::default().with_topics(Some(vec![asked.with_name(Some(topic_name("t")))]));
        let response: MetadataResponse = client.ask(Api::Metadata, version, &request).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(
            (partition.error_code, partition.leader_id.0, partition.isr_nodes.len()),
            (0, 1, 1),
            "{version}"
        );
    }
    for version in 2..=7 {
        let topics = vec![topic(&format!("v{version}"), 1, 1), topic("t", 1, 1)];
        let request = CreateTopicsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(20_000);
        let response: CreateTopicsResponse = client.ask(Api::CreateTopics, version, &request).await;
        let codes: Vec<_> = response.topics.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 36], "{version}");
    }
    for version in 1..=6 {
        let request = DeleteTopicsRequest::default().with_timeout_ms(20_000);
        let request = if version >= 6 {
            let named = ["v7", "none"].map(|name| DeleteTopicState::default().with_name(Some(topic_name(name))));
            request.with_topics(named.to_vec())
        } else {
            request.with_topic_names(vec![topic_name(&format!("v{}", version + 1)), topic_name("none")])
        };
        let response: DeleteTopicsResponse = client.ask(Api::DeleteTopics, version, &request).await;
        let codes: Vec<_> = response.responses.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 3], "{version}");
    }
    for version in 0..=3 {
        let grow = CreatePartitionsTopic::default()
            .with_name(topic_name("t"))
            .with_count(2 + i32::from(version));
        let other = CreatePartitionsTopic::default()
            .with_name(topic_name("none"))
            .with_count(2);
        let topics = [grow, other].map(|topic| topic.with_assignments(None)).to_vec();
        let request = CreatePartitionsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(20_000);
        let response: CreatePartitionsResponse = client.ask(Api::CreatePartitions, version, &request).await;
        let codes: Vec<_> = response.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 3], "{version}");
    }
}

/// The codes of the partitions, in the order of the request.
async fn reassign(client: &mut Client, topic: &str, wanted: &[(i32, Option<&[i32]>)]) -> Vec<i16> {
    let partitions = wanted.iter().map(|(partition, replicas)| {
        ReassignablePartition::default()
            .with_partition_index(*partition)
            .with_replicas(replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect()))
    });
    let topic = ReassignableTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.collect());
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(20_000)
        .with_topics(vec![topic]);
    let response: AlterPartitionReassignmentsResponse = client.ask(Api::AlterPartitionReassignments, 0, &request).await;
    assert_eq!(response.error_code, 0);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

/// How many partitions are under way.
async fn under_way(client: &mut Client) -> usize {
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let response: ListPartitionReassignmentsResponse = client.ask(Api::ListPartitionReassignments, 0, &request).await;
    response.topics.iter().map(|topic| topic.partitions.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_from_one_broker_to_two_others() {
    let brokers = TestBroker::cluster(&["a", "b", "c"], |_| {}).await;
    let mut client = brokers[0].with_topic("moves", 1, &[]).await;
    let before = settled(&mut client, "moves").await;
    let from = before.topics[0].partitions[0].replica_nodes[0].0;
    let others: Vec<i32> = (1..=3).filter(|id| *id != from).collect();
    let code = |error: ResponseError| error.code();
    assert_eq!(
        reassign(&mut client, "moves", &[(0, None)]).await,
        [code(ResponseError::NoReassignmentInProgress)]
    );
    assert_eq!(
        reassign(&mut client, "moves", &[(0, Some(&[9])), (1, Some(&[1]))]).await,
        [
            code(ResponseError::InvalidReplicaAssignment),
            code(ResponseError::UnknownTopicOrPartition)
        ]
    );
    assert_eq!(
        reassign(&mut client, "moves", &[(0, Some(&[1])), (0, Some(&[2]))]).await,
        [code(ResponseError::InvalidRequest); 2]
    );
    assert_eq!(reassign(&mut client, "moves", &[(0, Some(&others))]).await, [0]);
    while under_way(&mut client).await > 0 {
        tokio::task::yield_now().await;
    }
    let after = settled(&mut client, "moves").await;
    let mut replicas: Vec<i32> = after.topics[0].partitions[0]
        .replica_nodes
        .iter()
        .map(|id| id.0)
        .collect();
    replicas.sort_unstable();
    assert_eq!(replicas, others);
    assert!(others.contains(&after.topics[0].partitions[0].leader_id.0));
}
