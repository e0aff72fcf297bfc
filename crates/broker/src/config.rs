//! Configuration, parsed once into types: a TOML file, then the environment, then flags, each overriding the one
//! before it.
//!
//! What the cluster must agree on ([`ClusterSettings`]) is apart from what a process may choose ([`BrokerSettings`],
//! [`Listeners`], [`Limits`]). Every key has a default, so that no configuration at all is a single broker on
//! 127.0.0.1:9092. One table, [`keys::KEYS`], is the source of the keys of the file, of the names in the environment,
//! of the flags, of the help text and of the nearest key that an unknown one's error names.

mod host;
pub mod keys;
mod kubernetes;
mod nearest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nearest::nearest;
use trimaran_coordinator::limits::MEMBERS_PER_GROUP;

/// Everything that a broker is told at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What every broker of a cluster must be told alike.
    pub cluster: ClusterSettings,
    /// The coordinators of consumer groups, which every broker of a cluster must be told alike as well.
    pub groups: GroupSettings,
    /// What this process is, and where its data lies.
    pub broker: BrokerSettings,
    /// Where it listens.
    pub listeners: Listeners,
    /// What it accepts at most.
    pub limits: Limits,
}

/// What every broker of a cluster must be told alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Tells clusters apart: a broker refuses a data folder or a peer of another one.
    pub id: String,
    /// The brokers that founded the cluster, with the addresses that the others reach them at: they vote in the
    /// metadata group. A broker that is not listed joins them. Empty means: this broker alone.
    pub voters: Vec<Voter>,
    /// From the loss of a leader to the next one that serves, in milliseconds. Heartbeats and timeouts follow from it.
    pub failover_budget_ms: u64,
    /// How long the replica that is preferred to lead a partition must have been in sync without interruption before it
    /// is given the leadership back, in milliseconds; 0: never.
    pub leader_rebalance_ms: u64,
    /// Whether a Metadata request for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created without a number.
    pub default_partitions: u32,
    /// Replicas of a topic that is created without a number; `None` is all brokers, but at most three.
    pub default_replication: Option<u16>,
    /// Whether consumers may be sent to a replica in their own rack (KIP-392).
    pub replica_selector: ReplicaSelector,
    /// Defaults of topic configuration keys (`retention.ms`, ...), as text; checked against the registry's table.
    pub topic_defaults: BTreeMap<String, String>,
}

/// The settings of the coordinators of consumer groups. Kafka's `group.*` and `offset*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// How long the first rebalance of an empty group waits for further members.
    pub initial_rebalance_delay: Duration,
    /// The shortest session time-out that a member may ask for.
    pub min_session_timeout: Duration,
    /// The longest session time-out that a member may ask for.
    pub max_session_timeout: Duration,
    /// Members of one group.
    pub max_size: u32,
    /// How long a group's committed offsets are kept after the group has become empty.
    pub offsets_retention: Duration,
    /// Bytes of the note that a client may commit with an offset.
    pub offset_metadata_bytes: u32,
    /// Partitions of `__consumer_offsets`, when it is created.
    pub offsets_partitions: u32,
    /// Replicas of `__consumer_offsets`, when it is created; `None` is all brokers, but at most three.
    pub offsets_replication: Option<u16>,
}

/// One of the cluster's founders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its `broker.id`.
    pub id: u32,
    /// Its peer listener as the other brokers reach it, `host:port`.
    pub address: String,
}

/// Who answers a consumer's fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// The leader, always.
    Leader,
    /// An in-sync replica in the consumer's rack, if there is one (KIP-392).
    RackAware,
}

/// What this process is, and where its data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Its number, unique in the cluster.
    pub id: u32,
    /// The rack (or zone, or building) that it fails together with.
    pub rack: Option<String>,
    /// Its data folder.
    pub data: PathBuf,
    /// Threads that drive Raft groups.
    pub shards: usize,
    /// What is logged: a `tracing` filter such as `info` or `info,trimaran_raft=debug`.
    pub log: String,
    /// How long a broker that is told to stop tries to hand over its leaderships and to finish requests.
    pub stop_deadline: Duration,
}

/// Where a broker listens. All three bind to loopback unless told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// For Kafka clients.
    pub client: SocketAddr,
    /// For the other brokers.
    pub peer: SocketAddr,
    /// HTTP: health, metrics, JSON requests.
    pub admin: SocketAddr,
    /// The host that clients are told to connect to, if it differs from `client`'s address.
    pub advertised_host: Option<String>,
    /// The port that clients are told to connect to, if it differs from `client`'s port.
    pub advertised_port: Option<u16>,
    /// `host:port` that the other brokers are told to connect to, if it is not `peer`'s. Only of a broker that
    /// `cluster.voters` doesn't list.
    pub advertised_peer: Option<String>,
}

