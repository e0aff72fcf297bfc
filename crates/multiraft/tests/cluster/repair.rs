//! Replicas that have lost what they promised: wiped, damaged at start, damaged while they run. They count for nothing
//! until their group has filled them again, and then for as much as before.

use crate::harness::{Cluster, G, Settings, batch_of, from, nodes, produced};
use std::path::PathBuf;
use trimaran_multiraft::{Acks, AppendError, Input, ReadRequest};
use trimaran_raft::{LogIndex, LogView, NodeId, Role};
use trimaran_storage::log::{LogError, Retention};
use trimaran_wire::batch::Offset;

fn settings() -> Settings {
    Settings {
        flush_bytes: 500,
        tail_bytes: 300,
        segment_bytes: 1_500,
        leader_rebalance_after: None,
        ..Settings::default()
    }
}

fn fill(cluster: &mut Cluster, count: usize) {
    for n in 0..count {
        cluster.produce(batch_of(&[&format!("{n:0100}")])).expect("accepted");
    }
}

/// A cluster that node 1 leads, with records in segments.
fn filled(settings: Settings) -> Cluster {
    let mut cluster = Cluster::new(settings);
    fill(&mut cluster, 20);
    cluster.run(100);
    assert_eq!(cluster.leader(G), Some(1));
    cluster
}

/// Flips a bit in a file of a node's first segment, or of its last but one.
fn damage(cluster: &Cluster, id: u64, extension: &str, position: u64) {
    damage_nth(cluster, id, extension, position, |_| 0);
}

fn damage_nth(cluster: &Cluster, id: u64, extension: &str, position: u64, which: impl Fn(usize) -> usize) {
    let fs = &cluster.nodes[&id].fs;
    let is_it = |path: &PathBuf| path.starts_with("/group-1") && path.extension().is_some_and(|end| end == extension);
    let files = fs.files().into_iter().map(|(path, _)| path);
    let files: Vec<_> = files.filter(is_it).collect();
    assert!(fs.corrupt(&files[which(files.len())], position), "it has flushed");
}

fn corrupt() -> LogError {
    LogError::Corrupt {
        path: "/group-1/0.log".into(),
        position: 70,
        what: "a batch's checksum is wrong",
    }
}

fn is_barred(cluster: &mut Cluster, id: u64) -> bool {
    let status = cluster.status(id, G).expect("here");
    assert!(!status.repairing || status.role == Role::Follower);
    status.repairing
}

fn voters(cluster: &mut Cluster) -> Vec<NodeId> {
    let leader = cluster.leader_of(G);
    let mut voters = cluster.status(leader, G).expect("here").voters;
    voters.sort_unstable();
    voters
}

/// All replicas count, and hold the same.
#[track_caller]
fn until_whole(cluster: &mut Cluster, replicas: &[u64]) {
    let expected = nodes(replicas);
    cluster.until("all are voters and hold what is committed", |cluster| {
        let Some(leader) = cluster.leader(G) else { return false };
        let end = cluster.status(leader, G).expect("here");
        let mut voters = end.voters.clone();
        voters.sort_unstable();
        voters == expected
            && end.learners.is_empty()
            && end.outgoing.is_empty()
            && end.in_sync.len() == expected.len()
            && expected.iter().all(|node| {
                let status = cluster.status(node.0, G).expect("here");
                status.high_watermark == end.high_watermark && !status.repairing && status.commit == end.commit
            })
    });
}

#[test]
fn a_wiped_replica_is_filled_again_and_only_then_counts() {
    let mut cluster = filled(settings());
    cluster.wipe(3);
    cluster.start(3);
    cluster.run(1);
    assert!(is_barred(&mut cluster, 3), "it may have voted and acknowledged");
    until_whole(&mut cluster, &[1, 2, 3]);
    let status = cluster.status(3, G).expect("here");
    assert_eq!((status.start_offset, status.next_offset), (Offset(0), Offset(20)));
    cluster.run(20);
    // It was a learner in between, and everybody who asked was told.
    let changed = cluster.members.iter().filter(|members| members.fulfils.is_none());
    let reported: Vec<_> = changed
        .map(|members| (members.voters.len(), members.learners.len()))
        .collect();
    assert_eq!(reported, [(2, 1), (3, 0)]);
    // Whatever was acknowledged survives the loss of the two others.
    fill(&mut cluster, 5);
    cluster.crash(1);
    cluster.produce(batch_of(&["two of three"])).expect("accepted");
    let leader = cluster.leader_of(G);
    assert_eq!(cluster.values(leader, from(0)).len(), 26);
}

