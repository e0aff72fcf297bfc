//! The control thread: it watches the other brokers, runs the registry's agent, opens and closes replicas, and
//! publishes what this broker knows of the cluster.

mod replicas;
mod starts;
mod watch;

use crate::clock::{Clock, wall_clock_ms};
use crate::config::Settings;
use crate::engine::{AdminAnswer, ClusterView};
use crate::fatal::Fatal;
use crate::files::{FileJob, FileQueue, Opened};
use crate::folder::Notes;
use crate::ids;
use crate::journal::JournalQueue;
use crate::metrics::Metrics;
use crate::peers::Outbound;
use crate::queue::Queue;
use crate::server::address_of;
use crate::shards::Mailboxes;
use crate::starts::StartStore;
use crate::threads;
use crate::workers::Workers;
use bytes::{Bytes, BytesMut};
use replicas::Replicas;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch as channel};
use trimaran_multiraft::{
    Acks, Contradiction, Heartbeat, InSync, Input, IntervalPlan, LeaderChange, Lost, Members, Ticket,
};
use trimaran_raft::{GroupId, Instant, LogIndex, NodeId};
use trimaran_registry::agent::{self, AdminError, AdminReply, AdminRequest, AgentConfig, Effect, Registration};
use trimaran_registry::catalog::{Broker, Layout, NewTopic};
use trimaran_registry::founding::Decision;
use trimaran_registry::starts::Announcement;
use trimaran_registry::{Agent, BrokerId, CatalogError, CommandIndex, FolderId, Founders, Incarnation, Standing};
use trimaran_storage::journal::RecoveredGroup;
use trimaran_wire::peer as wire;
use watch::Watch;

/// The way to the control thread.
pub(crate) type ControlQueue = Queue<ControlInput>;

/// The group that replicates the catalog.
pub(crate) const METADATA: GroupId = GroupId(trimaran_registry::METADATA_GROUP.0);

/// Between two looks for records whose retention has ended.
const RETAIN_EVERY: Duration = Duration::from_secs(30);

/// Between two looks at how far replicas are that are being filled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two lines in the log that say for whom a start waits.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// An input of the control thread.
pub(crate) enum ControlInput {
    /// A committed payload of the metadata group.
    Committed(GroupId, LogIndex, Bytes),
    /// Replicas here see other leaders.
    Leaders(Vec<LeaderChange>),
    /// Leaders here see other replicas in sync.
    InSync(Vec<InSync>),
    /// A peer lives.
    Heartbeat(NodeId, Heartbeat),
    /// A peer has connected to this broker.
    Arrived(NodeId),
    /// A broker that is no founder has said hello, and where it is reached.
    Newcomer(NodeId, String),
    /// A broker whose frames come through a third one has announced a start that is not noted.
    Announced(BrokerId, Announcement),
    /// A frame for another broker, from one that is out of contact with it.
    PassOn(wire::Relayed),
    /// A peer's connection closed, and its machine refuses a new one.
    Refused(NodeId),
    /// A peer takes nothing from this process any more.
    Disowned(NodeId, wire::Refused),
    /// A peer's agent has something to say.
    Agent(NodeId, Bytes),
    /// Someone asks for something to be administered.
    Request(oneshot::Sender<AdminAnswer>, Duration, AdminRequest),
    /// Someone asks for a failover: every replica is to be told.
    FailOver {
        /// The group.
        group: GroupId,
        /// The leader that is said to have failed.
        failed: Option<NodeId>,
    },
    /// A replica's log was opened, and its shard has it; or it can't be.
    Opened(GroupId, Opened),
    /// The folder of a replica that was closed is gone.
    Deleted(GroupId),
    /// A replica here has turned out to be damaged.
    Lost(Lost),
    /// A leader contradicts what a replica here holds: an operator must know of which topic.
    Contradiction(Contradiction),
    /// Members of groups led here.
    Members(Vec<Members>),
    /// This broker is leaving: it is not ready any longer.
    Leaving,
}

