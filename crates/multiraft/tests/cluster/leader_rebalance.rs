//! Leaderships come back to the replicas that are preferred for them: after a while, a few at a time, and not to those
//! who can't or should not have them.

use crate::harness::{Cluster, G, Settings, batch_of, from};
use std::collections::BTreeSet;
use std::time::Duration;
use trimaran_multiraft::{Acks, Input};
use trimaran_raft::{GroupId, NodeId};

/// Of three nodes, with each node preferred for `each` groups.
fn spread(each: u64) -> Cluster {
    let mut cluster = Cluster::empty(Settings::default());
    for group in 0..3 * each {
        let voters = (0..3).map(|place| 1 + (group + place) % 3).collect();
        let settings = Settings {
            voters,
            ..Settings::default()
        };
        cluster.open(GroupId(1 + group), settings);
    }
    cluster.run(200);
    assert_eq!(led(&mut cluster, 3 * each), [each as usize; 3]);
    cluster
}

/// How many of the first `groups` groups each of three nodes leads.
fn led(cluster: &mut Cluster, groups: u64) -> [usize; 3] {
    let leaders: Vec<_> = (1..=groups).map(|group| cluster.leader(GroupId(group))).collect();
    [1, 2, 3].map(|id| leaders.iter().filter(|leader| **leader == Some(id)).count())
}

/// Node 1 is preferred for `groups` groups, was away, and is back.
fn returned(settings: Settings, groups: u64) -> Cluster {
    let mut cluster = Cluster::new(settings.clone());
    for group in 2..=groups {
        cluster.open(GroupId(group), settings.clone());
    }
    cluster.run(200);
    cluster.crash(1);
    cluster.run(200);
    cluster.start(1);
    cluster.run(200);
    assert_eq!(led(&mut cluster, groups), [0, groups as usize, 0]);
    cluster.handed.clear();
    cluster
}

fn visited(cluster: &Cluster) -> u64 {
    let running = cluster.nodes.values().filter_map(|node| node.running.as_ref());
    running.map(|running| running.shard.visited()).sum()
}

#[test]
fn after_a_rolling_restart_every_broker_leads_what_it_led_before() {
    let mut cluster = spread(10);
    for id in 1..=3 {
        cluster.crash(id);
        cluster.run(200);
        cluster.start(id);
        cluster.run(1_000);
    }
    assert_eq!(led(&mut cluster, 30)[2], 0, "the last one to restart leads nothing");
    cluster.run(6_000);
    assert_eq!(led(&mut cluster, 30), [10; 3]);
    cluster.run(500);
    let (visits, elections) = (visited(&cluster), cluster.elections);
    cluster.run(70_000);
    assert_eq!(cluster.elections, elections, "and there it stays");
    assert_eq!(visited(&cluster), visits, "in silence");
}

#[test]
fn nothing_comes_back_if_it_is_not_wanted() {
    let settings = Settings {
        leader_rebalance_after: None,
        ..Settings::default()
    };
    let mut cluster = returned(settings, 3);
    cluster.run(70_000);
    assert_eq!(led(&mut cluster, 3), [0, 3, 0]);
}

#[test]
fn whoever_restarts_meanwhile_waits_anew() {
    let mut cluster = returned(Settings::default(), 3);
    cluster.run(4_000);
    cluster.restart_at_once(1);
    cluster.run(4_000);
    assert_eq!(led(&mut cluster, 3), [0, 3, 0]);
    cluster.run(2_000);
    assert_eq!(led(&mut cluster, 3), [3, 0, 0]);
}

#[test]
fn few_groups_at_a_time_are_given_back() {
    let mut cluster = returned(Settings::default(), 200);
    cluster.run(8_000);
    assert_eq!(led(&mut cluster, 200), [200, 0, 0]);
    let mut told = BTreeSet::new();
    let first_told = cluster.handed.iter().filter(|(_, _, group)| told.insert(*group));
    let times: Vec<_> = first_told.map(|(at, _, _)| *at).collect();
    assert_eq!(times.len(), 200);
    for (at, later) in times.iter().zip(&times[32..]) {
        assert!(later.since(*at) >= Duration::from_millis(100), "{at:?}: too many");
    }
}

