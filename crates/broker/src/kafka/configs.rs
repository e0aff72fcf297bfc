//! DescribeConfigs: every key of a topic or of this broker, with its value, source, default, type and meaning.

#[cfg(test)]
mod tests;

use super::authorization::{Access, Operation, Resource};
use super::context::{Answer, Context};
use super::errors::Failure;
use super::partitions::text;
use crate::config::{ReplicaSelector, Settings};
use crate::engine::ClusterView;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use trimaran_registry::topic_config::{self, Kind};
use trimaran_transport::Reply;

/// Kafka's types of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from, as Kafka numbers it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Topic = 1,
    BrokerFile = 4,
    Default = 5,
}

/// A key, with its value and meaning.
struct Line {
    name: &'static str,
    value: Option<String>,
    default: Option<String>,
    source: Source,
    kind: Kind,
    read_only: bool,
    doc: &'static str,
}

/// DescribeConfigs on each topic, or on the cluster for a broker's configuration.
impl Answer for DescribeConfigsRequest {
    async fn answer(self, context: Context) -> Reply {
        let settings = context.engine().settings();
        context.respond(&describe(context.access(), settings, &context.view, &self))
    }
}

fn describe(
    access: Access<'_>,
    settings: &Settings,
    view: &ClusterView,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match lines(access, settings, view, resource) {
            Ok(lines) => result.with_configs(wanted(lines, resource, request)),
            Err(failure) => result
                .with_error_code(failure.code())
                .with_error_message(failure.text()),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn lines(
    access: Access<'_>,
    settings: &Settings,
    view: &ClusterView,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Line>, Failure> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            access.authorize(Operation::DescribeConfigs, Resource::Topic(name))?;
            topic(view, name)
        }
        BROKER => {
            access.authorize(Operation::DescribeConfigs, Resource::Cluster)?;
            broker(settings, name)
        }
        other => Err(Failure::new(
            ResponseError::InvalidRequest,
            format!("resources of type {other} have no configuration here"),
        )),
    }
}

fn topic(view: &ClusterView, name: &str) -> Result<Vec<Line>, Failure> {
    let unknown = || Failure::new(ResponseError::UnknownTopicOrPartition, "there is no such topic");
    let topic = view.catalog.topic(name).ok_or_else(unknown)?;
    let described = topic_config::describe(&topic.overrides);
    let lines = described.into_iter().zip(topic_config::keys()).map(|(line, key)| Line {
        name: line.name,
        value: Some(line.value),
        default: Some(key.default.to_owned()),
        source: if line.overridden {
            Source::Topic
        } else {
            Source::Default
        },
        kind: line.kind,
        read_only: false,
        doc: line.doc,
    });
    Ok(lines.collect())
}

/// A broker knows only its own configuration; the client's library asks the right one. The empty name asks for what is
/// set for all brokers at run time, and nothing is.
fn broker(settings: &Settings, name: &str) -> Result<Vec<Line>, Failure> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name != settings.broker.id.to_string() {
        let message = format!(
            "this is broker {}, which does not know the configuration of {name:?}",
            settings.broker.id
        );
        return Err(Failure::new(ResponseError::InvalidRequest, message));
    }
    let defaults = Settings::default();
    let lines = BROKER_KEYS.iter().map(|key| {
        let (value, default) = ((key.value)(settings), (key.value)(&defaults));
        Line {
            name: key.name,
            source: if value == default {
                Source::Default
            } else {
                Source::BrokerFile
            },
            value,
            default,
            kind: key.kind,
            read_only: true,
            doc: key.doc,
        }
    });
    Ok(lines.collect())
}

/// A key of a broker's configuration that Kafka's tools know, under Kafka's name.
struct BrokerKey {
    name: &'static str,
    kind: Kind,
    value: fn(&Settings) -> Option<String>,
    doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, value: fn(&Settings) -> Option<String>, doc: &'static str) -> BrokerKey {
    BrokerKey { name, kind, value, doc }
}

