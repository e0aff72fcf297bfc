//! The table of configuration keys.

use super::host::{host, host_and_port};
use super::{ReplicaSelector, Settings, Voter};
use crate::memory::MIN_BYTES as MIN_MEMORY_BYTES;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use trimaran_coordinator::limits::MEMBERS_PER_GROUP;

/// What the registry allows a topic: more would be refused only when a topic is created.
const MAX_PARTITIONS: u32 = trimaran_registry::limits::PARTITIONS_PER_TOPIC as u32;

/// One key: what it is called, what it means, and how its text becomes a value.
pub struct Key {
    /// Dotted: `table.key` in TOML. The variable and the flag follow from it.
    pub name: &'static str,
    /// What stands for the value in the help text.
    pub value: &'static str,
    /// The default, for the help text; a test holds it against [`Settings::default`].
    pub default: &'static str,
    /// What it means, with its unit and its reason.
    pub help: &'static str,
    /// Whether all brokers of a cluster must agree on it.
    pub agreed: bool,
    parse: fn(&mut Settings, &str) -> Result<(), String>,
}

/// What a found name sets: a key of the table, or one of the topic defaults.
pub enum Found {
    /// A key of [`KEYS`].
    Key(&'static Key),
    /// `topic.` and a topic configuration key.
    TopicDefault,
}

/// Before the names of topic configuration keys.
pub const TOPIC_PREFIX: &str = "topic.";

impl Found {
    /// Sets the value.
    ///
    /// # Errors
    /// What would be right, to follow "should be".
    pub fn set(&self, settings: &mut Settings, name: &str, value: &str) -> Result<(), String> {
        match self {
            Found::Key(key) => (key.parse)(settings, value.trim()),
            Found::TopicDefault => set_topic_default(settings, name, value.trim()),
        }
    }
}

/// All keys but the topic defaults, in the order of the help text.
pub const KEYS: &[Key] = &[
    Key {
        name: "broker.id",
        value: "N",
        default: "1",
        help: "This broker's number, unique in the cluster",
        agreed: false,
        parse: |s, v| set(&mut s.broker.id, number(v, 0, 2_147_483_647)),
    },
    Key {
        name: "broker.rack",
        value: "NAME",
        default: "",
        help: "The rack or zone that this broker fails together with: replicas are spread over racks",
        agreed: false,
        parse: |s, v| set(&mut s.broker.rack, Ok(optional(v))),
    },
    Key {
        name: "broker.data",
        value: "FOLDER",
        default: "./trimaran-data",
        help: "The data folder; one process at a time",
        agreed: false,
        parse: |s, v| set(&mut s.broker.data, path(v)),
    },
    Key {
        name: "broker.shards",
        value: "N",
        default: "half the cores",
        help: "Threads that drive partitions",
        agreed: false,
        parse: |s, v| set(&mut s.broker.shards, number(v, 1, 256)),
    },
    Key {
        name: "broker.log",
        value: "FILTER",
        default: "info",
        help: "What is logged to standard error: a level, or a filter such as info,trimaran_raft=debug",
        agreed: false,
        parse: |s, v| set(&mut s.broker.log, Ok(v.to_owned())),
    },
    Key {
        name: "broker.stop_deadline_ms",
        value: "MS",
        default: "10000",
        help: "How long a broker that is told to stop tries to hand over its leaderships and finish requests",
        agreed: false,
        parse: |s, v| set(&mut s.broker.stop_deadline, millis(v, 0, 3_600_000)),
    },
    Key {
        name: "listeners.client",
        value: "HOST:PORT",
        default: "127.0.0.1:9092",
        help: "Where Kafka clients connect; loopback unless told otherwise",
        agreed: false,
        parse: |s, v| set(&mut s.listeners.client, address(v)),
    },
    Key {
        name: "listeners.peer",
        value: "HOST:PORT",
        default: "127.0.0.1:9192",
        help: "Where the other brokers connect",
        agreed: false,
        parse: |s, v| set(&mut s.listeners.peer, address(v)),
    },
    Key {
        name: "listeners.admin",
        value: "HOST:PORT",
        default: "127.0.0.1:9292",
        help: "HTTP: /health/live, /health/ready, /metrics, /rpc",
        agreed: false,
        parse: |s, v| set(&mut s.listeners.admin, address(v)),
    },
    Key {
        name: "listeners.advertised_host",
        value: "HOST",
        default: "",
        help: "The host that clients are told to connect to; needed when the client listener binds to all addresses",
        agreed: false,
        parse: |s, v| set(&mut s.listeners.advertised_host, advertised(v)),
    },
    Key {
        name: "listeners.advertised_port",
        value: "PORT",
        default: "",
        help: "The port that clients are told to connect to, if it is not the client listener's",
        agreed: false,
        parse: |s, v| set(&mut s.listeners.advertised_port, optional_number(v, 1, 65_535)),
    },
    Key {
        name: "listeners.advertised_peer",
        value: "HOST:PORT",
        default: "",
        help: "Where the other brokers reach one that cluster.voters does not list, if it is not the peer listener's \
               address",
        agreed: false,
        parse: |s, v| set(&mut s.listeners.advertised_peer, optional_peer(v)),
    },
    Key {
        name: "cluster.id",
        value: "NAME",
        default: "trimaran",
        help: "Tells clusters apart: data folders and peers of another one are refused",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.id, cluster_id(v)),
    },
    Key {
        name: "cluster.voters",
        value: "ID@HOST:PORT,...",
        default: "",
        help: "The founders of the cluster with their peer listeners, the same list on every broker and for ever; one \
               that is not listed joins them; empty for a single broker",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.voters, voters(v)),
    },
    Key {
        name: "cluster.failover_budget_ms",
        value: "MS",
        default: "250",
        help: "From the loss of a leader to the next one that serves; heartbeats and timeouts follow from it",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.failover_budget_ms, number(v, 50, 60_000)),
    },
    Key {
        name: "cluster.leader_rebalance_ms",
        value: "MS",
        default: "5000",
        help: "How long the replica that is preferred to lead must have been in sync to be given its leadership back; \
               0: never",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.leader_rebalance_ms, number(v, 0, 3_600_000)),
    },
    Key {
        name: "cluster.auto_create_topics",
        value: "BOOL",
        default: "true",
        help: "Whether asking for an unknown topic creates it",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.auto_create_topics, boolean(v)),
    },
    Key {
        name: "cluster.default_partitions",
        value: "N",
        default: "1",
        help: "Partitions of a topic that is created without a number",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.default_partitions, number(v, 1, MAX_PARTITIONS)),
    },
    Key {
        name: "cluster.default_replication",
        value: "N",
        default: "all brokers, at most 3",
        help: "Replicas of a topic that is created without a number",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.default_replication, optional_number(v, 1, 9)),
    },
    Key {
        name: "cluster.replica_selector",
        value: "leader|rack-aware",
        default: "leader",
        help: "Who answers consumers: the leader, or an in-sync replica in the consumer's own rack (KIP-392)",
        agreed: true,
        parse: |s, v| set(&mut s.cluster.replica_selector, selector(v)),
    },
    Key {
        name: "groups.initial_rebalance_delay_ms",
        value: "MS",
        default: "3000",
        help: "How long the first rebalance of an empty consumer group waits for further members; 0 suits tests",
        agreed: true,
        parse: |s, v| set(&mut s.groups.initial_rebalance_delay, millis(v, 0, 600_000)),
    },
    Key {
        name: "groups.min_session_timeout_ms",
        value: "MS",
        default: "6000",
        help: "The shortest session time-out that a member of a consumer group may ask for",
        agreed: true,
        parse: |s, v| set(&mut s.groups.min_session_timeout, millis(v, 100, 86_400_000)),
    },
    Key {
        name: "groups.max_session_timeout_ms",
        value: "MS",
        default: "1800000",
        help: "The longest session time-out that a member of a consumer group may ask for",
        agreed: true,
        parse: |s, v| set(&mut s.groups.max_session_timeout, millis(v, 100, 86_400_000)),
    },
    Key {
        name: "groups.max_size",
        value: "N",
        default: "10000",
        help: "Members of one consumer group, at most",
        agreed: true,
        parse: |s, v| set(&mut s.groups.max_size, number(v, 1, MEMBERS_PER_GROUP as u32)),
    },
    Key {
        name: "groups.offsets_retention_minutes",
        value: "MINUTES",
        default: "10080",
        help: "How long committed offsets are kept after their consumer group has become empty",
        agreed: true,
        parse: |s, v| set(&mut s.groups.offsets_retention, minutes(v, 1, 2_147_483_647)),
    },
    Key {
        name: "groups.offset_metadata_max_bytes",
        value: "BYTES",
        default: "4096",
        help: "The note that a client may commit with an offset, at most",
        agreed: true,
        parse: |s, v| set(&mut s.groups.offset_metadata_bytes, number(v, 0, 32_767)),
    },
    Key {
        name: "groups.offsets_partitions",
        value: "N",
        default: "50",
        help: "Partitions of __consumer_offsets, when the first consumer group creates it; never changes afterwards",
        agreed: true,
        parse: |s, v| set(&mut s.groups.offsets_partitions, number(v, 1, MAX_PARTITIONS)),
    },
    Key {
        name: "groups.offsets_replication",
        value: "N",
        default: "all brokers, at most 3",
        help: "Replicas of __consumer_offsets, when the first consumer group creates it",
        agreed: true,
        parse: |s, v| set(&mut s.groups.offsets_replication, optional_number(v, 1, 7)),
    },
    Key {
        name: "limits.memory_bytes",
        value: "BYTES",
        default: "a quarter of the memory, at most 1 GiB",
        help: "Memory for everything that grows with load: log tails, requests, responses, decompression",
        agreed: false,
        parse: |s, v| {
            set(
                &mut s.limits.memory_bytes,
                optional_number(v, MIN_MEMORY_BYTES, 1 << 44),
            )
        },
    },
    Key {
        name: "limits.frame_bytes",
        value: "BYTES",
        default: "104857600",
        help: "One request, at most",
        agreed: false,
        parse: |s, v| set(&mut s.limits.frame_bytes, number(v, 1 << 14, 1 << 30)),
    },
    Key {
        name: "limits.connections",
        value: "N",
        default: "4096",
        help: "Client connections, at most",
        agreed: false,
        parse: |s, v| set(&mut s.limits.connections, number(v, 1, 1_000_000)),
    },
    Key {
        name: "limits.connections_per_ip",
        value: "N",
        default: "4096",
        help: "Client connections from one address, at most",
        agreed: false,
        parse: |s, v| set(&mut s.limits.connections_per_ip, number(v, 1, 1_000_000)),
    },
    Key {
        name: "limits.pipeline",
        value: "N",
        default: "64",
        help: "Requests of one connection that are handled at a time, at most",
        agreed: false,
        parse: |s, v| set(&mut s.limits.pipeline, number(v, 1, 10_000)),
    },
    Key {
        name: "limits.idle_ms",
        value: "MS",
        default: "600000",
        help: "A client connection without a request for longer is closed",
        agreed: false,
        parse: |s, v| set(&mut s.limits.idle, millis(v, 1_000, 86_400_000)),
    },
    Key {
        name: "limits.mailbox_requests",
        value: "N",
        default: "16384",
        help: "Requests that wait for one shard, at most; then clients are told to try again",
        agreed: false,
        parse: |s, v| set(&mut s.limits.mailbox_requests, number(v, 16, 10_000_000)),
    },
    Key {
        name: "limits.mailbox_bytes",
        value: "BYTES",
        default: "67108864",
        help: "Bytes that wait for one shard, at most",
        agreed: false,
        parse: |s, v| set(&mut s.limits.mailbox_bytes, number(v, 1 << 20, 1 << 34)),
    },
    Key {
        name: "limits.journal_backlog_bytes",
        value: "BYTES",
        default: "268435456",
        help: "Bytes that wait for the journal, at most; then clients are told to try again",
        agreed: false,
        parse: |s, v| set(&mut s.limits.journal_backlog_bytes, number(v, 1 << 20, 1 << 36)),
    },
    Key {
        name: "limits.peer_queue",
        value: "N",
        default: "4096",
        help: "Frames that wait for one peer, at most; then they are dropped, and sent again by Raft",
        agreed: false,
        parse: |s, v| set(&mut s.limits.peer_queue, number(v, 16, 1_000_000)),
    },
    Key {
        name: "limits.journal_file_bytes",
        value: "BYTES",
        default: "67108864",
        help: "Size of one journal file",
        agreed: false,
        parse: |s, v| set(&mut s.limits.journal_file_bytes, number(v, 1 << 16, 1 << 34)),
    },
    Key {
        name: "limits.journal_files",
        value: "N",
        default: "8",
        help: "Journal files beyond which the partitions that hold the oldest are written to their segments",
        agreed: false,
        parse: |s, v| set(&mut s.limits.journal_files, number(v, 2, 10_000)),
    },
    Key {
        name: "limits.flush_bytes",
        value: "BYTES",
        default: "4194304",
        help: "Committed bytes of a partition in memory beyond which they are written to its segments",
        agreed: false,
        parse: |s, v| set(&mut s.limits.flush_bytes, number(v, 1 << 12, 1 << 32)),
    },
    Key {
        name: "limits.tail_bytes",
        value: "BYTES",
        default: "4194304",
        help: "Written bytes of a partition that stay in memory for readers of the tail",
        agreed: false,
        parse: |s, v| set(&mut s.limits.tail_bytes, number(v, 0, 1 << 36)),
    },
    Key {
        name: "limits.catch_up_bytes_per_second",
        value: "BYTES",
        default: "67108864",
        help: "Bytes a second that are read from segments for replicas that are far behind; 0: no limit",
        agreed: false,
        parse: |s, v| set(&mut s.limits.catch_up_bytes_per_second, number(v, 0, 1 << 40)),
    },
];

