//! What a driver builds around the core, on members in one thread and on virtual time:
//!
//! - **forwarding**: a member that does not lead sends a client's command to the leader, and passes the answer on;
//! - **reads at followers**: a follower asks the leader from which index on a read sees everything that was
//!   acknowledged before it (`Input::Read`), waits until it has applied that, and answers from its own state;
//! - **addresses of members**: an address is replicated like any other command, and committed before the member is
//!   added, so that every later leader can reach it;
//! - **snapshots** of the state, which carry the addresses too.
//!
//! `cargo run -p trimaran-raft --example patterns`

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use trimaran_raft::{
    Config, Configuration, Event, Group, Heartbeats, Input, Instant, LogIndex, LogView, MemoryLog, Message, NodeId,
    Output, Payload, ProposeError, Proposed, ReadId, Recovered, Role, Snapshot, TermAt, Tuning,
};

/// Names a client's request at the member that it came to.
type Ticket = u64;

/// A message from one member to another.
#[derive(Debug)]
enum Packet {
    Raft(Message),
    /// A client's command. Only a leader takes it: nobody forwards it once more, so it can't go round in circles.
    Propose(Ticket, String),
    /// From which index on does a read see everything?
    ReadIndex(Ticket),
    /// The answer to a proposal or a read: the index, or none where the receiver should ask again.
    Answer(Ticket, Option<LogIndex>),
}

/// The replicated state: pairs that clients set, and the addresses of members.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    pairs: BTreeMap<String, String>,
    addresses: BTreeMap<u64, String>,
}

impl State {
    /// `set KEY VALUE` or `address NODE ADDRESS`.
    fn apply(&mut self, command: &str) {
        match command.split(' ').collect::<Vec<_>>()[..] {
            ["set", key, value] => drop(self.pairs.insert(key.into(), value.into())),
            ["address", node, address] => {
                if let Ok(node) = node.parse() {
                    self.addresses.insert(node, address.into());
                }
            }
            _ => {}
        }
    }

    /// The commands that lead to it.
    fn snapshot(&self) -> String {
        let pairs = self.pairs.iter().map(|(key, value)| format!("set {key} {value}\n"));
        let addresses = self.addresses.iter().map(|(node, at)| format!("address {node} {at}\n"));
        pairs.chain(addresses).collect()
    }

    fn restore(snapshot: &str) -> State {
        let mut state = State::default();
        snapshot.lines().for_each(|command| state.apply(command));
        state
    }
}

/// A client that waits at this member.
#[derive(Debug)]
enum Waiting {
    /// For its command to be applied.
    Command,
    /// For the index that its read of this key needs.
    ReadIndex(String),
    /// For that index to be applied here.
    Applied(String, LogIndex),
}

struct Member {
    group: Group,
    log: MemoryLog,
    state: State,
    applied: LogIndex,
    /// Addresses to begin with: those of the founders, from a configuration file.
    seeds: BTreeMap<u64, String>,
    tickets: Ticket,
    waiting: BTreeMap<Ticket, Waiting>,
    /// Proposals of this leader: who waits for the entry at that index, and in which term it was proposed.
    proposed: BTreeMap<LogIndex, (u64, NodeId, Ticket)>,
    /// Reads of this leader, by their number.
    reads: BTreeMap<ReadId, (NodeId, Ticket)>,
    last_read: ReadId,
    answers: BTreeMap<Ticket, Option<String>>,
    outgoing: Vec<(NodeId, Packet)>,
}

impl Member {
    fn new(id: u64, founders: &BTreeMap<u64, String>) -> Member {
        let config = Config {
            id: NodeId(id),
            configuration: Configuration::of_voters(founders.keys().copied().map(NodeId)),
            tuning: Tuning {
                heartbeats: Heartbeats::Own(Duration::from_millis(30)),
                ..Tuning::default()
            },
        };
        let log = MemoryLog::new();
        Member {
            group: Group::new(config, Recovered::default(), Instant::ZERO, &log),
            log,
            state: State::default(),
            applied: LogIndex::ZERO,
            seeds: founders.clone(),
            tickets: 0,
            waiting: BTreeMap::new(),
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
            last_read: ReadId(0),
            answers: BTreeMap::new(),
            outgoing: Vec::new(),
        }
    }

    /// What is replicated counts; the seeds help a member that has nothing yet.
    fn address_of(&self, node: NodeId) -> Option<&String> {
        self.state.addresses.get(&node.0).or_else(|| self.seeds.get(&node.0))
    }

    fn issue(&mut self, waiting: Waiting) -> Ticket {
        self.tickets += 1;
        self.waiting.insert(self.tickets, waiting);
        self.tickets
    }

