//! All intervals, derived from the one promise that users see: how long a failover may take.

use crate::LivenessConfig;
use core::time::Duration;
use trimaran_raft::{Instant, NodeId, Tuning};

/// All intervals of a broker, derived from `failover_budget_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "skeleton")]
pub struct IntervalPlan {
    pub budget: Duration,
    pub heartbeat_interval: Duration,
    pub suspicion_timeout: Duration,
    pub election_timeout: Duration,
    pub rank_delay: Duration,
    pub suspicion_delay: Duration,
    pub retransmit_timeout: Duration,
}

/// The budget is below [`IntervalPlan::MIN_BUDGET`] or above [`IntervalPlan::MAX_BUDGET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetOutOfRange(pub Duration);

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl IntervalPlan {
    pub const MIN_BUDGET: Duration = Duration::from_millis(50);
    pub const MAX_BUDGET: Duration = Duration::from_secs(60);

    pub fn new(budget: Duration) -> Result<IntervalPlan, BudgetOutOfRange> {
        todo!()
    }
    /// For [`crate::ShardConfig::tuning`].
    pub fn tuning(&self, seed: u64) -> Tuning {
        todo!()
    }
    /// For [`crate::LivenessMonitor`].
    pub fn liveness(&self, node: NodeId, incarnation: u64) -> LivenessConfig {
        todo!()
    }
}

/// Whether a broker's own disk and scheduler leave its failover budget safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Measured delays fit.
    Safe,
    /// An election would take this long because of the slow disk or scheduler: longer than planned.
    Slow {
        /// What the parts of a failover add up to with the measured delays.
        expected: Duration,
    },
    /// This broker was late by this much: enough for others to suspect it while it lives.
    Jittery {
        /// The largest delay measured lately.
        delay: Duration,
    },
}

/// Fed with measured delays, tells whether the budget is safe.
#[derive(Clone, Debug)]
pub struct Headroom {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl Headroom {
    pub fn new(plan: IntervalPlan) -> Headroom {
        todo!()
    }
    /// How long a journal write with its sync took.
    pub fn fsync(&mut self, now: Instant, took: Duration) {
        todo!()
    }
    /// How late a timer fired.
    pub fn lateness(&mut self, now: Instant, late: Duration) {
        todo!()
    }
    pub fn safety(&mut self, now: Instant) -> Safety {
        todo!()
    }
}
