//! The client commands where brokers are down, cut off or not ready: what they say, and the status that they exit with.

use std::process::Output;
use std::time::{Duration, Instant};
use trimaran_tests::process::{Cluster, ClusterOptions, KafkaClient, run_with_input, wait_until};

/// The documented exit statuses.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const UNREACHABLE: i32 = 3;
const NO_QUORUM: i32 = 4;

/// How long commands that can't succeed may try.
const SHORT: [&str; 2] = ["--timeout-ms", "2000"];

struct Said {
    status: Option<i32>,
    out: String,
    error: String,
}

impl Said {
    #[track_caller]
    fn assert(&self, status: i32, out: &[&str], error: &[&str]) {
        let all = format!("status {:?}\n{}\n{}", self.status, self.out, self.error);
        assert_eq!(self.status, Some(status), "{all}");
        for part in out {
            assert!(self.out.contains(part), "no `{part}` on standard output:\n{all}");
        }
        for part in error {
            assert!(self.error.contains(part), "no `{part}` on standard error:\n{all}");
        }
    }
}

fn run(bootstrap: &str, command: &[&str], more: &[&str]) -> Said {
    let mut arguments = command.to_vec();
    arguments.extend(["--bootstrap", bootstrap]);
    arguments.extend(more);
    let Output { status, stdout, stderr } = run_with_input(&arguments, b"");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the commands write UTF-8");
    Said {
        status: status.code(),
        out: text(stdout),
        error: text(stderr),
    }
}

/// Three brokers, and topics `orders` with three replicas and two partitions.
fn cluster() -> Cluster {
    let cluster = Cluster::start();
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic("orders", 2, 3, &[])
        .expect("a topic can be created");
    for partition in 0..2 {
        wait_until("the partition has a leader", || client.leader("orders", partition));
    }
    cluster
}

#[test]
fn a_dead_broker_is_named_with_its_replicas_and_its_address() {
    let mut cluster = cluster();
    let bootstrap = cluster.bootstrap();
    run(&bootstrap, &["cluster", "status"], &[]).assert(
        DONE,
        &[
            "cluster trimaran-test, as ",
            "1 topic(s), 2 partition(s): 0 without a leader, 0 with replicas out of sync",
        ],
        &[],
    );
    let dead = cluster.broker(3).client;
    cluster.broker(3).kill();
    let said = wait_until("the others have found out, and lead everything", || {
        let said = run(&bootstrap, &["cluster", "status"], &[]);
        (said.status == Some(DONE) && said.out.contains("broker-3  out of contact")).then_some(said)
    });
    let refused = format!("{dead} does not answer: Connection refused");
    said.assert(
        DONE,
        &["has 2 replicas", &refused, "orders/0 is out of sync on broker-3"],
        &[],
    );
}

#[test]
fn without_a_majority_commands_say_what_the_last_broker_knew_and_what_nobody_knows() {
    let mut cluster = cluster();
    let bootstrap = cluster.bootstrap();
    cluster.broker(2).kill();
    cluster.broker(3).kill();
    // Until its lease is over and its followers are missed, the one that is left may take itself for the controller.
    let said = wait_until("the last broker has found out", || {
        let said = run(&bootstrap, &["cluster", "status"], &[]);
        (said.status == Some(NO_QUORUM)).then_some(said)
    });
    let source = format!("as {} knew it last", cluster.broker(1).client);
    let dead = format!("{} does not answer: Connection refused", cluster.broker(3).client);
    let known = [
        &source,
        "1 topic(s), 2 partition(s): ",
        "all of this may be out of date",
        &dead,
    ];
    said.assert(
        NO_QUORUM,
        &known,
        &["a majority of the brokers in `cluster.voters` must run"],
    );
    run(&bootstrap, &["topic", "list"], &[]).assert(
        NO_QUORUM,
        &["orders\n"],
        &["whether there are other topics can't be known"],
    );
    run(&bootstrap, &["topic", "describe", "orders"], &[]).assert(
        NO_QUORUM,
        &["orders: 2 partition(s)"],
        &["since can't be known"],
    );
    run(&bootstrap, &["topic", "describe", "other"], &SHORT).assert(
        NO_QUORUM,
        &[],
        &["whether there is a topic `other` can't be known"],
    );
    run(&bootstrap, &["consume", "orders"], &SHORT).assert(NO_QUORUM, &[], &["who leads "]);
    run(&bootstrap, &["consume", "other"], &SHORT).assert(
        NO_QUORUM,
        &[],
        &["whether there is a topic `other` can't be known"],
    );
    run(&bootstrap, &["produce", "other"], &SHORT).assert(
        NO_QUORUM,
        &[],
        &["whether there is a topic `other` can't be known"],
    );
    for change in ["create", "delete"] {
        let outcome = if change == "create" {
            "creating topic `new`"
        } else {
            "deleting topic `new`"
        };
        let unknown = format!("the outcome of {outcome} can't be known");
        run(&bootstrap, &["topic", change, "new"], &SHORT).assert(NO_QUORUM, &[], &[&unknown]);
    }
    run(&bootstrap, &["cluster", "drain", "3"], &SHORT).assert(NO_QUORUM, &[], &["can't be known"]);
    // One more, with its disk, is a majority again. What was asked for meanwhile may come true then.
    cluster.broker(2).start();
    wait_until("the cluster is whole but for one broker", || {
        let said = run(&bootstrap, &["cluster", "status"], &[]);
        (said.status == Some(DONE)).then_some(())
    });
    run(&bootstrap, &["topic", "describe", "never"], &[]).assert(FAILED, &[], &["there is no topic `never`"]);
}