    /// A client's command. It is sent to the leader; if none is known, the client asks again. So it does if it hears
    /// nothing for long, since packets may be lost: a command that must not take effect twice has to carry a number of
    /// the client's by which the state machine knows it.
    fn command(&mut self, now: Instant, command: &str) -> Ticket {
        let ticket = self.issue(Waiting::Command);
        match self.group.leader() {
            Some(leader) if leader != self.group.id() => {
                self.outgoing.push((leader, Packet::Propose(ticket, command.into())));
            }
            _ => self.propose(now, self.group.id(), ticket, command.into()),
        }
        ticket
    }

    /// A client's read, at any member.
    fn read(&mut self, now: Instant, key: &str) -> Ticket {
        let ticket = self.issue(Waiting::ReadIndex(key.into()));
        match self.group.leader() {
            Some(leader) if leader != self.group.id() => self.outgoing.push((leader, Packet::ReadIndex(ticket))),
            _ => self.ask_read_index(now, self.group.id(), ticket),
        }
        ticket
    }

    fn propose(&mut self, now: Instant, from: NodeId, ticket: Ticket, command: String) {
        let output = self.step(now, Input::Propose(vec![command.into()]));
        match output {
            Some(Ok(proposed)) => drop(self.proposed.insert(proposed.first, (proposed.term.0, from, ticket))),
            _ => self.answer(from, ticket, None),
        }
    }

    fn ask_read_index(&mut self, now: Instant, from: NodeId, ticket: Ticket) {
        self.last_read.0 += 1;
        let read = self.last_read;
        self.reads.insert(read, (from, ticket));
        self.step(now, Input::Read(read));
    }

    fn receive(&mut self, now: Instant, from: NodeId, packet: Packet) {
        match packet {
            Packet::Raft(message) => drop(self.step(now, Input::Message(from, message))),
            Packet::Propose(ticket, command) => self.propose(now, from, ticket, command),
            Packet::ReadIndex(ticket) => self.ask_read_index(now, from, ticket),
            Packet::Answer(ticket, index) => self.answered(ticket, index),
        }
    }

    /// An answer for a client, here or at the member that forwarded its request.
    fn answer(&mut self, to: NodeId, ticket: Ticket, index: Option<LogIndex>) {
        match to == self.group.id() {
            true => self.answered(ticket, index),
            false => self.outgoing.push((to, Packet::Answer(ticket, index))),
        }
    }

    fn answered(&mut self, ticket: Ticket, index: Option<LogIndex>) {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        match (waiting, index) {
            (_, None) => drop(self.answers.insert(ticket, None)),
            (Waiting::Command, Some(index)) => drop(self.answers.insert(ticket, Some(index.to_string()))),
            (Waiting::ReadIndex(key), Some(index)) => {
                self.waiting.insert(ticket, Waiting::Applied(key, index));
                self.serve_reads();
            }
            (Waiting::Applied(key, before), Some(_)) => {
                drop(self.waiting.insert(ticket, Waiting::Applied(key, before)))
            }
        }
    }

    /// Reads whose index is applied here.
    fn serve_reads(&mut self) {
        let applied = self.applied;
        self.waiting.retain(|ticket, waiting| match waiting {
            Waiting::Applied(key, index) if *index <= applied => {
                let value = self.state.pairs.get(key).cloned().unwrap_or_default();
                self.answers.insert(*ticket, Some(value));
                false
            }
            _ => true,
        });
    }

    /// One step and all that follows from it; the answer to a proposal, if it was one.
    fn step(&mut self, now: Instant, input: Input) -> Option<Result<Proposed, ProposeError>> {
        let (mut inputs, mut proposed) = (VecDeque::from([input]), None);
        while let Some(input) = inputs.pop_front() {
            let mut output = Output::default();
            self.group.step(now, input, &self.log, &mut output);
            if let Some(write) = self.log.carry_out(&mut output) {
                // With a disk: first the snapshot's data, then the write that begins the log behind it.
                if let Some(snapshot) = &write.reset {
                    self.state = State::restore(&String::from_utf8_lossy(&snapshot.data));
                    self.applied = snapshot.index;
                }
                inputs.push_back(Input::Persisted(write.token));
            }
            let raft = |(to, message)| (to, Packet::Raft(message));
            self.outgoing.extend(output.messages.drain(..).map(raft));
            proposed = proposed.or(output.proposed);
            for (read, index) in output.reads {
                if let Some((from, ticket)) = self.reads.remove(&read) {
                    self.answer(from, ticket, index.ok());
                }
            }
            for event in output.events {
                inputs.extend(self.heed(event));
            }
            if let Some(commit) = output.committed {
                self.apply(commit);
                inputs.push_back(Input::Applied(commit));
            }
        }
        proposed
    }

