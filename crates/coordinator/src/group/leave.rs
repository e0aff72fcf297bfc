//! LeaveGroup.

use super::Group;
use crate::context::Context;
use crate::request::{GroupState, LeaveOutcome, LeavingMember};
use crate::{Error, Reply, Ticket};
use std::sync::Arc;

impl Group {
    /// Removes members, each by its id, by its instance id, or by both.
    pub(crate) fn leave(&mut self, ticket: Ticket, members: Vec<LeavingMember>, context: &mut Context<'_>) {
        if self.state == GroupState::Dead {
            context.reply(ticket, Reply::LeaveGroup(Err(Error::CoordinatorNotAvailable)));
            return;
        }
        let before = self.members.len();
        let mut outcomes = Vec::with_capacity(members.len());
        for member in members {
            let result = self.leave_one(&member, context);
            outcomes.push(LeaveOutcome { member, result });
        }
        self.on_gone(self.members.len() < before, context);
        self.flush(context);
        self.reply_when_stored(ticket, Reply::LeaveGroup(Ok(outcomes)), context);
    }

    fn leave_one(&mut self, leaving: &LeavingMember, context: &mut Context<'_>) -> Result<(), Error> {
        let instance_id = leaving.instance_id.as_deref();
        if leaving.member_id.is_empty() {
            // An administrator, who knows the instance only.
            let known = instance_id.and_then(|instance_id| self.members.of_instance(instance_id));
            let id: Arc<str> = known.ok_or(Error::UnknownMemberId)?.clone();
            self.remove_member(&id, Error::UnknownMemberId, context);
        } else if self.promised.contains_key(&*leaving.member_id) {
            self.take_promise(&leaving.member_id, context);
        } else {
            self.members.check(&leaving.member_id, instance_id)?;
            self.remove_member(&leaving.member_id, Error::UnknownMemberId, context);
        }
        Ok(())
    }
}
