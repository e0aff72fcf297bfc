//! The consensus core beside others, by a package of its own: nobody else's build should compile those.

use crate::workspace::{Workspace, run as run_command};
use anyhow::Result;

/// Measures the consensus core, beside raft-rs and openraft: in memory, in one process.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often each contender has its turn in each row.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only rows whose name contains this, such as `10,000` or `idle`.
    #[arg(long)]
    only: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let manifest = workspace.root.join("tests/benches/core/Cargo.toml");
    let mut command = workspace.cargo(["run", "--quiet", "--release", "--locked", "--manifest-path"]);
    command.arg(manifest);
    // Beside the workspace's own builds, so that nothing is left among the sources.
    command.arg("--target-dir").arg(workspace.target.join("bench-core"));
    command.args(["--", "--rounds", &arguments.rounds.to_string()]);
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    run_command(&mut command)
}
