//! A consumer of one partition.

use super::{Answer, Client, Fetched, Moves, PartitionName, PartitionNews, Request};
use crate::checker::history::Operation;
use crate::checker::{Law, Violation};
use crate::sim::queue::Micros;
use crate::sim::records;
use crate::sim::rng::Rng;
use trimaran_multiraft::ReadError;

const REQUEST_TIMEOUT_US: Micros = 1_500_000;
const BACKOFF_US: Micros = 30_000;
const LONG_POLL_US: Micros = 300_000;

/// Reads a partition from its first offset on, from its leader or from any replica.
pub struct Consumer {
    number: u32,
    brokers: u32,
    partition: PartitionName,
    slot: usize,
    /// Retention deletes what is old.
    is_trimmed: bool,
    rng: Rng,
    position: i64,
    news: Option<PartitionNews>,
    /// The leader epoch of the last record read.
    last_epoch: i32,
    waiting: Option<Waiting>,
    next_request: u64,
    not_before: Micros,
    finishing: bool,
    /// While finishing: the leader has said that there is nothing more.
    at_end: bool,
}

struct Waiting {
    number: u64,
    purpose: Purpose,
    until: Micros,
}

enum Purpose {
    Metadata,
    Fetch { from_leader: bool },
}

impl Consumer {
    /// A consumer of `partition`, which the history knows as `slot`, and of which retention deletes what is old if it
    /// `is_trimmed`.
    pub fn new(
        number: u32,
        brokers: u32,
        (partition, slot): (PartitionName, usize),
        is_trimmed: bool,
        rng: Rng,
    ) -> Consumer {
        Consumer {
            number,
            brokers,
            partition,
            slot,
            is_trimmed,
            rng,
            position: 0,
            news: None,
            last_epoch: -1,
            waiting: None,
            next_request: 0,
            not_before: 0,
            finishing: false,
            at_end: false,
        }
    }

