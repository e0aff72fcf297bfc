//! A log with two replicas, of which one leads; and short ways to ask it.

use crate::request::*;
use crate::{Config, Coordinator, Error, Generation, Offset, Output, Record, Time, Write, WriteError};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// The session and rebalance time-outs of members, unless a test says otherwise.
pub(super) const SESSION_MS: u64 = 10_000;
pub(super) const REBALANCE_MS: u64 = 60_000;

pub(super) struct Rig {
    pub(super) config: Config,
    pub(super) time: Time,
    pub(super) leader: Coordinator,
    follower: Coordinator,
    /// The committed records.
    pub(super) log: Vec<Record>,
    /// Writes that are neither committed nor lost.
    pub(super) pending: VecDeque<Write>,
    replies: BTreeMap<Ticket, Reply>,
    tickets: u64,
}

/// A configuration under which a first member need not wait for others.
pub(super) fn prompt() -> Config {
    Config {
        group_initial_rebalance_delay_ms: 0,
        ..Config::default()
    }
}

impl Rig {
    /// A leader of an empty log.
    pub(super) fn new(config: Config) -> Rig {
        let mut rig = Rig {
            time: Time {
                monotonic_ms: 5_000,
                unix_ms: 1_700_000_000_000,
            },
            leader: Coordinator::new(config.clone()),
            follower: Coordinator::new(config.clone()),
            config,
            log: Vec::new(),
            pending: VecDeque::new(),
            replies: BTreeMap::new(),
            tickets: 0,
        };
        rig.lead();
        rig
    }

    fn lead(&mut self) {
        let mut out = Output::default();
        self.leader.lead(self.time, &mut out);
        self.absorb(out);
    }

    fn absorb(&mut self, out: Output) {
        self.pending.extend(out.writes);
        for (ticket, reply) in out.replies {
            assert!(ticket.0 <= self.tickets, "a ticket that was given");
            let earlier = self.replies.insert(ticket, reply);
            assert_eq!(earlier, None, "a request is answered once");
        }
    }

    /// Hands in a request, and commits nothing.
    pub(super) fn ask(&mut self, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let mut out = Output::default();
        self.leader.handle(self.time, ticket, request, &mut out);
        self.absorb(out);
        ticket
    }

    /// Commits the first write that is under way.
    pub(super) fn commit_one(&mut self) {
        let write = self.pending.pop_front().expect("a write under way");
        let first = Offset(self.log.len() as i64);
        for record in &write.records {
            let offset = Offset(self.log.len() as i64);
            let value = record.value.as_deref();
            self.follower
                .replay(offset, &record.key, value)
                .expect("a record that can be read");
            self.log.push(record.clone());
        }
        let mut out = Output::default();
        self.leader.written(self.time, write.id, Ok(first), &mut out);
        self.absorb(out);
        assert!(self.leader.same_state(&self.follower), "leader and follower differ");
        assert_eq!(self.leader.applied(), self.follower.applied());
    }

    /// Commits all writes.
    pub(super) fn commit(&mut self) {
        while !self.pending.is_empty() {
            self.commit_one();
        }
    }

    /// The reply to a request, if it has come.
    pub(super) fn reply(&mut self, ticket: Ticket) -> Option<Reply> {
        self.replies.remove(&ticket)
    }

    /// Asks, commits, and expects the reply.
    pub(super) fn call(&mut self, request: Request) -> Reply {
        let ticket = self.ask(request);
        self.commit();
        self.reply(ticket).expect("a reply once everything is written")
    }

    /// Lets time go by, and does what is due meanwhile.
    pub(super) fn pass(&mut self, ms: u64) {
        let end_ms = self.time.monotonic_ms + ms;
        while let Some(at_ms) = self.leader.deadline().filter(|at_ms| *at_ms <= end_ms) {
            self.set_clock(at_ms.max(self.time.monotonic_ms));
            let mut out = Output::default();
            self.leader.tick(self.time, &mut out);
            self.absorb(out);
            self.commit();
        }
        self.set_clock(end_ms);
    }

    fn set_clock(&mut self, monotonic_ms: u64) {
        self.time.unix_ms += (monotonic_ms - self.time.monotonic_ms) as i64;
        self.time.monotonic_ms = monotonic_ms;
    }

    /// The leader dies, with what is not committed. The follower leads, with another clock.
    pub(super) fn fail_over(&mut self) {
        self.pending.clear();
        self.time.monotonic_ms += 1_000_000;
        let follower = self.replayed();
        self.leader = core::mem::replace(&mut self.follower, follower);
        self.lead();
    }

