//! The states of a whole group, what can happen in each, and the laws that only several members together can break.

use super::law::{Law, Violation};
use super::member::{Member, Plan, Reaction, Stimulus, tuning};
use super::scenario::{Budget, Scenario, Start};
use super::store::{QuickMap, Store};
use std::collections::BTreeMap;
use trimaran_raft::{Configuration, Entry, Liveness, LogIndex, NodeId, ReadId, Term};

/// Something happens to a member: what may be in flight, and what an exploration tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Happening {
    pub(super) at: usize,
    pub(super) what: Stimulus,
}

/// What was seen on the way to a state and must hold ever after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    leaders: BTreeMap<Term, NodeId>,
    /// Each with the term in which it was committed.
    committed: Vec<(Entry, Term)>,
    /// How much was committed when each read was asked for.
    reads: Vec<(ReadId, LogIndex)>,
}

/// A state, as numbers: of each member, of the history, how much is spent, and then of each message in flight, in order.
pub(super) type State = Vec<u32>;

/// A happening, and whether the message that it is stays in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) happening: u32,
    pub(super) again: bool,
}

/// What is asked about a member again and again.
#[derive(Clone, Copy, Debug)]
struct Traits {
    term: Term,
    commit: LogIndex,
    log: u32,
    writes: usize,
    leads: bool,
    is_timed: bool,
    leader: Option<NodeId>,
}

/// What a member makes of a happening, as numbers.
#[derive(Clone, Debug)]
struct Effect {
    member: u32,
    sent: Box<[u32]>,
    reads: Box<[(ReadId, LogIndex)]>,
}

/// All the states that a scenario may reach are made here.
pub(super) struct Worlds {
    scenario: Scenario,
    plan: Plan,
    members: Store<Member>,
    traits: Vec<Traits>,
    logs: Store<Vec<Entry>>,
    matching: QuickMap<u64, ()>,
    happenings: Store<Happening>,
    histories: Store<History>,
    effects: QuickMap<u64, Effect>,
    /// Steps of the real core so far.
    pub(super) steps: u64,
}

/// Bits for each kind of thing in the number that says how much is spent.
const SPENT_BITS: u32 = 4;

impl Worlds {
    pub(super) fn new(scenario: &Scenario) -> Worlds {
        let plan = Plan {
            nodes: scenario.first.members().collect(),
            configuration: scenario.first.clone(),
            tuning: tuning(scenario.heartbeats()),
            prepare: scenario.prepare,
        };
        Worlds {
            scenario: scenario.clone(),
            plan,
            members: Store::new(),
            traits: Vec::new(),
            logs: Store::new(),
            matching: QuickMap::default(),
            happenings: Store::new(),
            histories: Store::new(),
            effects: QuickMap::default(),
            steps: 0,
        }
    }

    /// Where the exploration starts.
    pub(super) fn start(&mut self) -> Result<State, Violation> {
        let logs = match &self.scenario.start {
            Start::New | Start::Led => vec![(0, Vec::new()); self.plan.nodes.len()],
            Start::Logs(logs) => logs.clone(),
        };
        let nodes = self.plan.nodes.clone();
        let mut state = State::new();
        for (id, (term, log)) in nodes.iter().zip(&logs) {
            let member = self.plan.member(*id, Term(*term), log);
            state.push(self.number_of_member(member));
        }
        state.push(self.histories.number_of(History::default()));
        state.push(0);
        if self.scenario.start == Start::Led {
            state = self.elect_the_first(state)?;
        }
        Ok(state)
    }

    /// The first member's deadline comes, and then whatever can happen by itself does, until nothing does.
    fn elect_the_first(&mut self, mut state: State) -> Result<State, Violation> {
        let first = Happening {
            at: 0,
            what: Stimulus::Timeout,
        };
        let size = self.size();
        let mut next = Some(self.happenings.number_of(first));
        while let Some(happening) = next {
            let action = Action {
                happening,
                again: false,
            };
            state = self.follow(&state, action)?.unwrap_or(state);
            // What was delivered without effect is gone all the same.
            let delivered = state[size + 2..].iter().position(|number| *number == happening);
            delivered.map(|position| state.remove(size + 2 + position));
            let message = state[size + 2..].first().copied();
            next = message.or_else(|| {
                let at = (0..size).find(|at| self.traits_of(&state, *at).writes > 0)?;
                let what = Stimulus::Sync;
                Some(self.happenings.number_of(Happening { at, what }))
            });
        }
        state[size + 1] = 0;
        Ok(state)
    }

