//! Committed offsets: written, shown, deleted, expired.

use super::rig::*;
use crate::record::OffsetValue;
use crate::request::*;
use crate::{Config, Coordinator, Error, Offset, limits};

#[test]
fn a_commit_is_answered_and_shown_when_it_is_written() {
    let mut rig = Rig::new(prompt());
    let ticket = rig.ask(Request::OffsetCommit(committing("g", "t", 1)));
    assert_eq!(rig.reply(ticket), None);
    assert_eq!(rig.leader.committed("g", "t", 0), None);
    let second = rig.ask(Request::OffsetCommit(committing("g", "t", 2)));
    rig.commit_one();
    assert!(rig.reply(ticket).is_some());
    assert_eq!(rig.reply(second), None);
    assert_eq!(rig.leader.committed("g", "t", 0).unwrap().offset, Offset(1));
    rig.commit_one();
    // A consumer may go back.
    rig.commit_offset(committing("g", "t", 0)).unwrap();
    assert_eq!(rig.offset("g", "t"), Some(0));
}

#[test]
fn each_partition_has_its_result() {
    let mut rig = Rig::new(prompt());
    let partition = |partition, offset, metadata: usize| PartitionCommit {
        partition,
        offset: Offset(offset),
        leader_epoch: Some(-1),
        metadata: "m".repeat(metadata),
    };
    let commit = OffsetCommit {
        topics: vec![
            TopicCommit {
                topic: "t".into(),
                topic_id: Some([7; 16]),
                partitions: vec![
                    partition(0, 5, 4_096),
                    partition(1, 5, 4_097),
                    partition(-1, 5, 0),
                    partition(2, -1, 0),
                ],
            },
            TopicCommit {
                topic: "t".repeat(250),
                topic_id: None,
                partitions: vec![partition(0, 5, 0)],
            },
        ],
        ..committing("g", "t", 0)
    };
    let Reply::OffsetCommit(topics) = rig.call(Request::OffsetCommit(commit)) else {
        panic!("a result for each")
    };
    let invalid = Err(Error::InvalidRequest);
    assert_eq!(topics[0].topic_id, Some([7; 16]));
    assert_eq!(
        topics[0].partitions,
        [
            (0, Ok(())),
            (1, Err(Error::OffsetMetadataTooLarge)),
            (-1, invalid),
            (2, invalid)
        ]
    );
    assert_eq!(topics[1].partitions, [(0, invalid)]);
    assert_eq!(rig.log.len(), 1);
    let expected = OffsetValue {
        offset: Offset(5),
        leader_epoch: None,
        metadata: "m".repeat(4_096),
        commit_time_ms: rig.time.unix_ms,
        expire_time_ms: None,
        topic_id: Some([7; 16]),
    };
    assert_eq!(rig.leader.committed("g", "t", 0), Some(&expected));
}

#[test]
fn a_commit_that_is_too_large_is_refused_whole() {
    let mut rig = Rig::new(Config {
        offset_metadata_max_bytes: 1 << 20,
        ..prompt()
    });
    let mut commit = committing("g", "t", 1);
    let mut of = commit.topics[0].partitions[0].clone();
    of.metadata = "m".repeat(limits::MAX_METADATA_BYTES);
    let count = limits::WRITE_BYTES / limits::MAX_METADATA_BYTES + 1;
    commit.topics[0].partitions = (0..count as i32)
        .map(|partition| PartitionCommit {
            partition,
            ..of.clone()
        })
        .collect();
    assert_eq!(rig.commit_offset(commit.clone()), Err(Error::InvalidCommitOffsetSize));
    commit.topics[0].partitions.truncate(count / 2);
    assert_eq!(rig.commit_offset(commit.clone()), Ok(()));
    commit.topics[0].partitions[0].metadata.push('m');
    assert_eq!(rig.commit_offset(commit), Err(Error::OffsetMetadataTooLarge));
}

/// A log that is slower than its clients.
#[test]
fn commits_wait_for_the_log() {
    let mut rig = Rig::new(Config {
        offset_metadata_max_bytes: 1 << 20,
        ..prompt()
    });
    let mut commit = committing("g", "t", 1);
    commit.topics[0].partitions[0].metadata = "m".repeat(limits::MAX_METADATA_BYTES);
    let most = limits::WAITING_BYTES / limits::MAX_METADATA_BYTES + 2;
    let mut refused = None;
    for _ in 0..most {
        let ticket = rig.ask(Request::OffsetCommit(commit.clone()));
        refused = rig.reply(ticket);
    }
    let Some(Reply::OffsetCommit(topics)) = refused else {
        panic!("a refusal")
    };
    assert_eq!(topics[0].partitions, [(0, Err(Error::CoordinatorLoadInProgress))]);
    rig.commit();
    assert_eq!(rig.commit_offset(commit), Ok(()));
}

#[test]
fn all_offsets_of_several_groups() {
    let mut rig = Rig::new(prompt());
    for (group, topic) in [("g", "b"), ("g", "a"), ("h", "a")] {
        rig.commit_offset(committing(group, topic, 1)).unwrap();
    }
    let fetch = OffsetFetch {
        groups: ["g", "h", ""]
            .map(|group| GroupFetch {
                group: group.into(),
                topics: None,
            })
            .into(),
        require_stable: false,
    };
    let Reply::OffsetFetch(groups) = rig.call(Request::OffsetFetch(fetch)) else {
        panic!("groups")
    };
    let names = |group: &GroupOffsets| {
        let topics = group.topics.as_ref().unwrap().iter();
        topics.map(|topic| topic.topic.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&groups[0]), ["a", "b"]);
    assert_eq!(names(&groups[1]), ["a"]);
    assert!(names(&groups[2]).is_empty());
}

