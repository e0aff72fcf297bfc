//! Bugs built in on purpose, and the table of how soon the simulation notices them.

use crate::workspace::{self, Workspace, output_of};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Where the table stands.
const DOCUMENT: &str = "docs/testing.md";
const BEGIN: &str = "<!-- `cargo xtask sabotage --write` writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Builds bugs in, one at a time, and fails if the simulation doesn't notice one.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these switches.
    switches: Vec<String>,
    /// So many seeds at most, whatever the scenario says.
    #[arg(long)]
    seeds: Option<u64>,
    /// Write the table into docs/testing.md.
    #[arg(long, conflicts_with = "switches")]
    write: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut command = Command::new(build(&workspace)?);
    if let Some(seeds) = arguments.seeds {
        command.args(["--seeds", &seeds.to_string()]);
    }
    if !arguments.write {
        return workspace::run(command.args(&arguments.switches)).context("the simulation is too weak");
    }
    let table = output_of(command.arg("--markdown"), b"").context("the simulation is too weak")?;
    let path = workspace.root.join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {DOCUMENT}"))?;
    let text = between_marks(&text, &table)?;
    fs::write(&path, text).with_context(|| format!("can't write {DOCUMENT}"))
}

/// Builds the program, with everything from elsewhere as `cargo test` builds it.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let features = ["--features", "trimaran-tests/sabotage"];
    let mut command = workspace.cargo(["build", "--quiet", "--workspace", "--bin", "sabotage"]);
    workspace::run(command.args(features)).context("the program with the bugs does not build")?;
    Ok(workspace.debug("sabotage"))
}

/// The document with another table.
fn between_marks(text: &str, table: &str) -> Result<String> {
    let begin = text.find(BEGIN).map(|at| at + BEGIN.len());
    let end = text.find(END);
    let (Some(begin), Some(end)) = (begin, end) else {
        bail!("{DOCUMENT} has lost the marks between which the table stands");
    };
    Ok(format!("{}{table}{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let new = between_marks(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(between_marks("no marks", "new\n").is_err());
    }
}
