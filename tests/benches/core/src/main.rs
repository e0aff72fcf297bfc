//! The speed of the consensus core, beside raft-rs and openraft, in one process and one run. The README says what is
//! measured and why it is fair; `cargo xtask bench core` runs it.
#![forbid(unsafe_code)]

mod case;
mod driver;
mod open_raft;
mod ours;
mod raft_rs;
mod report;

use case::{CASES, Case, Contender, IDLE_GROUPS, Measured, Pace, number, payload};
use driver::Cluster;
use std::time::Duration;
use trimaran_raft::Heartbeats;

/// What a measurement should take, so that clocks and caches don't decide it.
const WORTHWHILE: Duration = Duration::from_millis(120);

/// Groups that openraft is measured with where the others have 10,000: each of its members is several tasks, and
/// 30,000 members take minutes to start.
const OPENRAFT_GROUPS: usize = 1000;

fn main() {
    let rounds = match rounds(std::env::args().skip(1)) {
        Ok(rounds) => rounds,
        Err(wrong) => {
            eprintln!("error: {wrong}\nusage: trimaran-bench-core [--rounds N] [--only TEXT]");
            std::process::exit(2);
        }
    };
    assert_eq!(number(&payload(7)), 7);
    println!("{}", report::head(rounds.count));
    let shown = CASES.iter().filter(|case| rounds.shows(case.name));
    let rows: Vec<_> = shown.map(|case| measure(case, rounds.count)).collect();
    println!("{}", report::proposals(&rows));
    println!("{}", report::steps(&rows));
    if rounds.shows("idle") {
        println!("{}", report::idle(&idle(rounds.count)));
    }
}

/// What the command line asks for.
struct Rounds {
    count: usize,
    only: Option<String>,
}

impl Rounds {
    fn shows(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

fn rounds(mut arguments: impl Iterator<Item = String>) -> Result<Rounds, String> {
    let mut rounds = Rounds { count: 5, only: None };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--rounds" => {
                let count = value.parse().ok().filter(|count| (1..=1000).contains(count));
                rounds.count = count.ok_or_else(|| format!("--rounds {value}: a number from 1 to 1000 is needed"))?;
            }
            "--only" => rounds.only = Some(value),
            _ => return Err(format!("{argument} is not known")),
        }
    }
    Ok(rounds)
}

/// A contender in the set-up that suits a case best.
struct Entrant {
    setup: String,
    contender: Box<dyn Contender>,
    per_group: u64,
    measured: Vec<Measured>,
}

impl Entrant {
    fn new(setup: impl Into<String>, contender: impl Contender + 'static) -> Entrant {
        Entrant {
            setup: setup.into(),
            contender: Box::new(contender),
            per_group: 0,
            measured: Vec::new(),
        }
    }

    /// Finds out how much is worthwhile, and how fast it is: the better of two.
    fn try_out(&mut self, case: &Case) -> f64 {
        self.per_group = case.batch as u64;
        while self.contender.run(self.per_group).took < WORTHWHILE {
            self.per_group *= 2;
        }
        let runs = [(); 2].map(|()| self.contender.run(self.per_group).per_second());
        runs[0].max(runs[1])
    }
}

/// The results of one row: ours, raft-rs, openraft.
pub struct Row {
    name: &'static str,
    setups: [String; 3],
    groups: [usize; 3],
    /// By contender, then by round.
    measured: [Vec<Measured>; 3],
}

fn measure(case: &Case, rounds: usize) -> Row {
    eprintln!("{} …", case.name);
    let mut entrants = [ours_for(case), raft_rs_for(case), openraft_for(case)].map(|setups| fastest(case, setups));
    for _ in 0..rounds {
        for entrant in &mut entrants {
            let measured = entrant.contender.run(entrant.per_group);
            entrant.measured.push(measured);
        }
    }
    Row {
        name: case.name,
        setups: entrants.each_ref().map(|entrant| entrant.setup.clone()),
        groups: entrants.each_ref().map(|entrant| entrant.contender.groups()),
        measured: entrants.map(|entrant| entrant.measured),
    }
}

