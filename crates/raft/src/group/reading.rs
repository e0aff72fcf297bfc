//! Reads that see everything that was acknowledged before them (Raft dissertation, section 6.4).
//!
//! A leader knows what is committed, unless it has been succeeded without noticing. So it notes its commit index, asks
//! the voters whether they still follow it, and answers when a majority does: a leader that had succeeded it by then
//! would have needed one of them. Reads that come while a question is on its way share the next one.
//!
//! With leases (section 6.4.1), voters promise by every answer to elect nobody for one election timeout, so that a
//! leader that was answered lately need not ask. The promise binds them after a restart as well (they take the moment
//! of the restart for the last word of a leader), whatever they are told about the leader's liveness. Only the leader
//! itself can release them: before it hands over, its lease ends, for the rest of its term.

use super::{Group, Sabotage, Step, canonical::Renaming};
use crate::{Body, Heartbeats, Instant, Liveness, LogIndex, ReadError, ReadId, Role};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

/// Reads that may wait in one group; beyond it they are refused.
const MAX_WAITING: usize = 1 << 16;

/// Rounds of heartbeats whose moment is remembered, for leases: more are not on their way within an election timeout,
/// unless the interval is far too short.
const MAX_ROUNDS: usize = 16;

/// A read and what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    read: ReadId,
    /// What was committed when it came.
    index: LogIndex,
    /// The round that has to be confirmed.
    round: u64,
}

/// What a leader keeps about reads. Allocated with the first one (or the first lease), so that other groups don't pay
/// for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    waiting: VecDeque<Waiting>,
    /// The last question. Zero: none.
    round: u64,
    /// When to ask again who hasn't answered.
    ask_at: Option<Instant>,
    /// With leases: when the last rounds were sent, oldest first.
    sent: VecDeque<(u64, Instant)>,
    /// No voter elects anybody else before.
    lease_until: Option<Instant>,
    /// The leadership ended before they were answered.
    refused: Vec<ReadId>,
}

impl Reading {
    /// See [`Group::rename`].
    pub(super) fn rename(&mut self, renaming: Renaming) {
        renaming.rename_some(&mut self.ask_at);
        renaming.rename_some(&mut self.lease_until);
        for (_, at) in &mut self.sent {
            renaming.rename(at);
        }
    }

    /// What is left of it when the leadership ends.
    pub(super) fn end(self) -> Option<Box<Reading>> {
        let refused: Vec<ReadId> = self.waiting.iter().map(|waiting| waiting.read).collect();
        let left = Reading {
            refused,
            ..Reading::default()
        };
        (!left.refused.is_empty()).then(|| Box::new(left))
    }

    fn is_asking(&self) -> bool {
        self.waiting.front().is_some_and(|oldest| oldest.round <= self.round)
    }
}

/// Reads.
impl Group {
    /// [`crate::Input::Read`].
    pub(super) fn read(&mut self, step: &mut Step, read: ReadId) {
        let at_once = match self.admit_read() {
            Err(error) => return step.out.reads.push((read, Err(error))),
            Ok(at_once) => at_once,
        };
        let index = self.commit;
        if at_once {
            return step.out.reads.push((read, Ok(index)));
        }
        let reading = self.leading.reading.get_or_insert_default();
        let round = reading.round + 1;
        let is_first = !reading.is_asking();
        reading.waiting.push_back(Waiting { read, index, round });
        if is_first {
            self.ask_round(step);
        }
    }

    /// Whether it may be answered without asking anybody.
    fn admit_read(&self) -> Result<bool, ReadError> {
        if self.role != Role::Leader {
            return Err(ReadError::NotLeader(self.leader));
        }
        if self.commit < self.leading.first {
            return Err(ReadError::NotServing);
        }
        let waiting = self.leading.reading.as_ref().map_or(0, |reading| reading.waiting.len());
        if waiting >= MAX_WAITING {
            return Err(ReadError::Busy);
        }
        Ok(self.is_alone() || self.has_lease() || self.is_broken(Sabotage::ReadAtOnce))
    }

    /// Asks all voters whether they still follow this leader.
    fn ask_round(&mut self, step: &mut Step) {
        let round = self.next_round();
        let reading = self.leading.reading.get_or_insert_default();
        reading.ask_at = Some(step.now + self.tuning.retransmit_timeout);
        self.send_round(step, round);
    }

    fn send_round(&self, step: &mut Step, round: u64) {
        let is_asked = |peer: &&crate::progress::Peer| {
            peer.standing.votes() && peer.round < round && peer.liveness != Liveness::Dead
        };
        for peer in self.peers.iter().filter(is_asked) {
            let commit = self.commit.min(peer.match_index);
            step.send(peer.id, self.hard.term, Body::Heartbeat { commit, round });
        }
    }

