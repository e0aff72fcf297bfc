//! The nodes' processes, and what lies between them.

use crate::sim::rng::Rng;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The time that a node may take for its first answer, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

const MILLION: u64 = 1_000_000;

/// A share of messages, as so many of a million.
fn lost_of_a_million(share: f64) -> u64 {
    (share * MILLION as f64) as u64
}

/// The faults of the network.
#[derive(Clone, Copy)]
pub(super) struct Conditions {
    /// The share of messages between nodes that is lost.
    pub(super) loss: f64,
    /// The average delay of a message.
    pub(super) delay: Duration,
}

struct Node {
    process: Child,
    /// Lines for its standard input; gone once it is to end.
    input: Option<Sender<String>>,
}

/// Something that a node wrote, or that it writes no more.
type FromNode = (usize, Option<String>);

pub(super) struct Network {
    names: Vec<String>,
    nodes: Vec<Node>,
    output: Receiver<FromNode>,
    /// On their way, in order of arrival.
    flying: BTreeMap<(Instant, u64), Value>,
    numbered: u64,
    conditions: Conditions,
    /// Ways that are cut.
    cut: BTreeSet<(usize, usize)>,
    rng: Rng,
    /// Messages between nodes that arrived.
    pub(super) carried: u64,
    /// Messages between nodes that didn't.
    pub(super) lost: u64,
}

impl Network {
    /// Starts the nodes and initializes them.
    pub(super) fn start(binary: &Path, count: u32, conditions: Conditions, rng: Rng) -> Result<Network> {
        let (sender, output) = channel();
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        let nodes = (0..names.len())
            .map(|number| spawn(binary, number, &sender))
            .collect::<Result<Vec<Node>>>()?;
        let mut network = Network {
            names,
            nodes,
            output,
            flying: BTreeMap::new(),
            numbered: 0,
            conditions,
            cut: BTreeSet::new(),
            rng,
            carried: 0,
            lost: 0,
        };
        network.init()?;
        Ok(network)
    }

