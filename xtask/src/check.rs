//! What the machine guards.

use anyhow::{Result, bail};

/// Not here yet.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: Arguments) -> Result<()> {
    bail!("`cargo xtask check` has not landed yet")
}
