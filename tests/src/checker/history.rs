//! What a Kafka client may expect, checked from what clients sent, were told and read.
//!
//! The history is a list of operations in the order in which an observer saw them (one virtual clock in the simulation,
//! one process in the tests against real brokers). It is judged once, at the end, against the final content of each
//! partition. The anomalies are those of Jepsen's Kafka workload (`jepsen.tests.kafka`), as far as they can be without
//! transactions: [`Anomaly`] says what each of them means here. Jepsen concludes what a log holds from what was read; here
//! the logs are read at the end, so that a loss needs no reader to be noticed.

mod anomaly;
mod operation;
mod polls;
mod sends;

pub use anomaly::{Anomaly, Finding};
pub use operation::{Delivery, Log, NoRecordId, Operation, RecordId};

use super::Violation;
use std::collections::{BTreeMap, BTreeSet};

/// Findings of one kind that are kept: the first ones say the most, and a lost segment would be thousands of them.
const KEPT_OF_A_KIND: usize = 20;

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
    /// Records that their producer was told are not stored.
    pub refused: usize,
    /// Records in the final logs.
    pub stored: usize,
    /// Records that consumers read.
    pub read: usize,
}

/// What a history shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// How the records fared.
    pub tally: Tally,
    /// What must not be, the first of each kind; empty for a good history.
    pub findings: Vec<Finding>,
    /// How often there was an anomaly of each kind.
    pub counts: BTreeMap<Anomaly, usize>,
}

impl Judgement {
    /// Adds something found.
    pub fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.anomaly).or_insert(0);
        *count += 1;
        if *count <= KEPT_OF_A_KIND {
            self.findings.push(finding);
        }
    }

    fn found(&mut self, anomaly: Anomaly, partition: usize, detail: String) {
        self.add(Finding::new(anomaly, partition, detail));
    }
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
    ///
    /// # Errors
    /// The first anomaly.
    pub fn check(&self, logs: &[Log]) -> Result<Tally, Violation> {
        let judgement = self.judge(logs);
        match judgement.findings.into_iter().next() {
            None => Ok(judgement.tally),
            Some(finding) => Err(finding.into()),
        }
    }

    /// The same, with everything that is found.
    pub fn judge(&self, logs: &[Log]) -> Judgement {
        let mut judgement = Judgement::default();
        let evidence = Evidence::of(&self.operations, logs, &mut judgement);
        sends::acknowledgements(&evidence, &mut judgement);
        sends::refusals(&evidence, &mut judgement);
        polls::reads(&evidence, &mut judgement);
        polls::unseen(&evidence, &mut judgement);
        sends::order(&evidence, &mut judgement);
        sends::batches(&evidence, &mut judgement);
        sends::real_time(&evidence, &mut judgement);
        judgement.tally = self.tally(&evidence);
        judgement
    }

    /// The part of it that concerns some partitions.
    pub fn within(&self, is_wanted: impl Fn(usize) -> bool) -> History {
        let mut records = BTreeSet::new();
        let operations = self.operations.iter().filter(|operation| match operation {
            Operation::Sent { record, partition, .. } => is_wanted(*partition) && records.insert(*record),
            Operation::SentTogether { first: record, .. }
            | Operation::Acknowledged { record, .. }
            | Operation::Refused { record } => records.contains(record),
            Operation::Polled { .. } => true,
            Operation::Read { partition, .. }
            | Operation::Sought { partition, .. }
            | Operation::Skipped { partition, .. }
            | Operation::Drained { partition, .. } => is_wanted(*partition),
        });
        History {
            operations: operations.cloned().collect(),
        }
    }

    /// What concerns a partition, with its place among the operations, for the report of a finding.
    pub fn about(&self, partition: usize) -> impl Iterator<Item = (usize, &Operation)> {
        let mut records = BTreeSet::new();
        let all = self.operations.iter().enumerate();
        all.filter(move |(_, operation)| match operation {
            Operation::Sent {
                record, partition: to, ..
            } => *to == partition && records.insert(*record),
            Operation::SentTogether { first: record, .. }
            | Operation::Acknowledged { record, .. }
            | Operation::Refused { record } => records.contains(record),
            Operation::Polled { .. } => false,
            Operation::Read { partition: of, .. }
            | Operation::Sought { partition: of, .. }
            | Operation::Skipped { partition: of, .. }
            | Operation::Drained { partition: of, .. } => *of == partition,
        })
    }

    fn tally(&self, evidence: &Evidence<'_>) -> Tally {
        let count = |which: &dyn Fn(&Operation) -> bool| self.operations.iter().filter(|seen| which(seen)).count();
        Tally {
            sent: evidence.sent.len(),
            acknowledged: count(&|seen| matches!(seen, Operation::Acknowledged { .. })),
            by_leader_only: count(&|seen| match seen {
                Operation::Acknowledged { record, .. } => evidence.promised(*record) == Some(Delivery::LeaderOnly),
                _ => false,
            }),
            refused: evidence.refused.len(),
            stored: evidence.logs.iter().map(|log| log.records.len()).sum(),
            read: count(&|seen| matches!(seen, Operation::Read { .. })),
        }
    }
}

