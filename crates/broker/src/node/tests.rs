mod network;

use super::*;
use network::Network;
use serde_json::{Value, json};
use std::io::Cursor;

const SECOND: Duration = Duration::from_secs(1);

/// What the program says to that input.
fn transcript(input: &str) -> Vec<String> {
    let mut output = Vec::new();
    run(Cursor::new(input.to_owned()), &mut output).unwrap();
    String::from_utf8(output).unwrap().lines().map(str::to_owned).collect()
}

fn bodies(input: &str) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str::<Value>(line).unwrap()["body"].clone();
    transcript(input).iter().map(parse).collect()
}

const INIT: &str =
    r#"{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1","n2","n3"]}}"#;
const INIT_OK: &str = r#"{"src": "n1", "dest": "c0", "body": {"type": "init_ok", "in_reply_to": 1, "msg_id": 0}}"#;

#[test]
fn the_documented_transcripts() {
    let requests = [
        r#"{"src":"c1","dest":"n1","body":{"type":"partition_leader","msg_id":2,"topic":"orders","partition":0}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"partition_failover","msg_id":2,"topic":"orders","partition":0,"failed_leader":"n1"}}"#,
    ];
    for request in requests {
        assert_eq!(transcript(&format!("{INIT}\n{request}\n")), [INIT_OK]);
        assert_eq!(
            transcript(&format!("{INIT}\n{request}")),
            [INIT_OK],
            "without a last line end"
        );
    }
    assert_eq!(transcript(""), [""; 0]);
}

#[test]
fn malformed_lines_get_an_error_and_the_node_goes_on() {
    let lines = [
        "this is no JSON",
        "{\"src\":\"c1\",",
        "",
        "[]",
        "{}",
        r#"{"src":"c1","dest":"n1"}"#,
        r#"{"src":"c1","dest":"n1","body":{"msg_id":7}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"dance","msg_id":8}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"send","msg_id":9,"key":5}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"send","msg_id":10,"key":"a b","msg":1}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"partition_leader","msg_id":11,"topic":"t","partition":1000}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"partition_failover","msg_id":12,"topic":"t","partition":0,"failed_leader":"n9"}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"send","msg_id":13,"key":"__consumer_offsets","msg":1}}"#,
    ];
    let bodies = bodies(&format!("{INIT}\n{}\n{INIT}\n", lines.join("\n")));
    let codes: Vec<u64> = bodies.iter().filter_map(|body| body["code"].as_u64()).collect();
    assert_eq!(codes, [12, 12, 12, 12, 12, 12, 10, 12, 12, 12, 22, 12]);
    let known: Vec<u64> = bodies.iter().filter_map(|body| body["in_reply_to"].as_u64()).collect();
    assert_eq!(known, [1, 7, 8, 9, 10, 11, 12, 13, 1]);
    assert_eq!(bodies.last().unwrap()["type"], "init_ok", "it went on");
}

#[test]
fn a_line_of_any_length_or_encoding_does_no_harm() {
    let long = "x".repeat(json::MAX_LINE_BYTES + 1);
    let bodies = bodies(&format!("{long}\n{INIT}\n"));
    assert_eq!(bodies[0]["code"], 12);
    assert_eq!(bodies[1]["type"], "init_ok");
    let mut output = Vec::new();
    run(
        Cursor::new([b"\xff\xfe\x00\n".to_vec(), INIT.as_bytes().to_vec()].concat()),
        &mut output,
    )
    .unwrap();
    assert!(String::from_utf8(output).unwrap().contains("init_ok"));
}

#[test]
fn before_init_nothing_is_known() {
    let request = r#"{"src":"c1","dest":"n1","body":{"type":"send","msg_id":2,"key":"a","msg":1}}"#;
    let other = INIT.replace("\"node_id\":\"n1\"", "\"node_id\":\"n2\"");
    let wrong = INIT.replace("\"node_id\":\"n1\"", "\"node_id\":\"n7\"");
    let bodies = bodies(&[request, &wrong, INIT, INIT, &other].join("\n"));
    let codes: Vec<Option<u64>> = bodies.iter().map(|body| body["code"].as_u64()).collect();
    assert_eq!(codes, [Some(11), Some(12), None, None, Some(22)]);
}