/// A small request must not make a large reply.
#[test]
fn a_reply_has_a_size() {
    let mut rig = Rig::new(prompt());
    let mut commit = committing("g", "t", 1);
    commit.topics[0].partitions[0].metadata = "m".repeat(4_000);
    rig.commit_offset(commit).unwrap();
    let group = GroupFetch {
        group: "g".into(),
        topics: None,
    };
    let fetch = OffsetFetch {
        groups: vec![group; 10_000],
        require_stable: false,
    };
    let Reply::OffsetFetch(groups) = rig.call(Request::OffsetFetch(fetch)) else {
        panic!("groups")
    };
    let answered = groups.iter().filter(|group| group.topics.is_ok()).count();
    assert!((8_000..8_500).contains(&answered), "{answered}");
    assert_eq!(groups[9_999].topics, Err(Error::InvalidRequest));
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl Rig {
    /// Lets the wall clock go on, and offsets expire.
    fn expire_after(&mut self, ms: i64) {
        self.time.unix_ms += ms;
        self.pass(self.config.offsets_retention_check_interval_ms);
    }
}

#[test]
fn offsets_of_a_group_without_members_expire_by_their_own_age() {
    let mut rig = Rig::new(prompt());
    rig.commit_offset(committing("g", "old", 1)).unwrap();
    rig.expire_after(4 * DAY_MS);
    rig.commit_offset(committing("g", "new", 1)).unwrap();
    rig.expire_after(4 * DAY_MS);
    assert_eq!(rig.offset("g", "old"), None);
    assert_eq!(rig.offset("g", "new"), Some(1));
    assert!(rig.describe("g").is_ok());
    rig.expire_after(4 * DAY_MS);
    assert_eq!(rig.describe("g"), Err(Error::GroupIdNotFound));
    assert_eq!(rig.leader.offset_count(), 0);
}

#[test]
fn an_offset_may_have_its_retention_time() {
    let mut rig = Rig::new(prompt());
    let commit = OffsetCommit {
        retention_ms: Some(DAY_MS),
        ..committing("g", "t", 1)
    };
    rig.commit_offset(commit).unwrap();
    rig.expire_after(DAY_MS / 2);
    assert_eq!(rig.offset("g", "t"), Some(1));
    rig.expire_after(DAY_MS / 2);
    assert_eq!(rig.offset("g", "t"), None);
}

#[test]
fn offsets_set_in_an_empty_group_last_as_long_as_others() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(1);
    rig.leave(&seats[0].id, None).unwrap();
    rig.time.unix_ms += 6 * DAY_MS;
    rig.commit_offset(committing("g", "t", 1)).unwrap();
    rig.expire_after(6 * DAY_MS);
    assert_eq!(rig.offset("g", "t"), Some(1));
    rig.expire_after(DAY_MS);
    assert_eq!(rig.offset("g", "t"), None);
}

#[test]
fn a_group_with_members_keeps_the_offsets_of_its_topics_only() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(1);
    rig.commit_offset(seats[0].committing("t", 1)).unwrap();
    rig.commit_offset(seats[0].committing("former", 1)).unwrap();
    rig.time.unix_ms += 8 * DAY_MS;
    for _ in 0..=rig.config.offsets_retention_check_interval_ms / (SESSION_MS - 1) {
        rig.heartbeat(&seats[0]).unwrap();
        rig.pass(SESSION_MS - 1);
    }
    assert_eq!(rig.offset("g", "t"), Some(1));
    assert_eq!(rig.offset("g", "former"), None);
}

/// More offsets than one portion looks at, and more groups.
#[test]
fn expiry_and_deletion_come_in_portions() {
    let mut rig = Rig::new(prompt());
    for group in 0..4 {
        for topic in ["t", "u"] {
            let mut commit = committing(&format!("g{group}"), topic, 1);
            let of = commit.topics[0].partitions[0].clone();
            commit.topics[0].partitions = (0..4_000)
                .map(|partition| PartitionCommit {
                    partition,
                    ..of.clone()
                })
                .collect();
            rig.commit_offset(commit).unwrap();
        }
    }
    assert_eq!(rig.leader.offset_count(), 32_000);
    let delete = rig.ask(Request::DeleteTopic(DeleteTopic { topic: "u".into() }));
    rig.pass(1);
    assert_eq!(rig.reply(delete), Some(Reply::DeleteTopic(Ok(()))));
    assert_eq!(rig.leader.offset_count(), 16_000);
    assert_eq!(rig.offset("g3", "u"), None);
    rig.expire_after(8 * DAY_MS);
    assert_eq!(rig.leader.offset_count(), 0);
    assert_eq!(rig.leader.group_count(), 0);
}

/// The state in portions is the state.
#[test]
fn the_state_can_be_copied() {
    let mut rig = Rig::new(prompt());
    rig.stable(3);
    for group in 0..20 {
        rig.commit_offset(committing(&format!("group-{group}"), "t", group))
            .unwrap();
    }
    rig.commit_offset(committing("group-0", "t", 100)).unwrap();
    let mut copy = Coordinator::new(rig.config.clone());
    let mut after = None;
    let mut portions = 0;
    loop {
        let portion = rig.leader.state_records(after.as_ref(), 500);
        portions += 1;
        for record in portion.records {
            copy.replay(copy.applied(), &record.key, record.value.as_deref())
                .unwrap();
        }
        after = portion.next;
        if after.is_none() {
            break;
        }
    }
    assert!(portions > 3, "{portions}");
    assert!(copy.same_state(&rig.leader));
    assert!(copy.applied() < rig.leader.applied(), "without what is superseded");
}
