//! The control thread: the host of [`trimaran_node::Node`]. It hands in what happens, and does what comes out.

mod notices;
mod starts;

use crate::clock::{Clock, wall_clock_ms};
use crate::config::Settings;
use crate::engine::AdminAnswer;
use crate::fatal::Fatal;
use crate::files::{FileJob, FileQueue};
use crate::folder::Notes;
use crate::ids;
use crate::journal::JournalQueue;
use crate::metrics::Metrics;
use crate::peers::{Outbound, heartbeat_to_wire};
use crate::queue::Queue;
use crate::server::address_of;
use crate::shards::Mailboxes;
use crate::starts::StartStore;
use crate::threads;
use crate::workers::Workers;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch as channel};
use trimaran_multiraft::{Acks, Completion, Input as ShardInput, IntervalPlan, Ticket};
use trimaran_node::{ClusterView, Config, Health, Input, METADATA, Node, Now, Output, Report};
use trimaran_node::{ReplicaOptions, RetryPauses};
use trimaran_raft::{GroupId, NodeId};
use trimaran_registry::agent::{self, AdminRequest, AgentConfig};
use trimaran_registry::starts::Announcement;
use trimaran_registry::{BrokerId, FolderId, Founders};
use trimaran_storage::journal::RecoveredGroup;
use trimaran_wire::peer as wire;

/// The way to the control thread.
pub(crate) type ControlQueue = Queue<ControlInput>;

/// Between two looks for records whose retention has ended.
const RETAIN_EVERY: Duration = Duration::from_secs(30);

/// An input of the control thread.
pub(crate) enum ControlInput {
    /// For the node.
    Node(Input),
    /// What a shard's step has reported.
    Reports(Vec<Report>),
    /// A peer has connected to this broker.
    Arrived(NodeId),
    /// A broker that is no founder has said hello, and where it is reached.
    Newcomer(NodeId, String),
    /// A broker whose frames come through a third one has announced a start that is not noted.
    Announced(BrokerId, Announcement),
    /// A frame for another broker, from one that is out of contact with it.
    PassOn(wire::Relayed),
    /// A peer takes nothing from this process any more.
    Disowned(NodeId, wire::Refused),
    /// Someone asks for something to be administered.
    Request(oneshot::Sender<AdminAnswer>, Duration, AdminRequest),
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
    node: Node,
    outputs: Vec<Output>,
    /// Callers that wait for an answer.
    waiting: HashMap<agent::Ticket, oneshot::Sender<AdminAnswer>>,
    next_ticket: u64,
    /// Shards that were asked for the status of a replica.
    asked: Vec<(GroupId, oneshot::Receiver<Completion>)>,
}

impl Control {
    fn new(mut parts: ControlParts) -> Control {
        let config = config(&mut parts);
        Control {
            node: Node::new(config, parts.clock.now()),
            outputs: Vec::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
            asked: Vec::new(),
            parts,
        }
    }

    fn run(mut self) {
        let mut inputs = Vec::new();
        let queue = Arc::clone(&self.parts.queue);
        let activity = Arc::clone(&self.parts.workers.control);
        loop {
            activity.end();
            let deadline = self.node.deadline();
            if queue.take(&mut inputs, Some(self.parts.clock.std(deadline))).is_err() {
                return;
            }
            activity.begin();
            let now = self.now();
            if inputs.is_empty() {
                self.node.detector_mut().woke_late(now.at, now.at.since(deadline));
            }
            for input in inputs.drain(..) {
                self.handle(now, input);
            }
            self.take_statuses(now);
            self.node.tick(now, self.health(), &mut self.outputs);
            self.node.publish(&mut self.outputs);
            self.do_outputs();
            self.set_gauges();
        }
    }

    fn now(&self) -> Now {
        Now {
            at: self.parts.clock.now(),
            wall_ms: wall_clock_ms(),
        }
    }

    /// A write that has not come back has taken so long already.
    fn health(&self) -> Health {
        let journal = &self.parts.journal;
        let write = journal
            .take_worst_write()
            .unwrap_or_default()
            .max(journal.stalled_for());
        Health {
            stalled: self.parts.workers.withhold_heartbeats(),
            write: (!write.is_zero()).then_some(write),
        }
    }

    fn handle(&mut self, now: Now, input: ControlInput) {
        match input {
            ControlInput::Node(input) => self.node.handle(now, input, &mut self.outputs),
            ControlInput::Reports(reports) => {
                for report in reports {
                    self.node.handle(now, Input::Report(report), &mut self.outputs);
                }
            }
            ControlInput::Arrived(from) => self.parts.outbound.wake(from),
            ControlInput::Newcomer(node, address) => {
                self.parts.outbound.set_peer(node, &address);
                self.node.handle(now, Input::Newcomer(node), &mut self.outputs);
            }
            ControlInput::Announced(broker, announced) => {
                let job = FileJob::JudgeStart(self.parts.starts.clone(), broker, announced);
                self.parts.files.push(job);
            }
            ControlInput::PassOn(relayed) => {
                if let Ok(to) = u64::try_from(relayed.to.0) {
                    let frame = wire::Frame::Relayed(relayed);
                    self.parts.outbound.send_direct(NodeId(to), &frame);
                }
            }
            ControlInput::Disowned(by, refused) => starts::disowned(&mut self.parts, by, &refused),
            ControlInput::Request(asker, timeout, request) => {
                let ticket = agent::Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.waiting.insert(ticket, asker);
                let input = Input::Request(ticket, timeout, request);
                self.node.handle(now, input, &mut self.outputs);
            }
        }
    }

