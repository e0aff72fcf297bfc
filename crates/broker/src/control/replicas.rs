//! The replicas of this broker: opened when the catalog gives them, closed when it takes them away.

use super::{ControlParts, METADATA};
use crate::files::{FileJob, OpenJob};
use crate::ids;
use std::collections::{BTreeMap, BTreeSet};
use trimaran_multiraft::{GroupOptions, InSync, Input, LeaderChange};
use trimaran_raft::{GroupId, Instant, NodeId};
use trimaran_registry::TopicConfig;
use trimaran_registry::agent::OpenReplica;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogError, LogOptions, Retention};

/// What this thread knows of the replicas here. The replicas themselves live in the shards.
pub(super) struct Replicas {
    /// What the journal had of groups that have not been opened yet.
    recovered: BTreeMap<GroupId, RecoveredGroup>,
    known: BTreeMap<GroupId, Replica>,
    /// Being opened.
    opening: BTreeSet<GroupId>,
}

#[derive(Default)]
struct Replica {
    voters: usize,
    /// To be closed as soon as it is open.
    closing: bool,
    leads: bool,
    under_replicated: bool,
    /// Since when no leader is known.
    leaderless_since: Option<Instant>,
}

impl Replicas {
    pub(super) fn new(recovered: BTreeMap<GroupId, RecoveredGroup>) -> Replicas {
        Replicas {
            recovered,
            known: BTreeMap::new(),
            opening: BTreeSet::new(),
        }
    }

    /// Whether nothing is being opened, and the metadata group is among what is open.
    pub(super) fn all_open(&self) -> bool {
        self.opening.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// The metadata group: its members are configured, and it is never closed.
    pub(super) fn open_metadata(&mut self, parts: &ControlParts) {
        let options = GroupOptions {
            min_insync_replicas: 1,
            retention: Retention::default(),
            deliver: true,
        };
        let defaults = TopicConfig::default();
        self.start(
            parts,
            METADATA,
            parts.voters.clone(),
            options,
            log_options(parts, &defaults),
        );
    }

    pub(super) fn open(&mut self, parts: &ControlParts, replica: &OpenReplica) {
        let group = ids::group(replica.group);
        tracing::debug!(%group, topic = %replica.topic, partition = %replica.partition, "opens a replica");
        let voters = replica.founders.iter().copied().map(ids::node).collect();
        let (options, log) = options(parts, &replica.config);
        self.start(parts, group, voters, options, log);
    }

    fn start(
        &mut self,
        parts: &ControlParts,
        group: GroupId,
        voters: Vec<NodeId>,
        options: GroupOptions,
        log_options: LogOptions,
    ) {
        if self.known.contains_key(&group) {
            return;
        }
        let replica = Replica {
            voters: voters.len(),
            ..Replica::default()
        };
        self.known.insert(group, replica);
        self.opening.insert(group);
        let job = OpenJob {
            group,
            voters,
            log_options,
            options,
            recovered: self.recovered.remove(&group).unwrap_or_default(),
        };
        parts.files.push(FileJob::Open(Box::new(job)));
    }

    pub(super) fn opened(&mut self, parts: &ControlParts, group: GroupId, outcome: Result<(), LogError>) {
        self.opening.remove(&group);
        parts.metrics.replicas.set(self.known.len() as i64);
        if let Err(error) = outcome {
            cannot_open(parts, group, &error);
        }
        if self.known.get(&group).is_some_and(|replica| replica.closing) {
            self.close(parts, group);
        }
    }

    pub(super) fn close(&mut self, parts: &ControlParts, group: GroupId) {
        if self.opening.contains(&group) {
            if let Some(replica) = self.known.get_mut(&group) {
                replica.closing = true;
            }
            return;
        }
        if let Some(replica) = self.known.remove(&group) {
            if replica.leads {
                parts.metrics.leaderships.dec();
            }
            if replica.under_replicated {
                parts.metrics.under_replicated.dec();
            }
        }
        parts.metrics.replicas.set(self.known.len() as i64);
        parts.mailboxes.of(group).tell(Input::Close(group));
    }

    /// Counts leaderships, and how long a group was without a leader that is then led here.
    pub(super) fn led(&mut self, parts: &ControlParts, now: Instant, change: &LeaderChange) {
        let Some(replica) = self.known.get_mut(&change.group) else {
            return;
        };
        if change.leader.is_none() {
            replica.leaderless_since.get_or_insert(now);
        } else if change.serving {
            if let Some(since) = replica.leaderless_since.take() {
                parts.metrics.failed_over(now.since(since));
            }
        } else if change.leader != Some(ids::node(parts.broker.id)) {
            replica.leaderless_since = None;
        }
        if change.serving != replica.leads {
            replica.leads = change.serving;
            parts.metrics.leaderships.inc_by(if change.serving { 1 } else { -1 });
            tracing::debug!(group = %change.group, term = %change.term, leads = change.serving, "leadership");
        }
        if !change.serving && std::mem::take(&mut replica.under_replicated) {
            parts.metrics.under_replicated.dec();
        }
    }

    pub(super) fn in_sync(&mut self, parts: &ControlParts, report: &InSync) {
        let Some(replica) = self.known.get_mut(&report.group) else {
            return;
        };
        let under_replicated = report.replicas.len() < replica.voters;
        if under_replicated != replica.under_replicated {
            replica.under_replicated = under_replicated;
            parts
                .metrics
                .under_replicated
                .inc_by(if under_replicated { 1 } else { -1 });
        }
    }
}

/// A partition goes on with its other replicas. Without the catalog a broker knows nothing at all.
fn cannot_open(parts: &ControlParts, group: GroupId, error: &LogError) {
    let folder = parts.settings.broker.data.display();
    if group == METADATA {
        parts.fatal.fail(format!(
            "the log of the metadata group in {folder} can't be opened: {error}. The broker stops before it can do harm. \
             See \"A disk is damaged\" in docs/operations.md"
        ));
    } else {
        tracing::error!(
            %group, %error, data = %folder,
            "a replica's log can't be opened: it takes no part in its partition, which goes on without it. See \"A disk is \
             damaged\" in docs/operations.md"
        );
    }
}

/// What a topic's configuration means to its groups and their logs.
pub(super) fn options(parts: &ControlParts, config: &TopicConfig) -> (GroupOptions, LogOptions) {
    let options = GroupOptions {
        min_insync_replicas: config.min_insync_replicas,
        retention: Retention {
            bytes: config.retention_bytes,
            ms: config.retention_ms,
        },
        deliver: false,
    };
    (options, log_options(parts, config))
}

fn log_options(parts: &ControlParts, config: &TopicConfig) -> LogOptions {
    LogOptions {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        tail_bytes: parts.settings.limits.tail_bytes,
    }
}