    fn heed(&mut self, event: Event) -> Option<Input> {
        match event {
            // What was proposed may be replaced now, or committed by another leader: clients ask again.
            Event::LeaderChanged { role, .. } if role != Role::Leader => {
                for (_, (_, from, ticket)) in std::mem::take(&mut self.proposed) {
                    self.answer(from, ticket, None);
                }
                None
            }
            // A small snapshot is made and sent at once. A large one: `Input::ReportSnapshot`.
            Event::NeedsSnapshot(to) => {
                let snapshot = Box::new(self.snapshot()?);
                Some(Input::Snapshot { to, snapshot })
            }
            _ => None,
        }
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let TermAt::Known(term) = self.log.term_at(self.applied) else {
            return None;
        };
        let founders = Configuration::of_voters(self.seeds.keys().copied().map(NodeId));
        let configuration = self.log.configuration_at(self.applied).unwrap_or(&founders).clone();
        Some(Snapshot {
            index: self.applied,
            term,
            configuration,
            data: self.state.snapshot().into(),
        })
    }

    fn apply(&mut self, upto: LogIndex) {
        for entry in self.log.entries(self.applied.next(), upto).to_vec() {
            if let Payload::Data(command) = &entry.payload {
                self.state.apply(&String::from_utf8_lossy(command));
            }
            if let Some((term, from, ticket)) = self.proposed.remove(&entry.index) {
                // Another leader may have put another entry there.
                self.answer(from, ticket, (term == entry.term.0).then_some(entry.index));
            }
        }
        self.applied = upto;
        self.serve_reads();
    }
}

/// Members by their addresses, and what is on its way between them.
struct Cluster {
    members: BTreeMap<String, Member>,
    in_flight: VecDeque<(NodeId, String, Packet)>,
    /// Nothing gets to or from these addresses.
    cut_off: Vec<String>,
    now: Instant,
}

impl Cluster {
    /// Three members that found a group, and so many that have only an address yet.
    fn new(spare: u64) -> Cluster {
        let address = |id: u64| (id, format!("host-{id}:7000"));
        let founders: BTreeMap<u64, String> = (1..=3).map(address).collect();
        let member = |id: u64| (address(id).1, Member::new(id, &founders));
        let mut cluster = Cluster {
            members: (1..=3 + spare).map(member).collect(),
            in_flight: VecDeque::new(),
            cut_off: Vec::new(),
            now: Instant::ZERO,
        };
        cluster.run(Duration::from_millis(300));
        cluster
    }

    fn member(&mut self, id: u64) -> &mut Member {
        let of = |member: &&mut Member| member.group.id() == NodeId(id);
        self.members.values_mut().find(of).expect("a member")
    }

    fn leader(&self) -> u64 {
        let serving = self.members.values().filter(|member| member.group.is_serving());
        let latest = serving.max_by_key(|member| member.group.term());
        latest.expect("somebody leads").group.id().0
    }

    /// Delivers everything, and lets time pass from deadline to deadline: the loop of a driver.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            if let Some((from, to, packet)) = self.in_flight.pop_front() {
                if let Some(member) = self.members.get_mut(&to) {
                    member.receive(self.now, from, packet);
                }
                continue;
            }
            let deadlines = self.members.values().filter_map(|member| member.group.deadline());
            let Some(due) = deadlines.min().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            for member in self.members.values_mut() {
                if member.group.deadline().is_some_and(|deadline| deadline <= self.now) {
                    member.step(self.now, Input::Tick);
                }
            }
        }
    }

    /// Puts what members have to send on its way, each packet to the address that its sender knows.
    fn collect(&mut self) {
        for (own, member) in &mut self.members {
            for (to, packet) in std::mem::take(&mut member.outgoing) {
                let Some(address) = member.address_of(to).cloned() else {
                    continue;
                };
                if !self.cut_off.contains(own) && !self.cut_off.contains(&address) {
                    self.in_flight.push_back((member.group.id(), address, packet));
                }
            }
        }
    }

    fn command(&mut self, at: u64, command: &str) -> Option<String> {
        let now = self.now;
        let ticket = self.member(at).command(now, command);
        self.run(Duration::from_millis(100));
        self.member(at).answers.remove(&ticket).flatten()
    }

    fn read(&mut self, at: u64, key: &str) -> Option<String> {
        let now = self.now;
        let ticket = self.member(at).read(now, key);
        self.run(Duration::from_millis(100));
        self.member(at).answers.remove(&ticket).flatten()
    }

    /// Adds a member: first its address, then as a learner, and once it has caught up as a voter.
    fn join(&mut self, id: u64) {
        let leader = self.leader();
        self.command(leader, &format!("address {id} host-{id}:7000"))
            .expect("its address is committed");
        let voters = self.member(leader).group.voters().to_vec();
        let learns = Configuration {
            learners: vec![NodeId(id)],
            ..Configuration::of_voters(voters.iter().copied())
        };
        let votes = Configuration::of_voters(voters.iter().copied().chain([NodeId(id)]));
        for configuration in [learns, votes] {
            let now = self.now;
            self.member(leader).step(now, Input::Change(configuration));
            self.run(Duration::from_millis(300));
        }
    }
}

