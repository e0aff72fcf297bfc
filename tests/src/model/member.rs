//! One member: the real group, its log, its disk, and what it has promised so far.

mod laws;

use super::law::{Law, Violation};
use bytes::Bytes;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use trimaran_raft::{
    Config, Configuration, Entry, Event, Group, HardState, Heartbeats, Input, Instant, Life, Liveness, LogIndex,
    LogView, MemoryLog, Message, NodeId, Output, Payload, Persist, ReadId, Recovered, Role, Snapshot, Term, TermAt,
    Token, Tuning,
};

/// What every member's clock shows between two happenings: time is only distances to deadlines. It is far enough from
/// the clock's origin for the intervals of [`tuning`]: see [`Group::rename`].
pub(super) const NOW: Instant = Instant(16);

/// Intervals of one or two ticks of the clock: any order of timeouts is explored anyway, so only who waits for whom
/// matters, and short distances make states coincide.
pub(super) fn tuning(heartbeats: Heartbeats) -> Tuning {
    let ticks = Duration::from_micros;
    Tuning {
        heartbeats,
        election_timeout: ticks(2),
        rank_delay: ticks(1),
        suspicion_delay: ticks(1),
        retransmit_timeout: ticks(2),
        max_inflight_messages: 2,
        // One entry an append, unless that one is blank and the next one as well.
        max_append_bytes: 0,
        seed: 1,
        ..Tuning::default()
    }
}

/// What can happen to one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stimulus {
    /// A message arrives.
    Receive(NodeId, Message),
    /// Its deadline comes.
    Timeout,
    /// Its oldest write is durable, and it is told so.
    Sync,
    /// It stops and starts again at once. The first so many of the writes under way have reached the disk; whether it
    /// remembers what was committed, as far as that is on its disk.
    Crash { written: usize, remembers: bool },
    /// A client proposes this.
    Propose(u8),
    /// It is told about another node.
    Evidence(NodeId, Liveness),
    /// It is told that a node is back.
    Restored(NodeId),
    /// It is told to hand over.
    Transfer(NodeId),
    /// It is told to change the members to these.
    Change(Configuration),
    /// It is asked from where on a read is fresh.
    Read(ReadId),
    /// It deletes from its log what it knows to be committed.
    Delete,
    /// It loses its disk, and starts again at once.
    Lose,
}

/// What is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    hard_state: HardState,
    pub(super) log: MemoryLog,
}

/// One member with its log, its disk, and what others rely on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) group: Group,
    pub(super) log: MemoryLog,
    pub(super) disk: Disk,
    /// Handed to the disk, but not durable yet.
    pub(super) writes: VecDeque<Persist>,
    /// The votes that others may have seen, in the order of terms. It outlives crashes, as the others' memory does.
    promised: Vec<(Term, NodeId)>,
    /// What was on its disk when that was lost.
    former: MemoryLog,
    /// The group's first configuration.
    first: Rc<Configuration>,
}

/// What a member made of something.
#[derive(Clone, Debug, Default)]
pub(super) struct Reaction {
    pub(super) persist: Option<Persist>,
    pub(super) sent: Vec<(NodeId, Message)>,
    pub(super) events: Vec<Event>,
    pub(super) reads: Vec<(ReadId, LogIndex)>,
}

/// How members are built, also after a crash.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Everybody, members or not.
    pub(super) nodes: Vec<NodeId>,
    /// The group's first.
    pub(super) configuration: Configuration,
    pub(super) tuning: Tuning,
    /// See [`super::Scenario::prepare`].
    pub(super) prepare: fn(&mut Group),
}

impl Plan {
    /// A member as it starts, with what is on its disk; or how it panics.
    fn group(&self, id: NodeId, committed: LogIndex, disk: &Disk) -> Result<Group, Violation> {
        let config = Config {
            id,
            configuration: self.configuration.clone(),
            tuning: self.tuning.clone(),
        };
        let recovered = Recovered {
            hard_state: disk.hard_state,
            committed,
            configurations: disk.log.configurations().to_vec(),
            ..Recovered::default()
        };
        assertions_hold(|| {
            let mut group = Group::new(config, recovered, NOW, &disk.log);
            (self.prepare)(&mut group);
            group
        })
    }

