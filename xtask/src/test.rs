//! Every test: the workspace's, the simulation's standard seeds, real processes and real clients.

use crate::workspace::{self, Workspace, is_installed};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Short runs of the simulation, beside the full ones that are tests of the `tests` crate: so many, or as many as there is
/// time for.
const SIMULATED: [&str; 5] = ["--short", "--runs", "2000", "--minutes", "10"];

/// Nodes whose network loses messages and comes apart.
const MAELSTROM: [&str; 6] = ["--seconds", "20", "--loss", "0.02", "--partitions", "--delay-ms=10"];

/// Runs every test, and fails with the first kind that fails.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: Arguments) -> Result<()> {
    require_kcat()?;
    require_make()?;
    let workspace = Workspace::find()?;
    // Everything is built once, by `cargo test`. A build of one package alone would be another one, dependencies included,
    // since their features are those of what is built together.
    let binary = workspace.debug("trimaran");
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    workspace::run(tests.env("BROKER_UNDER_TEST", &binary)).context("tests failed; their output is above")?;
    workspace::run(Command::new(workspace.debug("sim")).args(SIMULATED)).context("the simulation failed")?;
    // Built last: programs with bugs and programs without share a folder.
    let mut broken = workspace.cargo([
        "test",
        "--workspace",
        "--test",
        "broken",
        "--test",
        "chance",
        "--features",
        "trimaran-tests/sabotage,trimaran-coordinator/sabotage",
    ]);
    workspace::run(&mut broken).context("the model check does not notice a bug")?;
    let sabotage = crate::sabotage::build(&workspace)?;
    workspace::run(&mut Command::new(sabotage)).context("the simulation does not notice a bug")?;
    let mut maelstrom = Command::new(workspace.debug("maelstrom"));
    maelstrom.arg("--binary").arg(&binary).args(MAELSTROM);
    maelstrom.arg("--out").arg(workspace.target.join("maelstrom"));
    workspace::run(&mut maelstrom).context("Maelstrom's nodes failed")?;
    println!("Every test has passed.");
    Ok(())
}

/// One of the real clients is kcat as Debian ships it. It is installed if that is possible here.
fn require_kcat() -> Result<()> {
    if is_installed("kcat") {
        return Ok(());
    }
    let by_hand = "install it with `apt-get install kcat` (Debian, Ubuntu), `dnf install kcat` (Fedora) or `brew install \
                   kcat` (macOS), and run the tests again";
    if !is_installed("apt-get") || !is_root() {
        bail!("kcat is needed, one of the real clients that the cluster is tested with: {by_hand}");
    }
    println!("kcat is missing, and is installed with apt-get.");
    let install = || -> Result<()> {
        workspace::run(Command::new("apt-get").args(["update", "--quiet"]))?;
        workspace::run(
            Command::new("apt-get")
                .args(["install", "--yes", "--quiet", "--no-install-recommends", "kcat"])
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    install().with_context(|| format!("kcat can't be installed; {by_hand}"))?;
    if !is_installed("kcat") {
        bail!("apt-get installed kcat, but it is not on the PATH");
    }
    Ok(())
}

/// librdkafka, another of the clients, is built from source.
fn require_make() -> Result<()> {
    if is_installed("make") {
        return Ok(());
    }
    bail!(
        "make is needed to build librdkafka, one of the real clients that the cluster is tested with: install it with \
         `apt-get install build-essential` (Debian, Ubuntu), `dnf install make` (Fedora) or `xcode-select --install` (macOS)"
    )
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
