//! What is done to a cluster, drawn from a seed.

use crate::sim::rng::Rng;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Kinds of faults, as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// kill -9: of a leader, a follower, a majority, or all at once; started again later.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Pause,
    /// SIGSTOP for longer than anything waits: sessions, requests, links.
    Freeze,
    /// One thread of a broker stands still, as in a system call that hangs, and all the others go on. Where the system does not
    /// permit that, nothing is done.
    Hang,
    /// Nobody reads what a broker logs.
    LogStall,
    /// SIGTERM: the broker leaves well, and is started again later.
    Stop,
    /// The same, and started again at once.
    Restart,
    /// Ways between brokers are cut.
    Cut,
    /// Two brokers can't reach each other for longer than anything waits, and all clients and all other brokers reach both.
    Pair,
    /// Ways between brokers are slow and narrow.
    Slow,
    /// Somebody demands that another broker leads.
    Failover,
    /// kill -9, and the broker comes back with an empty disk. Only while all replicas are in sync: two disks that are lost
    /// at once are more than any promise covers.
    Reformat,
    /// In the end, when all is whole, a minority is killed. The others must lead and take records without it. Then it comes back,
    /// perhaps with empty disks.
    Away,
    /// kill -9, and the broker comes back without its journal, and with everything else: its files are gone, or zeroed. Under the
    /// same condition as [`Kind::Reformat`].
    LostJournal,
    /// kill -9, and the broker comes back with a copy of its disk that was made earlier. Under the same condition.
    OldCopy,
    /// All are killed at once and come back with the disks that they had when it was done before: more than any promise
    /// covers. It shows that what is lost is noticed, and is done only if it is asked for.
    Rewind,
}

impl Kind {
    /// Only if they are asked for.
    const SPECIAL: [Kind; 1] = [Kind::Rewind];

    /// All that a cluster has to survive.
    pub const ALL: [Kind; 15] = [
        Kind::Kill,
        Kind::Pause,
        Kind::Freeze,
        Kind::Hang,
        Kind::LogStall,
        Kind::Stop,
        Kind::Restart,
        Kind::Cut,
        Kind::Pair,
        Kind::Slow,
        Kind::Failover,
        Kind::Reformat,
        Kind::LostJournal,
        Kind::OldCopy,
        Kind::Away,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Pause => "pause",
            Kind::Freeze => "freeze",
            Kind::Hang => "hang",
            Kind::LogStall => "log-stall",
            Kind::Stop => "stop",
            Kind::Restart => "restart",
            Kind::Cut => "cut",
            Kind::Pair => "pair",
            Kind::Slow => "slow",
            Kind::Failover => "failover",
            Kind::Reformat => "reformat",
            Kind::Away => "away",
            Kind::LostJournal => "lost-journal",
            Kind::OldCopy => "old-copy",
            Kind::Rewind => "rewind",
        }
    }

    /// How often it comes, compared with others.
    fn weight(self) -> u64 {
        match self {
            Kind::Kill => 30,
            Kind::Cut => 28,
            Kind::Pause => 18,
            Kind::Slow | Kind::Failover | Kind::Hang | Kind::Reformat => 8,
            Kind::LostJournal | Kind::OldCopy | Kind::Rewind => 8,
            Kind::Stop | Kind::Restart | Kind::LogStall => 5,
            Kind::Freeze | Kind::Pair => 3,
            // Its time is the end.
            Kind::Away => 0,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let known = Kind::ALL.into_iter().chain(Kind::SPECIAL);
        let found = known.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            format!("there is no fault `{text}`; there are {}", names.join(", "))
        })
    }
}

/// Who is hit. Who leads is looked up when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victims {
    /// The leader of a partition, drawn by this number.
    LeaderOf(u64),
    /// A broker that does not lead that partition, drawn by the second number.
    FollowerOf(u64, u64),
    /// These, all at once.
    These(Vec<u32>),
}