    /// A member whose disk holds entries of these terms, and this term without a vote.
    pub(super) fn member(&self, id: NodeId, term: Term, log: &[u64]) -> Member {
        let entry = |(index, term): (u64, &u64)| Entry {
            index: LogIndex(index),
            term: Term(*term),
            payload: Payload::Data(Bytes::from_static(b".")),
        };
        let mut disk = Disk::default();
        disk.hard_state.term = term;
        disk.log.apply(&Persist {
            token: Token(0),
            hard_state: None,
            reset: None,
            truncate_from: None,
            entries: (1..).zip(log).map(entry).collect(),
        });
        let group = self.group(id, LogIndex::ZERO, &disk);
        Member {
            group: group.expect("a scenario's disks are those of a group"),
            log: disk.log.clone(),
            disk,
            writes: VecDeque::new(),
            promised: Vec::new(),
            former: MemoryLog::new(),
            first: Rc::new(self.configuration.clone()),
        }
    }
}

/// What it returns; a panic is a failed assertion.
fn assertions_hold<T>(f: impl FnOnce() -> T) -> Result<T, Violation> {
    // What panicked is not looked at again.
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Violation::new(Law::NoAssertionFails, text)
    })
}

impl Member {
    /// What comes of it, and what it says; or the law that it breaks. The clock shows [`NOW`] before and after.
    pub(super) fn after(&self, what: &Stimulus, plan: &Plan) -> Result<(Member, Reaction), Violation> {
        let mut next = self.clone();
        let reaction = next.meet(what, plan)?;
        let durable = next.rename();
        next.writes
            .iter_mut()
            .for_each(|write| write.token = Token(write.token.0 - durable));
        Ok((next, reaction))
    }

    /// Tokens count from the last durable write again; returns by how much they fall.
    fn rename(&mut self) -> u64 {
        self.group.rename(NOW);
        self.writes.front().map_or(0, |oldest| oldest.token.0 - 1)
    }

    fn meet(&mut self, what: &Stimulus, plan: &Plan) -> Result<Reaction, Violation> {
        match what {
            Stimulus::Receive(from, message) => self.tell(NOW, Input::Message(*from, message.clone())),
            Stimulus::Timeout => {
                let deadline = self.group.deadline().expect("only who waits is timed out");
                self.tell(deadline, Input::Tick)
            }
            Stimulus::Sync => self.sync(NOW),
            Stimulus::Crash { written, remembers } => self.crash(*written, *remembers, plan),
            Stimulus::Propose(number) => self.tell(NOW, Input::Propose(vec![Bytes::from(vec![b'a' + number])])),
            Stimulus::Evidence(node, liveness) => self.tell(NOW, Input::Liveness(*node, *liveness)),
            Stimulus::Restored(node) => self.tell(NOW, Input::Restored(*node)),
            Stimulus::Transfer(to) => self.tell(NOW, Input::Transfer(Some(*to))),
            Stimulus::Change(target) => self.tell(NOW, Input::Change(target.clone())),
            Stimulus::Read(read) => self.tell(NOW, Input::Read(*read)),
            Stimulus::Delete => Ok(self.delete()),
            Stimulus::Lose => self.lose(plan),
        }
    }

    /// Tells the group one thing, does at once what its driver must do at once, and judges what it said.
    pub(super) fn tell(&mut self, now: Instant, input: Input) -> Result<Reaction, Violation> {
        let commit = self.group.commit();
        let mut reaction = Reaction::default();
        self.step(now, input, &mut reaction)?;
        self.judge(now, commit, &reaction)?;
        let applied = self.group.commit();
        if applied > commit {
            // Applying takes no time here.
            self.step(now, Input::Applied(applied), &mut reaction)?;
            self.judge(now, applied, &reaction)?;
        }
        for to in reaction.lacking() {
            let snapshot = Box::new(self.snapshot());
            self.step(now, Input::Snapshot { to, snapshot }, &mut reaction)?;
        }
        Ok(reaction)
    }

    /// Where its log begins, with all that is needed to go on from there.
    fn snapshot(&self) -> Snapshot {
        let index = self.log.first_index().prev();
        let TermAt::Known(term) = self.log.term_at(index) else {
            unreachable!("a log knows where it begins");
        };
        Snapshot {
            index,
            term,
            configuration: self.log.configuration_at(index).unwrap_or(&self.first).clone(),
            data: Bytes::new(),
        }
    }

    /// The oldest write reaches the disk.
    pub(super) fn sync(&mut self, now: Instant) -> Result<Reaction, Violation> {
        let token = self.reach_disk().expect("only what was written becomes durable");
        self.tell(now, Input::Persisted(token))
    }

    fn reach_disk(&mut self) -> Option<Token> {
        let write = self.writes.pop_front()?;
        if let Some(hard_state) = write.hard_state {
            self.disk.hard_state = hard_state;
        }
        self.disk.log.apply(&write);
        Some(write.token)
    }

