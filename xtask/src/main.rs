//! `cargo xtask`: local clusters, checks, tests and benchmarks.
//!
//! It only runs things: cargo, the `trimaran` binary, the `tests` crate's programs. It links none of our crates and no
//! async runtime, so that it builds in seconds.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod bench;
mod check;
mod cluster;
mod fuzz;
mod http;
mod maelstrom;
mod messages;
mod model;
mod sabotage;
mod sim;
mod test;
mod torture;
mod workspace;

/// Orchestrates local clusters, checks, tests and benchmarks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts, watches, hurts and stops a cluster on this machine.
    Cluster(cluster::Arguments),
    /// Checks formatting, lints, dependency edges, READMEs and documentation.
    Check(check::Arguments),
    /// Runs every test: the workspace's, the simulation's standard seeds, real processes, real clients.
    Test(test::Arguments),
    /// Measures throughput and latency against a fresh local cluster.
    Bench(bench::Arguments),
    /// Replays or searches the simulation's runs.
    Sim(sim::Arguments),
    /// Feeds decoders of bytes from outside with what nobody would send.
    Fuzz(fuzz::Arguments),
    /// Builds bugs in on purpose, and looks whether the simulation notices them.
    Sabotage(sabotage::Arguments),
    /// Explores every state that small Raft groups can reach, within bounds.
    Model(model::Arguments),
    /// Drives `trimaran node` as Jepsen's Maelstrom would, and checks the histories.
    Maelstrom(maelstrom::Arguments),
    /// Writes down the layout of Kafka's messages, for the test of the schemas.
    Messages(messages::Arguments),
    /// Hurts a live local cluster under load, and judges what its clients saw.
    Torture(torture::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What to do stands in the message; where in this program it was found helps nobody.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Cluster(arguments) => cluster::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Sim(arguments) => sim::run(arguments),
        Command::Sabotage(arguments) => sabotage::run(arguments),
        Command::Fuzz(arguments) => fuzz::run(arguments),
        Command::Model(arguments) => model::run(arguments),
        Command::Maelstrom(arguments) => maelstrom::run(arguments),
        Command::Messages(arguments) => messages::run(arguments),
        Command::Torture(arguments) => torture::run(arguments),
    }
}
