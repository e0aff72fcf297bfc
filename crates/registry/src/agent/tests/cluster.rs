//! Agents, wired by a network that loses, delays and repeats, around a metadata group that is a list.

use super::*;
use crate::Incarnation;
use crate::agent::replicas::held;
use crate::catalog::{Command, Outcome, Partition};
use crate::founding::Decision;

/// What the network does to messages, per thousand.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) delay_ms: u64,
}

impl Faults {
    pub(super) fn none() -> Faults {
        Faults {
            lost: 0,
            repeated: 0,
            delay_ms: 1,
        }
    }
}

struct Node {
    agent: Agent,
    /// How much of the log it has applied.
    applied: usize,
    /// Open groups, with their configuration.
    open: BTreeMap<GroupId, TopicConfig>,
    /// Groups led here.
    leads: BTreeMap<GroupId, Term>,
    /// Where groups should be, as this broker's shards were told last.
    wanted: BTreeMap<GroupId, (Arc<[BrokerId]>, CommandIndex)>,
    disk: Disk,
}

/// What outlives a start.
#[derive(Clone, Default)]
struct Disk {
    folder: FolderId,
    known: BTreeSet<GroupId>,
    founded_with: Option<Vec<(BrokerId, FolderId)>>,
}

impl Disk {
    /// That of a broker's first, second, ... folder.
    fn empty(id: i32, number: u8) -> Disk {
        let mut folder = FolderId([number; 16]);
        folder.0[..4].copy_from_slice(&id.to_be_bytes());
        Disk {
            folder,
            ..Disk::default()
        }
    }
}

impl Node {
    fn start(id: i32, incarnation: u64, brokers: i32, disk: Disk, now: Instant) -> Node {
        let config = AgentConfig {
            folder: disk.folder,
            known_groups: disk.known.clone(),
            founded_with: disk.founded_with.clone(),
            is_member: false,
            ..config(id, incarnation, brokers)
        };
        Node {
            agent: Agent::new(config, now),
            applied: 0,
            open: BTreeMap::new(),
            leads: BTreeMap::new(),
            wanted: BTreeMap::new(),
            disk,
        }
    }
}

/// The Raft group of a partition, as far as the registry has to do with it: its members, changed by its leader alone.
struct Group {
    voters: Vec<BrokerId>,
    leader: Option<usize>,
    term: Term,
}

pub(super) struct Cluster {
    nodes: Vec<Node>,
    now: Instant,
    seed: u64,
    faults: Faults,
    /// In order of delivery.
    network: BTreeMap<(Instant, u64), (BrokerId, BrokerId, Vec<u8>)>,
    sent: u64,
    log: Vec<Vec<u8>>,
    leader: Option<usize>,
    term: Term,
    drop_proposals: bool,
    cut: BTreeSet<usize>,
    groups: BTreeMap<GroupId, Group>,
    /// How replicas were opened of which the disk held nothing.
    opened: BTreeMap<(usize, GroupId), Vec<Standing>>,
    /// How each broker's replica of the metadata group was opened, every time.
    begun: Vec<(usize, Decision)>,
    tickets: u64,
    asked: BTreeMap<Ticket, AdminRequest>,
    answers: BTreeMap<Ticket, Result<AdminReply, AdminError>>,
}

pub(super) fn config(id: i32, incarnation: u64, brokers: i32) -> AgentConfig {
    let broker = Broker {
        id: BrokerId(id),
        incarnation: Incarnation(incarnation),
        rack: None,
        client: endpoint(id, 9092),
        peer: endpoint(id, 9093),
        admin: endpoint(id, 9094),
    };
    AgentConfig {
        broker,
        folder: Disk::empty(id, 1).folder,
        founded_with: None,
        is_member: false,
        cluster_id: "test".into(),
        noted_founders: None,
        metadata_replicas: (0..brokers).map(BrokerId).collect(),
        seed: 11,
        default_partitions: 1,
        default_replication_factor: Some(3),
        retry_after: Duration::from_millis(200),
        digest_every: Duration::from_secs(1),
        known_groups: BTreeSet::new(),
    }
}

