//! A shard: the groups that one thread drives.

use bytes::{Bytes, BytesMut};
use trimaran_raft::{
    GroupId, HardState, Instant, Liveness, LogIndex, Message, NodeId, Role, Term, TransferError, Tuning,
};
use trimaran_storage::journal::JournalBatch;
use trimaran_storage::log::{
    BatchMeta, Chunk, FlushJob, Flushed, HighWatermark, LoadJob, LogError, LogOptions, ReplicaLog, Retention,
};
use trimaran_wire::batch::{BatchError, LeaderEpoch, Offset};

/// Names who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// When a producer wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never: the ticket is completed at once when the batch is accepted.
    None,
    /// When the batch is durable in the leader's log.
    Leader,
    /// When it is committed, and on the disks of at least `min_insync_replicas`.
    All,
}

/// What may differ from group to group.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "skeleton")]
pub struct GroupOptions {
    pub min_insync_replicas: usize,
    pub retention: Retention,
    /// Hand committed payloads to the caller by [`Outbox::committed`] (the metadata group, coordinators), from the
    /// first held entry on.
    pub deliver: bool,
}

/// Adds a group to a shard. Made outside of the shard's thread, since opening a log and reading its producers' state
/// may block.
pub struct Open {
    pub(crate) voters: Vec<NodeId>,
    pub(crate) log: ReplicaLog,
    pub(crate) hard_state: HardState,
    pub(crate) options: GroupOptions,
}

impl Open {
    /// A replica as it was found on disk: the voters (the preferred leader first), its log, and its hard state from
    /// the journal. Reads the log's batches to learn what its idempotent producers sent last: may block.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn new(
        voters: Vec<NodeId>,
        log: ReplicaLog,
        hard_state: HardState,
        options: GroupOptions,
    ) -> Result<Open, LogError> {
        Ok(Open {
            voters,
            log,
            hard_state,
            options,
        })
    }
}

/// One consumer's read of one partition.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "skeleton")]
pub struct ReadRequest {
    pub group: GroupId,
    pub from: Offset,
    pub max_bytes: usize,
    /// As the client believes; checked against the term if given (KIP-320).
    pub current_epoch: Option<LeaderEpoch>,
    /// A follower may answer (KIP-392).
    pub follower_ok: bool,
    /// Answer only once the high watermark is above `from` (or on an error, a change of leadership, or `CancelRead`).
    pub wait: bool,
}

/// What a shard is told.
#[allow(missing_docs, reason = "skeleton")]
pub enum Input {
    Open(Box<Open>),
    /// The group is gone for good: its waiters get `UnknownGroup`, the journal forgets it, its log is dropped (see
    /// [`Outbox::closed`]).
    Close(GroupId),
    /// New options for a group and its log.
    Configure(GroupId, GroupOptions, LogOptions),
    /// One record batch, already checked (structure, CRC); stamped here. `ticket` gets [`Completion::Appended`].
    Append {
        group: GroupId,
        batch: BytesMut,
        acks: Acks,
        ticket: Ticket,
    },
    Messages(NodeId, Vec<(GroupId, Message)>),
    /// All batches handed out up to [`Outbox::sequence`] are durable.
    Persisted(u64),
    /// A [`FlushJob`] of this group is done, or failed.
    Flushed(GroupId, Result<Flushed, LogError>),
    /// A [`Chunk`] of this group could not be read: its replica gives up leadership.
    Unreadable(GroupId),
    /// A [`LoadJob`] is done: what to send is in it.
    Loaded(Loaded),
    Liveness(NodeId, Liveness),
    Restored(NodeId),
    Read(Ticket, ReadRequest),
    CancelRead(Ticket),
    /// Only a leader answers. `current_epoch` as in [`ReadRequest::current_epoch`].
    Offsets {
        ticket: Ticket,
        group: GroupId,
        query: OffsetQuery,
        current_epoch: Option<LeaderEpoch>,
    },
    Status(Ticket, GroupId),
    /// Hand over to the named replica, or to the most caught-up one. [`Completion::Transferred`] when it is done.
    Transfer(Ticket, GroupId, Option<NodeId>),
    /// Leaving: hand over every leadership. [`Completion::Transferred`] when none is left or none can be handed over.
    TransferAll(Ticket),
    /// Believe the leader gone, and stand (ranks apply: tell it to all replicas). A leader hands over instead. Ignored
    /// if `failed` is given and another leader is known already, so that a repeated request does no harm.
    Failover {
        group: GroupId,
        failed: Option<NodeId>,
    },
    /// The journal is held by this group's old entries: flush them.
    FlushNow(GroupId),
    /// Delete what retention allows; `now_ms` is wall-clock time.
    Retain {
        now_ms: i64,
    },
}

