//! From the core's append plans to messages with entries in them.
//!
//! Entries of the tail are at hand. Older ones are loaded by a thread that may block; meanwhile the plans for the same
//! follower queue up behind, since out of order they would be refused. One load a group and follower is out at a time,
//! so a follower far behind costs one read at a time and delays nobody else. How much all of them read together is
//! limited ([`crate::throttle`]).

use crate::desk::Desk;
use crate::mailbox::{Load, Loaded, Outbox};
use crate::replica::Replica;
use crate::throttle::Parked;
use std::collections::VecDeque;
use trimaran_raft::{AppendPlan, Body, Entry, LogIndex, LogView, Message, NodeId};
use trimaran_storage::log::{Entries, LogError};

/// A follower that waits for a load.
#[derive(Debug)]
struct Loading {
    to: NodeId,
    /// What the load is for.
    plan: AppendPlan,
    /// It has not begun: too much is read already.
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
    fn queue_behind(&mut self, plan: AppendPlan, limit: usize) -> bool {
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

    /// Whether somebody waits for this load to begin. From now on it is under way.
    fn begin(&mut self, plan: &AppendPlan) -> bool {
        let waits = |loading: &&mut Loading| loading.is_parked && loading.plan == *plan;
        let waiting = self.loading.iter_mut().find(waits);
        waiting.map(|loading| loading.is_parked = false).is_some()
    }

    /// What waited for this plan's load; none if nobody did.
    fn done(&mut self, plan: &AppendPlan) -> Option<VecDeque<AppendPlan>> {
        let place = self.loading.iter().position(|loading| loading.plan == *plan)?;
        Some(self.loading.swap_remove(place).behind)
    }
}

impl Replica {
    /// Sends what a plan names, now or once it is loaded.
    pub(crate) fn replicate(&mut self, plan: AppendPlan, desk: &mut Desk, out: &mut Outbox) {
        let limit = desk.config.tuning.max_inflight_messages;
        if self.loads.queue_behind(plan, limit) {
            return;
        }
        if plan.last < plan.first {
            return self.send_append(plan, Vec::new(), out);
        }
        // Files are opened when it is their turn.
        if !self.log.is_in_memory(plan.first) {
            return self.load(plan, desk, out);
        }
        match self.log.entries(plan.first, plan.last) {
            Ok(Entries::Ready(entries)) => self.send_append(plan, entries, out),
            Ok(Entries::Load(_)) => self.load(plan, desk, out),
            Err(LogError::NotHeld { .. }) => {}
            Err(error) => self.note_failure(error),
        }
    }

    /// Reads what a plan names, at once or when it is its turn.
    fn load(&mut self, plan: AppendPlan, desk: &mut Desk, out: &mut Outbox) {
        let parked = Parked {
            group: self.id,
            plan,
            bytes: self.log.fit(plan.first, plan.last, u64::MAX).1,
        };
        self.loads.loading.push(Loading {
            to: plan.to,
            plan,
            is_parked: true,
            behind: VecDeque::new(),
        });
        if desk.throttle.admit(desk.now, parked) {
            self.begin_parked_load(plan, out);
        }
    }

    /// It is this plan's turn; false if nobody waits for it any more.
    pub(crate) fn begin_parked_load(&mut self, plan: AppendPlan, out: &mut Outbox) -> bool {
        if !self.leads() || self.group.term() != plan.term || !self.loads.begin(&plan) {
            return false;
        }
        let (group, first, last) = (self.id, plan.first, plan.last);
        match self.log.entries(first, last) {
            Ok(Entries::Load(job)) => out.loads.push(Load { group, job, plan }),
            Ok(Entries::Ready(entries)) => {
                self.loads.done(&plan);
                self.send_append(plan, entries, out);
            }
            Err(error) => {
                self.loads.done(&plan);
                // Retention was faster than the plan; the core plans again from what is left.
                if !matches!(error, LogError::NotHeld { .. }) {
                    self.note_failure(error);
                }
                return false;
            }
        }
        true
    }

    /// A load is done: it is sent, and what waited behind it follows.
    pub(crate) fn loaded(&mut self, loaded: Loaded, desk: &mut Desk, out: &mut Outbox) {
        let Some(behind) = self.loads.done(&loaded.plan) else {
            return;
        };
        if !self.leads() || self.group.term() != loaded.plan.term {
            return;
        }
        match loaded.entries {
            Ok(entries) if is_planned(&entries, &loaded.plan) => self.send_append(loaded.plan, entries, out),
            Err(LogError::NotHeld { .. }) => return,
            Ok(_) => {
                let (first, last) = (loaded.plan.first, loaded.plan.last);
                return self.note_failure(LogError::NotHeld { first, last });
            }
            Err(error) => return self.note_failure(error),
        }
        for plan in behind {
            self.replicate(plan, desk, out);
        }
    }

    fn send_append(&self, plan: AppendPlan, entries: Vec<Entry>, out: &mut Outbox) {
        let AppendPlan {
            to,
            term,
            prev_index,
            prev_term,
            commit,
            replicated_index,
            ..
        } = plan;
        let body = Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries,
        };
        out.send(to, self.id, Message { term, body });
    }
}

/// Whether exactly the planned entries were loaded: a disk may return anything.
fn is_planned(entries: &[Entry], plan: &AppendPlan) -> bool {
    let indices = entries.iter().map(|entry| entry.index);
    indices.eq((plan.first.0..=plan.last.0).map(LogIndex))
}
