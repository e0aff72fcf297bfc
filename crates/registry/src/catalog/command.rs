//! What stands in the metadata group's log.

use super::Broker;
use crate::{BrokerId, CatalogError, CommandIndex, FolderId, Incarnation, PartitionIndex, TopicId, limits};
use core::fmt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version that this build writes. Version 1 is the only one so far: new changes are added at the end, and old ones
/// stay as they are.
const VERSION: u8 = 1;

/// Names a request for as long as anyone may retry it (Raft dissertation, section 6.3: client sessions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The broker that asks.
    pub broker: BrokerId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Counts its requests, from one.
    pub sequence: u64,
}

/// A change as it stands in the log: every decision is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The cluster's id.
    FoundCluster(String),
    /// A broker started, or moved. Written by versions that did not know folders; [`Change::RegisterFolder`] is what is
    /// written now.
    RegisterBroker(Broker),
    /// A topic with the replicas of each of its partitions.
    CreateTopic {
        /// Chosen by the asker.
        id: TopicId,
        /// Checked against the rules.
        name: String,
        /// By partition, the preferred leader first.
        partitions: Vec<Vec<BrokerId>>,
        /// Its own settings, checked.
        config: BTreeMap<String, String>,
    },
    /// A topic goes, and its groups with it.
    DeleteTopic(TopicId),
    /// More partitions, if the topic has exactly `present` of them.
    AddPartitions {
        /// The topic.
        id: TopicId,
        /// How many it had when this was planned.
        present: u32,
        /// The replicas of the new ones.
        partitions: Vec<Vec<BrokerId>>,
    },
    /// All of a topic's own settings.
    ConfigureTopic {
        /// The topic.
        id: TopicId,
        /// Checked.
        config: BTreeMap<String, String>,
    },
    /// The next so many producer ids belong to the asker.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// A broker started, or moved, with this data folder.
    RegisterFolder {
        /// As it is now.
        broker: Broker,
        /// Where it has its data.
        folder: FolderId,
    },
    /// A partition is being moved to these brokers.
    Reassign {
        /// The topic.
        id: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// Checked; the preferred leader first.
        replicas: Vec<BrokerId>,
    },
    /// A partition's reassignment was cancelled.
    CancelReassignment {
        /// The topic.
        id: TopicId,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The reassignment that was asked for by the command `since` is done.
    FinishReassignment {
        /// The topic.
        id: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// Which one.
        since: CommandIndex,
    },
    /// Nothing: what was asked for could not be done. It stands in the log because a controller that has been deposed
    /// and doesn't know it may refuse what the cluster could do; here, it can't.
    Refuse(CatalogError),
}

/// A change with the request that it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Who asked: a request is applied at most once, however often it stands in the log.
    pub request: RequestId,
    /// The asker will not retry any request before this one: what is remembered of them can go.
    pub settled: u64,
    /// What changes.
    pub change: Change,
}

/// Why bytes are no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than [`limits::MESSAGE_BYTES`].
    TooLong(usize),
    /// Written by a later version.
    Version(u8),
    /// Not what the version says.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::TooLong(bytes) => write!(f, "{bytes} bytes are more than {}", limits::MESSAGE_BYTES),
            DecodeError::Version(version) => write!(f, "version {version} is not known here"),
            DecodeError::Malformed => f.write_str("the bytes are not what their version says"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Command {
    /// Its bytes in the log: a version, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        crate::codec::encode(VERSION, self)
    }

    /// The command in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        crate::codec::decode(VERSION, bytes)
    }
}
