//! A whole member of one replicated state machine: a Raft group over a journal of its own, with snapshots.
//!
//! A [`StateMachine`] says what commands do. [`Member::open`] finds in a folder what the member had before it stopped or
//! crashed, and [`Member::run`] is its thread. Other threads use it by its [`Handle`]: they propose commands, read, add and
//! remove members, and hand in the messages that arrive from other members. How messages travel is the caller's.
//!
//! ```
//! use std::{sync::mpsc, thread};
//! use trimaran_raft::{Config, NodeId};
//! use trimaran_storage::member::{Member, MemberOptions, StateMachine};
//!
//! /// A sum of all numbers that were added.
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     type Answer = u64;
//!     fn apply(&mut self, command: &[u8]) -> u64 {
//!         self.0 += command.iter().map(|byte| u64::from(*byte)).sum::<u64>();
//!         self.0
//!     }
//!     fn snapshot(&self) -> Vec<u8> {
//!         self.0.to_le_bytes().to_vec()
//!     }
//!     fn restore(snapshot: &[u8]) -> Result<Sum, Box<dyn std::error::Error + Send + Sync>> {
//!         Ok(Sum(u64::from_le_bytes(snapshot.try_into()?)))
//!     }
//! }
//!
//! // Three members in one process. Their network is a queue for each, and a thread that empties it.
//! let nodes = [1, 2, 3].map(NodeId);
//! let folder = tempfile::tempdir()?;
//! let mut handles = Vec::new();
//! let (network, arrived) = mpsc::channel();
//! for id in nodes {
//!     let options = MemberOptions::new(folder.path().join(id.to_string()), Config::standalone(id, nodes));
//!     let (member, handle) = Member::<Sum>::open(options)?;
//!     let network = network.clone();
//!     thread::spawn(move || member.run(|to, message| drop(network.send((id, to, message)))));
//!     handles.push(handle);
//! }
//! let others = handles.clone();
//! thread::spawn(move || {
//!     for (from, to, message) in arrived {
//!         let _ = others[to.0 as usize - 1].receive(from, message);
//!     }
//! });
//!
//! // Whoever leads takes the command. The answer comes once a majority has it on disk.
//! let sum = loop {
//!     if let Some(sum) = handles.iter().find_map(|handle| handle.propose(vec![40, 2]).ok()) {
//!         break sum;
//!     }
//! };
//! assert_eq!(sum, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! * A command that was answered is on the disks of a majority, and in the state that every later read sees.
//! * A crash at any moment, a kill -9 included, loses nothing that was answered. [`Member::open`] finishes what it
//!   interrupted.
//! * [`Handle::read`] is linearizable: it sees everything that was answered before it was asked.
//! * Memory is bounded by the state, one snapshot of it, the entries since the snapshot before it, and queues of fixed
//!   lengths.
//!
//! # What it does not know
//!
//! Sockets, and how messages are encoded (the feature `serde` of `trimaran-raft`). Many groups in one process: each member has
//! a journal and a thread, so a thousand of them sync a thousand times; they should share a journal, as Trimaran's brokers do.
//! States that take long to write: a snapshot is made in the member's thread, and a member that takes longer for it than
//! [`Tuning::election_timeout`](trimaran_raft::Tuning::election_timeout) may lose its leadership meanwhile.
//!
//! A member that has lost its folder must not come back under its old id: it has forgotten its vote. Remove it, and add one
//! with a new id.

mod driver;
mod error;
mod snapshot_file;
#[cfg(test)]
mod tests;

use crate::fs::{Fs, RealFs};
use bytes::Bytes;
use driver::Driver;
pub use error::{MemberError, Refused};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;
use trimaran_raft::{Config, Instant, LogIndex, Message, NodeId, Status};

/// The longest command, in bytes: an append carries no more, and more would keep heartbeats waiting behind it.
pub const MAX_COMMAND_BYTES: usize = 1 << 20;

