//! One consensus group: its inputs, and the parts that handle each of them.
//!
//! A step has three parts. An input is dispatched and changes state. Timers that are due fire. Then [`Group::derive`]
//! derives from the state what may leave now: messages that a durable write has released, appends that a window has
//! room for, a commit index that has risen. Nothing is queued to be sent later: a message that is owed is state, so one
//! that is lost or superseded leaves nothing to clean up. For the same reason several inputs may be handled
//! ([`Group::handle`]) before one [`Group::ready`]: their sum is in the state.

mod canonical;
mod disk_loss;
mod dispatch;
mod election;
mod following;
mod leader_discovery;
mod leadership;
mod membership;
mod reading;
mod ready;
mod replication;
mod sabotage;
mod snapshot;
mod time;
mod transfer;
mod unstable;

#[cfg(test)]
mod tests;

use crate::durability::{Durability, Write};
use crate::progress::Peer;
use crate::{
    Body, Config, Configuration, Event, HardState, Heartbeats, Input, Instant, Liveness, LogIndex, LogView, Message,
    NodeId, Output, Progress, Recovered, Role, Status, Term, TermAt, Token, Tuning, quorum,
};
use alloc::vec::Vec;
use core::mem;
use election::Election;
use following::Following;
use leader_discovery::LeaderDiscovery;
use leadership::Leading;
use membership::Membership;
pub(crate) use membership::Standing;
pub use ready::Handled;
use ready::{Known, Phase};
#[cfg_attr(
    not(feature = "sabotage"),
    allow(unreachable_pub, reason = "it is public only with the feature")
)]
pub use sabotage::Sabotage;
use transfer::Transferring;

/// Terms and indices beyond this are no honest counters: a message that names one is ignored, so that no arithmetic
/// overflows and no group is driven to the last term there is.
const ABSURD: u64 = 1 << 62;

/// Where a log ends. The order is the paper's "more up-to-date": the later term, then the longer log (section 5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Position {
    term: Term,
    index: LogIndex,
}

/// The surroundings of a step: the time, the log, and the output.
struct Step<'a> {
    now: Instant,
    log: &'a dyn LogView,
    out: &'a mut Output,
}

impl Step<'_> {
    fn send(&mut self, to: NodeId, term: Term, body: Body) {
        self.out.messages.push((to, Message { term, body }));
    }

    fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }
}

/// One member of one consensus group: a pure function of its state, its inputs and the time it is told.
///
/// Two groups that are equal and are told the same at the same times say the same, and are equal again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    id: NodeId,
    membership: Membership,
    tuning: Tuning,
    /// The number of peers that precede this member in the order of preference.
    place: usize,
    hard: HardState,
    role: Role,
    /// The leader of the current term, as far as known. This member itself while it leads.
    leader: Option<NodeId>,
    /// The end of the log, this step's write included.
    last: Position,
    /// At most `last`; never falls.
    commit: LogIndex,
    /// Never falls. At most `commit`, but for a snapshot that is not durable yet.
    applied: LogIndex,
    /// At most `commit`; never falls.
    replicated_index: LogIndex,
    /// The latest time it was told: a clock that steps back is taken to stand still.
    now: Instant,
    durability: Durability,
    /// This step's write; empty between steps.
    write: Write,
    phase: Phase,
    /// As of the last step.
    said: Known,
    /// The other members, in the order of the configuration; behind them those that are none (any more), but are sent
    /// to or followed.
    peers: Vec<Peer>,
    election: Election,
    leader_discovery: LeaderDiscovery,
    following: Following,
    leading: Leading,
    #[cfg(any(test, feature = "sabotage"))]
    sabotage: Option<Sabotage>,
    /// For [`Sabotage::CommitAfterResigning`]: where the log ended.
    #[cfg(any(test, feature = "sabotage"))]
    resigned_at: Option<LogIndex>,
}

