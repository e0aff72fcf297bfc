//! A cluster in one thread: a shard, a journal on a faulty file system and a liveness monitor a node, a network that
//! takes a millisecond, a disk that takes one too, and virtual time.

use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trimaran_multiraft::{
    Acks, AppendError, Appended, Completion, Contradiction, Damaged, GroupOptions, GroupStatus, Heartbeat, InSync,
    Input, IntervalPlan, LeaderChange, LivenessEvent, LivenessMonitor, Load, Lost, Members, OffsetLookup, OffsetQuery,
    Open, Outbox, QuorumLost, ReadError, ReadRequest, ReadResult, RefusedEntries, Shard, ShardConfig, Ticket,
    TransferOutcome,
};
use trimaran_raft::{Body, GroupId, HardState, Instant, Life, LogIndex, Message, NodeId};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalOptions, RecoveredGroup};
use trimaran_storage::log::{Chunk, FlushJob, LogError, LogOptions, ReplicaLog, Retention};
use trimaran_wire::batch::{self, Offset, ProducerStamp};

/// The failover budget of every broker here.
pub(crate) const BUDGET: Duration = Duration::from_millis(250);

/// The group of most tests.
pub(crate) const G: GroupId = GroupId(1);
/// How long a message flies, and a write takes.
const DELAY: Duration = Duration::from_millis(1);
/// Nothing in these tests takes longer.
const PATIENCE_MS: u64 = 5_000;

/// What flies between nodes.
enum Flight {
    Messages(Vec<(GroupId, Message)>),
    Heartbeat(Heartbeat),
}

/// A node that is up.
pub(crate) struct Running {
    pub(crate) shard: Shard,
    pub(crate) monitor: LivenessMonitor,
    pub(crate) inputs: Vec<Input>,
    journal: Journal,
    /// Batches on their way to the disk, each with its sequence and when it is there.
    writing: VecDeque<(Instant, u64, JournalBatch)>,
    flushing: VecDeque<(Instant, FlushJob)>,
    loading: VecDeque<(Instant, Load)>,
    out: Outbox,
}

/// A node, up or down.
pub(crate) struct Node {
    pub(crate) fs: FaultyFs,
    pub(crate) running: Option<Running>,
    pub(crate) paused: bool,
    /// The disk takes no writes to its end.
    pub(crate) stuck: bool,
    /// And yet it sends heartbeats.
    pub(crate) keeps_up_appearances: bool,
    /// Unless they are for segments.
    pub(crate) segments_work: bool,
    starts: u64,
    /// Groups of which this node once had a replica: if nothing is left of it, it is lost.
    had: BTreeSet<GroupId>,
}

/// How groups are opened, and shards configured.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) voters: Vec<u64>,
    pub(crate) min_insync: usize,
    pub(crate) deliver: bool,
    pub(crate) flush_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) tail_bytes: u64,
    pub(crate) replica_lag: Duration,
    pub(crate) retention: Retention,
    pub(crate) max_uncommitted_bytes: u64,
    pub(crate) leader_rebalance_after: Option<Duration>,
    pub(crate) catch_up_bytes_per_second: Option<u64>,
    pub(crate) failure_pause: Duration,
    /// Nodes that belong to no group at first.
    pub(crate) spares: Vec<u64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            voters: vec![1, 2, 3],
            min_insync: 1,
            deliver: false,
            flush_bytes: 1 << 20,
            segment_bytes: 1 << 20,
            tail_bytes: 1 << 20,
            replica_lag: Duration::from_millis(500),
            retention: Retention::default(),
            max_uncommitted_bytes: 1 << 20,
            leader_rebalance_after: Some(Duration::from_secs(5)),
            catch_up_bytes_per_second: None,
            failure_pause: Duration::from_secs(5),
            spares: Vec::new(),
        }
    }
}

impl Settings {
    fn nodes(&self) -> Vec<u64> {
        self.voters.iter().chain(&self.spares).copied().collect()
    }

