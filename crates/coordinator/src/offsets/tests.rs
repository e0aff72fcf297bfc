use super::*;
use crate::command::{DecodeError, Offset};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const WEEK_MS: u64 = 7 * DAY_MS as u64;

#[derive(Default)]
struct Story {
    store: OffsetStore,
}

impl Story {
    fn apply(&mut self, command: &Command) -> Outcome {
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(command));
        self.store.apply(CommandIndex(self.store.applied().0 + 1), command)
    }

    fn commit_as(&mut self, mode: Mode, group: &str, topic: &str, offset: i64, now_ms: i64) {
        let offsets = vec![(topic.into(), 0, commit(offset))];
        let command = Command::Commit {
            group: group.into(),
            now_ms,
            mode,
            offsets,
        };
        assert_eq!(self.store.check(&command), Ok(()));
        assert_eq!(self.apply(&command), Outcome::Done);
    }

    fn commit(&mut self, group: &str, topic: &str, offset: i64, now_ms: i64) {
        self.commit_as(Mode::Replace, group, topic, offset, now_ms);
    }

    fn expire(&mut self, now_ms: i64) {
        self.apply(&Command::Expire {
            now_ms,
            retention_ms: WEEK_MS,
        });
    }

    fn offset(&self, group: &str, topic: &str) -> Option<i64> {
        self.store.committed(group, topic, 0).map(|commit| commit.offset.0)
    }
}

fn commit(offset: i64) -> Commit {
    Commit {
        offset: Offset(offset),
        leader_epoch: None,
        metadata: String::new(),
    }
}

#[test]
fn what_is_committed_comes_back_as_it_was() {
    let mut story = Story::default();
    let kept = Commit {
        offset: Offset(7),
        leader_epoch: Some(3),
        metadata: "größe\u{0}".into(),
    };
    let offsets = vec![("orders".into(), 2, kept.clone())];
    story.apply(&Command::Commit {
        group: "g".into(),
        now_ms: 1,
        mode: Mode::Replace,
        offsets,
    });
    assert_eq!(story.store.committed("g", "orders", 2), Some(&kept));
    assert_eq!(story.store.committed("g", "orders", 0), None);
    assert_eq!(story.store.committed("other", "orders", 2), None);
    assert_eq!(story.store.offsets("g").collect::<Vec<_>>(), [("orders", 2, &kept)]);
    assert_eq!(story.store.groups().collect::<Vec<_>>(), ["g"]);
}

#[test]
fn a_commit_may_go_back_if_it_means_to() {
    let mut story = Story::default();
    story.commit("g", "t", 10, 1);
    story.commit("g", "t", 4, 2);
    assert_eq!(story.offset("g", "t"), Some(4));
    story.commit_as(Mode::Advance, "g", "t", 3, 3);
    assert_eq!(story.offset("g", "t"), Some(4));
    story.commit_as(Mode::Advance, "g", "t", 5, 4);
    assert_eq!(story.offset("g", "t"), Some(5));
}

#[test]
fn offsets_expire_a_week_after_the_group_became_empty_and_not_before() {
    let mut story = Story::default();
    story.apply(&Command::Occupied { group: "g".into() });
    story.commit("g", "t", 1, 0);
    story.expire(100 * DAY_MS);
    assert_eq!(story.offset("g", "t"), Some(1), "it has members");
    story.apply(&Command::Emptied {
        group: "g".into(),
        now_ms: 100 * DAY_MS,
    });
    story.expire(107 * DAY_MS - 1);
    assert_eq!(story.offset("g", "t"), Some(1));
    story.apply(&Command::Occupied { group: "g".into() });
    story.apply(&Command::Emptied {
        group: "g".into(),
        now_ms: 103 * DAY_MS,
    });
    story.expire(107 * DAY_MS);
    assert_eq!(story.offset("g", "t"), Some(1), "it had members again meanwhile");
    story.expire(110 * DAY_MS);
    assert_eq!(story.offset("g", "t"), None);
    assert_eq!(
        story.store,
        OffsetStore {
            applied: story.store.applied(),
            ..OffsetStore::default()
        }
    );
}

#[test]
fn without_members_each_offset_has_its_own_week() {
    let mut story = Story::default();
    story.commit("g", "old", 1, 0);
    story.commit("g", "new", 1, 3 * DAY_MS);
    story.expire(7 * DAY_MS);
    assert_eq!((story.offset("g", "old"), story.offset("g", "new")), (None, Some(1)));
    story.expire(10 * DAY_MS);
    assert_eq!(story.store.groups().count(), 0);
}

#[test]
fn deleting_offsets_groups_and_topics() {
    let mut story = Story::default();
    for group in ["a", "b"] {
        story.commit(group, "t", 1, 0);
        story.commit(group, "u", 2, 0);
    }
    let partitions = vec![("t".into(), 0), ("t".into(), 9)];
    assert_eq!(
        story.apply(&Command::DeleteOffsets {
            group: "a".into(),
            partitions
        }),
        Outcome::Done
    );
    assert_eq!((story.offset("a", "t"), story.offset("a", "u")), (None, Some(2)));
    story.apply(&Command::DeleteTopic { topic: "u".into() });
    assert_eq!(
        story.store.groups().collect::<Vec<_>>(),
        ["b"],
        "nothing is left of the other"
    );
    story.apply(&Command::Occupied { group: "b".into() });
    assert_eq!(
        story.apply(&Command::DeleteGroup { group: "b".into() }),
        Outcome::NotEmpty
    );
    story.apply(&Command::Emptied {
        group: "b".into(),
        now_ms: 5,
    });
    assert_eq!(story.apply(&Command::DeleteGroup { group: "b".into() }), Outcome::Done);
    assert_eq!(
        story.apply(&Command::DeleteGroup { group: "b".into() }),
        Outcome::UnknownGroup
    );
    assert_eq!(
        story.apply(&Command::Emptied {
            group: "b".into(),
            now_ms: 5
        }),
        Outcome::UnknownGroup
    );
    assert_eq!(story.store.count, 0);
}

