//! Replicas that are added, exchanged and removed while records come in.

use crate::harness::{Cluster, G, Settings, batch_of, from, nodes};
use trimaran_multiraft::{Acks, AppendError, Input, Ticket};
use trimaran_raft::NodeId;

fn cluster() -> Cluster {
    filled(20, None)
}

fn filled(records: usize, catch_up_bytes_per_second: Option<u64>) -> Cluster {
    let mut cluster = Cluster::new(Settings {
        catch_up_bytes_per_second,
        flush_bytes: 500,
        tail_bytes: 300,
        segment_bytes: 1_500,
        leader_rebalance_after: None,
        spares: vec![4, 5, 6],
        ..Settings::default()
    });
    for n in 0..records {
        cluster.produce(batch_of(&[&format!("{n:0100}")])).expect("accepted");
    }
    cluster.run(100);
    cluster
}

fn is_done(cluster: &mut Cluster, replicas: &[u64]) -> bool {
    let Some(leader) = cluster.leader(G) else { return false };
    let status = cluster.status(leader, G).expect("here");
    status.voters == nodes(replicas) && status.learners.is_empty() && status.outgoing.is_empty()
}

/// Everybody who should have it has the same, and the rest is quiet.
#[track_caller]
fn check_replicas(cluster: &mut Cluster, replicas: &[u64], records: usize) {
    cluster.until("all hold what is committed", |cluster| {
        let leader = cluster.leader_of(G);
        let end = cluster.status(leader, G).expect("here");
        end.in_sync.len() == replicas.len()
            && replicas.iter().all(|&id| {
                let status = cluster.status(id, G).expect("here");
                status.high_watermark == end.high_watermark && !status.repairing
            })
    });
    for &id in replicas {
        let near = trimaran_multiraft::ReadRequest {
            follower_ok: true,
            ..from(0)
        };
        assert_eq!(cluster.values(id, near).len(), records, "{id}");
    }
}

/// Something to produce while it goes on: one record each few milliseconds, to the leader.
struct Load {
    tickets: Vec<Ticket>,
}

impl Load {
    fn run_until(cluster: &mut Cluster, done: impl Fn(&mut Cluster) -> bool) -> Load {
        let mut load = Load { tickets: Vec::new() };
        for _ in 0..2_000 {
            if load.tickets.len() > 100 && done(cluster) {
                return load;
            }
            if let Some(leader) = cluster.leader(G) {
                let batch = batch_of(&[&format!("{:0100}", load.tickets.len())]);
                load.tickets.push(cluster.append(leader, G, Acks::All, batch));
            }
            cluster.run(3);
        }
        panic!("it is not done after six seconds");
    }

    /// How many were acknowledged.
    fn acknowledged(&self, cluster: &mut Cluster) -> usize {
        let outcomes: Vec<_> = self.tickets.iter().map(|&ticket| cluster.appended(ticket)).collect();
        outcomes.iter().filter(|outcome| outcome.is_ok()).count()
    }
}

#[test]
fn replicas_are_reassigned_under_load() {
    let mut cluster = filled(100, None);
    cluster.assign(G, &[2, 3, 4]);
    let load = Load::run_until(&mut cluster, |cluster| is_done(cluster, &[2, 3, 4]));
    let acknowledged = load.acknowledged(&mut cluster);
    assert!(acknowledged > 50, "{acknowledged}");
    // The old leader handed over: nobody waited for an election.
    let leader = cluster.leader_of(G);
    assert_ne!(leader, 1);
    cluster.run(100);
    let held = cluster.values(leader, from(0)).len();
    assert!(held >= 100 + acknowledged, "{held} of {acknowledged}");
    check_replicas(&mut cluster, &[2, 3, 4], held);
    let last = cluster.members.last().expect("it was reported");
    assert_eq!((last.voters.clone(), last.learners.len()), (nodes(&[2, 3, 4]), 0));
    assert_eq!(last.fulfils, Some(cluster.wishes));
    // Its successor says so, not the leader that was let go: that one may not go before it has handed over.
    let term = last.term;
    assert_eq!(Some(term), cluster.status(leader, G).map(|status| status.term));
    let early = |report: &&trimaran_multiraft::Members| report.fulfils == Some(cluster.wishes) && report.term < term;
    assert_eq!(cluster.members.iter().filter(early).count(), 0);
    // The new ones are enough, and the old one is not needed.
    cluster.crash(1);
    cluster.crash(leader);
    cluster.produce(batch_of(&["two of three"])).expect("accepted");
}

#[test]
fn all_replicas_are_exchanged() {
    let mut cluster = cluster();
    cluster.assign(G, &[4, 5, 6]);
    let load = Load::run_until(&mut cluster, |cluster| is_done(cluster, &[4, 5, 6]));
    load.acknowledged(&mut cluster);
    (1..=3).for_each(|id| cluster.crash(id));
    let leader = cluster.leader_of(G);
    let held = cluster.values(leader, from(0)).len();
    check_replicas(&mut cluster, &[4, 5, 6], held);
}

