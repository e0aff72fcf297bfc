//! What a run consists of, drawn from its seed before it begins.

use super::broker::{DiskPace, Limits, Settings};
use super::clients::{Administrator, Client, Consumer, PartitionName, Producer, Task};
use super::faults::Kind;
use super::focus::Focus;
use super::network::Weather;
use super::queue::Micros;
use super::rng::Rng;
use super::{Length, Options};
use crate::checker::history::Delivery;
use std::time::Duration;

const SECOND: Micros = 1_000_000;

/// The topic of which retention deletes what is old.
const TRIMMED: &str = "trimmed";

/// A cluster, its clients, and how long it suffers.
pub struct Plan {
    /// What it is about.
    pub focus: Focus,
    /// The brokers.
    pub brokers: Vec<Settings>,
    /// The partitions that clients use: the history's slots.
    pub partitions: Vec<PartitionName>,
    /// Everybody who asks for something.
    pub clients: Vec<Box<dyn Client>>,
    /// How many of the clients, from the first on, are not consumers.
    pub active: usize,
    /// Faults come until then.
    pub suffers_until: Micros,
    /// The mean time between faults.
    pub fault_every: Micros,
    /// Leaderships come back to those who are preferred.
    pub gives_back: bool,
    /// A broker whose disk may fail for good; then no group has fewer than three replicas, of which two are left.
    pub victim: Option<u32>,
    /// Once all is whole, a thread of a broker hangs until others lead everything.
    pub hangs_in_the_end: bool,
    /// The network when nothing is wrong with it.
    pub weather: Weather,
    /// How it begins, if not like that.
    pub first_weather: Option<Weather>,
}

/// How large a run may become.
struct Scale {
    /// Suffering lasts so long, at least and at most.
    suffers: (Micros, Micros),
    /// The mean time between faults, at least and at most.
    fault_every: (Micros, Micros),
    /// Topics that stay, at most.
    topics: u64,
    /// Partitions of each, at most.
    partitions: u64,
    /// One less than how often a topic's partitions are moved to other brokers, at most.
    moves: u64,
    /// Topics that come and go, and topics that are given partitions later.
    changes_topics: bool,
    /// Producers send about every so often, at least and at most.
    pace: (Micros, Micros),
}

impl Scale {
    fn of(length: Length, focus: Focus) -> Scale {
        let mut scale = Scale::of_length(length);
        if let Some(fault_every) = focus.fault_every() {
            scale = Scale {
                fault_every,
                topics: 1,
                partitions: 2,
                changes_topics: false,
                ..scale
            };
        }
        match focus {
            Focus::Breadth => {}
            Focus::Elections => scale.moves = 1,
            Focus::Members => scale.moves = 30,
        }
        scale
    }

    fn of_length(length: Length) -> Scale {
        match length {
            Length::Short => Scale {
                suffers: (3 * SECOND, 7 * SECOND),
                fault_every: (40_000, 500_000),
                topics: 2,
                partitions: 2,
                moves: 3,
                changes_topics: true,
                pace: (10_000, 80_000),
            },
            Length::Full => Scale {
                suffers: (8 * SECOND, 16 * SECOND),
                fault_every: (150_000, 1_500_000),
                topics: 3,
                partitions: 3,
                moves: 6,
                changes_topics: true,
                pace: (4_000, 60_000),
            },
        }
    }
}

/// Limits that are reached in a short run, or ones that are not.
fn limits(rng: &mut Rng, focus: Focus, length: Length) -> Option<Limits> {
    // A log of a longer run is filled again entry by entry otherwise, a slow disk's write each, for longer than
    // anything may take in the end.
    let append = match length {
        Length::Short => (200, 2_000),
        Length::Full => (1_000, 6_000),
    };
    // So few that any that are counted wrongly are too many for the next batch.
    let uncommitted = match focus {
        Focus::Breadth | Focus::Members => (2_000, 20_000),
        Focus::Elections => (200, 2_000),
    };
    rng.chance(500).then(|| Limits {
        append_bytes: rng.between(append.0, append.1),
        inflight_messages: 1 + rng.index(4),
        inflight_bytes: rng.between(1_000, 10_000),
        uncommitted_bytes: rng.between(uncommitted.0, uncommitted.1),
        rank_delay: Duration::from_micros(rng.below(3_000)),
    })
}

