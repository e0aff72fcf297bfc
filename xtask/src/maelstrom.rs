//! Maelstrom's part, in one program.

use anyhow::{Result, bail};

/// Not here yet.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: Arguments) -> Result<()> {
    bail!("`cargo xtask maelstrom` has not landed yet")
}
