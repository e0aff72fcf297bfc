//! What must hold, whatever happens: known from what members say and from what is on their disks, not from the core.

use super::World;
use crate::group::tests::replica::{Deed, Replica};
use crate::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What has been seen so far, and must hold for ever.
#[derive(Default)]
pub(super) struct Seen {
    /// Reads that wait: where, in which life, and what was committed when they came.
    pub(super) reads: BTreeMap<ReadId, (usize, u64, LogIndex)>,
    pub(super) leaders: BTreeMap<Term, NodeId>,
    /// By place and term: the content, and the term before it. Equal places and terms must have equal histories.
    pub(super) entries: BTreeMap<(LogIndex, Term), (Payload, Term)>,
    pub(super) committed: Vec<Entry>,
    /// In which term each of them was committed first.
    pub(super) committed_in: Vec<Term>,
    pub(super) votes: BTreeMap<(Term, NodeId, Life), NodeId>,
}

/// A request for a pre-vote, and how the member that gets it stood before.
#[derive(Clone, Copy)]
pub(super) struct PreVoteRequest {
    from: NodeId,
    role: Role,
    term: Term,
    leader: Option<NodeId>,
    deadline: Option<Instant>,
}

/// Pre-votes. That a member breaks these rules may never show in what a group does: ranks, longer logs and other
/// timers make up for it. So the rules themselves are checked.
impl World {
    /// What is to be told, if it is a request for a pre-vote and is answered in a step by itself.
    pub(super) fn note_request(&self, node: usize, deed: &Deed) -> Option<PreVoteRequest> {
        let Deed::Step(Input::Message(from, message)) = deed else {
            return None;
        };
        let group = self.nodes[node].group.as_ref().filter(|group| !group.has_ready())?;
        // A clock that is due would do more than answer.
        let deadline = group.deadline();
        let is_due = deadline.is_some_and(|due| due <= self.clock(node));
        let is_request = matches!(message.body, Body::PreVote { .. });
        (is_request && !is_due).then(|| PreVoteRequest {
            from: *from,
            role: group.role(),
            term: group.term(),
            leader: group.leader(),
            deadline,
        })
    }

    /// "Results: term, for candidate to update itself" (figure 2): a request of a term that has passed is answered as
    /// well. And to be willing is not to vote (dissertation, section 9.6): a follower that grants a pre-vote is in the
    /// same term, and stands no later than it would have.
    pub(super) fn check_pre_vote(&self, node: usize, request: PreVoteRequest, output: &Output) {
        let PreVoteRequest {
            from,
            role,
            term,
            leader,
            deadline,
        } = request;
        let answers = output.messages.iter().filter_map(|(to, message)| match message.body {
            Body::PreVoteReply { granted, .. } if *to == from => Some(granted),
            _ => None,
        });
        let answers: Vec<bool> = answers.collect();
        assert!(
            role == Role::Leader || !answers.is_empty(),
            "node {node} leaves {from} without an answer to its request for a pre-vote"
        );
        let group = self.nodes[node].group.as_ref().expect("it was just told something");
        let follows_on = role == Role::Follower && group.role() == Role::Follower && leader != Some(from);
        if follows_on && answers.contains(&true) {
            // A learner that still follows a leader has none.
            let keeps_timer = deadline.is_none_or(|before| group.deadline().is_some_and(|now| now <= before));
            assert!(
                group.term() == term && keeps_timer,
                "node {node} puts off standing, or enters a term, because it grants a pre-vote"
            );
        }
    }
}

/// The checkers.
impl World {
    pub(super) fn check(&mut self, node: usize, output: &Output) {
        let replica = &self.nodes[node];
        let group = replica.group.as_ref().expect("it was just told something");
        let (id, role, term) = (replica.id(), group.role(), group.term());
        if role == Role::Leader {
            let known = *self.seen.leaders.entry(term).or_insert(id);
            assert_eq!(known, id, "two leaders in term {term}");
        }
        let elected = output
            .events
            .iter()
            .any(|event| matches!(event, Event::LeaderChanged { role: Role::Leader, .. }));
        if elected {
            self.check_leader_is_complete(node);
        }
        if let Some(persist) = &output.persist {
            self.check_log_matching(node, persist);
        }
        if let Some(committed) = output.committed {
            self.check_committed(node, committed, term);
        }
        if output.events.iter().any(|event| matches!(event, Event::Serving { .. })) {
            self.check_serving(node);
        }
        let violated = output
            .events
            .iter()
            .find(|event| matches!(event, Event::SafetyViolated { .. }));
        assert_eq!(violated, None, "{id} is contradicted");
        self.check_configuration(node, output);
        for (_, message) in &output.messages {
            self.check_promise(node, message);
        }
        let life = self.nodes[node].disk.hard_state.life;
        for (to, message) in &output.messages {
            let vote = match message.body {
                Body::VoteReply { granted: true } => *to,
                Body::Vote { .. } => id,
                _ => continue,
            };
            let known = *self.seen.votes.entry((message.term, id, life)).or_insert(vote);
            assert_eq!(known, vote, "{id} voted twice in term {}", message.term);
        }
    }

