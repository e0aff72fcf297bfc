//! Handing leadership over (Raft dissertation, section 3.10).
//!
//! Proposals are refused until it is decided, so that the target can reach the end of the log; then it is told to
//! stand. The leader leads on until it hears of a later term, or gives up.

use super::{Group, Sabotage, Step, canonical::Renaming};
use crate::progress::{Peer, ProgressState};
use crate::{Body, Event, Instant, NodeId, Role, Term, TransferError};

/// A transfer under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transferring {
    target: NodeId,
    /// When to give up.
    until: Instant,
    /// When to tell the target again; none before it was told.
    tell_again_at: Option<Instant>,
}

impl Transferring {
    pub(super) fn target(&self) -> NodeId {
        self.target
    }

    pub(super) fn deadline(&self) -> Instant {
        self.tell_again_at.map_or(self.until, |at| at.min(self.until))
    }

    /// See [`Group::rename`].
    pub(super) fn rename(&mut self, renaming: Renaming) {
        renaming.rename(&mut self.until);
        renaming.rename_some(&mut self.tell_again_at);
    }
}

impl Group {
    /// [`crate::Input::Transfer`].
    pub(super) fn transfer(&mut self, step: &mut Step, to: Option<NodeId>) {
        if self.role != Role::Leader {
            return transfer_failed(step, to, TransferError::NotLeader);
        }
        // Its own name withdraws the request that is under way. A target that was told to stand may do so all the same.
        if to == Some(self.id)
            && let Some(withdrawn) = self.leading.transfer.take()
        {
            return self.lead_on(step, &withdrawn, TransferError::Withdrawn);
        }
        let target = match to {
            None => self.choose_target().ok_or(TransferError::NoTarget),
            Some(named) => self.named_target(named),
        };
        let target = match target {
            Ok(target) => target,
            Err(error) => return transfer_failed(step, to, error),
        };
        if self
            .leading
            .transfer
            .as_ref()
            .is_some_and(|running| running.target == target)
        {
            return;
        }
        let until = step.now + self.tuning.election_timeout;
        self.leading.transfer = Some(Transferring {
            target,
            until,
            tell_again_at: None,
        });
    }

    /// The named member, if it can take over soon.
    fn named_target(&self, named: NodeId) -> Result<NodeId, TransferError> {
        let peer = self.peers.iter().find(|peer| peer.id == named);
        self.check_target(peer.ok_or(TransferError::NotVoter)?)?;
        Ok(named)
    }

    fn check_target(&self, peer: &Peer) -> Result<(), TransferError> {
        let votes = peer.standing.votes() || self.is_broken(Sabotage::LetLearnersLead);
        match peer {
            _ if !votes => Err(TransferError::NotVoter),
            _ if !peer.is_alive() => Err(TransferError::Unreachable),
            _ if peer.is_lost => Err(TransferError::Lost),
            _ if peer.retiring.is_some() => Err(TransferError::Retiring),
            _ if !self.is_caught_up(peer) => Err(TransferError::NotCaughtUp),
            _ => Ok(()),
        }
    }

    /// Of the members that can take over soon, the one that holds most; the preferred one among equals.
    fn choose_target(&self) -> Option<NodeId> {
        let fit = self.peers.iter().filter(|peer| self.check_target(peer).is_ok());
        // One that did not take over may not be able to: it is asked again when all others have been. `max_by_key`
        // prefers the last of equals.
        let declined = &self.leading.declined;
        let turn = |peer: &Peer| declined.iter().rev().position(|node| *node == peer.id);
        let preference = |peer: &&Peer| (turn(peer).unwrap_or(usize::MAX), peer.match_index);
        fit.rev().max_by_key(preference).map(|peer| peer.id)
    }

    /// Hands over if a voter can take over: this leader is no voter any more.
    pub(super) fn hand_over(&mut self, step: &mut Step) {
        if self.choose_target().is_some() {
            self.transfer(step, None);
        }
    }

    /// It lives, and lacks nothing that isn't on its way already.
    pub(super) fn is_caught_up(&self, peer: &Peer) -> bool {
        let is_near = peer.match_index >= self.commit || peer.next_index > self.last.index;
        peer.is_alive() && !peer.is_lost && peer.retiring.is_none() && peer.state == ProgressState::Replicate && is_near
    }

    /// Tells the target to stand as soon as it holds everything.
    pub(super) fn settle_transfer(&mut self, step: &mut Step) {
        let Some(transfer) = &mut self.leading.transfer else {
            return;
        };
        if transfer.tell_again_at.is_some_and(|at| at > step.now) {
            return;
        }
        let target = transfer.target;
        let is_ready = self
            .peers
            .iter()
            .any(|peer| peer.id == target && peer.match_index == self.last.index);
        if is_ready {
            self.leading.lease_is_over = true;
            transfer.tell_again_at = Some(step.now + self.tuning.retransmit_timeout);
            step.send(target, self.hard.term, Body::TimeoutNow);
        }
    }

    pub(super) fn transfer_clock(&mut self, step: &mut Step) {
        let expired = |transfer: &mut Transferring| transfer.until <= step.now;
        if let Some(transfer) = self.leading.transfer.take_if(expired) {
            self.leading.declined.retain(|node| *node != transfer.target);
            self.leading.declined.push(transfer.target);
            self.lead_on(step, &transfer, TransferError::TimedOut);
        }
    }

    /// This member can't take over any more: if it is the target, there is no point in refusing proposals any longer.
    pub(super) fn abandon_transfer(&mut self, step: &mut Step, peer: usize, error: TransferError) {
        let target = self.peers[peer].id;
        let to_it = |transfer: &mut Transferring| transfer.target == target;
        if let Some(transfer) = self.leading.transfer.take_if(to_it) {
            self.lead_on(step, &transfer, error);
        }
    }

    /// A transfer has failed. A target that was told to stand may have begun a later term all the same, and a third
    /// member may have been elected since: where heartbeats come from outside, and nothing is proposed, nobody would
    /// tell this leader. So it says that it leads on, and hears of the later term.
    fn lead_on(&mut self, step: &mut Step, transfer: &Transferring, error: TransferError) {
        if transfer.tell_again_at.is_some() {
            self.send_heartbeats(step);
        }
        transfer_failed(step, Some(transfer.target), error);
    }

    /// The leader says: stand now. No pre-vote, since the leader is alive, and wants it so. One that doesn't come from
    /// this term's leader is late.
    pub(super) fn on_timeout_now(&mut self, step: &mut Step, from: NodeId, term: Term) {
        let is_asked = self.role == Role::Follower && self.leader == Some(from) && term == self.hard.term;
        if is_asked && self.may_stand() {
            self.become_candidate(step, true);
        }
    }
}

fn transfer_failed(step: &mut Step, target: Option<NodeId>, error: TransferError) {
    step.event(Event::TransferFailed { target, error });
}
