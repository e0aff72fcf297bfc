//! The members of a group, and its members to be: its leader takes one step after the other from the one to the other.
//!
//! 1. A voter that has lost what it promised is made a learner: from then on nothing counts that it promised, so it may
//!    be filled again.
//! 2. A node that is wanted and is no member becomes a learner; learners that nobody wants are dropped.
//! 3. When all that are wanted hold the log, they become the voters, in one (joint) change. While there are fewer
//!    voters than are wanted, a learner that is ready doesn't wait for the others: a repaired replica counts again at
//!    once.
//!
//! As long as nobody says who is wanted, only the first of these is done.
//!
//! Beside them a group may have lasting learners ([`crate::Input::Learners`]): they hold the log, and are never
//! promoted.
//!
//! A change that can't be completed, because too many of the new voters are gone or have lost what they promised, or
//! that is not wanted any more, is taken back: otherwise nothing would be committed, and its leader would soon step
//! down, after which nobody could be elected either.

#[cfg(test)]
mod tests;

use crate::mailbox::{Members, QuorumLost};
use core::time::Duration;
use trimaran_raft::{ChangeError, Configuration, Group, Instant, Liveness, LogIndex, NodeId, Progress, Term};
use trimaran_storage::log::ReplicaLog;

/// A change that was refused is asked for again after so long: what stands in its way (another change, a transfer, a
/// member that is not caught up after all) takes some exchanges.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A replica's knowledge of its group's members, and of the nodes that are to be members.
#[derive(Debug)]
pub(crate) struct Membership {
    /// The preferred leader first. Empty: nobody knows, and members stay as they are.
    wanted: Vec<NodeId>,
    /// Members that hold the log and never vote. None: nobody has said, and those that there are stay.
    learners: Option<Vec<NodeId>>,
    /// The number of the request that named them.
    version: u64,
    /// The term and number of the request that was last reported to be fulfilled.
    fulfilled: Option<(Term, u64)>,
    /// The nodes of which the shard tells this group.
    followed: Vec<NodeId>,
    /// The configuration has changed, and the shard does not know.
    moved: bool,
    /// Where the current configuration's entry is; zero for the first one.
    index: LogIndex,
    /// Of the configuration that was last reported, the term and index.
    reported: Option<(Term, LogIndex)>,
    /// Of the term in which it was last reported that nothing can be decided any more.
    quorum_lost: Option<Term>,
    /// Nothing is to be done until something changes.
    is_done: bool,
    /// A change was refused.
    retry_at: Option<Instant>,
}

impl Membership {
    pub(crate) fn new(wanted: Vec<NodeId>, keeps_learners: bool, log: &ReplicaLog) -> Membership {
        Membership {
            wanted,
            learners: (!keeps_learners).then(Vec::new),
            version: 0,
            fulfilled: None,
            followed: Vec::new(),
            moved: false,
            index: log.configurations().last().map_or(LogIndex::ZERO, |(index, _)| *index),
            reported: None,
            quorum_lost: None,
            is_done: false,
            retry_at: None,
        }
    }

    /// Something has changed that may call for a step.
    pub(crate) fn reconsider(&mut self) {
        self.is_done = false;
    }

    /// Whether the shard is to be told of new members.
    pub(crate) fn has_moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    /// The nodes that are new since this was last asked. Those that leave are followed on: a leader goes on sending to
    /// them for a while, and one that is removed leads on until that is committed. A leader of which this replica
    /// doesn't know yet that it is a member is followed as well.
    pub(crate) fn follow(&mut self, configuration: &Configuration, leader: Option<NodeId>) -> Vec<NodeId> {
        let all = configuration.members().chain(leader);
        let new: Vec<_> = all.filter(|node| !self.followed.contains(node)).collect();
        self.followed.extend(&new);
        self.followed.sort_unstable();
        self.followed.dedup();
        new
    }

    /// This node leads.
    pub(crate) fn note_leader(&mut self, leader: NodeId) {
        self.moved |= !self.followed.contains(&leader);
    }

