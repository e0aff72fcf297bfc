//! The crates, introduced to one another as in a broker, in one thread and without waiting for anything.

use super::Now;
use crate::ids;
use crate::peers::{heartbeat_from_wire, heartbeat_to_wire};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trimaran_coordinator as coordinator;
use trimaran_coordinator::OffsetStore;
use trimaran_multiraft::{
    Acks, AppendError, Appended, Completion, GroupOptions, InSync, Input, IntervalPlan, LeaderChange, LivenessEvent,
    LivenessMonitor, Open, Outbox, ReadError, ReadRequest, Shard, ShardConfig, Ticket, envelope,
};
use trimaran_raft::{GroupId, Instant, Liveness, LogIndex, NodeId};
use trimaran_registry::agent::{self, AdminError, AdminReply, AdminRequest, Agent, AgentConfig, Effect, OpenReplica};
use trimaran_registry::catalog::{Broker, Endpoint};
use trimaran_registry::{Catalog, CommandIndex, FolderId, Incarnation, LeaderView, TopicConfig};
use trimaran_storage::fs::Fs;
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalOptions, RecoveredGroup};
use trimaran_storage::log::{Chunk, LogOptions, ReplicaLog, Retention};
use trimaran_wire::batch;
use trimaran_wire::peer::{self, Frame, PROTOCOL_VERSION};

/// The group that replicates the catalog.
const METADATA: GroupId = GroupId(trimaran_registry::METADATA_GROUP.0);

/// Topics of the node's own begin so.
pub(super) const RESERVED: &str = "__";

/// The topic that holds committed offsets.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Suspicion and elections take about a second: Maelstrom's latencies go up to some hundred milliseconds.
const FAILOVER_BUDGET: Duration = Duration::from_millis(2_500);

/// How long an unanswered message waits before it is sent again: a few round trips.
const RETRANSMIT: Duration = Duration::from_millis(400);

/// About how many bytes of a log one poll returns.
const POLL_BYTES: usize = 64 << 10;

/// A broken invariant of our own, or of the disk in memory: the node must stop.
#[derive(Debug)]
pub(super) struct Fault(pub(super) String);

/// Where a committed message is, and what it is.
pub(super) type Message = (u64, Bytes);

/// What others wait for.
pub(super) enum News {
    Appended(Ticket, Result<Appended, AppendError>),
    Read(Ticket, Result<Vec<Message>, ReadError>),
    Administered(agent::Ticket, Result<AdminReply, AdminError>),
}

/// One node's crates.
pub(super) struct Room {
    own: NodeId,
    fs: Arc<dyn Fs>,
    shard: Shard,
    inputs: Vec<Input>,
    outbox: Outbox,
    journal: Journal,
    monitor: LivenessMonitor,
    agent: Agent,
    /// All nodes: each has a replica of the metadata group.
    members: Vec<NodeId>,
    /// Replicas on this node; those of the offsets topic with what was committed there.
    hosted: BTreeMap<GroupId, Option<OffsetStore>>,
    tickets: u64,
    frames: Vec<(NodeId, Frame)>,
    news: Vec<News>,
}

impl Room {
    /// Starts, with an empty disk.
    pub(super) fn new(now: Now, own: NodeId, members: Vec<NodeId>, seed: u64) -> Result<Room, Fault> {
        let fs: Arc<dyn Fs> = Arc::new(FaultyFs::new(seed));
        let options = JournalOptions {
            file_bytes: 4 << 20,
            max_files: 4,
        };
        let (journal, _) = Journal::open(Arc::clone(&fs), Path::new("/journal"), options).map_err(fault)?;
        let plan = IntervalPlan::new(FAILOVER_BUDGET).map_err(fault)?;
        let incarnation = u64::try_from(now.wall_ms).unwrap_or(0);
        let mut tuning = plan.tuning(seed ^ own.0);
        tuning.retransmit_timeout = RETRANSMIT;
        let peers: Vec<NodeId> = members.iter().copied().filter(|member| *member != own).collect();
        let agent = agent_config(own, &members, incarnation, seed);
        let mut room = Room {
            own,
            fs,
            shard: Shard::new(ShardConfig::new(own, tuning), now.at),
            inputs: Vec::new(),
            outbox: Outbox::default(),
            journal,
            monitor: LivenessMonitor::new(plan.liveness(own, incarnation), &peers, now.at),
            agent: Agent::new(agent, ids::registry_instant(now.at)),
            members,
            hosted: BTreeMap::new(),
            tickets: 0,
            frames: Vec::new(),
            news: Vec::new(),
        };
        room.tell_agent(now, agent::Input::Tick)?;
        Ok(room)
    }