/// Everything has a limit. What is over one gets a clear error, and nothing else suffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for everything that grows with load, see [`crate::memory`]; `None`: derived from what the
    /// machine or the container has.
    pub memory_bytes: Option<u64>,
    /// Bytes of one request frame.
    pub frame_bytes: usize,
    /// Client connections.
    pub connections: usize,
    /// Client connections from one address.
    pub connections_per_ip: usize,
    /// Requests of one connection that are being handled at a time.
    pub pipeline: usize,
    /// A client connection without a request for longer is closed.
    pub idle: Duration,
    /// Requests that wait in one shard's mailbox; beyond it clients are told to try again.
    pub mailbox_requests: usize,
    /// Bytes that wait in one shard's mailbox.
    pub mailbox_bytes: usize,
    /// Bytes that wait for the journal; beyond it clients are told to try again.
    pub journal_backlog_bytes: u64,
    /// Frames that wait for one peer; beyond it the oldest news is dropped (Raft sends again).
    pub peer_queue: usize,
    /// Bytes of one journal file.
    pub journal_file_bytes: u64,
    /// Journal files beyond which the groups that hold the oldest are flushed.
    pub journal_files: usize,
    /// Committed bytes of a partition in memory beyond which they are written to its segments.
    pub flush_bytes: u64,
    /// Flushed bytes of a partition that stay in memory for readers of the tail.
    pub tail_bytes: u64,
    /// Bytes a second that this broker reads from segments for replicas that are far behind, so that filling one leaves
    /// the disk and the network to producers and consumers; 0: no limit.
    pub catch_up_bytes_per_second: u64,
}

impl Default for ClusterSettings {
    fn default() -> ClusterSettings {
        ClusterSettings {
            id: "trimaran".to_owned(),
            voters: Vec::new(),
            failover_budget_ms: 250,
            leader_rebalance_ms: 5_000,
            auto_create_topics: true,
            default_partitions: 1,
            default_replication: None,
            replica_selector: ReplicaSelector::Leader,
            topic_defaults: BTreeMap::new(),
        }
    }
}

impl Default for GroupSettings {
    /// Kafka's defaults.
    fn default() -> GroupSettings {
        GroupSettings {
            initial_rebalance_delay: Duration::from_secs(3),
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(1_800),
            // Kafka has no limit by default; here a group's state is one record, which ends at about this size.
            max_size: MEMBERS_PER_GROUP as u32,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offset_metadata_bytes: 4_096,
            offsets_partitions: 50,
            offsets_replication: None,
        }
    }
}

impl Default for BrokerSettings {
    fn default() -> BrokerSettings {
        BrokerSettings {
            id: 1,
            rack: None,
            data: PathBuf::from("./trimaran-data"),
            shards: default_shards(),
            log: "info".to_owned(),
            stop_deadline: Duration::from_secs(10),
        }
    }
}

impl Default for Listeners {
    fn default() -> Listeners {
        Listeners {
            client: SocketAddr::from(([127, 0, 0, 1], 9092)),
            peer: SocketAddr::from(([127, 0, 0, 1], 9192)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9292)),
            advertised_host: None,
            advertised_port: None,
            advertised_peer: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: None,
            // Kafka's `socket.request.max.bytes`.
            frame_bytes: 100 << 20,
            connections: 4096,
            connections_per_ip: 4096,
            // Kafka clients keep at most five requests in flight for ordering; fetch and metadata come beside them.
            pipeline: 64,
            // Kafka's `connections.max.idle.ms`.
            idle: Duration::from_secs(600),
            mailbox_requests: 16_384,
            mailbox_bytes: 64 << 20,
            journal_backlog_bytes: 256 << 20,
            peer_queue: 4096,
            journal_file_bytes: 64 << 20,
            journal_files: 8,
            flush_bytes: 4 << 20,
            tail_bytes: 4 << 20,
            // Half of what a gigabit carries.
            catch_up_bytes_per_second: 64 << 20,
        }
    }
}

/// About one shard a core, and a core left for the sockets.
fn default_shards() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, 16)
}

