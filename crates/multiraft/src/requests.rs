//! Requests to a shard, their answers and their errors: values without behaviour.

use core::fmt;
use trimaran_raft::{GroupId, LogIndex, NodeId, Term};
use trimaran_storage::log::{BatchMeta, Chunk, Retention};
use trimaran_storage::offsets::HighWatermark;
use trimaran_wire::batch::{BatchError, LeaderEpoch, Offset};

/// The options that may differ from group to group.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// How many replicas must hold a batch before it is acknowledged to a producer that asked for all
    /// ([`crate::Acks::All`]). No more are asked for than the partition is assigned, lost ones included (as Kafka
    /// does).
    pub min_insync_replicas: usize,
    /// The records that may be deleted.
    pub retention: Retention,
    /// Hand committed payloads to the caller by [`crate::Outbox::committed`] (the metadata group, coordinators), from
    /// the first held entry on.
    pub deliver: bool,
}

/// The moment at which a producer gets its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never: the ticket is completed at once when the batch is accepted.
    None,
    /// When the batch is durable in the leader's log.
    Leader,
    /// When it is committed, and on the disks of at least `min_insync_replicas`.
    All,
}

/// The place of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record. A duplicate's is the original's.
    pub base_offset: Offset,
    /// The first offset that the log still holds.
    pub start_offset: Offset,
    /// Its place on Raft's scale.
    pub index: LogIndex,
    /// Whether it was stored already: the producer sent it twice.
    pub duplicate: bool,
}

/// The reason that a batch was not acknowledged. Unless said otherwise nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The caller's mistake, or the group was closed: it is not on this shard.
    UnknownGroup,
    /// The client's metadata is old.
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// Leads, but may not serve yet: try again in a moment.
    NotServing,
    /// More is uncommitted, or not in segments yet, than may be: the followers or the disk can't keep up. Try again
    /// later.
    Busy,
    /// The cluster's: with [`Acks::All`], fewer replicas are in sync than `min_insync_replicas`.
    NotEnoughReplicas {
        /// How many are in sync.
        in_sync: usize,
        /// How many must be.
        min: usize,
    },
    /// Committed, but the in-sync replicas have become too few to hold it as often as `min_insync_replicas` asks.
    NotEnoughReplicasAfterAppend {
        /// How many are in sync.
        in_sync: usize,
        /// How many must be.
        min: usize,
    },
    /// The client's: not exactly one well-formed record batch.
    BadBatch(BatchError),
    /// The producer's: a batch before this one is missing.
    OutOfOrderSequence {
        /// The sequence number that would continue what is stored.
        expected: i32,
        /// The one that came.
        found: i32,
    },
    /// Too many idempotent producers have begun within the last quarter of an hour: what they sent has to be
    /// remembered.
    TooManyProducers,
    /// The producer's: its epoch is older than the one known, so another one has taken its place.
    Fenced,
    /// Leadership was lost before the answer was due: the batch may or may not survive.
    Lost,
    /// This broker's: the log could not be read or written lately.
    Storage,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::UnknownGroup => f.write_str("the group is not here"),
            AppendError::NotLeader { leader: Some(leader) } => write!(f, "node {leader} leads"),
            AppendError::NotLeader { leader: None } => f.write_str("another node leads, or none"),
            AppendError::NotServing => f.write_str("the leader may not serve yet"),
            AppendError::Busy => f.write_str("too much is uncommitted or not yet in segments"),
            AppendError::NotEnoughReplicas { in_sync, min } => {
                write!(f, "{in_sync} replicas are in sync, {min} must be")
            }
            AppendError::NotEnoughReplicasAfterAppend { in_sync, min } => {
                write!(f, "committed, but only {in_sync} replicas are in sync, {min} must be")
            }
            AppendError::BadBatch(error) => error.fmt(f),
            AppendError::OutOfOrderSequence { expected, found } => {
                write!(f, "sequence {found} came where {expected} was expected")
            }
            AppendError::TooManyProducers => {
                f.write_str("too many new idempotent producers on this partition; try again in some minutes")
            }
            AppendError::Fenced => f.write_str("a newer epoch of this producer is known"),
            AppendError::Lost => f.write_str("leadership was lost before the batch was acknowledged"),
            AppendError::Storage => f.write_str("the log failed"),
        }
    }
}

