//! What happened: hashed for "the same again", and its last part kept for reading.

use super::network::Place;
use super::queue::Micros;
use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Events kept for the report of a failure.
const KEPT: usize = 400;

/// One thing that happened.
#[derive(Clone, Debug, Hash)]
pub enum Happening {
    /// A frame arrived.
    Arrived {
        /// From whom.
        from: Place,
        /// At whom.
        to: Place,
        /// What it was.
        what: &'static str,
        /// Its bytes' fingerprint.
        fingerprint: u64,
    },
    /// A frame was lost.
    Lost {
        /// From whom.
        from: Place,
        /// To whom.
        to: Place,
        /// What it was.
        what: &'static str,
    },
    /// A shard took a step.
    Stepped {
        /// Where.
        broker: u32,
        /// Which one.
        shard: usize,
        /// Inputs it was given.
        inputs: usize,
        /// Envelopes it sent.
        envelopes: usize,
        /// Completions it gave.
        completions: usize,
        /// Payload bytes it journalled.
        journal_bytes: u64,
    },
    /// A journal write is durable.
    Journalled {
        /// Where.
        broker: u32,
        /// Payload bytes in it.
        bytes: u64,
    },
    /// A replica reports who leads.
    Leads {
        /// Which replica.
        broker: u32,
        /// Of which group.
        group: u64,
        /// In which term.
        term: u64,
        /// Who.
        leader: Option<u64>,
        /// It is this one, and it may serve.
        serving: bool,
    },
    /// Something rarer, in words.
    Note(
        /// The words.
        String,
    ),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happening::Arrived {
                from,
                to,
                what,
                fingerprint,
            } => write!(f, "{from} -> {to}: {what} {:08x}", fingerprint & 0xFFFF_FFFF),
            Happening::Lost { from, to, what } => write!(f, "{from} -x {to}: {what} lost"),
            Happening::Stepped {
                broker,
                shard,
                inputs,
                envelopes,
                completions,
                journal_bytes,
            } => write!(
                f,
                "b{broker}/{shard} step: {inputs} inputs, {envelopes} envelopes, {completions} completions, \
                 {journal_bytes} B to the journal"
            ),
            Happening::Journalled { broker, bytes } => write!(f, "b{broker} journal: {bytes} B durable"),
            Happening::Leads {
                broker,
                group,
                term,
                leader,
                serving,
            } => {
                let leader = leader.map_or("nobody".to_owned(), |leader| format!("b{leader}"));
                let serving = if *serving { ", serving" } else { "" };
                write!(f, "b{broker}: group {group} term {term} is led by {leader}{serving}")
            }
            Happening::Note(words) => f.write_str(words),
        }
    }
}

/// Everything that happened in a run.
#[derive(Debug)]
pub struct Trace {
    hasher: DefaultHasher,
    events: u64,
    recent: VecDeque<(Micros, Happening)>,
    print: bool,
}

impl Trace {
    /// Nothing yet. `print` writes every event to standard error as it happens.
    pub fn new(print: bool) -> Trace {
        Trace {
            hasher: DefaultHasher::new(),
            events: 0,
            recent: VecDeque::with_capacity(KEPT),
            print,
        }
    }

    /// What happened next.
    pub fn push(&mut self, now: Micros, happening: Happening) {
        (now, &happening).hash(&mut self.hasher);
        self.events += 1;
        if self.print {
            eprintln!("{}", line(now, &happening));
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, happening));
    }

    /// What happened next, in words.
    pub fn note(&mut self, now: Micros, words: impl Into<String>) {
        self.push(now, Happening::Note(words.into()));
    }

    /// Of everything so far: two runs with one hash are the same run.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last events, readable.
    pub fn recent(&self) -> Vec<String> {
        self.recent
            .iter()
            .map(|(now, happening)| line(*now, happening))
            .collect()
    }
}

fn line(now: Micros, happening: &Happening) -> String {
    format!("{:>4}.{:06} {happening}", now / 1_000_000, now % 1_000_000)
}

/// A fingerprint of bytes: for traces and checkers, stable within one build.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
