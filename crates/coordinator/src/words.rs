//! The words that requests, records and the state share.

use core::fmt;

/// The time of a call. The host reads both clocks; the crate reads none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds since any moment in the past. Never goes back. Sessions and rebalances are timed by it.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970. May be set. Commits are stamped and expire by it.
    pub unix_ms: i64,
}

/// The number of a group's generation: one more with each completed rebalance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub i32);

impl Generation {
    /// The generation that a consumer without membership, or an administrator, commits with.
    pub const NONE: Generation = Generation(-1);
}

/// A topic's id, where the client or the host knows it.
pub type TopicId = [u8; 16];

/// The reason for a refusal, named as in Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Error {
    /// `COORDINATOR_LOAD_IN_PROGRESS`: too much waits to be written; the client asks again.
    CoordinatorLoadInProgress,
    /// `COORDINATOR_NOT_AVAILABLE`: the group is being deleted; the client asks again.
    CoordinatorNotAvailable,
    /// `NOT_COORDINATOR`: this replica doesn't lead, or has just stopped to.
    NotCoordinator,
    /// `ILLEGAL_GENERATION`
    IllegalGeneration,
    /// `INCONSISTENT_GROUP_PROTOCOL`
    InconsistentGroupProtocol,
    /// `INVALID_GROUP_ID`: empty, or longer than [`limits::GROUP_ID_BYTES`](crate::limits::GROUP_ID_BYTES).
    InvalidGroupId,
    /// `UNKNOWN_MEMBER_ID`
    UnknownMemberId,
    /// `INVALID_SESSION_TIMEOUT`
    InvalidSessionTimeout,
    /// `REBALANCE_IN_PROGRESS`
    RebalanceInProgress,
    /// `OFFSET_METADATA_TOO_LARGE`
    OffsetMetadataTooLarge,
    /// `INVALID_COMMIT_OFFSET_SIZE`: the commit, or all that the coordinator would keep with it, is too large.
    InvalidCommitOffsetSize,
    /// `INVALID_REQUEST`: a field breaks a limit that has no error of Kafka's.
    InvalidRequest,
    /// `NON_EMPTY_GROUP`
    NonEmptyGroup,
    /// `GROUP_ID_NOT_FOUND`
    GroupIdNotFound,
    /// `MEMBER_ID_REQUIRED`
    MemberIdRequired,
    /// `GROUP_MAX_SIZE_REACHED`
    GroupMaxSizeReached,
    /// `FENCED_INSTANCE_ID`
    FencedInstanceId,
    /// `GROUP_SUBSCRIBED_TO_TOPIC`
    GroupSubscribedToTopic,
    /// `UNSTABLE_OFFSET_COMMIT`: a transaction that commits this offset is open.
    UnstableOffsetCommit,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::CoordinatorLoadInProgress => "the coordinator has too much to write; ask again",
            Error::CoordinatorNotAvailable => "the group is being deleted; ask again",
            Error::NotCoordinator => "this broker doesn't coordinate the group; look up its coordinator",
            Error::IllegalGeneration => "the group is in another generation; join it again",
            Error::InconsistentGroupProtocol => "no protocol is supported by all members of the group",
            Error::InvalidGroupId => "the group id is empty or too long",
            Error::UnknownMemberId => "the group has no such member; join it without a member id",
            Error::InvalidSessionTimeout => "the session time-out is out of the broker's bounds",
            Error::RebalanceInProgress => "the group rebalances; join it again",
            Error::OffsetMetadataTooLarge => "the metadata of a committed offset is too long",
            Error::InvalidCommitOffsetSize => "the commit is too large",
            Error::InvalidRequest => "a field of the request is too long or out of range",
            Error::NonEmptyGroup => "the group has members; stop them first",
            Error::GroupIdNotFound => "there is no such group",
            Error::MemberIdRequired => "join again with the member id of this response",
            Error::GroupMaxSizeReached => "the group has as many members as it may",
            Error::FencedInstanceId => "another member has joined with this instance id",
            Error::GroupSubscribedToTopic => "the group is subscribed to the topic; stop its members first",
            Error::UnstableOffsetCommit => "a transaction that commits the offset is open; ask again",
        })
    }
}

impl std::error::Error for Error {}