    /// Lets the follower replay what a test has put into the log.
    pub(super) fn follow_log(&mut self) {
        self.follower = self.replayed();
    }

    /// The first write fails, and the leader with it.
    pub(super) fn fail_write(&mut self, error: WriteError) {
        let write = self.pending.pop_front().expect("a write under way");
        self.pending.clear();
        let mut out = Output::default();
        self.leader.written(self.time, write.id, Err(error), &mut out);
        self.absorb(out);
    }

    /// A replica that has replayed the log.
    pub(super) fn replayed(&self) -> Coordinator {
        let mut replica = Coordinator::new(self.config.clone());
        for (offset, record) in self.log.iter().enumerate() {
            let value = record.value.as_deref();
            replica.replay(Offset(offset as i64), &record.key, value).unwrap();
        }
        replica
    }

    pub(super) fn join(&mut self, join: JoinGroup) -> Result<Joined, JoinRefused> {
        match self.call(Request::JoinGroup(join)) {
            Reply::JoinGroup(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// The reply to a request to join that was handed in before.
    pub(super) fn joined(&mut self, ticket: Ticket) -> Result<Joined, JoinRefused> {
        match self.reply(ticket) {
            Some(Reply::JoinGroup(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sync(&mut self, sync: SyncGroup) -> Result<Synced, Error> {
        match self.call(Request::SyncGroup(sync)) {
            Reply::SyncGroup(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn synced(&mut self, ticket: Ticket) -> Result<Synced, Error> {
        match self.reply(ticket) {
            Some(Reply::SyncGroup(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, member: &Seat) -> Result<(), Error> {
        let heartbeat = Heartbeat {
            group: "g".into(),
            generation: member.generation,
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
        };
        match self.call(Request::Heartbeat(heartbeat)) {
            Reply::Heartbeat(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), Error> {
        let member = LeavingMember {
            member_id: member_id.into(),
            instance_id: instance_id.map(str::to_owned),
        };
        let leave = LeaveGroup {
            group: "g".into(),
            members: vec![member],
        };
        match self.call(Request::LeaveGroup(leave)) {
            Reply::LeaveGroup(Ok(outcomes)) => outcomes[0].result,
            other => panic!("{other:?}"),
        }
    }

    /// A stable group `g` of so many dynamic members.
    pub(super) fn stable(&mut self, members: usize) -> Vec<Seat> {
        let joins = (0..members).map(|number| joining(number as u128 + 1)).collect();
        self.stable_with(joins)
    }

    /// A stable group of these members. The first one leads. All join at once, with `group.initial.rebalance.delay.ms` zero or not.
    pub(super) fn stable_with(&mut self, joins: Vec<JoinGroup>) -> Vec<Seat> {
        let mut tickets: Vec<(JoinGroup, Ticket)> = Vec::new();
        for join in joins {
            // The earlier ones notice, and join again.
            let again = tickets.iter_mut();
            let mut rejoining = Vec::new();
            for (earlier, ticket) in again {
                if let Some(Reply::JoinGroup(Ok(joined))) = self.replies.remove(ticket) {
                    earlier.member_id = joined.member_id;
                    rejoining.push(earlier.clone());
                }
            }
            let ticket = self.ask(Request::JoinGroup(join.clone()));
            for (place, join) in rejoining.into_iter().enumerate() {
                tickets[place].1 = self.ask(Request::JoinGroup(join));
            }
            tickets.push((join, ticket));
        }
        self.pass(self.config.group_initial_rebalance_delay_ms);
        let joined: Vec<Joined> = tickets
            .iter()
            .map(|(_, ticket)| self.joined(*ticket).unwrap())
            .collect();
        self.sync_all(&tickets.into_iter().map(|(join, _)| join).collect::<Vec<_>>(), &joined)
    }

    /// All members of a generation ask for their assignments, followers first: each gets its id in bytes.
    pub(super) fn sync_all(&mut self, joins: &[JoinGroup], joined: &[Joined]) -> Vec<Seat> {
        let seats: Vec<Seat> = joins
            .iter()
            .zip(joined)
            .map(|(join, joined)| Seat {
                id: joined.member_id.clone(),
                generation: joined.generation,
                instance_id: join.instance_id.clone(),
                assignment: Bytes::new(),
                is_leader: joined.leader == joined.member_id,
            })
            .collect();
        let leader = joined
            .iter()
            .find(|joined| joined.leader == joined.member_id)
            .expect("a leader");
        let everyone = leader.members.iter().map(|member| member.member_id.clone());
        let assignments: Vec<(String, Bytes)> = everyone.map(|id| (id.clone(), Bytes::from(id))).collect();
        let mut order: Vec<usize> = (0..seats.len()).collect();
        order.sort_by_key(|place| seats[*place].is_leader);
        let mut tickets = BTreeMap::new();
        for place in order {
            let mut sync = seats[place].syncing();
            if seats[place].is_leader {
                sync.assignments = assignments.clone();
            }
            tickets.insert(place, self.ask(Request::SyncGroup(sync)));
        }
        self.commit();
        let seats = seats.into_iter().enumerate();
        seats
            .map(|(place, seat)| Seat {
                assignment: self.synced(tickets[&place]).unwrap().assignment,
                ..seat
            })
            .collect()
    }

    pub(super) fn describe(&mut self, group: &str) -> Result<Description, Error> {
        let describe = DescribeGroups {
            groups: vec![group.into()],
        };
        match self.call(Request::DescribeGroups(describe)) {
            Reply::DescribeGroups(mut groups) => groups.remove(0).description,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&mut self) -> GroupState {
        self.describe("g").unwrap().state
    }

    /// Commits an offset of partition 0 of a topic, and returns the partition's result.
    pub(super) fn commit_offset(&mut self, commit: OffsetCommit) -> Result<(), Error> {
        match self.call(Request::OffsetCommit(commit)) {
            Reply::OffsetCommit(topics) => topics[0].partitions[0].1,
            other => panic!("{other:?}"),
        }
    }

    /// The committed offset of partition 0 of a topic; none for −1.
    pub(super) fn offset(&mut self, group: &str, topic: &str) -> Option<i64> {
        let fetch = OffsetFetch {
            groups: vec![GroupFetch {
                group: group.into(),
                topics: Some(vec![(topic.into(), vec![0])]),
            }],
            require_stable: true,
        };
        match self.call(Request::OffsetFetch(fetch)) {
            Reply::OffsetFetch(groups) => {
                let topics = groups[0].topics.as_ref().unwrap();
                let offset = topics[0].partitions[0].offset.0;
                (offset >= 0).then_some(offset)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A member of a generation.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) id: String,
    pub(super) generation: Generation,
    pub(super) instance_id: Option<String>,
    pub(super) assignment: Bytes,
    pub(super) is_leader: bool,
}

impl Seat {
    pub(super) fn syncing(&self) -> SyncGroup {
        SyncGroup {
            group: "g".into(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments: Vec::new(),
        }
    }

    /// The request with which the member joins again.
    pub(super) fn joining_again(&self) -> JoinGroup {
        JoinGroup {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            ..joining(0)
        }
    }

    /// A commit of the member's.
    pub(super) fn committing(&self, topic: &str, offset: i64) -> OffsetCommit {
        OffsetCommit {
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            ..committing("g", topic, offset)
        }
    }
}

/// The request of a new dynamic member of group `g` that subscribes to topic `t`.
pub(super) fn joining(random: u128) -> JoinGroup {
    JoinGroup {
        group: "g".into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS as i32,
        rebalance_timeout_ms: REBALANCE_MS as i32,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", &["t"])],
        random,
        ..JoinGroup::default()
    }
}

/// The request of a static member.
pub(super) fn static_joining(instance_id: &str, random: u128) -> JoinGroup {
    JoinGroup {
        instance_id: Some(instance_id.into()),
        knows_skip_assignment: true,
        ..joining(random)
    }
}

/// A protocol with a consumer's subscription.
pub(super) fn protocol(name: &str, topics: &[&str]) -> Protocol {
    let mut metadata = vec![0, 1];
    metadata.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    for topic in topics {
        metadata.extend_from_slice(&(topic.len() as i16).to_be_bytes());
        metadata.extend_from_slice(topic.as_bytes());
    }
    metadata.extend_from_slice(&(-1_i32).to_be_bytes());
    Protocol {
        name: name.into(),
        metadata: metadata.into(),
    }
}

/// A commit from outside the group.
pub(super) fn committing(group: &str, topic: &str, offset: i64) -> OffsetCommit {
    OffsetCommit {
        group: group.into(),
        generation: Generation::NONE,
        topics: vec![TopicCommit {
            topic: topic.into(),
            topic_id: None,
            partitions: vec![PartitionCommit {
                partition: 0,
                offset: Offset(offset),
                leader_epoch: None,
                metadata: String::new(),
            }],
        }],
        ..OffsetCommit::default()
    }
}
