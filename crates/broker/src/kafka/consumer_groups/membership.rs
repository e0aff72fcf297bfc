//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

use super::{ask, owned, unexpected};
use crate::kafka::authorization::{Operation, Resource};
use crate::kafka::context::{Answer, Context};
use crate::kafka::errors::{self, Failure};
use crate::kafka::partitions::text;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::hash::{BuildHasher, Hasher, RandomState};
use trimaran_coordinator::request::{
    Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, LeavingMember, Protocol, SyncGroup, Synced,
};
use trimaran_coordinator::{Error, Generation, Reply as Outcome, Request};
use trimaran_transport::Reply;

/// The first version of JoinGroup that has a rebalance time-out (KIP-62).
const FIRST_REBALANCE_TIMEOUT_VERSION: i16 = 1;

/// The first version of JoinGroup in which a new member is given its id before it joins (KIP-394).
const FIRST_MEMBER_ID_REQUIRED_VERSION: i16 = 4;

/// The first version of JoinGroup that tells the kind of group, and may leave the protocol out (KIP-559).
const FIRST_PROTOCOL_TYPE_VERSION: i16 = 7;

/// The first version of JoinGroup with `skip_assignment` (KIP-814).
const FIRST_SKIP_ASSIGNMENT_VERSION: i16 = 9;

/// The first version of SyncGroup that names kind of group and protocol (KIP-559).
const FIRST_SYNC_PROTOCOL_VERSION: i16 = 5;

/// The first version of LeaveGroup that names several members (KIP-345).
const FIRST_BATCHED_LEAVE_VERSION: i16 = 3;

// --- JoinGroup ---

/// Read on the group.
impl Answer for JoinGroupRequest {
    async fn answer(self, context: Context) -> Reply {
        let version = context.version();
        let member_id = self.member_id.clone();
        let response = match join(&context, self).await {
            Ok(joined) => joined_response(joined, version),
            Err((failure, named)) => join_refused(&failure, named.map_or(member_id, |id| text(&id)), version),
        };
        context.respond(&response)
    }
}

/// An error comes with the id of the member that it is about, if the coordinator has named it.
async fn join(context: &Context, request: JoinGroupRequest) -> Result<Joined, (Failure, Option<String>)> {
    let group = request.group_id.to_string();
    context
        .authorize(Operation::Read, Resource::Group(&group))
        .map_err(|failure| (failure, None))?;
    let join = Request::JoinGroup(join_request(context, request));
    match ask(context, &group, join).await {
        Ok(Outcome::JoinGroup(Ok(joined))) => Ok(joined),
        Ok(Outcome::JoinGroup(Err(JoinRefused { error, member_id }))) => {
            Err((errors::coordinator(error), Some(member_id)))
        }
        Ok(_) => Err((unexpected(), None)),
        Err(error) => Err((errors::coordinator(error), None)),
    }
}

fn join_request(context: &Context, request: JoinGroupRequest) -> JoinGroup {
    let version = context.version();
    let protocol = |protocol: kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| Protocol {
        name: protocol.name.to_string(),
        metadata: unshared(&protocol.metadata),
    };
    JoinGroup {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: owned(&request.group_instance_id),
        client_id: context.header.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", context.session.connection().remote.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match version {
            FIRST_REBALANCE_TIMEOUT_VERSION.. => request.rebalance_timeout_ms,
            _ => request.session_timeout_ms,
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        member_id_required: version >= FIRST_MEMBER_ID_REQUIRED_VERSION,
        knows_skip_assignment: version >= FIRST_SKIP_ASSIGNMENT_VERSION,
        reason: owned(&request.reason),
        random: u128::from(random()) << 64 | u128::from(random()),
    }
}

