//! A consumer's way in: reads up to the high watermark, long polls, and the questions about offsets.

use crate::desk::Desk;
use crate::mailbox::{Completion, Outbox, Ticket};
use crate::replica::Replica;
use core::fmt;
use trimaran_raft::{GroupId, NodeId};
use trimaran_storage::log::{BatchMeta, Chunk, LogError};
use trimaran_storage::offsets::{HighWatermark, leader_epoch};
use trimaran_wire::batch::{LeaderEpoch, Offset};

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

/// What was read: possibly nothing.
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
        /// Who leads, if known.
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

/// What was found, and when: in which epoch.
pub struct OffsetLookup {
    /// The current term.
    pub epoch: LeaderEpoch,
    /// What was found.
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

/// Reads that wait for the high watermark.
#[derive(Debug, Default)]
pub(crate) struct ReadWaiters {
    waiting: Vec<(Ticket, ReadRequest)>,
}

impl ReadWaiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if it was waiting.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.waiting.len() != before
    }

    /// Everybody gets an error.
    pub(crate) fn fail_all(&mut self, error: &ReadError, desk: &mut Desk, out: &mut Outbox) {
        for (ticket, _) in self.waiting.drain(..) {
            desk.waiting_reads.remove(&ticket);
            out.completions.push((ticket, Completion::Read(Err(error.clone()))));
        }
    }
}

impl Replica {
    /// Answers a read, or makes it wait.
    pub(crate) fn read(&mut self, ticket: Ticket, request: ReadRequest, desk: &mut Desk, out: &mut Outbox) {
        // Within a step more may be committed already: a leader that serves shows all of it.
        self.apply(desk, out);
        let waits = request.wait && self.may_read(&request).is_ok() && self.high_watermark.0 <= request.from;
        // Over the limit, a long poll is answered like a short one.
        if waits && desk.may_wait() {
            desk.waiting_reads.insert(ticket, request.group);
            self.reads.waiting.push((ticket, request));
        } else {
            let result = self.read_now(&request);
            out.completions.push((ticket, Completion::Read(result)));
        }
    }

    /// Wakes the reads that the high watermark has passed; all of them if leadership changed.
    pub(crate) fn wake_reads(&mut self, leadership_changed: bool, desk: &mut Desk, out: &mut Outbox) {
        if self.reads.is_empty() {
            return;
        }
        let mut waiting = core::mem::take(&mut self.reads.waiting);
        let high_watermark = self.high_watermark.0;
        waiting.retain(|(ticket, request)| {
            let wake = leadership_changed || self.is_failed() || high_watermark > request.from;
            if wake {
                desk.waiting_reads.remove(ticket);
                out.completions
                    .push((*ticket, Completion::Read(self.read_now(request))));
            }
            !wake
        });
        self.reads.waiting = waiting;
    }

    /// Tells requests that wait in vain.
    pub(crate) fn cancel_read(&mut self, ticket: Ticket, out: &mut Outbox) {
        if self.reads.cancel(ticket) {
            out.completions
                .push((ticket, Completion::Read(Err(ReadError::Cancelled))));
        }
    }

    fn read_now(&mut self, request: &ReadRequest) -> Result<ReadResult, ReadError> {
        self.may_read(request)?;
        let chunks = if request.from < self.high_watermark.0 {
            let read = self.log.read(request.from, self.high_watermark, request.max_bytes);
            read.map_err(|error| self.read_error(error))?
        } else {
            Vec::new()
        };
        let in_sync = if self.leads() {
            self.in_sync.replicas()
        } else {
            Vec::new()
        };
        Ok(ReadResult {
            epoch: leader_epoch(self.group.term()),
            high_watermark: self.high_watermark,
            start_offset: self.log.start_offset(),
            chunks,
            in_sync,
        })
    }

    fn may_read(&self, request: &ReadRequest) -> Result<(), ReadError> {
        self.check_epoch(request.current_epoch)?;
        if self.leads() || !request.follower_ok {
            self.check_serving()?;
        } else if self.is_failed() {
            return Err(ReadError::Storage);
        }
        self.check_range(request.from)
    }

    /// Fences clients with older metadata, and asks those with newer to wait (KIP-320).
    fn check_epoch(&self, believed: Option<LeaderEpoch>) -> Result<(), ReadError> {
        let current = leader_epoch(self.group.term());
        match believed {
            Some(believed) if believed < current => Err(ReadError::FencedEpoch),
            Some(believed) if believed > current => Err(ReadError::UnknownEpoch),
            _ => Ok(()),
        }
    }

    fn check_serving(&self) -> Result<(), ReadError> {
        if !self.leads() {
            Err(ReadError::NotLeader {
                leader: self.group.leader(),
            })
        } else if self.is_failed() {
            Err(ReadError::Storage)
        } else if !self.group.is_serving() {
            Err(ReadError::NotServing)
        } else {
            Ok(())
        }
    }

    /// A position between the high watermark and the log's end is not wrong, only early. On a follower any position
    /// above may be right: the leader knows more.
    fn check_range(&self, from: Offset) -> Result<(), ReadError> {
        let start = self.log.start_offset();
        let above = self.leads() && from > self.log.next_offset();
        if from < start || above {
            return Err(ReadError::OutOfRange {
                start,
                high_watermark: self.high_watermark.0,
            });
        }
        Ok(())
    }

    /// A log that can't be read is given up; one that was trimmed meanwhile is not at fault.
    fn read_error(&mut self, error: LogError) -> ReadError {
        match error {
            LogError::OutOfRange { start, end } => ReadError::OutOfRange {
                start,
                high_watermark: end,
            },
            error => {
                self.note_failure(error);
                ReadError::Storage
            }
        }
    }

    /// Answers a question about offsets; only a leader that serves does.
    pub(crate) fn look_up(
        &mut self,
        query: OffsetQuery,
        current_epoch: Option<LeaderEpoch>,
        desk: &mut Desk,
        out: &mut Outbox,
    ) -> Result<OffsetLookup, ReadError> {
        self.apply(desk, out);
        self.check_epoch(current_epoch)?;
        self.check_serving()?;
        let upto = self.high_watermark;
        let answer = match query {
            OffsetQuery::Earliest => OffsetAnswer::At(self.log.start_offset()),
            OffsetQuery::Latest => OffsetAnswer::At(upto.0),
            OffsetQuery::MaxTimestamp => self.in_batch(self.log.max_timestamp(upto))?,
            OffsetQuery::Timestamp(ms) => self.in_batch(self.log.batch_by_timestamp(ms, upto))?,
            OffsetQuery::EpochEnd { epoch } => match self.log.epoch_end(epoch) {
                // Everything of earlier terms is committed where a leader serves; of its own term, only so much.
                Some((epoch, end)) => OffsetAnswer::EpochEnd(epoch, end.min(upto.0)),
                None => OffsetAnswer::None,
            },
        };
        Ok(OffsetLookup {
            epoch: leader_epoch(self.group.term()),
            answer,
        })
    }

    fn in_batch(&mut self, found: Result<Option<(BatchMeta, Chunk)>, LogError>) -> Result<OffsetAnswer, ReadError> {
        let found = found.map_err(|error| self.read_error(error))?;
        Ok(found.map_or(OffsetAnswer::None, |(meta, chunk)| OffsetAnswer::InBatch(meta, chunk)))
    }
}
