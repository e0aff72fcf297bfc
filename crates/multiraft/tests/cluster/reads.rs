//! Consumers.

use crate::harness::{Cluster, G, Settings, batch_of, from};
use trimaran_multiraft::{Acks, Input, OffsetAnswer, OffsetQuery, ReadError, ReadRequest};
use trimaran_wire::batch::{LeaderEpoch, Offset};

/// A cluster with three records, all nodes knowing of them, its leader and a follower.
fn filled() -> (Cluster, u64, u64) {
    let mut cluster = Cluster::new(Settings::default());
    for text in ["a", "b", "c"] {
        cluster.produce(batch_of(&[text])).expect("accepted");
    }
    cluster.run(100);
    let leader = cluster.leader_of(G);
    let follower = (1..=3).find(|&id| id != leader).expect("two followers");
    (cluster, leader, follower)
}

#[test]
fn followers_answer_if_they_may() {
    let (mut cluster, leader, follower) = filled();
    let ticket = cluster.read_from(follower, from(0));
    let refused = cluster.read_outcome(ticket).expect_err("not the leader");
    assert_eq!(
        refused,
        ReadError::NotLeader {
            leader: Some(trimaran_raft::NodeId(leader))
        }
    );
    let near = ReadRequest {
        follower_ok: true,
        ..from(0)
    };
    assert_eq!(cluster.values(follower, near).len(), 3);
    assert_eq!(cluster.values(leader, near).len(), 3);
    let ticket = cluster.read_from(leader, near);
    let in_sync = cluster.read_outcome(ticket).expect("readable").in_sync;
    assert_eq!(in_sync.len(), 3);
}

#[test]
fn nobody_sees_what_is_not_committed() {
    let (mut cluster, leader, follower) = filled();
    cluster.isolate(leader);
    let one = cluster.append(leader, G, Acks::Leader, batch_of(&["never"]));
    cluster.appended(one).expect("on the leader's disk");
    assert_eq!(cluster.values(leader, from(0)).len(), 3);
    let ticket = cluster.read_from(leader, from(4));
    assert_eq!(cluster.read_outcome(ticket).expect("early, not wrong").chunks.len(), 0);
    let near = ReadRequest {
        follower_ok: true,
        ..from(0)
    };
    assert_eq!(cluster.values(follower, near).len(), 3);
}

#[test]
fn a_follower_that_lags_makes_its_reader_wait_instead_of_turning_it_away() {
    let (mut cluster, leader, follower) = filled();
    cluster.cut(leader, follower);
    cluster.produce(batch_of(&["d"])).expect("the other one has it");
    let ahead = ReadRequest {
        follower_ok: true,
        wait: true,
        ..from(4)
    };
    let ticket = cluster.read_from(follower, ahead);
    cluster.run(20);
    assert!(cluster.answer(ticket).is_none());
    cluster.tell(follower, Input::CancelRead(ticket));
    assert_eq!(
        cluster.read_outcome(ticket).expect_err("cancelled"),
        ReadError::Cancelled
    );
}

#[test]
fn long_polls_wake_when_the_high_watermark_passes() {
    let (mut cluster, leader, follower) = filled();
    let poll = ReadRequest {
        wait: true,
        follower_ok: true,
        ..from(3)
    };
    let polls = [cluster.read_from(leader, poll), cluster.read_from(follower, poll)];
    cluster.run(200);
    assert!(polls.iter().all(|&ticket| cluster.answer(ticket).is_none()));
    let before = cluster.now;
    cluster.produce(batch_of(&["d"])).expect("accepted");
    for ticket in polls {
        let result = cluster.read_outcome(ticket).expect("readable");
        assert_eq!(crate::harness::values(&result), [(3, "d".to_string())]);
    }
    assert!(cluster.now.since(before).as_millis() < 20);
    // What is there already is not waited for.
    let poll = ReadRequest { wait: true, ..from(0) };
    assert_eq!(cluster.values(leader, poll).len(), 4);
}

