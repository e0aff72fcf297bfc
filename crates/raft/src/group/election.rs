//! Elections: who stands, when, and who votes for whom.
//!
//! Normally one member stands: the first live one in the order of preference, the others `rank_delay` apart behind
//! it. A pre-vote comes first (Raft dissertation, section 9.6), so that a member that can't win disturbs nobody: a
//! voter that has a live leader refuses. Evidence that the leader is gone makes members ask; a majority decides.
//!
//! How no group stays leaderless, where nobody sends heartbeats on its behalf: a member without a live leader always
//! keeps a timer. A member that led, and does no longer, either follows a later leader or is leaderless, and then asks
//! for pre-votes; who still believed in it learns from that, or from the answer when it asks (see `leader_discovery`).
//! So along any chain of stale beliefs, terms rise, and at its end someone has a timer.

use super::{Group, Position, Sabotage, Step, canonical::Renaming};
use crate::progress::{Ballot, Peer};
use crate::{Body, Event, Heartbeats, Instant, Liveness, NodeId, Role, Term};
use core::time::Duration;

/// The number of times in a row that a candidate makes way for a longer log. If nobody leads even then, a member that
/// has it can't win, and a majority without it may be right.
const MAX_YIELDS: u32 = 3;

/// The number of times that a member stands before its turn until that comes. It does so because of somebody else who
/// stands, and may make others do so: without a limit, members hurry each other on to later and later terms, faster
/// than any of them can write its vote and ask for others'.
const MAX_HASTE: u32 = 3;

/// A pre-vote that was refused because of a leader that seemed alive. If that turns out wrong a moment later, the
/// candidate is told at once, instead of having to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RefusedPreVote {
    at: Instant,
    /// When the same candidate asked for the same term first.
    since: Instant,
    from: NodeId,
    term: Term,
    position: Position,
}

/// When to stand, and how a candidacy goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Election {
    /// When a member of rank zero would stand. None while there is no reason to.
    base: Option<Instant>,
    /// Spreads those who have collided; zero at a first attempt.
    jitter: Duration,
    /// Candidacies that failed since there was a leader.
    attempts: u32,
    /// How often it stood before its turn, since that came last or there was a leader. At most [`MAX_HASTE`].
    haste: u32,
    /// Whom this member believes gone as a leader: it doesn't count for its rank, whatever its node's liveness.
    former_leader: Option<NodeId>,
    /// The leader that this member was told to believe gone, and until when it tries to.
    forgotten: Option<(NodeId, Instant)>,
    refused_pre_vote: Option<RefusedPreVote>,
    /// Who has this member's vote in the current term, but not its answer yet.
    vote_owed: Option<NodeId>,
    /// This candidate's requests wait for its own vote to be durable.
    requests_wait: bool,
    /// The leader told this candidate to stand.
    by_transfer: bool,
    /// When this candidacy has failed.
    pub(super) until: Instant,
    /// When to ask those again who haven't granted.
    pub(super) ask_at: Instant,
}

impl Election {
    pub(super) fn standing_at(base: Instant) -> Election {
        Election {
            base: Some(base),
            jitter: Duration::ZERO,
            attempts: 0,
            haste: 0,
            former_leader: None,
            forgotten: None,
            refused_pre_vote: None,
            vote_owed: None,
            requests_wait: false,
            by_transfer: false,
            until: base,
            ask_at: base,
        }
    }

    pub(super) fn is_forgotten(&self, node: NodeId, now: Instant) -> bool {
        self.forgotten
            .is_some_and(|(forgotten, until)| forgotten == node && now < until)
    }

    /// Someone may have missed the requests, if they have left yet.
    pub(super) fn ask_again(&mut self, now: Instant) {
        if !self.requests_wait {
            self.ask_at = now;
        }
    }

    /// There is a leader: all that came before is settled.
    pub(super) fn settle(&mut self, base: Option<Instant>) {
        *self = Election {
            base,
            forgotten: self.forgotten,
            until: self.until,
            ask_at: self.ask_at,
            ..Election::standing_at(Instant::ZERO)
        };
    }

