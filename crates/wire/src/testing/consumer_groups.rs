//! A request and a response of every API of consumer groups, with something in every field that the version has. The
//! fuzzing in `tests` includes this file as well.

use kafka_protocol::messages as kp;
use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn topic() -> TopicName {
    TopicName(text("t"))
}

fn instance(version: i16, first: i16) -> Option<StrBytes> {
    (version >= first).then(|| text("i"))
}

pub(crate) fn offset_commit(version: i16) -> kp::OffsetCommitRequest {
    use kp::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(3)
        .with_committed_offset(42)
        .with_committed_leader_epoch(if version >= 6 { 7 } else { -1 })
        .with_committed_metadata(Some(text("m")));
    let none = OffsetCommitRequestPartition::default().with_committed_metadata(None);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic())
        .with_partitions(vec![partition, none]);
    kp::OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(5)
        .with_member_id(text("a"))
        .with_group_instance_id(instance(version, 7))
        .with_retention_time_ms(if version < 5 { 9 } else { -1 })
        .with_topics(vec![topic])
}

pub(crate) fn offset_fetch(version: i16) -> kp::OffsetFetchRequest {
    use kp::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    let request = kp::OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version < 8 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic())
            .with_partition_indexes(vec![1, 2]);
        return request.with_group_id(group()).with_topics(Some(vec![topic]));
    }
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic())
        .with_partition_indexes(vec![1, 2]);
    let one = OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_member_id(instance(version, 9))
        .with_member_epoch(if version >= 9 { 4 } else { -1 })
        .with_topics(Some(vec![topic]));
    let all = OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_topics(None);
    request.with_groups(vec![one, all])
}

pub(crate) fn join_group(version: i16) -> kp::JoinGroupRequest {
    use kp::join_group_request::JoinGroupRequestProtocol;
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(vec![1, 2].into());
    kp::JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(6_000)
        .with_rebalance_timeout_ms(if version >= 1 { 9_000 } else { -1 })
        .with_member_id(text("a"))
        .with_group_instance_id(instance(version, 5))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol; 2])
        .with_reason(instance(version, 8))
}

pub(crate) fn heartbeat(version: i16) -> kp::HeartbeatRequest {
    kp::HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(5)
        .with_member_id(text("a"))
        .with_group_instance_id(instance(version, 3))
}

pub(crate) fn leave_group(version: i16) -> kp::LeaveGroupRequest {
    use kp::leave_group_request::MemberIdentity;
    let request = kp::LeaveGroupRequest::default().with_group_id(group());
    if version < 3 {
        return request.with_member_id(text("a"));
    }
    let member = MemberIdentity::default()
        .with_member_id(text("a"))
        .with_group_instance_id(instance(version, 3))
        .with_reason(instance(version, 5));
    request.with_members(vec![member; 2])
}

pub(crate) fn sync_group(version: i16) -> kp::SyncGroupRequest {
    use kp::sync_group_request::SyncGroupRequestAssignment;
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(text("a"))
        .with_assignment(vec![1, 2].into());
    kp::SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(5)
        .with_member_id(text("a"))
        .with_group_instance_id(instance(version, 3))
        .with_protocol_type(instance(version, 5))
        .with_protocol_name(instance(version, 5))
        .with_assignments(vec![assignment; 2])
}

pub(crate) fn describe_groups(version: i16) -> kp::DescribeGroupsRequest {
    kp::DescribeGroupsRequest::default()
        .with_groups(vec![group(), group()])
        .with_include_authorized_operations(version >= 3)
}

pub(crate) fn list_groups(version: i16) -> kp::ListGroupsRequest {
    let filter = |first| instance(version, first).into_iter().collect();
    kp::ListGroupsRequest::default()
        .with_states_filter(filter(4))
        .with_types_filter(filter(5))
}

pub(crate) fn delete_groups() -> kp::DeleteGroupsRequest {
    kp::DeleteGroupsRequest::default().with_groups_names(vec![group(), group()])
}

pub(crate) fn offset_delete() -> kp::OffsetDeleteRequest {
    use kp::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic())
        .with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(3)]);
    kp::OffsetDeleteRequest::default()
        .with_group_id(group())
        .with_topics(vec![topic])
}

pub(crate) fn offset_committed() -> kp::OffsetCommitResponse {
    use kp::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let partition = OffsetCommitResponsePartition::default().with_error_code(22);
    let topic = OffsetCommitResponseTopic::default()
        .with_name(topic())
        .with_partitions(vec![partition; 2]);
    kp::OffsetCommitResponse::default().with_topics(vec![topic])
}