#[test]
fn a_leader_that_removes_itself_hands_over_and_keeps_quiet() {
    let mut cluster = cluster();
    assert_eq!(cluster.leader(G), Some(1));
    cluster.assign(G, &[2, 3]);
    cluster.until("the others are left", |cluster| is_done(cluster, &[2, 3]));
    cluster.until("one of them leads", |cluster| cluster.leader(G) != Some(1));
    let refused = cluster.append(1, G, Acks::All, batch_of(&["x"]));
    assert!(matches!(cluster.appended(refused), Err(AppendError::NotLeader { .. })));
    cluster.run(500);
    let term = cluster.status(2, G).expect("here").term;
    cluster.run(5_000);
    assert_eq!(cluster.status(2, G).expect("here").term, term, "it disturbs nobody");
    check_replicas(&mut cluster, &[2, 3], 20);
}

#[test]
fn a_group_grows_and_shrinks() {
    let mut cluster = cluster();
    for replicas in [&[1, 2, 3, 4, 5][..], &[5, 1, 4], &[5], &[5, 2, 3]] {
        cluster.assign(G, replicas);
        cluster.until("they have it", |cluster| is_done(cluster, replicas));
        cluster.produce(batch_of(&["on"])).expect("accepted");
    }
    check_replicas(&mut cluster, &[5, 2, 3], 24);
}

/// It waits for the one that is away, and goes on when it comes.
#[test]
fn a_new_replica_that_is_away_is_waited_for_and_holds_nobody_up() {
    let mut cluster = cluster();
    cluster.crash(4);
    cluster.assign(G, &[2, 3, 4]);
    for _ in 0..20 {
        cluster.produce(batch_of(&["on"])).expect("accepted");
        cluster.run(50);
    }
    let leader = cluster.leader_of(G);
    let status = cluster.status(leader, G).expect("here");
    assert_eq!((status.voters, status.learners), (nodes(&[1, 2, 3]), nodes(&[4])));
    cluster.start(4);
    cluster.until("it is there", |cluster| is_done(cluster, &[2, 3, 4]));
    check_replicas(&mut cluster, &[2, 3, 4], 40);
}

#[test]
fn a_reassignment_that_is_taken_back_leaves_nothing_behind() {
    let mut cluster = cluster();
    cluster.crash(4);
    cluster.assign(G, &[2, 3, 4]);
    cluster.until("the reassignment has begun", |cluster| {
        cluster.status(1, G).expect("here").learners == nodes(&[4])
    });
    cluster.assign(G, &[1, 2, 3]);
    cluster.until("nobody learns", |cluster| is_done(cluster, &[1, 2, 3]));
}

/// The new ones die before they have acknowledged that they are voters. Without them the exchange can't be completed,
/// and nothing is committed: it is put off until they are back.
#[test]
fn an_exchange_that_can_not_be_completed_is_taken_back() {
    let mut cluster = cluster();
    cluster.assign(G, &[4, 5, 6]);
    cluster.until("it has begun", |cluster| {
        !cluster.status(1, G).expect("here").outgoing.is_empty()
    });
    [4, 5].iter().for_each(|&id| cluster.crash(id));
    cluster.produce(batch_of(&["on"])).expect("accepted");
    cluster.run(2_000);
    assert_eq!(cluster.leader(G), Some(1));
    let status = cluster.status(1, G).expect("here");
    assert_eq!((status.voters, status.learners), (nodes(&[1, 2, 3]), nodes(&[4, 5, 6])));
    cluster.produce(batch_of(&["and on"])).expect("accepted");
    [4, 5].iter().for_each(|&id| cluster.start(id));
    cluster.until("they are back", |cluster| is_done(cluster, &[4, 5, 6]));
    check_replicas(&mut cluster, &[4, 5, 6], 22);
}

/// The majority of the others needs one that is away: nothing is begun, over and over, that can't be completed.
#[test]
fn a_replica_is_not_let_go_while_those_that_remain_are_no_majority() {
    let mut cluster = cluster();
    cluster.crash(2);
    cluster.run(500);
    let before = cluster.status(1, G).expect("here").last_index;
    cluster.assign(G, &[1, 2]);
    cluster.run(3_000);
    let status = cluster.status(1, G).expect("here");
    assert_eq!((status.voters, status.last_index), (nodes(&[1, 2, 3]), before));
    cluster.produce(batch_of(&["on"])).expect("accepted");
    // It dies between the two steps of being let alone with the other.
    for at in 0..20 {
        let mut cluster = self::cluster();
        cluster.assign(G, &[1, 2]);
        cluster.run(at);
        cluster.crash(2);
        cluster.run(3_000);
        let end = cluster.status(1, G).expect("here").last_index;
        assert!(end.0 < before.0 + 8, "at {at}: {end}");
        cluster.start(2);
        cluster.until("it is back", |cluster| is_done(cluster, &[1, 2]));
    }
}

