//! Real brokers under faults, from the command line.

use crate::workspace::{self, Workspace};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Kills, pauses, stops and cuts off brokers of a live local cluster under load, and judges what its clients saw.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long faults strike, in minutes; what follows takes about half a minute more
    #[arg(long)]
    minutes: Option<f64>,
    /// How many brokers; 3 if not given
    #[arg(long)]
    brokers: Option<u32>,
    /// Decides the faults and their times; drawn and printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults, separated by commas: kill, pause, stop, restart, cut, slow, failover, reformat; all if not given
    #[arg(long)]
    faults: Option<String>,
    /// Where a failure leaves the folder that belongs to a bug report; `torture` in cargo's target folder if not given
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The program to start, instead of a release build that is made now
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => workspace.build_broker()?,
    };
    // What hurts and judges needs no optimization, and has its own assertions.
    workspace::run(&mut workspace.cargo(["build", "--package", "trimaran-tests", "--bin", "torture"]))?;
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| workspace.target.join("torture"));
    let mut command = std::process::Command::new(workspace.debug("torture"));
    command.arg("--binary").arg(binary).arg("--out").arg(out);
    let passed_on = [
        ("--minutes", arguments.minutes.map(|minutes| minutes.to_string())),
        ("--brokers", arguments.brokers.map(|brokers| brokers.to_string())),
        ("--seed", arguments.seed.map(|seed| seed.to_string())),
        ("--faults", arguments.faults),
    ];
    for (name, value) in passed_on {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    }
    workspace::run(&mut command).context("the cluster did not keep its promises, or could not be run; see above")
}
