//! Threads that hang: in a system call that does not return for a while, or for good. All the others go on.

use super::Running;
use super::event::{Effect, Event};
use crate::sim::queue::Micros;
use std::time::Duration;
use trimaran_multiraft::Worker;
use trimaran_raft::GroupId;

/// Threads for files that a broker has.
const FILE_THREADS: usize = 2;

/// What hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hanging {
    /// The journal's thread.
    Journal,
    /// A shard's thread, by its place.
    Shard(usize),
    /// All threads for files.
    Files,
}

/// A thread that hangs, and what its system call keeps back.
pub(super) struct Hang {
    what: Hanging,
    since: Micros,
    kept: Vec<Event>,
}

impl Running {
    /// From now on these threads do nothing, until [`Running::go_on`]. One thing at a time can hang.
    pub fn hang(&mut self, now: Micros, what: Hanging) {
        if self.hang.is_none() {
            let kept = Vec::new();
            self.hang = Some(Hang { what, since: now, kept });
        }
    }

    /// The system call returns.
    pub fn go_on(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let Some(hang) = self.hang.take() else { return };
        if let Hanging::Shard(shard) = hang.what {
            self.seats[shard].awake = true;
            effects.push(Effect::At(now, Event::Step(shard)));
        }
        effects.extend(hang.kept.into_iter().map(|event| Effect::At(now, event)));
    }

    /// What hangs, if something does.
    pub fn hanging(&self) -> Option<Hanging> {
        self.hang.as_ref().map(|hang| hang.what)
    }

    /// The thread that drives a group.
    pub fn thread_of(&self, group: GroupId) -> Hanging {
        Hanging::Shard(self.seat_of(group))
    }

    /// A thread of this broker, chosen by a number: a shard's more often than others.
    pub fn some_thread(&self, which: u64) -> Hanging {
        match which % 8 {
            0 | 1 => Hanging::Journal,
            2 => Hanging::Files,
            _ => Hanging::Shard((which / 8) as usize % self.seats.len()),
        }
    }

    /// Keeps back an event that needs a thread which hangs. Says whether it did.
    pub(super) fn keep_back(&mut self, event: &Event) -> bool {
        let Some(hang) = &mut self.hang else { return false };
        match (hang.what, event) {
            // Its mailbox fills.
            (Hanging::Shard(hung), Event::Step(shard)) => hung == *shard,
            (Hanging::Shard(hung), Event::Timer(shard, at)) if hung == *shard => {
                let timer = &mut self.seats[hung].timer_at;
                *timer = timer.filter(|timer| timer != at);
                true
            }
            (Hanging::Journal, Event::Journal) => {
                hang.kept.push(Event::Journal);
                true
            }
            (Hanging::Files, Event::Job(number)) => {
                hang.kept.push(Event::Job(*number));
                true
            }
            _ => false,
        }
    }

    /// Each thread, and for how long it has been busy with one thing.
    pub(super) fn workers(&self, now: Micros) -> Vec<(Worker, Duration)> {
        let busy = |since: Option<Micros>| Duration::from_micros(since.map_or(0, |since| now.saturating_sub(since)));
        let hung = |what: Hanging| {
            self.hang
                .as_ref()
                .filter(|hang| hang.what == what)
                .map(|hang| hang.since)
        };
        let writing = self.writing.as_ref().map(|writing| writing.since);
        let mut workers = vec![(Worker::Journal, busy(hung(Hanging::Journal).or(writing)))];
        let shards = (0..self.seats.len()).map(|shard| (Worker::Shard, busy(hung(Hanging::Shard(shard)))));
        workers.extend(shards);
        workers.extend([(Worker::Files, busy(hung(Hanging::Files))); FILE_THREADS]);
        workers
    }
}
