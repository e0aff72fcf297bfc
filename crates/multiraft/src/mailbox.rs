//! The inputs and outputs of a shard.

use crate::opening::{Damaged, Open};
use crate::requests::{
    Acks, AppendError, Appended, GroupOptions, InSync, OffsetLookup, OffsetQuery, ReadError, ReadRequest, ReadResult,
};
use bytes::{Bytes, BytesMut};
use trimaran_raft::{
    AppendPlan, Configuration, Entry, GroupId, HardState, Liveness, LogIndex, Message, NodeId, Role, SafetyViolation,
    Term, TransferError,
};
use trimaran_storage::journal::JournalBatch;
use trimaran_storage::log::{FlushJob, Flushed, LoadJob, LogError, LogOptions};
use trimaran_storage::offsets::{HighWatermark, LogEnd};
use trimaran_storage::snapshot::LogStart;
use trimaran_wire::batch::{LeaderEpoch, Offset};

/// Names who waits for an answer. Chosen by the caller, and used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An input of a shard. Inputs for groups that are not here are answered with an error where there is somebody to
/// answer, and dropped otherwise.
pub enum Input {
    /// Adds a group. Ignored if it is here already (unless it is opened as lost, and this shard has asked for that by
    /// [`Outbox::lost`]), if it was closed and [`Outbox::closed`] has not named it yet, or if its first configuration
    /// can't be.
    Open(Box<Open>),
    /// A replica whose log can't be opened for now, although nothing says that it is damaged (the operating system
    /// refuses): it neither votes nor leads, but tells the others that it doesn't. A node that asks it for something
    /// gets the error that stands for a failed log, until [`Input::Open`] takes its place. Ignored if the group is here
    /// already.
    Damaged(Box<Damaged>),
    /// The group is gone for good: its waiters get `UnknownGroup`, the journal forgets it, its log is dropped (see
    /// [`Outbox::closed`]).
    Close(GroupId),
    /// The nodes that are to have a replica of this group from now on, the preferred leader first. Its leader sees to
    /// it, one step after the other ([`Outbox::members`] says how far it is); tell it to all replicas. If nobody is
    /// named, the members stay as they are, but for those that are lost. The number names this request; see
    /// [`Members::fulfils`].
    Replicas(GroupId, Vec<NodeId>, u64),
    /// The brokers that hold this group's log without a vote, and never get one: the brokers that did not found the
    /// cluster, in the metadata group. Its leader makes them learners; tell it to all replicas. Only counts beside
    /// [`Input::Replicas`] or [`Open::wanting`] that names voters.
    Learners(GroupId, Vec<NodeId>),
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
        /// The ticket to answer.
        ticket: Ticket,
    },
    /// One envelope of another broker.
    Messages(NodeId, Vec<(GroupId, Message)>),
    /// All batches handed out up to [`Outbox::sequence`] are durable.
    Persisted(u64),
    /// A [`FlushJob`] of this group is done, or failed.
    Flushed(GroupId, Result<Flushed, LogError>),
    /// A [`Chunk`](trimaran_storage::log::Chunk) of this group could not be read: its replica gives up leadership, and
    /// if its log is damaged, its membership too (see [`Outbox::lost`]).
    Unreadable(GroupId, LogError),
    /// A [`LoadJob`] is done: what to send is in it.
    Loaded(Loaded),
    /// Evidence about a broker, from [`crate::LivenessMonitor`].
    Liveness(NodeId, Liveness),
    /// A broker is back, says [`crate::LivenessMonitor`].
    Restored(NodeId),
    /// This group's messages reach these nodes by another way than the link that [`Input::Liveness`] is about, and no
    /// other nodes: as long as that is so, the group takes them for alive. See [`crate::LivenessMonitor::route`].
    Rerouted(GroupId, Vec<NodeId>),
    /// `ticket` gets [`Completion::Read`].
    Read(Ticket, ReadRequest),
    /// A read that waits is answered with [`ReadError::Cancelled`]; without effect if it has been answered.
    CancelRead(Ticket),
    /// Answered with [`Completion::Offsets`], by leaders only.
    Offsets {
        /// The ticket to answer.
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
    /// Records of this group before the offset may be deleted, whatever retention says: its user has written again what
    /// it still needs of them. Whole segments go, with the next [`Input::Retain`]; a replica forgets this when it is
    /// opened again.
    Trim(GroupId, Offset),
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
    /// The append that it is for.
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
    /// The append that it is for.
    pub plan: AppendPlan,
    /// The bytes that were read.
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
    /// The preferred leader first. As this replica knows them; a change may not be committed yet.
    pub voters: Vec<NodeId>,
    /// While voters are exchanged: those before, whose majority is needed as well. Empty otherwise.
    pub outgoing: Vec<NodeId>,
    /// Replicas that are being filled, and don't count yet.
    pub learners: Vec<NodeId>,
    /// The replica has lost what it had promised, and is being filled again: it neither votes nor leads until it is.
    pub repairing: bool,
    /// The log could not be read or written lately: the replica serves nobody, and hands over what it leads. Or it
    /// could not even be opened ([`Input::Damaged`]): then nothing else is known.
    pub failed: bool,
    /// Its kind.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// Whether it leads, and may serve clients.
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
    /// How far every other member is, as the leader sees it; empty on a follower.
    pub progress: Vec<(NodeId, trimaran_raft::Progress)>,
    /// Bytes on disk and in memory.
    pub size_bytes: u64,
}

