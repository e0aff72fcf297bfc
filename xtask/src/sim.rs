//! The simulation from the command line.

use anyhow::{Context, Result, bail};
use std::process::Command;

/// Runs the simulation in an optimized build that keeps its assertions.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first seed; the same seed is the same run. Without it, seeds count from one.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run, one after the other.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Write every event to standard error.
    #[arg(long)]
    print: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
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
    if let Some(seed) = arguments.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    command.args(["--runs", &arguments.runs.to_string()]);
    if arguments.print {
        command.arg("--print");
    }
    if arguments.keep_going {
        command.arg("--keep-going");
    }
    let status = command.status().context("cargo does not start")?;
    if !status.success() {
        bail!("the simulation failed: the seed and the last events are above");
    }
    Ok(())
}
