//! A producer's way in: what is refused, what is proposed together, and who is answered when.

use crate::desk::Desk;
use crate::mailbox::{Completion, Outbox, Ticket};
use crate::producers::Verdict;
use crate::replica::Replica;
use crate::sabotage::Sabotage;
use bytes::{Bytes, BytesMut};
use core::fmt;
use std::collections::VecDeque;
use trimaran_raft::{LogIndex, LogView, NodeId, ProposeError, Proposed};
use trimaran_storage::offsets::leader_epoch;
use trimaran_storage::producers::ProducedBatch;
use trimaran_wire::batch::{self, BatchError, BatchHeader, Offset};

/// A single proposal is at most this part of what a group may hold uncommitted: one that is larger than everything
/// allowed would be refused for ever, although nothing else is in the way.
const PROPOSAL_SHARE: u64 = 4;

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

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record. A duplicate's is the original's.
    pub base_offset: Offset,
    /// The first offset that the log still holds.
    pub start_offset: Offset,
    /// Its place on Raft's scale.
    pub index: LogIndex,
    /// It was stored already: the producer sent it twice.
    pub duplicate: bool,
}

/// Why a batch was not acknowledged. Unless said otherwise nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The caller's mistake, or the group was closed: it is not on this shard.
    UnknownGroup,
    /// The client's metadata is old.
    NotLeader {
        /// Who leads, if known.
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

/// A batch that waits for the end of the step, so that all batches for a group are proposed together.
#[derive(Debug)]
pub(crate) struct PendingAppend {
    pub(crate) batch: BytesMut,
    pub(crate) acks: Acks,
    pub(crate) ticket: Ticket,
}

/// A ticket that waits for its batch to be held by enough disks.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    ticket: Ticket,
    appended: Appended,
}

/// Tickets by what they wait for, each queue in offset order: those of one kind are answered in that order. The kinds
/// don't wait for each other.
#[derive(Debug, Default)]
pub(crate) struct AppendWaiters {
    /// [`Acks::Leader`].
    leader: VecDeque<Waiter>,
    /// [`Acks::All`].
    all: VecDeque<Waiter>,
}

impl AppendWaiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.leader.is_empty() && self.all.is_empty()
    }

    /// A duplicate's original may lie before what waits already; new batches go to the end.
    fn push(&mut self, acks: Acks, ticket: Ticket, appended: Appended, out: &mut Outbox) {
        let queue = match acks {
            Acks::None => return out.completions.push((ticket, Completion::Appended(Ok(appended)))),
            Acks::Leader => &mut self.leader,
            Acks::All => &mut self.all,
        };
        let place = queue.partition_point(|waiter| waiter.appended.index <= appended.index);
        queue.insert(place, Waiter { ticket, appended });
    }

    /// The leader's disk holds the log up to `durable`; it is committed and on enough disks up to `held`.
    pub(crate) fn complete(&mut self, durable: LogIndex, held: LogIndex, out: &mut Outbox) {
        complete_upto(&mut self.leader, durable, out, Ok);
        complete_upto(&mut self.all, held, out, Ok);
    }

    /// Those of [`Acks::All`] that are committed get an error: nothing more can be waited for.
    fn fail_committed(&mut self, commit: LogIndex, error: &AppendError, out: &mut Outbox) {
        complete_upto(&mut self.all, commit, out, |_| Err(error.clone()));
    }

    /// Everybody gets an error.
    pub(crate) fn fail_all(&mut self, error: &AppendError, out: &mut Outbox) {
        complete_upto(&mut self.leader, LogIndex(u64::MAX), out, |_| Err(error.clone()));
        complete_upto(&mut self.all, LogIndex(u64::MAX), out, |_| Err(error.clone()));
    }
}

fn complete_upto(
    queue: &mut VecDeque<Waiter>,
    upto: LogIndex,
    out: &mut Outbox,
    answer: impl Fn(Appended) -> Result<Appended, AppendError>,
) {
    while let Some(waiter) = queue.front().filter(|waiter| waiter.appended.index <= upto) {
        out.completions
            .push((waiter.ticket, Completion::Appended(answer(waiter.appended))));
        queue.pop_front();
    }
}

/// Batches that passed, to be proposed together. Kept by the desk for its buffers.
#[derive(Debug, Default)]
pub(crate) struct Proposal {
    payloads: Vec<Bytes>,
    waiters: Vec<(Acks, Waiter)>,
    produced: Vec<ProducedBatch>,
    bytes: u64,
    next_offset: Offset,
    next_index: LogIndex,
}

