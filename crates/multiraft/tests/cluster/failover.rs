//! Leaders that die, pause, are cut off, leave, or are told to go.

use crate::harness::{BUDGET, Cluster, G, Settings, batch_of, from};
use std::collections::BTreeMap;
use trimaran_multiraft::{Acks, AppendError, Input, IntervalPlan};
use trimaran_raft::{GroupId, NodeId, Term, TransferError};

/// The law of the whole crate: at most one leader serves a term.
fn check_one_leader_a_term(cluster: &Cluster) {
    let mut leaders: BTreeMap<(GroupId, Term), u64> = BTreeMap::new();
    for (id, change) in cluster.leaders.iter().filter(|(_, change)| change.serving) {
        let known = leaders.entry((change.group, change.term)).or_insert(*id);
        assert_eq!(known, id, "two leaders in {:?}", change.term);
    }
}

/// The intervals that the harness derives from its budget.
fn plan() -> IntervalPlan {
    IntervalPlan::new(BUDGET).expect("in range")
}

fn others(id: u64) -> Vec<u64> {
    (1..=3).filter(|&other| other != id).collect()
}

#[test]
fn a_killed_leader_is_replaced_within_the_budget_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::new(Settings::default());
    let mut count = 0;
    for _ in 0..20 {
        for _ in 0..3 {
            let text = format!("{count}");
            let appended = cluster.produce(batch_of(&[&text])).expect("accepted");
            assert_eq!(appended.base_offset.0, count);
            count += 1;
        }
        let leader = cluster.leader_of(G);
        cluster.crash(leader);
        let began = cluster.now;
        cluster.until("another leads", |cluster| cluster.leader(G).is_some());
        // A refused connection is evidence at once: neither silence nor the wait after it takes its share.
        let plan = plan();
        let bound = plan.planned() - plan.suspicion_timeout - plan.suspicion_delay;
        let took = cluster.now.since(began);
        assert!(took <= bound, "{took:?} instead of {bound:?}");
        cluster.start(leader);
        cluster.run(60);
    }
    let leader = cluster.leader_of(G);
    let expected: Vec<_> = (0..count).map(|n| (n, format!("{n}"))).collect();
    assert_eq!(cluster.values(leader, from(0)), expected);
    cluster.run(500);
    for id in 1..=3 {
        let near = trimaran_multiraft::ReadRequest {
            follower_ok: true,
            ..from(0)
        };
        assert_eq!(cluster.values(id, near), expected, "{id}");
    }
    check_one_leader_a_term(&cluster);
}

#[test]
fn a_paused_leader_is_replaced_within_the_budget_and_steps_down_when_it_wakes() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.produce(batch_of(&["a"])).expect("accepted");
    cluster.run(100);
    let old = cluster.leader_of(G);
    cluster.nodes.get_mut(&old).expect("a node").paused = true;
    let began = cluster.now;
    cluster.until("another leads", |cluster| {
        cluster.leader(G).is_some_and(|leader| leader != old)
    });
    let took = cluster.now.since(began);
    assert!(took <= plan().planned(), "{took:?} instead of {:?}", plan().planned());
    cluster.produce(batch_of(&["b"])).expect("accepted");
    cluster.run(1_000);
    cluster.nodes.get_mut(&old).expect("a node").paused = false;
    let late = cluster.append(old, G, Acks::All, batch_of(&["late"]));
    assert!(cluster.appended(late).is_err(), "others have moved on");
    cluster.run(200);
    let status = cluster.status(old, G).expect("here");
    assert_eq!(status.leader, cluster.leader(G).map(NodeId));
    assert_eq!(status.high_watermark.0.0, 2);
    let elections = cluster.elections;
    cluster.run(2_000);
    assert_eq!(cluster.elections, elections, "and all is quiet");
    check_one_leader_a_term(&cluster);
}

#[test]
fn a_leader_whose_disk_hangs_is_replaced() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.produce(batch_of(&["a"])).expect("accepted");
    cluster.run(100);
    let old = cluster.leader_of(G);
    cluster.nodes.get_mut(&old).expect("a node").stuck = true;
    cluster.until("another leads", |cluster| {
        cluster.leader(G).is_some_and(|leader| leader != old)
    });
    cluster.nodes.get_mut(&old).expect("a node").stuck = false;
    cluster.produce(batch_of(&["b"])).expect("accepted");
    check_one_leader_a_term(&cluster);
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_it_recovers_when_one_returns() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.produce(batch_of(&["a"])).expect("accepted");
    cluster.run(50);
    let leader = cluster.leader_of(G);
    let followers = others(leader);
    followers.iter().for_each(|&id| cluster.crash(id));
    let ticket = cluster.append(leader, G, Acks::All, batch_of(&["b"]));
    assert_eq!(
        cluster.appended(ticket),
        Err(AppendError::Lost),
        "what was not committed when the leader resigned may survive or not"
    );
    cluster.until("nobody leads", |cluster| cluster.leader(G).is_none());
    let late = cluster.append(leader, G, Acks::All, batch_of(&["refused"]));
    assert_eq!(cluster.appended(late), Err(AppendError::NotLeader { leader: None }));
    cluster.start(followers[0]);
    cluster.produce(batch_of(&["c"])).expect("two are enough");
    check_one_leader_a_term(&cluster);
}

