//! Producers.

use crate::harness::{Cluster, G, Settings, batch_of, from, produced};
use std::time::Duration;
use trimaran_multiraft::{Acks, AppendError, Appended, Completion, Input, Ticket};
use trimaran_raft::{GroupId, NodeId};
use trimaran_wire::batch::{BatchError, Offset};

fn texts(values: &[(i64, &str)]) -> Vec<(i64, String)> {
    values
        .iter()
        .map(|&(offset, text)| (offset, text.to_string()))
        .collect()
}

#[test]
fn what_is_produced_is_read_and_offsets_begin_at_zero() {
    let mut cluster = Cluster::new(Settings::default());
    let appended = cluster.produce(batch_of(&["a", "b"])).expect("accepted");
    assert_eq!((appended.base_offset, appended.duplicate), (Offset(0), false));
    assert_eq!(
        cluster.produce(batch_of(&["c"])).expect("accepted").base_offset,
        Offset(2)
    );
    let leader = cluster.leader_of(G);
    assert_eq!(cluster.values(leader, from(0)), texts(&[(0, "a"), (1, "b"), (2, "c")]));
    // From within a batch, the whole batch comes.
    assert_eq!(cluster.values(leader, from(1)), texts(&[(0, "a"), (1, "b"), (2, "c")]));
}

#[test]
fn a_single_voter_serves_alone() {
    let mut cluster = Cluster::new(Settings {
        voters: vec![1],
        ..Settings::default()
    });
    assert_eq!(
        cluster.produce(batch_of(&["a"])).expect("accepted").base_offset,
        Offset(0)
    );
    cluster.crash(1);
    cluster.start(1);
    assert_eq!(
        cluster.produce(batch_of(&["b"])).expect("accepted").base_offset,
        Offset(1)
    );
    assert_eq!(cluster.values(1, from(0)), texts(&[(0, "a"), (1, "b")]));
}

#[test]
fn the_preferred_leader_of_a_new_group_stands_at_once() {
    let mut cluster = Cluster::empty(Settings::default());
    let settings = Settings {
        voters: vec![2, 1, 3],
        ..Settings::default()
    };
    cluster.open(G, settings);
    cluster.run(15);
    assert_eq!(cluster.leader(G), Some(2));
    assert_eq!(cluster.elections, 1);
}

#[test]
fn many_appends_of_one_step_are_one_write_and_completed_in_offset_order() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    let leader = cluster.leader_of(G);
    let acks = [Acks::All, Acks::Leader, Acks::None];
    let tickets: Vec<_> = (0..60)
        .map(|n| cluster.append(leader, G, acks[n % 3], batch_of(&["x", "y"])))
        .collect();
    cluster.run(30);
    let answers = core::mem::take(&mut cluster.answers);
    let offsets_of = |kind: usize| {
        let of_kind = |ticket: &Ticket| {
            tickets
                .iter()
                .position(|other| other == ticket)
                .is_some_and(|at| at % 3 == kind)
        };
        let answers = answers.iter().filter(|(ticket, _)| of_kind(ticket));
        let offset = |(_, answer): &(Ticket, Completion)| match answer {
            Completion::Appended(Ok(Appended { base_offset, .. })) => base_offset.0,
            _ => panic!("not accepted"),
        };
        answers.map(offset).collect::<Vec<_>>()
    };
    for kind in 0..3 {
        let expected: Vec<_> = (0..20).map(|n| (n * 3 + kind as i64) * 2).collect();
        assert_eq!(offsets_of(kind), expected, "{kind}");
    }
}

