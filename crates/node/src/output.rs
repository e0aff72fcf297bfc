//! What a node wants done, and what it has to tell an operator.

use crate::opening::OpenJob;
use crate::view::ClusterView;
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use trimaran_multiraft::{Contradiction, Heartbeat, Input as ShardInput, Members, QuorumLost, RefusedEntries, Safety};
use trimaran_raft::{GroupId, Liveness, NodeId, Term};
use trimaran_registry::agent::{AdminError, AdminReply, OpenReplica, Ticket};
use trimaran_registry::catalog::{Broker, DecodeError};
use trimaran_registry::founding::Decision;
use trimaran_registry::starts::Start;
use trimaran_registry::{BrokerId, CommandIndex, FolderId, Founders};
use trimaran_storage::log::LogError;
use trimaran_wire::batch::BatchError;
use trimaran_wire::peer::Frame;

/// The answer to an administrative request.
pub type AdminAnswer = Result<AdminReply, AdminError>;

/// An output of a [`Node`](crate::Node). To be carried out in the order in which they come.
pub enum Output {
    /// For the shard that drives the group.
    Shard(GroupId, ShardInput),
    /// For all shards.
    AllShards(Broadcast),
    /// Append a batch to the metadata group, for [`trimaran_multiraft::Acks::All`]. Nobody waits for its outcome.
    Propose(BytesMut),
    /// Run the job where blocking is allowed, and return its outcome by [`Input::Opened`](crate::Input::Opened).
    Open(Box<OpenJob>),
    /// Ask the group's shard for the replica's status: [`Input::Status`](crate::Input::Status).
    AskStatus(GroupId),
    /// Delete what was damaged of a replica that is whole again.
    DeleteQuarantine(GroupId),
    /// To another broker, through a third one if [`Output::Routes`] says so. May be lost.
    Send(NodeId, Frame),
    /// To another broker directly, before everything that waits. May be lost.
    Heartbeat(NodeId, Heartbeat),
    /// From now on what the cluster has to know reaches these brokers through others.
    Routes(BTreeMap<NodeId, NodeId>),
    /// The brokers that did not found the cluster, and where they are reached.
    Newcomers(Vec<Arc<Broker>>),
    /// Note durably who founded the cluster, and with which folders, before the outputs that follow.
    NoteFounders(Founders, Option<Vec<(BrokerId, FolderId)>>),
    /// Note durably that this folder is part of the metadata group, before the outputs that follow: should its journal
    /// be lost, it must not take itself for a new one.
    NoteMembership,
    /// Note a start of another broker that the catalog tells of. Others ask for it, also when this one starts.
    NoteStart(BrokerId, Start),
    /// What requests are answered from, from now on.
    Publish(Box<ClusterView>),
    /// The answer to a request.
    Reply(Ticket, AdminAnswer),
    /// For the operator.
    Notice(Notice),
    /// This process must stop.
    Fatal(Fatal),
}

/// An input for every shard.
#[derive(Clone, Copy, Debug)]
pub enum Broadcast {
    /// Evidence about a broker.
    Liveness(NodeId, Liveness),
    /// A broker is back.
    Restored(NodeId),
    /// Delete what retention allows; the present in milliseconds since 1970.
    Retain(i64),
}

impl Broadcast {
    /// As one shard is told.
    pub fn to_shard(self) -> ShardInput {
        match self {
            Broadcast::Liveness(node, liveness) => ShardInput::Liveness(node, liveness),
            Broadcast::Restored(node) => ShardInput::Restored(node),
            Broadcast::Retain(now_ms) => ShardInput::Retain { now_ms },
        }
    }
}

/// What an operator may want to know.
#[derive(Debug)]
pub enum Notice {
    /// How the metadata group is opened.
    Founding(Decision),
    /// This broker's folder holds nothing, and these brokers have not said whether the cluster is new.
    FoundingWaitsFor(Vec<BrokerId>),
    /// A replica is opened.
    Opening(OpenReplica),
    /// A replica is open, and holds what it promised.
    Opened(GroupId),
    /// A replica holds nothing of what it may have promised, and is filled by the others.
    Lost(GroupId),
    /// A replica is damaged; what it held is quarantined, and the others fill it.
    Damaged(GroupId, LogError),
    /// A replica's records can't be written: its group does without it, and the others fill it.
    Unwritable(GroupId, LogError),
    /// A replica can't be opened: it takes no part, and is tried again after a while. Said once.
    CannotOpen(GroupId, LogError),
    /// A replica that was filled is whole again.
    Whole(GroupId),
    /// A replica is closed.
    Closed(GroupId),
    /// A group has been led here since this term, or is led here no more.
    Leadership {
        /// The group.
        group: GroupId,
        /// The term.
        term: Term,
        /// Whether it is led here.
        leads: bool,
    },
    /// A group that had no leader for so long is led here.
    FailedOver(GroupId, Duration),
    /// The members of a group led here have changed.
    Members(Members),
    /// A group led here decides nothing any more.
    QuorumLost(QuorumLost),
    /// A replica here refuses what its leader sent, and takes no part any more.
    Refused(RefusedEntries),
    /// Idempotent producers were forgotten for lack of room: of which group, and how many.
    ProducersForgotten(GroupId, u64),
    /// A leader contradicts what a replica here holds; and what an operator calls the partition.
    Contradiction(Contradiction, String),
    /// A message of a peer's agent can't be used.
    Rejected(BrokerId, DecodeError),
    /// A broker's liveness.
    Liveness(NodeId, Liveness),
    /// The link to a broker is cut, and what the cluster has to know goes through another one.
    Rerouted {
        /// The broker.
        to: NodeId,
        /// The other one.
        through: NodeId,
    },
    /// Whether disk and scheduler fit the failover budget.
    Budget(Safety),
    /// This broker is registered, and has opened so many replicas.
    Ready(usize),
}

/// Why a process must stop.
#[derive(Debug)]
pub enum Fatal {
    /// An entry of the metadata group is no record batch: this broker's catalog would differ from the others'.
    BadEntry(CommandIndex, BatchError),
    /// A command can't be read: likewise.
    Unreadable(CommandIndex, DecodeError),
    /// The metadata group's log can't be opened.
    Metadata(LogError),
    /// The configuration names other founders than the folder.
    OtherFounders {
        /// As configured.
        configured: Founders,
        /// As noted in the folder.
        noted: Founders,
    },
    /// The cluster has another id than the one that is configured.
    OtherCluster,
    /// This broker was started again since; by which start.
    Superseded(Start),
}
