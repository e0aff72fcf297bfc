//! Replicas whose segments can't be written: they hold no more than some limit, and their groups do without them.

use crate::harness::{Cluster, G, Settings, batch_of, from, nodes};
use std::path::Path;
use std::time::Duration;
use trimaran_multiraft::{Acks, AppendError};
use trimaran_raft::{LogView, NodeId};
use trimaran_storage::fs::faulty::{Fault, Operation};

/// Flushed at once; see `MAX_UNFLUSHED`.
const FLUSH_BYTES: u64 = 500;

fn settings() -> Settings {
    Settings {
        flush_bytes: FLUSH_BYTES,
        tail_bytes: 300,
        segment_bytes: 2_000,
        leader_rebalance_after: None,
        failure_pause: Duration::from_millis(50),
        ..Settings::default()
    }
}

fn fill(cluster: &mut Cluster, count: usize) {
    for n in 0..count {
        cluster.produce(batch_of(&[&format!("{n:0100}")])).expect("accepted");
    }
}

/// From now on the node's segments can't be written, for good or until its disk is healed. Its journal can.
fn break_segments(cluster: &Cluster, id: u64) {
    cluster.nodes[&id].fs.fail(Fault {
        operation: Operation::Write,
        path_contains: "group-".to_owned(),
        after: 0,
        times: u64::MAX,
        kind: std::io::ErrorKind::Other,
    });
}

fn unflushed_bytes(cluster: &Cluster, id: u64) -> u64 {
    let running = cluster.nodes[&id].running.as_ref().expect("it runs");
    let replica = running.shard.replica(G);
    replica.map_or(0, |(_, log)| log.unflushed_bytes())
}

fn journal_files(cluster: &Cluster, id: u64) -> usize {
    let files = cluster.nodes[&id].fs.files();
    files
        .iter()
        .filter(|(path, _)| path.starts_with(Path::new("/journal")))
        .count()
}

fn follower(cluster: &mut Cluster) -> (u64, u64) {
    let leader = cluster.leader_of(G);
    let follower = (1..=3).find(|id| *id != leader).expect("two followers");
    (leader, follower)
}

fn voters(cluster: &mut Cluster) -> Vec<NodeId> {
    let leader = cluster.leader_of(G);
    let mut voters = cluster.status(leader, G).expect("here").voters;
    voters.sort_unstable();
    voters
}

fn values_at(cluster: &mut Cluster, id: u64) -> usize {
    let mut read = from(0);
    read.follower_ok = true;
    cluster.values(id, read).len()
}

#[test]
fn a_follower_that_can_not_write_holds_no_more_than_its_limit() {
    let mut cluster = Cluster::new(Settings {
        // Too long to be given up.
        failure_pause: Duration::from_secs(5),
        ..settings()
    });
    let (_, follower) = follower(&mut cluster);
    break_segments(&cluster, follower);
    for round in 1..=4 {
        fill(&mut cluster, 500);
        cluster.run(1_000);
        let unflushed = unflushed_bytes(&cluster, follower);
        assert!(unflushed < 2 * FLUSH_BYTES + 3_000, "round {round}: {unflushed} bytes");
    }
    assert!(cluster.status(follower, G).expect("here").failed);
    cluster.nodes[&follower].fs.heal();
    cluster.until("it has caught up", |cluster| {
        let leader = cluster.leader(G).expect("as before");
        let in_sync = cluster.status(leader, G).expect("here").in_sync;
        in_sync.len() == 3 && cluster.status(follower, G).is_some_and(|status| !status.failed)
    });
    assert!(cluster.lost.is_empty(), "it was never given up");
}

#[test]
fn a_group_does_without_a_replica_that_can_not_write_and_takes_it_back() {
    let mut cluster = Cluster::new(settings());
    let (_, follower) = follower(&mut cluster);
    fill(&mut cluster, 30);
    cluster.run(20);
    break_segments(&cluster, follower);
    let others: Vec<_> = nodes(&[1, 2, 3]).into_iter().filter(|id| id.0 != follower).collect();
    for _ in 0..200 {
        fill(&mut cluster, 10);
        cluster.run(10);
        if voters(&mut cluster) == others && !cluster.unopened.is_empty() {
            break;
        }
    }
    assert_eq!(voters(&mut cluster), others);
    assert_eq!(
        cluster.lost.first().map(|(id, lost)| (*id, lost.group)),
        Some((follower, G))
    );
    assert!(!cluster.lost[0].1.error.is_damage(), "{:?}", cluster.lost[0].1.error);
    // Its journal holds nothing of it any more: the files go round.
    let large = "x".repeat(20_000);
    for _ in 0..500 {
        cluster.produce(batch_of(&[&large])).expect("accepted");
    }
    assert!(
        journal_files(&cluster, follower) <= 5,
        "{}",
        journal_files(&cluster, follower)
    );
    assert_eq!(cluster.lost.len(), 1, "it is not filled where nothing can be written");
    cluster.nodes[&follower].fs.heal();
    cluster.until("it is a voter again", |cluster| voters(cluster) == nodes(&[1, 2, 3]));
    let leader = cluster.leader_of(G);
    cluster.until("it holds everything", |cluster| {
        let last = cluster.status(leader, G).expect("here").last_index;
        cluster.status(follower, G).is_some_and(|status| status.commit == last)
    });
    assert_eq!(values_at(&mut cluster, follower), values_at(&mut cluster, leader));
}