    pub(crate) fn options(&self) -> GroupOptions {
        GroupOptions {
            min_insync_replicas: self.min_insync,
            retention: self.retention.clone(),
            deliver: self.deliver,
        }
    }

    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            segment_ms: u64::MAX,
            tail_bytes: self.tail_bytes,
        }
    }
}

/// Nodes 1 to n.
pub(crate) struct Cluster {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<u64, Node>,
    settings: Settings,
    /// Groups, and which nodes have them.
    groups: BTreeMap<GroupId, Settings>,
    /// The nodes that are to have a replica, where that is not the founders.
    wanted: BTreeMap<GroupId, Vec<u64>>,
    /// How often that was said.
    pub(crate) wishes: u64,
    flying: Vec<(Instant, u64, u64, Flight)>,
    cut: BTreeSet<(u64, u64)>,
    next_ticket: u64,
    /// In the order in which they came.
    pub(crate) answers: Vec<(Ticket, Completion)>,
    pub(crate) leaders: Vec<(u64, LeaderChange)>,
    pub(crate) in_sync: Vec<InSync>,
    pub(crate) committed: Vec<(u64, GroupId, LogIndex, Vec<u8>)>,
    pub(crate) members: Vec<Members>,
    /// Replicas that were to be opened as lost, and whose folders can't be written.
    pub(crate) unopened: BTreeSet<(u64, GroupId)>,
    /// Replicas that were found damaged while they ran.
    pub(crate) lost: Vec<(u64, Lost)>,
    pub(crate) resets: u64,
    /// Groups whose folders may be deleted, and on which node.
    pub(crate) closed: Vec<(u64, GroupId)>,
    pub(crate) quorum_lost: Vec<QuorumLost>,
    /// With the node that refused.
    pub(crate) refused: Vec<(u64, RefusedEntries)>,
    /// What leaders said that can't be, and at which node that was noticed.
    pub(crate) contradictions: Vec<(u64, Contradiction)>,
    pub(crate) elections: u64,
    pub(crate) flushes: u64,
    pub(crate) loads: u64,
    /// The nodes that were told to take a group over, and when.
    pub(crate) handed: Vec<(Instant, NodeId, GroupId)>,
}

impl Cluster {
    /// Nodes up to the largest voter, with group [`G`] on them, and a leader.
    pub(crate) fn new(settings: Settings) -> Cluster {
        let mut cluster = Cluster::empty(settings.clone());
        cluster.open(G, settings);
        cluster.until("a leader serves", |cluster| cluster.leader(G).is_some());
        cluster
    }

    /// Nodes without groups.
    pub(crate) fn empty(settings: Settings) -> Cluster {
        let mut cluster = Cluster {
            now: Instant(1_000_000),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            wanted: BTreeMap::new(),
            wishes: 0,
            members: Vec::new(),
            unopened: BTreeSet::new(),
            lost: Vec::new(),
            resets: 0,
            closed: Vec::new(),
            quorum_lost: Vec::new(),
            refused: Vec::new(),
            contradictions: Vec::new(),
            flying: Vec::new(),
            cut: BTreeSet::new(),
            next_ticket: 0,
            answers: Vec::new(),
            leaders: Vec::new(),
            in_sync: Vec::new(),
            committed: Vec::new(),
            elections: 0,
            flushes: 0,
            loads: 0,
            handed: Vec::new(),
            settings,
        };
        for id in cluster.settings.nodes() {
            let node = Node {
                fs: FaultyFs::new(id),
                running: None,
                paused: false,
                stuck: false,
                keeps_up_appearances: false,
                segments_work: false,
                starts: 0,
                had: BTreeSet::new(),
            };
            cluster.nodes.insert(id, node);
            cluster.start(id);
        }
        cluster
    }

