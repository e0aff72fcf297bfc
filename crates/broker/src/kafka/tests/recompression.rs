//! Topics with a `compression.type`: what comes in another compression is compressed again before it is appended.

use super::TestBroker;
use super::words::{compressed_zeros, fetch_request, headers, only_partition, produce_request, read, records};
use bytes::Bytes;
use kafka_protocol::messages::{FetchResponse, ProduceResponse};
use kafka_protocol::records::Compression as Kafka;
use trimaran_wire::api::Api;
use trimaran_wire::batch::{self, Compression, Compressor, ProducerStamp, build, set_producer};

const ALL: [(&str, Compressor); 5] = [
    ("uncompressed", Compressor::None),
    ("gzip", Compressor::Gzip(-1)),
    ("snappy", Compressor::Snappy),
    ("lz4", Compressor::Lz4(9)),
    ("zstd", Compressor::Zstd(3)),
];

fn compressed(batch: &Bytes, with: Compressor) -> Bytes {
    batch::recompress(batch, with, 1 << 20, 1 << 20)
        .expect("a sound batch")
        .freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_as_their_topic_asks_however_they_come() {
    let broker = TestBroker::start().await;
    for (name, to) in ALL {
        let mut client = broker.with_topic(name, 1, &[("compression.type", name)]).await;
        let mut expected = Vec::new();
        for (_, from) in ALL {
            let values = ["one", "two", "three"];
            let answer = client.produce(name, 0, compressed(&records(&values), from)).await;
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (0, expected.len() as i64),
                "{from:?} to {name}"
            );
            let first = expected.len() as i64;
            expected.extend((first..).zip(values.map(str::to_owned)));
        }
        let partition = client.fetch(name, 0, 0).await;
        // The CRC is checked as well.
        assert_eq!(read(&partition), expected, "{name}");
        let stored: Vec<Compression> = headers(&partition)
            .iter()
            .map(|header| header.compression().unwrap())
            .collect();
        assert_eq!(stored, vec![to.compression(); ALL.len()]);
    }
}

/// Nothing is compressed again that need not be: what came in is what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_the_right_compression_is_stored_untouched() {
    let broker = TestBroker::start().await;
    let mut client = broker
        .with_topic("t", 1, &[("compression.type", "gzip"), ("compression.gzip.level", "1")])
        .await;
    let sent = compressed(&records(&["x"; 50]), Compressor::Gzip(9));
    client.produce("t", 0, sent.clone()).await;
    let stored = client.fetch("t", 0, 0).await.records.expect("records");
    assert_eq!(stored[batch::HEADER_LEN..], sent[batch::HEADER_LEN..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_recognised_and_the_order_of_the_connection_is_kept() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[("compression.type", "zstd")]).await;
    let batch = |first_sequence: i32| {
        let value = format!("v{first_sequence}");
        let mut batch = build(crate::clock::wall_clock_ms(), &[(None, Some(value.as_bytes()))]);
        let producer = ProducerStamp {
            id: 7,
            epoch: 0,
            first_sequence,
        };
        set_producer(&mut batch, producer);
        // Every other one need not be compressed again, and must not overtake the one before it.
        match first_sequence % 2 {
            0 => batch.freeze(),
            _ => compressed(&batch.freeze(), Compressor::Zstd(1)),
        }
    };
    let mut sent = Vec::new();
    for sequence in 0..20 {
        sent.push(
            client
                .send(Api::Produce, 9, &produce_request("t", 0, -1, batch(sequence)))
                .await,
        );
    }
    for (expected, id) in (0..).zip(sent) {
        let response: ProduceResponse = client.receive(Api::Produce, 9, id).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, expected));
    }
    let again = client.produce("t", 0, batch(18)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 18));
    let expected: Vec<_> = (0..20).map(|offset| (offset, format!("v{offset}"))).collect();
    assert_eq!(read(&client.fetch("t", 0, 0).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_once_it_is_stored_is_refused() {
    let broker = TestBroker::start().await;
    let settings = [("compression.type", "uncompressed"), ("max.message.bytes", "10000")];
    let mut client = broker.with_topic("t", 1, &settings).await;
    let zeros = compressed_zeros(Kafka::Gzip, 100_000);
    assert!(zeros.len() < 10_000);
    let answer = client.produce("t", 0, zeros).await;
    assert_eq!(answer.error_code, 10);
    let message = answer.error_message.expect("a message");
    assert!(message.contains("longer than 10000 bytes"), "{message}");
    assert_eq!(client.produce("t", 0, records(&["small"])).await.base_offset, 0);
}

/// As Kafka: clients of Fetch before version 10 can't read zstd (KIP-110).
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_zstd_is_not_served_to_clients_that_are_too_old() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[("compression.type", "zstd")]).await;
    client.produce("t", 0, records(&["x"])).await;
    for (version, expected) in [(4, 76), (9, 76), (10, 0), (12, 0)] {
        let response: FetchResponse = client.ask(Api::Fetch, version, &fetch_request("t", 0, 0)).await;
        assert_eq!(only_partition(&response).error_code, expected, "version {version}");
    }
}
