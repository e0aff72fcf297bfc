//! What stands in the log of a coordinator's partition.

use crate::limits;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The version that this build writes. Version 1 is the only one so far.
const VERSION: u8 = 1;

/// A position in a partition: that of the next record to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offset(pub i64);

/// What a consumer commits for a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Where it wants to go on.
    pub offset: Offset,
    /// The leader epoch of the last record it has read, if it knows (KIP-320).
    pub leader_epoch: Option<i32>,
    /// A note of its own; comes back as it was.
    pub metadata: String,
}

/// What a commit does to what was committed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It takes its place, even with a smaller offset: a consumer may go back (Kafka).
    Replace,
    /// It takes its place unless its offset is smaller: commits that overtake each other do no harm.
    Advance,
}

/// A change of a coordinator's state. Times are those of the leader that proposed it, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A group's consumer has processed what lies before these offsets.
    Commit {
        /// The group.
        group: String,
        /// The time.
        now_ms: i64,
        /// What becomes of earlier commits.
        mode: Mode,
        /// Topic, partition, and what to remember of it.
        offsets: Vec<(String, i32, Commit)>,
    },
    /// The group has members: nothing of it expires.
    Occupied {
        /// The group.
        group: String,
    },
    /// The group's last member has gone.
    Emptied {
        /// The group.
        group: String,
        /// The time, from which retention counts.
        now_ms: i64,
    },
    /// What has been kept long enough goes.
    Expire {
        /// The time.
        now_ms: i64,
        /// How long offsets of an empty group are kept.
        retention_ms: u64,
    },
    /// These offsets go.
    DeleteOffsets {
        /// The group.
        group: String,
        /// Topics and partitions.
        partitions: Vec<(String, i32)>,
    },
    /// The group goes, with all its offsets, unless it has members.
    DeleteGroup {
        /// The group.
        group: String,
    },
    /// A topic was deleted: no group has offsets of it any more.
    DeleteTopic {
        /// The topic.
        topic: String,
    },
}

/// Why bytes are no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than [`limits::COMMAND_BYTES`].
    TooLong(usize),
    /// Written by a later version.
    Version(u8),
    /// Not what the version says.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::TooLong(bytes) => write!(f, "{bytes} bytes are more than {}", limits::COMMAND_BYTES),
            DecodeError::Version(version) => write!(f, "version {version} is not known here"),
            DecodeError::Malformed => f.write_str("the bytes are not what their version says"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Command {
    /// Its bytes in the log: a version, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        // Growing a Vec never fails, and none of our types has a length that postcard can't know beforehand.
        postcard::to_extend(self, vec![VERSION]).expect("our own values can be encoded")
    }

    /// The command in these bytes.
    ///
    /// # Errors
    /// [`DecodeError`]; whoever reads a committed command and gets one must stop, since its state would differ from that
    /// of others.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        if bytes.len() > limits::COMMAND_BYTES {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        match bytes.split_first() {
            Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
                Ok((command, [])) => Ok(command),
                _ => Err(DecodeError::Malformed),
            },
            Some((version, _)) => Err(DecodeError::Version(*version)),
            None => Err(DecodeError::Malformed),
        }
    }
}
