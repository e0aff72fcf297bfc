//! Giving a group's leadership away, on request.

use super::Replica;
use crate::mailbox::{Completion, Outbox, Ticket, TransferOutcome};
use crate::step_context::StepContext;
use trimaran_raft::{Input as CoreInput, NodeId, TransferError};

impl Replica {
    /// Hands the leadership over for `ticket`.
    pub(crate) fn transfer(&mut self, ticket: Ticket, to: Option<NodeId>, context: &mut StepContext, out: &mut Outbox) {
        self.handover.tickets.push(ticket);
        self.begin_transfer(to, context, out);
    }

    pub(crate) fn begin_transfer(&mut self, to: Option<NodeId>, context: &mut StepContext, out: &mut Outbox) {
        if self.leads() && !self.health.abstains {
            self.step(CoreInput::Transfer(to), context, out);
        } else {
            self.end_handover(Err(TransferError::NotLeader), context, out);
        }
    }

    pub(crate) fn end_handover(
        &mut self,
        outcome: Result<(), TransferError>,
        context: &mut StepContext,
        out: &mut Outbox,
    ) {
        for ticket in self.handover.tickets.drain(..) {
            let kept = outcome.err().map(|error| (self.id, error)).into_iter().collect();
            let outcome = TransferOutcome {
                handed_over: usize::from(outcome.is_ok()),
                kept,
            };
            out.completions.push((ticket, Completion::Transferred(outcome)));
        }
        if core::mem::take(&mut self.handover.drain) {
            context.handed_over.push((self.id, outcome));
        }
    }

    /// Believe the leader gone, and stand; a leader hands over.
    pub(crate) fn fail_over(&mut self, failed: Option<NodeId>, context: &mut StepContext, out: &mut Outbox) {
        self.note_failover(failed, context);
        let leader = self.group.leader();
        if failed.is_some() && leader.is_some() && leader != failed {
            return;
        }
        self.step(CoreInput::ForgetLeader, context, out);
    }
}
