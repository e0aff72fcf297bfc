//! `trimaran-raft`, as this project drives it.

use crate::case::{ELECTION, HEARTBEAT, MEMBERS, number, payload};
use crate::driver::{Applied, Node};
use bytes::Bytes;
use std::ops::Range;
use std::time::Duration;
use trimaran_raft::{
    Config, Configuration, Entry, Group, Heartbeats, Input, Instant, LogIndex, LogView, Message, NodeId, Output,
    Payload, Persist, Recovered, Role, Term, TermAt, Handled, Token, Tuning,
};

/// A log that forgets what all have, so that a long run needs no more memory than a short one.
struct Log {
    /// The index of the entry before the first.
    start: u64,
    start_term: Term,
    entries: Vec<Entry>,
    keep: usize,
}

impl Log {
    fn write(&mut self, persist: Persist) {
        if let Some(from) = persist.truncate_from {
            self.entries.truncate(self.place(from));
        }
        self.entries.extend(persist.entries);
    }

    fn place(&self, index: LogIndex) -> usize {
        (index.0 - self.start - 1) as usize
    }

    fn read(&self, first: LogIndex, last: LogIndex) -> &[Entry] {
        &self.entries[self.place(first)..self.place(last.next())]
    }

    fn forget(&mut self, applied: LogIndex) {
        if self.entries.len() > 2 * self.keep {
            let count = (self.entries.len() - self.keep).min(self.place(applied.next()));
            if let Some(last) = count.checked_sub(1).map(|at| &self.entries[at]) {
                (self.start, self.start_term) = (last.index.0, last.term);
                self.entries.drain(..count);
            }
        }
    }
}

impl LogView for Log {
    fn first_index(&self) -> LogIndex {
        LogIndex(self.start + 1)
    }

    fn last_index(&self) -> LogIndex {
        LogIndex(self.start + self.entries.len() as u64)
    }

    fn term_at(&self, index: LogIndex) -> TermAt {
        if index.0 <= self.start {
            return match index.0 == self.start {
                true => TermAt::Known(self.start_term),
                false => TermAt::Compacted,
            };
        }
        match self.entries.get(self.place(index)) {
            Some(entry) => TermAt::Known(entry.term),
            None => TermAt::Missing,
        }
    }

    fn last_index_with_term_at_most(&self, term: Term, upto: LogIndex) -> LogIndex {
        let end = self.place(upto.next().max(self.first_index())).min(self.entries.len());
        LogIndex(self.start + self.entries[..end].partition_point(|entry| entry.term <= term) as u64)
    }

    fn fit(&self, first: LogIndex, last: LogIndex, max_bytes: u64) -> (LogIndex, u64) {
        let (mut end, mut bytes) = (first.prev(), 0);
        for entry in self.read(first, last) {
            let more = bytes + entry.payload.len() as u64;
            if more > max_bytes && entry.index > first {
                break;
            }
            (end, bytes) = (entry.index, more);
        }
        (end, bytes)
    }
}

/// Where a member lives.
fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// What all members share: the buffer of outputs.
#[derive(Default)]
pub struct Shared {
    output: Output,
    outbox: Vec<(usize, Message)>,
    now: Instant,
    steps: u64,
}

/// A member.
pub struct Ours {
    group: Group,
    log: Log,
    /// Written to the log, and the core has not been told that it is durable.
    written: Option<Token>,
    committed: LogIndex,
    applied_to: LogIndex,
    applied: Applied,
}

impl Ours {
    /// A member of a new group, in which the first place is that of `leader`.
    pub fn new(group: usize, member: usize, heartbeats: Heartbeats, keep: usize) -> Ours {
        let log = Log {
            start: 0,
            start_term: Term::ZERO,
            entries: Vec::new(),
            keep,
        };
        let id = |member: usize| NodeId(member as u64 % MEMBERS as u64 + 1);
        let config = Config {
            id: id(member),
            // The first of them is preferred as a leader.
            configuration: Configuration::of_voters((0..MEMBERS).map(|place| id(group + place))),
            tuning: Tuning {
                heartbeats,
                election_timeout: ELECTION,
                max_inflight_messages: 256,
                seed: group as u64,
                ..Tuning::default()
            },
        };
        Ours {
            group: Group::new(config, Recovered::default(), Instant::ZERO, &log),
            log,
            written: None,
            committed: LogIndex::ZERO,
            applied_to: LogIndex::ZERO,
            applied: Applied::default(),
        }
    }

