//! The inputs of a group.

use crate::{Configuration, Liveness, LogIndex, Message, NodeId, ReadId, Snapshot, SnapshotStatus, Token};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

/// An input of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed [`crate::Group::deadline`]. Every other input looks at the clock as well.
    Tick,
    /// A message from another member.
    Message(NodeId, Message),
    /// Append these payloads, in this order, one entry each: all of them or none. Answered in
    /// [`crate::Output::proposed`].
    Propose(Vec<Bytes>),
    /// Everything up to this write is durable.
    Persisted(Token),
    /// Everything up to this committed entry has been applied.
    Applied(LogIndex),
    /// New evidence about a node.
    Liveness(NodeId, Liveness),
    /// A node is in contact again after a restart or an interruption: what it was sent may be lost, and if it led, it
    /// may no longer know. Also resets it to [`Liveness::Alive`].
    Restored(NodeId),
    /// Hand leadership to this member, or to the most caught-up live one. The outcome is an [`crate::Event`]. The
    /// leader's own id withdraws a transfer that is under way; a target that has been told to stand may still do so.
    Transfer(Option<NodeId>),
    /// Stand at once, without waiting for a timeout; pre-votes are still asked for. For a new group's preferred leader,
    /// and for a failover on request.
    Campaign,
    /// Believe this leader gone and stand (rank delays apply): a failover on request that names the failed leader. The
    /// leader itself hands over, as by [`Input::Transfer`] without a name.
    ForgetLeader,
    /// Change the members to these voters and learners; `outgoing` must be empty. Answered in
    /// [`crate::Output::changed`]: refused, or begun. If the voters differ, the group passes through a joint
    /// configuration, and leaves it by itself. [`crate::Event::ConfigurationChanged`] says how far it is.
    Change(Configuration),
    /// The status of the snapshot for that member. Optional: without a report, a member that does not acknowledge a
    /// snapshot is taken to need another one after [`crate::Tuning::retransmit_timeout`], and again after twice as
    /// long. After [`SnapshotStatus::Started`] it is not asked for again before the report that it has ended (or
    /// [`Input::Restored`], or another leadership): report both where a snapshot takes long to make or to send.
    ReportSnapshot(NodeId, SnapshotStatus),
    /// The answer to [`crate::Event::NeedsSnapshot`]: send this to that member. Ignored unless it (still) needs it.
    Snapshot {
        /// The member.
        to: NodeId,
        /// A position at or after the place before this log's first entry, and committed.
        snapshot: Box<Snapshot>,
    },
    /// From where on does a read see everything that was acknowledged before it? Answered in [`crate::Output::reads`],
    /// in this step or a later one.
    Read(ReadId),
}
