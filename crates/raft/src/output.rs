//! The output of a step.

use crate::{
    AppendPlan, Configuration, Entry, HardState, Liveness, LogIndex, Malformed, Message, NodeId, ProgressState, ReadId,
    Snapshot, Term, Token,
};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The role of a member (Raft paper, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads its term.
    Leader,
}

/// One durable write. Order within it: hard state, reset, truncation, entries. The caller applies it to its log before
/// the next step, writes it (in the order of tokens), and returns the token by [`crate::Input::Persisted`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist {
    /// To be returned when all of it is durable.
    pub token: Token,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Replace the whole log by this position: it is empty then, and its next entry follows there. What the snapshot
    /// carries is the caller's to apply; it counts as applied.
    pub reset: Option<Box<Snapshot>>,
    /// Delete this entry and all after it first.
    pub truncate_from: Option<LogIndex>,
    /// Append these.
    pub entries: Vec<Entry>,
}

/// Where proposed payloads went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proposed {
    /// The leader's term.
    pub term: Term,
    /// The index of the first payload; the others follow it.
    pub first: LogIndex,
    /// The index of the last payload.
    pub last: LogIndex,
}

/// The reason that a proposal was refused; nothing of it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProposeError {
    /// This member does not lead; the leader, if it knows one.
    NotLeader(Option<NodeId>),
    /// Too much is uncommitted: try again later.
    Busy,
    /// Leadership is being handed over.
    Transferring,
}

/// The reason that a change of the members was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeError {
    /// This member does not lead; the leader, if it knows one.
    NotLeader(Option<NodeId>),
    /// Another change is under way. All that may be asked for then are the voters from before, as long as nothing can
    /// have been decided without them: that takes it back.
    InProgress,
    /// This leader's first entry is not committed yet: it can't know whether an earlier change is under way (the
    /// erratum to the dissertation's section 4.1).
    NotServing,
    /// Leadership is being handed over.
    Transferring,
    /// This new voter lacks entries: let it learn first. (Otherwise nothing could be committed until it has them.)
    NotCaughtUp(NodeId),
    /// They are the members already.
    Unchanged,
    /// No group can have such members.
    Malformed(Malformed),
}

/// The reason that a read can't be answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadError {
    /// This member does not lead, or no longer does; the leader, if it knows one.
    NotLeader(Option<NodeId>),
    /// This leader's first entry is not committed yet: it can't know what is.
    NotServing,
    /// Too many reads are waiting: try again later.
    Busy,
}

/// The reason that leadership was not handed over. [`Event::TransferFailed`] names the member that was to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferError {
    /// This member does not lead. [`crate::Group::leader`] names the one that does, if it is known.
    NotLeader,
    /// No member was named, and none could take over now: [`crate::Group::status`] shows what each one lacks.
    NoTarget,
    /// The named member does not vote, or is the leader itself.
    NotVoter,
    /// The member is out of contact.
    Unreachable,
    /// The member has lost what it had promised, and neither votes nor stands.
    Lost,
    /// The member's disk takes nothing more, and it asks to be made a learner.
    Retiring,
    /// The member lacks entries that are not on their way to it yet.
    NotCaughtUp,
    /// The member was told to stand and did not take over in time; this member leads on.
    TimedOut,
    /// The caller has withdrawn the request: see [`crate::Input::Transfer`].
    Withdrawn,
}

/// A thing that happened, for the caller and its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Role, term or known leader changed.
    LeaderChanged {
        /// The current term.
        term: Term,
        /// Its leader, as far as known.
        leader: Option<NodeId>,
        /// This member's role.
        role: Role,
    },
    /// This member leads, its first entry is committed, and everything before it is applied: it may serve clients.
    Serving {
        /// The term it serves in.
        term: Term,
    },
    /// A transfer ended without success.
    TransferFailed {
        /// The member that was to take over: the named one, or the one that was chosen. None if none was.
        target: Option<NodeId>,
        /// The reason that it did not.
        error: TransferError,
    },
    /// This member stands for election (counts elections).
    Campaigned {
        /// The term it stands for.
        term: Term,
    },
    /// Entries of an earlier leader were replaced: what was appended from here on is gone.
    Truncated {
        /// The first entry that was deleted.
        from: LogIndex,
    },
    /// A follower needs entries that have been deleted here: answer with [`crate::Input::Snapshot`]. Said again as long
    /// as none arrives, unless the caller reports that one is under way ([`crate::Input::ReportSnapshot`]).
    NeedsSnapshot(NodeId),
    /// The members have changed: this configuration is in force from now on, at this member. (Also said when a
    /// truncation or a snapshot has changed it.) [`crate::Group::configuration`] tells it. Evidence about the liveness
    /// of new members is to be told again.
    ConfigurationChanged {
        /// The place of its entry; for one that came with a snapshot, the snapshot's.
        index: LogIndex,
        /// Whether it is committed. If not, it is said again when it is.
        committed: bool,
    },
    /// A leader contradicts what is safe: to be reported to an operator. Said for each such message.
    SafetyViolated {
        /// The sender.
        leader: NodeId,
        /// The term that it leads.
        term: Term,
        /// The contradiction.
        violation: SafetyViolation,
    },
    /// This voter has lost what it promised: it doesn't count any more, and should be made a learner
    /// ([`crate::Input::Change`]) so that it can catch up. Said each time it is found so.
    MemberLost(NodeId),
}

