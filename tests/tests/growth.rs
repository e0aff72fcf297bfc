//! Clusters that grow by brokers that did not found them, configurations that name other founders, and a link that is
//! cut between two brokers only.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use trimaran_tests::process::{
    Cluster, ClusterOptions, KafkaClient, Load, LoadOptions, announce, get, run_with_input, wait_until,
};
use trimaran_tests::torture::network::{Network, Way};

const TOPIC: &str = "grown";
const PARTITIONS: i32 = 3;

fn load(cluster: &Cluster) -> Load {
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic(TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")])
        .expect("a topic can be created");
    let load = Load::start(
        cluster.clients(),
        LoadOptions {
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS,
            producers: 2,
            pace: Duration::from_millis(2),
        },
    );
    goes_on(&load);
    load
}

fn goes_on(load: &Load) {
    (0..PARTITIONS).for_each(|partition| load.wait_acknowledged(partition, 20));
}

/// One broker's answer about a topic: the brokers that it lists, and of each partition its leader, its replicas and
/// those in sync.
type Told = (BTreeSet<i32>, Vec<(i32, BTreeSet<i32>, BTreeSet<i32>)>);

fn told(asked: SocketAddr, topic: &str) -> Option<Told> {
    let metadata = KafkaClient::new(vec![asked]).metadata(asked, topic).ok()?;
    let found = metadata.topics.first().filter(|found| found.error_code == 0)?;
    let ids = |nodes: &[kafka_protocol::messages::BrokerId]| nodes.iter().map(|id| id.0).collect();
    let mut partitions: Vec<_> = found.partitions.iter().collect();
    partitions.sort_by_key(|partition| partition.partition_index);
    let partitions = partitions.into_iter().map(|partition| {
        (
            partition.leader_id.0,
            ids(&partition.replica_nodes),
            ids(&partition.isr_nodes),
        )
    });
    let brokers = metadata.brokers.iter().map(|broker| broker.node_id.0).collect();
    Some((brokers, partitions.collect()))
}

/// Waits until every broker says that every partition is on these brokers, in sync, and led by this one, if one is
/// named. (A leadership that was lost soon after it was given back is given back again only a minute later.)
#[track_caller]
fn wait_placed(cluster: &Cluster, replicas: [i32; 3], leader: Option<i32>) {
    let replicas = BTreeSet::from(replicas);
    wait_until(
        &format!("every partition is whole on {replicas:?}, led by {leader:?}"),
        || {
            let placed = |asked: SocketAddr| {
                let (_, partitions) = told(asked, TOPIC)?;
                let right = |(led, placed, in_sync): &(i32, BTreeSet<i32>, BTreeSet<i32>)| {
                    leader.is_none_or(|leader| *led == leader) && *placed == replicas && *in_sync == replicas
                };
                (partitions.len() == 3 && partitions.iter().all(right)).then_some(())
            };
            cluster
                .clients()
                .into_iter()
                .all(|asked| placed(asked).is_some())
                .then_some(())
        },
    );
}

/// The command line's own client, which must succeed.
#[track_caller]
fn trimaran(cluster: &Cluster, arguments: &[&str]) {
    let bootstrap = cluster.bootstrap();
    let arguments = [arguments, &["--bootstrap", &bootstrap, "--timeout-ms", "120000"]].concat();
    let output = run_with_input(&arguments, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The value of a broker's metric without labels.
fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let text = get(admin, "/metrics").ok()?.body;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// A fourth broker joins three founders, is given the leadership of everything, is killed, loses its disk, and gives
/// back what it was given.
#[test]
fn a_broker_that_is_no_founder_joins_leads_is_killed_refilled_and_drained() {
    let mut cluster = Cluster::with(&ClusterOptions {
        settings: vec!["cluster.leader_rebalance_ms = 500".to_owned()],
        ..ClusterOptions::default()
    });
    let load = load(&cluster);
    let fourth = cluster.add_newcomer(&["cluster.leader_rebalance_ms = 500".to_owned()]);
    cluster.broker(fourth).start();
    cluster.wait_ready();
    for asked in cluster.clients() {
        wait_until("every broker lists all four", || {
            told(asked, TOPIC).filter(|(brokers, _)| *brokers == BTreeSet::from([1, 2, 3, 4]))
        });
    }
    trimaran(&cluster, &["topic", "reassign", TOPIC, "--replicas", "4,2,3", "--wait"]);
    wait_placed(&cluster, [2, 3, 4], Some(4));
    goes_on(&load);

    // It leads all of them: they fail over, and it comes back.
    cluster.broker(fourth).kill();
    goes_on(&load);
    cluster.broker(fourth).start();
    cluster.wait_ready();
    wait_placed(&cluster, [2, 3, 4], None);

    // A founder is started again, and finds the fourth by what it had registered.
    cluster.broker(1).kill();
    goes_on(&load);
    cluster.broker(1).start();
    cluster.wait_ready();
    wait_placed(&cluster, [2, 3, 4], None);

    // Its disk is replaced.
    let broker = cluster.broker(fourth);
    broker.kill();
    fs::remove_dir_all(broker.data_path()).expect("a data folder can be deleted");
    broker.start();
    cluster.wait_ready();
    let admin = cluster.broker(fourth).admin;
    wait_until("the fourth broker is whole again", || {
        let lost = metric(admin, "trimaran_replicas_lost_total")?;
        let repairing = metric(admin, "trimaran_replicas_repairing")?;
        (lost >= f64::from(PARTITIONS) && repairing == 0.0).then_some(())
    });
    wait_placed(&cluster, [2, 3, 4], None);
    goes_on(&load);

    // It is drained, and stopped.
    trimaran(&cluster, &["cluster", "drain", "4", "--wait"]);
    let (_, partitions) = told(cluster.clients()[0], TOPIC).expect("the topic is there");
    assert!(
        partitions
            .iter()
            .all(|(_, placed, _)| *placed == BTreeSet::from([1, 2, 3]))
    );
    cluster.broker(fourth).terminate();
    assert!(cluster.broker(fourth).wait().success());
    goes_on(&load);
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!(
        "a fourth broker came, led, was killed and wiped, and went: {tally:?}"
    ));
}

/// Five founders, of which an operator makes three, one restart after the other: two majorities that need not meet.
#[test]
fn a_shorter_list_of_voters_is_refused_at_start_and_by_the_others() {
    let mut cluster = Cluster::with(&ClusterOptions {
        brokers: 5,
        ..ClusterOptions::default()
    });
    let config = cluster.broker(3).config_path();
    let right = fs::read_to_string(&config).expect("a configuration file");
    let line = right.lines().find(|line| line.starts_with("cluster.voters"));
    let line = line.expect("a list of voters").to_owned();
    let three: Vec<&str> = line.split(',').take(3).collect();
    let wrong = right.replace(&line, &format!("{}\"", three.join(",")));
    assert_ne!(wrong, right);

    // Its folder knows better.
    cluster.broker(3).terminate();
    assert!(cluster.broker(3).wait().success());
    fs::write(&config, &wrong).expect("a configuration file can be written");
    cluster.broker(3).start();
    assert!(
        !cluster.broker(3).wait().success(),
        "a broker with other founders must not run"
    );
    let log = cluster.broker(3).log();
    for part in [
        "`cluster.voters` names the brokers 1, 2, 3, but the cluster in ",
        "was founded by 1, 2, 3, 4, 5",
        "Name those again",
    ] {
        assert!(log.contains(part), "{part}");
    }

    // Without its folder it does not know; the others do.
    let data = cluster.broker(3).data_path();
    fs::remove_dir_all(&data).expect("a data folder can be deleted");
    cluster.broker(3).start();
    wait_until("broker 3 is told why nobody lets it in", || {
        let log = cluster.broker(3).log();
        let told = "it refused this broker: the peer's `cluster.voters` names 1, 2, 3, 4, 5";
        log.contains(told).then_some(())
    });
    wait_until("the others say why they don't let it in", || {
        let log = cluster.broker(1).log();
        let said = "its `cluster.voters` names 1, 2, 3, this broker's names 1, 2, 3, 4, 5";
        log.contains(said).then_some(())
    });
    assert!(!cluster.broker(3).is_ready());
    cluster.broker(3).kill();

    // The operator corrects the list; its disk was wiped meanwhile, and it is refilled.
    fs::write(&config, &right).expect("a configuration file can be written");
    cluster.broker(3).start();
    cluster.wait_ready();
}

/// For as long as a link is cut between two brokers only, either of them tells clients of all brokers and of all
/// leaders, and hands out producer ids, whichever of them is the controller.
#[test]
fn while_only_one_link_is_cut_either_end_tells_of_all_brokers_and_leaders() {
    let mut network = Network::default();
    let mut cluster = Cluster::prepare_routed(&ClusterOptions::default(), |from, to| {
        network.add(from.id, to.id, to.peer)
    });
    cluster.brokers.iter_mut().for_each(|broker| broker.start());
    cluster.wait_ready();
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic("before", 6, 3, &[])
        .expect("a topic can be created");
    let all = BTreeSet::from([1, 2, 3]);
    for (round, (one, other)) in [(1, 2), (2, 3), (3, 1)].into_iter().enumerate() {
        for way in [Way::Silent, Way::Broken] {
            network.set(one, other, way);
            network.set(other, one, way);
            let ends = [one, other].map(|id| (cluster.broker(id).client, cluster.broker(id).admin));
            for (_, admin) in ends {
                wait_until("the other end is out of contact", || {
                    (metric(admin, "trimaran_brokers_alive")? == 2.0).then_some(())
                });
            }
            let since = Instant::now();
            // What is created now, neither end can have heard of before. Each end is asked alone.
            let during = format!("during-{round}-{way:?}").to_lowercase();
            let created = KafkaClient::new(vec![ends[round % 2].0]).create_topic(&during, 6, 3, &[]);
            created.expect("a topic can be created at one end of the link");
            for (asked, _) in ends {
                for topic in ["before", &during] {
                    wait_until(&format!("{topic} is known at both ends"), || {
                        let (brokers, partitions) = told(asked, topic)?;
                        let led = partitions.len() == 6 && partitions.iter().all(|(leader, ..)| all.contains(leader));
                        (brokers == all && led).then_some(())
                    });
                }
                let id = KafkaClient::new(vec![asked]).producer_id();
                id.expect("a producer id from one end of the link");
            }
            wait_until("both ends tell the same", || {
                let same = |topic: &str| {
                    let told = ends.map(|(asked, _)| told(asked, topic).map(|(_, partitions)| leaders(&partitions)));
                    told[0].is_some() && told[0] == told[1]
                };
                (same("before") && same(&during)).then_some(())
            });
            let took = since.elapsed();
            announce(&format!(
                "{way:?} between {one} and {other}: both ends knew everything after {took:?}"
            ));
            assert!(took < Duration::from_secs(10), "{took:?}");
            network.set(one, other, Way::Open);
            network.set(other, one, Way::Open);
            for (_, admin) in ends {
                wait_until("all are in contact again", || {
                    (metric(admin, "trimaran_brokers_alive")? == 3.0).then_some(())
                });
            }
        }
    }
}

fn leaders(partitions: &[(i32, BTreeSet<i32>, BTreeSet<i32>)]) -> Vec<i32> {
    partitions.iter().map(|(leader, ..)| *leader).collect()
}
