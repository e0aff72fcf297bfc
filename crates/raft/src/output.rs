//! What a step decided.

use crate::{AppendPlan, Entry, HardState, Liveness, LogIndex, Message, NodeId, Term, Token};
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

/// One durable write. Order within it: hard state, truncation, entries. The caller applies it to its log before the
/// next step, writes it (in the order of tokens), and returns the token by [`crate::Input::Persisted`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist {
    /// To be returned when all of it is durable.
    pub token: Token,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
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

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferError {
    /// This member does not lead.
    NotLeader,
    /// No live member is caught up, or the named one is no other voter.
    NoTarget,
    /// The target did not take over in time; this member leads on.
    TimedOut,
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
    /// A follower needs entries that have been deleted here.
    NeedsSnapshot(NodeId),
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
}
