//! Snapshots: bringing up a member that needs what is deleted here (Raft paper, section 7).
//!
//! A snapshot is a position in the log with what is needed to go on from there; what that is, only the caller knows.
//! The leader asks its caller for one, and sends it; what follows the position comes by ordinary appends. A follower
//! that takes it replaces its log by the position, durably, and acknowledges it like an append that ends there.

use super::following::report_difference;
use super::{ABSURD, Group, Position, Sabotage, Step};
use crate::progress::ProgressState;
use crate::{Body, LogIndex, NodeId, Role, Snapshot, SnapshotStatus, Term, TermAt};
use alloc::boxed::Box;

/// What came with a snapshot, beside it.
pub(super) struct Marks {
    pub(super) commit: LogIndex,
    pub(super) replicated_index: LogIndex,
}

impl Group {
    /// [`crate::Input::Snapshot`].
    pub(super) fn send_snapshot(&mut self, step: &mut Step, to: NodeId, snapshot: Box<Snapshot>) {
        let Some(peer) = self.peer_at(to).filter(|_| self.role == Role::Leader) else {
            return;
        };
        let is_held = snapshot.index <= self.commit && snapshot.index.next() >= step.log.first_index();
        if !is_held || !self.may_take_snapshot(peer, snapshot.index) {
            return;
        }
        if self.peers[peer].state == ProgressState::Probe {
            self.peers[peer].needs_snapshot(step.now, self.tuning.retransmit_timeout);
        }
        let (commit, replicated_index) = (self.commit, self.replicated_index);
        let body = Body::Snapshot {
            snapshot,
            commit,
            replicated_index,
        };
        step.send(to, self.hard.term, body);
    }

    /// Whether it needs a snapshot, as far as is known. One that has been probed since the caller began to prepare it
    /// still does, unless it has acknowledged as much.
    fn may_take_snapshot(&self, peer: usize, index: LogIndex) -> bool {
        let peer = &self.peers[peer];
        match peer.state {
            ProgressState::Snapshot => true,
            ProgressState::Probe => peer.snapshot_under_way && peer.match_index < index,
            ProgressState::Replicate | ProgressState::Lost => false,
        }
    }

    /// [`crate::Input::ReportSnapshot`].
    pub(super) fn report_snapshot(&mut self, step: &mut Step, to: NodeId, status: SnapshotStatus) {
        let Some(peer) = self.peer_at(to).filter(|_| self.role == Role::Leader) else {
            return;
        };
        let is_under_way = status == SnapshotStatus::Started;
        self.peers[peer].note_snapshot(is_under_way, step.now, self.tuning.retransmit_timeout);
    }

    /// InstallSnapshot (Raft paper, figure 13), of a snapshot that is a position.
    pub(super) fn on_snapshot(&mut self, step: &mut Step, from: NodeId, term: Term, snapshot: Snapshot, marks: Marks) {
        let position = Position {
            term: snapshot.term,
            index: snapshot.index,
        };
        let is_sound = position.index.0 < ABSURD && position.term <= term && snapshot.configuration.check().is_ok();
        if !is_sound || position.index == LogIndex::ZERO {
            return;
        }
        if term < self.hard.term {
            return self.reject(step, from, position);
        }
        if !self.accept_leader(step, from, term) || self.says_lost(step, from) {
            return;
        }
        // "If existing log entry has same index and term as snapshot's last included entry, retain log entries
        // following it": then all of it agrees. What is committed agrees anyway; so does what lies before a snapshot
        // that was taken over and is not durable yet.
        let is_known = match self.term_at(step, position.index) {
            TermAt::Known(held) if position.index <= self.commit && held != position.term => {
                return report_difference(step, from, term, position, held);
            }
            _ if position.index <= self.commit => true,
            TermAt::Known(term) => term == position.term,
            TermAt::Compacted => true,
            TermAt::Missing => false,
        };
        if !is_known {
            self.install(snapshot);
        }
        self.agree_upto(position.index, marks.commit, marks.replicated_index);
    }

    fn install(&mut self, snapshot: Snapshot) {
        self.last = Position {
            term: snapshot.term,
            index: snapshot.index,
        };
        self.applied = self.applied.max(snapshot.index);
        if !self.is_broken(Sabotage::KeepConfiguration) {
            self.replace_configurations(snapshot.index, snapshot.configuration.clone());
        }
        self.write.entries.clear();
        self.write.reset = Some(Box::new(snapshot));
    }
}
