//! What a member does between its inputs and its outputs, without a thread or a clock. In which order things become durable
//! is told in the crate's README.

use super::snapshot_file::{self, io_error};
use super::{MemberError, MemberOptions, MemberStatus, Read, Refused, Reply, StateMachine, Told};
use crate::fs::Fs;
use crate::journal::{Journal, JournalBatch, JournalOptions, RecoveredGroup};
use std::collections::BTreeMap;
use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;
use trimaran_raft::{
    Body, Config, Configuration, Event, Group, GroupId, HardState, Input, Instant, LogIndex, LogView, MemoryLog,
    Message, NodeId, Output, Payload, Persist, ProposeError, ReadError, ReadId, Recovered, Role, Snapshot, Term,
    TermAt, Token,
};

/// A journal serves any number of groups. This one has one.
const GROUP: GroupId = GroupId(1);

/// Large enough that a file is begun seldom, small enough that a new one is written quickly.
const JOURNAL_FILE_BYTES: u64 = 16 << 20;

/// Files of the journal beyond which a snapshot is made, however few entries they hold: a start reads all of them.
const JOURNAL_FILES: usize = 4;

/// The part of [`MemberOptions::snapshot_every`] that is kept before a snapshot, for members that are a little behind.
const KEPT_PART: u64 = 4;

pub(super) struct Driver<S: StateMachine> {
    group: Group,
    pub(super) log: MemoryLog,
    state: S,
    /// The last entry that is in `state`.
    pub(super) applied: LogIndex,
    /// The last snapshot that is durable.
    snapshot: Option<Snapshot>,
    /// A leader's snapshot that could be read, and what was read. The core decides whether it is taken over.
    received: Option<(LogIndex, Term, S)>,
    journal: Journal,
    /// What the core wants written, and the last token of it.
    unwritten: (JournalBatch, Option<Token>),
    /// Callers that wait for their entry, with its term: another leader may put another entry there.
    proposals: BTreeMap<LogIndex, (Term, Reply<S::Answer>)>,
    reads: BTreeMap<ReadId, Read<S>>,
    next_read: u64,
    messages: Vec<(NodeId, Message)>,
    first_configuration: Configuration,
    snapshot_every: u64,
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    now: Instant,
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn recover(fs: Arc<dyn Fs>, options: MemberOptions) -> Result<Driver<S>, MemberError> {
        let MemberOptions {
            dir,
            config,
            snapshot_every,
        } = options;
        fs.create_dir_all(&dir).map_err(io_error(&dir))?;
        let journal_options = JournalOptions {
            file_bytes: JOURNAL_FILE_BYTES,
            max_files: JOURNAL_FILES,
        };
        let (mut journal, mut groups) = Journal::open(Arc::clone(&fs), &dir.join("journal"), journal_options)?;
        let mut found = groups.remove(&GROUP).unwrap_or_default();
        let snapshot = snapshot_file::read(&*fs, &dir)?;
        reconcile(&mut journal, &mut found, snapshot.as_ref())?;
        let state = match &snapshot {
            Some(snapshot) => S::restore(&snapshot.data).map_err(MemberError::Restore)?,
            None => S::default(),
        };
        let log = MemoryLog::recovered(snapshot.as_ref().map(position), found.entries);
        let applied = end_of(snapshot.as_ref());
        let recovered = Recovered {
            hard_state: found.hard_state,
            committed: applied,
            applied,
            configurations: log.configurations().to_vec(),
        };
        let Config { configuration, .. } = &config;
        Ok(Driver {
            first_configuration: configuration.clone(),
            group: Group::new(config, recovered, Instant::ZERO, &log),
            log,
            state,
            applied,
            snapshot,
            received: None,
            journal,
            unwritten: Default::default(),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            messages: Vec::new(),
            snapshot_every: snapshot_every.max(1),
            fs,
            dir,
            now: Instant::ZERO,
        })
    }

