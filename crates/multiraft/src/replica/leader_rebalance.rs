//! A replica's part in the leader rebalance: see [`crate::leader_rebalance`].

use super::Replica;
use crate::leader_rebalance::TICK;
use crate::mailbox::Outbox;
use crate::step_context::StepContext;
use trimaran_raft::{Input as CoreInput, Instant, Liveness, NodeId};

impl Replica {
    /// The preferred leader, and when to hand over to it; none as long as it is this node, or no other node is fit.
    fn preferred_leader(&self, context: &StepContext) -> Option<(NodeId, Instant)> {
        let after = context.config.leader_rebalance_after?;
        let own = context.config.node;
        if self.group.voters().first() == Some(&own) || !self.leads() || self.is_failed() || context.is_draining {
            return None;
        }
        let is_alive = |node: NodeId| {
            let progress = self.group.progress(node);
            progress.is_some_and(|progress| progress.liveness == Liveness::Alive)
        };
        let mut before_own = self.group.voters().iter().take_while(|voter| **voter != own);
        let preferred = *before_own.find(|voter| is_alive(**voter))?;
        let fit_at = self.in_sync.fit_since(preferred)? + after;
        let not_before = self.leader_rebalance.not_before(preferred);
        let backoff = context.leader_rebalance.not_before(preferred);
        Some((preferred, fit_at.max(not_before).max(backoff)))
    }

    /// Enters the queue if there is a node to hand over to. A replica that is queued is looked at in its turn; one that
    /// leads no more leaves the queue.
    pub(crate) fn queue_leader_rebalance(&mut self, context: &mut StepContext) {
        let is_queued = self.leader_rebalance.is_queued();
        if !is_queued && let Some((_, at)) = self.preferred_leader(context) {
            self.enqueue_rebalance(at, context);
        } else if is_queued && !self.leads() {
            self.leave_rebalance_queue(context);
        }
    }

    fn enqueue_rebalance(&mut self, at: Instant, context: &mut StepContext) {
        self.leader_rebalance
            .enqueue(self.id, at, &mut context.leader_rebalance);
    }

    pub(crate) fn leave_rebalance_queue(&mut self, context: &mut StepContext) {
        self.leader_rebalance.dequeue(self.id, &mut context.leader_rebalance);
    }

    /// Its turn: hands over, or enters the queue again if it is too early, after all.
    pub(crate) fn rebalance(&mut self, context: &mut StepContext, out: &mut Outbox) {
        self.leader_rebalance.taken();
        let Some((preferred, at)) = self.preferred_leader(context) else {
            return;
        };
        if at > context.now {
            self.enqueue_rebalance(at, context);
        } else if !self.handover.is_idle() || !self.holds_what_is_committed(preferred) {
            self.enqueue_rebalance(context.now + TICK, context);
        } else {
            self.leader_rebalance.ask(preferred, context.now);
            self.step(CoreInput::Transfer(Some(preferred)), context, out);
        }
    }

    /// Under load no follower ever holds the whole log: the transfer waits until its target does, refusing appends. One
    /// that holds what is committed gets there in an exchange.
    fn holds_what_is_committed(&self, node: NodeId) -> bool {
        let progress = self.group.progress(node);
        progress.is_some_and(|progress| progress.match_index >= self.group.commit())
    }

    /// A transfer has failed.
    pub(crate) fn note_rebalance_failure(&mut self, context: &mut StepContext) {
        if let Some(after) = context.config.leader_rebalance_after {
            let until = context.now + after;
            self.leader_rebalance.failed(until, &mut context.leader_rebalance);
        }
    }

    /// A failover on request replaces a leader. All replicas are told, so its followers know; one that has taken over
    /// already must know as well.
    pub(crate) fn note_failover(&mut self, failed: Option<NodeId>, context: &StepContext) {
        if let Some(failed) = failed.or(self.group.leader()) {
            self.leader_rebalance.note_failover(failed, context.now);
        }
    }
}