/// Everything that the control thread needs.
pub(crate) struct ControlParts {
    /// The configuration.
    pub(crate) settings: Arc<Settings>,
    /// Intervals that follow from the failover budget.
    pub(crate) plan: IntervalPlan,
    /// The clock that all threads share.
    pub(crate) clock: Clock,
    /// This broker as it wants to be registered.
    pub(crate) broker: trimaran_registry::catalog::Broker,
    /// The cluster's founders, the first one preferred as controller.
    pub(crate) voters: Vec<NodeId>,
    /// Random bits.
    pub(crate) seed: u64,
    /// The data folder's name.
    pub(crate) folder: FolderId,
    /// The folders that it was founded with, as noted there.
    pub(crate) founded_with: Option<Vec<(BrokerId, FolderId)>>,
    /// Whether it has been part of the metadata group.
    pub(crate) is_member: bool,
    /// The founders that it has noted.
    pub(crate) noted_founders: Option<Founders>,
    /// Where that is noted.
    pub(crate) notes: Notes,
    /// The starts of all brokers that were seen.
    pub(crate) starts: StartStore,
    /// The state of each group that the journal held.
    pub(crate) recovered: BTreeMap<GroupId, RecoveredGroup>,
    /// Where its work comes from.
    pub(crate) queue: Arc<ControlQueue>,
    /// The shards.
    pub(crate) mailboxes: Mailboxes,
    /// The I/O threads.
    pub(crate) files: Arc<FileQueue>,
    /// Asked how long its writes take.
    pub(crate) journal: Arc<JournalQueue>,
    /// Asked whether a thread stalls.
    pub(crate) workers: Arc<Workers>,
    /// The other brokers.
    pub(crate) outbound: Outbound,
    /// Where views are published.
    pub(crate) view: channel::Sender<Arc<ClusterView>>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Told what this broker can't survive.
    pub(crate) fatal: Arc<Fatal>,
}

/// Starts the control thread. It ends when its queue is closed.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn spawn(parts: ControlParts) -> std::io::Result<JoinHandle<()>> {
    let fatal = Arc::clone(&parts.fatal);
    threads::spawn("control", &fatal, move || Control::new(parts).run())
}

struct Control {
    parts: ControlParts,
    agent: Agent,
    watch: Watch,
    replicas: Replicas,
    waiting: HashMap<agent::Ticket, Asker>,
    next_ticket: u64,
    effects: Vec<Effect>,
    replies: Vec<(agent::Ticket, AdminAnswer)>,
    retain_at: Instant,
    look_at: Instant,
    /// When to say next for whom the founding waits.
    say_at: Instant,
    leaving: bool,
    /// All replicas that the catalog had when this broker came back have been opened.
    opened_all: bool,
    published: Published,
    /// Starts of other brokers that the catalog has told of.
    seen: BTreeMap<BrokerId, Incarnation>,
}

/// A caller that waits for the agent's answer.
struct Asker {
    answer: oneshot::Sender<AdminAnswer>,
    /// The topic of that name is wanted, no matter which request creates it.
    ensures: Option<String>,
}

/// The versions of what was last published.
#[derive(Default, PartialEq)]
struct Published {
    catalog: CommandIndex,
    leaders: u64,
    controller: Option<BrokerId>,
    unreachable: BTreeSet<BrokerId>,
    refusing: BTreeSet<BrokerId>,
    ready: bool,
}

impl Control {
    fn new(mut parts: ControlParts) -> Control {
        let now = parts.clock.now();
        let agent = Agent::new(agent_config(&parts), ids::registry_instant(now));
        let recovered = std::mem::take(&mut parts.recovered);
        Control {
            watch: Watch::new(&parts, now),
            replicas: Replicas::new(recovered),
            agent,
            waiting: HashMap::new(),
            next_ticket: 0,
            effects: Vec::new(),
            replies: Vec::new(),
            retain_at: now + RETAIN_EVERY,
            look_at: now + LOOK_EVERY,
            say_at: now + SAY_EVERY,
            leaving: false,
            opened_all: false,
            published: Published::default(),
            seen: BTreeMap::new(),
            parts,
        }
    }

    fn run(mut self) {
        let mut inputs = Vec::new();
        let queue = Arc::clone(&self.parts.queue);
        let activity = Arc::clone(&self.parts.workers.control);
        loop {
            activity.end();
            let deadline = self.deadline();
            if queue.take(&mut inputs, Some(self.parts.clock.std(deadline))).is_err() {
                return;
            }
            activity.begin();
            let now = self.parts.clock.now();
            if inputs.is_empty() {
                self.watch.woke(now, deadline);
            }
            for input in inputs.drain(..) {
                self.handle(now, input);
            }
            self.tick(now);
            self.run_effects();
            self.publish();
            self.send_replies();
        }
    }