/// The wish is taken back after voters have begun to be exchanged.
#[test]
fn an_exchange_is_taken_back_at_any_moment() {
    for at in 0..40 {
        let mut cluster = cluster();
        cluster.assign(G, &[2, 3, 4]);
        cluster.run(at);
        cluster.assign(G, &[1, 2, 3]);
        cluster.until("it is as before", |cluster| is_done(cluster, &[1, 2, 3]));
        cluster.produce(batch_of(&["on"])).expect("accepted");
        check_replicas(&mut cluster, &[1, 2, 3], 21);
    }
}

/// It was a voter once, and comes back under the same name with nothing.
#[test]
fn a_removed_replica_may_come_back() {
    let mut cluster = cluster();
    cluster.assign(G, &[1, 2, 4]);
    cluster.until("3 is out", |cluster| is_done(cluster, &[1, 2, 4]));
    cluster.wipe(3);
    cluster.start(3);
    cluster.assign(G, &[1, 2, 3]);
    cluster.until("3 is back", |cluster| is_done(cluster, &[1, 2, 3]));
    check_replicas(&mut cluster, &[1, 2, 3], 20);
}

/// A leader that dies in the middle of it leaves the rest to the next one.
#[test]
fn the_next_leader_goes_on_where_the_last_one_stopped() {
    for at in (0..60).step_by(4) {
        let mut cluster = cluster();
        cluster.assign(G, &[2, 3, 4]);
        cluster.run(at);
        cluster.crash(1);
        cluster.until("it is done", |cluster| is_done(cluster, &[2, 3, 4]));
        check_replicas(&mut cluster, &[2, 3, 4], 20);
        let unseen: Vec<NodeId> = cluster
            .members
            .iter()
            .flat_map(|members| members.voters.clone())
            .collect();
        assert!(unseen.contains(&NodeId(4)), "at {at}");
    }
}

#[test]
fn min_insync_replicas_asks_for_the_replicas_that_are_assigned_while_a_group_grows() {
    let mut cluster = Cluster::new(Settings {
        voters: vec![1],
        spares: vec![2, 3],
        min_insync: 2,
        catch_up_bytes_per_second: Some(100),
        flush_bytes: 100,
        tail_bytes: 100,
        ..Settings::default()
    });
    cluster
        .produce(batch_of(&["alone"]))
        .expect("one replica is all that is assigned");
    for n in 0..20 {
        cluster.produce(batch_of(&[&format!("record {n}")])).expect("the same");
    }
    cluster.run(50);
    cluster.assign(G, &[1, 2, 3]);
    cluster.run(1);
    assert_eq!(
        cluster.produce(batch_of(&["on one disk of three"])),
        Err(AppendError::NotEnoughReplicas { in_sync: 1, min: 2 })
    );
    cluster.until("a second replica is filled", |cluster| {
        cluster.status(1, G).is_some_and(|status| status.in_sync.len() >= 2)
    });
    cluster.produce(batch_of(&["on two"])).expect("two are in sync");
}

/// 2 hears nothing of the exchange, and goes on believing in 1, whose replica is closed afterwards; then the leader
/// dies.
#[test]
fn a_leader_whose_replica_is_closed_is_not_believed_in_for_ever() {
    let mut cluster = cluster();
    assert_eq!(cluster.leader(G), Some(1));
    cluster.cut(2, 3);
    cluster.cut(2, 4);
    cluster.assign(G, &[4, 2, 3]);
    cluster.until("it has arrived", |cluster| {
        is_done(cluster, &[4, 2, 3]) && cluster.leader(G) != Some(1)
    });
    let wishes = cluster.wishes;
    cluster.until("that is reported", |cluster| {
        cluster.members.iter().any(|members| members.fulfils == Some(wishes))
    });
    let leader = cluster.leader_of(G);
    assert_ne!(leader, 2);
    cluster.tell(1, Input::Close(G));
    cluster.run(50);
    assert_eq!(
        cluster.status(2, G).expect("open").leader,
        Some(NodeId(1)),
        "it has heard nothing"
    );
    cluster.crash(leader);
    cluster.heal();
    cluster.until("two of three voters go on", |cluster| cluster.leader(G).is_some());
    cluster.produce(batch_of(&["on"])).expect("accepted");
}

/// The replica of a leader is closed while nothing else happens: nobody asks for votes, so nobody would ask it.
#[test]
fn a_leader_that_is_closed_says_so() {
    let mut cluster = cluster();
    let leader = cluster.leader_of(G);
    cluster.tell(leader, Input::Close(G));
    cluster.until("another leads", |cluster| {
        cluster.leader(G).is_some_and(|other| other != leader)
    });
    cluster.produce(batch_of(&["on"])).expect("accepted");
}
