//! The state that the replicas of a shard share while they are stepped: clock, timers, writes under way, reused
//! buffers.

use crate::appends::{PendingAppend, Proposal};
use crate::config::ShardConfig;
use crate::leader_rebalance::LeaderRebalance;
use crate::mailbox::Ticket;
use crate::numbers::NumberMap;
use crate::sabotage::Breakage;
use crate::tails::Tails;
use crate::throttle::Throttle;
use crate::timers::TimerWheel;
use std::collections::VecDeque;
use trimaran_raft::{GroupId, Instant, Output, Token, TransferError};

/// Long polls that a shard holds at most. More are answered at once: their consumers then poll in a circle, which is
/// slower, but costs nobody else anything.
const MAX_WAITING_READS: usize = 100_000;

/// Emptied buffers that are kept, and how large one may be: enough for every group that is busy at a time, without a
/// burst's memory being held for ever.
const MAX_SPARES: usize = 256;
/// See [`MAX_SPARES`].
const MAX_SPARE_CAPACITY: usize = 256;

/// A write that a group waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Issued {
    pub(crate) sequence: u64,
    pub(crate) group: GroupId,
    pub(crate) opening: u64,
    pub(crate) token: Token,
}

/// The purpose of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// This group has something to do.
    Group(GroupId),
    /// The handover of everything goes on.
    Drain,
    /// A leadership may be due for its preferred leader.
    LeaderRebalance,
    /// Entries may be read for a follower.
    Throttle,
}

/// The state that the replicas of a shard share while they are stepped.
pub(crate) struct StepContext {
    pub(crate) config: ShardConfig,
    pub(crate) now: Instant,
    /// This broker gives its leaderships away, and takes none.
    pub(crate) is_draining: bool,
    /// The last journal batch handed out.
    pub(crate) sequence: u64,
    /// Writes under way, in the order in which they were handed out.
    pub(crate) issued: VecDeque<Issued>,
    pub(crate) timers: TimerWheel<Timer>,
    pub(crate) leader_rebalance: LeaderRebalance,
    pub(crate) throttle: Throttle,
    /// Producers that all replicas know together.
    pub(crate) producers: usize,
    /// The memory of the logs' tails.
    pub(crate) tails: Tails,
    /// Reads that wait, and where.
    pub(crate) waiting_reads: NumberMap<Ticket, GroupId>,
    /// Handovers that [`Input::TransferAll`] asked for and that ended during this step.
    pub(crate) handed_over: Vec<(GroupId, Result<(), TransferError>)>,
    /// Reused for all groups.
    pub(crate) core_output: Output,
    pub(crate) proposal: Proposal,
    pub(crate) spare_pending: Vec<Vec<PendingAppend>>,
    pub(crate) breakage: Breakage,
}

impl StepContext {
    pub(crate) fn new(config: ShardConfig, now: Instant) -> StepContext {
        StepContext {
            throttle: Throttle::new(config.catch_up_bytes_per_second, now),
            tails: Tails::new(config.tails_bytes),
            config,
            now,
            is_draining: false,
            sequence: 0,
            issued: VecDeque::new(),
            timers: TimerWheel::new(now),
            leader_rebalance: LeaderRebalance::default(),
            producers: 0,
            waiting_reads: NumberMap::default(),
            handed_over: Vec::new(),
            core_output: Output::default(),
            proposal: Proposal::default(),
            spare_pending: Vec::new(),
            breakage: Breakage::default(),
        }
    }

    /// The number of the journal batch that this step fills.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    pub(crate) fn can_wait(&self) -> bool {
        self.waiting_reads.len() < MAX_WAITING_READS
    }

    /// Gives a group's emptied buffer to the next one that needs one.
    pub(crate) fn keep_pending(&mut self, pending: Vec<PendingAppend>) {
        let is_handy = pending.capacity() <= MAX_SPARE_CAPACITY && self.spare_pending.len() < MAX_SPARES;
        if is_handy {
            self.spare_pending.push(pending);
        }
    }
}