impl Group {
    /// A member as it starts: a follower, of what it remembers.
    ///
    /// The log is taken to be durable as it is. A hard state that is behind the log (which the order of writes rules
    /// out, short of a damaged disk) is raised to the log's last term with the vote spent, so that it can't vote twice.
    ///
    /// # Panics
    /// If a configuration is malformed ([`Configuration::check`]), or the log doesn't know the term of its last entry:
    /// the caller's mistakes, that no other member can cause.
    pub fn new(config: Config, recovered: Recovered, now: Instant, log: &dyn LogView) -> Group {
        let Config {
            id,
            configuration,
            tuning,
        } = config;
        let index = log.last_index();
        let TermAt::Known(term) = log.term_at(index) else {
            panic!("a log must know the term of its last entry, {index}");
        };
        let mut hard = recovered.hard_state;
        if hard.term < term {
            hard = HardState {
                term,
                vote: Some(id),
                ..hard
            };
        }
        // What has been deleted or applied was committed.
        let committed = recovered.committed.max(recovered.applied);
        let commit = committed.max(log.first_index().prev()).min(index);
        let mut group = Group {
            id,
            membership: Membership::recovered(id, configuration, recovered.configurations, commit),
            place: 0,
            hard,
            role: Role::Follower,
            leader: None,
            last: Position { term, index },
            commit,
            applied: recovered.applied.min(commit),
            replicated_index: LogIndex::ZERO,
            now,
            durability: Durability::recovered(index),
            write: Write::default(),
            phase: Phase::Settled,
            said: Known::NOTHING,
            peers: Vec::new(),
            election: Election::standing_at(now + tuning.election_timeout),
            leader_discovery: LeaderDiscovery::default(),
            following: Following::default(),
            leading: Leading::default(),
            #[cfg(any(test, feature = "sabotage"))]
            sabotage: None,
            #[cfg(any(test, feature = "sabotage"))]
            resigned_at: None,
            tuning,
        };
        group.begin();
        group
    }

    fn begin(&mut self) {
        self.adopt_configuration();
        self.begin_seeking(self.now);
        self.bind_at_start();
        // Alone, there is nobody to wait for.
        if self.is_alone() {
            self.election = Election::standing_at(self.now);
        }
        self.said = self.known();
    }

    /// Handles one input, and adds what follows from it to `output`, which the caller drains before the next step. A
    /// [`crate::Persist`] in it must have been applied to `log` by then.
    ///
    /// # Panics
    /// If `log` is not as the core left it, or an invariant of the core itself is broken: a stopped replica is safer
    /// than a wrong one. No message can cause it.
    pub fn step(&mut self, now: Instant, input: Input, log: &dyn LogView, output: &mut Output) {
        // Whether or not more inputs could be handled first.
        let (Handled::Open | Handled::Full) = self.handle(now, input, log, output);
        self.ready(now, log, output);
    }

    /// Handles one of several inputs that are there at the same time. They are one step, in the order in which they are
    /// handled: [`Group::ready`] adds what follows from all of them to `output`, one write for all entries, one append
    /// per follower for all proposals, one acknowledgement for all appends. So a burst costs little more than one
    /// input. Direct answers (to proposals and vote requests) are in `output` after each call, and the caller drains
    /// them.
    ///
    /// After [`Handled::Full`], call [`Group::ready`] before anything else. Most inputs leave a step open; those end it
    /// that change term, leader or role, or let the step's write do more than append. After [`Input::Applied`] alone,
    /// there is no need for [`Group::ready`].
    ///
    /// # Panics
    /// If the step is full, and for the reasons that [`Group::step`] names.
    pub fn handle(&mut self, now: Instant, input: Input, log: &dyn LogView, output: &mut Output) -> Handled {
        assert!(
            self.phase != Phase::Full,
            "`ready` must be called before a full step handles more"
        );
        assert_eq!(
            log.last_index().0 + self.write.entries.len() as u64,
            self.last.index.0,
            "the last write was not applied to the log"
        );
        self.now = self.now.max(now);
        let mut step = Step {
            now: self.now,
            log,
            out: output,
        };
        if let Input::Applied(index) = input {
            self.on_applied(&mut step, index);
            return Handled::Open;
        }
        self.dispatch(&mut step, input);
        if self.is_full() {
            self.phase = Phase::Full;
            return Handled::Full;
        }
        self.phase = Phase::Open;
        Handled::Open
    }

