//! All faults end: then a group elects a leader that serves, its members catch up without anything new, and it commits what
//! is proposed everywhere. One member may be
//! missed: see [`super::ending`].

use super::ending::Ending;
use super::law::{Law, Violation};
use super::member::{Member, NOW, Plan, Reaction, Stimulus};
use super::world::Happening;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;
use trimaran_raft::{Input, Instant, Liveness, LogIndex, LogView, NodeId};

/// Deadlines that may come until then. Candidates may collide some times, a leader may have backed off.
const PATIENCE: usize = 60;

/// A group without faults: one clock, immediate messages in order, immediate disks.
struct Healed {
    ending: Ending,
    members: Vec<Member>,
    in_flight: VecDeque<(NodeId, Input)>,
    now: Instant,
    /// Must be committed everywhere.
    proposed: Option<LogIndex>,
}

/// Whether the group converges from that state on, if faults end like this.
pub(super) fn check(
    mut members: Vec<Member>,
    in_flight: Vec<Happening>,
    ending: Ending,
    plan: &Plan,
) -> Result<(), Violation> {
    let ids: Vec<NodeId> = members.iter().map(|member| member.group.id()).collect();
    let mut wiped = Reaction::default();
    if let Ending::Wiped(node) = ending {
        let at = ids.iter().position(|id| *id == node).expect("a member");
        wiped = members[at].lose(plan)?;
    }
    members.retain(|member| Some(member.group.id()) != ending.gone());
    let arrives = |Happening { at, what }| match what {
        Stimulus::Receive(from, message) => Some((ids[at], Input::Message(from, message))),
        _ => None,
    };
    let mut healed = Healed {
        ending,
        in_flight: in_flight.into_iter().filter_map(arrives).collect(),
        members,
        now: NOW,
        proposed: None,
    };
    for at in &ids {
        for of in ids.iter().filter(|of| *of != at) {
            let evidence = match ending {
                Ending::Down(node) if node == *of => Input::Liveness(node, Liveness::Dead),
                Ending::CutOff(node) if node == *of => Input::Liveness(node, Liveness::Suspected),
                Ending::Wiped(node) if node == *of => Input::Restored(node),
                _ => Input::Liveness(*of, Liveness::Alive),
            };
            healed.in_flight.push_back((*at, evidence));
        }
    }
    if let Ending::Wiped(node) = ending
        && let Some(at) = healed.position(node)
    {
        healed.post(at, wiped);
    }
    for _ in 0..PATIENCE {
        healed.calm_down()?;
        if healed.is_done() {
            return Ok(());
        }
        if !(healed.demote_lost()? || healed.is_level() && healed.propose()?) {
            healed.wait()?;
        }
    }
    Law::Converges.broken(healed.describe())
}

impl Healed {
    /// Until nothing happens without time.
    fn calm_down(&mut self) -> Result<(), Violation> {
        loop {
            if let Some((to, input)) = self.in_flight.pop_front() {
                // Some may be sent to the one that is missed.
                if let Some(at) = self.position(to) {
                    self.tell(at, input)?;
                }
            } else if let Some(at) = self.members.iter().position(|member| !member.writes.is_empty()) {
                let reaction = self.members[at].sync(self.now)?;
                self.post(at, reaction);
            } else {
                return Ok(());
            }
        }
    }

    fn position(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.group.id() == node)
    }

    fn tell(&mut self, at: usize, input: Input) -> Result<(), Violation> {
        let reaction = self.members[at].tell(self.now, input)?;
        self.post(at, reaction);
        Ok(())
    }

    fn post(&mut self, at: usize, reaction: Reaction) {
        let from = self.members[at].group.id();
        let messages = reaction.sent.into_iter();
        self.in_flight
            .extend(messages.map(|(to, message)| (to, Input::Message(from, message))));
    }

    /// Whether a leader knows that all its members hold what it holds, without anything new that would tell them.
    fn is_level(&self) -> bool {
        self.members.iter().any(|leader| {
            let group = &leader.group;
            let holds = |member: &Member| {
                let node = member.group.id();
                let progress = group.progress(node).filter(|_| group.configuration().is_member(node));
                progress.is_none_or(|progress| progress.match_index == leader.log.last_index())
            };
            group.is_serving() && self.members.iter().all(holds)
        })
    }

    fn is_done(&self) -> bool {
        let Some(leader) = self.members.iter().find(|member| member.group.is_serving()) else {
            return false;
        };
        let configuration = leader.group.configuration();
        let belongs = |member: &&Member| configuration.is_member(member.group.id());
        let knows = |member: &Member| self.proposed.is_some_and(|index| member.group.commit() >= index);
        !configuration.is_joint() && self.members.iter().filter(belongs).all(knows)
    }

    /// Whether there is someone to propose to who doesn't have it already: for the first time, or because whoever took it
    /// had been succeeded without knowing.
    fn propose(&mut self) -> Result<bool, Violation> {
        let proposed = self.proposed;
        let lacks = |member: &Member| proposed.is_none_or(|index| member.log.last_index() < index);
        let serving = |member: &Member| member.group.is_serving() && lacks(member);
        let Some(at) = self.members.iter().position(serving) else {
            return Ok(false);
        };
        self.tell(at, Input::Propose(vec![Bytes::from_static(b"z")]))?;
        self.proposed = Some(self.members[at].log.last_index());
        Ok(true)
    }

    /// Whether a voter that has lost its disk is being made a learner: it may then come back. The leader may refuse that for
    /// the moment.
    fn demote_lost(&mut self) -> Result<bool, Violation> {
        let serving = (0..self.members.len()).filter(|at| self.members[*at].group.is_serving());
        let Some(at) = serving.max_by_key(|at| self.members[*at].group.term()) else {
            return Ok(false);
        };
        let group = &self.members[at].group;
        let is_lost = |node: &NodeId| group.progress(*node).is_some_and(|progress| progress.is_lost);
        let mut target = group.configuration().clone();
        let lost: Vec<NodeId> = target.voters.iter().copied().filter(is_lost).collect();
        if lost.is_empty() || target.is_joint() || !group.is_configuration_committed() {
            return Ok(false);
        }
        target.voters.retain(|voter| !lost.contains(voter));
        target.learners.extend(lost);
        self.tell(at, Input::Change(target))?;
        Ok(!self.members[at].group.is_configuration_committed())
    }

    /// Until the next deadline.
    fn wait(&mut self) -> Result<(), Violation> {
        let deadlines = self.members.iter().filter_map(|member| member.group.deadline());
        self.now = deadlines.min().unwrap_or(self.now + Duration::from_micros(1));
        for at in 0..self.members.len() {
            if self.members[at].group.deadline().is_some_and(|due| due <= self.now) {
                self.tell(at, Input::Tick)?;
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mut text = format!("not within {PATIENCE} deadlines, where {}", self.ending);
        for member in &self.members {
            let group = &member.group;
            let (id, role, term, leader) = (group.id(), group.role(), group.term(), group.leader());
            let (commit, due) = (group.commit(), group.deadline());
            let _ = write!(
                text,
                "; {id} is {role:?} of term {term}, led by {leader:?}, commit {commit}, due {due:?}"
            );
        }
        text
    }
}
