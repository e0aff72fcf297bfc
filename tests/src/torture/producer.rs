//! A producer with several batches in flight, as clients have them.

use super::witness::{Stage, Witness};
use crate::checker::Law;
use crate::checker::history::{Delivery, RecordId};
use crate::process::{
    Connection, KafkaClient, Leader, RequestError, now_ms, other_leader, poll_produced, produce, send_produce,
};
use crate::sim::records::{self, Producer as Stamp};
use crate::sim::rng::Rng;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Batches on their way at once: what Java's and librdkafka's idempotent producers have at most.
const MAX_IN_FLIGHT: usize = 5;

/// How long an answer is waited for before it is looked what else there is to do.
const GLANCE: Duration = Duration::from_millis(10);

/// Between two attempts to find or reach a leader.
const RETRY: Duration = Duration::from_millis(20);

/// Without an answer for so long, the other brokers are asked whether there is a new leader, and again after as long.
const DOUBT: Duration = Duration::from_millis(500);

/// Without an answer for so long, the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a producer sends, and where to.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The history's number of the partition.
    pub slot: usize,
    /// The topic.
    pub topic: String,
    /// Its id, if it must be that very topic.
    pub id: Option<Uuid>,
    /// The partition.
    pub partition: i32,
    /// What it promises.
    pub delivery: Delivery,
    /// From one batch to the next, on average.
    pub pace: Duration,
    /// Ends after so many batches; none: with the stage [`Stage::Ending`].
    pub batches: Option<u32>,
}

struct Batch {
    records: Vec<RecordId>,
    request: ProduceRequest,
}

/// One producer of one partition.
pub struct Producer {
    number: u32,
    to: Assignment,
    rng: Rng,
    witness: Arc<Witness>,
    client: KafkaClient,
    identity: Option<i64>,
    next_record: u32,
    begun: u32,
    next_at: Instant,
    /// Batches without a final answer; the first `in_flight` of them are on their way.
    pending: VecDeque<Batch>,
    in_flight: usize,
    leader: Option<Leader>,
    connection: Option<Connection>,
    /// When something last came of the connection, and when others were last asked about the leader.
    progress_at: Instant,
    doubted_at: Instant,
    /// It has been blamed: once is enough to be told.
    is_blamed: bool,
}

impl Producer {
    /// A producer with an assignment.
    pub fn new(to: Assignment, rng: Rng, witness: Arc<Witness>) -> Producer {
        let now = Instant::now();
        Producer {
            number: witness.next_client(),
            to,
            rng,
            client: KafkaClient::new(witness.clients()),
            witness,
            identity: None,
            next_record: 0,
            begun: 0,
            next_at: now,
            pending: VecDeque::new(),
            in_flight: 0,
            leader: None,
            connection: None,
            progress_at: now,
            doubted_at: now,
            is_blamed: false,
        }
    }

    /// Sends until it is told to end, or has sent its batches. Says whether nothing is left without an answer.
    pub fn run(mut self) -> bool {
        while self.witness.stage() != Stage::Stopped {
            if self.has_ended() && self.pending.is_empty() {
                return true;
            }
            if let Err(error) = self.turn() {
                self.failed(&error);
            }
        }
        self.pending.is_empty()
    }

    fn is_idempotent(&self) -> bool {
        self.to.delivery == Delivery::ExactlyOnce
    }

    fn has_ended(&self) -> bool {
        match self.to.batches {
            Some(batches) => self.begun >= batches,
            None => self.witness.stage() >= Stage::Ending,
        }
    }

    fn turn(&mut self) -> Result<(), RequestError> {
        if self.is_idempotent() && self.identity.is_none() {
            self.identity = Some(self.client.producer_id()?);
        }
        if self.connection.is_none() {
            self.connect()?;
        }
        while self.in_flight < MAX_IN_FLIGHT {
            if self.in_flight == self.pending.len() && !self.begin_batch() {
                break;
            }
            self.send_next()?;
        }
        if self.in_flight == 0 {
            std::thread::sleep(GLANCE);
            return Ok(());
        }
        self.hear()
    }

    /// The leader is asked again for each connection: the epoch never goes back.
    fn connect(&mut self) -> Result<(), RequestError> {
        let known = self.leader.map_or(-1, |leader| leader.epoch);
        let found = match self.to.id {
            Some(id) => self.client.leader_by_id(&self.to.topic, id, self.to.partition),
            None => self.client.leader(&self.to.topic, self.to.partition),
        };
        let leader = found
            .filter(|leader| leader.epoch >= known)
            .ok_or_else(|| RequestError::Malformed("nobody knows a leader".to_owned()))?;
        self.leader = Some(leader);
        self.connection = Some(Connection::open(leader.address)?);
        self.in_flight = 0;
        self.progress_at = Instant::now();
        self.doubted_at = self.progress_at;
        Ok(())
    }

