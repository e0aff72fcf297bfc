use super::*;
use std::io::Write;

fn load(toml: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    Settings::load(Some(file.path()), owned(environment), &owned(flags)).map_err(|error| error.to_string())
}

#[test]
fn nothing_is_a_single_broker_on_loopback() {
    let settings = Settings::load(None, Vec::new(), &[]).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.listeners.client.to_string(), "127.0.0.1:9092");
    assert!(settings.listeners.peer.ip().is_loopback() && settings.listeners.admin.ip().is_loopback());
    assert_eq!(settings.broker.data, PathBuf::from("./trimaran-data"));
    assert!(settings.cluster.voters.is_empty());
    assert_eq!(settings.cluster.failover_budget_ms, 250);
}

#[test]
fn flags_override_the_environment_and_that_the_file() {
    let toml = "[broker]\nid = 2\nrack = \"a\"\n[limits]\npipeline = 3\n";
    let settings = load(
        toml,
        &[("TRIMARAN_BROKER_ID", "3"), ("TRIMARAN_BROKER_RACK", "b")],
        &[("broker.id", "4")],
    )
    .unwrap();
    assert_eq!(settings.broker.id, 4);
    assert_eq!(settings.broker.rack.as_deref(), Some("b"));
    assert_eq!(settings.limits.pipeline, 3);
}

#[test]
fn tables_dotted_keys_and_lists_are_the_same() {
    let as_table =
        "[cluster]\nvoters = [\"1@a:1\", \"2@b:2\"]\n[topic]\nretention.ms = 60000\n\"min.insync.replicas\" = 2\n";
    let dotted = "cluster.voters = \"1@a:1, 2@b:2\"\ntopic.retention.ms = \"60000\"\ntopic.min.insync.replicas = 2\n";
    let settings = load(as_table, &[], &[]).unwrap();
    assert_eq!(settings, load(dotted, &[], &[]).unwrap());
    assert_eq!(
        settings.cluster.voters,
        [
            Voter {
                id: 1,
                address: "a:1".to_owned()
            },
            Voter {
                id: 2,
                address: "b:2".to_owned()
            }
        ]
    );
    assert_eq!(settings.cluster.topic_defaults["retention.ms"], "60000");
    assert_eq!(settings.cluster.topic_defaults["min.insync.replicas"], "2");
    let from_environment = load("", &[("TRIMARAN_TOPIC_RETENTION_MS", "5")], &[]).unwrap();
    assert_eq!(from_environment.cluster.topic_defaults["retention.ms"], "5");
}

/// A file's text, variables, flags, and what the error must contain (nothing: there is none).
type Case<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, &'a str)],
    &'a [&'a str],
);

