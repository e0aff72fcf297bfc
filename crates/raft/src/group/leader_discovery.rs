//! Members that can't stand, and know of no leader.
//!
//! Where nobody sends heartbeats for the group, a follower trusts its leader until there is evidence against it. One
//! that leads no longer must let that be known; a member that may stand does so by asking for votes. One that may not
//! (a learner, one that was removed, one that is barred) asks who leads: a member that believed in it learns that it
//! does not, and a leader that hears it answers by an append.
//!
//! Neither is enough for a leader that doesn't know all who follow it: it has crashed and lost its last entries, or it
//! has been removed, and follows a leader that has died since. So a follower that refuses a candidate for its leader's
//! sake asks that leader, as if it answered to a heartbeat; and a member that is answered to and doesn't lead says so,
//! whatever it knows about others. A leader may be asked, too, that was deposed behind its back, and whose members have
//! all left it: if the candidate asks again, the question names the candidate's term, and the leader steps down.

use super::{Group, Sabotage, Step};
use crate::{Body, Instant, NodeId, Role, Term};

/// How often the interval between two questions doubles, at most.
const MAX_BACKOFF: u32 = 5;

/// When to ask next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LeaderDiscovery {
    pub(super) at: Option<Instant>,
    backoff: u32,
}

impl Group {
    /// When to ask who leads, if this member can't find out by standing.
    pub(super) fn seeks_at(&self) -> Option<Instant> {
        let seeks = self.role == Role::Follower && self.leader.is_none() && !self.may_stand();
        self.leader_discovery.at.filter(|_| seeks && !self.peers.is_empty())
    }

    /// From now on there is no leader: ask soon.
    pub(super) fn begin_seeking(&mut self, now: Instant) {
        self.leader_discovery = LeaderDiscovery {
            at: Some(now + self.tuning.election_timeout),
            backoff: 0,
        };
    }

    /// A learner that stands for once asks when its candidacy is over.
    pub(super) fn put_off_seeking(&mut self, now: Instant) {
        if !self.may_stand() {
            self.leader_discovery.at = Some(now + self.tuning.election_timeout.saturating_mul(2));
        }
    }

    pub(super) fn seek(&mut self, step: &mut Step) {
        self.turn_has_come();
        for peer in &self.peers {
            step.send(peer.id, self.hard.term, Body::Seek);
        }
        let wait = self
            .tuning
            .election_timeout
            .saturating_mul(1 << self.leader_discovery.backoff);
        self.leader_discovery = LeaderDiscovery {
            at: Some(step.now + wait),
            backoff: (self.leader_discovery.backoff + 1).min(MAX_BACKOFF),
        };
    }

    /// A candidate was refused for the leader's sake: if that leads no more, it will say so. `term` is the term to ask
    /// in: this member's, or a later one that the leader should know of.
    pub(super) fn question_leader(&self, step: &mut Step, term: Term) {
        let Some(leader) = self.leader.filter(|_| !self.keeps_time() && !self.is_barred()) else {
            return;
        };
        let (commit, round) = (self.commit, 0);
        step.send(leader, term.max(self.hard.term), Body::HeartbeatReply { commit, round });
    }

    /// Whether someone who believes in this member is to be told that it doesn't lead. Also if this member follows
    /// another one: that may be gone, or know nothing of who asks. And if it leads, but an earlier term than the
    /// question's.
    pub(super) fn is_questioned(&self, term: Term, round: u64) -> bool {
        let leads_on = match self.role {
            Role::Leader => term <= self.hard.term || round > 0,
            Role::Follower => self.leader.is_some() && self.is_broken(Sabotage::ConfirmFormerLeader),
            Role::PreCandidate | Role::Candidate => false,
        };
        !self.keeps_time() && !leads_on
    }

    /// It leads neither that term nor any before. "If RPC request or response contains term T > currentTerm: set
    /// currentTerm = T" (Raft paper, figure 2): a later one is news, of a leadership that this member has forgotten, or
    /// of a candidate that its follower has heard of.
    pub(super) fn disclaim(&mut self, step: &mut Step, to: NodeId, term: Term) {
        if term > self.hard.term {
            self.enter_term(term);
            self.become_leaderless(step);
        }
        step.send(to, self.hard.term, Body::Seek);
    }

    /// It doesn't lead the term that it names, or any before. A leader's append tells it who does.
    pub(super) fn on_seek(&mut self, step: &mut Step, from: NodeId, term: Term) {
        if self.role == Role::Leader {
            return self.show_leadership(from);
        }
        if self.leader != Some(from) || self.is_broken(Sabotage::BelieveForEver) {
            return;
        }
        if term >= self.hard.term {
            self.leader_restored(step);
        } else {
            // It may have led this term and lost its memory of it. Once it knows of the term, it can say so.
            self.refuse_pre_vote(step, from, false);
        }
    }
}
