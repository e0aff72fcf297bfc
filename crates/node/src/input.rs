//! What happens to a node.

use crate::opening::Opened;
use bytes::Bytes;
use std::time::Duration;
use trimaran_multiraft::{
    Contradiction, GroupStatus, Heartbeat, InSync, LeaderChange, Lost, Members, Outbox, QuorumLost, RefusedEntries,
};
use trimaran_raft::{GroupId, Instant, LogIndex, NodeId};
use trimaran_registry::agent::{AdminRequest, Ticket};

/// The present.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// On the monotonic clock.
    pub at: Instant,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// An input of a [`Node`](crate::Node).
pub enum Input {
    /// A shard's step has reported something: see [`reports`].
    Report(Report),
    /// A job of [`Output::Open`](crate::Output::Open) is done.
    Opened(Box<Opened>),
    /// Nothing is left of a group that its shard has closed ([`Outbox::closed`]): its folder is deleted durably, or
    /// can't be deleted before the next start.
    Deleted(GroupId),
    /// The answer to [`Output::AskStatus`](crate::Output::AskStatus); none if the shard was too busy for an answer.
    Status(GroupId, Option<GroupStatus>),
    /// A peer lives.
    Heartbeat(NodeId, Heartbeat),
    /// A peer's connection closed, and its machine refuses a new one.
    Refused(NodeId),
    /// A broker that is no founder has said hello.
    Newcomer(NodeId),
    /// A message of a peer's agent.
    Agent(NodeId, Bytes),
    /// An administrative request, answered by [`Output::Reply`](crate::Output::Reply) under the same ticket.
    Request(Ticket, Duration, AdminRequest),
    /// A client asks for a failover: every replica is told.
    FailOver {
        /// The group.
        group: GroupId,
        /// The leader that is said to have failed.
        failed: Option<NodeId>,
    },
    /// This broker is leaving: it is not ready any longer.
    Leaving,
}

/// What the control part learns from a shard's step.
#[derive(Debug)]
pub enum Report {
    /// A committed payload of the metadata group.
    Committed(GroupId, LogIndex, Bytes),
    /// A replica here sees another leader.
    Leader(LeaderChange),
    /// A leader here sees other replicas in sync.
    InSync(InSync),
    /// Members of a group led here.
    Members(Members),
    /// A replica here has turned out to be damaged, or can't be written.
    Lost(Lost),
    /// A group led here decides nothing any more.
    QuorumLost(QuorumLost),
    /// A leader contradicts what a replica here holds.
    Contradiction(Contradiction),
    /// A replica here refuses what its leader sent, and takes no part any more.
    Refused(RefusedEntries),
    /// Idempotent producers were forgotten for lack of room: of which group, and how many.
    ProducersForgotten(GroupId, u64),
}

/// Takes what a step has to say to [`Node`](crate::Node) out of its outbox. What is committed comes before leaders: one
/// that serves has applied everything before.
pub fn reports(out: &mut Outbox, mut take: impl FnMut(Report)) {
    for (group, index, payload) in out.committed.drain(..) {
        take(Report::Committed(group, index, payload));
    }
    out.leaders.drain(..).map(Report::Leader).for_each(&mut take);
    out.in_sync.drain(..).map(Report::InSync).for_each(&mut take);
    out.members.drain(..).map(Report::Members).for_each(&mut take);
    out.lost.drain(..).map(Report::Lost).for_each(&mut take);
    out.quorum_lost.drain(..).map(Report::QuorumLost).for_each(&mut take);
    out.contradictions
        .drain(..)
        .map(Report::Contradiction)
        .for_each(&mut take);
    out.refused.drain(..).map(Report::Refused).for_each(&mut take);
    for (group, count) in out.forgotten.drain(..) {
        take(Report::ProducersForgotten(group, count));
    }
}

/// How well the host's threads and its disk do, as measured since the last tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// A thread hangs: heartbeats are withheld.
    pub stalled: bool,
    /// How long the slowest write to the journal took.
    pub write: Option<Duration>,
}