/// Whether a replica of a partition holds what its leader holds; both have been read from their first offset on.
pub fn compare_replica(partition: usize, name: &str, replica: &Log, leader: &Log) -> Option<Finding> {
    // Replicas delete segments in their own time.
    let start = replica.start.max(leader.start);
    let behind = |log: &Log| log.records.iter().filter(|(offset, _)| *offset >= start).count();
    let differs = replica
        .records
        .iter()
        .filter(|(offset, _)| *offset >= start)
        .find(|(offset, record)| leader.at(*offset) != Some(*record));
    let detail = match differs {
        Some((offset, record)) => {
            let other = leader
                .at(*offset)
                .map_or("nothing".to_owned(), |other| other.to_string());
            format!("{name} has {record} at {offset} of partition {partition}, its leader {other}")
        }
        None if behind(replica) != behind(leader) => format!(
            "{name} has {} records of partition {partition} from {start} on, its leader {}",
            behind(replica),
            behind(leader)
        ),
        None => return None,
    };
    Some(Finding::new(Anomaly::InconsistentOffsets, partition, detail))
}

/// A record that was handed over.
#[derive(Clone, Copy, Debug)]
struct Sending {
    partition: usize,
    delivery: Delivery,
    /// The operation's position.
    at: usize,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    partition: usize,
    offset: i64,
}

/// What all checks look at.
struct Evidence<'a> {
    operations: &'a [Operation],
    logs: &'a [Log],
    sent: BTreeMap<RecordId, Sending>,
    refused: BTreeSet<RecordId>,
    /// Where each record is in the end.
    places: BTreeMap<RecordId, Place>,
}

impl<'a> Evidence<'a> {
    fn of(operations: &'a [Operation], logs: &'a [Log], judgement: &mut Judgement) -> Evidence<'a> {
        let sent = sent(operations, judgement);
        let places = places(logs, &sent, judgement);
        let refused = operations.iter().filter_map(|operation| match operation {
            Operation::Refused { record } => Some(*record),
            _ => None,
        });
        Evidence {
            operations,
            logs,
            refused: refused.collect(),
            sent,
            places,
        }
    }

    fn promised(&self, record: RecordId) -> Option<Delivery> {
        self.sent.get(&record).map(|sending| sending.delivery)
    }

    /// The first offset that was not deleted.
    fn start(&self, partition: usize) -> i64 {
        self.logs.get(partition).map_or(0, |log| log.start)
    }

    /// What is at a place in the end, in words.
    fn now_at(&self, place: Place) -> String {
        let found = self.logs.get(place.partition).and_then(|log| log.at(place.offset));
        found.map_or("nothing".to_owned(), |record| record.to_string())
    }
}

fn sent(operations: &[Operation], judgement: &mut Judgement) -> BTreeMap<RecordId, Sending> {
    let mut sent = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        let Operation::Sent {
            record,
            partition,
            delivery,
        } = *operation
        else {
            continue;
        };
        let sending = Sending {
            partition,
            delivery,
            at,
        };
        if sent.insert(record, sending).is_some() {
            // The observer's own mistake, but it would blind every law below.
            judgement.found(Anomaly::Invented, partition, format!("{record} was handed over twice"));
        }
    }
    sent
}

/// Where each record is in the end: in one place only, and where it was sent to.
fn places(logs: &[Log], sent: &BTreeMap<RecordId, Sending>, judgement: &mut Judgement) -> BTreeMap<RecordId, Place> {
    let mut places: BTreeMap<RecordId, Place> = BTreeMap::new();
    for (partition, log) in logs.iter().enumerate() {
        let mut due = log.start;
        for (offset, record) in &log.records {
            let (offset, record) = (*offset, *record);
            if offset != due {
                let detail = format!("partition {partition} has {record} at {offset}, where {due} was due");
                judgement.found(Anomaly::OffsetGap, partition, detail);
            }
            due = offset + 1;
            match sent.get(&record) {
                Some(sending) if sending.partition == partition => {}
                Some(Sending { partition: meant, .. }) => {
                    let detail = format!("{record} was sent to partition {meant} and is in partition {partition}");
                    judgement.found(Anomaly::Invented, partition, detail);
                }
                None => {
                    let detail = format!("partition {partition} has {record} at {offset}, which nobody sent");
                    judgement.found(Anomaly::Invented, partition, detail);
                }
            }
            let place = Place { partition, offset };
            if let Some(earlier) = places.get(&record) {
                let detail = format!(
                    "partition {partition} has {record} at {offset}, and partition {} has it at {}",
                    earlier.partition, earlier.offset
                );
                judgement.found(Anomaly::Duplicate, partition, detail);
            } else {
                places.insert(record, place);
            }
        }
    }
    places
}

#[cfg(test)]
mod tests;