    /// When to call [`Room::work`] next, if nothing else happens.
    pub(super) fn deadline(&self) -> Instant {
        let agent = Instant(self.agent.deadline().0);
        let shard = self.shard.deadline().unwrap_or(Instant(u64::MAX));
        self.monitor.deadline().min(agent).min(shard)
    }

    /// What all nodes agree on, as far as this one knows.
    pub(super) fn catalog(&self) -> &Catalog {
        self.agent.catalog()
    }

    /// Who leads what, as far as this node knows.
    pub(super) fn leaders(&self) -> &LeaderView {
        self.agent.leaders()
    }

    /// This node.
    pub(super) fn own(&self) -> NodeId {
        self.own
    }

    /// Whether this node has a replica of the group.
    pub(super) fn hosts(&self, group: GroupId) -> bool {
        self.hosted.contains_key(&group)
    }

    /// What was committed in a partition of the offsets topic, as far as it is applied here.
    pub(super) fn offsets(&self, group: GroupId) -> Option<&OffsetStore> {
        self.hosted.get(&group)?.as_ref()
    }

    /// Frames for other nodes, since the last time.
    pub(super) fn frames(&mut self) -> Vec<(NodeId, Bytes)> {
        // All nodes run the same program.
        let encode = |(to, frame): (NodeId, Frame)| (to, frame.encode(PROTOCOL_VERSION).concat().into());
        self.frames.drain(..).map(encode).collect()
    }

    /// What has been answered since the last time.
    pub(super) fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Appends one record, to be answered once it is committed.
    pub(super) fn append(&mut self, now: Now, group: GroupId, value: &[u8]) -> Ticket {
        let ticket = self.ticket();
        let batch = batch::build(now.wall_ms, &[(None, Some(value))]);
        self.inputs.push(Input::Append {
            group,
            batch,
            acks: Acks::All,
            ticket,
        });
        ticket
    }

    /// Reads committed records from this node's replica.
    pub(super) fn read(&mut self, group: GroupId, from: i64) -> Ticket {
        let ticket = self.ticket();
        let request = ReadRequest {
            group,
            from: batch::Offset(from),
            max_bytes: POLL_BYTES,
            current_epoch: None,
            follower_ok: true,
            wait: false,
        };
        self.inputs.push(Input::Read(ticket, request));
        ticket
    }

    /// Asks the controller for something.
    pub(super) fn administer(
        &mut self,
        now: Now,
        timeout: Duration,
        request: AdminRequest,
    ) -> Result<agent::Ticket, Fault> {
        let ticket = agent::Ticket(self.ticket().0);
        self.tell_agent(
            now,
            agent::Input::Request {
                ticket,
                timeout,
                request,
            },
        )?;
        Ok(ticket)
    }

    /// Tells all replicas to believe this leader gone.
    pub(super) fn fail_over(&mut self, group: GroupId, replicas: &[NodeId], failed: NodeId) {
        for replica in replicas {
            if *replica == self.own {
                self.inputs.push(Input::Failover {
                    group,
                    failed: Some(failed),
                });
            } else {
                let failed = Some(peer::BrokerId(ids::broker(failed).0));
                let request = peer::FailOver {
                    group: peer::GroupId(group.0),
                    failed,
                };
                self.frames.push((*replica, Frame::FailOver(request)));
            }
        }
    }

