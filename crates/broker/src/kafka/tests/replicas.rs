//! Three brokers in three racks: who answers whom.

use super::words::{fetch_request, only_partition, produce_request, read, records, topic_name};
use super::{Client, TestBroker};
use crate::config::ReplicaSelector;
use crate::ids;
use kafka_protocol::messages::{FetchResponse, ProduceResponse};
use std::time::Duration;
use trimaran_multiraft::Input;
use trimaran_raft::{Body, LogIndex, Message, NodeId, Term};
use trimaran_registry::PartitionIndex;
use trimaran_wire::api::Api;

/// The leader of `t`'s only partition, and another broker, by position; once every broker knows the leader and that all
/// three replicas are in sync.
async fn leader_and_follower(brokers: &[TestBroker]) -> (usize, usize) {
    let mut leader = None;
    for broker in brokers {
        let knows = |view: &std::sync::Arc<crate::engine::ClusterView>| {
            let partition = view.catalog.partition("t", PartitionIndex(0));
            let leadership = partition.and_then(|partition| view.leaders.leadership(partition.group));
            leadership.is_some_and(|leadership| leadership.serving && leadership.in_sync.len() == 3)
        };
        let view = broker.server.engine().wait_until(Duration::from_secs(30), knows).await;
        let view = view.expect("all replicas come into sync");
        let group = view.catalog.partition("t", PartitionIndex(0)).unwrap().group;
        leader = view.leaders.leader(group);
    }
    let leader = usize::try_from(leader.unwrap().0).unwrap() - 1;
    (leader, (leader + 1) % 3)
}

async fn fetch_from_rack(client: &mut Client, rack: &'static str) -> FetchResponse {
    let request = fetch_request("t", 0, 0).with_rack_id(super::text(rack));
    client.ask(Api::Fetch, 11, &request).await
}

