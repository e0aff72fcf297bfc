//! The records of `__consumer_offsets`, in the bytes that Kafka writes.
//!
//! A key begins with its version, which also says what the record is about: versions 0 and 1 name a group's offset of a
//! partition, version 2 a group. Later ones belong to protocols that this crate doesn't keep; [`Key::Unknown`] names
//! them. A value begins with its own version. Schemas: `OffsetCommitKey`, `OffsetCommitValue`, `GroupMetadataKey` and
//! `GroupMetadataValue` of Kafka's group coordinator.
//!
//! Decoding is total: bytes that are not a record are an error, and nothing is reserved for a count that the bytes
//! can't hold.

mod bytes;
mod group;
mod offset;
mod subscription;

pub use group::{GroupValue, MemberValue};
pub use offset::{OffsetKey, OffsetValue};
pub use subscription::subscribed_topics;

use self::bytes::{Reader, put_string};
use crate::Record;
use core::fmt;

/// The version of a key that names an offset.
const OFFSET_KEY: i16 = 1;
/// The version of a key that names a group.
const GROUP_KEY: i16 = 2;

/// The reason why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The value has a version that Kafka had not defined when this was written.
    Version(i16),
    /// The bytes are not what their version says.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Version(version) => write!(f, "version {version} of the value is not known"),
            DecodeError::Malformed => f.write_str("the bytes are not what their version says"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The subject of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A group's offset of a partition.
    Offset(OffsetKey),
    /// A group.
    Group(String),
    /// Something else, by the version of its key.
    Unknown(i16),
}

impl Key {
    /// The bytes of the key; a key that is unknown has none but its version.
    ///
    /// # Panics
    /// If a string is longer than 32,767 bytes, which [`limits`](crate::limits) rule out.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Key::Offset(key) => key.encode(),
            Key::Group(group) => group_key(group),
            Key::Unknown(version) => version.to_be_bytes().to_vec(),
        }
    }

    /// The key in these bytes.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`]
    pub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> {
        let mut reader = Reader::new(bytes);
        let key = match reader.i16()? {
            0 | OFFSET_KEY => Key::Offset(OffsetKey::read(&mut reader)?),
            GROUP_KEY => Key::Group(reader.string()?),
            version if version > GROUP_KEY => return Ok(Key::Unknown(version)),
            _ => return Err(DecodeError::Malformed),
        };
        reader.end()?;
        Ok(key)
    }
}

fn group_key(group: &str) -> Vec<u8> {
    let mut out = GROUP_KEY.to_be_bytes().to_vec();
    put_string(&mut out, group);
    out
}

/// The record that says what a group is.
pub fn group_record(group: &str, value: &GroupValue) -> Record {
    Record {
        key: group_key(group).into(),
        value: Some(value.encode().into()),
    }
}

/// The record that deletes what [`group_record`] said.
pub fn group_tombstone(group: &str) -> Record {
    Record {
        key: group_key(group).into(),
        value: None,
    }
}

/// The record of a committed offset.
pub fn offset_record(group: &str, topic: &str, partition: i32, value: &OffsetValue) -> Record {
    Record {
        key: offset::encode_key(group, topic, partition).into(),
        value: Some(value.encode().into()),
    }
}

/// The record that deletes what [`offset_record`] said.
pub fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record {
        key: offset::encode_key(group, topic, partition).into(),
        value: None,
    }
}

#[cfg(test)]
mod tests;
