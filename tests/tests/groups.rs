//! Consumer groups of real clients, librdkafka's and kcat's, on three brokers.

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use trimaran_coordinator::partition_for;
use trimaran_tests::process::{
    Cluster, ClusterOptions, DEADLINE, KafkaClient, Load, LoadOptions, announce, kcat, wait_until,
};

const PARTITIONS: i32 = 6;
const GROUP: &str = "crew";

/// Three brokers on which a group's first rebalance waits for nobody.
fn cluster() -> Cluster {
    Cluster::with(&ClusterOptions {
        settings: vec![
            "groups.initial_rebalance_delay_ms = 0".to_owned(),
            "groups.offsets_partitions = 8".to_owned(),
        ],
        ..ClusterOptions::default()
    })
}

fn topic(cluster: &Cluster, name: &str) -> KafkaClient {
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic(name, PARTITIONS, 3, &[])
        .expect("a topic can be created");
    client
}

/// What a member has seen.
#[derive(Default)]
struct Seen {
    /// How often its assignment has changed.
    rebalances: AtomicUsize,
    assignment: Mutex<BTreeSet<i32>>,
    /// Commits that were acknowledged, and those that were not.
    commits: AtomicUsize,
    refused: AtomicUsize,
    /// The longest time from one acknowledged commit to the next.
    longest_gap: Mutex<(Option<Instant>, Duration)>,
}

impl Seen {
    fn assigned(&self) -> BTreeSet<i32> {
        self.assignment.lock().expect("no test panics in here").clone()
    }

    fn note_commit(&self) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let mut gap = self.longest_gap.lock().expect("no test panics in here");
        let now = Instant::now();
        if let Some(last) = gap.0.replace(now) {
            gap.1 = gap.1.max(now - last);
        }
    }
}

struct Watched(Arc<Seen>);

impl ClientContext for Watched {}

impl ConsumerContext for Watched {
    fn post_rebalance(&self, _: &BaseConsumer<Watched>, rebalance: &Rebalance<'_>) {
        let mut assigned = self.0.assignment.lock().expect("no test panics in here");
        match rebalance {
            Rebalance::Assign(list) => *assigned = partitions(list),
            Rebalance::Revoke(_) => assigned.clear(),
            Rebalance::Error(error) => panic!("{error}"),
        }
        self.0.rebalances.fetch_add(1, Ordering::SeqCst);
    }
}

fn partitions(list: &TopicPartitionList) -> BTreeSet<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

fn config(cluster: &Cluster, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap())
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "500");
    config
}