#[test]
fn a_busy_group_is_given_back_too_and_loses_nothing() {
    let mut cluster = returned(Settings::default(), 1);
    let mut tickets = Vec::new();
    for n in 0..7_000 {
        if let Some(leader) = (1..=2).find(|&id| cluster.status(id, G).is_some_and(|status| status.serving)) {
            let text = format!("{n}");
            tickets.push((text.clone(), cluster.append(leader, G, Acks::All, batch_of(&[&text]))));
        }
        cluster.run(1);
    }
    assert_eq!(cluster.leader(G), Some(1));
    let accepted: Vec<_> = tickets
        .into_iter()
        .filter_map(|(text, ticket)| cluster.appended(ticket).is_ok().then_some(text))
        .collect();
    assert!(accepted.len() > 6_900, "{}", accepted.len());
    let mut held = BTreeSet::new();
    let mut next = 0;
    loop {
        let values = cluster.values(1, from(next));
        let Some((last, _)) = values.last() else { break };
        next = last + 1;
        held.extend(values.into_iter().map(|(_, value)| value));
    }
    assert!(accepted.iter().all(|value| held.contains(value)));
}

#[test]
fn a_broker_that_leaves_gets_nothing_back_and_is_rarely_asked() {
    let mut cluster = returned(Settings::default(), 200);
    let ticket = cluster.ticket();
    cluster.tell(1, Input::TransferAll(ticket));
    cluster.run(6_000);
    let asked = |cluster: &Cluster| {
        let groups: BTreeSet<_> = cluster.handed.iter().map(|(_, _, group)| *group).collect();
        groups.len()
    };
    let first = asked(&cluster);
    assert!(
        (1..=96).contains(&first),
        "after the first time-outs it is backoff: {first}"
    );
    let (tried, orders) = (cluster.handed[0].2, cluster.handed.clone());
    let times = |cluster: &Cluster| {
        let of_group = cluster.handed.iter().filter(|(_, _, group)| *group == tried);
        of_group.map(|(at, _, _)| *at).collect::<Vec<_>>()
    };
    let before = times(&cluster);
    cluster.run(50_000);
    assert_eq!(times(&cluster), before, "not soon again");
    assert!(cluster.handed.len() > orders.len(), "others are tried");
    assert_eq!(led(&mut cluster, 200), [0, 200, 0]);
    cluster.run(30_000);
    assert!(times(&cluster).len() > before.len(), "but some time");
    assert_eq!(led(&mut cluster, 200), [0, 200, 0]);
    // It leaves, and comes back.
    cluster.crash(1);
    cluster.run(200);
    cluster.start(1);
    cluster.run(70_000);
    assert_eq!(led(&mut cluster, 200), [200, 0, 0]);
}

#[test]
fn a_failover_on_request_is_not_undone_at_once() {
    for failed in [Some(NodeId(1)), None] {
        let mut cluster = Cluster::new(Settings::default());
        cluster.run(50);
        assert_eq!(cluster.leader(G), Some(1));
        (1..=3).for_each(|id| cluster.tell(id, Input::Failover { group: G, failed }));
        cluster.until("another leads", |cluster| {
            cluster.leader(G).is_some_and(|leader| leader != 1)
        });
        cluster.run(29_000);
        assert_ne!(cluster.leader(G), Some(1));
        cluster.run(5_000);
        assert_eq!(cluster.leader(G), Some(1));
    }
}

#[test]
fn while_the_preferred_one_is_away_the_next_one_leads_and_all_is_quiet() {
    let mut cluster = returned(Settings::default(), 300);
    cluster.crash(1);
    cluster.run(200);
    let ticket = cluster.ticket();
    cluster.tell(2, Input::Transfer(ticket, G, Some(NodeId(3))));
    assert_eq!(cluster.transferred(ticket).handed_over, 1);
    cluster.run(7_000);
    assert_eq!(cluster.leader(G), Some(2), "of those that live it is the first");
    cluster.run(500);
    let before = visited(&cluster);
    cluster.run(20_000);
    assert_eq!(visited(&cluster), before);
}
