//! What new brokers get wrong, by the numbers of the project's list of Kafka's semantics (45 to 51).

use super::rig::*;
use crate::request::*;
use crate::{Config, Error, Generation, Offset};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

#[test]
fn item_45_a_new_member_is_given_its_id_first_and_the_id_expires() {
    let mut rig = Rig::new(prompt());
    let join = JoinGroup {
        member_id_required: true,
        ..joining(0x1234)
    };
    let refused = rig.join(join.clone()).unwrap_err();
    assert_eq!(refused.error, Error::MemberIdRequired);
    assert_eq!(refused.member_id, "client-00000000-0000-4000-8000-000000001234");
    let with_id = JoinGroup {
        member_id: refused.member_id.clone(),
        ..join.clone()
    };
    let joined = rig.join(with_id.clone()).unwrap();
    assert_eq!(joined.member_id, refused.member_id);
    assert_eq!(joined.generation, Generation(1));

    // An id that nobody joins with is kept for a session time-out.
    let late = rig.join(JoinGroup { random: 5, ..join }).unwrap_err();
    let late = JoinGroup {
        member_id: late.member_id,
        ..with_id
    };
    rig.pass(SESSION_MS);
    assert_eq!(rig.join(late).unwrap_err().error, Error::UnknownMemberId);
}

#[test]
fn item_45_a_static_member_needs_no_id() {
    let mut rig = Rig::new(prompt());
    let join = JoinGroup {
        member_id_required: true,
        ..static_joining("i", 7)
    };
    assert!(rig.join(join).unwrap().member_id.starts_with("i-"));
}

#[test]
fn item_46_the_first_members_wait_for_others() {
    let mut rig = Rig::new(Config::default());
    let first = rig.ask(Request::JoinGroup(joining(1)));
    rig.pass(2_999);
    assert_eq!(rig.state(), GroupState::PreparingRebalance);
    // Another one comes: the delay begins again.
    let second = rig.ask(Request::JoinGroup(joining(2)));
    rig.pass(1);
    rig.pass(2_999);
    assert_eq!(rig.reply(first), None);
    rig.pass(1);
    let joined = [rig.joined(first).unwrap(), rig.joined(second).unwrap()];
    assert_eq!(joined.each_ref().map(|joined| joined.generation), [Generation(1); 2]);
    assert_eq!(
        joined[0].members.len() + joined[1].members.len(),
        2,
        "the leader gets to know both"
    );
}

/// However many come, the delays end with the rebalance time-out.
#[test]
fn item_46_the_delay_has_an_end() {
    let mut rig = Rig::new(Config::default());
    let first = rig.ask(Request::JoinGroup(joining(1)));
    for number in 0..30 {
        rig.ask(Request::JoinGroup(joining(2 + number)));
        rig.pass(2_000);
    }
    assert!(rig.reply(first).is_some(), "after {REBALANCE_MS} ms at the latest");
}

#[test]
fn item_46_the_protocol_is_chosen_by_votes() {
    let mut rig = Rig::new(prompt());
    let with = |random, names: &[&str]| JoinGroup {
        protocols: names.iter().map(|name| protocol(name, &["t"])).collect(),
        ..joining(random)
    };
    rig.stable_with(vec![
        with(1, &["only-mine", "range", "sticky"]),
        with(2, &["sticky", "range"]),
        with(3, &["sticky", "range"]),
    ]);
    assert_eq!(rig.describe("g").unwrap().protocol, "sticky");

    let mut rig = Rig::new(prompt());
    rig.stable_with(vec![with(1, &["range", "sticky"]), with(2, &["sticky", "range"])]);
    assert_eq!(
        rig.describe("g").unwrap().protocol,
        "range",
        "the first by name of equals"
    );
}

#[test]
fn item_47_heartbeats_say_what_a_member_must_do() {
    let mut rig = Rig::new(prompt());
    let members = rig.stable(2);
    assert_eq!(rig.heartbeat(&members[0]), Ok(()));
    let mut other = members[0].clone();
    other.generation = Generation(members[0].generation.0 - 1);
    assert_eq!(rig.heartbeat(&other), Err(Error::IllegalGeneration));
    other.id = "nobody".into();
    assert_eq!(rig.heartbeat(&other), Err(Error::UnknownMemberId));
    rig.ask(Request::JoinGroup(joining(9)));
    assert_eq!(rig.heartbeat(&members[0]), Err(Error::RebalanceInProgress));
    let nowhere = Heartbeat {
        group: "none".into(),
        ..Heartbeat::default()
    };
    let reply = rig.call(Request::Heartbeat(nowhere));
    assert_eq!(reply, Reply::Heartbeat(Err(Error::UnknownMemberId)));
}