/// From 3 to 7. Where one group is to be in trouble, others would only be in the way.
fn brokers(rng: &mut Rng, focus: Focus) -> u32 {
    match focus {
        Focus::Breadth if rng.chance(400) => *rng.pick(&[4, 4, 5, 5, 6, 7]).unwrap_or(&5),
        Focus::Breadth => 3,
        Focus::Elections => *rng.pick(&[3, 3, 3, 4, 5]).unwrap_or(&3),
        Focus::Members => *rng.pick(&[3, 4, 5]).unwrap_or(&4),
    }
}

/// How many of them founded the cluster; the others join it.
fn founders(rng: &mut Rng, brokers: u32) -> u32 {
    match brokers {
        0..=3 => brokers,
        _ if rng.chance(500) => *rng.pick(&[1, 3, 3, brokers - 1]).unwrap_or(&3),
        _ => brokers,
    }
}

/// How many replicas a topic begins with, at least so many. Even numbers too: two halves that differ are another
/// situation than a majority and the rest.
fn replication_factor(rng: &mut Rng, focus: Focus, brokers: u32, least: usize) -> u32 {
    let few = least < 3;
    match (focus, rng.below(10)) {
        (Focus::Elections, 0..2) if few => 1,
        (Focus::Elections, 2..5) | (_, 0) if few => 2,
        (_, 1 | 2) => 4.min(brokers),
        (_, 3) => brokers,
        _ => 3,
    }
}

/// Draws a plan.
pub fn draw(rng: &mut Rng, options: &Options) -> Plan {
    let focus = options.focus.unwrap_or_else(|| Focus::draw(rng));
    let scale = Scale::of(options.length, focus);
    let count = brokers(rng, focus);
    let founders = founders(rng, count);
    let limits = limits(rng, focus, options.length);
    let victim = rng
        .chance(400)
        .then(|| 1 + u32::try_from(rng.below(u64::from(count))).unwrap_or(0))
        // Nobody could fill the only voter of the metadata group again.
        .filter(|victim| founders > 1 || *victim > founders);
    let least = if victim.is_some() { 3 } else { 1 };
    let disk = DiskPace::usual(rng);
    // A short run is not watched until the last leadership is back, so half of them do without.
    let gives_back = options.length == Length::Full || rng.chance(500);
    let shards = if rng.chance(500) { 1 } else { 2 };
    let budget = Duration::from_millis(*rng.pick(&[100, 250, 250, 1_000]).unwrap_or(&250));
    let brokers = (1..=count)
        .map(|id| Settings {
            id,
            founders,
            shards,
            rack: Some(format!("rack-{}", id % 2)),
            budget,
            clock_ahead: rng.below(1_000 * SECOND),
            // Real clocks are off by tens of millionths; virtual machines' sometimes by more.
            wall_ahead_ms: 0,
            clock_drift_ppm: rng.below(5_000),
            disk,
            gives_back,
            limits,
            bug: options.bug,
        })
        .collect();
    let suffers_until = rng.between(scale.suffers.0, scale.suffers.1);
    let (tasks, partitions) = topics(rng, (&scale, focus), (count, least), suffers_until);
    let mut clients: Vec<Box<dyn Client>> = Vec::new();
    clients.push(Box::new(Administrator::new(0, count, tasks, rng.fork())));
    for (slot, partition) in partitions.iter().enumerate() {
        for at in 0..rng.between(1, 2) {
            let delivery = match rng.below(10) {
                0 => Delivery::AtMostOnce,
                1 => Delivery::LeaderOnly,
                _ => Delivery::ExactlyOnce,
            };
            let number = u32::try_from(10 * slot).unwrap_or(0) + u32::try_from(at).unwrap_or(0);
            let pace_us = rng.between(scale.pace.0, scale.pace.1);
            let place = (partition.clone(), slot);
            clients.push(Box::new(Producer::new(
                number,
                count,
                place,
                delivery,
                pace_us,
                rng.fork(),
            )));
        }
    }
    let active = clients.len();
    for (slot, partition) in partitions.iter().enumerate() {
        let number = u32::try_from(slot).unwrap_or(0);
        clients.push(Box::new(Consumer::new(
            number,
            count,
            (partition.clone(), slot),
            partition.topic == TRIMMED,
            rng.fork(),
        )));
    }
    Plan {
        focus,
        brokers,
        partitions,
        clients,
        active,
        suffers_until,
        weather: Weather::usual(rng, budget),
        first_weather: focus.weather(rng),
        victim,
        hangs_in_the_end: options.faults.contains(Kind::Hang) && rng.chance(200),
        gives_back,
        fault_every: rng.between(scale.fault_every.0, scale.fault_every.1),
    }
}