/// The key of that dotted name.
pub fn find(name: &str) -> Option<Found> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Some(Found::Key(key));
    }
    let topic_key = name.strip_prefix(TOPIC_PREFIX)?;
    topic_names()
        .any(|known| known == topic_key)
        .then_some(Found::TopicDefault)
}

/// The dotted name behind a variable of the environment.
pub fn by_variable(name: &str) -> Option<String> {
    all_names().find(|key| variable(key) == name)
}

/// The variable of the environment for a dotted name: `broker.id` is `TRIMARAN_BROKER_ID`.
pub fn variable(name: &str) -> String {
    format!("TRIMARAN_{}", name.replace(['.', '-'], "_").to_uppercase())
}

/// The flag for a dotted name, without its dashes: `cluster.failover_budget_ms` is `cluster-failover-budget-ms`.
pub fn flag(name: &str) -> String {
    name.replace(['.', '_'], "-")
}

/// Every dotted name there is.
pub fn all_names() -> impl Iterator<Item = String> {
    KEYS.iter()
        .map(|key| key.name.to_owned())
        .chain(topic_names().map(|name| format!("{TOPIC_PREFIX}{name}")))
}

fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(text: &str, min: T, max: T) -> Result<T, String> {
    match text.parse() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(format!("a whole number from {min} to {max}")),
    }
}