    /// See [`Group::rename`].
    pub(super) fn rename(&mut self, renaming: Renaming) {
        renaming.rename_some(&mut self.base);
        renaming.rename(&mut self.until);
        renaming.rename(&mut self.ask_at);
        if let Some((_, until)) = &mut self.forgotten {
            renaming.rename(until);
        }
        if let Some(refused_pre_vote) = &mut self.refused_pre_vote {
            renaming.rename(&mut refused_pre_vote.at);
            renaming.rename(&mut refused_pre_vote.since);
        }
    }

    pub(super) fn begin_term(&mut self) {
        self.forgotten = None;
        self.vote_owed = None;
        self.requests_wait = false;
    }

    /// Stand then, with the delay of one's rank, but without what earlier failures have added.
    pub(super) fn wait_until(&mut self, base: Instant) {
        self.base = Some(base);
        self.jitter = Duration::ZERO;
    }
}

/// When to stand.
impl Group {
    /// When this follower stands, if nothing happens before.
    pub(super) fn stands_at(&self) -> Option<Instant> {
        let base = self.election.base.filter(|_| self.may_stand())?;
        Some(base + self.tuning.rank_delay.saturating_mul(self.rank()) + self.election.jitter)
    }

    /// How many members should stand before this one: the live ones that precede it, but not the leader that is gone.
    fn rank(&self) -> u32 {
        let gone = self.leader.or(self.election.former_leader);
        let before = self.peers.iter().take(self.place);
        let count = before.filter(|peer| peer.is_alive() && Some(peer.id) != gone).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// There is no leader any more that this member knows of. A timer that runs already is not put off.
    pub(super) fn become_leaderless(&mut self, step: &mut Step) {
        self.resign();
        self.role = Role::Follower;
        self.leader = None;
        if self.is_broken(Sabotage::ForgetVote) {
            self.hard.vote = None;
        }
        self.begin_seeking(step.now);
        self.keep_a_timer();
    }

    /// A member without a leader stands sooner or later, if it may. A timer that runs already is not put off.
    pub(super) fn keep_a_timer(&mut self) {
        if self.role == Role::Follower && !self.has_live_leader() {
            let base = self.now + self.tuning.election_timeout;
            self.election.base.get_or_insert(base);
        }
    }

    /// Word from the current term's leader.
    pub(super) fn heed_leader(&mut self, step: &mut Step, leader: NodeId) {
        self.role = Role::Follower;
        let is_new = self.leader != Some(leader);
        self.leader = Some(leader);
        self.watch_guest(leader);
        self.following.heard = step.now;
        let base = match self.tuning.heartbeats {
            Heartbeats::Own(_) => Some(step.now + self.tuning.election_timeout),
            Heartbeats::External if self.has_live_leader() => None,
            // What it sent may be older than the evidence against it, so that doesn't put off a timer that runs.
            Heartbeats::External if is_new => Some(step.now + self.tuning.suspicion_delay),
            Heartbeats::External => self.election.base.or(Some(step.now + self.tuning.suspicion_delay)),
        };
        self.election.settle(base);
    }

    pub(super) fn leader_liveness_changed(&mut self, step: &mut Step, before: Liveness, liveness: Liveness) {
        match liveness {
            // Its process was gone: whatever answers now may not know that it led.
            Liveness::Alive if before == Liveness::Dead => {
                self.election.base = None;
                self.become_leaderless(step);
            }
            // Unless this member was told to believe it gone all the same.
            Liveness::Alive if self.keeps_time() || !self.has_live_leader() => {}
            Liveness::Alive => self.election.base = None,
            Liveness::Suspected if self.keeps_time() => {}
            Liveness::Suspected => self.stand_by(step.now + self.tuning.suspicion_delay),
            Liveness::Dead => self.stand_by(step.now),
        }
    }

    /// The leader's node is back. If it restarted, nobody leads; if it was only out of reach, it leads on and will say
    /// so soon.
    pub(super) fn leader_restored(&mut self, step: &mut Step) {
        self.become_leaderless(step);
        self.stand_by(step.now + self.tuning.suspicion_delay);
    }

    /// Answers a candidate once more that was refused because of a leader that no longer seems alive.
    pub(super) fn reconsider(&mut self, step: &mut Step) {
        if self.election.refused_pre_vote.is_none() || self.has_live_leader() {
            return;
        }
        let refused_pre_vote = self.election.refused_pre_vote.take();
        if let Some(RefusedPreVote {
            from, term, position, ..
        }) = refused_pre_vote
            .filter(|refused_pre_vote| step.now.since(refused_pre_vote.at) < self.tuning.election_timeout)
        {
            self.on_pre_vote(step, from, term, position);
        }
    }

    /// Stand by then at the latest (and by rank).
    fn stand_by(&mut self, base: Instant) {
        self.election.base = Some(self.election.base.map_or(base, |earlier| earlier.min(base)));
    }

    /// [`crate::Input::ForgetLeader`].
    pub(super) fn forget_leader(&mut self, step: &mut Step) {
        if let Some(leader) = self.leader {
            self.election.forgotten = Some((leader, step.now + self.tuning.election_timeout));
        }
        match self.role {
            Role::Leader => self.transfer(step, None),
            Role::Follower => {
                self.election.attempts = 0;
                self.election.wait_until(step.now);
                self.election.former_leader = self.leader.take().or(self.election.former_leader);
            }
            Role::PreCandidate | Role::Candidate => {}
        }
    }

    /// [`crate::Input::Campaign`].
    pub(super) fn campaign(&mut self, step: &mut Step) {
        if self.role == Role::Follower && self.may_stand() {
            self.stand(step);
        }
    }
}

/// Standing.
impl Group {
    /// Its time has come.
    pub(super) fn take_turn(&mut self, step: &mut Step) {
        self.turn_has_come();
        self.stand(step);
    }