fn main() {
    let mut cluster = Cluster::new(1);
    let follower = 1 + cluster.leader() % 3;
    cluster.command(follower, "set colour red").expect("it is committed");
    println!(
        "member {follower} forwards, and reads {:?}",
        cluster.read(follower, "colour")
    );
    cluster.join(4);
    let member = cluster.member(4);
    println!("member 4 is a voter: {:?}, {:?}", member.group.voters(), member.state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_runs() {
        main();
    }

    #[test]
    fn any_member_takes_commands_and_answers_reads() {
        let mut cluster = Cluster::new(0);
        for at in 1..=3 {
            let command = format!("set colour {at}");
            assert!(cluster.command(at, &command).is_some(), "member {at}");
            for reader in 1..=3 {
                assert_eq!(cluster.read(reader, "colour"), Some(at.to_string()), "member {reader}");
            }
        }
    }

    /// A follower that is behind doesn't answer with what it has: it waits for the index that the leader names.
    #[test]
    fn a_read_at_a_follower_waits_until_it_has_caught_up() {
        let mut cluster = Cluster::new(0);
        let (leader, now) = (cluster.leader(), cluster.now);
        let follower = 1 + leader % 3;
        cluster.command(leader, "set colour red").expect("committed");
        let ticket = cluster.member(follower).read(now, "colour");
        let beyond = cluster.member(follower).applied.next();
        cluster.member(follower).answered(ticket, Some(beyond));
        assert_eq!(cluster.member(follower).answers.get(&ticket), None);
        cluster.command(leader, "set colour blue").expect("committed");
        assert_eq!(
            cluster.member(follower).answers.remove(&ticket),
            Some(Some("blue".into()))
        );
    }

    /// A leader that has been succeeded without knowing it can't confirm a read, so nobody gets an old value from it.
    #[test]
    fn a_leader_that_is_cut_off_answers_no_read() {
        let mut cluster = Cluster::new(0);
        let old = cluster.leader();
        cluster.command(old, "set colour red").expect("committed");
        cluster.cut_off.push(format!("host-{old}:7000"));
        let now = cluster.now;
        let ticket = cluster.member(old).read(now, "colour");
        cluster.run(Duration::from_secs(1));
        let new = cluster.leader();
        assert_ne!(new, old);
        cluster.command(new, "set colour blue").expect("committed");
        assert_eq!(
            cluster.member(old).answers.remove(&ticket),
            Some(None),
            "the client asks again"
        );
        assert_eq!(cluster.read(new, "colour"), Some("blue".into()));
    }

    /// Member 4 is in nobody's configuration file. Its address comes with the log, or with a snapshot.
    #[test]
    fn a_member_is_reached_at_its_replicated_address() {
        let mut cluster = Cluster::new(2);
        cluster.command(1, "set colour red").expect("committed");
        cluster.join(4);
        assert_eq!(cluster.read(4, "colour"), Some("red".into()));
        let leader = cluster.leader();
        // What member 5 would need is deleted: it gets a snapshot.
        for id in 1..=4 {
            let applied = cluster.member(id).applied;
            cluster.member(id).log.compact(applied);
        }
        cluster.join(5);
        let expected = cluster.member(leader).state.clone();
        assert_eq!(expected.addresses.keys().copied().collect::<Vec<_>>(), [4, 5]);
        assert_eq!(cluster.member(5).state, expected);
        // A new leader knows how to reach them, too.
        cluster.cut_off.push(format!("host-{leader}:7000"));
        cluster.run(Duration::from_secs(1));
        let new = cluster.leader();
        assert_ne!(new, leader);
        assert!(cluster.command(new, "set colour blue").is_some());
        assert_eq!(cluster.read(5, "colour"), Some("blue".into()));
    }
}
