//! What must hold of any history, whatever the nodes are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A log.
pub(super) type Key = String;

/// A message: every one that is sent is another number.
pub(super) type Value = u64;

/// What a client asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    Send { key: Key, value: Value },
    Poll { offsets: BTreeMap<Key, u64> },
    Commit { offsets: BTreeMap<Key, u64> },
    List { keys: Vec<Key> },
    Leader { topic: Key, partition: u32 },
    Failover { topic: Key, partition: u32, failed: String },
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Sent { offset: u64 },
    Polled { messages: BTreeMap<Key, Vec<(u64, Value)>> },
    Committed,
    Listed { offsets: BTreeMap<Key, u64> },
    Leads { leader: String, term: u64 },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Done(Answer),
    /// By Maelstrom's rules it did not happen, and won't.
    Refused(u64),
    /// It may have happened, or may yet.
    Unknown,
}

/// A request with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) client: usize,
    pub(super) node: String,
    /// When it was made and when it was over, in microseconds.
    pub(super) invoked_us: u64,
    pub(super) completed_us: u64,
    pub(super) request: Request,
    pub(super) outcome: Outcome,
    /// It belongs to the reading of everything, at the end.
    pub(super) last: bool,
}

impl Request {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Request::Send { .. } => "send",
            Request::Poll { .. } => "poll",
            Request::Commit { .. } => "commit_offsets",
            Request::List { .. } => "list_committed_offsets",
            Request::Leader { .. } => "partition_leader",
            Request::Failover { .. } => "partition_failover",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation {
            client,
            node,
            invoked_us,
            completed_us,
            request,
            outcome,
            ..
        } = self;
        write!(
            f,
            "{invoked_us:>10} {completed_us:>10} client {client} at {node}: {request:?} -> {outcome:?}"
        )
    }
}

/// Everything that is wrong, in words.
pub(super) fn check(history: &[Operation]) -> Vec<String> {
    let mut wrong = Vec::new();
    let logs = logs(history, &mut wrong);
    check_values(history, &logs, &mut wrong);
    check_lost(history, &mut wrong);
    check_order(history, &mut wrong);
    for operation in history {
        check_poll(operation, &mut wrong);
    }
    check_committed(history, &mut wrong);
    check_leaders(history, &mut wrong);
    wrong
}

type Logs = BTreeMap<Key, BTreeMap<u64, Value>>;

/// What stands where, by all that was answered: nowhere two messages.
fn logs(history: &[Operation], wrong: &mut Vec<String>) -> Logs {
    let mut logs = Logs::new();
    let mut note = |key: &Key, offset: u64, value: Value| {
        let known = *logs.entry(key.clone()).or_default().entry(offset).or_insert(value);
        if known != value {
            wrong.push(format!(
                "offset {offset} of {key} has two messages, {known} and {value}"
            ));
        }
    };
    for operation in history {
        match (&operation.request, &operation.outcome) {
            (Request::Send { key, value }, Outcome::Done(Answer::Sent { offset })) => note(key, *offset, *value),
            (_, Outcome::Done(Answer::Polled { messages })) => {
                for (key, messages) in messages {
                    messages.iter().for_each(|(offset, value)| note(key, *offset, *value));
                }
            }
            _ => {}
        }
    }
    logs
}

/// No message at two offsets, none in another log, none that nobody sent, none of which it was said that it is not there.
fn check_values(history: &[Operation], logs: &Logs, wrong: &mut Vec<String>) {
    let mut sent = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for operation in history {
        if let Request::Send { key, value } = &operation.request {
            sent.insert(*value, key);
            if matches!(operation.outcome, Outcome::Refused(_)) {
                refused.insert(*value);
            }
        }
    }
    let mut places: BTreeMap<Value, (&Key, u64)> = BTreeMap::new();
    for (key, log) in logs {
        for (offset, value) in log {
            if let Some((other, first)) = places.insert(*value, (key, *offset)) {
                wrong.push(format!(
                    "message {value} is at offset {first} of {other} and at offset {offset} of {key}"
                ));
            }
            if sent.get(value) != Some(&key) {
                wrong.push(format!(
                    "message {value} at offset {offset} of {key} was never sent there"
                ));
            }
            if refused.contains(value) {
                wrong.push(format!(
                    "message {value} is at offset {offset} of {key}, although its sending was refused"
                ));
            }
        }
    }
}

