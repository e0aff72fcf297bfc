//! A producer's stories.

use super::TestBroker;
use super::words::{headers, produce_request, read, records, records_at};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceResponse, TransactionalId};
use trimaran_wire::api::Api;
use trimaran_wire::batch::{ProducerStamp, build, set_producer};

/// A batch of so many records of an idempotent producer.
fn idempotent(id: i64, epoch: i16, first_sequence: i32, count: usize) -> Bytes {
    let records = vec![(None, Some(&b"x"[..])); count];
    let mut batch = build(crate::clock::wall_clock_ms(), &records);
    set_producer(
        &mut batch,
        ProducerStamp {
            id,
            epoch,
            first_sequence,
        },
    );
    batch.freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_contiguous_from_zero_and_records_come_back_unchanged() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 2, &[]).await;
    assert_eq!(client.produce("t", 0, records(&["a", "b"])).await.base_offset, 0);
    assert_eq!(client.produce("t", 0, records(&["c"])).await.base_offset, 2);
    assert_eq!(client.produce("t", 1, records(&["other"])).await.base_offset, 0);
    let partition = client.fetch("t", 0, 0).await;
    let expected = [(0, "a"), (1, "b"), (2, "c")].map(|(offset, value)| (offset, value.to_string()));
    assert_eq!(read(&partition), expected);
    assert_eq!(
        (
            partition.high_watermark,
            partition.last_stable_offset,
            partition.log_start_offset
        ),
        (3, 3, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_and_every_acks_is_served() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let mut expected = 0;
    for version in 3..=11 {
        for acks in [1, -1] {
            let request = produce_request("t", 0, acks, records(&["x"]));
            let response: ProduceResponse = client.ask(Api::Produce, version, &request).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(
                (partition.error_code, partition.base_offset),
                (0, expected),
                "{version} {acks}"
            );
            assert_eq!(partition.log_append_time_ms, -1);
            expected += 1;
        }
    }
}

/// Some clients send a timeout of 0. Told "timed out", they would send again what is stored already.
#[tokio::test(flavor = "multi_thread")]
async fn only_acks_all_is_bound_to_the_timeout_of_the_request() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    for timeout_ms in [0, -1, i32::MIN] {
        for expected in 0..20 {
            let request = produce_request("t", 0, 1, records(&["x"])).with_timeout_ms(timeout_ms);
            let response: ProduceResponse = client.ask(Api::Produce, 9, &request).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, 0, "{expected} with timeout {timeout_ms}");
        }
        let unanswered = produce_request("t", 0, 0, records(&["x"])).with_timeout_ms(timeout_ms);
        client.send(Api::Produce, 9, &unanswered).await;
    }
    // No connection was closed, and nothing is there twice.
    assert_eq!(client.produce("t", 0, records(&["last"])).await.base_offset, 63);
    let in_vain = produce_request("t", 0, -1, records(&["x"])).with_timeout_ms(0);
    let response: ProduceResponse = client.ask(Api::Produce, 9, &in_vain).await;
    let code = response.responses[0].partition_responses[0].error_code;
    assert!([0, 7].contains(&code), "{code}: committed at once, or timed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_counted_once_when_it_is_acknowledged_and_not_when_it_is_refused() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 2, &[]).await;
    let count = || {
        let text = broker.server.engine().metrics().text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("trimaran_commit_seconds_count "));
        line.expect("a histogram's count").parse::<u64>().expect("a number")
    };
    let before = count();
    let mut request = produce_request("t", 0, -1, records(&["one"]));
    let other = PartitionProduceData::default()
        .with_index(1)
        .with_records(Some(records(&["another"])));
    let nowhere = PartitionProduceData::default()
        .with_index(7)
        .with_records(Some(records(&["refused"])));
    request.topic_data[0].partition_data.extend([other, nowhere]);
    let response: ProduceResponse = client.ask(Api::Produce, 9, &request).await;
    let codes: Vec<_> = response.responses[0]
        .partition_responses
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(codes, [0, 0, 3]);
    assert_eq!(count() - before, 2, "two batches of one request were acknowledged");
    let refused = client.produce("t", 0, idempotent(1 << 40, 3, 1, 1)).await;
    let again = client.produce("t", 0, idempotent(1 << 40, 2, 2, 1)).await;
    assert_eq!((refused.error_code, again.error_code != 0), (0, true));
    assert_eq!(count() - before, 3, "a fenced producer's batch is not acknowledged");
}

