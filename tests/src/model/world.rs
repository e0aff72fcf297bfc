//! The states of a whole group, and what can happen in each.

use super::history::History;
use super::law::Violation;
use super::member::{Member, Plan, Reaction, Stimulus, tuning};
use super::scenario::{Budget, Scenario};
use super::store::{QuickMap, Store};
use trimaran_raft::{Configuration, Liveness, LogIndex, LogView, MemoryLog, NodeId, ReadId, Term};

/// Something happens to a member: what may be in flight, and what an exploration tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Happening {
    pub(super) at: usize,
    pub(super) what: Stimulus,
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
pub(super) struct Traits {
    pub(super) term: Term,
    pub(super) commit: LogIndex,
    /// The number of its log.
    pub(super) log: u32,
    writes: usize,
    pub(super) leads: bool,
    is_timed: bool,
    leader: Option<NodeId>,
    /// It could delete something.
    is_deletable: bool,
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
    pub(super) members: Store<Member>,
    traits: Vec<Traits>,
    pub(super) logs: Store<MemoryLog>,
    /// Pairs of logs that were found to match.
    pub(super) matching: QuickMap<u64, ()>,
    happenings: Store<Happening>,
    pub(super) histories: Store<History>,
    effects: QuickMap<u64, Effect>,
    /// Steps of the real core so far.
    pub(super) steps: u64,
}

/// Bits for each kind of thing in the number that says how much is spent.
const SPENT_BITS: u32 = 3;

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

    /// These members, before anything has happened, with what is in flight.
    pub(super) fn pack(&mut self, members: Vec<Member>, in_flight: Vec<Happening>) -> State {
        let mut state: State = members
            .into_iter()
            .map(|member| self.number_of_member(member))
            .collect();
        state.push(self.histories.number_of(History::default()));
        state.push(0);
        let mut in_flight: Vec<u32> = in_flight.into_iter().map(|it| self.number_of_happening(it)).collect();
        in_flight.sort_unstable();
        state.extend(in_flight);
        state
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

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn nodes(&self) -> &[NodeId] {
        &self.plan.nodes
    }

    /// Which of the members it is.
    ///
    /// # Panics
    /// If it is none.
    pub(super) fn position(&self, node: NodeId) -> usize {
        let at = self.plan.nodes.iter().position(|other| *other == node);
        at.expect("a scenario and its members speak of members only")
    }

    pub(super) fn first_target(&self) -> Configuration {
        self.scenario.targets[0].clone()
    }

    pub(super) fn number_of_happening(&mut self, happening: Happening) -> u32 {
        self.happenings.number_of(happening)
    }

    pub(super) fn leads_in(&self, state: &[u32], at: usize) -> bool {
        self.traits_of(state, at).leads
    }

    /// It is on its way no more.
    pub(super) fn take_in_flight(&self, state: &mut State, happening: u32) {
        let first = self.size() + 2;
        let position = state[first..].iter().position(|number| *number == happening);
        position.map(|position| state.remove(first + position));
    }

    pub(super) fn lose_in_flight(&self, state: &mut State) {
        state.truncate(self.size() + 2);
    }

    /// From here on the budget counts.
    pub(super) fn spend_nothing(&self, state: &mut State) {
        let size = self.size();
        state[size + 1] = 0;
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
            let targets = self.scenario.targets.iter();
            targets.for_each(|target| try_it(Stimulus::Change(target.clone())));
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
        if left.deletions > 0 && traits.is_deletable {
            try_it(Stimulus::Delete);
        }
        if left.losses > 0 {
            try_it(Stimulus::Lose);
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
            let at = self.position(to);
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
            log: self.logs.number_of(member.log.clone()),
            writes: member.writes.len(),
            leads: member.leads(),
            is_timed: member.group.deadline().is_some(),
            leader: member.group.leader(),
            is_deletable: member.deletable() >= member.log.first_index(),
        };
        let number = self.members.number_of(member);
        if number as usize == self.traits.len() {
            self.traits.push(traits);
        }
        number
    }

    pub(super) fn traits_of(&self, state: &[u32], at: usize) -> Traits {
        self.traits_at(state[at])
    }

    pub(super) fn traits_at(&self, member: u32) -> Traits {
        self.traits[member as usize]
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
            deletions,
            losses,
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
            deletions: take(deletions),
            losses: take(losses),
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

    /// Distinct states of a single member so far.
    pub(super) fn distinct_members(&self) -> usize {
        self.members.len()
    }
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
        Stimulus::Delete => 8,
        Stimulus::Lose => 9,
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