/// An answer to the holder of the ticket. Every ticket gets one.
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

/// The leader of a group, as its own replica sees it.
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

/// The members of a group have changed, or a leader has begun to serve with others than the first ones, or they are
/// those that were asked for: what its leader knows to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The group.
    pub group: GroupId,
    /// The term of the leader that says so.
    pub term: Term,
    /// The voters, the preferred leader first.
    pub voters: Vec<NodeId>,
    /// The members that get the log, but don't count.
    pub learners: Vec<NodeId>,
    /// The entry that made them members; of two reports, the one with the higher index is newer.
    pub index: LogIndex,
    /// Nothing is left to be changed: these are the members that [`Input::Replicas`] of this number asked for. Said
    /// once for each request, and again by each new leader.
    pub fulfils: Option<u64>,
}

/// A replica whose log has turned out to be damaged: it takes no part any more.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The group.
    pub group: GroupId,
    /// The fault, with file and position.
    pub error: LogError,
}

/// A replica whose log refuses what its leader sent: it takes no part any more, until it is opened again. Said once.
#[derive(Clone, Debug)]
pub struct RefusedEntries {
    /// The group.
    pub group: GroupId,
    /// The leader that sent them, as far as it is known.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// The entry, and what is wrong with it.
    pub error: LogError,
}

/// A group that decides nothing any more: too many of its voters have lost what they had promised, and what they held
/// may be nowhere else. Only a disk that comes back helps. Said once a term, by a leader that soon steps down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumLost {
    /// The group.
    pub group: GroupId,
    /// In which term.
    pub term: Term,
    /// The voters that are lost.
    pub lost: Vec<NodeId>,
}

/// A replica here was told something by a leader that contradicts what is committed, or what another leader of the term
/// has said: a disk has lost what it had promised, or two clusters mix. The replica takes nothing of it. Said once as
/// long as the leader repeats itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The group.
    pub group: GroupId,
    /// The broker that leads, or believes so.
    pub leader: NodeId,
    /// The term that it leads.
    pub term: Term,
    /// The contradiction.
    pub violation: SafetyViolation,
}

/// Where a shard's messages go. May lose them.
pub trait PeerSink {
    /// Sends one envelope of group messages to a peer, or drops it.
    fn send(&mut self, to: NodeId, messages: Vec<(GroupId, Message)>);
}

/// The decisions of a step of a shard; reused. The caller takes everything out before the next step.
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
    /// Leaders, where they changed.
    pub leaders: Vec<LeaderChange>,
    /// In-sync replicas, where they changed, from leaders that serve.
    pub in_sync: Vec<InSync>,
    /// Members, where they changed, from leaders that serve.
    pub members: Vec<Members>,
    /// Replicas that are damaged: set their logs aside where blocking is allowed
    /// ([`open_lost`](trimaran_storage::log::ReplicaLog::open_lost)), and return them by [`Input::Open`] as
    /// [`Open::lost`]. No job of theirs is under way.
    pub lost: Vec<Lost>,
    /// Replicas that refuse what their leaders sent: to be told to an operator.
    pub refused: Vec<RefusedEntries>,
    /// Groups led here that decide nothing any more: to be told to an operator.
    pub quorum_lost: Vec<QuorumLost>,
    /// Leaders that contradict what replicas here hold: to be told to an operator.
    pub contradictions: Vec<Contradiction>,
    /// To be run where blocking is allowed, and returned by [`Input::Flushed`].
    pub flushes: Vec<FlushJob>,
    /// To be run where blocking is allowed, and returned by [`Input::Loaded`].
    pub loads: Vec<Load>,
    /// Groups closed by [`Input::Close`] of which no [`FlushJob`] is out any more, so that nothing writes to their
    /// folders: those may be deleted once `sequence` is durable, and the groups opened again afterwards.
    pub closed: Vec<GroupId>,
    /// Idempotent producers forgotten for lack of room: of which group, and how many.
    pub forgotten: Vec<(GroupId, u64)>,
    /// Elections begun, for the metrics: added up until the caller resets it.
    pub elections: u64,
    /// Logs that were begun again behind a position that their leader named, for the metrics: added up likewise.
    pub resets: u64,
}

impl Outbox {
    /// Hands all envelopes to their sink.
    pub fn send_to(&mut self, sink: &mut impl PeerSink) {
        for (to, messages) in self.messages.drain(..) {
            sink.send(to, messages);
        }
    }

    /// Tells the journal that all that it has of a replica is void, but for this hard state: before anything that
    /// follows from it.
    pub(crate) fn forget_past(&mut self, group: GroupId, founders: &[NodeId], hard_state: HardState) {
        let nothing = LogStart {
            end: LogEnd::default(),
            configuration: Configuration::of_voters(founders.iter().copied()),
            producers: Vec::new(),
        };
        self.journal.reset(group, &nothing.to_snapshot());
        self.journal.hard_state(group, hard_state);
    }

    /// Puts a message into its peer's envelope. A broker has a handful of peers: looking through them is fastest.
    pub(crate) fn send(&mut self, to: NodeId, group: GroupId, message: Message) {
        match self.messages.iter_mut().find(|(peer, _)| *peer == to) {
            Some((_, envelope)) => envelope.push((group, message)),
            None => self.messages.push((to, vec![(group, message)])),
        }
    }
}
