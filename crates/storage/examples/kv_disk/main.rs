//! A replicated key-value store of several processes, on `trimaran-raft` and the journal, over TCP: with snapshots,
//! linearizable reads, and members that are added and removed. The crate's README says in which order things become
//! durable.
//!
//! ```sh
//! alias kv='cargo run -q -p trimaran-storage --example kv_disk --'
//! kv member 1 /tmp/kv & kv member 2 /tmp/kv & kv member 3 /tmp/kv &   # the first three found the group
//! kv set colour red /tmp/kv; kv get colour /tmp/kv
//! kv member 4 /tmp/kv & kv add 4 /tmp/kv; kv remove 1 /tmp/kv
//! ```
//!
//! Members listen on loopback, on ports that the system chooses, and find each other by files in the folder that all
//! are given. A member may be killed and started again at any moment. One that has lost its folder must not come back
//! under its old id: it has forgotten its vote. (`HardState::lost` is for members that do.)

pub(crate) mod net;

use self::net::{Answer, Request, Told, ask_leader};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;
use trimaran_raft::*;
use trimaran_storage::fs::RealFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalOptions};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A journal serves any number of groups. This store has one.
const GROUP: GroupId = GroupId(1);
const FOUNDERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Entries between two snapshots, and entries before a snapshot that are kept in memory for members that are a little
/// behind.
const SNAPSHOT_EVERY: u64 = 200;
const KEPT: u64 = 50;
/// Requests that are handled before one write makes what follows from them durable.
const MAX_TOGETHER: usize = 256;

pub(crate) struct Member {
    group: Group,
    pub(crate) log: MemoryLog,
    store: BTreeMap<String, String>,
    pub(crate) applied: LogIndex,
    snapshot: Option<Snapshot>,
    journal: Journal,
    /// What the core wants written, and the last token of it.
    unwritten: (JournalBatch, Option<Token>),
    /// Those that wait for their entry, with its term: another leader may put another entry there.
    sets: BTreeMap<LogIndex, (Term, Sender<Answer>)>,
    gets: BTreeMap<ReadId, (String, Sender<Answer>)>,
    next_read: u64,
    peers: BTreeMap<NodeId, SyncSender<Message>>,
    book: PathBuf,
    dir: PathBuf,
    now: Instant,
}