    /// Starts a node on what its disk holds.
    pub(crate) fn start(&mut self, id: u64) {
        let plan = IntervalPlan::new(BUDGET).expect("in range");
        let peers: Vec<_> = self.settings.nodes().into_iter().map(NodeId).collect();
        let node = self.nodes.get_mut(&id).expect("a node");
        node.starts += 1;
        let fs = Arc::new(node.fs.clone());
        let options = JournalOptions {
            file_bytes: 1 << 20,
            max_files: 4,
        };
        let (journal, mut recovered) = Journal::open(fs.clone(), Path::new("/journal"), options).expect("a journal");
        let mut tuning = plan.tuning(id);
        tuning.max_uncommitted_bytes = self.settings.max_uncommitted_bytes;
        let mut config = ShardConfig::new(NodeId(id), tuning);
        config.flush_bytes = self.settings.flush_bytes;
        config.replica_lag = self.settings.replica_lag;
        config.leader_rebalance_after = self.settings.leader_rebalance_after;
        config.catch_up_bytes_per_second = self.settings.catch_up_bytes_per_second;
        config.failure_pause = self.settings.failure_pause;
        let mut inputs = Vec::new();
        for (&group, settings) in self.groups.iter().filter(|(group, _)| node.had.contains(group)) {
            let found = recovered.remove(&group);
            let opening = Opening {
                fs: &node.fs,
                group,
                settings,
                wanted: self.wanted.get(&group).unwrap_or(&settings.voters),
                now: self.now,
            };
            inputs.push(match found {
                Some(recovered) => opening.found(recovered),
                None => opening.lost(HardState::default()),
            });
        }
        node.running = Some(Running {
            shard: Shard::new(config, self.now),
            monitor: LivenessMonitor::new(plan.liveness(NodeId(id), node.starts), &peers, self.now),
            journal,
            inputs,
            writing: VecDeque::new(),
            flushing: VecDeque::new(),
            loading: VecDeque::new(),
            out: Outbox::default(),
        });
        node.paused = false;
    }

    /// Opens a new group on all its voters.
    pub(crate) fn open(&mut self, group: GroupId, settings: Settings) {
        for &id in &settings.voters {
            let node = self.nodes.get_mut(&id).expect("a node");
            node.had.insert(group);
            let opening = Opening {
                fs: &node.fs,
                group,
                settings: &settings,
                wanted: &settings.voters,
                now: self.now,
            };
            let input = opening.found(RecoveredGroup::default());
            self.tell(id, input);
        }
        self.groups.insert(group, settings);
    }

