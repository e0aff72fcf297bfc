use super::*;
use crate::testing::Rng;
use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

fn request(body: &str) -> (Option<u64>, Request) {
    parse_body(body.as_bytes()).unwrap()
}

fn line(in_reply_to: Option<u64>, msg_id: Option<u64>, reply: Reply) -> String {
    let body = Answer {
        in_reply_to,
        msg_id,
        reply,
    };
    to_line(&Outgoing {
        src: "n1".into(),
        dest: "c0".into(),
        body,
    })
}

fn body(in_reply_to: u64, reply: Reply) -> String {
    to_line(&Answer {
        in_reply_to: Some(in_reply_to),
        msg_id: None,
        reply,
    })
}

#[test]
fn the_designs_transcript_comes_out() {
    let init =
        r#"{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1","n2","n3"]}}"#;
    let incoming = parse_line(init.as_bytes()).unwrap();
    assert_eq!(
        (incoming.src.as_str(), incoming.dest.as_str(), incoming.msg_id),
        ("c0", "n1", Some(1))
    );
    let node_ids = ["n1", "n2", "n3"].map(String::from).to_vec();
    assert_eq!(
        incoming.request,
        Request::Init {
            node_id: "n1".into(),
            node_ids
        }
    );
    assert_eq!(
        line(Some(1), Some(0), Reply::InitOk),
        r#"{"src": "n1", "dest": "c0", "body": {"type": "init_ok", "in_reply_to": 1, "msg_id": 0}}"#
    );
}

