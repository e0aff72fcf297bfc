//! Giving a group's leadership away, on request.

use crate::mailbox::Ticket;

/// The requests to hand the leadership over.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    pub(crate) tickets: Vec<Ticket>,
    /// [`crate::Input::TransferAll`] asked for it.
    pub(crate) drain: bool,
}

impl Handover {
    /// Whether no request waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.tickets.is_empty() && !self.drain
    }
}