impl Proposal {
    fn begin(&mut self, next_offset: Offset, next_index: LogIndex) {
        self.payloads.clear();
        self.waiters.clear();
        self.produced.clear();
        self.bytes = 0;
        self.next_offset = next_offset;
        self.next_index = next_index;
    }
}

impl Replica {
    /// Proposes everything that came in during this step.
    pub(crate) fn propose(&mut self, desk: &mut Desk, out: &mut Outbox) {
        if self.pending.is_empty() {
            return;
        }
        let mut pending = core::mem::take(&mut self.pending);
        if let Err(error) = self.may_append(desk) {
            for append in pending.drain(..) {
                self.note_refused(&append.batch);
                refuse(append.ticket, error.clone(), out);
            }
        } else {
            self.propose_pending(&mut pending, desk, out);
        }
        desk.keep_pending(pending);
    }

    /// What holds for all batches alike.
    fn may_append(&self, desk: &Desk) -> Result<(), AppendError> {
        if !self.leads() {
            Err(AppendError::NotLeader {
                leader: self.group.leader(),
            })
        } else if self.is_failed() {
            Err(AppendError::Storage)
        } else if !self.group.is_serving() {
            Err(AppendError::NotServing)
        } else if !self.options.deliver && !desk.tails.has_room(&self.tail) {
            // What a state machine is fed is little, and the cluster needs it to get out of this.
            Err(AppendError::Busy)
        } else {
            Ok(())
        }
    }

    fn propose_pending(&mut self, pending: &mut Vec<PendingAppend>, desk: &mut Desk, out: &mut Outbox) {
        let limit = desk.config.tuning.max_uncommitted_bytes / PROPOSAL_SHARE;
        let mut proposal = core::mem::take(&mut desk.proposal);
        proposal.begin(self.log.next_offset(), self.log.last_index().next());
        proposal.payloads.reserve(pending.len());
        let mut refused = None;
        for append in pending.drain(..) {
            // Once a part is refused the rest is too: batches of one producer stay in order.
            if let Some(error) = &refused {
                self.note_refused(&append.batch);
                refuse(append.ticket, AppendError::clone(error), out);
                continue;
            }
            let ticket = append.ticket;
            if let Err(error) = self.stage(append, &mut proposal, desk, out) {
                refuse(ticket, error, out);
            }
            if proposal.bytes >= limit {
                refused = self.propose_staged(&mut proposal, desk, out).err();
            }
        }
        if !proposal.payloads.is_empty() {
            // Those that were staged have been answered; none is left to be refused.
            let _ = self.propose_staged(&mut proposal, desk, out);
        }
        desk.proposal = proposal;
    }

    /// Checks and stamps one batch.
    fn stage(
        &mut self,
        append: PendingAppend,
        proposal: &mut Proposal,
        desk: &Desk,
        out: &mut Outbox,
    ) -> Result<(), AppendError> {
        let PendingAppend {
            mut batch,
            acks,
            ticket,
        } = append;
        if acks == Acks::All {
            self.check_min_insync().inspect_err(|_| self.note_refused(&batch))?;
        }
        let header = BatchHeader::parse_only(&batch).map_err(AppendError::BadBatch)?;
        let (index, base_offset) = (proposal.next_index, proposal.next_offset);
        if let Some(produced) = ProducedBatch::of_header(index, base_offset, &header) {
            match self.producers.judge(&proposal.produced, &produced, desk.now) {
                Verdict::New => proposal.produced.push(produced),
                Verdict::Refused(error) => {
                    if error == AppendError::TooManyProducers {
                        self.producers.refuse(&produced);
                    }
                    return Err(error);
                }
                Verdict::Duplicate(original) => {
                    self.await_original((original, acks, ticket), proposal, desk, out);
                    return Ok(());
                }
            }
        }
        batch::stamp(&mut batch, base_offset, leader_epoch(self.group.term()));
        let appended = Appended {
            base_offset,
            start_offset: self.log.start_offset(),
            index,
            duplicate: false,
        };
        proposal.waiters.push((acks, Waiter { ticket, appended }));
        proposal.bytes += batch.len() as u64;
        proposal.payloads.push(batch.freeze());
        proposal.next_index = index.next();
        proposal.next_offset = Offset(base_offset.0 + i64::from(header.last_offset_delta) + 1);
        Ok(())
    }