#[test]
fn acks_mean_what_they_say() {
    let mut cluster = Cluster::new(Settings {
        replica_lag: Duration::from_secs(100),
        ..Settings::default()
    });
    cluster.run(50);
    let leader = cluster.leader_of(G);
    cluster.isolate(leader);
    let none = cluster.append(leader, G, Acks::None, batch_of(&["n"]));
    let one = cluster.append(leader, G, Acks::Leader, batch_of(&["l"]));
    let all = cluster.append(leader, G, Acks::All, batch_of(&["a"]));
    cluster.run(1);
    assert!(cluster.answer(none).is_some(), "accepted is enough");
    assert!(cluster.answer(one).is_none(), "not on its disk yet");
    cluster.run(3);
    assert!(matches!(cluster.answer(one), Some(Completion::Appended(Ok(_)))));
    assert!(cluster.answer(all).is_none(), "nobody else has it");
    // The isolated leader steps down in time, and says so.
    assert_eq!(cluster.appended(all), Err(AppendError::Lost));
}

#[test]
fn duplicates_get_the_original_offset_and_wait_for_its_commit() {
    let mut cluster = Cluster::new(Settings::default());
    let leader = cluster.leader_of(G);
    for n in 0..5 {
        cluster.append(leader, G, Acks::All, produced(9, 0, n, &["x"]));
    }
    // Before the first ones are committed, in the same step and in a later one.
    let same_step = cluster.append(leader, G, Acks::All, produced(9, 0, 3, &["x"]));
    cluster.run(1);
    let later = cluster.append(leader, G, Acks::All, produced(9, 0, 1, &["x"]));
    cluster.run(1);
    assert!(cluster.answer(later).is_none());
    for (ticket, offset) in [(same_step, 3), (later, 1)] {
        let appended = cluster.appended(ticket).expect("a duplicate is a success");
        assert_eq!((appended.base_offset, appended.duplicate), (Offset(offset), true));
    }
    assert_eq!(
        cluster.produce(produced(9, 0, 7, &["x"])),
        Err(AppendError::OutOfOrderSequence { expected: 5, found: 7 })
    );
    assert_eq!(
        cluster
            .produce(produced(9, 0, 5, &["x"]))
            .expect("continues")
            .base_offset,
        Offset(5)
    );
    let again = cluster
        .produce(produced(9, 0, 2, &["x"]))
        .expect("one of the last five");
    assert_eq!((again.base_offset, again.duplicate), (Offset(2), true));
    cluster.produce(produced(9, 1, 0, &["x"])).expect("a new epoch");
    assert_eq!(cluster.produce(produced(9, 0, 6, &["x"])), Err(AppendError::Fenced));
}

#[test]
fn idempotence_survives_failover_and_restart() {
    let mut cluster = Cluster::new(Settings::default());
    for n in 0..7 {
        cluster.produce(produced(9, 0, n, &["x"])).expect("accepted");
    }
    let old = cluster.leader_of(G);
    cluster.crash(old);
    let again = cluster
        .produce(produced(9, 0, 5, &["x"]))
        .expect("a duplicate is a success");
    assert_eq!((again.base_offset, again.duplicate), (Offset(5), true));
    assert_ne!(cluster.leader_of(G), old);
    assert_eq!(
        cluster
            .produce(produced(9, 0, 7, &["x"]))
            .expect("continues")
            .base_offset,
        Offset(7)
    );
    for id in 1..=3 {
        cluster.crash(id);
    }
    (1..=3).for_each(|id| cluster.start(id));
    let again = cluster
        .produce(produced(9, 0, 7, &["x"]))
        .expect("a duplicate is a success");
    assert_eq!((again.base_offset, again.duplicate), (Offset(7), true));
    let gap = cluster.produce(produced(9, 0, 9, &["x"]));
    assert_eq!(gap, Err(AppendError::OutOfOrderSequence { expected: 8, found: 9 }));
}