const RACKS: [&str; 3] = ["a", "b", "c"];

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_sent_to_the_replica_in_its_rack() {
    let brokers = TestBroker::cluster(&RACKS, |settings| {
        settings.cluster.replica_selector = ReplicaSelector::RackAware;
    })
    .await;
    drop(brokers[0].with_replicated_topic("t", 1, 3, &[]).await);
    let (leader, follower) = leader_and_follower(&brokers).await;
    let mut at_leader = brokers[leader].connect().await;
    let mut at_follower = brokers[follower].connect().await;
    assert_eq!(at_leader.produce("t", 0, records(&["x"])).await.error_code, 0);

    let sent_away = fetch_from_rack(&mut at_leader, RACKS[follower]).await;
    let partition = only_partition(&sent_away);
    assert_eq!(
        (partition.error_code, partition.preferred_read_replica.0),
        (0, follower as i32 + 1)
    );
    assert_eq!(read(partition), [], "there must be no records beside the advice");

    // The follower learns of the commit with its leader's next word, and a long poll waits for it.
    let request = fetch_request("t", 0, 0)
        .with_rack_id(super::text(RACKS[follower]))
        .with_max_wait_ms(20_000);
    let near: FetchResponse = at_follower.ask(Api::Fetch, 11, &request).await;
    let partition = only_partition(&near);
    assert_eq!((partition.error_code, partition.preferred_read_replica.0), (0, -1));
    assert_eq!(
        (read(partition), partition.high_watermark),
        (vec![(0, "x".to_string())], 1)
    );

    let at_home = fetch_from_rack(&mut at_leader, RACKS[leader]).await;
    assert_eq!(
        read(only_partition(&at_home)).len(),
        1,
        "the leader itself is in the rack"
    );
    let nowhere = fetch_from_rack(&mut at_leader, "elsewhere").await;
    assert_eq!(read(only_partition(&nowhere)).len(), 1);
    let stray = fetch_from_rack(&mut at_follower, "elsewhere").await;
    assert_eq!(only_partition(&stray).error_code, 6, "its metadata is old");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_follower_is_told_who_leads() {
    let brokers = TestBroker::cluster(&RACKS, |_| {}).await;
    let mut client = brokers[0].with_replicated_topic("t", 1, 3, &[]).await;
    let (leader, follower) = leader_and_follower(&brokers).await;
    let leader_id = leader as i32 + 1;
    let metadata = client.metadata(&["t"]).await;
    let topic = &metadata.topics[0];
    let partition = &topic.partitions[0];
    assert_eq!(
        (
            partition.leader_id.0,
            partition.isr_nodes.len(),
            partition.replica_nodes.len()
        ),
        (leader_id, 3, 3)
    );
    assert_eq!(metadata.brokers.len(), 3);

    let mut at_follower = brokers[follower].connect().await;
    let request = produce_request("t", 0, -1, records(&["x"]));
    let response: ProduceResponse = at_follower.ask(Api::Produce, 10, &request).await;
    let refused = &response.responses[0].partition_responses[0];
    assert_eq!((refused.error_code, refused.current_leader.leader_id.0), (6, leader_id));
    assert_eq!(refused.current_leader.leader_epoch, partition.leader_epoch);
    let port = i32::from(brokers[leader].server.addresses().client.port());
    assert_eq!(
        (response.node_endpoints[0].node_id.0, response.node_endpoints[0].port),
        (leader_id, port)
    );
    let response: ProduceResponse = at_follower.ask(Api::Produce, 9, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 6);

    let mut request = fetch_request("t", 0, 0);
    let response: FetchResponse = at_follower.ask(Api::Fetch, 12, &request).await;
    assert_eq!(only_partition(&response).error_code, 6);
    request.topics[0].topic = topic_name("");
    request.topics[0].topic_id = topic.topic_id;
    let response: FetchResponse = at_follower.ask(Api::Fetch, 16, &request).await;
    let refused = only_partition(&response);
    assert_eq!((refused.error_code, refused.current_leader.leader_id.0), (6, leader_id));
    assert_eq!(
        (response.node_endpoints[0].node_id.0, response.node_endpoints[0].port),
        (leader_id, port)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_acknowledges_nothing() {
    let mut brokers = TestBroker::cluster(&RACKS, |_| {}).await;
    let client = brokers[0]
        .with_replicated_topic("t", 1, 3, &[("min.insync.replicas", "4")])
        .await;
    drop(client);
    let (leader, _) = leader_and_follower(&brokers).await;
    let mut at_leader = brokers[leader].connect().await;
    // No topic can ask for more replicas than it has.
    assert_eq!(at_leader.produce("t", 0, records(&["x"])).await.error_code, 0);
    let survivor = brokers.remove(leader);
    for broker in brokers {
        broker.server.kill().await;
    }
    // Two of three are gone: nothing is acknowledged, whatever the reason is at the moment.
    let request = produce_request("t", 0, -1, records(&["y"])).with_timeout_ms(2_000);
    let response: ProduceResponse = at_leader.ask(Api::Produce, 9, &request).await;
    let code = response.responses[0].partition_responses[0].error_code;
    assert!([6, 7, 19, 20].contains(&code), "{code}");
    drop(survivor);
}

/// Another leader of the same term: this broker leads the partition itself. It is counted, and the partition goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_contradicts_this_broker_is_counted() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, records(&["x"])).await.error_code, 0);
    let engine = broker.server.engine();
    let count = || {
        let text = engine.metrics().text();
        let prefix = "trimaran_safety_violations_total ";
        let line = text.lines().find_map(|line| line.strip_prefix(prefix));
        line.expect("a counter").parse::<u64>().expect("a number")
    };
    assert_eq!(count(), 0);
    let view = engine.view();
    let group = view.catalog.partition("t", PartitionIndex(0)).expect("created").group;
    let leadership = view.leaders.leadership(group).expect("it is led");
    let (group, term) = (ids::group(group), Term(leadership.term.0));
    let (commit, round) = (LogIndex::ZERO, 0);
    let body = Body::Heartbeat { commit, round };
    let messages = vec![(group, Message { term, body })];
    engine.mailbox(group).tell(Input::Messages(NodeId(7), messages));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while count() != 1 {
        assert!(tokio::time::Instant::now() < deadline, "it is never counted");
        tokio::task::yield_now().await;
    }
    assert_eq!(client.produce("t", 0, records(&["y"])).await.base_offset, 1);
}
