//! What producers were told, and the order in which their records stand.

use super::{Anomaly, Delivery, Evidence, Judgement, Operation, Place, RecordId};
use std::collections::BTreeMap;

/// What was acknowledged is where it was said to be.
pub(super) fn acknowledgements(evidence: &Evidence<'_>, judgement: &mut Judgement) {
    let mut told: BTreeMap<RecordId, i64> = BTreeMap::new();
    let mut owners: BTreeMap<Place, RecordId> = BTreeMap::new();
    for operation in evidence.operations {
        let Operation::Acknowledged { record, offset } = *operation else {
            continue;
        };
        let Some(sending) = evidence.sent.get(&record) else {
            judgement.add(super::Finding {
                anomaly: Anomaly::Invented,
                partition: None,
                detail: format!("{record} was acknowledged, not sent"),
            });
            continue;
        };
        let partition = sending.partition;
        let before = *told.entry(record).or_insert(offset);
        if before != offset {
            let detail = format!("{record} was acknowledged at {before} and at {offset} of partition {partition}");
            judgement.found(Anomaly::InconsistentOffsets, partition, detail);
            continue;
        }
        let place = Place { partition, offset };
        // What only its leader has acknowledged may be taken back, and its offset given to another.
        let may_go = sending.delivery == Delivery::LeaderOnly;
        let first = if may_go {
            record
        } else {
            *owners.entry(place).or_insert(record)
        };
        if first != record {
            let detail = format!("{first} and {record} were both acknowledged at {offset} of partition {partition}");
            judgement.found(Anomaly::InconsistentOffsets, partition, detail);
            continue;
        }
        match evidence.places.get(&record) {
            Some(found) if *found == place => {}
            None if may_go || offset < evidence.start(partition) => {}
            Some(found) => {
                let detail = format!(
                    "{record} was acknowledged at {offset} of partition {partition} and is at {} of partition {}",
                    found.offset, found.partition
                );
                judgement.found(Anomaly::InconsistentOffsets, partition, detail);
            }
            None => {
                let now = evidence.now_at(place);
                let detail = format!("{record} was acknowledged at {offset} of partition {partition}; {now} is there");
                judgement.found(Anomaly::LostWrite, partition, detail);
            }
        }
    }
}

/// What was refused for certain is not there. That it was read is found with the reads.
pub(super) fn refusals(evidence: &Evidence<'_>, judgement: &mut Judgement) {
    for record in &evidence.refused {
        if let Some(Place { partition, offset }) = evidence.places.get(record) {
            let detail = format!("{record} was refused and is at {offset} of partition {partition}");
            judgement.found(Anomaly::AbortedRead, *partition, detail);
        }
    }
}

/// Sequence numbers keep an idempotent producer's records in order. Without them an old request that was only delayed may
/// be appended behind a newer one.
pub(super) fn order(evidence: &Evidence<'_>, judgement: &mut Judgement) {
    let batches = batches_of(evidence);
    // The batch's first record stands for it; a record of no known batch for itself.
    let batch = |record: RecordId| {
        let (first, count) = batches.range(..=record).next_back()?;
        let inside = first.producer == record.producer && record.number - first.number < *count;
        inside.then_some(*first)
    };
    let ordered = |record: &RecordId| evidence.promised(*record) == Some(Delivery::ExactlyOnce);
    for (partition, log) in evidence.logs.iter().enumerate() {
        let mut last: BTreeMap<u32, RecordId> = BTreeMap::new();
        for (_, record) in log.records.iter().filter(|(_, record)| ordered(record)) {
            let Some(before) = last.insert(record.producer, *record) else {
                continue;
            };
            // Within a batch it is another anomaly, and twice the same record, too.
            let same_batch = batch(before).is_some_and(|first| batch(*record) == Some(first));
            if before.number > record.number && !same_batch {
                let detail = format!("partition {partition} has {record} behind {before}");
                judgement.found(Anomaly::NonmonotonicSend, partition, detail);
            }
        }
    }
}

fn batches_of(evidence: &Evidence<'_>) -> BTreeMap<RecordId, u32> {
    let batches = evidence.operations.iter().filter_map(|operation| match operation {
        Operation::SentTogether { first, count } => Some((*first, *count)),
        _ => None,
    });
    batches.collect()
}

/// A batch is there wholly, its records one behind the other.
pub(super) fn batches(evidence: &Evidence<'_>, judgement: &mut Judgement) {
    for (first, count) in batches_of(evidence) {
        let records = (0..count).map(|at| RecordId {
            number: first.number + at,
            ..first
        });
        let places: Vec<(RecordId, Option<Place>)> = records
            .map(|record| (record, evidence.places.get(&record).copied()))
            .collect();
        let mut found = places.iter().filter_map(|(record, place)| Some((record, (*place)?)));
        let Some((_, head)) = found.clone().next() else {
            continue;
        };
        let missing = places.iter().filter(|(_, place)| place.is_none()).count();
        let leading = places.iter().take_while(|(_, place)| place.is_none()).count();
        // Retention may have deleted its beginning.
        let start = evidence.start(head.partition);
        let deleted = missing == leading && head.offset == start && start >= leading as i64;
        if missing > 0 && !deleted {
            let detail = format!(
                "of the {count} records from {first} on, sent as one batch to partition {}, {missing} are not there",
                head.partition
            );
            judgement.found(Anomaly::TornBatch, head.partition, detail);
        }
        let mut before = found.next();
        for (record, place) in found {
            if let Some((earlier, at)) = before {
                let detail = format!(
                    "{earlier} is at {} of partition {} and {record}, of the same batch, at {}",
                    at.offset, place.partition, place.offset
                );
                if place.offset <= at.offset {
                    judgement.found(Anomaly::IntNonmonotonicSend, place.partition, detail);
                } else if place.offset > at.offset + 1 {
                    judgement.found(Anomaly::IntSendSkip, place.partition, detail);
                }
            }
            before = Some((record, place));
        }
    }
}

/// A record that was sent only after another one had been acknowledged comes after it in the same partition.
pub(super) fn real_time(evidence: &Evidence<'_>, judgement: &mut Judgement) {
    let mut acknowledged: BTreeMap<usize, (i64, RecordId)> = BTreeMap::new();
    for operation in evidence.operations {
        match operation {
            Operation::Sent { record, .. } => {
                let Some(Place { partition, offset }) = evidence.places.get(record) else {
                    continue;
                };
                if let Some((highest, earlier)) = acknowledged.get(partition)
                    && highest > offset
                {
                    let detail = format!(
                        "{record} was sent after {earlier} was acknowledged at {highest} of partition {partition}, and is \
                         at {offset}"
                    );
                    judgement.found(Anomaly::G0Realtime, *partition, detail);
                }
            }
            Operation::Acknowledged { record, .. } => {
                // Where it is in the end: an acknowledgement of the leader alone may have been taken back.
                let Some(Place { partition, offset }) = evidence.places.get(record) else {
                    continue;
                };
                let highest = acknowledged.entry(*partition).or_insert((*offset, *record));
                if highest.0 < *offset {
                    *highest = (*offset, *record);
                }
            }
            _ => {}
        }
    }
}
