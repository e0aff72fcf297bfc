//! What everybody saw, on one clock.

use crate::checker::history::{Delivery, History, Log, Operation, RecordId};
use crate::checker::{Law, Violation};
use crate::process::{BrokerProcess, RequestError};
use crate::sim::records::Read;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Violations that clients report are kept up to this number: the first ones say the most.
const KEPT_VIOLATIONS: usize = 50;

/// How far a run is. Clients ask, and end accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Faults strike.
    Suffering,
    /// Producers begin nothing new.
    Ending,
    /// Consumers read to the end.
    Draining,
    /// Everybody stops, whatever is under way.
    Stopped,
}

/// A partition of a topic, in one life of that topic.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The topic's name.
    pub topic: String,
    /// Its id, if another topic of this name may have been there before.
    pub id: Option<Uuid>,
    /// The partition.
    pub partition: i32,
    /// How many replicas it has.
    pub replicas: usize,
    /// Whether retention deletes what is old.
    pub is_trimmed: bool,
    /// What it held before its topic was deleted.
    pub ended: Option<Log>,
    /// When a batch was last acknowledged, and the longest time without. None before the first one.
    last_acknowledged: Option<Instant>,
    largest_gap: Duration,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)?;
        match self.id {
            Some(id) => write!(f, " ({id})"),
            None => Ok(()),
        }
    }
}

impl Slot {
    /// A partition of a topic.
    pub fn new(topic: &str, id: Option<Uuid>, partition: i32, replicas: usize, is_trimmed: bool) -> Slot {
        Slot {
            topic: topic.to_owned(),
            id,
            partition,
            replicas,
            is_trimmed,
            ended: None,
            last_acknowledged: None,
            largest_gap: Duration::ZERO,
        }
    }
}

/// A broker's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Its id.
    pub id: u32,
    /// Where Kafka clients connect.
    pub client: SocketAddr,
    /// Where the administration port is.
    pub admin: SocketAddr,
}

impl From<&BrokerProcess> for Addresses {
    fn from(broker: &BrokerProcess) -> Addresses {
        Addresses {
            id: broker.id,
            client: broker.client,
            admin: broker.admin,
        }
    }
}

/// The rack that a broker is said to be in: each in one of its own, so that a consumer can choose its replica (KIP-392).
pub fn rack(broker: u32) -> String {
    format!("rack-{broker}")
}

/// Counts for the lines that are printed while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records handed over.
    pub sent: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records read.
    pub read: u64,
    /// Topics created.
    pub created: u64,
    /// Topics deleted.
    pub deleted: u64,
}

/// Everything that was seen.
#[derive(Default)]
pub struct Seen {
    /// Operations of clients.
    pub history: History,
    /// When each operation was seen, in milliseconds since the beginning.
    pub times_ms: Vec<u32>,
    /// The partitions that the history speaks of.
    pub slots: Vec<Slot>,
    /// What was done to the cluster, and what it did.
    pub timeline: Vec<(Duration, String)>,
    /// What must not have been seen, beside what the history shows.
    pub violations: Vec<Violation>,
    /// The last error that any client was told.
    pub last_error: String,
    /// Counts.
    pub counts: Counts,
}

/// Where clients write down what they see.
pub struct Witness {
    /// All brokers, in the order of their ids.
    pub brokers: Vec<Addresses>,
    began: Instant,
    stage: AtomicU8,
    next_client: AtomicU32,
    seen: Mutex<Seen>,
}

impl Witness {
    /// Nothing seen yet.
    pub fn new(brokers: Vec<Addresses>) -> Witness {
        Witness {
            brokers,
            began: Instant::now(),
            stage: AtomicU8::new(Stage::Suffering as u8),
            next_client: AtomicU32::new(0),
            seen: Mutex::default(),
        }
    }

