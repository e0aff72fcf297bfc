//! A cluster on this machine: started, watched, hurt and stopped.

mod cli;
mod local;
mod plan;
mod process;

use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
pub(crate) use cli::Cli;
pub(crate) use local::{Local, Started, delete};
pub(crate) use plan::{Plan, Purpose};
use process::State;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The topic that `up` tries the cluster with.
const TRIAL_TOPIC: &str = "hello";

/// Lines of a log that are shown.
const LOG_LINES: usize = 40;

/// How long a failover on request may take; the broker itself gives up earlier.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(15);

/// A cluster on this machine, under `target/cluster/`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the release binary, starts the brokers, tries the cluster, and leaves it running.
    Up(Up),
    /// Stops all brokers; they hand over their leaderships and keep their data.
    Down,
    /// Says which brokers run, and who leads what.
    Status,
    /// Shows where the logs are, or the end of one broker's log.
    Logs {
        /// The broker's number.
        broker: Option<u16>,
    },
    /// Kills a broker's process (SIGKILL), as a crash would.
    Kill {
        /// The broker's number.
        broker: u16,
    },
    /// Pauses a broker's process (SIGSTOP): alive, but silent.
    Pause {
        /// The broker's number.
        broker: u16,
    },
    /// Lets a paused broker go on (SIGCONT).
    Resume {
        /// The broker's number.
        broker: u16,
    },
    /// Stops a broker if it runs, and starts it again with its data.
    Restart {
        /// The broker's number.
        broker: u16,
    },
    /// Asks the cluster to make another broker lead a partition, and says how long that took.
    Failover {
        /// The topic.
        topic: String,
        /// The partition's number.
        partition: u32,
    },
}

/// `cluster up`.
#[derive(Args)]
struct Up {
    /// How many brokers; 3 for a new cluster, and those that there are for one that exists.
    #[arg(long, value_name = "N")]
    brokers: Option<u16>,
    /// The first broker's port for clients; the others follow it. Peers have theirs a hundred above, administration two
    /// hundred. 9092 for a new cluster.
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// Stops what runs, deletes its data, and starts over.
    #[arg(long)]
    fresh: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let folder = workspace.target.join("cluster");
    match arguments.command {
        Command::Up(up) => start(&workspace, &folder, &up),
        Command::Down => existing(&workspace, &folder)?.down(),
        Command::Status => status(&existing(&workspace, &folder)?),
        Command::Logs { broker } => logs(&existing(&workspace, &folder)?, broker),
        Command::Kill { broker } => existing(&workspace, &folder)?.kill(broker),
        Command::Pause { broker } => existing(&workspace, &folder)?.pause(broker),
        Command::Resume { broker } => existing(&workspace, &folder)?.resume(broker),
        Command::Restart { broker } => restart(&existing(&workspace, &folder)?, broker),
        Command::Failover { topic, partition } => failover(&existing(&workspace, &folder)?, &topic, partition),
    }
}

fn existing(workspace: &Workspace, folder: &Path) -> Result<Local> {
    let plan = Plan::read(folder)?.with_context(|| {
        format!(
            "there is no cluster under {}; `cargo xtask cluster up` starts one",
            folder.display()
        )
    })?;
    Ok(Local::new(folder, plan, workspace.release("trimaran")))
}

/// `up`: a new cluster, or the one that exists.
fn start(workspace: &Workspace, folder: &Path, up: &Up) -> Result<()> {
    if up.fresh {
        return start_fresh(workspace, folder, up);
    }
    match Plan::read(folder)? {
        Some(plan) => start_existing(workspace, folder, plan, up),
        None if local::holds_data(folder) => bail!(
            "{} holds a broker's data, but no cluster.json that says of which cluster. Move it away if you need it, or delete \
             it with `cargo xtask cluster up --fresh`",
            folder.display()
        ),
        None => create(workspace, folder, up),
    }
}

/// `up --fresh`. What there is is deleted only once its successor is built.
fn start_fresh(workspace: &Workspace, folder: &Path, up: &Up) -> Result<()> {
    let plan = new_plan(up)?;
    let binary = workspace.build_broker()?;
    if let Ok(Some(old)) = Plan::read(folder) {
        Local::new(folder, old, binary.clone()).down()?;
    }
    plan.check_ports(plan.ids())?;
    delete(folder)?;
    plan.write(folder)?;
    bring_up(&Local::new(folder, plan, binary))
}

