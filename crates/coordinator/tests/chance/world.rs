//! Three replicas of a log, of which one leads, and the clients of two groups.

use crate::checks::Checks;
use crate::client::{Client, PARTITIONS, SESSION_MS, committing};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trimaran_coordinator::request::*;
use trimaran_coordinator::{Config, Coordinator, Error, Offset, Output, Record, Time, Write, WriteError};

const GROUPS: [&str; 2] = ["a", "b"];
const REPLICAS: usize = 3;
const STEPS: usize = 300;
/// How long offsets of an empty group are kept: a short part of a run.
const RETENTION_MS: u64 = 20_000;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

pub(super) struct World {
    chance: Chance,
    config: Config,
    replicas: Vec<Coordinator>,
    /// What each replica's clock is ahead.
    skew_ms: [u64; REPLICAS],
    leader: usize,
    now_ms: u64,
    log: Vec<Record>,
    pending: VecDeque<Write>,
    tickets: u64,
    /// Requests that are not yet answered.
    open: BTreeSet<Ticket>,
    /// Requests of members that were replaced before: none may succeed.
    fenced: BTreeSet<Ticket>,
    /// What the world asked itself.
    own: BTreeMap<Ticket, Reply>,
    clients: Vec<Client>,
    checks: BTreeMap<&'static str, Checks>,
    next_offset: i64,
    names: usize,
    violation: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, prepare: &dyn Fn(&mut Coordinator)) -> World {
        let mut chance = Chance(seed);
        let config = Config {
            group_initial_rebalance_delay_ms: [0, 0, 700][chance.below(3)],
            offsets_retention_ms: RETENTION_MS,
            offsets_retention_check_interval_ms: 3_000,
            ..Config::default()
        };
        let replicas = (0..REPLICAS).map(|_| {
            let mut replica = Coordinator::new(config.clone());
            prepare(&mut replica);
            replica
        });
        let mut world = World {
            replicas: replicas.collect(),
            skew_ms: [0; REPLICAS].map(|_| chance.below(1_000_000) as u64),
            chance,
            config,
            leader: 0,
            now_ms: 1_000_000,
            log: Vec::new(),
            pending: VecDeque::new(),
            tickets: 0,
            open: BTreeSet::new(),
            fenced: BTreeSet::new(),
            own: BTreeMap::new(),
            clients: Vec::new(),
            checks: GROUPS.into_iter().map(|group| (group, Checks::default())).collect(),
            next_offset: 1,
            names: 0,
            violation: None,
        };
        world.lead(0);
        world
    }

    pub(super) fn run(mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step(true);
            self.verdict()?;
        }
        // Without disturbances, everything comes to rest.
        for _ in 0..400 {
            self.step(false);
            self.verdict()?;
        }
        self.check_rest()?;
        self.check_copies()
    }

    fn verdict(&mut self) -> Result<(), String> {
        self.violation.take().map_or(Ok(()), Err)
    }

    fn note(&mut self, result: Result<(), String>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    fn time(&self) -> Time {
        Time {
            monotonic_ms: self.now_ms + self.skew_ms[self.leader],
            unix_ms: 1_700_000_000_000 + self.now_ms as i64,
        }
    }

    fn step(&mut self, with_chaos: bool) {
        if with_chaos {
            self.disturb();
        }
        self.now_ms += 20 + self.chance.below(400) as u64;
        let deadline = self.replicas[self.leader].deadline();
        if deadline.is_some_and(|at_ms| at_ms <= self.time().monotonic_ms) {
            let time = self.time();
            self.drive(|replica, out| replica.tick(time, out));
            self.observe();
        }
        for place in 0..self.clients.len() {
            self.act(place, with_chaos);
        }
        let group = GROUPS[self.chance.below(GROUPS.len())];
        self.fetch(group);
        while !self.pending.is_empty() && (!with_chaos || self.chance.percent(60)) {
            self.commit_one();
        }
        self.clients.retain(|client| !client.is_over);
    }

    fn disturb(&mut self) {
        match self.chance.below(100) {
            0..8 if self.clients.len() < 8 => self.start_client(),
            8..11 => self.crash_client(),
            11..14 => self.leave(),
            14..18 => self.start_twin(),
            18..23 => self.fail_over(),
            23..25 => {
                let group = GROUPS[self.chance.below(GROUPS.len())].to_owned();
                self.ask(Request::DeleteGroups(DeleteGroups { groups: vec![group] }));
                self.observe();
            }
            25 => {
                // Nobody's member, nobody's generation.
                let mut commit = committing("a", 0, i64::MAX);
                commit.generation.0 = self.chance.below(5) as i32;
                commit.member_id = "nobody".into();
                let ticket = self.ask(Request::OffsetCommit(commit));
                self.fenced.insert(ticket);
            }
            _ => {}
        }
    }

    fn start_client(&mut self) {
        self.names += 1;
        let group = GROUPS[self.chance.below(GROUPS.len())];
        let instance_id = self.chance.percent(40).then(|| format!("i{}", self.names));
        let name = format!("c{}", self.names);
        self.clients.push(Client::new(group, name, instance_id));
    }

    fn crash_client(&mut self) {
        if !self.clients.is_empty() {
            let place = self.chance.below(self.clients.len());
            self.clients.remove(place);
        }
    }

    fn leave(&mut self) {
        if !self.clients.is_empty() {
            let place = self.chance.below(self.clients.len());
            let client = self.clients.remove(place);
            if !client.is_replaced(&self.checks[&*client.group]) {
                self.ask(Request::LeaveGroup(client.leaving()));
                self.observe();
            }
        }
    }

    /// Starts a client again with its instance id, while the former one goes on or has crashed.
    fn start_twin(&mut self) {
        let statics = (0..self.clients.len()).filter(|place| self.clients[*place].may_have_twin());
        let statics: Vec<usize> = statics.collect();
        if statics.is_empty() {
            return;
        }
        let place = statics[self.chance.below(statics.len())];
        self.names += 1;
        let former = &mut self.clients[place];
        let instance_id = former.instance_id().map(str::to_owned);
        let twin = Client::new(&former.group, format!("c{}", self.names), instance_id);
        if former.member_id().is_empty() || self.chance.percent(50) {
            self.clients.remove(place);
        } else {
            former.has_twin = true;
        }
        self.clients.push(twin);
    }

    fn act(&mut self, place: usize, with_chaos: bool) {
        let random = u128::from(self.chance.next());
        let client = &mut self.clients[place];
        let checks = &self.checks[&*client.group];
        let is_replaced = !client.member_id().is_empty() && client.is_replaced(checks);
        if let Some(request) = client.next(self.now_ms, random) {
            let ticket = self.next_ticket();
            self.clients[place].sent(ticket);
            self.hand_in(ticket, request, is_replaced);
        }
        let client = &self.clients[place];
        if client.is_active() && !client.partitions.is_empty() && self.chance.percent(if with_chaos { 5 } else { 1 }) {
            let partitions: Vec<i32> = client.partitions.iter().copied().collect();
            let partition = partitions[self.chance.below(partitions.len())];
            let offset = self.next_offset;
            self.next_offset += 1;
            let is_replaced = client.is_replaced(&self.checks[&*client.group]);
            let request = Request::OffsetCommit(client.committing(partition, offset));
            let ticket = self.next_ticket();
            self.clients[place].sent_commit(ticket, partition, offset);
            self.hand_in(ticket, request, is_replaced);
            if self.chance.percent(10) {
                // It was on its way since the generation before.
                let mut late = self.clients[place].committing(partition, offset);
                late.generation.0 -= 1;
                let ticket = self.next_ticket();
                self.hand_in(ticket, Request::OffsetCommit(late), true);
            }
        }
    }

    fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn ask(&mut self, request: Request) -> Ticket {
        let ticket = self.next_ticket();
        self.hand_in(ticket, request, false);
        ticket
    }

    fn hand_in(&mut self, ticket: Ticket, request: Request, must_fail: bool) {
        self.open.insert(ticket);
        if must_fail {
            self.fenced.insert(ticket);
        }
        let time = self.time();
        self.drive(|replica, out| replica.handle(time, ticket, request, out));
    }

    /// Tells the leader something, and delivers what comes of it.
    fn drive(&mut self, tell: impl FnOnce(&mut Coordinator, &mut Output)) {
        let mut out = Output::default();
        tell(&mut self.replicas[self.leader], &mut out);
        self.pending.extend(out.writes);
        for (ticket, reply) in out.replies {
            if !self.open.remove(&ticket) {
                self.note(Err(format!("a second reply to {ticket:?}: {reply:?}")));
            }
            if self.fenced.remove(&ticket) && succeeds(&reply) {
                self.note(Err(format!("a fenced member was accepted: {reply:?}")));
            }
            for place in 0..self.clients.len() {
                let client = &mut self.clients[place];
                let checks = self.checks.get_mut(&*client.group).expect("one of the groups");
                let result = client.take(ticket, &reply, checks);
                self.note(result);
            }
            if matches!(
                reply,
                Reply::DescribeGroups(_) | Reply::OffsetFetch(_) | Reply::ListGroups(_)
            ) {
                self.own.insert(ticket, reply);
            }
        }
    }

    fn describe(&mut self, group: &str) -> Result<Description, Error> {
        let describe = DescribeGroups {
            groups: vec![group.to_owned()],
        };
        let ticket = self.ask(Request::DescribeGroups(describe));
        match self.own.remove(&ticket) {
            Some(Reply::DescribeGroups(mut groups)) => groups.remove(0).description,
            other => panic!("{other:?}"),
        }
    }

    /// Looks whether groups have become empty or are gone, and whether those that are stable have the whole topic.
    fn observe(&mut self) {
        for group in GROUPS {
            let description = self.describe(group);
            let checks = self.checks.get_mut(group).expect("one of the groups");
            match description {
                Err(_) => checks.is_gone(),
                Ok(description) if description.state == GroupState::Empty => checks.is_empty(),
                Ok(description) if description.state == GroupState::Stable => {
                    let members = description.members.iter();
                    let mut shares: Vec<u8> = members.flat_map(|member| member.assignment.iter().copied()).collect();
                    shares.sort_unstable();
                    if !shares.iter().copied().map(i32::from).eq(0..PARTITIONS) {
                        self.note(Err(format!("{group} is stable with the shares {shares:?}")));
                    }
                }
                Ok(_) => {}
            }
        }
    }

    fn fetch(&mut self, group: &'static str) {
        let fetch = OffsetFetch {
            groups: vec![GroupFetch {
                group: group.to_owned(),
                topics: Some(vec![("t".into(), (0..PARTITIONS).collect())]),
            }],
            require_stable: false,
        };
        let ticket = self.ask(Request::OffsetFetch(fetch));
        let Some(Reply::OffsetFetch(groups)) = self.own.remove(&ticket) else {
            panic!("offsets")
        };
        for found in &groups[0].topics.as_ref().expect("the leader answers")[0].partitions {
            let offset = Some(found.offset.0).filter(|offset| *offset >= 0);
            let checks = self.checks.get_mut(group).expect("one of the groups");
            let result = checks.fetched(found.partition, offset);
            self.note(result);
        }
    }

    /// Appends a write to the log, and lets the other replicas apply it.
    fn append(&mut self, write: &Write) -> Offset {
        let first = Offset(self.log.len() as i64);
        self.log.extend(write.records.iter().cloned());
        for place in 0..REPLICAS {
            if place != self.leader {
                self.catch_up(place);
            }
        }
        first
    }

    fn catch_up(&mut self, place: usize) {
        let replica = &mut self.replicas[place];
        let from = replica.applied().0 as usize;
        for (offset, record) in self.log.iter().enumerate().skip(from) {
            let replayed = replica.replay(Offset(offset as i64), &record.key, record.value.as_deref());
            replayed.expect("a record that can be read");
        }
    }

    fn commit_one(&mut self) {
        let write = self.pending.pop_front().expect("a write under way");
        let first = self.append(&write);
        let time = self.time();
        self.drive(|replica, out| replica.written(time, write.id, Ok(first), out));
        let follower = (self.leader + 1) % REPLICAS;
        if !self.replicas[self.leader].same_state(&self.replicas[follower]) {
            // What is stored by writes that are under way is not shown, except by a bug.
            self.note(Err("leader and follower differ".into()));
        }
        self.observe();
    }

    /// The leader goes. Some of what was under way is committed all the same.
    fn fail_over(&mut self) {
        let before: Vec<_> = GROUPS.into_iter().map(|group| self.describe(group)).collect();
        let had_writes = !self.pending.is_empty();
        let by_write = had_writes && self.chance.percent(50);
        let survivors = self.chance.below(self.pending.len() + 1);
        let first = self.pending.front().map(|write| write.id);
        for _ in 0..survivors {
            let write = self.pending.pop_front().expect("as many are under way");
            self.append(&write);
        }
        self.pending.clear();
        let time = self.time();
        match first.filter(|_| by_write) {
            Some(id) => self.drive(|replica, out| replica.written(time, id, Err(WriteError::Unknown), out)),
            None => self.drive(|replica, out| replica.resign(out)),
        }
        if !self.open.is_empty() {
            let open = core::mem::take(&mut self.open);
            self.note(Err(format!("nobody answers {open:?}")));
        }
        self.catch_up(self.leader);
        let former = self.leader;
        self.now_ms += self.chance.below(3) as u64 * SESSION_MS as u64;
        let next = self.chance.below(REPLICAS);
        self.lead(next);
        if !self.replicas[former].same_state(&self.replicas[next]) {
            self.note(Err("a former leader keeps what was not committed".into()));
        }
        let after: Vec<_> = GROUPS.into_iter().map(|group| self.describe(group)).collect();
        for (before, after) in before.into_iter().zip(after) {
            let was_stable = before.as_ref().is_ok_and(|group| group.state == GroupState::Stable);
            if was_stable && !had_writes && before != after {
                self.note(Err(format!("{before:?} became {after:?} by a failover")));
            }
        }
        self.observe();
    }

    fn lead(&mut self, next: usize) {
        self.leader = next;
        let time = self.time();
        self.drive(|replica, out| replica.lead(time, out));
    }

    /// Every client has its share, and all shares of a group are of one generation and make up the topic.
    fn check_rest(&mut self) -> Result<(), String> {
        for group in GROUPS {
            let clients: Vec<&Client> = self.clients.iter().filter(|client| client.group == group).collect();
            if clients.is_empty() {
                continue;
            }
            let generations: BTreeSet<_> = clients.iter().map(|client| client.generation()).collect();
            let mut all: Vec<i32> = clients
                .iter()
                .flat_map(|client| client.partitions.iter().copied())
                .collect();
            all.sort_unstable();
            let are_active = clients.iter().all(|client| client.is_active());
            if !are_active || generations.len() != 1 || all != (0..PARTITIONS).collect::<Vec<_>>() {
                return Err(format!("{group} doesn't come to rest: {all:?} in {generations:?}"));
            }
        }
        for group in GROUPS {
            self.fetch(group);
        }
        self.verdict()
    }

    /// The state in portions is the state; and any part of the log can be led with.
    fn check_copies(mut self) -> Result<(), String> {
        let leader = &self.replicas[self.leader];
        let mut copy = Coordinator::new(self.config.clone());
        let mut after = None;
        loop {
            let portion = leader.state_records(after.as_ref(), 200);
            for record in portion.records {
                let replayed = copy.replay(copy.applied(), &record.key, record.value.as_deref());
                replayed.map_err(|error| error.to_string())?;
            }
            after = portion.next;
            if after.is_none() {
                break;
            }
        }
        if !copy.same_state(leader) {
            return Err("the copy is another state".into());
        }
        for _ in 0..5 {
            let end = self.chance.below(self.log.len() + 1);
            let mut replica = Coordinator::new(self.config.clone());
            for (offset, record) in self.log[..end].iter().enumerate() {
                let replayed = replica.replay(Offset(offset as i64), &record.key, record.value.as_deref());
                replayed.map_err(|error| error.to_string())?;
            }
            let mut out = Output::default();
            let mut time = self.time();
            replica.lead(time, &mut out);
            for _ in 0..100 {
                time.monotonic_ms += 1_000;
                replica.tick(time, &mut out);
            }
            replica.resign(&mut out);
        }
        Ok(())
    }
}

/// Whether a request was granted.
fn succeeds(reply: &Reply) -> bool {
    match reply {
        Reply::JoinGroup(result) => result.is_ok(),
        Reply::SyncGroup(result) => result.is_ok(),
        Reply::Heartbeat(result) => result.is_ok(),
        Reply::OffsetCommit(topics) => topics[0].partitions[0].1.is_ok(),
        _ => false,
    }
}