/// One thing that is done, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; each victim is started again after the time.
    Kill(Victims, Duration),
    /// SIGSTOP for the time.
    Pause(Victims, Duration),
    /// One thread of each, chosen by the number, stands still for the time.
    Hang(Victims, u64, Duration),
    /// The log is not read for the time.
    LogStall(Victims, Duration),
    /// SIGTERM; started again so long after it has ended.
    Stop(Victims, Duration),
    /// Ways change, in the order from, to.
    Ways {
        /// Which.
        ways: Vec<(u32, u32)>,
        /// What becomes of them.
        weather: Weather,
        /// For so long.
        lasts: Duration,
    },
    /// A failover of a partition, drawn by this number.
    Failover(u64),
    /// kill -9, and the disk is emptied; started again after the time.
    Reformat(Victims, Duration),
    /// kill -9, and the journal is gone, or its files are zeroed; started again after the time.
    LostJournal {
        /// Whose.
        victims: Victims,
        /// Zeroed, not gone.
        zeroed: bool,
        /// For so long it is away.
        lasts: Duration,
    },
    /// kill -9, and the disk is kept the first time, and set back to that from then on; started again after the time.
    OldCopy(Victims, Duration),
    /// kill -9 of all, and their disks are kept, or set back to what was kept; started again after the time.
    Rewind(Duration),
}

/// Faults that last longer are longer than anything waits.
const LONG: Duration = Duration::from_secs(10);

/// How a way fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Packets vanish.
    Silent,
    /// Connections break, and can't be made.
    Broken,
    /// Each piece takes so long.
    Slow(Duration),
}

impl Fault {
    /// Which kind it is. A restart is a stop of no time.
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Kill(..) => Kind::Kill,
            Fault::Pause(_, lasts) if *lasts > LONG => Kind::Freeze,
            Fault::Pause(..) => Kind::Pause,
            Fault::Hang(..) => Kind::Hang,
            Fault::LogStall(..) => Kind::LogStall,
            Fault::Stop(_, lasts) if lasts.is_zero() => Kind::Restart,
            Fault::Stop(..) => Kind::Stop,
            Fault::Ways {
                weather: Weather::Slow(_),
                ..
            } => Kind::Slow,
            Fault::Ways { lasts, .. } if *lasts > LONG => Kind::Pair,
            Fault::Ways { .. } => Kind::Cut,
            Fault::Failover(_) => Kind::Failover,
            Fault::Reformat(..) => Kind::Reformat,
            Fault::LostJournal { .. } => Kind::LostJournal,
            Fault::OldCopy(..) => Kind::OldCopy,
            Fault::Rewind(_) => Kind::Rewind,
        }
    }
}

/// The next fault of these kinds for brokers 1 to `brokers`; none if there are no kinds.
pub fn draw(rng: &mut Rng, kinds: &BTreeSet<Kind>, brokers: u32) -> Option<Fault> {
    let total: u64 = kinds.iter().map(|kind| kind.weight()).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = rng.below(total);
    let kind = kinds.iter().find(|kind| {
        let hit = ticket < kind.weight();
        ticket = ticket.saturating_sub(kind.weight());
        hit
    })?;
    Some(match kind {
        Kind::Kill => {
            let victims = match rng.below(100) {
                0..=44 => Victims::LeaderOf(rng.next()),
                45..=69 => Victims::FollowerOf(rng.next(), rng.next()),
                70..=86 => some(rng, brokers, brokers / 2 + 1),
                _ => some(rng, brokers, brokers),
            };
            Fault::Kill(victims, downtime(rng))
        }
        Kind::Pause => Fault::Pause(one(rng), between(rng, 30, 4_000)),
        Kind::Freeze => Fault::Pause(one(rng), between(rng, 10_001, 35_000)),
        Kind::Hang => Fault::Hang(one(rng), rng.next(), between(rng, 100, 8_000)),
        Kind::LogStall => Fault::LogStall(one(rng), between(rng, 1_000, 20_000)),
        Kind::Stop => Fault::Stop(one(rng), between(rng, 50, 4_000)),
        Kind::Restart => Fault::Stop(one(rng), Duration::ZERO),
        Kind::Cut => Fault::Ways {
            ways: shape(rng, brokers),
            weather: if rng.chance(600) {
                Weather::Silent
            } else {
                Weather::Broken
            },
            lasts: between(rng, 100, 6_000),
        },
        Kind::Pair => Fault::Ways {
            ways: pair(rng, brokers),
            weather: if rng.chance(600) {
                Weather::Silent
            } else {
                Weather::Broken
            },
            lasts: between(rng, 10_001, 30_000),
        },
        Kind::Slow => Fault::Ways {
            ways: shape(rng, brokers),
            weather: Weather::Slow(between(rng, 5, 300)),
            lasts: between(rng, 500, 6_000),
        },
        Kind::Failover => Fault::Failover(rng.next()),
        Kind::Reformat => Fault::Reformat(one(rng), downtime(rng)),
        Kind::LostJournal => Fault::LostJournal {
            victims: one(rng),
            zeroed: rng.chance(500),
            lasts: downtime(rng),
        },
        Kind::OldCopy => Fault::OldCopy(one(rng), downtime(rng)),
        Kind::Rewind => Fault::Rewind(downtime(rng)),
        Kind::Away => return None,
    })
}

