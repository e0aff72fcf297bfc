//! A shard: the groups that one thread drives, from mailbox to outbox.

use crate::PeerSink;
use crate::appends::{Acks, AppendError, Appended, PendingAppend, Proposal};
use crate::in_sync::InSync;
use crate::leaving::Leaving;
use crate::reads::{OffsetLookup, OffsetQuery, ReadError, ReadRequest, ReadResult};
use crate::replica::{GroupOptions, Open, Replica};
use crate::timers::TimerWheel;
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};
use trimaran_raft::{
    AppendPlan, Entry, Group, GroupId, Input as CoreInput, Instant, Liveness, LogIndex, Message, NodeId, Output, Role,
    Term, Token, TransferError, Tuning,
};
use trimaran_storage::journal::JournalBatch;
use trimaran_storage::log::{FlushJob, Flushed, LoadJob, LogError, LogOptions, ReplicaLog};
use trimaran_storage::scale::HighWatermark;
use trimaran_wire::batch::{LeaderEpoch, Offset};

/// Long polls that a shard holds at most. More are answered at once: their consumers then poll in a circle, which is
/// slower, but costs nobody else anything.
const MAX_WAITING_READS: usize = 100_000;

/// Emptied buffers that are kept, and how large one may be: enough for every group that is busy at a time, without a
/// burst's memory being held for ever.
const MAX_SPARES: usize = 256;
/// See [`MAX_SPARES`].
const MAX_SPARE_CAPACITY: usize = 256;

/// Names who waits for an answer. Chosen by the caller, and used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a shard is told. Inputs for groups that are not here are answered with an error where there is somebody to
/// answer, and dropped otherwise.
pub enum Input {
    /// Adds a group. Ignored if it is here already, if this node is none of its voters, or if one is named twice.
    Open(Box<Open>),
    /// The group is gone for good: its waiters get `UnknownGroup`, the journal forgets it, its log is dropped (see
    /// [`Outbox::closed`]).
    Close(GroupId),
    /// New options for a group and its log. [`GroupOptions::deliver`] stays as it was.
    Configure(GroupId, GroupOptions, LogOptions),
    /// One record batch, already checked (structure, CRC); stamped here. `ticket` gets [`Completion::Appended`].
    Append {
        /// Where to.
        group: GroupId,
        /// Exactly one record batch.
        batch: BytesMut,
        /// When to answer.
        acks: Acks,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// One envelope of another broker.
    Messages(NodeId, Vec<(GroupId, Message)>),
    /// All batches handed out up to [`Outbox::sequence`] are durable.
    Persisted(u64),
    /// A [`FlushJob`] of this group is done, or failed.
    Flushed(GroupId, Result<Flushed, LogError>),
    /// A [`Chunk`](trimaran_storage::log::Chunk) of this group could not be read: its replica gives up leadership.
    Unreadable(GroupId),
    /// A [`LoadJob`] is done: what to send is in it.
    Loaded(Loaded),
    /// Evidence about a broker, from [`crate::LivenessMonitor`].
    Liveness(NodeId, Liveness),
    /// A broker is back, says [`crate::LivenessMonitor`].
    Restored(NodeId),
    /// `ticket` gets [`Completion::Read`].
    Read(Ticket, ReadRequest),
    /// A read that waits is answered with [`ReadError::Cancelled`]; without effect if it has been answered.
    CancelRead(Ticket),
    /// Answered with [`Completion::Offsets`], by leaders only.
    Offsets {
        /// Whom to answer.
        ticket: Ticket,
        /// Of which partition.
        group: GroupId,
        /// The question.
        query: OffsetQuery,
        /// As in [`ReadRequest::current_epoch`].
        current_epoch: Option<LeaderEpoch>,
    },
    /// Answered with [`Completion::Status`].
    Status(Ticket, GroupId),
    /// Hand over to the named replica, or to the most caught-up one. [`Completion::Transferred`] when it is done.
    Transfer(Ticket, GroupId, Option<NodeId>),
    /// Leaving: hand over every leadership, and take no new one. [`Completion::Transferred`] when none is left or none
    /// can be handed over.
    TransferAll(Ticket),
    /// Believe the leader gone, and stand (ranks apply: tell it to all replicas). A leader hands over instead. Ignored
    /// if `failed` is given and another leader is known already, so that a repeated request does no harm.
    Failover {
        /// The group.
        group: GroupId,
        /// The leader that is to be replaced.
        failed: Option<NodeId>,
    },
    /// The journal is held by this group's old entries: flush them, or write them again.
    FlushNow(GroupId),
    /// Delete what retention allows.
    Retain {
        /// Wall-clock time, in milliseconds since 1970.
        now_ms: i64,
    },
}

/// Entries to be read for a follower, on a thread that may block; goes back by [`Input::Loaded`], in any order.
pub struct Load {
    /// For which group.
    pub group: GroupId,
    /// The reading.
    pub job: LoadJob,
    /// What it is for.
    pub plan: AppendPlan,
}

impl Load {
    /// Reads: blocks.
    pub fn run(self) -> Loaded {
        Loaded {
            group: self.group,
            plan: self.plan,
            entries: self.job.run(),
        }
    }
}

/// The outcome of a [`Load`].
pub struct Loaded {
    /// For which group.
    pub group: GroupId,
    /// What it is for.
    pub plan: AppendPlan,
    /// What was read.
    pub entries: Result<Vec<Entry>, LogError>,
}

/// How a handover ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferOutcome {
    /// How many leaderships were given away.
    pub handed_over: usize,
    /// Groups still led here, with the reason.
    pub kept: Vec<(GroupId, TransferError)>,
}

