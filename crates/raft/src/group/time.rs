//! What the clock brings about, and when it is to be looked at.

use super::{Group, Sabotage, Step};
use crate::{Body, Heartbeats, Instant, Liveness, LogIndex, NodeId, Role};

impl Group {
    /// When to send [`crate::Input::Tick`] next; none while it is idle. Asked after every step: any input may move it.
    pub fn deadline(&self) -> Option<Instant> {
        match self.role {
            Role::Follower => self.stands_at().or(self.seeks_at()),
            Role::PreCandidate | Role::Candidate => Some(self.election.until.min(self.election.ask_at)),
            Role::Leader => self.leader_deadline(),
        }
    }

    /// Asked for in every step of a leader, so it takes no iterator of options apart: `NEVER` stands for none.
    fn leader_deadline(&self) -> Option<Instant> {
        const NEVER: Instant = Instant(u64::MAX);
        let mut first = self.leading.heartbeat_at.unwrap_or(NEVER);
        for peer in &self.peers {
            first = first.min(peer.resend_at.unwrap_or(NEVER));
        }
        first = first.min(self.leading.quorum_deadline.unwrap_or(NEVER));
        first = first.min(self.reading_deadline().unwrap_or(NEVER));
        if let Some(transfer) = &self.leading.transfer {
            first = first.min(transfer.deadline());
        }
        (first < NEVER).then_some(first)
    }

    pub(super) fn look_at_the_clock(&mut self, step: &mut Step) {
        if self.deadline().is_none_or(|deadline| deadline > step.now) {
            return;
        }
        match self.role {
            Role::Follower if self.may_stand() => self.take_turn(step),
            Role::Follower => self.seek(step),
            Role::PreCandidate | Role::Candidate => self.candidacy_clock(step),
            Role::Leader => self.leader_clock(step),
        }
    }

    fn leader_clock(&mut self, step: &mut Step) {
        let now = step.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let sends_once = self.is_broken(Sabotage::SendOnce);
        for peer in self.peers.iter_mut().filter(|peer| due(peer.resend_at)) {
            match sends_once {
                true => peer.suspend(),
                false => peer.expired(),
            }
        }
        if due(self.leading.heartbeat_at) {
            self.heartbeat_clock(step);
        }
        self.reading_clock(step);
        self.transfer_clock(step);
        if due(self.leading.quorum_deadline) {
            self.check_quorum(step);
        }
    }

    fn heartbeat_clock(&mut self, step: &mut Step) {
        if let Heartbeats::Own(interval) = self.tuning.heartbeats {
            self.send_heartbeats(step);
            self.leading.heartbeat_at = Some(step.now + interval);
        }
    }

    /// "I still lead", to all. The commit index goes along, but never more than the receiver is known to hold: it can't
    /// check what lies beyond.
    pub(super) fn send_heartbeats(&mut self, step: &mut Step) {
        let round = self.heartbeat_round();
        for peer in &self.peers {
            let commit: LogIndex = self.commit.min(peer.match_index);
            step.send(peer.id, self.hard.term, Body::Heartbeat { commit, round });
        }
    }

    /// Whether the known leader is to be taken for alive: it is no time to elect another. Evidence, never proof.
    pub(super) fn has_live_leader(&self) -> bool {
        let Some(leader) = self.leader else { return false };
        let is_silent = match self.tuning.heartbeats {
            Heartbeats::External => false,
            Heartbeats::Own(_) => self.now >= self.following.heard + self.tuning.election_timeout,
        };
        !is_silent && !self.distrusts(leader)
    }

    /// Whether there is evidence against this member as a leader, or this one was told not to believe in it.
    pub(super) fn distrusts(&self, node: NodeId) -> bool {
        if self.election.is_forgotten(node, self.now) {
            return true;
        }
        match self.peer_at(node).map(|peer| self.peers[peer].liveness) {
            None | Some(Liveness::Alive) => false,
            Some(Liveness::Suspected) => !self.keeps_time(),
            Some(Liveness::Dead) => true,
        }
    }

    /// A follower that waits for nothing: if it had no live leader either, nothing would ever wake the group.
    pub(super) fn lacks_timer(&self) -> bool {
        self.role == Role::Follower && self.may_stand() && self.stands_at().is_none() && !self.has_live_leader()
    }
}
