//! Produce: the request is taken apart without copying records, the response is written by hand.
//!
//! Source: Kafka's `ProduceRequest.json` and `ProduceResponse.json`.

#[cfg(test)]
mod tests;

use crate::WireError;
use crate::api::Api;
use crate::batch::Offset;
use crate::hint::{LeaderHint, NodeEndpoint, endpoints, leader};
use crate::reader::Reader;
use crate::writer::Writer;
use bytes::{Bytes, BytesMut};
use core::ops::Range;

/// The first version with record format v2, and the first that is served. Below, every partition is answered with
/// UNSUPPORTED_VERSION.
pub const FIRST_SERVED_VERSION: i16 = 3;

/// What a producer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The producer's transactional id, if it has one.
    pub transactional_id: Option<String>,
    /// 0, 1 or -1 (all); to be checked by who handles the request.
    pub acks: i16,
    /// How long the producer waits, in milliseconds.
    pub timeout_ms: i32,
    /// The topics, in the order of the request.
    pub topics: Vec<ProduceTopic>,
}

/// The records for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// The topic's name.
    pub name: String,
    /// The partitions, in the order of the request.
    pub partitions: Vec<ProducePartition>,
}

/// The records for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition's number.
    pub index: i32,
    /// What should be one record batch, unchecked; a part of the request's own memory, to be stamped in place.
    pub records: Option<BytesMut>,
}

/// Reads a request body. The records are split off from it, not copied.
pub fn decode_request(version: i16, mut body: BytesMut) -> Result<ProduceRequest, WireError> {
    let mut reader = Reader::new(&body, Api::Produce.is_flexible(version));
    let transactional_id = if version >= 3 {
        reader.text()?.map(str::to_owned)
    } else {
        None
    };
    let acks = reader.i16()?;
    let timeout_ms = reader.i32()?;
    let places = reader.list("topic_data", topic)?;
    reader.tags()?;
    let mut taken = 0;
    let topics = places
        .into_iter()
        .map(|place| take_topic(place, &mut body, &mut taken))
        .collect();
    Ok(ProduceRequest {
        transactional_id,
        acks,
        timeout_ms,
        topics,
    })
}

/// A topic whose records are still in the body.
struct TopicPlace {
    name: String,
    partitions: Vec<PartitionPlace>,
}

struct PartitionPlace {
    index: i32,
    /// Where the records lie in the body.
    records: Option<Range<usize>>,
}

fn topic(reader: &mut Reader<'_>) -> Result<TopicPlace, WireError> {
    let name = reader.required_text("name")?.to_owned();
    let partitions = reader.list("partition_data", partition)?;
    reader.tags()?;
    Ok(TopicPlace { name, partitions })
}

fn partition(reader: &mut Reader<'_>) -> Result<PartitionPlace, WireError> {
    let index = reader.i32()?;
    let records = reader
        .bytes()?
        .map(|bytes| reader.position() - bytes.len()..reader.position());
    reader.tags()?;
    Ok(PartitionPlace { index, records })
}

fn take_topic(place: TopicPlace, body: &mut BytesMut, taken: &mut usize) -> ProduceTopic {
    let mut take = |range: Range<usize>| {
        // The places ascend, so what lies before a place has been taken or is not needed.
        drop(body.split_to(range.start - *taken));
        *taken = range.end;
        body.split_to(range.len())
    };
    let partitions = place.partitions.into_iter();
    ProduceTopic {
        name: place.name,
        partitions: partitions
            .map(|partition| ProducePartition {
                index: partition.index,
                records: partition.records.map(&mut take),
            })
            .collect(),
    }
}

/// What a producer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The topics, in the order of the request.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the producer should pause, in milliseconds.
    pub throttle_time_ms: i32,
    /// Where the leaders named in the partitions are to be found (v10 and later).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What became of one topic's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// The topic's name.
    pub name: String,
    /// The partitions, in the order of the request.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// What became of one partition's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// The partition's number.
    pub index: i32,
    /// A Kafka error code; 0 for none.
    pub error_code: i16,
    /// The offset of the first record; `Offset(-1)` on errors.
    pub base_offset: Offset,
    /// The time of appending in milliseconds since 1970, if the topic stamps it; -1 otherwise (v2 and later).
    pub log_append_time_ms: i64,
    /// The first offset that is held; `Offset(-1)` on errors (v5 and later).
    pub log_start_offset: Offset,
    /// The records that are to blame: position in the batch, and why (v8 and later).
    pub record_errors: Vec<(i32, Option<String>)>,
    /// Why the batch was refused, in words (v8 and later).
    pub error_message: Option<String>,
    /// Who leads now, if this broker does not (v10 and later).
    pub current_leader: Option<LeaderHint>,
}

impl ProducePartitionResponse {
    /// The records are stored from `base_offset` on.
    pub fn stored(index: i32, base_offset: Offset, log_start_offset: Offset) -> ProducePartitionResponse {
        ProducePartitionResponse {
            index,
            error_code: 0,
            base_offset,
            log_append_time_ms: -1,
            log_start_offset,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }

    /// The records are refused.
    pub fn refused(index: i32, error_code: i16, message: Option<String>) -> ProducePartitionResponse {
        ProducePartitionResponse {
            error_code,
            error_message: message,
            ..ProducePartitionResponse::stored(index, Offset(-1), Offset(-1))
        }
    }
}

/// The response as chunks of one frame, its header before it.
pub fn encode_response(version: i16, correlation_id: i32, response: &ProduceResponse) -> Vec<Bytes> {
    let mut writer = Writer::new(Api::Produce.is_flexible(version), 64 + 64 * response.topics.len());
    writer.response_header(correlation_id);
    writer.count(Some(response.topics.len()));
    for topic in &response.topics {
        writer.text(&topic.name);
        writer.count(Some(topic.partitions.len()));
        for partition in &topic.partitions {
            put_partition(&mut writer, version, partition);
        }
        writer.tags(&[]);
    }
    if version >= 1 {
        writer.i32(response.throttle_time_ms);
    }
    let endpoints = if version >= 10 {
        endpoints(&response.node_endpoints)
    } else {
        None
    };
    match endpoints {
        Some(endpoints) => writer.tags(&[(0, &endpoints)]),
        None => writer.tags(&[]),
    }
    writer.finish()
}

fn put_partition(writer: &mut Writer, version: i16, partition: &ProducePartitionResponse) {
    writer.i32(partition.index);
    writer.i16(partition.error_code);
    writer.i64(partition.base_offset.0);
    if version >= 2 {
        writer.i64(partition.log_append_time_ms);
    }
    if version >= 5 {
        writer.i64(partition.log_start_offset.0);
    }
    if version >= 8 {
        writer.count(Some(partition.record_errors.len()));
        for (position, message) in &partition.record_errors {
            writer.i32(*position);
            writer.nullable_text(message.as_deref());
            writer.tags(&[]);
        }
        writer.nullable_text(partition.error_message.as_deref());
    }
    match partition.current_leader.filter(|_| version >= 10) {
        Some(hint) => writer.tags(&[(0, &leader(hint))]),
        None => writer.tags(&[]),
    }
}
