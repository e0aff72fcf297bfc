//! What a run consists of, drawn from its seed before it begins.

use super::broker::Settings;
use super::clients::{Administrator, Client, Consumer, PartitionName, Producer, Task};
use super::queue::Micros;
use super::rng::Rng;
use crate::checker::history::Delivery;
use std::time::Duration;

const SECOND: Micros = 1_000_000;

/// The topic of which retention deletes what is old.
const TRIMMED: &str = "trimmed";

/// A cluster, its clients, and how long it suffers.
pub struct Plan {
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
}

/// Draws a plan.
pub fn draw(rng: &mut Rng) -> Plan {
    let count: u32 = if rng.chance(700) {
        3
    } else {
        *rng.pick(&[4, 5]).unwrap_or(&5)
    };
    let shards = if rng.chance(500) { 1 } else { 2 };
    let budget = Duration::from_millis(*rng.pick(&[100, 250, 250, 1_000]).unwrap_or(&250));
    let brokers = (1..=count)
        .map(|id| Settings {
            id,
            brokers: count,
            shards,
            rack: Some(format!("rack-{}", id % 2)),
            budget,
            clock_ahead: rng.below(1_000 * SECOND),
            // Real clocks are off by tens of millionths; virtual machines' sometimes by more.
            clock_drift_ppm: rng.below(5_000),
        })
        .collect();
    let suffers_until = rng.between(8 * SECOND, 16 * SECOND);
    let (tasks, partitions) = topics(rng, count, suffers_until);
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
            let pace_us = rng.between(4_000, 60_000);
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
        brokers,
        partitions,
        clients,
        active,
        suffers_until,
        fault_every: rng.between(150_000, 1_500_000),
    }
}

/// Topics that stay, with their partitions, and some that are deleted again, spread over the time of suffering.
fn topics(rng: &mut Rng, brokers: u32, until: Micros) -> (Vec<(Micros, Task)>, Vec<PartitionName>) {
    let mut tasks = Vec::new();
    let mut partitions = Vec::new();
    for topic in 0..rng.between(1, 3) {
        let name = format!("t{topic}");
        let count = i32::try_from(rng.between(1, 3)).unwrap_or(1);
        // It may begin with fewer and be given the rest later.
        let first = if rng.chance(300) { 1 } else { count };
        partitions.extend((0..count).map(|index| PartitionName {
            topic: name.clone(),
            index,
        }));
        let replication_factor = if brokers > 3 && rng.chance(200) {
            5.min(brokers)
        } else {
            3
        };
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
        tasks.push((rng.below(until / 4), task));
    }
    if rng.chance(500) {
        let name = "gone".to_owned();
        tasks.push((rng.below(until / 2), create(name.clone(), 2, 3, 1)));
        tasks.push((rng.between(until / 2, until), Task::Delete { name }));
    }
    tasks.sort_by_key(|(at, _)| *at);
    (tasks, partitions)
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
