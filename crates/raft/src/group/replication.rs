//! The leader's side of replication: proposals, appends, and their answers.

use super::{Group, Position, Sabotage, Step};
use crate::progress::{Peer, ProgressState};
use crate::{AppendPlan, Entry, Event, Life, Liveness, LogIndex, Payload, ProposeError, Proposed, Role, Term, TermAt};
use alloc::vec::Vec;
use bytes::Bytes;

/// A follower is told a higher replicated index by a separate append only when it has risen by so many entries;
/// otherwise it travels along. What it allows to delete are whole segments, so a small lag costs nothing.
const REPLICATED_LAG: u64 = 4096;

/// Proposals.
impl Group {
    /// Appends one entry a payload, all or none.
    pub(super) fn propose(&mut self, step: &mut Step, payloads: Vec<Bytes>) {
        let answer = self.admit(&payloads).map(|bytes| self.append_payloads(payloads, bytes));
        step.out.proposed = Some(answer);
    }

    /// Whether they may be appended, and how many bytes they are. A proposal that alone exceeds the limit is admitted
    /// when nothing else is uncommitted: it could never be otherwise.
    fn admit(&self, payloads: &[Bytes]) -> Result<u64, ProposeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader(self.leader));
        }
        if self.leading.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
        let pending = self.leading.uncommitted.bytes;
        if pending > 0 && pending.saturating_add(bytes) > self.tuning.max_uncommitted_bytes {
            return Err(ProposeError::Busy);
        }
        Ok(bytes)
    }

    fn append_payloads(&mut self, payloads: Vec<Bytes>, bytes: u64) -> Proposed {
        let term = self.hard.term;
        let first = self.last.index.next();
        let entry = |(index, payload)| Entry {
            index: LogIndex(index),
            term,
            payload: Payload::Data(payload),
        };
        // Data are no configuration, so nothing has to be noted; and a burst of small proposals fills one vector.
        self.write.entries.extend((first.0..).zip(payloads).map(entry));
        if let Some(entry) = self.write.entries.last() {
            self.last = Position {
                term: entry.term,
                index: entry.index,
            };
        }
        let last = self.last.index;
        if bytes > 0 {
            self.leading.uncommitted.push(last, bytes);
        }
        Proposed { term, first, last }
    }
}

/// Sending.
impl Group {
    /// Sends every follower what it needs and has room for.
    pub(super) fn replicate(&mut self, step: &mut Step) {
        #[cfg(any(test, feature = "sabotage"))]
        if self.is_broken(Sabotage::KeepInflight) {
            self.peers.iter_mut().for_each(|peer| peer.inflight.leaks = true);
        }
        for peer in 0..self.peers.len() {
            while self.wants_append(&self.peers[peer]) && self.send_append(step, peer) {}
        }
    }

    fn wants_append(&self, peer: &Peer) -> bool {
        match peer.state {
            ProgressState::Probe => !peer.asked,
            ProgressState::Snapshot | ProgressState::Lost => false,
            ProgressState::Replicate if peer.liveness == Liveness::Dead => false,
            ProgressState::Replicate if peer.next_index <= self.last.index => true,
            // Nothing to carry the commit index: it is sent alone, but only once all before it has arrived.
            ProgressState::Replicate => {
                let is_behind = peer.sent_commit < self.commit
                    || self.replicated_index.0 >= peer.sent_replicated.0 + REPLICATED_LAG;
                peer.inflight.is_empty() && is_behind
            }
        }
    }

    /// Whether it was sent; otherwise it has to wait.
    fn send_append(&mut self, step: &mut Step, peer: usize) -> bool {
        let prev_index = self.peers[peer].next_index.prev();
        let prev_term = match self.leader_term_at(step, prev_index) {
            TermAt::Known(term) => term,
            TermAt::Compacted if self.is_broken(Sabotage::InventTerms) => Term::ZERO,
            TermAt::Compacted => {
                self.lack_entries(step, peer);
                return false;
            }
            TermAt::Missing => panic!("a leader sends what follows entry {prev_index}, which it does not have"),
        };
        let Some((last, bytes)) = self.next_range(step, &self.peers[peer]) else {
            return false;
        };
        let (commit, replicated_index) = (self.commit, self.replicated_index);
        let target = &mut self.peers[peer];
        let first = target.next_index;
        let plan = AppendPlan {
            to: target.id,
            term: self.hard.term,
            prev_index,
            prev_term,
            first,
            last,
            commit,
            replicated_index,
        };
        step.out.appends.push(plan);
        target.sent_commit = commit;
        target.sent_replicated = replicated_index;
        target.sent(last, bytes, step.now, self.tuning.retransmit_timeout);
        if !target.is_alive() {
            target.suspend();
        }
        true
    }

