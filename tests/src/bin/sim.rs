//! Runs the simulation: one seed exactly, or many to search for one that fails.

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;
use trimaran_tests::sim::{self, Length, Options};

/// Runs the simulated cluster.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// The first seed; without it, seeds count from one.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run, one after the other.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Short runs: other ones than those of the same seeds at full length.
    #[arg(long)]
    short: bool,
    /// Write every event to standard error.
    #[arg(long)]
    print: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let first = arguments.seed.unwrap_or(1);
    let mut failed = Vec::new();
    for seed in first..first.saturating_add(arguments.runs) {
        let began = Instant::now();
        let options = Options {
            print: arguments.print,
            length: if arguments.short { Length::Short } else { Length::Full },
            ..Options::new(seed)
        };
        match sim::run(&options) {
            Ok(report) => println!("seed {seed}: {report} ({} ms)", began.elapsed().as_millis()),
            Err(failure) => {
                println!("{failure}");
                failed.push(seed);
                if !arguments.keep_going {
                    break;
                }
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}
