//! `raft` (raft-rs, of TiKV): `RawNode`, over a log in memory like the one of ours.

use crate::case::{ELECTION, HEARTBEAT, MEMBERS, number, payload};
use crate::driver::{Applied, Node};
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Message, Snapshot};
use raft::{Config, GetEntriesContext, RaftState, RawNode, StateRole, Storage, StorageError};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// As lean as ours: no lock (`MemStorage` has one), entries in a vector, what all have is forgotten.
struct Log {
    /// The index of the entry before the first.
    start: u64,
    start_term: u64,
    entries: Vec<Entry>,
    keep: usize,
    hard_state: HardState,
}

impl Log {
    fn write(&mut self, entries: Vec<Entry>) {
        if let Some(first) = entries.first() {
            self.entries.truncate(self.place(first.index));
        }
        self.entries.extend(entries);
    }

    fn place(&self, index: u64) -> usize {
        (index - self.start - 1) as usize
    }

    fn forget(&mut self, applied: u64) {
        if self.entries.len() > 2 * self.keep {
            let count = (self.entries.len() - self.keep).min(self.place(applied + 1));
            if let Some(last) = count.checked_sub(1).map(|at| &self.entries[at]) {
                (self.start, self.start_term) = (last.index, last.term);
                self.entries.drain(..count);
            }
        }
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let voters = (1..=MEMBERS as u64).collect();
        let conf_state = ConfState {
            voters,
            ..ConfState::default()
        };
        Ok(RaftState::new(self.hard_state.clone(), conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.start {
            return Err(StorageError::Compacted.into());
        }
        let mut entries = self.entries[self.place(low)..self.place(high)].to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index <= self.start {
            return match index == self.start {
                true => Ok(self.start_term),
                false => Err(StorageError::Compacted.into()),
            };
        }
        let entry = self.entries.get(self.place(index));
        entry
            .map(|entry| entry.term)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.start + self.entries.len() as u64)
    }

    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        unreachable!("no member is so far behind")
    }
}

/// What all members share.
#[derive(Default)]
pub struct Shared {
    outbox: Vec<(usize, Message)>,
    steps: u64,
}

/// Options that cost or save time, depending on the case. The fastest combination competes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Adds entries to an append that is still waiting to be sent.
    pub batch_append: bool,
    /// Tells followers what is committed only with the next append or heartbeat (TiKV's choice).
    pub skip_bcast_commit: bool,
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.batch_append, self.skip_bcast_commit) {
            (false, false) => "defaults",
            (true, false) => "batch_append",
            (false, true) => "skip_bcast_commit",
            (true, true) => "batch_append, skip_bcast_commit",
        })
    }
}

/// A member.
pub struct RaftRs {
    raw: RawNode<Log>,
    options: Options,
    applied_to: u64,
    applied: Applied,
}

impl RaftRs {
    pub fn new(member: usize, options: Options, keep: usize) -> RaftRs {
        let log = Log {
            start: 0,
            start_term: 0,
            entries: Vec::new(),
            keep,
            hard_state: HardState::default(),
        };
        let config = Config {
            id: member as u64 + 1,
            election_tick: (ELECTION.as_millis() / HEARTBEAT.as_millis()) as usize,
            heartbeat_tick: 1,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            batch_append: options.batch_append,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: 16 << 20,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, log, &logger).expect("the configuration is valid");
        RaftRs {
            raw,
            options,
            applied_to: 0,
            applied: Applied::default(),
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.applied_to = entry.index;
            if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
                self.applied.add(number(&entry.data));
            }
        }
    }

    fn send(messages: Vec<Message>, shared: &mut Shared) {
        let place = |message: &Message| message.to as usize - 1;
        shared
            .outbox
            .extend(messages.into_iter().map(|message| (place(&message), message)));
    }
}

impl Node for RaftRs {
    type Message = Message;
    type Shared = Shared;

    fn campaign(&mut self, shared: &mut Shared) {
        shared.steps += 1;
        self.raw.campaign().expect("a member may stand");
    }

    fn propose(&mut self, numbers: Range<u64>, shared: &mut Shared) {
        for number in numbers {
            shared.steps += 1;
            let proposed = self.raw.propose(Vec::new(), payload(number).to_vec());
            proposed.expect("the leader takes proposals");
        }
    }

    fn receive(&mut self, _: usize, message: Message, shared: &mut Shared) {
        shared.steps += 1;
        self.raw.step(message).expect("a member takes messages");
    }

    fn tick(&mut self, _: Duration, shared: &mut Shared) {
        shared.steps += 1;
        self.raw.tick();
    }

    fn work(&mut self, shared: &mut Shared) {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            Self::send(ready.take_messages(), shared);
            let committed = ready.take_committed_entries();
            let applies = !committed.is_empty();
            self.apply(committed);
            let entries = ready.take_entries();
            let writes = !entries.is_empty() || ready.hs().is_some();
            let log = self.raw.mut_store();
            log.write(entries);
            if let Some(hard_state) = ready.hs() {
                log.hard_state = hard_state.clone();
            }
            Self::send(ready.take_persisted_messages(), shared);
            let mut light = self.raw.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().hard_state.commit = commit;
            }
            Self::send(light.take_messages(), shared);
            let committed = light.take_committed_entries();
            let applies = applies || !committed.is_empty();
            self.apply(committed);
            if applies {
                self.raw.advance_apply_to(self.applied_to);
                let applied_to = self.applied_to;
                self.raw.mut_store().forget(applied_to);
            }
            // Counted as in a core that is told both.
            shared.steps += u64::from(writes) + u64::from(applies);
        }
        if self.options.skip_bcast_commit && self.raw.raft.state == StateRole::Leader {
            self.raw.skip_bcast_commit(true);
        }
    }

    fn tell_commit(&mut self, shared: &mut Shared) {
        shared.steps += 1;
        self.raw.ping();
    }

    fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
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
