//! Drives a core that does no I/O: three brokers with a member of every group each, in one thread.
//!
//! The same code drives both such cores, so that what it costs itself is the same for both. Brokers take turns; in its turn
//! a broker takes all that has arrived for it, in order, then proposes in the groups that it leads, then does what
//! its members ask for. The leaderships are spread evenly.

use crate::case::{Case, Contender, HEARTBEAT, MEMBERS, Measured, Pace, processor_time};
use std::mem;
use std::ops::Range;
use std::time::Duration;

/// One member of one group: a core and its log in memory.
pub trait Node {
    /// What members say to each other.
    type Message;
    /// What the members of all groups share.
    type Shared;

    /// Stands for election.
    fn campaign(&mut self, shared: &mut Self::Shared);
    /// Proposes payloads of these numbers.
    fn propose(&mut self, numbers: Range<u64>, shared: &mut Self::Shared);
    /// Takes a message.
    fn receive(&mut self, from: usize, message: Self::Message, shared: &mut Self::Shared);
    /// Time has passed.
    fn tick(&mut self, now: Duration, shared: &mut Self::Shared);
    /// Does what it asks for: writes, sends and applies, until there is nothing more.
    fn work(&mut self, shared: &mut Self::Shared);
    /// Has it tell the others what is committed, where it was told to save that message.
    fn tell_commit(&mut self, shared: &mut Self::Shared);
    /// May propose.
    fn leads(&self) -> bool;
    /// What it has applied since it started.
    fn applied(&self) -> Applied;
    /// Messages to be sent, each with the place of its receiver. The driver empties it.
    fn outbox(shared: &mut Self::Shared) -> &mut Vec<(usize, Self::Message)>;
    /// What cores were told since the last call.
    fn take_steps(shared: &mut Self::Shared) -> u64;
}

/// What a state machine saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// How many payloads.
    pub count: u64,
    /// The sum of their numbers.
    pub sum: u64,
}

impl Applied {
    pub fn add(&mut self, number: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(number);
    }
}

struct Letter<M> {
    group: u32,
    from: u8,
    message: M,
}

/// All groups, and what is on its way between their members.
pub struct Cluster<N: Node> {
    /// By broker, then by group.
    nodes: [Vec<N>; MEMBERS],
    inboxes: [Vec<Letter<N::Message>>; MEMBERS],
    shared: N::Shared,
    pace: Pace,
    batch: u64,
    window: u64,
    /// Numbers proposed so far, by group.
    proposed: Vec<u64>,
    /// Groups of the broker whose turn it is that are yet to be looked at; `is_due` says which those are.
    due: Vec<u32>,
    is_due: Vec<bool>,
    now: Duration,
}

impl<N: Node> Cluster<N> {
    /// Groups that have elected their leaders.
    pub fn new(case: &Case, shared: N::Shared, node: impl Fn(usize, usize) -> N) -> Cluster<N> {
        let mut cluster = Cluster {
            nodes: std::array::from_fn(|broker| (0..case.groups).map(|group| node(group, broker)).collect()),
            inboxes: Default::default(),
            shared,
            pace: case.pace,
            batch: case.batch as u64,
            window: case.window as u64,
            proposed: vec![0; case.groups],
            due: Vec::new(),
            is_due: vec![false; case.groups],
            now: Duration::ZERO,
        };
        cluster.elect();
        cluster
    }

    /// Which broker leads a group.
    fn leader_of(group: usize) -> usize {
        group % MEMBERS
    }

    fn elect(&mut self) {
        for group in 0..self.proposed.len() {
            let broker = Self::leader_of(group);
            self.nodes[broker][group].campaign(&mut self.shared);
            self.told(broker, group);
            self.catch_up(broker);
        }
        self.settle();
        let leads = |group: usize| self.nodes[Self::leader_of(group)][group].leads();
        assert!((0..self.proposed.len()).all(leads), "every group has its leader");
    }

    /// Goes on until nothing is on its way.
    fn settle(&mut self) {
        while self.inboxes.iter().any(|inbox| !inbox.is_empty()) {
            self.round(|_| 0);
        }
    }

    /// Every broker has its turn. `target`: how many proposals a group is to have had.
    fn round(&mut self, target: impl Fn(usize) -> u64) {
        for broker in 0..MEMBERS {
            self.receive(broker);
            self.propose(broker, &target);
            self.catch_up(broker);
        }
    }

