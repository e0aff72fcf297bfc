//! What goes wrong, and for how long.

use super::focus::Focus;
use super::network::Weather;
use super::queue::Micros;
use super::rng::Rng;
use std::fmt;
use std::str::FromStr;

/// Kinds of faults: what a run may be limited to, and what its report counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Processes lose power. What was written and not synced is lost, or torn.
    Crash,
    /// A process loses power a moment after it has said something that it had better not forget.
    Ambush,
    /// A process stands still.
    Pause,
    /// Brokers can't reach each other: two sides, one against all, or rings of which each sees its neighbours only.
    Partition,
    /// Ways are cut in one direction only.
    OneWay,
    /// Two brokers can't reach each other, and all others reach both.
    Link,
    /// Clients can't reach a broker.
    NoClients,
    /// Messages between brokers are lost (up to 30 %), arrive twice, late, and in another order.
    Weather,
    /// Messages of a way pile up and arrive all at once, as many as its queue held.
    Clog,
    /// A disk needs up to 0.7 seconds for a write, and perhaps its process loses power before it is done.
    SlowDisk,
    /// A thread of a broker hangs for a while: the journal's, a shard's, or those for files. Some runs end with one
    /// that hangs until everything is led by others.
    Hang,
    /// A disk fails a write of the journal.
    BrokenDisk,
    /// A disk fails reads or writes of segments.
    BadSectors,
    /// Some reads of a segment return a flipped bit.
    ReadFlip,
    /// A bit of a segment is flipped where it lies, at the one broker whose disk fails in this run.
    WriteFlip,
    /// The disk of that broker is replaced by an empty one.
    Reformat,
    /// The segments of that broker can't be written any more, and in some runs never again.
    DeadSegments,
    /// An older copy of that broker's disk takes its place.
    OldFolder,
    /// The journal of that broker is gone, and the rest of its disk is there.
    LostJournal,
    /// An older copy of that broker's journal takes its place, and the rest of its disk stays as it is.
    OldJournal,
    /// A disk is full.
    FullDisk,
    /// A clock jumps ahead.
    ClockJump,
    /// A wall clock is set, forwards or back.
    ClockSet,
    /// A leadership is handed over.
    Transfer,
    /// Leaders are believed gone that aren't.
    Failover,
    /// A process leaves well.
    Leave,
    /// A process is started with a configuration that names fewer founders than there were.
    Voters,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 27] = [
        Kind::Crash,
        Kind::Ambush,
        Kind::Pause,
        Kind::Partition,
        Kind::OneWay,
        Kind::Link,
        Kind::NoClients,
        Kind::Weather,
        Kind::Clog,
        Kind::SlowDisk,
        Kind::Hang,
        Kind::BrokenDisk,
        Kind::BadSectors,
        Kind::ReadFlip,
        Kind::WriteFlip,
        Kind::Reformat,
        Kind::DeadSegments,
        Kind::OldFolder,
        Kind::LostJournal,
        Kind::OldJournal,
        Kind::FullDisk,
        Kind::ClockJump,
        Kind::ClockSet,
        Kind::Transfer,
        Kind::Failover,
        Kind::Leave,
        Kind::Voters,
    ];

    /// As `--faults` and the reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Crash => "crash",
            Kind::Ambush => "ambush",
            Kind::Pause => "pause",
            Kind::Partition => "partition",
            Kind::OneWay => "one-way",
            Kind::Link => "link",
            Kind::NoClients => "no-clients",
            Kind::Weather => "weather",
            Kind::Clog => "clog",
            Kind::SlowDisk => "slow-disk",
            Kind::Hang => "hang",
            Kind::BrokenDisk => "broken-disk",
            Kind::BadSectors => "bad-sectors",
            Kind::ReadFlip => "read-flip",
            Kind::WriteFlip => "write-flip",
            Kind::Reformat => "reformat",
            Kind::DeadSegments => "dead-segments",
            Kind::OldFolder => "old-folder",
            Kind::LostJournal => "lost-journal",
            Kind::OldJournal => "old-journal",
            Kind::FullDisk => "full-disk",
            Kind::ClockJump => "clock-jump",
            Kind::ClockSet => "clock-set",
            Kind::Transfer => "transfer",
            Kind::Failover => "failover",
            Kind::Leave => "leave",
            Kind::Voters => "voters",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no such kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        write!(
            f,
            "there is no fault named {:?}; there are {}",
            self.0,
            names.join(", ")
        )
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Kind, UnknownKind> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// The kinds of faults that may strike in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    /// All there are.
    pub const ALL: Kinds = Kinds(u32::MAX);

    /// Whether it may strike.
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & bit(kind) != 0
    }

    /// By their names, as `--faults` takes them; nothing if all may strike.
    pub fn names(self) -> Option<String> {
        let names: Vec<&str> = self.iter().map(Kind::name).collect();
        (names.len() < Kind::ALL.len()).then(|| names.join(","))
    }

    fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Kinds {
        Kinds(kinds.into_iter().fold(0, |bits, kind| bits | bit(kind)))
    }
}