    /// "If a log entry is committed in a given term, then that entry will be present in the logs of the leaders for all
    /// higher-numbered terms."
    fn check_leader_is_complete(&self, node: usize) {
        let Replica {
            log,
            group: Some(group),
            ..
        } = &self.nodes[node]
        else {
            return;
        };
        // A late winner of an earlier term may lack what a later term has committed: it can do nothing with its win.
        let earlier = self
            .seen
            .committed_in
            .iter()
            .take_while(|term| **term < group.term())
            .count();
        for entry in &self.seen.committed[..earlier] {
            let held = log.term_at(entry.index);
            assert!(
                held == TermAt::Known(entry.term) || held == TermAt::Compacted,
                "the new leader {node} lacks committed entry {}",
                entry.index
            );
        }
    }

    /// A leader that serves knows all that is committed, since an entry of its own is, and has applied all before it.
    fn check_serving(&self, node: usize) {
        let term = self.nodes[node].group.as_ref().map_or(Term::ZERO, Group::term);
        let first = self.seen.committed.iter().find(|entry| entry.term == term);
        let first = first.expect("it serves before an entry of its own is committed");
        assert!(
            self.nodes[node].applied >= first.index.prev(),
            "it serves before it has applied what came before"
        );
    }

    /// "If two logs contain an entry with the same index and term, then the logs are identical in all entries up through
    /// the given index."
    fn check_log_matching(&mut self, node: usize, persist: &Persist) {
        for entry in &persist.entries {
            let TermAt::Known(before) = self.nodes[node].log.term_at(entry.index.prev()) else {
                panic!("a gap")
            };
            let this = (entry.payload.clone(), before);
            let known = self
                .seen
                .entries
                .entry((entry.index, entry.term))
                .or_insert_with(|| this.clone());
            assert_eq!(
                known, &this,
                "two histories of entry {} of term {}",
                entry.index, entry.term
            );
        }
    }

    /// What is committed never changes, and is on the disks of a majority.
    fn check_committed(&mut self, node: usize, committed: LogIndex, term: Term) {
        let log = &self.nodes[node].log;
        for entry in log.entries(LogIndex(1), committed) {
            match self.seen.committed.get(entry.index.0 as usize - 1) {
                Some(known) => assert_eq!(known, entry, "node {node} commits something else"),
                None => {
                    self.check_held(node, entry);
                    self.seen.committed.push(entry.clone());
                    self.seen.committed_in.push(term);
                }
            }
        }
    }

    /// A read sees everything that was committed, wherever, before it came; it is answered once.
    pub(super) fn check_reads(&mut self, node: usize, output: &Output) {
        for (read, answer) in &output.reads {
            let asked = self.seen.reads.remove(read);
            let (at, life, committed) = asked.expect("a read is answered once");
            assert_eq!(
                (at, life),
                (node, self.lives[node]),
                "a read is answered where it was asked"
            );
            if let Ok(index) = answer {
                assert!(
                    *index >= committed,
                    "node {node} reads at {index}, {committed} is committed"
                );
            }
        }
    }

    /// On the disks of a majority of the voters; while they are exchanged, of those before as well.
    fn check_held(&self, node: usize, entry: &Entry) {
        let holds = |id: &&NodeId| {
            let holder = self.nodes.iter().find(|other| other.id() == **id).expect("a node");
            // It may have acknowledged, and lost its disk since.
            let is_lost = holder.disk.hard_state.barred == LogIndex::MAX;
            let log = if is_lost { &holder.wiped } else { &holder.disk.log };
            let held = log.term_at(entry.index);
            held == TermAt::Known(entry.term) || held == TermAt::Compacted
        };
        let configuration = self.nodes[node].group.as_ref().expect("it is up").configuration();
        for voters in [&configuration.voters, &configuration.outgoing] {
            let holders = voters.iter().filter(holds).count();
            assert!(
                holders > voters.len() / 2 || voters.is_empty(),
                "committed on {holders} disks of {voters:?}: {}",
                entry.index
            );
        }
    }

