//! What a history can show that it must not, in the words of Jepsen's Kafka workload.

use crate::checker::{Law, Violation};
use std::fmt;

/// A kind of anomaly. The names are those of `jepsen.tests.kafka`, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    /// An acknowledged record is not in the log.
    LostWrite,
    /// One log holds a record twice.
    Duplicate,
    /// An offset was seen with two records, or a record at two offsets, by those who were told or read it or by the
    /// replicas in the end.
    InconsistentOffsets,
    /// A record of which its producer was told that it is not stored is in the log, or was read (Adya's G1a).
    AbortedRead,
    /// A record was read that is not in the log in the end: it was shown before it was committed, and taken back.
    PrecommittedRead,
    /// An acknowledged record was read by nobody, although a consumer read to the end.
    Unseen,
    /// A consumer's poll begins at or before what its last poll ended with.
    NonmonotonicPoll,
    /// A consumer's poll leaves out records behind what its last poll ended with.
    PollSkip,
    /// The same within one poll.
    IntNonmonotonicPoll,
    /// The same within one poll.
    IntPollSkip,
    /// A producer's records are in the log in another order than it sent them.
    NonmonotonicSend,
    /// The same within one batch.
    IntNonmonotonicSend,
    /// Other records are between those of one batch.
    IntSendSkip,
    /// A part of a batch is in the log, and the rest is not. Not Jepsen's: it counts transactions, not batches.
    TornBatch,
    /// A record that was sent after another was acknowledged is before it in the log. Jepsen finds it as a cycle of
    /// write dependencies and real time.
    G0Realtime,
    /// Offsets that stand for no record between some that do. Not Jepsen's: transactions leave such gaps, and there are
    /// none here yet.
    OffsetGap,
    /// A record that nobody sent, or not yet, or not there.
    Invented,
}

impl Anomaly {
    /// All of them.
    pub const ALL: [Anomaly; 17] = [
        Anomaly::LostWrite,
        Anomaly::Duplicate,
        Anomaly::InconsistentOffsets,
        Anomaly::AbortedRead,
        Anomaly::PrecommittedRead,
        Anomaly::Unseen,
        Anomaly::NonmonotonicPoll,
        Anomaly::PollSkip,
        Anomaly::IntNonmonotonicPoll,
        Anomaly::IntPollSkip,
        Anomaly::NonmonotonicSend,
        Anomaly::IntNonmonotonicSend,
        Anomaly::IntSendSkip,
        Anomaly::TornBatch,
        Anomaly::G0Realtime,
        Anomaly::OffsetGap,
        Anomaly::Invented,
    ];

    /// Its name in the field.
    pub fn name(self) -> &'static str {
        match self {
            Anomaly::LostWrite => "lost-write",
            Anomaly::Duplicate => "duplicate",
            Anomaly::InconsistentOffsets => "inconsistent-offsets",
            Anomaly::AbortedRead => "aborted-read (G1a)",
            Anomaly::PrecommittedRead => "precommitted-read",
            Anomaly::Unseen => "unseen",
            Anomaly::NonmonotonicPoll => "nonmonotonic-poll",
            Anomaly::PollSkip => "poll-skip",
            Anomaly::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Anomaly::IntPollSkip => "int-poll-skip",
            Anomaly::NonmonotonicSend => "nonmonotonic-send",
            Anomaly::IntNonmonotonicSend => "int-nonmonotonic-send",
            Anomaly::IntSendSkip => "int-send-skip",
            Anomaly::TornBatch => "torn-batch",
            Anomaly::G0Realtime => "G0-realtime",
            Anomaly::OffsetGap => "offset-gap",
            Anomaly::Invented => "invented",
        }
    }

    /// The law that it breaks.
    pub fn law(self) -> Law {
        match self {
            Anomaly::LostWrite => Law::AcknowledgedStays,
            Anomaly::Duplicate => Law::NoDuplicate,
            Anomaly::InconsistentOffsets => Law::OneOffset,
            Anomaly::AbortedRead => Law::RefusedStaysOut,
            Anomaly::PrecommittedRead => Law::ReadStays,
            Anomaly::Unseen => Law::AcknowledgedIsRead,
            Anomaly::NonmonotonicPoll | Anomaly::PollSkip | Anomaly::IntNonmonotonicPoll | Anomaly::IntPollSkip => {
                Law::ReadsInOrder
            }
            Anomaly::NonmonotonicSend | Anomaly::IntNonmonotonicSend | Anomaly::IntSendSkip | Anomaly::G0Realtime => {
                Law::SentInOrder
            }
            Anomaly::TornBatch => Law::BatchesStayWhole,
            Anomaly::OffsetGap => Law::OffsetsContiguous,
            Anomaly::Invented => Law::NothingInvented,
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One anomaly that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which kind.
    pub anomaly: Anomaly,
    /// In which partition, if it can be said: an index into the observer's list.
    pub partition: Option<usize>,
    /// What exactly was seen.
    pub detail: String,
}

impl Finding {
    /// Something found in a partition.
    pub fn new(anomaly: Anomaly, partition: usize, detail: impl Into<String>) -> Finding {
        Finding {
            anomaly,
            partition: Some(partition),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.anomaly, self.detail)
    }
}

impl From<Finding> for Violation {
    fn from(finding: Finding) -> Violation {
        Violation::new(finding.anomaly.law(), finding.to_string())
    }
}