    /// From now on it may stand before its turn again.
    pub(super) fn turn_has_come(&mut self) {
        self.election.haste = 0;
    }

    /// Stands before its turn because of what somebody else who stands has said, unless it has done so too often.
    fn hasten(&mut self, step: &mut Step) -> bool {
        let may_hasten = self.election.haste < MAX_HASTE;
        if may_hasten {
            self.election.haste += 1;
            self.stand(step);
        }
        may_hasten
    }

    /// Asks for pre-votes.
    pub(super) fn stand(&mut self, step: &mut Step) {
        if self.is_bound() {
            return self.put_off_standing();
        }
        if self.leader.is_some() {
            self.election.former_leader = self.leader.take();
        }
        self.role = Role::PreCandidate;
        self.begin_candidacy(step.now);
        self.ask(step);
        self.count_pre_votes(step);
    }

    /// Asks for votes in a new term. They leave once that term and the vote for itself are durable: see
    /// [`Group::settle_candidacy`].
    pub(super) fn become_candidate(&mut self, step: &mut Step, transfer: bool) {
        self.enter_term(self.hard.term.next());
        self.hard.vote = Some(self.id);
        self.role = Role::Candidate;
        self.begin_candidacy(step.now);
        self.election.by_transfer = transfer;
        self.election.ask_at = self.election.until;
        self.election.requests_wait = true;
        step.event(Event::Campaigned { term: self.hard.term });
    }

    fn begin_candidacy(&mut self, now: Instant) {
        self.election.base = None;
        self.election.refused_pre_vote = None;
        self.election.until = now + self.tuning.election_timeout;
        for peer in &mut self.peers {
            peer.ballot = Ballot::Open;
        }
        self.put_off_seeking(now);
    }