/// Requests and messages that wait for the member's thread. Beyond it, callers of its [`Handle`] wait.
const MAX_WAITING: usize = 1024;

/// Requests and messages that are handled before one write makes what follows from them durable.
const MAX_TOGETHER: usize = 256;

/// The state that is replicated, and the commands that change it.
///
/// Every member applies the same commands in the same order, and must come to the same state by them: nothing else may have an
/// influence, no clock, no chance, and no order of a hash map.
pub trait StateMachine: Default + Send + 'static {
    /// The answer to a command, for the caller that proposed it.
    type Answer: Send + 'static;

    /// Applies a committed command. It may come from any member, and may have been proposed twice by a caller that got no
    /// answer. One that makes no sense must do nothing: a panic would end all members, and again after each start.
    fn apply(&mut self, command: &[u8]) -> Self::Answer;

    /// The whole state, for [`StateMachine::restore`]. It goes to a file, and to members that are far behind.
    fn snapshot(&self) -> Vec<u8>;

    /// The state that a snapshot was made of.
    ///
    /// # Errors
    /// It is no snapshot of such a state.
    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>>;
}

/// Where a member lives, which one it is, and when it makes snapshots.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// The member's folder, which it shares with nobody. Made if it is missing.
    pub dir: PathBuf,
    /// Its id, its group's first members (at each member the same, for as long as the group lives), and the group's intervals.
    pub config: Config,
    /// The entries after which a snapshot is made, and the journal is shortened. A start applies as many again.
    pub snapshot_every: u64,
}

impl MemberOptions {
    /// Options with a snapshot every 10,000 entries.
    pub fn new(dir: impl Into<PathBuf>, config: Config) -> MemberOptions {
        MemberOptions {
            dir: dir.into(),
            config,
            snapshot_every: 10_000,
        }
    }
}

/// A member that is not running yet.
pub struct Member<S: StateMachine> {
    driver: Driver<S>,
    inbox: Receiver<Told<S>>,
}

/// The way to a member from other threads. Its calls block until the member has an answer.
pub struct Handle<S: StateMachine> {
    inbox: SyncSender<Told<S>>,
}

/// The state of a member, and of the group as it knows it.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Roles, indexes, the members, and, at the leader, how far each of them is.
    pub raft: Status,
    /// The first entry that is held; what lies before it is in the snapshot.
    pub first_index: LogIndex,
}

/// An input of a member's thread.
enum Told<S: StateMachine> {
    Message(NodeId, Box<Message>),
    Propose(Bytes, Reply<S::Answer>),
    Read(Read<S>),
    Change { node: NodeId, add: bool, reply: Reply<()> },
    Status(Reply<MemberStatus>),
}

/// The caller that waits for an answer. Dropped without one, it hears that the outcome is unknown.
type Reply<T> = Sender<Result<T, Refused>>;

/// A read, which is given the state when its turn comes.
type Read<S> = Box<dyn FnOnce(Result<&S, Refused>) + Send>;

impl<S: StateMachine> Member<S> {
    /// Opens a member: a new one, or the one that the folder holds.
    ///
    /// # Errors
    /// See [`MemberError`]. Nothing of what the folder holds is lost.
    pub fn open(options: MemberOptions) -> Result<(Member<S>, Handle<S>), MemberError> {
        Member::open_on(Arc::new(RealFs::default()), options)
    }

    /// Opens a member on another file system, for tests.
    ///
    /// # Errors
    /// As [`Member::open`].
    pub fn open_on(fs: Arc<dyn Fs>, options: MemberOptions) -> Result<(Member<S>, Handle<S>), MemberError> {
        let driver = Driver::recover(fs, options)?;
        let (sender, inbox) = sync_channel(MAX_WAITING);
        Ok((Member { driver, inbox }, Handle { inbox: sender }))
    }