/// `up` where nothing is.
fn create(workspace: &Workspace, folder: &Path, up: &Up) -> Result<()> {
    let plan = new_plan(up)?;
    plan.check_ports(plan.ids())?;
    let binary = workspace.build_broker()?;
    plan.write(folder)?;
    bring_up(&Local::new(folder, plan, binary))
}

fn new_plan(up: &Up) -> Result<Plan> {
    Plan::new(new_cluster_id()?, up.brokers.unwrap_or(3), up.base_port.unwrap_or(9092))
}

/// Starts what doesn't run.
fn start_existing(workspace: &Workspace, folder: &Path, plan: Plan, up: &Up) -> Result<()> {
    check_same(&plan, up)?;
    let local = Local::new(folder, plan, workspace.release("trimaran"));
    let gone: Vec<u16> = local.in_state(State::Gone)?;
    let paused: Vec<u16> = local.in_state(State::Paused)?;
    if !paused.is_empty() {
        bail!(
            "broker {} is paused; `cargo xtask cluster resume {}` lets it go on",
            paused[0],
            paused[0]
        );
    }
    if gone.is_empty() {
        println!("The cluster is up already.");
        local.wait_ready(local.plan.ids())?;
        return describe(&local);
    }
    local.plan.check_ports(gone.iter().copied())?;
    let binary = workspace.build_broker()?;
    // An older version may have written other keys.
    local.plan.write(folder)?;
    bring_up(&Local::new(folder, local.plan, binary))
}

/// Starts what doesn't run, tries it, and says what there is.
fn bring_up(local: &Local) -> Result<()> {
    for broker in local.in_state(State::Gone)? {
        let Started { pid, .. } = local.start(broker)?;
        println!("broker {broker}: started, process {pid}");
    }
    local.wait_ready(local.plan.ids())?;
    println!("All {} answer that they are ready.", local.plan.brokers);
    try_out(local)?;
    describe(local)
}

/// Options of `up` that contradict the cluster that is there.
fn check_same(plan: &Plan, up: &Up) -> Result<()> {
    if let Some(brokers) = up.brokers.filter(|brokers| *brokers != plan.brokers) {
        bail!(
            "the cluster has {} brokers, not {brokers}; leave --brokers out to start it as it is, or begin anew (and lose its \
             data) with --fresh",
            plan.brokers
        );
    }
    if let Some(port) = up.base_port.filter(|port| *port != plan.base_port) {
        bail!(
            "the cluster's ports begin at {}, not {port}; leave --base-port out to start it as it is, or begin anew (and lose \
             its data) with --fresh",
            plan.base_port
        );
    }
    Ok(())
}

/// A name that no earlier cluster of this folder had.
pub(crate) fn new_cluster_id() -> Result<String> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    Ok(format!("local-{}", since.as_millis()))
}

/// A record through the cluster and back.
fn try_out(local: &Local) -> Result<()> {
    let cli = local.cli();
    let replicas = local.plan.brokers.min(3);
    cli.create_topic(TRIAL_TOPIC, local.plan.brokers, replicas)?;
    let record = format!("hello from {}", new_cluster_id()?);
    cli.produce(TRIAL_TOPIC, &record)?;
    let records = cli.consume(TRIAL_TOPIC)?;
    if !records.lines().any(|line| line.contains(&record)) {
        bail!(
            "the record {record:?} was acknowledged by topic `{TRIAL_TOPIC}`, but not among what was read back:\n{records}"
        );
    }
    println!("Topic `{TRIAL_TOPIC}` ({replicas} replicas) acknowledged a record and gave it back.");
    Ok(())
}

/// What one needs to know to use it.
fn describe(local: &Local) -> Result<()> {
    let bootstrap = local.plan.bootstrap();
    println!("\nBootstrap addresses: {bootstrap}");
    println!(
        "Logs:                {}",
        local.folder.join("broker-*/broker.log").display()
    );
    println!("\nWho leads what:");
    let cli = local.cli();
    cli.show_status()?;
    cli.show_topic(TRIAL_TOPIC)?;
    println!("\nTry next:");
    println!("  echo 'a record' | {}", cli.shown(&["produce", TRIAL_TOPIC]));
    println!("  {}", cli.shown(&["consume", TRIAL_TOPIC, "--from-beginning"]));
    println!("  cargo xtask cluster failover {TRIAL_TOPIC} 0");
    Ok(())
}