    /// How many members there are.
    pub(super) fn size(&self) -> usize {
        self.plan.nodes.len()
    }

    /// Calls with every action that may be tried in a state.
    pub(super) fn actions(&mut self, state: &[u32], actions: &mut Vec<Action>) {
        let size = self.size();
        let left = self.left(state[size + 1]);
        for number in &state[size + 2..] {
            let happening = *number;
            actions.push(Action {
                happening,
                again: false,
            });
            if left.repeats > 0 {
                actions.push(Action { happening, again: true });
            }
        }
        for at in 0..size {
            let traits = self.traits_of(state, at);
            self.act_at(at, traits, left, actions);
        }
    }

    fn act_at(&mut self, at: usize, traits: Traits, left: Budget, actions: &mut Vec<Action>) {
        let mut try_it = |what| {
            let happening = self.happenings.number_of(Happening { at, what });
            let again = false;
            actions.push(Action { happening, again });
        };
        if traits.writes > 0 {
            try_it(Stimulus::Sync);
        }
        if traits.is_timed && left.timeouts > 0 {
            try_it(Stimulus::Timeout);
        }
        if traits.leads && left.proposals > 0 {
            try_it(Stimulus::Propose(left.proposals));
        }
        if traits.leads && left.changes > 0 {
            let next = self.scenario.targets.len() - usize::from(left.changes);
            try_it(Stimulus::Change(self.scenario.targets[next].clone()));
        }
        if traits.leads && left.reads > 0 {
            try_it(Stimulus::Read(ReadId(u64::from(left.reads))));
        }
        if left.crashes > 0 {
            for written in 0..=traits.writes {
                try_it(Stimulus::Crash {
                    written,
                    remembers: false,
                });
                if traits.commit > LogIndex::ZERO {
                    try_it(Stimulus::Crash {
                        written,
                        remembers: true,
                    });
                }
            }
        }
        let others = self.plan.nodes.iter().filter(|other| **other != self.plan.nodes[at]);
        for other in others {
            if left.evidence > 0 && traits.leader == Some(*other) {
                try_it(Stimulus::Evidence(*other, Liveness::Dead));
            }
            if left.evidence > 0 && (traits.leads || traits.leader == Some(*other)) {
                try_it(Stimulus::Restored(*other));
            }
            if left.transfers > 0 && traits.leads {
                try_it(Stimulus::Transfer(*other));
            }
        }
    }

    /// The state that an action leads to. None if it is beyond the bounds, or if nothing can happen from there that
    /// can't from here: a message that was delivered without effect might as well be lost.
    pub(super) fn follow(&mut self, state: &[u32], action: Action) -> Result<Option<State>, Violation> {
        let size = self.size();
        let happening = self.happenings.get(action.happening);
        let at = happening.at;
        let before = state[at];
        let effect = self.effect(before, action.happening, &happening)?;
        let in_flight = &state[size + 2..];
        let says = |effect: &Effect| effect.member != before || !effect.reads.is_empty();
        let is_idle = !says(&effect) && effect.sent.iter().all(|sent| in_flight.binary_search(sent).is_ok());
        let traits = self.traits[effect.member as usize];
        if is_idle || traits.term.0 > self.scenario.max_term {
            return Ok(None);
        }
        let mut next = State::with_capacity(state.len() + effect.sent.len());
        next.extend_from_slice(&state[..size + 2]);
        next[at] = effect.member;
        next[size] = self.remember(&next, at, before)?;
        if let Stimulus::Read(read) = happening.what {
            next[size] = self.note_read(next[size], read);
        }
        self.judge_reads(next[size], &effect.reads)?;
        next[size + 1] += spent(&happening.what, action.again);
        let stays = |number: &&u32| action.again || **number != action.happening;
        merge(in_flight.iter().filter(stays).copied(), &effect.sent, &mut next);
        Ok(Some(next))
    }