    fn go_on(&mut self, now: Micros, moves: &mut Moves) {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.until <= now) {
            self.waiting = None;
            self.failed(now);
        }
        if self.waiting.is_none() && now >= self.not_before && !self.is_done() {
            self.ask(now, moves);
        }
        match &self.waiting {
            Some(waiting) => moves.wake_by(waiting.until),
            None if !self.is_done() => moves.wake_by(self.not_before.max(now + 1)),
            None => {}
        }
    }

    fn ask(&mut self, now: Micros, moves: &mut Moves) {
        let leader = self.news.as_ref().and_then(|news| news.leader);
        let (Some(news), Some(leader)) = (&self.news, leader) else {
            let broker = 1 + u32::try_from(self.rng.below(u64::from(self.brokers))).unwrap_or(0);
            return self.send(
                now,
                broker,
                Purpose::Metadata,
                Request::Metadata(self.partition.clone()),
                moves,
            );
        };
        // Once it is finishing it needs the leader's word that there is nothing more.
        let from_leader = self.finishing || self.rng.chance(500);
        let broker = if from_leader {
            leader
        } else {
            self.rng.pick(&news.replicas).copied().unwrap_or(leader)
        };
        let request = Request::Fetch {
            partition: self.partition.clone(),
            from: self.position,
            epoch: self.rng.chance(500).then_some(news.epoch),
            wait: (!self.finishing && self.rng.chance(700)).then_some(LONG_POLL_US),
        };
        self.send(now, broker, Purpose::Fetch { from_leader }, request, moves);
    }

    fn send(&mut self, now: Micros, broker: u32, purpose: Purpose, request: Request, moves: &mut Moves) {
        self.next_request += 1;
        self.waiting = Some(Waiting {
            number: self.next_request,
            purpose,
            until: now + REQUEST_TIMEOUT_US,
        });
        moves.requests.push((broker, self.next_request, request));
    }

    /// Ask again, later, and somebody who knows more.
    fn failed(&mut self, now: Micros) {
        self.news = None;
        self.not_before = now + self.rng.between(1, 2 * BACKOFF_US);
    }

    fn read(&mut self, now: Micros, from_leader: bool, fetched: &Fetched, moves: &mut Moves) {
        if fetched.records.is_empty() {
            self.at_end = from_leader && self.finishing && fetched.high_watermark == self.position;
            if self.at_end {
                moves.operations.push(Operation::Drained {
                    consumer: self.number,
                    partition: self.slot,
                });
            }
            self.not_before = now + self.rng.between(1_000, 2 * BACKOFF_US);
            return;
        }
        let records = match records::decode(&fetched.records) {
            Ok(records) => records,
            Err(error) => {
                let detail = format!("{} read what is no batch: {error}", self.describe());
                return moves.accuse(Violation::new(Law::NothingInvented, detail));
            }
        };
        moves.operations.push(Operation::Polled { consumer: self.number });
        for record in records {
            // Whole batches are answered, so the first one may begin before what was asked for.
            if record.offset < self.position {
                continue;
            }
            moves.operations.push(Operation::Read {
                consumer: self.number,
                partition: self.slot,
                offset: record.offset,
                record: record.record,
            });
            if record.offset != self.position {
                let detail = format!("{} was given offset {}", self.describe(), record.offset);
                return moves.accuse(Violation::new(Law::ReadsInOrder, detail));
            }
            if record.epoch < self.last_epoch {
                let detail = format!(
                    "{} was given epoch {} after {}",
                    self.describe(),
                    record.epoch,
                    self.last_epoch
                );
                return moves.accuse(Violation::new(Law::ReadsInOrder, detail));
            }
            if record.offset >= fetched.high_watermark {
                let detail = format!(
                    "{} was given offset {} beyond the high watermark {}",
                    self.describe(),
                    record.offset,
                    fetched.high_watermark
                );
                return moves.accuse(Violation::new(Law::ReadStays, detail));
            }
            self.last_epoch = record.epoch;
            self.position += 1;
        }
    }

    fn learn(&mut self, now: Micros, news: Option<PartitionNews>) {
        match news {
            Some(news) if news.leader.is_some() => self.news = Some(news),
            Some(_) | None => self.failed(now),
        }
    }
}

impl Client for Consumer {
    fn wake(&mut self, now: Micros, moves: &mut Moves) {
        self.go_on(now, moves);
    }

    fn answer(&mut self, now: Micros, number: u64, answer: Answer, moves: &mut Moves) {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.number == number) else {
            return self.go_on(now, moves);
        };
        match (waiting.purpose, answer) {
            (Purpose::Metadata, Answer::Metadata(news)) => self.learn(now, news),
            (Purpose::Fetch { from_leader }, Answer::Fetched(Ok(fetched))) => {
                self.read(now, from_leader, &fetched, moves);
            }
            (_, Answer::Fetched(Err(ReadError::OutOfRange { start, .. })))
                if start.0 > self.position && self.is_trimmed =>
            {
                self.position = start.0;
                moves.operations.push(Operation::Skipped {
                    consumer: self.number,
                    partition: self.slot,
                    to: start.0,
                });
            }
            (_, Answer::Fetched(Err(ReadError::OutOfRange { start, .. }))) if start.0 > self.position => {
                let detail = format!(
                    "{}: the log begins at {}, and nothing is deleted here",
                    self.describe(),
                    start.0
                );
                moves.accuse(Violation::new(Law::ReadStays, detail));
            }
            _ => self.failed(now),
        }
        self.go_on(now, moves);
    }

    fn finish(&mut self) {
        self.finishing = true;
        self.at_end = false;
    }

    fn is_done(&self) -> bool {
        self.finishing && self.at_end
    }

    fn describe(&self) -> String {
        format!(
            "consumer {} of {} at offset {}",
            self.number, self.partition, self.position
        )
    }
}