/// A member of a group in a thread of its own: it reads, and commits each record that it has read.
struct Member {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn start(config: &ClientConfig, topic: &str) -> Member {
        let seen = Arc::new(Seen::default());
        let stop = Arc::new(AtomicBool::new(false));
        let consumer: BaseConsumer<Watched> = config
            .create_with_context(Watched(Arc::clone(&seen)))
            .expect("librdkafka takes this configuration");
        consumer.subscribe(&[topic]).expect("a good subscription");
        let (own_seen, own_stop) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !own_stop.load(Ordering::SeqCst) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else {
                    continue;
                };
                // A refusal is no harm: the next commit says more.
                match consumer.commit_message(&message, CommitMode::Sync) {
                    Ok(()) => own_seen.note_commit(),
                    Err(_) => {
                        own_seen.refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        Member {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// Leaves the group, if it is not a static member, and waits until it has.
    fn leave(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a member does not panic");
        }
    }

    fn commits(&self) -> usize {
        self.seen.commits.load(Ordering::SeqCst)
    }

    fn rebalances(&self) -> usize {
        self.seen.rebalances.load(Ordering::SeqCst)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits until the members share all partitions as evenly as they can, each with one member.
fn wait_shared(what: &str, members: &[&Member]) {
    let least = PARTITIONS as usize / members.len();
    wait_until(what, || {
        let assigned: Vec<BTreeSet<i32>> = members.iter().map(|member| member.seen.assigned()).collect();
        let total: usize = assigned.iter().map(BTreeSet::len).sum();
        let all: BTreeSet<i32> = assigned.iter().flatten().copied().collect();
        let even = assigned.iter().all(|assigned| assigned.len() >= least);
        (total == all.len() && all.len() == PARTITIONS as usize && even).then_some(())
    });
}

fn consumer(cluster: &Cluster, group: &str) -> BaseConsumer {
    config(cluster, group)
        .create()
        .expect("librdkafka takes this configuration")
}

/// The offsets that a group has committed of a topic, where it has.
fn committed(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, PARTITIONS - 1);
    let found = consumer.committed_offsets(list, Duration::from_secs(5))?;
    let offsets = found
        .elements()
        .into_iter()
        .filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
    Ok(offsets.collect())
}

#[test]
fn members_share_the_partitions_as_they_come_and_go() {
    let cluster = cluster();
    topic(&cluster, "shared");
    let config = config(&cluster, GROUP);
    let first = Member::start(&config, "shared");
    wait_shared("the first has all", &[&first]);
    let second = Member::start(&config, "shared");
    wait_shared("two share", &[&first, &second]);
    let mut third = Member::start(&config, "shared");
    wait_shared("three share", &[&first, &second, &third]);
    third.leave();
    wait_shared("two share again", &[&first, &second]);
}

#[test]
fn cooperative_members_keep_what_they_have() {
    let cluster = cluster();
    topic(&cluster, "kept");
    let mut config = config(&cluster, GROUP);
    config.set("partition.assignment.strategy", "cooperative-sticky");
    let member = || -> BaseConsumer {
        let consumer: BaseConsumer = config.create().expect("librdkafka takes this configuration");
        consumer.subscribe(&["kept"]).expect("a good subscription");
        consumer
    };
    let assigned = |consumer: &BaseConsumer| {
        let _ = consumer.poll(Duration::from_millis(20));
        partitions(&consumer.assignment().expect("an assignment"))
    };
    let first = member();
    wait_until("the first has all", || {
        (assigned(&first).len() == PARTITIONS as usize).then_some(())
    });
    let second = member();
    let mut least = PARTITIONS as usize;
    wait_until("two share", || {
        let (one, other) = (assigned(&first), assigned(&second));
        least = least.min(one.len());
        assert!(one.is_disjoint(&other), "{one:?} and {other:?}");
        (one.len() == 3 && other.len() == 3).then_some(())
    });
    assert_eq!(least, 3, "the first never gave up what it was to keep");
}

#[test]
fn commits_survive_the_restart_of_every_broker() {
    let mut cluster = cluster();
    topic(&cluster, "remembered");
    let consumer = consumer(&cluster, GROUP);
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset("remembered", partition, Offset::Offset(100 + i64::from(partition)))
            .expect("a good offset");
    }
    list.elements()[3].set_metadata("a note");
    consumer.commit(&list, CommitMode::Sync).expect("offsets are committed");
    let expected: BTreeMap<i32, i64> = (0..PARTITIONS)
        .map(|partition| (partition, 100 + i64::from(partition)))
        .collect();
    for round in 0..2 {
        for id in 1..=3 {
            if round == 0 {
                cluster.broker(id).kill();
            } else {
                cluster.broker(id).terminate();
                cluster.broker(id).wait();
            }
        }
        for id in 1..=3 {
            cluster.broker(id).start();
        }
        cluster.wait_ready();
        let found = wait_until("the offsets are known again", || {
            committed(&consumer, "remembered").ok()
        });
        assert_eq!(found, expected, "round {round}");
    }
    let mut asked = TopicPartitionList::new();
    asked.add_partition("remembered", 3);
    let found = consumer.committed_offsets(asked, DEADLINE).expect("an answer");
    assert_eq!(found.elements()[0].metadata(), "a note");
}

#[test]
fn a_static_member_that_comes_back_disturbs_nobody() {
    let cluster = cluster();
    topic(&cluster, "static");
    let member = |name: &str| {
        let mut config = config(&cluster, GROUP);
        config.set("group.instance.id", name).set("session.timeout.ms", "30000");
        Member::start(&config, "static")
    };
    let (first, mut second) = (member("first"), member("second"));
    wait_shared("two share", &[&first, &second]);
    let (before, rebalances) = (second.seen.assigned(), first.rebalances());
    second.leave();
    let second = member("second");
    wait_until("it has its partitions again", || {
        (second.seen.assigned() == before).then_some(())
    });
    assert_eq!(first.rebalances(), rebalances, "the other one has noticed nothing");
}

#[test]
fn nobody_loses_partitions_when_the_coordinator_is_killed() {
    let mut cluster = cluster();
    let client = topic(&cluster, "worked");
    let load = Load::start(
        cluster.clients(),
        LoadOptions {
            topic: "worked".into(),
            partitions: PARTITIONS,
            producers: 1,
            pace: Duration::from_millis(5),
        },
    );
    let members: Vec<Member> = (0..3)
        .map(|_| Member::start(&config(&cluster, GROUP), "worked"))
        .collect();
    wait_shared("three share", &members.iter().collect::<Vec<_>>());
    let before: Vec<_> = members
        .iter()
        .map(|member| (member.seen.assigned(), member.rebalances()))
        .collect();
    let observer = consumer(&cluster, GROUP);
    let mut highest = BTreeMap::new();
    let mut check_offsets = || {
        // A coordinator that is gone has no answer, and a wrong one never.
        let Ok(found) = committed(&observer, "worked") else {
            return;
        };
        for (partition, offset) in found {
            let before = highest.insert(partition, offset).unwrap_or(0);
            assert!(
                before <= offset,
                "partition {partition} went back from {before} to {offset}"
            );
        }
    };
    let partition = i32::try_from(partition_for(GROUP, 8)).expect("a few partitions");
    for _ in 0..3 {
        let counts: Vec<usize> = members.iter().map(Member::commits).collect();
        wait_until("everybody commits", || {
            check_offsets();
            let all = members
                .iter()
                .zip(&counts)
                .all(|(member, before)| member.commits() > before + 20);
            all.then_some(())
        });
        let coordinator = wait_until("the group has a coordinator", || {
            client.leader("__consumer_offsets", partition)
        });
        let victim = u32::try_from(coordinator.id).expect("a broker's id");
        cluster.broker(victim).kill();
        let counts: Vec<usize> = members.iter().map(Member::commits).collect();
        wait_until("everybody commits again", || {
            check_offsets();
            let all = members
                .iter()
                .zip(&counts)
                .all(|(member, before)| member.commits() > before + 20);
            all.then_some(())
        });
        cluster.broker(victim).start();
        cluster.wait_ready();
    }
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    let after: Vec<_> = members
        .iter()
        .map(|member| (member.seen.assigned(), member.rebalances()))
        .collect();
    assert_eq!(after, before, "assignments, and how often they have changed");
    for (number, member) in members.iter().enumerate() {
        let gap = member.seen.longest_gap.lock().expect("no test panics in here").1;
        let refused = member.seen.refused.load(Ordering::SeqCst);
        announce(&format!(
            "member {number}: {} commits, {refused} refused, at most {} ms between two",
            member.commits(),
            gap.as_millis()
        ));
    }
}

#[test]
fn kcat_consumes_in_a_group_and_goes_on_where_it_was() {
    let cluster = cluster();
    topic(&cluster, "cat");
    let read = || {
        let arguments = ["-G", "cats", "-X", "auto.offset.reset=earliest", "-e", "-q", "cat"];
        let output = String::from_utf8_lossy(&kcat(&cluster.bootstrap(), &arguments, "").stdout).into_owned();
        let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    kcat(&cluster.bootstrap(), &["-P", "-t", "cat", "-p", "0"], "one\ntwo\n");
    kcat(&cluster.bootstrap(), &["-P", "-t", "cat", "-p", "5"], "three\n");
    assert_eq!(read(), ["one", "three", "two"]);
    kcat(&cluster.bootstrap(), &["-P", "-t", "cat", "-p", "0"], "four\n");
    assert_eq!(read(), ["four"], "it goes on behind what it has committed");
}
