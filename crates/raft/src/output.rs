//! What a step decided.

use crate::{
    AppendPlan, Entry, HardState, Liveness, LogIndex, Malformed, Message, NodeId, ReadId, Snapshot, Term, Token,
};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a member is at the moment.
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

/// One durable write. Order within it: hard state, reset, truncation, entries. The caller applies it to its log before the
/// next step, writes it (in the order of tokens), and returns the token by [`crate::Input::Persisted`].
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

/// Why a proposal was refused; nothing of it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProposeError {
    /// This member does not lead; the leader, if it knows one.
    NotLeader(Option<NodeId>),
    /// Too much is uncommitted: try again later.
    Busy,
    /// Leadership is being handed over.
    Transferring,
}

/// Why a change of the members was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeError {
    /// This member does not lead; the leader, if it knows one.
    NotLeader(Option<NodeId>),
    /// Another change is under way. All that may be asked for then are the voters from before, as long as nothing can have
    /// been decided without them: that takes it back.
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

/// Why a read can't be answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadError {
    /// This member does not lead, or no longer does; the leader, if it knows one.
    NotLeader(Option<NodeId>),
    /// This leader's first entry is not committed yet: it can't know what is.
    NotServing,
    /// Too many reads are waiting: try again later.
    Busy,
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferError {
    /// This member does not lead.
    NotLeader,
    /// No live member is caught up, or the named one is no other voter.
    NoTarget,
    /// The target did not take over in time; this member leads on.
    TimedOut,
    /// The caller has taken it back: see [`crate::Input::Transfer`].
    Withdrawn,
}

/// What happened that others may want to know.
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
    TransferFailed(TransferError),
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
    /// as it doesn't arrive.
    NeedsSnapshot(NodeId),
    /// The members have changed: this configuration is in force from now on, at this member. (Also said when a truncation
    /// or a snapshot has changed it.) [`crate::Group::configuration`] tells it. Evidence about the liveness of new
    /// members is to be told anew.
    ConfigurationChanged {
        /// The place of its entry; for one that came with a snapshot, the snapshot's.
        index: LogIndex,
        /// Whether it is committed. If not, it is said again when it is.
        committed: bool,
    },
    /// This voter has lost what it promised: it doesn't count any more, and should be made a learner
    /// ([`crate::Input::Change`]) so that it can catch up. Said each time it is found so.
    MemberLost(NodeId),
}

/// What a step decided. The caller owns it, drains it after every step, and reuses it for all its groups.
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
    /// What happened.
    pub events: Vec<Event>,
}

/// A leader's view of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Known to be durable there.
    pub match_index: LogIndex,
    /// The commit index it is known to know.
    pub commit: LogIndex,
    /// What is known of its liveness.
    pub liveness: Liveness,
    /// It has lost what it promised, and holds nothing.
    pub is_lost: bool,
    /// It holds what it promised, can take no more, and asks to be made a learner.
    pub is_retiring: bool,
    /// It lives, and holds all that is committed or is being sent it: it could be a voter.
    pub is_caught_up: bool,
}
