//! Explores every state that small groups can reach, within bounds.

use clap::Parser;
use std::process::ExitCode;
use trimaran_tests::model::{Limits, Scenario, explore};

/// Explores every state that a small group can reach. Bounds that are given replace the scenario's own.
#[derive(Parser)]
#[command(name = "model")]
struct Arguments {
    /// Only this scenario; without it, all of them, one after the other.
    #[arg(long)]
    scenario: Option<String>,
    /// The last term.
    #[arg(long)]
    terms: Option<u64>,
    /// Deadlines that come, of all members together (at most 7, as all that is counted).
    #[arg(long, value_parser = clap::value_parser!(u8).range(..8))]
    timeouts: Option<u8>,
    /// Proposals.
    #[arg(long, value_parser = clap::value_parser!(u8).range(..8))]
    proposals: Option<u8>,
    /// Crashes.
    #[arg(long, value_parser = clap::value_parser!(u8).range(..8))]
    crashes: Option<u8>,
    /// No further than so many actions.
    #[arg(long)]
    depth: Option<u32>,
    /// No more states than so many millions, each about a hundred bytes of memory.
    #[arg(long, default_value_t = 20)]
    million_states: usize,
    /// From one in so many states on, all faults end and the group must converge; 0: from none.
    #[arg(long, default_value_t = 100)]
    converge_one_in: u64,
}

impl Arguments {
    fn bound(&self, scenario: &mut Scenario) {
        let budget = &mut scenario.budget;
        scenario.max_term = self.terms.unwrap_or(scenario.max_term);
        budget.timeouts = self.timeouts.unwrap_or(budget.timeouts);
        budget.proposals = self.proposals.unwrap_or(budget.proposals);
        budget.crashes = self.crashes.unwrap_or(budget.crashes);
    }

    fn limits(&self) -> Limits {
        Limits {
            depth: self.depth.unwrap_or(u32::MAX),
            states: self.million_states.saturating_mul(1_000_000),
            converge_one_in: self.converge_one_in,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut scenarios = Scenario::all();
    if let Some(name) = &arguments.scenario {
        let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
        let names = names.join(", ");
        scenarios.retain(|scenario| scenario.name == name);
        if scenarios.is_empty() {
            eprintln!("there is no scenario {name}, but: {names}");
            return ExitCode::FAILURE;
        }
    }
    for mut scenario in scenarios {
        arguments.bound(&mut scenario);
        println!(
            "{}: {} ({}; up to term {})",
            scenario.name, scenario.about, scenario.budget, scenario.max_term
        );
        let progress = |depth, states| eprintln!("  depth {depth}: {states} states");
        match explore(&scenario, arguments.limits(), progress) {
            Ok(exploration) => println!("  {exploration}"),
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