    /// A batch was refused for no fault of its own: none of its producer may overtake it.
    fn note_refused(&mut self, batch: &[u8]) {
        let nowhere = (LogIndex::ZERO, Offset(-1));
        // What is no batch is nobody's.
        let Ok(header) = BatchHeader::parse_only(batch) else {
            return;
        };
        if let Some(produced) = ProducedBatch::of_header(nowhere.0, nowhere.1, &header) {
            self.producers.refuse(&produced);
        }
    }

    /// A duplicate is as good as its original, and no better: it waits for the same disks.
    fn await_original(
        &mut self,
        (original, acks, ticket): (ProducedBatch, Acks, Ticket),
        proposal: &mut Proposal,
        desk: &Desk,
        out: &mut Outbox,
    ) {
        let appended = Appended {
            base_offset: original.base_offset,
            start_offset: self.log.start_offset(),
            index: original.index,
            duplicate: true,
        };
        if original.index > self.log.last_index() {
            // The original is part of this very proposal, and may be refused with it.
            proposal.waiters.push((acks, Waiter { ticket, appended }));
        } else {
            self.waiters.push(acks, ticket, appended, out);
            self.complete_appends(desk, out);
        }
    }

    fn check_min_insync(&self) -> Result<(), AppendError> {
        let (in_sync, min) = (self.in_sync.count(), self.min_insync());
        if in_sync < min {
            Err(AppendError::NotEnoughReplicas { in_sync, min })
        } else {
            Ok(())
        }
    }

    /// Hands the staged batches to the core, all or none, and starts over behind them.
    fn propose_staged(
        &mut self,
        proposal: &mut Proposal,
        desk: &mut Desk,
        out: &mut Outbox,
    ) -> Result<(), AppendError> {
        let first = LogIndex(proposal.next_index.0 - proposal.payloads.len() as u64);
        let payloads = core::mem::take(&mut proposal.payloads);
        let outcome = self.step_propose(payloads, desk, out).map_err(append_error);
        match &outcome {
            Ok(proposed) => {
                assert_eq!(
                    proposed.first, first,
                    "offsets were stamped for another place in the log"
                );
                for batch in proposal.produced.drain(..) {
                    self.producers.note(batch, self.group.commit(), desk.now);
                }
                for (acks, waiter) in proposal.waiters.drain(..) {
                    self.waiters.push(acks, waiter.ticket, waiter.appended, out);
                }
                self.complete_appends(desk, out);
            }
            Err(error) => {
                for batch in proposal.produced.drain(..) {
                    self.producers.refuse(&batch);
                }
                for (_, waiter) in proposal.waiters.drain(..) {
                    refuse(waiter.ticket, error.clone(), out);
                }
            }
        }
        proposal.begin(self.log.next_offset(), self.log.last_index().next());
        outcome.map(|_: Proposed| ())
    }

    /// Answers requests that have waited long enough for disks.
    pub(crate) fn complete_appends(&mut self, desk: &Desk, out: &mut Outbox) {
        if desk.breakage.is(Sabotage::KeepWaiters) && !self.leads() {
            let commit = self.group.commit();
            return self.waiters.complete(commit, commit, out);
        }
        if self.waiters.is_empty() || !self.leads() {
            return;
        }
        let held = self.group.held_by(self.min_insync()).min(self.group.commit());
        self.waiters.complete(self.group.durable(), held, out);
    }

    /// The in-sync view changed: requests that wait for more replicas than there are are told so.
    pub(crate) fn fail_unreachable_appends(&mut self, out: &mut Outbox) {
        let (in_sync, min) = (self.in_sync.count(), self.min_insync());
        if in_sync < min {
            let error = AppendError::NotEnoughReplicasAfterAppend { in_sync, min };
            self.waiters.fail_committed(self.group.commit(), &error, out);
        }
    }

    /// The effective `min.insync.replicas`: no more than the replicas that the partition is assigned, so that a topic
    /// with one replica can be written to (Kafka's `Partition.effectiveMinIsr`). A replica that is lost, or still being
    /// filled, is assigned all the same: the promise does not shrink with the disks that keep it.
    fn min_insync(&self) -> usize {
        self.options
            .min_insync_replicas
            .clamp(1, self.assigned_replicas().max(1))
    }
}

fn refuse(ticket: Ticket, error: AppendError, out: &mut Outbox) {
    out.completions.push((ticket, Completion::Appended(Err(error))));
}

fn append_error(error: ProposeError) -> AppendError {
    match error {
        ProposeError::NotLeader(leader) => AppendError::NotLeader { leader },
        ProposeError::Busy => AppendError::Busy,
        // The successor is not known yet, but it won't be this node.
        ProposeError::Transferring => AppendError::NotLeader { leader: None },
    }
}