pub(crate) fn offset_fetched(version: i16) -> kp::OffsetFetchResponse {
    use kp::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };
    let response = kp::OffsetFetchResponse::default();
    if version < 8 {
        let partition = OffsetFetchResponsePartition::default()
            .with_committed_offset(42)
            .with_committed_leader_epoch(if version >= 5 { 7 } else { -1 })
            .with_metadata(Some(text("m")));
        let topic = OffsetFetchResponseTopic::default()
            .with_name(topic())
            .with_partitions(vec![partition; 2]);
        return response.with_topics(vec![topic]);
    }
    let partition = OffsetFetchResponsePartitions::default()
        .with_committed_offset(42)
        .with_committed_leader_epoch(7)
        .with_metadata(Some(text("m")));
    let topic = OffsetFetchResponseTopics::default()
        .with_name(topic())
        .with_partitions(vec![partition; 2]);
    let group = OffsetFetchResponseGroup::default()
        .with_group_id(group())
        .with_topics(vec![topic]);
    response.with_groups(vec![group; 2])
}

pub(crate) fn joined_group(version: i16) -> kp::JoinGroupResponse {
    use kp::join_group_response::JoinGroupResponseMember;
    let member = JoinGroupResponseMember::default()
        .with_member_id(text("a"))
        .with_group_instance_id(instance(version, 5))
        .with_metadata(vec![1, 2].into());
    kp::JoinGroupResponse::default()
        .with_generation_id(5)
        .with_protocol_type(instance(version, 7))
        .with_protocol_name(Some(text("range")))
        .with_leader(text("a"))
        .with_skip_assignment(version >= 9)
        .with_member_id(text("a"))
        .with_members(vec![member; 2])
}

pub(crate) fn left_group(version: i16) -> kp::LeaveGroupResponse {
    use kp::leave_group_response::MemberResponse;
    let member = MemberResponse::default()
        .with_member_id(text("a"))
        .with_group_instance_id(Some(text("i")))
        .with_error_code(25);
    let members = if version >= 3 { vec![member; 2] } else { Vec::new() };
    kp::LeaveGroupResponse::default().with_members(members)
}

pub(crate) fn synced_group(version: i16) -> kp::SyncGroupResponse {
    kp::SyncGroupResponse::default()
        .with_protocol_type(instance(version, 5))
        .with_protocol_name(instance(version, 5))
        .with_assignment(vec![1, 2].into())
}

pub(crate) fn described_groups(version: i16) -> kp::DescribeGroupsResponse {
    use kp::describe_groups_response::{DescribedGroup, DescribedGroupMember};
    let member = DescribedGroupMember::default()
        .with_member_id(text("a"))
        .with_group_instance_id(instance(version, 4))
        .with_client_id(text("c"))
        .with_client_host(text("/h"))
        .with_member_metadata(vec![1, 2].into())
        .with_member_assignment(vec![3].into());
    let group = DescribedGroup::default()
        .with_error_message(instance(version, 6))
        .with_group_id(group())
        .with_group_state(text("Stable"))
        .with_protocol_type(text("consumer"))
        .with_protocol_data(text("range"))
        .with_members(vec![member; 2])
        .with_authorized_operations(if version >= 3 { 8 } else { i32::MIN });
    kp::DescribeGroupsResponse::default().with_groups(vec![group; 2])
}

pub(crate) fn listed_groups(version: i16) -> kp::ListGroupsResponse {
    use kp::list_groups_response::ListedGroup;
    let group = ListedGroup::default()
        .with_group_id(group())
        .with_protocol_type(text("consumer"))
        .with_group_state(instance(version, 4).unwrap_or_default())
        .with_group_type(instance(version, 5).unwrap_or_default());
    kp::ListGroupsResponse::default().with_groups(vec![group; 2])
}

pub(crate) fn deleted_groups() -> kp::DeleteGroupsResponse {
    use kp::delete_groups_response::DeletableGroupResult;
    let result = DeletableGroupResult::default()
        .with_group_id(group())
        .with_error_code(69);
    kp::DeleteGroupsResponse::default().with_results(vec![result; 2])
}

pub(crate) fn offset_deleted() -> kp::OffsetDeleteResponse {
    use kp::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
    let partition = OffsetDeleteResponsePartition::default().with_error_code(86);
    let topic = OffsetDeleteResponseTopic::default()
        .with_name(topic())
        .with_partitions(vec![partition; 2]);
    kp::OffsetDeleteResponse::default().with_topics(vec![topic])
}