#[test]
fn an_index_is_applied_once() {
    let mut story = Story::default();
    story.commit("g", "t", 1, 0);
    let command = Command::DeleteGroup { group: "g".into() };
    assert_eq!(story.store.apply(CommandIndex(1), &command), Outcome::Repeated);
    assert_eq!(story.offset("g", "t"), Some(1));
}

#[test]
fn what_is_over_a_limit_is_refused() {
    let story = Story::default();
    let check = |group: &str, offsets: Vec<(String, i32, Commit)>| {
        story.store.check(&Command::Commit {
            group: group.into(),
            now_ms: 0,
            mode: Mode::Replace,
            offsets,
        })
    };
    let noted = |bytes| Commit {
        metadata: "x".repeat(bytes),
        ..commit(1)
    };
    assert_eq!(check("g", vec![("t".into(), 0, noted(limits::METADATA_BYTES))]), Ok(()));
    assert_eq!(
        check("g", vec![("t".into(), 0, noted(limits::METADATA_BYTES + 1))]),
        Err(OffsetError::MetadataTooLarge)
    );
    assert_eq!(
        check("g", vec![("t".into(), -1, commit(1))]),
        Err(OffsetError::InvalidOffset)
    );
    assert_eq!(
        check("g", vec![("t".into(), 0, commit(-1))]),
        Err(OffsetError::InvalidOffset)
    );
    assert_eq!(
        check("g", vec![(String::new(), 0, commit(1))]),
        Err(OffsetError::InvalidName)
    );
    assert_eq!(
        check(&"g".repeat(limits::GROUP_ID_BYTES + 1), vec![]),
        Err(OffsetError::InvalidName)
    );
    let many = |count: i32, bytes| (0..count).map(|p| ("t".to_owned(), p, noted(bytes))).collect();
    assert_eq!(check("g", many(limits::OFFSETS_PER_COMMIT as i32, 0)), Ok(()));
    assert_eq!(
        check("g", many(limits::OFFSETS_PER_COMMIT as i32 + 1, 0)),
        Err(OffsetError::CommitTooLarge)
    );
    assert_eq!(
        check("g", many(200, limits::METADATA_BYTES)),
        Err(OffsetError::CommitTooLarge)
    );
    let full = OffsetStore {
        count: limits::OFFSETS_PER_STORE,
        ..OffsetStore::default()
    };
    let one = Command::Commit {
        group: "g".into(),
        now_ms: 0,
        mode: Mode::Replace,
        offsets: vec![("t".into(), 0, commit(1))],
    };
    assert_eq!(full.check(&one), Err(OffsetError::Full));
}

/// What stands in a log must be readable for ever: if this fails, a new version is needed, not new bytes.
#[test]
fn golden_bytes() {
    let group = || "g".to_owned();
    let commit = Command::Commit {
        group: group(),
        now_ms: 300,
        mode: Mode::Advance,
        offsets: vec![(
            "t".into(),
            1,
            Commit {
                offset: Offset(5),
                leader_epoch: Some(2),
                metadata: "m".into(),
            },
        )],
    };
    let cases: [(Command, &[u8]); 7] = [
        (commit, &[1, 0, 1, b'g', 0xd8, 4, 1, 1, 1, b't', 2, 10, 1, 4, 1, b'm']),
        (Command::Occupied { group: group() }, &[1, 1, 1, b'g']),
        (
            Command::Emptied {
                group: group(),
                now_ms: 1,
            },
            &[1, 2, 1, b'g', 2],
        ),
        (
            Command::Expire {
                now_ms: 1,
                retention_ms: 2,
            },
            &[1, 3, 2, 2],
        ),
        (
            Command::DeleteOffsets {
                group: group(),
                partitions: vec![("t".into(), 1)],
            },
            &[1, 4, 1, b'g', 1, 1, b't', 2],
        ),
        (Command::DeleteGroup { group: group() }, &[1, 5, 1, b'g']),
        (Command::DeleteTopic { topic: "t".into() }, &[1, 6, 1, b't']),
    ];
    for (command, bytes) in cases {
        assert_eq!(command.encode(), bytes);
        assert_eq!(Command::decode(bytes), Ok(command));
        assert_eq!(Command::decode(&bytes[..bytes.len() - 1]), Err(DecodeError::Malformed));
    }
    assert_eq!(Command::decode(&[2, 0]), Err(DecodeError::Version(2)));
    assert_eq!(Command::decode(&[]), Err(DecodeError::Malformed));
    let huge = vec![1; limits::COMMAND_BYTES + 1];
    assert_eq!(Command::decode(&huge), Err(DecodeError::TooLong(huge.len())));
}
