//! What observers write down.

use std::fmt;
use std::str::FromStr;

/// One record: who sent it, and its number there, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The producer.
    pub producer: u32,
    /// Counts the producer's records.
    pub number: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}#{}", self.producer, self.number)
    }
}

/// A value that no [`RecordId`] was written into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRecordId(
    /// What was found instead.
    pub String,
);

impl fmt::Display for NoRecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a record id: {:?}", self.0)
    }
}

impl std::error::Error for NoRecordId {}

impl FromStr for RecordId {
    type Err = NoRecordId;

    /// The inverse of `Display`. Anything behind a space is padding.
    fn from_str(text: &str) -> Result<RecordId, NoRecordId> {
        let refused = || NoRecordId(text.to_owned());
        let id = text.split(' ').next().unwrap_or_default();
        let (producer, number) = id
            .strip_prefix('p')
            .and_then(|rest| rest.split_once('#'))
            .ok_or_else(refused)?;
        Ok(RecordId {
            producer: producer.parse().map_err(|_| refused())?,
            number: number.parse().map_err(|_| refused())?,
        })
    }
}

/// What a producer promised about its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// acks=all and idempotent: an acknowledged record stays, and is there once.
    ExactlyOnce,
    /// acks=all, never sent again: an acknowledged record stays.
    AtMostOnce,
    /// acks=1: an acknowledged record may be lost with its leader; it is never there twice, since it is not sent again,
    /// and if it is there, then where its leader said.
    LeaderOnly,
}

/// What was seen, in the order of the observer's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A producer handed a record over (the first time; sending it again is no operation).
    Sent {
        /// The record.
        record: RecordId,
        /// Where to: an index into the observer's list of partitions.
        partition: usize,
        /// What the producer promised.
        delivery: Delivery,
    },
    /// Records that were handed over are one batch. Observers who don't say so have their batches not looked at.
    SentTogether {
        /// The first of them.
        first: RecordId,
        /// So many, with numbers that follow each other.
        count: u32,
    },
    /// The record was acknowledged.
    Acknowledged {
        /// The record.
        record: RecordId,
        /// The offset it was given.
        offset: i64,
    },
    /// The producer was told for certain that the record is not stored, and never sent it again.
    Refused {
        /// The record.
        record: RecordId,
    },
    /// A consumer got an answer: the [`Operation::Read`]s of this consumer that follow, up to its next answer, are of one
    /// poll. Observers who never say so have each record taken for a poll of its own.
    Polled {
        /// The consumer.
        consumer: u32,
    },
    /// A consumer read a record. Everybody begins at offset 0.
    Read {
        /// The consumer.
        consumer: u32,
        /// Where from.
        partition: usize,
        /// At which offset.
        offset: i64,
        /// What was there.
        record: RecordId,
    },
    /// A consumer goes on somewhere else because it wants to.
    Sought {
        /// The consumer.
        consumer: u32,
        /// Where.
        partition: usize,
        /// The offset it goes on with.
        to: i64,
    },
    /// A consumer was told that what it wants next has been deleted, and goes on behind that.
    Skipped {
        /// The consumer.
        consumer: u32,
        /// Where.
        partition: usize,
        /// The offset it goes on with: the log's first one at that time.
        to: i64,
    },
    /// Once no producer had anything left to send, a consumer read on until it was told that there is nothing more.
    Drained {
        /// The consumer.
        consumer: u32,
        /// Where.
        partition: usize,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Sent {
                record,
                partition,
                delivery,
            } => write!(f, "sent {record} to {partition} ({delivery:?})"),
            Operation::SentTogether { first, count } => write!(f, "batch of {count} from {first} on"),
            Operation::Acknowledged { record, offset } => write!(f, "acknowledged {record} at {offset}"),
            Operation::Refused { record } => write!(f, "refused {record}"),
            Operation::Polled { consumer } => write!(f, "c{consumer} polled"),
            Operation::Read {
                consumer,
                partition,
                offset,
                record,
            } => write!(f, "c{consumer} read {record} at {offset} of {partition}"),
            Operation::Sought {
                consumer,
                partition,
                to,
            } => write!(f, "c{consumer} sought {to} of {partition}"),
            Operation::Skipped {
                consumer,
                partition,
                to,
            } => write!(f, "c{consumer} skipped to {to} of {partition}"),
            Operation::Drained { consumer, partition } => write!(f, "c{consumer} drained {partition}"),
        }
    }
}

/// What a partition holds in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Its first offset: what was before it has been deleted by retention.
    pub start: i64,
    /// Its records with their offsets, from the first to the last.
    pub records: Vec<(i64, RecordId)>,
}

impl From<Vec<(i64, RecordId)>> for Log {
    /// A log of which nothing was deleted.
    fn from(records: Vec<(i64, RecordId)>) -> Log {
        Log { start: 0, records }
    }
}

impl Log {
    /// The record at an offset.
    pub fn at(&self, offset: i64) -> Option<RecordId> {
        let at = self.records.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        self.records.get(at).map(|(_, record)| *record)
    }
}
