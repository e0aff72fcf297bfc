//! The leadership of a partition: the groups as they are, and the way from an input to the group that it concerns.

use crate::background::Background;
use crate::context::Context;
use crate::group::{self, Group};
use crate::members::Waiting;
use crate::request::{GroupState, JoinRefused, LeaveOutcome, Reply, Request, Ticket};
use crate::sabotage::Breakage;
use crate::state::State;
use crate::timers::{Due, Timers};
use crate::writer::{Effect, Writer};
use crate::{Config, Error, Output, Time, WriteId, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state of a leader beside what is stored. Gone when the leadership ends.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) groups: BTreeMap<Arc<str>, Group>,
    pub(crate) timers: Timers,
    pub(crate) writer: Writer,
    pub(crate) background: Background,
}

/// The surroundings of an input: what a leader knows, and is not part of its leadership.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a Config,
    pub(crate) breakage: Breakage,
    /// The stored state, which only [`Leading::apply`] changes.
    pub(crate) state: &'a mut State,
    pub(crate) time: Time,
    pub(crate) out: &'a mut Output,
}

impl Leading {
    /// Takes over what is stored. Groups that have offsets only are not needed here.
    pub(crate) fn new(next: WriteId, around: &mut Surroundings<'_>) -> Leading {
        let mut leading = Leading {
            groups: BTreeMap::new(),
            timers: Timers::default(),
            writer: Writer::new(next),
            background: Background::default(),
        };
        leading.background.begin(&mut leading.timers, around);
        for (id, stored) in around.state.groups_after(None) {
            let Some(value) = &stored.metadata else { continue };
            let mut context = Context {
                config: around.config,
                breakage: around.breakage,
                time: around.time,
                timers: &mut leading.timers,
                writer: &mut leading.writer,
                out: around.out,
            };
            let group = Group::load(id.clone(), value, &mut context);
            leading.groups.insert(id.clone(), group);
        }
        leading
    }

    /// Ends the leadership: all that wait are refused.
    pub(crate) fn resign(self, out: &mut Output) {
        for group in self.groups.values() {
            for waiting in group.waiting() {
                out.replies.push(match waiting {
                    Waiting::Join(ticket) => {
                        let refused = JoinRefused {
                            error: Error::NotCoordinator,
                            member_id: String::new(),
                        };
                        (ticket, Reply::JoinGroup(Err(refused)))
                    }
                    Waiting::Sync(ticket) => (ticket, Reply::SyncGroup(Err(Error::NotCoordinator))),
                });
            }
        }
        out.replies.extend(self.background.into_replies());
        let replies = self.writer.into_replies();
        out.replies
            .extend(replies.map(|(ticket, reply)| (ticket, reply.refused(Error::NotCoordinator))));
    }