#[test]
fn all_killed_at_once_keep_what_was_acknowledged() {
    let mut cluster = Cluster::new(Settings {
        flush_bytes: 300,
        ..Settings::default()
    });
    for n in 0..50 {
        cluster.produce(batch_of(&[&format!("{n}")])).expect("accepted");
    }
    let leader = cluster.leader_of(G);
    (0..20).for_each(|_| {
        cluster.append(leader, G, Acks::All, batch_of(&["x"]));
    });
    cluster.run(2);
    (1..=3).for_each(|id| cluster.crash(id));
    (1..=3).for_each(|id| cluster.start(id));
    let leader = cluster.leader_of(G);
    let values = cluster.values(leader, from(0));
    let expected: Vec<_> = (0..50).map(|n| (n, format!("{n}"))).collect();
    assert_eq!(values[..50], expected[..]);
}

#[test]
fn a_restarted_replica_knows_at_least_what_it_flushed() {
    let mut cluster = Cluster::new(Settings {
        flush_bytes: 100,
        ..Settings::default()
    });
    for n in 0..10 {
        cluster.produce(batch_of(&[&format!("{n}")])).expect("accepted");
    }
    cluster.run(50);
    (1..=3).for_each(|id| cluster.crash(id));
    cluster.start(2);
    cluster.run(5);
    let status = cluster.status(2, G).expect("here");
    assert!(!status.serving && status.high_watermark.0.0 >= 8, "{status:?}");
    let near = trimaran_multiraft::ReadRequest {
        follower_ok: true,
        ..from(0)
    };
    assert!(cluster.values(2, near).len() >= 8);
}

#[test]
fn leadership_is_handed_over_on_request() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    let leader = cluster.leader_of(G);
    let target = others(leader)[1];
    let ticket = cluster.ticket();
    cluster.tell(leader, Input::Transfer(ticket, G, Some(NodeId(target))));
    assert_eq!(cluster.transferred(ticket).handed_over, 1);
    assert_eq!(cluster.leader_of(G), target);
    // The wrong one is asked, and no such group.
    for (group, id) in [(G, leader), (GroupId(9), target)] {
        let ticket = cluster.ticket();
        cluster.tell(id, Input::Transfer(ticket, group, None));
        assert_eq!(cluster.transferred(ticket).kept, [(group, TransferError::NotLeader)]);
    }
    check_one_leader_a_term(&cluster);
}

#[test]
fn a_broker_that_leaves_hands_everything_over() {
    let mut cluster = Cluster::new(Settings::default());
    for group in 2..=30 {
        cluster.open(GroupId(group), Settings::default());
    }
    cluster.run(200);
    assert_eq!(
        (1..=30)
            .filter(|&group| cluster.leader(GroupId(group)) == Some(1))
            .count(),
        30
    );
    let ticket = cluster.ticket();
    cluster.tell(1, Input::TransferAll(ticket));
    let outcome = cluster.transferred(ticket);
    assert_eq!((outcome.handed_over, outcome.kept), (30, vec![]));
    cluster.run(50);
    assert!((1..=30).all(|group| cluster.leader(GroupId(group)).is_some_and(|leader| leader != 1)));
    // It takes none back, though another one leaves too.
    let ticket = cluster.ticket();
    cluster.tell(2, Input::TransferAll(ticket));
    cluster.transferred(ticket);
    assert!((1..=30).all(|group| cluster.leader(GroupId(group)) != Some(1)));
    check_one_leader_a_term(&cluster);
}

#[test]
fn leaving_ends_when_nobody_can_take_over() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    cluster.crash(2);
    cluster.crash(3);
    let ticket = cluster.ticket();
    cluster.tell(1, Input::TransferAll(ticket));
    let outcome = cluster.transferred(ticket);
    assert_eq!(outcome.handed_over, 0);
    // Either it found no target in time, or it had stepped down for want of a quorum.
    assert!(
        outcome.kept.is_empty() || outcome.kept == [(G, TransferError::NoTarget)],
        "{:?}",
        outcome.kept
    );
    let ticket = cluster.ticket();
    cluster.tell(1, Input::TransferAll(ticket));
    cluster.transferred(ticket);
}

#[test]
fn a_failover_on_request_replaces_the_named_leader_once() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    let old = cluster.leader_of(G);
    for _ in 0..2 {
        for id in 1..=3 {
            cluster.tell(
                id,
                Input::Failover {
                    group: G,
                    failed: Some(NodeId(old)),
                },
            );
        }
        cluster.until("another leads", |cluster| {
            cluster.leader(G).is_some_and(|leader| leader != old)
        });
        cluster.run(100);
    }
    assert_eq!(cluster.elections, 2, "the first leader's and one more");
    check_one_leader_a_term(&cluster);
}

#[test]
fn a_lonely_follower_disturbs_nobody() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    let leader = cluster.leader_of(G);
    let term = cluster.status(leader, G).expect("here").term;
    cluster.isolate(others(leader)[0]);
    cluster.run(2_000);
    cluster.heal();
    cluster.run(500);
    assert_eq!(cluster.leader(G), Some(leader));
    assert_eq!(cluster.status(leader, G).expect("here").term, term);
}
