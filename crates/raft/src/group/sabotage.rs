//! Ways to break the core on purpose, each a bug that a real implementation had.
//!
//! Only tests can: without the feature `sabotage` (or this crate's own tests) nothing of it is compiled in. Tests of
//! the core must find every one of them, or would not find it if it came in by mistake.
#![cfg_attr(
    not(feature = "sabotage"),
    allow(
        unreachable_pub,
        dead_code,
        reason = "without the feature it only gives names to what is never done"
    )
)]

use super::Group;

/// What a broken group does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sabotage {
    /// A member that loses its leader or its candidacy forgets whom it voted for in the term (redpanda #19).
    ForgetVote,
    /// Votes leave before they are durable.
    VoteAtOnce,
    /// Vote requests leave before the candidate's term and vote are durable.
    StandAtOnce,
    /// A vote goes to a candidate whose log is shorter.
    VoteForShorterLog,
    /// A follower acknowledges what is not durable.
    AcknowledgeAtOnce,
    /// A leader counts itself before its own disk has answered (etcd #14370).
    CountSelfAtOnce,
    /// A write that was truncated meanwhile still vouches for its length (redpanda 2327254c).
    KeepMarks,
    /// A late append cuts off what followed it.
    TruncateWithoutConflict,
    /// A leader serves when it has won the vote (redpanda #5025).
    ServeAtOnce,
    /// Bytes proposed in an earlier leadership count for ever (etcd-raft a370b6f).
    KeepUncommittedBytes,
    /// A member whose leader asks for votes goes on believing in it.
    BelieveForEver,
    /// A former leader that follows another one lets those who still believe in it do so.
    ConfirmFormerLeader,
    /// A learner that refuses a candidate for its shorter log doesn't stand itself, though nobody else may be elected.
    LearnersNeverStand,
    /// A leader commits what all voters hold, not what a majority does: one that is gone stops everything.
    WaitForAll,
    /// What got no answer is not sent again.
    SendOnce,
    /// A leader that resigns while its disk is busy takes for committed what its disk holds then (redpanda b41b5c6f).
    CommitAfterResigning,
    /// To grant a pre-vote puts off one's own candidacy (redpanda #11657, hashicorp/raft #609).
    GrantingPutsOff,
    /// A refused append does not say which later term the follower is in (redpanda #31547).
    HideTerm,
    /// A candidate takes no term from who refuses it a pre-vote (etcd #8501, openraft #1796, Ra #442).
    IgnoreRefusals,
    /// A request for a pre-vote in a term that has passed gets no answer (etcd #8243, canonical/raft #279).
    IgnoreLowerTerms,
    /// A new leader counts its first entry before that is on its own disk (openraft a9f696a9).
    CountFirstAtOnce,
    /// A write is known by where it ended: an old one passes for newer ones that end no further (etcd-raft's append
    /// ABA).
    MistakeWrites,
    /// What was on its way to a follower still fills the window when sending begins again (etcd-raft e419ba5).
    KeepInflight,
    /// What a majority holds is taken from the followers in the order of their names (openraft #1802).
    CountUnsorted,
    /// An acknowledgement of an earlier term counts (openraft cecb5de8).
    CountOldAnswers,
    /// A late refusal of what a follower has acknowledged since is taken for a loss of its data (openraft #1500).
    TakeRefusalForLoss,
    /// What was durable counts as durable when it was replaced (Ra 39490978).
    KeepDurable,
    /// A follower commits what its log holds, whether or not that is the leader's log (Ra #508).
    CommitUnverified,
    /// Where a follower that refuses says that the logs may agree counts as acknowledged (CCF #6016).
    CountHints,
    /// Entries of earlier terms are committed by counting who holds them (Raft paper, figure 8).
    CommitOldTerms,
    /// A configuration without voters is taken for one (redpanda #2289).
    AcceptNoVoters,
    /// Where the term of an entry is not known, it is taken to be zero, and to agree (etcd-io/raft#31).
    InventTerms,
    /// A configuration is in force only once it is known to be committed (etcd #7280).
    ConfigureAtCommit,
    /// The joint configuration is left before it is committed (etcd #12359).
    LeaveAtOnce,
    /// While voters are exchanged, a majority of the new ones decides.
    ForgetOutgoing,
    /// A read is answered without asking whether this leader still leads.
    ReadAtOnce,
    /// A member that restarts votes though the leader it followed may still hold a lease (TiKV #15035).
    ForgetLease,
    /// A learner is handed leadership, and counts itself as a voter (openraft #1805, Ra 114d1d37).
    LetLearnersLead,
    /// A member that takes a snapshot goes on with the configuration that it had (openraft #1808).
    KeepConfiguration,
    /// A member of which nothing is known, and whose entries are deleted, is never sent a snapshot (openraft #1828).
    LeaveBehind,
    /// A snapshot that comes while an earlier one is being written is never taken to be durable (raft-rs #417).
    LoseSecondSnapshot,
    /// Voters are exchanged in a single step, while another change is under way, and before the leader knows what is
    /// committed (the erratum to the Raft dissertation).
    ChangeAtOnce,
    /// A member that has lost what it promised takes part as if it hadn't.
    ForgetLoss,
    /// An acknowledgement that a member sent before it lost its log counts afterwards.
    CountFormerLives,
}

