//! Maelstrom's part, in one program: starts `trimaran node` processes, carries their messages (late, or not at all, or
//! not across a partition), drives them with requests, and checks what they answered.

mod clients;
mod judge;
mod network;
mod operation;
#[cfg(test)]
mod tests;

use crate::sim::rng::Rng;
use anyhow::{Context, Result, bail, ensure};
use clients::Clients;
use network::{Conditions, Network};
use operation::{Operation, Outcome};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The time that the nodes may take to recover once the network is whole again.
const RECOVERY: Duration = Duration::from_secs(30);

/// The time between two states of the network, with `--partitions`.
const NEMESIS_EVERY: Duration = Duration::from_secs(4);

/// Violations that are printed; all are counted.
const SHOWN: usize = 20;

/// The configuration of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of nodes.
    pub nodes: u32,
    /// Decides requests, delays, losses and partitions.
    pub seed: u64,
    /// The time for which requests are made.
    pub lasts: Duration,
    /// The share of messages between nodes that is lost.
    pub loss: f64,
    /// The average delay of a message.
    pub delay: Duration,
    /// Cuts and heals the network all the time.
    pub partitions: bool,
    /// The folder that the history is written to.
    pub out: PathBuf,
    /// The program to start.
    pub binary: PathBuf,
}

/// Starts nodes, drives them, and judges what they answered.
///
/// # Errors
/// They broke a law, or could not be run.
pub fn run(options: &Options) -> Result<()> {
    println!("{} nodes, seed {}, {:?}", options.nodes, options.seed, options.lasts);
    let report = drive(options)?;
    let history = options.out.join("history.txt");
    write_history(&history, &report.operations)?;
    print_summary(&report);
    println!("  history: {}", history.display());
    let violations = judge::judge(&report.operations);
    for violation in violations.iter().take(SHOWN) {
        println!("VIOLATION {violation}");
    }
    ensure!(
        violations.is_empty(),
        "{} violations; run it again with --seed {}",
        violations.len(),
        options.seed
    );
    println!(
        "No acknowledged send was lost or is at two offsets; polls are in order and without gaps; committed offsets never went \
         back; no term had two leaders."
    );
    Ok(())
}

struct Report {
    operations: Vec<Operation>,
    carried: u64,
    lost: u64,
}

fn drive(options: &Options) -> Result<Report> {
    let mut rng = Rng::new(options.seed);
    let conditions = Conditions {
        loss: options.loss,
        delay: options.delay,
    };
    let mut network = Network::start(&options.binary, options.nodes, conditions, rng.fork())?;
    let mut clients = Clients::new(network.names().to_vec(), rng.fork());
    let began = Instant::now();
    let until = began + options.lasts;
    let mut nemesis_at = began + NEMESIS_EVERY;
    while Instant::now() < until {
        clients.make_requests(&mut network);
        if options.partitions && Instant::now() >= nemesis_at {
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
