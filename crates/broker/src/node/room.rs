//! One node's shard, journal and disk around [`trimaran_node::Node`], in one thread and without waiting for anything.

use super::Now;
use crate::ids;
use crate::peers::{heartbeat_from_wire, heartbeat_to_wire};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trimaran_coordinator as coordinator;
use trimaran_coordinator::OffsetStore;
use trimaran_multiraft::{
    Acks, AppendError, Appended, Completion, Input as ShardInput, IntervalPlan, Lives, Outbox, ReadError, ReadRequest,
    Shard, ShardConfig, Ticket, envelope,
};
use trimaran_node::{
    ClusterView, Config, Health, Input, METADATA, Node, Notice, Output, ReplicaOptions, Report, RetryPauses, folder,
    reports,
};
use trimaran_raft::{GroupId, Instant, LogIndex, NodeId};
use trimaran_registry::agent::{self, AdminError, AdminReply, AdminRequest, AgentConfig};
use trimaran_registry::catalog::{Broker, Endpoint};
use trimaran_registry::{Catalog, FolderId, Incarnation, LeaderView};
use trimaran_storage::fs::Fs;
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalOptions};
use trimaran_storage::log::{Chunk, delete_quarantine};
use trimaran_wire::batch;
use trimaran_wire::peer::{Frame, PROTOCOL_VERSION};

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

/// Where the replicas' folders lie.
const PARTITIONS: &str = "/";

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

/// A node with its shard, its journal and its disk, which is memory.
pub(super) struct Room {
    own: NodeId,
    fs: Arc<dyn Fs>,
    shard: Shard,
    inputs: Vec<ShardInput>,
    outbox: Outbox,
    journal: Journal,
    lives: Lives,
    node: Node,
    view: ClusterView,
    /// What was committed to the partitions of the offsets topic that have a replica here.
    offsets: BTreeMap<GroupId, OffsetStore>,
    tickets: u64,
    /// Replicas whose status was asked for.
    statuses: BTreeMap<Ticket, GroupId>,
    frames: Vec<(NodeId, Frame)>,
    news: Vec<News>,
}

impl Room {
    /// Starts, with an empty disk.
    pub(super) fn new(now: Now, own: NodeId, members: &[NodeId], seed: u64) -> Result<Room, Fault> {
        let fs: Arc<dyn Fs> = Arc::new(FaultyFs::new(seed));
        let options = JournalOptions {
            file_bytes: 4 << 20,
            max_files: 4,
        };
        let (journal, recovered) = Journal::open(Arc::clone(&fs), Path::new("/journal"), options).map_err(fault)?;
        let plan = IntervalPlan::new(FAILOVER_BUDGET).map_err(fault)?;
        let incarnation = u64::try_from(now.wall_ms).unwrap_or(0);
        let mut tuning = plan.tuning(seed ^ own.0);
        tuning.retransmit_timeout = RETRANSMIT;
        let config = Config {
            agent: agent_config(own, members, incarnation, seed),
            plan,
            recovered,
            replicas: ReplicaOptions {
                tail_bytes: 1 << 20,
                max_segment_bytes: 1 << 20,
                max_segment_ms: u64::MAX,
                // The checkers of Maelstrom's workloads take a log to be whole.
                retains: false,
                delivered_topic: Some(OFFSETS_TOPIC),
                retry: RetryPauses::USUAL,
            },
            topic_defaults: BTreeMap::new(),
            retain_every: Duration::from_secs(30),
        };
        let mut room = Room {
            own,
            fs,
            shard: Shard::new(ShardConfig::new(own, tuning), now.at),
            inputs: Vec::new(),
            outbox: Outbox::default(),
            journal,
            lives: Lives::new(incarnation),
            node: Node::new(config, now.at),
            view: ClusterView::default(),
            offsets: BTreeMap::new(),
            tickets: 0,
            statuses: BTreeMap::new(),
            frames: Vec::new(),
            news: Vec::new(),
        };
        room.tick(now)?;
        Ok(room)
    }