    fn crash(&mut self, written: usize, remembers: bool, plan: &Plan) -> Result<Reaction, Violation> {
        // Only what is durable as well as committed can have been noted as committed.
        let noted = self.group.commit().min(self.group.durable());
        let committed = if remembers { noted } else { LogIndex::ZERO };
        for _ in 0..written {
            self.reach_disk();
        }
        self.restart(committed, plan)
    }

    fn restart(&mut self, committed: LogIndex, plan: &Plan) -> Result<Reaction, Violation> {
        self.writes.clear();
        self.log = self.disk.log.clone();
        self.group = plan.group(self.group.id(), committed, &self.disk)?;
        self.tell(NOW, Input::Applied(self.group.commit()))
    }

    /// Its disk is lost, and it starts again.
    pub(super) fn lose(&mut self, plan: &Plan) -> Result<Reaction, Violation> {
        let life = Life(self.disk.hard_state.life.0 + 1);
        let lost = Disk {
            hard_state: HardState::lost(HardState::default(), life),
            log: MemoryLog::new(),
        };
        self.former = mem::replace(&mut self.disk, lost).log;
        self.restart(LogIndex::ZERO, plan)
    }

    fn delete(&mut self) -> Reaction {
        let upto = self.deletable();
        self.log.compact(upto);
        self.disk.log.compact(upto);
        Reaction::default()
    }

    fn step(&mut self, now: Instant, input: Input, reaction: &mut Reaction) -> Result<(), Violation> {
        let mut output = Output::default();
        let (group, log) = (&mut self.group, &mut self.log);
        assertions_hold(|| {
            group.step(now, input, log, &mut output);
            output.persist.iter().for_each(|persist| log.apply(persist));
        })?;
        if let Some(persist) = output.persist.take() {
            self.writes.push_back(persist.clone());
            reaction.persist = Some(persist);
        }
        reaction.sent.append(&mut output.messages);
        for plan in mem::take(&mut output.appends) {
            let entries = self.log.entries(plan.first, plan.last).to_vec();
            reaction.sent.push((plan.to, plan.with(entries)));
        }
        reaction.events.append(&mut output.events);
        let answered = output.reads.drain(..);
        let answered = answered.filter_map(|(read, answer)| Some((read, answer.ok()?)));
        reaction.reads.extend(answered);
        Ok(())
    }
}

/// Queries.
impl Member {
    pub(super) fn leads(&self) -> bool {
        self.group.role() == Role::Leader
    }

    /// Its whole log, but for what it has deleted.
    pub(super) fn entries(&self) -> &[Entry] {
        self.log.entries(self.log.first_index(), self.log.last_index())
    }

    /// Whether its log has this entry, or had it and deleted it.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        entry.index < self.log.first_index() || self.entries().contains(entry)
    }

    /// Whether this entry is on its disk, or was when the disk was lost, and no leader has let the member back in since.
    pub(super) fn has_promised_to_keep(&self, entry: &Entry) -> bool {
        let is_in = |log: &MemoryLog| match log.term_at(entry.index) {
            TermAt::Known(term) => term == entry.term,
            TermAt::Compacted => true,
            TermAt::Missing => false,
        };
        let is_lost = self.disk.hard_state.barred == LogIndex::MAX;
        is_in(&self.disk.log) || is_lost && is_in(&self.former)
    }

    /// Whether others may have seen its vote.
    pub(super) fn has_voted(&self, term: Term, candidate: NodeId) -> bool {
        self.promised.contains(&(term, candidate))
    }

    /// It has lost its disk, and its log doesn't reach the place from which on it may vote again.
    pub(super) fn is_lost(&self) -> bool {
        self.disk.hard_state.barred > self.disk.log.last_index()
    }

    /// The members that its log says there, or the group's first ones.
    pub(super) fn configuration_at(&self, index: LogIndex) -> &Configuration {
        self.log.configuration_at(index).unwrap_or(&self.first)
    }

    /// The members that its log says last, committed or not: "a server always uses the latest configuration in its log"
    /// (Raft paper, section 6).
    pub(super) fn in_force(&self) -> &Configuration {
        self.log.configuration_at(self.log.last_index()).unwrap_or(&self.first)
    }

    /// Up to where it may delete: what is committed and on its disk.
    pub(super) fn deletable(&self) -> LogIndex {
        self.group.commit().min(self.group.durable())
    }
}

impl Reaction {
    /// Who needs a snapshot.
    fn lacking(&self) -> Vec<NodeId> {
        let lacking = |event: &Event| match event {
            Event::NeedsSnapshot(node) => Some(*node),
            _ => None,
        };
        self.events.iter().filter_map(lacking).collect()
    }
}