impl Member {
    /// What the disk holds: the snapshot, and behind it the journal's entries.
    pub(crate) fn recover(id: NodeId, book: &Path) -> Result<Member, Failure> {
        let dir = book.join(format!("member-{id}"));
        fs::create_dir_all(&dir)?;
        let options = JournalOptions {
            file_bytes: 4 << 20,
            max_files: 4,
        };
        let (mut journal, mut groups) = Journal::open(Arc::new(RealFs::default()), &dir.join("journal"), options)?;
        let mut found = groups.remove(&GROUP).unwrap_or_default();
        let snapshot = read_snapshot(&dir.join("snapshot"))?;
        let at = snapshot.as_ref().map_or(LogIndex::ZERO, |snapshot| snapshot.index);
        let begins = found
            .start
            .as_ref()
            .map_or(LogIndex::ZERO, |start| start.index)
            .max(found.flushed);
        if begins > at {
            return Err(
                format!("the journal begins behind {begins}, and the snapshot ends at {at}: it was replaced").into(),
            );
        }
        if let Some(snapshot) = &snapshot {
            // A snapshot is durable before the journal hears of it. After a crash in between, the journal still holds
            // the entries that it covers; or others, if it came from a leader, and then it replaces them all.
            let is_covered = |entry: &Entry| (entry.index, entry.term) == (at, snapshot.term);
            if begins < at && !found.entries.iter().any(is_covered) {
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
            journal.release(GROUP, at)?;
            found.entries.retain(|entry| entry.index > at);
        }
        let log = MemoryLog::recovered(snapshot.as_ref().map(position), found.entries);
        let recovered = Recovered {
            hard_state: found.hard_state,
            committed: at,
            applied: at,
            configurations: log.configurations().to_vec(),
        };
        let store = snapshot
            .as_ref()
            .map(|snapshot| postcard::from_bytes(&snapshot.data))
            .transpose()?;
        Ok(Member {
            group: Group::new(Config::standalone(id, FOUNDERS), recovered, Instant::ZERO, &log),
            log,
            store: store.unwrap_or_default(),
            applied: at,
            snapshot,
            journal,
            unwritten: Default::default(),
            sets: BTreeMap::new(),
            gets: BTreeMap::new(),
            next_read: 0,
            peers: BTreeMap::new(),
            book: book.to_owned(),
            dir,
            now: Instant::ZERO,
        })
    }

    fn run(mut self, inbox: &Receiver<Told>) -> Result<(), Failure> {
        let started = std::time::Instant::now();
        loop {
            self.now = Instant::ZERO + started.elapsed();
            let wait = self.group.deadline().map(|due| due.since(self.now));
            let told = inbox.recv_timeout(wait.unwrap_or(Duration::MAX));
            self.now = Instant::ZERO + started.elapsed();
            match told {
                Ok(told) => self.handle(told)?,
                Err(RecvTimeoutError::Timeout) => drop(self.step(Input::Tick)?),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            for told in inbox.try_iter().take(MAX_TOGETHER) {
                self.handle(told)?;
            }
            self.write()?;
            if self.applied.0 >= SNAPSHOT_EVERY + self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index.0) {
                self.take_snapshot()?;
            }
        }
    }

    fn handle(&mut self, told: Told) -> Result<(), Failure> {
        match told {
            // The core takes anything, and this driver a snapshot that it can read.
            Told::Raft(
                _,
                Message {
                    body: Body::Snapshot { snapshot, .. },
                    ..
                },
            ) if snapshot.configuration.check().is_err() || read_store(&snapshot.data).is_err() => {}
            Told::Raft(from, message) => drop(self.step(Input::Message(from, message))?),
            Told::Asked(Request::Set(key, value), answer) => {
                let command = postcard::to_allocvec(&(key, value))?;
                match self.step(Input::Propose(vec![command.into()]))?.proposed {
                    Some(Ok(proposed)) => drop(self.sets.insert(proposed.first, (proposed.term, answer))),
                    Some(Err(ProposeError::NotLeader(leader))) => reply(&answer, Answer::NotLeader(leader)),
                    refused => reply(&answer, Answer::Again(format!("{refused:?}"))),
                }
            }
            Told::Asked(Request::Get(key), answer) => {
                let read = ReadId(self.next_read);
                self.next_read += 1;
                self.gets.insert(read, (key, answer));
                self.step(Input::Read(read))?;
            }
            Told::Asked(Request::Add(node), answer) => self.change(node, true, &answer)?,
            Told::Asked(Request::Remove(node), answer) => self.change(node, false, &answer)?,
            Told::Asked(Request::Look, answer) => reply(
                &answer,
                Answer::Status {
                    leads: self.group.is_serving(),
                    applied: self.applied.0,
                    log_begins: self.log.first_index().0,
                    voters: self.group.voters().to_vec(),
                },
            ),
        }
        Ok(())
    }

    /// One step of many: a new member learns first, and votes once it has caught up.
    fn change(&mut self, node: NodeId, add: bool, answer: &Sender<Answer>) -> Result<(), Failure> {
        let mut wanted = self.group.configuration().clone();
        if !self.group.is_serving() {
            reply(answer, Answer::NotLeader(self.group.leader()));
        } else if wanted.is_joint() || !self.group.is_configuration_committed() {
            reply(answer, Answer::Again("a change is under way".into()));
        } else if wanted.is_voter(node) == add && wanted.is_member(node) == add {
            reply(answer, Answer::Done);
        } else {
            let learns = wanted.is_member(node);
            wanted.voters.retain(|voter| *voter != node);
            wanted.learners.retain(|learner| *learner != node);
            if add {
                let list = if learns {
                    &mut wanted.voters
                } else {
                    &mut wanted.learners
                };
                list.push(node);
            }
            let changed = self.step(Input::Change(wanted))?.changed;
            reply(answer, Answer::Again(format!("{changed:?}")));
        }
        Ok(())
    }

    /// One step of the core, and everything that follows from it but the write. Returns the rest of its output.
    fn step(&mut self, input: Input) -> Result<Output, Failure> {
        let mut output = Output::default();
        self.group.step(self.now, input, &self.log, &mut output);
        if let Some(write) = self.log.carry_out(&mut output) {
            self.note(write)?;
        }
        for (to, message) in output.messages.drain(..) {
            self.send(to, message);
        }
        for event in output.events.drain(..) {
            match event {
                // Their entries may be replaced: their channels are closed.
                Event::LeaderChanged { role, .. } if role != Role::Leader => self.sets.clear(),
                Event::Truncated { from } => drop(self.sets.split_off(&from)),
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
        for (read, outcome) in output.reads.drain(..) {
            if let Some((key, answer)) = self.gets.remove(&read) {
                // Everything committed is applied, and the read's index is committed.
                reply(
                    &answer,
                    match outcome {
                        Ok(_) => Answer::Value(self.store.get(&key).cloned()),
                        Err(ReadError::NotLeader(leader)) => Answer::NotLeader(leader),
                        Err(error) => Answer::Again(format!("{error:?}")),
                    },
                );
            }
        }
        Ok(output)
    }

    /// Notes a write, in the order that the core asks for. A snapshot goes to its own file, before the journal hears of
    /// it.
    fn note(&mut self, write: Persist) -> Result<(), Failure> {
        let (batch, token) = &mut self.unwritten;
        if let Some(hard_state) = write.hard_state {
            batch.hard_state(GROUP, hard_state);
        }
        if let Some(reset) = write.reset {
            write_snapshot(&self.dir, &reset)?;
            batch.reset(GROUP, &position(&reset));
            (self.store, self.applied) = (read_store(&reset.data)?, reset.index);
            self.snapshot = Some(*reset);
            self.sets.clear();
        }
        if let Some(from) = write.truncate_from {
            batch.truncate(GROUP, from);
        }
        batch.entries(GROUP, &write.entries);
        *token = Some(write.token);
        Ok(())
    }

    /// One write and one sync for everything that came in together. What depends on it leaves the core afterwards.
    fn write(&mut self) -> Result<(), Failure> {
        while let (batch, Some(token)) = std::mem::take(&mut self.unwritten) {
            self.journal.write(&batch)?;
            self.step(Input::Persisted(token))?;
        }
        Ok(())
    }

    fn apply(&mut self, upto: LogIndex) {
        for entry in self.log.entries(self.applied.next(), upto) {
            if let Payload::Data(command) = &entry.payload
                && let Ok((key, value)) = postcard::from_bytes::<(String, String)>(command)
            {
                self.store.insert(key, value);
            }
            if let Some((term, answer)) = self.sets.remove(&entry.index)
                && term == entry.term
            {
                reply(&answer, Answer::Done);
            }
        }
        self.applied = self.applied.max(upto);
    }

    /// First the snapshot becomes durable, then the journal may forget what it covers. All of that is in the journal:
    /// everything was written before.
    fn take_snapshot(&mut self) -> Result<(), Failure> {
        let TermAt::Known(term) = self.log.term_at(self.applied) else {
            return Ok(());
        };
        let configuration = self.log.configuration_at(self.applied).cloned();
        let snapshot = Snapshot {
            index: self.applied,
            term,
            configuration: configuration.unwrap_or_else(|| Configuration::of_voters(FOUNDERS)),
            data: postcard::to_allocvec(&self.store)?.into(),
        };
        write_snapshot(&self.dir, &snapshot)?;
        self.journal.release(GROUP, snapshot.index)?;
        self.log.compact(LogIndex(snapshot.index.0.saturating_sub(KEPT)));
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Messages may be lost: a full queue or a broken connection loses them.
    fn send(&mut self, to: NodeId, message: Message) {
        let peer = self
            .peers
            .entry(to)
            .or_insert_with(|| net::peer(&self.book, self.group.id(), to));
        let _ = peer.try_send(message);
    }
}

/// The client may have gone.
fn reply(to: &Sender<Answer>, answer: Answer) {
    let _ = to.send(answer);
}

/// The place of a snapshot, for the journal and the log. Its data are in its file.
fn position(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        data: Default::default(),
        ..snapshot.clone()
    }
}

fn read_store(data: &[u8]) -> Result<BTreeMap<String, String>, postcard::Error> {
    postcard::from_bytes(data)
}

/// A checksum, and the snapshot. None if there is no such file.
fn read_snapshot(path: &Path) -> Result<Option<Snapshot>, Failure> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    match bytes.split_first_chunk() {
        Some((crc, rest)) if crc32c::crc32c(rest) == u32::from_le_bytes(*crc) => Ok(Some(postcard::from_bytes(rest)?)),
        _ => Err(format!("{} is damaged", path.display()).into()),
    }
}

/// On return it is durable. A crash leaves the old one or the new one.
pub(crate) fn write_snapshot(dir: &Path, snapshot: &Snapshot) -> Result<(), Failure> {
    let (beside, bytes) = (dir.join("snapshot.new"), postcard::to_allocvec(snapshot)?);
    let mut file = File::create(&beside)?;
    file.write_all(&crc32c::crc32c(&bytes).to_le_bytes())?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, dir.join("snapshot"))?;
    Ok(File::open(dir)?.sync_all()?)
}

/// Runs a member until it fails.
fn run_member(id: NodeId, book: &Path) -> Result<(), Failure> {
    let member = Member::recover(id, book)?;
    member.run(&net::listen(id, book)?)
}

pub(crate) fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (request, book) = match arguments[..] {
        ["member", id, book] => return run_member(NodeId(id.parse()?), Path::new(book)),
        ["set", key, value, book] => (Request::Set(key.into(), value.into()), book),
        ["get", key, book] => (Request::Get(key.into()), book),
        ["add", id, book] => (Request::Add(NodeId(id.parse()?)), book),
        ["remove", id, book] => (Request::Remove(NodeId(id.parse()?)), book),
        _ => return Err("kv_disk member ID | set KEY VALUE | get KEY | add ID | remove ID, and then FOLDER".into()),
    };
    println!("{:?}", ask_leader(Path::new(book), &request)?);
    Ok(())
}
