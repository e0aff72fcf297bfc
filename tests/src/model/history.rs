//! What was seen on the way to a state, and the laws that only several members together can break.

use super::law::{Law, Violation};
use super::member::Member;
use super::world::Worlds;
use std::collections::BTreeMap;
use trimaran_raft::{Configuration, Entry, LogIndex, LogView, MemoryLog, NodeId, ReadId, Term, TermAt};

/// What was seen on the way to a state and must hold ever after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    leaders: BTreeMap<Term, NodeId>,
    /// Each with the term in which it was committed.
    committed: Vec<(Entry, Term)>,
    /// How much was committed when each read was asked for.
    reads: Vec<(ReadId, LogIndex)>,
}

/// The laws that only several members together can break.
impl Worlds {
    /// The history after member `at` was `before` and is what `state` says; or the law that is broken.
    pub(super) fn remember(&mut self, state: &[u32], at: usize, before: u32) -> Result<u32, Violation> {
        let (size, was, is) = (self.size(), self.traits_at(before), self.traits_of(state, at));
        let member = self.members.get(state[at]);
        if is.log != was.log {
            self.judge_matching(state, at)?;
            self.histories.look(state[size]).judge_deleted(&member)?;
        }
        let is_elected = is.leads && !(was.leads && was.term == is.term);
        let commits = is.commit > was.commit;
        if !is_elected && !commits {
            return Ok(state[size]);
        }
        let mut history = History::clone(self.histories.look(state[size]));
        let members = || state[..size].iter().map(|number| self.members.look(*number));
        if is_elected {
            history.elects(&member)?;
            judge_election(&member, members())?;
        }
        for entry in member.entries().iter().take_while(|entry| entry.index <= is.commit) {
            if history.commits(&member, entry)? {
                let holders = members().filter(|holder| holder.has_promised_to_keep(entry));
                let holders: Vec<NodeId> = holders.map(|holder| holder.group.id()).collect();
                if !is_quorum(member.in_force(), &holders) {
                    let text = format!(
                        "entry {} is committed, and on the disks of {holders:?} only",
                        entry.index
                    );
                    return Law::CommittedIsDurable.broken(text);
                }
            }
        }
        Ok(self.histories.number_of(history))
    }

    pub(super) fn note_read(&mut self, history: u32, read: ReadId) -> u32 {
        let mut history = History::clone(self.histories.look(history));
        let committed = LogIndex(history.committed.len() as u64);
        history.reads.push((read, committed));
        self.histories.number_of(history)
    }

    pub(super) fn judge_reads(&self, history: u32, answered: &[(ReadId, LogIndex)]) -> Result<(), Violation> {
        for (read, index) in answered {
            let mut reads = self.histories.look(history).reads.iter();
            let asked = reads.find(|(asked, _)| asked == read);
            if let Some((_, committed)) = asked.filter(|(_, committed)| committed > index) {
                return Law::ReadsAreFresh.broken(format!("read {read} sees {index}, and {committed} was committed"));
            }
        }
        Ok(())
    }

    fn judge_matching(&mut self, state: &[u32], at: usize) -> Result<(), Violation> {
        let log = self.traits_of(state, at).log;
        for other in (0..self.size()).filter(|other| *other != at) {
            let other = self.traits_of(state, other).log;
            let key = u64::from(log.min(other)) << 32 | u64::from(log.max(other));
            if !self.matching.contains_key(&key) {
                judge_matching(self.logs.look(log), self.logs.look(other))?;
                self.matching.insert(key, ());
            }
        }
        Ok(())
    }
}

