//! A producer of one partition.

use super::{Answer, Client, Moves, PartitionName, PartitionNews, Request};
use crate::checker::history::{Delivery, Operation, RecordId};
use crate::checker::{Law, Violation};
use crate::sim::broker::wall_clock_ms;
use crate::sim::queue::Micros;
use crate::sim::records::{self, Producer as Stamp};
use crate::sim::rng::Rng;
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use trimaran_multiraft::{Acks, AppendError};
use trimaran_registry::agent::{AdminReply, AdminRequest};

/// How long it waits for an answer.
const REQUEST_TIMEOUT_US: Micros = 1_500_000;
/// How long it waits after a refusal.
const BACKOFF_US: Micros = 20_000;
/// Batches in flight, as Kafka's idempotent producers have at most.
const MAX_IN_FLIGHT: usize = 5;

/// Sends batches of numbered records, several at a time. An idempotent one sends what was not acknowledged again, in
/// order, once nothing is in flight any more; others never send anything twice.
pub struct Producer {
    number: u32,
    brokers: u32,
    partition: PartitionName,
    slot: usize,
    delivery: Delivery,
    pace_us: Micros,
    rng: Rng,
    /// Identity of an idempotent producer, once it has one.
    identity: Option<i64>,
    next_number: u32,
    next_batch_at: Micros,
    /// Not acknowledged, in the order of sending.
    pending: VecDeque<Batch>,
    waiting: BTreeMap<u64, Waiting>,
    next_request: u64,
    leader: Option<u32>,
    /// The highest leader epoch it was told of: older news is no news (KIP-320).
    epoch: i32,
    not_before: Micros,
    /// Something has to be sent again, once nothing is in flight.
    recovering: bool,
    finishing: bool,
}

struct Batch {
    first: u32,
    records: Vec<RecordId>,
    bytes: BytesMut,
    sent: bool,
}

enum Purpose {
    Identity,
    Metadata,
    /// The batch that begins with this record.
    Produce(u32),
}

struct Waiting {
    purpose: Purpose,
    until: Micros,
}

impl Producer {
    /// A producer with a number of its own that sends a batch about every `pace_us` to `partition`, which the history
    /// knows as `slot`.
    pub fn new(
        number: u32,
        brokers: u32,
        (partition, slot): (PartitionName, usize),
        delivery: Delivery,
        pace_us: Micros,
        rng: Rng,
    ) -> Producer {
        Producer {
            number,
            brokers,
            partition,
            slot,
            delivery,
            pace_us,
            rng,
            identity: None,
            next_number: 0,
            next_batch_at: 0,
            pending: VecDeque::new(),
            waiting: BTreeMap::new(),
            next_request: 0,
            leader: None,
            epoch: -1,
            not_before: 0,
            recovering: false,
            finishing: false,
        }
    }

    fn is_idempotent(&self) -> bool {
        self.delivery == Delivery::ExactlyOnce
    }

    fn go_on(&mut self, now: Micros, moves: &mut Moves) {
        self.expire(now);
        if self.recovering && !self.is_waiting_for_batch() {
            self.recovering = false;
            self.pending.iter_mut().for_each(|batch| batch.sent = false);
        }
        if now >= self.not_before && !self.is_done() {
            self.ask(now, moves);
        }
        self.plan_wake(now, moves);
    }

    /// The next thing that is missing: an identity, a leader, or acknowledgements.
    fn ask(&mut self, now: Micros, moves: &mut Moves) {
        if self.is_idempotent() && self.identity.is_none() {
            if !self.is_asking() {
                let broker = self.any_broker();
                self.send(
                    now,
                    broker,
                    Purpose::Identity,
                    Request::Admin(AdminRequest::ProducerId),
                    moves,
                );
            }
            return;
        }
        let Some(leader) = self.leader else {
            if !self.is_asking() {
                let broker = self.any_broker();
                let request = Request::Metadata(self.partition.clone());
                self.send(now, broker, Purpose::Metadata, request, moves);
            }
            return;
        };
        while !self.recovering && self.in_flight() < MAX_IN_FLIGHT {
            if self.pending.iter().all(|batch| batch.sent) && !self.begin_batch(now, moves) {
                break;
            }
            self.send_next(now, leader, moves);
        }
    }