/// A [`LoadJob`] with its purpose.
#[allow(missing_docs, reason = "skeleton")]
pub struct Load {
    pub group: GroupId,
    pub job: LoadJob,
    pub plan: trimaran_raft::AppendPlan,
}

/// Its outcome.
#[allow(missing_docs, reason = "skeleton")]
pub struct Loaded {
    pub group: GroupId,
    pub plan: trimaran_raft::AppendPlan,
    pub entries: Result<Vec<trimaran_raft::Entry>, LogError>,
}

#[allow(missing_docs, reason = "skeleton")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    Earliest,
    /// The high watermark.
    Latest,
    MaxTimestamp,
    Timestamp(i64),
    EpochEnd {
        epoch: LeaderEpoch,
    },
}

#[allow(missing_docs, reason = "skeleton")]
pub struct OffsetLookup {
    pub epoch: LeaderEpoch,
    pub answer: OffsetAnswer,
}

#[allow(missing_docs, reason = "skeleton")]
pub enum OffsetAnswer {
    At(Offset),
    /// Search this batch for the first record at or after the timestamp.
    InBatch(BatchMeta, Chunk),
    EpochEnd(LeaderEpoch, Offset),
    None,
}

#[allow(missing_docs, reason = "skeleton")]
#[derive(Clone, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub start_offset: Offset,
    pub index: LogIndex,
    pub duplicate: bool,
}

#[allow(missing_docs, reason = "skeleton")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    UnknownGroup,
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Leads, but may not serve yet.
    NotServing,
    Busy,
    NotEnoughReplicas {
        in_sync: usize,
        min: usize,
    },
    OutOfOrderSequence {
        expected: i32,
        found: i32,
    },
    /// Committed, but the in-sync replicas have become too few to hold it as often as `min_insync_replicas` asks.
    NotEnoughReplicasAfterAppend {
        in_sync: usize,
        min: usize,
    },
    /// Not exactly one well-formed record batch.
    BadBatch(BatchError),
    /// The producer's epoch is older than the one known.
    Fenced,
    /// Leadership was lost before it committed: it may or may not survive.
    Lost,
    /// The disk failed.
    Storage,
}

#[allow(missing_docs, reason = "skeleton")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    UnknownGroup,
    NotLeader { leader: Option<NodeId> },
    NotServing,
    FencedEpoch,
    UnknownEpoch,
    OutOfRange { start: Offset, high_watermark: Offset },
    Cancelled,
    Storage,
}

#[allow(missing_docs, reason = "skeleton")]
pub struct ReadResult {
    pub epoch: LeaderEpoch,
    pub high_watermark: HighWatermark,
    pub start_offset: Offset,
    pub chunks: Vec<Chunk>,
    /// The leader's list of in-sync replicas, for choosing a preferred read replica; empty on a follower.
    pub in_sync: Vec<NodeId>,
}

#[allow(missing_docs, reason = "skeleton")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferOutcome {
    /// How many leaderships were given away.
    pub handed_over: usize,
    /// Groups still led here, with the reason.
    pub kept: Vec<(GroupId, TransferError)>,
}

