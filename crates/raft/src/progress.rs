//! A leader's view of one other member: what it holds, what is on its way, and when to send again.

use crate::group::Standing;
use crate::{Instant, Life, Liveness, LogIndex, NodeId, Progress};
use alloc::collections::VecDeque;
use core::time::Duration;

/// The number of times that a retransmission interval doubles, once for each one that stays unanswered. A live node
/// whose group does not answer costs one message in this many intervals, and no more.
const MAX_BACKOFF: u32 = 5;

/// The way in which a leader sends to a follower (as in etcd's `Progress`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// The leader does not know yet where the logs agree: it sends one append at a time to find out.
    Probe,
    /// The logs agree up to [`Progress::match_index`]: appends follow each other without waiting for answers.
    Replicate,
    /// The entries that the follower needs are deleted at the leader: it needs a snapshot.
    Snapshot,
    /// The follower has lost what it had promised, and is sent nothing until it may rejoin as a learner.
    Lost,
}

/// A voter's answer to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ballot {
    /// Nothing yet.
    Open,
    Granted,
    Refused,
}

/// Appends that are under way to one follower, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Inflight {
    appends: VecDeque<(LogIndex, u64)>,
    bytes: u64,
    /// For tests of tests: nothing is forgotten.
    #[cfg(any(test, feature = "sabotage"))]
    pub(crate) leaks: bool,
}

impl Inflight {
    pub(crate) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        #[cfg(any(test, feature = "sabotage"))]
        if self.leaks {
            return;
        }
        self.appends.clear();
        self.bytes = 0;
    }

    pub(crate) fn push(&mut self, last: LogIndex, bytes: u64) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Bytes that the next append may have; none if it must wait. An append may exceed the limit alone.
    pub(crate) fn room(&self, max_messages: usize, max_bytes: u64) -> Option<u64> {
        let open = self.appends.is_empty() || (self.appends.len() < max_messages && self.bytes < max_bytes);
        open.then(|| max_bytes.saturating_sub(self.bytes))
    }

    /// Forgets what has arrived.
    fn arrived(&mut self, upto: LogIndex) {
        while let Some((_, bytes)) = self.appends.front().filter(|(last, _)| *last <= upto) {
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }
}

/// A member's request to be made a learner, since its disk takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Retiring {
    /// The question, for the answer to name it.
    pub(crate) life: Life,
    /// It was told that it may give up its log.
    pub(crate) is_released: bool,
}

/// Intervals without an answer after which a member that has been removed is given up.
const SILENCE: u32 = 3;

/// Another member. Its liveness counts in every role, its ballot in a candidate, the rest in a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    /// In which majorities it counts.
    pub(crate) standing: Standing,
    /// It has been removed, and is still sent to so that it can know.
    pub(crate) is_parting: bool,
    pub(crate) liveness: Liveness,
    pub(crate) ballot: Ballot,
    /// The latest life that it has named in this term.
    pub(crate) life: Life,
    /// In that life it has not rejoined yet: it holds nothing of what it promised.
    pub(crate) is_lost: bool,
    /// Its request to be made a learner: see [`Life::retiring`].
    pub(crate) retiring: Option<Retiring>,
    /// The last of this leader's rounds of heartbeats that it has answered.
    pub(crate) round: u64,
    /// Known to be durable there. Never falls within a term and a life.
    pub(crate) match_index: LogIndex,
    /// The first entry of the next append; above `match_index`.
    pub(crate) next_index: LogIndex,
    /// The commit index it has reported; zero when it may have forgotten.
    pub(crate) commit: LogIndex,
    /// The commit index of the last append sent to it.
    pub(crate) sent_commit: LogIndex,
    /// The replicated index of the last append sent to it.
    pub(crate) sent_replicated: LogIndex,
    pub(crate) state: ProgressState,
    /// In [`ProgressState::Probe`] and [`ProgressState::Lost`]: it was asked, and has not answered.
    pub(crate) asked: bool,
    /// The caller prepares or transmits a snapshot for it ([`crate::SnapshotStatus::Started`]).
    pub(crate) snapshot_under_way: bool,
    pub(crate) inflight: Inflight,
    /// When to send again if nothing is heard. None while nothing is outstanding.
    pub(crate) resend_at: Option<Instant>,
    backoff: u32,
    /// When it last answered (where the group keeps time itself).
    pub(crate) heard: Instant,
}