    fn begin_batch(&mut self, now: Micros, moves: &mut Moves) -> bool {
        if self.finishing || now < self.next_batch_at {
            return false;
        }
        self.next_batch_at = now + self.rng.between(1, 2 * self.pace_us);
        let count = self.rng.between(1, 4);
        let first = self.next_number;
        let records: Vec<RecordId> = (0..count)
            .map(|_| {
                let number = self.next_number;
                self.next_number += 1;
                RecordId {
                    producer: self.number,
                    number,
                }
            })
            .collect();
        moves.operations.extend(records.iter().map(|record| Operation::Sent {
            record: *record,
            partition: self.slot,
            delivery: self.delivery,
        }));
        moves
            .operations
            .extend(records.first().map(|first| Operation::SentTogether {
                first: *first,
                count: u32::try_from(records.len()).unwrap_or(0),
            }));
        let stamp = self.identity.map(|id| Stamp {
            id,
            epoch: 0,
            first_sequence: i32::try_from(first).unwrap_or(i32::MAX),
        });
        let padding = usize::try_from(self.rng.between(8, 200)).unwrap_or(8);
        let bytes = records::encode(&records, stamp, wall_clock_ms(now), padding);
        self.pending.push_back(Batch {
            first,
            records,
            bytes,
            sent: false,
        });
        true
    }

    fn send_next(&mut self, now: Micros, leader: u32, moves: &mut Moves) {
        let acks = match self.delivery {
            Delivery::ExactlyOnce | Delivery::AtMostOnce => Acks::All,
            Delivery::LeaderOnly => Acks::Leader,
        };
        let partition = self.partition.clone();
        let Some(batch) = self.pending.iter_mut().find(|batch| !batch.sent) else {
            return;
        };
        batch.sent = true;
        let (first, batch) = (batch.first, batch.bytes.clone());
        let request = Request::Produce { partition, batch, acks };
        self.send(now, leader, Purpose::Produce(first), request, moves);
    }

    fn send(&mut self, now: Micros, broker: u32, purpose: Purpose, request: Request, moves: &mut Moves) {
        self.next_request += 1;
        let until = now + REQUEST_TIMEOUT_US;
        self.waiting.insert(self.next_request, Waiting { purpose, until });
        moves.requests.push((broker, self.next_request, request));
    }

