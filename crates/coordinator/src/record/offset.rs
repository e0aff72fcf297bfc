//! Committed offsets.

use super::bytes::{Reader, put_compact_string, put_string};
use super::{DecodeError, OFFSET_KEY};
use crate::{Offset, TopicId};

/// A group's offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetKey {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

impl OffsetKey {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode_key(&self.group, &self.topic, self.partition)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<OffsetKey, DecodeError> {
        Ok(OffsetKey {
            group: reader.string()?,
            topic: reader.string()?,
            partition: reader.i32()?,
        })
    }
}

pub(super) fn encode_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + group.len() + topic.len());
    out.extend_from_slice(&OFFSET_KEY.to_be_bytes());
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.extend_from_slice(&partition.to_be_bytes());
    out
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, if the client knew it (from version 3 on).
    pub leader_epoch: Option<i32>,
    /// The client's note.
    pub metadata: String,
    /// When it was committed, in milliseconds since 1970.
    pub commit_time_ms: i64,
    /// When it expires, if the client said how long it is kept (version 1 only).
    pub expire_time_ms: Option<i64>,
    /// The topic's id, if the client named it (from version 4 on).
    pub topic_id: Option<TopicId>,
}

impl OffsetValue {
    /// The bytes of the value: in version 1 if it has an expiry time, which no other version holds, in version 4 if it
    /// has a topic id, otherwise in version 3.
    ///
    /// # Panics
    /// If the note is longer than 32,767 bytes, which [`limits`](crate::limits) rule out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + self.metadata.len());
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        let leader_epoch = self.leader_epoch.unwrap_or(-1);
        if let Some(expire_time_ms) = self.expire_time_ms {
            put(&1_i16.to_be_bytes());
            put(&self.offset.0.to_be_bytes());
            put_string(&mut out, &self.metadata);
            out.extend_from_slice(&self.commit_time_ms.to_be_bytes());
            out.extend_from_slice(&expire_time_ms.to_be_bytes());
        } else if let Some(topic_id) = self.topic_id {
            put(&4_i16.to_be_bytes());
            put(&self.offset.0.to_be_bytes());
            put(&leader_epoch.to_be_bytes());
            put_compact_string(&mut out, &self.metadata);
            out.extend_from_slice(&self.commit_time_ms.to_be_bytes());
            // One tagged field: tag 0, 16 bytes.
            out.extend_from_slice(&[1, 0, 16]);
            out.extend_from_slice(&topic_id);
        } else {
            put(&3_i16.to_be_bytes());
            put(&self.offset.0.to_be_bytes());
            put(&leader_epoch.to_be_bytes());
            put_string(&mut out, &self.metadata);
            out.extend_from_slice(&self.commit_time_ms.to_be_bytes());
        }
        out
    }

    /// The value in these bytes, of any version that Kafka has written.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn decode(bytes: &[u8]) -> Result<OffsetValue, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        if !(0..=4).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let offset = Offset(reader.i64()?);
        let leader_epoch = if version >= 3 { Some(reader.i32()?) } else { None };
        let metadata = if version >= 4 {
            reader.compact_string()?
        } else {
            reader.string()?
        };
        let commit_time_ms = reader.i64()?;
        let expire_time_ms = if version == 1 { Some(reader.i64()?) } else { None };
        let mut topic_id = None;
        if version >= 4 {
            reader.tagged(|tag, field| {
                if tag == 0 {
                    topic_id = Some(field.try_into().map_err(|_| DecodeError::Malformed)?);
                }
                Ok(())
            })?;
        }
        reader.end()?;
        Ok(OffsetValue {
            offset,
            leader_epoch: leader_epoch.filter(|epoch| *epoch >= 0),
            metadata,
            commit_time_ms,
            expire_time_ms: expire_time_ms.filter(|time_ms| *time_ms >= 0),
            // An id of zeros stands for none.
            topic_id: topic_id.filter(|id| *id != [0; 16]),
        })
    }
}
