//! What a node is started with.

use std::collections::BTreeMap;
use std::time::Duration;
use trimaran_multiraft::{GroupOptions, IntervalPlan};
use trimaran_raft::GroupId;
use trimaran_registry::TopicConfig;
use trimaran_registry::agent::AgentConfig;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogOptions, Retention};

/// What a node must know from the start.
#[derive(Debug)]
pub struct Config {
    /// Its agent's; [`AgentConfig::known_groups`] is filled in.
    pub agent: AgentConfig,
    /// Intervals that follow from the failover budget.
    pub plan: IntervalPlan,
    /// The state of each group that the journal held.
    pub recovered: BTreeMap<GroupId, RecoveredGroup>,
    /// What all replicas here have in common.
    pub replicas: ReplicaOptions,
    /// Settings of every topic that is created through this broker without them.
    pub topic_defaults: BTreeMap<String, String>,
    /// Between two looks for records whose retention has ended.
    pub retain_every: Duration,
}

/// What all replicas of a broker have in common.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// Bytes of a log's tail kept in memory.
    pub tail_bytes: u64,
    /// A segment's size, at most, whatever the topic's configuration says.
    pub max_segment_bytes: u64,
    /// A segment's age in milliseconds, at most, whatever the topic's configuration says.
    pub max_segment_ms: u64,
    /// Records are deleted when the topic's configuration says so; otherwise never.
    pub retains: bool,
    /// The topic whose committed payloads are handed to the host, as the metadata group's are.
    pub delivered_topic: Option<&'static str>,
    /// Before a replica that could not be opened is tried again.
    pub retry: RetryPauses,
}

/// Pauses before a replica that could not be opened is tried again: each is twice the one before.
#[derive(Clone, Copy, Debug)]
pub struct RetryPauses {
    /// The first one.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl RetryPauses {
    /// A folder that is away is looked for soon, and a thousand of them cost little.
    pub const USUAL: RetryPauses = RetryPauses {
        first: Duration::from_secs(5),
        longest: Duration::from_secs(60),
    };
}

impl ReplicaOptions {
    /// The options of a topic's groups that follow from its configuration.
    pub(crate) fn of_group(&self, topic: &str, config: &TopicConfig) -> GroupOptions {
        let retention = Retention {
            bytes: config.retention_bytes,
            ms: config.retention_ms,
        };
        GroupOptions {
            min_insync_replicas: config.min_insync_replicas,
            retention: if self.retains { retention } else { Retention::default() },
            deliver: self.delivered_topic == Some(topic),
        }
    }

    /// The options of their logs.
    pub(crate) fn of_log(&self, config: &TopicConfig) -> LogOptions {
        LogOptions {
            segment_bytes: config.segment_bytes.min(self.max_segment_bytes),
            segment_ms: config.segment_ms.min(self.max_segment_ms),
            tail_bytes: self.tail_bytes,
        }
    }
}