#[test]
fn a_cluster_that_lost_most_of_its_disks_is_not_an_empty_one() {
    let mut cluster = cluster();
    let bootstrap = cluster.bootstrap();
    cluster.brokers.iter_mut().for_each(|broker| broker.kill());
    for id in [2, 3] {
        let data = cluster.broker(id).data_path();
        std::fs::remove_dir_all(data).expect("a dead broker's folder can be deleted");
    }
    cluster.brokers.iter_mut().for_each(|broker| broker.start());
    let others = ["answers, and knows no controller either"];
    let said = wait_until("all brokers answer", || {
        let said = run(&bootstrap, &["cluster", "status"], &[]);
        (said.out.matches(others[0]).count() == 2).then_some(said)
    });
    said.assert(
        NO_QUORUM,
        &["which brokers, topics and partitions there are can't be known"],
        &["with their data"],
    );
    assert!(!said.out.contains("topic(s)"), "{}", said.out);
    run(&bootstrap, &["consume", "orders"], &SHORT).assert(
        NO_QUORUM,
        &[],
        &["whether there is a topic `orders` can't be known"],
    );
    run(&bootstrap, &["topic", "list"], &[]).assert(NO_QUORUM, &[], &["can't be known"]);
}

#[test]
fn partitions_without_a_leader_are_told_from_a_cluster_without_a_majority() {
    let mut cluster = Cluster::start();
    let bootstrap = cluster.bootstrap();
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic("single", 1, 1, &[])
        .expect("a topic can be created");
    let leader = wait_until("the partition has a leader", || client.leader("single", 0));
    let id = u32::try_from(leader.id).expect("an id from 1 on");
    cluster.broker(id).kill();
    let said = wait_until("the others have found out", || {
        let said = run(&bootstrap, &["cluster", "status"], &[]);
        (said.status == Some(FAILED)).then_some(said)
    });
    let gone = format!("single/0 has no leader: broker-{id} out of contact");
    said.assert(
        FAILED,
        &["1 without a leader", &gone],
        &["partitions are without a leader"],
    );
    // What its only broker holds can't be moved before it is back: waiting for it ends with the time that was given.
    let began = Instant::now();
    let drain = ["cluster", "drain", &id.to_string(), "--wait"];
    run(&bootstrap, &drain, &SHORT).assert(
        UNREACHABLE,
        &["1 partition(s) leave"],
        &["not everything has arrived yet"],
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "it waited for {:?}",
        began.elapsed()
    );
}

#[test]
fn a_broker_that_is_not_ready_is_told_from_one_that_does_not_run() {
    let mut cluster = Cluster::prepare(&ClusterOptions::default());
    let address = cluster.broker(1).client.to_string();
    let list = ["topic", "list"];
    run(&address, &list, &SHORT).assert(UNREACHABLE, &[], &["Connection refused", "Is a broker running there?"]);
    // It finds nobody to found the cluster with.
    cluster.broker(1).start();
    wait_until("the broker answers", || {
        let said = run(&address, &["cluster", "status"], &[]);
        (said.status == Some(NO_QUORUM)).then_some(())
    });
    run(&address, &list, &SHORT).assert(NO_QUORUM, &[], &["no controller is known at"]);
    cluster.broker(1).pause();
    let silent = ["accepts connections and does not answer", "is not ready, or hangs"];
    for command in [&list, &["cluster", "status"]] {
        let said = run(&address, command, &SHORT);
        said.assert(UNREACHABLE, &[], &silent);
        assert!(!said.error.contains("Is a broker running"), "{}", said.error);
    }
}