/// "If two logs contain an entry with the same index and term, then the logs are identical in all entries up through the
/// given index" (Raft paper, figure 3), as far as both still have them.
fn judge_matching(one: &MemoryLog, other: &MemoryLog) -> Result<(), Violation> {
    let first = one.first_index().max(other.first_index());
    let last = one.last_index().min(other.last_index());
    let pairs = || one.entries(first, last).iter().zip(other.entries(first, last));
    let same_place = |(a, b): &(&Entry, &Entry)| a.term == b.term;
    let Some(last) = pairs().filter(same_place).map(|(a, _)| a.index).last() else {
        return Ok(());
    };
    match pairs().take_while(|(a, _)| a.index <= last).find(|(a, b)| a != b) {
        Some((a, b)) => Law::LogsMatch.broken(format!("{a:?} and {b:?} come before the same entry {last}")),
        None => Ok(()),
    }
}

/// "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the same term"
/// (Raft paper, section 5.2): of the voters that its own log says last, committed or not (section 6).
fn judge_election<'a>(winner: &Member, members: impl Iterator<Item = &'a Member>) -> Result<(), Violation> {
    let (id, term) = (winner.group.id(), winner.group.term());
    let votes = |member: &&Member| member.group.id() == id || member.has_voted(term, id);
    let voters: Vec<NodeId> = members.filter(votes).map(|member| member.group.id()).collect();
    if is_quorum(winner.in_force(), &voters) {
        return Ok(());
    }
    let configuration = winner.in_force();
    Law::LeaderIsElected.broken(format!(
        "{id} leads term {term} by the votes of {voters:?}, of {configuration:?}"
    ))
}

impl History {
    fn elects(&mut self, member: &Member) -> Result<(), Violation> {
        let (id, term) = (member.group.id(), member.group.term());
        let known = *self.leaders.entry(term).or_insert(id);
        if known != id {
            return Law::OneLeaderATerm.broken(format!("{known} and {id} lead term {term}"));
        }
        // Who wins an earlier term late may lack what a later one has committed: it can do nothing with its win.
        let earlier = self.committed.iter().filter(|(_, committed_in)| *committed_in < term);
        let mut lacking = earlier.filter(|(entry, _)| !member.holds(entry));
        match lacking.next() {
            Some((entry, _)) => Law::LeaderHasCommitted.broken(format!("{id} leads term {term} without {entry:?}")),
            None => Ok(()),
        }
    }

    /// Whether this is news.
    fn commits(&mut self, member: &Member, entry: &Entry) -> Result<bool, Violation> {
        let id = member.group.id();
        match self.committed.get(entry.index.0 as usize - 1) {
            Some((known, _)) if known == entry => Ok(false),
            Some((known, _)) => {
                Law::CommittedStays.broken(format!("{known:?} was committed, and {id} commits {entry:?}"))
            }
            None if entry.index.0 as usize > self.committed.len() + 1 => {
                Law::CommittedStays.broken(format!("{id} commits {entry:?}, and nobody what comes before"))
            }
            None => {
                self.committed.push((entry.clone(), member.group.term()));
                Ok(true)
            }
        }
    }

    /// What a log no longer has was committed, and the log says so.
    fn judge_deleted(&self, member: &Member) -> Result<(), Violation> {
        let start = member.log.first_index().prev();
        let known = match start {
            LogIndex::ZERO => Some(Term::ZERO),
            start => self.committed.get(start.0 as usize - 1).map(|(entry, _)| entry.term),
        };
        let says = member.log.term_at(start);
        if known.map(TermAt::Known) == Some(says) {
            return Ok(());
        }
        let id = member.group.id();
        Law::CommittedStays.broken(format!(
            "{id} begins behind {start} of {says:?}, and {known:?} was committed"
        ))
    }
}

/// Whether these are a majority of the voters, and of those before while they are exchanged.
fn is_quorum(configuration: &Configuration, nodes: &[NodeId]) -> bool {
    let is_majority = |of: &[NodeId]| of.iter().filter(|node| nodes.contains(node)).count() > of.len() / 2;
    is_majority(&configuration.voters) && (configuration.outgoing.is_empty() || is_majority(&configuration.outgoing))
}
