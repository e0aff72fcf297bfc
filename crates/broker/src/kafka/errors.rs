//! Each library's errors as Kafka's error codes, in matches without wildcard: a new variant must find its code.

use crate::engine::{AppendError, ReadError};
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use trimaran_coordinator as coordinator;
use trimaran_raft::NodeId;
use trimaran_registry::CatalogError;
use trimaran_registry::agent::AdminError;
use trimaran_wire::batch::BatchError;

/// A client's error: a code that it understands, and words for the people who read its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: ResponseError,
    pub(super) message: String,
    /// The record of the batch that is to blame, if it is one.
    pub(super) record: Option<i32>,
}

impl Failure {
    pub(super) fn new(error: ResponseError, message: impl Into<String>) -> Failure {
        Failure {
            error,
            message: message.into(),
            record: None,
        }
    }

    /// The same, to be blamed on a record of the batch.
    pub(super) fn of_record(self, position: i32) -> Failure {
        Failure {
            record: Some(position),
            ..self
        }
    }

    pub(super) fn code(&self) -> i16 {
        self.error.code()
    }

    /// The message as responses of the control plane carry it.
    pub(super) fn text(&self) -> Option<StrBytes> {
        Some(StrBytes::from_string(self.message.clone()))
    }
}

pub(super) fn unknown_partition() -> Failure {
    Failure::new(
        ResponseError::UnknownTopicOrPartition,
        "there is no such topic or partition",
    )
}

/// The first and only record batch of a partition, as a producer sent it.
pub(super) fn batch(error: BatchError) -> Failure {
    let code = match error {
        BatchError::Truncated | BatchError::BadLength(_) | BatchError::BadCrc { .. } => ResponseError::CorruptMessage,
        BatchError::BadMagic(_)
        | BatchError::BadCount
        | BatchError::TrailingBytes
        | BatchError::UnknownCompression(_)
        | BatchError::Compressed
        | BatchError::BadCompression
        | BatchError::BadRecord
        | BatchError::InvalidRecord { .. }
        | BatchError::MoreRecords
        | BatchError::UnreadableFrame => ResponseError::InvalidRecord,
        // Java's producer splits the batch then, and tries again.
        BatchError::TooLarge { .. } | BatchError::Grown { .. } => ResponseError::MessageTooLarge,
    };
    let failure = Failure::new(code, error.to_string());
    if let BatchError::InvalidRecord { position, .. } = error {
        return failure.of_record(position);
    }
    failure
}

/// The error for a producer. All but the client's own mistakes can be retried.
pub(super) fn append(error: &AppendError) -> Failure {
    let code = match error {
        // The catalog has the partition, so its replica is elsewhere or is being opened: ask for Metadata again. A lost
        // leadership is told in the same way, as Kafka does: the batch may survive, and an idempotent producer's retry
        // finds out.
        AppendError::UnknownGroup | AppendError::NotLeader { .. } | AppendError::NotServing | AppendError::Lost => {
            ResponseError::NotLeaderOrFollower
        }
        // Retried by every client after its back-off, without asking for Metadata: the leader is right, only slow.
        AppendError::Busy | AppendError::TooManyProducers => ResponseError::RequestTimedOut,
        AppendError::NotEnoughReplicas { .. } => ResponseError::NotEnoughReplicas,
        AppendError::NotEnoughReplicasAfterAppend { .. } => ResponseError::NotEnoughReplicasAfterAppend,
        AppendError::BadBatch(error) => return batch(*error),
        AppendError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        AppendError::Fenced => ResponseError::InvalidProducerEpoch,
        AppendError::Storage => ResponseError::KafkaStorageError,
    };
    Failure::new(code, error.to_string())
}

/// The error for a consumer's read. Java's consumer knows only some codes here, and stops at any other.
pub(super) fn read(error: &ReadError) -> Failure {
    let code = match error {
        ReadError::UnknownGroup | ReadError::NotLeader { .. } | ReadError::NotServing | ReadError::Cancelled => {
            ResponseError::NotLeaderOrFollower
        }
        ReadError::FencedEpoch => ResponseError::FencedLeaderEpoch,
        ReadError::UnknownEpoch => ResponseError::UnknownLeaderEpoch,
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Storage => ResponseError::KafkaStorageError,
    };
    Failure::new(code, error.to_string())
}

/// The error for a consumer's question for an offset. A new leader does not know its high watermark before it
/// serves: OFFSET_NOT_AVAILABLE (KIP-207), which clients know from ListOffsets v5 on.
pub(super) fn lookup(error: &ReadError, version: i16) -> Failure {
    match error {
        ReadError::NotServing if version >= 5 => Failure::new(ResponseError::OffsetNotAvailable, error.to_string()),
        ReadError::NotServing => Failure::new(ResponseError::LeaderNotAvailable, error.to_string()),
        ReadError::UnknownGroup
        | ReadError::NotLeader { .. }
        | ReadError::FencedEpoch
        | ReadError::UnknownEpoch
        | ReadError::OutOfRange { .. }
        | ReadError::Cancelled
        | ReadError::Storage => read(error),
    }
}

/// A log that can't be read: this broker's fault, and another broker may do better.
pub(super) fn storage(error: &impl core::fmt::Debug) -> Failure {
    Failure::new(
        ResponseError::KafkaStorageError,
        format!("the log can't be read: {error:?}"),
    )
}

