//! `trimaran cluster`.

mod drain;
mod status;

use super::{Exit, Failure, Reach};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Asks every broker, and shows who answers, who leads how much, and partitions that need attention.
    #[command(after_help = "\
Try it:
  trimaran cluster status --bootstrap 127.0.0.1:9092,127.0.0.1:9093

Exit codes: 0 every partition has a leader; 1 some have none; 3 no broker answers; 4 brokers answer, but none is in
contact with a majority: what is shown is what one of them knew last.")]
    Status(Reach),
    /// Moves every replica away from a broker, to those that have the least. What is under way already is left alone.
    #[command(after_help = "\
Try it:
  trimaran cluster drain 3 --wait")]
    Drain(Drain),
}

#[derive(Debug, Args)]
pub struct Drain {
    /// The broker's id
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    broker: i32,
    /// Wait until everything has arrived, for as long as --timeout-ms allows
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Status(reach) => status::run(reach).await,
        Command::Drain(drain) => drain::run(drain).await,
    }
}