    fn deadline(&self) -> Instant {
        let agent = Instant(self.agent.deadline().0);
        self.watch.deadline().min(agent).min(self.retain_at).min(self.look_at)
    }

    fn handle(&mut self, now: Instant, input: ControlInput) {
        match input {
            ControlInput::Committed(group, index, payload) => self.committed(now, group, index, &payload),
            ControlInput::Leaders(changes) => {
                for change in changes {
                    self.led(now, change);
                }
            }
            ControlInput::InSync(reports) => {
                for report in reports {
                    self.in_sync(now, report);
                }
            }
            ControlInput::Heartbeat(from, heartbeat) => self.watch.received(now, from, heartbeat),
            ControlInput::Arrived(from) => self.parts.outbound.wake(from),
            ControlInput::Newcomer(node, address) => {
                self.parts.outbound.set_peer(node, &address);
                self.watch.add(now, node);
            }
            ControlInput::Announced(broker, announced) => {
                let job = FileJob::JudgeStart(self.parts.starts.clone(), broker, announced);
                self.parts.files.push(job);
            }
            ControlInput::PassOn(relayed) => {
                if let Ok(to) = u64::try_from(relayed.to.0) {
                    self.parts
                        .outbound
                        .send_direct(NodeId(to), &wire::Frame::Relayed(relayed));
                }
            }
            ControlInput::Refused(peer) => self.watch.refused(now, peer),
            ControlInput::Disowned(by, refused) => starts::disowned(&mut self.parts, by, &refused),
            ControlInput::Agent(from, message) => {
                let from = ids::broker(from);
                self.tell_agent(
                    now,
                    agent::Input::Peer {
                        from,
                        message: &message,
                    },
                );
            }
            ControlInput::Request(asker, timeout, request) => self.request(now, asker, timeout, request),
            ControlInput::FailOver { group, failed } => self.fail_over(group, failed),
            ControlInput::Opened(group, outcome) => self.replicas.opened(&self.parts, now, group, outcome),
            ControlInput::Deleted(group) => self.replicas.deleted(&self.parts, group),
            ControlInput::Contradiction(contradiction) => replicas::say_contradiction(&self.agent, &contradiction),
            ControlInput::Lost(lost) => self.replicas.reopen(&self.parts, &lost),
            ControlInput::Members(reports) => {
                for report in reports {
                    self.members(now, &report);
                }
            }
            ControlInput::Leaving => self.leaving = true,
        }
    }

    /// A payload of the metadata group is a record batch with one command a record.
    fn committed(&mut self, now: Instant, group: GroupId, index: LogIndex, payload: &Bytes) {
        debug_assert_eq!(group, METADATA);
        let commands = match trimaran_wire::batch::values(payload) {
            Ok(commands) => commands,
            Err(error) => {
                self.parts.fatal.fail(format!(
                    "entry {index} of the metadata group is not a record batch ({error}): this broker's catalog would \
                     differ from the others'"
                ));
                return;
            }
        };
        self.note_membership();
        for command in commands.into_iter().flatten() {
            let index = CommandIndex(index.0);
            self.tell_agent(
                now,
                agent::Input::Applied {
                    index,
                    command: &command,
                },
            );
        }
    }

    /// This broker has its part in the metadata group: should its journal be lost, it must not take itself for a new
    /// one.
    fn note_membership(&mut self) {
        if let Err(error) = self.parts.notes.is_member() {
            self.parts.fatal.fail(format!(
                "can't note in {} that this broker is part of the cluster: {error}",
                self.parts.settings.broker.data.display()
            ));
        }
    }

    fn led(&mut self, now: Instant, change: LeaderChange) {
        self.replicas.led(&self.parts, now, &change);
        let input = agent::Input::Led {
            group: ids::catalog_group(change.group),
            term: ids::registry_term(change.term),
            leader: change.leader.map(ids::broker),
            serving: change.serving,
        };
        self.tell_agent(now, input);
    }

