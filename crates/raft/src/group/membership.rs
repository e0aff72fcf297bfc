//! Who belongs to the group, and how that changes (Raft paper, section 6; dissertation, chapter 4).
//!
//! A configuration is in force at a member as soon as it is in its log, committed or not, and no longer than that: a
//! truncation takes it back. Voters are exchanged through a joint configuration, in which every decision needs a
//! majority of both sets; once it is committed, the leader leaves it by itself. One change at a time, and only once the
//! leader's own first entry is committed: without that it could not know of a change under way (the erratum to the
//! dissertation's section 4.1). Learners get the log and count for nothing, so they come and go in a single entry.
//! A change whose last entry is not committed may be taken back, since it may never be: see [`Membership::takes_back`].
//!
//! A leader that is no voter any more leads on until the others can do without it: it hands over.

use super::{Group, Sabotage, Step};
use crate::progress::{Peer, ProgressState};
use crate::{ChangeError, Configuration, Entry, LogIndex, Malformed, NodeId, Payload, Role, quorum};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// In which majorities a member counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    /// A voter.
    pub(crate) incoming: bool,
    /// A voter of the configuration that is being left.
    pub(crate) outgoing: bool,
}

impl Standing {
    fn of(node: NodeId, configuration: &Configuration) -> Standing {
        Standing {
            incoming: configuration.voters.contains(&node),
            outgoing: configuration.outgoing.contains(&node),
        }
    }

    pub(crate) fn votes(self) -> bool {
        self.incoming || self.outgoing
    }
}

/// The configurations that this member's log holds, as far as they can matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Membership {
    /// The latest that is known to be committed, and where its entry is.
    settled: (LogIndex, Configuration),
    /// Later ones, ascending. Almost always empty.
    pending: Vec<(LogIndex, Configuration)>,
    /// This member's own.
    pub(super) own: Standing,
    /// A leader still sends to members that have been removed.
    parting: bool,
    /// For [`Sabotage::ConfigureAtCommit`].
    #[cfg(any(test, feature = "sabotage"))]
    pub(super) lags: bool,
}

impl Membership {
    /// # Panics
    /// If one of them is malformed: the caller's log is damaged, or comes from another group.
    pub(super) fn recovered(
        id: NodeId,
        first: Configuration,
        later: Vec<(LogIndex, Configuration)>,
        committed: LogIndex,
    ) -> Membership {
        let mut membership = Membership {
            settled: (LogIndex::ZERO, first),
            pending: later,
            own: Standing::default(),
            parting: false,
            #[cfg(any(test, feature = "sabotage"))]
            lags: false,
        };
        for configuration in membership.all() {
            if let Err(malformed) = configuration.check() {
                panic!("a group can't have the members {configuration:?}: {malformed}");
            }
        }
        membership.commit(committed);
        membership.own = Standing::of(id, membership.current());
        membership
    }

    fn all(&self) -> impl Iterator<Item = &Configuration> {
        let pending = self.pending.iter().map(|(_, configuration)| configuration);
        core::iter::once(&self.settled.1).chain(pending)
    }

    fn latest(&self) -> &(LogIndex, Configuration) {
        #[cfg(any(test, feature = "sabotage"))]
        if self.lags {
            return &self.settled;
        }
        self.pending.last().unwrap_or(&self.settled)
    }

    pub(super) fn current(&self) -> &Configuration {
        &self.latest().1
    }

    pub(super) fn index(&self) -> LogIndex {
        self.latest().0
    }

    pub(super) fn is_committed(&self) -> bool {
        self.pending.is_empty()
    }

    /// These are committed now.
    pub(super) fn commit(&mut self, upto: LogIndex) {
        let count = self.pending.iter().take_while(|(index, _)| *index <= upto).count();
        if let Some(last) = self.pending.drain(..count).next_back() {
            self.settled = last;
        }
    }

    /// Whether these voters are those from before the change that this leader has begun, and nothing may have been
    /// decided yet that they don't know of. A leader that asks this has committed an entry of its term, so whatever is
    /// not committed is its own, and nobody leads without it unless in a later term.
    ///
    /// - In a joint configuration that is not committed. Those who have it need a majority of the voters before for
    ///   everything, and so does a member that lacks it: one that has acknowledged its taking back is among them, and
    ///   refuses. The new voters decide nothing alone before it is committed, since only then somebody leaves it.
    /// - In the one after it, if that differs by one voter: any two majorities of the two have a member in common
    ///   (dissertation, section 4.1), and the joint one before it needs a majority of the voters before in any case.
    fn takes_back(&self, voters: &[NodeId]) -> bool {
        let is_before = |joint: &Configuration| is_permutation(voters, &joint.outgoing);
        match &self.pending[..] {
            [(_, joint)] if joint.is_joint() => is_before(joint),
            [(_, left)] if self.settled.1.is_joint() => {
                is_before(&self.settled.1) && differences(voters, &left.voters) <= 1
            }
            _ => false,
        }
    }

