//! The fuzz targets without a fuzzer: writes seeds for one, and tries inputs that one has found. `cargo xtask fuzz` uses it.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};
use trimaran_tests::fuzz::{self, Target};

/// Seeds for fuzzers, and inputs from them.
#[derive(Parser)]
#[command(name = "fuzz")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a target's seeds into a folder, a file each.
    Seeds {
        /// The target's name.
        target: String,
        /// The folder, which is made if it is missing.
        folder: PathBuf,
    },
    /// Runs a target on inputs.
    Run {
        /// The target's name.
        target: String,
        /// Files, each of them an input.
        inputs: Vec<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Seeds { target, folder } => seeds(find(&target)?, &folder),
        Command::Run { target, inputs } => inputs.iter().try_for_each(|input| try_input(&target, input)),
    }
}

fn find(name: &str) -> Result<&'static Target> {
    fuzz::find(name).with_context(|| format!("there is no target `{name}`"))
}

fn seeds(target: &Target, folder: &Path) -> Result<()> {
    let failed = || format!("can't write seeds into {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:03}")), seed).with_context(failed)?;
    }
    Ok(())
}

fn try_input(target: &str, input: &Path) -> Result<()> {
    let bytes = fs::read(input).with_context(|| format!("can't read {}", input.display()))?;
    (find(target)?.run)(&bytes);
    println!("{}: nothing is wrong", input.display());
    Ok(())
}
