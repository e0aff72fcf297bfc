//! SyncGroup and Heartbeat.

use super::Group;
use crate::context::Context;
use crate::members::{Member, Waiting};
use crate::request::{GroupState, Heartbeat, SyncGroup, Synced};
use crate::sabotage::Sabotage;
use crate::writer::Effect;
use crate::{Error, Generation, Reply, Ticket};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Group {
    /// Takes a member's request for its assignment, which from the leader brings the assignments of all.
    pub(crate) fn sync(&mut self, ticket: Ticket, sync: SyncGroup, context: &mut Context<'_>) {
        if let Err(error) = self.try_sync(ticket, sync, context) {
            context.reply(ticket, Reply::SyncGroup(Err(error)));
        }
    }

    fn try_sync(&mut self, ticket: Ticket, sync: SyncGroup, context: &mut Context<'_>) -> Result<(), Error> {
        if self.state == GroupState::Empty {
            return Err(Error::UnknownMemberId);
        }
        self.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        let differs = |asked: &Option<String>, own: &str| asked.as_deref().is_some_and(|asked| asked != own);
        let protocol = self.protocol.as_deref().unwrap_or_default();
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol_name, protocol) {
            return Err(Error::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::PreparingRebalance => Err(Error::RebalanceInProgress),
            GroupState::CompletingRebalance => {
                let id = sync.member_id;
                if self.is_leader(&id) && !self.is_assigning {
                    self.assign(sync.assignments, context)?;
                }
                self.unsynced.remove(&*id);
                self.restart_session(&id, context);
                let earlier = self.members.wait(&id, Some(Waiting::Sync(ticket)));
                self.refuse(earlier, &id, Error::RebalanceInProgress, context);
                if self.is_assigning && context.breakage.is(Sabotage::AnswerSyncsAtOnce) {
                    self.on_assigned(self.generation, context);
                }
                Ok(())
            }
            GroupState::Stable => {
                self.unsynced.remove(&*sync.member_id);
                self.restart_session(&sync.member_id, context);
                let reply = self.synced(&sync.member_id);
                self.reply_when_stored(ticket, Reply::SyncGroup(Ok(reply)), context);
                Ok(())
            }
            GroupState::Empty | GroupState::Dead => Err(Error::UnknownMemberId),
        }
    }

    /// Writes the leader's assignments; members that it has left out get an empty one.
    fn assign(&mut self, assignments: Vec<(String, Bytes)>, context: &mut Context<'_>) -> Result<(), Error> {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for member in self.members.iter_mut() {
            // A copy: a slice would keep the request in memory.
            let assignment = assignments.remove(&*member.id).unwrap_or_default();
            member.assignment = Bytes::copy_from_slice(&assignment);
        }
        let effect = Effect::Assigned {
            group: self.id.clone(),
            generation: self.generation,
        };
        self.store(effect, context)?;
        self.is_assigning = true;
        Ok(())
    }

    /// The assignments of a generation are written. If the group has gone on meanwhile, nobody waits for them.
    pub(crate) fn on_assigned(&mut self, generation: Generation, context: &mut Context<'_>) {
        let is_awaited = self.state == GroupState::CompletingRebalance && self.is_assigning;
        if !is_awaited || generation != self.generation {
            return;
        }
        self.is_assigning = false;
        self.enter(GroupState::Stable, context);
        let syncs = |member: &&Member| matches!(member.waiting(), Some(Waiting::Sync(_)));
        let ids: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(syncs)
            .map(|member| member.id.clone())
            .collect();
        for id in ids {
            if let Some(Waiting::Sync(ticket)) = self.members.wait(&id, None) {
                let reply = self.synced(&id);
                context.reply(ticket, Reply::SyncGroup(Ok(reply)));
                self.restart_session(&id, context);
            }
        }
        if self.unsynced.is_empty() {
            self.cancel_sync(context);
        }
    }

    fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone().unwrap_or_default(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// Takes a sign of life.
    ///
    /// # Errors
    /// What the member must do before it goes on.
    pub(crate) fn heartbeat(&mut self, heartbeat: &Heartbeat, context: &mut Context<'_>) -> Result<(), Error> {
        let id = &heartbeat.member_id;
        self.check_member(id, heartbeat.instance_id.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        self.restart_session(id, context);
        match self.state {
            GroupState::PreparingRebalance => Err(Error::RebalanceInProgress),
            // Members send heartbeats as soon as they have joined.
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty | GroupState::Dead => Err(Error::UnknownMemberId),
        }
    }
}