    /// Asks everyone who hasn't granted: one who refused may have learnt since that the leader is gone.
    fn ask(&mut self, step: &mut Step) {
        let Position {
            term: last_term,
            index: last_index,
        } = self.last;
        let (term, body) = match self.role {
            Role::Candidate => {
                let transfer = self.election.by_transfer;
                (
                    self.hard.term,
                    Body::Vote {
                        last_index,
                        last_term,
                        transfer,
                    },
                )
            }
            _ => (self.hard.term.next(), Body::PreVote { last_index, last_term }),
        };
        let is_asked = |peer: &&Peer| peer.standing.votes() && peer.ballot != Ballot::Granted;
        for peer in self.peers.iter().filter(is_asked) {
            step.send(peer.id, term, body.clone());
        }
        self.election.ask_at = step.now + self.tuning.retransmit_timeout;
    }

    pub(super) fn candidacy_clock(&mut self, step: &mut Step) {
        if self.election.until <= step.now {
            self.fail_candidacy(step.now);
        } else if self.election.ask_at <= step.now {
            self.ask(step);
        }
    }

    /// Nobody won, or someone else did and it isn't known yet. The next attempts are spread more and more widely.
    fn fail_candidacy(&mut self, now: Instant) {
        self.role = Role::Follower;
        if self.is_broken(Sabotage::ForgetVote) {
            self.hard.vote = None;
        }
        self.election.attempts = self.election.attempts.saturating_add(1);
        self.election.base = Some(now);
        let widest = self
            .tuning
            .election_timeout
            .saturating_mul(self.election.attempts.min(4));
        // Not in this very step again.
        self.election.jitter = scatter(widest, self.chance()).max(Duration::from_micros(1));
    }

    /// Leaves it to another, for one election timeout.
    fn yield_candidacy(&mut self, now: Instant) {
        self.role = Role::Follower;
        self.election.wait_until(now + self.tuning.election_timeout);
    }

    fn chance(&self) -> u64 {
        let mut mixed = self.tuning.seed;
        for word in [self.id.0, self.hard.term.0, u64::from(self.election.attempts)] {
            mixed = mix(mixed ^ word);
        }
        mixed
    }

    /// The vote requests of a candidate leave, and its own vote counts, once both are durable. (Otherwise it could
    /// crash, forget, and vote for another in the same term.)
    pub(super) fn settle_candidacy(&mut self, step: &mut Step) {
        let may_leave = self.hard_state_is_durable() || self.is_broken(Sabotage::StandAtOnce);
        if self.role == Role::Candidate && self.election.requests_wait && may_leave {
            self.election.requests_wait = false;
            self.ask(step);
            self.count_votes(step);
        }
    }

    fn is_elected(&self) -> bool {
        self.is_quorum(true, |peer| peer.ballot == Ballot::Granted)
    }

    fn count_pre_votes(&mut self, step: &mut Step) {
        if self.role == Role::PreCandidate && self.is_elected() {
            self.become_candidate(step, false);
        }
    }

    fn count_votes(&mut self, step: &mut Step) {
        if self.is_elected() {
            self.become_leader(step);
        }
    }

    pub(super) fn on_pre_vote_granted(&mut self, step: &mut Step, peer: usize, term: Term) {
        if self.role == Role::PreCandidate && term == self.hard.term.next() {
            self.peers[peer].ballot = Ballot::Granted;
            self.count_pre_votes(step);
        }
    }

    /// A refusal counts from any term: one from a later term says which term to ask for (else a member that has been
    /// away would ask for ever), one from an earlier term may come from a longer log.
    pub(super) fn on_pre_vote_refused(&mut self, step: &mut Step, peer: usize, term: Term, longer_log: bool) {
        let was_asking = self.role == Role::PreCandidate;
        if term > self.hard.term && !self.is_broken(Sabotage::IgnoreRefusals) {
            self.enter_term(term);
            self.become_leaderless(step);
        }
        if !was_asking {
            return;
        }
        if longer_log && self.election.attempts < MAX_YIELDS {
            self.election.attempts += 1;
            self.yield_candidacy(step.now);
        } else if self.role == Role::PreCandidate {
            self.peers[peer].ballot = Ballot::Refused;
        } else if !self.hasten(step) {
            self.fail_candidacy(step.now);
        }
    }

