//! A replicated key-value store: three members in three threads, channels for a network, and no disk (a log in memory
//! that counts as durable at once). `cargo run -p trimaran-raft --example kv`
//!
//! A client that waits is remembered with the term and the index of its entry: another leader may put another entry
//! there. It is answered when exactly that entry is applied, and its channel is closed when that can't be told any
//! more: the leadership is lost, or the entry was truncated. What it wrote may then be there or not, and it asks again.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use trimaran_raft::*;

type Store = BTreeMap<String, String>;
type Network = HashMap<NodeId, Sender<Request>>;

/// A request to a member's thread.
enum Request {
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
    /// Those that wait, by the index of their entry, with its term.
    waiting: BTreeMap<LogIndex, (Term, Sender<()>)>,
    network: Network,
    now: Instant,
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
            now: Instant::ZERO,
        }
    }

    fn run(mut self, inbox: Receiver<Request>) {
        let started = std::time::Instant::now();
        loop {
            self.now = Instant::ZERO + started.elapsed();
            let wait = self.group.deadline().map(|due| due.since(self.now));
            let request = inbox.recv_timeout(wait.unwrap_or(Duration::MAX));
            self.now = Instant::ZERO + started.elapsed();
            match request {
                Ok(request) => self.handle(request),
                Err(RecvTimeoutError::Timeout) => self.step(Input::Tick, None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Raft(from, message) => self.step(Input::Message(from, message), None),
            Request::Set(pair, answer) if self.group.is_serving() => {
                self.step(Input::Propose(vec![pair.into()]), Some(answer));
            }
            Request::Set(..) => {}
            Request::Look(answer) => drop(answer.send(self.store.clone())),
        }
    }

    /// One step, and everything that follows from it. `client` waits for what is proposed.
    fn step(&mut self, input: Input, mut client: Option<Sender<()>>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let (before, mut output) = (self.group.commit(), Output::default());
            self.group.step(self.now, input, &self.log, &mut output);
            let write = self.log.carry_out(&mut output); // A log on disk would write it there first.
            inputs.extend(write.map(|write| Input::Persisted(write.token)));
            if let (Some(Ok(proposed)), Some(client)) = (&output.proposed, client.take()) {
                self.waiting.insert(proposed.first, (proposed.term, client));
            }
            for (to, message) in output.messages {
                let _ = self.network[&to].send(Request::Raft(self.group.id(), message)); // It may be lost.
            }
            for event in output.events {
                self.heed(event);
            }
            if let Some(commit) = output.committed {
                self.apply(before.next(), commit);
                inputs.push(Input::Applied(commit));
            }
        }
    }

    /// Those whose entries may be replaced now wait in vain: their channels are closed.
    fn heed(&mut self, event: Event) {
        match event {
            Event::LeaderChanged { role, .. } if role != Role::Leader => self.waiting.clear(),
            Event::Truncated { from } => drop(self.waiting.split_off(&from)),
            _ => {}
        }
    }

    fn apply(&mut self, first: LogIndex, last: LogIndex) {
        for entry in self.log.entries(first, last) {
            if let Payload::Data(pair) = &entry.payload {
                let pair = String::from_utf8_lossy(pair);
                let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
                self.store.insert(key.into(), value.into());
            }
            if let Some((term, answer)) = self.waiting.remove(&entry.index)
                && term == entry.term
            {
                let _ = answer.send(()); // The client may have gone.
            }
        }
    }
}