    /// Others are to have a replica: those that have none open one, and all are told.
    pub(crate) fn assign(&mut self, group: GroupId, replicas: &[u64]) {
        self.wanted.insert(group, replicas.to_vec());
        for &id in replicas {
            if self.nodes.get_mut(&id).expect("a node").had.insert(group) {
                self.open_lost(id, group);
            }
        }
        self.wishes += 1;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.tell(id, Input::Replicas(group, nodes(replicas), self.wishes));
        }
    }

    /// Opens a replica that holds nothing of what it may have promised.
    fn open_lost(&mut self, id: u64, group: GroupId) {
        let settings = &self.groups[&group];
        let opening = Opening {
            fs: &self.nodes[&id].fs,
            group,
            settings,
            wanted: self.wanted.get(&group).unwrap_or(&settings.voters),
            now: self.now,
        };
        match opening.try_lost(HardState::default()) {
            Ok(input) => {
                self.unopened.remove(&(id, group));
                self.tell(id, input);
            }
            Err(_) => _ = self.unopened.insert((id, group)),
        }
    }

    /// The node is down, and its disk empty.
    pub(crate) fn wipe(&mut self, id: u64) {
        self.crash(id);
        let seed = self.now.0;
        self.nodes.get_mut(&id).expect("a node").fs = FaultyFs::new(seed);
    }

    /// Power loss: what was not synced is lost. Its peers' reconnects are refused.
    pub(crate) fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        node.running = None;
        node.fs.crash();
        self.flying.retain(|(_, _, to, _)| *to != id);
        for peer in self.peers_of(id) {
            self.watch(peer, |monitor, now, events| monitor.refused(now, NodeId(id), events));
        }
    }

    /// A process ends and another one takes its place before anybody finds its port closed.
    pub(crate) fn restart_at_once(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        node.running = None;
        node.fs.crash();
        self.start(id);
    }

    /// The journal of a node that is stuck takes one batch.
    pub(crate) fn write_one(&mut self, id: u64) {
        let running = self.nodes.get_mut(&id).and_then(|node| node.running.as_mut());
        let running = running.expect("it runs");
        let (_, _, batch) = running.writing.pop_front().expect("something to write");
        running.journal.write(&batch).expect("journals don't fail here");
    }

    /// Cuts both ways between two nodes.
    pub(crate) fn is_flushing(&self, id: u64) -> bool {
        let running = self.nodes[&id].running.as_ref();
        running.is_some_and(|running| !running.flushing.is_empty())
    }

    pub(crate) fn cut(&mut self, a: u64, b: u64) {
        self.cut.extend([(a, b), (b, a)]);
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&mut self, id: u64) {
        self.peers_of(id).into_iter().for_each(|peer| self.cut(id, peer));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    fn peers_of(&self, id: u64) -> Vec<u64> {
        self.nodes.keys().copied().filter(|&peer| peer != id).collect()
    }

    /// Something a node is told with its next step.
    pub(crate) fn tell(&mut self, id: u64, input: Input) {
        if let Some(running) = &mut self.nodes.get_mut(&id).expect("a node").running {
            running.inputs.push(input);
        }
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now + Duration::from_millis(1);
            if self.now.0.is_multiple_of(100_000) {
                for (id, group) in self.unopened.clone() {
                    self.open_lost(id, group);
                }
            }
            self.deliver();
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.turn(id);
            }
        }
    }

    /// Lets time pass until a condition holds.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&mut Cluster) -> bool) {
        for _ in 0..PATIENCE_MS {
            if holds(self) {
                return;
            }
            self.run(1);
        }
        let statuses: Vec<_> = self
            .nodes
            .keys()
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
            .map(|id| self.status(id, G))
            .collect();
        panic!("waited in vain until {what}: {statuses:#?}");
    }

    fn deliver(&mut self) {
        let now = self.now;
        for (at, from, to, flight) in std::mem::take(&mut self.flying) {
            let Some(node) = self.nodes.get_mut(&to) else { continue };
            if at > now || node.paused {
                self.flying.push((at, from, to, flight));
                continue;
            }
            let Some(running) = &mut node.running else { continue };
            match flight {
                Flight::Messages(messages) => running.inputs.push(Input::Messages(NodeId(from), messages)),
                Flight::Heartbeat(heartbeat) => {
                    self.watch(to, |monitor, now, events| {
                        monitor.received(now, NodeId(from), heartbeat, events)
                    });
                }
            }
        }
    }

    fn watch(&mut self, id: u64, act: impl FnOnce(&mut LivenessMonitor, Instant, &mut Vec<LivenessEvent>)) {
        let Some(running) = &mut self.nodes.get_mut(&id).expect("a node").running else {
            return;
        };
        let mut events = Vec::new();
        act(&mut running.monitor, self.now, &mut events);
        for event in events {
            match event {
                LivenessEvent::Send(to, heartbeat) => self.fly(id, to.0, Flight::Heartbeat(heartbeat)),
                LivenessEvent::Changed(node, liveness) => self.tell(id, Input::Liveness(node, liveness)),
                LivenessEvent::Restored(node) => self.tell(id, Input::Restored(node)),
            }
        }
    }

    fn fly(&mut self, from: u64, to: u64, flight: Flight) {
        if !self.cut.contains(&(from, to)) {
            self.flying.push((self.now + DELAY, from, to, flight));
        }
    }

    /// What one node does in a millisecond.
    fn turn(&mut self, id: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.paused {
            return;
        }
        let Some(running) = &mut node.running else { return };
        if !node.stuck {
            running.use_disk(now);
        } else if node.segments_work {
            running.use_segments(now);
        }
        let stuck = node.stuck && !node.keeps_up_appearances;
        if running.monitor.deadline() <= now {
            running.monitor.set_stalled(stuck);
            self.watch(id, |monitor, now, events| monitor.tick(now, events));
        }
        let running = self
            .nodes
            .get_mut(&id)
            .and_then(|node| node.running.as_mut())
            .expect("it runs");
        let is_due = running.shard.deadline().is_some_and(|deadline| deadline <= now);
        if !running.inputs.is_empty() || is_due {
            running.shard.step(now, &mut running.inputs, &mut running.out);
            self.hand_on(id);
        }
    }

    fn hand_on(&mut self, id: u64) {
        let now = self.now;
        let running = self
            .nodes
            .get_mut(&id)
            .and_then(|node| node.running.as_mut())
            .expect("it runs");
        let mut out = std::mem::take(&mut running.out);
        if !out.journal.is_empty() {
            let batch = std::mem::take(&mut out.journal);
            running.writing.push_back((now + DELAY, out.sequence, batch));
        }
        self.flushes += out.flushes.len() as u64;
        self.loads += out.loads.len() as u64;
        running
            .flushing
            .extend(out.flushes.drain(..).map(|job| (now + DELAY, job)));
        running
            .loading
            .extend(out.loads.drain(..).map(|load| (now + DELAY, load)));
        self.answers.append(&mut out.completions);
        let committed = out.committed.drain(..);
        self.committed
            .extend(committed.map(|(group, index, payload)| (id, group, index, payload.to_vec())));
        self.leaders.extend(out.leaders.drain(..).map(|change| (id, change)));
        self.in_sync.append(&mut out.in_sync);
        self.members.append(&mut out.members);
        self.resets += std::mem::take(&mut out.resets);
        self.closed.extend(out.closed.drain(..).map(|group| (id, group)));
        self.quorum_lost.append(&mut out.quorum_lost);
        self.refused.extend(out.refused.drain(..).map(|refused| (id, refused)));
        let contradictions = out.contradictions.drain(..);
        self.contradictions.extend(contradictions.map(|found| (id, found)));
        let lost: Vec<_> = out.lost.drain(..).collect();
        self.elections += std::mem::take(&mut out.elections);
        for (to, messages) in out.messages.drain(..) {
            let orders = messages
                .iter()
                .filter(|(_, message)| matches!(message.body, Body::TimeoutNow));
            self.handed.extend(orders.map(|(group, _)| (now, to, *group)));
            self.fly(id, to.0, Flight::Messages(messages));
        }
        let running = self
            .nodes
            .get_mut(&id)
            .and_then(|node| node.running.as_mut())
            .expect("it runs");
        running.out = out;
        for lost in lost {
            self.open_lost(id, lost.group);
            self.lost.push((id, lost));
        }
    }
}