    /// Whether there was anything to take back.
    fn truncate(&mut self, from: LogIndex) -> bool {
        let before = self.pending.len();
        self.pending.retain(|(index, _)| *index < from);
        self.pending.len() != before
    }
}

/// What is in force.
impl Group {
    /// The log has got these entries.
    pub(super) fn note_configurations(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                self.membership.pending.push((entry.index, (**configuration).clone()));
                self.adopt_configuration();
            }
        }
    }

    /// The log has lost its entries from here on.
    pub(super) fn take_configurations_back(&mut self, from: LogIndex) {
        if self.membership.truncate(from) {
            self.adopt_configuration();
        }
    }

    /// The log begins again behind a position at which this one was in force.
    pub(super) fn replace_configurations(&mut self, index: LogIndex, configuration: Configuration) {
        self.membership.settled = (index, configuration);
        self.membership.pending.clear();
        self.adopt_configuration();
    }

    /// Arranges the peers by the configuration in force; what is known of those who stay is kept. A leader keeps
    /// sending to those who have been removed until they can know of it; a follower keeps the leader that it follows.
    pub(super) fn adopt_configuration(&mut self) {
        let leads = self.role == Role::Leader;
        let configuration = self.membership.current().clone();
        self.membership.own = Standing::of(self.id, &configuration);
        // A vector that grows by itself would have room for twice as many, in each of many groups.
        let members = configuration.members().count();
        let mut before = core::mem::replace(&mut self.peers, Vec::with_capacity(members));
        let first = self.last.index.next();
        for node in configuration.members().filter(|node| *node != self.id) {
            let known = before.iter().position(|peer| peer.id == node);
            let mut peer = match known {
                Some(at) => before.remove(at),
                None => Peer::unknown(node, first, self.now),
            };
            peer.standing = Standing::of(node, &configuration);
            peer.is_parting = false;
            self.peers.push(peer);
        }
        for mut peer in before {
            peer.standing = Standing::default();
            peer.is_parting = leads;
            if leads || self.leader == Some(peer.id) {
                self.peers.push(peer);
            }
        }
        self.membership.parting = self.peers.iter().any(|peer| peer.is_parting);
        self.place = self.place_in(&configuration);
        self.keep_a_timer();
        if leads {
            self.watch_quorum(self.now);
            if self.keeps_time() && !self.peers.is_empty() {
                self.leading.heartbeat_at.get_or_insert(self.now);
            }
        }
    }

    /// A new leader sends to those who are no members only to let them know.
    pub(super) fn part_from_guests(&mut self) {
        let configuration = self.membership.current();
        for peer in &mut self.peers {
            peer.is_parting = !configuration.is_member(peer.id);
        }
        self.membership.parting = self.peers.iter().any(|peer| peer.is_parting);
    }

    /// How many peers precede this member in the order of preference.
    pub(super) fn place_in(&self, configuration: &Configuration) -> usize {
        let place = configuration.members().position(|node| node == self.id);
        place.unwrap_or(self.peers.len())
    }

    /// Whether decisions may depend on this member, and it may take part in them. One that has been removed stands all
    /// the same until it knows that this is committed: the others may need what only it has (dissertation, section
    /// 4.2.2).
    pub(super) fn may_stand(&self) -> bool {
        let Membership { own, .. } = self.membership;
        let voted = || !self.membership.is_committed() && self.membership.all().any(|known| known.is_voter(self.id));
        (own.votes() || voted() || self.is_broken(Sabotage::LetLearnersLead)) && !self.is_barred()
    }

    /// Whether this member may stand because a candidate that counts on its vote has the shorter log. A learner may as
    /// well, by the votes of the configuration that it has: a voter that has appended a later configuration, in which
    /// the learner votes, may need that vote and can't have it, and everybody else has a shorter log. It hands over
    /// when it leads.
    pub(super) fn may_stand_instead(&self) -> bool {
        let learns = self.membership.current().is_member(self.id) && !self.is_barred();
        self.may_stand() || learns && !self.is_broken(Sabotage::LearnersNeverStand)
    }

    /// Someone who leads, though it is no member as far as this one knows, is to be watched like one.
    pub(super) fn watch_guest(&mut self, leader: NodeId) {
        if self.peer_at(leader).is_some() {
            return;
        }
        let configuration = self.membership.current();
        let is_guest = |peer: &Peer| !configuration.is_member(peer.id);
        self.peers.retain(|peer| !is_guest(peer));
        self.peers.push(Peer::unknown(leader, self.last.index.next(), self.now));
    }
}

