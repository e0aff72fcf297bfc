//! One consensus group.

use crate::{AppendPlan, Entry, HardState, Instant, Liveness, LogIndex, LogView, Message, NodeId, Term, Token};
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// Who keeps a group's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeats {
    /// The group does: its leader sends heartbeats at this interval, and silence starts elections.
    Own(Duration),
    /// The caller does, for all groups of a node at once, and says so by [`Input::Liveness`]. A group that has nothing
    /// to say then sends nothing and needs no timer.
    External,
}

/// Intervals and limits. All members of a group should agree on the intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Who keeps time.
    pub heartbeats: Heartbeats,
    /// How long a member without a leader (or, with own heartbeats, without word from it) waits before it stands.
    pub election_timeout: Duration,
    /// How much longer each rank waits: normally one candidate stands. Rank is the number of live members that precede
    /// this one in [`Config::voters`].
    pub rank_delay: Duration,
    /// How much longer a merely suspected leader is waited for than a dead one.
    pub suspicion_delay: Duration,
    /// How long a leader waits for an answer before it sends again.
    pub retransmit_timeout: Duration,
    /// Appends in flight to one follower, at most.
    pub max_inflight_messages: usize,
    /// Bytes in flight to one follower, at most (one append may exceed it alone).
    pub max_inflight_bytes: u64,
    /// Payload bytes in one append, at most (one entry may exceed it alone).
    pub max_append_bytes: u64,
    /// Proposed but uncommitted payload bytes, at most; beyond it proposals are refused as [`ProposeError::Busy`].
    pub max_uncommitted_bytes: u64,
    /// Source of jitter, so that a test can script elections exactly.
    pub seed: u64,
}

/// Who a member is, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// All voters, this one included, the preferred leader first.
    pub voters: Vec<NodeId>,
    /// Intervals and limits.
    pub tuning: Tuning,
}

/// What was found on disk at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The hard state; all zero for a new group.
    pub hard_state: HardState,
    /// Known to be committed, for example because it was written behind the journal. At most the log's last index.
    pub committed: LogIndex,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What a group is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed [`Group::deadline`]. Every other input looks at the clock as well.
    Tick,
    /// A message from another member.
    Message(NodeId, Message),
    /// Append these payloads, in this order, one entry each: all of them or none. Answered in [`Output::proposed`].
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
    /// Hand leadership to this member, or to the most caught-up live one. The outcome is an [`Event`].
    Transfer(Option<NodeId>),
    /// Stand at once, without waiting for a timeout; pre-votes are still asked for. For a new group's preferred leader,
    /// and for a failover on request.
    Campaign,
    /// Believe this leader gone and stand (rank delays apply): a failover on request that names the failed leader.
    ForgetLeader,
}

/// One durable write. Order within it: hard state, truncation, entries. The caller applies it to its log before the
/// next step, writes it (in the order of tokens), and returns the token by [`Input::Persisted`].
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The leader's term.
    pub term: Term,
    /// The index of the first payload; the others follow it.
    pub first: LogIndex,
    /// The index of the last payload.
    pub last: LogIndex,
}

/// Why a proposal was refused; nothing of it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead; the leader, if it knows one.
    NotLeader(Option<NodeId>),
    /// Too much is uncommitted: try again later.
    Busy,
    /// Leadership is being handed over.
    Transferring,
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// This member does not lead.
    NotLeader,
    /// No live member is caught up, or the named one is no other voter.
    NoTarget,
    /// The target did not take over in time; this member leads on.
    TimedOut,
}

/// What happened that others may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The answer to [`Input::Propose`].
    pub proposed: Option<Result<Proposed, ProposeError>>,
    /// What happened.
    pub events: Vec<Event>,
}

/// A leader's view of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Known to be durable there.
    pub match_index: LogIndex,
    /// The commit index it is known to know.
    pub commit: LogIndex,
    /// What is known of its liveness.
    pub liveness: Liveness,
}

/// One member of one consensus group: a pure function of its state, its inputs and the time it is told.
#[derive(Debug)]
pub struct Group {
    _todo: (),
}

#[allow(unused_variables, missing_docs, reason = "skeleton")]
impl Group {
    /// A member as it starts: a follower, of what it remembers.
    pub fn new(config: Config, recovered: Recovered, now: Instant, log: &dyn LogView) -> Group {
        todo!()
    }
    /// Tell it one thing.
    pub fn step(&mut self, now: Instant, input: Input, log: &dyn LogView, output: &mut Output) {
        todo!()
    }
    /// When to send [`Input::Tick`] next; none while it is idle.
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }
    pub fn role(&self) -> Role {
        todo!()
    }
    pub fn term(&self) -> Term {
        todo!()
    }
    pub fn leader(&self) -> Option<NodeId> {
        todo!()
    }
    pub fn commit(&self) -> LogIndex {
        todo!()
    }
    /// Leads, and may serve clients. See [`Event::Serving`].
    pub fn is_serving(&self) -> bool {
        todo!()
    }
    pub fn voters(&self) -> &[NodeId] {
        todo!()
    }
    /// A leader's view of another member; none unless it leads.
    pub fn progress(&self, node: NodeId) -> Option<Progress> {
        todo!()
    }
    /// The highest index that at least `count` voters hold durably, as far as the leader knows (itself included).
    pub fn held_by(&self, count: usize) -> LogIndex {
        todo!()
    }
    /// The highest index that this member holds durably.
    pub fn durable(&self) -> LogIndex {
        todo!()
    }
    /// Every voter is known to hold the log up to here durably. See [`crate::Body::Append`].
    pub fn floor(&self) -> LogIndex {
        todo!()
    }
    /// Whether there is nothing to do until something happens.
    pub fn is_quiescent(&self) -> bool {
        todo!()
    }
}