impl Peer {
    /// A member of which nothing is known yet. `next` is where a leader would begin to ask.
    pub(crate) fn unknown(id: NodeId, next: LogIndex, now: Instant) -> Peer {
        Peer {
            id,
            standing: Standing::default(),
            is_parting: false,
            liveness: Liveness::Alive,
            ballot: Ballot::Open,
            life: Life::default(),
            is_lost: false,
            retiring: None,
            round: 0,
            match_index: LogIndex::ZERO,
            next_index: next,
            commit: LogIndex::ZERO,
            sent_commit: LogIndex::ZERO,
            sent_replicated: LogIndex::ZERO,
            state: ProgressState::Probe,
            asked: false,
            snapshot_under_way: false,
            inflight: Inflight::default(),
            resend_at: None,
            backoff: 0,
            heard: now,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.liveness == Liveness::Alive
    }

    pub(crate) fn view(&self, is_caught_up: bool) -> Progress {
        Progress {
            state: self.state,
            match_index: self.match_index,
            next_index: self.next_index,
            inflight_bytes: self.inflight.bytes,
            snapshot_under_way: self.snapshot_under_way,
            commit: self.commit,
            liveness: self.liveness,
            is_lost: self.is_lost,
            is_retiring: self.retiring.is_some(),
            is_caught_up,
        }
    }

    /// A new leader knows nothing of the others, and guesses that their logs end like its own did (Raft paper, figure
    /// 2: nextIndex, matchIndex).
    pub(crate) fn begin_term(&mut self, next: LogIndex, now: Instant) {
        self.match_index = LogIndex::ZERO;
        self.next_index = next;
        self.life = Life::default();
        self.is_lost = false;
        self.retiring = None;
        self.round = 0;
        self.heard = now;
        self.snapshot_under_way = false;
        self.make_contact();
    }

    /// Probes again: it may have missed what was sent, and forgotten which leader it follows.
    pub(crate) fn make_contact(&mut self) {
        self.commit = LogIndex::ZERO;
        self.backoff = 0;
        self.probe();
        // A lost one as well: it says so again, or it is not lost any more.
        self.state = ProgressState::Probe;
    }

    /// Everything on the way may be lost: start again from what is known to have arrived.
    fn probe(&mut self) {
        if self.match_index > LogIndex::ZERO {
            self.next_index = self.match_index.next();
        }
        if self.state != ProgressState::Lost {
            self.state = ProgressState::Probe;
        }
        self.asked = false;
        self.inflight.clear();
        self.sent_commit = LogIndex::ZERO;
        self.resend_at = None;
    }

    /// An append up to `last` left; it needs an answer.
    pub(crate) fn sent(&mut self, last: LogIndex, bytes: u64, now: Instant, timeout: Duration) {
        match self.state {
            ProgressState::Probe => self.asked = true,
            ProgressState::Replicate if last >= self.next_index => {
                self.inflight.push(last, bytes);
                self.next_index = last.next();
            }
            ProgressState::Replicate | ProgressState::Snapshot | ProgressState::Lost => {}
        }
        if self.resend_at.is_none() {
            self.resend_at = Some(self.later(now, timeout));
        }
    }

    /// Notes that it holds the log up to `match_index`. A late or repeated answer changes nothing for the worse: what
    /// was once durable there in this term stays so.
    pub(crate) fn accepted(&mut self, match_index: LogIndex, commit: LogIndex, now: Instant, timeout: Duration) {
        let advanced = match_index > self.match_index;
        if advanced {
            // It takes entries again.
            self.retiring = None;
        }
        self.match_index = self.match_index.max(match_index);
        self.commit = self.commit.max(commit);
        self.inflight.arrived(self.match_index);
        match self.state {
            ProgressState::Replicate => self.next_index = self.next_index.max(self.match_index.next()),
            ProgressState::Probe | ProgressState::Snapshot | ProgressState::Lost => {
                self.state = ProgressState::Replicate;
                self.asked = false;
                self.next_index = self.match_index.next();
            }
        }
        if advanced || !self.is_owed_an_answer() {
            self.backoff = 0;
            self.resend_at = self.is_owed_an_answer().then(|| now + timeout);
        }
    }

    /// Whether a refusal of `prev_index` is about the present. A late or repeated one is not: an append is never
    /// refused at a place that is known to agree (otherwise a leader walks back over what it has counted).
    pub(crate) fn is_current_refusal(&self, prev_index: LogIndex) -> bool {
        match self.state {
            ProgressState::Probe => self.asked && prev_index == self.next_index.prev() && prev_index > self.match_index,
            ProgressState::Replicate => prev_index > self.match_index && prev_index < self.next_index,
            ProgressState::Snapshot | ProgressState::Lost => false,
        }
    }

    /// The logs may agree up to `agreed`, and do not where it was asked: ask there.
    pub(crate) fn refused(&mut self, agreed: LogIndex) {
        self.backoff = 0;
        self.probe();
        self.next_index = agreed.max(self.match_index).next();
    }

    /// Notes that the entries it needs are deleted. Unless the caller reports on the snapshot, the leader looks again
    /// after a while: the snapshot may be lost on its way.
    pub(crate) fn needs_snapshot(&mut self, now: Instant, timeout: Duration) {
        self.state = ProgressState::Snapshot;
        self.asked = false;
        self.inflight.clear();
        self.await_snapshot(now, timeout);
    }

    /// The caller reports whether a snapshot for it is under way. While it is, the leader does not look again.
    pub(crate) fn note_snapshot(&mut self, is_under_way: bool, now: Instant, timeout: Duration) {
        self.snapshot_under_way = is_under_way;
        if self.state == ProgressState::Snapshot {
            self.await_snapshot(now, timeout);
        }
    }

    /// When to look again whether it has what it needs. A silent one is looked at when it is heard.
    fn await_snapshot(&mut self, now: Instant, timeout: Duration) {
        let looks_again = !self.snapshot_under_way && self.is_alive();
        self.resend_at = looks_again.then(|| self.later(now, timeout));
    }

    /// Notes that it is in this life now, with an empty log.
    pub(crate) fn lose(&mut self, life: Life) {
        self.life = life;
        self.is_lost = true;
        self.retiring = None;
        self.match_index = LogIndex::ZERO;
        self.commit = LogIndex::ZERO;
        self.round = 0;
        if self.state != ProgressState::Lost {
            self.state = ProgressState::Lost;
            self.probe();
        }
    }

    /// Notes that it was asked to rejoin, and owes an answer.
    pub(crate) fn asked_to_rejoin(&mut self, now: Instant, timeout: Duration) {
        self.state = ProgressState::Lost;
        self.asked = true;
        self.resend_at = Some(self.later(now, timeout));
        if !self.is_alive() {
            self.suspend();
        }
    }

    /// Whether it has not answered several times.
    pub(crate) fn has_been_silent(&self) -> bool {
        self.backoff >= SILENCE
    }

    fn later(&self, now: Instant, timeout: Duration) -> Instant {
        now + timeout.saturating_mul(1 << self.backoff)
    }

    /// No answer in time: send again, and wait longer.
    pub(crate) fn expired(&mut self) {
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
        self.probe();
    }

    /// The node is out of contact: nothing is repeated until it returns.
    pub(crate) fn suspend(&mut self) {
        self.resend_at = None;
    }

    /// Whether something was sent that it has not confirmed.
    fn is_owed_an_answer(&self) -> bool {
        let is_probed = self.state == ProgressState::Probe && self.asked;
        !self.inflight.is_empty() || is_probed || self.commit < self.sent_commit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    fn replicating() -> Peer {
        let mut peer = Peer::unknown(NodeId(2), LogIndex(1), Instant::ZERO);
        peer.begin_term(LogIndex(5), Instant::ZERO);
        peer.sent(LogIndex(5), 10, Instant::ZERO, SOON);
        peer.accepted(LogIndex(5), LogIndex(4), Instant::ZERO, SOON);
        assert_eq!(peer.state, ProgressState::Replicate);
        peer
    }

    #[test]
    fn the_window_counts_messages_and_bytes_and_admits_one_large_append() {
        let mut inflight = Inflight::default();
        assert_eq!(inflight.room(2, 100), Some(100));
        inflight.push(LogIndex(1), 40);
        assert_eq!(inflight.room(2, 100), Some(60));
        inflight.push(LogIndex(2), 1);
        assert_eq!(inflight.room(2, 100), None, "two messages");
        inflight.arrived(LogIndex(1));
        assert_eq!(inflight.room(2, 100), Some(99));
        inflight.clear();
        inflight.push(LogIndex(3), 1000);
        assert_eq!(inflight.room(9, 100), None, "too many bytes");
        inflight.arrived(LogIndex(3));
        assert_eq!(inflight.room(9, 100), Some(100));
    }

    #[test]
    fn a_late_answer_moves_nothing_back() {
        let mut peer = replicating();
        peer.sent(LogIndex(9), 10, Instant::ZERO, SOON);
        peer.accepted(LogIndex(9), LogIndex(8), Instant::ZERO, SOON);
        peer.accepted(LogIndex(5), LogIndex(4), Instant::ZERO, SOON);
        assert_eq!(
            (peer.match_index, peer.next_index, peer.commit),
            (LogIndex(9), LogIndex(10), LogIndex(8))
        );
    }

    #[test]
    fn a_refusal_of_what_is_known_to_agree_is_old() {
        let mut peer = replicating();
        peer.sent(LogIndex(9), 10, Instant::ZERO, SOON);
        assert!(!peer.is_current_refusal(LogIndex(5)));
        assert!(peer.is_current_refusal(LogIndex(9)));
        assert!(!peer.is_current_refusal(LogIndex(10)), "nothing was sent there");
    }

    #[test]
    fn silence_doubles_the_interval_up_to_a_bound_and_an_answer_resets_it() {
        let mut peer = replicating();
        let mut intervals = alloc::vec::Vec::new();
        for _ in 0..8 {
            peer.sent(peer.next_index, 1, Instant::ZERO, SOON);
            intervals.push(peer.resend_at.expect("armed").0 / 10_000);
            peer.expired();
        }
        assert_eq!(intervals, [1, 2, 4, 8, 16, 32, 32, 32]);
        peer.sent(LogIndex(6), 1, Instant::ZERO, SOON);
        peer.accepted(LogIndex(6), LogIndex(6), Instant::ZERO, SOON);
        assert_eq!(peer.resend_at, None);
        peer.sent(LogIndex(7), 1, Instant::ZERO, SOON);
        assert_eq!(peer.resend_at, Some(Instant(10_000)));
    }

    #[test]
    fn a_probe_restarts_from_what_has_arrived() {
        let mut peer = replicating();
        peer.sent(LogIndex(9), 10, Instant::ZERO, SOON);
        peer.make_contact();
        assert_eq!((peer.next_index, peer.match_index), (LogIndex(6), LogIndex(5)));
        assert_eq!((peer.state, peer.asked), (ProgressState::Probe, false));
        assert!(peer.inflight.is_empty());
    }
}
