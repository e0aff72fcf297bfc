//! What a producer's batch must satisfy before it is appended (Kafka's `ProduceRequest.validateRecords` and
//! `LogValidator`).

use crate::kafka::errors::{self, Failure};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use trimaran_registry::TopicConfig;
use trimaran_registry::topic_config::TimestampType;
use trimaran_wire::batch::{self, BatchHeader, Compression};

/// The first version of Produce that may carry zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;

/// What records may decompress to when their timestamps have to be looked at one by one: far above what is in a batch of
/// the largest size that topics allow by default, and little enough to hold.
const MAX_DECOMPRESSED_BYTES: usize = 128 << 20;

/// No timestamp.
const NO_TIMESTAMP: i64 = -1;

pub(super) fn no_batch() -> Failure {
    invalid("a partition needs exactly one record batch")
}

pub(super) fn no_transactions() -> Failure {
    Failure::new(ResponseError::InvalidTxnState, "transactions are not supported yet")
}

pub(super) fn timed_out() -> Failure {
    let message = "not acknowledged within the request's timeout; it may or may not be stored";
    Failure::new(ResponseError::RequestTimedOut, message)
}

fn invalid(message: &str) -> Failure {
    Failure::new(ResponseError::InvalidRecord, message)
}

/// Checks one partition's records: exactly one well-formed, undamaged batch that its topic accepts.
pub(super) fn batch(bytes: &[u8], version: i16, config: &TopicConfig, now_ms: i64) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Err(no_batch());
    }
    let header = BatchHeader::parse_only(bytes).map_err(errors::batch)?;
    if header.length > config.max_message_bytes {
        return Err(too_large(&header, config));
    }
    batch::verify_crc(bytes).map_err(errors::batch)?;
    check_header(&header)?;
    check_compression(&header, version)?;
    match config.timestamp_type {
        TimestampType::CreateTime => check_timestamps(bytes, &header, config, now_ms),
        // The broker's own clock will be in it.
        TimestampType::LogAppendTime => Ok(()),
    }
}

fn too_large(header: &BatchHeader, config: &TopicConfig) -> Failure {
    let message = format!(
        "the batch has {} bytes, and the topic's max.message.bytes is {}",
        header.length, config.max_message_bytes
    );
    Failure::new(ResponseError::MessageTooLarge, message)
}

fn check_header(header: &BatchHeader) -> Result<(), Failure> {
    if header.is_control() {
        return Err(invalid("only brokers write control batches"));
    }
    if header.is_transactional() {
        return Err(no_transactions());
    }
    // What counts fewer records than offsets was compacted, which no producer does.
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        return Err(invalid("the record count does not agree with the last offset delta"));
    }
    match header.producer() {
        Some(producer) if producer.first_sequence < 0 || producer.epoch < 0 => {
            Err(invalid("a producer with an id needs an epoch and a sequence number"))
        }
        _ => Ok(()),
    }
}

fn check_compression(header: &BatchHeader, version: i16) -> Result<(), Failure> {
    match header.compression().map_err(errors::batch)? {
        Compression::Zstd if version < FIRST_ZSTD_VERSION => Err(Failure::new(
            ResponseError::UnsupportedCompressionType,
            "zstd needs Produce version 7 or later",
        )),
        Compression::None | Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => Ok(()),
    }
}

/// `message.timestamp.before.max.ms` and `.after.max.ms`. The batch's largest timestamp stands in its header; for the
/// smallest, the records have to be read, which is done only where a topic limits it.
fn check_timestamps(bytes: &[u8], header: &BatchHeader, config: &TopicConfig, now_ms: i64) -> Result<(), Failure> {
    let earliest = now_ms.saturating_sub_unsigned(config.timestamp_before_max_ms);
    let latest = now_ms.saturating_add_unsigned(config.timestamp_after_max_ms);
    check_timestamp(header.max_timestamp, earliest, latest)?;
    if earliest <= 0 {
        return Ok(());
    }
    let records = batch::records(&Bytes::copy_from_slice(bytes), MAX_DECOMPRESSED_BYTES).map_err(errors::batch)?;
    for record in records {
        check_timestamp(record.map_err(errors::batch)?.timestamp_ms, earliest, latest)?;
    }
    Ok(())
}

fn check_timestamp(timestamp_ms: i64, earliest: i64, latest: i64) -> Result<(), Failure> {
    if timestamp_ms == NO_TIMESTAMP || (earliest..=latest).contains(&timestamp_ms) {
        return Ok(());
    }
    let message = format!("the timestamp {timestamp_ms} is not between {earliest} and {latest}, as the topic asks");
    Err(Failure::new(ResponseError::InvalidTimestamp, message))
}

#[cfg(test)]
mod tests;
