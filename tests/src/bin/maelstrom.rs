//! Drives `trimaran node` processes as Jepsen's Maelstrom does, and judges what they answered. `cargo xtask maelstrom`
//! builds both and runs it.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trimaran_tests::maelstrom::{self, Options};

/// Starts nodes, drives them, checks the histories.
#[derive(Parser)]
#[command(name = "maelstrom")]
struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=15))]
    nodes: u32,
    /// Decides requests, delays, losses and partitions; drawn and printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// How long requests are made, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The share of messages between nodes that is lost, for example 0.05
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// How late messages come on average, in milliseconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    delay_ms: u64,
    /// Cut the network in two, cut nodes off, and heal it again, all the time
    #[arg(long)]
    partitions: bool,
    /// Where the history is written
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// The program to start
    #[arg(long)]
    binary: PathBuf,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("a number between 0 and 0.9 is needed".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        nodes: arguments.nodes,
        seed: arguments.seed.unwrap_or_else(drawn),
        lasts: Duration::from_secs(arguments.seconds),
        loss: arguments.loss,
        delay: Duration::from_millis(arguments.delay_ms),
        partitions: arguments.partitions,
        out: arguments.out,
        binary: arguments.binary,
    };
    match maelstrom::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A seed that nobody chose; small enough to be typed.
fn drawn() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos() ^ std::process::id()) % 1_000_000
}
