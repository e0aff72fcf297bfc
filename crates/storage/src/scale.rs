//! The two scales: Raft counts entries by index and term, Kafka counts records by offset and leader epoch.

use trimaran_raft::Term;
use trimaran_wire::batch::{LeaderEpoch, Offset};

/// The offset after the last committed record: exclusive, unlike a commit index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HighWatermark(pub Offset);

/// The leader epoch of a term: the same number. Kafka's are 31 bits wide; terms beyond them are never reached.
pub fn leader_epoch(term: Term) -> LeaderEpoch {
    LeaderEpoch(i32::try_from(term.0).unwrap_or(i32::MAX))
}

/// The term of a leader epoch; none for the negative ones, by which Kafka says that it knows none.
pub fn term(epoch: LeaderEpoch) -> Option<Term> {
    u64::try_from(epoch.0).ok().map(Term)
}
