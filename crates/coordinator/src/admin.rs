//! DescribeGroups, ListGroups and DeleteGroups.

use crate::group::Group;
use crate::leading::{Leading, Surroundings, check_id};
use crate::record::{group_tombstone, offset_tombstone};
use crate::request::{
    DeleteGroups, DescribeGroups, Description, GroupDescription, GroupState, ListGroups, ListedGroup, MemberDescription,
};
use crate::writer::Effect;
use crate::{Error, Record, Reply, Ticket, WriteId, limits};
use std::sync::Arc;

/// The type of the groups of this protocol.
const CLASSIC: &str = "classic";

impl Leading {
    pub(crate) fn describe(&mut self, ticket: Ticket, request: DescribeGroups, around: &mut Surroundings<'_>) {
        let mut left = limits::REPLY_BYTES;
        let groups = request.groups.into_iter().map(|group| {
            let description = self.describe_one(&group, &mut left, around);
            GroupDescription { group, description }
        });
        let reply = Reply::DescribeGroups(groups.collect());
        around.out.replies.push((ticket, reply));
    }

    fn describe_one(&self, id: &str, left: &mut usize, around: &Surroundings<'_>) -> Result<Description, Error> {
        check_id(id)?;
        match self.groups.get(id) {
            Some(group) if group.state() == GroupState::Dead => Err(Error::GroupIdNotFound),
            Some(group) => {
                *left = left.checked_sub(group.members().bytes()).ok_or(Error::InvalidRequest)?;
                Ok(description(group))
            }
            None if around.state.group(id).is_some() => Ok(Description {
                state: GroupState::Empty,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            }),
            None => Err(Error::GroupIdNotFound),
        }
    }

    pub(crate) fn list(&mut self, ticket: Ticket, request: &ListGroups, around: &mut Surroundings<'_>) {
        let matches = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|asked| asked.eq_ignore_ascii_case(name))
        };
        let mut groups = Vec::new();
        if matches(&request.types, CLASSIC) {
            for id in self.ids(around.state) {
                let live = self.groups.get(&id);
                let state = live.map_or(GroupState::Empty, Group::state);
                if matches(&request.states, state.name()) {
                    groups.push(ListedGroup {
                        group: id.to_string(),
                        protocol_type: live.map_or("", Group::protocol_type).to_owned(),
                        state,
                        group_type: CLASSIC,
                    });
                }
            }
        }
        around.out.replies.push((ticket, Reply::ListGroups(Ok(groups))));
    }

    /// Deletes groups without members, with all their offsets.
    pub(crate) fn delete(&mut self, ticket: Ticket, request: DeleteGroups, around: &mut Surroundings<'_>) {
        let mut last = None;
        let outcomes = request.groups.into_iter().map(|group| {
            let result = self.delete_one(&group, around).map(|write| last = last.max(write));
            (group, result)
        });
        let reply = Reply::DeleteGroups(outcomes.collect());
        self.writer.reply_after(last, ticket, reply, around.out);
    }

    fn delete_one(&mut self, id: &str, around: &mut Surroundings<'_>) -> Result<Option<WriteId>, Error> {
        check_id(id)?;
        let live = self.groups.get(id);
        match live.map(Group::state) {
            None if around.state.group(id).is_none() => return Err(Error::GroupIdNotFound),
            Some(GroupState::Dead) => return Err(Error::GroupIdNotFound),
            None | Some(GroupState::Empty) => {}
            Some(_) => return Err(Error::NonEmptyGroup),
        }
        let mut records: Vec<Record> = self.offset_tombstones(id, around);
        if live.is_some_and(Group::is_stored) {
            records.push(group_tombstone(id));
        }
        Ok(self.delete_with(id.into(), records, around))
    }

    /// Writes the records that delete a group. Until that is done, the group takes no requests.
    pub(crate) fn delete_with(
        &mut self,
        id: Arc<str>,
        records: Vec<Record>,
        around: &mut Surroundings<'_>,
    ) -> Option<WriteId> {
        if records.is_empty() {
            // Nothing but ids that were given to new members.
            self.with_group(&id, around, |group, context| group.delete(context));
            self.groups.remove(&id);
            return None;
        }
        self.with_new_group(id.clone(), around, |group, context| {
            group.delete(context);
            let effect = Effect::Deleted { group: id };
            context.writer.submit_parts(records, effect, context.out)
        })
    }

    /// The records that delete all of a group's offsets: those that are stored, and those that are being written.
    fn offset_tombstones(&self, id: &str, around: &Surroundings<'_>) -> Vec<Record> {
        let stored = around.state.group(id);
        let offsets = stored.into_iter().flat_map(|group| group.offsets());
        let offsets = offsets.map(|(topic, partition, _)| (topic, partition));
        let committing = self.groups.get(id).into_iter().flat_map(Group::committing);
        let committing = committing
            .filter(|(topic, partition)| stored.is_none_or(|group| group.offset(topic, *partition).is_none()));
        let all = offsets.chain(committing);
        all.map(|(topic, partition)| offset_tombstone(id, topic, partition))
            .collect()
    }
}

fn description(group: &Group) -> Description {
    let protocol = group.protocol_in_force();
    let members = group.members().iter().map(|member| MemberDescription {
        member_id: member.id.to_string(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
        assignment: protocol.map(|_| member.assignment.clone()).unwrap_or_default(),
    });
    Description {
        state: group.state(),
        protocol_type: group.protocol_type().to_owned(),
        protocol: protocol.unwrap_or_default().to_owned(),
        members: members.collect(),
    }
}
