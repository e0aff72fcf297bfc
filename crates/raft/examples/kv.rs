//! A replicated key-value store: three members in three threads, channels for a network, and no disk (a log in memory
//! that counts as durable at once). `cargo run -p trimaran-raft --example kv`

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use trimaran_raft::*;

type Store = BTreeMap<String, String>;

/// What a member's thread is told.
enum Told {
    Raft(NodeId, Message),
    /// Set a key; answered with the value before, once it is committed and applied. Only a leader takes it.
    Set(String, Sender<Option<String>>),
    /// What is in the store?
    Look(Sender<Store>),
}

struct Member {
    group: Group,
    log: MemoryLog,
    applied: LogIndex,
    store: Store,
    waiting: HashMap<LogIndex, Sender<Option<String>>>,
    network: HashMap<NodeId, Sender<Told>>,
    started: std::time::Instant,
}

impl Member {
    fn new(id: NodeId, network: HashMap<NodeId, Sender<Told>>) -> Member {
        let heartbeats = Heartbeats::Own(Duration::from_millis(30));
        let tuning = Tuning {
            heartbeats,
            ..Tuning::default()
        };
        let configuration = Configuration::of_voters([1, 2, 3].map(NodeId));
        let log = MemoryLog::new();
        Member {
            group: Group::new(
                Config {
                    id,
                    configuration,
                    tuning,
                },
                Recovered::default(),
                Instant::ZERO,
                &log,
            ),
            log,
            applied: LogIndex::ZERO,
            store: Store::new(),
            waiting: HashMap::new(),
            network,
            started: std::time::Instant::now(),
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }

    /// Until nobody can tell it anything any more.
    fn run(mut self, inbox: Receiver<Told>) {
        loop {
            let due = self.group.deadline().unwrap_or(self.now() + Duration::from_secs(1));
            match inbox.recv_timeout(due.since(self.now())) {
                Ok(Told::Raft(from, message)) => self.step(Input::Message(from, message)),
                Ok(Told::Set(pair, answer)) if self.group.is_serving() => {
                    self.waiting.insert(self.log.last_index().next(), answer);
                    self.step(Input::Propose(vec![pair.into()]));
                }
                Ok(Told::Set(..)) => {}
                Ok(Told::Look(answer)) => drop(answer.send(self.store.clone())),
                Err(RecvTimeoutError::Timeout) => self.step(Input::Tick),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One step, and everything that follows from it.
    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut output = Output::default();
            self.group.step(self.now(), input, &self.log, &mut output);
            if let Some(persist) = output.persist {
                self.log.apply(&persist);
                inputs.push(Input::Persisted(persist.token));
            }
            for plan in output.appends {
                let entries = self.log.entries(plan.first, plan.last).to_vec();
                output.messages.push((plan.to, plan.with(entries)));
            }
            for (to, message) in output.messages {
                let _ = self.network[&to].send(Told::Raft(self.group.id(), message)); // may be lost
            }
            if output.committed.is_some() {
                self.apply();
                inputs.push(Input::Applied(self.applied));
            }
        }
    }

    fn apply(&mut self) {
        for entry in self.log.entries(self.applied.next(), self.group.commit()) {
            self.applied = entry.index;
            let Payload::Data(pair) = &entry.payload else { continue };
            let pair = String::from_utf8_lossy(pair);
            let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
            let before = self.store.insert(key.into(), value.into());
            if let Some(answer) = self.waiting.remove(&entry.index) {
                let _ = answer.send(before);
            }
        }
    }
}

fn main() {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
    let network: HashMap<_, _> = (1..).map(NodeId).zip(senders).collect();
    for (id, inbox) in (1..).map(NodeId).zip(inboxes) {
        let member = Member::new(id, network.clone());
        thread::spawn(move || member.run(inbox));
    }
    for pair in ["colour=red", "shape=round", "colour=blue"] {
        // Ask everyone until the one who leads has answered. (It may be asked twice: to set a key twice does no harm.)
        let (answer, answered) = channel();
        let before = loop {
            network
                .values()
                .for_each(|member| drop(member.send(Told::Set(pair.into(), answer.clone()))));
            if let Ok(before) = answered.recv_timeout(Duration::from_millis(200)) {
                break before;
            }
        };
        println!("{pair}, was {before:?}");
    }
    // Followers learn a moment later what is committed.
    loop {
        let (answer, answers) = channel();
        network
            .values()
            .for_each(|member| drop(member.send(Told::Look(answer.clone()))));
        let stores: Vec<Store> = answers.iter().take(network.len()).collect();
        if stores.iter().all(|store| *store == stores[0]) {
            return println!("everyone has {:?}", stores[0]);
        }
    }
}