impl Cluster {
    pub(super) fn new(brokers: i32, faults: Faults, seed: u64) -> Cluster {
        let node = |id| Node::start(id, 1, brokers, Disk::empty(id, 1), Instant::default());
        Cluster {
            nodes: (0..brokers).map(node).collect(),
            now: Instant::default(),
            seed,
            faults,
            network: BTreeMap::new(),
            sent: 0,
            log: Vec::new(),
            leader: None,
            term: Term(0),
            drop_proposals: false,
            cut: BTreeSet::new(),
            groups: BTreeMap::new(),
            opened: BTreeMap::new(),
            begun: Vec::new(),
            tickets: 0,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// Without faults, led by broker 0, everyone registered.
    pub(super) fn started(brokers: i32) -> Cluster {
        let mut cluster = Cluster::new(brokers, Faults::none(), 1);
        cluster.lead(0);
        cluster.run(SECOND);
        cluster
    }

    pub(super) fn agent(&self, id: usize) -> &Agent {
        &self.nodes[id].agent
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn log_length(&self) -> usize {
        self.log.len()
    }

    pub(super) fn open_replicas(&self, id: usize) -> &BTreeMap<GroupId, TopicConfig> {
        &self.nodes[id].open
    }

    pub(super) fn answer(&self, ticket: Ticket) -> Option<&Result<AdminReply, AdminError>> {
        self.answers.get(&ticket)
    }

    pub(super) fn drop_proposals(&mut self, drop: bool) {
        self.drop_proposals = drop;
    }

    /// Neither messages nor the metadata group reach this broker.
    pub(super) fn cut(&mut self, id: usize) {
        self.cut.insert(id);
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.faults = Faults::none();
        self.drop_proposals = false;
    }

    pub(super) fn chance(&mut self, below: u64) -> u64 {
        self.seed = scramble(self.seed);
        self.seed % below
    }

    pub(super) fn request(&mut self, id: usize, request: AdminRequest) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket, request.clone());
        let effects = self.tell(
            id,
            Input::Request {
                ticket,
                timeout: 5 * SECOND,
                request,
            },
        );
        self.perform(id, effects);
        ticket
    }

    pub(super) fn tell(&mut self, id: usize, input: Input<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.nodes[id].agent.step(self.now, input, &mut effects);
        effects
    }

    fn do_tell(&mut self, id: usize, input: Input<'_>) {
        let effects = self.tell(id, input);
        self.perform(id, effects);
    }

    pub(super) fn perform(&mut self, id: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Propose(bytes) => self.propose(id, bytes),
                Effect::OpenMetadata(decision) => self.open_metadata(id, decision),
                Effect::Replicas { group, replicas, since } => {
                    assert!(self.nodes[id].open.contains_key(&group), "only what is open is told");
                    self.nodes[id].wanted.insert(group, (replicas, since));
                }
                Effect::Send(to, bytes) => self.send(id, to, bytes),
                Effect::Open(replica) => {
                    let open = &mut self.nodes[id].open;
                    assert!(open.insert(replica.group, replica.config).is_none(), "opened twice");
                    if self.nodes[id].disk.known.insert(replica.group) {
                        let opened = self.opened.entry((id, replica.group)).or_default();
                        let first = opened.is_empty() && replica.founders.contains(&BrokerId(id as i32));
                        assert!(
                            first || replica.standing == Standing::Joining,
                            "broker {id} has forgotten what it promised in group {}",
                            replica.group
                        );
                        opened.push(replica.standing);
                    }
                }
                Effect::Configure { group, config } => {
                    let before = self.nodes[id].open.insert(group, config);
                    assert!(before.is_some(), "only what is open is configured");
                }
                Effect::Close(group) => self.close(id, group),
                Effect::Reply(ticket, answer) => {
                    assert!(self.answers.insert(ticket, answer).is_none(), "answered twice");
                }
                Effect::Newcomers(_) => {}
                Effect::Rejected { .. } | Effect::Unreadable { .. } => panic!("{effect:?}"),
            }
        }
    }

    fn open_metadata(&mut self, id: usize, decision: Decision) {
        let disk = &mut self.nodes[id].disk;
        if let Decision::Found(with) = &decision {
            disk.founded_with = Some(with.clone());
        }
        disk.known.insert(METADATA_GROUP);
        self.begun.push((id, decision));
    }

    /// A replica is closed, and what it held is gone.
    fn close(&mut self, id: usize, group: GroupId) {
        let node = &mut self.nodes[id];
        assert!(node.open.remove(&group).is_some(), "closed twice");
        node.wanted.remove(&group);
        node.leads.remove(&group);
        node.disk.known.remove(&group);
        let exists = node.agent.catalog.partition_of(group).is_some();
        let member = |group: &Group| group.voters.contains(&BrokerId(id as i32));
        assert!(
            !exists || !self.groups.get(&group).is_some_and(member),
            "broker {id} deletes its replica of group {group}, which counts on it"
        );
    }

    fn propose(&mut self, id: usize, bytes: Vec<u8>) {
        let leads = self.leader == Some(id) && !self.cut.contains(&id);
        if leads && !self.drop_proposals {
            assert!(Command::decode(&bytes).is_ok());
            self.log.push(bytes);
        }
    }

    fn send(&mut self, from: usize, to: BrokerId, bytes: Vec<u8>) {
        assert!(bytes.len() <= crate::limits::MESSAGE_BYTES);
        let copies = 1 + u64::from(self.chance(1000) < self.faults.repeated);
        for _ in 0..copies {
            if self.chance(1000) >= self.faults.lost {
                let delay = Duration::from_micros(100 + self.chance(1000 * self.faults.delay_ms));
                self.sent += 1;
                let at = (self.now + delay, self.sent);
                self.network.insert(at, (BrokerId(from as i32), to, bytes.clone()));
            }
        }
    }

    /// This broker leads the metadata group from now on: everything before is applied there. The previous leader hears
    /// of it now.
    pub(super) fn lead(&mut self, id: usize) {
        self.term = Term(self.term.0 + 1);
        self.leader = Some(id);
        let (group, term, leader) = (METADATA_GROUP, self.term, Some(BrokerId(id as i32)));
        for other in (0..self.nodes.len()).filter(|other| *other != id) {
            if self.nodes[other].agent.controlling.is_some() {
                self.do_tell(
                    other,
                    Input::Led {
                        group,
                        term,
                        leader,
                        serving: false,
                    },
                );
            }
        }
        self.apply_all(id);
        self.do_tell(
            id,
            Input::Led {
                group,
                term,
                leader,
                serving: true,
            },
        );
    }

    /// The metadata group's leader goes, and nobody follows it yet. It may learn of that late.
    fn depose(&mut self, at_once: bool) {
        self.term = Term(self.term.0 + 1);
        if let (Some(leader), true) = (self.leader.take(), at_once) {
            let (group, term) = (METADATA_GROUP, self.term);
            self.do_tell(
                leader,
                Input::Led {
                    group,
                    term,
                    leader: None,
                    serving: false,
                },
            );
        }
    }

    pub(super) fn lead_partition(&mut self, group: GroupId, id: usize, term: Term, in_sync: &[i32]) {
        self.nodes[id].leads.insert(group, term);
        let replicas: Vec<BrokerId> = in_sync.iter().map(|&id| BrokerId(id)).collect();
        let leader = Some(BrokerId(id as i32));
        self.do_tell(
            id,
            Input::InSync {
                group,
                term,
                replicas: &replicas,
            },
        );
        self.do_tell(
            id,
            Input::Led {
                group,
                term,
                leader,
                serving: true,
            },
        );
    }

    pub(super) fn resign_partition(&mut self, group: GroupId, id: usize, term: Term) {
        self.nodes[id].leads.remove(&group);
        self.do_tell(
            id,
            Input::Led {
                group,
                term,
                leader: None,
                serving: false,
            },
        );
    }

    fn apply_all(&mut self, id: usize) {
        while self.apply_one(id) {}
    }

    fn apply_one(&mut self, id: usize) -> bool {
        let applied = self.nodes[id].applied;
        let Some(command) = self.log.get(applied).cloned() else {
            return false;
        };
        self.nodes[id].applied += 1;
        self.do_tell(
            id,
            Input::Applied {
                index: CommandIndex(applied as u64 + 1),
                command: &command,
            },
        );
        true
    }

    pub(super) fn replay_into(&self, agent: &mut Agent) {
        self.replay(agent, 0..self.log.len());
    }

    /// Applies this part of the log, and returns which groups are to be opened and closed.
    pub(super) fn replay(&self, agent: &mut Agent, part: std::ops::Range<usize>) -> Vec<(GroupId, bool)> {
        let mut effects = Vec::new();
        for position in part {
            let (index, command) = (CommandIndex(position as u64 + 1), &self.log[position]);
            agent.step(self.now, Input::Applied { index, command }, &mut effects);
        }
        let replica = |effect| match effect {
            Effect::Open(open) => Some((open.group, true)),
            Effect::Close(group) => Some((group, false)),
            _ => None,
        };
        effects.into_iter().filter_map(replica).collect()
    }

    /// A new start of a broker that has replayed nothing yet, and knows these groups from its disk.
    pub(super) fn starting(&self, id: usize, known: &[GroupId]) -> Agent {
        let incarnation = self.nodes[id].agent.config.broker.incarnation.0 + 1;
        let config = AgentConfig {
            known_groups: known.iter().copied().chain([METADATA_GROUP]).collect(),
            ..config(id as i32, incarnation, self.nodes.len() as i32)
        };
        Agent::new(config, self.now)
    }

    /// The broker's disk is replaced.
    pub(super) fn wipe(&mut self, id: usize) {
        let number = self.nodes[id].disk.folder.0[15] + 1;
        self.nodes[id].disk = Disk::empty(id as i32, number);
        self.restart(id);
    }

    pub(super) fn opened(&self, id: usize, group: GroupId) -> &[Standing] {
        self.opened.get(&(id, group)).map_or(&[], Vec::as_slice)
    }

    /// How the broker's replicas of the metadata group were opened.
    pub(super) fn begun(&self, id: usize) -> Vec<&Decision> {
        let begun = self.begun.iter().filter(|(at, _)| *at == id);
        begun.map(|(_, decision)| decision).collect()
    }

    /// The broker's process starts again, and has its log still. Returns what it was.
    pub(super) fn restart(&mut self, id: usize) -> Agent {
        let incarnation = self.nodes[id].agent.config.broker.incarnation.0 + 1;
        let brokers = self.nodes.len() as i32;
        let disk = self.nodes[id].disk.clone();
        let node = Node::start(id as i32, incarnation, brokers, disk, self.now);
        let old = std::mem::replace(&mut self.nodes[id], node);
        if self.leader == Some(id) {
            self.depose(false);
        }
        // Nobody will answer what was asked there.
        let lost: Vec<Ticket> = self
            .asked
            .keys()
            .filter(|t| !self.answers.contains_key(t))
            .copied()
            .collect();
        for ticket in lost {
            self.asked.remove(&ticket);
        }
        old.agent
    }

    /// One event: a message arrives, a timer fires, or a command is applied somewhere.
    fn one_step(&mut self, until: Instant) -> bool {
        let behind: Vec<usize> = (0..self.nodes.len())
            .filter(|id| self.nodes[*id].applied < self.log.len() && !self.cut.contains(id))
            .collect();
        if !behind.is_empty() {
            let id = behind[self.chance(behind.len() as u64) as usize];
            return self.apply_one(id);
        }
        let timer = (0..self.nodes.len())
            .map(|id| (self.nodes[id].agent.deadline(), id))
            .min();
        let message = self.network.first_key_value().map(|(key, _)| *key);
        match (timer, message) {
            (_, Some(key)) if timer.is_none_or(|(at, _)| key.0 <= at) && key.0 <= until => self.deliver(key),
            (Some((at, id)), _) if at <= until => {
                self.now = self.now.max(at);
                self.do_tell(id, Input::Tick);
                assert!(self.nodes[id].agent.deadline() > self.now, "a tick makes progress");
            }
            _ => return false,
        }
        true
    }

    fn deliver(&mut self, key: (Instant, u64)) {
        self.now = self.now.max(key.0);
        let Some((from, to, bytes)) = self.network.remove(&key) else {
            return;
        };
        let cut = |id: BrokerId| self.cut.contains(&(id.0 as usize));
        if !cut(from) && !cut(to) {
            self.do_tell(to.0 as usize, Input::Peer { from, message: &bytes });
        }
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.one_step(until) {}
        self.now = self.now.max(until);
    }

    // --- The partitions' groups ---

    fn placed(&self, id: usize, group: GroupId) -> Option<&Partition> {
        let (topic, partition) = self.nodes[id].agent.catalog.partition_of(group)?;
        topic.partition(partition)
    }

    /// Some group gets a leader: any member whose replica is open may be it, however little of the catalog it knows.
    pub(super) fn elect(&mut self, group: GroupId) {
        let founders = self.nodes.iter().find_map(|node| {
            let (topic, partition) = node.agent.catalog.partition_of(group)?;
            Some(topic.partition(partition)?.founders.to_vec())
        });
        let Some(founders) = founders else { return };
        let known = self.groups.entry(group).or_insert(Group {
            voters: founders,
            leader: None,
            term: Term(0),
        });
        let open: Vec<usize> = known.voters.iter().map(|id| id.0 as usize).collect();
        let open: Vec<usize> = open
            .into_iter()
            .filter(|id| self.nodes[*id].open.contains_key(&group))
            .collect();
        if open.is_empty() {
            return;
        }
        let id = open[self.chance(open.len() as u64) as usize];
        self.make_leader(group, id);
    }

    fn make_leader(&mut self, group: GroupId, id: usize) {
        let Some(known) = self.groups.get_mut(&group) else {
            return;
        };
        known.term = Term(known.term.0 + 1);
        let (term, before) = (known.term, known.leader.replace(id));
        if let Some(before) = before.filter(|before| *before != id && self.nodes[*before].leads.contains_key(&group)) {
            self.resign_partition(group, before, term);
        }
        self.lead_partition(group, id, term, &[id as i32]);
        self.report_members(group);
    }

    /// The leader makes its group's members those that it was told, if their replicas are there to be filled; then it
    /// says so.
    pub(super) fn change_members(&mut self, group: GroupId) {
        let Some(leader) = self.groups.get(&group).and_then(|known| known.leader) else {
            return;
        };
        let Some((wanted, _)) = self.nodes[leader].wanted.get(&group).cloned() else {
            return;
        };
        let open = |id: &BrokerId| self.nodes[id.0 as usize].open.contains_key(&group);
        if wanted.is_empty() || !wanted.iter().all(open) {
            return;
        }
        if let Some(known) = self.groups.get_mut(&group) {
            known.voters = wanted.to_vec();
        }
        self.report_members(group);
        if !wanted.contains(&BrokerId(leader as i32)) {
            self.make_leader(group, wanted[0].0 as usize);
        }
    }

    fn report_members(&mut self, group: GroupId) {
        let Some(known) = self.groups.get(&group) else { return };
        let (Some(leader), voters) = (known.leader, known.voters.clone()) else {
            return;
        };
        let Some((wanted, since)) = self.nodes[leader].wanted.get(&group).cloned() else {
            return;
        };
        if wanted.len() == voters.len() && wanted.iter().all(|id| voters.contains(id)) {
            let learners = &[];
            self.do_tell(
                leader,
                Input::Members {
                    group,
                    since,
                    voters: &voters,
                    learners,
                },
            );
        }
    }

    /// Until every request has its answer; no request takes longer than its deadline.
    pub(super) fn run_until_answered(&mut self) {
        let until = self.now + 6 * SECOND;
        while self.asked.keys().any(|ticket| !self.answers.contains_key(ticket)) {
            assert!(self.one_step(until), "somebody waits for nothing");
        }
    }

    pub(super) fn idle_messages(&mut self, duration: Duration) -> u64 {
        let before = self.sent;
        self.run(duration);
        self.sent - before
    }

    /// What is open on each broker is what the catalog says.
    pub(super) fn check_replicas(&self) {
        for node in &self.nodes {
            let id = node.agent.id();
            let held = |topic: &Arc<Topic>| held(topic, id).map(|(_, group)| group).collect::<Vec<_>>();
            let expected: BTreeSet<GroupId> = node.agent.catalog.topics().flat_map(held).collect();
            assert_eq!(node.open.keys().copied().collect::<BTreeSet<_>>(), expected);
        }
    }

    /// Everyone knows who leads, of all groups that somebody leads.
    pub(super) fn check_views(&self) {
        let partitions = self.nodes.iter().flat_map(|node| {
            let known = |group: &&GroupId| !node.agent.catalog.is_gone(**group);
            node.leads.keys().filter(known).map(|group| (*group, node.agent.id()))
        });
        let metadata = self.leader.map(|id| (METADATA_GROUP, BrokerId(id as i32)));
        for (group, leader) in partitions.chain(metadata) {
            for node in &self.nodes {
                let view = node.agent.leaders.leader(group);
                assert_eq!(
                    view,
                    Some(leader),
                    "group {group} as broker {} sees it",
                    node.agent.id()
                );
            }
        }
    }

    /// Partitions are where they were to be, and nothing is under way any more.
    pub(super) fn check_members(&self) {
        for (group, known) in &self.groups {
            if let Some(placed) = self.placed(0, *group) {
                assert_eq!(placed.reassignment, None, "group {group}");
                let voters: BTreeSet<BrokerId> = known.voters.iter().copied().collect();
                assert_eq!(voters, placed.replicas.iter().copied().collect(), "group {group}");
            }
        }
    }

    fn check_catalogs(&self) {
        let mut replayed = Catalog::default();
        let mut created = BTreeMap::new();
        for (position, bytes) in self.log.iter().enumerate() {
            let command = Command::decode(bytes).unwrap();
            if let Outcome::TopicCreated(topic) = replayed.apply(CommandIndex(position as u64 + 1), &command) {
                assert!(
                    created.insert(topic.id, topic.name.clone()).is_none(),
                    "a topic was created twice"
                );
            }
        }
        for node in &self.nodes {
            assert_eq!(node.agent.catalog, replayed);
        }
    }

    /// A request that was made once was done once, or never if it failed.
    fn check_answers(&self) {
        let mut producer_ids = BTreeSet::new();
        for (ticket, answer) in &self.answers {
            if let Ok(AdminReply::ProducerId(id)) = answer {
                assert!(producer_ids.insert(*id), "{ticket:?}: producer id {id} twice");
            }
        }
        for ticket in self.asked.keys() {
            assert!(self.answers.contains_key(ticket), "{ticket:?} was never answered");
        }
    }
}