/// One replica, as it sees itself.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The preferred leader first.
    pub voters: Vec<NodeId>,
    /// The log could not be read or written lately: the replica neither leads nor serves.
    pub failed: bool,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// It leads, and may serve clients.
    pub serving: bool,
    /// The last entry known to be committed.
    pub commit: LogIndex,
    /// The last entry of its log.
    pub last_index: LogIndex,
    /// The offset after the last committed record.
    pub high_watermark: HighWatermark,
    /// The first offset that is still held.
    pub start_offset: Offset,
    /// The offset after the last record of the log, committed or not.
    pub next_offset: Offset,
    /// The leader's view; empty on a follower.
    pub in_sync: Vec<NodeId>,
    /// Bytes on disk and in memory.
    pub size_bytes: u64,
}

/// An answer to whoever holds the ticket. Every ticket gets one.
pub enum Completion {
    /// To [`Input::Append`]. Tickets of one group and one kind of [`Acks`] are completed in offset order.
    Appended(Result<Appended, AppendError>),
    /// To [`Input::Read`].
    Read(Result<ReadResult, ReadError>),
    /// To [`Input::Offsets`].
    Offsets(Result<OffsetLookup, ReadError>),
    /// To [`Input::Status`]; none if the group is not here.
    Status(Option<GroupStatus>),
    /// To [`Input::Transfer`] and [`Input::TransferAll`].
    Transferred(TransferOutcome),
}

/// Who leads a group, as its own replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// The group.
    pub group: GroupId,
    /// The term it is known for.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// This node leads, and may serve clients.
    pub serving: bool,
}

/// What a step of a shard decided; reused. The caller takes everything out before the next step.
#[derive(Default)]
pub struct Outbox {
    /// One write for all groups that were ready; nothing to write if it is empty.
    pub journal: JournalBatch,
    /// The number of the last batch handed out, this one if it is not empty: return it by [`Input::Persisted`] once it
    /// is durable.
    pub sequence: u64,
    /// One envelope a peer. They need not wait for the journal: what must is not here yet.
    pub messages: Vec<(NodeId, Vec<(GroupId, Message)>)>,
    /// Answers.
    pub completions: Vec<(Ticket, Completion)>,
    /// Committed payloads of groups opened with `deliver`, in order. To be applied before `leaders` is looked at: a
    /// leader that serves has applied everything before.
    pub committed: Vec<(GroupId, LogIndex, Bytes)>,
    /// Who leads what, where that changed.
    pub leaders: Vec<LeaderChange>,
    /// Who is in sync, where that changed, from leaders that serve.
    pub in_sync: Vec<InSync>,
    /// To be run where blocking is allowed, and returned by [`Input::Flushed`].
    pub flushes: Vec<FlushJob>,
    /// To be run where blocking is allowed, and returned by [`Input::Loaded`].
    pub loads: Vec<Load>,
    /// Groups closed by [`Input::Close`]: their folders may be deleted once `sequence` is durable.
    pub closed: Vec<GroupId>,
    /// Elections begun, for the metrics: added up until the caller resets it.
    pub elections: u64,
}

