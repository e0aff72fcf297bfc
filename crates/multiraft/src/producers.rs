//! The last batches of idempotent producers, so that a batch sent twice is stored once (KIP-98).
//!
//! The table follows the log, entry by entry, on leaders and followers alike: a new leader knows what the old one
//! knew. Uncommitted batches are in it too (a producer pipelines), so five *committed* ones are kept behind them: a
//! truncation then takes away exactly what it takes from the log, and nothing needs to be read again.
//!
//! A producer is forgotten when nothing has come from it for [`EXPIRATION`], by the clock of the replica: nothing that
//! a client says makes it older. Where more than [`MAX_PRODUCERS`] have sent something within that time, those go whose
//! last batch lies furthest back in the log: the same ones on every replica, since only what is committed counts. They
//! have been silent for [`RETRIED_WITHIN`] at least: a leader takes in no more new ones than that. So whatever a client
//! sends again while it may still be waiting for an answer is known.
//!
//! Batches that retention deletes from the log stay in the table. For the next start, the log is told before
//! ([`ReplicaLog::retain`]).
//!
//! [`ReplicaLog::retain`]: trimaran_storage::log::ReplicaLog::retain

#[cfg(test)]
mod tests;

use crate::requests::AppendError;
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};
use trimaran_raft::{Instant, LogIndex};
use trimaran_storage::log::BatchMeta;
use trimaran_storage::producers::{KEPT_BATCHES, MAX_PRODUCERS, ProducedBatch};

/// A producer of which nothing has come for so long is forgotten (Kafka's `producer.id.expiration.ms`).
const EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// No producer is forgotten for lack of room before it has been silent for so long: several times what clients wait for
/// an answer, retries included (Kafka's `delivery.timeout.ms`: two minutes).
const RETRIED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Producers remembered a group of which nothing is stored and a batch was refused.
const MAX_REFUSED: usize = 256;

/// Whether a batch may be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The batch continues what the producer sent before.
    New,
    /// The batch is stored already.
    Duplicate(ProducedBatch),
    /// Neither.
    Refused(AppendError),
}

/// A producer, as far as it is known.
#[derive(Debug, Default)]
struct Known {
    /// In log order and never empty.
    batches: VecDeque<ProducedBatch>,
    /// When the last one came.
    noted_at: Instant,
}

/// The last batches of every known producer.
#[derive(Debug, Default)]
pub(crate) struct ProducerTable {
    producers: HashMap<i64, Known>,
    /// When the table was made: what is older is as old.
    made_at: Instant,
    /// Producers by the index of their last batch.
    by_age: BTreeMap<LogIndex, i64>,
    /// Refused batches of producers of which nothing is stored, the oldest first.
    refused: VecDeque<Refused>,
}

/// A batch that was refused, and will come again: the first one of its producer, as far as is known here.
#[derive(Debug)]
struct Refused {
    producer: i64,
    epoch: i16,
    first_sequence: i32,
}

impl ProducerTable {
    /// From what is remembered of before a log and from its batches, each in order, of which those up to `committed`
    /// can't be truncated any more.
    pub(crate) fn rebuild(remembered: &[ProducedBatch], batches: &[BatchMeta], committed: LogIndex) -> ProducerTable {
        let mut table = ProducerTable::default();
        let produced = batches.iter().filter_map(ProducedBatch::of_meta);
        let all = remembered.iter().copied().chain(produced);
        all.for_each(|batch| table.note(batch, committed, Instant::default()));
        table
    }

    /// From now on its producers grow older.
    pub(crate) fn made_at(self, now: Instant) -> ProducerTable {
        ProducerTable { made_at: now, ..self }
    }

    /// How many producers it knows.
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// The last batches of each producer that lie before this entry, in log order. All entries before it are committed.
    pub(crate) fn before(&self, first: LogIndex) -> Vec<ProducedBatch> {
        let mut found = Vec::new();
        for Known { batches, .. } in self.producers.values() {
            let before = batches.iter().rev().filter(|batch| batch.index < first);
            found.extend(before.take(KEPT_BATCHES));
        }
        found.sort_unstable_by_key(|batch: &ProducedBatch| batch.index);
        found
    }

    /// Judges a batch by what is stored and by what is `staged` to be proposed before it, in this order.
    pub(crate) fn judge(&self, staged: &[ProducedBatch], batch: &ProducedBatch, now: Instant) -> Verdict {
        let stored = self.producers.get(&batch.producer).map(|known| &known.batches);
        let staged = staged.iter().rev().filter(|other| other.producer == batch.producer);
        let mut newest_first = staged
            .chain(stored.into_iter().flat_map(|stored| stored.iter().rev()))
            .peekable();
        match newest_first.peek() {
            Some(_) => judge(newest_first, batch),
            None if self.is_full(now) => Verdict::Refused(AppendError::TooManyProducers),
            None => self.judge_first(batch),
        }
    }

    /// Whether another producer could take the place only of one that may still send something again.
    fn is_full(&self, now: Instant) -> bool {
        let oldest = || {
            self.by_age
                .first_key_value()
                .map(|(_, producer)| self.silence(*producer, now))
        };
        self.producers.len() >= MAX_PRODUCERS && oldest().is_some_and(|silence| silence < RETRIED_WITHIN)
    }