/// Majorities.
impl Group {
    /// Whether those who agree decide: a majority of the voters, and while they are exchanged, of those before as well.
    pub(super) fn is_quorum(&self, own: bool, agrees: impl Fn(&Peer) -> bool) -> bool {
        let Standing { incoming, outgoing } = self.membership.own;
        let (mut voters, mut before) = (usize::from(own && incoming), usize::from(own && outgoing));
        for peer in self.peers.iter().filter(|peer| agrees(peer)) {
            voters += usize::from(peer.standing.incoming);
            before += usize::from(peer.standing.outgoing);
        }
        if self.is_broken(Sabotage::LetLearnersLead) && own && !incoming {
            voters += 1;
        }
        let configuration = self.membership.current();
        let is_majority = |count, of: &[NodeId]| count >= quorum::majority(of.len());
        let skips_outgoing = !configuration.is_joint() || self.is_broken(Sabotage::ForgetOutgoing);
        is_majority(voters, &configuration.voters) && (skips_outgoing || is_majority(before, &configuration.outgoing))
    }

    /// Whether this member decides alone.
    pub(super) fn is_alone(&self) -> bool {
        self.is_quorum(true, |_| false)
    }

    /// The highest index that enough voters hold durably to commit it.
    pub(super) fn held_by_quorum(&self) -> LogIndex {
        let configuration = self.membership.current();
        let count = match self.is_broken(Sabotage::WaitForAll) {
            true => configuration.voters.len(),
            false => quorum::majority(configuration.voters.len()),
        };
        let voters = self.held_by(count);
        if !configuration.is_joint() || self.is_broken(Sabotage::ForgetOutgoing) {
            return voters;
        }
        let count = quorum::majority(configuration.outgoing.len());
        voters.min(quorum::held_by(count, self.held(|standing| standing.outgoing)))
    }

    /// What each of those members holds durably.
    pub(super) fn held(&self, counts: fn(Standing) -> bool) -> impl Iterator<Item = LogIndex> + Clone {
        let own = counts(self.membership.own).then(|| self.own_share());
        let peers = self.peers.iter().filter(move |peer| counts(peer.standing));
        own.into_iter().chain(peers.map(|peer| peer.match_index))
    }
}

/// What counts as this member's own share of a majority: what its disk has answered for.
impl Group {
    fn own_share(&self) -> LogIndex {
        if self.is_broken(Sabotage::CountSelfAtOnce) {
            self.last.index
        } else if self.is_broken(Sabotage::CountFirstAtOnce) {
            self.durability.index().max(self.leading.first)
        } else {
            self.durability.index()
        }
    }

    /// The highest index that every voter in contact holds durably. One that is away, or has lost what it held, is not
    /// waited for: what is deleted meanwhile, it gets by a snapshot.
    pub(super) fn held_by_all(&self) -> LogIndex {
        let voters = self
            .peers
            .iter()
            .filter(|peer| peer.standing.votes() && peer.is_alive() && !peer.is_lost);
        let held = voters.map(|peer| peer.match_index);
        held.chain([self.durability.index()]).min().unwrap_or_default()
    }
}

/// Changing it.
impl Group {
    /// [`crate::Input::Change`].
    pub(super) fn change(&mut self, step: &mut Step, target: Configuration) {
        let answer = self.plan_change(&target).map(|next| self.append_configuration(next));
        step.out.changed = Some(answer);
    }

