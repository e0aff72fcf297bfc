//! A replicated key-value store: three members in three threads, channels for a network, and no disk (a log in memory
//! that counts as durable at once). `cargo run -p trimaran-raft --example kv`

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use trimaran_raft::*;

type Store = BTreeMap<String, String>;
type Network = HashMap<NodeId, Sender<Told>>;

/// What a member's thread is told.
enum Told {
    Raft(NodeId, Message),
    /// Set a key ("key=value"), and answer once that is committed and applied. Only a leader does.
    Set(String, Sender<()>),
    /// What is in the store?
    Look(Sender<Store>),
}

struct Member {
    group: Group,
    log: MemoryLog,
    store: Store,
    /// Who waits for which entry.
    waiting: BTreeMap<LogIndex, Sender<()>>,
    network: Network,
    started: std::time::Instant,
}

impl Member {
    fn new(id: NodeId, network: Network) -> Member {
        let (config, log) = (Config::standalone(id, [1, 2, 3].map(NodeId)), MemoryLog::new());
        Member {
            group: Group::new(config, Recovered::default(), Instant::ZERO, &log),
            log,
            store: Store::new(),
            waiting: BTreeMap::new(),
            network,
            started: std::time::Instant::now(),
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }

    fn run(mut self, inbox: Receiver<Told>) {
        loop {
            let wait = self.group.deadline().map(|due| due.since(self.now()));
            match inbox.recv_timeout(wait.unwrap_or(Duration::MAX)) {
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
            let (before, mut output) = (self.group.commit(), Output::default());
            self.group.step(self.now(), input, &self.log, &mut output);
            inputs.extend(self.log.carry_out(&mut output).map(Input::Persisted));
            for (to, message) in output.messages {
                let _ = self.network[&to].send(Told::Raft(self.group.id(), message)); // It may be lost.
            }
            if let Some(commit) = output.committed {
                self.apply(before.next(), commit);
                inputs.push(Input::Applied(commit));
            }
        }
    }

    fn apply(&mut self, first: LogIndex, last: LogIndex) {
        for entry in self.log.entries(first, last) {
            let Payload::Data(pair) = &entry.payload else { continue };
            let pair = String::from_utf8_lossy(pair);
            let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
            self.store.insert(key.into(), value.into());
            self.waiting.remove(&entry.index).map(|answer| answer.send(()));
        }
    }
}

/// Tells it to everyone, again and again, until as many as are asked for have answered.
fn ask<T>(network: &Network, answers: usize, told: impl Fn(Sender<T>) -> Told) -> Vec<T> {
    loop {
        let (answer, answered) = channel();
        network
            .values()
            .for_each(|member| drop(member.send(told(answer.clone()))));
        let soon = || answered.recv_timeout(Duration::from_millis(200)).ok();
        let came: Vec<T> = std::iter::from_fn(soon).take(answers).collect();
        if came.len() == answers {
            return came;
        }
    }
}

fn main() {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
    let network: Network = (1..).map(NodeId).zip(senders).collect();
    for (id, inbox) in (1..).map(NodeId).zip(inboxes) {
        let member = Member::new(id, network.clone());
        thread::spawn(move || member.run(inbox));
    }
    for pair in ["colour=red", "shape=round", "colour=blue"] {
        ask(&network, 1, |answer| Told::Set(pair.into(), answer));
    }
    // Followers learn a moment later what is committed.
    let stores = || ask(&network, 3, Told::Look);
    let same = std::iter::repeat_with(stores).find(|stores| stores.iter().all(|store| *store == stores[0]));
    println!("everyone has {:?}", same.expect("in the end")[0]);
}

#[test]
fn all_members_end_with_the_same_store() {
    main();
}