    fn do_outputs(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            if !self.do_output(output) {
                return;
            }
        }
    }

    /// Whether the outputs that follow may be done.
    fn do_output(&mut self, output: Output) -> bool {
        let parts = &mut self.parts;
        match output {
            Output::Shard(group, input) => parts.mailboxes.of(group).tell(input),
            Output::AllShards(broadcast) => parts.mailboxes.tell_all(|| broadcast.to_shard()),
            Output::Propose(batch) => parts.mailboxes.of(METADATA).tell(ShardInput::Append {
                group: METADATA,
                batch,
                acks: Acks::All,
                // Nobody waits: the agent sees the command committed, or tries again.
                ticket: Ticket(u64::MAX),
            }),
            Output::Open(job) => parts.files.push(FileJob::Open(job)),
            Output::AskStatus(group) => self.ask_status(group),
            Output::DeleteQuarantine(group) => parts.files.push(FileJob::DeleteQuarantine(group)),
            Output::Send(to, frame) => parts.outbound.send(to, &frame),
            Output::Heartbeat(to, heartbeat) => {
                let frame = wire::Frame::Heartbeat(heartbeat_to_wire(heartbeat));
                parts.outbound.send_urgent(to, &frame);
            }
            Output::Routes(routes) => parts.outbound.set_routes(routes),
            Output::Newcomers(brokers) => {
                for broker in brokers.iter().filter(|broker| broker.id != parts.broker.id) {
                    parts.outbound.set_peer(ids::node(broker.id), &address_of(&broker.peer));
                }
            }
            Output::NoteFounders(founders, with) => {
                if let Err(error) = parts.notes.founders(&founders, with.as_deref()) {
                    parts.fatal.fail(format!(
                        "can't note in {} who founded the cluster: {error}",
                        parts.settings.broker.data.display()
                    ));
                    return false;
                }
            }
            Output::NoteMembership => {
                if let Err(error) = parts.notes.is_member() {
                    parts.fatal.fail(format!(
                        "can't note in {} that this broker is part of the cluster: {error}",
                        parts.settings.broker.data.display()
                    ));
                    return false;
                }
            }
            Output::NoteStart(broker, start) => {
                parts
                    .files
                    .push(FileJob::NoteStart(parts.starts.clone(), broker, start));
            }
            Output::Publish(view) => {
                parts.view.send_replace(Arc::from(view));
            }
            Output::Reply(ticket, answer) => {
                // The caller may have gone away; its request is carried out all the same.
                if let Some(asker) = self.waiting.remove(&ticket) {
                    let _ = asker.send(answer);
                }
            }
            Output::Notice(notice) => notices::note(parts, notice),
            Output::Fatal(fatal) => notices::fail(parts, fatal),
        }
        true
    }

    /// The shard may be too busy to be asked.
    fn ask_status(&mut self, group: GroupId) {
        let mailbox = self.parts.mailboxes.of(group);
        if let Some((ticket, answer)) = mailbox.tickets.issue() {
            mailbox.tell(ShardInput::Status(ticket, group));
            self.asked.push((group, answer));
        } else {
            let (_, never) = oneshot::channel();
            self.asked.push((group, never));
        }
    }

    fn take_statuses(&mut self, now: Now) {
        for (group, mut answer) in std::mem::take(&mut self.asked) {
            let status = match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => {
                    self.asked.push((group, answer));
                    continue;
                }
                Ok(Completion::Status(status)) => status,
                _ => None,
            };
            self.node.handle(now, Input::Status(group, status), &mut self.outputs);
        }
    }

    fn set_gauges(&self) {
        let metrics = &self.parts.metrics;
        let counts = self.node.control().replicas().counts();
        metrics.replicas.set(counts.replicas as i64);
        metrics.repairing.set(counts.repairing as i64);
        metrics.leaderships.set(counts.leaderships as i64);
        metrics.under_replicated.set(counts.under_replicated as i64);
        metrics.learners.set(counts.learners as i64);
        let detector = self.node.detector();
        metrics.brokers_alive.set(detector.alive() as i64);
        metrics.budget_unsafe.set(i64::from(detector.is_unsafe()));
    }
}

fn config(parts: &mut ControlParts) -> Config {
    let cluster = &parts.settings.cluster;
    Config {
        agent: AgentConfig {
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
            known_groups: Default::default(),
        },
        plan: parts.plan,
        recovered: std::mem::take(&mut parts.recovered),
        replicas: ReplicaOptions {
            tail_bytes: parts.settings.limits.tail_bytes,
            max_segment_bytes: u64::MAX,
            max_segment_ms: u64::MAX,
            retains: true,
            delivered_topic: None,
            retry: RetryPauses::USUAL,
        },
        topic_defaults: cluster.topic_defaults.clone(),
        retain_every: RETAIN_EVERY,
    }
}
