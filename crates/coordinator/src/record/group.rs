//! Groups of the classic protocol, with their members.

use super::DecodeError;
use super::bytes::{Reader, put_bytes, put_count, put_nullable_string, put_string};
use crate::Generation;
use ::bytes::Bytes;

/// A group: its generation and the members that are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupValue {
    /// The kind of group: `consumer`, `connect`, …
    pub protocol_type: String,
    /// The generation.
    pub generation: Generation,
    /// The chosen protocol; none without members.
    pub protocol: Option<String>,
    /// The member that assigned; none without members, and while a rebalance without one of the members is due.
    pub leader: Option<String>,
    /// When the group came into its state, in milliseconds since 1970 (from version 2 on).
    pub state_time_ms: Option<i64>,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberValue {
    /// Its id.
    pub member_id: String,
    /// Its instance id if it is static (from version 3 on).
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// How long a rebalance may take for it (from version 1 on, before that its session time-out).
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// The least that a member takes: four lengths of strings and bytes, and the session time-out.
const LEAST_MEMBER_BYTES: usize = 2 + 2 + 2 + 4 + 4 + 4;
/// The least that a member takes in version 4: five lengths, two time-outs, the number of tagged fields.
const LEAST_COMPACT_MEMBER_BYTES: usize = 4 + 4 + 4 + 2 + 1;

impl GroupValue {
    /// The bytes of the value, in version 3.
    ///
    /// # Panics
    /// If a string is longer than 32,767 bytes, which [`limits`](crate::limits) rule out.
    pub fn encode(&self) -> Vec<u8> {
        let members: usize = self.members.iter().map(MemberValue::encoded_len).sum();
        let mut out = Vec::with_capacity(64 + self.protocol_type.len() + members);
        out.extend_from_slice(&3_i16.to_be_bytes());
        put_string(&mut out, &self.protocol_type);
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        put_nullable_string(&mut out, self.protocol.as_deref());
        put_nullable_string(&mut out, self.leader.as_deref());
        out.extend_from_slice(&self.state_time_ms.unwrap_or(-1).to_be_bytes());
        put_count(&mut out, self.members.len());
        for member in &self.members {
            member.put(&mut out);
        }
        out
    }

    /// The value in these bytes, of any version that Kafka has written.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn decode(bytes: &[u8]) -> Result<GroupValue, DecodeError> {
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        let version = reader.i16()?;
        if !(0..=4).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let compact = version >= 4;
        let protocol_type = string(reader, compact)?;
        let generation = Generation(reader.i32()?);
        let protocol = nullable_string(reader, compact)?;
        let leader = nullable_string(reader, compact)?;
        let state_time_ms = if version >= 2 { Some(reader.i64()?) } else { None };
        let count = if compact {
            reader.compact_count(LEAST_COMPACT_MEMBER_BYTES)?
        } else {
            reader.count(LEAST_MEMBER_BYTES)?
        };
        let members = (0..count)
            .map(|_| MemberValue::read(reader, version))
            .collect::<Result<_, _>>()?;
        if compact {
            reader.tagged(|_, _| Ok(()))?;
        }
        reader.end()?;
        Ok(GroupValue {
            protocol_type,
            generation,
            protocol,
            leader,
            state_time_ms: state_time_ms.filter(|time_ms| *time_ms >= 0),
            members,
        })
    }
}

impl MemberValue {
    /// The bytes that the member takes in the value.
    pub(crate) fn encoded_len(&self) -> usize {
        let instance_id = self.instance_id.as_deref().map_or(0, str::len);
        let strings = self.member_id.len() + instance_id + self.client_id.len() + self.client_host.len();
        // Four lengths of two bytes, two time-outs, two lengths of four bytes.
        24 + strings + self.subscription.len() + self.assignment.len()
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_string(out, &self.member_id);
        put_nullable_string(out, self.instance_id.as_deref());
        put_string(out, &self.client_id);
        put_string(out, &self.client_host);
        out.extend_from_slice(&self.rebalance_timeout_ms.to_be_bytes());
        out.extend_from_slice(&self.session_timeout_ms.to_be_bytes());
        put_bytes(out, &self.subscription);
        put_bytes(out, &self.assignment);
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Result<MemberValue, DecodeError> {
        let compact = version >= 4;
        let member_id = string(reader, compact)?;
        let instance_id = if version >= 3 {
            nullable_string(reader, compact)?
        } else {
            None
        };
        let client_id = string(reader, compact)?;
        let client_host = string(reader, compact)?;
        let rebalance_timeout_ms = if version >= 1 { Some(reader.i32()?) } else { None };
        let session_timeout_ms = reader.i32()?;
        let [subscription, assignment] = [bytes(reader, compact)?, bytes(reader, compact)?];
        if compact {
            reader.tagged(|_, _| Ok(()))?;
        }
        Ok(MemberValue {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance_timeout_ms.filter(|ms| *ms >= 0).unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription,
            assignment,
        })
    }
}

fn string(reader: &mut Reader<'_>, compact: bool) -> Result<String, DecodeError> {
    if compact {
        reader.compact_string()
    } else {
        reader.string()
    }
}

fn nullable_string(reader: &mut Reader<'_>, compact: bool) -> Result<Option<String>, DecodeError> {
    if compact {
        reader.compact_nullable_string()
    } else {
        reader.nullable_string()
    }
}

/// A copy: a slice would keep the whole batch in memory.
fn bytes(reader: &mut Reader<'_>, compact: bool) -> Result<Bytes, DecodeError> {
    let bytes = if compact {
        reader.compact_bytes()
    } else {
        reader.bytes()
    };
    bytes.map(Bytes::copy_from_slice)
}
