use super::*;
use bytes::BytesMut;
use trimaran_wire::batch::{ProducerStamp, build, set_producer, verify_crc};

const NOW: i64 = 1_700_000_000_000;

fn good() -> BytesMut {
    build(NOW, &[(None, Some(b"one")), (Some(b"k"), Some(b"two"))])
}

/// Writes over a field, and makes the CRC right again.
fn with(at: usize, bytes: &[u8]) -> BytesMut {
    let mut batch = good();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    repair(&mut batch);
    batch
}

fn repair(batch: &mut BytesMut) {
    if let Err(trimaran_wire::batch::BatchError::BadCrc { computed, .. }) = verify_crc(batch) {
        batch[17..21].copy_from_slice(&computed.to_be_bytes());
    }
}

fn code(batch: &[u8]) -> i16 {
    code_for(batch, 9, &TopicConfig::default())
}

fn code_for(bytes: &[u8], version: i16, config: &TopicConfig) -> i16 {
    super::batch(bytes, version, config, NOW).map_or_else(|failure| failure.code(), |()| 0)
}

const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_TXN_STATE: i16 = 48;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

#[test]
fn a_good_batch_passes() {
    assert_eq!(code(&good()), 0);
    let mut idempotent = good();
    set_producer(
        &mut idempotent,
        ProducerStamp {
            id: 5,
            epoch: 0,
            first_sequence: 0,
        },
    );
    assert_eq!(code(&idempotent), 0);
}

#[test]
fn there_must_be_exactly_one_batch() {
    assert_eq!(code(&[]), INVALID_RECORD);
    let mut two = good();
    two.extend_from_slice(&good());
    assert_eq!(code(&two), INVALID_RECORD);
    let mut more = good();
    more.extend_from_slice(b"x");
    assert_eq!(code(&more), INVALID_RECORD);
    assert_eq!(code(&good()[..70]), CORRUPT_MESSAGE);
}

#[test]
fn older_formats_are_refused() {
    assert_eq!(code(&with(16, &[0])), INVALID_RECORD);
    assert_eq!(code(&with(16, &[1])), INVALID_RECORD);
}

#[test]
fn damage_is_found() {
    let mut batch = good();
    let last = batch.len() - 1;
    batch[last] ^= 1;
    assert_eq!(code(&batch), CORRUPT_MESSAGE);
}

#[test]
fn counts_must_agree() {
    assert_eq!(
        code(&with(23, &5i32.to_be_bytes())),
        INVALID_RECORD,
        "last offset delta"
    );
    assert_eq!(code(&with(57, &1i32.to_be_bytes())), INVALID_RECORD, "record count");
    assert_eq!(code(&with(57, &0i32.to_be_bytes())), INVALID_RECORD, "no records");
}

#[test]
fn clients_write_neither_control_batches_nor_transactions() {
    assert_eq!(code(&with(21, &[0, 1 << 5])), INVALID_RECORD);
    assert_eq!(code(&with(21, &[0, 1 << 4])), INVALID_TXN_STATE);
}

#[test]
fn a_producer_with_an_id_needs_a_sequence() {
    let mut batch = good();
    set_producer(
        &mut batch,
        ProducerStamp {
            id: 5,
            epoch: 0,
            first_sequence: -1,
        },
    );
    assert_eq!(code(&batch), INVALID_RECORD);
    set_producer(
        &mut batch,
        ProducerStamp {
            id: 5,
            epoch: -1,
            first_sequence: 0,
        },
    );
    assert_eq!(code(&batch), INVALID_RECORD);
}

#[test]
fn a_topic_limits_its_batches() {
    let length = u32::try_from(good().len()).unwrap();
    let config = |max_message_bytes| TopicConfig {
        max_message_bytes,
        ..TopicConfig::default()
    };
    assert_eq!(code_for(&good(), 9, &config(length)), 0);
    assert_eq!(code_for(&good(), 9, &config(length - 1)), MESSAGE_TOO_LARGE);
}

#[test]
fn zstd_needs_version_seven() {
    let zstd = with(21, &[0, 4]);
    assert_eq!(
        code_for(&zstd, 6, &TopicConfig::default()),
        UNSUPPORTED_COMPRESSION_TYPE
    );
    assert_eq!(
        code_for(&zstd, 7, &TopicConfig::default()),
        0,
        "the records themselves are not looked at"
    );
    assert_eq!(code(&with(21, &[0, 5])), INVALID_RECORD, "no such compression");
}

fn bounds(before_ms: u64, after_ms: u64) -> TopicConfig {
    TopicConfig {
        timestamp_before_max_ms: before_ms,
        timestamp_after_max_ms: after_ms,
        ..TopicConfig::default()
    }
}

#[test]
fn timestamps_have_bounds() {
    let at = |timestamp| build(timestamp, &[(None, Some(b"x"))]);
    let config = bounds(1_000, 500);
    assert_eq!(code_for(&at(NOW - 1_000), 9, &config), 0);
    assert_eq!(code_for(&at(NOW - 1_001), 9, &config), INVALID_TIMESTAMP);
    assert_eq!(code_for(&at(NOW + 500), 9, &config), 0);
    assert_eq!(code_for(&at(NOW + 501), 9, &config), INVALID_TIMESTAMP);
    assert_eq!(code_for(&at(-1), 9, &config), 0, "no timestamp at all");
    assert_eq!(code_for(&at(0), 9, &bounds(u64::MAX, u64::MAX)), 0, "no bounds at all");
    let stamped = TopicConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..config
    };
    assert_eq!(code_for(&at(0), 9, &stamped), 0, "the broker's clock replaces it");
}

/// The header's largest timestamp is in bounds, a record's is not.
#[test]
fn every_record_is_looked_at_where_a_topic_limits_the_past() {
    // The second record's timestamp delta: length, attributes, delta.
    let mut batch = good();
    let first_length = usize::from(batch[61] / 2) + 1;
    let delta = 61 + first_length + 2;
    batch[delta] = 0x7f; // zigzag for -64
    repair(&mut batch);
    assert_eq!(code_for(&batch, 9, &bounds(64, 500)), 0);
    assert_eq!(code_for(&batch, 9, &bounds(63, 500)), INVALID_TIMESTAMP);
}