#[test]
fn what_a_truncation_took_is_not_a_duplicate() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.produce(produced(9, 0, 0, &["kept"])).expect("accepted");
    let old = cluster.leader_of(G);
    cluster.isolate(old);
    // On the old leader's disk only.
    let lost = cluster.append(old, G, Acks::All, produced(9, 0, 1, &["lost"]));
    cluster.until("another leads", |cluster| {
        cluster.leader(G).is_some_and(|leader| leader != old)
    });
    assert_eq!(cluster.appended(lost), Err(AppendError::Lost));
    cluster.produce(batch_of(&["another's"])).expect("accepted");
    cluster.heal();
    cluster.run(500);
    // Back on the old leader: it knows what its log holds now.
    let ticket = cluster.ticket();
    let current = cluster.leader_of(G);
    if current != old {
        cluster.tell(current, Input::Transfer(ticket, G, Some(NodeId(old))));
        assert_eq!(cluster.transferred(ticket).handed_over, 1);
    }
    cluster.until("the old leader leads again", |cluster| cluster.leader(G) == Some(old));
    let again = cluster.produce(produced(9, 0, 1, &["again"])).expect("continues");
    assert_eq!((again.base_offset, again.duplicate), (Offset(2), false));
    let expected = texts(&[(0, "kept"), (1, "another's"), (2, "again")]);
    assert_eq!(cluster.values(old, from(0)), expected);
}

#[test]
fn min_insync_replicas_is_checked_before_and_kept_after() {
    let mut cluster = Cluster::new(Settings {
        min_insync: 3,
        ..Settings::default()
    });
    cluster.until("all are in sync", |cluster| {
        cluster.in_sync.last().is_some_and(|view| view.replicas.len() == 3)
    });
    cluster.produce(batch_of(&["a"])).expect("all three have it");
    let leader = cluster.leader_of(G);
    let follower = (1..=3).find(|&id| id != leader).expect("two followers");
    cluster.isolate(follower);
    // Committed by two, but three are asked for: it waits until the third is out of sync, and is told then.
    let waiting = cluster.append(leader, G, Acks::All, batch_of(&["b"]));
    cluster.run(100);
    assert!(cluster.answer(waiting).is_none());
    assert_eq!(
        cluster.appended(waiting),
        Err(AppendError::NotEnoughReplicasAfterAppend { in_sync: 2, min: 3 })
    );
    let refused = cluster.append(leader, G, Acks::All, batch_of(&["c"]));
    assert_eq!(
        cluster.appended(refused),
        Err(AppendError::NotEnoughReplicas { in_sync: 2, min: 3 })
    );
    let one = cluster.append(leader, G, Acks::Leader, batch_of(&["d"]));
    assert_eq!(
        cluster.appended(one).expect("only the leader is asked").base_offset,
        Offset(2)
    );
    cluster.heal();
    cluster.until("all are in sync", |cluster| {
        cluster.in_sync.last().is_some_and(|view| view.replicas.len() == 3)
    });
    cluster.produce(batch_of(&["e"])).expect("all three have it");
}

#[test]
fn more_replicas_than_there_are_are_not_asked_for() {
    let mut cluster = Cluster::new(Settings {
        voters: vec![1],
        min_insync: 2,
        ..Settings::default()
    });
    cluster.produce(batch_of(&["a"])).expect("the only one has it");
}

#[test]
fn whoever_is_not_the_leader_says_who_is() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    let leader = cluster.leader_of(G);
    let follower = (1..=3).find(|&id| id != leader).expect("two followers");
    let ticket = cluster.append(follower, G, Acks::All, batch_of(&["a"]));
    assert_eq!(
        cluster.appended(ticket),
        Err(AppendError::NotLeader {
            leader: Some(NodeId(leader))
        })
    );
    let ticket = cluster.append(leader, GroupId(77), Acks::All, batch_of(&["a"]));
    assert_eq!(cluster.appended(ticket), Err(AppendError::UnknownGroup));
}