#[test]
fn answers_are_never_answered() {
    let lines = [
        r#"{"src":"n2","dest":"n1","body":{"type":"error","in_reply_to":3,"code":10,"text":"no"}}"#,
        r#"{"src":"n2","dest":"n1","body":{"type":"error","code":12,"text":"no"}}"#,
        r#"{"src":"n2","dest":"n1","body":{"type":"send_ok","in_reply_to":9,"offset":1}}"#,
        r#"{"src":"n2","dest":"n1","body":{"type":"peer","frame":"00ff"}}"#,
    ];
    assert_eq!(transcript(&format!("{INIT}\n{}\n", lines.join("\n")))[0], INIT_OK);
    let answered = bodies(&format!("{INIT}\n{}\n", lines[..3].join("\n")));
    assert_eq!(answered.len(), 1);
}

#[test]
fn a_single_node_serves_alone() {
    let mut network = Network::new(1);
    let sent = network.ask("n1", json!({"type": "send", "key": "a", "msg": 1}), 5 * SECOND);
    assert_eq!((&sent["type"], &sent["offset"]), (&json!("send_ok"), &json!(0)));
    let failover = json!({"type": "partition_failover", "topic": "a", "partition": 0, "failed_leader": "n1"});
    assert_eq!(network.ask("n1", failover, 5 * SECOND)["code"], 22);
}

#[test]
fn the_kafka_workload_through_any_node() {
    let mut network = Network::new(3);
    for number in 0..30 {
        let node = network.name(number % 3);
        let message = json!({"type": "send", "key": "a", "msg": [number, "größe"]});
        let sent = network.ask(&node, message, 6 * SECOND);
        assert_eq!(
            (&sent["type"], &sent["offset"]),
            (&json!("send_ok"), &json!(number)),
            "{sent}"
        );
    }
    for node in 0..3 {
        let node = network.name(node);
        let polled = network.ask(
            &node,
            json!({"type": "poll", "offsets": {"a": 27, "unknown": 0}}),
            SECOND,
        );
        let expected = json!({"a": [[27, [27, "größe"]], [28, [28, "größe"]], [29, [29, "größe"]]], "unknown": []});
        assert_eq!(polled["msgs"], expected);
        let beyond = network.ask(&node, json!({"type": "poll", "offsets": {"a": 30}}), SECOND);
        assert_eq!(beyond["msgs"], json!({"a": []}));
    }
    let committed = network.ask(
        "n2",
        json!({"type": "commit_offsets", "offsets": {"a": 5, "b": 7}}),
        6 * SECOND,
    );
    assert_eq!(committed["type"], "commit_offsets_ok");
    let back = network.ask("n3", json!({"type": "commit_offsets", "offsets": {"a": 3}}), SECOND);
    assert_eq!(back["type"], "commit_offsets_ok");
    for node in 0..3 {
        let node = network.name(node);
        let list = json!({"type": "list_committed_offsets", "keys": ["a", "b", "c"]});
        assert_eq!(network.ask(&node, list, SECOND)["offsets"], json!({"a": 5, "b": 7}));
    }
}

#[test]
fn five_nodes_hold_three_replicas_and_all_of_them_answer() {
    let mut network = Network::new(5);
    for key in ["a", "b", "c", "d"] {
        let sent = network.ask("n5", json!({"type": "send", "key": key, "msg": key}), 6 * SECOND);
        assert_eq!(sent["offset"], 0, "{sent}");
    }
    network.run(2 * SECOND);
    for node in 0..5 {
        let node = network.name(node);
        let offsets = json!({"a": 0, "b": 0, "c": 0, "d": 0});
        let polled = network.ask(&node, json!({"type": "poll", "offsets": offsets}), 2 * SECOND);
        let expected = json!({"a": [[0, "a"]], "b": [[0, "b"]], "c": [[0, "c"]], "d": [[0, "d"]]});
        assert_eq!(polled["msgs"], expected);
    }
    let leader = network.ask(
        "n1",
        json!({"type": "partition_leader", "topic": "a", "partition": 0}),
        SECOND,
    );
    assert_eq!(leader["followers"].as_array().unwrap().len(), 2);
}

