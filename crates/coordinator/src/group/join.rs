//! JoinGroup.

use super::{CONSUMER, Group};
use crate::context::Context;
use crate::members::{Member, Waiting, protocols_len};
use crate::record::subscribed_topics;
use crate::request::{GroupState, JoinGroup, JoinRefused};
use crate::sabotage::Sabotage;
use crate::timers::Due;
use crate::writer::Effect;
use crate::{Config, Error, Reply, Ticket, limits};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a new member is kept whose client may have gone before it knew its id (Kafka's constant).
const NEW_MEMBER_TIMEOUT_MS: u64 = 5 * 60 * 1_000;

/// The checks of a request that need no group.
pub(crate) fn check(join: &JoinGroup, config: &Config) -> Result<(), Error> {
    let sessions = config.group_min_session_timeout_ms..=config.group_max_session_timeout_ms;
    if !sessions.contains(&join.session_timeout_ms) {
        return Err(Error::InvalidSessionTimeout);
    }
    if join.protocol_type.is_empty() || join.protocols.is_empty() {
        return Err(Error::InconsistentGroupProtocol);
    }
    let instance_id = join.instance_id.as_deref();
    let names = [&join.client_id, &join.client_host, &join.protocol_type].into_iter();
    let names = names.map(String::as_str).chain(instance_id);
    let names = names.chain(join.protocols.iter().map(|protocol| protocol.name.as_str()));
    let are_short = names.into_iter().all(|name| name.len() <= limits::NAME_BYTES);
    let are_few = join.protocols.len() <= limits::PROTOCOLS_PER_MEMBER;
    let are_small = protocols_len(&join.protocols) <= limits::MEMBER_METADATA_BYTES;
    if are_short && are_few && are_small && instance_id != Some("") {
        Ok(())
    } else {
        Err(Error::InvalidRequest)
    }
}

impl Group {
    /// Takes a member's request to join, which [`check`] has accepted.
    pub(crate) fn join(&mut self, ticket: Ticket, mut join: JoinGroup, context: &mut Context<'_>) {
        let asked_id = core::mem::take(&mut join.member_id);
        if let Err(error) = self.try_join(ticket, &asked_id, join, context) {
            let refused = JoinRefused {
                error,
                member_id: asked_id,
            };
            context.reply(ticket, Reply::JoinGroup(Err(refused)));
        }
    }

    fn try_join(
        &mut self,
        ticket: Ticket,
        asked_id: &str,
        join: JoinGroup,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        if self.state == GroupState::Dead {
            return Err(Error::CoordinatorNotAvailable);
        }
        if !self.has_room(asked_id, join.instance_id.as_deref(), context.config) {
            self.give_up(asked_id, context);
            return Err(Error::GroupMaxSizeReached);
        }
        if asked_id.is_empty() {
            return self.join_without_id(ticket, join, context);
        }
        let is_promised = self.promised.contains_key(asked_id);
        if !is_promised {
            self.members.check(asked_id, join.instance_id.as_deref())?;
        } else if join.instance_id.is_some() {
            // Only dynamic members are given their ids beforehand.
            return Err(Error::UnknownMemberId);
        }
        let known = (!is_promised).then_some(asked_id);
        self.check_protocols(&join, known)?;
        if is_promised {
            self.take_promise(asked_id, context);
            self.add_member(ticket, asked_id.into(), join, context);
            return Ok(());
        }
        self.join_again(ticket, asked_id, join, context)
    }

    /// Whether a member may join: all may that are members already, unless others have taken all places meanwhile.
    fn has_room(&self, id: &str, instance_id: Option<&str>, config: &Config) -> bool {
        let is_restarted = instance_id.is_some_and(|instance_id| self.members.of_instance(instance_id).is_some());
        let is_member = self.members.contains(id) || is_restarted;
        let places = config.group_max_size.min(limits::MEMBERS_PER_GROUP);
        match self.state {
            GroupState::Empty | GroupState::Dead => places > 0,
            GroupState::PreparingRebalance => {
                self.members.get(id).is_some_and(Member::is_joining) || self.members.joining() < places
            }
            GroupState::CompletingRebalance | GroupState::Stable => is_member || self.members.len() < places,
        }
    }

    /// A member that finds no place is one no longer.
    fn give_up(&mut self, id: &str, context: &mut Context<'_>) {
        let is_member = self.members.contains(id);
        if is_member {
            self.remove_member(id, Error::GroupMaxSizeReached, context);
        } else {
            self.take_promise(id, context);
        }
        self.on_gone(is_member, context);
    }

    fn check_protocols(&self, join: &JoinGroup, known: Option<&str>) -> Result<(), Error> {
        let is_only = self.members.is_empty();
        if !is_only && (join.protocol_type != self.protocol_type || !self.members.support(&join.protocols, known)) {
            return Err(Error::InconsistentGroupProtocol);
        }
        let former = known.and_then(|id| self.members.get(id)).map_or(0, Member::bytes);
        let bytes = limits::MEMBER_OVERHEAD_BYTES + protocols_len(&join.protocols);
        if self.members.bytes() - former + bytes > limits::GROUP_MEMBERS_BYTES {
            return Err(Error::GroupMaxSizeReached);
        }
        Ok(())
    }

    fn join_without_id(&mut self, ticket: Ticket, join: JoinGroup, context: &mut Context<'_>) -> Result<(), Error> {
        let name = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let id: Arc<str> = member_id(name, join.random).into();
        if self.members.contains(&id) || self.promised.contains_key(&id) {
            // The host's chance is none.
            return Err(Error::InvalidRequest);
        }
        let known = join
            .instance_id
            .as_deref()
            .and_then(|instance_id| self.members.of_instance(instance_id));
        let known = known.cloned();
        self.check_protocols(&join, known.as_deref())?;
        if let Some(known) = known {
            self.replace_member(ticket, &known, id, join, context);
        } else if join.member_id_required && join.instance_id.is_none() {
            if self.promised.len() >= limits::PROMISED_IDS_PER_GROUP {
                return Err(Error::GroupMaxSizeReached);
            }
            self.promise(id, ticket, &join, context);
        } else {
            self.add_member(ticket, id, join, context);
        }
        Ok(())
    }

    /// Gives a new member its id, with which it must join.
    fn promise(&mut self, id: Arc<str>, ticket: Ticket, join: &JoinGroup, context: &mut Context<'_>) {
        let timeout_ms = u64::try_from(join.session_timeout_ms).unwrap_or(0);
        let at_ms = context.time.monotonic_ms.saturating_add(timeout_ms);
        let (group, member) = (self.id.clone(), id.clone());
        context.timers.set(at_ms, Due::Promise { group, member });
        let refused = JoinRefused {
            error: Error::MemberIdRequired,
            member_id: id.to_string(),
        };
        self.promised.insert(id, at_ms);
        context.reply(ticket, Reply::JoinGroup(Err(refused)));
    }

    pub(super) fn take_promise(&mut self, id: &str, context: &mut Context<'_>) {
        if let Some((member, at_ms)) = self.promised.remove_entry(id) {
            let group = self.id.clone();
            context.timers.cancel(at_ms, Due::Promise { group, member });
        }
    }

    fn add_member(&mut self, ticket: Ticket, id: Arc<str>, join: JoinGroup, context: &mut Context<'_>) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        self.members.insert(Member::new(id.clone(), join));
        self.members.wait(&id, Some(Waiting::Join(ticket)));
        let member = self.members.get_mut(&id).expect("it was just added");
        let timeout_ms = member.session_timeout().max(NEW_MEMBER_TIMEOUT_MS);
        context.restart_session(&self.id, member, timeout_ms);
        self.leader.get_or_insert(id);
        if let Some(initial) = &mut self.initial {
            initial.has_new_member = true;
        }
        self.rebalance(context);
    }

    /// A member joins that has been one.
    fn join_again(
        &mut self,
        ticket: Ticket,
        id: &str,
        join: JoinGroup,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        let member = self.members.get(id).ok_or(Error::UnknownMemberId)?;
        let is_same = member.has_protocols(&join.protocols);
        let answers_at_once = match self.state {
            // It may not have received the reply.
            GroupState::CompletingRebalance => is_same,
            // A leader that joins wants a rebalance, since only it can notice that topics have changed.
            GroupState::Stable => is_same && !self.is_leader(id),
            GroupState::PreparingRebalance => false,
            GroupState::Empty | GroupState::Dead => return Err(Error::UnknownMemberId),
        };
        self.members.update(id, join);
        if !answers_at_once {
            let earlier = self.members.wait(id, Some(Waiting::Join(ticket)));
            self.refuse(earlier, id, Error::RebalanceInProgress, context);
        }
        if !self.members.get(id).is_some_and(|member| member.is_new) {
            self.restart_session(id, context);
        }
        if answers_at_once {
            let with_members = self.state == GroupState::CompletingRebalance && self.is_leader(id);
            let reply = self.joined(id, with_members, false);
            self.reply_when_stored(ticket, Reply::JoinGroup(Ok(reply)), context);
        } else {
            self.rebalance(context);
        }
        Ok(())
    }

    /// A static member has been started again, and is given a new id. In a stable group it takes its former place, with
    /// its assignment, unless it wants something else.
    fn replace_member(
        &mut self,
        ticket: Ticket,
        former: &Arc<str>,
        id: Arc<str>,
        join: JoinGroup,
        context: &mut Context<'_>,
    ) {
        let waiting = self.members.wait(former, None);
        self.refuse(waiting, former, Error::FencedInstanceId, context);
        let mut member = self.members.remove(former).expect("a static member");
        context.cancel_session(&self.id, &mut member);
        let wants_the_same = self.wants_the_same(&member, &join);
        let was_leader = self.is_leader(former);
        let knows_skip_assignment = join.knows_skip_assignment;
        let mut next = Member::new(id.clone(), join);
        next.assignment = member.assignment.clone();
        next.is_new = false;
        if context.breakage.is(Sabotage::KeepReplacedTwin) {
            let timeout_ms = member.session_timeout();
            context.restart_session(&self.id, &mut member, timeout_ms);
            self.members.insert(member);
        }
        self.members.insert(next);
        self.restart_session(&id, context);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if self.unsynced.remove(former) {
            self.unsynced.insert(id.clone());
        }
        let keeps_its_place =
            self.state == GroupState::Stable && wants_the_same && self.members.chosen_protocol() == self.protocol;
        self.store_replacement(former, &id, keeps_its_place, context);
        if !keeps_its_place {
            self.members.wait(&id, Some(Waiting::Join(ticket)));
            self.rebalance(context);
            return;
        }
        let mut reply = self.joined(&id, false, false);
        if was_leader && knows_skip_assignment {
            reply = self.joined(&id, true, true);
        } else if was_leader {
            // A client that doesn't know that it need not assign must take itself for a follower.
            reply.leader = former.to_string();
        }
        self.reply_when_stored(ticket, Reply::JoinGroup(Ok(reply)), context);
    }

    /// Whether a static member subscribes to what it did before. A consumer's metadata tells more than that, such as
    /// what it owned, which is not the same after a restart; other metadata can't be looked into.
    fn wants_the_same(&self, member: &Member, join: &JoinGroup) -> bool {
        let Some(protocol) = &self.protocol else { return false };
        let next = join.protocols.iter().find(|known| known.name == *protocol);
        let topics = |metadata: &[u8]| subscribed_topics(metadata).map(|topics| topics.into_iter().collect());
        match next {
            None => false,
            Some(_) if self.protocol_type != CONSUMER => true,
            Some(next) => {
                let (next, former): (Option<BTreeSet<String>>, _) =
                    (topics(&next.metadata), topics(&member.metadata(protocol)));
                next == former
            }
        }
    }

    /// Stores the id of a static member that replaces another one, whatever goes on: with the former id in the record, the
    /// next coordinator would take the new member for the one that is fenced.
    fn store_replacement(&mut self, former: &str, id: &str, keeps_its_place: bool, context: &mut Context<'_>) {
        if context.breakage.is(Sabotage::ForgetReplacement) {
            return;
        }
        if keeps_its_place && self.store(Effect::None, context).is_ok() {
            return;
        }
        let Some(image) = &mut self.stored.image else { return };
        let stored = image.members.iter_mut().find(|member| member.member_id == former);
        if let Some(stored) = stored {
            stored.member_id = id.to_owned();
            if image.leader.as_deref() == Some(former) {
                image.leader = Some(id.to_owned());
            }
            self.stored.is_dirty = true;
        }
    }
}

/// A member's id: the client's name and a random UUID, as Kafka makes it.
fn member_id(name: &str, random: u128) -> String {
    // Version 4, variant 1.
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let digits = format!("{bits:032x}");
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
    format!("{name}-{a}-{b}-{c}-{d}-{e}")
}