    /// Ends a step: adds what follows from all inputs that were handled since the last time to `output`.
    ///
    /// # Panics
    /// As [`Group::step`].
    pub fn ready(&mut self, now: Instant, log: &dyn LogView, output: &mut Output) {
        self.now = self.now.max(now);
        let mut step = Step {
            now: self.now,
            log,
            out: output,
        };
        self.reconsider(&mut step);
        self.look_at_the_clock(&mut step);
        self.derive(&mut step);
        self.report(&mut step);
        self.phase = Phase::Settled;
    }

    /// Whether something was handled that [`Group::ready`] has not followed yet.
    pub fn has_ready(&self) -> bool {
        self.phase != Phase::Settled
    }

    fn dispatch(&mut self, step: &mut Step, input: Input) {
        match input {
            Input::Tick => {}
            Input::Message(from, message) => self.on_message(step, from, message),
            Input::Propose(payloads) => self.propose(step, payloads),
            Input::Persisted(token) => self.on_persisted(token),
            Input::Applied(index) => self.on_applied(step, index),
            Input::Liveness(node, liveness) => self.on_liveness(step, node, liveness),
            Input::Restored(node) => self.on_restored(step, node),
            Input::Transfer(to) => self.transfer(step, to),
            Input::Campaign => self.campaign(step),
            Input::ForgetLeader => self.forget_leader(step),
            Input::Change(target) => self.change(step, target),
            Input::Snapshot { to, snapshot } => self.send_snapshot(step, to, snapshot),
            Input::ReportSnapshot(to, status) => self.report_snapshot(step, to, status),
            Input::Read(read) => self.read(step, read),
        }
    }

    fn on_applied(&mut self, step: &mut Step, index: LogIndex) {
        self.applied = self.applied.max(index.min(self.commit));
        self.begin_serving(step);
    }

    /// A vote is never cleared but by a later term; neither is what is known about a term's leader's log.
    fn enter_term(&mut self, term: Term) {
        assert!(term > self.hard.term, "a term never falls");
        self.hard = HardState {
            term,
            vote: None,
            ..self.hard
        };
        self.write.hard_state = true;
        self.resign();
        self.role = Role::Follower;
        self.leader = None;
        self.following.begin_term();
        self.election.begin_term();
    }

    fn on_persisted(&mut self, token: Token) {
        // All that depends on it is derived.
        #[cfg(any(test, feature = "sabotage"))]
        let token = match self.is_broken(Sabotage::MistakeWrites) {
            true => self.durability.mistaken(token),
            false => token,
        };
        self.durability.complete(token);
        #[cfg(any(test, feature = "sabotage"))]
        if let Some(end) = self.resigned_at.take() {
            self.commit = self.commit.max(end.min(self.durability.index()));
        }
    }

    fn on_liveness(&mut self, step: &mut Step, node: NodeId, liveness: Liveness) {
        let Some(peer) = self.peer_at(node) else { return };
        let before = mem::replace(&mut self.peers[peer].liveness, liveness);
        if before == liveness {
            return;
        }
        if self.role == Role::Leader {
            self.follower_liveness_changed(step, peer);
        } else if self.leader == Some(node) {
            self.leader_liveness_changed(step, before, liveness);
        }
    }

    fn on_restored(&mut self, step: &mut Step, node: NodeId) {
        let Some(peer) = self.peer_at(node) else { return };
        self.peers[peer].liveness = Liveness::Alive;
        match self.role {
            Role::Leader => {
                // What was on its way may be lost.
                self.peers[peer].snapshot_under_way = false;
                self.peers[peer].make_contact();
                self.watch_quorum(step.now);
            }
            Role::Follower if self.leader == Some(node) => self.leader_restored(step),
            Role::Follower => {}
            // What it was asked may be lost.
            Role::PreCandidate | Role::Candidate => self.election.ask_again(step.now),
        }
    }

    /// Derives from the state whatever may happen now. Idempotent: a second call in a step would do nothing.
    fn derive(&mut self, step: &mut Step) {
        self.refuse_reads(step);
        self.settle_candidacy(step);
        self.settle_vote(step);
        match self.role {
            Role::Leader => self.settle_leadership(step),
            _ => self.settle_following(step),
        }
    }

