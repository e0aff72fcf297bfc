//! All intervals, derived from the one promise that users see: how long a failover may take.
//!
//! The worst failover is a silent one: a leader that stops without closing its connections (a pause, a cut cable).
//! From its last heartbeat on, these follow one another:
//!
//! | part | share of the budget | at 250 ms |
//! |---|---|---|
//! | silence until it is suspected ([`IntervalPlan::suspicion_timeout`]) | 40 % | 100 ms |
//! | a last wait, lest a hiccup cost an election ([`IntervalPlan::suspicion_delay`]) | 4 % | 10 ms |
//! | pre-vote: one round trip | with the next two: | |
//! | vote: one round trip and one synchronous write | three exchanges | |
//! | the new leader's first entry: one round trip and one synchronous write | of 12 % each | 90 ms |
//! | a second candidate, where the first one is out of touch ([`IntervalPlan::rank_delay`]) | 12 % | 30 ms |
//!
//! That is 92 %; the rest is for the shards' queues. A leader whose process died takes less: its refused connection
//! replaces the first two rows.

#[cfg(test)]
mod tests;

use crate::LivenessConfig;
use core::fmt;
use core::time::Duration;
use trimaran_raft::{Heartbeats, Instant, NodeId, Tuning};

/// Exchanges between brokers that an election takes one after the other: pre-vote, vote, first entry.
const EXCHANGES: u32 = 3;
/// The exchanges that wait for a disk: the vote, and the first entry.
const SYNCS: u32 = 2;
/// How long measurements count. A stall is remembered for one to two windows.
const WINDOW: Duration = Duration::from_secs(30);

/// All intervals of a broker, derived from `failover_budget_ms`. See the module's table for how they add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalPlan {
    /// The promise: from a leader's last sign of life to its successor's first acknowledgement.
    pub budget: Duration,
    /// Between two heartbeats to a peer. A quarter of `suspicion_timeout`: three may be lost in a row.
    pub heartbeat_interval: Duration,
    /// Silence after which a broker is suspected.
    pub suspicion_timeout: Duration,
    /// How long a member without a leader waits before it stands (again).
    pub election_timeout: Duration,
    /// The time that each rank waits longer. No shorter than one exchange, so that the first candidate's votes are out
    /// before the second one asks.
    pub rank_delay: Duration,
    /// How much longer a suspected leader is waited for than a dead one.
    pub suspicion_delay: Duration,
    /// How long a leader waits for an answer before it sends again. Longer than an exchange with its disk's hiccups;
    /// short enough that one lost message does not cost the budget.
    pub retransmit_timeout: Duration,
}

/// The budget is below [`IntervalPlan::MIN_BUDGET`] or above [`IntervalPlan::MAX_BUDGET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetOutOfRange(
    /// The budget that was asked for.
    pub Duration,
);

impl fmt::Display for BudgetOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a failover budget of {} ms is not between {} and {} ms",
            self.0.as_millis(),
            IntervalPlan::MIN_BUDGET.as_millis(),
            IntervalPlan::MAX_BUDGET.as_millis()
        )
    }
}

impl std::error::Error for BudgetOutOfRange {}

impl IntervalPlan {
    /// Below this the heartbeats' interval approaches the resolution of timers and the jitter of schedulers.
    pub const MIN_BUDGET: Duration = Duration::from_millis(50);
    /// Above this it is a typing error.
    pub const MAX_BUDGET: Duration = Duration::from_secs(60);

    /// Derives all intervals from the budget.
    ///
    /// # Errors
    /// The budget is not between [`IntervalPlan::MIN_BUDGET`] and [`IntervalPlan::MAX_BUDGET`].
    pub fn new(budget: Duration) -> Result<IntervalPlan, BudgetOutOfRange> {
        if budget < IntervalPlan::MIN_BUDGET || budget > IntervalPlan::MAX_BUDGET {
            return Err(BudgetOutOfRange(budget));
        }
        let percent = |share: u32| budget * share / 100;
        Ok(IntervalPlan {
            budget,
            heartbeat_interval: percent(10),
            suspicion_timeout: percent(40),
            election_timeout: percent(40),
            rank_delay: percent(12),
            suspicion_delay: percent(4),
            retransmit_timeout: percent(40),
        })
    }

    /// The time that a round trip between two brokers may take, the synchronous write at its other end included.
    pub fn exchange(&self) -> Duration {
        self.rank_delay
    }

    /// The worst silent failover as planned: what the module's table adds up to.
    pub fn planned(&self) -> Duration {
        self.suspicion_timeout + self.suspicion_delay + self.exchange() * EXCHANGES + self.rank_delay
    }