#[allow(missing_docs, reason = "skeleton")]
#[derive(Clone, Debug)]
pub struct GroupStatus {
    pub group: GroupId,
    /// The preferred leader first.
    pub voters: Vec<NodeId>,
    /// The log could not be read or flushed lately: the replica neither leads nor serves.
    pub failed: bool,
    pub role: Role,
    pub term: Term,
    pub leader: Option<NodeId>,
    pub serving: bool,
    pub commit: LogIndex,
    pub last_index: LogIndex,
    pub high_watermark: HighWatermark,
    pub start_offset: Offset,
    pub next_offset: Offset,
    pub in_sync: Vec<NodeId>,
    pub size_bytes: u64,
}

#[allow(missing_docs, reason = "skeleton")]
pub enum Completion {
    Appended(Result<Appended, AppendError>),
    Read(Result<ReadResult, ReadError>),
    Offsets(Result<OffsetLookup, ReadError>),
    Status(Option<GroupStatus>),
    Transferred(TransferOutcome),
}

/// Who leads a group, as its own replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "skeleton")]
pub struct LeaderChange {
    pub group: GroupId,
    pub term: Term,
    pub leader: Option<NodeId>,
    /// This node leads, and may serve clients.
    pub serving: bool,
}

/// The leader's view of who is in sync changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "skeleton")]
pub struct InSync {
    pub group: GroupId,
    pub term: Term,
    pub replicas: Vec<NodeId>,
}

/// What a step of a shard decided; reused.
#[derive(Default)]
#[allow(missing_docs, reason = "skeleton")]
pub struct Outbox {
    /// One write for all groups that were ready; nothing to write if it is empty.
    pub journal: JournalBatch,
    /// The number of the last batch handed out, this one if it is not empty: return it by [`Input::Persisted`] once it
    /// is durable.
    pub sequence: u64,
    /// One envelope a peer.
    pub messages: Vec<(NodeId, Vec<(GroupId, Message)>)>,
    pub completions: Vec<(Ticket, Completion)>,
    /// Committed payloads of groups opened with `deliver`, in order. To be applied before `leaders` is looked at: a
    /// leader that serves has applied everything before.
    pub committed: Vec<(GroupId, LogIndex, Bytes)>,
    pub leaders: Vec<LeaderChange>,
    pub in_sync: Vec<InSync>,
    pub flushes: Vec<FlushJob>,
    pub loads: Vec<Load>,
    /// Groups closed by [`Input::Close`]: their folders may be deleted once `sequence` is durable.
    pub closed: Vec<GroupId>,
    /// Elections begun, for the metrics.
    pub elections: u64,
}

#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "skeleton")]
pub struct ShardConfig {
    pub node: NodeId,
    pub tuning: Tuning,
    /// A follower that has not been caught up for longer is out of sync.
    pub replica_lag: core::time::Duration,
    /// Unflushed bytes of a group beyond which its committed entries are written to segments.
    pub flush_bytes: u64,
    /// Age of the oldest unflushed committed record beyond which it is written to a segment all the same.
    pub flush_age: core::time::Duration,
}

impl ShardConfig {
    /// With everything else at its default: ten seconds of replica lag, flushes at 1 MiB or after ten seconds.
    pub fn new(node: NodeId, tuning: Tuning) -> ShardConfig {
        ShardConfig {
            node,
            tuning,
            replica_lag: core::time::Duration::from_secs(10),
            flush_bytes: 1 << 20,
            flush_age: core::time::Duration::from_secs(10),
        }
    }
}

/// All the groups that one thread drives. Sans-I/O but for what the logs read.
pub struct Shard {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl Shard {
    pub fn new(config: ShardConfig, now: Instant) -> Shard {
        todo!()
    }
    /// Drains `inputs`, steps every group that has input or whose timer is due, and says what follows.
    pub fn step(&mut self, now: Instant, inputs: &mut Vec<Input>, out: &mut Outbox) {
        todo!()
    }
    /// When to step next if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }
    /// Groups visited by all steps so far: idle ones are not.
    pub fn visited(&self) -> u64 {
        todo!()
    }
}