/// Why a configuration is refused. Says where the value came from, and what to do.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can't be read.
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no TOML; the parser's message has line and column.
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// There is no such key.
    UnknownKey {
        /// Where it was found.
        source: Source,
        /// The key as it was written.
        key: String,
        /// The known key nearest to it.
        nearest: Option<String>,
    },
    /// The value is of the wrong type or out of range.
    BadValue {
        /// Where it was found.
        source: Source,
        /// The key.
        key: String,
        /// The value as it was written.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// Each value is right, but together they are not.
    Contradiction(String),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A TOML file.
    File(PathBuf),
    /// A variable of the environment.
    Environment,
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Environment => f.write_str("the environment"),
            Source::Flag => f.write_str("the command line"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::File { path, source } => {
                write!(f, "can't read the configuration file {}: {source}", path.display())
            }
            ConfigError::Syntax { path, message } => write!(f, "{} is not valid TOML: {message}", path.display()),
            ConfigError::UnknownKey { source, key, nearest } => {
                write!(f, "unknown configuration key `{key}` in {source}")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                    None => f.write_str("; `trimaran broker --help` lists all keys"),
                }
            }
            ConfigError::BadValue {
                source,
                key,
                value,
                expected,
            } => write!(f, "`{key}` is `{value}` in {source}, but should be {expected}"),
            ConfigError::Contradiction(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::File { source, .. } => Some(source),
            ConfigError::Syntax { .. }
            | ConfigError::UnknownKey { .. }
            | ConfigError::BadValue { .. }
            | ConfigError::Contradiction(_) => None,
        }
    }
}

/// The variables of the environment that begin like configuration but belong to the command line's own flags.
const NOT_CONFIGURATION: &[&str] = &["TRIMARAN_CONFIG", "TRIMARAN_BOOTSTRAP"];

