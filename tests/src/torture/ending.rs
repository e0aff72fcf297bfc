//! Once all faults have ended: does everything work again, and what do the partitions hold?

use super::producer::{Assignment, Producer};
use super::witness::{Addresses, Slot, Witness, rack};
use crate::checker::history::{Delivery, Finding, Log, compare_replica};
use crate::process::{Connection, KafkaClient, Reading, RequestError, offset};
use crate::sim::rng::Rng;
use kafka_protocol::ResponseError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The timestamp that stands for the start of a log.
const START: i64 = -2;

/// A partition's replicas have what its leader has within this time of the first comparison: they were in sync before.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Asks until there is an answer, and says why there is none if the time is over.
pub fn patiently<T>(until: Instant, mut ask: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(reason) if Instant::now() >= until => return Err(reason),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Every broker tells of a leader for every partition, and that all its replicas are in sync.
pub fn is_whole(witness: &Witness, slots: &[Slot]) -> Result<(), String> {
    let client = KafkaClient::new(witness.clients());
    for broker in &witness.brokers {
        for slot in slots {
            let metadata = client
                .metadata(broker.client, &slot.topic)
                .map_err(|error| format!("broker {} says nothing of {slot}: {error}", broker.id))?;
            let found = metadata.topics.first().and_then(|topic| {
                let partitions = topic.partitions.iter();
                let mut partitions = partitions.filter(|found| found.partition_index == slot.partition);
                partitions.next()
            });
            let told = found.map(|found| (found.leader_id.0, found.isr_nodes.len()));
            match told {
                Some((leader, in_sync)) if leader > 0 && in_sync == slot.replicas => {}
                told => {
                    return Err(format!(
                        "broker {} tells of leader and replicas in sync of {slot}: {told:?}, of {} replicas",
                        broker.id, slot.replicas
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Without some brokers, every other one tells of a leader for every partition, which is none of them.
pub fn is_led_without(witness: &Witness, away: &[u32], slots: &[Slot]) -> Result<(), String> {
    let client = KafkaClient::new(witness.clients());
    let is_away = |id: i32| away.iter().any(|away| i32::try_from(*away) == Ok(id));
    for broker in witness.brokers.iter().filter(|broker| !away.contains(&broker.id)) {
        for slot in slots {
            let metadata = client
                .metadata(broker.client, &slot.topic)
                .map_err(|error| format!("broker {} says nothing of {slot}: {error}", broker.id))?;
            let mut partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
            let found = partitions.find(|found| found.partition_index == slot.partition);
            let leader = found.map_or(-1, |found| found.leader_id.0);
            if leader <= 0 || is_away(leader) {
                return Err(format!(
                    "broker {} tells that {leader} leads {slot}, without brokers {away:?}",
                    broker.id
                ));
            }
        }
    }
    Ok(())
}

/// Every partition takes a record, by producers that know nothing of what was before.
pub fn write_everywhere(
    witness: &Arc<Witness>,
    slots: &[(usize, Slot)],
    rng: &mut Rng,
    until: Instant,
) -> Result<(), String> {
    let writers: Vec<_> = slots
        .iter()
        .map(|(number, slot)| {
            let assignment = Assignment {
                slot: *number,
                topic: slot.topic.clone(),
                id: slot.id,
                partition: slot.partition,
                delivery: Delivery::ExactlyOnce,
                pace: Duration::from_millis(1),
                batches: Some(1),
            };
            let producer = Producer::new(assignment, rng.fork(), Arc::clone(witness));
            (slot, std::thread::spawn(move || producer.run()))
        })
        .collect();
    patiently(until, || {
        let waiting = writers.iter().find(|(_, thread)| !thread.is_finished());
        match waiting {
            None => Ok(()),
            Some((slot, _)) => Err(format!(
                "{slot} takes no record; the last error was {}",
                witness.seen().last_error
            )),
        }
    })
}

/// What a partition holds, as its leader tells.
///
/// # Errors
/// There is no leader, or it refuses.
pub fn read_from_leader(witness: &Witness, slot: &Slot) -> Result<Log, RequestError> {
    let client = KafkaClient::new(witness.clients());
    let leader = match slot.id {
        Some(id) => client.leader_by_id(&slot.topic, id, slot.partition),
        None => client.leader(&slot.topic, slot.partition),
    };
    let leader = leader.ok_or_else(|| RequestError::Malformed("nobody knows a leader".to_owned()))?;
    let mut connection = Connection::open(leader.address)?;
    let start = offset(&mut connection, &slot.topic, slot.partition, START)?;
    read(&mut connection, slot, "", start)
}

/// The same as one broker tells of its own replica, which begins at `start` or later.
///
/// # Errors
/// It does not answer, or refuses.
pub fn read_from(broker: Addresses, slot: &Slot, start: i64) -> Result<Log, RequestError> {
    let mut connection = Connection::open(broker.client)?;
    let rack = rack(broker.id);
    match read(&mut connection, slot, &rack, start) {
        Err(RequestError::Code(code)) if code == ResponseError::OffsetOutOfRange.code() => {
            // Retention has gone further there. Nobody but the leader tells where a log begins, so it is searched for.
            let begins = search_start(&mut connection, slot, &rack, start)?;
            read(&mut connection, slot, &rack, begins)
        }
        outcome => outcome,
    }
}

fn reading<'a>(slot: &'a Slot, rack: &'a str) -> Reading<'a> {
    Reading {
        id: slot.id,
        rack,
        ..Reading::of(&slot.topic, slot.partition)
    }
}

fn read(connection: &mut Connection, slot: &Slot, rack: &str, start: i64) -> Result<Log, RequestError> {
    let mut log = Log {
        start,
        records: Vec::new(),
    };
    let mut from = start;
    loop {
        let fetched = reading(slot, rack).fetch(connection, from, 0)?;
        log.records
            .extend(fetched.records.iter().map(|read| (read.offset, read.record)));
        from = fetched.records.last().map_or(from, |last| last.offset + 1);
        if from >= fetched.high_watermark || fetched.records.is_empty() {
            return Ok(log);
        }
    }
}

/// The first offset that is not out of range: a replica answers anything above its start.
fn search_start(connection: &mut Connection, slot: &Slot, rack: &str, above: i64) -> Result<i64, RequestError> {
    let (mut low, mut step) = (above, 1);
    let is_there = |connection: &mut Connection, at: i64| match reading(slot, rack).fetch(connection, at, 0) {
        Ok(_) => Ok(true),
        Err(RequestError::Code(code)) if code == ResponseError::OffsetOutOfRange.code() => Ok(false),
        Err(error) => Err(error),
    };
    while !is_there(connection, low + step)? {
        low += step;
        step = step.saturating_mul(2);
    }
    let mut high = low + step;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if is_there(connection, middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// What a partition holds in the end, once all its replicas agree, and what it shows if they don't.
pub fn settled(
    witness: &Witness,
    number: usize,
    slot: &Slot,
    until: Instant,
) -> Result<(Log, Option<Finding>), String> {
    let log = patiently(until, || {
        read_from_leader(witness, slot).map_err(|error| format!("{slot} can't be read from its leader: {error}"))
    })?;
    let catch_up = until.min(Instant::now() + CATCH_UP);
    let mut latest = log;
    for broker in &witness.brokers {
        let mut finding = None;
        let compared = patiently(catch_up, || {
            finding = None;
            let replica = read_from(*broker, slot, latest.start);
            let replica = match replica {
                Ok(replica) => replica,
                Err(RequestError::Code(code)) if has_no_replica(code) && slot.replicas < witness.brokers.len() => {
                    return Ok(());
                }
                Err(error) => return Err(format!("{slot} can't be read from broker {}: {error}", broker.id)),
            };
            let Some(found) = compare_replica(number, &format!("broker {}", broker.id), &replica, &latest) else {
                return Ok(());
            };
            // One of them may have got more meanwhile: a record of which its producer has not heard again.
            let reason = found.detail.clone();
            finding = Some(found);
            if let Ok(again) = read_from_leader(witness, slot) {
                latest = again;
            }
            Err(reason)
        });
        match (compared, finding) {
            (Ok(()), _) => {}
            (Err(_), Some(finding)) => return Ok((latest, Some(finding))),
            (Err(reason), None) => return Err(reason),
        }
    }
    Ok((latest, None))
}

fn has_no_replica(code: i16) -> bool {
    code == ResponseError::NotLeaderOrFollower.code()
}
