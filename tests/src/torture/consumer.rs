//! A consumer that polls, seeks, and reads from leaders and followers.

use super::witness::{Slot, Stage, Witness, rack};
use crate::checker::Law;
use crate::checker::history::Operation;
use crate::process::{Connection, KafkaClient, Reading, RequestError, offset};
use crate::sim::rng::Rng;
use kafka_protocol::ResponseError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts to find or reach a broker.
const RETRY: Duration = Duration::from_millis(20);

/// How long the broker waits for records.
const LONG_POLL_MS: i32 = 200;

/// How long an answer may take: the broker may be paused.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of a thousand polls, so many are followed by a seek, and so many by a change of the broker.
const SEEKS: u64 = 5;
const CHANGES: u64 = 10;

/// How far a seek goes back at most. Most of a log was read often enough.
const SEEK_BACK: u64 = 500;

/// The timestamps that stand for the end and the start of a log.
const END: i64 = -1;
const START: i64 = -2;

/// One consumer of one partition.
pub struct Consumer {
    number: u32,
    slot: usize,
    of: Slot,
    rng: Rng,
    witness: Arc<Witness>,
    client: KafkaClient,
    position: i64,
    /// The leader epoch of the record before the position; -1 if it is not known.
    epoch: i32,
    /// While draining: where the log ends.
    end: Option<i64>,
    source: Option<Source>,
}

/// Where it reads from.
struct Source {
    connection: Connection,
    is_leader: bool,
    /// The rack to name so that this broker answers.
    rack: String,
}

impl Consumer {
    /// A consumer of the partition that the history knows by this number.
    pub fn new(slot: usize, of: Slot, rng: Rng, witness: Arc<Witness>) -> Consumer {
        Consumer {
            number: witness.next_client(),
            slot,
            of,
            rng,
            client: KafkaClient::new(witness.clients()),
            witness,
            position: 0,
            epoch: -1,
            end: None,
            source: None,
        }
    }

    /// Reads until it has read everything, or is stopped. Says whether it has read everything.
    pub fn run(mut self) -> bool {
        while self.witness.stage() != Stage::Stopped {
            match self.turn() {
                Ok(false) => {}
                Ok(true) => return true,
                Err(error) => self.failed(&error),
            }
        }
        false
    }

    /// Says whether everything has been read.
    fn turn(&mut self) -> Result<bool, RequestError> {
        if self.witness.stage() >= Stage::Draining && self.is_drained()? {
            return Ok(true);
        }
        if self.source.is_none() {
            self.source = Some(self.choose()?);
        }
        let Some(source) = &mut self.source else {
            return Ok(false);
        };
        let reading = Reading {
            id: self.of.id,
            rack: &source.rack,
            patience: PATIENCE,
            ..Reading::of(&self.of.topic, self.of.partition)
        };
        match reading.fetch(&mut source.connection, self.position, LONG_POLL_MS) {
            Ok(fetched) => {
                self.take(&fetched.records, fetched.high_watermark);
                self.wander();
                Ok(false)
            }
            Err(RequestError::Code(code)) if source.is_leader && code == ResponseError::OffsetOutOfRange.code() => {
                self.out_of_range()?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn is_drained(&mut self) -> Result<bool, RequestError> {
        let end = match self.end {
            Some(end) => end,
            None => {
                let end = self.ask_leader(END)?;
                self.end = Some(end);
                end
            }
        };
        if self.position < end {
            return Ok(false);
        }
        self.witness.saw(Operation::Drained {
            consumer: self.number,
            partition: self.slot,
        });
        Ok(true)
    }

    fn ask_leader(&self, timestamp: i64) -> Result<i64, RequestError> {
        let mut connection = Connection::open(self.leader()?)?;
        offset(&mut connection, &self.of.topic, self.of.partition, timestamp)
    }

    fn leader(&self) -> Result<SocketAddr, RequestError> {
        let leader = match self.of.id {
            Some(id) => self.client.leader_by_id(&self.of.topic, id, self.of.partition),
            None => self.client.leader(&self.of.topic, self.of.partition),
        };
        leader
            .map(|leader| leader.address)
            .ok_or_else(|| RequestError::Malformed("nobody knows a leader".to_owned()))
    }

    /// The leader, or any broker: one without a replica says so.
    fn choose(&mut self) -> Result<Source, RequestError> {
        let leader = self.leader()?;
        let any = self.rng.pick(&self.witness.brokers).map(|broker| broker.client);
        let address = any.filter(|_| self.rng.chance(500)).unwrap_or(leader);
        let broker = self.witness.broker_at(address).unwrap_or(0);
        Ok(Source {
            connection: Connection::open(address)?,
            is_leader: address == leader,
            rack: rack(broker),
        })
    }

    fn take(&mut self, records: &[crate::sim::records::Read], high_watermark: i64) {
        let Some(last) = records.last() else { return };
        self.witness.polled(self.number, self.slot, records);
        for read in records {
            if read.offset >= high_watermark {
                let detail = format!(
                    "consumer {} was given offset {} of {} beyond the high watermark {high_watermark}",
                    self.number, read.offset, self.of
                );
                self.witness.accuse(Law::ReadStays, detail);
            }
            if read.epoch < self.epoch {
                let detail = format!(
                    "consumer {} was given epoch {} at {} of {} behind epoch {}",
                    self.number, read.epoch, read.offset, self.of, self.epoch
                );
                self.witness.accuse(Law::ReadsInOrder, detail);
            }
            self.epoch = read.epoch;
        }
        // What is not in order is found in the history; here it only has to go on.
        self.position = last.offset + 1;
    }

    /// Sometimes it wants to read something again, or from somebody else.
    fn wander(&mut self) {
        if self.witness.stage() >= Stage::Draining {
            return;
        }
        if self.position > 0 && self.rng.chance(SEEKS) {
            let reach = u64::try_from(self.position).unwrap_or(0).min(SEEK_BACK);
            self.position -= i64::try_from(self.rng.between(0, reach)).unwrap_or(0);
            self.epoch = -1;
            self.witness.saw(Operation::Sought {
                consumer: self.number,
                partition: self.slot,
                to: self.position,
            });
        }
        if self.rng.chance(CHANGES) {
            self.source = None;
        }
    }

    /// The leader has no such offset (any more): if its log begins later, it goes on there.
    fn out_of_range(&mut self) -> Result<(), RequestError> {
        let start = self.ask_leader(START)?;
        if start <= self.position {
            // Above the end: a leader that does not know yet what was committed before it.
            return Err(RequestError::Code(ResponseError::OffsetOutOfRange.code()));
        }
        self.position = start;
        self.epoch = -1;
        self.witness.saw(Operation::Skipped {
            consumer: self.number,
            partition: self.slot,
            to: start,
        });
        Ok(())
    }

    fn failed(&mut self, error: &RequestError) {
        let who = format!("consumer {} of {} at {}", self.number, self.of, self.position);
        self.witness.note_error(&who, error);
        self.source = None;
        std::thread::sleep(RETRY);
    }
}