/// They are offered so that old clients keep compression on, and nobody sends them.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_versions_are_refused_clearly() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let batch = records(&["x"]);
    let mut body = vec![
        0xff, 0xff, 0, 0, 0x27, 0x10, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0,
    ];
    body.extend(i32::try_from(batch.len()).unwrap().to_be_bytes());
    body.extend(&batch);
    for version in 0..3 {
        client.send_body(0, version, false, &body).await;
        let frame = client.frame().await.unwrap();
        let error = &frame[4 + 4 + 3 + 4 + 4..][..2];
        assert_eq!(error, [0, 35], "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_zero_is_not_answered_and_an_error_closes_the_connection() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    client
        .send(Api::Produce, 9, &produce_request("t", 0, 0, records(&["x"])))
        .await;
    // The next response is the next request's.
    assert_eq!(client.produce("t", 0, records(&["y"])).await.base_offset, 1);
    client
        .send(Api::Produce, 9, &produce_request("none", 0, 0, records(&["x"])))
        .await;
    client.assert_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_fails_for_itself() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 2, &[("max.message.bytes", "200")]).await;
    let mut request = produce_request("t", 0, -1, records(&["good"]));
    let mut damaged = records(&["x"]).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let long = "x".repeat(300);
    let also = |index, bytes: Bytes| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(bytes))
    };
    request.topic_data[0].partition_data.extend([
        also(1, Bytes::from(damaged)),
        also(7, records(&["x"])),
        also(1, records(&[&long])),
        also(1, Bytes::new()),
        also(1, records(&["good"])),
    ]);
    let response: ProduceResponse = client.ask(Api::Produce, 9, &request).await;
    let codes: Vec<_> = response.responses[0]
        .partition_responses
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(codes, [0, 2, 3, 10, 87, 0]);
    let message = &response.responses[0].partition_responses[3].error_message;
    assert!(
        message
            .as_ref()
            .is_some_and(|message| message.contains("max.message.bytes is 200")),
        "{message:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_acks_are_refused() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let response: ProduceResponse = client
        .ask(Api::Produce, 9, &produce_request("t", 0, 2, records(&["x"])))
        .await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_the_last_five_batches_gets_its_original_offset() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    for batch in 0..6i32 {
        let produced = client.produce("t", 0, idempotent(9, 0, 2 * batch, 2)).await;
        assert_eq!((produced.error_code, produced.base_offset), (0, i64::from(2 * batch)));
    }
    for batch in 1..6i32 {
        let again = client.produce("t", 0, idempotent(9, 0, 2 * batch, 2)).await;
        assert_eq!(
            (again.error_code, again.base_offset),
            (0, i64::from(2 * batch)),
            "batch {batch}"
        );
    }
    assert_eq!(client.offset(5, "t", -1).await.offset, 12, "nothing was stored twice");
    let gap = client.produce("t", 0, idempotent(9, 0, 14, 1)).await;
    assert_eq!(gap.error_code, 45);
    let old_epoch = client.produce("t", 0, idempotent(9, 1, 0, 1)).await;
    assert_eq!(old_epoch.error_code, 0, "a new epoch begins at zero");
    let fenced = client.produce("t", 0, idempotent(9, 0, 12, 1)).await;
    assert_eq!(fenced.error_code, 47);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_producer_may_begin_anywhere_and_sequences_wrap() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let produced = client.produce("t", 0, idempotent(4, 0, i32::MAX - 1, 2)).await;
    assert_eq!((produced.error_code, produced.base_offset), (0, 0));
    let wrapped = client.produce("t", 0, idempotent(4, 0, 0, 1)).await;
    assert_eq!((wrapped.error_code, wrapped.base_offset), (0, 2));
}

/// Five batches in flight, as Java's producer has them, stay in order.
#[tokio::test(flavor = "multi_thread")]
async fn pipelined_batches_stay_in_order() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let mut sent = Vec::new();
    for sequence in 0..50 {
        let request = produce_request("t", 0, -1, idempotent(7, 0, sequence, 1));
        sent.push(client.send(Api::Produce, 9, &request).await);
    }
    for (offset, correlation_id) in (0i64..).zip(sent) {
        let response: ProduceResponse = client.receive(Api::Produce, 9, correlation_id).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, offset));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_stamp_the_time_of_appending() {
    let broker = TestBroker::start().await;
    let mut client = broker
        .with_topic("t", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let before = crate::clock::wall_clock_ms();
    let produced = client.produce("t", 0, records_at(5, &["x"])).await;
    assert!(produced.log_append_time_ms >= before, "{produced:?}");
    let stored = headers(&client.fetch("t", 0, 0).await);
    assert!(stored[0].is_log_append_time());
    assert_eq!(stored[0].max_timestamp, produced.log_append_time_ms);
    let found = client.offset(5, "t", before).await;
    assert_eq!((found.offset, found.timestamp), (0, produced.log_append_time_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_handed_out_once() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let mut seen = std::collections::BTreeSet::new();
    for version in 0..=4 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let response: InitProducerIdResponse = client.ask(Api::InitProducerId, version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(response.producer_id.0 >= 0 && seen.insert(response.producer_id.0));
    }
    for (id, code) in [("tx", 53), ("", 42)] {
        let id = TransactionalId(super::text(id));
        let request = InitProducerIdRequest::default().with_transactional_id(Some(id));
        let response: InitProducerIdResponse = client.ask(Api::InitProducerId, 4, &request).await;
        assert_eq!(response.error_code, code);
    }
}