    /// The time at which [`Driver::begin`] is to be called if nothing happens until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.group.deadline()
    }

    /// Tells the time. Whatever arrives, what is due is not kept waiting by it.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), MemberError> {
        self.now = self.now.max(now);
        match self.group.deadline() {
            Some(due) if due <= self.now => self.step(Input::Tick).map(drop),
            _ => Ok(()),
        }
    }

    pub(super) fn handle(&mut self, told: Told<S>) -> Result<(), MemberError> {
        match told {
            Told::Message(from, message) => self.receive(from, *message),
            Told::Propose(command, reply) => {
                match self.step(Input::Propose(vec![command]))?.proposed {
                    Some(Ok(proposed)) => drop(self.proposals.insert(proposed.first, (proposed.term, reply))),
                    Some(Err(ProposeError::NotLeader(leader))) => refuse(&reply, Refused::NotLeader(leader)),
                    Some(Err(ProposeError::Busy | ProposeError::Transferring)) | None => refuse(&reply, Refused::Again),
                }
                Ok(())
            }
            Told::Read(read) => {
                let id = ReadId(self.next_read);
                self.next_read += 1;
                self.reads.insert(id, read);
                self.step(Input::Read(id)).map(drop)
            }
            Told::Change { node, add, reply } => self.change(node, add, &reply),
            Told::Status(reply) => {
                let status = MemberStatus {
                    raft: self.group.status(),
                    first_index: self.log.first_index(),
                };
                // The caller may have gone.
                let _ = reply.send(Ok(status));
                Ok(())
            }
        }
    }

    /// The messages that may leave now.
    pub(super) fn messages(&mut self) -> impl Iterator<Item = (NodeId, Message)> {
        self.messages.drain(..)
    }

    /// Makes everything durable that came in, with one write and one sync. What depends on it leaves the core afterwards.
    pub(super) fn finish(&mut self) -> Result<(), MemberError> {
        while let (batch, Some(token)) = take(&mut self.unwritten) {
            self.journal.write(&batch)?;
            self.step(Input::Persisted(token))?;
        }
        let since = self.applied.0 - end_of(self.snapshot.as_ref()).0;
        if since >= self.snapshot_every || (since > 0 && !self.journal.groups_to_flush().is_empty()) {
            self.take_snapshot()?;
        }
        Ok(())
    }

    /// The core takes anything; of snapshots, this member takes those that it can read.
    fn receive(&mut self, from: NodeId, message: Message) -> Result<(), MemberError> {
        if let Body::Snapshot { snapshot, .. } = &message.body {
            match S::restore(&snapshot.data) {
                Ok(state) if snapshot.configuration.check().is_ok() => {
                    self.received = Some((snapshot.index, snapshot.term, state));
                }
                // It is sent again, and perhaps by a leader of another version.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
        self.step(Input::Message(from, message))?;
        self.received = None;
        Ok(())
    }

    /// The next step of many: a new member learns first, and votes once it has caught up.
    fn change(&mut self, node: NodeId, add: bool, reply: &Reply<()>) -> Result<(), MemberError> {
        let mut wanted = self.group.configuration().clone();
        let is_under_way = wanted.is_joint() || !self.group.is_configuration_committed();
        let is_done = wanted.is_voter(node) == add && wanted.is_member(node) == add;
        let answer = if !self.group.is_serving() {
            Err(Refused::NotLeader(self.group.leader()))
        } else if is_under_way {
            Err(Refused::Again)
        } else if is_done {
            Ok(())
        } else if !add && wanted.voters == [node] {
            Err(Refused::LastVoter)
        } else {
            let learns = wanted.is_member(node);
            wanted.voters.retain(|voter| *voter != node);
            wanted.learners.retain(|learner| *learner != node);
            match (add, learns) {
                (true, true) => wanted.voters.push(node),
                (true, false) => wanted.learners.push(node),
                (false, _) => {}
            }
            // If it is refused because it comes too early, it is asked for again.
            self.step(Input::Change(wanted))?;
            Err(Refused::Again)
        };
        let _ = reply.send(answer);
        Ok(())
    }

    /// One step of the core, and everything that follows from it but the write. Returns the rest of its output.
    fn step(&mut self, input: Input) -> Result<Output, MemberError> {
        let mut output = Output::default();
        self.group.step(self.now, input, &self.log, &mut output);
        if let Some(write) = self.log.carry_out(&mut output) {
            self.note(write)?;
        }
        self.messages.append(&mut output.messages);
        for event in take(&mut output.events) {
            match event {
                // Their entries may be replaced.
                Event::LeaderChanged { role, .. } if role != Role::Leader => self.proposals.clear(),
                Event::Truncated { from } => drop(self.proposals.split_off(&from)),
                Event::NeedsSnapshot(to) => {
                    if let Some(snapshot) = self.snapshot.clone().map(Box::new) {
                        self.step(Input::Snapshot { to, snapshot })?;
                    }
                }
                _ => {}
            }
        }
        if let Some(commit) = output.committed {
            self.apply(commit);
            self.step(Input::Applied(commit))?;
        }
        for (id, outcome) in take(&mut output.reads) {
            if let Some(read) = self.reads.remove(&id) {
                // Everything committed is applied, and the read's index is committed.
                read(match outcome {
                    Ok(_) => Ok(&self.state),
                    Err(ReadError::NotLeader(leader)) => Err(Refused::NotLeader(leader)),
                    Err(ReadError::NotServing | ReadError::Busy) => Err(Refused::Again),
                });
            }
        }
        Ok(output)
    }

    /// Notes a write, in the order that the core asks for. A snapshot goes to its own file, before the journal hears of it.
    fn note(&mut self, write: Persist) -> Result<(), MemberError> {
        let (batch, token) = &mut self.unwritten;
        if let Some(hard_state) = write.hard_state {
            batch.hard_state(GROUP, hard_state);
        }
        if let Some(reset) = write.reset {
            snapshot_file::write(&*self.fs, &self.dir, &reset)?;
            batch.reset(GROUP, &position(&reset));
            self.state = match self.received.take() {
                Some((index, term, state)) if (index, term) == (reset.index, reset.term) => state,
                _ => S::restore(&reset.data).map_err(MemberError::Restore)?,
            };
            self.applied = reset.index;
            self.snapshot = Some(*reset);
            self.proposals.clear();
        }
        if let Some(from) = write.truncate_from {
            batch.truncate(GROUP, from);
        }
        batch.entries(GROUP, &write.entries);
        *token = Some(write.token);
        Ok(())
    }

    fn apply(&mut self, upto: LogIndex) {
        for entry in self.log.entries(self.applied.next(), upto) {
            let Payload::Data(command) = &entry.payload else {
                continue;
            };
            let answer = self.state.apply(command);
            // With another term, it is another leader's, and what the caller proposed will never be there.
            if let Some((term, reply)) = self.proposals.remove(&entry.index)
                && term == entry.term
            {
                let _ = reply.send(Ok(answer));
            }
        }
        self.applied = self.applied.max(upto);
    }

    /// First the snapshot becomes durable, then the journal may forget what it covers. All of that is in the journal:
    /// everything was written before.
    fn take_snapshot(&mut self) -> Result<(), MemberError> {
        let TermAt::Known(term) = self.log.term_at(self.applied) else {
            return Ok(());
        };
        let configuration = self.log.configuration_at(self.applied);
        let snapshot = Snapshot {
            index: self.applied,
            term,
            configuration: configuration.unwrap_or(&self.first_configuration).clone(),
            data: self.state.snapshot().into(),
        };
        snapshot_file::write(&*self.fs, &self.dir, &snapshot)?;
        self.journal.release(GROUP, snapshot.index)?;
        let kept = self.snapshot_every / KEPT_PART;
        self.log.compact(LogIndex(snapshot.index.0.saturating_sub(kept)));
        self.snapshot = Some(snapshot);
        Ok(())
    }
}

/// Makes the journal agree with the snapshot, which is durable before the journal hears of it. After a crash in between, the
/// journal still holds the entries that it covers; or others, if it came from a leader, and then it replaces them all.
fn reconcile(
    journal: &mut Journal,
    found: &mut RecoveredGroup,
    snapshot: Option<&Snapshot>,
) -> Result<(), MemberError> {
    let ends = end_of(snapshot);
    let begins = found.start.as_ref().map_or(LogIndex::ZERO, |start| start.index);
    let begins = begins.max(found.flushed);
    if begins > ends {
        return Err(MemberError::OldSnapshot { begins, ends });
    }
    let Some(snapshot) = snapshot else { return Ok(()) };
    let covered = |(index, term)| (index, term) == (ends, snapshot.term);
    let mut places = found.entries.iter().map(|entry| (entry.index, entry.term));
    if begins < ends && !places.any(covered) {
        // The leader's term may not have been written.
        if found.hard_state.term < snapshot.term {
            found.hard_state = HardState {
                term: snapshot.term,
                ..HardState::default()
            };
        }
        let mut batch = JournalBatch::default();
        batch.hard_state(GROUP, found.hard_state);
        batch.reset(GROUP, &position(snapshot));
        journal.write(&batch)?;
        found.entries.clear();
    }
    journal.release(GROUP, ends)?;
    found.entries.retain(|entry| entry.index > ends);
    Ok(())
}

fn refuse<T>(reply: &Reply<T>, refused: Refused) {
    // The caller may have gone.
    let _ = reply.send(Err(refused));
}

/// The last entry that a snapshot covers.
fn end_of(snapshot: Option<&Snapshot>) -> LogIndex {
    snapshot.map_or(LogIndex::ZERO, |snapshot| snapshot.index)
}

/// The place of a snapshot, for the journal and the log. Its data are in its file.
fn position(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        data: Default::default(),
        ..snapshot.clone()
    }
}