    pub(super) fn on_vote_reply(&mut self, step: &mut Step, peer: usize, granted: bool) {
        if self.role != Role::Candidate || self.election.requests_wait {
            return;
        }
        self.peers[peer].ballot = if granted { Ballot::Granted } else { Ballot::Refused };
        self.count_votes(step);
        let can_win = self.is_quorum(true, |peer| peer.ballot != Ballot::Refused);
        if self.role == Role::Candidate && !can_win {
            self.fail_candidacy(step.now);
        }
    }
}

/// Voting.
impl Group {
    /// A request for votes in a later term from the believed leader itself proves that it leads no more (it restarted,
    /// or stepped down). One for this term or before is merely late. Tells whether it was believed until now.
    fn hear_of_candidacy(&mut self, step: &mut Step, from: NodeId, term: Term) -> bool {
        let is_late = term <= self.hard.term || self.is_broken(Sabotage::BelieveForEver);
        let leads_no_more = !is_late && self.role == Role::Follower && self.leader == Some(from);
        if leads_no_more {
            self.election.base = None;
            self.become_leaderless(step);
        }
        leads_no_more
    }

    /// Would this member vote for `from`? Changes neither term nor vote nor timer: to grant is not to promise, and a
    /// member that grants must not put off its own candidacy (or an even number of them may take turns for ever).
    pub(super) fn on_pre_vote(&mut self, step: &mut Step, from: NodeId, term: Term, theirs: Position) {
        if term <= self.hard.term && self.is_broken(Sabotage::IgnoreLowerTerms) {
            return;
        }
        let leads_no_more = self.hear_of_candidacy(step, from, term);
        if self.role == Role::Leader {
            return self.show_leadership(from);
        }
        if self.has_live_leader() {
            return self.refuse_for_leader(step, from, term, theirs);
        }
        if self.is_barred() {
            self.refuse_pre_vote(step, from, false);
        } else if self.last > theirs && !self.is_broken(Sabotage::VoteForShorterLog) {
            self.refuse_pre_vote(step, from, self.may_stand_instead());
            match theirs == Position::default() {
                true => self.heed_denial(step, from, term, leads_no_more),
                false => self.stand_instead(step, term),
            }
        } else if term <= self.hard.term || self.stands_before(from, term, theirs) {
            self.refuse_pre_vote(step, from, false);
        } else {
            if self.role == Role::PreCandidate {
                self.yield_candidacy(step.now);
            }
            if self.is_broken(Sabotage::GrantingPutsOff) {
                self.election.wait_until(step.now + self.tuning.election_timeout);
            }
            let granted = Body::PreVoteReply {
                granted: true,
                longer_log: false,
            };
            step.send(from, term, granted);
        }
    }

    /// Refuses a candidate because there is a leader, and asks that one whether it leads. A candidate that asks on is
    /// not answered by the leader, which may have been deposed by the term that the candidate is in: then it has to
    /// know.
    fn refuse_for_leader(&mut self, step: &mut Step, from: NodeId, term: Term, theirs: Position) {
        let is_same = |earlier: &RefusedPreVote| (earlier.from, earlier.term) == (from, term);
        let since = self
            .election
            .refused_pre_vote
            .filter(is_same)
            .map_or(step.now, |earlier| earlier.since);
        self.election.refused_pre_vote = Some(RefusedPreVote {
            at: step.now,
            since,
            from,
            term,
            position: theirs,
        });
        let asks_on = step.now.since(since) >= self.tuning.retransmit_timeout;
        let theirs = if asks_on {
            Term(term.0.saturating_sub(1))
        } else {
            Term::ZERO
        };
        self.question_leader(step, theirs);
        self.refuse_pre_vote(step, from, false);
    }

    pub(super) fn refuse_pre_vote(&mut self, step: &mut Step, from: NodeId, longer_log: bool) {
        let refused = Body::PreVoteReply {
            granted: false,
            longer_log,
        };
        step.send(from, self.hard.term, refused);
    }

