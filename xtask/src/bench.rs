//! Measures throughput and latency.

use anyhow::{Result, bail};

/// Not here yet.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: Arguments) -> Result<()> {
    bail!("`cargo xtask bench` has not landed yet")
}