    /// Another node's frame. One that can't be read is dropped, as if the network had lost it.
    pub(super) fn frame(&mut self, now: Now, from: NodeId, frame: Bytes) -> Result<(), Fault> {
        match Frame::decode(frame) {
            Ok(Frame::Groups(messages)) => {
                if let Ok(mut messages) = envelope::decode(messages) {
                    envelope::detach(&mut messages);
                    self.inputs.push(Input::Messages(from, messages));
                }
            }
            Ok(Frame::Heartbeat(heartbeat)) => {
                let mut events = Vec::new();
                self.monitor
                    .received(now.at, from, heartbeat_from_wire(heartbeat), &mut events);
                self.liveness(now, events)?;
            }
            Ok(Frame::Control(message)) => {
                self.tell_agent(
                    now,
                    agent::Input::Peer {
                        from: ids::broker(from),
                        message: &message,
                    },
                )?;
            }
            Ok(Frame::FailOver(request)) => {
                let failed = request.failed.map(|broker| NodeId(u64::from(broker.0.unsigned_abs())));
                self.inputs.push(Input::Failover {
                    group: GroupId(request.group.0),
                    failed,
                });
            }
            // Nodes pass nothing on for others.
            Ok(Frame::Relayed(_)) | Err(_) => {}
        }
        Ok(())
    }

    /// Does everything that can be done now.
    pub(super) fn work(&mut self, now: Now) -> Result<(), Fault> {
        if self.monitor.deadline() <= now.at {
            let mut events = Vec::new();
            self.monitor.tick(now.at, &mut events);
            self.liveness(now, events)?;
        }
        if self.agent.deadline() <= ids::registry_instant(now.at) {
            self.tell_agent(now, agent::Input::Tick)?;
        }
        loop {
            self.step(now)?;
            if self.inputs.is_empty() {
                return Ok(());
            }
        }
    }

    fn step(&mut self, now: Now) -> Result<(), Fault> {
        let mut out = std::mem::take(&mut self.outbox);
        self.shard.step(now.at, &mut self.inputs, &mut out);
        for (to, messages) in out.messages.drain(..) {
            let messages = envelope::encode(&messages).concat();
            self.frames.push((to, Frame::Groups(messages.into())));
        }
        self.write(&mut out)?;
        for (group, index, payload) in std::mem::take(&mut out.committed) {
            self.committed(now, group, index, &payload)?;
        }
        for change in std::mem::take(&mut out.leaders) {
            self.led(now, change)?;
        }
        for report in std::mem::take(&mut out.in_sync) {
            self.in_sync(now, &report)?;
        }
        for (ticket, completion) in std::mem::take(&mut out.completions) {
            self.completed(ticket, completion);
        }
        self.outbox = out;
        Ok(())
    }

    /// The disk is memory: nothing takes time.
    fn write(&mut self, out: &mut Outbox) -> Result<(), Fault> {
        if !out.journal.is_empty() {
            self.journal.write(&std::mem::take(&mut out.journal)).map_err(fault)?;
            self.inputs.push(Input::Persisted(out.sequence));
        }
        for job in out.flushes.drain(..) {
            let group = job.group();
            let flushed = job.run();
            if let Ok(flushed) = &flushed {
                self.journal.release(group, flushed.upto).map_err(fault)?;
            }
            self.inputs.push(Input::Flushed(group, flushed));
        }
        for load in out.loads.drain(..) {
            self.inputs.push(Input::Loaded(load.run()));
        }
        for group in out.closed.drain(..) {
            // Nothing of it is needed any more; what stays after an error is a little memory.
            let _ = self.fs.remove_dir_all(&folder(group));
        }
        for group in self.journal.groups_to_flush() {
            self.inputs.push(Input::FlushNow(group));
        }
        Ok(())
    }

    fn committed(&mut self, now: Now, group: GroupId, index: LogIndex, payload: &Bytes) -> Result<(), Fault> {
        let values = batch::values(payload).map_err(fault)?;
        for value in values.into_iter().flatten() {
            if group == METADATA {
                self.tell_agent(
                    now,
                    agent::Input::Applied {
                        index: CommandIndex(index.0),
                        command: &value,
                    },
                )?;
            } else if let Some(Some(store)) = self.hosted.get_mut(&group) {
                let command = coordinator::Command::decode(&value).map_err(fault)?;
                store.apply(coordinator::CommandIndex(index.0), &command);
            }
        }
        Ok(())
    }

