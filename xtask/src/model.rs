//! The exploration of small groups from the command line.

use anyhow::{Context, Result, bail};
use std::process::Command;

/// Explores every state that small groups can reach, in an optimized build that keeps its assertions.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Bounds, such as `--scenario elections --terms 3`. `cargo xtask model -- --help` names them all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "BOUNDS")]
    bounds: Vec<String>,
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
        "model",
        "--",
    ]);
    let status = command
        .args(arguments.bounds)
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("the exploration failed: a law that can be broken, and a shortest way to it, are above");
    }
    Ok(())
}
