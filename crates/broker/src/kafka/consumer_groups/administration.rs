//! DescribeGroups, ListGroups and DeleteGroups.

use super::{ask, unexpected};
use crate::kafka::authorization::{Operation, Resource};
use crate::kafka::cluster::NOT_ASKED;
use crate::kafka::context::{Answer, Context};
use crate::kafka::errors::{self, Failure};
use crate::kafka::partitions::text;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use trimaran_coordinator::request::{
    DeleteGroups, DescribeGroups, Description, GroupState, ListGroups, ListedGroup, MemberDescription,
};
use trimaran_coordinator::{Error, Reply as Outcome, Request};
use trimaran_transport::Reply;

/// The first version of DescribeGroups that tells a group that doesn't exist from one without members (KIP-1043).
const FIRST_NOT_FOUND_VERSION: i16 = 6;

/// The first versions of ListGroups that tell groups' states and types.
const FIRST_STATE_VERSION: i16 = 4;
const FIRST_TYPE_VERSION: i16 = 5;

// --- DescribeGroups ---

/// Describe on each group.
impl Answer for DescribeGroupsRequest {
    async fn answer(self, context: Context) -> Reply {
        let mut groups = Vec::with_capacity(self.groups.len());
        for id in self.groups {
            let described = described(&context, &id).await;
            let group = group(&context, id, described);
            let operations = match self.include_authorized_operations && group.error_code == 0 {
                true => context.access().operations(Resource::Group(&group.group_id)),
                false => NOT_ASKED,
            };
            groups.push(group.with_authorized_operations(operations));
        }
        context.respond(&DescribeGroupsResponse::default().with_groups(groups))
    }
}

async fn described(context: &Context, id: &GroupId) -> Result<Result<Description, Error>, Failure> {
    context.authorize(Operation::Describe, Resource::Group(id))?;
    let describe = Request::DescribeGroups(DescribeGroups {
        groups: vec![id.to_string()],
    });
    let mut groups = match ask(context, id, describe).await {
        Ok(Outcome::DescribeGroups(groups)) => groups,
        Ok(_) => return Err(unexpected()),
        Err(error) => return Err(errors::coordinator(error)),
    };
    Ok(groups.pop().ok_or_else(unexpected)?.description)
}

fn group(context: &Context, id: GroupId, described: Result<Result<Description, Error>, Failure>) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(id);
    let failure = match described {
        Ok(Ok(description)) => {
            let members = description.members.into_iter().map(member);
            return group
                .with_group_state(text(description.state.name()))
                .with_protocol_type(text(&description.protocol_type))
                .with_protocol_data(text(&description.protocol))
                .with_members(members.collect());
        }
        Ok(Err(Error::GroupIdNotFound)) => {
            let group = group.with_group_state(text(GroupState::Dead.name()));
            if context.version() < FIRST_NOT_FOUND_VERSION {
                return group;
            }
            let failure = errors::coordinator(Error::GroupIdNotFound);
            return group.with_error_code(failure.code()).with_error_message(failure.text());
        }
        Ok(Err(error)) => errors::coordinator(error),
        Err(failure) => failure,
    };
    let message = (context.version() >= FIRST_NOT_FOUND_VERSION).then(|| text(&failure.message));
    group.with_error_code(failure.code()).with_error_message(message)
}

fn member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(member.instance_id.as_deref().map(text))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

// --- ListGroups ---

/// Describe on the cluster, or else on each group: the others are left out.
impl Answer for ListGroupsRequest {
    async fn answer(self, context: Context) -> Reply {
        let response = match list(&context, &self).await {
            Ok(groups) => ListGroupsResponse::default().with_groups(groups),
            Err(failure) => ListGroupsResponse::default().with_error_code(failure.code()),
        };
        context.respond(&response)
    }
}

/// The groups that this broker coordinates; clients ask every broker.
async fn list(
    context: &Context,
    request: &ListGroupsRequest,
) -> Result<Vec<list_groups_response::ListedGroup>, Failure> {
    let access = context.access();
    let may_see_all = access.allows(Operation::Describe, Resource::Cluster);
    let list = ListGroups {
        states: request.states_filter.iter().map(|state| state.to_string()).collect(),
        types: request.types_filter.iter().map(|kind| kind.to_string()).collect(),
    };
    let coordinators = context.engine().coordinators();
    let mut groups = Vec::new();
    for partition in coordinators.hosted() {
        let listed = match coordinators.ask(partition, Request::ListGroups(list.clone())).await {
            // Another broker lists it.
            Err(Error::NotCoordinator) | Ok(Outcome::ListGroups(Err(Error::NotCoordinator))) => continue,
            Ok(Outcome::ListGroups(Ok(listed))) => listed,
            Ok(Outcome::ListGroups(Err(error))) | Err(error) => return Err(errors::coordinator(error)),
            Ok(_) => return Err(unexpected()),
        };
        let visible =
            |group: &ListedGroup| may_see_all || access.allows(Operation::Describe, Resource::Group(&group.group));
        groups.extend(
            listed
                .into_iter()
                .filter(visible)
                .map(|group| listed_group(context, group)),
        );
    }
    Ok(groups)
}

fn listed_group(context: &Context, group: ListedGroup) -> list_groups_response::ListedGroup {
    let listed = list_groups_response::ListedGroup::default()
        .with_group_id(GroupId(text(&group.group)))
        .with_protocol_type(text(&group.protocol_type));
    let listed = match context.version() {
        FIRST_STATE_VERSION.. => listed.with_group_state(text(group.state.name())),
        _ => listed,
    };
    match context.version() {
        FIRST_TYPE_VERSION.. => listed.with_group_type(text(group.group_type)),
        _ => listed,
    }
}

// --- DeleteGroups ---

/// Delete on each group.
impl Answer for DeleteGroupsRequest {
    async fn answer(self, context: Context) -> Reply {
        let mut results = Vec::with_capacity(self.groups_names.len());
        for id in self.groups_names {
            let error = delete(&context, &id).await.err();
            results.push(
                DeletableGroupResult::default()
                    .with_group_id(id)
                    .with_error_code(error.map_or(0, |failure| failure.code())),
            );
        }
        context.respond(&DeleteGroupsResponse::default().with_results(results))
    }
}

async fn delete(context: &Context, id: &GroupId) -> Result<(), Failure> {
    context.authorize(Operation::Delete, Resource::Group(id))?;
    let delete = Request::DeleteGroups(DeleteGroups {
        groups: vec![id.to_string()],
    });
    let mut groups = match ask(context, id, delete).await {
        Ok(Outcome::DeleteGroups(groups)) => groups,
        Ok(_) => return Err(unexpected()),
        Err(error) => return Err(errors::coordinator(error)),
    };
    let (_, result) = groups.pop().ok_or_else(unexpected)?;
    result.map_err(errors::coordinator)
}
