//! The messages of a group's members. Any message may be lost, delayed, duplicated or reordered.

use crate::{Entry, Life, LogIndex, NodeId, Snapshot, Term};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A message between two members of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// The sender's term. For [`Body::PreVote`] and a granted [`Body::PreVoteReply`] it is the term that the candidate
    /// would have, which the sender has not entered.
    pub term: Term,
    /// The content.
    pub body: Body,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// A request for a pre-vote: whether the receiver would vote for the sender (Raft dissertation, section 9.6).
    PreVote {
        /// The candidate's last index.
        last_index: LogIndex,
        /// The candidate's last term.
        last_term: Term,
    },
    /// The answer to a pre-vote.
    PreVoteReply {
        /// Whether the sender would vote for the candidate.
        granted: bool,
        /// On a refusal: the sender's own log is more up to date, so it will stand itself.
        longer_log: bool,
    },
    /// RequestVote (Raft paper, section 5.2).
    Vote {
        /// The candidate's last index.
        last_index: LogIndex,
        /// The candidate's last term.
        last_term: Term,
        /// The candidate was told to stand by the leader itself: a live leader is no reason to refuse.
        transfer: bool,
    },
    /// The answer to a vote request; it leaves only once the vote is durable.
    VoteReply {
        /// Whether the vote is the candidate's.
        granted: bool,
    },
    /// AppendEntries (Raft paper, section 5.3).
    Append {
        /// The index before the first entry.
        prev_index: LogIndex,
        /// The term at `prev_index`.
        prev_term: Term,
        /// The leader's commit index.
        commit: LogIndex,
        /// Every voter in contact is known to hold the log durably up to here; what lies below may be deleted.
        replicated_index: LogIndex,
        /// The entries, contiguous from `prev_index` on. May be empty.
        entries: Vec<Entry>,
    },
    /// The sender's log agrees with the leader's up to `match_index`, durably.
    AppendAccepted {
        /// The last index known to agree.
        match_index: LogIndex,
        /// The commit index that the sender knows of.
        commit: LogIndex,
        /// The life that the sender is in: what an earlier one held, this one may not.
        life: Life,
    },
    /// The sender's log has no entry of that term at `prev_index`.
    AppendRejected {
        /// The `prev_index` that was refused: tells a late answer from a current one.
        prev_index: LogIndex,
        /// Where the leader should try next: the sender's log may agree up to here.
        hint_index: LogIndex,
        /// The sender's term at `hint_index`.
        hint_term: Term,
    },
    /// The sender still leads: sent regularly where the group itself keeps time ([`crate::Heartbeats::Own`]), and
    /// wherever reads wait to know it.
    Heartbeat {
        /// The leader's commit index, but no more than the receiver is known to hold.
        commit: LogIndex,
        /// Counts the questions that this leader asked in its term: an answer confirms that it led when it asked.
        round: u64,
    },
    /// The answer to a heartbeat. Unasked, and with round zero: "I have refused a candidate for your sake". A receiver
    /// that leads no more answers by [`Body::Seek`].
    HeartbeatReply {
        /// The commit index that the sender knows of.
        commit: LogIndex,
        /// The heartbeat's.
        round: u64,
    },
    /// InstallSnapshot (Raft paper, section 7): the entries that the receiver needs are deleted, and it goes on from
    /// this position. Answered like an append that ends there.
    Snapshot {
        /// The position.
        snapshot: Box<Snapshot>,
        /// See [`Body::Append`].
        commit: LogIndex,
        /// See [`Body::Append`].
        replicated_index: LogIndex,
    },
    /// The answer of a member that holds nothing of what it promised, to all that a leader sends. With a
    /// [retiring](Life::retiring) life: it holds everything, but can take no more, and asks to be made a learner.
    Lost {
        /// The life that it is in.
        life: Life,
    },
    /// A leader lets a lost member back in, as the learner that it is now: nothing counts any more that it promised in
    /// an earlier life. With a [retiring](Life::retiring) life: the member may give up its log, and then come back as
    /// lost.
    Rejoin {
        /// The member is a learner in a configuration that is committed at or before this index, and everything that
        /// was committed while it was a voter comes before it: once its log reaches it, it may vote again.
        since: LogIndex,
        /// Which life this is about.
        life: Life,
    },
    /// A question for the leader. The sender neither leads nor can stand: it is no voter, or barred.
    Seek,
    /// Stand now: the leader hands over to you (Raft dissertation, section 3.10).
    TimeoutNow,
}

/// An Append that the core has decided on; the caller reads the entries `first..=last` from its log and sends them as
/// [`Body::Append`]. Entries may be read later than other messages leave: the network could have delayed them as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendPlan {
    /// The receiver.
    pub to: NodeId,
    /// The leader's term.
    pub term: Term,
    /// The index before `first`.
    pub prev_index: LogIndex,
    /// The term at `prev_index`.
    pub prev_term: Term,
    /// The first entry to send; `last` is below it if there is none.
    pub first: LogIndex,
    /// The last entry to send.
    pub last: LogIndex,
    /// See [`Body::Append`].
    pub commit: LogIndex,
    /// See [`Body::Append`].
    pub replicated_index: LogIndex,
}

impl AppendPlan {
    /// The message to send, with the entries `first..=last` from the log.
    pub fn with(&self, entries: Vec<Entry>) -> Message {
        let &AppendPlan {
            term,
            prev_index,
            prev_term,
            commit,
            replicated_index,
            ..
        } = self;
        let body = Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries,
        };
        Message { term, body }
    }
}