#[test]
fn long_polls_wake_when_leadership_changes() {
    let (mut cluster, leader, _) = filled();
    let ticket = cluster.read_from(leader, ReadRequest { wait: true, ..from(3) });
    cluster.run(20);
    let transfer = cluster.ticket();
    cluster.tell(leader, Input::Transfer(transfer, G, None));
    assert!(matches!(cluster.read_outcome(ticket), Err(ReadError::NotLeader { .. })));
}

#[test]
fn positions_and_epochs_are_checked() {
    let (mut cluster, leader, _) = filled();
    let outcome = |cluster: &mut Cluster, request| {
        let ticket = cluster.read_from(leader, request);
        cluster.read_outcome(ticket).map(|result| result.chunks.len())
    };
    let out_of_range = ReadError::OutOfRange {
        start: Offset(0),
        high_watermark: Offset(3),
    };
    assert_eq!(outcome(&mut cluster, from(3)), Ok(0));
    assert_eq!(outcome(&mut cluster, from(4)), Err(out_of_range.clone()));
    assert_eq!(outcome(&mut cluster, from(-1)), Err(out_of_range));
    let current = i32::try_from(cluster.status(leader, G).expect("here").term.0).expect("small");
    let believed = |epoch| ReadRequest {
        current_epoch: Some(LeaderEpoch(epoch)),
        ..from(3)
    };
    assert_eq!(outcome(&mut cluster, believed(current)), Ok(0));
    assert_eq!(
        outcome(&mut cluster, believed(current - 1)),
        Err(ReadError::FencedEpoch)
    );
    assert_eq!(
        outcome(&mut cluster, believed(current + 1)),
        Err(ReadError::UnknownEpoch)
    );
    let unknown = ReadRequest {
        group: trimaran_raft::GroupId(9),
        ..from(0)
    };
    assert_eq!(outcome(&mut cluster, unknown), Err(ReadError::UnknownGroup));
}

#[test]
fn questions_about_offsets() {
    let (mut cluster, leader, follower) = filled();
    let term = i32::try_from(cluster.status(leader, G).expect("here").term.0).expect("small");
    let mut at = |query| match cluster.offsets(leader, query).expect("answered").answer {
        OffsetAnswer::At(offset) => offset.0,
        OffsetAnswer::InBatch(meta, _) => meta.base_offset.0,
        OffsetAnswer::EpochEnd(epoch, offset) => i64::from(epoch.0) * 1_000 + offset.0,
        OffsetAnswer::None => -1,
    };
    assert_eq!(at(OffsetQuery::Earliest), 0);
    assert_eq!(at(OffsetQuery::Latest), 3);
    assert_eq!(at(OffsetQuery::Timestamp(1_000)), 0);
    assert_eq!(at(OffsetQuery::Timestamp(1_001)), -1);
    assert_eq!(
        at(OffsetQuery::EpochEnd {
            epoch: LeaderEpoch(term)
        }),
        i64::from(term) * 1_000 + 3
    );
    assert!(at(OffsetQuery::MaxTimestamp) >= 0);
    let refused = cluster.offsets(follower, OffsetQuery::Latest).err();
    assert!(matches!(refused, Some(ReadError::NotLeader { .. })));
}

#[test]
fn an_epoch_ends_where_the_next_one_begins() {
    let (mut cluster, leader, _) = filled();
    let old_term = i32::try_from(cluster.status(leader, G).expect("here").term.0).expect("small");
    cluster.crash(leader);
    cluster.produce(batch_of(&["d"])).expect("accepted");
    let new = cluster.leader_of(G);
    let query = OffsetQuery::EpochEnd {
        epoch: LeaderEpoch(old_term),
    };
    let OffsetAnswer::EpochEnd(epoch, end) = cluster.offsets(new, query).expect("answered").answer else {
        panic!("known")
    };
    assert_eq!((epoch, end), (LeaderEpoch(old_term), Offset(3)));
}
