//! The words of the Raft paper, as types.

use crate::Configuration;
use alloc::boxed::Box;
use bytes::Bytes;
use core::fmt;
use core::time::Duration;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

word! {
    /// A member of a consensus group; on a broker, the broker's id.
    NodeId
}
word! {
    /// One consensus group. Never used again once its group is gone.
    GroupId
}
word! {
    /// A logical clock (Raft paper, section 5.1): at most one leader in each. Zero is before the first election.
    Term
}
word! {
    /// The position of an entry in a group's log, counted from one. Zero is the place before the first entry.
    LogIndex
}
word! {
    /// Names one durable write of one group. Tokens are issued, and complete, in increasing order.
    Token
}

word! {
    /// Which life a member is in. Zero until it has lost what it promised; each loss begins a higher one.
    ///
    /// Its acknowledgements name it, so that a late one of an earlier life vouches for nothing in a later one.
    Life
}
word! {
    /// Names one read that waits for its index: chosen by the caller, never looked into.
    ReadId
}

impl Life {
    /// Marks what is no life: lives are wall-clock times, or count up from one.
    const RETIRING: u64 = 1 << 63;

    /// The life that a member names in [`crate::Body::Lost`] that has lost nothing, but asks to be made a learner: the
    /// end of its log. The answer names the same, so that a late one is known: since then it would have taken entries.
    pub fn retiring(last: LogIndex) -> Life {
        Life(last.0 | Life::RETIRING)
    }

    /// Whether it is one of those.
    pub fn is_retiring(self) -> bool {
        self.0 & Life::RETIRING != 0
    }
}

impl Term {
    /// The term before the first election.
    pub const ZERO: Term = Term(0);

    /// The term after this one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl LogIndex {
    /// The place before the first entry.
    pub const ZERO: LogIndex = LogIndex(0);

    /// Beyond every entry.
    pub const MAX: LogIndex = LogIndex(u64::MAX);

    /// The index after this one.
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }

    /// The index before this one; the place before the first entry has none before it.
    pub fn prev(self) -> LogIndex {
        LogIndex(self.0.saturating_sub(1))
    }
}

/// A moment of the caller's monotonic clock, in microseconds since an origin of its choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The clock's origin.
    pub const ZERO: Instant = Instant(0);

    /// The time that has passed since `earlier`; zero if it is not after it.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        // Not by `as_micros`: steps add to instants all the time, and 128 bits take longer.
        let seconds = rhs.as_secs().saturating_mul(1_000_000);
        let micros = seconds.saturating_add(u64::from(rhs.subsec_micros()));
        Instant(self.0.saturating_add(micros))
    }
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Payload {
    /// A new leader's first entry: committing it commits everything before it (Raft paper, section 5.4.2).
    Blank,
    /// The caller's bytes. The core looks only at their length.
    Data(Bytes),
    /// From here on these are the group's members (Raft paper, section 6).
    Configuration(Box<Configuration>),
}

impl Payload {
    /// Bytes that count against flow-control limits.
    pub fn len(&self) -> usize {
        match self {
            Payload::Blank => 0,
            Payload::Data(bytes) => bytes.len(),
            Payload::Configuration(configuration) => configuration.len(),
        }
    }

    /// Whether nothing is carried.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// Its place in the log.
    pub index: LogIndex,
    /// The term of the leader that created it.
    pub term: Term,
    /// Its content.
    pub payload: Payload,
}

/// The persistent state of a member beside the log (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// The candidate that got this node's vote in `term`. Never cleared within a term.
    pub vote: Option<NodeId>,
    /// This member once lost what it had promised (its disk was wiped or damaged, or it was added under an id that
    /// had belonged here before): it neither votes nor stands until its log durably reaches this index.
    /// [`LogIndex::MAX`]: no leader has said yet up to where. Zero: it never lost anything.
    pub barred: LogIndex,
    /// Counts its losses: the caller chooses a higher one than ever before (a wall clock will do) when it sets
    /// `barred` to [`LogIndex::MAX`]. Zero: it never lost anything.
    pub life: Life,
}

impl HardState {
    /// The state of a member that holds nothing of what it may have promised: it takes part again once a leader has
    /// seen to that. `known` is what is still known of its term and vote; `life` must be higher than in any earlier
    /// loss.
    pub fn lost(known: HardState, life: Life) -> HardState {
        HardState {
            barred: LogIndex::MAX,
            life,
            ..known
        }
    }
}

/// A position in the log, with what is needed to go on from there without what came before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// The last entry that it stands for.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// The caller's: its state there, or what leads to it. The core never looks into it.
    pub data: Bytes,
}

/// The liveness of a node, as far as the caller knows. Evidence, never proof: it starts elections, it decides none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// Heard from within the caller's interval, in both directions.
    Alive,
    /// Silent for longer than the caller's interval.
    Suspected,
    /// Its connection closed and an immediate reconnect was refused: its process is gone.
    Dead,
}