fn bit(kind: Kind) -> u32 {
    let place = Kind::ALL.iter().position(|other| *other == kind);
    1 << place.unwrap_or(31)
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Processes lose power, all at the same moment, and start again after these times.
    Crash(Vec<(u32, Micros)>),
    /// A process loses power a moment after it has said something to somebody.
    Ambush(Ambush),
    /// A process stands still (SIGSTOP, a long collection of garbage, a frozen virtual machine).
    Pause(u32, Micros),
    /// Ways are cut, in one direction each.
    Cut {
        /// From whom to whom.
        ways: Vec<(u32, u32)>,
        /// For so long.
        lasts: Micros,
    },
    /// A broker is cut off from clients only.
    NoClients(u32, Micros),
    /// The weather between brokers changes.
    Weather(Weather, Micros),
    /// What is sent on these ways arrives when they are free again, as far as their queues hold it.
    Clog {
        /// From whom to whom.
        ways: Vec<(u32, u32)>,
        /// Frames that a way's queue holds.
        queue: usize,
        /// For so long.
        lasts: Micros,
    },
    /// A disk needs up to so long for a write.
    SlowDisk {
        /// Whose.
        broker: u32,
        /// The longest write.
        max_us: Micros,
        /// For so long.
        lasts: Micros,
        /// Its process loses power then, and starts again after that time.
        crash: Option<(Micros, Micros)>,
    },
    /// A thread of a broker hangs.
    Hang {
        /// Whose.
        broker: u32,
        /// Which one: a number to choose by.
        which: u64,
        /// For so long.
        lasts: Micros,
    },
    /// A disk fails writes from now on: the process stops, and starts again after a time with a working one.
    BrokenDisk(u32),
    /// A disk fails some operations on the partitions' segments, while the journal still works.
    BadSectors {
        /// Whose.
        broker: u32,
        /// Writes fail; otherwise reads.
        writes: bool,
        /// So many operations.
        times: u64,
    },
    /// The next reads of some byte of a segment of some broker's return it with a flipped bit.
    ReadFlip {
        /// Whose, and which one: a number to choose by.
        which: u64,
        /// How many reads.
        times: u64,
    },
    /// Some byte of a segment of the run's victim is wrong from now on.
    WriteFlip {
        /// Which one: a number to choose by.
        which: u64,
    },
    /// The run's victim loses power, and starts again after that time, with an empty disk.
    Reformat(Micros),
    /// The run's victim can't write its segments any more. Its journal works.
    DeadSegments,
    /// The run's victim loses power, and starts again after that time, with an older copy of its disk, if there is one
    /// that the others know to be older.
    OldFolder(Micros),
    /// The run's victim loses power, and starts again after that time, without its journal.
    LostJournal(Micros),
    /// The run's victim loses power, and its journal is copied. Later it loses power again, and starts with that copy.
    OldJournal {
        /// It starts again after that time.
        downtime: Micros,
        /// The copy comes back so long after that.
        later: Micros,
        /// It starts again after that time.
        again: Micros,
    },
    /// A disk is full: the process stops, and starts again after a time with more room.
    FullDisk(u32),
    /// A clock is ahead by so much more from now on.
    ClockJump(u32, Micros),
    /// A wall clock is so many milliseconds ahead of the others from now on; negative: behind.
    ClockSet(u32, i64),
    /// Somebody hands a leadership over.
    Transfer,
    /// Somebody demands a failover: of one group, or of all.
    Failover {
        /// Of all.
        all: bool,
    },
    /// A process leaves well, and starts again after that time.
    Leave(u32, Micros),
    /// A process loses power, and starts again after that time with a configuration that names only so many founders,
    /// if that is fewer than there are.
    Voters(u32, u32, Micros),
}

