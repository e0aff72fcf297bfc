//! Giving a group's leadership away, on request.

use crate::desk::Desk;
use crate::mailbox::{Completion, Outbox, Ticket, TransferOutcome};
use crate::replica::Replica;
use trimaran_raft::{Input as CoreInput, NodeId, TransferError};

/// Who asked for the leadership to be handed over.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    pub(crate) tickets: Vec<Ticket>,
    /// [`crate::Input::TransferAll`] did.
    pub(crate) leaving: bool,
}

impl Handover {
    /// Nobody asked.
    pub(crate) fn is_idle(&self) -> bool {
        self.tickets.is_empty() && !self.leaving
    }
}

impl Replica {
    /// Hands the leadership over for `ticket`.
    pub(crate) fn transfer(&mut self, ticket: Ticket, to: Option<NodeId>, desk: &mut Desk, out: &mut Outbox) {
        self.handover.tickets.push(ticket);
        self.begin_transfer(to, desk, out);
    }

    pub(crate) fn begin_transfer(&mut self, to: Option<NodeId>, desk: &mut Desk, out: &mut Outbox) {
        if self.leads() && !self.broken {
            self.step(CoreInput::Transfer(to), desk, out);
        } else {
            self.end_handover(Err(TransferError::NotLeader), desk, out);
        }
    }

    pub(crate) fn end_handover(&mut self, outcome: Result<(), TransferError>, desk: &mut Desk, out: &mut Outbox) {
        for ticket in self.handover.tickets.drain(..) {
            let kept = outcome.err().map(|error| (self.id, error)).into_iter().collect();
            let outcome = TransferOutcome {
                handed_over: usize::from(outcome.is_ok()),
                kept,
            };
            out.completions.push((ticket, Completion::Transferred(outcome)));
        }
        if core::mem::take(&mut self.handover.leaving) {
            desk.handed_over.push((self.id, outcome));
        }
    }

    /// Believe the leader gone, and stand; a leader hands over.
    pub(crate) fn fail_over(&mut self, failed: Option<NodeId>, desk: &mut Desk, out: &mut Outbox) {
        self.note_relief(failed, desk);
        let leader = self.group.leader();
        if failed.is_some() && leader.is_some() && leader != failed {
            return;
        }
        self.step(CoreInput::ForgetLeader, desk, out);
    }
}
