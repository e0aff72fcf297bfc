use super::*;
use bytes::BytesMut;
use kafka_protocol::records::{RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};
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
    checked(bytes, version, config).map_or_else(|failure| failure.code(), |()| 0)
}

/// All of the checks, as they follow each other.
fn checked(bytes: &[u8], version: i16, config: &TopicConfig) -> Result<(), Failure> {
    super::batch(bytes, version, config)?;
    let contents = batch::validate(bytes, 1 << 20).map_err(errors::batch)?;
    timestamps(&contents, config, NOW)
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
    let mut zstd = BytesMut::new();
    let record = RecordBatchDecoder::decode(&mut good().freeze()).unwrap().records;
    let options = RecordEncodeOptions {
        version: 2,
        compression: kafka_protocol::records::Compression::Zstd,
    };
    RecordBatchEncoder::encode(&mut zstd, &record, &options).unwrap();
    assert_eq!(
        code_for(&zstd, 6, &TopicConfig::default()),
        UNSUPPORTED_COMPRESSION_TYPE
    );
    assert_eq!(code_for(&zstd, 7, &TopicConfig::default()), 0);
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

/// The second record's timestamp is 64 ms before or 63 ms after the batch's, whatever the header says.
fn with_delta(zigzag: u8, max_timestamp: i64) -> BytesMut {
    let mut batch = good();
    let first_length = usize::from(batch[61] / 2) + 1;
    batch[61 + first_length + 2] = zigzag; // behind length and attributes
    batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    repair(&mut batch);
    batch
}

#[test]
fn every_record_is_held_to_the_bounds_whatever_the_header_says() {
    let (before, after) = (with_delta(0x7f, NOW), with_delta(0x7e, NOW));
    assert_eq!(code_for(&before, 9, &bounds(64, 500)), 0);
    assert_eq!(code_for(&before, 9, &bounds(63, 500)), INVALID_TIMESTAMP);
    assert_eq!(code_for(&after, 9, &bounds(u64::MAX, 63)), 0);
    let failure = checked(&after, 9, &bounds(u64::MAX, 62)).unwrap_err();
    assert_eq!((failure.code(), failure.record), (INVALID_TIMESTAMP, Some(1)));
    assert_eq!(
        code_for(&with_delta(0, NOW + 1_000_000), 9, &bounds(64, 500)),
        0,
        "the header is not believed"
    );
}

#[test]
fn log_append_time_is_the_brokers_to_set() {
    let batch = with(21, &[0, 1 << 3]);
    assert_eq!(
        code(&batch),
        0,
        "the bit is cleared where the topic keeps the producer's timestamps"
    );
    let stamped = TopicConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..TopicConfig::default()
    };
    assert_eq!(code_for(&batch, 9, &stamped), INVALID_TIMESTAMP);
    assert_eq!(code_for(&good(), 9, &stamped), 0);
}

#[test]
fn the_record_to_blame_is_told() {
    let mut batch = good();
    let last = batch.len() - 1;
    batch[last] = 2; // one header more than there is
    repair(&mut batch);
    let failure = checked(&batch, 9, &TopicConfig::default()).unwrap_err();
    assert_eq!((failure.code(), failure.record), (INVALID_RECORD, Some(1)));
    assert!(failure.message.contains("more headers than fit"), "{}", failure.message);
}