    /// The entry that begins the change.
    fn plan_change(&self, target: &Configuration) -> Result<Configuration, ChangeError> {
        if self.role != Role::Leader {
            return Err(ChangeError::NotLeader(self.leader));
        }
        if self.leading.transfer.is_some() {
            return Err(ChangeError::Transferring);
        }
        let hurries = self.is_broken(Sabotage::ChangeAtOnce);
        if self.commit < self.leading.first && !hurries {
            return Err(ChangeError::NotServing);
        }
        let current = self.membership.current();
        let takes_back = self.membership.takes_back(&target.voters);
        if (!self.membership.is_committed() || current.is_joint()) && !takes_back && !hurries {
            return Err(ChangeError::InProgress);
        }
        match target.check() {
            Err(Malformed::NoVoters) if self.is_broken(Sabotage::AcceptNoVoters) => {}
            checked => checked.map_err(ChangeError::Malformed)?,
        }
        if target.is_joint() {
            return Err(ChangeError::Malformed(Malformed::Joint));
        }
        if target == current {
            return Err(ChangeError::Unchanged);
        }
        if takes_back {
            return Ok(target.clone());
        }
        if let Some(node) = self.unfit_voter(target) {
            return Err(ChangeError::NotCaughtUp(node));
        }
        let is_same = |voter: &NodeId| current.voters.contains(voter);
        let keeps_voters = target.voters.len() == current.voters.len() && target.voters.iter().all(is_same);
        let outgoing = if keeps_voters || hurries {
            Vec::new()
        } else {
            current.voters.clone()
        };
        Ok(Configuration {
            outgoing,
            ..target.clone()
        })
    }

    /// It is caught up, and not only because all that it lacks is on its way: since it became a learner it has
    /// acknowledged everything from before. What is on its way may never arrive, if it can't be read here or this
    /// leader fails; a voter that lacks it could neither vote nor be counted.
    pub(super) fn is_filled(&self, peer: &Peer) -> bool {
        self.is_caught_up(peer) && peer.match_index >= self.membership.index()
    }

    /// A new voter that lacks entries: nothing could be committed until it has them.
    fn unfit_voter(&self, target: &Configuration) -> Option<NodeId> {
        let is_fit = |node: &NodeId| {
            *node == self.id
                || self.membership.current().voters.contains(node)
                || self.peers.iter().any(|peer| peer.id == *node && self.is_filled(peer))
        };
        target.voters.iter().find(|node| !is_fit(node)).copied()
    }

    fn append_configuration(&mut self, configuration: Configuration) -> LogIndex {
        let index = self.last.index.next();
        let entry = Entry {
            index,
            term: self.hard.term,
            payload: Payload::Configuration(Box::new(configuration)),
        };
        self.append(vec![entry]);
        index
    }

    /// What a leader does about its configuration by itself. Most of the time there is nothing to do.
    pub(super) fn settle_membership(&mut self, step: &mut Step) {
        let is_settled = self.membership.is_committed() && self.commit >= self.leading.first;
        let leaves_early = self.is_broken(Sabotage::LeaveAtOnce);
        if self.membership.current().is_joint() && self.leading.transfer.is_none() && (is_settled || leaves_early) {
            let Configuration { voters, learners, .. } = self.membership.current().clone();
            let next = Configuration {
                voters,
                learners,
                outgoing: Vec::new(),
            };
            self.append_configuration(next);
        } else if is_settled && !self.membership.own.votes() && self.leading.transfer.is_none() {
            self.hand_over(step);
        }
        if self.membership.parting && is_settled && self.membership.is_committed() {
            self.part();
        }
    }

    /// Those who have been removed, and know it or can't be told, are not sent to any more. To be told doesn't mean to
    /// be filled: one to which the configuration could not even be sent before it was committed asks sooner or later
    /// who leads.
    fn part(&mut self) {
        let index = self.membership.index();
        let knows = |peer: &Peer| peer.commit >= index || !peer.is_alive() || peer.is_lost || peer.has_been_silent();
        let lags = |peer: &Peer| match peer.state {
            ProgressState::Snapshot => true,
            ProgressState::Replicate => peer.next_index <= index,
            ProgressState::Probe | ProgressState::Lost => false,
        };
        self.peers
            .retain(|peer| !peer.is_parting || !(knows(peer) || lags(peer)));
        self.membership.parting = self.peers.iter().any(|peer| peer.is_parting);
    }

    /// The configuration in force as others see it: which, and whether it is committed.
    pub(super) fn configuration_mark(&self) -> (LogIndex, bool) {
        (self.membership.index(), self.membership.is_committed())
    }
}

fn is_permutation(these: &[NodeId], those: &[NodeId]) -> bool {
    these.len() == those.len() && differences(these, those) == 0
}

/// How many nodes are in only one of them.
fn differences(these: &[NodeId], those: &[NodeId]) -> usize {
    let only = |these: &[NodeId], those: &[NodeId]| these.iter().filter(|node| !those.contains(node)).count();
    only(these, those) + only(those, these)
}