fn status(local: &Local) -> Result<()> {
    let mut runs = false;
    for broker in local.plan.ids() {
        let (state, ready) = (local.state(broker)?, local.is_ready(broker));
        runs |= state == State::Running;
        let words = match (state, ready) {
            (State::Running, true) => "ready",
            (State::Running, false) => "running, not ready",
            (State::Paused, _) => "paused",
            (State::Gone, _) => "not running",
        };
        let pid = local.pid(broker)?.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let client = local.plan.address(broker, Purpose::Client);
        let admin = local.plan.address(broker, Purpose::Admin);
        println!("broker {broker}  {words:<18}  process {pid:<8}  clients {client}  administration http://{admin}");
    }
    if runs {
        println!();
        if !local.cli().show_status()? {
            println!("`cargo xtask cluster restart N` starts a broker again.");
        }
    } else {
        println!("\nNo broker runs, so that none can say who leads what; `cargo xtask cluster up` starts them.");
    }
    Ok(())
}

fn logs(local: &Local, broker: Option<u16>) -> Result<()> {
    match broker {
        None => {
            for broker in local.plan.ids() {
                println!("{}", local.home(broker)?.log.display());
            }
            Ok(())
        }
        Some(broker) => {
            let log = local.home(broker)?.log;
            print!("{}", last_lines(&log, LOG_LINES)?);
            println!("-- the end of {}; `tail -F` follows it", log.display());
            Ok(())
        }
    }
}

/// The end of a log.
pub(crate) fn last_lines(log: &Path, count: usize) -> Result<String> {
    let file = File::open(log).with_context(|| format!("can't read {}", log.display()))?;
    let mut last = VecDeque::new();
    for line in BufReader::new(file).split(b'\n') {
        if last.len() == count {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(&line?).into_owned() + "\n");
    }
    Ok(last.into_iter().collect())
}

fn restart(local: &Local, broker: u16) -> Result<()> {
    local.stop(broker)?;
    local.plan.check_ports(std::iter::once(broker))?;
    let Started { pid, .. } = local.start(broker)?;
    local.wait_ready(std::iter::once(broker))?;
    println!("broker {broker}: ready, process {pid}");
    Ok(())
}

fn failover(local: &Local, topic: &str, partition: u32) -> Result<()> {
    let broker = local
        .plan
        .ids()
        .find(|broker| local.is_ready(*broker))
        .context("no broker is ready; `cargo xtask cluster status` says more")?;
    let admin = local.plan.address(broker, Purpose::Admin);
    let ask = |request| rpc(admin, &request);
    let before = ask(serde_json::json!({
        "type": "partition_leader", "msg_id": 1, "topic": topic, "partition": partition,
    }))?;
    let leader = before["leader"]
        .as_str()
        .context("the answer names no leader")?
        .to_owned();
    let after = ask(serde_json::json!({
        "type": "partition_failover", "msg_id": 2, "topic": topic, "partition": partition, "failed_leader": leader,
    }))?;
    let new_leader = after["new_leader"].as_str().context("the answer names no new leader")?;
    println!(
        "{topic}/{partition}: from {leader} (term {}) to {new_leader} (term {}) in {} ms",
        before["term"], after["new_term"], after["failover_ms"]
    );
    Ok(())
}

/// A JSON request to a broker's administration port; an error of the broker's becomes ours.
fn rpc(admin: std::net::SocketAddr, request: &serde_json::Value) -> Result<serde_json::Value> {
    let answer = crate::http::post_json(admin, "/rpc", request, FAILOVER_DEADLINE)?;
    if answer["type"] == "error" {
        bail!(
            "the cluster answers: {}",
            answer["text"].as_str().unwrap_or("an error without a text")
        );
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let file = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        std::fs::write(&file, "one\ntwo\nthree").unwrap();
        assert_eq!(last_lines(&file, 2).unwrap(), "two\nthree\n");
        assert_eq!(last_lines(&file, 9).unwrap(), "one\ntwo\nthree\n");
        std::fs::remove_file(&file).unwrap();
        assert!(last_lines(&file, 2).is_err());
    }

    #[test]
    fn options_that_contradict_the_cluster_are_refused() {
        let plan = Plan::new("local-1".to_owned(), 3, 9092).unwrap();
        let up = |brokers, base_port| Up {
            brokers,
            base_port,
            fresh: false,
        };
        assert!(check_same(&plan, &up(None, None)).is_ok());
        assert!(check_same(&plan, &up(Some(3), Some(9092))).is_ok());
        assert!(
            check_same(&plan, &up(Some(4), None))
                .unwrap_err()
                .to_string()
                .contains("--fresh")
        );
        assert!(
            check_same(&plan, &up(None, Some(9093)))
                .unwrap_err()
                .to_string()
                .contains("--fresh")
        );
    }
}
