//! Leading a term: its beginning, its end, what is committed in it, and when it may serve.

use super::{Group, Sabotage, Step, canonical::Renaming, reading::Reading, transfer::Transferring};
use crate::{Entry, Event, Heartbeats, Instant, LogIndex, NodeId, Payload, Role, TransferError, progress::Peer};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

/// Proposals that are not committed yet, oldest first, and their bytes: counted in when proposed, counted out when
/// committed, and forgotten with the leadership. Nothing is ever estimated, so nothing drifts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Uncommitted {
    proposals: VecDeque<(LogIndex, u64)>,
    pub(super) bytes: u64,
}

impl Uncommitted {
    pub(super) fn push(&mut self, last: LogIndex, bytes: u64) {
        self.proposals.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn committed(&mut self, upto: LogIndex) {
        while let Some((_, bytes)) = self.proposals.front().filter(|(last, _)| *last <= upto) {
            self.bytes -= bytes;
            self.proposals.pop_front();
        }
    }

    fn clear(&mut self) {
        self.proposals.clear();
        self.bytes = 0;
    }
}

/// What only a leader keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    /// The first entry of this member's term as a leader.
    pub(super) first: LogIndex,
    pub(super) serving: bool,
    pub(super) uncommitted: Uncommitted,
    pub(super) transfer: Option<Transferring>,
    /// Those that did not take over in time, the latest last. Each is named once, so there are no more than peers.
    pub(super) declined: Vec<NodeId>,
    /// When to send heartbeats next (where the group keeps time itself).
    pub(super) heartbeat_at: Option<Instant>,
    /// When to step down unless a majority is in contact by then. With external heartbeats, none while it is.
    pub(super) quorum_deadline: Option<Instant>,
    pub(super) reading: Option<Box<Reading>>,
    /// Someone was told to stand in this term, and may do so at any time: voters no longer keep their promise.
    pub(super) lease_is_over: bool,
}

impl Leading {
    /// See [`Group::rename`].
    pub(super) fn rename(&mut self, renaming: Renaming) {
        renaming.rename_some(&mut self.heartbeat_at);
        renaming.rename_some(&mut self.quorum_deadline);
        if let Some(transfer) = &mut self.transfer {
            transfer.rename(renaming);
        }
        if let Some(reading) = &mut self.reading {
            reading.rename(renaming);
        }
    }
}

impl Group {
    /// A majority has voted for it. Its first entry is blank: committing that commits all before it (Raft paper,
    /// sections 5.4.2 and 8).
    pub(super) fn become_leader(&mut self, step: &mut Step) {
        self.role = Role::Leader;
        self.leader = Some(self.id);
        self.election.settle(None);
        let first = self.last.index.next();
        self.leading.first = first;
        self.part_from_guests();
        for peer in &mut self.peers {
            peer.begin_term(first, step.now);
        }
        self.watch_quorum(step.now);
        if let (Heartbeats::Own(interval), false) = (self.tuning.heartbeats, self.peers.is_empty()) {
            // The blank entry leaves in this very step: as good as a heartbeat.
            self.leading.heartbeat_at = Some(step.now + interval);
        }
        let blank = Entry {
            index: first,
            term: self.hard.term,
            payload: Payload::Blank,
        };
        self.append(vec![blank]);
    }

    /// Forgets all that belongs to a leadership. The caller decides what comes next.
    pub(super) fn resign(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        #[cfg(any(test, feature = "sabotage"))]
        if self.is_broken(Sabotage::CommitAfterResigning) && !self.durability.is_idle() {
            self.resigned_at = Some(self.last.index);
        }
        let mut uncommitted = core::mem::take(&mut self.leading.uncommitted);
        let bytes = if self.is_broken(Sabotage::KeepUncommittedBytes) {
            uncommitted.bytes
        } else {
            0
        };
        uncommitted.clear();
        uncommitted.bytes = bytes;
        self.leading = Leading {
            uncommitted,
            reading: self.leading.reading.take().and_then(|reading| reading.end()),
            ..Leading::default()
        };
        for peer in &mut self.peers {
            peer.suspend();
            peer.inflight.clear();
        }
    }

