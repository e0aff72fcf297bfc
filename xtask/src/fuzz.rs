//! The fuzz targets under cargo-fuzz, with the seeds that the tests use as well.

use crate::workspace::{Workspace, has_toolchain, is_installed, run as run_command};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lists the fuzz targets, or lets cargo-fuzz run one of them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The target, or `all` for one after the other. Without it, they are listed.
    target: Option<String>,
    /// How long to look, in minutes, for each target.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Only try this input, with an ordinary build: what a fuzzer has found.
    #[arg(long, requires = "target", conflicts_with = "minutes")]
    input: Option<PathBuf>,
}

/// Bytes that one input may make a target allocate at once. zstd may ask for a window of 128 MiB.
const MALLOC_LIMIT_MB: u32 = 200;

/// Seconds that one input may take; all of them together take milliseconds.
const SECONDS_PER_INPUT: u32 = 20;

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let package = workspace.root.join("tests/fuzz");
    let targets = targets(&package)?;
    let Some(wanted) = arguments.target else {
        return list(&targets);
    };
    let chosen: Vec<&Target> = targets
        .iter()
        .filter(|target| wanted == "all" || target.name == wanted)
        .collect();
    if chosen.is_empty() {
        bail!("there is no target `{wanted}`; `cargo xtask fuzz` lists them");
    }
    if let Some(input) = arguments.input {
        let input = fs::canonicalize(&input).with_context(|| format!("can't read {}", input.display()))?;
        let mut command = helper(&workspace, "run", &wanted);
        return run_command(command.arg(input)).context("the input fails; the message is above");
    }
    require_tools()?;
    for target in chosen {
        look(&workspace, &package, &target.name, arguments.minutes)?;
    }
    Ok(())
}

/// A target, as its file in `fuzz_targets` describes it.
struct Target {
    name: String,
    what: String,
}

fn targets(package: &Path) -> Result<Vec<Target>> {
    let folder = package.join("fuzz_targets");
    let failed = || format!("can't read {}", folder.display());
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(failed)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(failed)?;
        let what = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("//! ")
            .to_owned();
        targets.push(Target { name, what });
    }
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(targets)
}

fn list(targets: &[Target]) -> Result<()> {
    println!("`cargo xtask fuzz TARGET` runs one of these:\n");
    for Target { name, what } in targets {
        println!("  {name:<22} {what}");
    }
    Ok(())
}

/// Says exactly what is missing, and installs nothing.
fn require_tools() -> Result<()> {
    let mut missing = Vec::new();
    if !is_installed("cargo-fuzz") {
        missing.push("cargo-fuzz: `cargo install cargo-fuzz --locked`");
    }
    if !is_installed("rustup") {
        missing.push("rustup, which chooses the nightly compiler: see https://rustup.rs");
    } else if !has_toolchain("nightly") {
        missing.push("a nightly compiler: `rustup toolchain install nightly --profile minimal`");
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("fuzzing needs what is not installed here:\n  {}", missing.join("\n  "));
}

/// The program of the `tests` crate that knows the targets.
fn helper(workspace: &Workspace, what: &str, target: &str) -> Command {
    workspace.cargo([
        "run",
        "--quiet",
        "--package",
        "trimaran-tests",
        "--bin",
        "fuzz",
        "--",
        what,
        target,
    ])
}

fn look(workspace: &Workspace, package: &Path, target: &str, minutes: f64) -> Result<()> {
    let corpus = package.join("corpus").join(target);
    run_command(helper(workspace, "seeds", target).arg(&corpus))?;
    // Through rustup, since the toolchain of the workspace is pinned.
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo", "fuzz", "run", "--fuzz-dir"])
        .arg(package);
    command.arg("--target-dir").arg(workspace.target.join("fuzz"));
    command.arg(target).arg(&corpus).arg("--");
    let seconds = (minutes * 60.0).ceil().max(1.0);
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-malloc_limit_mb={MALLOC_LIMIT_MB}"),
        format!("-timeout={SECONDS_PER_INPUT}"),
        "-print_final_stats=1".to_owned(),
    ]);
    command
        .current_dir(package)
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    run_command(&mut command).with_context(|| {
        format!(
            "`{target}` has failed; the input is under {}, and `cargo xtask fuzz {target} --input FILE` tries it again",
            package.join("artifacts").join(target).display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_listed_with_what_it_is_for() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"))
            .with_file_name("tests")
            .join("fuzz");
        let targets = targets(&package).unwrap();
        assert!(targets.iter().any(|target| target.name == "kafka_requests"));
        assert!(
            targets
                .iter()
                .all(|target| target.what.len() > 10 && !target.what.starts_with('#'))
        );
    }
}