    /// Raises the commit index; it never falls.
    fn raise_commit(&mut self, to: LogIndex) {
        if to > self.commit {
            self.commit = to;
            self.membership.commit(to);
            if self.is_broken(Sabotage::ConfigureAtCommit) {
                self.adopt_configuration();
            }
        }
    }

    fn peer_at(&self, node: NodeId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == node)
    }

    /// Whether the current hard state is on disk.
    fn hard_state_is_durable(&self) -> bool {
        !self.write.hard_state && self.durability.hard_state_is_durable()
    }

    fn keeps_time(&self) -> bool {
        matches!(self.tuning.heartbeats, Heartbeats::Own(_))
    }
}

/// Queries. None changes anything.
impl Group {
    /// This member.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The role of this member at the moment.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The latest term it has seen.
    pub fn term(&self) -> Term {
        self.hard.term
    }

    /// The current term's leader, as far as this member knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The highest index known to be committed (inclusive).
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// Leads, and may serve clients. See [`Event::Serving`].
    pub fn is_serving(&self) -> bool {
        self.leading.serving
    }

    /// All voters, this member included, the preferred leader first.
    pub fn voters(&self) -> &[NodeId] {
        &self.membership.current().voters
    }

    /// The configuration in force, as far as this member knows; maybe not committed yet.
    pub fn configuration(&self) -> &Configuration {
        self.membership.current()
    }

    /// The place of its entry: zero for the group's first configuration, the snapshot's for one that came with it.
    pub fn configuration_index(&self) -> LogIndex {
        self.membership.index()
    }

    /// Whether it is known to be committed.
    pub fn is_configuration_committed(&self) -> bool {
        self.membership.is_committed()
    }

    /// This member lost what it had promised, and takes no part in decisions yet ([`HardState::barred`]).
    pub fn is_lost(&self) -> bool {
        self.is_barred()
    }

    /// A leader's view of another member; none unless it leads.
    pub fn progress(&self, node: NodeId) -> Option<Progress> {
        let peer = self.peer_at(node).filter(|_| self.role == Role::Leader)?;
        Some(self.progress_of(&self.peers[peer]))
    }

    fn progress_of(&self, peer: &Peer) -> Progress {
        let is_ready = match peer.standing.votes() {
            true => self.is_caught_up(peer),
            false => self.is_filled(peer),
        };
        peer.view(is_ready)
    }

    /// Everything that an operator may want to see of it. Allocates: for diagnosis, not for every step.
    pub fn status(&self) -> Status {
        let leads = self.role == Role::Leader;
        let others = self.peers.iter().filter(|_| leads);
        Status {
            id: self.id,
            hard_state: self.hard,
            role: self.role,
            leader: self.leader,
            is_serving: self.is_serving(),
            last_index: self.last.index,
            durable: self.durability.index(),
            commit: self.commit,
            applied: self.applied,
            configuration: self.configuration().clone(),
            configuration_index: self.configuration_index(),
            transferring_to: self.transfer_target(),
            progress: others.map(|peer| (peer.id, self.progress_of(peer))).collect(),
        }
    }

    /// The member that this leader hands over to at the moment.
    pub fn transfer_target(&self) -> Option<NodeId> {
        self.leading.transfer.as_ref().map(Transferring::target)
    }

    /// The highest index known to be applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The highest index that at least `count` voters hold durably, as far as the leader knows (itself included); the
    /// place before the first entry unless this member leads.
    pub fn held_by(&self, count: usize) -> LogIndex {
        if self.role != Role::Leader {
            return LogIndex::ZERO;
        }
        let all = self.held(|standing| standing.incoming);
        if self.is_broken(Sabotage::CountUnsorted) {
            let mut all = all;
            return all.nth(count.saturating_sub(1)).unwrap_or_default();
        }
        quorum::held_by(count, all)
    }

    /// The highest index that this member holds durably.
    pub fn durable(&self) -> LogIndex {
        self.durability.index()
    }

    /// Every voter in contact is known to hold the log up to here durably. See [`crate::Body::Append`].
    pub fn replicated_index(&self) -> LogIndex {
        self.replicated_index
    }

    /// Whether there is nothing to do until something happens: no deadline, and no write under way.
    pub fn is_quiescent(&self) -> bool {
        self.deadline().is_none() && self.durability.is_idle()
    }
}
