//! What a producer's batch must satisfy before it is appended (Kafka's `ProduceRequest.validateRecords` and
//! `LogValidator`).

use crate::kafka::errors::{self, Failure};
use kafka_protocol::ResponseError;
use trimaran_registry::TopicConfig;
use trimaran_registry::topic_config::TimestampType;
use trimaran_wire::batch::{self, BatchHeader, Compression, Contents, TimestampOf};

/// The first version of Produce that may carry zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;

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

pub(super) fn not_read() -> Failure {
    Failure::new(ResponseError::UnknownServerError, "the batch was not read")
}

fn invalid(message: &str) -> Failure {
    Failure::new(ResponseError::InvalidRecord, message)
}

/// Checks all of one partition's records but what is in them: exactly one undamaged batch with a header that its topic
/// accepts. The records follow by [`batch::validate`], and what they say by [`timestamps`].
pub(super) fn batch(bytes: &[u8], version: i16, config: &TopicConfig) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Err(no_batch());
    }
    let header = BatchHeader::parse_only(bytes).map_err(errors::batch)?;
    if header.length > config.max_message_bytes {
        return Err(too_large(&header, config));
    }
    batch::verify_crc(bytes).map_err(errors::batch)?;
    check_header(&header, config)?;
    check_compression(&header, version)
}

fn too_large(header: &BatchHeader, config: &TopicConfig) -> Failure {
    let message = format!(
        "the batch has {} bytes, and the topic's max.message.bytes is {}",
        header.length, config.max_message_bytes
    );
    Failure::new(ResponseError::MessageTooLarge, message)
}

fn check_header(header: &BatchHeader, config: &TopicConfig) -> Result<(), Failure> {
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
    // Where the topic keeps the producer's timestamps, the bit is cleared instead: also as Kafka.
    if header.is_log_append_time() && config.timestamp_type == TimestampType::LogAppendTime {
        let message = "a producer must not set the timestamp type to LogAppendTime";
        return Err(Failure::new(ResponseError::InvalidTimestamp, message));
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

/// `message.timestamp.before.max.ms` and `.after.max.ms`, for every record: the header is not believed.
pub(super) fn timestamps(contents: &Contents, config: &TopicConfig, now_ms: i64) -> Result<(), Failure> {
    match config.timestamp_type {
        TimestampType::CreateTime => {}
        // The broker's own clock will be in it.
        TimestampType::LogAppendTime => return Ok(()),
    }
    let earliest = now_ms.saturating_sub_unsigned(config.timestamp_before_max_ms);
    let latest = now_ms.saturating_add_unsigned(config.timestamp_after_max_ms);
    let is_outside = |of: &TimestampOf| !(earliest..=latest).contains(&of.timestamp_ms);
    let Some(TimestampOf { position, timestamp_ms }) = [contents.earliest, contents.latest]
        .into_iter()
        .flatten()
        .find(is_outside)
    else {
        return Ok(());
    };
    let message = format!(
        "the timestamp {timestamp_ms} of record {position} is not between {earliest} and {latest}, as the topic asks"
    );
    Err(Failure::new(ResponseError::InvalidTimestamp, message).of_record(position))
}

#[cfg(test)]
mod tests;