    /// The nodes that the shard tells this group of; from now on none.
    pub(crate) fn forget(&mut self) -> Vec<NodeId> {
        core::mem::take(&mut self.followed)
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Names the nodes that are to have a replica from now on. False if there can be no such group.
    pub(crate) fn set_wanted(&mut self, replicas: Vec<NodeId>, version: u64) -> bool {
        let wanted = Configuration::of_voters(replicas);
        let is_possible = wanted.voters.is_empty() || wanted.check().is_ok();
        if is_possible {
            self.wanted = wanted.voters;
            self.version = version;
            self.reconsider();
        }
        is_possible
    }

    /// The brokers that hold the log from now on without a vote.
    pub(crate) fn set_learners(&mut self, learners: Vec<NodeId>) {
        if self.learners.as_ref() != Some(&learners) {
            self.learners = Some(learners);
            self.reconsider();
        }
    }

    /// How many replicas the partition is assigned. While they are exchanged, those before count as well, and as long
    /// as nobody says which they are, the members do: one that was lost is a learner then.
    pub(crate) fn assigned(&self, configuration: &Configuration) -> usize {
        let assigned = match &self.wanted[..] {
            [] => configuration.members().count(),
            wanted => wanted.len(),
        };
        assigned
            .max(configuration.voters.len())
            .max(configuration.outgoing.len())
    }

    /// Another configuration is in force, or is committed now.
    pub(crate) fn note_configuration(&mut self, index: LogIndex) {
        self.index = index;
        self.moved = true;
        self.reconsider();
    }

    /// This node does not lead, or may not serve yet.
    pub(crate) fn stand_by(&mut self) {
        self.retry_at = None;
    }

    /// The next step of a leader that serves; none if nothing has changed since it was last asked.
    pub(crate) fn next(&mut self, now: Instant, group: &Group, log: &ReplicaLog) -> Option<Next> {
        let is_waiting = self.retry_at.is_some_and(|at| at > now);
        if self.is_done || is_waiting {
            return None;
        }
        self.retry_at = None;
        let configuration = group.configuration();
        let before = self.voters_before(group, log);
        let lasting = self.learners.as_ref().unwrap_or(&configuration.learners);
        let next = next_step(configuration, before, (&self.wanted, lasting), |node| {
            group.progress(node)
        });
        self.is_done = next == Next::Rest;
        Some(next)
    }

    /// The voters from before a change of voters that is not complete; nobody if there is none under way.
    fn voters_before<'a>(&self, group: &Group, log: &'a ReplicaLog) -> &'a [NodeId] {
        if self.index <= group.commit() {
            return &[];
        }
        let latest = log.configurations().iter().rev().take(2);
        let joint = latest.map(|(_, known)| known).find(|known| known.is_joint());
        joint.map_or(&[], |joint| &joint.outgoing)
    }

    /// The core's answer to the change that was due.
    pub(crate) fn note_answer(&mut self, answer: Result<LogIndex, ChangeError>, now: Instant) {
        match answer {
            Ok(_) => {}
            // In another order: nothing that a group decides depends on it.
            Err(ChangeError::Unchanged | ChangeError::Malformed(_)) => self.is_done = true,
            Err(_) => self.retry_at = Some(now + RETRY_PAUSE),
        }
    }

    /// The members, if they are committed and have not been reported by this leader.
    pub(crate) fn report(&mut self, group: &Group, log: &ReplicaLog) -> Option<Members> {
        let reported = (group.term(), self.index);
        let is_settled = !group.configuration().is_joint() && self.index <= group.commit();
        // The founders are known to all.
        if self.index == LogIndex::ZERO || !is_settled || self.reported == Some(reported) {
            return None;
        }
        self.reported = Some(reported);
        Some(self.members(group, log, None))
    }

    /// Too many voters are lost, and nothing helps but those that come back with their disks: reported once a term.
    pub(crate) fn report_quorum_lost(&mut self, group: &Group, log: &ReplicaLog) -> Option<QuorumLost> {
        let term = group.term();
        let is_lost = |node: &NodeId| group.progress(*node).is_some_and(|progress| progress.is_lost);
        let Configuration { voters, outgoing, .. } = group.configuration();
        let decides = |of: &[NodeId]| of.is_empty() || is_majority(of, |node| !is_lost(node));
        if (decides(voters) && decides(outgoing)) || self.quorum_lost == Some(term) {
            return None;
        }
        self.quorum_lost = Some(term);
        Some(QuorumLost {
            group: log.group(),
            term,
            lost: group.configuration().members().filter(is_lost).collect(),
        })
    }

    /// Nothing is left to be changed: the host that asked for these members is told, once a term. Not by a leader that
    /// is none of them: it hands over, and if it were told to go before that, the others would go on believing in it.
    /// Its successor says so.
    pub(crate) fn report_fulfilment(&mut self, own: NodeId, group: &Group, log: &ReplicaLog) -> Option<Members> {
        let fulfilled = (group.term(), self.version);
        if self.index > group.commit() || !group.configuration().is_voter(own) {
            self.is_done = false;
            return None;
        }
        if self.wanted.is_empty() || self.fulfilled == Some(fulfilled) {
            return None;
        }
        self.fulfilled = Some(fulfilled);
        Some(self.members(group, log, Some(self.version)))
    }

    fn members(&self, group: &Group, log: &ReplicaLog, fulfils: Option<u64>) -> Members {
        let configuration = group.configuration();
        Members {
            group: log.group(),
            term: group.term(),
            voters: configuration.voters.clone(),
            learners: configuration.learners.clone(),
            index: self.index,
            fulfils,
        }
    }
}

/// The next step from the members to those that are wanted, given how far each is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// All is as it should be.
    Rest,
    /// A member has to catch up, or a change to end.
    Wait,
    /// This is due.
    Change(Configuration),
}

