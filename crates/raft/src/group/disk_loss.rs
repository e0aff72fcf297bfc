//! Members that lost what they had promised, and how they come back.
//!
//! Raft's proof needs every member to remember its votes and its acknowledgements. One whose disk was wiped or damaged
//! (or that is added under an id that had belonged here before) does not. It is barred: it neither votes nor stands,
//! and answers every leader that it is lost. The leader counts it no more, and says so to its caller, which decides
//! about members. Once a configuration is committed in which it is but a learner, nothing depends any more on what it
//! promised:
//!
//! - a member that has that configuration in its log doesn't ask for its vote, and needs a majority without it;
//! - one that doesn't can't win against a majority of those that have it.
//!
//! So the leader lets it rejoin, and it catches up like any learner. When its log reaches that configuration, its vote
//! can no longer go to anyone who lacks it; it may be made a voter again.
//!
//! Within one term, an acknowledgement that it sent before may still arrive when it has come back with an empty log.
//! That is what lives are for: a leader hears only the latest.
//!
//! A member whose disk takes nothing more asks for the same while it still holds what it promised ([`Life::retiring`]).
//! It votes and counts until it is a learner, so nothing is lost where the others can't do without it.

use super::{ABSURD, Group, Sabotage, Step};
use crate::progress::{ProgressState, Retiring};
use crate::{Body, Event, Life, LogIndex, NodeId, Role, Term, TransferError};

/// The lost member.
impl Group {
    /// It neither votes nor stands until its log durably reaches the place from which on it is known what it promised.
    pub(super) fn is_barred(&self) -> bool {
        self.hard.barred > self.durability.index() && !self.is_broken(Sabotage::ForgetLoss)
    }

    /// Whether no leader has let it back in yet; then it says so, and takes nothing.
    pub(super) fn says_lost(&mut self, step: &mut Step, leader: NodeId) -> bool {
        let is_lost = self.hard.barred == LogIndex::MAX && !self.is_broken(Sabotage::ForgetLoss);
        if is_lost {
            let life = self.hard.life;
            step.send(leader, self.hard.term, Body::Lost { life });
        }
        is_lost
    }

    pub(super) fn on_rejoin(&mut self, step: &mut Step, from: NodeId, term: Term, since: LogIndex, life: Life) {
        if term < self.hard.term || since.0 >= ABSURD || !self.accept_leader(step, from, term) {
            return;
        }
        if life != self.hard.life {
            return;
        }
        if self.hard.barred != LogIndex::MAX {
            // The answer was lost.
            return self.owe_a_report();
        }
        self.hard.barred = since;
        self.write.hard_state = true;
        // What it holds beyond what it knows to be committed may be what a leader of old wanted.
        if self.last.index > self.commit {
            self.cut_off(step, self.commit.next());
        }
        self.owe_a_report();
    }
}

/// Its leader.
impl Group {
    /// It holds nothing of what it promised. A late word of it changes nothing: in this life it has acknowledged since.
    pub(super) fn on_lost(&mut self, step: &mut Step, peer: usize, life: Life) {
        if self.role != Role::Leader {
            return;
        }
        self.hear_from(step, peer);
        if life.is_retiring() {
            return self.on_retiring(step, peer, life);
        }
        let lost = &mut self.peers[peer];
        if life < lost.life || (life == lost.life && !lost.is_lost && lost.match_index > LogIndex::ZERO) {
            return;
        }
        lost.lose(life);
        let node = lost.id;
        self.abandon_transfer(step, peer, TransferError::Lost);
        if self.peers[peer].standing.votes() {
            step.event(Event::MemberLost(node));
        } else {
            self.let_rejoin(step, peer);
        }
    }

    /// It asks to be done without. What it promised holds and counts until it is a learner.
    fn on_retiring(&mut self, step: &mut Step, peer: usize, life: Life) {
        let member = &mut self.peers[peer];
        if member.is_lost {
            return;
        }
        member.retiring = Some(Retiring {
            life,
            is_released: false,
        });
        let node = member.id;
        self.abandon_transfer(step, peer, TransferError::Retiring);
        if self.peers[peer].standing.votes() {
            step.event(Event::MemberLost(node));
        }
    }

    /// A member that asked to be done without may give up its log, once it is a learner and everybody who could win
    /// knows it.
    fn release(&mut self, step: &mut Step, peer: usize) {
        let is_settled = self.membership.is_committed() && self.commit >= self.leading.first;
        let since = self.membership.index();
        let member = &mut self.peers[peer];
        let is_learner = !member.standing.votes() && !member.is_parting;
        if let Some(retiring) = member.retiring.as_mut().filter(|_| is_settled && is_learner)
            && !core::mem::replace(&mut retiring.is_released, true)
        {
            let (to, life) = (member.id, retiring.life);
            step.send(to, self.hard.term, Body::Rejoin { since, life });
        }
    }

    /// Lets a lost member back in, if it is a learner and everybody who could win knows it.
    fn let_rejoin(&mut self, step: &mut Step, peer: usize) {
        let is_settled = self.membership.is_committed() && self.commit >= self.leading.first;
        let since = self.membership.index();
        let Some(lost) = self.peers.get_mut(peer).filter(|lost| lost.is_lost && is_settled) else {
            return;
        };
        if lost.standing.votes() || lost.is_parting {
            return;
        }
        let (to, life) = (lost.id, lost.life);
        lost.asked_to_rejoin(step.now, self.tuning.retransmit_timeout);
        step.send(to, self.hard.term, Body::Rejoin { since, life });
    }

    /// Those who wait for it may rejoin now, or are asked once more.
    pub(super) fn let_lost_rejoin(&mut self, step: &mut Step) {
        for peer in 0..self.peers.len() {
            if self.peers[peer].state == ProgressState::Lost && !self.peers[peer].asked {
                self.let_rejoin(step, peer);
            } else if self.peers[peer].retiring.is_some() {
                self.release(step, peer);
            }
        }
    }

    /// An acknowledgement of that life, if it counts: not if the member has lost since what it acknowledges.
    pub(super) fn counts_life(&mut self, peer: usize, life: Life) -> bool {
        let known = &mut self.peers[peer];
        if life < known.life && !self.sabotage_counts_lives() {
            return false;
        }
        let known = &mut self.peers[peer];
        if life > known.life {
            // It has rejoined under an earlier leader.
            known.lose(life);
        }
        known.is_lost = false;
        true
    }

    fn sabotage_counts_lives(&self) -> bool {
        self.is_broken(Sabotage::CountFormerLives)
    }
}
