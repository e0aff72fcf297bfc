//! Consumer groups, as their members and administrators see them.

use super::words::{
    OFFSETS, commit_request, group_id, join_request, leave_request, produce_request, records, topic_name,
};
use super::{Client, TestBroker, text};
use crate::clock::wall_clock_ms;
use crate::ids;
use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{self as kp};
use std::time::Duration;
use trimaran_multiraft::Input;
use trimaran_wire::api::Api;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LOADING: i16 = 14;
const NOT_COORDINATOR: i16 = 16;
const INVALID_TOPIC: i16 = 17;
const UNKNOWN_MEMBER_ID: i16 = 25;
const TRANSACTIONAL_ID_REFUSED: i16 = 53;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;

/// A broker whose groups don't wait for further members, and a client.
async fn broker() -> (TestBroker, Client) {
    let broker = TestBroker::with(|settings| {
        settings.groups.initial_rebalance_delay = Duration::ZERO;
        settings.groups.offsets_partitions = 3;
    })
    .await;
    let client = broker.with_topic("t", 1, &[]).await;
    (broker, client)
}

async fn sync(client: &mut Client, version: i16, group: &str, joined: &kp::JoinGroupResponse) -> kp::SyncGroupResponse {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"assignment"));
    let named = version >= 5;
    let request = kp::SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(named.then(|| text("consumer")))
        .with_protocol_name(named.then(|| text("range")))
        .with_assignments(vec![assignment]);
    client.ask(Api::SyncGroup, version, &request).await
}

async fn heartbeat(client: &mut Client, version: i16, group: &str, joined: &kp::JoinGroupResponse) -> i16 {
    let request = kp::HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    let response: kp::HeartbeatResponse = client.ask(Api::Heartbeat, version, &request).await;
    response.error_code
}

async fn describe(client: &mut Client, version: i16, group: &str) -> DescribedGroup {
    let request = kp::DescribeGroupsRequest::default()
        .with_groups(vec![group_id(group)])
        .with_include_authorized_operations(version >= 3);
    let mut response: kp::DescribeGroupsResponse = client.ask(Api::DescribeGroups, version, &request).await;
    response.groups.remove(0)
}