    fn effect(&mut self, member: u32, number: u32, happening: &Happening) -> Result<Effect, Violation> {
        let key = u64::from(member) << 32 | u64::from(number);
        if let Some(effect) = self.effects.get(&key) {
            return Ok(effect.clone());
        }
        self.steps += 1;
        let (next, reaction) = self.members.look(member).after(&happening.what, &self.plan)?;
        let from = next.group.id();
        let mut sent = Vec::new();
        for (to, message) in reaction.sent {
            let at = self.plan.nodes.iter().position(|node| *node == to);
            let at = at.expect("a member talks to members");
            let what = Stimulus::Receive(from, message);
            sent.push(self.happenings.number_of(Happening { at, what }));
        }
        sent.sort_unstable();
        sent.dedup();
        let effect = Effect {
            member: self.number_of_member(next),
            sent: sent.into(),
            reads: reaction.reads.into(),
        };
        self.effects.insert(key, effect.clone());
        Ok(effect)
    }

    fn number_of_member(&mut self, member: Member) -> u32 {
        let traits = Traits {
            term: member.group.term(),
            commit: member.group.commit(),
            log: self.logs.number_of(member.entries().to_vec()),
            writes: member.writes.len(),
            leads: member.leads(),
            is_timed: member.group.deadline().is_some(),
            leader: member.group.leader(),
        };
        let number = self.members.number_of(member);
        if number as usize == self.traits.len() {
            self.traits.push(traits);
        }
        number
    }

    fn traits_of(&self, state: &[u32], at: usize) -> Traits {
        self.traits[state[at] as usize]
    }

    /// What may still happen.
    fn left(&self, spent: u32) -> Budget {
        let mut shift = 0;
        let mut take = |budget: u8| {
            let spent = (spent >> shift) & ((1 << SPENT_BITS) - 1);
            shift += SPENT_BITS;
            budget - spent as u8
        };
        let [
            timeouts,
            proposals,
            crashes,
            repeats,
            evidence,
            transfers,
            changes,
            reads,
        ] = self.scenario.budget.kinds();
        Budget {
            timeouts: take(timeouts),
            proposals: take(proposals),
            crashes: take(crashes),
            repeats: take(repeats),
            evidence: take(evidence),
            transfers: take(transfers),
            changes: take(changes),
            reads: take(reads),
        }
    }

    /// For the reader: what an action is.
    pub(super) fn happening(&self, action: Action) -> Happening {
        Happening::clone(self.happenings.look(action.happening))
    }

    /// For the reader: what comes of it.
    pub(super) fn after(&self, member: &Member, happening: &Happening) -> Result<(Member, Reaction), Violation> {
        member.after(&happening.what, &self.plan)
    }

    /// The members of a state, and what is in flight between them.
    pub(super) fn unpack(&self, state: &[u32]) -> (Vec<Member>, Vec<Happening>) {
        let size = self.size();
        let members = state[..size].iter().map(|number| self.members.look(*number).clone());
        let in_flight = state[size + 2..]
            .iter()
            .map(|number| self.happenings.look(*number).clone());
        (members.collect(), in_flight.collect())
    }

    /// Distinct states of a single member so far.
    pub(super) fn distinct_members(&self) -> usize {
        self.members.len()
    }
}