/// Topics that stay, with their partitions, and some that are deleted again, spread over the time of suffering.
fn topics(
    rng: &mut Rng,
    (scale, focus): (&Scale, Focus),
    (brokers, least): (u32, usize),
    until: Micros,
) -> (Vec<(Micros, Task)>, Vec<PartitionName>) {
    let mut tasks = Vec::new();
    let mut partitions = Vec::new();
    for topic in 0..rng.between(1, scale.topics) {
        let name = format!("t{topic}");
        let count = i32::try_from(rng.between(1, scale.partitions)).unwrap_or(1);
        // It may begin with fewer and be given the rest later.
        let first = if scale.changes_topics && rng.chance(300) {
            1
        } else {
            count
        };
        partitions.extend((0..count).map(|index| PartitionName {
            topic: name.clone(),
            index,
        }));
        let replication_factor = replication_factor(rng, focus, brokers, least);
        let at = if topic == 0 { 0 } else { rng.below(until / 2) };
        let min_insync = 1 + rng.index(2);
        tasks.push((at, create(name.clone(), first, replication_factor, min_insync)));
        if first < count {
            let task = Task::Grow {
                name: name.clone(),
                total: count,
            };
            tasks.push((rng.between(at, until / 2), task));
        }
        tasks.extend(moves(rng, scale, (&name, first), (brokers, least), (at, until)));
        if rng.chance(300) {
            let min_insync = 1 + rng.index(2);
            tasks.push((rng.between(until / 2, until), Task::Configure { name, min_insync }));
        }
    }
    if rng.chance(400) {
        partitions.push(PartitionName {
            topic: TRIMMED.to_owned(),
            index: 0,
        });
        let mut task = create(TRIMMED.to_owned(), 1, 3, 1);
        if let Task::Create { retention_bytes, .. } = &mut task {
            *retention_bytes = Some(rng.between(1, 60_000));
        }
        let at = rng.below(until / 4);
        tasks.push((at, task));
        if focus == Focus::Members {
            tasks.extend(moves(rng, scale, (TRIMMED, 1), (brokers, least), (at, until)));
        }
    }
    if scale.changes_topics && rng.chance(500) {
        let name = "gone".to_owned();
        tasks.push((rng.below(until / 2), create(name.clone(), 2, 3, 1)));
        let deleted_at = rng.between(until / 2, until);
        tasks.push((deleted_at, Task::Delete { name: name.clone() }));
        if rng.chance(500) {
            // Another topic, of the same name.
            tasks.push((rng.between(deleted_at, until), create(name.clone(), 2, 3, 1)));
        }
    }
    tasks.sort_by_key(|(at, _)| *at);
    (tasks, partitions)
}

/// A topic's partitions go to other brokers, again and again.
fn moves(
    rng: &mut Rng,
    scale: &Scale,
    (name, partitions): (&str, i32),
    (brokers, least): (u32, usize),
    (from, until): (Micros, Micros),
) -> Vec<(Micros, Task)> {
    (0..rng.below(scale.moves))
        .map(|_| {
            let task = Task::Reassign {
                name: name.to_owned(),
                partition: i32::try_from(rng.index(usize::try_from(partitions).unwrap_or(1))).unwrap_or(0),
                replicas: some_brokers(rng, brokers, least),
            };
            (rng.between(from, until), task)
        })
        .collect()
}

/// At least so many of the brokers, in any order.
fn some_brokers(rng: &mut Rng, brokers: u32, least: usize) -> Vec<i32> {
    let mut all: Vec<i32> = (1..=brokers).filter_map(|id| i32::try_from(id).ok()).collect();
    rng.shuffle(&mut all);
    all.truncate(least + rng.index(all.len() + 1 - least));
    all
}

fn create(name: String, partitions: i32, replication_factor: u32, min_insync: usize) -> Task {
    Task::Create {
        name,
        partitions,
        replication_factor: i32::try_from(replication_factor).unwrap_or(3),
        min_insync,
        retention_bytes: None,
    }
}