    /// Tells the core one thing; what follows is asked for by [`Node::work`], unless it can't be put off.
    fn tell(&mut self, input: Input, shared: &mut Shared) {
        shared.steps += 1;
        let told = self.group.handle(shared.now, input, &self.log, &mut shared.output);
        if let Some(proposed) = shared.output.proposed.take() {
            proposed.expect("the leader takes proposals");
        }
        Self::send(shared);
        if told == Handled::Full {
            self.settle(shared);
        }
    }

    fn send(shared: &mut Shared) {
        // Most inputs are answered later; to drain nothing takes longer than to look.
        if shared.output.messages.is_empty() {
            return;
        }
        let messages = shared.output.messages.drain(..);
        shared.outbox.extend(messages.map(|(to, message)| (place(to), message)));
    }

    fn settle(&mut self, shared: &mut Shared) {
        self.group.ready(shared.now, &self.log, &mut shared.output);
        Self::send(shared);
        let Shared { output, outbox, .. } = shared;
        if let Some(persist) = output.persist.take() {
            self.written = Some(persist.token);
            self.log.write(persist);
        }
        if !output.appends.is_empty() {
            for plan in output.appends.drain(..) {
                let entries = self.log.read(plan.first, plan.last).to_vec();
                outbox.push((place(plan.to), plan.with(entries)));
            }
        }
        if let Some(committed) = output.committed.take() {
            self.committed = committed;
        }
        output.events.clear();
    }

    fn apply(&mut self) {
        for entry in self.log.read(self.applied_to.next(), self.committed) {
            if let Payload::Data(bytes) = &entry.payload {
                self.applied.add(number(bytes));
            }
        }
        self.applied_to = self.committed;
        self.log.forget(self.applied_to);
    }
}

impl Node for Ours {
    type Message = Message;
    type Shared = Shared;

    fn campaign(&mut self, shared: &mut Shared) {
        self.tell(Input::Campaign, shared);
    }

    fn propose(&mut self, numbers: Range<u64>, shared: &mut Shared) {
        // Counted one by one, as for a core that takes one at a time.
        shared.steps += numbers.end - numbers.start - 1;
        let payloads = numbers.map(|number| Bytes::copy_from_slice(&payload(number)));
        self.tell(Input::Propose(payloads.collect()), shared);
    }

    fn receive(&mut self, from: usize, message: Message, shared: &mut Shared) {
        self.tell(Input::Message(NodeId(from as u64 + 1), message), shared);
    }

    fn tick(&mut self, now: Duration, shared: &mut Shared) {
        shared.now = Instant(now.as_micros() as u64);
        if self.group.deadline().is_some_and(|deadline| deadline <= shared.now) {
            self.tell(Input::Tick, shared);
        }
    }

    fn work(&mut self, shared: &mut Shared) {
        loop {
            if self.group.has_ready() {
                self.settle(shared);
            } else if let Some(token) = self.written.take() {
                self.tell(Input::Persisted(token), shared);
            } else if self.committed > self.applied_to {
                self.apply();
                self.tell(Input::Applied(self.applied_to), shared);
            } else {
                return;
            }
        }
    }

    fn tell_commit(&mut self, _: &mut Shared) {}

    fn leads(&self) -> bool {
        self.group.role() == Role::Leader && self.group.is_serving()
    }

    fn applied(&self) -> Applied {
        self.applied
    }

    fn outbox(shared: &mut Shared) -> &mut Vec<(usize, Message)> {
        &mut shared.outbox
    }

    fn take_steps(shared: &mut Shared) -> u64 {
        std::mem::take(&mut shared.steps)
    }
}

/// The group keeps time itself, like the other cores do.
pub const OWN: Heartbeats = Heartbeats::Own(HEARTBEAT);
