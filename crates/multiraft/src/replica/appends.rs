//! A producer's way in: what is refused, what is proposed together, and who is answered when.

use super::Replica;
use crate::appends::{PendingAppend, Proposal, Waiter};
use crate::mailbox::{Completion, Outbox, Ticket};
use crate::producers::Verdict;
use crate::requests::{Acks, AppendError, Appended};
use crate::sabotage::Sabotage;
use crate::step_context::StepContext;
use trimaran_raft::{LogIndex, LogView, ProposeError, Proposed};
use trimaran_storage::offsets::leader_epoch;
use trimaran_storage::producers::ProducedBatch;
use trimaran_wire::batch::{self, BatchHeader, Offset};

/// A single proposal is at most this part of what a group may hold uncommitted: one that is larger than everything
/// allowed would be refused for ever, although nothing else is in the way.
const PROPOSAL_SHARE: u64 = 4;

impl Replica {
    /// Proposes everything that came in during this step.
    pub(crate) fn propose(&mut self, context: &mut StepContext, out: &mut Outbox) {
        if self.appends.pending.is_empty() {
            return;
        }
        let mut pending = core::mem::take(&mut self.appends.pending);
        if let Err(error) = self.may_append(context) {
            for append in pending.drain(..) {
                self.note_refused(&append.batch);
                refuse(append.ticket, error.clone(), out);
            }
        } else {
            self.propose_pending(&mut pending, context, out);
        }
        context.keep_pending(pending);
    }

    /// Checks what holds for all batches alike.
    fn may_append(&self, context: &StepContext) -> Result<(), AppendError> {
        if !self.leads() {
            Err(AppendError::NotLeader {
                leader: self.group.leader(),
            })
        } else if self.is_failed() {
            Err(AppendError::Storage)
        } else if !self.group.is_serving() {
            Err(AppendError::NotServing)
        } else if !self.options.deliver && !context.tails.has_room(&self.flush.tail) {
            // What a state machine is fed is little, and the cluster needs it to get out of this.
            Err(AppendError::Busy)
        } else {
            Ok(())
        }
    }

    fn propose_pending(&mut self, pending: &mut Vec<PendingAppend>, context: &mut StepContext, out: &mut Outbox) {
        let limit = context.config.tuning.max_uncommitted_bytes / PROPOSAL_SHARE;
        let mut proposal = core::mem::take(&mut context.proposal);
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
            if let Err(error) = self.stage(append, &mut proposal, context, out) {
                refuse(ticket, error, out);
            }
            if proposal.bytes >= limit {
                refused = self.propose_staged(&mut proposal, context, out).err();
            }
        }
        if !proposal.payloads.is_empty() {
            // Those that were staged have been answered; none is left to be refused.
            let _ = self.propose_staged(&mut proposal, context, out);
        }
        context.proposal = proposal;
    }

    /// Checks and stamps one batch.
    fn stage(
        &mut self,
        append: PendingAppend,
        proposal: &mut Proposal,
        context: &StepContext,
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
            match self.producers.judge(&proposal.produced, &produced, context.now) {
                Verdict::New => proposal.produced.push(produced),
                Verdict::Refused(error) => {
                    if error == AppendError::TooManyProducers {
                        self.producers.refuse(&produced);
                    }
                    return Err(error);
                }
                Verdict::Duplicate(original) => {
                    self.await_original((original, acks, ticket), proposal, context, out);
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
        context: &StepContext,
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
            self.appends.waiters.push(acks, ticket, appended, out);
            self.complete_appends(context, out);
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
        context: &mut StepContext,
        out: &mut Outbox,
    ) -> Result<(), AppendError> {
        let first = LogIndex(proposal.next_index.0 - proposal.payloads.len() as u64);
        let payloads = core::mem::take(&mut proposal.payloads);
        let outcome = self.step_propose(payloads, context, out).map_err(append_error);
        match &outcome {
            Ok(proposed) => {
                assert_eq!(
                    proposed.first, first,
                    "offsets were stamped for another place in the log"
                );
                for batch in proposal.produced.drain(..) {
                    self.producers.note(batch, self.group.commit(), context.now);
                }
                for (acks, waiter) in proposal.waiters.drain(..) {
                    self.appends.waiters.push(acks, waiter.ticket, waiter.appended, out);
                }
                self.complete_appends(context, out);
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
    pub(crate) fn complete_appends(&mut self, context: &StepContext, out: &mut Outbox) {
        if context.breakage.is(Sabotage::KeepWaiters) && !self.leads() {
            let commit = self.group.commit();
            return self.appends.waiters.complete(commit, commit, out);
        }
        if self.appends.waiters.is_empty() || !self.leads() {
            return;
        }
        let held = self.group.held_by(self.min_insync()).min(self.group.commit());
        self.appends.waiters.complete(self.group.durable(), held, out);
    }

    /// The in-sync view changed: requests that wait for more replicas than there are are told so.
    pub(crate) fn fail_unreachable_appends(&mut self, out: &mut Outbox) {
        let (in_sync, min) = (self.in_sync.count(), self.min_insync());
        if in_sync < min {
            let error = AppendError::NotEnoughReplicasAfterAppend { in_sync, min };
            self.appends.waiters.fail_committed(self.group.commit(), &error, out);
        }
    }

    /// The effective `min.insync.replicas`: no more than the replicas that the partition is assigned, so that a topic
    /// with one replica can be written to (Kafka's `Partition.effectiveMinIsr`). A replica that is lost, or still being
    /// filled, is assigned all the same: the promise does not shrink with the disks that keep it.
    fn min_insync(&self) -> usize {
        self.options
            .min_insync_replicas
            .clamp(1, self.membership.assigned(self.group.configuration()).max(1))
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