    fn expire(&mut self, now: Micros) {
        let late: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.until <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(waiting) = self.waiting.remove(&number) {
                self.failed(now, &waiting.purpose);
            }
        }
    }

    /// A request has no good end: ask somebody else, later.
    fn failed(&mut self, now: Micros, purpose: &Purpose) {
        self.leader = None;
        self.not_before = now + self.rng.between(1, 2 * BACKOFF_US);
        let Purpose::Produce(first) = purpose else {
            return;
        };
        if self.is_idempotent() {
            self.recovering = true;
        } else {
            self.pending.retain(|batch| batch.first != *first);
        }
    }

    fn produced(&mut self, now: Micros, first: u32, result: Result<i64, AppendError>, moves: &mut Moves) {
        match result {
            Ok(base) => self.acknowledged(first, base, moves),
            Err(error) => {
                let blamed = match error {
                    AppendError::OutOfOrderSequence { .. } => {
                        // With everything before it acknowledged, it can't be out of order.
                        self.pending.front().is_some_and(|batch| batch.first == first)
                    }
                    AppendError::Fenced | AppendError::BadBatch(_) => true,
                    AppendError::UnknownGroup
                    | AppendError::NotLeader { .. }
                    | AppendError::NotServing
                    | AppendError::Busy
                    | AppendError::TooManyProducers
                    | AppendError::NotEnoughReplicas { .. }
                    | AppendError::NotEnoughReplicasAfterAppend { .. }
                    | AppendError::Lost
                    | AppendError::Storage => false,
                };
                if blamed {
                    moves.accuse(Violation::new(
                        Law::NoFalseAccusation,
                        format!("{} was told {error:?} for its batch {first}", self.describe()),
                    ));
                }
                // Refused before it was appended, and nobody will send it again.
                if let (false, AppendError::NotEnoughReplicas { .. }) = (self.is_idempotent(), &error) {
                    let batch = self.pending.iter().find(|batch| batch.first == first);
                    let records = batch.into_iter().flat_map(|batch| &batch.records);
                    moves
                        .operations
                        .extend(records.map(|record| Operation::Refused { record: *record }));
                }
                self.failed(now, &Purpose::Produce(first));
            }
        }
    }

    fn acknowledged(&mut self, first: u32, base: i64, moves: &mut Moves) {
        let Some(at) = self.pending.iter().position(|batch| batch.first == first) else {
            return;
        };
        let Some(batch) = self.pending.remove(at) else {
            return;
        };
        moves.operations.extend(
            (base..)
                .zip(batch.records)
                .map(|(offset, record)| Operation::Acknowledged { record, offset }),
        );
    }

    fn learn(&mut self, now: Micros, news: Option<PartitionNews>) {
        match news {
            Some(news) if news.epoch >= self.epoch && news.leader.is_some() => {
                self.epoch = news.epoch;
                self.leader = news.leader;
            }
            Some(_) | None => self.failed(now, &Purpose::Metadata),
        }
    }

    fn plan_wake(&self, now: Micros, moves: &mut Moves) {
        if let Some(until) = self.waiting.values().map(|waiting| waiting.until).min() {
            moves.wake_by(until);
        }
        if self.is_done() {
            return;
        }
        if self.not_before > now {
            moves.wake_by(self.not_before);
        } else if !self.finishing && self.next_batch_at > now {
            moves.wake_by(self.next_batch_at);
        }
    }

    fn any_broker(&mut self) -> u32 {
        1 + u32::try_from(self.rng.below(u64::from(self.brokers))).unwrap_or(0)
    }

    fn in_flight(&self) -> usize {
        self.waiting
            .values()
            .filter(|waiting| matches!(waiting.purpose, Purpose::Produce(_)))
            .count()
    }

    fn is_waiting_for_batch(&self) -> bool {
        self.in_flight() > 0
    }

    fn is_asking(&self) -> bool {
        self.waiting.len() > self.in_flight()
    }
}

impl Client for Producer {
    fn wake(&mut self, now: Micros, moves: &mut Moves) {
        self.go_on(now, moves);
    }

    fn answer(&mut self, now: Micros, number: u64, answer: Answer, moves: &mut Moves) {
        let Some(waiting) = self.waiting.remove(&number) else {
            return self.go_on(now, moves);
        };
        match (waiting.purpose, answer) {
            (Purpose::Produce(first), Answer::Produced(result)) => self.produced(now, first, result, moves),
            (Purpose::Metadata, Answer::Metadata(news)) => self.learn(now, news),
            (Purpose::Identity, Answer::Admin(Ok(AdminReply::ProducerId(id)))) => self.identity = Some(id),
            (purpose, _) => self.failed(now, &purpose),
        }
        self.go_on(now, moves);
    }

    fn finish(&mut self) {
        self.finishing = true;
    }

    fn is_done(&self) -> bool {
        self.finishing && self.pending.is_empty()
    }

    fn describe(&self) -> String {
        format!(
            "producer {} ({:?}) of {}: {} batches unacknowledged from {:?} on, {} requests waiting, leader {:?} of epoch {}",
            self.number,
            self.delivery,
            self.partition,
            self.pending.len(),
            self.pending.front().map(|batch| batch.first),
            self.waiting.len(),
            self.leader,
            self.epoch,
        )
    }
}