#[test]
fn a_leader_that_can_not_write_hands_over_first() {
    let mut cluster = Cluster::new(settings());
    let leader = cluster.leader_of(G);
    fill(&mut cluster, 2);
    break_segments(&cluster, leader);
    let mut accepted = 0;
    for n in 0..500 {
        let at = cluster.leader_of(G);
        let ticket = cluster.append(at, G, Acks::All, batch_of(&[&format!("{n:0100}")]));
        accepted += usize::from(cluster.appended(ticket).is_ok());
    }
    assert_ne!(cluster.leader_of(G), leader);
    assert!(accepted > 450, "{accepted}: the group is led by one that can write");
    cluster.until("it is done without", |cluster| {
        fill(cluster, 1);
        !voters(cluster).contains(&NodeId(leader))
    });
}

/// Two of three can't write, so the group can't do without them: they keep what they hold, and go on once they can.
#[test]
fn nothing_is_given_up_where_the_others_are_no_majority() {
    let mut cluster = Cluster::new(settings());
    let leader = cluster.leader_of(G);
    fill(&mut cluster, 30);
    cluster.run(50);
    for id in (1..=3).filter(|id| *id != leader) {
        break_segments(&cluster, id);
    }
    let mut accepted = 30;
    for n in 0..40 {
        let at = cluster.leader(G).unwrap_or(leader);
        let ticket = cluster.append(at, G, Acks::All, batch_of(&[&format!("{n:0100}")]));
        cluster.run(50);
        let stored =
            |answer: &trimaran_multiraft::Completion| matches!(answer, trimaran_multiraft::Completion::Appended(Ok(_)));
        accepted += usize::from(cluster.answer(ticket).is_some_and(stored));
    }
    cluster.run(10_000);
    assert!(cluster.lost.is_empty(), "nobody has given up what it holds");
    for id in 1..=3 {
        cluster.nodes[&id].fs.heal();
    }
    let leader = cluster.leader_of(G);
    cluster.until("all is committed", |cluster| {
        let status = cluster.status(leader, G).expect("here");
        status.commit == status.last_index && status.in_sync.len() == 3
    });
    cluster.produce(batch_of(&["again"])).expect("accepted");
    assert!(
        values_at(&mut cluster, leader) > accepted,
        "what was acknowledged is there"
    );
}

#[test]
fn one_replica_alone_refuses_until_it_can_write_again() {
    let mut cluster = Cluster::new(Settings {
        voters: vec![1],
        ..settings()
    });
    break_segments(&cluster, 1);
    let mut refused = 0;
    for n in 0..500 {
        let ticket = cluster.append(1, G, Acks::All, batch_of(&[&format!("{n:0100}")]));
        refused += usize::from(cluster.appended(ticket) == Err(AppendError::Storage));
    }
    assert!(refused > 400, "{refused}");
    assert!(
        unflushed_bytes(&cluster, 1) < 2 * FLUSH_BYTES,
        "{}",
        unflushed_bytes(&cluster, 1)
    );
    cluster.nodes[&1].fs.heal();
    cluster.until("it serves again", |cluster| cluster.leader(G) == Some(1));
    cluster.produce(batch_of(&["again"])).expect("accepted");
    assert!(cluster.lost.is_empty());
}

/// It asked to be done without, its process was started again, and its disk has been sound since.
#[test]
fn a_replica_that_was_done_without_for_a_disk_that_is_sound_again_is_a_voter_again() {
    let mut cluster = Cluster::new(settings());
    let (_, follower) = follower(&mut cluster);
    fill(&mut cluster, 30);
    cluster.run(20);
    break_segments(&cluster, follower);
    cluster.until("its leader has heard of it", |cluster| {
        fill(cluster, 1);
        let leader = cluster.leader(G).expect("as before");
        cluster.status(leader, G).expect("here").learners == nodes(&[follower])
    });
    cluster.nodes[&follower].fs.heal();
    cluster.restart_at_once(follower);
    cluster.until("it is a voter again", |cluster| voters(cluster) == nodes(&[1, 2, 3]));
    fill(&mut cluster, 10);
    let leader = cluster.leader_of(G);
    cluster.until("it holds everything", |cluster| {
        let last = cluster.status(leader, G).expect("here").last_index;
        cluster.status(follower, G).is_some_and(|status| status.commit == last)
    });
    let log = |id: u64| {
        let running = cluster.nodes[&id].running.as_ref().expect("it runs");
        running.shard.replica(G).map(|(_, log)| log.last_index())
    };
    assert_eq!(log(follower), log(leader));
}