#[test]
fn partitions_are_created_by_the_first_request() {
    let mut network = Network::new(3);
    let mut leaders = Vec::new();
    for partition in [2, 0, 1, 2] {
        let request = json!({"type": "partition_leader", "topic": "orders", "partition": partition});
        let answer = network.ask("n2", request, 6 * SECOND);
        assert_eq!(answer["type"], "partition_leader_ok", "{answer}");
        assert!(answer["term"].as_u64().unwrap() > 0);
        leaders.push(answer["leader"].clone());
    }
    assert_eq!(leaders[0], leaders[3]);
    leaders.sort_by_key(Value::to_string);
    leaders.dedup();
    assert_eq!(leaders.len(), 3, "leaders are even");
}

#[test]
fn a_failover_on_request() {
    let mut network = Network::new(3);
    let leader = json!({"type": "partition_leader", "topic": "orders", "partition": 0});
    let before = network.ask("n1", leader.clone(), 6 * SECOND);
    let failed = before["leader"].as_str().unwrap().to_owned();
    let request = json!({"type": "partition_failover", "topic": "orders", "partition": 0, "failed_leader": failed});
    let after = network.ask("n1", request.clone(), 11 * SECOND);
    assert_eq!(after["type"], "partition_failover_ok", "{after}");
    assert_ne!(after["new_leader"], before["leader"]);
    assert!(after["new_term"].as_u64() > before["term"].as_u64());
    let again = network.ask("n2", request, SECOND);
    assert_eq!(
        (&again["new_leader"], &again["new_term"]),
        (&after["new_leader"], &after["new_term"])
    );
    let now = network.ask("n3", leader, SECOND);
    assert_eq!(
        (&now["leader"], &now["term"]),
        (&after["new_leader"], &after["new_term"])
    );
}

#[test]
fn a_failover_when_the_leader_is_gone() {
    let mut network = Network::new(3);
    let leader = json!({"type": "partition_leader", "topic": "orders", "partition": 0});
    let before = network.ask("n1", leader, 6 * SECOND);
    let failed = before["leader"].as_str().unwrap().to_owned();
    network.cut(&failed);
    let asked = if failed == "n1" { "n2" } else { "n1" };
    let request = json!({"type": "partition_failover", "topic": "orders", "partition": 0, "failed_leader": failed});
    let after = network.ask(asked, request, 11 * SECOND);
    assert_eq!(after["type"], "partition_failover_ok", "{after}");
    assert!(after["failover_ms"].as_u64().unwrap() < 1_500, "{after}");
    let sent = network.ask(asked, json!({"type": "send", "key": "orders", "msg": 1}), 6 * SECOND);
    assert_eq!(sent["type"], "send_ok", "{sent}");
}

#[test]
fn a_minority_refuses_or_does_not_know_but_never_lies() {
    let mut network = Network::new(3);
    assert_eq!(
        network.ask("n1", json!({"type": "send", "key": "a", "msg": 0}), 6 * SECOND)["offset"],
        0
    );
    network.cut("n3");
    network.run(5 * SECOND);
    let refused = network.ask("n3", json!({"type": "send", "key": "a", "msg": 1}), 5 * SECOND);
    assert!([json!(0), json!(11)].contains(&refused["code"]), "{refused}");
    let polled = network.ask("n3", json!({"type": "poll", "offsets": {"a": 0}}), SECOND);
    assert_eq!(polled["msgs"], json!({"a": [[0, 0]]}), "what is committed can be read");
    let sent = network.ask("n1", json!({"type": "send", "key": "a", "msg": 2}), 6 * SECOND);
    assert_eq!(sent["type"], "send_ok");
    network.heal();
    network.run(5 * SECOND);
    let polled = network.ask("n3", json!({"type": "poll", "offsets": {"a": 0}}), SECOND);
    let messages: Vec<Value> = polled["msgs"]["a"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair[1].clone())
        .collect();
    assert!(messages == [json!(0), json!(2)] || refused["code"] == 0, "{messages:?}");
}
