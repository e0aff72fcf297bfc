//! What a Kafka client may expect, checked from what clients sent, were told and read.
//!
//! The history is a list of operations in the order in which an observer saw them (one virtual clock in the simulation,
//! one process in the tests against real brokers). It is judged once, at the end, against the final content of each
//! partition.

use super::{Law, Violation};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One record: who sent it, and its number there, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The producer.
    pub producer: u32,
    /// Counts the producer's records.
    pub number: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}#{}", self.producer, self.number)
    }
}

/// A value that no [`RecordId`] was written into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRecordId(
    /// What was found instead.
    pub String,
);

impl fmt::Display for NoRecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a record id: {:?}", self.0)
    }
}

impl std::error::Error for NoRecordId {}

impl FromStr for RecordId {
    type Err = NoRecordId;

    /// The inverse of `Display`. Anything behind a space is padding.
    fn from_str(text: &str) -> Result<RecordId, NoRecordId> {
        let refused = || NoRecordId(text.to_owned());
        let id = text.split(' ').next().unwrap_or_default();
        let (producer, number) = id
            .strip_prefix('p')
            .and_then(|rest| rest.split_once('#'))
            .ok_or_else(refused)?;
        Ok(RecordId {
            producer: producer.parse().map_err(|_| refused())?,
            number: number.parse().map_err(|_| refused())?,
        })
    }
}

/// What a producer promised about its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// acks=all and idempotent: an acknowledged record stays, and is there once.
    ExactlyOnce,
    /// acks=all, never sent again: an acknowledged record stays.
    AtMostOnce,
    /// acks=1: an acknowledged record may be lost with its leader; it is never there twice, since it is not sent again.
    LeaderOnly,
}

/// What was seen, in the order of the observer's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A producer handed a record over (the first time; sending it again is no operation).
    Sent {
        /// The record.
        record: RecordId,
        /// Where to: an index into the observer's list of partitions.
        partition: usize,
        /// What the producer promised.
        delivery: Delivery,
    },
    /// The record was acknowledged.
    Acknowledged {
        /// The record.
        record: RecordId,
        /// The offset it was given.
        offset: i64,
    },
    /// A consumer read a record.
    Read {
        /// The consumer.
        consumer: u32,
        /// Where from.
        partition: usize,
        /// At which offset.
        offset: i64,
        /// What was there.
        record: RecordId,
    },
    /// A consumer was told that what it wants next has been deleted, and goes on behind that.
    Skipped {
        /// The consumer.
        consumer: u32,
        /// Where.
        partition: usize,
        /// The offset it goes on with: the log's first one at that time.
        to: i64,
    },
}

/// What a partition holds in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Its first offset: what was before it has been deleted by retention.
    pub start: i64,
    /// Its records with their offsets, from the first to the last.
    pub records: Vec<(i64, RecordId)>,
}

impl From<Vec<(i64, RecordId)>> for Log {
    /// A log of which nothing was deleted.
    fn from(records: Vec<(i64, RecordId)>) -> Log {
        Log { start: 0, records }
    }
}

impl Log {
    fn at(&self, offset: i64) -> Option<RecordId> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.records.get(at).map(|(_, record)| *record)
    }
}

/// Everything that was seen of one cluster.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
}

/// How a history's records fared, for the report of a good run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that producers handed over.
    pub sent: usize,
    /// Of these, acknowledged.
    pub acknowledged: usize,
    /// Of these, with acks=1: a failover may lose them.
    pub by_leader_only: usize,
    /// Records in the final logs.
    pub stored: usize,
    /// Records that consumers read.
    pub read: usize,
}

impl History {
    /// Nothing seen yet.
    pub fn new() -> History {
        History::default()
    }

    /// Appends what was seen next.
    pub fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// What was seen so far.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Judges everything that was seen against what the partitions hold in the end.
    pub fn check(&self, partitions: &[Log]) -> Result<Tally, Violation> {
        let sent = self.sent()?;
        let places = places(partitions, &sent)?;
        self.check_acknowledgements(&sent, &places, partitions)?;
        self.check_reads(partitions)?;
        check_order_of_producers(partitions, &sent)?;
        self.check_real_time(&places)?;
        let by_leader_only = |operation: &Operation| {
            let Operation::Acknowledged { record, .. } = operation else {
                return false;
            };
            sent.get(record)
                .is_some_and(|(_, delivery)| *delivery == Delivery::LeaderOnly)
        };
        Ok(Tally {
            by_leader_only: self.count(by_leader_only),
            sent: sent.len(),
            acknowledged: self.count(|operation| matches!(operation, Operation::Acknowledged { .. })),
            stored: partitions.iter().map(|log| log.records.len()).sum(),
            read: self.count(|operation| matches!(operation, Operation::Read { .. })),
        })
    }

