//! A consumer's stories.

use super::TestBroker;
use super::words::{fetch_request, only_partition, produce_request, read, records, records_at, topic_name};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    BrokerId, FetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceResponse,
};
use std::time::{Duration, Instant};
use trimaran_wire::api::Api;

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_inside_a_batch_returns_the_whole_batch() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    client.produce("t", 0, records(&["a"])).await;
    client.produce("t", 0, records(&["b", "c", "d"])).await;
    let partition = client.fetch("t", 0, 2).await;
    let offsets: Vec<i64> = read(&partition).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_served() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    client.produce("t", 0, records(&["a"])).await;
    let id = client.metadata(&["t"]).await.topics[0].topic_id;
    for version in 4..=16 {
        let mut request = fetch_request("t", 0, 0);
        if version >= 13 {
            request.topics[0].topic = topic_name("");
            request.topics[0].topic_id = id;
        }
        if version >= 15 {
            request = request.with_replica_id(BrokerId(-1));
        }
        let response: FetchResponse = client.ask(Api::Fetch, version, &request).await;
        assert_eq!((response.error_code, response.session_id), (0, 0));
        let partition = only_partition(&response);
        assert_eq!(
            (partition.error_code, read(partition)),
            (0, vec![(0, "a".to_string())]),
            "{version}"
        );
        if version >= 13 {
            assert_eq!(response.responses[0].topic_id, id);
        }
    }
}

/// One topic with ten batches of about 100 bytes in each of two partitions.
async fn two_partitions(broker: &TestBroker) -> super::Client {
    let mut client = broker.with_topic("t", 2, &[]).await;
    let value = "x".repeat(30);
    for partition in [0, 1] {
        for _ in 0..10 {
            client.produce("t", partition, records(&[&value])).await;
        }
    }
    client
}