#[test]
fn what_is_wrong_is_named_with_its_place_and_its_remedy() {
    let cases: &[Case<'_>] = &[
        (
            "[broker]\nidd = 1",
            &[],
            &[],
            &["`broker.idd`", "did you mean `broker.id`"],
        ),
        ("[zebra]\nx = 1", &[], &[], &["`zebra.x`", "--help"]),
        (
            "",
            &[("TRIMARAN_BROKER_IDD", "1")],
            &[],
            &["the environment", "`TRIMARAN_BROKER_ID`"],
        ),
        (
            "[topic]\nretentoin.ms = 1",
            &[],
            &[],
            &["`topic.retentoin.ms`", "`topic.retention.ms`"],
        ),
        (
            "",
            &[],
            &[("broker.id", "x")],
            &["`broker.id` is `x` in the command line", "0 to 2147483647"],
        ),
        ("[broker]\nid = -1", &[], &[], &["`broker.id` is `-1`"]),
        ("[broker\nid = 1", &[], &[], &["not valid TOML", "line 1"]),
        ("cluster.auto_create_topics = 1", &[], &[], &["true or false"]),
        ("listeners.client = \"9092\"", &[], &[], &["127.0.0.1:9092"]),
        (
            "listeners.client = \"0.0.0.0:9092\"",
            &[],
            &[],
            &["listeners.advertised_host"],
        ),
        (
            "listeners.admin = \"127.0.0.1:9092\"",
            &[],
            &[],
            &["`listeners.client` and `listeners.admin` are both"],
        ),
        ("cluster.voters = \"1@a\"", &[], &[], &["ID@HOST:PORT"]),
        ("cluster.voters = \"1@0.0.0.0:9192\"", &[], &[], &["can connect to"]),
        ("cluster.voters = \"1@::1:9192\"", &[], &[], &["ID@HOST:PORT"]),
        (
            "cluster.voters = \"2@10.0.0.2:1,3@10.0.0.3:2\"",
            &[],
            &[],
            &[
                "broker 1 joins the cluster of 10.0.0.2:1",
                "`listeners.peer` is 127.0.0.1",
            ],
        ),
        (
            "cluster.voters = \"2@a:1\"\nlisteners.peer = \"0.0.0.0:9192\"",
            &[],
            &[],
            &["`listeners.advertised_peer`", "does not list broker 1"],
        ),
        (
            "cluster.voters = \"1@a:1,2@a:2\"\nlisteners.advertised_peer = \"b:1\"",
            &[],
            &[],
            &["`listeners.advertised_peer` is set", "leave it out"],
        ),
        ("listeners.advertised_peer = \"b\"", &[], &[], &["HOST:PORT"]),
        ("cluster.voters = \"1@a:1,1@a:2\"", &[], &[], &["lists broker 1 twice"]),
        ("cluster.voters = \"1@a:1,2@a:1\"", &[], &[], &["address a:1 twice"]),
        (
            "cluster.voters = \"1@10.0.0.1:9192,2@10.0.0.2:9192\"",
            &[],
            &[],
            &["to 10.0.0.1", "`listeners.peer` is 127.0.0.1"],
        ),
        ("cluster.failover_budget_ms = 1", &[], &[], &["50 to 60000"]),
        ("cluster.id = \"a b\"", &[], &[], &["letters, digits"]),
        ("cluster.replica_selector = \"nearest\"", &[], &[], &["rack-aware"]),
        ("limits.frame_bytes = {}", &[], &[], &[]),
    ];
    for (toml, environment, flags, parts) in cases {
        let result = load(toml, environment, flags);
        if parts.is_empty() {
            assert!(result.is_ok(), "an empty table sets nothing: {result:?}");
            continue;
        }
        let error = result.expect_err(&format!("{toml} {environment:?} {flags:?}"));
        for part in *parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}

#[test]
fn a_broker_that_is_not_listed_is_a_newcomer() {
    let newcomer = |toml: &str| load(toml, &[], &[]).map(|settings| settings.is_newcomer());
    assert_eq!(newcomer(""), Ok(false));
    assert_eq!(newcomer("cluster.voters = \"1@a:1,2@a:2\""), Ok(false));
    assert_eq!(newcomer("cluster.voters = \"2@a:1,3@a:2\""), Ok(true));
    let everywhere =
        "cluster.voters = \"2@10.0.0.2:1\"\nlisteners.peer = \"0.0.0.0:9192\"\nlisteners.advertised_peer = \"b:1\"";
    assert_eq!(newcomer(everywhere), Ok(true));
}

#[test]
fn a_missing_file_is_named() {
    let error = Settings::load(Some(Path::new("/no/such/file.toml")), Vec::new(), &[]).unwrap_err();
    assert!(error.to_string().contains("/no/such/file.toml"));
}

#[test]
fn variables_of_other_programs_are_none_of_our_business() {
    let settings = load(
        "",
        &[
            ("PATH", "/bin"),
            ("TRIMARAN_BOOTSTRAP", "x:1"),
            ("TRIMARAN_CONFIG", "y"),
        ],
        &[],
    );
    assert_eq!(settings.unwrap(), Settings::default());
}

#[test]
fn a_kubernetes_service_of_our_name_and_empty_variables_are_not_configuration() {
    let environment = [
        ("TRIMARAN_PORT", "tcp://10.96.0.7:9092"),
        ("TRIMARAN_SERVICE_HOST", "10.96.0.7"),
        ("TRIMARAN_PORT_9092_TCP_ADDR", "10.96.0.7"),
        ("TRIMARAN_BROKER_ID", ""),
        ("TRIMARAN_CONFIG", ""),
        ("TRIMARAN_NO_SUCH_KEY", " "),
    ];
    assert_eq!(load("", &environment, &[]).unwrap(), Settings::default());
    let error = load("", &[("TRIMARAN_PORT", "9092")], &[]).unwrap_err();
    assert!(error.contains("unknown configuration key `TRIMARAN_PORT`"), "{error}");
}

#[test]
fn an_advertised_host_is_one_that_clients_can_connect_to() {
    let advertised = |host: &str| load("", &[], &[("listeners.advertised_host", host)]);
    let bracketed = advertised("[::1]").unwrap();
    assert_eq!(bracketed.listeners.advertised_host.as_deref(), Some("::1"));
    for (host, part) in [
        ("0.0.0.0", "stands for all addresses"),
        ("localhost:21300", "`listeners.advertised_port`"),
        ("PLAINTEXT://localhost", "such as localhost"),
    ] {
        let error = advertised(host).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

/// The help text's defaults are those that [`Settings::default`] has: setting each key to its documented default
/// changes nothing. (Those in words are not values.)
#[test]
fn documented_defaults_are_the_defaults() {
    for key in keys::KEYS {
        let mut settings = Settings::default();
        if key.default.contains(' ') {
            continue;
        }
        if key.default.is_empty()
            && matches!(
                key.name,
                "broker.rack" | "listeners.advertised_host" | "listeners.advertised_peer"
            )
        {
            assert!(settings.broker.rack.is_none() && settings.listeners.advertised_host.is_none());
            continue;
        }
        keys::Found::Key(key)
            .set(&mut settings, key.name, key.default)
            .unwrap_or_else(|e| panic!("{}: {e}", key.name));
        assert_eq!(settings, Settings::default(), "{}", key.name);
    }
}

#[test]
fn names_of_keys_variables_and_flags_are_unambiguous() {
    let names: Vec<String> = keys::all_names().collect();
    for derived in [keys::variable as fn(&str) -> String, keys::flag] {
        let mut all: Vec<String> = names.iter().map(|name| derived(name)).collect();
        all.sort();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

#[test]
fn a_default_that_the_registry_would_refuse_is_refused_at_once() {
    let partitions = |count: usize| load(&format!("[cluster]\ndefault_partitions = {count}\n"), &[], &[]);
    let most = trimaran_registry::limits::PARTITIONS_PER_TOPIC;
    assert!(partitions(most).is_ok());
    let error = partitions(most + 1).unwrap_err();
    assert!(
        error.contains("cluster.default_partitions") && error.contains("10000"),
        "{error}"
    );
}