#[test]
fn item_48_a_static_member_keeps_its_assignment_and_its_twin_is_fenced() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable_with(vec![static_joining("a", 1), static_joining("b", 2)]);
    let former = seats.iter().find(|seat| !seat.is_leader).unwrap().clone();
    let instance_id = former.instance_id.clone().unwrap();
    let joined = rig.join(static_joining(&instance_id, 9)).unwrap();
    assert_eq!(joined.generation, former.generation, "no rebalance");
    assert_ne!(joined.member_id, former.id);
    assert_eq!(rig.state(), GroupState::Stable);
    let next = Seat {
        id: joined.member_id,
        ..former.clone()
    };
    assert_eq!(rig.sync(next.syncing()).unwrap().assignment, former.assignment);
    assert_eq!(rig.heartbeat(&former), Err(Error::FencedInstanceId));
    assert_eq!(
        rig.commit_offset(former.committing("t", 1)),
        Err(Error::FencedInstanceId)
    );
    assert_eq!(rig.sync(former.syncing()), Err(Error::FencedInstanceId));
    assert_eq!(
        rig.join(former.joining_again()).unwrap_err().error,
        Error::FencedInstanceId
    );
    assert_eq!(rig.leave(&former.id, Some(&instance_id)), Err(Error::FencedInstanceId));
    assert_eq!(rig.heartbeat(&next), Ok(()));
    assert_eq!(rig.commit_offset(next.committing("t", 1)), Ok(()));
}

#[test]
fn item_49_nothing_committed_is_no_error_and_metadata_comes_back() {
    let mut rig = Rig::new(prompt());
    assert_eq!(rig.offset("g", "t"), None);
    let mut commit = committing("g", "t", 42);
    commit.topics[0].partitions[0].metadata = "a note".into();
    commit.topics[0].partitions[0].leader_epoch = Some(3);
    assert_eq!(rig.commit_offset(commit), Ok(()));
    let all = OffsetFetch {
        groups: vec![
            GroupFetch {
                group: "g".into(),
                topics: None,
            },
            GroupFetch {
                group: "other".into(),
                topics: None,
            },
        ],
        require_stable: false,
    };
    let found = PartitionOffset {
        partition: 0,
        offset: Offset(42),
        leader_epoch: Some(3),
        metadata: "a note".into(),
        error: None,
    };
    let topic = TopicOffsets {
        topic: "t".into(),
        partitions: vec![found],
    };
    let groups = vec![
        GroupOffsets {
            group: "g".into(),
            topics: Ok(vec![topic]),
        },
        GroupOffsets {
            group: "other".into(),
            topics: Ok(Vec::new()),
        },
    ];
    assert_eq!(rig.call(Request::OffsetFetch(all)), Reply::OffsetFetch(groups));
}

#[test]
fn item_50_commits_from_outside_are_for_groups_without_members() {
    let mut rig = Rig::new(prompt());
    assert_eq!(rig.commit_offset(committing("g", "t", 1)), Ok(()));
    assert_eq!(rig.describe("g").unwrap().state, GroupState::Empty);
    let seats = rig.stable(1);
    assert_eq!(rig.commit_offset(committing("g", "t", 2)), Err(Error::UnknownMemberId));
    assert_eq!(rig.commit_offset(seats[0].committing("t", 3)), Ok(()));
    rig.leave(&seats[0].id, None).unwrap();
    assert_eq!(rig.commit_offset(committing("g", "t", 4)), Ok(()));
    assert_eq!(rig.offset("g", "t"), Some(4));
    // A generation of a group that nobody knows.
    let mut commit = committing("none", "t", 1);
    commit.generation = Generation(3);
    assert_eq!(rig.commit_offset(commit.clone()), Err(Error::IllegalGeneration));
    commit.knows_group_id_not_found = true;
    assert_eq!(rig.commit_offset(commit), Err(Error::GroupIdNotFound));
}

#[test]
fn item_51_offsets_expire_seven_days_after_their_group_is_empty() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(1);
    rig.commit_offset(seats[0].committing("t", 1)).unwrap();
    // As long as there is a member, nothing expires, whatever the wall clock says.
    rig.time.unix_ms += (10 * DAY_MS) as i64;
    for _ in 0..100 {
        rig.heartbeat(&seats[0]).unwrap();
        rig.pass(SESSION_MS - 1);
    }
    assert_eq!(rig.offset("g", "t"), Some(1));
    rig.leave(&seats[0].id, None).unwrap();
    let interval_ms = rig.config.offsets_retention_check_interval_ms;
    rig.pass(7 * DAY_MS - 1);
    assert_eq!(rig.offset("g", "t"), Some(1));
    rig.pass(interval_ms + 1);
    assert_eq!(rig.offset("g", "t"), None);
    assert_eq!(
        rig.describe("g"),
        Err(Error::GroupIdNotFound),
        "the group goes with its last offset"
    );
    assert_eq!(rig.leader.group_count(), 0);
}