/// What node 3 had acknowledged only it and the leader held. Wiped, it must not help anybody to win without it.
#[test]
fn a_wiped_replica_elects_nobody_who_lacks_what_it_had_acknowledged() {
    let mut cluster = filled(settings());
    cluster.isolate(2);
    cluster.produce(batch_of(&["on 1 and 3"])).expect("accepted");
    cluster.run(20);
    cluster.wipe(3);
    cluster.crash(1);
    cluster.heal();
    cluster.start(3);
    cluster.run(3_000);
    assert_eq!(cluster.leader(G), None, "2 lacks it, and 3 does not know");
    assert!(is_barred(&mut cluster, 3));
    cluster.start(1);
    until_whole(&mut cluster, &[1, 2, 3]);
    let leader = cluster.leader_of(G);
    let values = cluster.values(leader, from(0));
    assert_eq!(values.last(), Some(&(20, "on 1 and 3".to_owned())));
}

#[test]
fn a_replica_that_is_damaged_at_start_is_set_aside_and_filled_again() {
    for (extension, position) in [("index", 20), ("index", 70), ("log", 70)] {
        for id in [1, 3] {
            let mut cluster = filled(settings());
            cluster.crash(id);
            damage(&cluster, id, extension, position);
            cluster.start(id);
            cluster.produce(batch_of(&["the others go on"])).expect("accepted");
            if extension == "log" {
                // Segments are read when somebody asks.
                let near = ReadRequest {
                    follower_ok: true,
                    ..from(0)
                };
                let _ = cluster.status(id, G);
                let ticket = cluster.read_from(id, near);
                if let Ok(read) = cluster.read_outcome(ticket) {
                    let damaged = read.chunks.iter().find_map(|chunk| match chunk {
                        trimaran_storage::log::Chunk::File(slice) => slice.read().err(),
                        trimaran_storage::log::Chunk::Memory(_) => None,
                    });
                    cluster.tell(id, Input::Unreadable(G, damaged.expect("a bit was flipped")));
                    cluster.run(1);
                }
            }
            until_whole(&mut cluster, &[1, 2, 3]);
            cluster.run(50);
            let files = cluster.nodes[&id].fs.files();
            let is_damaged = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(".damaged"));
            assert!(!files.iter().any(|(path, _)| is_damaged(path)), "{files:?}");
            let near = ReadRequest {
                follower_ok: true,
                ..from(0)
            };
            assert_eq!(cluster.values(id, near).len(), 21, "{extension} of {id}");
        }
    }
}

/// A leader that reads a damaged segment for a follower gives up at once: somebody else leads, and fills it.
#[test]
fn a_leader_that_finds_damage_gives_up_and_is_filled_again() {
    let mut cluster = filled(settings());
    damage(&cluster, 1, "log", 70);
    cluster.tell(1, Input::Unreadable(G, corrupt()));
    let began = cluster.now;
    cluster.until("another one leads", |cluster| {
        cluster.leader(G).is_some_and(|leader| leader != 1)
    });
    assert!(
        cluster.now.since(began).as_millis() <= 150,
        "{:?}",
        cluster.now.since(began)
    );
    until_whole(&mut cluster, &[1, 2, 3]);
    let [(1, lost)] = &cluster.lost[..] else {
        panic!("{:?}", cluster.lost)
    };
    assert!(
        lost.error.to_string().contains("0.log is corrupt at byte 70"),
        "{}",
        lost.error
    );
    fill(&mut cluster, 5);
    assert_eq!(voters(&mut cluster), nodes(&[1, 2, 3]));
}