/// A loss of power that lies in wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambush {
    /// For whom.
    pub broker: u32,
    /// For what it says.
    pub said: Said,
    /// Until then its disk needs up to so long for a write, so that little of what it says is on it; but no longer than
    /// that.
    pub slow: Option<(Micros, Micros)>,
    /// It starts again after that time.
    pub downtime: Micros,
}

/// What a process says that it had better not forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It asks for votes.
    Candidacy,
    /// It grants a vote.
    Vote,
    /// It leads: it sends entries.
    Entries,
    /// It holds entries.
    Acknowledgement,
    /// More is committed than before, and nothing else is news.
    Commit,
}

const MS: Micros = 1_000;

/// The next fault for a cluster of brokers 1 to `brokers`; none if none may strike.
pub fn random(rng: &mut Rng, brokers: u32, kinds: Kinds, focus: Focus) -> Option<(Kind, Fault)> {
    let total = kinds.iter().map(|kind| focus.weight(kind)).sum();
    let mut drawn = rng.below(total);
    let kind = kinds.iter().find(|kind| {
        let weight = focus.weight(*kind);
        let is_it = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        is_it
    })?;
    let mut drawing = Drawing { rng, brokers, focus };
    Some((kind, drawing.of_kind(kind)))
}

/// A fault that is being drawn.
struct Drawing<'a> {
    rng: &'a mut Rng,
    brokers: u32,
    focus: Focus,
}

impl Drawing<'_> {
    fn of_kind(&mut self, kind: Kind) -> Fault {
        let one = one_of(self.rng, self.brokers);
        match kind {
            Kind::Crash => Fault::Crash(match self.rng.below(8) {
                0 => self.some(self.brokers / 2 + 1),
                1 => self.some(self.brokers),
                _ => vec![(one, self.downtime())],
            }),
            Kind::Ambush => Fault::Ambush(self.ambush(one)),
            Kind::Pause => Fault::Pause(one, self.pause()),
            Kind::Partition => Fault::Cut {
                ways: partition(self.rng, self.brokers),
                lasts: self.lasting(),
            },
            Kind::OneWay => Fault::Cut {
                ways: one_way(self.rng, self.brokers),
                lasts: self.lasting(),
            },
            Kind::Link => {
                let other =
                    1 + (one + u32::try_from(self.rng.below(u64::from(self.brokers - 1))).unwrap_or(0)) % self.brokers;
                Fault::Cut {
                    ways: vec![(one, other), (other, one)],
                    lasts: self.lasting(),
                }
            }
            Kind::NoClients => Fault::NoClients(one, self.lasting()),
            Kind::Weather => Fault::Weather(Weather::random(self.rng), self.lasting()),
            Kind::Clog => Fault::Clog {
                ways: one_way(self.rng, self.brokers),
                queue: 1 << self.rng.between(1, 10),
                lasts: self.lasting(),
            },
            Kind::SlowDisk => {
                let lasts = self.lasting();
                let crash = (self.rng.chance(400)).then(|| (self.rng.below(lasts), self.rng.between(MS, 200 * MS)));
                Fault::SlowDisk {
                    broker: one,
                    max_us: self.rng.between(5 * MS, 700 * MS),
                    lasts,
                    crash,
                }
            }
            Kind::Hang => Fault::Hang {
                broker: one,
                which: self.rng.next(),
                lasts: self.lasting(),
            },
            Kind::BrokenDisk => Fault::BrokenDisk(one),
            Kind::BadSectors => Fault::BadSectors {
                broker: one,
                writes: self.rng.chance(500),
                times: self.rng.between(1, 5),
            },
            Kind::ReadFlip => Fault::ReadFlip {
                which: self.rng.next(),
                times: self.rng.between(1, 3),
            },
            Kind::WriteFlip => Fault::WriteFlip { which: self.rng.next() },
            Kind::Reformat => Fault::Reformat(self.downtime()),
            Kind::DeadSegments => Fault::DeadSegments,
            Kind::OldFolder => Fault::OldFolder(self.downtime()),
            Kind::LostJournal => Fault::LostJournal(self.downtime()),
            Kind::OldJournal => Fault::OldJournal {
                downtime: self.downtime(),
                later: self.lasting(),
                again: self.downtime(),
            },
            Kind::FullDisk => Fault::FullDisk(one),
            Kind::ClockJump => Fault::ClockJump(one, self.rng.between(MS, 5_000 * MS)),
            Kind::ClockSet => {
                let hour_ms = 3_600_000;
                let ahead = i64::try_from(self.rng.below(2 * hour_ms)).unwrap_or(0);
                Fault::ClockSet(one, ahead - 3_600_000)
            }
            Kind::Transfer => Fault::Transfer,
            Kind::Failover => Fault::Failover {
                all: self.rng.chance(400),
            },
            Kind::Leave => Fault::Leave(one, self.downtime()),
            Kind::Voters => {
                let listed = one_of(self.rng, self.brokers);
                Fault::Voters(one, listed, self.downtime())
            }
        }
    }

    fn ambush(&mut self, broker: u32) -> Ambush {
        let all = [
            Said::Candidacy,
            Said::Vote,
            Said::Entries,
            Said::Acknowledgement,
            Said::Commit,
        ];
        let said = *self.rng.pick(&all).unwrap_or(&Said::Vote);
        let slow = self
            .rng
            .chance(300)
            .then(|| (self.rng.between(5 * MS, 100 * MS), self.lasting()));
        // Back soon, so that it meets those whom it has said it to.
        let downtime = self.rng.between(MS, 80 * MS);
        Ambush {
            broker,
            said,
            slow,
            downtime,
        }
    }

    fn pause(&mut self) -> Micros {
        let (_, longest) = self.focus.lasting();
        self.rng.between(longest / 100, longest * 5 / 6)
    }

    /// Some start again at once, before anybody notices; some stay away.
    fn downtime(&mut self) -> Micros {
        let (soon, late) = self.focus.downtime();
        if self.rng.chance(400) {
            self.rng.between(MS, soon)
        } else {
            self.rng.between(soon, late)
        }
    }

    fn lasting(&mut self) -> Micros {
        let (least, most) = self.focus.lasting();
        self.rng.between(least, most)
    }

    fn some(&mut self, count: u32) -> Vec<(u32, Micros)> {
        let mut all: Vec<u32> = (1..=self.brokers).collect();
        self.rng.shuffle(&mut all);
        all.truncate(usize::try_from(count).unwrap_or(all.len()));
        all.into_iter().map(|broker| (broker, self.downtime())).collect()
    }
}