/// Some are back before anybody notices; some stay away.
fn downtime(rng: &mut Rng) -> Duration {
    if rng.chance(300) {
        between(rng, 0, 100)
    } else {
        between(rng, 100, 5_000)
    }
}

fn between(rng: &mut Rng, low_ms: u64, high_ms: u64) -> Duration {
    Duration::from_millis(rng.between(low_ms, high_ms))
}

fn one(rng: &mut Rng) -> Victims {
    if rng.chance(600) {
        Victims::LeaderOf(rng.next())
    } else {
        Victims::FollowerOf(rng.next(), rng.next())
    }
}

fn some(rng: &mut Rng, brokers: u32, count: u32) -> Victims {
    Victims::These(chosen(rng, brokers, count))
}

fn chosen(rng: &mut Rng, brokers: u32, count: u32) -> Vec<u32> {
    let mut all: Vec<u32> = (1..=brokers).collect();
    rng.shuffle(&mut all);
    all.truncate(usize::try_from(count).unwrap_or(all.len()));
    all
}

/// Which ways: a broker alone or half of them (both ways, only in, only out), a single pair (both or one way, so that others
/// reach both), or any.
fn shape(rng: &mut Rng, brokers: u32) -> Vec<(u32, u32)> {
    let size = if rng.chance(700) { 1 } else { (brokers / 2).max(1) };
    let side = chosen(rng, brokers, size);
    let is_in = |broker: u32| side.contains(&broker);
    let all = (1..=brokers).flat_map(|from| (1..=brokers).map(move |to| (from, to)));
    let all = all.filter(|(from, to)| from != to);
    match rng.below(6) {
        0 | 1 => all.filter(|(from, to)| is_in(*from) != is_in(*to)).collect(),
        2 => all.filter(|(from, to)| !is_in(*from) && is_in(*to)).collect(),
        3 => all.filter(|(from, to)| is_in(*from) && !is_in(*to)).collect(),
        4 => pair(rng, brokers),
        _ => {
            let mut any: Vec<(u32, u32)> = all.collect();
            rng.shuffle(&mut any);
            let count = rng.between(1, 1 + any.len() as u64 / 2);
            any.truncate(usize::try_from(count).unwrap_or(1));
            any
        }
    }
}

/// Both ways between two brokers.
fn pair(rng: &mut Rng, brokers: u32) -> Vec<(u32, u32)> {
    let pair = chosen(rng, brokers, 2);
    let (low, high) = (pair[0], pair[pair.len() - 1]);
    vec![(low, high), (high, low)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, kinds: &[Kind]) -> Vec<Fault> {
        let mut rng = Rng::new(seed);
        let kinds = kinds.iter().copied().collect();
        (0..500).filter_map(|_| draw(&mut rng, &kinds, 3)).collect()
    }

    #[test]
    fn a_seed_decides_what_is_done() {
        assert_eq!(drawn(1, &Kind::ALL), drawn(1, &Kind::ALL));
        assert_ne!(drawn(1, &Kind::ALL), drawn(2, &Kind::ALL));
    }

    #[test]
    fn all_kinds_come_and_only_those_that_are_asked_for() {
        let kinds: BTreeSet<Kind> = drawn(1, &Kind::ALL).iter().map(Fault::kind).collect();
        let mut all: BTreeSet<Kind> = Kind::ALL.into_iter().collect();
        all.remove(&Kind::Away);
        assert_eq!(kinds, all);
        let only = drawn(1, &[Kind::Cut, Kind::Pause]);
        assert!(only.iter().all(|fault| matches!(fault.kind(), Kind::Cut | Kind::Pause)));
        assert_eq!(drawn(1, &[]), []);
    }

    #[test]
    fn ways_join_two_brokers() {
        for fault in drawn(3, &[Kind::Cut, Kind::Slow]) {
            let Fault::Ways { ways, .. } = fault else {
                panic!("{fault:?}");
            };
            assert!(!ways.is_empty());
            assert!(
                ways.iter()
                    .all(|(from, to)| from != to && (1..=3).contains(from) && (1..=3).contains(to))
            );
        }
    }

    #[test]
    fn kinds_have_names() {
        for kind in Kind::ALL.into_iter().chain(Kind::SPECIAL) {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("fire".parse::<Kind>().unwrap_err().contains("kill, pause"));
    }
}