/// A message that no leader can send as long as every disk keeps what it has promised. So a disk lies, an old copy of
/// one was put back, two groups have the same id, or messages are forged. Nothing of such a message is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SafetyViolation {
    /// The leader's log has an entry of another term where this member holds a committed one (State Machine Safety,
    /// Raft paper, section 5.4).
    CommittedEntryDiffers {
        /// The index of the entry.
        index: LogIndex,
        /// The term of the committed entry.
        committed: Term,
        /// The term of the leader's entry.
        sent: Term,
    },
    /// The sender leads a term that another member leads (Election Safety, section 5.2): this one, or the one that it
    /// follows.
    SecondLeader {
        /// The other leader.
        first: NodeId,
    },
}

/// The output of a step. The caller owns it, drains it after every step, and reuses it for all its groups.
#[derive(Debug, Default)]
pub struct Output {
    /// At most one write a step.
    pub persist: Option<Persist>,
    /// Messages that may leave now.
    pub messages: Vec<(NodeId, Message)>,
    /// Appends that may leave now, once their entries are read (after `persist` was applied to the log).
    pub appends: Vec<AppendPlan>,
    /// The new commit index, if it rose.
    pub committed: Option<LogIndex>,
    /// The answer to [`crate::Input::Propose`].
    pub proposed: Option<Result<Proposed, ProposeError>>,
    /// The answer to [`crate::Input::Change`]: where the first entry of the change is.
    pub changed: Option<Result<LogIndex, ChangeError>>,
    /// Reads that may be answered once this index is applied, or not here.
    pub reads: Vec<(ReadId, Result<LogIndex, ReadError>)>,
    /// Things that happened, in their order.
    pub events: Vec<Event>,
}

/// The status of a caller's snapshot for a member: see [`crate::Input::ReportSnapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotStatus {
    /// The snapshot is being made or sent. No other one is asked for meanwhile.
    Started,
    /// The snapshot has been sent. If it is not acknowledged, the leader looks again after a while.
    Sent,
    /// The snapshot could not be made or sent. Another one is asked for after a while.
    Failed,
}

/// A leader's view of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The way in which the leader sends to it.
    pub state: ProgressState,
    /// Known to be durable there.
    pub match_index: LogIndex,
    /// The first entry that has not been sent to it.
    pub next_index: LogIndex,
    /// Payload bytes that are on their way to it.
    pub inflight_bytes: u64,
    /// The caller prepares or sends it a snapshot ([`SnapshotStatus::Started`]).
    pub snapshot_under_way: bool,
    /// The commit index it is known to know.
    pub commit: LogIndex,
    /// Its liveness, as far as it is known.
    pub liveness: Liveness,
    /// Whether it has lost what it had promised, and holds nothing.
    pub is_lost: bool,
    /// Whether it asks to be made a learner, because its disk takes nothing more. It holds what it has promised.
    pub is_retiring: bool,
    /// Whether it lives, and holds or is being sent all that is committed: it could be a voter.
    pub is_caught_up: bool,
}

/// A member as it sees itself, and, if it leads, the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// Its term, its vote in that term, and what it may have lost.
    pub hard_state: HardState,
    /// Its role.
    pub role: Role,
    /// The term's leader, as far as known.
    pub leader: Option<NodeId>,
    /// Whether it leads, and may serve clients.
    pub is_serving: bool,
    /// The last entry of its log.
    pub last_index: LogIndex,
    /// The last entry that its own disk holds.
    pub durable: LogIndex,
    /// The last entry known to be committed.
    pub commit: LogIndex,
    /// The last entry known to be applied.
    pub applied: LogIndex,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The index of that configuration's entry; see [`crate::Group::configuration_index`].
    pub configuration_index: LogIndex,
    /// The member that it hands leadership over to at the moment.
    pub transferring_to: Option<NodeId>,
    /// Its view of every other member, in the order of the configuration; behind them those that have been removed and
    /// may not know it yet. Empty unless it leads.
    pub progress: Vec<(NodeId, Progress)>,
}