pub(super) fn admin(error: &AdminError) -> Failure {
    match error {
        AdminError::Refused(error) => catalog(error),
        AdminError::TimedOut => Failure::new(
            ResponseError::RequestTimedOut,
            "no controller has answered in time; it may or may not be done yet",
        ),
        AdminError::Overloaded => Failure::new(
            ResponseError::RequestTimedOut,
            "this broker has too many requests under way; nothing was done",
        ),
    }
}

pub(super) fn catalog(error: &CatalogError) -> Failure {
    let code = match error {
        CatalogError::TopicExists => ResponseError::TopicAlreadyExists,
        CatalogError::UnknownTopic | CatalogError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        CatalogError::NoReassignment => ResponseError::NoReassignmentInProgress,
        CatalogError::InvalidName(_) => ResponseError::InvalidTopicException,
        CatalogError::InvalidReplicationFactor { .. } => ResponseError::InvalidReplicationFactor,
        CatalogError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
        CatalogError::InvalidAssignment { .. } => ResponseError::InvalidReplicaAssignment,
        CatalogError::InvalidConfig { .. } => ResponseError::InvalidConfig,
        CatalogError::TooManyPartitions { .. } | CatalogError::TooManyBrokers => ResponseError::PolicyViolation,
        // Answers to brokers, not to clients.
        CatalogError::InvalidBroker(_) => ResponseError::InvalidRequest,
        CatalogError::StaleIncarnation => ResponseError::StaleBrokerEpoch,
        CatalogError::WrongCluster { .. } => ResponseError::InconsistentClusterId,
    };
    Failure::new(code, error.to_string())
}

/// The error of a coordinator of consumer groups.
pub(super) fn coordinator(error: coordinator::Error) -> Failure {
    use coordinator::Error;
    let code = match error {
        Error::CoordinatorLoadInProgress => ResponseError::CoordinatorLoadInProgress,
        Error::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        Error::NotCoordinator => ResponseError::NotCoordinator,
        Error::IllegalGeneration => ResponseError::IllegalGeneration,
        Error::InconsistentGroupProtocol => ResponseError::InconsistentGroupProtocol,
        Error::InvalidGroupId => ResponseError::InvalidGroupId,
        Error::UnknownMemberId => ResponseError::UnknownMemberId,
        Error::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        Error::RebalanceInProgress => ResponseError::RebalanceInProgress,
        Error::OffsetMetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
        Error::InvalidCommitOffsetSize => ResponseError::InvalidCommitOffsetSize,
        Error::InvalidRequest => ResponseError::InvalidRequest,
        Error::NonEmptyGroup => ResponseError::NonEmptyGroup,
        Error::GroupIdNotFound => ResponseError::GroupIdNotFound,
        Error::MemberIdRequired => ResponseError::MemberIdRequired,
        Error::GroupMaxSizeReached => ResponseError::GroupMaxSizeReached,
        Error::FencedInstanceId => ResponseError::FencedInstanceId,
        Error::GroupSubscribedToTopic => ResponseError::GroupSubscribedToTopic,
        Error::UnstableOffsetCommit => ResponseError::UnstableOffsetCommit,
    };
    Failure::new(code, error.to_string())
}

/// The leader that the shard knows of instead.
pub(super) fn other_leader(error: &AppendError) -> Option<NodeId> {
    match error {
        AppendError::NotLeader { leader } => *leader,
        AppendError::UnknownGroup
        | AppendError::NotServing
        | AppendError::Busy
        | AppendError::TooManyProducers
        | AppendError::NotEnoughReplicas { .. }
        | AppendError::NotEnoughReplicasAfterAppend { .. }
        | AppendError::BadBatch(_)
        | AppendError::OutOfOrderSequence { .. }
        | AppendError::Fenced
        | AppendError::Lost
        | AppendError::Storage => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_clients_act_upon() {
        let append = |error| append(&error).code();
        assert_eq!(append(AppendError::NotLeader { leader: None }), 6);
        assert_eq!(append(AppendError::NotEnoughReplicas { in_sync: 1, min: 2 }), 19);
        assert_eq!(
            append(AppendError::NotEnoughReplicasAfterAppend { in_sync: 1, min: 2 }),
            20
        );
        assert_eq!(append(AppendError::OutOfOrderSequence { expected: 1, found: 5 }), 45);
        assert_eq!(append(AppendError::Fenced), 47);
        assert_eq!(
            append(AppendError::BadBatch(BatchError::BadCrc { stored: 1, computed: 2 })),
            2
        );
        assert_eq!(append(AppendError::BadBatch(BatchError::BadCount)), 87);
        assert_eq!(read(&ReadError::FencedEpoch).code(), 74);
        assert_eq!(read(&ReadError::UnknownEpoch).code(), 75);
        assert_eq!(lookup(&ReadError::NotServing, 5).code(), 78);
        assert_eq!(lookup(&ReadError::NotServing, 4).code(), 5);
        assert_eq!(catalog(&CatalogError::TopicExists).code(), 36);
        assert_eq!(
            catalog(&CatalogError::InvalidPartitions { asked: 0, present: 0 }).code(),
            37
        );
        assert_eq!(
            catalog(&CatalogError::InvalidReplicationFactor { asked: 4, available: 3 }).code(),
            38
        );
    }
}