    /// For how long nothing has come from a producer.
    fn silence(&self, producer: i64, now: Instant) -> Duration {
        let noted_at = self.producers.get(&producer).map_or(now, |known| known.noted_at);
        now.since(noted_at.max(self.made_at))
    }

    /// Nothing is known of the producer: new, expired, or its topic was trimmed. Whatever it says is where it begins,
    /// unless that would overtake a batch of its that has just been refused (not serving yet, too few in sync, busy):
    /// a producer pipelines, and what was refused first will come again. (Kafka does so for transactions: KIP-890.)
    fn judge_first(&self, batch: &ProducedBatch) -> Verdict {
        let overtaken = self.refused.iter().find(|refused| {
            (refused.producer, refused.epoch) == (batch.producer, batch.epoch)
                && refused.first_sequence < batch.first_sequence
        });
        match overtaken {
            Some(refused) => Verdict::Refused(AppendError::OutOfOrderSequence {
                expected: refused.first_sequence,
                found: batch.first_sequence,
            }),
            None => Verdict::New,
        }
    }

    /// A batch was refused for a reason that has nothing to do with its producer.
    pub(crate) fn refuse(&mut self, batch: &ProducedBatch) {
        if self.producers.contains_key(&batch.producer) {
            return;
        }
        let earlier = self.refused.iter().any(|refused| {
            (refused.producer, refused.epoch) == (batch.producer, batch.epoch)
                && refused.first_sequence <= batch.first_sequence
        });
        if earlier {
            return;
        }
        self.forget_refused(batch.producer);
        if self.refused.len() >= MAX_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(Refused {
            producer: batch.producer,
            epoch: batch.epoch,
            first_sequence: batch.first_sequence,
        });
    }

    fn forget_refused(&mut self, producer: i64) {
        self.refused.retain(|refused| refused.producer != producer);
    }

    /// A batch was appended to the log. At most `committed` of the log can't be truncated any more.
    pub(crate) fn note(&mut self, batch: ProducedBatch, committed: LogIndex, now: Instant) {
        self.forget_refused(batch.producer);
        let known = self.producers.entry(batch.producer).or_default();
        known.noted_at = now;
        let batches = &mut known.batches;
        if let Some(last) = batches.back() {
            self.by_age.remove(&last.index);
        }
        batches.push_back(batch);
        while batches.len() > KEPT_BATCHES && batches[KEPT_BATCHES].index <= committed {
            batches.pop_front();
        }
        self.by_age.insert(batch.index, batch.producer);
    }

    /// Entries from here on are gone.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        let gone = self.by_age.split_off(&from);
        for producer in gone.into_values() {
            let Some(Known { batches, .. }) = self.producers.get_mut(&producer) else {
                continue;
            };
            while batches.back().is_some_and(|batch| batch.index >= from) {
                batches.pop_back();
            }
            match batches.back() {
                Some(last) => {
                    self.by_age.insert(last.index, producer);
                }
                None => {
                    self.producers.remove(&producer);
                }
            }
        }
    }

    /// Forgets those that have expired, and those that are more than `most`; returns how many the latter were. Only
    /// what is committed counts: what takes a producer's place must not be truncated afterwards.
    pub(crate) fn trim(&mut self, committed: LogIndex, most: usize, now: Instant) -> usize {
        while let Some((index, producer)) = self.by_age.first_key_value().map(|(index, id)| (*index, *id)) {
            if index > committed || self.silence(producer, now) < EXPIRATION {
                break;
            }
            self.forget_oldest();
        }
        if self.producers.len() <= most {
            return 0;
        }
        let uncommitted = self.by_age.range(committed.next()..).count();
        let excess = (self.producers.len() - uncommitted).saturating_sub(most);
        (0..excess).for_each(|_| self.forget_oldest());
        excess
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_age.pop_first() {
            self.producers.remove(&oldest);
        }
    }
}

/// The rules of KIP-98 (Kafka's `ProducerAppendInfo`), on a producer's batches, the newest first.
fn judge<'a>(mut newest_first: impl Iterator<Item = &'a ProducedBatch>, batch: &ProducedBatch) -> Verdict {
    let Some(last) = newest_first.next() else {
        return Verdict::New;
    };
    if batch.epoch < last.epoch {
        return Verdict::Refused(AppendError::Fenced);
    }
    let expected = if batch.epoch > last.epoch {
        0
    } else {
        last.next_sequence()
    };
    if batch.first_sequence == expected {
        return Verdict::New;
    }
    let stored = core::iter::once(last)
        .chain(newest_first)
        .find(|stored| are_same(stored, batch));
    match stored {
        Some(stored) => Verdict::Duplicate(*stored),
        None => Verdict::Refused(AppendError::OutOfOrderSequence {
            expected,
            found: batch.first_sequence,
        }),
    }
}

fn are_same(one: &ProducedBatch, other: &ProducedBatch) -> bool {
    (one.epoch, one.first_sequence, one.last_sequence) == (other.epoch, other.first_sequence, other.last_sequence)
}
