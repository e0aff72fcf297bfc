//! `trimaran node` processes on a network that is driven and judged, from the command line.

use crate::workspace::{self, Workspace};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// Starts nodes, drives them, checks the histories.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many nodes; 3 if not given
    #[arg(long)]
    nodes: Option<u32>,
    /// Decides requests, delays, losses and partitions; drawn and printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// How long requests are made, in seconds; 20 if not given
    #[arg(long)]
    seconds: Option<u64>,
    /// The share of messages between nodes that is lost, for example 0.05
    #[arg(long)]
    loss: Option<f64>,
    /// How late messages come on average, in milliseconds; 5 if not given
    #[arg(long)]
    delay_ms: Option<u64>,
    /// Cut the network in two, cut nodes off, and heal it again, all the time
    #[arg(long)]
    partitions: bool,
    /// The program to start, instead of one that is built now
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    // Without optimization, but with all assertions: the nodes have little to do.
    let build = ["build", "--package", "trimaran-broker", "--bin", "trimaran"];
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => {
            workspace::run(&mut workspace.cargo(build)).context("`trimaran` can't be built")?;
            workspace.debug("trimaran")
        }
    };
    workspace::run(&mut workspace.cargo(["build", "--package", "trimaran-tests", "--bin", "maelstrom"]))?;
    let mut command = Command::new(workspace.debug("maelstrom"));
    command.arg("--binary").arg(binary);
    command.arg("--out").arg(workspace.target.join("maelstrom"));
    let passed_on = [
        ("--nodes", arguments.nodes.map(|nodes| nodes.to_string())),
        ("--seed", arguments.seed.map(|seed| seed.to_string())),
        ("--seconds", arguments.seconds.map(|seconds| seconds.to_string())),
        ("--loss", arguments.loss.map(|loss| loss.to_string())),
        ("--delay-ms", arguments.delay_ms.map(|delay| delay.to_string())),
    ];
    for (name, value) in passed_on {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    }
    if arguments.partitions {
        command.arg("--partitions");
    }
    workspace::run(&mut command).context("the nodes broke a law, or could not be run; see above")
}