    /// Takes a request.
    pub(crate) fn handle(&mut self, ticket: Ticket, request: Request, around: &mut Surroundings<'_>) {
        // What asks for writes, and can be asked again.
        let is_deferrable = matches!(
            request,
            Request::JoinGroup(_)
                | Request::OffsetCommit(_)
                | Request::DeleteGroups(_)
                | Request::OffsetDelete(_)
                | Request::DeleteTopic(_)
        );
        if is_deferrable && self.writer.is_full() {
            let reply = request.refuse(Error::CoordinatorLoadInProgress);
            around.out.replies.push((ticket, reply));
            return;
        }
        if let Err(error) = check_group_id(&request) {
            around.out.replies.push((ticket, request.refuse(error)));
            return;
        }
        match request {
            Request::JoinGroup(join) => {
                let checked = group::check_join(&join, around.config);
                let checked = checked.and_then(|()| self.check_new_group(&join.group, &join.member_id, around));
                if let Err(error) = checked {
                    let reply = Request::JoinGroup(join).refuse(error);
                    around.out.replies.push((ticket, reply));
                    return;
                }
                let id: Arc<str> = join.group.as_str().into();
                self.with_new_group(id, around, |group, context| group.join(ticket, join, context));
            }
            Request::SyncGroup(sync) => {
                let id = sync.group.clone();
                let done = self.with_group(&id, around, |group, context| group.sync(ticket, sync, context));
                if done.is_none() {
                    let reply = Reply::SyncGroup(Err(Error::UnknownMemberId));
                    around.out.replies.push((ticket, reply));
                }
            }
            Request::Heartbeat(heartbeat) => {
                let result = self.with_group(&heartbeat.group, around, |group, context| {
                    group.heartbeat(&heartbeat, context)
                });
                let result = result.unwrap_or(Err(Error::UnknownMemberId));
                around.out.replies.push((ticket, Reply::Heartbeat(result)));
            }
            Request::LeaveGroup(leave) => {
                if self.groups.contains_key(&*leave.group) {
                    self.with_group(&leave.group, around, |group, context| {
                        group.leave(ticket, leave.members, context);
                    });
                } else {
                    let outcomes = leave.members.into_iter().map(|member| LeaveOutcome {
                        member,
                        result: Err(Error::UnknownMemberId),
                    });
                    let reply = Reply::LeaveGroup(Ok(outcomes.collect()));
                    around.out.replies.push((ticket, reply));
                }
            }
            Request::OffsetCommit(commit) => self.commit(ticket, commit, around),
            Request::OffsetFetch(fetch) => self.fetch(ticket, fetch, around),
            Request::DescribeGroups(describe) => self.describe(ticket, describe, around),
            Request::ListGroups(list) => self.list(ticket, &list, around),
            Request::DeleteGroups(delete) => self.delete(ticket, delete, around),
            Request::OffsetDelete(delete) => self.delete_offsets(ticket, delete, around),
            Request::DeleteTopic(delete) => {
                let result = self
                    .background
                    .delete_topic(ticket, delete.topic, &mut self.timers, around);
                if let Err(error) = result {
                    around.out.replies.push((ticket, Reply::DeleteTopic(Err(error))));
                }
            }
        }
    }

    /// The id of the next write.
    pub(crate) fn next_write(&self) -> WriteId {
        self.writer.next()
    }

    /// Whether a write is one of this leadership that is under way.
    pub(crate) fn is_pending(&self, id: WriteId) -> bool {
        self.writer.is_pending(id)
    }

    /// Applies a write that is committed, and returns the number of its records; none if it is of an earlier leadership.
    pub(crate) fn written(&mut self, id: WriteId, around: &mut Surroundings<'_>) -> Option<usize> {
        let pending = self.writer.settle(id)?;
        for record in &pending.records {
            let applied = around.state.apply(&record.key, record.value.as_deref());
            applied.expect("the coordinator's own records can be read");
        }
        match pending.effect {
            Effect::None => {}
            Effect::Offsets { group, keys } => {
                self.with_group(&group, around, |group, _| group.end_commits(&keys));
            }
            Effect::Assigned { group, generation } => {
                self.with_group(&group, around, |group, context| group.on_assigned(generation, context));
            }
            Effect::Deleted { group } => {
                if self
                    .groups
                    .get(&group)
                    .is_some_and(|known| known.state() == GroupState::Dead)
                {
                    self.groups.remove(&group);
                }
            }
            Effect::Background => self.background.go_on(&mut self.timers, around),
        }
        around.out.replies.extend(pending.replies);
        Some(pending.records.len())
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, around: &mut Surroundings<'_>) {
        let now_ms = around.time.monotonic_ms;
        // What is due for one group is done together, so that its departures are one write.
        let mut due: BTreeMap<Arc<str>, Vec<(u64, Due)>> = BTreeMap::new();
        let mut is_background_due = false;
        while let Some((at_ms, next)) = self.timers.take_due(now_ms) {
            match next.group() {
                Some(group) => due.entry(group.clone()).or_default().push((at_ms, next)),
                None => is_background_due = true,
            }
        }
        for (id, all) in due {
            self.with_group(&id, around, |group, context| {
                let mut are_members_gone = false;
                for (at_ms, next) in &all {
                    match next {
                        Due::Session { member, .. } => {
                            are_members_gone |= group.on_session_deadline(member, *at_ms, context);
                        }
                        Due::Promise { member, .. } => group.on_promise_deadline(member, *at_ms),
                        _ => {}
                    }
                }
                // First, since that may complete the rebalance whose time is up as well.
                group.on_gone(are_members_gone, context);
                for (at_ms, next) in &all {
                    match next {
                        Due::Join { .. } => group.on_join_deadline(*at_ms, context),
                        Due::Sync { .. } => group.on_sync_deadline(*at_ms, context),
                        _ => {}
                    }
                }
            });
        }
        if is_background_due {
            self.work_in_background(around);
        }
    }

