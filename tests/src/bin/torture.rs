//! Hurts a cluster of real processes, and judges what its clients saw. `cargo xtask torture` builds both and runs it.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trimaran_tests::torture::faults::Kind;
use trimaran_tests::torture::{self, Options};

/// Kills, pauses, stops and cuts off brokers under load.
#[derive(Parser)]
#[command(name = "torture")]
struct Arguments {
    /// How long faults strike, in minutes; what follows takes about half a minute more
    #[arg(long, default_value_t = 2.0, value_parser = minutes)]
    minutes: f64,
    /// How many brokers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=7))]
    brokers: u32,
    /// Decides the faults and their times; drawn and printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults, separated by commas; all if not given
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Where a failure leaves its folder
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// The program to start
    #[arg(long)]
    binary: PathBuf,
    /// How long anything may take once all faults have ended, in seconds
    #[arg(long, default_value_t = 180)]
    patience: u64,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.05..=1_440.0).contains(&minutes) => Ok(minutes),
        _ => Err("a number of minutes between 0.05 and 1440 is needed".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(drawn);
    let lasts = Duration::from_secs_f64(arguments.minutes * 60.0);
    let mut options = Options {
        brokers: arguments.brokers,
        out: arguments.out,
        patience: Duration::from_secs(arguments.patience),
        print: true,
        ..Options::new(seed, lasts, arguments.binary)
    };
    if !arguments.faults.is_empty() {
        options.kinds = arguments.faults.into_iter().collect();
    }
    println!("{}", options.command());
    match torture::run(&options) {
        Ok(report) => {
            println!(
                "{report}\nNothing was lost, doubled, taken back, skipped or left unseen, and everything works again."
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// A seed that nobody chose.
fn drawn() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ u64::from(std::process::id())
}
