//! Bytes that nobody should send, a data folder that is taken, the command line, and the node for Maelstrom.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use trimaran_tests::process::{
    BrokerProcess, Cluster, ClusterOptions, KafkaClient, free_port, get, post, run_with_input, wait_until,
};
use trimaran_tests::sim::rng::Rng;
use trimaran_wire::peer;

/// Connections with nonsense, for each port and kind.
const ATTEMPTS: u64 = 300;

/// How much more memory a broker may hold after thousands of bad connections, in KiB: buffers, thread stacks and what
/// the allocator keeps, but nothing for each of them.
const GROWTH_KIB: u64 = 64 << 10;

/// Sends bytes to a port, closes the sending side, and waits until the other side closes too.
///
/// # Panics
/// When it does not: the broker hangs on to a connection that will never say anything sensible.
#[track_caller]
fn offer(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).expect("the broker listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout can be set");
    // The broker may close before it has read everything: that is an answer too.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let timed_out = matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        );
        assert!(
            !timed_out,
            "{address} neither answers nor closes after {} bytes",
            bytes.len()
        );
    }
}

fn random_bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| u8::try_from(rng.below(256)).unwrap_or(0)).collect()
}

/// A frame with a true length and random content that looks like a Kafka request from afar.
fn plausible(rng: &mut Rng) -> Vec<u8> {
    let length = usize::try_from(rng.between(8, 400)).unwrap_or(8);
    let mut frame = u32::try_from(length).unwrap_or(0).to_be_bytes().to_vec();
    let mut body = random_bytes(rng, length);
    let key = i16::try_from(rng.below(70)).unwrap_or(0);
    let version = i16::try_from(rng.below(14)).unwrap_or(0);
    body[..2].copy_from_slice(&key.to_be_bytes());
    body[2..4].copy_from_slice(&version.to_be_bytes());
    frame.extend(body);
    frame
}

/// A good request that is cut, or has one byte changed.
fn damaged(rng: &mut Rng) -> Vec<u8> {
    // ApiVersions 0, Metadata 1 of all topics, with a client id.
    let requests: [&[u8]; 2] = [
        b"\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04test",
        b"\x00\x00\x00\x12\x00\x03\x00\x01\x00\x00\x00\x02\x00\x04test\xff\xff\xff\xff",
    ];
    let mut bytes = requests[rng.index(2)].to_vec();
    if rng.chance(500) {
        bytes.truncate(rng.index(bytes.len()));
    } else {
        let at = rng.index(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
    }
    bytes
}

fn nonsense(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => Vec::new(),
        1 => {
            let length = usize::try_from(rng.between(1, 2_000)).unwrap_or(1);
            random_bytes(rng, length)
        }
        // Lengths that are too large, or negative, and little behind them.
        2 => [&[0x7F, 0xFF, 0xFF, 0xFF][..], &random_bytes(rng, 20)].concat(),
        3 => [&[0xFF, 0xFF, 0xFF, 0xFF][..], &random_bytes(rng, 20)].concat(),
        4 => plausible(rng),
        _ => damaged(rng),
    }
}

#[test]
fn nonsense_on_every_port() {
    let mut cluster = Cluster::start();
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic("before", 1, 3, &[])
        .expect("a topic can be created");
    let (ports, resident) = {
        let broker = &cluster.brokers[0];
        ([broker.client, broker.peer, broker.admin], broker.resident_kib())
    };
    let resident = resident.expect("a running process has memory");
    let mut rng = Rng::new(2);
    for address in ports {
        for _ in 0..ATTEMPTS {
            offer(address, &nonsense(&mut rng));
        }
    }
    let broker = cluster.broker(1);
    assert!(broker.is_running(), "the broker has ended");
    assert!(!broker.log().contains("panicked"), "something panicked");
    let now = broker.resident_kib().expect("a running process has memory");
    println!(
        "resident memory: {resident} KiB before, {now} KiB after {} bad connections",
        3 * ATTEMPTS
    );
    assert!(now < resident + GROWTH_KIB, "memory grew from {resident} to {now} KiB");
    wait_until("the broker is ready", || cluster.brokers[0].is_ready().then_some(()));
    client.create_topic("after", 1, 3, &[]).expect("a topic can be created");
}