    fn receive(&mut self, broker: usize) {
        let mut inbox = mem::take(&mut self.inboxes[broker]);
        for Letter { group, from, message } in inbox.drain(..) {
            let group = group as usize;
            self.nodes[broker][group].receive(usize::from(from), message, &mut self.shared);
            self.told(broker, group);
        }
        // Nobody sends to itself: nothing has come meanwhile.
        self.inboxes[broker] = inbox;
    }

    fn propose(&mut self, broker: usize, target: &impl Fn(usize) -> u64) {
        for group in (broker..self.proposed.len()).step_by(MEMBERS) {
            let target = target(group);
            while self.proposed[group] < target && self.has_room(broker, group) {
                let first = self.proposed[group];
                let end = (first + self.batch).min(target);
                self.nodes[broker][group].propose(first..end, &mut self.shared);
                self.proposed[group] = end;
                self.told(broker, group);
            }
        }
    }

    fn has_room(&self, broker: usize, group: usize) -> bool {
        let applied = match self.pace {
            Pace::Leader => self.nodes[broker][group].applied().count,
            Pace::All => self
                .nodes
                .iter()
                .map(|nodes| nodes[group].applied().count)
                .min()
                .unwrap_or(0),
        };
        self.proposed[group] - applied + self.batch <= self.window
    }

    /// A member was told something: it is asked what to do when it has been told all that has arrived.
    fn told(&mut self, broker: usize, group: usize) {
        self.post(broker, group);
        if !mem::replace(&mut self.is_due[group], true) {
            self.due.push(group as u32);
        }
    }

    fn catch_up(&mut self, broker: usize) {
        let mut due = mem::take(&mut self.due);
        for group in due.drain(..) {
            self.is_due[group as usize] = false;
            self.work(broker, group as usize);
        }
        self.due = due;
    }

    fn work(&mut self, broker: usize, group: usize) {
        self.nodes[broker][group].work(&mut self.shared);
        self.post(broker, group);
    }

    fn post(&mut self, broker: usize, group: usize) {
        // To drain nothing takes longer than to look.
        if N::outbox(&mut self.shared).is_empty() {
            return;
        }
        for (to, message) in N::outbox(&mut self.shared).drain(..) {
            self.inboxes[to].push(Letter {
                group: group as u32,
                from: broker as u8,
                message,
            });
        }
    }

    fn is_done(&self, target: u64) -> bool {
        let has_all = |node: &N| node.applied().count == target;
        self.nodes.iter().all(|nodes| nodes.iter().all(has_all))
    }

    fn check(&self) {
        for nodes in &self.nodes {
            for (node, &proposed) in nodes.iter().zip(&self.proposed) {
                let sum = (0..proposed).fold(0, u64::wrapping_add);
                assert_eq!(
                    node.applied(),
                    Applied { count: proposed, sum },
                    "every member applies every proposal once"
                );
            }
        }
    }

    /// A second of virtual time in which nothing is proposed; how long it took.
    pub fn idle_second(&mut self) -> Duration {
        let began = processor_time();
        for _ in 0..(1000 / HEARTBEAT.as_millis()) {
            self.now += HEARTBEAT;
            for broker in 0..MEMBERS {
                for group in 0..self.proposed.len() {
                    self.nodes[broker][group].tick(self.now, &mut self.shared);
                    self.work(broker, group);
                }
            }
            self.settle();
        }
        processor_time() - began
    }
}

impl<N: Node> Contender for Cluster<N> {
    fn run(&mut self, per_group: u64) -> Measured {
        let target = self.proposed[0] + per_group;
        N::take_steps(&mut self.shared);
        let began = processor_time();
        while self.proposed.iter().any(|proposed| *proposed < target) {
            self.round(|_| target);
        }
        self.settle();
        if !self.is_done(target) {
            for group in 0..self.proposed.len() {
                let broker = Self::leader_of(group);
                self.nodes[broker][group].tell_commit(&mut self.shared);
                self.work(broker, group);
            }
            self.settle();
        }
        let took = processor_time() - began;
        assert!(self.is_done(target), "all members have applied all that was proposed");
        self.check();
        Measured {
            proposals: per_group * self.proposed.len() as u64,
            took,
            steps: Some(N::take_steps(&mut self.shared)),
        }
    }

    fn groups(&self) -> usize {
        self.proposed.len()
    }
}
