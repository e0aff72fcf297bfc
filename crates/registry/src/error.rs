//! Why a change of the catalog is refused, and whose fault that is.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request can never succeed as it is.
    Request,
    /// The request contradicts what the cluster holds now: it would have succeeded at another time.
    State,
    /// A limit of the cluster is reached.
    Limit,
}

/// Why a topic can't have that name. The rules are Kafka's (`org.apache.kafka.common.internals.Topic`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameFault {
    /// It has no characters at all.
    Empty,
    /// It is longer than [`crate::limits::TOPIC_NAME_BYTES`].
    TooLong,
    /// It is "." or "..".
    Dots,
    /// It has a character other than ASCII letters and digits, '.', '_' and '-'.
    Character(char),
    /// It differs from this existing topic's name only in '.' and '_', which metrics can't tell apart.
    Collides(String),
}

/// Why a change was refused. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogError {
    /// A topic of that name exists.
    TopicExists,
    /// No topic has that name or id.
    UnknownTopic,
    /// The name is against the rules.
    InvalidName(NameFault),
    /// More replicas were asked for than there are brokers to hold them, or fewer than one.
    InvalidReplicationFactor {
        /// What was asked for.
        asked: i32,
        /// The brokers that could hold replicas, or the most replicas that a partition may have.
        available: usize,
    },
    /// The number of partitions is below one, or not above the present one when adding.
    InvalidPartitions {
        /// What was asked for.
        asked: i32,
        /// How many the topic has now; zero when it is being created.
        present: usize,
    },
    /// The replicas named for a partition make no sense.
    InvalidAssignment {
        /// The partition's number.
        partition: usize,
        /// What is wrong.
        reason: AssignmentFault,
    },
    /// A configuration key is unknown, or its value is not accepted.
    InvalidConfig {
        /// The key as it was given.
        key: String,
        /// What is wrong, in words for the user.
        reason: String,
        /// The known key that the user may have meant.
        nearest: Option<String>,
    },
    /// The topic would have more than [`crate::limits::PARTITIONS_PER_TOPIC`] partitions, or the cluster more than
    /// [`crate::limits::PARTITIONS_PER_CLUSTER`].
    TooManyPartitions {
        /// The limit that would be passed.
        limit: usize,
    },
    /// The cluster has [`crate::limits::BROKERS`] brokers.
    TooManyBrokers,
    /// The topic has no partition of that number.
    UnknownPartition,
    /// The partition is not being reassigned (or not any more in that way).
    NoReassignment,
    /// A broker's description is over a limit, or its id is negative.
    InvalidBroker(String),
    /// A later start of the same broker is registered: two processes use one id.
    StaleIncarnation,
    /// The cluster has another id.
    WrongCluster {
        /// The id that it has.
        is: String,
    },
}

/// What is wrong with replicas that were named explicitly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssignmentFault {
    /// No replicas, or more than [`crate::limits::REPLICATION_FACTOR`].
    Count,
    /// This broker is named twice.
    Duplicate(i32),
    /// This broker is not known.
    UnknownBroker(i32),
    /// Partitions of one topic have different numbers of replicas.
    Uneven,
}

impl CatalogError {
    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            CatalogError::InvalidName(NameFault::Collides(_))
            | CatalogError::TopicExists
            | CatalogError::UnknownTopic
            | CatalogError::UnknownPartition
            | CatalogError::NoReassignment
            | CatalogError::InvalidReplicationFactor { .. }
            | CatalogError::StaleIncarnation
            | CatalogError::WrongCluster { .. } => Fault::State,
            CatalogError::InvalidName(_)
            | CatalogError::InvalidPartitions { .. }
            | CatalogError::InvalidAssignment { .. }
            | CatalogError::InvalidConfig { .. }
            | CatalogError::InvalidBroker(_) => Fault::Request,
            CatalogError::TooManyPartitions { .. } | CatalogError::TooManyBrokers => Fault::Limit,
        }
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameFault::Empty => f.write_str("it is empty"),
            NameFault::TooLong => write!(f, "it is longer than {} characters", crate::limits::TOPIC_NAME_BYTES),
            NameFault::Dots => f.write_str("it is '.' or '..'"),
            NameFault::Character(c) => {
                write!(
                    f,
                    "it contains {c:?}: only ASCII letters, digits, '.', '_' and '-' are allowed"
                )
            }
            NameFault::Collides(other) => write!(f, "it differs from topic '{other}' only in '.' and '_'"),
        }
    }
}

impl fmt::Display for AssignmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AssignmentFault::Count => {
                write!(
                    f,
                    "it needs between 1 and {} replicas",
                    crate::limits::REPLICATION_FACTOR
                )
            }
            AssignmentFault::Duplicate(broker) => write!(f, "broker {broker} is named twice"),
            AssignmentFault::UnknownBroker(broker) => write!(f, "there is no broker {broker}"),
            AssignmentFault::Uneven => {
                f.write_str("it has another number of replicas than the topic's first partition")
            }
        }
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatalogError::TopicExists => f.write_str("a topic of that name exists"),
            CatalogError::UnknownTopic => f.write_str("there is no such topic"),
            CatalogError::UnknownPartition => f.write_str("the topic has no such partition"),
            CatalogError::NoReassignment => f.write_str("the partition is not being reassigned"),
            CatalogError::InvalidName(fault) => write!(f, "the topic can't have that name: {fault}"),
            CatalogError::InvalidReplicationFactor { asked, available } => {
                write!(
                    f,
                    "{asked} replicas are asked for, but between 1 and {available} are possible"
                )
            }
            CatalogError::InvalidPartitions { asked, present: 0 } => {
                write!(f, "{asked} partitions are asked for, but a topic needs at least 1")
            }
            CatalogError::InvalidPartitions { asked, present } => {
                write!(
                    f,
                    "{asked} partitions are asked for, but the topic has {present} and can only grow"
                )
            }
            CatalogError::InvalidAssignment { partition, reason } => {
                write!(f, "the replicas of partition {partition} are not possible: {reason}")
            }
            CatalogError::InvalidConfig { key, reason, nearest } => {
                write!(f, "configuration '{key}': {reason}")?;
                match nearest {
                    Some(known) => write!(f, "; did you mean '{known}'?"),
                    None => Ok(()),
                }
            }
            CatalogError::TooManyPartitions { limit } => write!(f, "more than {limit} partitions are not allowed"),
            CatalogError::TooManyBrokers => write!(f, "the cluster has {} brokers already", crate::limits::BROKERS),
            CatalogError::InvalidBroker(reason) => write!(f, "the broker can't be registered: {reason}"),
            CatalogError::StaleIncarnation => f.write_str("a later start of the same broker is registered"),
            CatalogError::WrongCluster { is } => write!(f, "the cluster has another id: '{is}'"),
        }
    }
}

impl std::error::Error for CatalogError {}
