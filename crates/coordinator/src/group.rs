//! A group on the leader: its state, and what is stored of it.
//!
//! Members join (`join`), until all have or the time is up (`rebalance`), ask for their assignments (`sync`), and leave
//! (`leave`). Beside the group as it is, the leader keeps its image: the group as the last record that was asked for
//! names it. They differ while a rebalance goes on, since a generation is stored when it has its assignments.

mod commit;
mod join;
mod leave;
mod rebalance;
mod sync;

pub(crate) use self::join::check as check_join;

use self::rebalance::Initial;
use crate::context::Context;
use crate::members::{Member, Members};
use crate::record::{GroupValue, group_record};
use crate::request::GroupState;
use crate::sabotage::Sabotage;
use crate::timers::Due;
use crate::writer::{Effect, record_len};
use crate::{Error, Generation, Record, Reply, Ticket, WriteId, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The protocol type of consumers, whose subscriptions the coordinator can read.
const CONSUMER: &str = "consumer";

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    state: GroupState,
    generation: Generation,
    /// The kind of group; empty if it never had members.
    protocol_type: String,
    /// The protocol of the generation; none without one.
    protocol: Option<String>,
    /// A member, unless there are none.
    leader: Option<Arc<str>>,
    /// When the group came into its state, in milliseconds since 1970.
    state_time_ms: i64,
    members: Members,
    /// Ids that were given to new members, until they join with them, and the deadline for that.
    promised: BTreeMap<Arc<str>, u64>,
    /// During the first rebalance of an empty group.
    initial: Option<Initial>,
    join_deadline: Option<u64>,
    sync_deadline: Option<u64>,
    /// Members that were told of the generation, and have not yet asked for their assignments.
    unsynced: BTreeSet<Arc<str>>,
    /// Whether the leader's assignments are being written.
    is_assigning: bool,
    stored: Stored,
    /// Offsets that are being written, and how often.
    commits: BTreeMap<Arc<str>, BTreeMap<i32, u32>>,
}

/// What the log says of a group, once everything is written that was asked for.
#[derive(Debug, Default)]
struct Stored {
    /// None if there is no record of the group.
    image: Option<GroupValue>,
    /// Whether the image is yet to be written.
    is_dirty: bool,
    /// The last write of the image.
    last_write: Option<WriteId>,
}