fn one_of(rng: &mut Rng, brokers: u32) -> u32 {
    1 + u32::try_from(rng.below(u64::from(brokers))).unwrap_or(0)
}

/// Two sides; and sometimes a broker that both of them reach.
fn partition(rng: &mut Rng, brokers: u32) -> Vec<(u32, u32)> {
    let mut order: Vec<u32> = (1..=brokers).collect();
    rng.shuffle(&mut order);
    if brokers > 2 && rng.chance(250) {
        order.pop();
    }
    let (one, other) = order.split_at(1 + rng.index(order.len() / 2));
    one.iter()
        .flat_map(|one| other.iter().flat_map(move |other| [(*one, *other), (*other, *one)]))
        .collect()
}

fn one_way(rng: &mut Rng, brokers: u32) -> Vec<(u32, u32)> {
    let one = one_of(rng, brokers);
    let others: Vec<u32> = (1..=brokers).filter(|other| *other != one).collect();
    match rng.below(3) {
        // It hears nobody.
        0 => others.iter().map(|other| (*other, one)).collect(),
        // Nobody hears it.
        1 => others.iter().map(|other| (one, *other)).collect(),
        // Any single ways.
        _ => (0..rng.between(1, 3))
            .map(|_| (one_of(rng, brokers), one_of(rng, brokers)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_names() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let error = "rain".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("\"rain\"") && error.contains("weather"), "{error}");
    }

    #[test]
    fn only_what_is_asked_for_strikes() {
        let kinds: Kinds = [Kind::Pause, Kind::Clog].into_iter().collect();
        assert_eq!(kinds.names().as_deref(), Some("pause,clog"));
        assert_eq!(Kinds::ALL.names(), None);
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            let (kind, _) = random(&mut rng, 5, kinds, Focus::Breadth).expect("two kinds may strike");
            assert!(kinds.contains(kind), "{kind}");
        }
        assert_eq!(random(&mut rng, 5, Kinds(0), Focus::Members), None);
    }
}
