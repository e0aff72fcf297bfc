//! What is in a producer's batch, and not only in its header: batches that would stop every consumer, timestamps that the
//! header hides, batches that take long to read.

use super::TestBroker;
use super::connection::Client;
use super::words::{compressed_zeros, headers, produce_request, read, records, records_at};
use crate::clock::wall_clock_ms;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::records::Compression;
use trimaran_wire::api::Api;
use trimaran_wire::batch::{BatchError, verify_crc};

const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;

/// Writes these fields over a batch, by their place in the header, and makes length and CRC right again.
fn with(batch: &[u8], fields: &[(usize, &[u8])]) -> Bytes {
    let mut batch = BytesMut::from(batch);
    let length = u32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    for (at, bytes) in fields {
        batch[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    if let Err(BatchError::BadCrc { computed, .. }) = verify_crc(&batch) {
        batch[17..21].copy_from_slice(&computed.to_be_bytes());
    }
    batch.freeze()
}

const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const RECORD_COUNT: usize = 57;

/// A batch with these bytes for its records.
fn around(attributes: u8, count: i32, payload: &[u8]) -> Bytes {
    let header = &records(&["x"])[..61];
    let last = (count - 1).to_be_bytes();
    let fields: [(usize, &[u8]); 3] = [
        (ATTRIBUTES, &[0, attributes]),
        (LAST_OFFSET_DELTA, &last),
        (RECORD_COUNT, &count.to_be_bytes()),
    ];
    with(&[header, payload].concat(), &fields)
}

/// One record, as it lies in a batch.
const ONE: &[u8] = &[14, 0, 0, 0, 1, 2, b'v', 0];

/// Nothing, as gzip writes it.
const EMPTY_GZIP: &[u8] = &[31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_no_consumer_could_read_are_refused() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let gzipped = compressed_zeros(Compression::Gzip, 10);
    let poison = [
        ("one record, counted as five", around(0, 5, ONE)),
        ("two records, counted as one", around(0, 1, &ONE.repeat(2))),
        ("random bytes", around(0, 1, &[0xff; 70])),
        (
            "a record longer than the batch",
            around(0, 1, &[&[0xd0, 0x0f][..], &ONE[1..], &[0; 40]].concat()),
        ),
        (
            "a negative number of headers",
            around(0, 1, &[16, 0, 0, 0, 1, 1, 1, 0, 0]),
        ),
        ("two records of the same offset", around(0, 2, &ONE.repeat(2))),
        ("gzip that is none", around(1, 1, &b"not gzip at all".repeat(5))),
        ("gzip of an empty payload", around(1, 1, b"")),
        ("gzip of nothing", around(1, 1, EMPTY_GZIP)),
        ("gzip, counted as 2^31 - 1", around(1, i32::MAX, &gzipped[61..])),
        ("a compression that is not defined", around(7, 1, ONE)),
        ("no record", around(0, 0, b"")),
        ("a negative count", around(0, -1, b"")),
        (
            "more offsets than records",
            with(&around(0, 1, ONE), &[(LAST_OFFSET_DELTA, &[0, 0, 0, 9])]),
        ),
    ];
    for (situation, batch) in poison {
        let refused = client.produce("t", 0, batch).await;
        assert_eq!(
            (refused.error_code, refused.base_offset),
            (INVALID_RECORD, -1),
            "{situation}"
        );
        assert!(refused.error_message.is_some(), "{situation}");
    }
    let sound = client.produce("t", 0, around(0, 1, ONE)).await;
    assert_eq!((sound.error_code, sound.base_offset), (0, 0));
    assert_eq!(read(&client.fetch("t", 0, 0).await), [(0, "v".to_string())]);
}

/// Java's producer tells its application which record it was, and that the others are only in bad company.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_that_is_to_blame_is_named() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let second_is_negative = [ONE, &[16, 0, 0, 2, 1, 1, 1, 0, 0]].concat();
    let refused = client.produce("t", 0, around(0, 2, &second_is_negative)).await;
    let blamed: Vec<i32> = refused.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!((refused.error_code, blamed), (INVALID_RECORD, vec![1]));
}

/// Sarama before 1.45.1 leaves the header's largest timestamp at -1.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_timestamp_comes_from_the_records() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let now = wall_clock_ms();
    for claimed in [-1, i64::MIN, now - 1_000_000, now + 1_000_000_000, i64::MAX] {
        let batch = with(&records_at(now, &["a"]), &[(MAX_TIMESTAMP, &claimed.to_be_bytes())]);
        assert_eq!(client.produce("t", 0, batch).await.error_code, 0, "{claimed}");
    }
    let fetched = client.fetch("t", 0, 0).await;
    assert_eq!(read(&fetched).len(), 5, "their checksums are right");
    assert!(headers(&fetched).iter().all(|header| header.max_timestamp == now));
    let by_time = client.offset(5, "t", now - 1_000).await;
    assert_eq!((by_time.offset, by_time.timestamp), (0, now));
    let latest = client.offset(7, "t", -3).await;
    assert_eq!((latest.offset, latest.timestamp), (0, now));
    assert_eq!(client.offset(5, "t", now + 1).await.offset, -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_timestamps_are_found_by_none() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    for timestamp in [-1, -5, -62_135_596_800_000] {
        assert_eq!(
            client.produce("t", 0, records_at(timestamp, &["a"])).await.error_code,
            0,
            "{timestamp}"
        );
    }
    let fetched = client.fetch("t", 0, 0).await;
    assert!(headers(&fetched).iter().all(|header| header.max_timestamp == -1));
    assert_eq!(client.offset(5, "t", 0).await.offset, -1);
    assert_eq!(client.offset(7, "t", -3).await.offset, -1);
}

/// Kept, the bit would make every consumer take the client's clock for the broker's.
#[tokio::test(flavor = "multi_thread")]
async fn the_bit_of_log_append_time_is_cleared() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let now = wall_clock_ms();
    let batch = with(
        &records_at(now - 100_000, &["a"]),
        &[
            (ATTRIBUTES, &[0, 1 << 3 | 1 << 6]),
            (MAX_TIMESTAMP, &(now + 1_234).to_be_bytes()),
        ],
    );
    assert_eq!(client.produce("t", 0, batch).await.error_code, 0);
    let stored = headers(&client.fetch("t", 0, 0).await)[0];
    assert_eq!((stored.attributes, stored.max_timestamp), (0, now - 100_000));
    let mut stamped = broker
        .with_topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let batch = with(&records(&["a"]), &[(ATTRIBUTES, &[0, 1 << 3])]);
    assert_eq!(stamped.produce("stamped", 0, batch).await.error_code, INVALID_TIMESTAMP);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_far_ahead_is_refused_whatever_its_header_says() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let now = wall_clock_ms();
    for ahead in [now + 7_200_000, now.saturating_mul(1_000_000), 1 << 62, i64::MAX] {
        let fields: [(usize, &[u8]); 2] = [
            (BASE_TIMESTAMP, &ahead.to_be_bytes()),
            (MAX_TIMESTAMP, &now.to_be_bytes()),
        ];
        let refused = client.produce("t", 0, with(&records(&["a"]), &fields)).await;
        let blamed: Vec<i32> = refused.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!((refused.error_code, blamed), (INVALID_TIMESTAMP, vec![0]), "{ahead}");
    }
}

