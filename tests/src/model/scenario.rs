//! From where an exploration starts, and how far it goes.

use super::start::{Before, Start};
use std::fmt;
use trimaran_raft::{Configuration, Group, Heartbeats};

/// How often each kind of thing may happen along one way. Messages may be delivered in any order, or never, and disks may
/// be slow, without any limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Deadlines that come, of all members together.
    pub timeouts: u8,
    /// Proposals.
    pub proposals: u8,
    /// Crashes, each followed by a start; what was not durable is lost.
    pub crashes: u8,
    /// Messages that arrive once more later.
    pub repeats: u8,
    /// Times that someone is told that its leader is gone, or that a node is back.
    pub evidence: u8,
    /// Times that a leader is told to hand over.
    pub transfers: u8,
    /// Times that a leader is told to change the members.
    pub changes: u8,
    /// Reads that a leader is asked for.
    pub reads: u8,
    /// Times that a member deletes what it knows to be committed from the beginning of its log.
    pub deletions: u8,
    /// Disks that are lost, with all that was on them.
    pub losses: u8,
}

impl Budget {
    /// All kinds, as numbers.
    pub(super) fn kinds(self) -> [u8; 10] {
        let Budget {
            timeouts,
            proposals,
            crashes,
            repeats,
            evidence,
            transfers,
            changes,
            reads,
            deletions,
            losses,
        } = self;
        [
            timeouts, proposals, crashes, repeats, evidence, transfers, changes, reads, deletions, losses,
        ]
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "timeout", "proposal", "crash", "repeat", "doubt", "transfer", "change", "read", "deletion", "loss",
        ];
        let texts: Vec<String> = (self.kinds().into_iter().zip(names))
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| match (count, name) {
                (1, name) => format!("1 {name}"),
                (count, "crash" | "loss") => format!("{count} {name}es"),
                (count, name) => format!("{count} {name}s"),
            })
            .collect();
        f.write_str(&texts.join(", "))
    }
}

/// An exploration: from where, with what, how far.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The group's first configuration.
    pub first: Configuration,
    /// What the group may be told to change to, whatever it is; see [`Budget::changes`].
    pub targets: Vec<Configuration>,
    /// Whether the group itself keeps time.
    pub own_time: bool,
    /// What is on the disks and on its way at first.
    pub start: Start,
    /// What has happened from there when the exploration begins, one after the other: it costs nothing of the budget.
    pub before: Vec<Before>,
    /// No member goes beyond this term.
    pub max_term: u64,
    /// See [`Budget`].
    pub budget: Budget,
    /// What is done to every group as it starts: nothing, but by tests, which break it on purpose.
    pub prepare: fn(&mut Group),
}

impl Scenario {
    pub(super) fn heartbeats(&self) -> Heartbeats {
        match self.own_time {
            true => Heartbeats::Own(std::time::Duration::from_micros(1)),
            false => Heartbeats::External,
        }
    }
}
