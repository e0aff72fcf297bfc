//! The program in the environments and with the addresses that it meets in the field: what is ours is read, what isn't is
//! left alone, and what would break clients is refused before anything is opened.

use std::process::{Command, Output};

/// Variables that Kubernetes sets for a service named `trimaran`, and variables that a container definition leaves empty.
const KUBERNETES: [(&str, &str); 10] = [
    ("TRIMARAN_SERVICE_HOST", "10.96.0.7"),
    ("TRIMARAN_SERVICE_PORT", "9092"),
    ("TRIMARAN_SERVICE_PORT_KAFKA", "9092"),
    ("TRIMARAN_PORT", "tcp://10.96.0.7:9092"),
    ("TRIMARAN_PORT_9092_TCP", "tcp://10.96.0.7:9092"),
    ("TRIMARAN_PORT_9092_TCP_PROTO", "tcp"),
    ("TRIMARAN_PORT_9092_TCP_PORT", "9092"),
    ("TRIMARAN_PORT_9092_TCP_ADDR", "10.96.0.7"),
    ("TRIMARAN_CONFIG", ""),
    ("TRIMARAN_BROKER_RACK", ""),
];

fn run(environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_trimaran");
    let mut command = Command::new(program);
    command.env_remove("TRIMARAN_BOOTSTRAP").args(arguments);
    let Output { status, stderr, .. } = command.envs(environment.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_broker_starts_beside_a_kubernetes_service_of_its_name() {
    // A file can't be a data folder: the configuration was accepted if that is what the broker complains about.
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = file.path().to_str().unwrap();
    let (code, error) = run(
        &KUBERNETES,
        &["broker", "--broker-data", data, "--listeners-client", "127.0.0.1:0"],
    );
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains(data) && !error.contains("unknown configuration key"),
        "{error}"
    );
}

#[test]
fn a_mistyped_variable_is_still_an_error() {
    let (code, error) = run(&[("TRIMARAN_BROKER_IDD", "1")], &["broker"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("did you mean `TRIMARAN_BROKER_ID`"), "{error}");
}

#[test]
fn advertised_hosts_that_break_clients_are_refused() {
    for (host, part) in [
        ("0.0.0.0", "stands for all addresses"),
        ("localhost:21300", "`listeners.advertised_port`"),
        ("PLAINTEXT://localhost", "without `PLAINTEXT://`"),
    ] {
        let (code, error) = run(&[], &["broker", "--listeners-advertised-host", host]);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_command_line_takes_ipv6_and_an_empty_bootstrap_variable() {
    let list = ["topic", "list", "--timeout-ms", "200"];
    let (code, error) = run(&[("TRIMARAN_BOOTSTRAP", "[::1]:1")], &list);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("at [::1]:1:"), "{error}");
    let (code, error) = run(
        &[("TRIMARAN_BOOTSTRAP", "")],
        &[&list[..], &["--bootstrap", "127.0.0.1:1"]].concat(),
    );
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("at 127.0.0.1:1:"), "{error}");
}
