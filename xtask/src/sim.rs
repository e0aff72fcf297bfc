//! The simulation from the command line.

use crate::workspace::{Workspace, run as run_command};
use anyhow::{Context, Result};

/// Runs the simulation in an optimized build that keeps its assertions.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first seed; the same seed is the same run. Without it, seeds count from one.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run, two at a time.
    #[arg(long)]
    runs: Option<u64>,
    /// For how many minutes to run seeds, two at a time.
    #[arg(long)]
    minutes: Option<f64>,
    /// Short runs: other ones than those of the same seeds at full length.
    #[arg(long)]
    short: bool,
    /// All runs are about this: breadth, elections (few groups that lose their leaders all the time) or members (few groups
    /// that are moved all the time). Without it, each seed decides.
    #[arg(long)]
    focus: Option<String>,
    /// Only faults of these kinds, separated by commas: crash, ambush, pause, partition, one-way, no-clients, weather,
    /// clog, slow-disk and so on (a wrong one names them all).
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// Write every event to standard error.
    #[arg(long)]
    print: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

impl Arguments {
    /// As the program takes them.
    fn to_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut value = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.to_owned(), value]);
            }
        };
        value("--seed", self.seed.map(|seed| seed.to_string()));
        value("--runs", self.runs.map(|runs| runs.to_string()));
        value("--minutes", self.minutes.map(|minutes| minutes.to_string()));
        value("--focus", self.focus.clone());
        value("--faults", (!self.faults.is_empty()).then(|| self.faults.join(",")));
        let flags = [
            ("--short", self.short),
            ("--print", self.print),
            ("--keep-going", self.keep_going),
        ];
        words.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| (*flag).to_owned()));
        words
    }
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let mut command = Workspace::find()?.cargo([
        "run",
        "--quiet",
        "--profile",
        "sim",
        "--package",
        "trimaran-tests",
        "--bin",
        "sim",
        "--",
    ]);
    command.args(arguments.to_words());
    run_command(&mut command).context("the simulation failed: the seed and the last events are above")
}