impl Group {
    /// A group of which nothing is known yet.
    pub(crate) fn new(id: Arc<str>) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            generation: Generation(0),
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            state_time_ms: 0,
            members: Members::default(),
            promised: BTreeMap::new(),
            initial: None,
            join_deadline: None,
            sync_deadline: None,
            unsynced: BTreeSet::new(),
            is_assigning: false,
            stored: Stored::default(),
            commits: BTreeMap::new(),
        }
    }

    /// A group as its record names it. All sessions begin again. A group without a leader was about to rebalance when
    /// its former coordinator went, and does so now.
    pub(crate) fn load(id: Arc<str>, value: &GroupValue, context: &mut Context<'_>) -> Group {
        let mut group = Group::new(id);
        group.generation = value.generation;
        group.protocol_type = value.protocol_type.clone();
        group.state_time_ms = value.state_time_ms.unwrap_or(0);
        for member in &value.members {
            if !group.members.contains(&member.member_id) {
                group.members.insert(Member::loaded(member, value.protocol.as_deref()));
            }
        }
        group.stored.image = Some(value.clone());
        if group.members.is_empty() {
            return group;
        }
        let leader = value.leader.as_deref().and_then(|leader| group.members.get(leader));
        group.leader = leader.map(|leader| leader.id.clone());
        group.protocol = value.protocol.clone();
        group.state = GroupState::Stable;
        for member in group.members.iter_mut() {
            let timeout_ms = if context.breakage.is(Sabotage::KeepOldSessions) {
                0
            } else {
                member.session_timeout()
            };
            context.restart_session(&group.id, member, timeout_ms);
        }
        if group.leader.is_none() || group.protocol.is_none() {
            group.leader = group.members.iter().next().map(|member| member.id.clone());
            group.prepare_rebalance(context);
        }
        group
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The protocol of a generation that has its assignments.
    pub(crate) fn protocol_in_force(&self) -> Option<&str> {
        let protocol = self.protocol.as_deref();
        protocol.filter(|_| self.state == GroupState::Stable)
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// When the group came into its state, in milliseconds since 1970.
    pub(crate) fn state_time_ms(&self) -> i64 {
        self.state_time_ms
    }

    /// Whether the group has, or is to have, a record.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored.image.is_some()
    }

    /// Whether nothing is lost if the leader forgets what it knows beside the stored state.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.state == GroupState::Empty && !self.is_stored() && self.is_idle()
    }

    /// Whether nothing of the group is being written or awaited, beside its record.
    pub(crate) fn is_idle(&self) -> bool {
        self.promised.is_empty() && self.commits.is_empty()
    }

    /// The topics to which the group's consumers subscribe; none if the group has no members, or if one can't be read.
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        let protocol = self.protocol.as_deref()?;
        let is_readable = self.protocol_type == CONSUMER && !self.members.is_empty();
        is_readable.then(|| self.members.subscribed_topics(protocol))?
    }

    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type == CONSUMER
    }

    /// Takes leave of clients when the leadership ends: the tickets of all that wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = crate::members::Waiting> {
        self.members.iter().filter_map(Member::waiting)
    }

    /// Marks the group as deleted, until that is written.
    pub(crate) fn delete(&mut self, context: &mut Context<'_>) {
        assert!(self.members.is_empty(), "a group with members is not deleted");
        self.cancel_join(context);
        for (member, at_ms) in core::mem::take(&mut self.promised) {
            let group = self.id.clone();
            context.timers.cancel(at_ms, Due::Promise { group, member });
        }
        self.state = GroupState::Dead;
        self.stored.image = None;
        self.stored.is_dirty = false;
    }

    /// Writes what was changed in the image.
    pub(crate) fn flush(&mut self, context: &mut Context<'_>) {
        if self.stored.is_dirty {
            let record = self.image_record();
            self.stored.is_dirty = false;
            // Larger than what this version writes is at most a record that another one wrote. It goes with the next one.
            if record_len(&record) <= limits::WRITE_BYTES {
                self.write(record, Effect::None, context);
            }
        }
    }

    /// Sends a reply when what is stored of the group is written.
    fn reply_when_stored(&self, ticket: Ticket, reply: Reply, context: &mut Context<'_>) {
        let last_write = self.stored.last_write;
        context.writer.reply_after(last_write, ticket, reply, context.out);
    }

    /// Writes the group as it is.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if that takes more than one write can hold: nothing is written.
    fn store(&mut self, effect: Effect, context: &mut Context<'_>) -> Result<(), Error> {
        let before = self.stored.image.replace(self.value());
        if context.breakage.is(Sabotage::ForgetMembers)
            && let Some(image) = &mut self.stored.image
        {
            image.members.clear();
        }
        let record = self.image_record();
        if record_len(&record) > limits::WRITE_BYTES {
            self.stored.image = before;
            return Err(Error::InvalidRequest);
        }
        self.write(record, effect, context);
        Ok(())
    }

    fn write(&mut self, record: Record, effect: Effect, context: &mut Context<'_>) {
        self.stored.last_write = Some(context.writer.submit(vec![record], effect, context.out));
        self.stored.is_dirty = false;
    }

    fn image_record(&self) -> Record {
        let image = self.stored.image.as_ref().expect("a group that is to be written");
        group_record(&self.id, image)
    }

    fn value(&self) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupValue {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            state_time_ms: Some(self.state_time_ms),
            members: self.members.iter().map(|member| member.value(protocol)).collect(),
        }
    }

    fn enter(&mut self, state: GroupState, context: &Context<'_>) {
        self.state = state;
        self.state_time_ms = context.time.unix_ms;
    }

    /// The checks that all requests of members begin with.
    fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), Error> {
        if self.state == GroupState::Dead {
            return Err(Error::CoordinatorNotAvailable);
        }
        self.members.check(id, instance_id)
    }

    fn restart_session(&mut self, id: &str, context: &mut Context<'_>) {
        if let Some(member) = self.members.get_mut(id) {
            let timeout_ms = member.session_timeout();
            context.restart_session(&self.id, member, timeout_ms);
        }
    }
}