/// The laws that only several members together can break.
impl Worlds {
    /// The history after member `at` was `before` and is what `state` says; or the law that is broken.
    fn remember(&mut self, state: &[u32], at: usize, before: u32) -> Result<u32, Violation> {
        let (size, was, is) = (self.size(), self.traits[before as usize], self.traits_of(state, at));
        if is.log != was.log {
            self.judge_matching(state, at)?;
        }
        let is_elected = is.leads && !(was.leads && was.term == is.term);
        let commits = is.commit > was.commit;
        if !is_elected && !commits {
            return Ok(state[size]);
        }
        let mut history = History::clone(self.histories.look(state[size]));
        let member = self.members.get(state[at]);
        if is_elected {
            history.elects(&member)?;
        }
        for entry in member.entries().iter().take(is.commit.0 as usize) {
            if history.commits(&member, entry)? {
                let has = |number: &&u32| self.members.look(**number).has_on_disk(entry);
                let holders = state[..size].iter().filter(has);
                let holders: Vec<NodeId> = holders.map(|number| self.members.look(*number).group.id()).collect();
                if !is_quorum(member.group.configuration(), &holders) {
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

    fn note_read(&mut self, history: u32, read: ReadId) -> u32 {
        let mut history = History::clone(self.histories.look(history));
        let committed = LogIndex(history.committed.len() as u64);
        history.reads.push((read, committed));
        self.histories.number_of(history)
    }

    fn judge_reads(&self, history: u32, answered: &[(ReadId, LogIndex)]) -> Result<(), Violation> {
        for (read, index) in answered {
            let asked = self
                .histories
                .look(history)
                .reads
                .iter()
                .find(|(asked, _)| asked == read);
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
/// given index" (Raft paper, figure 3).
fn judge_matching(one: &[Entry], other: &[Entry]) -> Result<(), Violation> {
    let same_place = |(a, b): &(&Entry, &Entry)| a.term == b.term;
    let pairs = || one.iter().zip(other);
    let Some(last) = pairs().filter(same_place).map(|(a, _)| a.index).last() else {
        return Ok(());
    };
    match pairs().take_while(|(a, _)| a.index <= last).find(|(a, b)| a != b) {
        Some((a, b)) => Law::LogsMatch.broken(format!("{a:?} and {b:?} come before the same entry {last}")),
        None => Ok(()),
    }
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
        let mut lacking = earlier.filter(|(entry, _)| !member.entries().contains(entry));
        match lacking.next() {
            Some((entry, _)) => Law::LeaderHasCommitted.broken(format!("{id} leads term {term} without {entry:?}")),
            None => Ok(()),
        }
    }

    /// Whether this is news.
    fn commits(&mut self, member: &Member, entry: &Entry) -> Result<bool, Violation> {
        match self.committed.get(entry.index.0 as usize - 1) {
            Some((known, _)) if known == entry => Ok(false),
            Some((known, _)) => {
                let id = member.group.id();
                Law::CommittedStays.broken(format!("{known:?} was committed, and {id} commits {entry:?}"))
            }
            None => {
                self.committed.push((entry.clone(), member.group.term()));
                Ok(true)
            }
        }
    }
}

/// Whether these are a majority of the voters, and of those before while they are exchanged.
fn is_quorum(configuration: &Configuration, holders: &[NodeId]) -> bool {
    let is_majority = |of: &[NodeId]| of.iter().filter(|node| holders.contains(node)).count() > of.len() / 2;
    is_majority(&configuration.voters) && (configuration.outgoing.is_empty() || is_majority(&configuration.outgoing))
}

fn spent(what: &Stimulus, again: bool) -> u32 {
    let kind = match what {
        Stimulus::Receive(..) if again => 3,
        Stimulus::Receive(..) | Stimulus::Sync => return 0,
        Stimulus::Timeout => 0,
        Stimulus::Propose(_) => 1,
        Stimulus::Crash { .. } => 2,
        Stimulus::Evidence(..) | Stimulus::Restored(_) => 4,
        Stimulus::Transfer(_) => 5,
        Stimulus::Change(_) => 6,
        Stimulus::Read(_) => 7,
    };
    1 << (kind * SPENT_BITS)
}

/// Appends the union of two ascending lists.
fn merge(one: impl Iterator<Item = u32>, other: &[u32], into: &mut State) {
    let mut other = other.iter().copied().peekable();
    for number in one {
        while let Some(smaller) = other.next_if(|other| *other < number) {
            into.push(smaller);
        }
        other.next_if_eq(&number);
        into.push(number);
    }
    into.extend(other);
}