    /// When to call [`Room::work`] next, if nothing else happens.
    pub(super) fn deadline(&self) -> Instant {
        let shard = self.shard.deadline().unwrap_or(Instant(u64::MAX));
        self.node.deadline().min(shard)
    }

    /// What all nodes agree on, as far as this one knows.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.view.catalog
    }

    /// Who leads what, as far as this node knows.
    pub(super) fn leaders(&self) -> &LeaderView {
        &self.view.leaders
    }

    /// This node.
    pub(super) fn own(&self) -> NodeId {
        self.own
    }

    /// Whether this node has a replica of the group.
    pub(super) fn hosts(&self, group: GroupId) -> bool {
        self.node.control().replicas().has(group)
    }

    /// What was committed in a partition of the offsets topic, as far as it is applied here.
    pub(super) fn offsets(&self, group: GroupId) -> Option<&OffsetStore> {
        self.offsets.get(&group)
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
        self.append_batch(group, batch::build(now.wall_ms, &[(None, Some(value))]))
    }

    fn append_batch(&mut self, group: GroupId, batch: BytesMut) -> Ticket {
        let ticket = self.ticket();
        self.inputs.push(ShardInput::Append {
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
        self.inputs.push(ShardInput::Read(ticket, request));
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
        self.handle(now, Input::Request(ticket, timeout, request))?;
        Ok(ticket)
    }

    /// Tells all replicas to believe this leader gone.
    pub(super) fn fail_over(&mut self, now: Now, group: GroupId, failed: NodeId) -> Result<(), Fault> {
        let failed = Some(failed);
        self.handle(now, Input::FailOver { group, failed })
    }

    /// Another node's frame. One that can't be read is dropped, as if the network had lost it.
    pub(super) fn frame(&mut self, now: Now, from: NodeId, frame: Bytes) -> Result<(), Fault> {
        match Frame::decode(frame) {
            Ok(Frame::Groups(messages)) => {
                if let Ok(mut messages) = envelope::decode(messages) {
                    envelope::detach(&mut messages);
                    self.inputs.push(ShardInput::Messages(from, messages));
                }
            }
            Ok(Frame::Heartbeat(heartbeat)) => {
                self.handle(now, Input::Heartbeat(from, heartbeat_from_wire(heartbeat)))?;
            }
            Ok(Frame::Control(message)) => self.handle(now, Input::Agent(from, message))?,
            Ok(Frame::FailOver(request)) => {
                let failed = request.failed.map(|broker| NodeId(u64::from(broker.0.unsigned_abs())));
                self.inputs.push(ShardInput::Failover {
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
        if self.node.deadline() <= now.at {
            self.tick(now)?;
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
        self.write(now, &mut out)?;
        let mut reported = Vec::new();
        reports(&mut out, |report| reported.push(report));
        for report in reported {
            match report {
                Report::Committed(group, index, payload) if group != METADATA => {
                    self.committed(group, index, &payload)?;
                }
                report => self.handle(now, Input::Report(report))?,
            }
        }
        for (ticket, completion) in std::mem::take(&mut out.completions) {
            self.completed(now, ticket, completion)?;
        }
        self.outbox = out;
        Ok(())
    }

    /// The disk is memory: nothing takes time.
    fn write(&mut self, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        if !out.journal.is_empty() {
            self.journal.write(&std::mem::take(&mut out.journal)).map_err(fault)?;
            self.inputs.push(ShardInput::Persisted(out.sequence));
        }
        for job in out.flushes.drain(..) {
            let group = job.group();
            let flushed = job.run();
            if let Ok(flushed) = &flushed {
                self.journal.release(group, flushed.upto).map_err(fault)?;
            }
            self.inputs.push(ShardInput::Flushed(group, flushed));
        }
        for load in out.loads.drain(..) {
            self.inputs.push(ShardInput::Loaded(load.run()));
        }
        for group in out.closed.drain(..) {
            // Nothing of it is needed any more; what stays after an error is a little memory.
            let _ = self.fs.remove_dir_all(&folder(Path::new(PARTITIONS), group));
            self.handle(now, Input::Deleted(group))?;
        }
        for group in self.journal.groups_to_flush() {
            self.inputs.push(ShardInput::FlushNow(group));
        }
        Ok(())
    }

    /// A payload of the offsets topic.
    fn committed(&mut self, group: GroupId, index: LogIndex, payload: &Bytes) -> Result<(), Fault> {
        let values = batch::values(payload).map_err(fault)?;
        if let Some(store) = self.offsets.get_mut(&group) {
            for value in values.into_iter().flatten() {
                let command = coordinator::Command::decode(&value).map_err(fault)?;
                store.apply(coordinator::CommandIndex(index.0), &command);
            }
        }
        Ok(())
    }

    fn completed(&mut self, now: Now, ticket: Ticket, completion: Completion) -> Result<(), Fault> {
        match completion {
            Completion::Appended(result) => self.news.push(News::Appended(ticket, result)),
            Completion::Read(result) => {
                let messages = result.and_then(|read| messages(&read.chunks));
                self.news.push(News::Read(ticket, messages));
            }
            Completion::Status(status) => {
                if let Some(group) = self.statuses.remove(&ticket) {
                    self.handle(now, Input::Status(group, status))?;
                }
            }
            Completion::Offsets(_) | Completion::Transferred(_) => {}
        }
        Ok(())
    }

    fn tick(&mut self, now: Now) -> Result<(), Fault> {
        let mut outputs = Vec::new();
        self.node.tick(now, Health::default(), &mut outputs);
        self.carry_out(now, outputs)
    }

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Fault> {
        let mut outputs = Vec::new();
        self.node.handle(now, input, &mut outputs);
        self.carry_out(now, outputs)
    }

    fn carry_out(&mut self, now: Now, mut outputs: Vec<Output>) -> Result<(), Fault> {
        self.node.publish(&mut outputs);
        while !outputs.is_empty() {
            let mut next = Vec::new();
            for output in outputs {
                if let Some(input) = self.do_output(output)? {
                    self.node.handle(now, input, &mut next);
                }
            }
            self.node.publish(&mut next);
            outputs = next;
        }
        Ok(())
    }

    /// What follows from an output at once.
    fn do_output(&mut self, output: Output) -> Result<Option<Input>, Fault> {
        match output {
            Output::Shard(_, input) => self.inputs.push(input),
            Output::AllShards(broadcast) => self.inputs.push(broadcast.to_shard()),
            Output::Propose(batch) => {
                self.append_batch(METADATA, batch);
            }
            Output::Open(job) => {
                let opened = job.run(&self.fs, Path::new(PARTITIONS), |known| self.lives.next(known));
                return Ok(Some(Input::Opened(Box::new(opened))));
            }
            Output::AskStatus(group) => {
                let ticket = self.ticket();
                self.statuses.insert(ticket, group);
                self.inputs.push(ShardInput::Status(ticket, group));
            }
            Output::DeleteQuarantine(group) => {
                delete_quarantine(&*self.fs, &folder(Path::new(PARTITIONS), group)).map_err(fault)?;
            }
            Output::Send(to, frame) => self.frames.push((to, frame)),
            Output::Heartbeat(to, heartbeat) => {
                self.frames.push((to, Frame::Heartbeat(heartbeat_to_wire(heartbeat))));
            }
            Output::Publish(view) => self.view = *view,
            Output::Reply(ticket, answer) => self.news.push(News::Administered(ticket, answer)),
            Output::Notice(Notice::Opening(replica)) if *replica.topic == *OFFSETS_TOPIC => {
                self.offsets.insert(ids::group(replica.group), OffsetStore::default());
            }
            Output::Notice(Notice::Closed(group)) => {
                self.offsets.remove(&group);
            }
            // Nodes pass nothing on for others, nobody joins later, and nothing is noted on a disk that is memory.
            Output::Routes(_)
            | Output::Newcomers(_)
            | Output::NoteFounders(..)
            | Output::NoteMembership
            | Output::NoteStart(..)
            | Output::Notice(_) => {}
            Output::Fatal(fatal) => return Err(Fault(format!("{fatal:?}"))),
        }
        Ok(None)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

fn fault(error: impl std::fmt::Debug) -> Fault {
    Fault(format!("{error:?}"))
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