    fn count(&self, which: impl Fn(&Operation) -> bool) -> usize {
        self.operations.iter().filter(|operation| which(operation)).count()
    }

    fn sent(&self) -> Result<BTreeMap<RecordId, (usize, Delivery)>, Violation> {
        let mut sent = BTreeMap::new();
        for operation in &self.operations {
            if let Operation::Sent {
                record,
                partition,
                delivery,
            } = operation
                && sent.insert(*record, (*partition, *delivery)).is_some()
            {
                // The observer's own mistake, but it would blind every law below.
                return Err(Violation::new(
                    Law::NothingInvented,
                    format!("{record} was handed over twice"),
                ));
            }
        }
        Ok(sent)
    }

    fn check_acknowledgements(
        &self,
        sent: &BTreeMap<RecordId, (usize, Delivery)>,
        places: &BTreeMap<RecordId, (usize, i64)>,
        partitions: &[Log],
    ) -> Result<(), Violation> {
        let mut told: BTreeMap<RecordId, i64> = BTreeMap::new();
        let mut owner: BTreeMap<(usize, i64), RecordId> = BTreeMap::new();
        for operation in &self.operations {
            let Operation::Acknowledged { record, offset } = operation else {
                continue;
            };
            let Some((partition, delivery)) = sent.get(record) else {
                return Err(Violation::new(
                    Law::NothingInvented,
                    format!("{record} was acknowledged, not sent"),
                ));
            };
            let before = *told.entry(*record).or_insert(*offset);
            if before != *offset {
                return Err(Violation::new(
                    Law::OneOffset,
                    format!("{record} was acknowledged at {before} and at {offset}"),
                ));
            }
            if *delivery == Delivery::LeaderOnly {
                continue;
            }
            let first = *owner.entry((*partition, *offset)).or_insert(*record);
            if first != *record {
                return Err(Violation::new(
                    Law::OneOffset,
                    format!("{first} and {record} were both acknowledged at offset {offset} of partition {partition}"),
                ));
            }
            let start = partitions.get(*partition).map_or(0, |log| log.start);
            match places.get(record) {
                Some(place) if *place == (*partition, *offset) => {}
                None if *offset < start => {}
                Some((_, found)) => {
                    return Err(Violation::new(
                        Law::OneOffset,
                        format!("{record} was acknowledged at {offset} and is at {found} of partition {partition}"),
                    ));
                }
                None => {
                    return Err(Violation::new(
                        Law::AcknowledgedStays,
                        format!("{record}, acknowledged at offset {offset} of partition {partition}"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_reads(&self, partitions: &[Log]) -> Result<(), Violation> {
        // What was deleted meanwhile can only be compared with what others read.
        let mut deleted: BTreeMap<(usize, i64), RecordId> = BTreeMap::new();
        let mut positions: BTreeMap<(u32, usize), i64> = BTreeMap::new();
        for operation in &self.operations {
            if let Operation::Skipped {
                consumer,
                partition,
                to,
            } = operation
            {
                skip(&mut positions, partitions, (*consumer, *partition), *to)?;
            }
            let Operation::Read {
                consumer,
                partition,
                offset,
                record,
            } = operation
            else {
                continue;
            };
            let position = positions.entry((*consumer, *partition)).or_insert(0);
            if *offset != *position {
                return Err(Violation::new(
                    Law::ReadsInOrder,
                    format!("consumer {consumer} read {offset} of partition {partition}, after {position} was due"),
                ));
            }
            *position += 1;
            let stored = match partitions.get(*partition) {
                Some(log) if *offset < log.start => Some(*deleted.entry((*partition, *offset)).or_insert(*record)),
                log => log.and_then(|log| log.at(*offset)),
            };
            if stored != Some(*record) {
                let now = stored.map_or("nothing".to_owned(), |stored| stored.to_string());
                return Err(Violation::new(
                    Law::ReadStays,
                    format!("consumer {consumer} read {record} at {offset} of partition {partition}; {now} is there"),
                ));
            }
        }
        Ok(())
    }

    /// A record that was sent only after another one had been acknowledged comes after it in the same partition.
    fn check_real_time(&self, places: &BTreeMap<RecordId, (usize, i64)>) -> Result<(), Violation> {
        let mut acknowledged: BTreeMap<usize, (i64, RecordId)> = BTreeMap::new();
        for operation in &self.operations {
            match operation {
                Operation::Sent { record, .. } => {
                    let Some((partition, offset)) = places.get(record) else {
                        continue;
                    };
                    if let Some((highest, earlier)) = acknowledged.get(partition)
                        && highest > offset
                    {
                        return Err(Violation::new(
                            Law::SentInOrder,
                            format!(
                                "{record} was sent after {earlier} was acknowledged at {highest} of partition \
                                 {partition}, and is at {offset}"
                            ),
                        ));
                    }
                }
                Operation::Acknowledged { record, .. } => {
                    // Where it is in the end: an acknowledgement of the leader alone may have been taken back.
                    let Some((partition, offset)) = places.get(record) else {
                        continue;
                    };
                    let highest = acknowledged.entry(*partition).or_insert((*offset, *record));
                    if highest.0 < *offset {
                        *highest = (*offset, *record);
                    }
                }
                Operation::Read { .. } | Operation::Skipped { .. } => {}
            }
        }
        Ok(())
    }
}

/// A consumer goes on behind what was deleted: never behind what is still there.
fn skip(
    positions: &mut BTreeMap<(u32, usize), i64>,
    partitions: &[Log],
    reader: (u32, usize),
    to: i64,
) -> Result<(), Violation> {
    let (consumer, partition) = reader;
    let start = partitions.get(partition).map_or(0, |log| log.start);
    let position = positions.entry(reader).or_insert(0);
    if to < *position || to > start {
        return Err(Violation::new(
            Law::ReadStays,
            format!(
                "consumer {consumer} was sent from {position} to {to} of partition {partition}, which begins at {start}"
            ),
        ));
    }
    *position = to;
    Ok(())
}

/// Where each record is in the end, once it is certain that it is in one place.
fn places(
    partitions: &[Log],
    sent: &BTreeMap<RecordId, (usize, Delivery)>,
) -> Result<BTreeMap<RecordId, (usize, i64)>, Violation> {
    let mut places = BTreeMap::new();
    for (partition, log) in partitions.iter().enumerate() {
        for (due, (offset, record)) in (log.start..).zip(&log.records) {
            if due != *offset {
                return Err(Violation::new(
                    Law::OffsetsContiguous,
                    format!("partition {partition} has {record} at {offset}, where {due} was due"),
                ));
            }
            match sent.get(record) {
                Some((meant, _)) if *meant == partition => {}
                Some((meant, _)) => {
                    return Err(Violation::new(
                        Law::NothingInvented,
                        format!("{record} was sent to partition {meant} and is in partition {partition}"),
                    ));
                }
                None => {
                    return Err(Violation::new(
                        Law::NothingInvented,
                        format!("partition {partition} has {record} at {offset}, which nobody sent"),
                    ));
                }
            }
            if let Some((_, earlier)) = places.insert(*record, (partition, *offset)) {
                return Err(Violation::new(
                    Law::NoDuplicate,
                    format!("partition {partition} has {record} at {earlier} and at {offset}"),
                ));
            }
        }
    }
    Ok(places)
}

/// Sequence numbers keep an idempotent producer's records in order. Without them an old request that was only delayed may
/// be appended behind a newer one.
fn check_order_of_producers(partitions: &[Log], sent: &BTreeMap<RecordId, (usize, Delivery)>) -> Result<(), Violation> {
    let ordered = |record: &RecordId| matches!(sent.get(record), Some((_, Delivery::ExactlyOnce)));
    for (partition, log) in partitions.iter().enumerate() {
        let mut last: BTreeMap<u32, RecordId> = BTreeMap::new();
        for (_, record) in log.records.iter().filter(|(_, record)| ordered(record)) {
            if let Some(before) = last.insert(record.producer, *record)
                && before.number >= record.number
            {
                return Err(Violation::new(
                    Law::SentInOrder,
                    format!("partition {partition} has {record} after {before}"),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
