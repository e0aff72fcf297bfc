use super::*;
use crate::kafka::tests::{ORDERS, full_access, view};
use kafka_protocol::protocol::{Decodable, Encodable};

fn topic(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(text(name))))
}

fn request(topics: Option<Vec<MetadataRequestTopic>>) -> MetadataRequest {
    MetadataRequest::default().with_topics(topics)
}

fn describe(
    view: &ClusterView,
    configured_id: &str,
    version: i16,
    request: &MetadataRequest,
) -> (MetadataResponse, Vec<String>) {
    let question = Question {
        access: full_access(),
        view,
        configured_id,
        version,
        creates: true,
        request,
    };
    question.describe()
}

fn names(response: &MetadataResponse) -> Vec<&str> {
    response
        .topics
        .iter()
        .filter_map(|topic| topic.name.as_ref())
        .map(|name| name.as_str())
        .collect()
}

#[test]
fn null_is_all_topics_and_empty_is_none() {
    let (all, wanted) = describe(&view(), "configured", 12, &request(None));
    assert_eq!(names(&all), ["orders"]);
    assert!(wanted.is_empty());
    let (none, _) = describe(&view(), "configured", 1, &request(Some(Vec::new())));
    assert_eq!(names(&none), [""; 0]);
    let (all, _) = describe(&view(), "configured", 0, &request(Some(Vec::new())));
    assert_eq!(names(&all), ["orders"]);
}

#[test]
fn brokers_and_cluster_are_described() {
    let (response, _) = describe(&view(), "configured", 12, &request(Some(Vec::new())));
    let brokers: Vec<_> = response
        .brokers
        .iter()
        .map(|b| {
            (
                b.node_id.0,
                b.host.to_string(),
                b.port,
                b.rack.clone().map(|rack| rack.to_string()),
            )
        })
        .collect();
    let broker = |id: i32, rack: &str| (id, format!("host-{id}"), 9092, Some(rack.to_string()));
    assert_eq!(brokers, [broker(1, "a"), broker(2, "b"), broker(3, "c")]);
    assert_eq!(response.cluster_id.as_deref(), Some("founded"));
    assert_eq!(response.controller_id.0, 2);
}

#[test]
fn a_broker_that_has_ended_stays_listed_and_its_replicas_are_offline() {
    let mut view = view();
    view.refusing.insert(registry::BrokerId(3));
    let (response, _) = describe(&view, "configured", 12, &request(None));
    assert_eq!(response.brokers.len(), 3);
    let partitions = &response.topics[0].partitions;
    assert!(partitions.iter().all(|p| p.offline_replicas == [BrokerId(3)]));
    assert_eq!(
        view.partition_health().offline,
        partitions.len() as u64,
        "none has a leader yet"
    );
}

#[test]
fn partitions_without_a_majority_of_their_replicas_are_counted_by_any_broker() {
    let mut view = view();
    let (response, _) = describe(&view, "configured", 12, &request(None));
    let partitions = response.topics[0].partitions.len() as u64;
    assert_eq!(view.partition_health().without_quorum, 0);
    view.refusing.insert(registry::BrokerId(3));
    assert_eq!(view.partition_health().without_quorum, 0, "two of three");
    view.unreachable.insert(registry::BrokerId(2));
    assert_eq!(view.partition_health().without_quorum, partitions);
    view.unreachable.clear();
    assert_eq!(view.partition_health().without_quorum, 0, "it is back");
}

#[test]
fn a_broker_out_of_contact_is_not_listed_and_its_replicas_are_offline() {
    let mut view = view();
    view.unreachable.insert(registry::BrokerId(3));
    let (response, _) = describe(&view, "configured", 12, &request(None));
    let listed: Vec<i32> = response.brokers.iter().map(|broker| broker.node_id.0).collect();
    assert_eq!(listed, [1, 2]);
    for partition in &response.topics[0].partitions {
        assert_eq!(partition.replica_nodes.len(), 3);
        assert_eq!(partition.offline_replicas, [BrokerId(3)]);
    }
}

#[test]
fn an_unknown_topic_is_wanted_and_an_invalid_name_is_refused() {
    let asked = request(Some(vec![
        topic("orders"),
        topic("new"),
        topic("not good"),
        topic("new"),
    ]));
    let (response, wanted) = describe(&view(), "configured", 9, &asked);
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 3, 17], "each once, in the order of the request");
    assert_eq!(wanted, ["new"]);
}

#[test]
fn topics_are_found_by_id_from_version_12_on() {
    let by_id = |id: [u8; 16]| {
        MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(TopicId(id).into())
    };
    let asked = request(Some(vec![by_id(ORDERS.0), by_id([9; 16])]));
    let (response, wanted) = describe(&view(), "configured", 12, &asked);
    assert!(wanted.is_empty());
    let [known, unknown] = &response.topics[..] else {
        panic!("two topics")
    };
    assert_eq!(
        (known.error_code, known.name.as_ref().map(|name| name.as_str())),
        (0, Some("orders"))
    );
    assert_eq!(
        (unknown.error_code, unknown.name.as_ref(), unknown.topic_id.into_bytes()),
        (100, None, [9; 16])
    );
}

#[test]
fn a_partition_without_a_leader_says_so() {
    let (response, _) = describe(&view(), "configured", 12, &request(None));
    let orders = &response.topics[0];
    assert_eq!(orders.topic_id.into_bytes(), ORDERS.0);
    assert_eq!(orders.partitions.len(), 2);
    for (index, partition) in (0i32..).zip(&orders.partitions) {
        assert_eq!((partition.partition_index, partition.error_code), (index, 5));
        assert_eq!((partition.leader_id.0, partition.leader_epoch), (-1, -1));
        assert_eq!(partition.replica_nodes.len(), 3);
        assert!(partition.isr_nodes.is_empty());
    }
}

#[test]
fn authorized_operations_are_told_only_if_asked_for() {
    let asked = request(None)
        .with_include_topic_authorized_operations(true)
        .with_include_cluster_authorized_operations(true);
    let (response, _) = describe(&view(), "configured", 8, &asked);
    assert_eq!(response.topics[0].topic_authorized_operations, 3_576);
    assert_eq!(response.cluster_authorized_operations, 8_096);
    let (response, _) = describe(&view(), "configured", 8, &request(None));
    assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
    assert_eq!(response.cluster_authorized_operations, i32::MIN);
}

#[test]
fn every_version_can_be_encoded() {
    for version in 0..=12 {
        let asked = request(Some(vec![topic("orders"), topic("new"), topic("?")]));
        let (response, _) = describe(&view(), "configured", version, &asked);
        let mut out = bytes::BytesMut::new();
        response
            .encode(&mut out, version)
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        let mut bytes = out.freeze();
        assert_eq!(MetadataResponse::decode(&mut bytes, version).unwrap().topics.len(), 3);
    }
}

#[test]
fn only_so_many_creations_are_under_way() {
    let creations = Creations::default();
    assert!(creations.reserve("t"));
    assert!(!creations.reserve("t"), "under way already");
    let accepted = (0..2 * MAX_CREATIONS)
        .filter(|n| creations.reserve(&n.to_string()))
        .count();
    assert_eq!(accepted, MAX_CREATIONS - 1);
}