/// Sorted by name.
const BROKER_KEYS: &[BrokerKey] = &[
    key(
        "advertised.listeners",
        Kind::Text,
        |s| Some(advertised(s)),
        "What clients are told to connect to (listeners.advertised_host and listeners.advertised_port).",
    ),
    key(
        "auto.create.topics.enable",
        Kind::Boolean,
        |s| Some(s.cluster.auto_create_topics.to_string()),
        "Whether asking for an unknown topic creates it (cluster.auto_create_topics).",
    ),
    key(
        "broker.id",
        Kind::Int,
        |s| Some(s.broker.id.to_string()),
        "This broker's number, unique in the cluster (broker.id).",
    ),
    key(
        "broker.rack",
        Kind::Text,
        |s| s.broker.rack.clone(),
        "The rack or zone that this broker fails together with (broker.rack).",
    ),
    key(
        "connections.max.idle.ms",
        Kind::Long,
        |s| Some(s.limits.idle.as_millis().to_string()),
        "A client connection without a request for longer is closed (limits.idle_ms).",
    ),
    key(
        "default.replication.factor",
        Kind::Int,
        |s| Some(s.cluster.default_replication.map_or("-1".to_owned(), |n| n.to_string())),
        "Replicas of a topic that is created without a number; -1 is all brokers, at most 3 (cluster.default_replication).",
    ),
    key(
        "group.initial.rebalance.delay.ms",
        Kind::Int,
        |s| Some(s.groups.initial_rebalance_delay.as_millis().to_string()),
        "How long the first rebalance of an empty group waits for further members (groups.initial_rebalance_delay_ms).",
    ),
    key(
        "group.max.session.timeout.ms",
        Kind::Int,
        |s| Some(s.groups.max_session_timeout.as_millis().to_string()),
        "The longest session time-out that a member may ask for (groups.max_session_timeout_ms).",
    ),
    key(
        "group.max.size",
        Kind::Int,
        |s| Some(s.groups.max_size.to_string()),
        "Members of one group, at most (groups.max_size).",
    ),
    key(
        "group.min.session.timeout.ms",
        Kind::Int,
        |s| Some(s.groups.min_session_timeout.as_millis().to_string()),
        "The shortest session time-out that a member may ask for (groups.min_session_timeout_ms).",
    ),
    key(
        "listeners",
        Kind::Text,
        |s| Some(format!("PLAINTEXT://{}", s.listeners.client)),
        "Where Kafka clients connect (listeners.client).",
    ),
    key(
        "log.dirs",
        Kind::Text,
        |s| Some(s.broker.data.display().to_string()),
        "The data folder (broker.data).",
    ),
    key(
        "max.connections",
        Kind::Int,
        |s| Some(s.limits.connections.to_string()),
        "Client connections at a time (limits.connections).",
    ),
    key(
        "max.connections.per.ip",
        Kind::Int,
        |s| Some(s.limits.connections_per_ip.to_string()),
        "Client connections from one address at a time (limits.connections_per_ip).",
    ),
    key(
        "num.partitions",
        Kind::Int,
        |s| Some(s.cluster.default_partitions.to_string()),
        "Partitions of a topic that is created without a number (cluster.default_partitions).",
    ),
    key(
        "offset.metadata.max.bytes",
        Kind::Int,
        |s| Some(s.groups.offset_metadata_bytes.to_string()),
        "The note that a client may commit with an offset, at most (groups.offset_metadata_max_bytes).",
    ),
    key(
        "offsets.retention.minutes",
        Kind::Int,
        |s| Some((s.groups.offsets_retention.as_secs() / 60).to_string()),
        "How long committed offsets are kept after their group has become empty (groups.offsets_retention_minutes).",
    ),
    key(
        "offsets.topic.num.partitions",
        Kind::Int,
        |s| Some(s.groups.offsets_partitions.to_string()),
        "Partitions of __consumer_offsets, when it is created (groups.offsets_partitions).",
    ),
    key(
        "offsets.topic.replication.factor",
        Kind::Int,
        |s| Some(s.groups.offsets_replication.map_or("-1".to_owned(), |n| n.to_string())),
        "Replicas of __consumer_offsets, when it is created; -1 is all brokers, at most 3 (groups.offsets_replication).",
    ),
    key(
        "replica.selector.class",
        Kind::Text,
        |s| match s.cluster.replica_selector {
            ReplicaSelector::Leader => None,
            ReplicaSelector::RackAware => Some("org.apache.kafka.common.replica.RackAwareReplicaSelector".to_owned()),
        },
        "Who answers consumers: the leader, or a replica in the consumer's rack (cluster.replica_selector).",
    ),
    key(
        "socket.request.max.bytes",
        Kind::Int,
        |s| Some(s.limits.frame_bytes.to_string()),
        "Bytes in one request, at most (limits.frame_bytes).",
    ),
];

fn advertised(settings: &Settings) -> String {
    let listeners = &settings.listeners;
    let own = listeners.client.ip().to_string();
    let host = listeners.advertised_host.as_deref().unwrap_or(&own);
    let port = listeners.advertised_port.unwrap_or(listeners.client.port());
    format!("PLAINTEXT://{host}:{port}")
}

/// The keys that are asked for; all, if none is named.
fn wanted(
    lines: Vec<Line>,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResourceResult> {
    let named = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let is_wanted = |line: &Line| named.is_none_or(|keys| keys.iter().any(|key| key.as_str() == line.name));
    lines
        .into_iter()
        .filter(is_wanted)
        .map(|line| result(line, request))
        .collect()
}

fn result(line: Line, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms {
        synonyms(&line)
    } else {
        Vec::new()
    };
    let doc = request.include_documentation.then(|| text(line.doc));
    DescribeConfigsResourceResult::default()
        .with_name(text(line.name))
        .with_value(line.value.as_deref().map(text))
        .with_read_only(line.read_only)
        .with_config_source(line.source as i8)
        .with_synonyms(synonyms)
        .with_config_type(config_type(line.kind))
        .with_documentation(doc)
}

/// The value in force, and behind it the one that would be without it.
fn synonyms(line: &Line) -> Vec<DescribeConfigsSynonym> {
    let synonym = |value: &Option<String>, source: Source| {
        DescribeConfigsSynonym::default()
            .with_name(text(line.name))
            .with_value(value.as_deref().map(text))
            .with_source(source as i8)
    };
    let mut synonyms = vec![synonym(&line.value, line.source)];
    if line.source != Source::Default {
        synonyms.push(synonym(&line.default, Source::Default));
    }
    synonyms
}

/// Kafka's `ConfigType` numbers.
fn config_type(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
    }
}