    /// Two that ask for the same term with equal logs: the preferred one goes on, the other yields. So they don't split
    /// the vote afterwards.
    fn stands_before(&self, from: NodeId, term: Term, theirs: Position) -> bool {
        let rival = self.role == Role::PreCandidate && term == self.hard.term.next() && theirs == self.last;
        rival && self.peer_at(from).is_some_and(|peer| peer >= self.place)
    }

    /// A candidate came with a shorter log than this member's: it can't win, this one may.
    fn stand_instead(&mut self, step: &mut Step, term: Term) {
        let is_free = self.catch_up_with_candidate(step, term) || self.role == Role::Follower;
        if is_free && self.may_stand_instead() {
            self.hasten(step);
        }
    }

    /// Who names no entry at all can win nobody who has one. All that it says is that it doesn't lead: a node says so
    /// for a member that it can't open. If it was believed to lead, its followers stand in their order; else it is
    /// nobody's turn because of that.
    fn heed_denial(&mut self, step: &mut Step, from: NodeId, term: Term, leads_no_more: bool) {
        let was_asking = matches!(self.role, Role::PreCandidate | Role::Candidate);
        if self.catch_up_with_candidate(step, term) && was_asking && self.may_stand() {
            self.hasten(step);
        } else if leads_no_more {
            self.election.former_leader = Some(from);
            self.stand_by(step.now);
        }
    }

    /// A candidate's own term is the one before the one it asks for; a candidacy below it would be in vain. Tells
    /// whether it was later than this member's.
    fn catch_up_with_candidate(&mut self, step: &mut Step, term: Term) -> bool {
        let theirs = Term(term.0.saturating_sub(1));
        let is_later = theirs > self.hard.term && !self.is_broken(Sabotage::IgnoreRefusals);
        if is_later {
            self.enter_term(theirs);
            self.become_leaderless(step);
        }
        is_later
    }

    /// RequestVote (Raft paper, sections 5.2 and 5.4.1).
    pub(super) fn on_vote(&mut self, step: &mut Step, from: NodeId, term: Term, theirs: Position, transfer: bool) {
        self.hear_of_candidacy(step, from, term);
        if term > self.hard.term {
            // A live leader is not to be disturbed, and the term not to be raised (section 6; dissertation, 4.2.3).
            if !transfer && (self.has_live_leader() || self.is_bound()) {
                return self.show_leadership(from);
            }
            self.enter_term(term);
            self.become_leaderless(step);
        }
        let is_free = self.hard.vote.is_none_or(|vote| vote == from) && self.leader.is_none();
        let is_up_to_date = theirs >= self.last || self.is_broken(Sabotage::VoteForShorterLog);
        let may_vote = !self.is_barred() && (transfer || !self.is_bound());
        if term == self.hard.term && term > Term::ZERO && is_free && is_up_to_date && may_vote {
            self.grant_vote(step, from);
        } else {
            let refused = Body::VoteReply { granted: false };
            step.send(from, self.hard.term, refused);
        }
    }

    fn grant_vote(&mut self, step: &mut Step, from: NodeId) {
        if self.hard.vote.is_none() {
            self.hard.vote = Some(from);
            self.write.hard_state = true;
        }
        self.election.vote_owed = Some(from);
        self.role = Role::Follower;
        self.election.wait_until(step.now + self.tuning.election_timeout);
    }

    /// A vote leaves once it is durable.
    pub(super) fn settle_vote(&mut self, step: &mut Step) {
        if !self.hard_state_is_durable() && !self.is_broken(Sabotage::VoteAtOnce) {
            return;
        }
        if let Some(candidate) = self.election.vote_owed.take() {
            let granted = Body::VoteReply { granted: true };
            step.send(candidate, self.hard.term, granted);
        }
    }
}

/// A duration in `0..=widest`.
fn scatter(widest: Duration, chance: u64) -> Duration {
    let micros = u64::try_from(widest.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(chance % micros.saturating_add(1).max(1))
}

/// The finalizer of SplitMix64: every bit of the input moves about half of the output's.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
