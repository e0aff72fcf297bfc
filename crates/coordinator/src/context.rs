//! What the handling of an input works with, beside the group that it concerns.

use crate::members::Member;
use crate::sabotage::Breakage;
use crate::timers::{Due, Timers};
use crate::writer::Writer;
use crate::{Config, Output, Reply, Ticket, Time};
use std::sync::Arc;

/// The settings, the time, and the places where effects go.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) breakage: Breakage,
    pub(crate) time: Time,
    pub(crate) timers: &'a mut Timers,
    pub(crate) writer: &'a mut Writer,
    pub(crate) out: &'a mut Output,
}

impl Context<'_> {
    /// Sends a reply at once.
    pub(crate) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.out.replies.push((ticket, reply));
    }

    /// Begins a member's session again. The deadline that is set is left alone if it comes earlier: when it has come, it is
    /// compared with the session's end. So a heartbeat doesn't touch the timers.
    pub(crate) fn restart_session(&mut self, group: &Arc<str>, member: &mut Member, timeout_ms: u64) {
        member.session_end_ms = self.time.monotonic_ms.saturating_add(timeout_ms);
        if member.timer.is_none_or(|at_ms| at_ms > member.session_end_ms) {
            self.cancel_session(group, member);
            self.timers.set(member.session_end_ms, session(group, member));
            member.timer = Some(member.session_end_ms);
        }
    }

    /// Forgets a member's deadline.
    pub(crate) fn cancel_session(&mut self, group: &Arc<str>, member: &mut Member) {
        if let Some(at_ms) = member.timer.take() {
            self.timers.cancel(at_ms, session(group, member));
        }
    }
}

fn session(group: &Arc<str>, member: &Member) -> Due {
    Due::Session {
        group: group.clone(),
        member: member.id.clone(),
    }
}