    fn led(&mut self, now: Now, change: LeaderChange) -> Result<(), Fault> {
        let input = agent::Input::Led {
            group: ids::catalog_group(change.group),
            term: ids::registry_term(change.term),
            leader: change.leader.map(ids::broker),
            serving: change.serving,
        };
        self.tell_agent(now, input)
    }

    fn in_sync(&mut self, now: Now, report: &InSync) -> Result<(), Fault> {
        let replicas: Vec<_> = report.replicas.iter().copied().map(ids::broker).collect();
        let input = agent::Input::InSync {
            group: ids::catalog_group(report.group),
            term: ids::registry_term(report.term),
            replicas: &replicas,
        };
        self.tell_agent(now, input)
    }

    fn completed(&mut self, ticket: Ticket, completion: Completion) {
        match completion {
            Completion::Appended(result) => self.news.push(News::Appended(ticket, result)),
            Completion::Read(result) => {
                let messages = result.and_then(|read| messages(&read.chunks));
                self.news.push(News::Read(ticket, messages));
            }
            Completion::Offsets(_) | Completion::Status(_) | Completion::Transferred(_) => {}
        }
    }

    fn liveness(&mut self, now: Now, events: Vec<LivenessEvent>) -> Result<(), Fault> {
        for event in events {
            match event {
                LivenessEvent::Send(to, heartbeat) => {
                    self.frames.push((to, Frame::Heartbeat(heartbeat_to_wire(heartbeat))));
                }
                LivenessEvent::Changed(node, liveness) => {
                    self.inputs.push(Input::Liveness(node, liveness));
                    if liveness != Liveness::Alive {
                        self.tell_agent(now, agent::Input::Down(ids::broker(node)))?;
                    }
                }
                LivenessEvent::Restored(node) => {
                    self.inputs.push(Input::Restored(node));
                    self.tell_agent(now, agent::Input::Restored(ids::broker(node)))?;
                }
            }
        }
        Ok(())
    }

    fn tell_agent(&mut self, now: Now, input: agent::Input<'_>) -> Result<(), Fault> {
        let mut effects = Vec::new();
        self.agent.step(ids::registry_instant(now.at), input, &mut effects);
        effects.into_iter().try_for_each(|effect| self.perform(now, effect))
    }

    fn perform(&mut self, now: Now, effect: Effect) -> Result<(), Fault> {
        match effect {
            Effect::Propose(command) => {
                // The agent asks again if nothing comes of it.
                self.append(now, METADATA, &command);
            }
            Effect::Send(to, message) => self.frames.push((ids::node(to), Frame::Control(Bytes::from(message)))),
            // A node begins with nothing on its disk, and nothing needs to be noted on it.
            Effect::OpenMetadata(_) => {
                let options = group_options(&TopicConfig::default(), true);
                self.open(METADATA, self.members.clone(), options, None)?;
            }
            Effect::Open(replica) => self.open_replica(&replica)?,
            // Nobody asks a node to move a partition, and nobody joins later.
            Effect::Replicas { .. } | Effect::Newcomers(_) => {}
            Effect::Configure { group, config } => {
                let group = ids::group(group);
                let delivers = self.offsets(group).is_some();
                self.inputs.push(Input::Configure(
                    group,
                    group_options(&config, delivers),
                    log_options(&config),
                ));
            }
            Effect::Close(group) => {
                let group = ids::group(group);
                self.hosted.remove(&group);
                self.inputs.push(Input::Close(group));
            }
            Effect::Reply(ticket, answer) => self.news.push(News::Administered(ticket, answer)),
            // Another build, or garbage: as if the network had lost it.
            Effect::Rejected { .. } => {}
            Effect::Unreadable { index, error } => {
                return Err(Fault(format!(
                    "command {index} of the metadata group can't be read: {error}"
                )));
            }
        }
        Ok(())
    }

