//! What consumers read, and in which order.

use super::{Anomaly, Evidence, Judgement, Operation, Place, RecordId};
use std::collections::{BTreeMap, BTreeSet};

/// Consumers read on from where they were, what stays, and what somebody sent there.
pub(super) fn reads(evidence: &Evidence<'_>, judgement: &mut Judgement) {
    let mut readers = Readers::default();
    for (at, operation) in evidence.operations.iter().enumerate() {
        match *operation {
            Operation::Polled { consumer } => {
                readers.polls.insert(consumer, BTreeSet::new());
            }
            Operation::Sought {
                consumer,
                partition,
                to,
            } => {
                readers.positions.insert((consumer, partition), to);
            }
            Operation::Skipped {
                consumer,
                partition,
                to,
            } => readers.skip(evidence, (consumer, partition), to, judgement),
            Operation::Read {
                consumer,
                partition,
                offset,
                record,
            } => {
                let place = Place { partition, offset };
                readers.advance(consumer, place, judgement);
                readers.read(evidence, (consumer, at), place, record, judgement);
            }
            _ => {}
        }
    }
}

/// What is known of all consumers while their operations are gone through.
#[derive(Default)]
struct Readers {
    /// The offset that each consumer reads next of each partition.
    positions: BTreeMap<(u32, usize), i64>,
    /// The partitions that the current poll of each consumer has records of.
    polls: BTreeMap<u32, BTreeSet<usize>>,
    /// What was deleted meanwhile can only be compared with what others read.
    deleted: BTreeMap<Place, RecordId>,
}

impl Readers {
    /// A consumer goes on behind what was deleted: never behind what is still there.
    fn skip(&mut self, evidence: &Evidence<'_>, reader: (u32, usize), to: i64, judgement: &mut Judgement) {
        let (consumer, partition) = reader;
        let start = evidence.start(partition);
        let position = self.positions.entry(reader).or_insert(0);
        let detail = format!(
            "consumer {consumer} was sent from {position} to {to} of partition {partition}, which begins at {start}"
        );
        if to < *position {
            judgement.found(Anomaly::NonmonotonicPoll, partition, detail);
        } else if to > start {
            judgement.found(Anomaly::PollSkip, partition, detail);
        }
        *position = to;
    }

    fn advance(&mut self, consumer: u32, place: Place, judgement: &mut Judgement) {
        let Place { partition, offset } = place;
        let position = self.positions.entry((consumer, partition)).or_insert(0);
        let due = std::mem::replace(position, offset + 1);
        let within = match self.polls.get_mut(&consumer) {
            Some(poll) => !poll.insert(partition),
            None => false,
        };
        if offset == due {
            return;
        }
        let anomaly = match (offset < due, within) {
            (true, false) => Anomaly::NonmonotonicPoll,
            (true, true) => Anomaly::IntNonmonotonicPoll,
            (false, false) => Anomaly::PollSkip,
            (false, true) => Anomaly::IntPollSkip,
        };
        let detail = format!("consumer {consumer} read {offset} of partition {partition} when {due} was due");
        judgement.found(anomaly, partition, detail);
    }

    /// A record that was read at a place by a consumer, as the operation at this position says.
    fn read(
        &mut self,
        evidence: &Evidence<'_>,
        (consumer, at): (u32, usize),
        place: Place,
        record: RecordId,
        judgement: &mut Judgement,
    ) {
        let Place { partition, offset } = place;
        let what = format!("consumer {consumer} read {record} at {offset} of partition {partition}");
        match evidence.sent.get(&record) {
            Some(sending) if sending.partition == partition && sending.at < at => {}
            Some(sending) if sending.partition == partition => {
                return judgement.found(Anomaly::Invented, partition, format!("{what} before it was sent"));
            }
            Some(sending) => {
                let detail = format!("{what}, which was sent to partition {}", sending.partition);
                return judgement.found(Anomaly::Invented, partition, detail);
            }
            None => return judgement.found(Anomaly::Invented, partition, format!("{what}, which nobody sent")),
        }
        match evidence.places.get(&record) {
            Some(found) if *found == place => {}
            Some(found) => {
                let detail = format!("{what}, and it is at {}", found.offset);
                judgement.found(Anomaly::InconsistentOffsets, partition, detail);
            }
            None if evidence.refused.contains(&record) => {
                judgement.found(Anomaly::AbortedRead, partition, format!("{what}, which was refused"));
            }
            None if offset < evidence.start(partition) => {
                let first = *self.deleted.entry(place).or_insert(record);
                if first != record {
                    let detail = format!("{what}, where {first} was read before");
                    judgement.found(Anomaly::InconsistentOffsets, partition, detail);
                }
            }
            None => {
                let detail = format!("{what}; in the end {} is there", evidence.now_at(place));
                judgement.found(Anomaly::PrecommittedRead, partition, detail);
            }
        }
    }
}

/// Where a consumer has read to the end, every acknowledged record has been read by somebody.
pub(super) fn unseen(evidence: &Evidence<'_>, judgement: &mut Judgement) {
    let mut drained = BTreeSet::new();
    let mut read = BTreeSet::new();
    for operation in evidence.operations {
        match operation {
            Operation::Drained { partition, .. } => {
                drained.insert(*partition);
            }
            Operation::Read { record, .. } => {
                read.insert(*record);
            }
            _ => {}
        }
    }
    for operation in evidence.operations {
        let Operation::Acknowledged { record, .. } = operation else {
            continue;
        };
        // What is not in the log at all is lost, which is another anomaly.
        let Some(Place { partition, offset }) = evidence.places.get(record) else {
            continue;
        };
        if drained.contains(partition) && !read.contains(record) {
            let detail = format!("nobody read {record}, which is at {offset} of partition {partition}");
            judgement.found(Anomaly::Unseen, *partition, detail);
        }
    }
}