impl Outbox {
    /// Hands all envelopes to whoever sends them.
    pub fn send_to(&mut self, sink: &mut impl PeerSink) {
        for (to, messages) in self.messages.drain(..) {
            sink.send(to, messages);
        }
    }

    /// Puts a message into its peer's envelope. A broker has a handful of peers: looking through them is fastest.
    pub(crate) fn send(&mut self, to: NodeId, group: GroupId, message: Message) {
        match self.messages.iter_mut().find(|(peer, _)| *peer == to) {
            Some((_, envelope)) => envelope.push((group, message)),
            None => self.messages.push((to, vec![(group, message)])),
        }
    }
}

/// What all groups of a shard have in common.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This broker.
    pub node: NodeId,
    /// The cores' intervals and limits.
    pub tuning: Tuning,
    /// A follower that has not been caught up for longer is out of sync.
    pub replica_lag: Duration,
    /// Unflushed bytes of a group beyond which its committed entries are written to segments.
    pub flush_bytes: u64,
    /// Age of the oldest unflushed committed record beyond which it is written to a segment all the same.
    pub flush_age: Duration,
}

impl ShardConfig {
    /// With everything else at its default: ten seconds of replica lag, flushes at 1 MiB or after a minute (earlier if
    /// the journal asks for it: [`Input::FlushNow`]).
    pub fn new(node: NodeId, tuning: Tuning) -> ShardConfig {
        ShardConfig {
            node,
            tuning,
            replica_lag: Duration::from_secs(10),
            flush_bytes: 1 << 20,
            flush_age: Duration::from_secs(60),
        }
    }
}

/// A write that a group waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Issued {
    pub(crate) sequence: u64,
    pub(crate) group: GroupId,
    pub(crate) opening: u64,
    pub(crate) token: Token,
}

/// Whom the wheel calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// This group has something to do.
    Group(GroupId),
    /// The handover of everything goes on.
    Leaving,
}

/// What the replicas of a shard share while they are stepped.
pub(crate) struct Desk {
    pub(crate) config: ShardConfig,
    pub(crate) now: Instant,
    /// This broker gives its leaderships away, and takes none.
    pub(crate) is_leaving: bool,
    /// The last journal batch handed out.
    sequence: u64,
    /// Writes under way, in the order in which they were handed out.
    pub(crate) issued: VecDeque<Issued>,
    pub(crate) timers: TimerWheel<Timer>,
    /// Reads that wait, and where.
    pub(crate) waiting_reads: HashMap<Ticket, GroupId>,
    /// Handovers that [`Input::TransferAll`] asked for and that ended during this step.
    pub(crate) handed_over: Vec<(GroupId, Result<(), TransferError>)>,
    /// Reused for all groups.
    pub(crate) core_output: Output,
    pub(crate) proposal: Proposal,
    spare_pending: Vec<Vec<PendingAppend>>,
}

impl Desk {
    /// The number of the journal batch that this step fills.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    pub(crate) fn may_wait(&self) -> bool {
        self.waiting_reads.len() < MAX_WAITING_READS
    }

    /// Gives a group's emptied buffer to the next one that needs one.
    pub(crate) fn keep_pending(&mut self, pending: Vec<PendingAppend>) {
        let is_handy = pending.capacity() <= MAX_SPARE_CAPACITY && self.spare_pending.len() < MAX_SPARES;
        if is_handy {
            self.spare_pending.push(pending);
        }
    }
}

/// All the groups that one thread drives. Sans-I/O but for what the logs read.
pub struct Shard {
    desk: Desk,
    replicas: HashMap<GroupId, Box<Replica>>,
    /// Which groups have a node as a voter, in the order of their opening.
    by_node: BTreeMap<NodeId, Vec<GroupId>>,
    /// What is known of the brokers that are not simply alive.
    liveness: BTreeMap<NodeId, Liveness>,
    /// Groups to be visited at the end of the step.
    ready: Vec<GroupId>,
    /// Groups whose tokens came back; reused.
    returned: Vec<GroupId>,
    due: Vec<Timer>,
    leaving: Option<Leaving>,
    openings: u64,
    visited: u64,
}