    fn init(&mut self) -> Result<()> {
        for name in self.names.clone() {
            let body = json!({"type": "init", "msg_id": 0, "node_id": name, "node_ids": self.names});
            self.send(json!({"src": "c0", "dest": name, "body": body}));
        }
        let until = Instant::now() + PATIENCE;
        let mut waiting = self.names.len();
        while waiting > 0 {
            let Some(message) = self.next(until)? else {
                bail!("{waiting} nodes did not answer init")
            };
            if message["body"]["type"] != "init_ok" {
                bail!("a node answered init with {message}");
            }
            waiting -= 1;
        }
        Ok(())
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// A message begins its way.
    pub(super) fn send(&mut self, message: Value) {
        if let (Some(from), Some(to)) = (self.position(&message["src"]), self.position(&message["dest"])) {
            if self.cut.contains(&(from, to)) || self.rng.below(MILLION) < lost_of_a_million(self.conditions.loss) {
                self.lost += 1;
                return;
            }
            self.carried += 1;
        }
        let longest = u64::try_from(self.conditions.delay.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(2);
        let delay = Duration::from_micros(self.rng.below(longest.saturating_add(1)));
        self.numbered += 1;
        self.flying.insert((Instant::now() + delay, self.numbered), message);
    }

    /// The next message that arrives at a client until then.
    pub(super) fn next(&mut self, until: Instant) -> Result<Option<Value>> {
        loop {
            while let Some(entry) = self
                .flying
                .first_entry()
                .filter(|entry| entry.key().0 <= Instant::now())
            {
                let message = entry.remove();
                match self.position(&message["dest"]) {
                    Some(node) => self.deliver(node, &message)?,
                    None => return Ok(Some(message)),
                }
            }
            let due = self
                .flying
                .first_key_value()
                .map_or(until, |((at, _), _)| (*at).min(until));
            match self.output.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok((node, line)) => self.said(node, line)?,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("all nodes have ended"),
            }
        }
    }

    fn said(&mut self, node: usize, line: Option<String>) -> Result<()> {
        let name = &self.names[node];
        let Some(line) = line else {
            let status = self.nodes[node].process.wait()?;
            bail!("node {name} has ended without being told: {status}");
        };
        let message: Value =
            serde_json::from_str(&line).with_context(|| format!("node {name} wrote no JSON: {line}"))?;
        if message["src"] != **name {
            bail!("node {name} sent a message of {}", message["src"]);
        }
        self.send(message);
        Ok(())
    }

    fn deliver(&mut self, node: usize, message: &Value) -> Result<()> {
        let input = self.nodes[node].input.as_ref().context("the node was stopped")?;
        // A node that has ended is found by its output's end.
        let _ = input.send(message.to_string());
        Ok(())
    }

    fn position(&self, name: &Value) -> Option<usize> {
        self.names.iter().position(|known| name == known)
    }

    /// Another state of the network: whole, cut in two, one node cut off, or one way cut.
    pub(super) fn change_partition(&mut self) {
        self.cut.clear();
        let count = self.names.len();
        let one = self.rng.below(count as u64) as usize;
        let side: Vec<bool> = match self.rng.below(4) {
            0 => return println!("  the network is whole"),
            1 => (0..count).map(|node| node == one).collect(),
            2 => (0..count).map(|_| self.rng.below(2) == 0).collect(),
            _ => {
                let other = (one + 1) % count;
                self.cut.insert((one, other));
                return println!("  {} doesn't reach {}", self.names[one], self.names[other]);
            }
        };
        if side.iter().all(|on_it| *on_it == side[0]) {
            return println!("  the network is whole");
        }
        for from in 0..count {
            self.cut
                .extend((0..count).filter(|to| side[from] != side[*to]).map(|to| (from, to)));
        }
        let named = |wanted: bool| -> Vec<&str> {
            (0..count)
                .filter(|node| side[*node] == wanted)
                .map(|node| self.names[node].as_str())
                .collect()
        };
        println!(
            "  cut between [{}] and [{}]",
            named(true).join(" "),
            named(false).join(" ")
        );
    }

    /// From now on nothing is lost.
    pub(super) fn make_perfect(&mut self) {
        self.cut.clear();
        self.conditions.loss = 0.0;
    }

    /// Ends the nodes' input: they must end well, and soon.
    pub(super) fn stop(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.input = None;
        }
        let until = Instant::now() + PATIENCE;
        let mut running = self.nodes.len();
        while running > 0 {
            match self
                .output
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok((_, Some(_))) => {}
                Ok((_, None)) => running -= 1,
                Err(_) => bail!("{running} nodes don't end although their input has ended"),
            }
        }
        for (node, name) in self.nodes.iter_mut().zip(&self.names) {
            let status = node.process.wait()?;
            if !status.success() {
                bail!("node {name} ended with {status}");
            }
        }
        Ok(())
    }
}

impl Drop for Network {
    /// Whatever went wrong, no process stays.
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended already; that is as well.
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
    }
}

fn spawn(binary: &Path, number: usize, output: &Sender<FromNode>) -> Result<Node> {
    let mut process = Command::new(binary)
        .arg("node")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} can't be started", binary.display()))?;
    let stdin = process.stdin.take().context("a node has no standard input")?;
    let stdout = process.stdout.take().context("a node has no standard output")?;
    let (input, lines) = channel();
    thread::spawn(move || write_lines(stdin, &lines));
    let output = output.clone();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if output.send((number, Some(line))).is_err() {
                return;
            }
        }
        let _ = output.send((number, None)); // nobody waits for it any more if this fails
    });
    Ok(Node {
        process,
        input: Some(input),
    })
}

/// Runs in a separate thread: a node that doesn't read must not stop the others.
fn write_lines(mut stdin: ChildStdin, lines: &Receiver<String>) {
    for line in lines {
        if writeln!(stdin, "{line}").and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}
