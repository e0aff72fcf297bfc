//! The environment, the addresses and the clients that a running broker meets in the world: what Kubernetes sets, IPv6, what odd
//! clients send, and peers that are none. What is refused at the start is tried in `crates/broker/tests/environment.rs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use trimaran_tests::process::{announce, binary, free_port, get, wait_until};

/// What Kubernetes sets in every container for services named `trimaran` and `trimaran-admin`.
const KUBERNETES: [(&str, &str); 9] = [
    ("TRIMARAN_SERVICE_HOST", "10.96.0.7"),
    ("TRIMARAN_SERVICE_PORT", "9092"),
    ("TRIMARAN_SERVICE_PORT_KAFKA", "9092"),
    ("TRIMARAN_PORT", "tcp://10.96.0.7:9092"),
    ("TRIMARAN_PORT_9092_TCP", "tcp://10.96.0.7:9092"),
    ("TRIMARAN_PORT_9092_TCP_ADDR", "10.96.0.7"),
    ("TRIMARAN_PORT_9092_TCP_PORT", "9092"),
    ("TRIMARAN_PORT_9092_TCP_PROTO", "tcp"),
    ("TRIMARAN_ADMIN_PORT", "tcp://10.96.0.8:9292"),
];

/// A broker that is configured by nothing but its environment.
struct Broker {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    client: SocketAddr,
    admin: SocketAddr,
}

fn command(data: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    // The test's own environment is not the broker's.
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRIMARAN_"));
    ours.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.arg("broker").env("TRIMARAN_BROKER_DATA", data);
    command.envs(environment.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Broker {
    fn start(data: &Path, host: &str, environment: &[(&str, &str)]) -> Broker {
        let addresses: Vec<String> = (0..3).map(|_| format!("{host}:{}", free_port())).collect();
        // A value may name the broker's own peer listener.
        let own = environment
            .iter()
            .map(|(name, value)| (*name, value.replace("{peer}", &addresses[1])));
        let mut process = command(data, &[])
            .envs(own)
            .env("TRIMARAN_LISTENERS_CLIENT", &addresses[0])
            .env("TRIMARAN_LISTENERS_PEER", &addresses[1])
            .env("TRIMARAN_LISTENERS_ADMIN", &addresses[2])
            .spawn()
            .expect("the binary starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = BufReader::new(process.stderr.take().expect("standard error is piped")).lines();
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().expect("no reader panics with the lock").push(line);
            }
        });
        let address = |at: usize| addresses[at].parse().expect("an address");
        Broker {
            process,
            log,
            client: address(0),
            admin: address(2),
        }
    }

    fn log(&self) -> String {
        self.log.lock().expect("the reader doesn't panic").join("\n")
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let admin = self.admin;
        wait_until("the broker is ready", || {
            let ended = self.process.try_wait().expect("a child of ours");
            if let Some(status) = ended {
                panic!("it ended with {status}: {}", self.log());
            }
            get(admin, "/health/ready").ok().filter(|reply| reply.status == 200)
        });
    }

    /// Sends a request's frame, and returns the response's.
    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.client).expect("the broker listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        let length = u32::try_from(request.len()).expect("a short request").to_be_bytes();
        stream
            .write_all(&[&length, request].concat())
            .expect("the broker reads");
        let mut length = [0; 4];
        stream
            .read_exact(&mut length)
            .expect("the broker answers, and does not disconnect");
        let mut response = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut response).expect("a whole response");
        response
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn kubernetes_variables_and_empty_ones_are_no_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut environment = KUBERNETES.to_vec();
    environment.extend([
        ("TRIMARAN_CONFIG", ""),
        ("TRIMARAN_BROKER_RACK", ""),
        ("TRIMARAN_CLUSTER_VOTERS", ""),
        ("TRIMARAN_BOOTSTRAP", ""),
    ]);
    let mut broker = Broker::start(&folder.path().join("data"), "127.0.0.1", &environment);
    broker.wait_ready();
    assert!(!broker.log().contains("unknown"), "{}", broker.log());
}

/// The command line takes the addresses that it is told.
#[test]
fn a_broker_on_ipv6_is_found_by_its_own_command_line() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        announce("this machine has no IPv6 loopback: nothing was tried on it");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut broker = Broker::start(&folder.path().join("data"), "[::1]", &[]);
    broker.wait_ready();
    let run = |arguments: &[&str]| {
        let bootstrap = broker.client.to_string();
        let output = Command::new(binary())
            .args(arguments)
            .args(["--bootstrap", &bootstrap])
            .output();
        let output = output.expect("the binary starts");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["topic", "create", "orders"]);
    let status = run(&["cluster", "status"]);
    assert!(status.contains(&broker.client.to_string()), "{status}");
}

#[test]
fn clients_with_odd_names_are_answered_as_kafka_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut broker = Broker::start(&folder.path().join("data"), "127.0.0.1", &[]);
    broker.wait_ready();
    // ApiVersions v0 with a client id that is not UTF-8: no error.
    let response = broker.ask(b"\0\x12\0\0\0\0\0\x05\0\x03\xff\xfe\x80");
    assert_eq!(response[..6], [0, 0, 0, 5, 0, 0]);
    // ApiVersions v3 with an empty software name: INVALID_REQUEST, 42.
    let response = broker.ask(b"\0\x12\0\x03\0\0\0\x06\0\x01c\0\x01\x021\0");
    assert_eq!(response[..6], [0, 0, 0, 6, 0, 42]);
}

/// Addresses in `cluster.voters` behind which no peer listener is: each is said, with its reason, once that has lasted.
#[test]
fn addresses_of_peers_that_lead_elsewhere_are_logged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut other = Broker::start(&folder.path().join("other"), "127.0.0.1", &[]);
    other.wait_ready();
    let voters = format!(
        "1@{{peer}},2@{},3@{},4@no-such-host.invalid:9192,5@127.0.0.1:{}",
        other.client,
        other.admin,
        free_port()
    );
    let environment = [("TRIMARAN_CLUSTER_VOTERS", voters.as_str())];
    let broker = Broker::start(&folder.path().join("data"), "127.0.0.1", &environment);
    for peer in 2..=5 {
        wait_until("the log names a peer that isn't one", || {
            let log = broker.log();
            let said = log.lines().any(|line| {
                line.contains(&format!("broker={peer}"))
                    && (line.contains("can't be reached") || line.contains("can't be used"))
                    && line.contains("reason=")
            });
            said.then_some(())
        });
    }
    // No line for each attempt.
    let lines = broker.log().lines().filter(|line| line.contains("can't be")).count();
    assert!(lines <= 20, "{lines} lines: {}", broker.log());
}
