//! What idempotent producers sent last, so that a batch sent twice is stored once (KIP-98).
//!
//! The table follows the log, entry by entry, on leaders and followers alike: a new leader knows what the old one
//! knew. Uncommitted batches are in it too (a producer pipelines), so five *committed* ones are kept behind them: a
//! truncation then takes away exactly what it takes from the log, and nothing needs to be read again. It is bounded
//! by forgetting the producers whose last batch lies furthest back in the log, which is the same order on every replica.
//!
//! What retention deletes from the log stays in the table. For the next start, the log is told before ([`ReplicaLog::retain`]).
//!
//! [`ReplicaLog::retain`]: trimaran_storage::log::ReplicaLog::retain

#[cfg(test)]
mod tests;

use crate::appends::AppendError;
use std::collections::{BTreeMap, HashMap, VecDeque};
use trimaran_raft::LogIndex;
use trimaran_storage::log::BatchMeta;
use trimaran_storage::producers::{KEPT_BATCHES, MAX_PRODUCERS, ProducedBatch};

/// Producers remembered a group of which nothing is stored and a batch was refused.
const MAX_REFUSED: usize = 256;

/// Whether a batch may be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It continues what the producer sent before.
    New,
    /// It is stored already.
    Duplicate(ProducedBatch),
    /// It is neither.
    Refused(AppendError),
}

/// The last batches of every known producer.
#[derive(Debug, Default)]
pub(crate) struct ProducerTable {
    /// Each in log order and never empty.
    producers: HashMap<i64, VecDeque<ProducedBatch>>,
    /// Producers by the index of their last batch.
    by_age: BTreeMap<LogIndex, i64>,
    /// What was refused of producers of which nothing is stored, the oldest first.
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
    /// From what is remembered of before a log and from its batches, each in order, of which those up to `committed` can't
    /// be truncated any more.
    pub(crate) fn rebuild(remembered: &[ProducedBatch], batches: &[BatchMeta], committed: LogIndex) -> ProducerTable {
        let mut table = ProducerTable::default();
        let produced = batches.iter().filter_map(ProducedBatch::of_meta);
        let all = remembered.iter().copied().chain(produced);
        all.for_each(|batch| table.note(batch, committed));
        table
    }

    /// The last batches of each producer that lie before this entry, in log order. All entries before it are committed.
    pub(crate) fn before(&self, first: LogIndex) -> Vec<ProducedBatch> {
        let mut found = Vec::new();
        for batches in self.producers.values() {
            let before = batches.iter().rev().filter(|batch| batch.index < first);
            found.extend(before.take(KEPT_BATCHES));
        }
        found.sort_unstable_by_key(|batch: &ProducedBatch| batch.index);
        found
    }

    /// Judges a batch by what is stored and by what is `staged` to be proposed before it, in this order.
    pub(crate) fn judge(&self, staged: &[ProducedBatch], batch: &ProducedBatch) -> Verdict {
        let stored = self.producers.get(&batch.producer);
        let staged = staged.iter().rev().filter(|other| other.producer == batch.producer);
        let mut newest_first = staged
            .chain(stored.into_iter().flat_map(|stored| stored.iter().rev()))
            .peekable();
        match newest_first.peek() {
            Some(_) => judge(newest_first, batch),
            None => self.judge_first(batch),
        }
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
    pub(crate) fn note(&mut self, batch: ProducedBatch, committed: LogIndex) {
        self.forget_refused(batch.producer);
        let batches = self.producers.entry(batch.producer).or_default();
        if let Some(last) = batches.back() {
            self.by_age.remove(&last.index);
        }
        batches.push_back(batch);
        while batches.len() > KEPT_BATCHES && batches[KEPT_BATCHES].index <= committed {
            batches.pop_front();
        }
        self.by_age.insert(batch.index, batch.producer);
        self.forget_oldest();
    }

    /// Entries from here on are gone.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        let gone = self.by_age.split_off(&from);
        for producer in gone.into_values() {
            let Some(batches) = self.producers.get_mut(&producer) else {
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

    fn forget_oldest(&mut self) {
        while self.producers.len() > MAX_PRODUCERS {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                return;
            };
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
