//! Fetch: the response is a list of chunks, in which stored record bytes stand as they are.
//!
//! Source: Kafka's `FetchRequest.json` and `FetchResponse.json`.

#[cfg(test)]
mod tests;

use crate::api::Api;
use crate::batch::{LeaderEpoch, Offset};
use crate::hint::{LeaderHint, NodeEndpoint, endpoints, leader};
use crate::reader::Reader;
use crate::writer::Writer;
use crate::{TopicId, WireError};
use bytes::{Bytes, BytesMut};

/// The first version that names topics by their ids instead of their names.
pub const FIRST_TOPIC_ID_VERSION: i16 = 13;

/// A consumer's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// -1 for a consumer: brokers replicate in another way here.
    pub replica_id: i32,
    /// The time that the answer may take if there are fewer than `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// Bytes of records worth answering for.
    pub min_bytes: i32,
    /// Bytes of records in the response, about.
    pub max_bytes: i32,
    /// 1 hides records of transactions that are not committed.
    pub isolation_level: i8,
    /// The session; 0 for none.
    pub session_id: i32,
    /// The request's place in its session; 0 asks for a session, -1 ends it.
    pub session_epoch: i32,
    /// The topics, in the order of the request.
    pub topics: Vec<FetchTopic>,
    /// The consumer's rack; empty for none.
    pub rack_id: String,
}

/// A consumer's request for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic's name; empty from v13 on.
    pub name: String,
    /// The topic's id; zero before v13.
    pub topic_id: TopicId,
    /// The partitions, in the order of the request.
    pub partitions: Vec<FetchPartition>,
}

/// A consumer's request for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition's number.
    pub index: i32,
    /// The leader epoch that the consumer knows of (KIP-320).
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// The first offset wanted.
    pub fetch_offset: Offset,
    /// The leader epoch of the last record before `fetch_offset`, if the consumer wants divergence found.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Bytes of records from this partition, about.
    pub max_bytes: i32,
}

/// Reads a request body.
pub fn decode_request(version: i16, body: BytesMut) -> Result<FetchRequest, WireError> {
    let mut reader = Reader::new(&body, Api::Fetch.is_flexible(version));
    let mut request = FetchRequest {
        replica_id: if version <= 14 { reader.i32()? } else { -1 },
        max_wait_ms: reader.i32()?,
        min_bytes: reader.i32()?,
        max_bytes: reader.i32()?,
        isolation_level: reader.i8()?,
        session_id: if version >= 7 { reader.i32()? } else { 0 },
        session_epoch: if version >= 7 { reader.i32()? } else { -1 },
        topics: reader.list("topics", |reader| topic(version, reader))?,
        rack_id: String::new(),
    };
    if version >= 7 {
        // Partitions that leave a session. Sessions are declined, so there is nothing to leave.
        reader.list("forgotten_topics_data", |reader| forgotten(version, reader))?;
    }
    if version >= 11 {
        request.rack_id = reader.required_text("rack_id")?.to_owned();
    }
    reader.known_tags(|tag, content| {
        if tag == 1 && version >= 15 {
            request.replica_id = Reader::new(content, true).i32()?;
        }
        Ok(())
    })?;
    Ok(request)
}

fn topic(version: i16, reader: &mut Reader<'_>) -> Result<FetchTopic, WireError> {
    let (name, topic_id) = named(version, reader)?;
    let partitions = reader.list("partitions", |reader| partition(version, reader))?;
    reader.tags()?;
    Ok(FetchTopic {
        name,
        topic_id,
        partitions,
    })
}

fn named(version: i16, reader: &mut Reader<'_>) -> Result<(String, TopicId), WireError> {
    if version >= FIRST_TOPIC_ID_VERSION {
        Ok((String::new(), TopicId(reader.uuid()?)))
    } else {
        Ok((reader.required_text("topic")?.to_owned(), TopicId::default()))
    }
}

fn partition(version: i16, reader: &mut Reader<'_>) -> Result<FetchPartition, WireError> {
    let index = reader.i32()?;
    let current_leader_epoch = if version >= 9 { epoch(reader.i32()?) } else { None };
    let fetch_offset = Offset(reader.i64()?);
    let last_fetched_epoch = if version >= 12 { epoch(reader.i32()?) } else { None };
    if version >= 5 {
        reader.i64()?; // where a follower's log starts
    }
    let max_bytes = reader.i32()?;
    reader.tags()?;
    Ok(FetchPartition {
        index,
        current_leader_epoch,
        fetch_offset,
        last_fetched_epoch,
        max_bytes,
    })
}

/// -1 is none.
fn epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

fn forgotten(version: i16, reader: &mut Reader<'_>) -> Result<(), WireError> {
    named(version, reader)?;
    reader.list("partitions", |reader| reader.i32().map(drop))?;
    reader.tags()
}

/// The answer to a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// The time that the consumer should pause, in milliseconds.
    pub throttle_time_ms: i32,
    /// A Kafka error code about the request as a whole; 0 for none (v7 and later).
    pub error_code: i16,
    /// The session; 0 declines one (v7 and later).
    pub session_id: i32,
    /// The topics, in the order of the request.
    pub topics: Vec<FetchTopicResponse>,
    /// Where the leaders named in the partitions are to be found (v16 and later).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopicResponse {
    /// As in the request.
    pub name: String,
    /// As in the request.
    pub topic_id: TopicId,
    /// The partitions, in the order of the request.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// One partition's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionResponse {
    /// The partition's number.
    pub index: i32,
    /// A Kafka error code; 0 for none.
    pub error_code: i16,
    /// The offset after the last record that anyone may read; `Offset(-1)` if unknown.
    pub high_watermark: Offset,
    /// The offset before which all transactions are decided; `Offset(-1)` if unknown.
    pub last_stable_offset: Offset,
    /// The first offset that is held; `Offset(-1)` if unknown (v5 and later).
    pub log_start_offset: Offset,
    /// Aborted transactions in the records: producer id and first offset, in the order of the offsets. `None` unless
    /// the consumer reads committed records only.
    pub aborted_transactions: Option<Vec<(i64, Offset)>>,
    /// Where the consumer should read instead; there must be no records then (v11 and later).
    pub preferred_read_replica: Option<i32>,
    /// Whole record batches, back to back.
    pub records: Vec<Bytes>,
    /// The epoch and the offset where the consumer's log departs from this one (v12 and later).
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    /// The present leader, if it is not this broker (v12 and later).
    pub current_leader: Option<LeaderHint>,
}

