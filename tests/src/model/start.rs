//! From where an exploration starts: close to the danger, so that it need not look for the way there.

use super::law::Violation;
use super::member::Stimulus;
use super::world::{Action, Happening, State, Worlds};
use trimaran_raft::{Liveness, Message, NodeId, Term};

/// How a group is before anything happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// New: empty logs, no leader.
    #[default]
    New,
    /// After a crash of all.
    Found {
        /// Of each member: the term on its disk (in which it has voted for nobody), and the terms of its log's entries.
        disks: Vec<(u64, Vec<u64>)>,
        /// What is on its way all the same: from whom, to whom.
        in_flight: Vec<(NodeId, NodeId, Message)>,
    },
}

impl Start {
    /// These logs, and nothing on its way.
    pub(super) fn of_logs<const N: usize>(term: u64, logs: [&[u64]; N]) -> Start {
        Start::Found {
            disks: logs.into_iter().map(|log| (term, log.to_vec())).collect(),
            in_flight: Vec::new(),
        }
    }
}

/// What has happened before an exploration begins. Members are named by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// A member's deadline comes.
    Deadline(u64),
    /// A leader is asked to append something.
    Proposed(u64),
    /// A leader is told to change the members to the first target.
    Changed(u64),
    /// A leader is told to hand over to another member.
    HandedOver(u64, u64),
    /// A member is told that another is dead.
    Doubted(u64, u64),
    /// A member restarts; it forgets what is committed, and what was not durable.
    Restarted(u64),
    /// A member deletes what it knows to be committed.
    Deleted(u64),
    /// All that is on its way from one member to another arrives.
    Arrived(u64, u64),
    /// Among these members, all that is on its way arrives and all that is written becomes durable, until nothing is left.
    Settled(&'static [u64]),
    /// The same, but no longer than until the first one leads.
    Elected(&'static [u64]),
    /// All that is on its way is lost.
    Lost,
}

impl Before {
    /// What happens, and to whom; none if it is about the network.
    fn stimulus(&self, worlds: &Worlds) -> Option<(u64, Stimulus)> {
        Some(match self {
            Before::Deadline(id) => (*id, Stimulus::Timeout),
            Before::Proposed(id) => (*id, Stimulus::Propose(0)),
            Before::Changed(id) => (*id, Stimulus::Change(worlds.first_target())),
            Before::HandedOver(id, to) => (*id, Stimulus::Transfer(NodeId(*to))),
            Before::Doubted(id, of) => (*id, Stimulus::Evidence(NodeId(*of), Liveness::Dead)),
            Before::Restarted(id) => {
                let (written, remembers) = (0, false);
                (*id, Stimulus::Crash { written, remembers })
            }
            Before::Deleted(id) => (*id, Stimulus::Delete),
            Before::Arrived(..) | Before::Settled(_) | Before::Elected(_) | Before::Lost => return None,
        })
    }
}

/// What precedes the exploration.
impl Worlds {
    /// The state from which it starts.
    pub(super) fn start(&mut self, start: &Start, before: &[Before]) -> Result<State, Violation> {
        let mut state = self.found(start);
        for before in before {
            state = self.precede(state, before)?;
        }
        self.spend_nothing(&mut state);
        Ok(state)
    }

    fn found(&mut self, start: &Start) -> State {
        let nodes = self.nodes().to_vec();
        let new = vec![(0, Vec::new()); nodes.len()];
        let (disks, in_flight) = match start {
            Start::New => (&new, [].as_slice()),
            Start::Found { disks, in_flight } => (disks, in_flight.as_slice()),
        };
        let members = nodes.iter().zip(disks);
        let members = members.map(|(id, (term, log))| self.plan().member(*id, Term(*term), log));
        let members = members.collect();
        let in_flight = in_flight.iter().map(|(from, to, message)| Happening {
            at: self.position(*to),
            what: Stimulus::Receive(*from, message.clone()),
        });
        let in_flight = in_flight.collect();
        self.pack(members, in_flight)
    }

    fn precede(&mut self, mut state: State, before: &Before) -> Result<State, Violation> {
        if let Some((id, what)) = before.stimulus(self) {
            let at = self.position(NodeId(id));
            return self.happen(state, Happening { at, what });
        }
        match before {
            Before::Arrived(from, to) => self.arrive(state, NodeId(*from), self.position(NodeId(*to))),
            Before::Settled(among) => self.settle(state, among, |_, _| false),
            Before::Elected(among) => self.settle(state, among, |worlds, state| {
                worlds.leads_in(state, worlds.position(NodeId(among[0])))
            }),
            _ => {
                self.lose_in_flight(&mut state);
                Ok(state)
            }
        }
    }

    fn happen(&mut self, state: State, happening: Happening) -> Result<State, Violation> {
        let happening = self.number_of_happening(happening);
        let again = false;
        let mut next = self.follow(&state, Action { happening, again })?.unwrap_or(state);
        // What was delivered without effect is gone all the same.
        self.take_in_flight(&mut next, happening);
        Ok(next)
    }

    fn arrive(&mut self, mut state: State, from: NodeId, to: usize) -> Result<State, Violation> {
        let (_, in_flight) = self.unpack(&state);
        let is_it = |it: &Happening| it.at == to && matches!(&it.what, Stimulus::Receive(sender, _) if *sender == from);
        for happening in in_flight.into_iter().filter(is_it) {
            state = self.happen(state, happening)?;
        }
        Ok(state)
    }

    fn settle(
        &mut self,
        mut state: State,
        among: &[u64],
        is_enough: impl Fn(&Worlds, &State) -> bool,
    ) -> Result<State, Violation> {
        while !is_enough(self, &state) {
            let Some(next) = self.next_among(&state, among) else {
                break;
            };
            state = self.happen(state, next)?;
        }
        Ok(state)
    }

    /// A message between them, or else a write of one of them.
    fn next_among(&self, state: &State, among: &[u64]) -> Option<Happening> {
        let (members, in_flight) = self.unpack(state);
        let is_near = |id: NodeId| among.contains(&id.0);
        let is_between = |happening: &Happening| match &happening.what {
            Stimulus::Receive(from, _) => is_near(*from) && is_near(members[happening.at].group.id()),
            _ => false,
        };
        in_flight.into_iter().find(is_between).or_else(|| {
            let writes = |member: &super::member::Member| is_near(member.group.id()) && !member.writes.is_empty();
            let at = members.iter().position(writes)?;
            let what = Stimulus::Sync;
            Some(Happening { at, what })
        })
    }
}