/// Requests on all brokers, while messages are lost, repeated and delayed, controllers come and go, brokers restart and
/// partitions move. Then all heals: everything must agree.
pub(super) fn chaos(seed: u64) {
    let faults = Faults {
        lost: 200,
        repeated: 100,
        delay_ms: 80,
    };
    let brokers = 3 + seed as usize % 3;
    let mut cluster = Cluster::new(brokers as i32, faults, seed);
    for round in 0..200_u64 {
        let id = cluster.chance(brokers as u64) as usize;
        match cluster.chance(16) {
            0 => cluster.lead(id),
            1 => {
                let at_once = cluster.chance(2) == 0;
                cluster.depose(at_once);
            }
            2 if cluster.chance(4) == 0 => drop(cluster.restart(id)),
            2 if cluster.chance(4) == 0 => cluster.wipe(id),
            3 => {
                cluster.cut.clear();
                if cluster.chance(2) == 0 {
                    cluster.cut(id);
                }
            }
            4 => cluster.drop_proposals = !cluster.drop_proposals && cluster.chance(3) == 0,
            5 => on_some_group(&mut cluster, id, Cluster::elect),
            6 => _ = cluster.request(id, AdminRequest::ProducerId),
            7 => _ = cluster.request(id, ensure(&format!("auto-{}", round % 10))),
            8 => {
                let name = TopicRef::Name(format!("topic-{}", round % 20));
                cluster.request(id, AdminRequest::DeleteTopic(name));
            }
            9..=11 => on_some_group(&mut cluster, id, move_somewhere),
            12..=13 => {
                for group in cluster.groups.keys().copied().collect::<Vec<_>>() {
                    cluster.change_members(group);
                }
            }
            _ => _ = cluster.request(id, create(&format!("topic-{}", round % 20), 2, 2)),
        }
        let pause = Duration::from_millis(cluster.chance(100));
        cluster.run(pause);
    }
    cluster.heal();
    let last = cluster.chance(brokers as u64) as usize;
    cluster.lead(last);
    cluster.run(2 * SECOND);
    let name = format!("after-{seed}");
    let ticket = cluster.request(last, create(&name, 1, 3));
    cluster.run(10 * SECOND);
    assert!(
        cluster.answer(ticket).is_some_and(Result::is_ok),
        "seed {seed}: {:?}",
        cluster.answer(ticket)
    );
    let moved: Vec<GroupId> = cluster.groups.keys().copied().collect();
    for group in moved {
        cluster.elect(group);
        cluster.change_members(group);
        cluster.run(2 * SECOND);
    }
    cluster.run(2 * SECOND);
    cluster.check_members();
    cluster.check_answers();
    cluster.check_catalogs();
    cluster.check_replicas();
    cluster.check_views();
    assert!(
        (0..brokers).all(|id| cluster.agent(id).registration() == Registration::Registered),
        "seed {seed}"
    );
}

