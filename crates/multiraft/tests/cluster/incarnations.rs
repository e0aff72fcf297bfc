//! Groups that are opened late, or again.

use crate::harness::{Cluster, G, Settings, batch_of};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trimaran_multiraft::{Completion, Input, IntervalPlan, Open, Outbox, Shard, ShardConfig, Ticket};
use trimaran_raft::{GroupId, HardState, Instant, NodeId};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::ReplicaLog;

/// A new group with this node as its only voter.
fn alone() -> Input {
    new_group(vec![NodeId(1)])
}

pub(crate) fn new_group(voters: Vec<NodeId>) -> Input {
    let settings = Settings::default();
    let (fs, dir) = (Arc::new(FaultyFs::new(1)), Path::new("/group-1"));
    let log = ReplicaLog::open(fs, dir, G, settings.log_options(), RecoveredGroup::default()).expect("empty");
    let open = Open::new(voters, log, HardState::default(), settings.options()).expect("empty");
    Input::Open(Box::new(open))
}

fn is_serving(shard: &mut Shard, now: Instant) -> bool {
    let mut out = Outbox::default();
    shard.step(now, &mut vec![Input::Status(Ticket(1), G)], &mut out);
    match &out.completions[..] {
        [(_, Completion::Status(Some(status)))] => status.serving,
        _ => panic!("the group is here"),
    }
}

/// Each opening counts its own writes: the first one's writes must not vouch for the second one's.
#[test]
fn writes_of_an_earlier_opening_say_nothing_about_the_next_one() {
    let plan = IntervalPlan::new(Duration::from_millis(250)).expect("in range");
    let now = Instant(1_000_000);
    let mut shard = Shard::new(ShardConfig::new(NodeId(1), plan.tuning(1)), now);
    let mut out = Outbox::default();
    shard.step(now, &mut vec![alone()], &mut out);
    let first = out.sequence;
    assert!(!out.journal.is_empty(), "its vote for itself");
    let mut out = Outbox::default();
    shard.step(now, &mut vec![Input::Close(G), alone()], &mut out);
    let second = out.sequence;
    let mut out = Outbox::default();
    shard.step(now, &mut vec![Input::Persisted(first)], &mut out);
    assert!(out.journal.is_empty(), "nothing follows from it");
    assert!(!is_serving(&mut shard, now));
    let mut out = Outbox::default();
    shard.step(now, &mut vec![Input::Persisted(second)], &mut out);
    assert!(!out.journal.is_empty(), "it leads, and writes its first entry");
    shard.step(now, &mut vec![Input::Persisted(out.sequence)], &mut Outbox::default());
    assert!(is_serving(&mut shard, now));
}

/// What is known of the brokers is news to a group that is opened later.
#[test]
fn a_group_that_is_opened_later_knows_who_is_gone() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.run(50);
    cluster.crash(1);
    cluster.run(500);
    let late = GroupId(2);
    cluster.open(late, Settings::default());
    let began = cluster.now;
    cluster.until("the second one leads", |cluster| cluster.leader(late) == Some(2));
    // One election timeout and no rank: the preferred one is not waited for.
    assert!(cluster.now.since(began).as_millis() <= 110);
    cluster.run(20);
    let view = cluster
        .in_sync
        .iter()
        .rfind(|view| view.group == late)
        .expect("reported");
    assert_eq!(view.replicas, [NodeId(2), NodeId(3)]);
    cluster.produce(batch_of(&["a"])).expect("accepted");
    let quiet = cluster.elections;
    cluster.run(2_000);
    assert_eq!(cluster.elections, quiet, "and all is quiet");
}
