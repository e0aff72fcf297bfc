//! Followers that lack what has been deleted.
//!
//! A log's snapshot is a position ([`trimaran_storage::snapshot`]): the leader names the place before its first entry
//! and what producers sent last before it, the follower's log starts over there, and the rest follows as ordinary
//! appends, read out of the leader's segments.

use super::Replica;
use crate::mailbox::Outbox;
use crate::producers::ProducerTable;
use crate::step_context::StepContext;
use trimaran_raft::{Configuration, Input as CoreInput, Instant, LogIndex, NodeId, Snapshot, Token};
use trimaran_storage::offsets::{HighWatermark, LogEnd};
use trimaran_storage::snapshot::LogStart;

impl Replica {
    /// Tells a follower where this log begins.
    pub(crate) fn send_position(&mut self, to: NodeId, context: &mut StepContext, out: &mut Outbox) {
        let end = self.log.start();
        let position = LogStart {
            end,
            configuration: self.configuration_at(end.index),
            producers: self.producers.before(end.index.next()),
        };
        let snapshot = Box::new(position.to_snapshot());
        self.step(CoreInput::Snapshot { to, snapshot }, context, out);
    }

    fn configuration_at(&self, index: LogIndex) -> Configuration {
        let before = self.log.configurations().iter().rev().find(|(at, _)| *at <= index);
        match before {
            Some((_, configuration)) => configuration.clone(),
            None => Configuration::of_voters(self.founders.iter().copied()),
        }
    }

    /// Whether this log could begin there. A state machine can't be had from a position: a caller that is delivered
    /// every entry waits for all of them, and such a group's log is not shortened.
    pub(crate) fn can_begin_at(&self, snapshot: &Snapshot) -> bool {
        let is_sound = snapshot.configuration.check().is_ok() && position(snapshot).is_some();
        is_sound && !self.options.deliver
    }

    /// The log starts over where the leader's does.
    pub(crate) fn reset_log(&mut self, snapshot: &Snapshot, token: Token, now: Instant, out: &mut Outbox) {
        let position = position(snapshot).expect("what can't be used never gets to the core");
        let LogEnd { index, offset, .. } = position.end;
        out.journal.reset(self.id, snapshot);
        self.producers = ProducerTable::rebuild(&position.producers, &[], index).made_at(now);
        self.log.reset(position);
        (self.applied.index, self.applied.high_watermark) = (index, HighWatermark(offset));
        self.flush.resetting = Some(token);
        out.resets += 1;
    }

    /// Everything up to this write is durable.
    pub(crate) fn persisted(&mut self, token: Token, context: &mut StepContext, out: &mut Outbox) {
        if self.flush.resetting.is_some_and(|reset| reset <= token) {
            self.flush.resetting = None;
        }
        self.tell(CoreInput::Persisted(token), context, out);
    }
}

fn position(snapshot: &Snapshot) -> Option<LogStart> {
    LogStart::from_snapshot(snapshot).ok()
}