    fn in_sync(&mut self, now: Instant, report: InSync) {
        self.replicas.in_sync(&self.parts, &report);
        let replicas: Vec<BrokerId> = report.replicas.iter().copied().map(ids::broker).collect();
        let input = agent::Input::InSync {
            group: ids::catalog_group(report.group),
            term: ids::registry_term(report.term),
            replicas: &replicas,
        };
        self.tell_agent(now, input);
    }

    fn members(&mut self, now: Instant, report: &Members) {
        self.replicas.members(&self.parts, report);
        let Some(version) = report.fulfils else { return };
        let brokers = |nodes: &[NodeId]| nodes.iter().copied().map(ids::broker).collect::<Vec<_>>();
        let input = agent::Input::Members {
            group: ids::catalog_group(report.group),
            since: CommandIndex(version),
            voters: &brokers(&report.voters),
            learners: &brokers(&report.learners),
        };
        self.tell_agent(now, input);
    }

    fn request(
        &mut self,
        now: Instant,
        answer: oneshot::Sender<AdminAnswer>,
        timeout: Duration,
        request: AdminRequest,
    ) {
        let ticket = agent::Ticket(self.next_ticket);
        self.next_ticket += 1;
        let (request, ensures) = self.with_topic_defaults(request);
        self.waiting.insert(ticket, Asker { answer, ensures });
        self.tell_agent(
            now,
            agent::Input::Request {
                ticket,
                timeout,
                request,
            },
        );
    }

    /// The configured defaults become settings of every topic that is created: facts in the metadata log, on which
    /// brokers can't differ later. Says which topic is only to be ensured, if its creation now stands for that.
    fn with_topic_defaults(&self, request: AdminRequest) -> (AdminRequest, Option<String>) {
        let defaults = &self.parts.settings.cluster.topic_defaults;
        match request {
            AdminRequest::CreateTopic {
                mut topic,
                validate_only,
            } => {
                for (key, value) in defaults {
                    topic.config.entry(key.clone()).or_insert_with(|| value.clone());
                }
                (AdminRequest::CreateTopic { topic, validate_only }, None)
            }
            AdminRequest::EnsureTopic { name }
                if !defaults.is_empty() && self.agent.catalog().topic(&name).is_none() =>
            {
                let topic = NewTopic {
                    name: name.clone(),
                    layout: Layout::Spread {
                        partitions: -1,
                        replication_factor: -1,
                    },
                    config: defaults.clone(),
                };
                let validate_only = false;
                (AdminRequest::CreateTopic { topic, validate_only }, Some(name))
            }
            other => (other, None),
        }
    }

    /// After publishing: a caller that has its answer finds it in the view.
    fn send_replies(&mut self) {
        for (ticket, answer) in std::mem::take(&mut self.replies) {
            self.reply(ticket, answer);
        }
    }

    fn reply(&mut self, ticket: agent::Ticket, answer: AdminAnswer) {
        let Some(asker) = self.waiting.remove(&ticket) else {
            return;
        };
        let answer = match (answer, asker.ensures) {
            (Err(AdminError::Refused(CatalogError::TopicExists)), Some(name)) => {
                let topic = self.agent.catalog().topic(&name);
                topic.map_or(Err(AdminError::TimedOut), |topic| {
                    Ok(AdminReply::Topic(Arc::clone(topic)))
                })
            }
            (answer, _) => answer,
        };
        // The caller may have gone away; its request is carried out all the same.
        let _ = asker.answer.send(answer);
    }