    /// The configuration in force is the latest in the log. A leader begins a change only when the one before it is
    /// committed, and exchanges voters only by way of both; or it takes back what is not complete.
    fn check_configuration(&self, node: usize, output: &Output) {
        let replica = &self.nodes[node];
        let Replica {
            log,
            group: Some(group),
            config,
            ..
        } = replica
        else {
            return;
        };
        // Its log doesn't hold yet what a step has not handed out.
        if group.has_ready() {
            return;
        }
        let latest = log.configuration_at(log.last_index()).unwrap_or(&config.configuration);
        assert_eq!(group.configuration(), latest, "node {node}, at {:?}", self.now);
        let appended = output.persist.iter().flat_map(|persist| &persist.entries);
        for entry in appended.filter(|_| group.role() == Role::Leader) {
            let Payload::Configuration(next) = &entry.payload else {
                continue;
            };
            let first = (LogIndex::ZERO, config.configuration.clone());
            let mut earlier = log
                .configurations()
                .iter()
                .rev()
                .filter(|(index, _)| *index < entry.index);
            let (index, before) = earlier.next().unwrap_or(&first);
            let is_committed = index.0 <= self.seen.committed.len() as u64;
            let joint = if before.is_joint() {
                Some(before)
            } else {
                earlier.next().map(|(_, joint)| joint)
            };
            if joint.is_some_and(|joint| is_taken_back(next, before, joint)) {
                continue;
            }
            assert!(is_committed, "two changes at a time");
            let leaves = before.is_joint() && next.voters == before.voters && !next.is_joint();
            let joins = !before.is_joint() && next.outgoing == before.voters;
            let is_same = next.voters.iter().all(|voter| before.voters.contains(voter));
            let learns = !before.is_joint() && !next.is_joint() && is_same && next.voters.len() == before.voters.len();
            assert!(leaves || joins || learns, "from {before:?} to {next:?}");
        }
    }

    /// No promise leaves before it is on disk.
    fn check_promise(&self, node: usize, message: &Message) {
        let Replica { disk, log, .. } = &self.nodes[node];
        match message.body {
            Body::VoteReply { granted: true } => {
                assert_eq!(disk.hard_state.term, message.term, "a vote that can be forgotten");
                assert!(disk.hard_state.vote.is_some(), "a vote that can be forgotten");
                let barred = disk.hard_state.barred;
                assert!(
                    barred <= disk.log.last_index(),
                    "a vote of one who has forgotten others"
                );
            }
            Body::Vote { .. } => {
                let own = HardState {
                    term: message.term,
                    vote: Some(self.nodes[node].id()),
                    ..disk.hard_state
                };
                assert_eq!(disk.hard_state, own, "a candidacy that can be forgotten");
            }
            Body::AppendAccepted { match_index, life, .. } => {
                assert_eq!(disk.hard_state.life, life, "an acknowledgement of another life");
                assert_ne!(
                    disk.hard_state.barred,
                    LogIndex::MAX,
                    "a lost member acknowledges nothing"
                );
                assert!(
                    disk.hard_state.term >= message.term,
                    "an acknowledgement in a term that can be forgotten"
                );
                let on_disk = disk.log.term_at(match_index);
                let in_log = log.term_at(match_index);
                assert!(
                    on_disk == in_log || in_log == TermAt::Compacted,
                    "an acknowledgement of what can be lost"
                );
                assert_ne!(on_disk, TermAt::Missing);
            }
            _ => {}
        }
    }
}

/// Whether the voters are those from before the joint configuration again, in a step of which any two majorities meet.
fn is_taken_back(next: &Configuration, before: &Configuration, joint: &Configuration) -> bool {
    let are_same = |these: &[NodeId], those: &[NodeId]| {
        these.len() == those.len() && these.iter().all(|node| those.contains(node))
    };
    let missing = next.voters.iter().filter(|node| !before.voters.contains(node)).count();
    let gone = before.voters.iter().filter(|node| !next.voters.contains(node)).count();
    let meet = before.is_joint() || missing + gone <= 1;
    joint.is_joint() && !next.is_joint() && are_same(&next.voters, &joint.outgoing) && meet
}
