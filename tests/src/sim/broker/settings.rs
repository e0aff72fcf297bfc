//! What a broker's process is started with.

use super::broker_id;
use super::folder::Folder;
use crate::sim::bug::Bug;
use crate::sim::queue::Micros;
use crate::sim::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use trimaran_multiraft::IntervalPlan;
use trimaran_node::{Config, ReplicaOptions, RetryPauses};
use trimaran_raft::{GroupId, Instant, Tuning};
use trimaran_registry::Incarnation;
use trimaran_registry::agent::AgentConfig;
use trimaran_registry::catalog::{Broker as Registered, Endpoint};
use trimaran_storage::journal::RecoveredGroup;

/// What stays the same from start to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its id.
    pub id: u32,
    /// How many of the brokers founded the cluster, as its configuration says: those with the lowest ids, from one on.
    pub founders: u32,
    /// Shards it runs.
    pub shards: usize,
    /// Its rack.
    pub rack: Option<String>,
    /// The failover budget that all intervals come from.
    pub budget: Duration,
    /// How far its clock is ahead of the virtual one.
    pub clock_ahead: Micros,
    /// How far its wall clock is ahead, in milliseconds; negative: behind.
    pub wall_ahead_ms: i64,
    /// How much faster than the virtual one its clock runs, in millionths.
    pub clock_drift_ppm: u64,
    /// How fast its disk is when nothing is wrong with it.
    pub disk: DiskPace,
    /// A preferred leader that is back is given its leaderships back.
    pub gives_back: bool,
    /// Limits of its groups, if not the usual ones.
    pub limits: Option<Limits>,
    /// What its program does wrong.
    pub bug: Option<Bug>,
}

/// Limits of a group that a short run reaches. See [`trimaran_raft::Tuning`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one append.
    pub append_bytes: u64,
    /// On the way to a follower.
    pub inflight_messages: usize,
    /// On the way to a follower.
    pub inflight_bytes: u64,
    /// Proposed and not committed.
    pub uncommitted_bytes: u64,
    /// Between candidates of neighbouring ranks: without any, they collide.
    pub rank_delay: Duration,
}

impl Limits {
    /// Puts them in.
    pub(super) fn limit(self, tuning: &mut Tuning) {
        tuning.max_append_bytes = self.append_bytes;
        tuning.max_inflight_messages = self.inflight_messages;
        tuning.max_inflight_bytes = self.inflight_bytes;
        tuning.max_uncommitted_bytes = self.uncommitted_bytes;
        tuning.rank_delay = self.rank_delay;
    }
}

impl Settings {
    /// How long its groups' members wait without a leader.
    pub fn election_timeout(&self) -> Micros {
        let plan = IntervalPlan::new(self.budget);
        plan.map_or(0, |plan| u64::try_from(plan.election_timeout.as_micros()).unwrap_or(0))
    }

    /// What its wall clock shows.
    pub fn wall_clock_ms(&self, now: Micros) -> i64 {
        super::wall_clock_ms(now) + self.wall_ahead_ms
    }

    /// What its clock shows.
    pub(super) fn clock(&self, now: Micros) -> Instant {
        Instant(self.clock_ahead + now + now * self.clock_drift_ppm / 1_000_000)
    }

    /// The virtual time of a moment of its clock.
    pub(super) fn virtual_time(&self, at: Instant) -> Micros {
        let shown = at.0.saturating_sub(self.clock_ahead);
        shown.saturating_mul(1_000_000) / (1_000_000 + self.clock_drift_ppm)
    }
}

/// How long the disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPace {
    /// At least.
    pub min_us: Micros,
    /// At most.
    pub max_us: Micros,
}

impl DiskPace {
    /// A disk as a machine may have it for ever: from flash to one that turns.
    pub fn usual(rng: &mut Rng) -> DiskPace {
        let max_us = *rng.pick(&[400, 400, 3_000, 20_000]).unwrap_or(&400);
        DiskPace { min_us: 60, max_us }
    }
}

/// Its logs are small, so that a short run has many segments and reads from disk; and what happens seldom in earnest
/// happens often.
pub(super) fn node_config(
    settings: &Settings,
    plan: IntervalPlan,
    incarnation: u64,
    seed: u64,
    folder: Folder,
    recovered: BTreeMap<GroupId, RecoveredGroup>,
) -> Config {
    let endpoint = |base: u16| Endpoint {
        host: "sim".to_owned(),
        port: base + u16::try_from(settings.id).unwrap_or(0),
    };
    let agent = AgentConfig {
        broker: Registered {
            id: broker_id(settings.id),
            incarnation: Incarnation(incarnation),
            rack: settings.rack.clone(),
            client: endpoint(9092),
            peer: endpoint(9192),
            admin: endpoint(9292),
        },
        cluster_id: "simulated".to_owned(),
        metadata_replicas: (1..=settings.founders).map(broker_id).collect(),
        seed,
        default_partitions: 1,
        default_replication_factor: Some(3),
        retry_after: Duration::from_millis(300),
        digest_every: Duration::from_secs(1),
        folder: folder.id,
        founded_with: folder.founded_with,
        is_member: folder.is_member,
        noted_founders: folder.founders,
        known_groups: BTreeSet::new(),
    };
    Config {
        agent,
        plan,
        recovered,
        replicas: ReplicaOptions {
            tail_bytes: 8 << 10,
            max_segment_bytes: 16 << 10,
            max_segment_ms: 60_000,
            retains: true,
            delivered_topic: None,
            retry: RetryPauses {
                first: Duration::from_millis(500),
                longest: Duration::from_secs(2),
            },
        },
        topic_defaults: BTreeMap::new(),
        retain_every: Duration::from_millis(400),
    }
}
