//! The requests that a coordinator takes, and its replies.
//!
//! The fields are those of Kafka's requests, with the differences between their versions turned into flags. What a client
//! sends is bounded by [`limits`](crate::limits); the host need not check lengths beforehand.

use crate::{Error, Generation, Offset, TopicId};
use bytes::Bytes;

/// The name of a waiter: given with a request, and returned with its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as its request")]
pub enum Request {
    JoinGroup(JoinGroup),
    SyncGroup(SyncGroup),
    Heartbeat(Heartbeat),
    LeaveGroup(LeaveGroup),
    OffsetCommit(OffsetCommit),
    OffsetFetch(OffsetFetch),
    DescribeGroups(DescribeGroups),
    ListGroups(ListGroups),
    DeleteGroups(DeleteGroups),
    OffsetDelete(OffsetDelete),
    /// Not of Kafka's protocol: a topic was deleted, and no group keeps offsets of it any longer.
    DeleteTopic(DeleteTopic),
}

/// The reply to a request: each request gets the one of its name, once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as its request")]
pub enum Reply {
    JoinGroup(Result<Joined, JoinRefused>),
    SyncGroup(Result<Synced, Error>),
    Heartbeat(Result<(), Error>),
    LeaveGroup(Result<Vec<LeaveOutcome>, Error>),
    /// The topics and partitions in the order of the request.
    OffsetCommit(Vec<TopicOutcome>),
    /// The groups in the order of the request.
    OffsetFetch(Vec<GroupOffsets>),
    /// The groups in the order of the request.
    DescribeGroups(Vec<GroupDescription>),
    ListGroups(Result<Vec<ListedGroup>, Error>),
    /// The groups in the order of the request.
    DeleteGroups(Vec<(String, Result<(), Error>)>),
    /// The topics and partitions in the order of the request.
    OffsetDelete(Result<Vec<TopicOutcome>, Error>),
    DeleteTopic(Result<(), Error>),
}

/// JoinGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group: String,
    /// The member's id; empty if it has none yet.
    pub member_id: String,
    /// The static member's instance id (KIP-345).
    pub instance_id: Option<String>,
    /// The client id of the request's header.
    pub client_id: String,
    /// The address from which the client is connected, as Kafka shows it: `/127.0.0.1`.
    pub client_host: String,
    /// How long the member may be silent.
    pub session_timeout_ms: i32,
    /// How long a rebalance may take; the session time-out where the version has no such field.
    pub rebalance_timeout_ms: i32,
    /// The kind of group: `consumer`, `connect`, …
    pub protocol_type: String,
    /// The assignors that the member supports, in the order of its preference.
    pub protocols: Vec<Protocol>,
    /// Whether a new dynamic member is given its id first (from version 4 on, KIP-394).
    pub member_id_required: bool,
    /// Whether the client knows `skip_assignment` (from version 9 on, KIP-814).
    pub knows_skip_assignment: bool,
    /// Why the member joins (KIP-800); kept for the next rebalance's reason.
    pub reason: Option<String>,
    /// 128 random bits: a new member's id is made of them.
    pub random: u128,
}

/// A protocol that a member supports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// Its name, such as `range`.
    pub name: String,
    /// The member's subscription, as the protocol encodes it.
    pub metadata: Bytes,
}

/// A member has joined a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: Generation,
    /// The kind of group.
    pub protocol_type: String,
    /// The protocol that the members have chosen.
    pub protocol_name: String,
    /// The member that assigns.
    pub leader: String,
    /// Whether the leader need not assign: the assignment in force goes on.
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader gets to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its instance id if it is static.
    pub instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// A member has not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// The reason.
    pub error: Error,
    /// The member's id: the one to join with if it is `MEMBER_ID_REQUIRED`, otherwise that of the request.
    pub member_id: String,
}

/// SyncGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group: String,
    /// The generation that the member has joined.
    pub generation: Generation,
    /// The member's id.
    pub member_id: String,
    /// The static member's instance id.
    pub instance_id: Option<String>,
    /// The kind of group, if the version has the field.
    pub protocol_type: Option<String>,
    /// The chosen protocol, if the version has the field.
    pub protocol_name: Option<String>,
    /// Member id and assignment, from the leader only.
    pub assignments: Vec<(String, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The kind of group.
    pub protocol_type: String,
    /// The chosen protocol.
    pub protocol_name: String,
    /// The assignment, as the protocol encodes it.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group: String,
    /// The member's generation.
    pub generation: Generation,
    /// The member's id.
    pub member_id: String,
    /// The static member's instance id.
    pub instance_id: Option<String>,
}

/// LeaveGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveGroup {
    /// The group.
    pub group: String,
    /// The members that leave.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves, or that an administrator removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty if only the instance id is known.
    pub member_id: String,
    /// Its instance id.
    pub instance_id: Option<String>,
}

/// The outcome for one member that was to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveOutcome {
    /// The member as the request named it.
    pub member: LeavingMember,
    /// Whether it has left.
    pub result: Result<(), Error>,
}

/// OffsetCommit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The group.
    pub group: String,
    /// The member's generation, or [`Generation::NONE`].
    pub generation: Generation,
    /// The member's id; empty for a consumer without membership.
    pub member_id: String,
    /// The static member's instance id.
    pub instance_id: Option<String>,
    /// How long the offsets are kept, where the client says so (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// Whether a generation of a group that doesn't exist is `GROUP_ID_NOT_FOUND` (from version 9 on) rather than
    /// `ILLEGAL_GENERATION`.
    pub knows_group_id_not_found: bool,
    /// The offsets.
    pub topics: Vec<TopicCommit>,
}

/// The offsets of a topic to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicCommit {
    /// The topic.
    pub topic: String,
    /// The topic's id, if the request names it.
    pub topic_id: Option<TopicId>,
    /// The offsets.
    pub partitions: Vec<PartitionCommit>,
}

/// A partition's offset to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionCommit {
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, if the client knows it (KIP-320).
    pub leader_epoch: Option<i32>,
    /// The client's note.
    pub metadata: String,
}

/// The outcome for the partitions of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicOutcome {
    /// The topic.
    pub topic: String,
    /// The topic's id, if the request named it.
    pub topic_id: Option<TopicId>,
    /// Each partition's outcome.
    pub partitions: Vec<(i32, Result<(), Error>)>,
}

/// OffsetFetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetFetch {
    /// The groups.
    pub groups: Vec<GroupFetch>,
    /// Whether offsets of open transactions are waited for (KIP-447).
    pub require_stable: bool,
}

/// The offsets to be fetched of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFetch {
    /// The group.
    pub group: String,
    /// Topics and partitions; none for all that the group has committed.
    pub topics: Option<Vec<(String, Vec<i32>)>>,
}

/// A group's committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    /// The group.
    pub group: String,
    /// The topics in the order of the request, or by name if it asks for all.
    pub topics: Result<Vec<TopicOffsets>, Error>,
}

/// A topic's committed offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicOffsets {
    /// The topic.
    pub topic: String,
    /// The partitions in the order of the request, or by number if it asks for all.
    pub partitions: Vec<PartitionOffset>,
}

/// A partition's committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: i32,
    /// The offset, or −1 if nothing is committed.
    pub offset: Offset,
    /// The leader epoch, if the commit had one.
    pub leader_epoch: Option<i32>,
    /// The note; empty if nothing is committed.
    pub metadata: String,
    /// `UNSTABLE_OFFSET_COMMIT` if a transaction is open and the request asks for stable offsets.
    pub error: Option<Error>,
}

/// DescribeGroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeGroups {
    /// The groups.
    pub groups: Vec<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// Its state and members. A group that doesn't exist is `GROUP_ID_NOT_FOUND`, which versions before 6 show as a
    /// group without error in the state `Dead`.
    pub description: Result<Description, Error>,
}

/// A group's state and members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The state.
    pub state: GroupState,
    /// The kind of group; empty if it never had members.
    pub protocol_type: String,
    /// The protocol in force; empty unless the group is stable.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its instance id if it is static.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its metadata for the protocol in force; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// The state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Its members are joining the next generation.
    PreparingRebalance,
    /// Its members have joined, and wait for the leader's assignment.
    CompletingRebalance,
    /// Its members have their assignments.
    Stable,
    /// It is being deleted.
    Dead,
}

impl GroupState {
    /// The name that Kafka's tools show and filter by.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// ListGroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListGroups {
    /// Names of the states to be listed, in any case; all if there are none.
    pub states: Vec<String>,
    /// Names of the types to be listed, in any case; all if there are none. All groups here are `classic`.
    pub types: Vec<String>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// The kind of group; empty if it never had members.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
    /// Its type: `classic`.
    pub group_type: &'static str,
}

/// DeleteGroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteGroups {
    /// The groups.
    pub groups: Vec<String>,
}

/// OffsetDelete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetDelete {
    /// The group.
    pub group: String,
    /// Topics and partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// The topic whose offsets go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteTopic {
    /// The topic.
    pub topic: String,
}
