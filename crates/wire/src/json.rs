//! JSON lines: the requests of the administration port and of `trimaran node`, which Jepsen's Maelstrom drives.
//!
//! A line is an envelope with a body; on the administration port, the body alone is the request. Answers are written as
//! Python's `json.dumps` writes them, keys in a fixed order, so that a transcript can be compared byte by byte:
//!
//! ```text
//! {"src": "n1", "dest": "c0", "body": {"type": "init_ok", "in_reply_to": 1, "msg_id": 0}}
//! ```

mod format;
mod lines;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use core::fmt;
use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;

pub use format::to_line;
pub use lines::{Line, LineCodec, MAX_LINE_BYTES};

/// A message that came in, with a request that is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Who sent it.
    pub src: String,
    /// Whom it is for.
    pub dest: String,
    /// The sender's number for it, if it wants an answer.
    pub msg_id: Option<u64>,
    /// What is asked.
    pub request: Request,
}

/// What is asked of a node or, for the first two, of a running cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Who leads this partition?
    PartitionLeader {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
    },
    /// Believe this leader gone, and find another.
    PartitionFailover {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
        /// The broker that is believed gone.
        failed_leader: String,
    },
    /// Maelstrom: this is who you are, and who else there is.
    Init {
        /// The receiver.
        node_id: String,
        /// All nodes, the receiver included.
        node_ids: Vec<String>,
    },
    /// Maelstrom's `kafka` workload: append a message to a log.
    Send {
        /// The log.
        key: String,
        /// The message.
        msg: Value,
    },
    /// Maelstrom's `kafka` workload: messages from these offsets on.
    Poll {
        /// The first offset wanted of each log.
        offsets: BTreeMap<String, u64>,
    },
    /// Maelstrom's `kafka` workload: messages up to here have been processed.
    CommitOffsets {
        /// The last offset processed of each log.
        offsets: BTreeMap<String, u64>,
    },
    /// Maelstrom's `kafka` workload: what has been committed?
    ListCommittedOffsets {
        /// The logs.
        keys: Vec<String>,
    },
    /// From another node: a frame of [`crate::peer`].
    Peer {
        /// The frame.
        frame: Bytes,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Request::Init`].
    InitOk,
    /// To [`Request::PartitionLeader`].
    PartitionLeaderOk {
        /// The leader.
        leader: String,
        /// The other replicas.
        followers: Vec<String>,
        /// The term that the leader leads in.
        term: u64,
    },
    /// To [`Request::PartitionFailover`].
    PartitionFailoverOk {
        /// The leader now.
        new_leader: String,
        /// The term that it leads in.
        new_term: u64,
        /// Milliseconds from the request to the new leader's readiness to serve.
        failover_ms: u64,
    },
    /// To [`Request::Send`].
    SendOk {
        /// Where the message is.
        offset: u64,
    },
    /// To [`Request::Poll`].
    PollOk {
        /// Offsets and messages of each log, in order.
        msgs: BTreeMap<String, Vec<(u64, Value)>>,
    },
    /// To [`Request::CommitOffsets`].
    CommitOffsetsOk,
    /// To [`Request::ListCommittedOffsets`].
    ListCommittedOffsetsOk {
        /// What is committed; logs without a commit are left out.
        offsets: BTreeMap<String, u64>,
    },
    /// To any request that failed.
    Error {
        /// Maelstrom's code.
        code: ErrorCode,
        /// What happened, for people.
        text: String,
    },
    /// Not an answer: a frame of [`crate::peer`] for another node.
    Peer {
        /// The frame.
        frame: Bytes,
    },
}

/// Maelstrom's error codes. Definite: the request did not and will not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 0: no answer in time; indefinite.
    Timeout,
    /// 1: there is no such node; definite.
    NodeNotFound,
    /// 10: there is no such request; definite.
    NotSupported,
    /// 11: not now; definite.
    TemporarilyUnavailable,
    /// 12: the request is not well formed; definite.
    MalformedRequest,
    /// 13: an error of the node; indefinite.
    Crash,
    /// 14: given up; definite.
    Abort,
    /// 20: there is no such topic, partition or log; definite.
    KeyDoesNotExist,
    /// 22: what the request takes for granted does not hold; definite.
    PreconditionFailed,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            ErrorCode::Timeout => 0,
            ErrorCode::NodeNotFound => 1,
            ErrorCode::NotSupported => 10,
            ErrorCode::TemporarilyUnavailable => 11,
            ErrorCode::MalformedRequest => 12,
            ErrorCode::Crash => 13,
            ErrorCode::Abort => 14,
            ErrorCode::KeyDoesNotExist => 20,
            ErrorCode::PreconditionFailed => 22,
        }
    }
}

/// Why a line is no request, with as much of its sender as could be read: enough to answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Who sent the line; empty if that can't be read.
    pub src: String,
    /// The sender's number for it, if that can be read.
    pub msg_id: Option<u64>,
    /// [`ErrorCode::MalformedRequest`] or [`ErrorCode::NotSupported`].
    pub code: ErrorCode,
    /// What is wrong.
    pub text: String,
}

impl JsonError {
    /// The answer for the sender.
    pub fn reply(&self) -> Reply {
        Reply::Error {
            code: self.code,
            text: self.text.clone(),
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for JsonError {}

/// Reads one line: an envelope and its body.
pub fn parse_line(line: &[u8]) -> Result<Incoming, JsonError> {
    let value: Value = serde_json::from_slice(line).map_err(|error| nobody(error.to_string()))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let src = text("src").unwrap_or_default();
    let body = value.get("body").unwrap_or(&Value::Null);
    let blame = |error: JsonError| JsonError {
        src: src.clone(),
        ..error
    };
    let (msg_id, request) = parse_value(body).map_err(blame)?;
    match (text("src"), text("dest")) {
        (Some(src), Some(dest)) => Ok(Incoming {
            src,
            dest,
            msg_id,
            request,
        }),
        _ => Err(blame(JsonError {
            msg_id,
            ..nobody("src and dest must be texts".to_owned())
        })),
    }
}

/// Reads a body alone: a request of the administration port.
pub fn parse_body(body: &[u8]) -> Result<(Option<u64>, Request), JsonError> {
    let value = serde_json::from_slice(body).map_err(|error| nobody(error.to_string()))?;
    parse_value(&value)
}

/// A malformed request of an unknown sender.
fn nobody(text: String) -> JsonError {
    JsonError {
        src: String::new(),
        msg_id: None,
        code: ErrorCode::MalformedRequest,
        text,
    }
}

fn parse_value(body: &Value) -> Result<(Option<u64>, Request), JsonError> {
    let msg_id = body.get("msg_id").and_then(Value::as_u64);
    let blame = |(code, text)| JsonError {
        src: String::new(),
        msg_id,
        code,
        text,
    };
    if body.get("msg_id").is_some_and(|id| !id.is_null() && msg_id.is_none()) {
        return Err(blame((
            ErrorCode::MalformedRequest,
            "msg_id must be a whole number".to_owned(),
        )));
    }
    let kind = body.get("type").and_then(Value::as_str);
    let kind = kind.ok_or_else(|| blame((ErrorCode::MalformedRequest, "the body needs a type".to_owned())))?;
    parse_request(kind, body)
        .map(|request| (msg_id, request))
        .map_err(blame)
}

fn parse_request(kind: &str, body: &Value) -> Result<Request, (ErrorCode, String)> {
    match kind {
        "partition_leader" => {
            fields(body).map(|PartitionFields { topic, partition }| Request::PartitionLeader { topic, partition })
        }
        "partition_failover" => fields(body).map(
            |FailoverFields {
                 topic,
                 partition,
                 failed_leader,
             }| {
                Request::PartitionFailover {
                    topic,
                    partition,
                    failed_leader,
                }
            },
        ),
        "init" => fields(body).map(|InitFields { node_id, node_ids }| Request::Init { node_id, node_ids }),
        "send" => fields(body).map(|SendFields { key, msg }| Request::Send { key, msg }),
        "poll" => fields(body).map(|OffsetsFields { offsets }| Request::Poll { offsets }),
        "commit_offsets" => fields(body).map(|OffsetsFields { offsets }| Request::CommitOffsets { offsets }),
        "list_committed_offsets" => fields(body).map(|KeysFields { keys }| Request::ListCommittedOffsets { keys }),
        "peer" => fields(body).and_then(|PeerFields { frame }| {
            let malformed = || (ErrorCode::MalformedRequest, "a frame must be hexadecimal".to_owned());
            from_hex(&frame)
                .map(|frame| Request::Peer { frame })
                .ok_or_else(malformed)
        }),
        other => Err((ErrorCode::NotSupported, format!("there is no request {other:?} here"))),
    }
}

#[derive(Deserialize)]
struct PartitionFields {
    topic: String,
    partition: u32,
}

#[derive(Deserialize)]
struct FailoverFields {
    topic: String,
    partition: u32,
    failed_leader: String,
}

#[derive(Deserialize)]
struct InitFields {
    node_id: String,
    node_ids: Vec<String>,
}

#[derive(Deserialize)]
struct SendFields {
    key: String,
    msg: Value,
}

#[derive(Deserialize)]
struct OffsetsFields {
    offsets: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct KeysFields {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct PeerFields {
    frame: String,
}

fn fields<T: DeserializeOwned>(body: &Value) -> Result<T, (ErrorCode, String)> {
    serde_json::from_value(body.clone()).map_err(|error| (ErrorCode::MalformedRequest, error.to_string()))
}

/// An answer without an envelope: what the administration port sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The `msg_id` of the request.
    pub in_reply_to: Option<u64>,
    /// The answer's own number.
    pub msg_id: Option<u64>,
    /// What is answered.
    pub reply: Reply,
}

/// A line that goes out. Serialized with its keys in this order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outgoing {
    /// Who sends it.
    pub src: String,
    /// Whom it is for.
    pub dest: String,
    /// What it says.
    pub body: Answer,
}

impl Reply {
    /// The body's type.
    pub fn kind(&self) -> &'static str {
        match self {
            Reply::InitOk => "init_ok",
            Reply::PartitionLeaderOk { .. } => "partition_leader_ok",
            Reply::PartitionFailoverOk { .. } => "partition_failover_ok",
            Reply::SendOk { .. } => "send_ok",
            Reply::PollOk { .. } => "poll_ok",
            Reply::CommitOffsetsOk => "commit_offsets_ok",
            Reply::ListCommittedOffsetsOk { .. } => "list_committed_offsets_ok",
            Reply::Error { .. } => "error",
            Reply::Peer { .. } => "peer",
        }
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.reply.kind())?;
        if let Some(in_reply_to) = self.in_reply_to {
            map.serialize_entry("in_reply_to", &in_reply_to)?;
        }
        if let Some(msg_id) = self.msg_id {
            map.serialize_entry("msg_id", &msg_id)?;
        }
        serialize_fields(&self.reply, &mut map)?;
        map.end()
    }
}

fn serialize_fields<M: SerializeMap>(reply: &Reply, map: &mut M) -> Result<(), M::Error> {
    match reply {
        Reply::InitOk | Reply::CommitOffsetsOk => Ok(()),
        Reply::PartitionLeaderOk {
            leader,
            followers,
            term,
        } => {
            map.serialize_entry("leader", leader)?;
            map.serialize_entry("followers", followers)?;
            map.serialize_entry("term", term)
        }
        Reply::PartitionFailoverOk {
            new_leader,
            new_term,
            failover_ms,
        } => {
            map.serialize_entry("new_leader", new_leader)?;
            map.serialize_entry("new_term", new_term)?;
            map.serialize_entry("failover_ms", failover_ms)
        }
        Reply::SendOk { offset } => map.serialize_entry("offset", offset),
        Reply::PollOk { msgs } => map.serialize_entry("msgs", msgs),
        Reply::ListCommittedOffsetsOk { offsets } => map.serialize_entry("offsets", offsets),
        Reply::Error { code, text } => {
            map.serialize_entry("code", &code.number())?;
            map.serialize_entry("text", text)
        }
        Reply::Peer { frame } => map.serialize_entry("frame", &to_hex(frame)),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn from_hex(text: &str) -> Option<Bytes> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8; 2]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    pairs.iter().map(byte).collect::<Option<Vec<u8>>>().map(Bytes::from)
}