/// Records in each partition's answer, in the order of the request.
async fn counts(client: &mut super::Client, max_bytes: i32, limits: &[(i32, i32)]) -> Vec<usize> {
    let partitions = limits.iter().map(|(index, partition_max_bytes)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(0)
            .with_partition_max_bytes(*partition_max_bytes)
    });
    let topic = FetchTopic::default()
        .with_topic(topic_name("t"))
        .with_partitions(partitions.collect());
    let request = fetch_request("t", 0, 0)
        .with_max_bytes(max_bytes)
        .with_topics(vec![topic]);
    let response: FetchResponse = client.ask(Api::Fetch, 12, &request).await;
    response.responses[0]
        .partitions
        .iter()
        .map(|partition| read(partition).len())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_but_the_first_partition_gets_at_least_one_batch() {
    let broker = TestBroker::start().await;
    let mut client = two_partitions(&broker).await;
    assert_eq!(
        counts(&mut client, 1 << 20, &[(0, 1 << 20), (1, 1 << 20)]).await,
        [10, 10]
    );
    assert_eq!(counts(&mut client, 1, &[(0, 1 << 20), (1, 1 << 20)]).await, [1, 0]);
    assert_eq!(counts(&mut client, 1 << 20, &[(1, 1), (0, 1)]).await, [1, 0]);
    assert_eq!(counts(&mut client, 0, &[(0, 0), (1, 0)]).await, [1, 0]);
    assert_eq!(counts(&mut client, i32::MIN, &[(0, -1)]).await, [1]);
    let batch = i32::try_from(records(&[&"x".repeat(30)]).len()).unwrap();
    // Room for ten and a half, and three: the second partition gets what is left, in whole batches.
    let found = counts(&mut client, 13 * batch + 5, &[(0, 1 << 20), (1, 1 << 20)]).await;
    assert_eq!(found, [10, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_is_answered_when_there_is_something() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let mut producer = broker.connect().await;
    let poll = fetch_request("t", 0, 0).with_max_wait_ms(25_000);
    let poll = client.send(Api::Fetch, 12, &poll).await;
    producer.produce("t", 0, records(&["x"])).await;
    let started = Instant::now();
    let response: FetchResponse = client.receive(Api::Fetch, 12, poll).await;
    assert_eq!(read(only_partition(&response)), [(0, "x".to_string())]);
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "long before the time is over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_for_enough_bytes_or_until_its_time_is_over() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let mut producer = broker.connect().await;
    producer.produce("t", 0, records(&["first"])).await;
    let started = Instant::now();
    let poll = fetch_request("t", 0, 0).with_max_wait_ms(300).with_min_bytes(1 << 20);
    let response: FetchResponse = client.ask(Api::Fetch, 12, &poll).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(
        read(only_partition(&response)).len(),
        1,
        "what is there is not kept back"
    );

    let enough = 3 * records(&["first"]).len();
    let poll = fetch_request("t", 0, 0)
        .with_max_wait_ms(25_000)
        .with_min_bytes(i32::try_from(enough).unwrap());
    let poll = client.send(Api::Fetch, 12, &poll).await;
    producer.produce("t", 0, records(&["again"])).await;
    producer.produce("t", 0, records(&["third"])).await;
    let response: FetchResponse = client.receive(Api::Fetch, 12, poll).await;
    assert_eq!(read(only_partition(&response)).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_any_partition_is_answered_at_once() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let started = Instant::now();
    let mut poll = fetch_request("t", 0, 0).with_max_wait_ms(25_000);
    poll.topics.push(fetch_request("none", 0, 0).topics[0].clone());
    let response: FetchResponse = client.ask(Api::Fetch, 12, &poll).await;
    assert_eq!(response.responses[1].partitions[0].error_code, 3);
    assert_eq!(only_partition(&response).error_code, 0);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_out_of_range_are_an_error_and_the_end_is_not() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    client.produce("t", 0, records(&["a"])).await;
    assert_eq!(client.fetch("t", 0, 1).await.error_code, 0);
    assert_eq!(client.fetch("t", 0, 2).await.error_code, 1);
    assert_eq!(client.fetch("t", 0, -1).await.error_code, 1);
    assert_eq!(client.fetch("t", 9, 0).await.error_code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_are_checked() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let epoch = client.metadata(&["t"]).await.topics[0].partitions[0].leader_epoch;
    assert!(epoch > 0);
    for (believed, code) in [(epoch, 0), (epoch - 1, 74), (epoch + 1, 75), (-1, 0)] {
        let mut request = fetch_request("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = believed;
        let response: FetchResponse = client.ask(Api::Fetch, 12, &request).await;
        assert_eq!(only_partition(&response).error_code, code, "{believed} of {epoch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_declined() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    for (id, epoch, code) in [(0, 0, 0), (0, -1, 0), (5, -1, 0), (5, 0, 0), (5, 1, 70)] {
        let request = fetch_request("t", 0, 0).with_session_id(id).with_session_epoch(epoch);
        let response: FetchResponse = client.ask(Api::Fetch, 12, &request).await;
        assert_eq!((response.error_code, response.session_id), (code, 0), "{id} {epoch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_id_has_its_own_error() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let mut request = fetch_request("", 0, 0);
    request.topics[0].topic_id = trimaran_wire::TopicId([9; 16]).into();
    let response: FetchResponse = client.ask(Api::Fetch, 13, &request).await;
    assert_eq!(only_partition(&response).error_code, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_by_timestamp_down_to_the_record() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let now = crate::clock::wall_clock_ms();
    let empty = client.offset(7, "t", now).await;
    assert_eq!((empty.error_code, empty.offset, empty.timestamp), (0, -1, -1));
    for (batch, timestamp) in [now - 30, now - 10, now - 20].into_iter().enumerate() {
        let produced = client.produce("t", 0, records_at(timestamp, &["a", "b"])).await;
        assert_eq!(produced.base_offset, 2 * batch as i64);
    }
    for version in 1..=8 {
        let mut at = async |timestamp| {
            let found = client.offset(version, "t", timestamp).await;
            assert_eq!(found.error_code, 0);
            (found.offset, found.timestamp)
        };
        assert_eq!(at(-1).await, (6, -1));
        assert_eq!(at(-2).await, (0, -1));
        assert_eq!(at(now - 30).await, (0, now - 30));
        assert_eq!(at(now - 29).await, (2, now - 10));
        assert_eq!(at(now - 9).await, (-1, -1), "nothing is that late");
        if version >= 7 {
            assert_eq!(at(-3).await, (2, now - 10), "the largest timestamp");
        }
    }
    assert_eq!(client.offset(6, "t", -3).await.error_code, 35);
    assert_eq!(client.offset(6, "none", -1).await.error_code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_epoch_is_found() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    client.produce("t", 0, records(&["a", "b"])).await;
    let current = client.metadata(&["t"]).await.topics[0].partitions[0].leader_epoch;
    for version in 2..=4 {
        let ends = [(current, 0, 2), (current + 1, 0, -1)];
        for (epoch, code, end) in ends {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(0)
                .with_current_leader_epoch(current)
                .with_leader_epoch(epoch);
            let topic = OffsetForLeaderTopic::default()
                .with_topic(topic_name("t"))
                .with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(if version >= 3 { -1 } else { -2 }))
                .with_topics(vec![topic]);
            let response: OffsetForLeaderEpochResponse = client.ask(Api::OffsetForLeaderEpoch, version, &request).await;
            let found = &response.topics[0].partitions[0];
            assert_eq!((found.error_code, found.end_offset), (code, end), "{version} {epoch}");
        }
    }
}

/// What every producer and consumer does together: many batches in, every record out once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_what_producers_write_meanwhile() {
    let broker = TestBroker::start().await;
    let mut producer = broker.with_topic("t", 1, &[]).await;
    let mut consumer = broker.connect().await;
    let writing = tokio::spawn(async move {
        for batch in 0..200 {
            let (first, second) = (format!("{}", 2 * batch), format!("{}", 2 * batch + 1));
            let request = produce_request("t", 0, 1, records(&[&first, &second]));
            let response: ProduceResponse = producer.ask(Api::Produce, 9, &request).await;
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
    });
    let mut next = 0;
    while next < 400 {
        let request = fetch_request("t", 0, next).with_max_wait_ms(5_000);
        let response: FetchResponse = consumer.ask(Api::Fetch, 11, &request).await;
        for (offset, value) in read(only_partition(&response)) {
            assert_eq!((offset, value), (next, next.to_string()));
            next += 1;
        }
    }
    writing.await.unwrap();
}
