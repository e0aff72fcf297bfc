//! The administration port, as curl sees it.

use crate::support::{Trio, append, create, group, leader, settings, single, sockets};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimaran_broker::config::Voter;
use trimaran_broker::server::Server;

/// Sends a request, and returns status and body.
async fn http<B>(request: ureq::http::Request<B>) -> (u16, String)
where
    B: ureq::AsSendBody + Send + 'static,
{
    let exchange = move || {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let mut answer = ureq::Agent::from(config.build()).run(request)?;
        let body = answer.body_mut().read_to_string()?;
        Ok::<_, ureq::Error>((answer.status().as_u16(), body))
    };
    tokio::task::spawn_blocking(exchange).await.unwrap().unwrap()
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = ureq::http::Request::get(format!("http://{address}{path}"));
    http(request.body(()).unwrap()).await
}

async fn post(address: SocketAddr, body: &str) -> (u16, String) {
    post_as(address, &address.to_string(), "application/json", body).await
}

/// The same to a host of this name, as content of this type.
async fn post_as(address: SocketAddr, host: &str, kind: &str, body: &str) -> (u16, String) {
    let request = ureq::http::Request::post(format!("http://{address}/rpc"));
    let request = request.header("host", host).header("content-type", kind);
    http(request.body(body.to_owned()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_the_truth() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let admin = server.addresses().admin;
    let made = create(server.engine(), "t", 1, 1).await;
    append(server.engine(), made, "x").await;
    assert_eq!(get(admin, "/health/live").await, (200, "live\n".to_owned()));
    assert_eq!(get(admin, "/health/ready").await, (200, "ready\n".to_owned()));
    let (status, metrics) = get(admin, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "trimaran_leaderships 2",
        "trimaran_replicas 2",
        "trimaran_brokers_alive 1",
        "trimaran_journal_batches_total ",
        "trimaran_journal_bytes_total ",
        "trimaran_journal_write_seconds_count ",
        "trimaran_commit_seconds_count ",
        "trimaran_failover_seconds_count ",
        "trimaran_elections_total ",
        "trimaran_connections 0",
        "trimaran_peer_dropped_frames_total 0",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "no `{line}` in:\n{metrics}");
    }
    assert_eq!(get(admin, "/").await.0, 404);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_a_majority_lives_but_is_not_ready() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(1, data.path());
    let sockets = sockets();
    let own = sockets.peer.local_addr().unwrap().to_string();
    let voter = |id, address: &str| Voter {
        id,
        address: address.to_owned(),
    };
    settings.cluster.voters = vec![voter(1, &own), voter(2, "127.0.0.1:1"), voter(3, "127.0.0.1:2")];
    let server = Server::start_on(settings, sockets).await.unwrap();
    let admin = server.addresses().admin;
    assert_eq!(get(admin, "/health/live").await.0, 200);
    assert_eq!(get(admin, "/health/ready").await.0, 503);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leads_is_answered_by_any_broker_and_a_failover_is_measured() {
    let trio = Trio::start().await;
    create(trio.engine(1), "orders", 2, 3).await;
    let group = group(trio.engine(1), "orders", 1).await;
    let first = leader(trio.engine(1), group, None).await;
    append(trio.engine(first), group, "x").await;
    for id in 1..=3 {
        leader(trio.engine(id), group, None).await;
        let admin = trio.servers[id as usize - 1].as_ref().unwrap().addresses().admin;
        let ask = r#"{"type":"partition_leader","msg_id":1,"topic":"orders","partition":1}"#;
        let (status, text) = post(admin, ask).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200, "{text}");
        assert_eq!(answer["leader"], json!(format!("broker-{first}")));
        assert_eq!(answer["followers"].as_array().unwrap().len(), 2);
        let begin = r#"{"type":"partition_leader_ok","in_reply_to":1,"leader":"#;
        assert!(text.starts_with(begin), "the document's order of keys: {text}");
    }
    let asked = (1..=3).find(|id| *id != first).unwrap();
    let admin = trio.servers[asked as usize - 1].as_ref().unwrap().addresses().admin;
    let ask = json!({"type": "partition_failover", "msg_id": 2, "topic": "orders", "partition": 1,
        "failed_leader": format!("broker-{first}")});
    let (status, text) = post(admin, &ask.to_string()).await;
    assert_eq!(status, 200, "{text}");
    assert!(
        text.starts_with(r#"{"type":"partition_failover_ok","in_reply_to":2,"new_leader":"broker-"#),
        "{text}"
    );
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_ne!(answer["new_leader"], ask["failed_leader"]);
    assert!(answer["failover_ms"].as_u64().is_some());
    // Asked again, it is done already: the same leader, the same term.
    let (status, text) = post(admin, &ask.to_string()).await;
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200, "{text}");
    assert_eq!(
        (&again["new_leader"], &again["new_term"]),
        (&answer["new_leader"], &answer["new_term"])
    );
    for server in trio.servers.into_iter().flatten() {
        server.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_errors_with_codes_and_harm_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    create(server.engine(), "t", 1, 1).await;
    let admin = server.addresses().admin;
    let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(100_000));
    let cases = [
        ("", 400, 12),
        ("{", 400, 12),
        ("[]", 400, 12),
        ("{}", 400, 12),
        (r#"{"type":"partition_leader"}"#, 400, 12),
        (r#"{"type":"partition_leader","topic":"t","partition":-1}"#, 400, 12),
        (r#"{"type":"partition_leader","topic":"t","partition":"0"}"#, 400, 12),
        (r#"{"type":"no_such","msg_id":7}"#, 400, 10),
        (r#"{"type":"init","node_id":"n1","node_ids":["n1"]}"#, 400, 10),
        (r#"{"type":"partition_leader","topic":"u","partition":0}"#, 404, 20),
        (r#"{"type":"partition_leader","topic":"t","partition":9}"#, 404, 20),
        (
            r#"{"type":"partition_leader","topic":"t","partition":4294967295}"#,
            404,
            20,
        ),
        (
            r#"{"type":"partition_failover","topic":"t","partition":0,"failed_leader":"n1"}"#,
            400,
            12,
        ),
        (
            r#"{"type":"partition_failover","topic":"t","partition":0,"failed_leader":"broker-9"}"#,
            409,
            22,
        ),
        (
            r#"{"type":"partition_failover","topic":"t","partition":0,"failed_leader":"broker-1"}"#,
            409,
            22,
        ),
        (long.as_str(), 413, 12),
    ];
    for (body, status, code) in cases {
        let (found, text) = post(admin, body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!(found, status, "{shown}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{shown}: {text}"));
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!(code)),
            "{shown}: {text}"
        );
        assert!(!answer["text"].as_str().unwrap().is_empty());
    }
    let answered = post(admin, r#"{"type":"no_such","msg_id":7}"#).await.1;
    assert!(answered.contains(r#""in_reply_to":7"#), "{answered}");
    for garbage in [
        "\r\n\r\n",
        "\0\0\0\0",
        "GET / HTTP/9\r\n\r\n",
        "POST /rpc HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // Whatever it says, it ends.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(get(admin, "/health/ready").await.0, 200);
    server.kill().await;
}

/// Connections that say nothing, far more than there are places.
const SILENT: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_no_probe_out() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let admin = server.addresses().admin;
    let mut silent = Vec::new();
    for at in 0..SILENT {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        if at % 2 == 0 {
            // A request that begins and doesn't go on is no better. It may be the one that makes room.
            let _ = stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: ").await;
        }
        silent.push(stream);
    }
    assert_eq!(get(admin, "/health/live").await, (200, "live\n".to_owned()));
    assert_eq!(get(admin, "/health/ready").await.0, 200);
    // The first ones made room: nobody waited for their time to be over.
    let mut first = silent.remove(0);
    let _ = first.read_to_end(&mut Vec::new()).await;
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_json_for_this_broker_is_taken() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    create(server.engine(), "t", 1, 1).await;
    let admin = server.addresses().admin;
    let body = r#"{"type":"partition_leader","topic":"t","partition":0}"#;
    let cases = [
        ("localhost", "application/json", 200),
        ("127.0.0.1", "application/json; charset=utf-8", 200),
        ("attacker.example", "application/json", 421),
        ("localhost", "text/plain", 415),
        ("localhost", "application/x-www-form-urlencoded", 415),
    ];
    for (host, kind, status) in cases {
        let (found, text) = post_as(admin, host, kind, body).await;
        assert_eq!(found, status, "{host}, {kind}: {text}");
    }
    server.kill().await;
}
