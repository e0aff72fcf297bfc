//! Brokers that are killed and stopped under load: what was acknowledged stays, once, at one offset.
//!
//! The gaps that are printed are the load client's own: it looks every 10 ms whether another broker tells of a new
//! leader and tries again after 2 ms, so that they show the brokers' failover and not a client's back-off.

use std::time::{Duration, Instant};
use trimaran_tests::process::{Cluster, KafkaClient, Load, LoadOptions, Outage, announce, get, wait_until};

const ROUNDS: usize = 20;
const TOPIC: &str = "load";

fn load(cluster: &Cluster, partitions: i32) -> Load {
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic(TOPIC, partitions, 3, &[("min.insync.replicas", "2")])
        .expect("a topic can be created");
    let load = Load::start(
        cluster.clients(),
        LoadOptions {
            topic: TOPIC.to_owned(),
            partitions,
            producers: 2,
            pace: Duration::from_millis(2),
        },
    );
    for partition in 0..partitions {
        load.wait_acknowledged(partition, 20);
    }
    load
}

fn leader(cluster: &Cluster, partition: i32) -> u32 {
    let client = KafkaClient::new(cluster.clients());
    wait_until("a partition has a leader", || {
        client
            .leader(TOPIC, partition)
            .and_then(|leader| u32::try_from(leader.id).ok())
    })
}

fn report(what: &str, mut outages: Vec<Outage>) {
    outages.sort_by_key(|outage| outage.gap);
    let median = outages[outages.len() / 2].gap;
    let max = outages[outages.len() - 1].gap;
    announce(&format!(
        "{what}: {} times, from the last acknowledgement before to the first after: median {median:?}, max {max:?} \
         (the load client looks every 10 ms and retries after 2 ms)",
        outages.len()
    ));
}

/// Hurts the leader of partition 0 again and again, each time once the load runs and the cluster is whole.
fn hurt_leaders(what: &str, hurt: impl Fn(&mut Cluster, u32), mend: impl Fn(&mut Cluster, u32)) {
    let mut cluster = Cluster::start();
    let load = load(&cluster, 2);
    let mut outages = Vec::new();
    for round in 0..ROUNDS {
        let victim = leader(&cluster, 0);
        let since = Instant::now();
        hurt(&mut cluster, victim);
        load.wait_acknowledged(0, 10);
        load.wait_acknowledged(1, 10);
        let outage = load.longest_gap(0, since).expect("batches were acknowledged");
        println!(
            "{what} {round}: broker {victim}, {:?} without acknowledgement",
            outage.gap
        );
        outages.push(outage);
        mend(&mut cluster, victim);
        cluster.wait_ready();
        wait_until("all three replicas are in sync again", || {
            in_sync(&cluster, 3).then_some(())
        });
    }
    report(what, outages);
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("{what}: {tally:?}"));
    assert!(tally.acknowledged > ROUNDS * 20);
}

/// Whether every partition of the topic has so many replicas in sync.
fn in_sync(cluster: &Cluster, count: usize) -> bool {
    let client = KafkaClient::new(cluster.clients());
    cluster.clients().iter().all(|broker| {
        client.metadata(*broker, TOPIC).is_ok_and(|metadata| {
            metadata
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .all(|partition| partition.isr_nodes.len() >= count)
        })
    })
}

#[test]
fn leaders_that_are_killed_twenty_times() {
    hurt_leaders(
        "kill -9",
        |cluster, victim| cluster.broker(victim).kill(),
        |cluster, victim| cluster.broker(victim).start(),
    );
}

#[test]
fn leaders_that_are_stopped_twenty_times() {
    hurt_leaders(
        "SIGSTOP",
        |cluster, victim| cluster.broker(victim).pause(),
        |cluster, victim| cluster.broker(victim).resume(),
    );
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::start();
    let load = load(&cluster, 1);
    cluster.broker(2).kill();
    cluster.broker(3).kill();
    // What was under way when they died may still be answered; then nothing comes any more, and there is an error.
    wait_until("the load is told an error", || {
        (!load.last_error().is_empty()).then_some(())
    });
    let client = KafkaClient::new(cluster.clients());
    let survivor = cluster.clients()[0];
    wait_until("the survivor says that nobody leads", || {
        let metadata = client.metadata(survivor, TOPIC).ok()?;
        let mut partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.all(|partition| partition.leader_id.0 == -1).then_some(())
    });
    wait_until("the metrics say so too", || {
        let metrics = get(cluster.broker(1).admin, "/metrics").ok()?;
        let lines = [
            "trimaran_partitions_offline 1\n",
            "trimaran_partitions_without_quorum 1\n",
        ];
        lines.iter().all(|line| metrics.body.contains(line)).then_some(())
    });
    let (before, errors) = (load.acknowledged(0), load.errors());
    wait_until("the load is refused again and again", || {
        (load.errors() >= errors + 5).then_some(())
    });
    assert_eq!(load.acknowledged(0), before, "acknowledged by one of three");
    println!("two of three killed: the client is told {:?}", load.last_error());
    cluster.broker(2).start();
    load.wait_acknowledged(0, 20);
    cluster.broker(3).start();
    cluster.wait_ready();
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("two of three killed: {tally:?}"));
}

#[test]
fn all_three_killed_at_once() {
    let mut cluster = Cluster::start();
    let load = load(&cluster, 3);
    for round in 0..3 {
        cluster
            .brokers
            .iter()
            .for_each(trimaran_tests::process::BrokerProcess::kill_now);
        cluster
            .brokers
            .iter_mut()
            .for_each(trimaran_tests::process::BrokerProcess::kill);
        cluster
            .brokers
            .iter_mut()
            .for_each(trimaran_tests::process::BrokerProcess::start);
        cluster.wait_ready();
        for partition in 0..3 {
            load.wait_acknowledged(partition, 20);
        }
        println!("all three killed at once: round {round} is over");
    }
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("all three killed at once: {tally:?}"));
}

#[test]
fn a_broker_that_leaves_well_hands_its_leaderships_over() {
    let mut cluster = Cluster::start();
    let load = load(&cluster, 3);
    let mut outages = Vec::new();
    for victim in 1..=3 {
        let led: Vec<i32> = (0..3)
            .filter(|partition| leader(&cluster, *partition) == victim)
            .collect();
        let since = Instant::now();
        cluster.broker(victim).terminate();
        let status = cluster.broker(victim).wait();
        assert!(status.success(), "broker {victim} ended with {status}");
        for partition in 0..3 {
            assert_ne!(
                leader(&cluster, partition),
                victim,
                "partition {partition} is led by a broker that left"
            );
            load.wait_acknowledged(partition, 10);
        }
        outages.extend(led.iter().filter_map(|partition| load.longest_gap(*partition, since)));
        cluster.broker(victim).start();
        cluster.wait_ready();
        wait_until("all three replicas are in sync again", || {
            in_sync(&cluster, 3).then_some(())
        });
    }
    if !outages.is_empty() {
        report("SIGTERM", outages);
    }
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("SIGTERM: {tally:?}"));
}