impl FetchPartitionResponse {
    /// No records, because of an error.
    pub fn failed(index: i32, error_code: i16) -> FetchPartitionResponse {
        FetchPartitionResponse {
            index,
            error_code,
            high_watermark: Offset(-1),
            last_stable_offset: Offset(-1),
            log_start_offset: Offset(-1),
            aborted_transactions: None,
            preferred_read_replica: None,
            records: Vec::new(),
            diverging_epoch: None,
            current_leader: None,
        }
    }
}

/// Writes the length of a partition's records, and perhaps the records.
type PutRecords<'a> = dyn FnMut(&mut Writer, &[Bytes]) + 'a;

/// The response as chunks of one frame, its header before it. Records are chunks of their own, not copied.
pub fn encode_response(version: i16, correlation_id: i32, response: &FetchResponse) -> Vec<Bytes> {
    write_response(version, correlation_id, response, &mut |writer, records| {
        writer.bytes(records)
    })
    .finish()
}

/// The response around its records, for a caller that sends those from where they are: the bytes before the records of
/// the first partition, those between its records and the second's, and so on; one more than there are partitions.
/// `lengths` says how long the records of each are, in the order of the response; its own records are not looked at.
pub fn encode_around_records(
    version: i16,
    correlation_id: i32,
    response: &FetchResponse,
    lengths: &[usize],
) -> Vec<Bytes> {
    let mut lengths = lengths.iter().copied();
    let mut put = |writer: &mut Writer, _: &[Bytes]| writer.gap(lengths.next().unwrap_or(0));
    write_response(version, correlation_id, response, &mut put).finish_around()
}

fn write_response(
    version: i16,
    correlation_id: i32,
    response: &FetchResponse,
    put_records: &mut PutRecords<'_>,
) -> Writer {
    let mut writer = Writer::new(Api::Fetch.is_flexible(version), 64 + 64 * response.topics.len());
    writer.response_header(correlation_id);
    writer.i32(response.throttle_time_ms);
    if version >= 7 {
        writer.i16(response.error_code);
        writer.i32(response.session_id);
    }
    writer.count(Some(response.topics.len()));
    for topic in &response.topics {
        put_topic(&mut writer, version, topic, put_records);
    }
    let endpoints = if version >= 16 {
        endpoints(&response.node_endpoints)
    } else {
        None
    };
    match endpoints {
        Some(endpoints) => writer.tags(&[(0, &endpoints)]),
        None => writer.tags(&[]),
    }
    writer
}

fn put_topic(writer: &mut Writer, version: i16, topic: &FetchTopicResponse, put_records: &mut PutRecords<'_>) {
    if version >= FIRST_TOPIC_ID_VERSION {
        writer.uuid(topic.topic_id.0);
    } else {
        writer.text(&topic.name);
    }
    writer.count(Some(topic.partitions.len()));
    for partition in &topic.partitions {
        put_partition(writer, version, partition, put_records);
    }
    writer.tags(&[]);
}

fn put_partition(
    writer: &mut Writer,
    version: i16,
    partition: &FetchPartitionResponse,
    put_records: &mut PutRecords<'_>,
) {
    writer.i32(partition.index);
    writer.i16(partition.error_code);
    writer.i64(partition.high_watermark.0);
    writer.i64(partition.last_stable_offset.0);
    if version >= 5 {
        writer.i64(partition.log_start_offset.0);
    }
    put_aborted(writer, partition.aborted_transactions.as_deref());
    if version >= 11 {
        writer.i32(partition.preferred_read_replica.unwrap_or(-1));
    }
    put_records(writer, &partition.records);
    put_partition_tags(writer, version, partition);
}

fn put_aborted(writer: &mut Writer, aborted: Option<&[(i64, Offset)]>) {
    writer.count(aborted.map(<[_]>::len));
    for (producer_id, first_offset) in aborted.unwrap_or_default() {
        writer.i64(*producer_id);
        writer.i64(first_offset.0);
        writer.tags(&[]);
    }
}

fn put_partition_tags(writer: &mut Writer, version: i16, partition: &FetchPartitionResponse) {
    if version < 12 {
        return;
    }
    let diverging = partition.diverging_epoch.map(diverging);
    let leader = partition.current_leader.map(leader);
    let tags = [(0, diverging.as_deref()), (1, leader.as_deref())];
    let tags: Vec<(u32, &[u8])> = tags
        .iter()
        .filter_map(|(tag, content)| content.map(|c| (*tag, c)))
        .collect();
    writer.tags(&tags);
}

/// The content of the tagged field `diverging_epoch`.
fn diverging((epoch, end_offset): (LeaderEpoch, Offset)) -> Vec<u8> {
    let mut writer = Writer::new(true, 13);
    writer.i32(epoch.0);
    writer.i64(end_offset.0);
    writer.tags(&[]);
    writer.finish().concat()
}