    /// What a follower needs is deleted here. It is told who leads all the same (by an append that it will refuse), so
    /// that it doesn't ask for votes for ever.
    fn lack_entries(&mut self, step: &mut Step, peer: usize) {
        if self.is_broken(Sabotage::LeaveBehind) && self.peers[peer].match_index == LogIndex::ZERO {
            return;
        }
        let to = self.peers[peer].id;
        self.peers[peer].needs_snapshot(step.now, self.tuning.retransmit_timeout);
        // A silent one would not take it; the leader looks again when it hears from it.
        let is_heard = !self.keeps_time() || step.now < self.peers[peer].heard + self.tuning.election_timeout;
        if is_heard && !self.peers[peer].snapshot_under_way {
            step.event(Event::NeedsSnapshot(to));
        }
        let Position {
            term: prev_term,
            index: prev_index,
        } = self.last;
        let (term, commit, replicated_index, first) =
            (self.hard.term, self.commit, self.replicated_index, prev_index.next());
        step.out.appends.push(AppendPlan {
            to,
            term,
            prev_index,
            prev_term,
            first,
            last: prev_index,
            commit,
            replicated_index,
        });
    }

    /// The last entry of the next append and its bytes; the entry before the first if there is none to send. None if
    /// the window is closed.
    fn next_range(&self, step: &Step, peer: &Peer) -> Option<(LogIndex, u64)> {
        let first = peer.next_index;
        if first > self.last.index {
            return Some((first.prev(), 0));
        }
        let room = peer
            .inflight
            .room(self.tuning.max_inflight_messages, self.tuning.max_inflight_bytes)?;
        let limit = room.min(self.tuning.max_append_bytes);
        let (last, bytes) = self.fit(step, first, limit);
        (bytes <= room || peer.inflight.is_empty()).then_some((last, bytes))
    }
}

/// An AppendAccepted, unpacked. See [`crate::Body::AppendAccepted`].
pub(super) struct Accepted {
    pub(super) match_index: LogIndex,
    pub(super) commit: LogIndex,
    pub(super) life: Life,
}

/// Answers.
impl Group {
    pub(super) fn on_append_accepted(&mut self, step: &mut Step, peer: usize, accepted: Accepted) {
        let Accepted {
            match_index,
            commit,
            life,
        } = accepted;
        // Nobody can agree beyond what there is: such an answer is no answer to this leader.
        if self.role != Role::Leader || match_index > self.last.index || !self.counts_life(peer, life) {
            return;
        }
        self.hear_from(step, peer);
        let commit = commit.min(self.commit);
        self.peers[peer].accepted(match_index, commit, step.now, self.tuning.retransmit_timeout);
        if !self.peers[peer].is_alive() {
            self.peers[peer].suspend();
        }
    }

    pub(super) fn on_append_rejected(&mut self, step: &mut Step, peer: usize, prev_index: LogIndex, hint: Position) {
        if self.role != Role::Leader {
            return;
        }
        self.hear_from(step, peer);
        if self.is_broken(Sabotage::TakeRefusalForLoss) {
            let held = self.peers[peer].match_index;
            assert!(prev_index > held, "a follower has lost what it had acknowledged");
        }
        let awaits_snapshot = self.peers[peer].state == ProgressState::Snapshot;
        if !awaits_snapshot && !self.peers[peer].is_current_refusal(prev_index) {
            return;
        }
        let upto = hint.index.min(prev_index.prev());
        let agreed = self.last_index_with_term_at_most(step, hint.term, upto);
        if awaits_snapshot {
            return self.on_snapshot_hint(peer, agreed, upto);
        }
        if self.is_broken(Sabotage::CountHints) {
            self.peers[peer].match_index = self.peers[peer].match_index.max(agreed);
        }
        if agreed > upto && self.peers[peer].match_index < agreed {
            // Where the logs may agree is deleted here.
            self.lack_entries(step, peer);
        } else {
            self.peers[peer].refused(agreed);
        }
    }

    /// A follower that is told who leads while it needs a snapshot refuses that append. If its log reaches what is held
    /// here, a snapshot has arrived, and only the acknowledgement is lost: appends can go on from there. A late answer
    /// from before costs one more append that is refused.
    fn on_snapshot_hint(&mut self, peer: usize, agreed: LogIndex, upto: LogIndex) {
        if agreed <= upto && agreed > self.peers[peer].match_index {
            self.peers[peer].refused(agreed);
        }
    }

    /// It answers: for check-quorum, and to resume at once what its silence has slowed down.
    pub(super) fn hear_from(&mut self, step: &mut Step, peer: usize) {
        let before = core::mem::replace(&mut self.peers[peer].heard, step.now);
        if self.keeps_time() && step.now.since(before) > self.tuning.election_timeout {
            self.peers[peer].make_contact();
        }
    }

    pub(super) fn on_heartbeat_reply(&mut self, step: &mut Step, peer: usize, commit: LogIndex, round: u64) {
        if self.role != Role::Leader {
            return;
        }
        self.hear_from(step, peer);
        self.note_round(peer, round);
        // It knew more before: it has restarted, and can't tell what it holds from what this term's leader has. (Or
        // the answer is late; then an append more does no harm.)
        let peer = &mut self.peers[peer];
        if commit < peer.commit && peer.resend_at.is_none() {
            peer.make_contact();
        }
    }
}
