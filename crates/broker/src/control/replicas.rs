//! The replicas of this broker: opened when the catalog gives them, closed when it takes them away, and opened again as
//! lost when they turn out to be damaged.

use super::{ControlParts, METADATA};
use crate::files::{FileJob, How, OpenJob, Opened};
use crate::ids;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;
use trimaran_multiraft::{Completion, Contradiction, GroupOptions, InSync, Input, LeaderChange, Lost, Members};
use trimaran_raft::{GroupId, Instant, NodeId};
use trimaran_registry::agent::OpenReplica;
use trimaran_registry::{Agent, Catalog, Standing, TopicConfig};
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogError, LogOptions, Retention};

/// The replicas here, as this thread knows them. The replicas themselves live in the shards.
pub(super) struct Replicas {
    /// The state that the journal held of groups that have not been opened yet.
    recovered: BTreeMap<GroupId, RecoveredGroup>,
    known: BTreeMap<GroupId, Replica>,
    /// Being opened.
    opening: BTreeSet<GroupId>,
    /// Could not be opened, or not be written, and are tried again.
    retries: BTreeMap<GroupId, Retry>,
    /// Closed, and their folders not deleted yet; with what is to be opened in the place of the old one.
    leaving: BTreeMap<GroupId, Option<Plan>>,
}

/// Everything that it takes to open a replica, and to open it again.
#[derive(Clone)]
struct Plan {
    founders: Vec<NodeId>,
    /// The brokers that should have a replica, and the number of that wish.
    wanted: (Vec<NodeId>, u64),
    options: GroupOptions,
    log_options: LogOptions,
    /// The members that hold its log and never vote, if anybody has said so.
    learners: Option<Vec<NodeId>>,
}

/// The first pause before a replica that could not be opened is tried again, and the longest: each is twice the one
/// before. A folder that is away is looked for soon, and a thousand of them cost little.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// A replica that could not be opened.
struct Retry {
    how: How,
    pause: Duration,
    at: Instant,
}

struct Replica {
    plan: Plan,
    /// As what it is being opened.
    how: Option<How>,
    /// To be closed as soon as it is open.
    closing: bool,
    leads: bool,
    under_replicated: bool,
    learners: usize,
    /// Since when no leader is known.
    leaderless_since: Option<Instant>,
    /// It is being filled.
    repairing: bool,
    /// Its shard was asked how far it is.
    asked: Option<oneshot::Receiver<Completion>>,
}

impl Replica {
    fn new(plan: Plan) -> Replica {
        Replica {
            plan,
            how: None,
            closing: false,
            leads: false,
            under_replicated: false,
            learners: 0,
            leaderless_since: None,
            repairing: false,
            asked: None,
        }
    }

    /// How many replicas there are to be.
    fn replicas(&self) -> usize {
        match self.plan.wanted.0.len() {
            0 => self.plan.founders.len(),
            wanted => wanted,
        }
    }

    fn set_under_replicated(&mut self, parts: &ControlParts, now: bool) {
        let step = i64::from(now) - i64::from(std::mem::replace(&mut self.under_replicated, now));
        parts.metrics.under_replicated.inc_by(step);
    }

    fn set_learners(&mut self, parts: &ControlParts, now: usize) {
        let step = now as i64 - std::mem::replace(&mut self.learners, now) as i64;
        parts.metrics.learners.inc_by(step);
    }

    fn set_repairing(&mut self, parts: &ControlParts, now: bool) {
        let step = i64::from(now) - i64::from(std::mem::replace(&mut self.repairing, now));
        parts.metrics.repairing.inc_by(step);
    }

    fn set_leads(&mut self, parts: &ControlParts, now: bool) {
        let step = i64::from(now) - i64::from(std::mem::replace(&mut self.leads, now));
        parts.metrics.leaderships.inc_by(step);
        if !now {
            self.set_under_replicated(parts, false);
            self.set_learners(parts, 0);
        }
    }
}

