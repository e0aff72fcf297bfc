//! The followers of a replica that wait for entries to be read.

use std::collections::VecDeque;
use trimaran_raft::{AppendPlan, NodeId};

/// A follower that waits for a load.
#[derive(Debug)]
struct Loading {
    to: NodeId,
    /// The append that the load is for.
    plan: AppendPlan,
    /// Whether it has not begun: too much is read already.
    is_parked: bool,
    behind: VecDeque<AppendPlan>,
}

/// Followers that wait for loads: usually none.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    loading: Vec<Loading>,
}

impl Loads {
    /// Leadership ended: nobody waits any more. Loads that are out come back to nobody.
    pub(crate) fn clear(&mut self) {
        self.loading.clear();
    }

    /// Takes a plan if its follower waits; beyond `limit` it is dropped as the network might have, and retransmitted.
    pub(crate) fn queue_behind(&mut self, plan: AppendPlan, limit: usize) -> bool {
        let Some(loading) = self.loading.iter_mut().find(|loading| loading.to == plan.to) else {
            return false;
        };
        // Sent again while it waits for its turn: it will be sent in any case.
        let is_repeated = loading.is_parked && plan.first <= loading.plan.last;
        if loading.behind.len() < limit && !is_repeated {
            loading.behind.push_back(plan);
        }
        true
    }

    /// A follower waits for what a plan names to be read.
    pub(crate) fn park(&mut self, plan: AppendPlan) {
        self.loading.push(Loading {
            to: plan.to,
            plan,
            is_parked: true,
            behind: VecDeque::new(),
        });
    }

    /// Whether somebody waits for this load to begin. From now on it is under way.
    pub(crate) fn begin(&mut self, plan: &AppendPlan) -> bool {
        let waits = |loading: &&mut Loading| loading.is_parked && loading.plan == *plan;
        let waiting = self.loading.iter_mut().find(waits);
        waiting.map(|loading| loading.is_parked = false).is_some()
    }

    /// The plans that waited for this plan's load; none if it is not waited for.
    pub(crate) fn done(&mut self, plan: &AppendPlan) -> Option<VecDeque<AppendPlan>> {
        let place = self.loading.iter().position(|loading| loading.plan == *plan)?;
        Some(self.loading.swap_remove(place).behind)
    }
}