async fn send(client: &mut Client, batch: Bytes) -> i32 {
    client.send(Api::Produce, 11, &produce_request("t", 0, -1, batch)).await
}

/// Those that take long to read are read elsewhere, and what is sent after them waits for its turn.
#[tokio::test(flavor = "multi_thread")]
async fn large_compressed_batches_and_small_ones_stay_in_order() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, records(&["first"])).await.error_code, 0);
    let mut sent = Vec::new();
    for round in 0..6 {
        let compression = [Compression::Zstd, Compression::Gzip, Compression::Snappy][round % 3];
        sent.push(send(&mut client, compressed_zeros(compression, 6 << 20)).await);
        sent.push(send(&mut client, records(&["small"])).await);
        // Refused, which holds up nobody.
        sent.push(send(&mut client, around(1, 1, EMPTY_GZIP)).await);
    }
    let mut expected = 1;
    for (at, correlation_id) in sent.into_iter().enumerate() {
        let response: ProduceResponse = client.receive(Api::Produce, 11, correlation_id).await;
        let partition = &response.responses[0].partition_responses[0];
        let answer = (partition.error_code, partition.base_offset);
        match at % 3 {
            2 => assert_eq!(answer, (INVALID_RECORD, -1)),
            _ => {
                assert_eq!(answer, (0, expected), "request {at}");
                expected += 1;
            }
        }
    }
}

/// Java's producer splits such a batch and sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_too_large() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let bomb = compressed_zeros(Compression::Zstd, 129 << 20);
    assert!(bomb.len() < 1 << 20);
    let refused = client.produce("t", 0, bomb).await;
    assert_eq!((refused.error_code, refused.base_offset), (MESSAGE_TOO_LARGE, -1));
    let large = compressed_zeros(Compression::Zstd, 120 << 20);
    assert_eq!(client.produce("t", 0, large).await.error_code, 0);
}

/// Each lookup reads the batch again, as a stream.
#[tokio::test(flavor = "multi_thread")]
async fn many_lookups_into_a_large_batch_are_answered() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let before = wall_clock_ms();
    assert_eq!(
        client
            .produce("t", 0, compressed_zeros(Compression::Zstd, 40 << 20))
            .await
            .error_code,
        0
    );
    let mut lookups = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = broker.connect().await;
        lookups.spawn(async move { client.offset(5, "t", before).await });
    }
    while let Some(found) = lookups.join_next().await {
        let found = found.unwrap();
        assert_eq!((found.error_code, found.offset), (0, 0));
    }
}
