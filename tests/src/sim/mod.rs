//! A whole cluster on one seed: the real rooms, on virtual time, a simulated network and a simulated disk.
//!
//! ```no_run
//! let report = trimaran_tests::sim::run(&trimaran_tests::sim::Options::new(42)).expect("seed 42 holds");
//! println!("{report}");
//! ```
//!
//! The seed decides everything: how many brokers and clients there are, what each of them does, which faults strike and
//! when, and how long every message and every disk write takes. A run goes through a time of suffering; then faults
//! stop, clients end what they began, and the cluster must be whole again within a bound, and silent once it is idle.
//! [`crate::checker`] judges while it runs and at its end.
//!
//! What is real: `raft`, `multiraft` (shards and the liveness monitor), `storage` (journal and replica logs, on its
//! faulty file system), `registry` (agent and catalog), `wire` (record batches and the frames between brokers). What
//! is not: `broker` and `transport`, whose part [`broker`] plays.

pub mod broker;
pub mod bug;
pub mod clients;
pub mod envelope;
pub mod faults;
pub mod focus;
pub mod network;
pub mod observer;
pub mod plan;
pub mod queue;
pub mod records;
pub mod rng;
pub mod trace;
pub mod world;

pub use bug::Bug;

use crate::checker::Violation;
use crate::checker::history::Tally;
use faults::{Kind, Kinds};
use focus::Focus;
use queue::Micros;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Write every event to standard error.
    pub print: bool,
    /// How much happens.
    pub length: Length,
    /// What it is about; if nothing is said, the seed decides.
    pub focus: Option<Focus>,
    /// What may go wrong.
    pub faults: Kinds,
    /// Break a law outside of the code that keeps it, to see that it is noticed.
    pub deceit: Option<Deceit>,
    /// Break the code that keeps the laws, to see that it is noticed.
    pub bug: Option<Bug>,
}

impl Options {
    /// A quiet, honest run of full length.
    pub fn new(seed: u64) -> Options {
        Options {
            seed,
            print: false,
            length: Length::Full,
            focus: None,
            faults: Kinds::ALL,
            deceit: None,
            bug: None,
        }
    }

    /// The same, but short.
    pub fn short(seed: u64) -> Options {
        Options {
            length: Length::Short,
            ..Options::new(seed)
        }
    }
}

/// How much happens in a run. One seed is two different runs at two lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A few seconds of suffering: thousands of such runs find more than hundreds of long ones.
    Short,
    /// Longer, with more topics and clients; and the leaderships must come home at the end.
    Full,
}

/// Ways to break the laws outside of the code that keeps them: if the checkers let one pass, they are worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deceit {
    /// Writes are reported durable before they are.
    EarlyAcknowledgements,
    /// Disks say that they have synced and have not.
    LyingDisks,
    /// A broker that restarts has lost its disk.
    Amnesia,
    /// Refused votes arrive as granted ones.
    BoughtVotes,
    /// Refused appends arrive as accepted ones.
    InflatedMatches,
}

/// How a good run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of everything that happened: the same seed has the same.
    pub trace_hash: u64,
    /// How much happened.
    pub events: u64,
    /// How long it took, in virtual microseconds.
    pub virtual_time_us: Micros,
    /// Faults that struck, by their kind.
    pub faults: BTreeMap<Kind, u64>,
    /// The terms of all groups together.
    pub elections: u64,
    /// How long it took, once faults had stopped, until clients had their answers and every group was whole.
    pub whole_after_us: Micros,
    /// Brokers that never came back.
    pub missed: usize,
    /// Records that retention deleted.
    pub deleted: i64,
    /// How the records fared.
    pub tally: Tally,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "trace {:016x}, {} events in {} virtual seconds, {} faults, {} terms, {} brokers missed, whole after {} ms, records: \
             {} sent, {} acknowledged ({} by acks=1), {} stored, {} read, {} deleted",
            self.trace_hash,
            self.events,
            self.virtual_time_us / 1_000_000,
            self.faults.values().sum::<u64>(),
            self.elections,
            self.missed,
            self.whole_after_us / 1_000,
            self.tally.sent,
            self.tally.acknowledged,
            self.tally.by_leader_only,
            self.tally.stored,
            self.tally.read,
            self.deleted
        )
    }
}

/// How a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// What broke: a law, or an assertion of the code under test.
    pub cause: Cause,
    /// At which length.
    pub length: Length,
    /// With which focus, if not the seed's own.
    pub focus: Option<Focus>,
    /// With which faults.
    pub faults: Kinds,
    /// Of everything that happened until then.
    pub trace_hash: u64,
    /// The last events.
    pub recent: Vec<String>,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A checker found it.
    Violation(Violation),
    /// The code under test panicked.
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.recent {
            writeln!(f, "{line}")?;
        }
        match &self.cause {
            Cause::Violation(violation) => writeln!(f, "seed {} breaks a law: {violation}", self.seed)?,
            Cause::Panic(message) => writeln!(f, "seed {} panics: {message}", self.seed)?,
        }
        writeln!(f, "trace {:016x} until then", self.trace_hash)?;
        let length = match self.length {
            Length::Short => " --short",
            Length::Full => "",
        };
        write!(f, "replay: cargo xtask sim --seed {}{length}", self.seed)?;
        if let Some(focus) = self.focus {
            write!(f, " --focus {focus}")?;
        }
        match self.faults.names() {
            Some(names) => write!(f, " --faults {names}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Runs a seed to its end.
///
/// # Errors
/// A law is broken, or the code under test panics: [`Failure`] says how to see it again.
pub fn run(options: &Options) -> Result<Report, Box<Failure>> {
    let mut world = World::new(options);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let cause = match outcome {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(violation)) => Cause::Violation(violation),
        Err(panic) => Cause::Panic(message(&*panic)),
    };
    Err(Box::new(Failure {
        seed: options.seed,
        length: options.length,
        focus: options.focus,
        faults: options.faults,
        cause,
        trace_hash: world.trace().hash(),
        recent: world.trace().recent(),
    }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without a message".to_owned())
}