    /// Calls `f` with a group that is known, and then writes what has changed and forgets it if nothing is left of it.
    pub(crate) fn with_group<T>(
        &mut self,
        id: &str,
        around: &mut Surroundings<'_>,
        f: impl FnOnce(&mut Group, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let mut context = Context {
            config: around.config,
            breakage: around.breakage,
            time: around.time,
            timers: &mut self.timers,
            writer: &mut self.writer,
            out: around.out,
        };
        let result = f(group, &mut context);
        group.flush(&mut context);
        if group.is_forgettable() {
            self.groups.remove(id);
        }
        Some(result)
    }

    /// The same with a group that may be new.
    pub(crate) fn with_new_group<T>(
        &mut self,
        id: Arc<str>,
        around: &mut Surroundings<'_>,
        f: impl FnOnce(&mut Group, &mut Context<'_>) -> T,
    ) -> T {
        let entry = self.groups.entry(id.clone());
        entry.or_insert_with(|| Group::new(id.clone()));
        self.with_group(&id, around, f).expect("the group was just made")
    }

    /// Whether a group may come into being by a request.
    fn check_new_group(&self, id: &str, member_id: &str, around: &Surroundings<'_>) -> Result<(), Error> {
        if self.groups.contains_key(id) {
            Ok(())
        } else if !member_id.is_empty() {
            Err(Error::UnknownMemberId)
        } else if self.has_room_for_group(id, around) {
            Ok(())
        } else {
            Err(Error::GroupMaxSizeReached)
        }
    }

    /// Whether there is room for a group, or there is the group already.
    pub(crate) fn has_room_for_group(&self, id: &str, around: &Surroundings<'_>) -> bool {
        let known = self.groups.contains_key(id) || around.state.group(id).is_some();
        known || self.groups.len().max(around.state.group_count()) < limits::GROUPS_PER_STORE
    }

    /// The ids of all groups, stored or not.
    pub(crate) fn ids(&self, state: &State) -> BTreeSet<Arc<str>> {
        let stored = state.groups_after(None).map(|(id, _)| id.clone());
        stored.chain(self.groups.keys().cloned()).collect()
    }
}

/// Whether the request's group has a name. Requests that name several groups answer for each.
fn check_group_id(request: &Request) -> Result<(), Error> {
    let id = match request {
        Request::JoinGroup(join) => &join.group,
        Request::SyncGroup(sync) => &sync.group,
        Request::Heartbeat(heartbeat) => &heartbeat.group,
        Request::LeaveGroup(leave) => &leave.group,
        // An empty group id is allowed to those that commit without membership (Kafka: the deprecated empty id).
        Request::OffsetCommit(commit) if commit.group.is_empty() => return Ok(()),
        Request::OffsetCommit(commit) => &commit.group,
        Request::OffsetDelete(delete) => &delete.group,
        _ => return Ok(()),
    };
    check_id(id)
}

/// Whether a group may have this id.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    if id.is_empty() || id.len() > limits::GROUP_ID_BYTES {
        Err(Error::InvalidGroupId)
    } else {
        Ok(())
    }
}
