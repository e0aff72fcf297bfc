//! Messages that are no requests of clients: answers of other nodes, and requests passed on to them.

use serde::Serialize;
use serde_json::{Map, Value, json};
use trimaran_raft::NodeId;
use trimaran_wire::json::{ErrorCode, Request, to_line};

/// A request for another node.
pub(super) struct Forwarded {
    pub(super) to: NodeId,
    /// Comes back in the answer.
    pub(super) number: u64,
    pub(super) request: Request,
}

/// Another node's answer.
pub(super) struct Replied {
    pub(super) src: String,
    pub(super) in_reply_to: Option<u64>,
    pub(super) body: Map<String, Value>,
}

impl Replied {
    /// The other node says that it didn't do it, and that another time or node might.
    pub(super) fn is_unavailable(&self) -> bool {
        let code = self.body.get("code").and_then(Value::as_u64);
        self.is("error") && code == Some(u64::from(ErrorCode::TemporarilyUnavailable.number()))
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.body.get("type").and_then(Value::as_str) == Some(kind)
    }

    /// The logs of a `poll_ok`: offsets with messages.
    pub(super) fn polled(&self) -> Vec<(String, Vec<(u64, Value)>)> {
        let Some(logs) = self.body.get("msgs").and_then(Value::as_object) else {
            return Vec::new();
        };
        let parse = |messages: &Value| serde_json::from_value(messages.clone()).unwrap_or_default();
        logs.iter()
            .map(|(key, messages)| (key.clone(), parse(messages)))
            .collect()
    }
}

/// The line as an answer, if it is one.
pub(super) fn reply(line: &[u8]) -> Option<Replied> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let body = value.get("body")?.as_object()?;
    let in_reply_to = body.get("in_reply_to").and_then(Value::as_u64);
    let is_error = body.get("type").and_then(Value::as_str) == Some("error");
    if in_reply_to.is_none() && !is_error {
        return None;
    }
    let src = value.get("src").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Replied {
        src,
        in_reply_to,
        body: body.clone(),
    })
}

/// In the order in which all lines are written.
#[derive(Serialize)]
struct Envelope<'a> {
    src: &'a str,
    dest: &'a str,
    body: Value,
}

/// A request as another node reads it; none for those that are never passed on.
pub(super) fn forward(src: &str, dest: &str, number: u64, request: &Request) -> Option<String> {
    let mut body = match request {
        Request::Send { key, msg } => json!({"type": "send", "key": key, "msg": msg}),
        Request::Poll { offsets } => json!({"type": "poll", "offsets": offsets}),
        Request::CommitOffsets { offsets } => json!({"type": "commit_offsets", "offsets": offsets}),
        Request::ListCommittedOffsets { keys } => json!({"type": "list_committed_offsets", "keys": keys}),
        Request::PartitionLeader { .. }
        | Request::PartitionFailover { .. }
        | Request::Init { .. }
        | Request::Peer { .. } => return None,
    };
    body["msg_id"] = number.into();
    Some(to_line(&Envelope { src, dest, body }))
}

/// Another node's answer, for the client that asked this one.
pub(super) fn relay(
    src: &str,
    dest: &str,
    in_reply_to: Option<u64>,
    number: u64,
    mut body: Map<String, Value>,
) -> String {
    body.remove("in_reply_to");
    body.insert("msg_id".to_owned(), number.into());
    if let Some(in_reply_to) = in_reply_to {
        body.insert("in_reply_to".to_owned(), in_reply_to.into());
    }
    to_line(&Envelope {
        src,
        dest,
        body: Value::Object(body),
    })
}