#[test]
fn what_is_no_batch_is_refused_and_nothing_else_suffers() {
    let mut cluster = Cluster::new(Settings::default());
    let leader = cluster.leader_of(G);
    let good = cluster.append(leader, G, Acks::All, batch_of(&["a"]));
    let bad = cluster.append(leader, G, Acks::All, b"\0\0\0\0"[..].into());
    let mut two = batch_of(&["b"]);
    two.extend_from_slice(&batch_of(&["c"]));
    let two = cluster.append(leader, G, Acks::All, two);
    let also_good = cluster.append(leader, G, Acks::All, batch_of(&["d"]));
    assert_eq!(cluster.appended(bad), Err(AppendError::BadBatch(BatchError::Truncated)));
    assert_eq!(
        cluster.appended(two),
        Err(AppendError::BadBatch(BatchError::TrailingBytes))
    );
    assert_eq!(cluster.appended(good).expect("accepted").base_offset, Offset(0));
    assert_eq!(cluster.appended(also_good).expect("accepted").base_offset, Offset(1));
}

#[test]
fn too_much_at_once_is_refused_in_part_and_never_for_ever() {
    let settings = Settings {
        max_uncommitted_bytes: 4_000,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    let leader = cluster.leader_of(G);
    let large = "x".repeat(500);
    let tickets: Vec<_> = (0..30)
        .map(|n| cluster.append(leader, G, Acks::All, produced(9, 0, n, &[&large])))
        .collect();
    let outcomes: Vec<_> = tickets.into_iter().map(|ticket| cluster.appended(ticket)).collect();
    let accepted = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    assert!((3..10).contains(&accepted), "{accepted}");
    assert!(
        outcomes[accepted..]
            .iter()
            .all(|outcome| *outcome == Err(AppendError::Busy)),
        "{outcomes:?}"
    );
    // The producer tries again from where it was refused.
    let next = i32::try_from(accepted).expect("few");
    cluster
        .produce(produced(9, 0, next, &[&large]))
        .expect("there is room again");
    // One that is larger than everything allowed goes alone.
    cluster
        .produce(batch_of(&[&"y".repeat(9_000)]))
        .expect("nothing is in its way");
}

#[test]
fn offsets_are_contiguous_in_spite_of_blank_entries() {
    let mut cluster = Cluster::new(Settings::default());
    let mut expected = Vec::new();
    for round in 0..6 {
        for n in 0..3 {
            let text = format!("{round}.{n}");
            let appended = cluster.produce(batch_of(&[&text, &text])).expect("accepted");
            assert_eq!(appended.base_offset.0, expected.len() as i64);
            expected.extend([text.clone(), text]);
        }
        // Each new leader begins with a blank entry.
        let ticket = cluster.ticket();
        let leader = cluster.leader_of(G);
        cluster.run(30);
        cluster.tell(leader, Input::Transfer(ticket, G, None));
        assert_eq!(cluster.transferred(ticket).handed_over, 1);
    }
    let leader = cluster.leader_of(G);
    let values = cluster.values(leader, from(0));
    let (offsets, texts): (Vec<_>, Vec<_>) = values.into_iter().unzip();
    assert_eq!(texts, expected);
    assert_eq!(offsets, (0..expected.len() as i64).collect::<Vec<_>>());
    let status = cluster.status(leader, G).expect("here");
    assert!(status.commit.0 >= 6 + 18, "blank entries take indices");
    assert_eq!(status.next_offset, Offset(36));
}

#[test]
fn closing_a_group_answers_everybody() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    let leader = cluster.leader_of(G);
    cluster.isolate(leader);
    let all = cluster.append(leader, G, Acks::All, batch_of(&["a"]));
    let poll = cluster.read_from(leader, trimaran_multiraft::ReadRequest { wait: true, ..from(0) });
    cluster.run(2);
    cluster.tell(leader, Input::Close(G));
    assert_eq!(cluster.appended(all), Err(AppendError::UnknownGroup));
    let answer = cluster.read_outcome(poll).expect_err("closed");
    assert_eq!(answer, trimaran_multiraft::ReadError::UnknownGroup);
    assert!(cluster.status(leader, G).is_none());
}
