//! Clients as they behave in the field: they retry, believe stale metadata, and remember what they were told.
//!
//! A client is a state machine like everything else here: it is woken or answered, and puts what follows into a
//! [`Moves`].

mod administrator;
mod consumer;
mod producer;

pub use administrator::{Administrator, Task};
pub use consumer::Consumer;
pub use producer::Producer;

use super::queue::Micros;
use crate::checker::Violation;
use crate::checker::history::Operation;
use bytes::{Bytes, BytesMut};
use std::fmt;
use trimaran_multiraft::{Acks, AppendError, ReadError};
use trimaran_registry::agent::{AdminError, AdminReply, AdminRequest};

/// A partition as clients name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub index: i32,
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// What a client asks a broker.
#[derive(Clone, Debug)]
pub enum Request {
    /// Who leads this partition?
    Metadata(PartitionName),
    /// Append this batch.
    Produce {
        /// Where to.
        partition: PartitionName,
        /// What.
        batch: BytesMut,
        /// When to answer.
        acks: Acks,
    },
    /// Read from here on.
    Fetch {
        /// Where from.
        partition: PartitionName,
        /// The next offset.
        from: i64,
        /// The leader epoch that the client believes in, if it says so.
        epoch: Option<i32>,
        /// Wait so long for records; not at all if none.
        wait: Option<Micros>,
    },
    /// Change the cluster.
    Admin(AdminRequest),
}

/// What a broker answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Request::Metadata`]; none if the partition isn't known.
    Metadata(Option<PartitionNews>),
    /// To [`Request::Produce`]: the base offset.
    Produced(Result<i64, AppendError>),
    /// To [`Request::Fetch`].
    Fetched(Result<Fetched, ReadError>),
    /// To [`Request::Admin`].
    Admin(Result<AdminReply, AdminError>),
    /// The connection is closed: the broker is gone, or doesn't know that topic.
    Closed,
}

/// A partition as one broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionNews {
    /// Its leader, as far as known.
    pub leader: Option<u32>,
    /// The leader's epoch.
    pub epoch: i32,
    /// All its replicas.
    pub replicas: Vec<u32>,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The answering replica's term.
    pub epoch: i32,
    /// Its high watermark.
    pub high_watermark: i64,
    /// Whole batches, back to back.
    pub records: Bytes,
}

/// What a client wants done.
#[derive(Debug, Default)]
pub struct Moves {
    /// Requests, by their number at this client, to brokers.
    pub requests: Vec<(u32, u64, Request)>,
    /// When to wake it next.
    pub wake_at: Option<Micros>,
    /// What it saw.
    pub operations: Vec<Operation>,
    /// What it must not have seen.
    pub violation: Option<Violation>,
}

impl Moves {
    /// Wakes at the earlier of several times.
    fn wake_by(&mut self, time: Micros) {
        self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
    }

    fn accuse(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }
}

/// A client of the cluster.
pub trait Client {
    /// Time has passed.
    fn wake(&mut self, now: Micros, moves: &mut Moves);
    /// A request got its answer. Answers may come late, or never.
    fn answer(&mut self, now: Micros, number: u64, answer: Answer, moves: &mut Moves);
    /// Begin nothing new.
    fn finish(&mut self);
    /// Ask for nothing that may need brokers which don't come back.
    fn spare_the_missing(&mut self) {}
    /// Nothing is begun that has not ended.
    fn is_done(&self) -> bool;
    /// What it is and what it waits for, for the report of a failure.
    fn describe(&self) -> String;
}
