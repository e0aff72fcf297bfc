//! The plainest driver of a group: a log in memory, a disk that is written behind, and what is on it after a crash.

use crate::group::Sabotage;
use crate::*;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use std::mem;

pub(super) fn tuning(heartbeats: Heartbeats) -> Tuning {
    Tuning {
        heartbeats,
        election_timeout: Duration::from_millis(100),
        rank_delay: Duration::from_millis(20),
        suspicion_delay: Duration::from_millis(30),
        retransmit_timeout: Duration::from_millis(40),
        max_inflight_messages: 4,
        max_inflight_bytes: 1000,
        max_append_bytes: 300,
        max_uncommitted_bytes: 2000,
        lease: None,
        seed: 1,
    }
}

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) log: MemoryLog,
}

/// What is done to a group.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Step(Input),
    /// It is settled later, if that can be put off.
    Tell(Input),
    Settle,
}

impl Deed {
    pub(super) fn apply(self, group: &mut Group, now: Instant, log: &MemoryLog, output: &mut Output) {
        let told = match self {
            Deed::Step(input) => return group.step(now, input, log, output),
            Deed::Tell(input) => group.handle(now, input, log, output),
            Deed::Settle => Handled::Full,
        };
        if told == Handled::Full {
            group.ready(now, log, output);
        }
    }

    pub(super) fn input(&mut self) -> Option<&mut Input> {
        match self {
            Deed::Step(input) | Deed::Tell(input) => Some(input),
            Deed::Settle => None,
        }
    }
}

/// One member with its log and its disk.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) config: Config,
    /// None while it is down.
    pub(super) group: Option<Group>,
    pub(super) log: MemoryLog,
    pub(super) disk: Disk,
    /// What was on its disk before that was wiped.
    pub(super) wiped: MemoryLog,
    /// Handed to the disk, but not durable yet.
    pub(super) writes: VecDeque<Persist>,
    /// How far it has applied since it started.
    pub(super) applied: LogIndex,
    /// How its group is broken.
    pub(super) sabotage: Option<Sabotage>,
}