impl Running {
    /// Whatever the disk has done by now comes back.
    fn use_disk(&mut self, now: Instant) {
        while let Some((_, sequence, batch)) = pop_if(&mut self.writing, |(at, ..)| *at <= now) {
            self.journal.write(&batch).expect("journals don't fail here");
            self.inputs.push(Input::Persisted(sequence));
        }
        self.use_segments(now);
    }

    fn use_segments(&mut self, now: Instant) {
        while let Some((_, job)) = pop_if(&mut self.flushing, |(at, _)| *at <= now) {
            let group = job.group();
            let result = job.run();
            if let Ok(flushed) = &result {
                self.journal
                    .release(group, flushed.upto)
                    .expect("journals don't fail here");
            }
            self.inputs.push(Input::Flushed(group, result));
        }
        while let Some((_, load)) = pop_if(&mut self.loading, |(at, _)| *at <= now) {
            self.inputs.push(Input::Loaded(load.run()));
        }
    }
}

fn pop_if<T>(queue: &mut VecDeque<T>, is_due: impl Fn(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(is_due) {
        queue.pop_front()
    } else {
        None
    }
}

/// A replica to be opened.
struct Opening<'a> {
    fs: &'a FaultyFs,
    group: GroupId,
    settings: &'a Settings,
    wanted: &'a [u64],
    now: Instant,
}