#[cfg(any(test, feature = "sabotage"))]
impl Sabotage {
    /// All that show in elections, replication and restarts.
    pub const ALL: &'static [Sabotage] = &[
        Sabotage::ForgetVote,
        Sabotage::VoteAtOnce,
        Sabotage::StandAtOnce,
        Sabotage::VoteForShorterLog,
        Sabotage::AcknowledgeAtOnce,
        Sabotage::CountSelfAtOnce,
        Sabotage::KeepMarks,
        Sabotage::TruncateWithoutConflict,
        Sabotage::ServeAtOnce,
        Sabotage::KeepUncommittedBytes,
        Sabotage::BelieveForEver,
        Sabotage::WaitForAll,
        Sabotage::SendOnce,
        Sabotage::CommitAfterResigning,
        Sabotage::GrantingPutsOff,
        Sabotage::HideTerm,
        Sabotage::IgnoreRefusals,
        Sabotage::IgnoreLowerTerms,
        Sabotage::CountFirstAtOnce,
        Sabotage::MistakeWrites,
        Sabotage::KeepInflight,
        Sabotage::CountUnsorted,
        Sabotage::CountOldAnswers,
        Sabotage::TakeRefusalForLoss,
        Sabotage::KeepDurable,
        Sabotage::CommitUnverified,
        Sabotage::CountHints,
        Sabotage::CommitOldTerms,
    ];

    /// Those of reads and leases, of changes of members, of lost ones and of snapshots. Tests with
    /// them must cause these.
    pub const OF_MEMBERS_AND_READS: &'static [Sabotage] = &[
        Sabotage::AcceptNoVoters,
        Sabotage::InventTerms,
        Sabotage::ConfigureAtCommit,
        Sabotage::LeaveAtOnce,
        Sabotage::ForgetOutgoing,
        Sabotage::LetLearnersLead,
        Sabotage::KeepConfiguration,
        Sabotage::LeaveBehind,
        Sabotage::LoseSecondSnapshot,
        Sabotage::ChangeAtOnce,
        Sabotage::ForgetLoss,
        Sabotage::CountFormerLives,
        Sabotage::ConfirmFormerLeader,
        Sabotage::LearnersNeverStand,
        Sabotage::ReadAtOnce,
        Sabotage::ForgetLease,
    ];
}

#[cfg(any(test, feature = "sabotage"))]
impl Group {
    /// From now on this member is broken in that way: for tests of tests.
    pub fn sabotage(&mut self, how: Sabotage) {
        self.sabotage = Some(how);
        if how == Sabotage::ForgetLease {
            self.unbind();
        }
        self.membership.lags = how == Sabotage::ConfigureAtCommit;
    }

    pub(super) fn is_broken(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }
}

#[cfg(not(any(test, feature = "sabotage")))]
impl Group {
    pub(super) const fn is_broken(&self, _: Sabotage) -> bool {
        false
    }
}
