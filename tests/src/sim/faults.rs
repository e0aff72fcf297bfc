//! What goes wrong, and for how long.

use super::network::Weather;
use super::queue::Micros;
use super::rng::Rng;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Processes lose power, all at the same moment, and start again after these times.
    Crash(Vec<(u32, Micros)>),
    /// A process stands still (SIGSTOP, a long collection of garbage, a frozen virtual machine).
    Pause(u32, Micros),
    /// Every way between two sides is cut.
    Split {
        /// One side; the others are the other one.
        side: Vec<u32>,
        /// For so long.
        lasts: Micros,
    },
    /// Ways are cut in one direction each.
    OneWay {
        /// From whom to whom.
        cuts: Vec<(u32, u32)>,
        /// For so long.
        lasts: Micros,
    },
    /// A broker is cut off from clients only.
    NoClients(u32, Micros),
    /// The weather between brokers changes.
    Weather(Weather, Micros),
    /// A disk needs up to so long for a write.
    SlowDisk {
        /// Whose.
        broker: u32,
        /// The longest write.
        max_us: Micros,
        /// For so long.
        lasts: Micros,
    },
    /// A disk fails writes from now on: the process stops, and starts again after a time with a working one.
    BrokenDisk(u32, Micros),
    /// A disk fails some operations on the partitions' segments, while the journal still works.
    BadSectors {
        /// Whose.
        broker: u32,
        /// Writes fail; otherwise reads.
        writes: bool,
        /// So many operations.
        times: u64,
    },
    /// A disk is full: the process stops, and starts again after a time with more room.
    FullDisk(u32),
    /// Somebody hands a leadership over.
    Transfer,
    /// Somebody demands a failover.
    Failover,
    /// A process leaves well, and starts again after that time.
    Leave(u32, Micros),
}

const MS: Micros = 1_000;

/// The next fault for a cluster of brokers 1 to `brokers`.
pub fn random(rng: &mut Rng, brokers: u32) -> Fault {
    let one = one_of(rng, brokers);
    match rng.below(100) {
        0..=17 => Fault::Crash(vec![(one, downtime(rng))]),
        18..=21 => Fault::Crash(some(rng, brokers, brokers / 2 + 1)),
        22..=24 => Fault::Crash(some(rng, brokers, brokers)),
        25..=32 => Fault::Pause(one, rng.between(20 * MS, 2_500 * MS)),
        33..=44 => split(rng, brokers),
        45..=56 => one_way(rng, brokers),
        57..=60 => Fault::NoClients(one, lasting(rng)),
        61..=70 => Fault::Weather(Weather::random(rng), lasting(rng)),
        71..=78 => Fault::SlowDisk {
            broker: one,
            max_us: rng.between(5 * MS, 700 * MS),
            lasts: lasting(rng),
        },
        79..=80 => Fault::BrokenDisk(one, downtime(rng)),
        81 => Fault::FullDisk(one),
        82..=84 => Fault::BadSectors {
            broker: one,
            writes: rng.chance(500),
            times: rng.between(1, 5),
        },
        85..=89 => Fault::Transfer,
        90..=93 => Fault::Failover,
        _ => Fault::Leave(one, downtime(rng)),
    }
}

fn one_of(rng: &mut Rng, brokers: u32) -> u32 {
    1 + u32::try_from(rng.below(u64::from(brokers))).unwrap_or(0)
}

/// Some start again at once, before anybody notices; some stay away.
fn downtime(rng: &mut Rng) -> Micros {
    if rng.chance(300) {
        rng.between(MS, 60 * MS)
    } else {
        rng.between(100 * MS, 3_000 * MS)
    }
}

fn lasting(rng: &mut Rng) -> Micros {
    rng.between(50 * MS, 3_000 * MS)
}

fn some(rng: &mut Rng, brokers: u32, count: u32) -> Vec<(u32, Micros)> {
    let mut all: Vec<u32> = (1..=brokers).collect();
    rng.shuffle(&mut all);
    all.truncate(usize::try_from(count).unwrap_or(all.len()));
    all.into_iter().map(|broker| (broker, downtime(rng))).collect()
}

fn split(rng: &mut Rng, brokers: u32) -> Fault {
    let size = 1 + u32::try_from(rng.below(u64::from(brokers / 2))).unwrap_or(0);
    Fault::Split {
        side: some(rng, brokers, size).into_iter().map(|(broker, _)| broker).collect(),
        lasts: lasting(rng),
    }
}

fn one_way(rng: &mut Rng, brokers: u32) -> Fault {
    let one = one_of(rng, brokers);
    let others: Vec<u32> = (1..=brokers).filter(|other| *other != one).collect();
    let cuts = match rng.below(3) {
        // It hears nobody.
        0 => others.iter().map(|other| (*other, one)).collect(),
        // Nobody hears it.
        1 => others.iter().map(|other| (one, *other)).collect(),
        // Any single ways.
        _ => (0..rng.between(1, 3))
            .map(|_| (one_of(rng, brokers), one_of(rng, brokers)))
            .collect(),
    };
    Fault::OneWay {
        cuts,
        lasts: lasting(rng),
    }
}