/// A state machine can't take back what it has applied: a replica that is filled again while its broker runs goes on
/// where it was.
#[test]
fn a_state_machine_is_not_fed_twice_when_its_log_is_filled_again() {
    let mut cluster = filled(Settings {
        deliver: true,
        ..settings()
    });
    for id in [3, 1] {
        cluster.tell(id, Input::Unreadable(G, corrupt()));
        cluster.run(1);
        fill(&mut cluster, 5);
        until_whole(&mut cluster, &[1, 2, 3]);
    }
    cluster.run(50);
    let delivered = |id: u64| -> Vec<_> {
        let of_node = cluster.committed.iter().filter(|(node, ..)| *node == id);
        of_node
            .map(|(_, _, index, payload)| (*index, payload.clone()))
            .collect()
    };
    let all = delivered(2);
    assert_eq!(all.len(), 30);
    assert_eq!(delivered(1), all);
    assert_eq!(delivered(3), all);
}

/// Nobody told the leader: it finds out when it reads for a follower that is far behind.
#[test]
fn damage_that_a_load_finds_is_damage() {
    let mut cluster = filled(settings());
    cluster.crash(3);
    fill(&mut cluster, 20);
    cluster.run(50);
    damage_nth(&cluster, 1, "log", 70, |count| count - 2);
    cluster.start(3);
    until_whole(&mut cluster, &[1, 2, 3]);
    assert_eq!(cluster.lost.len(), 1, "{:?}", cluster.lost);
    assert_eq!(cluster.lost[0].0, 1);
    let near = ReadRequest {
        follower_ok: true,
        ..from(0)
    };
    for id in 1..=3 {
        assert_eq!(cluster.values(id, near).len(), 40, "{id}");
    }
}

/// Two of three: nothing that was acknowledged can be had from the third alone for sure. The group waits.
#[test]
fn a_group_that_has_lost_a_majority_waits_and_does_not_make_up_a_history() {
    let mut cluster = filled(settings());
    for id in [2, 3] {
        cluster.wipe(id);
        cluster.start(id);
    }
    cluster.run(2_000);
    assert!(
        cluster
            .quorum_lost
            .iter()
            .any(|quorum_lost| quorum_lost.lost == nodes(&[2, 3]))
    );
    let leader = cluster.leader_of(G);
    let ticket = cluster.append(leader, G, Acks::All, batch_of(&["never"]));
    cluster.run(2_000);
    assert!(
        !matches!(
            cluster.answer(ticket),
            Some(trimaran_multiraft::Completion::Appended(Ok(_)))
        ),
        "nobody holds it but one"
    );
    assert!(is_barred(&mut cluster, 2) && is_barred(&mut cluster, 3));
}

/// One of two voters is needed for everything, and one that is wiped counts for nothing. While the change that makes it
/// one is not complete, that can be taken back.
#[test]
fn a_new_voter_that_is_wiped_before_that_is_complete_is_filled_again() {
    let (mut joint, mut left) = (0, 0);
    for at in 0.. {
        let mut cluster = filled(Settings {
            voters: vec![1],
            spares: vec![2],
            ..settings()
        });
        cluster.assign(G, &[1, 2]);
        cluster.run(at);
        let before = cluster.status(1, G).expect("here");
        cluster.wipe(2);
        // Until what it has said before has arrived.
        cluster.run(2);
        let running = cluster.nodes[&1].running.as_ref().expect("it runs");
        let (group, _) = running.shard.replica(G).expect("here");
        let now = group.configuration();
        if now.voters.len() == 2 && !now.is_joint() && group.is_configuration_committed() {
            break;
        }
        joint += usize::from(!before.outgoing.is_empty());
        left += usize::from(before.voters.len() == 2 && before.outgoing.is_empty());
        cluster.run(if at % 2 == 0 { 0 } else { 300 });
        cluster.start(2);
        until_whole(&mut cluster, &[1, 2]);
        cluster.produce(batch_of(&["on"])).expect("accepted");
        cluster.run(20);
        let near = ReadRequest {
            follower_ok: true,
            ..from(0)
        };
        assert_eq!(cluster.values(2, near).len(), 21, "at {at}");
    }
    assert!(joint > 0 && left > 0, "{joint} {left}");
}

