//! Translates the observations of Maelstrom's clients for the checkers.

use super::operation::{Answer, Key, Operation, Outcome, Request, Value};
use crate::checker::committed::{CommitChecker, Fate};
use crate::checker::history::{self, Anomaly, Delivery, Finding, History, Log, RecordId, compare_replica};
use crate::checker::raft::RaftChecker;
use crate::checker::{Law, Violation};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is wrong with a history whose last operations read every log to its end, at every node.
pub(super) fn judge(operations: &[Operation]) -> Vec<Violation> {
    let keys = keys(operations);
    let mut findings = Vec::new();
    let logs = final_logs(operations, &keys, &mut findings);
    let history = observed(operations, &keys, &mut findings);
    findings.extend(history.judge(&logs).findings);
    let mut wrong: Vec<Violation> = findings.into_iter().map(Violation::from).collect();
    wrong.extend(commits(operations, &keys));
    wrong.extend(leaders(operations, &keys));
    wrong
}

/// The checkers' partitions: a place for each key that is named anywhere.
type Keys = BTreeMap<Key, usize>;

fn keys(operations: &[Operation]) -> Keys {
    let mut names: BTreeSet<&Key> = BTreeSet::new();
    for operation in operations {
        match &operation.request {
            Request::Send { key, .. } => names.extend([key]),
            Request::Poll { offsets } | Request::Commit { offsets } => names.extend(offsets.keys()),
            Request::List { keys } => names.extend(keys),
            Request::Leader { topic, .. } | Request::Failover { topic, .. } => names.extend([topic]),
        }
        if let Outcome::Done(Answer::Polled { messages }) = &operation.outcome {
            names.extend(messages.keys());
        }
    }
    names.into_iter().cloned().zip(0..).collect()
}

/// Every message that is sent is another number, and counts as a record of one producer.
fn record(value: Value) -> RecordId {
    RecordId {
        producer: 0,
        // A number that no client sends stays one.
        number: u32::try_from(value).unwrap_or(u32::MAX),
    }
}

fn offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// The records that clients sent and read and the answers that they got, in the order of time. An operation that began
/// at the moment at which another ended counts as earlier, since nothing says that it is later.
fn observed(operations: &[Operation], keys: &Keys, findings: &mut Vec<Finding>) -> History {
    let began = operations
        .iter()
        .map(|operation| (operation.invoked_us, false, operation));
    let ended = operations
        .iter()
        .map(|operation| (operation.completed_us, true, operation));
    let mut events: Vec<(u64, bool, &Operation)> = began.chain(ended).collect();
    events.sort_by_key(|(at, has_ended, _)| (*at, *has_ended));
    let mut history = History::new();
    for (_, has_ended, operation) in events {
        match (&operation.request, &operation.outcome, has_ended) {
            (Request::Send { key, value }, _, false) => history.push(history::Operation::Sent {
                record: record(*value),
                partition: keys[key],
                delivery: Delivery::AtMostOnce,
            }),
            (Request::Send { value, .. }, Outcome::Done(Answer::Sent { offset: at }), true) => {
                history.push(history::Operation::Acknowledged {
                    record: record(*value),
                    offset: offset(*at),
                });
            }
            (Request::Send { value, .. }, Outcome::Refused(_), true) => {
                let record = record(*value);
                history.push(history::Operation::Refused { record });
            }
            (Request::Poll { offsets }, Outcome::Done(Answer::Polled { messages }), true) => {
                polled(operation, offsets, messages, keys, &mut history, findings);
            }
            _ => {}
        }
    }
    history
}

/// Each poll says where it begins.
fn polled(
    operation: &Operation,
    offsets: &BTreeMap<Key, u64>,
    messages: &BTreeMap<Key, Vec<(u64, Value)>>,
    keys: &Keys,
    history: &mut History,
    findings: &mut Vec<Finding>,
) {
    let consumer = u32::try_from(operation.client).unwrap_or(u32::MAX);
    for (key, from) in offsets {
        history.push(history::Operation::Sought {
            consumer,
            partition: keys[key],
            to: offset(*from),
        });
    }
    history.push(history::Operation::Polled { consumer });
    for (key, log) in messages {
        let partition = keys[key];
        if !offsets.contains_key(key) {
            let detail = format!("nobody asked for {key} in: {operation}");
            findings.push(Finding::new(Anomaly::Invented, partition, detail));
            continue;
        }
        for (at, value) in log {
            history.push(history::Operation::Read {
                consumer,
                partition,
                offset: offset(*at),
                record: record(*value),
            });
        }
    }
}

