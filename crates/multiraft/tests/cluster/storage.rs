//! Flushes, loads, retention, failing disks, and state machines that are fed from the log.

use crate::harness::{Cluster, G, Settings, batch_of, from, produced, unreadable};
use trimaran_multiraft::{Acks, AppendError, Input, ReadError};
use trimaran_raft::LogIndex;
use trimaran_storage::fs::faulty::{Fault, Operation};
use trimaran_storage::log::Retention;
use trimaran_wire::batch::Offset;

fn fill(cluster: &mut Cluster, count: usize) {
    for n in 0..count {
        cluster.produce(batch_of(&[&format!("{n:0100}")])).expect("accepted");
    }
}

#[test]
fn committed_records_go_to_segments_and_are_read_from_there() {
    let settings = Settings {
        flush_bytes: 500,
        tail_bytes: 300,
        segment_bytes: 2_000,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    fill(&mut cluster, 50);
    cluster.run(100);
    assert!(cluster.flushes > 5, "{}", cluster.flushes);
    let leader = cluster.leader_of(G);
    let values = cluster.values(leader, from(0));
    assert_eq!(values.len(), 50);
    assert!(
        values
            .iter()
            .enumerate()
            .all(|(at, (offset, text))| *offset == at as i64 && *text == format!("{at:0100}"))
    );
}

#[test]
fn a_follower_far_behind_is_served_from_segments() {
    let settings = Settings {
        flush_bytes: 500,
        tail_bytes: 300,
        segment_bytes: 2_000,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    cluster.run(50);
    cluster.crash(3);
    fill(&mut cluster, 100);
    cluster.run(50);
    cluster.start(3);
    cluster.until("it has caught up", |cluster| {
        cluster
            .status(3, G)
            .is_some_and(|status| status.high_watermark.0 == Offset(100))
    });
    assert!(cluster.loads > 0);
    let near = trimaran_multiraft::ReadRequest {
        follower_ok: true,
        ..from(0)
    };
    assert_eq!(cluster.values(3, near).len(), 100);
}

#[test]
fn what_is_old_is_flushed_however_little_it_is() {
    let mut cluster = Cluster::new(Settings::default());
    fill(&mut cluster, 1);
    cluster.run(59_000);
    assert_eq!(cluster.flushes, 0);
    cluster.run(1_500);
    assert_eq!(cluster.flushes, 3, "once on each replica");
}

#[test]
fn groups_that_hold_the_journal_are_flushed_or_written_again() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(100);
    let leader = cluster.leader_of(G);
    // Nothing but a blank entry: not worth a segment.
    cluster.tell(leader, Input::FlushNow(G));
    cluster.run(10);
    assert_eq!(cluster.flushes, 0);
    fill(&mut cluster, 1);
    cluster.tell(leader, Input::FlushNow(G));
    cluster.run(10);
    assert_eq!(cluster.flushes, 0, "nor is one small batch");
    fill(&mut cluster, 40);
    cluster.tell(leader, Input::FlushNow(G));
    cluster.run(10);
    assert_eq!(cluster.flushes, 1);
    // An uncommitted tail is written again, and found again.
    cluster.isolate(leader);
    let lonely = cluster.append(leader, G, Acks::Leader, batch_of(&["uncommitted"]));
    cluster.appended(lonely).expect("on its disk");
    cluster.tell(leader, Input::FlushNow(G));
    cluster.run(10);
    let before = cluster.status(leader, G).expect("here").last_index;
    cluster.crash(leader);
    cluster.heal();
    cluster.start(leader);
    cluster.run(2);
    assert!(cluster.status(leader, G).expect("here").last_index >= before);
}

/// Its answer was lost, and it is sent again when the batch is long gone, to the next leader.
#[test]
fn what_a_producer_sent_is_not_stored_again_though_retention_deleted_it() {
    let settings = Settings {
        flush_bytes: 500,
        tail_bytes: 300,
        segment_bytes: 1_000,
        retention: Retention {
            bytes: Some(1_000),
            ms: None,
        },
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    fill(&mut cluster, 3);
    let first = cluster.produce(produced(7, 0, 0, &["once"])).expect("accepted");
    assert_eq!((first.base_offset, first.duplicate), (Offset(3), false));
    fill(&mut cluster, 50);
    cluster.run(100);
    for id in 1..=3 {
        cluster.tell(id, Input::Retain { now_ms: 2_000 });
    }
    cluster.run(10);
    for id in 1..=3 {
        assert!(cluster.status(id, G).expect("here").start_offset > Offset(20));
        cluster.crash(id);
    }
    for id in 1..=3 {
        cluster.start(id);
    }
    let again = cluster.produce(produced(7, 0, 0, &["once"])).expect("it is stored");
    assert_eq!((again.base_offset, again.duplicate), (Offset(3), true));
    let next = cluster.produce(produced(7, 0, 1, &["the next one"])).expect("accepted");
    assert_eq!((next.base_offset, next.duplicate), (Offset(54), false));
}

#[test]
fn retention_deletes_old_segments_but_nothing_that_a_replica_in_contact_lacks() {
    let retention = Retention {
        bytes: Some(1_000),
        ms: None,
    };
    let settings = Settings {
        flush_bytes: 500,
        tail_bytes: 300,
        segment_bytes: 1_000,
        retention,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    cluster.run(50);
    let leader = cluster.leader_of(G);
    // It lives, but its disk takes nothing.
    let slow = cluster.nodes.get_mut(&3).expect("a node");
    (slow.stuck, slow.keeps_up_appearances) = (true, true);
    fill(&mut cluster, 50);
    cluster.run(50);
    cluster.tell(leader, Input::Retain { now_ms: 2_000 });
    cluster.run(2);
    assert_eq!(cluster.status(leader, G).expect("here").start_offset, Offset(0));
    cluster.nodes.get_mut(&3).expect("a node").stuck = false;
    cluster.until("it has caught up", |cluster| {
        cluster
            .status(3, G)
            .is_some_and(|status| status.high_watermark.0 == Offset(50))
    });
    cluster.run(100);
    fill(&mut cluster, 1);
    cluster.tell(leader, Input::Retain { now_ms: 2_000 });
    cluster.run(2);
    let start = cluster.status(leader, G).expect("here").start_offset;
    assert!(start > Offset(20), "{start:?}");
    let ticket = cluster.read_from(leader, from(0));
    let gone = cluster.read_outcome(ticket).expect_err("deleted");
    assert_eq!(
        gone,
        ReadError::OutOfRange {
            start,
            high_watermark: Offset(51)
        }
    );
    assert_eq!(
        cluster.values(leader, from(start.0)).first().map(|(offset, _)| *offset),
        Some(start.0)
    );
}

#[test]
fn a_leader_whose_log_can_not_be_flushed_gives_up_and_tries_again_later() {
    let settings = Settings {
        flush_bytes: 500,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    cluster.run(50);
    let old = cluster.leader_of(G);
    let fault = Fault {
        operation: Operation::Write,
        path_contains: "group-1".into(),
        after: 0,
        times: 1,
        kind: std::io::ErrorKind::StorageFull,
    };
    cluster.nodes[&old].fs.fail(fault);
    // As many as it takes for the flush to be asked for, and no more.
    while cluster.flushes == 0 {
        cluster.produce(batch_of(&[&"x".repeat(100)])).expect("accepted");
    }
    cluster.until("another leads", |cluster| {
        cluster.leader(G).is_some_and(|leader| leader != old)
    });
    assert!(cluster.status(old, G).expect("here").failed);
    let ticket = cluster.read_from(
        old,
        trimaran_multiraft::ReadRequest {
            follower_ok: true,
            ..from(0)
        },
    );
    assert_eq!(
        cluster.read_outcome(ticket).expect_err("its log failed"),
        ReadError::Storage
    );
    cluster.produce(batch_of(&["on"])).expect("the others go on");
    cluster.run(6_000);
    assert!(!cluster.status(old, G).expect("here").failed, "there is room again");
}

#[test]
fn a_single_voter_whose_log_failed_refuses_until_it_works_again() {
    let mut cluster = Cluster::new(Settings {
        voters: vec![1],
        ..Settings::default()
    });
    cluster.produce(batch_of(&["a"])).expect("accepted");
    cluster.tell(1, unreadable());
    let ticket = cluster.append(1, G, Acks::All, batch_of(&["b"]));
    cluster.run(2);
    let other = cluster.append(1, G, Acks::All, batch_of(&["c"]));
    assert_eq!(cluster.appended(ticket), Err(AppendError::Storage));
    assert_eq!(cluster.appended(other), Err(AppendError::Storage));
    cluster.run(5_100);
    cluster.produce(batch_of(&["d"])).expect("accepted");
}

#[test]
fn committed_payloads_are_delivered_in_order_on_every_replica_and_again_after_a_restart() {
    let settings = Settings {
        deliver: true,
        flush_bytes: 300,
        tail_bytes: 300,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    fill(&mut cluster, 20);
    cluster.run(100);
    let delivered = |cluster: &Cluster, id: u64| -> Vec<(LogIndex, Vec<u8>)> {
        let of_node = cluster.committed.iter().filter(|(node, ..)| *node == id);
        of_node
            .map(|(_, _, index, payload)| (*index, payload.clone()))
            .collect()
    };
    let first = delivered(&cluster, 1);
    assert_eq!(first.len(), 20);
    assert!(first.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(delivered(&cluster, 2), first);
    assert_eq!(delivered(&cluster, 3), first);
    (1..=3).for_each(|id| cluster.crash(id));
    cluster.committed.clear();
    (1..=3).for_each(|id| cluster.start(id));
    cluster.leader_of(G);
    cluster.run(200);
    for id in 1..=3 {
        assert_eq!(delivered(&cluster, id), first, "{id}");
    }
}

/// Two followers commit without the leader's own slow journal. What it writes to its segments ahead of its journal
/// would be a gap in the journal after a crash.
#[test]
fn what_the_own_journal_does_not_hold_is_not_flushed() {
    let settings = Settings {
        flush_bytes: 500,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    fill(&mut cluster, 5);
    cluster.run(50);
    let slow = cluster.leader_of(G);
    let node = cluster.nodes.get_mut(&slow).expect("a node");
    (node.stuck, node.segments_work) = (true, true);
    fill(&mut cluster, 20);
    cluster.run(5);
    let status = cluster.status(slow, G).expect("here");
    assert_eq!(status.high_watermark.0, Offset(25), "committed by the others");
    // This batch says as well what was flushed.
    cluster.write_one(slow);
    cluster.crash(slow);
    cluster.nodes.get_mut(&slow).expect("a node").stuck = false;
    for records in [35, 45] {
        cluster.start(slow);
        fill(&mut cluster, 10);
        cluster.until("it has caught up", |cluster| {
            let status = cluster.status(slow, G);
            status.is_some_and(|status| status.high_watermark.0 == Offset(records))
        });
        cluster.crash(slow);
    }
}

#[test]
fn a_follower_far_behind_takes_no_more_than_its_share_and_holds_nobody_up() {
    let settings = Settings {
        flush_bytes: 500,
        tail_bytes: 300,
        segment_bytes: 4_000,
        catch_up_bytes_per_second: Some(20_000),
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    cluster.isolate(3);
    fill(&mut cluster, 100);
    cluster.run(50);
    cluster.heal();
    let (began, bytes) = (cluster.now, 100 * 160);
    cluster.until("the leader reads for it", |cluster| cluster.loads > 0);
    let produced = cluster.now;
    fill(&mut cluster, 20);
    assert!(cluster.now.since(produced).as_millis() <= 200, "others don't wait");
    cluster.until("it holds all", |cluster| {
        let status = cluster.status(3, G).expect("here");
        status.high_watermark.0 == Offset(120)
    });
    let took = cluster.now.since(began).as_millis();
    let expected = bytes * 1_000 / 20_000 - 250;
    assert!(took >= expected, "{took} ms for {bytes} bytes");
    assert!(cluster.loads < 60, "what waits is not read twice: {}", cluster.loads);
}

/// A flush writes to its replica's folder, which must not be deleted, or be another opening's, before it is done.
#[test]
fn a_closed_replica_is_gone_only_when_its_last_flush_is() {
    let settings = Settings {
        flush_bytes: 500,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    let leader = cluster.leader_of(G);
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    cluster.append(leader, G, Acks::All, batch_of(&["r".repeat(1_000).as_str()]));
    cluster.until("a flush is out", |cluster| cluster.is_flushing(follower));
    cluster.nodes.get_mut(&follower).expect("a node").stuck = true;
    cluster.tell(follower, Input::Close(G));
    cluster.run(1_000);
    assert_eq!(cluster.closed, [], "its flush is still out");
    cluster.nodes.get_mut(&follower).expect("a node").stuck = false;
    cluster.run(1_000);
    assert_eq!(cluster.closed, [(follower, G)]);
}