impl Shard {
    /// A shard without groups.
    pub fn new(config: ShardConfig, now: Instant) -> Shard {
        let desk = Desk {
            config,
            now,
            is_leaving: false,
            sequence: 0,
            issued: VecDeque::new(),
            timers: TimerWheel::new(now),
            waiting_reads: HashMap::new(),
            handed_over: Vec::new(),
            core_output: Output::default(),
            proposal: Proposal::default(),
            spare_pending: Vec::new(),
        };
        Shard {
            desk,
            replicas: HashMap::new(),
            by_node: BTreeMap::new(),
            liveness: BTreeMap::new(),
            ready: Vec::new(),
            returned: Vec::new(),
            due: Vec::new(),
            leaving: None,
            openings: 0,
            visited: 0,
        }
    }

    /// Drains `inputs`, steps every group that has input or whose timer is due, and says what follows. Time never goes
    /// back: an earlier `now` counts as the latest one seen.
    pub fn step(&mut self, now: Instant, inputs: &mut Vec<Input>, out: &mut Outbox) {
        self.desk.now = self.desk.now.max(now);
        for input in inputs.drain(..) {
            self.take(input, out);
        }
        self.take_timers(out);
        self.settle(out);
        self.go_on_leaving(out);
        if !out.journal.is_empty() {
            self.desk.sequence += 1;
        }
        out.sequence = self.desk.sequence;
    }