    fn fail_over(&mut self, group: GroupId, failed: Option<NodeId>) {
        let replicas: Vec<NodeId> = if group == METADATA {
            self.parts.voters.clone()
        } else {
            let partition = self.agent.catalog().partition_of(ids::catalog_group(group));
            let found = partition.and_then(|(topic, at)| topic.partitions.get(usize::try_from(at.0).ok()?));
            found.map_or_else(Vec::new, |found| found.assigned().into_iter().map(ids::node).collect())
        };
        let own = ids::node(self.parts.broker.id);
        for replica in replicas {
            if replica == own {
                self.parts.mailboxes.of(group).tell(Input::Failover { group, failed });
            } else {
                let request = wire::FailOver {
                    group: wire::GroupId(group.0),
                    failed: failed.map(|node| wire::BrokerId(ids::broker(node).0)),
                };
                self.parts.outbound.send(replica, &wire::Frame::FailOver(request));
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.watch.tick(&self.parts, now);
        while let Some(news) = self.watch.news() {
            let input = match news {
                watch::News::Restored(node) => agent::Input::Restored(ids::broker(node)),
                watch::News::Down(node) => agent::Input::Down(ids::broker(node)),
            };
            self.tell_agent(now, input);
        }
        if now >= Instant(self.agent.deadline().0) {
            self.tell_agent(now, agent::Input::Tick);
        }
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.replicas.look(&self.parts, now);
            self.say_who_is_silent(now);
        }
        if now >= self.retain_at {
            self.retain_at = now + RETAIN_EVERY;
            let now_ms = wall_clock_ms();
            self.parts.mailboxes.tell_all(|| Input::Retain { now_ms });
        }
    }

    fn tell_agent(&mut self, now: Instant, input: agent::Input<'_>) {
        self.agent.step(ids::registry_instant(now), input, &mut self.effects);
    }

    fn run_effects(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.run_effect(effect);
        }
        self.effects = effects;
        self.check_registration();
    }

    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Propose(command) => self.propose(&command),
            Effect::Send(to, message) => {
                let frame = wire::Frame::Control(Bytes::from(message));
                self.parts.outbound.send(ids::node(to), &frame);
            }
            Effect::OpenMetadata(decision) => self.open_metadata(&decision),
            Effect::Open(replica) => self.replicas.open(&self.parts, &replica),
            Effect::Replicas { group, replicas, since } => {
                let wanted = replicas.iter().copied().map(ids::node).collect();
                self.replicas.want(&self.parts, ids::group(group), wanted, since.0);
            }
            Effect::Newcomers(brokers) => self.newcomers(&brokers),
            Effect::Configure { group, config } => self.replicas.configure(&self.parts, ids::group(group), &config),
            Effect::Close(group) => self.replicas.close(&self.parts, ids::group(group)),
            Effect::Reply(ticket, answer) => self.replies.push((ticket, answer)),
            Effect::Rejected { from, error } => {
                self.parts.metrics.bad_frames.inc();
                tracing::warn!(
                    broker = %from, %error,
                    "a message of this broker can't be used: do both run the same version?"
                );
            }
            Effect::Unreadable { index, error } => self.parts.fatal.fail(format!(
                "command {index} of the metadata group can't be read ({error}): it was written by a later version; \
                 update this broker"
            )),
        }
    }

    fn open_metadata(&mut self, decision: &Decision) {
        let founders = Founders::new(self.parts.voters.iter().copied().map(ids::broker));
        let with = match decision {
            Decision::Found(with) => Some(with.as_slice()),
            Decision::Resume | Decision::Join => None,
        };
        if let Err(error) = self.parts.notes.founders(&founders, with) {
            return self.parts.fatal.fail(format!(
                "can't note in {} who founded the cluster: {error}",
                self.parts.settings.broker.data.display()
            ));
        }
        match decision {
            Decision::Resume => {}
            Decision::Found(with) => tracing::info!(
                with = with.len(),
                "founds the cluster: none of its brokers holds anything yet"
            ),
            Decision::Join if self.parts.is_member => tracing::error!(
                "the journal holds nothing of the cluster's metadata, and this folder was part of it: what it held is \
                 lost, and the other brokers fill it again"
            ),
            Decision::Join if self.parts.settings.is_newcomer() => {
                tracing::info!("joins the cluster: its metadata comes from the founders");
            }
            Decision::Join => tracing::warn!(
                "the data folder is empty, but the cluster is not new: this broker is refilled by the others"
            ),
        }
        let standing = match decision {
            Decision::Join => Standing::Joining,
            Decision::Resume | Decision::Found(_) => Standing::Founding,
        };
        self.replicas.open_metadata(&self.parts, standing);
    }

    /// Brokers that are no founders: they are reached where they are registered, and hold the metadata group's log.
    fn newcomers(&mut self, brokers: &[Arc<Broker>]) {
        let now = self.parts.clock.now();
        for broker in brokers.iter().filter(|broker| broker.id != self.parts.broker.id) {
            let node = ids::node(broker.id);
            self.parts.outbound.set_peer(node, &address_of(&broker.peer));
            self.watch.add(now, node);
        }
        let learners = brokers.iter().map(|broker| ids::node(broker.id)).collect();
        self.replicas.want_learners(&self.parts, learners);
    }

    fn say_who_is_silent(&mut self, now: Instant) {
        if now < self.say_at {
            return;
        }
        self.say_at = now + SAY_EVERY;
        let silent = self.agent.founding_waits_for();
        if !silent.is_empty() {
            let silent: Vec<String> = silent.into_iter().map(ids::broker_name).collect();
            tracing::warn!(
                waits_for = silent.join(", "),
                "the data folder holds nothing of the cluster's metadata: whether the cluster is new, or this broker \
                 has lost its disk, only the others can tell, and all of them must"
            );
        }
    }

    /// The metadata group's payloads are record batches, like all others'.
    fn propose(&self, command: &[u8]) {
        let batch: BytesMut = trimaran_wire::batch::build(wall_clock_ms(), &[(None, Some(command))]);
        self.parts.mailboxes.of(METADATA).tell(Input::Append {
            group: METADATA,
            batch,
            acks: Acks::All,
            // Nobody waits: the agent sees the command committed, or tries again.
            ticket: Ticket(u64::MAX),
        });
    }

    fn check_registration(&mut self) {
        match self.agent.registration() {
            Registration::Pending | Registration::Registered => {}
            Registration::OtherFounders { noted } => {
                let configured = Founders::new(self.parts.voters.iter().copied().map(ids::broker));
                self.parts.fatal.fail(format!(
                    "`cluster.voters` names the brokers {configured}, but the cluster in {} was founded by {noted}: \
                     the list says who founded the cluster, and never changes. Name those again; a broker that is to \
                     be added is started without being listed. See \"Growing a cluster\" in docs/operations.md",
                    self.parts.settings.broker.data.display()
                ));
            }
            Registration::Superseded => {
                if let Some(start) = self.agent.catalog().start(self.parts.broker.id) {
                    starts::superseded(&mut self.parts, "the catalog", start);
                }
            }
            Registration::WrongCluster => self.parts.fatal.fail(format!(
                "the other brokers belong to another cluster than `{}`: correct `cluster.id`, or the addresses in \
                 `cluster.voters`",
                self.parts.settings.cluster.id
            )),
        }
    }

    fn publish(&mut self) {
        let controller = self.agent.controller();
        let registered = self.agent.registration() == Registration::Registered;
        // Once, at start: a topic that is created later makes nobody wait but its own clients.
        self.opened_all |= registered && self.replicas.all_open();
        let versions = Published {
            catalog: self.agent.catalog().applied(),
            leaders: self.agent.leaders().version(),
            controller,
            unreachable: self.watch.unreachable(),
            refusing: self.watch.refusing(),
            ready: self.opened_all && registered && controller.is_some() && !self.leaving,
        };
        if versions == self.published {
            return;
        }
        if versions.ready && !self.published.ready {
            tracing::info!(replicas = self.replicas.count(), "ready");
        }
        let view = ClusterView {
            catalog: self.agent.catalog().clone(),
            leaders: self.agent.leaders().clone(),
            controller,
            unreachable: versions.unreachable.clone(),
            refusing: versions.refusing.clone(),
            ready: versions.ready,
        };
        if versions.catalog != self.published.catalog {
            starts::note_registered(&self.parts, self.agent.catalog(), &mut self.seen);
        }
        self.published = versions;
        self.parts.view.send_replace(Arc::new(view));
    }
}

fn agent_config(parts: &ControlParts) -> AgentConfig {
    let cluster = &parts.settings.cluster;
    AgentConfig {
        broker: parts.broker.clone(),
        folder: parts.folder,
        founded_with: parts.founded_with.clone(),
        is_member: parts.is_member,
        noted_founders: parts.noted_founders.clone(),
        cluster_id: cluster.id.clone(),
        metadata_replicas: parts.voters.iter().copied().map(ids::broker).collect(),
        seed: parts.seed,
        default_partitions: i32::try_from(cluster.default_partitions).unwrap_or(i32::MAX),
        default_replication_factor: cluster.default_replication.map(i32::from),
        retry_after: parts.plan.budget,
        digest_every: Duration::from_secs(1),
        known_groups: parts.recovered.keys().copied().map(ids::catalog_group).collect(),
    }
}