fn optional_number<T: FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    min: T,
    max: T,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    number(text, min, max).map(Some)
}

fn millis(text: &str, min: u64, max: u64) -> Result<Duration, String> {
    match number(text, min, max) {
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(expected) => Err(format!("{expected} (milliseconds)")),
    }
}

fn minutes(text: &str, min: u64, max: u64) -> Result<Duration, String> {
    match number(text, min, max) {
        Ok(minutes) => Ok(Duration::from_secs(60 * minutes)),
        Err(expected) => Err(format!("{expected} (minutes)")),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

fn advertised(text: &str) -> Result<Option<String>, String> {
    match text {
        "" => Ok(None),
        text => host(text).map(Some),
    }
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn optional_peer(text: &str) -> Result<Option<String>, String> {
    let is_address = |text: &str| {
        text.rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    match text {
        "" => Ok(None),
        text if is_address(text) => Ok(Some(text.to_owned())),
        _ => Err("HOST:PORT, such as broker-4:9192".to_owned()),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("a folder".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| "an address and a port, such as 127.0.0.1:9092".to_owned())
}

fn cluster_id(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, `.`, `_` or `-`".to_owned())
    }
}

fn voters(text: &str) -> Result<Vec<Voter>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            voter(part)
                .ok_or_else(|| format!("a list of ID@HOST:PORT that brokers can connect to, which `{part}` is not"))
        })
        .collect()
}

fn voter(text: &str) -> Option<Voter> {
    let (id, address) = text.split_once('@')?;
    Some(Voter {
        id: number(id, 0, 2_147_483_647).ok()?,
        address: host_and_port(address)?,
    })
}

fn selector(text: &str) -> Result<ReplicaSelector, String> {
    match text {
        "leader" => Ok(ReplicaSelector::Leader),
        "rack-aware" => Ok(ReplicaSelector::RackAware),
        _ => Err("`leader` or `rack-aware`".to_owned()),
    }
}

fn topic_names() -> impl Iterator<Item = &'static str> {
    trimaran_registry::topic_config::keys().iter().map(|key| key.name)
}

/// The registry knows what the value must be.
fn set_topic_default(settings: &mut Settings, name: &str, value: &str) -> Result<(), String> {
    let key = name.strip_prefix(TOPIC_PREFIX).unwrap_or(name);
    let one = std::collections::BTreeMap::from([(key.to_owned(), value.to_owned())]);
    match trimaran_registry::TopicConfig::parse(&one) {
        Ok(_) => {
            settings.cluster.topic_defaults.insert(key.to_owned(), value.to_owned());
            Ok(())
        }
        Err(error) => Err(format!("a value that topics accept ({error})")),
    }
}
