//! The identity of a member, its intervals and limits, and what it recovers.

use crate::{Configuration, HardState, LogIndex, NodeId};
use alloc::vec::Vec;
use core::time::Duration;

/// The source of a group's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heartbeats {
    /// The group does: its leader sends heartbeats at this interval, and silence starts elections.
    Own(Duration),
    /// The caller does, for all groups of a node at once, and says so by [`crate::Input::Liveness`]. A group that has
    /// nothing to say then sends nothing and needs no timer. Until told otherwise, every node is taken for alive.
    External,
}

/// Intervals and limits. All members of a group should agree on the intervals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tuning {
    /// The source of time.
    pub heartbeats: Heartbeats,
    /// The time that a member without a leader (or, with own heartbeats, without word from it) waits before it stands;
    /// that a candidacy or a transfer may take; and for which a leader leads on without contact to a majority.
    pub election_timeout: Duration,
    /// The additional time that each rank waits: normally one candidate stands. Rank is the number of live members that
    /// precede this one in [`Configuration::voters`], not counting the leader that is gone. It should exceed what an
    /// election takes: a few message delays and two durable writes.
    pub rank_delay: Duration,
    /// The additional time for which a merely suspected leader is waited for.
    pub suspicion_delay: Duration,
    /// The time that a leader waits for an answer before it sends again, doubled each time, up to 32-fold; and that a
    /// candidate waits before it asks again.
    pub retransmit_timeout: Duration,
    /// Appends in flight to one follower, at most.
    pub max_inflight_messages: usize,
    /// Bytes in flight to one follower, at most (one append may exceed it alone).
    pub max_inflight_bytes: u64,
    /// Payload bytes in one append, at most (one entry may exceed it alone).
    pub max_append_bytes: u64,
    /// Proposed but uncommitted payload bytes, at most (one proposal may exceed it alone); beyond it proposals are
    /// refused as [`crate::ProposeError::Busy`].
    pub max_uncommitted_bytes: u64,
    /// With [`Heartbeats::Own`]: a leader that a majority has heard lately answers reads at once, without asking (Raft
    /// dissertation, section 6.4.1), and this is how far two members' clocks may drift apart within one election
    /// timeout. None: every read asks a majority. Must be the same for all members, for as long as the group lives,
    /// and half an election timeout at most.
    pub lease: Option<Duration>,
    /// Source of jitter, so that a test can script elections exactly.
    pub seed: u64,
}

impl Default for Tuning {
    /// For nodes a few hundred microseconds apart, with disks that sync within some milliseconds, whose failure is
    /// noticed within about 150 ms. The group keeps its own time: a driver that says nothing of liveness fails over as
    /// well.
    fn default() -> Tuning {
        Tuning {
            heartbeats: Heartbeats::Own(Duration::from_millis(30)),
            election_timeout: Duration::from_millis(150),
            rank_delay: Duration::from_millis(40),
            suspicion_delay: Duration::from_millis(50),
            retransmit_timeout: Duration::from_millis(100),
            max_inflight_messages: 64,
            max_inflight_bytes: 8 << 20,
            max_append_bytes: 1 << 20,
            max_uncommitted_bytes: 64 << 20,
            lease: None,
            seed: 0,
        }
    }
}

/// The identity of a member, its group's first configuration, and its intervals and limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// The group's first configuration, in force before the first entry. Never changes, whatever the members are now:
    /// later ones are in the log ([`Recovered::configurations`]). This member need not be in it.
    pub configuration: Configuration,
    /// Intervals and limits.
    pub tuning: Tuning,
}

impl Config {
    /// One of these voters (the preferred leader first) of a group that stands on its own, with the default intervals
    /// and limits.
    pub fn standalone(id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Config {
        Config {
            id,
            configuration: Configuration::of_voters(voters),
            tuning: Tuning::default(),
        }
    }
}

/// The state that was found on disk at start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// The hard state; all zero for a new group. [`HardState::lost`] for a member that holds nothing of what it may
    /// have promised.
    pub hard_state: HardState,
    /// Known to be committed, for example because it was written behind the journal. At most the log's last index.
    pub committed: LogIndex,
    /// Everything up to here is applied already, and is remembered: what the state machine holds that was recovered, a
    /// snapshot or more. It is committed. Zero for a caller that applies the whole log again.
    pub applied: LogIndex,
    /// The configurations that the log holds, by the index of their entry, ascending; among them the one in force
    /// before its first entry, if entries have been deleted or a snapshot was installed (its index: the place before
    /// the first entry, or its own).
    pub configurations: Vec<(LogIndex, Configuration)>,
}