    fn open_replica(&mut self, replica: &OpenReplica) -> Result<(), Fault> {
        let store = (*replica.topic == *OFFSETS_TOPIC).then(OffsetStore::default);
        let voters = replica.founders.iter().copied().map(ids::node).collect();
        let options = group_options(&replica.config, store.is_some());
        self.open(ids::group(replica.group), voters, options, store)
    }

    fn open(
        &mut self,
        group: GroupId,
        voters: Vec<NodeId>,
        options: GroupOptions,
        store: Option<OffsetStore>,
    ) -> Result<(), Fault> {
        let recovered = RecoveredGroup::default();
        let hard_state = recovered.hard_state;
        let log_options = log_options(&TopicConfig::default());
        let log =
            ReplicaLog::open(Arc::clone(&self.fs), &folder(group), group, log_options, recovered).map_err(fault)?;
        let open = Open::new(voters, log, hard_state, options).map_err(fault)?;
        self.hosted.insert(group, store);
        self.inputs.push(Input::Open(Box::new(open)));
        Ok(())
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

fn fault(error: impl std::fmt::Debug) -> Fault {
    Fault(format!("{error:?}"))
}

fn folder(group: GroupId) -> PathBuf {
    PathBuf::from(format!("/group-{group}"))
}

fn agent_config(own: NodeId, members: &[NodeId], incarnation: u64, seed: u64) -> AgentConfig {
    // Nodes have no addresses: messages go by name.
    let nowhere = Endpoint::default();
    let broker = Broker {
        id: ids::broker(own),
        incarnation: Incarnation(incarnation),
        rack: None,
        client: nowhere.clone(),
        peer: nowhere.clone(),
        admin: nowhere,
    };
    AgentConfig {
        broker,
        folder: folder_id(own, incarnation, seed),
        founded_with: None,
        is_member: false,
        cluster_id: "maelstrom".to_owned(),
        noted_founders: None,
        metadata_replicas: members.iter().copied().map(ids::broker).collect(),
        seed,
        default_partitions: 1,
        default_replication_factor: None,
        retry_after: RETRANSMIT,
        digest_every: Duration::from_secs(1),
        // A node begins with nothing on its disk: it is simulated, and Maelstrom never restarts one.
        known_groups: Default::default(),
    }
}

/// A name for the node's disk, which is made at every start.
fn folder_id(own: NodeId, incarnation: u64, seed: u64) -> FolderId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(seed ^ own.0.rotate_left(32)).to_be_bytes());
    bytes[8..].copy_from_slice(&incarnation.to_be_bytes());
    FolderId(bytes)
}

fn group_options(config: &TopicConfig, deliver: bool) -> GroupOptions {
    GroupOptions {
        min_insync_replicas: config.min_insync_replicas,
        // The checkers of Maelstrom's workloads take a log to be whole.
        retention: Retention::default(),
        deliver,
    }
}

fn log_options(config: &TopicConfig) -> LogOptions {
    LogOptions {
        segment_bytes: 1 << 20,
        segment_ms: config.segment_ms,
        tail_bytes: 1 << 20,
    }
}

/// The records of whole batches.
fn messages(chunks: &[Chunk]) -> Result<Vec<Message>, ReadError> {
    let mut messages = Vec::new();
    for chunk in chunks {
        let bytes = match chunk {
            Chunk::Memory(bytes) => bytes.clone(),
            Chunk::File(slice) => slice.read().map_err(|_| ReadError::Storage)?,
        };
        for found in batch::split(bytes) {
            let (_, batch) = found.map_err(|_| ReadError::Storage)?;
            for record in batch::records(&batch, batch.len()).map_err(|_| ReadError::Storage)? {
                let record = record.map_err(|_| ReadError::Storage)?;
                let offset = u64::try_from(record.offset.0).map_err(|_| ReadError::Storage)?;
                messages.push((offset, record.value.unwrap_or_default()));
            }
        }
    }
    Ok(messages)
}