    /// The cores' intervals and limits, for [`crate::ShardConfig::tuning`]. `seed` should differ between brokers.
    pub fn tuning(&self, seed: u64) -> Tuning {
        Tuning {
            heartbeats: Heartbeats::External,
            election_timeout: self.election_timeout,
            rank_delay: self.rank_delay,
            suspicion_delay: self.suspicion_delay,
            retransmit_timeout: self.retransmit_timeout,
            // Enough for a follower to be kept busy over a round trip of a few batches' length.
            max_inflight_messages: 64,
            max_inflight_bytes: 8 << 20,
            // One peer envelope stays well below the frame limit, whatever one batch adds to it.
            max_append_bytes: 1 << 20,
            // What a group may hold in memory without a quorum; above the largest batch that brokers accept by far.
            max_uncommitted_bytes: 32 << 20,
            lease: None,
            seed,
        }
    }

    /// The liveness monitor's intervals.
    pub fn liveness(&self, node: NodeId, incarnation: u64) -> LivenessConfig {
        LivenessConfig {
            node,
            incarnation,
            interval: self.heartbeat_interval,
            timeout: self.suspicion_timeout,
        }
    }
}

/// Whether a broker's own disk and scheduler leave its failover budget safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Measured delays fit.
    Safe,
    /// A failover would take longer than the budget, because of a slow disk or scheduler.
    Slow {
        /// The sum of a failover's parts with the delays measured.
        expected: Duration,
    },
    /// This broker was late by so much that others may suspect it while it lives.
    Jittery {
        /// The largest delay measured lately.
        delay: Duration,
    },
}

/// The largest value of the current and the previous window.
#[derive(Clone, Copy, Debug, Default)]
struct Largest {
    current: Duration,
    previous: Duration,
}

impl Largest {
    fn note(&mut self, value: Duration) {
        self.current = self.current.max(value);
    }

    fn rotate(&mut self) {
        self.previous = core::mem::take(&mut self.current);
    }

    fn value(&self) -> Duration {
        self.current.max(self.previous)
    }
}

/// Tells from measured delays whether the budget is safe. The worst of the last [30 to 60 seconds](Headroom::safety)
/// counts: an average hides the stall that would break the promise.
#[derive(Clone, Debug)]
pub struct Headroom {
    plan: IntervalPlan,
    window_began: Instant,
    fsync: Largest,
    lateness: Largest,
}

impl Headroom {
    /// Nothing measured yet: safe.
    pub fn new(plan: IntervalPlan) -> Headroom {
        Headroom {
            plan,
            window_began: Instant::ZERO,
            fsync: Largest::default(),
            lateness: Largest::default(),
        }
    }

    /// How long a journal write with its sync took.
    pub fn fsync(&mut self, now: Instant, took: Duration) {
        self.rotate(now);
        self.fsync.note(took);
    }

    /// How late a timer fired.
    pub fn lateness(&mut self, now: Instant, late: Duration) {
        self.rotate(now);
        self.lateness.note(late);
    }

    /// The verdict on the last 30 to 60 seconds.
    pub fn safety(&mut self, now: Instant) -> Safety {
        self.rotate(now);
        let late = self.lateness.value();
        // Heartbeats leave an interval apart; what is left of the timeout is all that lateness may eat.
        if late + self.plan.heartbeat_interval >= self.plan.suspicion_timeout {
            return Safety::Jittery { delay: late };
        }
        let expected = self.expected();
        if expected > self.plan.budget {
            Safety::Slow { expected }
        } else {
            Safety::Safe
        }
    }

    /// The time that the worst silent failover would take here. Round trips are not measured: what the plan allows for
    /// an exchange is a floor under what was measured of it.
    fn expected(&self) -> Duration {
        let (fsync, late) = (self.fsync.value(), self.lateness.value());
        let sync_exchange = self.plan.exchange().max(fsync + late);
        let exchange = self.plan.exchange().max(late);
        let detection = self.plan.suspicion_timeout + self.plan.suspicion_delay + late;
        detection + sync_exchange * SYNCS + exchange * (EXCHANGES - SYNCS) + self.plan.rank_delay
    }

    fn rotate(&mut self, now: Instant) {
        let passed = now.since(self.window_began);
        if passed >= WINDOW {
            self.fsync.rotate();
            self.lateness.rotate();
            self.window_began = now;
        }
        // Silence for two windows means that both are out of date.
        if passed >= WINDOW * 2 {
            self.fsync.rotate();
            self.lateness.rotate();
        }
    }
}