#[test]
fn requests_are_read() {
    let topic = || "orders".to_string();
    assert_eq!(
        request(r#"{"type":"partition_leader","msg_id":1,"topic":"orders","partition":0}"#),
        (
            Some(1),
            Request::PartitionLeader {
                topic: topic(),
                partition: 0
            }
        )
    );
    assert_eq!(
        request(
            r#"{"type":"partition_failover","msg_id":2,"topic":"orders","partition":0,"failed_leader":"broker-1"}"#
        ),
        (
            Some(2),
            Request::PartitionFailover {
                topic: topic(),
                partition: 0,
                failed_leader: "broker-1".into()
            }
        )
    );
    let offsets = BTreeMap::from([("k1".to_string(), 7)]);
    assert_eq!(
        request(r#"{"type":"send","key":"k1","msg":[1,"x"]}"#),
        (
            None,
            Request::Send {
                key: "k1".into(),
                msg: serde_json::json!([1, "x"])
            }
        )
    );
    assert_eq!(
        request(r#"{"type":"poll","msg_id":0,"offsets":{"k1":7}}"#),
        (
            Some(0),
            Request::Poll {
                offsets: offsets.clone()
            }
        )
    );
    assert_eq!(
        request(r#"{"type":"commit_offsets","offsets":{"k1":7}}"#).1,
        Request::CommitOffsets { offsets }
    );
    assert_eq!(
        request(r#"{"type":"list_committed_offsets","keys":["k1"]}"#).1,
        Request::ListCommittedOffsets {
            keys: vec!["k1".into()]
        }
    );
}

#[test]
fn replies_are_written_as_python_would() {
    let leader = Reply::PartitionLeaderOk {
        leader: "broker-1".into(),
        followers: vec!["broker-2".into(), "broker-3".into()],
        term: 3,
    };
    assert_eq!(
        body(1, leader),
        r#"{"type": "partition_leader_ok", "in_reply_to": 1, "leader": "broker-1", "followers": ["broker-2", "broker-3"], "term": 3}"#
    );
    let failover = Reply::PartitionFailoverOk {
        new_leader: "broker-2".into(),
        new_term: 4,
        failover_ms: 250,
    };
    assert_eq!(
        body(2, failover),
        r#"{"type": "partition_failover_ok", "in_reply_to": 2, "new_leader": "broker-2", "new_term": 4, "failover_ms": 250}"#
    );
    let msgs = BTreeMap::from([
        ("k".to_string(), vec![(0, 5.into()), (1, "ä😀\n".into())]),
        ("l".into(), vec![]),
    ]);
    assert_eq!(
        body(3, Reply::PollOk { msgs }),
        r#"{"type": "poll_ok", "in_reply_to": 3, "msgs": {"k": [[0, 5], [1, "\u00e4\ud83d\ude00\n"]], "l": []}}"#
    );
    assert_eq!(
        body(4, Reply::SendOk { offset: 9 }),
        r#"{"type": "send_ok", "in_reply_to": 4, "offset": 9}"#
    );
    assert_eq!(
        body(5, Reply::CommitOffsetsOk),
        r#"{"type": "commit_offsets_ok", "in_reply_to": 5}"#
    );
    let offsets = BTreeMap::from([("k".to_string(), 1)]);
    assert_eq!(
        body(6, Reply::ListCommittedOffsetsOk { offsets }),
        r#"{"type": "list_committed_offsets_ok", "in_reply_to": 6, "offsets": {"k": 1}}"#
    );
    let error = Reply::Error {
        code: ErrorCode::TemporarilyUnavailable,
        text: "no leader".into(),
    };
    assert_eq!(
        line(Some(7), Some(2), error),
        r#"{"src": "n1", "dest": "c0", "body": {"type": "error", "in_reply_to": 7, "msg_id": 2, "code": 11, "text": "no leader"}}"#
    );
}

#[test]
fn frames_between_nodes_come_back() {
    let frame = Bytes::from_static(&[0, 1, 0xab, 0xff]);
    let text = line(None, None, Reply::Peer { frame: frame.clone() });
    assert_eq!(
        text,
        r#"{"src": "n1", "dest": "c0", "body": {"type": "peer", "frame": "0001abff"}}"#
    );
    assert_eq!(parse_line(text.as_bytes()).unwrap().request, Request::Peer { frame });
    for bad in ["abc", "zz", "ä0"] {
        assert!(parse_body(format!(r#"{{"type":"peer","frame":"{bad}"}}"#).as_bytes()).is_err());
    }
}

#[test]
fn what_is_malformed_is_answered_if_its_sender_is_known() {
    let check = |line: &str, src: &str, msg_id: Option<u64>, code: ErrorCode| {
        let error = parse_line(line.as_bytes()).unwrap_err();
        assert_eq!(
            (error.src.as_str(), error.msg_id, error.code),
            (src, msg_id, code),
            "{line}: {error}"
        );
        assert_eq!(
            error.reply(),
            Reply::Error {
                code,
                text: error.text.clone()
            }
        );
    };
    let malformed = ErrorCode::MalformedRequest;
    check("", "", None, malformed);
    check("nonsense", "", None, malformed);
    check("[1, 2]", "", None, malformed);
    check("{}", "", None, malformed);
    check(r#"{"src":"c1","dest":"n1"}"#, "c1", None, malformed);
    check(
        r#"{"src":"c1","dest":"n1","body":{"msg_id":3}}"#,
        "c1",
        Some(3),
        malformed,
    );
    check(
        r#"{"src":"c1","dest":"n1","body":{"type":"x","msg_id":3}}"#,
        "c1",
        Some(3),
        ErrorCode::NotSupported,
    );
    check(
        r#"{"src":"c1","dest":"n1","body":{"type":"poll","msg_id":"3"}}"#,
        "c1",
        None,
        malformed,
    );
    check(
        r#"{"src":"c1","dest":"n1","body":{"type":"poll","msg_id":3}}"#,
        "c1",
        Some(3),
        malformed,
    );
    check(
        r#"{"src":"c1","dest":5,"body":{"type":"poll","msg_id":3,"offsets":{}}}"#,
        "c1",
        Some(3),
        malformed,
    );
    for partition in ["-1", "1.5", "4294967296", "\"0\"", "null"] {
        let body = format!(r#"{{"type":"partition_leader","msg_id":3,"topic":"t","partition":{partition}}}"#);
        let error = parse_body(body.as_bytes()).unwrap_err();
        assert_eq!((error.msg_id, error.code), (Some(3), malformed), "{body}");
    }
}

fn lines(max_bytes: usize, pieces: &[&[u8]]) -> Vec<Line> {
    let mut codec = LineCodec::new(max_bytes);
    let mut stream = BytesMut::new();
    let mut found = Vec::new();
    for piece in pieces {
        stream.extend_from_slice(piece);
        while let Some(line) = codec.decode(&mut stream).unwrap() {
            found.push(line);
        }
        assert!(stream.len() <= max_bytes + 1, "memory is bounded");
    }
    while let Some(line) = codec.decode_eof(&mut stream).unwrap() {
        found.push(line);
    }
    found
}

fn text(text: &str) -> Line {
    Line::Text(text.into())
}

#[test]
fn lines_are_cut_wherever_the_stream_is() {
    let stream = b"one\n\ntwo\r\nlast";
    for cut in 0..=stream.len() {
        let found = lines(10, &[&stream[..cut], &stream[cut..]]);
        assert_eq!(found, [text("one"), text(""), text("two"), text("last")], "{cut}");
    }
    assert_eq!(lines(10, &[b"one\n"]), [text("one")]);
    assert_eq!(lines(10, &[]), []);
}

#[test]
fn long_lines_are_skipped_and_the_next_is_read() {
    let stream = b"12345\n123456\nok\n1234567890";
    for cut in 0..=stream.len() {
        let found = lines(5, &[&stream[..cut], &stream[cut..]]);
        assert_eq!(
            found,
            [text("12345"), Line::TooLong, text("ok"), Line::TooLong],
            "{cut}"
        );
    }
}

#[test]
fn lines_get_their_ends() {
    let mut stream = BytesMut::new();
    LineCodec::new(10).encode("one", &mut stream).unwrap();
    assert_eq!(&stream[..], b"one\n");
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(7);
    let seeds = [
        r#"{"src":"c1","dest":"n1","body":{"type":"poll","msg_id":3,"offsets":{"a":1}}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"peer","frame":"00ff"}}"#,
    ];
    for _ in 0..10_000 {
        let seed = seeds[rng.below(seeds.len())].as_bytes();
        let _ = parse_line(&rng.mutate(seed));
        let _ = parse_line(&rng.bytes(40));
    }
    assert!(parse_line(&[b'['; 100_000]).is_err(), "nesting is limited");
}
