//! Rebalances: from the first member that must join again to a generation whose members wait for their assignments.

use super::Group;
use crate::context::Context;
use crate::members::{Member, Waiting};
use crate::request::{GroupState, JoinRefused, Joined, JoinedMember};
use crate::sabotage::Sabotage;
use crate::timers::Due;
use crate::writer::Effect;
use crate::{Error, Generation, Reply};
use std::sync::Arc;

/// The first rebalance of an empty group, which waits for members to come.
#[derive(Debug)]
pub(super) struct Initial {
    /// How much longer it may wait after the present delay.
    remaining_ms: u64,
    /// Whether a member has come during the present delay.
    pub(super) has_new_member: bool,
}

impl Group {
    /// Begins a rebalance. If all members have joined already, it is complete at once, unless the group was empty: then it
    /// waits for `group.initial.rebalance.delay.ms`, so that a group that is started need not rebalance once a member.
    pub(super) fn prepare_rebalance(&mut self, context: &mut Context<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.refuse_syncs(Error::RebalanceInProgress, context);
        }
        self.is_assigning = false;
        self.cancel_sync(context);
        self.unsynced.clear();
        let is_first = self.state == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, context);
        let timeout_ms = self.members.rebalance_timeout();
        let delay_ms = context.config.group_initial_rebalance_delay_ms;
        if is_first && delay_ms > 0 {
            self.initial = Some(Initial {
                remaining_ms: timeout_ms.saturating_sub(delay_ms),
                has_new_member: false,
            });
            self.set_join(delay_ms, context);
        } else {
            self.set_join(timeout_ms, context);
            self.complete_join_if_all_have(context);
        }
    }

    /// Begins a rebalance, or completes the one that goes on if its last member has come or gone.
    pub(super) fn rebalance(&mut self, context: &mut Context<'_>) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => self.prepare_rebalance(context),
            GroupState::PreparingRebalance => self.complete_join_if_all_have(context),
            GroupState::Dead => {}
        }
    }

    pub(super) fn complete_join_if_all_have(&mut self, context: &mut Context<'_>) {
        let have_all = self.members.joining() == self.members.len() && self.promised.is_empty();
        if self.state == GroupState::PreparingRebalance && self.initial.is_none() && have_all {
            self.complete_join(context);
        }
    }

    /// The time in which members must join is up.
    pub(crate) fn on_join_deadline(&mut self, at_ms: u64, context: &mut Context<'_>) {
        if self.join_deadline != Some(at_ms) {
            return;
        }
        self.join_deadline = None;
        if let Some(initial) = &mut self.initial
            && initial.has_new_member
            && initial.remaining_ms > 0
        {
            let delay_ms = context
                .config
                .group_initial_rebalance_delay_ms
                .min(initial.remaining_ms);
            initial.remaining_ms -= delay_ms;
            initial.has_new_member = false;
            self.set_join(delay_ms, context);
        } else {
            self.complete_join(context);
        }
    }

    /// Goes on to the next generation with the members that have joined. Dynamic members that haven't are removed;
    /// static ones keep their place until their session ends (KIP-345).
    fn complete_join(&mut self, context: &mut Context<'_>) {
        self.cancel_join(context);
        let is_late = |member: &&Member| !member.is_joining() && member.instance_id.is_none();
        let late: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(is_late)
            .map(|member| member.id.clone())
            .collect();
        for id in late {
            self.remove_member(&id, Error::UnknownMemberId, context);
        }
        if self.members.is_empty() {
            self.become_empty(context);
            return;
        }
        let leads = |id: &Arc<str>| self.members.get(id).is_some_and(Member::is_joining);
        if !self.leader.as_ref().is_some_and(leads) {
            let Some(leader) = self.members.iter().find(|member| member.is_joining()) else {
                // Static members only, of which none has come: they have their sessions' time.
                self.set_join(self.members.rebalance_timeout().max(1), context);
                return;
            };
            self.leader = Some(leader.id.clone());
        }
        self.initial = None;
        self.begin_generation(context);
        self.protocol = self.members.chosen_protocol();
        self.enter(GroupState::CompletingRebalance, context);
        // What members are told must not be ahead of what a next coordinator knows of them.
        self.flush(context);
        let everyone: Vec<Arc<str>> = self.members.iter().map(|member| member.id.clone()).collect();
        for id in everyone {
            if let Some(Waiting::Join(ticket)) = self.members.wait(&id, None) {
                let reply = self.joined(&id, self.is_leader(&id), false);
                self.reply_when_stored(ticket, Reply::JoinGroup(Ok(reply)), context);
                self.unsynced.insert(id.clone());
                if let Some(member) = self.members.get_mut(&id) {
                    member.is_new = false;
                }
                self.restart_session(&id, context);
            }
        }
        self.set_sync(self.members.rebalance_timeout(), context);
    }

    fn become_empty(&mut self, context: &mut Context<'_>) {
        self.initial = None;
        self.leader = None;
        self.protocol = None;
        self.enter(GroupState::Empty, context);
        // A group that never had an assignment has nothing to be remembered by.
        if self.stored.image.is_some() {
            self.begin_generation(context);
            self.store(Effect::None, context)
                .expect("a group without members is small");
        }
    }

    fn begin_generation(&mut self, context: &Context<'_>) {
        if !context.breakage.is(Sabotage::KeepGeneration) {
            // After the last number comes the first one.
            self.generation = Generation(self.generation.0.checked_add(1).unwrap_or(1));
        }
    }

    /// The time in which members must ask for their assignments is up: those that haven't are removed.
    pub(crate) fn on_sync_deadline(&mut self, at_ms: u64, context: &mut Context<'_>) {
        if self.sync_deadline != Some(at_ms) {
            return;
        }
        self.sync_deadline = None;
        let late = core::mem::take(&mut self.unsynced);
        if !late.is_empty() {
            for id in late {
                self.remove_member(&id, Error::UnknownMemberId, context);
            }
            self.rebalance(context);
        }
    }

    /// A session is over, unless the member was heard of since the deadline was set, or is being kept waiting.
    pub(crate) fn on_session_deadline(&mut self, id: &str, at_ms: u64, context: &mut Context<'_>) -> bool {
        let Some(member) = self.members.get_mut(id) else {
            return false;
        };
        if member.timer != Some(at_ms) {
            return false;
        }
        member.timer = None;
        let now_ms = context.time.monotonic_ms;
        if member.session_end_ms > now_ms {
            let left_ms = member.session_end_ms - now_ms;
            context.restart_session(&self.id, member, left_ms);
            false
        } else if member.waiting().is_some() && !member.is_new {
            // At least a moment, so that the time goes on.
            let timeout_ms = member.session_timeout().max(1);
            context.restart_session(&self.id, member, timeout_ms);
            false
        } else {
            self.remove_member(id, Error::UnknownMemberId, context);
            true
        }
    }

    /// The time in which a new member must join with its id is up.
    pub(crate) fn on_promise_deadline(&mut self, id: &str, at_ms: u64) {
        if self.promised.get(id) == Some(&at_ms) {
            self.promised.remove(id);
        }
    }

    /// Goes on after members have gone, or only ids that were given to new ones.
    pub(crate) fn on_gone(&mut self, were_members: bool, context: &mut Context<'_>) {
        if were_members {
            self.rebalance(context);
        } else {
            self.complete_join_if_all_have(context);
        }
    }

    /// Takes a member out of the group, without what follows from it. A waiting client is refused with the error.
    ///
    /// The first departure in a generation is stored, so that the next coordinator goes on with the rebalance even if no
    /// other member has noticed it: the record keeps its generation and names no leader. Those of static members are
    /// stored always: a member that comes back with the same instance id would be fenced by the record of its former id.
    pub(super) fn remove_member(&mut self, id: &str, error: Error, context: &mut Context<'_>) {
        let waiting = self.members.wait(id, None);
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        context.cancel_session(&self.id, &mut member);
        self.refuse(waiting, id, error, context);
        self.unsynced.remove(id);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.iter().next().map(|next| next.id.clone());
        }
        let Some(image) = &mut self.stored.image else { return };
        let before = image.members.len();
        image.members.retain(|stored| stored.member_id != id);
        if image.members.len() < before && (image.leader.is_some() || member.instance_id.is_some()) {
            if !context.breakage.is(Sabotage::ForgetDeparture) {
                image.leader = None;
            }
            self.stored.is_dirty = true;
        }
    }

    pub(super) fn refuse(&mut self, waiting: Option<Waiting>, id: &str, error: Error, context: &mut Context<'_>) {
        match waiting {
            Some(Waiting::Join(ticket)) => {
                let refused = JoinRefused {
                    error,
                    member_id: id.to_owned(),
                };
                context.reply(ticket, Reply::JoinGroup(Err(refused)));
            }
            Some(Waiting::Sync(ticket)) => context.reply(ticket, Reply::SyncGroup(Err(error))),
            None => {}
        }
    }

    fn refuse_syncs(&mut self, error: Error, context: &mut Context<'_>) {
        let syncs = |member: &&Member| matches!(member.waiting(), Some(Waiting::Sync(_)));
        let ids: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(syncs)
            .map(|member| member.id.clone())
            .collect();
        for id in ids {
            let waiting = self.members.wait(&id, None);
            self.refuse(waiting, &id, error, context);
            self.restart_session(&id, context);
        }
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// The reply to a member that has joined the present generation.
    pub(super) fn joined(&self, id: &str, with_members: bool, skip_assignment: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().filter(|_| with_members).map(|member| JoinedMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        });
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment,
            member_id: id.to_owned(),
            members: members.collect(),
            protocol_name: protocol,
        }
    }

    fn set_join(&mut self, delay_ms: u64, context: &mut Context<'_>) {
        self.cancel_join(context);
        let at_ms = context.time.monotonic_ms.saturating_add(delay_ms);
        let group = self.id.clone();
        context.timers.set(at_ms, Due::Join { group });
        self.join_deadline = Some(at_ms);
    }

    pub(super) fn cancel_join(&mut self, context: &mut Context<'_>) {
        if let Some(at_ms) = self.join_deadline.take() {
            let group = self.id.clone();
            context.timers.cancel(at_ms, Due::Join { group });
        }
    }

    fn set_sync(&mut self, delay_ms: u64, context: &mut Context<'_>) {
        self.cancel_sync(context);
        let at_ms = context.time.monotonic_ms.saturating_add(delay_ms);
        let group = self.id.clone();
        context.timers.set(at_ms, Due::Sync { group });
        self.sync_deadline = Some(at_ms);
    }

    pub(super) fn cancel_sync(&mut self, context: &mut Context<'_>) {
        if let Some(at_ms) = self.sync_deadline.take() {
            let group = self.id.clone();
            context.timers.cancel(at_ms, Due::Sync { group });
        }
    }
}