impl std::error::Error for AppendError {}

/// One consumer's read of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The partition's group.
    pub group: GroupId,
    /// The first offset wanted. The batch that holds it is returned whole.
    pub from: Offset,
    /// About how many bytes; at least one batch is returned if there is one.
    pub max_bytes: usize,
    /// As the client believes; checked against the term if given (KIP-320).
    pub current_epoch: Option<LeaderEpoch>,
    /// A follower may answer (KIP-392).
    pub follower_ok: bool,
    /// Answer only once the high watermark is above `from` (or on an error, a change of leadership, or
    /// [`crate::Input::CancelRead`]).
    pub wait: bool,
}

/// The result of a read: possibly nothing.
#[derive(Clone)]
pub struct ReadResult {
    /// The current term.
    pub epoch: LeaderEpoch,
    /// Nothing at or above it is shown to anyone.
    pub high_watermark: HighWatermark,
    /// The first offset that is still held.
    pub start_offset: Offset,
    /// Whole record batches, in order. Those in files are read where blocking is allowed.
    pub chunks: Vec<Chunk>,
    /// The leader's list of in-sync replicas, for choosing a preferred read replica; empty on a follower.
    pub in_sync: Vec<NodeId>,
}

impl fmt::Debug for ReadResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadResult")
            .field("epoch", &self.epoch)
            .field("high_watermark", &self.high_watermark)
            .field("start_offset", &self.start_offset)
            .field("chunks", &self.chunks.len())
            .field("in_sync", &self.in_sync)
            .finish()
    }
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The caller's mistake, or the group was closed: it is not on this shard.
    UnknownGroup,
    /// The client's metadata is old.
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// Leads, but may not serve yet: try again in a moment.
    NotServing,
    /// The client's: there is a newer leader epoch than the one it knows.
    FencedEpoch,
    /// This node's: the client knows a newer leader epoch.
    UnknownEpoch,
    /// The client's: what it asks for is deleted, or was never there.
    OutOfRange {
        /// The first offset that is still held.
        start: Offset,
        /// The end of what can be read.
        high_watermark: Offset,
    },
    /// By [`crate::Input::CancelRead`].
    Cancelled,
    /// This broker's: the log could not be read or written lately.
    Storage,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::UnknownGroup => f.write_str("the group is not here"),
            ReadError::NotLeader { leader: Some(leader) } => write!(f, "node {leader} leads"),
            ReadError::NotLeader { leader: None } => f.write_str("another node leads, or none"),
            ReadError::NotServing => f.write_str("the leader may not serve yet"),
            ReadError::FencedEpoch => f.write_str("a newer leader epoch is known"),
            ReadError::UnknownEpoch => f.write_str("the leader epoch is not known yet"),
            ReadError::OutOfRange { start, high_watermark } => {
                write!(f, "only offsets from {start} to below {high_watermark} can be read")
            }
            ReadError::Cancelled => f.write_str("the read was cancelled"),
            ReadError::Storage => f.write_str("the log failed"),
        }
    }
}

impl std::error::Error for ReadError {}

/// A question about a partition's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first offset that is still held.
    Earliest,
    /// The high watermark.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time, in milliseconds since 1970.
    Timestamp(i64),
    /// Where an epoch ended, or the one before it if it is not known (OffsetForLeaderEpoch, KIP-320).
    EpochEnd {
        /// The epoch.
        epoch: LeaderEpoch,
    },
}

/// The answer to a lookup, with its epoch.
pub struct OffsetLookup {
    /// The current term.
    pub epoch: LeaderEpoch,
    /// The answer.
    pub answer: OffsetAnswer,
}

/// The answer to an [`OffsetQuery`].
pub enum OffsetAnswer {
    /// This offset.
    At(Offset),
    /// Search this batch for the record: which of a batch's records it is, only its (perhaps compressed) records tell.
    InBatch(BatchMeta, Chunk),
    /// The largest epoch not above the one asked for, and the offset after its last record.
    EpochEnd(LeaderEpoch, Offset),
    /// No such record or epoch.
    None,
}

/// The leader's view of who is in sync changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSync {
    /// The group.
    pub group: GroupId,
    /// The term its leader serves in.
    pub term: Term,
    /// The leader and the followers in sync, in the order of the group's voters.
    pub replicas: Vec<NodeId>,
}