impl Replica {
    pub(super) fn new(config: Config, now: Instant) -> Replica {
        let log = MemoryLog::new();
        let group = Group::new(config.clone(), Recovered::default(), now, &log);
        Replica {
            config,
            group: Some(group),
            log,
            disk: Disk::default(),
            wiped: MemoryLog::new(),
            writes: VecDeque::new(),
            applied: LogIndex::ZERO,
            sabotage: None,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.config.id
    }

    /// Tells the group one thing, and does at once what must be done at once.
    pub(super) fn step(&mut self, now: Instant, input: Input) -> Output {
        self.act(now, Deed::Step(input))
    }

    /// Does that to the group, and does at once what must be done at once. The write goes to `writes`, the appends are
    /// read and put among the messages.
    pub(super) fn act(&mut self, now: Instant, deed: Deed) -> Output {
        let mut output = Output::default();
        let Some(group) = &mut self.group else { return output };
        deed.apply(group, now, &self.log, &mut output);
        if let Some(persist) = &output.persist {
            self.log.apply(persist);
            if let Some(reset) = &persist.reset {
                self.applied = self.applied.max(reset.index);
            }
            self.writes.push_back(persist.clone());
        }
        for plan in mem::take(&mut output.appends) {
            output.messages.push((plan.to, append_of(&plan, &self.log)));
        }
        output
    }

    /// The oldest write reaches the disk.
    pub(super) fn sync_one(&mut self) -> Option<Token> {
        let write = self.writes.pop_front()?;
        if let Some(hard_state) = write.hard_state {
            self.disk.hard_state = hard_state;
        }
        self.disk.log.apply(&write);
        Some(write.token)
    }

    pub(super) fn crash(&mut self) {
        self.group = None;
        self.writes.clear();
        self.log = self.disk.log.clone();
        self.applied = self.log.first_index().prev();
    }

    /// Its disk is gone while it is down.
    pub(super) fn wipe(&mut self, life: Life) {
        let disk = Disk {
            hard_state: HardState::lost(HardState::default(), life),
            log: MemoryLog::new(),
        };
        self.wiped = mem::replace(&mut self.disk, disk).log;
        self.log = MemoryLog::new();
        self.applied = LogIndex::ZERO;
    }

    pub(super) fn restart(&mut self, now: Instant, committed: LogIndex) {
        let recovered = Recovered {
            hard_state: self.disk.hard_state,
            committed,
            configurations: self.log.configurations().to_vec(),
            ..Recovered::default()
        };
        let mut group = Group::new(self.config.clone(), recovered, now, &self.log);
        if let Some(how) = self.sabotage {
            group.sabotage(how);
        }
        self.group = Some(group);
    }

    /// The committed entries that are not applied yet.
    pub(super) fn to_apply(&self) -> Vec<Entry> {
        let commit = self.group.as_ref().map_or(LogIndex::ZERO, Group::commit);
        self.log.entries(self.applied.next(), commit).to_vec()
    }
}

/// What a driver sends for a plan.
pub(super) fn append_of(plan: &AppendPlan, log: &MemoryLog) -> Message {
    let entries = log.entries(plan.first, plan.last).to_vec();
    assert_eq!(
        entries.len() as u64,
        (plan.last.0 + 1).saturating_sub(plan.first.0),
        "a plan names what is held"
    );
    plan.with(entries)
}

/// A member of three (this is member 1) that restarts with such a log, and whose disk is immediate.
pub(super) fn member(term: u64, terms: &[u64]) -> Replica {
    let config = Config {
        id: NodeId(1),
        configuration: Configuration::of_voters([1, 2, 3].map(NodeId)),
        tuning: tuning(Heartbeats::External),
    };
    let mut replica = Replica::new(config, Instant::ZERO);
    replica.disk.hard_state.term = Term(term);
    let entries = entries(1, terms);
    replica.disk.log.apply(&Persist {
        token: Token(0),
        hard_state: None,
        reset: None,
        truncate_from: None,
        entries,
    });
    replica.crash();
    replica.restart(Instant::ZERO, LogIndex::ZERO);
    replica
}

/// Entries of these terms, from this index on.
pub(super) fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    let entry = |(index, term): (u64, &u64)| Entry {
        index: LogIndex(index),
        term: Term(*term),
        payload: Payload::Data(Bytes::from(alloc::format!("{term}/{index}"))),
    };
    (first..).zip(terms).map(entry).collect()
}

impl Replica {
    /// Tells it one thing, lets its disk answer at once, and returns all that it says.
    pub(super) fn tell(&mut self, input: Input) -> Output {
        let mut output = self.step(Instant::ZERO, input);
        while let Some(token) = self.sync_one() {
            let more = self.step(Instant::ZERO, Input::Persisted(token));
            output.messages.extend(more.messages);
            output.events.extend(more.events);
            output.committed = more.committed.or(output.committed);
        }
        output
    }

    /// What it answers to a message from member `from`.
    pub(super) fn answer(&mut self, from: u64, term: u64, body: Body) -> Vec<(NodeId, Message)> {
        let message = Message { term: Term(term), body };
        self.tell(Input::Message(NodeId(from), message)).messages
    }

    /// Makes it a leader, by the vote of member 2.
    pub(super) fn elect(&mut self) -> Output {
        self.tell(Input::Campaign);
        let term = self.up().term().next();
        let granted = Body::PreVoteReply {
            granted: true,
            longer_log: false,
        };
        self.answer(2, term.0, granted);
        let message = Message {
            term,
            body: Body::VoteReply { granted: true },
        };
        self.tell(Input::Message(NodeId(2), message))
    }

    pub(super) fn up(&self) -> &Group {
        self.group.as_ref().expect("it is up")
    }

    pub(super) fn log_terms(&self) -> Vec<u64> {
        self.log
            .entries(LogIndex(1), self.log.last_index())
            .iter()
            .map(|entry| entry.term.0)
            .collect()
    }
}
