//! Producers and consumers that keep a cluster busy, and write down what they see.

use super::requests::{Reading, poll_produced, produce, send_produce};
use super::{Connection, KafkaClient, Leader, RequestError};
use crate::checker::history::{Delivery, History, Log, Operation, RecordId, Tally};
use crate::checker::{Law, Violation};
use crate::sim::records::{self, Producer as Stamp};
use kafka_protocol::messages::ProduceRequest;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the load client waits for an answer before it asks the other brokers whether there is a new leader. A
/// broker that is stopped (SIGSTOP) says nothing; a client that waits for its own timeouts would measure those.
pub(super) const GLANCE: Duration = Duration::from_millis(10);

/// Between two attempts to find or reach a leader.
const RETRY: Duration = Duration::from_millis(2);

/// What keeps a topic busy.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The topic; it must exist.
    pub topic: String,
    /// Partitions, each with producers and a consumer of its own.
    pub partitions: i32,
    /// Idempotent producers for each partition.
    pub producers: u32,
    /// Between two batches of one producer.
    pub pace: Duration,
}

/// A time without acknowledgements of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// From the last acknowledgement before to the first one after.
    pub gap: Duration,
}

/// A running load.
pub struct Load {
    options: LoadOptions,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    brokers: Vec<SocketAddr>,
    /// Producers send nothing new.
    ending: AtomicBool,
    /// Consumers stop.
    stopping: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    history: History,
    /// When each partition's batches were acknowledged.
    acknowledgements: Vec<Vec<Instant>>,
    /// The last error that anybody was told, for the report of a wait that ends badly.
    last_error: String,
    /// How many errors anybody was told.
    errors: usize,
    violation: Option<Violation>,
}

impl Load {
    /// Starts producers and consumers.
    pub fn start(brokers: Vec<SocketAddr>, options: LoadOptions) -> Load {
        let partitions = usize::try_from(options.partitions).unwrap_or(0);
        let shared = Arc::new(Shared {
            brokers,
            ending: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            seen: Mutex::new(Seen {
                acknowledgements: vec![Vec::new(); partitions],
                ..Seen::default()
            }),
        });
        let mut threads = Vec::new();
        for partition in 0..options.partitions {
            for at in 0..options.producers {
                let number = u32::try_from(partition).unwrap_or(0) * options.producers + at;
                let producer = Producer::new(number, partition, &options, Arc::clone(&shared));
                threads.push(std::thread::spawn(move || producer.run()));
            }
            let (topic, shared) = (options.topic.clone(), Arc::clone(&shared));
            threads.push(std::thread::spawn(move || consume(&topic, partition, &shared)));
        }
        Load {
            options,
            shared,
            threads,
        }
    }

    /// Acknowledged batches of a partition so far.
    pub fn acknowledged(&self, partition: i32) -> usize {
        self.shared.seen().acknowledgements[usize::try_from(partition).unwrap_or(0)].len()
    }

    /// The last error that a producer or consumer was told.
    pub fn last_error(&self) -> String {
        self.shared.seen().last_error.clone()
    }

    /// How many errors producers and consumers have been told.
    pub fn errors(&self) -> usize {
        self.shared.seen().errors
    }

    /// Waits until a partition acknowledges so many batches more than it has now.
    #[track_caller]
    pub fn wait_acknowledged(&self, partition: i32, more: usize) {
        let target = self.acknowledged(partition) + more;
        let topic = &self.options.topic;
        super::wait_until(
            &format!("{more} more batches of {topic}-{partition} are acknowledged"),
            || (self.acknowledged(partition) >= target).then_some(()),
        );
    }

    /// The longest time without an acknowledgement of a partition that touches the time since `since`.
    pub fn longest_gap(&self, partition: i32, since: Instant) -> Option<Outage> {
        let seen = self.shared.seen();
        let times = &seen.acknowledgements[usize::try_from(partition).unwrap_or(0)];
        let gap = times
            .windows(2)
            .filter(|pair| pair[1] >= since)
            .map(|pair| pair[1] - pair[0])
            .max()?;
        Some(Outage { gap })
    }