/// Tells it to everyone, again and again, until as many as are asked for have answered.
fn ask<T>(network: &Network, answers: usize, told: impl Fn(Sender<T>) -> Request) -> Vec<T> {
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
        ask(&network, 1, |answer| Request::Set(pair.into(), answer));
    }
    // Followers learn a moment later what is committed.
    let stores = || ask(&network, 3, Request::Look);
    let same = std::iter::repeat_with(stores).find(|stores| stores.iter().all(|store| *store == stores[0]));
    println!("everyone has {:?}", same.expect("in the end")[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::TryRecvError;

    #[test]
    fn all_members_end_with_the_same_store() {
        main();
    }

    /// Three members in one thread, the first of which leads; the test says what time it is.
    struct Cluster {
        members: Vec<Member>,
        inboxes: Vec<Receiver<Request>>,
        /// What it sends and is sent is lost.
        cut_off: Option<NodeId>,
    }

    impl Cluster {
        fn new() -> Cluster {
            let (senders, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
            let network: Network = (1..).map(NodeId).zip(senders).collect();
            let member = |id| Member::new(NodeId(id), network.clone());
            let mut cluster = Cluster {
                members: (1..=3).map(member).collect(),
                inboxes,
                cut_off: None,
            };
            cluster.members[0].step(Input::Campaign, None);
            cluster.deliver();
            assert!(cluster.members[0].group.is_serving());
            cluster
        }

        /// Until nothing is on its way.
        fn deliver(&mut self) {
            while let Some((at, told)) = self.next() {
                let to = self.members[at].group.id();
                let is_lost = match &told {
                    Request::Raft(from, _) => self.cut_off.is_some_and(|cut_off| cut_off == *from || cut_off == to),
                    _ => false,
                };
                if !is_lost {
                    self.members[at].handle(told);
                }
            }
        }

        fn next(&self) -> Option<(usize, Request)> {
            let inboxes = self.inboxes.iter().enumerate();
            inboxes
                .into_iter()
                .find_map(|(at, inbox)| Some((at, inbox.try_recv().ok()?)))
        }

        fn set(&mut self, member: usize, pair: &str) -> Receiver<()> {
            let (answer, answered) = channel();
            self.members[member - 1].handle(Request::Set(pair.into(), answer));
            self.deliver();
            answered
        }

        fn pass(&mut self, member: usize, time: Duration) {
            let member = &mut self.members[member - 1];
            member.now = member.now + time;
            member.step(Input::Tick, None);
        }
    }

    #[test]
    fn what_another_leader_has_replaced_is_not_acknowledged() {
        let mut cluster = Cluster::new();
        assert_eq!(cluster.set(1, "colour=red").try_recv(), Ok(()));
        cluster.cut_off = Some(NodeId(1));
        let lost = cluster.set(1, "colour=lost");
        let also_lost = cluster.set(1, "shape=lost");
        assert_eq!(lost.try_recv(), Err(TryRecvError::Empty), "nobody has heard of it");
        cluster.pass(3, Duration::from_secs(1));
        cluster.pass(2, Duration::from_secs(1));
        cluster.deliver();
        let leader = 1
            + cluster.members[1..]
                .iter()
                .position(|member| member.group.is_serving())
                .expect("a leader")
            + 1;
        // It comes to the place of what is lost.
        assert_eq!(cluster.set(leader, "size=large").try_recv(), Ok(()));
        assert_eq!(cluster.set(leader, "weight=light").try_recv(), Ok(()));
        cluster.cut_off = None;
        // Until it looks for the first one again.
        for _ in 0..10 {
            cluster.pass(leader, Duration::from_millis(40));
            cluster.deliver();
        }
        assert_eq!(lost.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(also_lost.try_recv(), Err(TryRecvError::Disconnected));
        let pairs = [("colour", "red"), ("size", "large"), ("weight", "light")];
        let expected: Store = pairs.map(|(key, value)| (key.into(), value.into())).into();
        for member in &cluster.members {
            assert_eq!(member.store, expected);
        }
    }

    #[test]
    fn a_client_of_a_leader_that_is_cut_off_does_not_wait_for_ever() {
        let mut cluster = Cluster::new();
        cluster.cut_off = Some(NodeId(1));
        let answered = cluster.set(1, "colour=red");
        cluster.pass(1, Duration::from_secs(1));
        cluster.deliver();
        assert_eq!(answered.try_recv(), Err(TryRecvError::Disconnected));
    }
}