/// The only voter has nobody who could be elected to fill it: what is sound of it is all there is.
#[test]
fn the_only_voter_does_not_give_up_its_log_though_somebody_learns() {
    let mut cluster = filled(Settings {
        voters: vec![1],
        spares: vec![2],
        ..settings()
    });
    cluster.crash(2);
    cluster.assign(G, &[1, 2]);
    cluster.run(100);
    assert_eq!(cluster.status(1, G).expect("here").learners, nodes(&[2]));
    cluster.tell(1, Input::Unreadable(G, corrupt()));
    cluster.run(6_000);
    assert!(cluster.lost.is_empty(), "{:?}", cluster.lost);
    cluster.produce(batch_of(&["on"])).expect("accepted");
}

#[test]
fn a_follower_behind_retention_begins_anew_where_its_leader_does() {
    let mut cluster = filled(Settings {
        retention: Retention {
            bytes: Some(2_000),
            ms: None,
        },
        ..settings()
    });
    cluster.crash(3);
    cluster.run(100);
    fill(&mut cluster, 60);
    cluster.run(100);
    for id in [1, 2] {
        cluster.tell(id, Input::Retain { now_ms: 0 });
    }
    cluster.run(5);
    let start = cluster.status(1, G).expect("here").start_offset;
    assert!(start > Offset(20), "the dead are not waited for: {start:?}");
    cluster.start(3);
    until_whole(&mut cluster, &[1, 2, 3]);
    assert_eq!(cluster.resets, 1);
    let status = cluster.status(3, G).expect("here");
    assert!(status.start_offset >= start && status.next_offset == Offset(80));
    // What it had is gone from its folder as well, and a restart finds what is there now.
    cluster.run(50);
    cluster.crash(3);
    cluster.start(3);
    cluster.run(5);
    let status = cluster.status(3, G).expect("here");
    assert!(status.start_offset >= start, "{:?}", status.start_offset);
    until_whole(&mut cluster, &[1, 2, 3]);
    assert_eq!(cluster.resets, 1);
}

/// What a producer sent while it was away is gone when it comes back, and it is the one that is asked again.
#[test]
fn a_follower_that_begins_anew_knows_what_producers_sent() {
    for restarts in [false, true] {
        let mut cluster = filled(Settings {
            retention: Retention {
                bytes: Some(2_000),
                ms: None,
            },
            ..settings()
        });
        cluster.crash(3);
        let sent = cluster.produce(produced(7, 0, 0, &["once"])).expect("accepted");
        assert_eq!((sent.base_offset, sent.duplicate), (Offset(20), false));
        fill(&mut cluster, 60);
        cluster.run(100);
        for id in [1, 2] {
            cluster.tell(id, Input::Retain { now_ms: 0 });
        }
        cluster.run(5);
        assert!(cluster.status(1, G).expect("here").start_offset > Offset(30));
        cluster.start(3);
        until_whole(&mut cluster, &[1, 2, 3]);
        assert_eq!(cluster.resets, 1);
        cluster.run(50);
        if restarts {
            cluster.crash(3);
            cluster.start(3);
            until_whole(&mut cluster, &[1, 2, 3]);
        }
        // It is heard of for a while before it is trusted to take over.
        cluster.run(500);
        let leader = cluster.leader_of(G);
        let ticket = cluster.ticket();
        cluster.tell(leader, Input::Transfer(ticket, G, Some(NodeId(3))));
        assert_eq!(cluster.transferred(ticket).handed_over, 1, "{restarts}");
        cluster.until("it leads", |cluster| cluster.leader(G) == Some(3));
        let again = cluster.produce(produced(7, 0, 0, &["once"])).expect("it is stored");
        assert_eq!((again.base_offset, again.duplicate), (Offset(20), true), "{restarts}");
        let next = cluster.produce(produced(7, 0, 1, &["next"])).expect("accepted");
        assert_eq!((next.base_offset, next.duplicate), (Offset(81), false));
    }
}

