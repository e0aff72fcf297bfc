//! From the core's append plans to messages with entries in them.
//!
//! Entries of the tail are at hand. Older ones are loaded by a thread that may block; meanwhile the plans for the same
//! follower queue up behind, since out of order they would be refused. One load a group and follower is out at a time,
//! so a follower far behind costs one read at a time and delays nobody else. How much all of them read together is
//! limited ([`crate::throttle`]).

use super::Replica;
use crate::mailbox::{Load, Loaded, Outbox};
use crate::step_context::StepContext;
use crate::throttle::Parked;
use trimaran_raft::{AppendPlan, Body, Entry, LogIndex, LogView, Message};
use trimaran_storage::log::{Entries, LogError};

impl Replica {
    /// Sends what a plan names, now or once it is loaded.
    pub(crate) fn replicate(&mut self, plan: AppendPlan, context: &mut StepContext, out: &mut Outbox) {
        let limit = context.config.tuning.max_inflight_messages;
        if self.loads.queue_behind(plan, limit) {
            return;
        }
        if plan.last < plan.first {
            return self.send_append(plan, Vec::new(), out);
        }
        // Files are opened when it is their turn.
        if !self.log.is_in_memory(plan.first) {
            return self.load(plan, context, out);
        }
        match self.log.entries(plan.first, plan.last) {
            Ok(Entries::Ready(entries)) => self.send_append(plan, entries, out),
            Ok(Entries::Load(_)) => self.load(plan, context, out),
            Err(LogError::NotHeld { .. }) => {}
            Err(error) => self.health.note(error),
        }
    }

    /// Reads what a plan names, at once or when it is its turn.
    fn load(&mut self, plan: AppendPlan, context: &mut StepContext, out: &mut Outbox) {
        let parked = Parked {
            group: self.id,
            plan,
            bytes: self.log.fit(plan.first, plan.last, u64::MAX).1,
        };
        self.loads.park(plan);
        if context.throttle.admit(context.now, parked) {
            self.begin_parked_load(plan, out);
        }
    }

    /// Begins a load in its turn; false if it is not waited for any more.
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
                    self.health.note(error);
                }
                return false;
            }
        }
        true
    }

    /// A load is done: it is sent, and what waited behind it follows.
    pub(crate) fn loaded(&mut self, loaded: Loaded, context: &mut StepContext, out: &mut Outbox) {
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
                return self.health.note(LogError::NotHeld { first, last });
            }
            Err(error) => return self.health.note(error),
        }
        for plan in behind {
            self.replicate(plan, context, out);
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