    fn next_round(&mut self) -> u64 {
        let (now, leases) = (self.now, self.uses_leases());
        let reading = self.leading.reading.get_or_insert_default();
        reading.round += 1;
        if leases {
            if reading.sent.len() >= MAX_ROUNDS {
                reading.sent.pop_front();
            }
            reading.sent.push_back((reading.round, now));
        }
        reading.round
    }

    /// The round that a regular heartbeat carries: with leases each is one.
    pub(super) fn heartbeat_round(&mut self) -> u64 {
        if self.uses_leases() {
            return self.next_round();
        }
        self.leading.reading.as_ref().map_or(0, |reading| reading.round)
    }

    /// An answer to one of this leader's rounds.
    pub(super) fn note_round(&mut self, peer: usize, round: u64) {
        let Some(reading) = &self.leading.reading else { return };
        // Nobody can have heard what was not said.
        if round <= reading.round {
            self.peers[peer].round = self.peers[peer].round.max(round);
        }
    }

    /// Answers those reads that may be answered now, and asks for those that came meanwhile.
    pub(super) fn settle_reads(&mut self, step: &mut Step) {
        let Some(mut reading) = self.leading.reading.take() else {
            return;
        };
        self.extend_lease(&mut reading);
        let is_confirmed = |round| self.is_quorum(true, |peer| peer.round >= round);
        if reading.is_asking() && is_confirmed(reading.round) {
            let count = reading
                .waiting
                .partition_point(|waiting| waiting.round <= reading.round);
            let answers = reading.waiting.drain(..count);
            step.out
                .reads
                .extend(answers.map(|waiting| (waiting.read, Ok(waiting.index))));
            reading.ask_at = None;
        }
        let asks = !reading.waiting.is_empty() && !reading.is_asking();
        self.leading.reading = Some(reading);
        if asks {
            self.ask_round(step);
        }
    }

    /// The leadership has ended, and with it the chance to answer them.
    pub(super) fn refuse_reads(&mut self, step: &mut Step) {
        let Some(reading) = &mut self.leading.reading else {
            return;
        };
        let leader = self.leader.filter(|leader| *leader != self.id);
        for read in mem::take(&mut reading.refused) {
            step.out.reads.push((read, Err(ReadError::NotLeader(leader))));
        }
        if self.role != Role::Leader {
            self.leading.reading = None;
        }
    }

    pub(super) fn reading_deadline(&self) -> Option<Instant> {
        self.leading.reading.as_ref().and_then(|reading| reading.ask_at)
    }

    pub(super) fn reading_clock(&mut self, step: &mut Step) {
        let Some(reading) = &mut self.leading.reading else {
            return;
        };
        if reading.ask_at.is_some_and(|at| at <= step.now) {
            reading.ask_at = Some(step.now + self.tuning.retransmit_timeout);
            let round = reading.round;
            self.send_round(step, round);
        }
    }
}

/// Leases.
impl Group {
    fn uses_leases(&self) -> bool {
        self.tuning.lease.is_some() && matches!(self.tuning.heartbeats, Heartbeats::Own(_))
    }

    /// Voters can't have elected another by now. (A leader that is no voter any more has none: who is left as the only
    /// voter needs to ask nobody.)
    fn has_lease(&self) -> bool {
        let until = self.leading.reading.as_ref().and_then(|reading| reading.lease_until);
        let may = self.uses_leases() && self.membership.own.votes();
        let holds = may && !self.leading.lease_is_over && self.leading.transfer.is_none();
        holds && until.is_some_and(|until| self.now < until)
    }

    /// From the moment at which the last round was sent that a majority has answered.
    fn extend_lease(&self, reading: &mut Reading) {
        let Some(drift) = self.tuning.lease.filter(|_| self.uses_leases()) else {
            return;
        };
        let is_confirmed = |(round, _): &&(u64, Instant)| self.is_quorum(true, |peer| peer.round >= *round);
        let Some((confirmed, sent)) = reading.sent.iter().rev().find(is_confirmed).copied() else {
            return;
        };
        let length = self.tuning.election_timeout.saturating_sub(drift);
        reading.lease_until = reading.lease_until.max(Some(sent + length));
        reading.sent.retain(|(round, _)| *round > confirmed);
    }

    /// Whether this voter has promised, by answering a leader, to elect nobody yet.
    pub(super) fn is_bound(&self) -> bool {
        let until = self.following.heard + self.tuning.election_timeout;
        self.uses_leases() && self.now < until && self.role != Role::Leader && !self.is_alone()
    }

    /// It may have promised before it was started.
    pub(super) fn bind_at_start(&mut self) {
        if self.uses_leases() {
            self.following.heard = self.now;
        }
    }

    /// For [`Sabotage::ForgetLease`].
    #[cfg(any(test, feature = "sabotage"))]
    pub(super) fn unbind(&mut self) {
        self.following.heard = Instant::ZERO;
    }

    /// When it may stand after all.
    pub(super) fn put_off_standing(&mut self) {
        self.role = Role::Follower;
        self.election
            .wait_until(self.following.heard + self.tuning.election_timeout);
    }
}