/// As a broker announces its start to its peers.
fn start_of(broker: &BrokerProcess) -> peer::Start {
    let text = std::fs::read_to_string(broker.data_path().join("identity.toml")).expect("a description can be read");
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.expect("it is there").trim_matches('"').to_owned()
    };
    let name = u128::from_str_radix(&value("folder_id"), 16).expect("a folder's name");
    peer::Start {
        folder: peer::FolderId(name.to_be_bytes()),
        incarnation: value("incarnation").parse().expect("a number"),
    }
}

/// The same from someone who knows how to introduce himself as a peer.
#[test]
fn nonsense_behind_a_handshake() {
    let mut cluster = Cluster::start();
    let address = cluster.brokers[0].peer;
    let start = start_of(cluster.broker(3));
    let hello = peer::Handshake::Hello(peer::Hello {
        versions: peer::Versions::SUPPORTED,
        cluster_id: "trimaran-test".to_owned(),
        broker: peer::BrokerId(3),
        incarnation: start.incarnation,
        to: peer::BrokerId(1),
        folder: start.folder,
        previous: 0,
        founders: [1, 2, 3].map(peer::BrokerId).to_vec(),
        address: "127.0.0.1:9".to_owned(),
    });
    let hello = hello.encode();
    let framed = |frame: &[u8]| {
        let length = u32::try_from(frame.len()).expect("a short frame");
        [&length.to_be_bytes()[..], frame].concat()
    };
    let mut rng = Rng::new(3);
    for _ in 0..ATTEMPTS {
        let mut bytes = framed(&hello.concat());
        for _ in 0..rng.between(1, 5) {
            let length = usize::try_from(rng.between(0, 300)).unwrap_or(0);
            let mut frame = random_bytes(&mut rng, length);
            // Most get as far as the body of some kind.
            if rng.chance(800) && frame.len() > 2 {
                frame[0] = peer::PROTOCOL_VERSION;
                frame[1] = u8::try_from(rng.below(11)).unwrap_or(0);
            }
            bytes.extend(framed(&frame));
        }
        if rng.chance(300) {
            bytes.truncate(rng.index(bytes.len()));
        }
        offer(address, &bytes);
    }
    let broker = cluster.broker(1);
    assert!(broker.is_running(), "the broker has ended");
    assert!(!broker.log().contains("panicked"), "something panicked");
    let client = KafkaClient::new(cluster.clients());
    wait_until("the cluster works", || client.create_topic("after", 1, 3, &[]).ok());
    wait_until("the partition has a leader", || client.leader("after", 0));
}

/// Many connections that send a part of a frame and stay: others are served all the same.
#[test]
fn connections_that_never_finish_a_request() {
    let cluster = Cluster::start();
    let address = cluster.brokers[0].client;
    let half: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("the broker listens");
            stream
                .write_all(&[0, 0, 1, 0, 0, 18])
                .expect("a part of a frame can be sent");
            stream
        })
        .collect();
    let client = KafkaClient::new(vec![address]);
    client
        .create_topic("served", 1, 3, &[])
        .expect("a topic can be created");
    drop(half);
}

#[test]
fn a_data_folder_has_one_process() {
    let cluster = Cluster::with(&ClusterOptions {
        brokers: 1,
        ..ClusterOptions::default()
    });
    let config = cluster.brokers[0].config_path();
    let config = config.to_str().expect("a temporary path is text");
    let address = || format!("127.0.0.1:{}", free_port());
    let (client, peer, admin) = (address(), address(), address());
    let voters = format!("1@{peer}");
    let mut arguments = vec!["broker", "--config", config, "--cluster-voters", &voters];
    arguments.extend(["--listeners-client", &client, "--listeners-peer", &peer]);
    arguments.extend(["--listeners-admin", &admin]);
    let output = run_with_input(&arguments, b"");
    assert!(
        !output.status.success(),
        "a second process was started on the same folder"
    );
    let error = String::from_utf8_lossy(&output.stderr);
    let data = cluster.brokers[0].data_path();
    assert!(
        error.contains(data.to_str().expect("a temporary path is text")),
        "the error does not name the folder: {error}"
    );
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("broker.toml");
    std::fs::write(&config, "broker.rakc = \"north\"\n").expect("a file can be written");
    let config = config.to_str().expect("a temporary path is text");
    let output = run_with_input(&["broker", "--config", config], b"");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("`broker.rakc`") && error.contains("`broker.rack`"),
        "{error}"
    );
}

const INIT: &str =
    r#"{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1","n2","n3"]}}"#;
const LEADER: &str =
    r#"{"src":"c1","dest":"n1","body":{"type":"partition_leader","msg_id":2,"topic":"orders","partition":0}}"#;
