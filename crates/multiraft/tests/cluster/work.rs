//! What a step costs: idle groups are not visited, and a broker's death is one envelope a peer.

use crate::harness::{Cluster, G, Settings, batch_of, nodes};
use crate::incarnations::new_group;
use std::time::Duration;
use trimaran_multiraft::{Input, IntervalPlan, Outbox, Shard, ShardConfig};
use trimaran_raft::{Body, Entry, GroupId, Instant, LogIndex, Message, NodeId, Payload, Term};

fn visited(cluster: &Cluster) -> u64 {
    cluster
        .nodes
        .values()
        .filter_map(|node| node.running.as_ref())
        .map(|running| running.shard.visited())
        .sum()
}

#[test]
fn idle_groups_are_not_visited() {
    let mut cluster = Cluster::new(Settings::default());
    for group in 2..=500 {
        cluster.open(GroupId(group), Settings::default());
    }
    cluster.run(1_000);
    let before = visited(&cluster);
    cluster.run(20_000);
    assert_eq!(visited(&cluster), before, "twenty seconds of nothing");
    for node in cluster.nodes.values() {
        let running = node.running.as_ref().expect("it runs");
        assert_eq!(running.shard.deadline(), None, "nothing to wait for");
        assert_eq!(running.shard.groups(), 500);
    }
    // One batch for one group visits that group alone, a handful of times.
    cluster.produce(batch_of(&["a"])).expect("accepted");
    cluster.run(1_000);
    let visits = visited(&cluster) - before;
    assert!(visits < 30, "{visits}");
}

#[test]
fn a_dead_broker_s_groups_are_elected_together() {
    let mut cluster = Cluster::new(Settings::default());
    for group in 2..=300 {
        cluster.open(GroupId(group), Settings::default());
    }
    cluster.run(1_000);
    cluster.elections = 0;
    cluster.crash(1);
    cluster.run(40);
    assert!((1..=300).all(|group| cluster.leader(GroupId(group)).is_some()));
    assert_eq!(cluster.elections, 300, "one candidate each");
    assert_eq!(cluster.leader(G), Some(2));
}

#[test]
fn only_groups_of_a_node_hear_of_its_fate() {
    let mut cluster = Cluster::new(Settings {
        voters: vec![1, 2, 3, 4],
        ..Settings::default()
    });
    for group in 2..=100 {
        cluster.open(
            GroupId(group),
            Settings {
                voters: vec![1, 2, 3],
                ..Settings::default()
            },
        );
    }
    cluster.run(1_000);
    let gone = cluster.nodes[&4]
        .running
        .as_ref()
        .map_or(0, |running| running.shard.visited());
    let before = visited(&cluster) - gone;
    cluster.crash(4);
    cluster.run(3);
    let visits = visited(&cluster) - before;
    assert!(visits <= 10, "{visits}");
}

#[test]
fn ten_thousand_idle_groups_cost_nothing() {
    let alone = Settings {
        voters: vec![1],
        ..Settings::default()
    };
    let mut cluster = Cluster::empty(alone.clone());
    for group in 1..=10_000 {
        cluster.open(GroupId(group), alone.clone());
    }
    // Timers that an election left behind fire once for nothing.
    cluster.run(200);
    assert_eq!(cluster.leader(GroupId(10_000)), Some(1));
    let before = visited(&cluster);
    cluster.run(1_000);
    cluster.produce(batch_of(&["a"])).expect("accepted");
    let visits = visited(&cluster) - before;
    assert!(visits < 10, "{visits}");
}

/// An append of term 1 with blank entries behind `prev`, as far as `last`.
fn append(prev: u64, last: u64) -> (GroupId, Message) {
    let term = Term(1);
    let entry = |index| Entry {
        index: LogIndex(index),
        term,
        payload: Payload::Blank,
    };
    let body = Body::Append {
        prev_index: LogIndex(prev),
        prev_term: Term(prev.min(1)),
        commit: LogIndex::ZERO,
        replicated_index: LogIndex::ZERO,
        entries: (prev + 1..=last).map(entry).collect(),
    };
    (G, Message { term, body })
}

#[test]
fn whatever_one_pass_brings_a_follower_is_answered_once() {
    let plan = IntervalPlan::new(Duration::from_millis(250)).expect("in range");
    let now = Instant(1_000_000);
    let mut shard = Shard::new(ShardConfig::new(NodeId(1), plan.tuning(1)), now);
    let mut step = |inputs: Vec<Input>| {
        let (mut inputs, mut out) = (inputs, Outbox::default());
        shard.step(now, &mut inputs, &mut out);
        out
    };
    let sent = |appends: Vec<(GroupId, Message)>| Input::Messages(NodeId(2), appends);
    step(vec![new_group(nodes(&[2, 1, 3])), sent(vec![append(0, 1)])]);
    let written = step(vec![sent(vec![append(1, 2), append(2, 4)])]).sequence;
    // Its disk answers, and the leader repeats itself.
    let out = step(vec![
        sent(vec![append(0, 1), append(1, 2)]),
        Input::Persisted(written),
        sent(vec![append(2, 4), append(4, 4)]),
    ]);
    let accepted = Body::AppendAccepted {
        match_index: LogIndex(4),
        commit: LogIndex::ZERO,
        life: trimaran_raft::Life::default(),
    };
    let answer = Message {
        term: Term(1),
        body: accepted,
    };
    assert_eq!(out.messages, vec![(NodeId(2), vec![(G, answer)])]);
}
