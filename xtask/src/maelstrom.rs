//! Maelstrom's part, in one program: starts `trimaran node` processes, carries their messages (late, or not at all, or not
//! across a partition), drives them with requests, and checks what they answered.

mod checker;
mod clients;
mod network;
mod random;
#[cfg(test)]
mod tests;

use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail, ensure};
use checker::{Operation, Outcome};
use clients::Clients;
use network::{Conditions, Network};
use random::Random;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the nodes may take to recover once the network is whole again.
const RECOVERY: Duration = Duration::from_secs(30);

/// How long it takes from one state of the network to the next, with `--partitions`.
const NEMESIS_EVERY: Duration = Duration::from_secs(4);

/// Violations that are printed; all are counted.
const SHOWN: usize = 20;

/// Starts nodes, drives them, checks the histories.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=15))]
    nodes: u32,
    /// Decides requests, delays, losses and partitions; drawn and printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// How long requests are made, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The share of messages between nodes that is lost, for example 0.05
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// How late messages come on average, in milliseconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    delay_ms: u64,
    /// Cut the network in two, cut nodes off, and heal it again, all the time
    #[arg(long)]
    partitions: bool,
    /// The program to start, instead of one that is built now
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("a number between 0 and 0.9 is needed".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => build(&workspace)?,
    };
    let seed = arguments.seed.unwrap_or_else(random::drawn);
    println!("{} nodes, seed {seed}, {} s", arguments.nodes, arguments.seconds);
    let report = drive(&arguments, &binary, seed)?;
    let history = workspace.target.join("maelstrom").join("history.txt");
    write_history(&history, &report.operations)?;
    print_summary(&report);
    println!("  history: {}", history.display());
    let violations = checker::check(&report.operations);
    for violation in violations.iter().take(SHOWN) {
        println!("VIOLATION {violation}");
    }
    ensure!(
        violations.is_empty(),
        "{} violations; run it again with --seed {seed}",
        violations.len()
    );
    println!(
        "No acknowledged send was lost or is at two offsets; polls are in order and without gaps; committed offsets never went \
         back; no term had two leaders."
    );
    Ok(())
}

/// Without optimization, but with all assertions: the nodes have little to do.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    workspace::run(&mut workspace.cargo(["build", "--package", "trimaran-broker", "--bin", "trimaran"]))
        .context("`trimaran` can't be built")?;
    Ok(workspace
        .target
        .join("debug")
        .join(format!("trimaran{}", std::env::consts::EXE_SUFFIX)))
}

struct Report {
    operations: Vec<Operation>,
    carried: u64,
    lost: u64,
}

fn drive(arguments: &Arguments, binary: &Path, seed: u64) -> Result<Report> {
    let mut random = Random::new(seed);
    let conditions = Conditions {
        loss: arguments.loss,
        delay: Duration::from_millis(arguments.delay_ms),
    };
    let mut network = Network::start(binary, arguments.nodes, conditions, random.fork())?;
    let mut clients = Clients::new(network.names().to_vec(), random.fork());
    let began = Instant::now();
    let until = began + Duration::from_secs(arguments.seconds);
    let mut nemesis_at = began + NEMESIS_EVERY;
    while Instant::now() < until {
        clients.make_requests(&mut network);
        if arguments.partitions && Instant::now() >= nemesis_at {
            nemesis_at += NEMESIS_EVERY;
            network.change_partition();
        }
        pass_on(&mut network, &mut clients, until.min(nemesis_at))?;
    }
    network.make_perfect();
    finish(&mut network, &mut clients)?;
    network.stop()?;
    Ok(Report {
        operations: clients.into_history(),
        carried: network.carried,
        lost: network.lost,
    })
}

/// Waits for answers, until the clients have something to do or the time has come.
fn pass_on(network: &mut Network, clients: &mut Clients, until: Instant) -> Result<()> {
    let until = until.min(clients.next_at());
    while let Some(message) = network.next(until)? {
        clients.answered(&message);
        if clients.next_at() <= Instant::now() {
            break;
        }
    }
    clients.give_up_late();
    Ok(())
}

/// The network is whole: every log must take a message again, and every node must come to know everything.
fn finish(network: &mut Network, clients: &mut Clients) -> Result<()> {
    let until = Instant::now() + RECOVERY;
    clients.wind_down();
    while !clients.are_done() {
        if Instant::now() >= until {
            bail!(
                "{} s after the network was healed the nodes still don't {}",
                RECOVERY.as_secs(),
                clients.wants()
            );
        }
        clients.make_requests(network);
        pass_on(network, clients, until)?;
    }
    Ok(())
}

fn write_history(path: &Path, operations: &[Operation]) -> Result<()> {
    let mut text = String::new();
    for operation in operations {
        text.push_str(&format!("{operation}\n"));
    }
    let folder = path.parent().context("the history needs a folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("{} can't be written", path.display()))
}

fn print_summary(report: &Report) {
    let mut kinds: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &report.operations {
        kinds.entry(operation.request.kind()).or_default().push(operation);
    }
    println!(
        "  messages between nodes: {} carried, {} lost or cut off",
        report.carried, report.lost
    );
    for (kind, operations) in kinds {
        let count = |wanted: fn(&Outcome) -> bool| operations.iter().filter(|op| wanted(&op.outcome)).count();
        let done = count(|outcome| matches!(outcome, Outcome::Done(_)));
        let refused = count(|outcome| matches!(outcome, Outcome::Refused(_)));
        let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
        let mut times: Vec<u64> = operations
            .iter()
            .filter(|op| matches!(op.outcome, Outcome::Done(_)))
            .map(|op| (op.completed_us - op.invoked_us) / 1000)
            .collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or(0);
        let longest = times.last().copied().unwrap_or(0);
        println!(
            "  {kind:<24} {done:>6} done, {refused:>5} refused, {unknown:>5} unknown; {median} ms at the median, {longest} ms at \
             most"
        );
    }
}