impl Opening<'_> {
    fn dir(&self) -> PathBuf {
        PathBuf::from(format!("/group-{}", self.group))
    }

    /// As it is on disk; as lost if it is damaged, and as out of order if it can't be opened.
    fn found(&self, recovered: RecoveredGroup) -> Input {
        let hard_state = recovered.hard_state;
        let fs = Arc::new(self.fs.clone());
        let options = self.settings.log_options();
        let founders = nodes(&self.settings.voters);
        let log = ReplicaLog::open(fs, &self.dir(), self.group, options, recovered.clone());
        match log.and_then(|log| Open::new(founders.clone(), log, hard_state, self.settings.options())) {
            Ok(open) => Input::Open(Box::new(open.wanting(nodes(self.wanted)))),
            Err(error) if error.is_damage() => self.lost(hard_state),
            Err(_) => Input::Damaged(Box::new(Damaged {
                group: self.group,
                voters: founders,
                recovered,
            })),
        }
    }

    fn lost(&self, known: HardState) -> Input {
        self.try_lost(known).expect("set aside")
    }

    fn try_lost(&self, known: HardState) -> Result<Input, LogError> {
        let fs = Arc::new(self.fs.clone());
        let log = ReplicaLog::open_lost(fs, &self.dir(), self.group, self.settings.log_options())?;
        let founders = nodes(&self.settings.voters);
        let open = Open::lost(founders, log, known, Life(self.now.0), self.settings.options());
        Ok(Input::Open(Box::new(open.wanting(nodes(self.wanted)))))
    }
}

pub(crate) fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Questions and answers.
impl Cluster {
    /// The answer to a ticket, if it has come.
    pub(crate) fn answer(&self, ticket: Ticket) -> Option<&Completion> {
        self.answers
            .iter()
            .find(|(other, _)| *other == ticket)
            .map(|(_, answer)| answer)
    }

    #[track_caller]
    fn wait(&mut self, what: &str, ticket: Ticket) -> &Completion {
        self.until(what, |cluster| cluster.answer(ticket).is_some());
        self.answer(ticket).expect("waited for")
    }