/// Keeps only the fastest, so that the others don't fill memory and caches.
fn fastest(case: &Case, setups: Vec<Box<dyn Fn() -> Entrant>>) -> Entrant {
    let mut best: Option<(f64, Entrant)> = None;
    for setup in setups {
        let mut entrant = setup();
        let speed = entrant.try_out(case);
        if best.as_ref().is_none_or(|(other, _)| speed > *other) {
            best = Some((speed, entrant));
        }
    }
    best.expect("every core has a set-up").1
}

/// Entries that a log keeps at least: with many groups, as few as is safe.
fn keep(case: &Case) -> usize {
    if case.groups > 1 { 64 } else { 8192 }
}

fn ours_for(case: &Case) -> Vec<Box<dyn Fn() -> Entrant>> {
    let case = *case;
    vec![Box::new(move || {
        let member = |group, member| ours::Ours::new(group, member, Heartbeats::External, keep(&case));
        Entrant::new("", Cluster::new(&case, ours::Shared::default(), member))
    })]
}

fn raft_rs_for(case: &Case) -> Vec<Box<dyn Fn() -> Entrant>> {
    let mut setups: Vec<Box<dyn Fn() -> Entrant>> = Vec::new();
    for (batch_append, skip_bcast_commit) in [(false, false), (true, false), (false, true), (true, true)] {
        // Followers would apply only with the next proposal, for which all have to have applied this one.
        if skip_bcast_commit && case.pace == Pace::All {
            continue;
        }
        let case = *case;
        let options = raft_rs::Options {
            batch_append,
            skip_bcast_commit,
        };
        setups.push(Box::new(move || {
            let member = |_, member| raft_rs::RaftRs::new(member, options, keep(&case));
            Entrant::new(
                options.to_string(),
                Cluster::new(&case, raft_rs::Shared::default(), member),
            )
        }));
    }
    setups
}

fn openraft_for(case: &Case) -> Vec<Box<dyn Fn() -> Entrant>> {
    let mut setups: Vec<Box<dyn Fn() -> Entrant>> = Vec::new();
    for threads in [1, 2] {
        let case = *case;
        let options = open_raft::Options {
            threads,
            is_idle: false,
        };
        setups.push(Box::new(move || {
            let groups = case.groups.min(OPENRAFT_GROUPS);
            let setup = if threads == 1 { "1 thread" } else { "2 threads" };
            Entrant::new(setup, open_raft::OpenRaft::new(&case, groups, options, keep(&case)))
        }));
    }
    setups
}

/// What one virtual second of idleness costs, by contender, then by round.
pub struct Idle {
    name: &'static str,
    groups: usize,
    took: Vec<Duration>,
}

fn idle(rounds: usize) -> Vec<Idle> {
    eprintln!("idle groups …");
    let case = Case {
        groups: IDLE_GROUPS,
        ..CASES[3]
    };
    let ours = |heartbeats| {
        Cluster::new(&case, ours::Shared::default(), |group, member| {
            ours::Ours::new(group, member, heartbeats, keep(&case))
        })
    };
    let options = raft_rs::Options {
        batch_append: false,
        skip_bcast_commit: false,
    };
    let (mut external, mut own) = (ours(Heartbeats::External), ours(ours::OWN));
    let mut raft_rs = Cluster::new(&case, raft_rs::Shared::default(), |_, member| {
        raft_rs::RaftRs::new(member, options, keep(&case))
    });
    let options = open_raft::Options {
        threads: 1,
        is_idle: true,
    };
    let mut openraft = open_raft::OpenRaft::new(&case, OPENRAFT_GROUPS, options, keep(&case));
    let mut rows = [
        ("trimaran-raft, liveness from outside", IDLE_GROUPS),
        ("trimaran-raft, heartbeats of its own", IDLE_GROUPS),
        ("raft-rs", IDLE_GROUPS),
        ("openraft", OPENRAFT_GROUPS),
    ]
    .map(|(name, groups)| Idle {
        name,
        groups,
        took: Vec::new(),
    });
    for _ in 0..rounds {
        let took = [
            external.idle_second(),
            own.idle_second(),
            raft_rs.idle_second(),
            openraft.idle_second(),
        ];
        for (row, took) in rows.iter_mut().zip(took) {
            row.took.push(took);
        }
    }
    rows.into()
}
