//! The end of a step: its one write, and what has changed since the last one.

use super::{Group, Sabotage, Step};
use crate::{Event, LogIndex, NodeId, Persist, Role, Term};
use core::mem;

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// All that follows from the inputs is in the output.
    Settled,
    /// An input was handled; more may be.
    Open,
    /// An input was handled, and the step has to end before the next one.
    Full,
}

/// Whether a step takes more. See [`Group::handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "after `Full`, `Group::ready` must come before the next input"]
pub enum Handled {
    /// More inputs may be handled before [`Group::ready`].
    Open,
    /// [`Group::ready`] must come before the next input.
    Full,
}

/// What others know of a group by what it has said; a step that changes it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Known {
    term: Term,
    leader: Option<NodeId>,
    role: Role,
    commit: LogIndex,
    /// How far the log is durable.
    durable: LogIndex,
    /// The configuration in force, and whether it is committed.
    members: (LogIndex, bool),
}

impl Known {
    /// As of a member that never had an entry.
    pub(super) const NOTHING: Known = Known {
        term: Term::ZERO,
        leader: None,
        role: Role::Follower,
        commit: LogIndex::ZERO,
        durable: LogIndex::ZERO,
        members: (LogIndex::ZERO, true),
    };
}

impl Group {
    pub(super) fn known(&self) -> Known {
        Known {
            term: self.hard.term,
            leader: self.leader,
            role: self.role,
            commit: self.commit,
            durable: self.durability.index(),
            members: self.configuration_mark(),
        }
    }

    /// Whether more has become durable in this step.
    pub(super) fn disk_has_advanced(&self) -> bool {
        self.durability.index() > self.said.durable
    }

    /// Whether term, leader or role changed, or a promise was made, or entries are to be replaced. The driver
    /// acts on each of these, and the log can't be looked into until the last is done: so it ends a step.
    pub(super) fn is_full(&self) -> bool {
        let is_same = self.role == self.said.role && self.leader == self.said.leader;
        !is_same || self.write.does_more_than_append()
    }

    /// Hands out this step's write, and says what changed.
    pub(super) fn report(&mut self, step: &mut Step) {
        if !self.write.is_empty() {
            self.hand_out_write(step);
        }
        assert!(
            self.commit <= self.last.index,
            "a commit never passes what the log holds"
        );
        let before = self.said;
        self.said.durable = self.durability.index();
        if self.commit > before.commit {
            self.said.commit = self.commit;
            step.out.committed = Some(self.commit);
        }
        if (self.hard.term, self.leader, self.role) != (before.term, before.leader, before.role) {
            let (term, leader, role) = (self.hard.term, self.leader, self.role);
            (self.said.term, self.said.leader, self.said.role) = (term, leader, role);
            step.event(Event::LeaderChanged { term, leader, role });
        }
        self.begin_serving(step);
        debug_assert!(!self.lacks_timer(), "a member without a live leader keeps a timer");
        let (index, committed) = self.configuration_mark();
        if (index, committed) != before.members {
            self.said.members = (index, committed);
            step.event(Event::ConfigurationChanged { index, committed });
        }
    }

    fn hand_out_write(&mut self, step: &mut Step) {
        let keeps_marks = self.is_broken(Sabotage::KeepMarks);
        let reset = self.write.reset.as_ref().map(|_| self.said.commit.next());
        if let Some(from) = self.write.truncate_from.or(reset).filter(|_| !keeps_marks) {
            #[cfg(any(test, feature = "sabotage"))]
            let durable = self.durability.index();
            self.durability.truncated(from);
            #[cfg(any(test, feature = "sabotage"))]
            if self.is_broken(Sabotage::KeepDurable) {
                self.durability.forget_truncation(durable);
            }
        }
        let token = self.durability.issue(&self.write, self.last.index);
        #[cfg(any(test, feature = "sabotage"))]
        if self.is_broken(Sabotage::LoseSecondSnapshot) {
            self.durability.lose_second_snapshot();
        }
        let write = mem::take(&mut self.write);
        assert!(
            step.out.persist.is_none(),
            "the output of the last step was not drained"
        );
        step.out.persist = Some(Persist {
            token,
            hard_state: write.hard_state.then_some(self.hard),
            reset: write.reset,
            truncate_from: write.truncate_from,
            entries: write.entries,
        });
    }
}