    /// The node that leads and serves, as far as the nodes that are up know.
    pub(crate) fn leader(&mut self, group: GroupId) -> Option<u64> {
        let up: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| !node.paused)
            .map(|(&id, _)| id)
            .collect();
        let statuses = up
            .into_iter()
            .filter_map(|id| self.status(id, group).map(|status| (id, status)));
        statuses
            .filter(|(_, status)| status.serving)
            .max_by_key(|(_, status)| status.term)
            .map(|(id, _)| id)
    }

    /// What a node says of a group, without time passing.
    pub(crate) fn status(&mut self, id: u64, group: GroupId) -> Option<GroupStatus> {
        let ticket = self.ticket();
        let now = self.now;
        let running = self.nodes.get_mut(&id)?.running.as_mut()?;
        running.inputs.push(Input::Status(ticket, group));
        running.shard.step(now, &mut running.inputs, &mut running.out);
        self.hand_on(id);
        let at = self.answers.iter().rposition(|(other, _)| *other == ticket)?;
        match self.answers.remove(at).1 {
            Completion::Status(status) => status,
            _ => None,
        }
    }

    #[track_caller]
    pub(crate) fn leader_of(&mut self, group: GroupId) -> u64 {
        self.until("there is a leader", |cluster| cluster.leader(group).is_some());
        self.leader(group).expect("waited for")
    }

    pub(crate) fn append(&mut self, id: u64, group: GroupId, acks: Acks, batch: BytesMut) -> Ticket {
        let ticket = self.ticket();
        self.tell(
            id,
            Input::Append {
                group,
                batch,
                acks,
                ticket,
            },
        );
        ticket
    }

    #[track_caller]
    pub(crate) fn appended(&mut self, ticket: Ticket) -> Result<Appended, AppendError> {
        match self.wait("a producer is answered", ticket) {
            Completion::Appended(outcome) => outcome.clone(),
            _ => panic!("another kind of answer"),
        }
    }

    /// Appends to the leader and waits for the answer.
    #[track_caller]
    pub(crate) fn produce(&mut self, batch: BytesMut) -> Result<Appended, AppendError> {
        let leader = self.leader_of(G);
        let ticket = self.append(leader, G, Acks::All, batch);
        self.appended(ticket)
    }

    pub(crate) fn read_from(&mut self, id: u64, request: ReadRequest) -> Ticket {
        let ticket = self.ticket();
        self.tell(id, Input::Read(ticket, request));
        ticket
    }

    #[track_caller]
    pub(crate) fn read_outcome(&mut self, ticket: Ticket) -> Result<ReadResult, ReadError> {
        match self.wait("a reader is answered", ticket) {
            Completion::Read(outcome) => outcome.clone(),
            _ => panic!("another kind of answer"),
        }
    }

    /// The values from an offset on, as one read shows them.
    #[track_caller]
    pub(crate) fn values(&mut self, id: u64, request: ReadRequest) -> Vec<(i64, String)> {
        let ticket = self.read_from(id, request);
        values(&self.read_outcome(ticket).expect("readable"))
    }

    #[track_caller]
    pub(crate) fn offsets(&mut self, id: u64, query: OffsetQuery) -> Result<&OffsetLookup, ReadError> {
        let ticket = self.ticket();
        self.tell(
            id,
            Input::Offsets {
                ticket,
                group: G,
                query,
                current_epoch: None,
            },
        );
        match self.wait("a question about offsets is answered", ticket) {
            Completion::Offsets(Ok(found)) => Ok(found),
            Completion::Offsets(Err(error)) => Err(error.clone()),
            _ => panic!("another kind of answer"),
        }
    }

    #[track_caller]
    pub(crate) fn transferred(&mut self, ticket: Ticket) -> TransferOutcome {
        match self.wait("leaderships are handed over", ticket) {
            Completion::Transferred(outcome) => outcome.clone(),
            _ => panic!("another kind of answer"),
        }
    }
}

/// What a shard is told of a segment that the operating system does not let it read.
pub(crate) fn unreadable() -> Input {
    let error = LogError::Io {
        path: "/group-1".into(),
        source: std::io::ErrorKind::PermissionDenied.into(),
    };
    Input::Unreadable(G, error)
}

/// One batch of these values.
pub(crate) fn batch_of(values: &[&str]) -> BytesMut {
    let records: Vec<_> = values.iter().map(|value| (None, Some(value.as_bytes()))).collect();
    batch::build(1_000, &records)
}

/// One batch of an idempotent producer.
pub(crate) fn produced(id: i64, epoch: i16, first_sequence: i32, values: &[&str]) -> BytesMut {
    let mut batch = batch_of(values);
    batch::set_producer(
        &mut batch,
        ProducerStamp {
            id,
            epoch,
            first_sequence,
        },
    );
    batch
}

/// A read of everything from an offset on, by the leader.
pub(crate) fn from(offset: i64) -> ReadRequest {
    ReadRequest {
        group: G,
        from: Offset(offset),
        max_bytes: 1 << 20,
        current_epoch: None,
        follower_ok: false,
        wait: false,
    }
}

/// The values with their offsets.
pub(crate) fn values(result: &ReadResult) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for chunk in &result.chunks {
        let bytes = match chunk {
            Chunk::Memory(bytes) => bytes.clone(),
            Chunk::File(slice) => slice.read().expect("readable"),
        };
        for batch in batch::split(bytes) {
            let (header, batch) = batch.expect("a whole batch");
            batch::verify_crc(&batch).expect("stamping spares what is under the CRC");
            let values = batch::values(&batch).expect("records");
            let texts = values
                .into_iter()
                .map(|value| String::from_utf8(value.expect("a value").to_vec()).expect("text"));
            found.extend((header.base_offset.0..).zip(texts));
        }
    }
    found
}