/// The content of each log in the end, from the node that shows most of it. All others must agree as far as they show
/// anything. Each must show everything that was acknowledged.
fn final_logs(operations: &[Operation], keys: &Keys, findings: &mut Vec<Finding>) -> Vec<Log> {
    let mut shown: BTreeMap<usize, BTreeMap<&str, BTreeMap<i64, RecordId>>> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.last) {
        let Outcome::Done(Answer::Polled { messages }) = &operation.outcome else {
            continue;
        };
        for (key, log) in messages {
            let nodes = shown.entry(keys[key]).or_default();
            let records = log.iter().map(|(at, value)| (offset(*at), record(*value)));
            nodes.entry(&operation.node).or_default().extend(records);
        }
    }
    let mut logs = vec![Log::default(); keys.len()];
    for (partition, nodes) in shown {
        let log = |records: &BTreeMap<i64, RecordId>| Log::from(records.clone().into_iter().collect::<Vec<_>>());
        let Some(longest) = nodes.values().max_by_key(|records| records.len()).map(log) else {
            continue;
        };
        let acknowledged = highest_acknowledged(operations, keys, partition);
        for (node, records) in &nodes {
            let replica = log(records);
            let end = replica.records.last().map_or(0, |(at, _)| at + 1);
            if acknowledged.is_some_and(|highest| end <= highest) {
                let detail =
                    format!("{node} shows partition {partition} up to {end}; {acknowledged:?} was acknowledged");
                findings.push(Finding::new(Anomaly::LostWrite, partition, detail));
            }
            let mut same_part = longest.clone();
            same_part.records.retain(|(at, _)| *at < end);
            findings.extend(compare_replica(partition, node, &replica, &same_part));
        }
        logs[partition] = longest;
    }
    logs
}

fn highest_acknowledged(operations: &[Operation], keys: &Keys, partition: usize) -> Option<i64> {
    let acknowledged = operations
        .iter()
        .filter_map(|operation| match (&operation.request, &operation.outcome) {
            (Request::Send { key, .. }, Outcome::Done(Answer::Sent { offset: at })) if keys[key] == partition => {
                Some(offset(*at))
            }
            _ => None,
        });
    acknowledged.max()
}

fn commits(operations: &[Operation], keys: &Keys) -> Vec<Violation> {
    let mut checker = CommitChecker::new();
    for operation in operations {
        let ended = operation.completed_us;
        match (&operation.request, &operation.outcome) {
            (Request::Commit { offsets }, outcome) => {
                let fate = match outcome {
                    Outcome::Done(_) => Fate::Done { at: ended },
                    Outcome::Refused(_) => Fate::Refused,
                    Outcome::Unknown => Fate::Unknown,
                };
                for (key, at) in offsets {
                    checker.committed(keys[key], offset(*at), fate);
                }
            }
            (Request::List { keys: asked }, Outcome::Done(Answer::Listed { offsets })) => {
                for key in asked {
                    let found = offsets.get(key).map(|at| offset(*at));
                    checker.found(keys[key], operation.invoked_us, ended, found);
                }
            }
            _ => {}
        }
    }
    checker.judge()
}

fn leaders(operations: &[Operation], keys: &Keys) -> Vec<Violation> {
    let mut checker = RaftChecker::new();
    let mut wrong = Vec::new();
    for operation in operations {
        let Outcome::Done(Answer::Leads { leader, term }) = &operation.outcome else {
            continue;
        };
        let (topic, partition) = match &operation.request {
            Request::Leader { topic, partition } => (topic, partition),
            Request::Failover {
                topic,
                partition,
                failed,
            } => {
                if failed == leader {
                    wrong.push(Violation::new(Law::FailoverMoves, operation.to_string()));
                }
                (topic, partition)
            }
            _ => continue,
        };
        let number = leader.strip_prefix('n').and_then(|number| number.parse().ok());
        let Some(number) = number else {
            wrong.push(Violation::new(Law::NothingInvented, operation.to_string()));
            continue;
        };
        let group = (keys[topic] as u64) << 32 | u64::from(*partition);
        wrong.extend(checker.leads(group, *term, number).err());
    }
    wrong
}