async fn delete_group(client: &mut Client, version: i16, group: &str) -> i16 {
    let request = kp::DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    let response: kp::DeleteGroupsResponse = client.ask(Api::DeleteGroups, version, &request).await;
    response.results[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_group_creates_the_topic_of_all_groups() {
    let (broker, mut client) = broker().await;
    assert_eq!(
        client.commit("g", "t", 7).await,
        NOT_COORDINATOR,
        "nobody has looked for it"
    );
    for version in 0..=4 {
        let request = kp::FindCoordinatorRequest::default();
        let (asked, own) = (
            ["g", "h"],
            (
                1,
                "127.0.0.1".to_owned(),
                i32::from(broker.server.addresses().client.port()),
            ),
        );
        if version < 4 {
            let request = request.with_key(text("g"));
            let found: kp::FindCoordinatorResponse = client.ask(Api::FindCoordinator, version, &request).await;
            assert_eq!((found.node_id.0, found.host.to_string(), found.port), own);
            assert_eq!(found.error_code, 0);
        } else {
            let request = request.with_coordinator_keys(asked.map(text).to_vec());
            let found: kp::FindCoordinatorResponse = client.ask(Api::FindCoordinator, version, &request).await;
            for (coordinator, key) in found.coordinators.iter().zip(asked) {
                assert_eq!((coordinator.key.as_str(), coordinator.error_code), (key, 0));
                assert_eq!(
                    (coordinator.node_id.0, coordinator.host.to_string(), coordinator.port),
                    own
                );
            }
        }
    }
    let metadata = client.metadata(&[OFFSETS, "t"]).await;
    let told: Vec<_> = metadata
        .topics
        .iter()
        .map(|topic| (topic.is_internal, topic.partitions.len()))
        .collect();
    assert_eq!(told, [(true, 3), (false, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_have_no_coordinator_yet() {
    let (_broker, mut client) = broker().await;
    let request = kp::FindCoordinatorRequest::default()
        .with_key_type(1)
        .with_key(text("x"));
    let response: kp::FindCoordinatorResponse = client.ask(Api::FindCoordinator, 3, &request).await;
    assert_eq!(
        (response.error_code, response.node_id.0),
        (TRANSACTIONAL_ID_REFUSED, -1)
    );
    assert!(
        response
            .error_message
            .is_some_and(|message| message.contains("transactions"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_and_leaves_in_every_version() {
    let (_broker, mut client) = broker().await;
    client.find_coordinator("g").await;
    for version in 0..=9 {
        let group = format!("group-{version}");
        let joined = client.join(&group, version).await;
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "{version}");
        assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
        assert_eq!(joined.protocol_name, Some(text("range")));
        assert_eq!(joined.members[0].metadata, "subscription");
        let synced = sync(&mut client, version.min(5), &group, &joined).await;
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (0, &b"assignment"[..]),
            "{version}"
        );
        assert_eq!(heartbeat(&mut client, version.min(4), &group, &joined).await, 0);
        let described = describe(&mut client, version.min(6), &group).await;
        assert_eq!((described.error_code, described.group_state.as_str()), (0, "Stable"));
        assert_eq!(
            (described.protocol_type.as_str(), described.protocol_data.as_str()),
            ("consumer", "range")
        );
        let member = &described.members[0];
        assert_eq!(
            (&member.member_id, member.client_id.as_str()),
            (&joined.member_id, "test")
        );
        assert_eq!(
            (member.client_host.as_str(), &member.member_assignment[..]),
            ("/127.0.0.1", &b"assignment"[..])
        );
        assert_eq!(delete_group(&mut client, version.min(2), &group).await, NON_EMPTY_GROUP);
        let leave = leave_request(&group, &joined.member_id, version.min(5));
        let left: kp::LeaveGroupResponse = client.ask(Api::LeaveGroup, version.min(5), &leave).await;
        assert_eq!(left.error_code, 0);
        assert!(left.members.iter().all(|member| member.error_code == 0));
        // Once more: the member is not known any longer, and which field says so depends on the version.
        let left: kp::LeaveGroupResponse = client.ask(Api::LeaveGroup, version.min(5), &leave).await;
        let told = (left.error_code, left.members.first().map(|member| member.error_code));
        let expected = match version {
            ..3 => (UNKNOWN_MEMBER_ID, None),
            _ => (0, Some(UNKNOWN_MEMBER_ID)),
        };
        assert_eq!(told, expected, "{version}");
        assert_eq!(heartbeat(&mut client, 4, &group, &joined).await, UNKNOWN_MEMBER_ID);
        assert_eq!(describe(&mut client, 6, &group).await.group_state.as_str(), "Empty");
        assert_eq!(delete_group(&mut client, version.min(2), &group).await, 0);
        assert_eq!(
            delete_group(&mut client, version.min(2), &group).await,
            GROUP_ID_NOT_FOUND
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let (_broker, mut client) = broker().await;
    client.find_coordinator("g").await;
    assert_eq!(client.commit("g", "t", 1).await, 0);
    for version in 2..=9 {
        let request = commit_request("g", ["t", "none"], 10 + i64::from(version));
        let response: kp::OffsetCommitResponse = client.ask(Api::OffsetCommit, version, &request).await;
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| (topic.name.as_str(), topic.partitions[0].error_code))
            .collect();
        assert_eq!(codes, [("t", 0), ("none", UNKNOWN_TOPIC_OR_PARTITION)], "{version}");
        for version in 1..=9 {
            let named = client.committed(version, "g", Some(&["none", "t"])).await;
            let offsets: Vec<_> = named
                .partitions
                .iter()
                .map(|partition| {
                    (
                        partition.committed_offset,
                        partition.metadata.as_deref(),
                        partition.error_code,
                    )
                })
                .collect();
            let offset = response_offset(&request);
            assert_eq!(offsets, [(-1, Some(""), 0), (offset, Some("note"), 0)], "{version}");
            if version >= 2 {
                let all = client.committed(version, "g", None).await;
                assert_eq!((all.error_code, all.partitions.len()), (0, 1));
                assert_eq!(all.partitions[0].committed_offset, offset);
            }
        }
    }
    let nothing = client.committed(9, "nobody", None).await;
    assert_eq!((nothing.error_code, nothing.partitions.len()), (0, 0));
}

fn response_offset(request: &kp::OffsetCommitRequest) -> i64 {
    request.topics[0].partitions[0].committed_offset
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_by_state_and_type() {
    let (_broker, mut client) = broker().await;
    client.find_coordinator("g").await;
    assert_eq!(client.commit("empty", "t", 1).await, 0);
    let joined = client.join("stable", 9).await;
    assert_eq!(sync(&mut client, 5, "stable", &joined).await.error_code, 0);
    for version in 0..=5 {
        let all: kp::ListGroupsResponse = client
            .ask(Api::ListGroups, version, &kp::ListGroupsRequest::default())
            .await;
        let mut told: Vec<_> = all
            .groups
            .iter()
            .map(|group| {
                (
                    group.group_id.as_str(),
                    group.group_state.as_str(),
                    group.group_type.as_str(),
                )
            })
            .collect();
        told.sort_unstable();
        let shown = |from, text| if version >= from { text } else { "" };
        let kind = shown(5, "classic");
        let expected = [("empty", shown(4, "Empty"), kind), ("stable", shown(4, "Stable"), kind)];
        assert_eq!(told, expected, "{version}");
    }
    for (states, types, expected) in [
        (vec!["stable"], vec![], vec!["stable"]),
        (vec!["Empty"], vec!["Classic"], vec!["empty"]),
        (vec![], vec!["share"], vec![]),
    ] {
        let request = kp::ListGroupsRequest::default()
            .with_states_filter(states.into_iter().map(text).collect())
            .with_types_filter(types.into_iter().map(text).collect());
        let listed: kp::ListGroupsResponse = client.ask(Api::ListGroups, 5, &request).await;
        let listed: Vec<_> = listed.groups.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(listed, expected);
    }
}

async fn delete_offset(client: &mut Client, group: &str, topic: &str) -> (i16, i16) {
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
    let request = kp::OffsetDeleteRequest::default()
        .with_group_id(group_id(group))
        .with_topics(vec![topic]);
    let response: kp::OffsetDeleteResponse = client.ask(Api::OffsetDelete, 0, &request).await;
    let partition = response.topics.first().map(|topic| topic.partitions[0].error_code);
    (response.error_code, partition.unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_deleted() {
    let (_broker, mut client) = broker().await;
    client.find_coordinator("g").await;
    assert_eq!(client.commit("g", "t", 1).await, 0);
    assert_eq!(
        delete_offset(&mut client, "g", "none").await,
        (0, UNKNOWN_TOPIC_OR_PARTITION)
    );
    assert_eq!(delete_offset(&mut client, "g", "t").await, (0, 0));
    assert_eq!(
        client.committed(9, "g", Some(&["t"])).await.partitions[0].committed_offset,
        -1
    );
    assert_eq!(delete_offset(&mut client, "nobody", "t").await.0, GROUP_ID_NOT_FOUND);
    // A real subscription to the topic: version 1, one topic, no user data.
    let mut request = join_request("member", "", 3);
    request.protocols[0].metadata = Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0");
    let joined: kp::JoinGroupResponse = client.ask(Api::JoinGroup, 3, &request).await;
    assert_eq!(joined.error_code, 0);
    assert_eq!(sync(&mut client, 3, "member", &joined).await.error_code, 0);
    assert_eq!(
        delete_offset(&mut client, "member", "t").await,
        (0, GROUP_SUBSCRIBED_TO_TOPIC)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topics_offsets_go_with_it() {
    let (_broker, mut client) = broker().await;
    client.find_coordinator("g").await;
    assert_eq!(client.commit("g", "t", 1).await, 0);
    let topic = DeleteTopicState::default().with_name(Some(topic_name("t")));
    let request = kp::DeleteTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(20_000);
    let response: kp::DeleteTopicsResponse = client.ask(Api::DeleteTopics, 6, &request).await;
    assert_eq!(response.responses[0].error_code, 0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !client.committed(9, "g", None).await.partitions.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the offset is forgotten");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_all_groups_is_the_brokers() {
    let (_broker, mut client) = broker().await;
    let creatable = CreatableTopic::default()
        .with_name(topic_name(OFFSETS))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let create = kp::CreateTopicsRequest::default()
        .with_topics(vec![creatable])
        .with_timeout_ms(20_000);
    let created: kp::CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &create).await;
    assert_eq!(created.topics[0].error_code, INVALID_TOPIC);
    // Asking for it creates it as the first group would.
    while client.metadata(&[OFFSETS]).await.topics[0].error_code == UNKNOWN_TOPIC_OR_PARTITION {
        tokio::task::yield_now().await;
    }
    client.find_coordinator("g").await;
    let metadata = client.metadata(&[OFFSETS]).await;
    assert_eq!(metadata.topics[0].partitions.len(), 3);
    let id = metadata.topics[0].topic_id;
    let request = produce_request(OFFSETS, 0, -1, records(&["x"]));
    let produced: kp::ProduceResponse = client.ask(Api::Produce, 11, &request).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, INVALID_TOPIC);
    let by_name = DeleteTopicState::default().with_name(Some(topic_name(OFFSETS)));
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let delete = kp::DeleteTopicsRequest::default()
        .with_topics(vec![by_name, by_id])
        .with_timeout_ms(20_000);
    let deleted: kp::DeleteTopicsResponse = client.ask(Api::DeleteTopics, 6, &delete).await;
    let codes: Vec<_> = deleted.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [INVALID_TOPIC; 2]);
    let grown = CreatePartitionsTopic::default()
        .with_name(topic_name(OFFSETS))
        .with_count(6);
    let grow = kp::CreatePartitionsRequest::default()
        .with_topics(vec![grown])
        .with_timeout_ms(20_000);
    let grown: kp::CreatePartitionsResponse = client.ask(Api::CreatePartitions, 3, &grow).await;
    assert_eq!(grown.results[0].error_code, INVALID_TOPIC);
    // Reading it is allowed: exporters do.
    assert_eq!(client.fetch(OFFSETS, 0, 0).await.error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_knows_members_and_offsets() {
    let mut brokers = TestBroker::cluster(&["a", "b", "c"], |settings| {
        settings.groups.initial_rebalance_delay = Duration::ZERO;
        settings.groups.offsets_partitions = 1;
    })
    .await;
    let mut client = brokers[0].with_replicated_topic("t", 1, 3, &[]).await;
    let first = client.find_coordinator("g").await;
    let at = usize::try_from(first - 1).unwrap();
    let mut member = brokers[at].connect().await;
    let joined = member.join("g", 9).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(sync(&mut member, 5, "g", &joined).await.error_code, 0);
    let commit = commit_request("g", ["t"], 42)
        .with_generation_id_or_member_epoch(1)
        .with_member_id(joined.member_id.clone());
    let committed: kp::OffsetCommitResponse = member.ask(Api::OffsetCommit, 9, &commit).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);

    let other = &brokers[(at + 1) % 3];
    assert_eq!(
        heartbeat(&mut other.connect().await, 4, "g", &joined).await,
        NOT_COORDINATOR,
        "it only follows"
    );
    let mut client = other.connect().await;
    brokers.remove(at).server.kill().await;
    let second = loop {
        let found = client.find_coordinator("g").await;
        if found != first {
            break found;
        }
    };
    let survivor = brokers
        .iter()
        .find(|broker| broker.server.engine().broker_id().0 == second)
        .unwrap();
    let mut member = survivor.connect().await;
    assert_eq!(
        heartbeat(&mut member, 4, "g", &joined).await,
        0,
        "of the same member and generation"
    );
    let described = loop {
        // Its task may not have heard yet that it leads.
        let described = describe(&mut member, 6, "g").await;
        if described.error_code != LOADING {
            break described;
        }
    };
    assert_eq!((described.error_code, described.group_state.as_str()), (0, "Stable"));
    assert_eq!(described.members[0].member_id, joined.member_id);
    assert_eq!(&described.members[0].member_assignment[..], b"assignment");
    assert_eq!(member.committed(9, "g", None).await.partitions[0].committed_offset, 42);
}

/// Nothing compacts logs yet: the leader writes the state again, and every replica gives up what lies before.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_begins_again_with_the_state() {
    const PARTITIONS: i32 = 100;
    let broker = TestBroker::with(|settings| settings.groups.offsets_partitions = 1).await;
    let mut client = broker.with_topic("t", PARTITIONS, &[]).await;
    client.find_coordinator("g").await;
    assert_eq!(client.commit("early", "t", 5).await, 0);
    let note = text(&"n".repeat(4_096));
    // 400 KiB each.
    for offset in 0..60 {
        let mut request = commit_request("g", ["t"], offset);
        let topic = &mut request.topics[0];
        topic.partitions[0].committed_metadata = Some(note.clone());
        let first = topic.partitions[0].clone();
        topic.partitions = (0..PARTITIONS)
            .map(|at| first.clone().with_partition_index(at))
            .collect();
        let response: kp::OffsetCommitResponse = client.ask(Api::OffsetCommit, 8, &request).await;
        assert!(
            response.topics[0]
                .partitions
                .iter()
                .all(|partition| partition.error_code == 0)
        );
    }
    let engine = broker.server.engine().clone();
    let group = ids::group(engine.catalog().topic(OFFSETS).unwrap().partitions[0].group);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        // Not in half a minute.
        engine.mailbox(group).tell(Input::Retain {
            now_ms: wall_clock_ms(),
        });
        if client.offset(8, OFFSETS, -2).await.offset > 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "what is copied is deleted");
        tokio::task::yield_now().await;
    }
    let length = engine.status(group).await.unwrap().size_bytes;
    assert!(length < 20 << 20, "{length}: it was 24 MiB");

    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    client.find_coordinator("g").await;
    let found = loop {
        let found = client.committed(9, "g", Some(&["t"])).await;
        if found.error_code != LOADING {
            break found;
        }
    };
    let partition = &found.partitions[0];
    assert_eq!((partition.committed_offset, &partition.metadata), (59, &Some(note)));
    let all = client.committed(9, "g", None).await;
    assert_eq!(all.partitions.len(), PARTITIONS as usize);
    let early = client.committed(9, "early", None).await;
    assert_eq!(early.partitions[0].committed_offset, 5, "it was only in the copy");
}
