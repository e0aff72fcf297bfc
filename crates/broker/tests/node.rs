//! `trimaran node` as a program: what it says to exactly this input, and how it ends.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const INIT: &str =
    r#"{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1","n2","n3"]}}"#;

fn run(input: &str) -> Output {
    let mut node = Command::new(env!("CARGO_BIN_EXE_trimaran"))
        .arg("node")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    node.wait_with_output().unwrap()
}

#[test]
fn two_lines_are_answered_by_one_and_the_program_ends() {
    let requests = [
        r#"{"src":"c1","dest":"n1","body":{"type":"partition_leader","msg_id":2,"topic":"orders","partition":0}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"partition_failover","msg_id":2,"topic":"orders","partition":0,"failed_leader":"n1"}}"#,
    ];
    for request in requests {
        let output = run(&format!("{INIT}\n{request}\n"));
        let expected = "{\"src\": \"n1\", \"dest\": \"c0\", \"body\": {\"type\": \"init_ok\", \"in_reply_to\": 1, \"msg_id\": 0}}\n";
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn a_malformed_line_gets_its_error_and_the_next_line_its_answer() {
    let output = run(&format!("nonsense\n{INIT}\n"));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].contains("\"code\": 12"), "{lines:?}");
    assert!(lines[1].contains("init_ok"), "{lines:?}");
    assert_eq!(output.status.code(), Some(0));
}