const FAILOVER: &str = r#"{"src":"c1","dest":"n1","body":{"type":"partition_failover","msg_id":2,"topic":"orders","partition":0,"failed_leader":"n1"}}"#;
const INIT_OK: &str =
    "{\"src\": \"n1\", \"dest\": \"c0\", \"body\": {\"type\": \"init_ok\", \"in_reply_to\": 1, \"msg_id\": 0}}\n";

#[track_caller]
fn node_answers(second: &str) {
    let output = run_with_input(&["node"], format!("{INIT}\n{second}\n").as_bytes());
    assert_eq!(String::from_utf8_lossy(&output.stdout), INIT_OK);
    assert!(output.status.success(), "{}", output.status);
}

#[test]
fn the_node_answers_init_and_waits_for_a_majority() {
    node_answers(LEADER);
    node_answers(FAILOVER);
}

#[test]
fn the_node_goes_on_after_a_malformed_line() {
    let output = run_with_input(&["node"], format!("not json\n{INIT}\n").as_bytes());
    let answers = String::from_utf8_lossy(&output.stdout).into_owned();
    let types: Vec<String> = answers
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["body"]["type"].to_string())
        .collect();
    assert_eq!(types, ["\"error\"", "\"init_ok\""], "{answers}");
    assert!(output.status.success());
}

#[test]
fn the_command_line_manages_topics_and_records() {
    let cluster = Cluster::start();
    let bootstrap = cluster.bootstrap();
    let run = |arguments: &[&str], input: &str| {
        let mut all = arguments.to_vec();
        all.extend(["--bootstrap", &bootstrap]);
        let output = run_with_input(&all, input.as_bytes());
        assert!(
            output.status.success(),
            "trimaran {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["topic", "create", "orders", "--partitions", "2"], "");
    assert!(run(&["topic", "list"], "").lines().any(|line| line.contains("orders")));
    assert!(run(&["topic", "describe", "orders"], "").contains("orders"));
    run(
        &["produce", "orders", "--key-separator", ":"],
        "a:one\nb:two\nc:three\n",
    );
    let mut read: Vec<String> = run(
        &[
            "consume",
            "orders",
            "--key-separator",
            ":",
            "--from-beginning",
            "--until-end",
        ],
        "",
    )
    .lines()
    .map(str::to_owned)
    .collect();
    read.sort();
    assert_eq!(read, ["a:one", "b:two", "c:three"]);
    let status = run(&["cluster", "status"], "");
    assert!(
        status.contains("1 topic(s), 2 partition(s): 0 without a leader"),
        "{status}"
    );
    run(&["topic", "delete", "orders"], "");
    assert!(!run(&["topic", "list"], "").contains("orders"));
    let missing = run_with_input(&["topic", "describe", "orders", "--bootstrap", &bootstrap], b"");
    assert!(!missing.status.success(), "a missing topic was described");
}

#[test]
fn the_administration_port_answers() {
    let cluster = Cluster::start();
    KafkaClient::new(cluster.clients())
        .create_topic("orders", 1, 3, &[])
        .expect("a topic can be created");
    let admin = cluster.brokers[0].admin;
    assert_eq!(get(admin, "/health/live").expect("it answers").status, 200);
    let metrics = get(admin, "/metrics").expect("it answers");
    assert!(metrics.body.contains("# TYPE"), "{}", metrics.body);
    let question = r#"{"type":"partition_leader","msg_id":1,"topic":"orders","partition":0}"#;
    let answer = wait_until("the partition has a leader", || {
        let reply = post(admin, "/rpc", question).ok()?;
        reply.body.contains("partition_leader_ok").then_some(reply.body)
    });
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["in_reply_to"], 1);
    assert_eq!(answer["followers"].as_array().map(Vec::len), Some(2));
    let failed = answer["leader"].as_str().expect("a leader").to_owned();
    let term = answer["term"].as_u64().expect("a term");
    let request = format!(
        r#"{{"type":"partition_failover","msg_id":2,"topic":"orders","partition":0,"failed_leader":"{failed}"}}"#
    );
    let reply = post(admin, "/rpc", &request).expect("it answers");
    let answer: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(answer["type"], "partition_failover_ok", "{answer}");
    assert_eq!(answer["in_reply_to"], 2);
    assert_ne!(answer["new_leader"].as_str(), Some(failed.as_str()));
    assert!(answer["new_term"].as_u64().expect("a term") > term, "{answer}");
    assert!(answer["failover_ms"].is_u64(), "{answer}");
}