    /// When to step next if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.desk.timers.deadline()
    }

    /// Groups visited by all steps so far, for the metrics: idle ones are not.
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// A group's member and its log, to look at; none if the group is not on this shard. The simulation's checkers see
    /// by it what no message shows.
    pub fn replica(&self, group: GroupId) -> Option<(&Group, &ReplicaLog)> {
        let replica = self.replicas.get(&group)?;
        Some((&replica.group, &replica.log))
    }

    /// Groups on this shard.
    pub fn groups(&self) -> usize {
        self.replicas.len()
    }

    fn take(&mut self, input: Input, out: &mut Outbox) {
        match input {
            Input::Open(open) => self.open(*open, out),
            Input::Close(group) => self.close(group, out),
            Input::Configure(group, options, log) => {
                self.visit(group, out, |replica, _, _| replica.configure(options, log));
            }
            Input::Append {
                group,
                batch,
                acks,
                ticket,
            } => {
                self.append(group, PendingAppend { batch, acks, ticket }, out);
            }
            Input::Messages(from, messages) => self.receive(from, messages, out),
            Input::Persisted(sequence) => self.persisted(sequence, out),
            Input::Flushed(group, result) => {
                self.visit(group, out, |replica, _, _| replica.flushed(result));
            }
            Input::Unreadable(group) => {
                self.visit(group, out, |replica, _, _| replica.note_failure());
            }
            Input::Loaded(loaded) => {
                self.visit(loaded.group, out, |replica, desk, out| {
                    replica.loaded(loaded, desk, out)
                });
            }
            Input::Liveness(node, liveness) => self.note_liveness(node, liveness, out),
            Input::Restored(node) => self.note_restored(node, out),
            Input::Read(ticket, request) => self.read(ticket, request, out),
            Input::CancelRead(ticket) => self.cancel_read(ticket, out),
            Input::Offsets {
                ticket,
                group,
                query,
                current_epoch,
            } => {
                self.look_up(ticket, group, query, current_epoch, out);
            }
            Input::Status(ticket, group) => {
                let status = self.replicas.get(&group).map(|replica| replica.status());
                out.completions.push((ticket, Completion::Status(status)));
            }
            Input::Transfer(ticket, group, to) => self.transfer(ticket, group, to, out),
            Input::TransferAll(ticket) => self.begin_leaving(ticket),
            Input::Failover { group, failed } => {
                self.visit(group, out, |replica, desk, out| replica.fail_over(failed, desk, out));
            }
            Input::FlushNow(group) => {
                self.visit(group, out, |replica, _, out| replica.flush_now(out));
            }
            Input::Retain { now_ms } => self.retain(now_ms, out),
        }
    }

    /// Does something with a group, which is visited again when all inputs are taken. False if it is not here.
    fn visit(
        &mut self,
        group: GroupId,
        out: &mut Outbox,
        act: impl FnOnce(&mut Replica, &mut Desk, &mut Outbox),
    ) -> bool {
        let Some(replica) = self.replicas.get_mut(&group) else {
            return false;
        };
        if !core::mem::replace(&mut replica.ready, true) {
            self.ready.push(group);
        }
        act(replica, &mut self.desk, out);
        true
    }

    fn open(&mut self, open: Open, out: &mut Outbox) {
        let group = open.group();
        let own = self.desk.config.node;
        if self.replicas.contains_key(&group) || !open.is_for(own) {
            return;
        }
        for &node in &open.voters {
            self.by_node.entry(node).or_default().push(group);
        }
        // A new group's preferred leader need not wait for anybody else to stand. One that is leaving won't.
        let preferred = open.voters.first() == Some(&own) && !self.desk.is_leaving;
        self.openings += 1;
        let replica = Replica::open(open, self.openings, &self.desk);
        self.replicas.insert(group, Box::new(replica));
        let liveness = &self.liveness;
        let evidence: Vec<_> = liveness.iter().map(|(&node, &liveness)| (node, liveness)).collect();
        self.visit(group, out, |replica, desk, out| {
            for (node, liveness) in evidence {
                if replica.group.voters().contains(&node) {
                    replica.step(CoreInput::Liveness(node, liveness), desk, out);
                }
            }
            if preferred && replica.is_new() {
                replica.step(CoreInput::Campaign, desk, out);
            }
        });
    }

    fn close(&mut self, group: GroupId, out: &mut Outbox) {
        let Some(mut replica) = self.replicas.remove(&group) else {
            return;
        };
        replica.close(&mut self.desk, out);
        for node in replica.group.voters() {
            if let Some(groups) = self.by_node.get_mut(node) {
                groups.retain(|other| *other != group);
            }
        }
    }

    fn append(&mut self, group: GroupId, append: PendingAppend, out: &mut Outbox) {
        let ticket = append.ticket;
        let known = self.visit(group, out, |replica, desk, _| {
            if replica.pending.capacity() == 0 {
                replica.pending = desk.spare_pending.pop().unwrap_or_default();
            }
            replica.pending.push(append);
        });
        if !known {
            out.completions
                .push((ticket, Completion::Appended(Err(AppendError::UnknownGroup))));
        }
    }

    fn receive(&mut self, from: NodeId, messages: Vec<(GroupId, Message)>, out: &mut Outbox) {
        let in_doubt = self.liveness.contains_key(&from);
        for (group, message) in messages {
            self.visit(group, out, |replica, desk, out| {
                replica.receive(from, in_doubt, message, desk, out);
            });
        }
    }

    /// Returns each group's newest token: it stands for those before it.
    fn persisted(&mut self, sequence: u64, out: &mut Outbox) {
        let mut returned = core::mem::take(&mut self.returned);
        while let Some(issued) = self.desk.issued.front().filter(|issued| issued.sequence <= sequence) {
            let same_opening = |replica: &&mut Box<Replica>| replica.opening == issued.opening;
            if let Some(replica) = self.replicas.get_mut(&issued.group).filter(same_opening)
                && replica.returned.replace(issued.token).is_none()
            {
                returned.push(issued.group);
            }
            self.desk.issued.pop_front();
        }
        for group in returned.drain(..) {
            self.visit(group, out, |replica, desk, out| {
                if let Some(token) = replica.returned.take() {
                    replica.step(CoreInput::Persisted(token), desk, out);
                }
            });
        }
        self.returned = returned;
    }

    fn note_liveness(&mut self, node: NodeId, liveness: Liveness, out: &mut Outbox) {
        if liveness == Liveness::Alive {
            self.liveness.remove(&node);
        } else {
            self.liveness.insert(node, liveness);
        }
        self.tell_groups_of(node, CoreInput::Liveness(node, liveness), out);
    }

    fn note_restored(&mut self, node: NodeId, out: &mut Outbox) {
        self.liveness.remove(&node);
        self.tell_groups_of(node, CoreInput::Restored(node), out);
    }

    /// Only groups that have the node as a voter are told.
    fn tell_groups_of(&mut self, node: NodeId, input: CoreInput, out: &mut Outbox) {
        let groups = self.by_node.get_mut(&node).map(core::mem::take).unwrap_or_default();
        for &group in &groups {
            self.visit(group, out, |replica, desk, out| replica.step(input.clone(), desk, out));
        }
        if !groups.is_empty() {
            self.by_node.insert(node, groups);
        }
    }

    /// Not a visit: most reads change nothing.
    fn read(&mut self, ticket: Ticket, request: ReadRequest, out: &mut Outbox) {
        match self.replicas.get_mut(&request.group) {
            Some(replica) => {
                replica.read(ticket, request, &mut self.desk, out);
                self.visit_if_failing(request.group, out);
            }
            None => out
                .completions
                .push((ticket, Completion::Read(Err(ReadError::UnknownGroup)))),
        }
    }

    fn cancel_read(&mut self, ticket: Ticket, out: &mut Outbox) {
        if let Some(group) = self.desk.waiting_reads.remove(&ticket)
            && let Some(replica) = self.replicas.get_mut(&group)
        {
            replica.cancel_read(ticket, out);
        }
    }

    fn look_up(
        &mut self,
        ticket: Ticket,
        group: GroupId,
        query: OffsetQuery,
        current_epoch: Option<LeaderEpoch>,
        out: &mut Outbox,
    ) {
        let answer = match self.replicas.get_mut(&group) {
            Some(replica) => replica.look_up(query, current_epoch, &mut self.desk, out),
            None => Err(ReadError::UnknownGroup),
        };
        out.completions.push((ticket, Completion::Offsets(answer)));
        self.visit_if_failing(group, out);
    }

    fn visit_if_failing(&mut self, group: GroupId, out: &mut Outbox) {
        if self.replicas.get(&group).is_some_and(|replica| replica.is_failed()) {
            self.visit(group, out, |_, _, _| {});
        }
    }

    fn transfer(&mut self, ticket: Ticket, group: GroupId, to: Option<NodeId>, out: &mut Outbox) {
        if !self.visit(group, out, |replica, desk, out| replica.transfer(ticket, to, desk, out)) {
            let kept = vec![(group, TransferError::NotLeader)];
            let outcome = TransferOutcome { handed_over: 0, kept };
            out.completions.push((ticket, Completion::Transferred(outcome)));
        }
    }

    fn retain(&mut self, now_ms: i64, out: &mut Outbox) {
        for group in self.groups_in_order() {
            if let Some(replica) = self.replicas.get_mut(&group) {
                replica.retain(now_ms);
            }
            self.visit_if_failing(group, out);
        }
    }

    fn groups_in_order(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.replicas.keys().copied().collect();
        groups.sort_unstable();
        groups
    }

    fn take_timers(&mut self, out: &mut Outbox) {
        let mut due = core::mem::take(&mut self.due);
        self.desk.timers.advance(self.desk.now, &mut due);
        for timer in due.drain(..) {
            // For its time `go_on_leaving` looks at the clock.
            let Timer::Group(group) = timer else { continue };
            let now = self.desk.now;
            // Armed for later means: armed anew since, and this is the old call.
            let called = |replica: &&mut Box<Replica>| replica.armed.is_some_and(|armed| armed <= now);
            if let Some(replica) = self.replicas.get_mut(&group).filter(called) {
                replica.armed = None;
                self.visit(group, out, |_, _, _| {});
            }
        }
        self.due = due;
    }

    fn settle(&mut self, out: &mut Outbox) {
        let mut ready = core::mem::take(&mut self.ready);
        for group in ready.drain(..) {
            if let Some(replica) = self.replicas.get_mut(&group) {
                replica.ready = false;
                replica.settle(&mut self.desk, out);
                self.visited += 1;
            }
        }
        self.ready = ready;
    }

    /// The first pass begins when all inputs are taken.
    fn begin_leaving(&mut self, ticket: Ticket) {
        match &mut self.leaving {
            Some(leaving) => leaving.join(ticket),
            None => self.leaving = Some(Leaving::new(ticket)),
        }
        self.desk.is_leaving = true;
    }

    /// The next pass over the leaderships that are left, once the last one has ended.
    fn go_on_leaving(&mut self, out: &mut Outbox) {
        let Some(mut leaving) = self.leaving.take() else { return };
        leaving.note(self.desk.handed_over.drain(..));
        if leaving.pass_is_due(self.desk.now) {
            let led = self.groups_in_order();
            let led: Vec<_> = led.into_iter().filter(|group| self.replicas[group].leads()).collect();
            leaving.begin_pass(self.desk.now, self.desk.config.tuning.election_timeout, &led, out);
            // Groups are visited while `self.leaving` is taken: nothing they do looks at it.
            for group in leaving.asked().collect::<Vec<_>>() {
                self.visit(group, out, |replica, desk, out| {
                    replica.handover.leaving = true;
                    replica.begin_transfer(None, desk, out);
                });
            }
            self.settle(out);
            leaving.note(self.desk.handed_over.drain(..));
        }
        if let Some(deadline) = leaving.arm(self.desk.now) {
            self.desk.timers.insert(deadline, Timer::Leaving);
        }
        self.leaving = Some(leaving);
    }
}