impl Settings {
    /// Defaults, then the file (if one is named), then the environment (variables that begin with `TRIMARAN_`), then
    /// flags, as pairs of a dotted key and its text.
    ///
    /// # Errors
    /// The first thing that is wrong, as a [`ConfigError`]; nothing is half applied.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        if let Some(path) = file {
            settings.apply_file(path)?;
        }
        for (name, value) in environment {
            settings.apply_variable(&name, &value)?;
        }
        for (key, value) in flags {
            settings.apply(&Source::Flag, key, value)?;
        }
        settings.check()?;
        Ok(settings)
    }

    /// Reads a file's tables; nested tables and dotted keys are the same.
    fn apply_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let source = Source::File(path.to_owned());
        for (key, value) in flatten(table) {
            self.apply(&source, &key, &value)?;
        }
        Ok(())
    }

    fn apply_variable(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        if !name.starts_with("TRIMARAN_") || NOT_CONFIGURATION.contains(&name) {
            return Ok(());
        }
        // Container definitions often set a variable to nothing to leave it out.
        if value.trim().is_empty() || kubernetes::is_service_link(name, value) {
            return Ok(());
        }
        match keys::by_variable(name) {
            Some(key) => self.apply(&Source::Environment, &key, value),
            None => Err(ConfigError::UnknownKey {
                source: Source::Environment,
                key: name.to_owned(),
                nearest: nearest(name, keys::all_names().map(|key| keys::variable(&key))),
            }),
        }
    }

    fn apply(&mut self, source: &Source, name: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = keys::find(name) else {
            return Err(ConfigError::UnknownKey {
                source: source.clone(),
                key: name.to_owned(),
                nearest: nearest(name, keys::all_names()),
            });
        };
        key.set(self, name, value).map_err(|expected| ConfigError::BadValue {
            source: source.clone(),
            key: name.to_owned(),
            value: value.to_owned(),
            expected,
        })
    }

    /// What no single value can tell.
    fn check(&self) -> Result<(), ConfigError> {
        self.check_voters()?;
        self.check_groups()?;
        self.check_listeners()?;
        Ok(())
    }

    fn check_voters(&self) -> Result<(), ConfigError> {
        let voters = &self.cluster.voters;
        for (at, voter) in voters.iter().enumerate() {
            if voters[..at].iter().any(|other| other.id == voter.id) {
                return Err(ConfigError::Contradiction(format!(
                    "`cluster.voters` lists broker {} twice",
                    voter.id
                )));
            }
            if voters[..at].iter().any(|other| other.address == voter.address) {
                return Err(ConfigError::Contradiction(format!(
                    "`cluster.voters` lists the address {} twice",
                    voter.address
                )));
            }
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<(), ConfigError> {
        let GroupSettings {
            min_session_timeout: min,
            max_session_timeout: max,
            ..
        } = self.groups;
        if min > max {
            return Err(ConfigError::Contradiction(format!(
                "`groups.min_session_timeout_ms` is {}, and `groups.max_session_timeout_ms` is {}: no session time-out \
                 lies between them; raise the second",
                min.as_millis(),
                max.as_millis()
            )));
        }
        Ok(())
    }

    /// Whether this broker joins a cluster that others founded.
    pub fn is_newcomer(&self) -> bool {
        let voters = &self.cluster.voters;
        !voters.is_empty() && !voters.iter().any(|voter| voter.id == self.broker.id)
    }

    /// The others would connect to this machine in vain.
    fn check_peer_listener(&self) -> Result<(), ConfigError> {
        if self.is_newcomer() {
            return self.check_newcomer();
        }
        if self.listeners.advertised_peer.is_some() {
            return Err(ConfigError::Contradiction(
                "`listeners.advertised_peer` is set, but `cluster.voters` says where this broker is reached (or that \
                 it is alone); leave it out"
                    .to_owned(),
            ));
        }
        let own = self.cluster.voters.iter().find(|voter| voter.id == self.broker.id);
        let ip = own
            .and_then(|own| own.address.parse::<SocketAddr>().ok())
            .map(|own| own.ip());
        match ip {
            Some(ip) if !ip.is_loopback() && self.listeners.peer.ip().is_loopback() => {
                Err(ConfigError::Contradiction(format!(
                    "`cluster.voters` sends the other brokers to {ip}, but `listeners.peer` is {}, which only this \
                     machine can reach; set `listeners.peer` to an address that they can reach",
                    self.listeners.peer
                )))
            }
            _ => Ok(()),
        }
    }

    /// The founders learn this broker's address from itself.
    fn check_newcomer(&self) -> Result<(), ConfigError> {
        let peer = self.listeners.peer;
        let elsewhere = self.cluster.voters.iter().find(|voter| {
            let address = voter.address.parse::<SocketAddr>();
            address.is_ok_and(|address| !address.ip().is_loopback())
        });
        match elsewhere {
            Some(voter) if peer.ip().is_loopback() && self.listeners.advertised_peer.is_none() => {
                Err(ConfigError::Contradiction(format!(
                    "broker {} joins the cluster of {}, but its `listeners.peer` is {peer}, which only this machine \
                     can reach; set `listeners.peer` to an address that the other brokers can reach",
                    self.broker.id, voter.address
                )))
            }
            _ if peer.ip().is_unspecified() && self.listeners.advertised_peer.is_none() => {
                Err(ConfigError::Contradiction(format!(
                    "`listeners.peer` is {peer}, an address that no broker can connect to, and `cluster.voters` does \
                     not list broker {}; set `listeners.advertised_peer` to the HOST:PORT that the other brokers reach \
                     it at",
                    self.broker.id
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        self.check_peer_listener()?;
        if self.listeners.client.ip().is_unspecified() && self.listeners.advertised_host.is_none() {
            return Err(ConfigError::Contradiction(format!(
                "`listeners.client` is {}, an address that no client can connect to; set `listeners.advertised_host` \
                 to the name that clients know this machine by",
                self.listeners.client
            )));
        }
        let bound = [
            ("client", self.listeners.client),
            ("peer", self.listeners.peer),
            ("admin", self.listeners.admin),
        ];
        for (at, (name, address)) in bound.iter().enumerate() {
            if let Some((other, _)) = bound[..at].iter().find(|(_, b)| b == address && address.port() != 0) {
                return Err(ConfigError::Contradiction(format!(
                    "`listeners.{other}` and `listeners.{name}` are both {address}; give each its own port"
                )));
            }
        }
        Ok(())
    }
}

/// Tables within tables as dotted keys, values as text, in the file's order of keys.
fn flatten(table: toml::Table) -> Vec<(String, String)> {
    let mut flat = Vec::new();
    flatten_into(&mut flat, "", table);
    flat
}

fn flatten_into(flat: &mut Vec<(String, String)>, prefix: &str, table: toml::Table) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            toml::Value::Table(inner) => flatten_into(flat, &key, inner),
            value => flat.push((key, text(value))),
        }
    }
}

/// A value as it would be written in the environment: lists are separated by commas.
fn text(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Array(values) => values.into_iter().map(text).collect::<Vec<_>>().join(","),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Datetime(moment) => moment.to_string(),
        // Flattened before; within a list it has no text that any key accepts.
        toml::Value::Table(_) => "{}".to_owned(),
    }
}
