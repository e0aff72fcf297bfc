//! Builds bugs in, one at a time, and lets the simulation look for them.

use clap::Parser;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use trimaran_tests::sabotage::{Found, Noticed, SCENARIOS, Scenario, find, unlisted};
use trimaran_tests::sim::Cause;

/// Looks for bugs that are built in on purpose.
#[derive(Parser)]
#[command(name = "sabotage")]
struct Arguments {
    /// Only these switches.
    switches: Vec<String>,
    /// So many seeds at most, whatever the scenario says.
    #[arg(long)]
    seeds: Option<u64>,
    /// Print a table in Markdown.
    #[arg(long)]
    markdown: bool,
}

/// What came of a scenario.
struct Outcome {
    scenario: Scenario,
    found: Option<Found>,
}

impl Outcome {
    /// It should have been noticed, and was not.
    fn is_missed(&self) -> bool {
        self.found.is_none() && matches!(self.scenario.noticed, Noticed::InTheCluster(_))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The code under test panics by the dozen here, as it should.
    std::panic::set_hook(Box::new(|_| {}));
    let asked = |scenario: &&Scenario| {
        arguments.switches.is_empty() || arguments.switches.iter().any(|switch| switch == scenario.switch)
    };
    let scenarios: Vec<Scenario> = SCENARIOS.iter().filter(asked).copied().collect();
    let outcomes = search(&scenarios, &arguments);
    if arguments.markdown {
        print!("{}", table(&outcomes));
    }
    for switch in unlisted() {
        eprintln!("no scenario names the switch {switch}");
    }
    let passed: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| outcome.is_missed())
        .map(|outcome| outcome.scenario.switch)
        .collect();
    if passed.is_empty() && unlisted().is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("not noticed: {passed:?}");
    ExitCode::FAILURE
}

/// Two at a time: scenarios are independent of one another.
fn search(scenarios: &[Scenario], arguments: &Arguments) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let found = seeds(scenario, arguments).and_then(|seeds| find(scenario, seeds));
                    report(scenario, found.as_ref(), began);
                    let outcome = Outcome {
                        scenario: *scenario,
                        found,
                    };
                    outcomes.lock().expect("nobody panics while holding it").push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("nobody panics while holding it");
    let place = |switch| scenarios.iter().position(|scenario| scenario.switch == switch);
    outcomes.sort_by_key(|outcome| place(outcome.scenario.switch));
    outcomes
}

/// How many seeds to try: none where other tests look for it, unless somebody asks.
fn seeds(scenario: &Scenario, arguments: &Arguments) -> Option<u64> {
    match scenario.noticed {
        Noticed::InTheCluster(bound) => Some(arguments.seeds.unwrap_or(bound)),
        Noticed::InTheCore | Noticed::InTheModel(_) | Noticed::Nowhere => {
            arguments.seeds.filter(|_| !arguments.switches.is_empty())
        }
    }
}

fn report(scenario: &Scenario, found: Option<&Found>, began: Instant) {
    let took = began.elapsed().as_secs_f32();
    match found {
        Some(found) => eprintln!(
            "{:<24} {:>4} seeds {took:>6.1} s  {}",
            scenario.switch,
            found.seeds,
            in_short(&found.cause)
        ),
        None => eprintln!("{:<24} {:?} {took:>6.1} s", scenario.switch, scenario.noticed),
    }
}

/// One row a scenario.
fn table(outcomes: &[Outcome]) -> String {
    let mut text = "| what goes wrong | who had it | switch | noticed as | seeds |\n|---|---|---|---|---|\n".to_owned();
    for Outcome { scenario, found } in outcomes {
        let (cause, seeds) = match (found, scenario.noticed) {
            (Some(found), _) => (in_short(&found.cause), found.seeds.to_string()),
            (None, Noticed::InTheCluster(_)) => ("**not noticed**".to_owned(), "-".to_owned()),
            (None, Noticed::InTheCore) => ("by the core's own random runs".to_owned(), "-".to_owned()),
            (None, Noticed::InTheModel(scenario)) => (format!("by the model check ({scenario})"), "-".to_owned()),
            (None, Noticed::Nowhere) => ("not shown".to_owned(), "-".to_owned()),
        };
        text += &format!(
            "| {} | {} | `{}::{}` | {cause} | {seeds} |\n",
            scenario.what,
            scenario.source,
            scenario.room.name(),
            scenario.switch
        );
    }
    text
}

/// The law, or the first words of the panic.
fn in_short(cause: &Cause) -> String {
    match cause {
        Cause::Violation(violation) => violation.law.statement().to_owned(),
        Cause::Panic(message) => {
            let line = message.lines().next().unwrap_or_default();
            let words: String = line.chars().take(80).collect();
            format!("an assertion: {}", words.replace('|', "/"))
        }
    }
}