    /// Runs the member in this thread, until the last [`Handle`] is dropped. `send` hands a message to the network, which may
    /// lose it; it must not wait for the other member.
    ///
    /// # Errors
    /// The member can't go on: its disk failed, for example. Callers of its handles get [`Refused::Stopped`]. It may be opened
    /// again.
    pub fn run(self, mut send: impl FnMut(NodeId, Message)) -> Result<(), MemberError> {
        let Member { mut driver, inbox } = self;
        let started = std::time::Instant::now();
        loop {
            let now = Instant::ZERO + started.elapsed();
            let wait = driver.deadline().map_or(Duration::MAX, |due| due.since(now));
            let first = match inbox.recv_timeout(wait) {
                Ok(told) => Some(told),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let now = Instant::ZERO + started.elapsed();
            driver.begin(now)?;
            for told in first.into_iter().chain(inbox.try_iter().take(MAX_TOGETHER)) {
                driver.handle(told)?;
            }
            // What followers are sent leaves before the own disk has answered.
            driver.messages().for_each(|(to, message)| send(to, message));
            driver.finish()?;
            driver.messages().for_each(|(to, message)| send(to, message));
        }
    }
}

impl<S: StateMachine> Handle<S> {
    /// Proposes a command, and returns its answer once it is on the disks of a majority and applied here.
    ///
    /// # Errors
    /// [`Refused::Unknown`]: the command may be applied yet, or not. After any other refusal it will not be.
    pub fn propose(&self, command: impl Into<Bytes>) -> Result<S::Answer, Refused> {
        let command = command.into();
        if command.len() > MAX_COMMAND_BYTES {
            return Err(Refused::TooLarge);
        }
        self.ask(|reply| Told::Propose(command, reply))
    }

    /// Shows the state to `read`, in the member's thread, and returns its result. The state has everything that was answered
    /// before this call, by any member. Only the leader can tell.
    ///
    /// # Errors
    /// Nothing was read.
    pub fn read<T: Send + 'static>(&self, read: impl FnOnce(&S) -> T + Send + 'static) -> Result<T, Refused> {
        self.ask(|reply: Reply<T>| {
            Told::Read(Box::new(move |state| {
                // The caller waits.
                let _ = reply.send(state.map(read));
            }))
        })
    }

    /// Hands in a message that arrived from another member. Waits while the member has too much to do. A message that no member
    /// can have sent does no harm; whether its sender is a member is the caller's to know.
    ///
    /// # Errors
    /// [`Refused::Stopped`].
    pub fn receive(&self, from: NodeId, message: Message) -> Result<(), Refused> {
        let told = Told::Message(from, Box::new(message));
        self.inbox.send(told).map_err(|_| Refused::Stopped)
    }

    /// Takes the next step towards a group with this member: it learns first, and votes once it has caught up. Returns once it
    /// does; until then, [`Refused::Again`] asks to be called again. All members must know how to reach it.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn add(&self, node: NodeId) -> Result<(), Refused> {
        self.change(node, true)
    }

    /// Takes the next step towards a group without this member, as [`Handle::add`]. A leader that is removed hands over first.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn remove(&self, node: NodeId) -> Result<(), Refused> {
        self.change(node, false)
    }

    fn change(&self, node: NodeId, add: bool) -> Result<(), Refused> {
        self.ask(|reply| Told::Change { node, add, reply })
    }

    /// The state of the member. Any member answers.
    ///
    /// # Errors
    /// [`Refused::Stopped`].
    pub fn status(&self) -> Result<MemberStatus, Refused> {
        self.ask(Told::Status)
    }

    fn ask<T>(&self, told: impl FnOnce(Reply<T>) -> Told<S>) -> Result<T, Refused> {
        let (reply, answer) = channel();
        self.inbox.send(told(reply)).map_err(|_| Refused::Stopped)?;
        answer.recv().unwrap_or(Err(Refused::Unknown))
    }
}

impl<S: StateMachine> Clone for Handle<S> {
    fn clone(&self) -> Handle<S> {
        Handle {
            inbox: self.inbox.clone(),
        }
    }
}