    /// Ends the load: everything that was sent is acknowledged, everything is read back, and the history is judged.
    ///
    /// # Errors
    /// A law is broken.
    ///
    /// # Panics
    /// When the load does not end.
    #[track_caller]
    pub fn finish(mut self) -> Result<Tally, Violation> {
        self.shared.ending.store(true, Ordering::SeqCst);
        let producers: Vec<_> = self.threads.drain(..).collect();
        super::wait_until("the last records are acknowledged", || {
            let consumers = usize::try_from(self.options.partitions).unwrap_or(0);
            let running = producers.iter().filter(|thread| !thread.is_finished()).count();
            (running <= consumers).then_some(())
        });
        let client = KafkaClient::new(self.shared.brokers.clone());
        let logs: Vec<Log> = (0..self.options.partitions)
            .map(|partition| {
                super::wait_until("a partition can be read", || {
                    client.read_all(&self.options.topic, partition).ok()
                })
            })
            .map(Log::from)
            .collect();
        self.shared.stopping.store(true, Ordering::SeqCst);
        for thread in producers {
            assert!(thread.join().is_ok(), "a load thread panicked");
        }
        let seen = self.shared.seen();
        if let Some(violation) = &seen.violation {
            return Err(violation.clone());
        }
        seen.history.check(&logs)
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .expect("no load thread panics while it writes down what it saw")
    }

    fn note(&self, error: &RequestError) {
        let mut seen = self.seen();
        seen.last_error = error.to_string();
        seen.errors += 1;
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst) || self.is_stopping()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.stopping.store(true, Ordering::SeqCst);
    }
}

/// How an attempt to send a batch ended.
enum Attempt {
    /// It is at this offset.
    Acknowledged(i64),
    /// No answer, but there is a later leader.
    Moved(Leader),
    /// Nobody to send it to.
    NoLeader,
}

/// One idempotent producer with one batch in flight.
struct Producer {
    number: u32,
    partition: i32,
    topic: String,
    pace: Duration,
    shared: Arc<Shared>,
    client: KafkaClient,
    next: u32,
    leader: Option<Leader>,
    connection: Option<Connection>,
}

impl Producer {
    fn new(number: u32, partition: i32, options: &LoadOptions, shared: Arc<Shared>) -> Producer {
        Producer {
            number,
            partition,
            topic: options.topic.clone(),
            pace: options.pace,
            client: KafkaClient::new(shared.brokers.clone()),
            shared,
            next: 0,
            leader: None,
            connection: None,
        }
    }

    fn run(mut self) {
        let Some(id) = self.identity() else { return };
        while !self.shared.is_ending() {
            let records: Vec<RecordId> = (0..3)
                .map(|at| RecordId {
                    producer: self.number,
                    number: self.next + at,
                })
                .collect();
            let stamp = Stamp {
                id,
                epoch: 0,
                first_sequence: i32::try_from(self.next).unwrap_or(i32::MAX),
            };
            self.next += 3;
            let batch = records::encode(&records, Some(stamp), now_ms(), 100).freeze();
            self.write_down_sent(&records);
            let request = produce(&self.topic, self.partition, batch, -1);
            let Some(base) = self.deliver(&request) else { return };
            self.write_down_acknowledged(&records, base);
            std::thread::sleep(self.pace);
        }
    }

    fn identity(&self) -> Option<i64> {
        loop {
            match self.client.producer_id() {
                Ok(id) => return Some(id),
                Err(error) => self.shared.note(&error),
            }
            if self.shared.is_stopping() {
                return None;
            }
            std::thread::sleep(RETRY);
        }
    }

    fn write_down_sent(&self, records: &[RecordId]) {
        let mut seen = self.shared.seen();
        for record in records {
            seen.history.push(Operation::Sent {
                record: *record,
                partition: usize::try_from(self.partition).unwrap_or(0),
                delivery: Delivery::ExactlyOnce,
            });
        }
        if let Some(first) = records.first() {
            seen.history.push(Operation::SentTogether {
                first: *first,
                count: u32::try_from(records.len()).unwrap_or(0),
            });
        }
    }

    fn write_down_acknowledged(&self, records: &[RecordId], base: i64) {
        let mut seen = self.shared.seen();
        seen.acknowledgements[usize::try_from(self.partition).unwrap_or(0)].push(Instant::now());
        for (offset, record) in (base..).zip(records) {
            seen.history.push(Operation::Acknowledged {
                record: *record,
                offset,
            });
        }
    }