#[test]
fn a_wiped_follower_behind_retention_is_filled_from_a_position() {
    let mut cluster = filled(Settings {
        retention: Retention {
            bytes: Some(2_000),
            ms: None,
        },
        ..settings()
    });
    fill(&mut cluster, 40);
    cluster.run(50);
    for id in 1..=3 {
        cluster.tell(id, Input::Retain { now_ms: 0 });
    }
    cluster.run(5);
    assert!(cluster.status(1, G).expect("here").start_offset > Offset(0));
    cluster.wipe(3);
    cluster.start(3);
    until_whole(&mut cluster, &[1, 2, 3]);
    assert_eq!(cluster.resets, 1);
    let running = cluster.nodes[&3].running.as_ref().expect("it runs");
    let (_, log) = running.shard.replica(G).expect("here");
    assert!(log.start().index > LogIndex(0) && log.first_index() == log.start().index.next());
}

/// A crash of the one that is repaired, of its leader, or of the third one, at every millisecond of the repair.
#[test]
fn a_crash_at_any_moment_of_a_repair_is_made_good() {
    let retention = |bytes| Settings {
        retention: Retention { bytes, ms: None },
        ..settings()
    };
    let cases = [
        (retention(None), true),
        (retention(Some(2_000)), true),
        (retention(None), false),
    ];
    for (settings, is_wiped) in cases {
        for crashed in [3, 1, 2] {
            for at in (0..60).step_by(if crashed == 3 { 1 } else { 3 }) {
                let mut cluster = filled(settings.clone());
                (1..=3).for_each(|id| cluster.tell(id, Input::Retain { now_ms: 0 }));
                cluster.run(5);
                if is_wiped {
                    cluster.wipe(3);
                    cluster.start(3);
                } else {
                    cluster.tell(3, Input::Unreadable(G, corrupt()));
                }
                cluster.run(at);
                cluster.crash(crashed);
                cluster.run(if at % 2 == 0 { 5 } else { 300 });
                cluster.start(crashed);
                fill(&mut cluster, 3);
                until_whole(&mut cluster, &[1, 2, 3]);
                let leader = cluster.leader_of(G);
                let start = cluster.status(leader, G).expect("here").start_offset;
                let values = cluster.values(leader, from(start.0));
                assert_eq!(values.len() as i64, 23 - start.0, "{crashed} at {at}");
            }
        }
    }
}

#[test]
fn min_insync_replicas_does_not_fall_with_a_lost_disk() {
    let mut cluster = filled(Settings {
        min_insync: 3,
        catch_up_bytes_per_second: Some(100),
        ..settings()
    });
    cluster.wipe(3);
    cluster.start(3);
    cluster.until("3 is a learner", |cluster| voters(cluster) == nodes(&[1, 2]));
    assert_eq!(
        cluster.produce(batch_of(&["for two disks"])),
        Err(AppendError::NotEnoughReplicas { in_sync: 2, min: 3 })
    );
    let leader = cluster.leader_of(G);
    let ticket = cluster.append(leader, G, Acks::Leader, batch_of(&["for the leader's"]));
    assert!(cluster.appended(ticket).is_ok(), "only acks=all asks for more");
}

#[test]
fn a_batch_that_waits_for_the_disk_that_is_lost_is_not_acknowledged() {
    let mut cluster = filled(Settings {
        min_insync: 3,
        ..settings()
    });
    let slow = cluster.nodes.get_mut(&3).expect("a node");
    (slow.stuck, slow.keeps_up_appearances) = (true, true);
    let leader = cluster.leader_of(G);
    let ticket = cluster.append(leader, G, Acks::All, batch_of(&["on two disks"]));
    cluster.run(20);
    assert!(cluster.answer(ticket).is_none(), "committed, but 3 does not hold it");
    cluster.tell(3, Input::Unreadable(G, corrupt()));
    assert_eq!(
        cluster.appended(ticket),
        Err(AppendError::NotEnoughReplicasAfterAppend { in_sync: 2, min: 3 })
    );
    assert_eq!(voters(&mut cluster), nodes(&[1, 2]));
}
