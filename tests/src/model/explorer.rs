//! Breadth first: every state once, the nearest first, so that a way to a broken law is as short as any.

use super::convergence;
use super::ending::Ending;
use super::law::Violation;
use super::scenario::Scenario;
use super::store::{QuickMap, fingerprint};
use super::trace::{self, Trace};
use super::world::{Action, State, Worlds};
use std::fmt;
use std::time::{Duration, Instant};

/// How far to go, beside the scenario's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// No further than so many actions from the start.
    pub depth: u32,
    /// No more states than these: memory is about a hundred bytes each.
    pub states: usize,
    /// From one in so many states on, all faults end, and the group must converge; never if zero.
    pub converge_one_in: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            depth: u32::MAX,
            states: 100_000_000,
            converge_one_in: 0,
        }
    }
}

/// What was explored.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// Distinct states.
    pub states: usize,
    /// Actions that were tried in them.
    pub actions: u64,
    /// Distinct states of a single member, and steps of the real core that they took.
    pub members: usize,
    /// See `members`.
    pub steps: u64,
    /// States from which the group was seen to converge.
    pub converged: u64,
    /// The greatest distance from the start.
    pub depth: u32,
    /// Whether nothing within the scenario's bounds is left.
    pub is_complete: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = if self.is_complete { "all" } else { "cut short" };
        write!(
            f,
            "{} states ({extent}) to depth {}, {} actions, {} states of a member, {} steps of the core, {} converged, {:.1} s",
            self.states,
            self.depth,
            self.actions,
            self.members,
            self.steps,
            self.converged,
            self.elapsed.as_secs_f64()
        )
    }
}

/// A law that can be broken, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is wrong.
    pub violation: Violation,
    /// The way there.
    pub trace: Trace,
    /// States that were explored before.
    pub states: usize,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n{} ({} states explored)",
            self.trace, self.violation, self.states
        )
    }
}

impl std::error::Error for Failure {}

/// States at one distance from the start, back to back.
#[derive(Default)]
struct Level {
    words: Vec<u32>,
    /// Where each state begins, and its number.
    starts: Vec<(usize, u32)>,
}

impl Level {
    fn push(&mut self, state: &[u32], number: u32) {
        self.starts.push((self.words.len(), number));
        self.words.extend_from_slice(state);
    }

    fn get(&self, at: usize) -> (&[u32], u32) {
        let (start, number) = self.starts[at];
        let end = self.starts.get(at + 1).map_or(self.words.len(), |(end, _)| *end);
        (&self.words[start..end], number)
    }
}

struct Explorer {
    worlds: Worlds,
    limits: Limits,
    seen: QuickMap<u128, ()>,
    /// From which state each one was reached, and how. The start is its own.
    ways: Vec<(u32, Action)>,
    start: State,
    actions: u64,
    converged: u64,
}

/// Explores all that the scenario and the limits allow; `progress` is told of every level: its depth, the states so
/// far.
///
/// # Errors
/// The first law that can be broken, with a shortest way to it.
pub fn explore(
    scenario: &Scenario,
    limits: Limits,
    mut progress: impl FnMut(u32, usize),
) -> Result<Exploration, Box<Failure>> {
    let began = Instant::now();
    let mut worlds = Worlds::new(scenario);
    let start = worlds.start(&scenario.start, &scenario.before).map_err(|violation| {
        Box::new(Failure {
            violation,
            trace: Trace::default(),
            states: 0,
        })
    })?;
    let mut explorer = Explorer {
        worlds,
        limits,
        seen: QuickMap::default(),
        ways: Vec::new(),
        start: start.clone(),
        actions: 0,
        converged: 0,
    };
    let mut level = Level::default();
    let nowhere = Action {
        happening: 0,
        again: false,
    };
    explorer.visit(&start, 0, nowhere, &mut level);
    let (mut depth, mut is_complete) = (0, true);
    loop {
        progress(depth, explorer.ways.len());
        let next = explorer.expand(&level)?;
        is_complete &= next.is_some();
        level = next.unwrap_or_default();
        if level.starts.is_empty() {
            break;
        }
        depth += 1;
        if depth >= limits.depth {
            is_complete = false;
            break;
        }
    }
    Ok(Exploration {
        states: explorer.ways.len(),
        actions: explorer.actions,
        members: explorer.worlds.distinct_members(),
        steps: explorer.worlds.steps,
        converged: explorer.converged,
        depth,
        is_complete,
        elapsed: began.elapsed(),
    })
}

impl Explorer {
    /// The states one action further; none if there are too many.
    fn expand(&mut self, level: &Level) -> Result<Option<Level>, Box<Failure>> {
        let mut next = Level::default();
        let mut actions = Vec::new();
        for at in 0..level.starts.len() {
            let (state, number) = level.get(at);
            actions.clear();
            self.worlds.actions(state, &mut actions);
            self.actions += actions.len() as u64;
            for action in &actions {
                match self.worlds.follow(state, *action) {
                    Ok(None) => {}
                    Ok(Some(reached)) => {
                        self.visit(&reached, number, *action, &mut next);
                    }
                    Err(violation) => return Err(self.failure(number, Some(*action), violation)),
                }
            }
            if self.ways.len() > self.limits.states {
                return Ok(None);
            }
        }
        self.converge(&next)?;
        Ok(Some(next))
    }

    fn visit(&mut self, state: &[u32], from: u32, by: Action, level: &mut Level) {
        if self.seen.insert(fingerprint(state), ()).is_none() {
            let number = u32::try_from(self.ways.len()).expect("memory ends before");
            self.ways.push((from, by));
            level.push(state, number);
        }
    }

    /// From some of these states on, all faults end, whether or not what is on its way then is lost; and once more with one
    /// member that is missed.
    fn converge(&mut self, level: &Level) -> Result<(), Box<Failure>> {
        for at in 0..level.starts.len() {
            let (state, number) = level.get(at);
            let chosen = fingerprint(state).checked_rem(u128::from(self.limits.converge_one_in));
            if chosen != Some(0) {
                continue;
            }
            self.converged += 1;
            let (members, in_flight) = self.worlds.unpack(state);
            let which = fingerprint(state) / u128::from(self.limits.converge_one_in);
            let missed = Ending::chosen((which % 1024) as usize, &members, &in_flight);
            let sent = if (which / 1024).is_multiple_of(2) {
                in_flight.clone()
            } else {
                Vec::new()
            };
            let endings = [
                (Some(Ending::AllReturn), Vec::new()),
                (Some(Ending::AllReturn), in_flight),
                (missed, sent),
            ];
            for (ending, in_flight) in endings {
                let Some(ending) = ending else { continue };
                let outcome = convergence::check(members.clone(), in_flight, ending, self.worlds.plan());
                if let Err(violation) = outcome {
                    return Err(self.failure(number, None, violation));
                }
            }
        }
        Ok(())
    }

    fn failure(&self, number: u32, last: Option<Action>, violation: Violation) -> Box<Failure> {
        let mut actions: Vec<Action> = last.into_iter().collect();
        let mut number = number;
        while number != 0 {
            let (from, by) = self.ways[number as usize];
            actions.push(by);
            number = from;
        }
        actions.reverse();
        let trace = trace::of(&self.worlds, &self.start, &actions);
        let states = self.ways.len();
        Box::new(Failure {
            violation,
            trace,
            states,
        })
    }
}