    /// Sends a batch until it is acknowledged; none if the load is stopped before.
    fn deliver(&mut self, request: &ProduceRequest) -> Option<i64> {
        loop {
            match self.attempt(request) {
                Ok(Attempt::Acknowledged(base)) => return Some(base),
                Ok(Attempt::Moved(leader)) => {
                    self.leader = Some(leader);
                    self.connection = None;
                    continue;
                }
                Ok(Attempt::NoLeader) => {}
                Err(error) => {
                    self.blame(&error);
                    self.shared.note(&error);
                }
            }
            self.connection = None;
            if self.shared.is_stopping() {
                return None;
            }
            self.find_leader();
        }
    }

    /// With one batch in flight and all before it acknowledged, none of these can be our fault.
    fn blame(&self, error: &RequestError) {
        const CORRUPT_MESSAGE: i16 = 2;
        const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
        const INVALID_PRODUCER_EPOCH: i16 = 47;
        const INVALID_RECORD: i16 = 87;
        if let RequestError::Code(
            code @ (CORRUPT_MESSAGE | OUT_OF_ORDER_SEQUENCE_NUMBER | INVALID_PRODUCER_EPOCH | INVALID_RECORD),
        ) = error
        {
            let detail = format!("producer {} was told error {code}", self.number);
            self.shared
                .seen()
                .violation
                .get_or_insert(Violation::new(Law::NoFalseAccusation, detail));
        }
    }

    /// One attempt at the leader that is known. No answer while another one is elected is no answer.
    fn attempt(&mut self, request: &ProduceRequest) -> Result<Attempt, RequestError> {
        let Some(leader) = self.leader else {
            return Ok(Attempt::NoLeader);
        };
        if self.connection.is_none() {
            self.connection = Some(Connection::open(leader.address)?);
        }
        let Some(connection) = &mut self.connection else {
            return Ok(Attempt::NoLeader);
        };
        send_produce(connection, request)?;
        loop {
            if let Some(base) = poll_produced(connection, GLANCE)? {
                return Ok(Attempt::Acknowledged(base));
            }
            if let Some(newer) = other_leader(&self.client, &self.topic, self.partition, leader) {
                return Ok(Attempt::Moved(newer));
            }
            if self.shared.is_stopping() {
                return Ok(Attempt::NoLeader);
            }
        }
    }

    fn find_leader(&mut self) {
        let known = self.leader.map_or(-1, |leader| leader.epoch);
        match self.client.leader(&self.topic, self.partition) {
            Some(leader) if leader.epoch >= known => self.leader = Some(leader),
            Some(_) | None => {}
        }
        std::thread::sleep(RETRY);
    }
}

/// A leader that others than the known one tell of, if there is a later one. The known one is not asked: it may be
/// standing still.
pub(crate) fn other_leader(client: &KafkaClient, topic: &str, partition: i32, known: Leader) -> Option<Leader> {
    let others: Vec<SocketAddr> = client.others(known.address);
    KafkaClient::new(others)
        .leader(topic, partition)
        .filter(|leader| leader.epoch > known.epoch)
}

/// Reads a partition from its first offset on until the load stops.
fn consume(topic: &str, partition: i32, shared: &Shared) {
    let client = KafkaClient::new(shared.brokers.clone());
    let mut position = 0;
    let mut connection: Option<Connection> = None;
    while !shared.is_stopping() {
        let Some(open) = &mut connection else {
            let opened = client
                .leader(topic, partition)
                .map(|leader| Connection::open(leader.address));
            match opened {
                Some(Ok(opened)) => connection = Some(opened),
                Some(Err(error)) => shared.note(&error),
                None => {}
            }
            std::thread::sleep(RETRY);
            continue;
        };
        match Reading::of(topic, partition).fetch(open, position, 50) {
            Ok(fetched) => {
                let mut seen = shared.seen();
                let consumer = u32::try_from(partition).unwrap_or(0);
                seen.history.push(Operation::Polled { consumer });
                for read in fetched.records {
                    position = read.offset + 1;
                    seen.history.push(Operation::Read {
                        consumer,
                        partition: usize::try_from(partition).unwrap_or(0),
                        offset: read.offset,
                        record: read.record,
                    });
                }
            }
            Err(error) => {
                shared.note(&error);
                connection = None;
            }
        }
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