/// `progress` knows nothing of the leader itself, which holds all there is. `before`: the voters from before a change
/// of voters that is not complete. `lasting`: the learners that are never promoted.
fn next_step(
    now: &Configuration,
    before: &[NodeId],
    (wanted, lasting): (&[NodeId], &[NodeId]),
    progress: impl Fn(NodeId) -> Option<Progress>,
) -> Next {
    // One that asks to be done without is as good as lost, and holds what it promised until it may go.
    let is_lost = |node: &NodeId| progress(*node).is_some_and(|progress| progress.is_lost || progress.is_retiring);
    let is_ready = |node: &NodeId| progress(*node).is_none_or(|progress| progress.is_caught_up);
    let sound: Vec<_> = now.voters.iter().copied().filter(|node| !is_lost(node)).collect();
    // One of those before that is lost is being demoted, and is wanted all the same.
    let is_revoked = now.is_joint() && is_permutation(wanted, before) && !before.iter().any(is_lost);
    let is_here = |node: &NodeId| {
        let is_alive =
            |progress: Progress| progress.liveness == Liveness::Alive && !progress.is_lost && !progress.is_retiring;
        progress(*node).is_none_or(is_alive)
    };
    if (is_revoked || !is_majority(&now.voters, is_here)) && is_majority(before, is_here) {
        return Next::Change(with(before, others(now, (wanted, lasting), before)));
    }
    if now.is_joint() {
        return Next::Wait;
    }
    if sound.len() < now.voters.len() {
        return demote(now, (wanted, lasting), sound);
    }
    if wanted.is_empty() {
        return Next::Rest;
    }
    let learners = missing(wanted, &now.voters);
    if !is_permutation(&now.learners, &beside(&now.voters, &learners, lasting)) {
        return Next::Change(with(&now.voters, beside(&now.voters, &learners, lasting)));
    }
    if learners.iter().all(is_ready) {
        return match now.voters == wanted {
            true => Next::Rest,
            // Begun now, it would only have to be taken back.
            false if !is_majority(wanted, is_here) => Next::Wait,
            false => Next::Change(with(wanted, beside(wanted, &[], lasting))),
        };
    }
    let room = wanted.len().saturating_sub(now.voters.len());
    let promoted: Vec<_> = learners.iter().copied().filter(is_ready).take(room).collect();
    if promoted.is_empty() {
        return Next::Wait;
    }
    let voters = in_order(wanted, now.voters.iter().chain(&promoted).copied());
    let learners = others(now, (wanted, lasting), &voters);
    Next::Change(with(&voters, learners))
}

/// Voters that have lost what they promised count no more. If they are too many, nothing helps but those that come
/// back: a change would not be committed either.
fn demote(now: &Configuration, wanted: (&[NodeId], &[NodeId]), sound: Vec<NodeId>) -> Next {
    if !is_majority(&now.voters, |node| sound.contains(node)) {
        return Next::Wait;
    }
    let learners = others(now, wanted, &sound);
    Next::Change(with(&sound, learners))
}

/// The learners beside these voters. As long as nobody says who is wanted: those that are lost, since it is to come
/// back, and the learners that there are, since nobody knows better.
fn others(now: &Configuration, (wanted, lasting): (&[NodeId], &[NodeId]), voters: &[NodeId]) -> Vec<NodeId> {
    match wanted {
        [] => now.members().filter(|node| !voters.contains(node)).collect(),
        _ => beside(voters, &missing(wanted, voters), lasting),
    }
}

/// The learners beside these voters: those that are to vote later, and the lasting ones.
fn beside(voters: &[NodeId], promising: &[NodeId], lasting: &[NodeId]) -> Vec<NodeId> {
    let mut learners = promising.to_vec();
    learners.extend(
        lasting
            .iter()
            .filter(|node| !voters.contains(node) && !promising.contains(node)),
    );
    learners
}

fn is_majority(of: &[NodeId], counts: impl Fn(&NodeId) -> bool) -> bool {
    of.iter().filter(|node| counts(node)).count() * 2 > of.len()
}

/// The nodes of `wanted` that are not among `there`.
fn missing(wanted: &[NodeId], there: &[NodeId]) -> Vec<NodeId> {
    wanted.iter().copied().filter(|node| !there.contains(node)).collect()
}

fn with(voters: &[NodeId], learners: Vec<NodeId>) -> Configuration {
    Configuration {
        voters: voters.to_vec(),
        outgoing: Vec::new(),
        learners,
    }
}

/// The nodes, those that are wanted in that order first.
fn in_order(wanted: &[NodeId], nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<_> = nodes.collect();
    let place = |node: &NodeId| wanted.iter().position(|other| other == node).unwrap_or(wanted.len());
    nodes.sort_by_key(place);
    nodes
}

fn is_permutation(these: &[NodeId], those: &[NodeId]) -> bool {
    these.len() == those.len() && these.iter().all(|node| those.contains(node))
}