/// In memory of its own: a slice would keep the whole frame that it came in for as long as the member lives.
fn unshared(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Random enough to tell members apart: the standard library's keys for hash maps, which the operating system seeds.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn joined_response(joined: Joined, version: i16) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation.0)
        .with_protocol_type((version >= FIRST_PROTOCOL_TYPE_VERSION).then(|| text(&joined.protocol_type)))
        .with_protocol_name(Some(text(&joined.protocol_name)))
        .with_leader(text(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect())
}

fn join_refused(failure: &Failure, member_id: StrBytes, version: i16) -> JoinGroupResponse {
    let no_protocol = (version < FIRST_PROTOCOL_TYPE_VERSION).then(StrBytes::default);
    JoinGroupResponse::default()
        .with_error_code(failure.code())
        .with_generation_id(Generation::NONE.0)
        .with_protocol_name(no_protocol)
        .with_member_id(member_id)
}

// --- SyncGroup ---

/// Read on the group.
impl Answer for SyncGroupRequest {
    async fn answer(self, context: Context) -> Reply {
        let version = context.version();
        let names_protocol = version >= FIRST_SYNC_PROTOCOL_VERSION;
        let response = SyncGroupResponse::default();
        context.respond(&match sync(&context, self).await {
            Ok(synced) => response
                .with_protocol_type(names_protocol.then(|| text(&synced.protocol_type)))
                .with_protocol_name(names_protocol.then(|| text(&synced.protocol_name)))
                .with_assignment(synced.assignment),
            Err(failure) => response.with_error_code(failure.code()),
        })
    }
}

async fn sync(context: &Context, request: SyncGroupRequest) -> Result<Synced, Failure> {
    let group = request.group_id.to_string();
    context.authorize(Operation::Read, Resource::Group(&group))?;
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.version() >= FIRST_SYNC_PROTOCOL_VERSION && !names_protocol {
        let message = "the kind of group and its protocol must be named";
        return Err(Failure::new(ResponseError::InconsistentGroupProtocol, message));
    }
    let assignments = request.assignments.into_iter();
    let sync = SyncGroup {
        group: group.clone(),
        generation: Generation(request.generation_id),
        member_id: request.member_id.to_string(),
        instance_id: owned(&request.group_instance_id),
        protocol_type: owned(&request.protocol_type),
        protocol_name: owned(&request.protocol_name),
        assignments: assignments
            .map(|each| (each.member_id.to_string(), unshared(&each.assignment)))
            .collect(),
    };
    let result = match ask(context, &group, Request::SyncGroup(sync)).await {
        Ok(Outcome::SyncGroup(result)) => result,
        Ok(_) => return Err(unexpected()),
        Err(error) => Err(error),
    };
    // Java's consumer does not know that a coordinator may be loading here, and stops. Told to join again it asks a
    // request that may be answered so (Kafka's own coordinator does the same).
    result.map_err(|error| match error {
        Error::CoordinatorLoadInProgress => errors::coordinator(Error::RebalanceInProgress),
        error => errors::coordinator(error),
    })
}

// --- Heartbeat ---

/// Read on the group.
impl Answer for HeartbeatRequest {
    async fn answer(self, context: Context) -> Reply {
        let error = heartbeat(&context, &self).await.err();
        let response = HeartbeatResponse::default().with_error_code(error.map_or(0, |failure| failure.code()));
        context.respond(&response)
    }
}

async fn heartbeat(context: &Context, request: &HeartbeatRequest) -> Result<(), Failure> {
    let group = request.group_id.as_str();
    context.authorize(Operation::Read, Resource::Group(group))?;
    let heartbeat = Heartbeat {
        group: group.to_owned(),
        generation: Generation(request.generation_id),
        member_id: request.member_id.to_string(),
        instance_id: owned(&request.group_instance_id),
    };
    let result = match ask(context, group, Request::Heartbeat(heartbeat)).await {
        Ok(Outcome::Heartbeat(result)) => result,
        Ok(_) => return Err(unexpected()),
        Err(error) => Err(error),
    };
    match result {
        // As above; and a member's session begins again anyway when its coordinator begins.
        Err(Error::CoordinatorLoadInProgress) => Ok(()),
        result => result.map_err(errors::coordinator),
    }
}

// --- LeaveGroup ---

/// Read on the group.
impl Answer for LeaveGroupRequest {
    async fn answer(self, context: Context) -> Reply {
        let is_batched = context.version() >= FIRST_BATCHED_LEAVE_VERSION;
        let response = LeaveGroupResponse::default();
        context.respond(&match leave(&context, self).await {
            Ok(members) if is_batched => response.with_members(members),
            // Before that there is one member, and its error is the response's.
            Ok(members) => response.with_error_code(members.first().map_or(0, |member| member.error_code)),
            Err(failure) => response.with_error_code(failure.code()),
        })
    }
}

async fn leave(context: &Context, request: LeaveGroupRequest) -> Result<Vec<MemberResponse>, Failure> {
    let group = request.group_id.as_str();
    context.authorize(Operation::Read, Resource::Group(group))?;
    let members = match context.version() {
        FIRST_BATCHED_LEAVE_VERSION.. => request
            .members
            .iter()
            .map(|member| LeavingMember {
                member_id: member.member_id.to_string(),
                instance_id: owned(&member.group_instance_id),
            })
            .collect(),
        _ => vec![LeavingMember {
            member_id: request.member_id.to_string(),
            instance_id: None,
        }],
    };
    let leave = LeaveGroup {
        group: group.to_owned(),
        members,
    };
    let outcomes = match ask(context, group, Request::LeaveGroup(leave)).await {
        Ok(Outcome::LeaveGroup(result)) => result.map_err(errors::coordinator)?,
        Ok(_) => return Err(unexpected()),
        Err(error) => return Err(errors::coordinator(error)),
    };
    let responses = outcomes.into_iter().map(|outcome| {
        let error = outcome.result.err().map(errors::coordinator);
        MemberResponse::default()
            .with_member_id(text(&outcome.member.member_id))
            .with_group_instance_id(outcome.member.instance_id.as_deref().map(text))
            .with_error_code(error.map_or(0, |failure| failure.code()))
    });
    Ok(responses.collect())
}
