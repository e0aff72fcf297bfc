//! JSON lines and bodies, and the node that lives on them.

use serde_json::{Value, json};
use std::io::Cursor;
use trimaran_wire::json::{Answer, Incoming, JsonError, Outgoing, Reply, parse_body, parse_line, to_line};

pub(super) fn target(data: &[u8]) {
    let line = parse_line(data);
    let body = parse_body(data);
    match &line {
        Ok(incoming) => read(data, incoming),
        Err(error) => answered(error),
    }
    if let Err(error) = &body {
        answered(error);
    }
}

/// What was read is what an independent reader finds.
fn read(data: &[u8], incoming: &Incoming) {
    let value: Value = serde_json::from_slice(data).expect("it was read");
    assert_eq!(value["src"], json!(incoming.src));
    assert_eq!(value["dest"], json!(incoming.dest));
    assert_eq!(value["body"]["msg_id"].as_u64(), incoming.msg_id);
    let body = serde_json::to_vec(&value["body"]).expect("a value has text");
    assert_eq!(parse_body(&body), Ok((incoming.msg_id, incoming.request.clone())));
}

/// An error can be answered, on one line of ASCII.
fn answered(error: &JsonError) {
    assert!(!error.text.is_empty());
    let outgoing = Outgoing {
        src: "n1".into(),
        dest: error.src.clone(),
        body: Answer {
            in_reply_to: error.msg_id,
            msg_id: Some(0),
            reply: error.reply(),
        },
    };
    let line = to_line(&outgoing);
    assert!(line.is_ascii() && !line.contains('\n'));
    let value: Value = serde_json::from_str(&line).expect("what is written can be read");
    assert_eq!(value["dest"], json!(error.src));
    assert_eq!(value["body"]["text"], json!(error.text));
}

/// Bodies of every request, and of every answer.
fn bodies() -> Vec<Value> {
    let mut bodies = vec![
        json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1"]}),
        json!({"type": "partition_leader", "msg_id": 2, "topic": "orders", "partition": 0}),
        json!({"type": "partition_failover", "msg_id": 3, "topic": "orders", "partition": 0, "failed_leader": "n1"}),
        json!({"type": "send", "msg_id": 4, "key": "9", "msg": {"a": [1, null, 2.5e300, "\u{1f6f6}"]}}),
        json!({"type": "poll", "msg_id": 5, "offsets": {"9": 0, "7": u64::MAX}}),
        json!({"type": "commit_offsets", "msg_id": 6, "offsets": {"9": 1}}),
        json!({"type": "list_committed_offsets", "msg_id": 7, "keys": ["9", "7"]}),
        json!({"type": "peer", "frame": "0103"}),
        json!({"type": "unknown", "msg_id": 8}),
    ];
    let replies = [Reply::InitOk, Reply::SendOk { offset: 3 }];
    bodies.extend(replies.into_iter().map(|reply| {
        let answer = Answer {
            in_reply_to: Some(1),
            msg_id: None,
            reply,
        };
        serde_json::to_value(answer).expect("answers are JSON")
    }));
    bodies
}

fn line(body: &Value) -> Vec<u8> {
    serde_json::to_vec(&json!({"src": "c1", "dest": "n1", "body": body})).expect("a value has text")
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let alone = bodies()
        .into_iter()
        .map(|body| serde_json::to_vec(&body).expect("a value has text"));
    bodies().iter().map(line).chain(alone).collect()
}

/// Lines on the standard input of a node.
pub(super) fn node(data: &[u8]) {
    let mut output = Vec::new();
    trimaran_broker::node::run(Cursor::new(data.to_vec()), &mut output).expect("no line stops a node");
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(line.is_ascii());
        let value: Value = serde_json::from_slice(line).expect("every answer is JSON");
        assert!(value["src"].is_string() && value["dest"].is_string() && value["body"]["type"].is_string());
    }
}

/// A node that is alone, and one of three that is woken by another's word.
pub(super) fn node_seeds() -> Vec<Vec<u8>> {
    let lines: Vec<Vec<u8>> = bodies().iter().map(line).collect();
    let alone = lines.join(&b'\n');
    let of_three = line(&json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1", "n2", "n3"]}));
    let heard = super::peers::seeds().into_iter().map(|frame| {
        let frame: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({"type": "peer", "frame": frame});
        serde_json::to_vec(&json!({"src": "n2", "dest": "n1", "body": body})).expect("a value has text")
    });
    let mut three = vec![of_three];
    three.extend(heard);
    three.extend(lines.into_iter().skip(1));
    vec![alone, three.join(&b'\n')]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_answers_its_seeds() {
        let mut output = Vec::new();
        trimaran_broker::node::run(Cursor::new(node_seeds().remove(0)), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert!(text.contains("init_ok"), "{text}");
    }
}