    /// How far the run is.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Suffering,
            1 => Stage::Ending,
            2 => Stage::Draining,
            _ => Stage::Stopped,
        }
    }

    /// Goes on to the next stage.
    pub fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::SeqCst);
    }

    /// Since the run began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A number for a client that no other one has.
    pub fn next_client(&self) -> u32 {
        self.next_client.fetch_add(1, Ordering::SeqCst)
    }

    /// Where Kafka clients connect.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.brokers.iter().map(|broker| broker.client).collect()
    }

    /// The broker whose clients connect there.
    pub fn broker_at(&self, client: SocketAddr) -> Option<u32> {
        self.brokers
            .iter()
            .find(|broker| broker.client == client)
            .map(|broker| broker.id)
    }

    /// Everything that was seen so far. Others wait meanwhile.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition that the history will speak of; its number there.
    pub fn add_slot(&self, slot: Slot) -> usize {
        let mut seen = self.seen();
        seen.slots.push(slot);
        seen.slots.len() - 1
    }

    /// Something was done to the cluster, or something happened to it.
    pub fn note(&self, words: impl Into<String>) {
        let at = self.elapsed();
        self.seen().timeline.push((at, words.into()));
    }

    /// A client was told an error: no harm as such.
    pub fn note_error(&self, who: &str, error: &RequestError) {
        self.seen().last_error = format!("{who}: {error}");
    }

    /// Something must not have been seen.
    pub fn accuse(&self, law: Law, detail: impl Into<String>) {
        let violation = Violation::new(law, detail);
        let at = self.elapsed();
        let mut seen = self.seen();
        seen.timeline.push((at, format!("VIOLATION: {violation}")));
        if seen.violations.len() < KEPT_VIOLATIONS {
            seen.violations.push(violation);
        }
    }

    /// A producer hands a batch over.
    pub fn sent(&self, records: &[RecordId], partition: usize, delivery: Delivery) {
        let mut seen = self.seen();
        seen.counts.sent += records.len() as u64;
        for record in records {
            let operation = Operation::Sent {
                record: *record,
                partition,
                delivery,
            };
            self.push(&mut seen, operation);
        }
        if let Some(first) = records.first() {
            let operation = Operation::SentTogether {
                first: *first,
                count: u32::try_from(records.len()).unwrap_or(0),
            };
            self.push(&mut seen, operation);
        }
    }

    /// A batch was acknowledged.
    pub fn acknowledged(&self, records: &[RecordId], partition: usize, base: i64) {
        let now = Instant::now();
        let mut seen = self.seen();
        seen.counts.acknowledged += records.len() as u64;
        for (offset, record) in (base..).zip(records) {
            let operation = Operation::Acknowledged {
                record: *record,
                offset,
            };
            self.push(&mut seen, operation);
        }
        if let Some(slot) = seen.slots.get_mut(partition) {
            if let Some(before) = slot.last_acknowledged {
                slot.largest_gap = slot.largest_gap.max(now.saturating_duration_since(before));
            }
            slot.last_acknowledged = Some(now);
        }
    }

    /// A producer was told for certain that a batch is not stored, and will not send it again.
    pub fn refused(&self, records: &[RecordId]) {
        let mut seen = self.seen();
        for record in records {
            self.push(&mut seen, Operation::Refused { record: *record });
        }
    }

    /// A consumer got an answer.
    pub fn polled(&self, consumer: u32, partition: usize, records: &[Read]) {
        let mut seen = self.seen();
        seen.counts.read += records.len() as u64;
        self.push(&mut seen, Operation::Polled { consumer });
        for read in records {
            let operation = Operation::Read {
                consumer,
                partition,
                offset: read.offset,
                record: read.record,
            };
            self.push(&mut seen, operation);
        }
    }

    /// Something else was seen by a client.
    pub fn saw(&self, operation: Operation) {
        let mut seen = self.seen();
        self.push(&mut seen, operation);
    }

    /// The longest time without an acknowledgement so far, and of which partition.
    pub fn largest_gap(&self) -> Option<(Duration, String)> {
        let seen = self.seen();
        let widest = seen.slots.iter().max_by_key(|slot| slot.largest_gap)?;
        Some((widest.largest_gap, widest.to_string()))
    }

    fn push(&self, seen: &mut Seen, operation: Operation) {
        let at = u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX);
        seen.history.push(operation);
        seen.times_ms.push(at);
    }
}