/// Something happens to a partition that this broker has a replica of.
fn on_some_group(cluster: &mut Cluster, id: usize, what: impl FnOnce(&mut Cluster, GroupId)) {
    let open: Vec<GroupId> = cluster.nodes[id].open.keys().copied().collect();
    if !open.is_empty() {
        let group = open[cluster.chance(open.len() as u64) as usize];
        what(cluster, group);
    }
}

/// Somebody wishes a partition to be elsewhere, or where it was.
fn move_somewhere(cluster: &mut Cluster, group: GroupId) {
    let brokers = cluster.nodes.len() as u64;
    let id = cluster.chance(brokers) as usize;
    let Some((topic, partition)) = cluster.agent(id).catalog.partition_of(group) else {
        return;
    };
    let (topic, partition) = (TopicRef::Name(topic.name.to_string()), partition);
    let mut replicas: Vec<BrokerId> = (0..brokers as i32).map(BrokerId).collect();
    for place in (1..replicas.len()).rev() {
        let other = cluster.chance(place as u64 + 1) as usize;
        replicas.swap(place, other);
    }
    let count = 1 + cluster.chance(3) as usize;
    replicas.truncate(count);
    let replicas = (cluster.chance(5) > 0).then_some(replicas);
    cluster.request(
        id,
        AdminRequest::Reassign {
            topic,
            partition,
            replicas,
        },
    );
}
