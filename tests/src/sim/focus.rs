//! What a run is about: everything a little, or one thing a lot.
//!
//! A run in which everything happens has little room for any one thing to happen twice in a row, and many bugs take
//! three elections of one group, or a change of members in the middle of another. So some seeds leave out most of what
//! there could be, and crowd the rest into one or two small groups (the idea is that of swarm testing, Groce et al.,
//! 2012).

use super::faults::Kind;
use super::network::Weather;
use super::queue::Micros;
use super::rng::Rng;
use std::fmt;
use std::str::FromStr;

const MS: Micros = 1_000;

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// Everything, at the pace of a bad week.
    Breadth,
    /// Few groups that lose their leaders all the time, most of them right after the election, with slow disks.
    Elections,
    /// Few groups whose replicas are moved all the time.
    Members,
}

impl Focus {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Focus {
        match rng.below(10) {
            0..6 => Focus::Breadth,
            6..8 => Focus::Elections,
            _ => Focus::Members,
        }
    }

    /// All of them.
    pub const ALL: [Focus; 3] = [Focus::Breadth, Focus::Elections, Focus::Members];

    /// As `--focus` names it.
    pub fn name(self) -> &'static str {
        match self {
            Focus::Breadth => "breadth",
            Focus::Elections => "elections",
            Focus::Members => "members",
        }
    }

    /// The weather from the first moment until everything heals, if it isn't the usual one.
    pub(super) fn weather(self, rng: &mut Rng) -> Option<Weather> {
        // Late votes, and late and repeated requests for them, are what elections go wrong by.
        (self != Focus::Breadth && rng.chance(400)).then(|| Weather {
            loss_per_mille: rng.below(50),
            duplicate_per_mille: rng.below(200),
            delay_max_us: rng.between(400, 5 * MS),
            spike_per_mille: rng.below(200),
            spike_max_us: rng.between(10 * MS, 200 * MS),
            ..Weather::fair()
        })
    }

    /// How often a kind of fault strikes, compared with others.
    pub(super) fn weight(self, kind: Kind) -> u64 {
        match self {
            Focus::Breadth => breadth(kind),
            Focus::Elections => elections(kind),
            Focus::Members => members(kind),
        }
    }

    /// The mean time between faults, at least and at most; none if it is the run's length that decides.
    pub(super) fn fault_every(self) -> Option<(Micros, Micros)> {
        match self {
            Focus::Breadth => None,
            Focus::Elections => Some((8 * MS, 60 * MS)),
            Focus::Members => Some((20 * MS, 200 * MS)),
        }
    }

    /// For how long something is wrong, at least and at most.
    pub(super) fn lasting(self) -> (Micros, Micros) {
        match self {
            Focus::Breadth => (50 * MS, 3_000 * MS),
            Focus::Elections => (5 * MS, 300 * MS),
            Focus::Members => (20 * MS, 800 * MS),
        }
    }

    /// The longest time that a process is away which is started again at once, and that of one which isn't.
    pub(super) fn downtime(self) -> (Micros, Micros) {
        match self {
            Focus::Breadth => (60 * MS, 3_000 * MS),
            Focus::Elections => (20 * MS, 300 * MS),
            Focus::Members => (60 * MS, 1_000 * MS),
        }
    }
}

impl fmt::Display for Focus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No run is about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFocus(String);

impl fmt::Display for UnknownFocus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Focus::ALL.map(Focus::name).join(", ");
        write!(f, "no run is about {:?}; there are {names}", self.0)
    }
}

impl std::error::Error for UnknownFocus {}

impl FromStr for Focus {
    type Err = UnknownFocus;

    fn from_str(name: &str) -> Result<Focus, UnknownFocus> {
        let focus = Focus::ALL.into_iter().find(|focus| focus.name() == name);
        focus.ok_or_else(|| UnknownFocus(name.to_owned()))
    }
}

fn breadth(kind: Kind) -> u64 {
    match kind {
        Kind::Crash => 20,
        Kind::Ambush => 15,
        Kind::Partition | Kind::OneWay => 12,
        Kind::Link => 6,
        Kind::Pause | Kind::Weather | Kind::SlowDisk => 10,
        Kind::Clog => 8,
        Kind::Transfer | Kind::Failover | Kind::Leave => 5,
        Kind::NoClients | Kind::ReadFlip | Kind::ClockJump | Kind::ClockSet => 3,
        Kind::WriteFlip | Kind::OldFolder | Kind::Hang => 6,
        Kind::Reformat | Kind::DeadSegments | Kind::BadSectors | Kind::BrokenDisk | Kind::Voters => 2,
        Kind::LostJournal | Kind::OldJournal => 4,
        Kind::FullDisk => 1,
    }
}

fn elections(kind: Kind) -> u64 {
    match kind {
        Kind::Ambush => 40,
        Kind::Partition | Kind::OneWay => 20,
        Kind::Crash | Kind::Failover | Kind::SlowDisk => 15,
        Kind::Transfer | Kind::Clog => 10,
        Kind::Weather | Kind::Pause | Kind::Hang => 5,
        Kind::OldFolder => 8,
        Kind::Leave | Kind::ClockJump | Kind::ClockSet | Kind::Link => 2,
        Kind::LostJournal | Kind::OldJournal => 2,
        Kind::NoClients
        | Kind::ReadFlip
        | Kind::WriteFlip
        | Kind::Reformat
        | Kind::DeadSegments
        | Kind::BadSectors
        | Kind::BrokenDisk
        | Kind::Voters
        | Kind::FullDisk => 1,
    }
}

fn members(kind: Kind) -> u64 {
    match kind {
        Kind::Crash | Kind::Ambush | Kind::Transfer => 20,
        Kind::Partition | Kind::OneWay | Kind::Failover => 10,
        Kind::SlowDisk | Kind::Clog | Kind::Leave | Kind::Reformat | Kind::OldFolder => 5,
        Kind::Weather | Kind::Pause | Kind::Hang | Kind::Link => 3,
        Kind::LostJournal | Kind::OldJournal => 2,
        Kind::NoClients
        | Kind::ReadFlip
        | Kind::WriteFlip
        | Kind::DeadSegments
        | Kind::ClockJump
        | Kind::ClockSet
        | Kind::BadSectors
        | Kind::BrokenDisk
        | Kind::Voters
        | Kind::FullDisk => 1,
    }
}