/// Everything that was acknowledged is there at the end, at every node that was asked then.
fn check_lost(history: &[Operation], wrong: &mut Vec<String>) {
    let mut read: BTreeMap<&str, BTreeSet<(&str, u64)>> = BTreeMap::new();
    for operation in history.iter().filter(|operation| operation.last) {
        if let Outcome::Done(Answer::Polled { messages }) = &operation.outcome {
            let found = messages
                .iter()
                .flat_map(|(key, log)| log.iter().map(move |(at, _)| (key.as_str(), *at)));
            read.entry(&operation.node).or_default().extend(found);
        }
    }
    for operation in history {
        if let (Request::Send { key, value }, Outcome::Done(Answer::Sent { offset })) =
            (&operation.request, &operation.outcome)
        {
            for (node, found) in &read {
                if !found.contains(&(key.as_str(), *offset)) {
                    wrong.push(format!(
                        "message {value}, acknowledged at offset {offset} of {key}, is lost on {node}"
                    ));
                }
            }
        }
    }
}

/// What was acknowledged before something else was sent stands before it.
fn check_order(history: &[Operation], wrong: &mut Vec<String>) {
    let mut logs: BTreeMap<&str, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for operation in history {
        if let (Request::Send { key, .. }, Outcome::Done(Answer::Sent { offset })) =
            (&operation.request, &operation.outcome)
        {
            logs.entry(key)
                .or_default()
                .push((operation.invoked_us, operation.completed_us, *offset));
        }
    }
    for (key, sends) in logs {
        let mut by_completion = sends.clone();
        by_completion.sort_by_key(|(_, completed, _)| *completed);
        let mut by_invocation = sends;
        by_invocation.sort_unstable();
        let (mut done, mut highest) = (by_completion.into_iter().peekable(), None);
        for (invoked, _, offset) in by_invocation {
            while let Some((_, _, before)) = done.next_if(|(_, completed, _)| *completed < invoked) {
                highest = highest.max(Some(before));
            }
            if highest >= Some(offset) {
                wrong.push(format!(
                    "a later send to {key} got offset {offset}, an earlier one {highest:?}"
                ));
            }
        }
    }
}

/// From where it was asked for, in order, without a gap.
fn check_poll(operation: &Operation, wrong: &mut Vec<String>) {
    let (Request::Poll { offsets }, Outcome::Done(Answer::Polled { messages })) =
        (&operation.request, &operation.outcome)
    else {
        return;
    };
    for (key, messages) in messages {
        let Some(from) = offsets.get(key) else {
            wrong.push(format!("nobody asked for {key} in: {operation}"));
            continue;
        };
        let expected = (*from..).take(messages.len());
        if !messages.iter().map(|(offset, _)| *offset).eq(expected) {
            wrong.push(format!(
                "offsets of {key} are out of order, or have a gap, in: {operation}"
            ));
        }
    }
}

/// What is listed was committed, and is never behind what was known to be committed before it was asked for.
fn check_committed(history: &[Operation], wrong: &mut Vec<String>) {
    let mut attempts: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut known: Vec<(u64, &str, u64)> = Vec::new();
    for operation in history {
        match (&operation.request, &operation.outcome) {
            (Request::Commit { offsets }, outcome) => {
                for (key, offset) in offsets {
                    if !matches!(outcome, Outcome::Refused(_)) {
                        attempts.entry(key).or_default().insert(*offset);
                    }
                    if matches!(outcome, Outcome::Done(_)) {
                        known.push((operation.completed_us, key, *offset));
                    }
                }
            }
            (_, Outcome::Done(Answer::Listed { offsets })) => {
                known.extend(
                    offsets
                        .iter()
                        .map(|(key, offset)| (operation.completed_us, key.as_str(), *offset)),
                );
            }
            _ => {}
        }
    }
    known.sort_unstable();
    for operation in history {
        let (Request::List { keys }, Outcome::Done(Answer::Listed { offsets })) =
            (&operation.request, &operation.outcome)
        else {
            continue;
        };
        for key in keys {
            let before = known
                .iter()
                .take_while(|(completed, ..)| *completed < operation.invoked_us);
            let least = before.filter(|(_, of, _)| of == key).map(|(.., offset)| *offset).max();
            let listed = offsets.get(key).copied();
            if listed < least {
                wrong.push(format!(
                    "the committed offset of {key} went back from {least:?} to {listed:?} in: {operation}"
                ));
            }
            if listed.is_some_and(|it| !attempts.get(key.as_str()).is_some_and(|tried| tried.contains(&it))) {
                wrong.push(format!(
                    "the committed offset of {key}, {listed:?}, was never committed, in: {operation}"
                ));
            }
        }
    }
}

/// At most one leader a term; and no failover that leaves the leader in place.
fn check_leaders(history: &[Operation], wrong: &mut Vec<String>) {
    let mut leaders: BTreeMap<(&str, u32, u64), &str> = BTreeMap::new();
    for operation in history {
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
                    wrong.push(format!("the failed leader leads on, in: {operation}"));
                }
                (topic, partition)
            }
            _ => continue,
        };
        let known = *leaders.entry((topic, *partition, *term)).or_insert(leader);
        if known != leader {
            wrong.push(format!(
                "term {term} of {topic}/{partition} has two leaders, {known} and {leader}"
            ));
        }
    }
}