    /// Makes a batch if it is time for one.
    fn begin_batch(&mut self) -> bool {
        let now = Instant::now();
        if self.has_ended() || now < self.next_at {
            return false;
        }
        let pace = u64::try_from(self.to.pace.as_micros()).unwrap_or(1);
        self.next_at = now + Duration::from_micros(self.rng.between(1, 2 * pace));
        let first = self.next_record;
        let count = u32::try_from(self.rng.between(1, 4)).unwrap_or(1);
        let records: Vec<RecordId> = (first..first + count)
            .map(|number| RecordId {
                producer: self.number,
                number,
            })
            .collect();
        self.next_record += count;
        self.begun += 1;
        let stamp = self.identity.map(|id| Stamp {
            id,
            epoch: 0,
            first_sequence: i32::try_from(first).unwrap_or(i32::MAX),
        });
        let padding = self.rng.index(400);
        let bytes = records::encode(&records, stamp, now_ms(), padding).freeze();
        let acks = match self.to.delivery {
            Delivery::ExactlyOnce | Delivery::AtMostOnce => -1,
            Delivery::LeaderOnly => 1,
        };
        self.witness.sent(&records, self.to.slot, self.to.delivery);
        self.pending.push_back(Batch {
            records,
            request: produce(&self.to.topic, self.to.partition, bytes, acks),
        });
        true
    }

    fn send_next(&mut self) -> Result<(), RequestError> {
        let (Some(connection), Some(batch)) = (&mut self.connection, self.pending.get(self.in_flight)) else {
            return Ok(());
        };
        if self.in_flight == 0 {
            self.progress_at = Instant::now();
        }
        // From now on it may have arrived, whatever the outcome.
        self.in_flight += 1;
        send_produce(connection, &batch.request)
    }

    /// Takes an answer, if there is one.
    fn hear(&mut self) -> Result<(), RequestError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        match poll_produced(connection, GLANCE) {
            Ok(Some(base)) => {
                self.progress_at = Instant::now();
                self.in_flight -= 1;
                if let Some(batch) = self.pending.pop_front() {
                    self.witness.acknowledged(&batch.records, self.to.slot, base);
                }
                Ok(())
            }
            Ok(None) => self.doubt(),
            Err(RequestError::Code(code)) => self.refused(code),
            Err(error) => Err(error),
        }
    }

    /// The first batch in flight was answered with an error.
    fn refused(&mut self, code: i16) -> Result<(), RequestError> {
        if self.is_idempotent() {
            self.blame(code);
            return Err(RequestError::Code(code));
        }
        self.in_flight -= 1;
        let batch = self.pending.pop_front();
        // The one error that is told before anything is appended, and in which the leader is right all the same.
        if code == ResponseError::NotEnoughReplicas.code() {
            if let Some(batch) = batch {
                self.witness.refused(&batch.records);
            }
            return Ok(());
        }
        Err(RequestError::Code(code))
    }

    /// Everything before the first batch in flight is acknowledged, so none of these can be this producer's fault.
    fn blame(&mut self, code: i16) {
        let accusations = [
            ResponseError::CorruptMessage,
            ResponseError::OutOfOrderSequenceNumber,
            ResponseError::InvalidProducerEpoch,
            ResponseError::InvalidRecord,
            ResponseError::UnknownProducerId,
        ];
        if !self.is_blamed && accusations.iter().any(|accusation| accusation.code() == code) {
            self.is_blamed = true;
            let first = self.pending.front().and_then(|batch| batch.records.first());
            let first = first.map_or("nothing".to_owned(), |record| record.to_string());
            let error = RequestError::Code(code);
            let detail = format!(
                "producer {} of {} was told {error} for {first}",
                self.number, self.to.topic
            );
            self.witness.accuse(Law::NoFalseAccusation, detail);
        }
    }

    /// No answer yet: is there another leader by now?
    fn doubt(&mut self) -> Result<(), RequestError> {
        let now = Instant::now();
        if now >= self.progress_at + PATIENCE {
            return Err(RequestError::TimedOut);
        }
        if now < self.progress_at.max(self.doubted_at) + DOUBT {
            return Ok(());
        }
        self.doubted_at = now;
        let Some(leader) = self.leader else { return Ok(()) };
        match other_leader(&self.client, &self.to.topic, self.to.partition, leader) {
            Some(_) => Err(RequestError::TimedOut),
            None => Ok(()),
        }
    }

    /// The connection is given up. What was on its way is sent again, or, if that could make a second one of it, never.
    fn failed(&mut self, error: &RequestError) {
        let who = format!("producer {} of {}-{}", self.number, self.to.topic, self.to.partition);
        self.witness.note_error(&who, error);
        self.connection = None;
        if !self.is_idempotent() {
            self.pending.drain(..self.in_flight);
        }
        self.in_flight = 0;
        std::thread::sleep(RETRY);
    }
}