impl Replicas {
    pub(super) fn new(recovered: BTreeMap<GroupId, RecoveredGroup>) -> Replicas {
        Replicas {
            recovered,
            known: BTreeMap::new(),
            opening: BTreeSet::new(),
            retries: BTreeMap::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// Whether nothing is being opened, and the metadata group is among what is open.
    pub(super) fn all_open(&self) -> bool {
        let is_awaited = |group: &GroupId| !self.retries.contains_key(group);
        !self.opening.iter().any(is_awaited) && self.known.contains_key(&METADATA)
    }

    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// The metadata group: its voters are configured, and it is never closed.
    pub(super) fn open_metadata(&mut self, parts: &ControlParts, standing: Standing) {
        let plan = Plan {
            founders: parts.voters.clone(),
            wanted: (parts.voters.clone(), 0),
            options: GroupOptions {
                min_insync_replicas: 1,
                retention: Retention::default(),
                deliver: true,
            },
            log_options: log_options(parts, &TopicConfig::default()),
            learners: None,
        };
        self.start(parts, METADATA, plan, standing);
    }

    pub(super) fn open(&mut self, parts: &ControlParts, replica: &OpenReplica) {
        let group = ids::group(replica.group);
        tracing::debug!(
            %group, topic = %replica.topic, partition = %replica.partition, standing = ?replica.standing,
            "opens a replica"
        );
        let nodes = |brokers: &[_]| brokers.iter().copied().map(ids::node).collect();
        let (options, log_options) = options(parts, &replica.config);
        let plan = Plan {
            founders: nodes(&replica.founders),
            wanted: (nodes(&replica.replicas), 0),
            options,
            log_options,
            learners: None,
        };
        // What is closing must be gone before it comes back: then its disk holds nothing.
        if let Some(next) = self.leaving.get_mut(&group) {
            *next = Some(plan);
        } else if self.known.get(&group).is_some_and(|known| known.closing) {
            self.leaving.insert(group, Some(plan));
        } else {
            self.start(parts, group, plan, replica.standing);
        }
    }

    fn start(&mut self, parts: &ControlParts, group: GroupId, plan: Plan, standing: Standing) {
        if self.known.contains_key(&group) {
            return;
        }
        let how = match self.recovered.remove(&group) {
            Some(recovered) => How::Found(Box::new(recovered)),
            None => How::Nothing(standing),
        };
        self.known.insert(group, Replica::new(plan));
        self.begin(parts, group, how);
    }

    fn begin(&mut self, parts: &ControlParts, group: GroupId, how: How) {
        let Some(replica) = self.known.get_mut(&group) else {
            return;
        };
        let plan = replica.plan.clone();
        replica.how = Some(how.clone());
        let own = ids::node(parts.broker.id);
        self.opening.insert(group);
        let job = OpenJob {
            group,
            has_others: plan.founders.iter().chain(&plan.wanted.0).any(|node| *node != own),
            founders: plan.founders,
            wanted: plan.wanted.0,
            how,
            log_options: plan.log_options,
            options: plan.options,
        };
        parts.files.push(FileJob::Open(Box::new(job)));
    }

    pub(super) fn opened(&mut self, parts: &ControlParts, now: Instant, group: GroupId, outcome: Opened) {
        self.opening.remove(&group);
        parts.metrics.replicas.set(self.known.len() as i64);
        let Some(replica) = self.known.get_mut(&group) else {
            self.retries.remove(&group);
            return;
        };
        let how = replica.how.take();
        let before = self.retries.remove(&group);
        match outcome {
            Opened::Failed(error) if group != METADATA => {
                let pause = match &before {
                    None => {
                        cannot_open(parts, group, &error);
                        FIRST_RETRY
                    }
                    Some(before) => before.pause.saturating_mul(2).min(LAST_RETRY),
                };
                let at = now + pause;
                self.retries.extend(how.map(|how| (group, Retry { how, pause, at })));
            }
            Opened::Sound => replica.set_repairing(parts, false),
            Opened::Lost => {
                tracing::info!(%group, "a replica here holds nothing of what it may have promised: the others fill it");
                replica.set_repairing(parts, true);
                parts.metrics.lost.inc();
            }
            Opened::SetAside(error) => {
                say_damaged(group, &error);
                replica.set_repairing(parts, true);
                parts.metrics.lost.inc();
            }
            Opened::Failed(error) => cannot_open(parts, group, &error),
        }
        if replica.closing {
            return self.shut(parts, group);
        }
        // What was said while it was being opened did not reach it.
        let (wanted, version) = replica.plan.wanted.clone();
        parts.mailboxes.of(group).tell(Input::Replicas(group, wanted, version));
        if let Some(learners) = replica.plan.learners.clone() {
            parts.mailboxes.of(group).tell(Input::Learners(group, learners));
        }
    }

    /// It has turned out to be damaged, or can't be written, and its group does without it: its log is set aside, and
    /// it is filled by the others.
    pub(super) fn reopen(&mut self, parts: &ControlParts, lost: &Lost) {
        let Lost { group, error } = lost;
        if let Some(replica) = self.known.get_mut(group)
            && !self.opening.contains(group)
        {
            match error.is_damage() {
                true => say_damaged(*group, error),
                false => say_unwritable(*group, error),
            }
            replica.set_repairing(parts, true);
            self.begin(parts, *group, How::Damaged);
        }
    }

    /// Tries those again that could not be opened.
    fn retry(&mut self, parts: &ControlParts, now: Instant) {
        let is_due = |(group, retry): (&GroupId, &Retry)| {
            let is_due = retry.at <= now && !self.opening.contains(group);
            is_due.then(|| (*group, retry.how.clone()))
        };
        let due: Vec<_> = self.retries.iter().filter_map(is_due).collect();
        for (group, how) in due {
            self.begin(parts, group, how);
        }
    }

    /// Names the brokers that should have a replica from now on.
    pub(super) fn want(&mut self, parts: &ControlParts, group: GroupId, replicas: Vec<NodeId>, version: u64) {
        let wanted = (replicas.clone(), version);
        if let Some(Some(next)) = self.leaving.get_mut(&group) {
            next.wanted = wanted;
        } else if let Some(replica) = self.known.get_mut(&group) {
            replica.plan.wanted = wanted;
            parts
                .mailboxes
                .of(group)
                .tell(Input::Replicas(group, replicas, version));
        }
    }

    /// The brokers that hold the metadata group's log without a vote, from now on.
    pub(super) fn want_learners(&mut self, parts: &ControlParts, learners: Vec<NodeId>) {
        if let Some(replica) = self.known.get_mut(&METADATA) {
            replica.plan.learners = Some(learners.clone());
            parts.mailboxes.of(METADATA).tell(Input::Learners(METADATA, learners));
        }
    }

    pub(super) fn configure(&mut self, parts: &ControlParts, group: GroupId, config: &TopicConfig) {
        let (options, log_options) = options(parts, config);
        let next = self.leaving.get_mut(&group).and_then(Option::as_mut);
        let plan = next.or_else(|| self.known.get_mut(&group).map(|replica| &mut replica.plan));
        if let Some(plan) = plan {
            plan.options = options.clone();
            plan.log_options = log_options.clone();
        }
        parts
            .mailboxes
            .of(group)
            .tell(Input::Configure(group, options, log_options));
    }

    pub(super) fn close(&mut self, parts: &ControlParts, group: GroupId) {
        match self.known.get_mut(&group) {
            // It is closed already; what was to take its place is wanted no more.
            None => {
                if let Some(next) = self.leaving.get_mut(&group) {
                    *next = None;
                }
            }
            Some(replica) if self.opening.contains(&group) => {
                replica.closing = true;
                self.leaving.remove(&group);
            }
            Some(_) => self.shut(parts, group),
        }
    }

    fn shut(&mut self, parts: &ControlParts, group: GroupId) {
        let Some(mut replica) = self.known.remove(&group) else {
            return;
        };
        replica.set_leads(parts, false);
        replica.set_repairing(parts, false);
        self.retries.remove(&group);
        parts.metrics.replicas.set(self.known.len() as i64);
        self.leaving.entry(group).or_default();
        parts.mailboxes.of(group).tell(Input::Close(group));
    }

    /// Nothing of a closed replica is left: its successor can come.
    pub(super) fn deleted(&mut self, parts: &ControlParts, group: GroupId) {
        if let Some(Some(plan)) = self.leaving.remove(&group) {
            self.start(parts, group, plan, Standing::Joining);
        }
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
            tracing::debug!(group = %change.group, term = %change.term, leads = change.serving, "leadership");
        }
        replica.set_leads(parts, change.serving);
    }

    pub(super) fn in_sync(&mut self, parts: &ControlParts, report: &InSync) {
        if let Some(replica) = self.known.get_mut(&report.group) {
            let under_replicated = report.replicas.len() < replica.replicas();
            replica.set_under_replicated(parts, under_replicated);
        }
    }

    pub(super) fn members(&mut self, parts: &ControlParts, report: &Members) {
        let Some(replica) = self.known.get_mut(&report.group) else {
            return;
        };
        if report.fulfils.is_none() {
            parts.metrics.member_changes.inc();
            tracing::info!(
                group = %report.group, term = %report.term, voters = ?report.voters, learners = ?report.learners,
                "the members of a group led here have changed"
            );
        }
        if replica.leads {
            // Those that never vote are not on their way to anything.
            let lasting = replica.plan.learners.as_deref().unwrap_or_default();
            let filled = report.learners.iter().filter(|node| !lasting.contains(node));
            replica.set_learners(parts, filled.count());
        }
    }

    /// Tries again what could not be opened, asks how far replicas are that are being filled, and notes what became of
    /// it.
    pub(super) fn look(&mut self, parts: &ControlParts, now: Instant) {
        self.retry(parts, now);
        let repairing = self.known.iter_mut().filter(|(_, replica)| replica.repairing);
        for (group, replica) in repairing {
            let answer = replica.asked.as_mut().map(oneshot::Receiver::try_recv);
            if let Some(Ok(Completion::Status(Some(status)))) = &answer
                && !status.repairing
                && !status.failed
            {
                tracing::info!(%group, "a replica here that had lost what it held is whole again");
                replica.set_repairing(parts, false);
                replica.asked = None;
                parts.files.push(FileJob::DeleteAside(*group));
                continue;
            }
            if !matches!(answer, Some(Err(oneshot::error::TryRecvError::Empty))) {
                replica.asked = ask(parts, *group);
            }
        }
    }
}

/// A replica's state as its shard knows it; none if the shard is too busy to be asked.
fn ask(parts: &ControlParts, group: GroupId) -> Option<oneshot::Receiver<Completion>> {
    let mailbox = parts.mailboxes.of(group);
    let (ticket, answer) = mailbox.tickets.issue()?;
    mailbox.tell(Input::Status(ticket, group));
    Some(answer)
}

fn say_damaged(group: GroupId, error: &LogError) {
    tracing::error!(
        %group, %error,
        "a replica is damaged: what it held is set aside, and the others fill it again. See \"A disk is damaged\" in \
         docs/operations.md"
    );
}

/// The strongest sign that there are two clusters, or that a disk lies.
pub(super) fn say_contradiction(agent: &Agent, found: &Contradiction) {
    let Contradiction {
        group,
        leader,
        term,
        violation,
    } = found;
    let partition = partition_name(agent.catalog(), *group);
    let leader = ids::broker_name(ids::broker(*leader));
    tracing::error!(
        %group, partition, leader, %term, ?violation,
        "safety violated: this leader contradicts what this broker knows to be committed. A broker has lost what it had \
         promised (an old data folder, a disk that lies), or brokers of two clusters mix. Stop that leader's broker, and see \
         \"A leader contradicts a replica\" in docs/operations.md"
    );
}

/// The name that an operator knows a group by.
fn partition_name(catalog: &Catalog, group: GroupId) -> String {
    match catalog.partition_of(ids::catalog_group(group)) {
        Some((topic, partition)) => format!("{}-{}", topic.name, partition.0),
        None if group == METADATA => "the cluster's metadata".to_owned(),
        None => format!("group {group}"),
    }
}

fn say_unwritable(group: GroupId, error: &LogError) {
    tracing::error!(
        %group, %error,
        "a replica's records can't be written: its partition goes on without it. It is filled again as soon as its \
         folder can be written; that is tried every minute. See \"A folder can't be written\" in docs/operations.md"
    );
}

/// A partition goes on with its other replicas. Without the catalog a broker knows nothing at all.
fn cannot_open(parts: &ControlParts, group: GroupId, error: &LogError) {
    let folder = parts.settings.broker.data.display();
    if group == METADATA {
        parts.fatal.fail(format!(
            "the log of the metadata group in {folder} can't be opened: {error}. The broker stops before it can do \
             harm. See \"A disk is damaged\" in docs/operations.md"
        ));
    } else {
        tracing::error!(
            %group, %error, data = %folder,
            "a replica's log can't be opened: it takes no part in its partition, which goes on without it. It is tried \
             again every minute. See \"A folder can't be written\" in docs/operations.md"
        );
    }
}

/// The options of a topic's groups and their logs that follow from its configuration.
fn options(parts: &ControlParts, config: &TopicConfig) -> (GroupOptions, LogOptions) {
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