    pub(super) fn settle_leadership(&mut self, step: &mut Step) {
        self.commit_by_quorum();
        self.settle_membership(step);
        // It never passes the commit index.
        if self.replicated_index < self.commit {
            self.replicated_index = self.replicated_index.max(self.held_by_all().min(self.commit));
        }
        self.let_lost_rejoin(step);
        self.replicate(step);
        self.settle_transfer(step);
        self.settle_reads(step);
    }

    /// "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and log[N].term ==
    /// currentTerm: set commitIndex = N" (Raft paper, figure 2). The entries of this term are those from
    /// its first one on; this member's own count only as far as they are durable.
    fn commit_by_quorum(&mut self) {
        // Nothing waits, so nothing is counted: true of half of a leader's steps.
        if self.commit == self.last.index {
            return;
        }
        let held = self.held_by_quorum();
        let is_own = held >= self.leading.first || self.is_broken(Sabotage::CommitOldTerms);
        if held > self.commit && is_own {
            self.raise_commit(held);
            self.leading.uncommitted.committed(held);
        }
    }

    /// A leader may serve once its first entry is committed (only then does it know what is) and all before it is
    /// applied.
    pub(super) fn begin_serving(&mut self, step: &mut Step) {
        let first = self.leading.first;
        let is_ready = self.commit >= first && self.applied >= first.prev();
        let may = self.role == Role::Leader && (is_ready || self.is_broken(Sabotage::ServeAtOnce));
        if may && !self.leading.serving {
            self.leading.serving = true;
            step.event(Event::Serving { term: self.hard.term });
        }
    }

    /// Check-quorum, where evidence comes from outside: a leader that a majority can't hear is given one election
    /// timeout; then it steps down, so that its clients look elsewhere.
    pub(super) fn watch_quorum(&mut self, now: Instant) {
        let patience = now + self.tuning.election_timeout;
        let needs_watch = !self.is_alone() && (self.keeps_time() || !self.has_live_quorum());
        self.leading.quorum_deadline = match self.leading.quorum_deadline {
            _ if !needs_watch => None,
            None => Some(patience),
            running => running,
        };
    }

    /// The deadline has come.
    pub(super) fn check_quorum(&mut self, step: &mut Step) {
        self.leading.quorum_deadline = None;
        if self.has_live_quorum() {
            self.watch_quorum(step.now);
        } else {
            self.become_leaderless(step);
        }
    }

    fn has_live_quorum(&self) -> bool {
        let patience = self.tuning.election_timeout;
        let is_live = |peer: &Peer| match self.tuning.heartbeats {
            _ if peer.is_lost => false,
            Heartbeats::Own(_) => self.now < peer.heard + patience,
            Heartbeats::External => peer.is_alive(),
        };
        self.is_quorum(true, is_live)
    }

    /// New evidence about a follower: one that is back is asked where it stands, one that is out of contact is not sent
    /// anything again.
    pub(super) fn follower_liveness_changed(&mut self, step: &mut Step, peer: usize) {
        if self.peers[peer].is_alive() {
            self.peers[peer].make_contact();
        } else {
            self.peers[peer].suspend();
            self.abandon_transfer(step, peer, TransferError::Unreachable);
        }
        self.watch_quorum(step.now);
    }

    /// Someone asks for votes: it has forgotten, or never learnt, who leads. An append tells it; and if its term is the
    /// later one, its refusal tells this leader. One that hands over doesn't assert itself against its successor.
    pub(super) fn show_leadership(&mut self, to: NodeId) {
        let leads_on = self.role == Role::Leader && self.leading.transfer.is_none() && self.has_live_leader();
        if let Some(peer) = self.peer_at(to).filter(|_| leads_on) {
            self.peers[peer].make_contact();
        }
    }
}
