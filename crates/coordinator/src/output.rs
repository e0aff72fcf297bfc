//! The effects that a coordinator asks its host for.

use crate::{Reply, Ticket};
use bytes::Bytes;

/// The replies to be sent and the records to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Replies, each with the ticket of its request.
    pub replies: Vec<(Ticket, Reply)>,
    /// Writes, in the order in which they must be in the log. The host appends each as one batch with `acks=all`, and
    /// reports its outcome to [`Coordinator::written`](crate::Coordinator::written), in the same order.
    pub writes: Vec<Write>,
}

/// Records that take effect together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The name under which the outcome is reported.
    pub id: WriteId,
    /// At least one record, and at most [`limits::WRITE_BYTES`](crate::limits::WRITE_BYTES) altogether.
    pub records: Vec<Record>,
}

/// The number of a write. Never used twice by the same coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// A record of the log, as Kafka writes it to `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value; none to delete what the key names.
    pub value: Option<Bytes>,
}

impl Record {
    /// The bytes of key and value.
    pub fn len(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Whether key and value are empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The reason why a write is not known to be committed. Either way the leadership of this coordinator is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The records were not appended: the replica doesn't lead.
    NotLeader,
    /// The records may have been appended, and may yet be committed.
    Unknown,
}
