//! A leader's steps from the members of its group to those that are wanted: see [`crate::membership`].

use super::Replica;
use crate::mailbox::Outbox;
use crate::membership::Next;
use crate::step_context::StepContext;
use trimaran_raft::{LogIndex, NodeId};

impl Replica {
    /// Names the nodes that are to have a replica from now on.
    pub(crate) fn set_replicas(&mut self, replicas: Vec<NodeId>, version: u64) {
        if self.membership.set_wanted(replicas, version) {
            // More may have to hold what waits than there are.
            self.announced.in_sync = false;
        }
    }

    /// Another configuration is in force, or is committed now.
    pub(crate) fn note_configuration(&mut self, index: LogIndex, context: &StepContext) {
        self.membership.note_configuration(index);
        if self.leads() {
            self.in_sync.change(context.config.node, self.group.voters());
            self.announced.in_sync = false;
        }
    }

    /// Takes the next step, if one is due, and says who the members are if that is news.
    pub(crate) fn advance_members(&mut self, context: &mut StepContext, out: &mut Outbox) {
        if !self.leads() || !self.group.is_serving() {
            return self.membership.stand_by();
        }
        let (group, log) = (&self.group, &self.log);
        out.members.extend(self.membership.report(group, log));
        if self.health.damage.is_some() || context.is_draining {
            return;
        }
        match self.membership.next(context.now, group, log) {
            None => {}
            Some(Next::Rest) => {
                let fulfilled = self.membership.report_fulfilment(context.config.node, group, log);
                out.members.extend(fulfilled);
            }
            Some(Next::Wait) => out.quorum_lost.extend(self.membership.report_quorum_lost(group, log)),
            Some(Next::Change(target)) => {
                let answer = self.step_change(target, context, out);
                self.membership.note_answer(answer, context.now);
            }
        }
    }
}
