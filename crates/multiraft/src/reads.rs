//! The reads that wait for records.

use crate::mailbox::{Completion, Outbox, Ticket};
use crate::requests::{ReadError, ReadRequest};
use crate::step_context::StepContext;

/// Reads that wait for the high watermark.
#[derive(Debug, Default)]
pub(crate) struct ReadWaiters {
    pub(crate) waiting: Vec<(Ticket, ReadRequest)>,
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

    /// Answers all with an error.
    pub(crate) fn fail_all(&mut self, error: &ReadError, context: &mut StepContext, out: &mut Outbox) {
        for (ticket, _) in self.waiting.drain(..) {
            context.waiting_reads.remove(&ticket);
            out.completions.push((ticket, Completion::Read(Err(error.clone()))));
        }
    }
}
