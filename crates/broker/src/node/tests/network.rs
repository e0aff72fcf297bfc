//! Nodes in one thread, on virtual time.

use super::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// One way between two nodes, in microseconds.
const LATENCY: Duration = Duration::from_millis(5);

pub(super) struct Network {
    nodes: BTreeMap<String, Node>,
    now: Instant,
    /// In order of delivery.
    flying: BTreeMap<(Instant, u64), String>,
    sent: u64,
    asked: u64,
    /// Answers to the client, by the number of the question.
    answers: BTreeMap<u64, Value>,
    cut: BTreeSet<String>,
}

impl Network {
    pub(super) fn new(count: usize) -> Network {
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        let nodes = names
            .iter()
            .zip(0..)
            .map(|(name, seed)| (name.clone(), Node::new(seed)))
            .collect();
        let mut network = Network {
            nodes,
            now: Instant(0),
            flying: BTreeMap::new(),
            sent: 0,
            asked: 0,
            answers: BTreeMap::new(),
            cut: BTreeSet::new(),
        };
        for name in &names {
            let init = json!({"type": "init", "node_id": name, "node_ids": names});
            assert_eq!(network.ask(name, init, SECOND)["type"], "init_ok");
        }
        network
    }

    pub(super) fn name(&self, number: usize) -> String {
        format!("n{}", number + 1)
    }

    /// Clients still reach it; other nodes don't.
    pub(super) fn cut(&mut self, node: &str) {
        self.cut.insert(node.to_owned());
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Asks a node, and waits for the answer.
    pub(super) fn ask(&mut self, node: &str, mut body: Value, patience: Duration) -> Value {
        self.asked += 1;
        let number = self.asked;
        body["msg_id"] = number.into();
        self.send(json!({"src": "c1", "dest": node, "body": body}).to_string());
        let until = self.now + patience;
        while !self.answers.contains_key(&number) {
            assert!(self.step(until), "no answer to {body}");
        }
        self.answers.remove(&number).unwrap()
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
        self.now = until;
    }

    fn send(&mut self, line: String) {
        self.sent += 1;
        self.flying.insert((self.now + LATENCY, self.sent), line);
    }

    /// The next thing that happens, if it happens until then.
    fn step(&mut self, until: Instant) -> bool {
        let timer = self
            .nodes
            .iter()
            .filter_map(|(name, node)| Some((node.deadline()?, name.clone())))
            .min();
        let message = self.flying.first_key_value().map(|(key, _)| *key);
        match (message, timer) {
            (Some(key), timer) if key.0 <= until && timer.as_ref().is_none_or(|(at, _)| key.0 <= *at) => {
                self.now = self.now.max(key.0);
                let line = self.flying.remove(&key).unwrap();
                self.deliver(&line);
            }
            (_, Some((at, name))) if at <= until => {
                // A moment later than the deadline says, as real clocks are.
                self.now = self.now.max(at) + Duration::from_micros(50);
                self.with(&name, |node, now, out| node.tick(now, out).unwrap());
            }
            _ => return false,
        }
        true
    }

    fn deliver(&mut self, line: &str) {
        let message: Value = serde_json::from_str(line).unwrap();
        let (src, dest) = (message["src"].as_str().unwrap(), message["dest"].as_str().unwrap());
        let between_nodes = self.nodes.contains_key(src) && self.nodes.contains_key(dest);
        if between_nodes && (self.cut.contains(src) || self.cut.contains(dest)) {
            return;
        }
        if self.nodes.contains_key(dest) {
            self.with(dest, |node, now, out| node.line(now, line.as_bytes(), out).unwrap());
        } else if let Some(number) = message["body"]["in_reply_to"].as_u64() {
            self.answers.insert(number, message["body"].clone());
        }
    }

    fn with(&mut self, name: &str, act: impl FnOnce(&mut Node, Now, &mut Vec<String>)) {
        let now = Now {
            at: self.now,
            wall_ms: 1_700_000_000_000 + (self.now.0 / 1000) as i64,
        };
        let mut out = Vec::new();
        act(self.nodes.get_mut(name).unwrap(), now, &mut out);
        out.into_iter().for_each(|line| self.send(line));
    }
}
