//! What hangs beside a broker, or inside it: the reader of its log, one of its threads; and what only looks like a
//! reason to stop.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use trimaran_tests::process::{
    Cluster, ClusterOptions, HungThread, KafkaClient, Load, LoadOptions, announce, binary, get, wait_until,
};

const TOPIC: &str = "stalled";

fn load(cluster: &Cluster, partitions: i32) -> Load {
    KafkaClient::new(cluster.clients())
        .create_topic(TOPIC, partitions, 3, &[("min.insync.replicas", "2")])
        .expect("a topic can be created");
    let load = Load::start(
        cluster.clients(),
        LoadOptions {
            topic: TOPIC.to_owned(),
            partitions,
            producers: 1,
            pace: Duration::from_millis(2),
        },
    );
    goes_on(&load, partitions);
    load
}

#[track_caller]
fn goes_on(load: &Load, partitions: i32) {
    for partition in 0..partitions {
        load.wait_acknowledged(partition, 20);
    }
}

fn leader(cluster: &Cluster, partition: i32) -> Option<u32> {
    let leader = KafkaClient::new(cluster.clients()).leader(TOPIC, partition)?;
    u32::try_from(leader.id).ok()
}

/// The value of a metric without labels, or with these.
fn metric(cluster: &mut Cluster, broker: u32, name: &str) -> Option<f64> {
    let reply = get(cluster.broker(broker).admin, "/metrics").ok()?;
    let line = reply.body.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// Standard error is a pipe that nobody reads, and the broker has a lot to say: it serves clients, health and SIGTERM
/// all the same, and says afterwards what it left out.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut cluster = Cluster::with(&ClusterOptions {
        settings: vec!["broker.log = \"debug\"".to_owned()],
        piped_logs: true,
        ..ClusterOptions::default()
    });
    let load = load(&cluster, 2);
    cluster.brokers.iter().for_each(|broker| broker.stall_log());
    // Each connection is worth a line.
    let client = cluster.brokers[0].client;
    let dropped = "trimaran_log_lines_dropped_total";
    let deadline = Instant::now() + Duration::from_secs(60);
    while metric(&mut cluster, 1, dropped).is_none_or(|lines| lines == 0.0) {
        assert!(Instant::now() < deadline, "no line is dropped");
        for _ in 0..200 {
            drop(TcpStream::connect(client).expect("the broker takes connections"));
        }
    }
    goes_on(&load, 2);
    for broker in &cluster.brokers {
        assert!(broker.is_ready(), "broker {} is not ready", broker.id);
    }
    let lines = metric(&mut cluster, 1, dropped);
    cluster.broker(1).resume_log();
    wait_until("the log says what was left out", || {
        cluster.broker(1).log().contains("log lines were dropped").then_some(())
    });
    announce(&format!("a stalled log: {lines:?} lines dropped"));
    cluster.broker(2).terminate();
    assert!(cluster.broker(2).wait().success(), "broker 2 did not leave well");
    goes_on(&load, 2);
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

/// What ends a broker is said even if lines wait before it; but a reader that stalls does not keep the process.
#[test]
fn a_fatal_error_is_said_and_does_not_wait_for_its_reader() {
    let mut cluster = Cluster::with(&ClusterOptions {
        brokers: 1,
        piped_logs: true,
        ..ClusterOptions::default()
    });
    let taken = cluster.brokers[0].client;
    cluster.broker(1).terminate();
    assert!(cluster.broker(1).wait().success());
    let _taken = std::net::TcpListener::bind(taken).expect("the port is free");
    cluster.broker(1).start();
    assert!(!cluster.broker(1).wait().success(), "its port is taken");
    wait_until("the log says why", || {
        cluster.broker(1).log().contains("can't bind to").then_some(())
    });
    cluster.broker(1).start();
    cluster.broker(1).stall_log();
    assert!(!cluster.broker(1).wait().success(), "its port is taken");
}

/// Stops a thread; none if the system does not permit it, which is said.
fn hang(cluster: &mut Cluster, broker: u32, thread: &str) -> Option<HungThread> {
    let pid = cluster.broker(broker).pid().expect("it runs");
    match HungThread::stop(pid, thread) {
        Ok(hung) => Some(hung),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            announce(&format!(
                "skipped: this system does not permit to stop a single thread ({error})"
            ));
            None
        }
        Err(error) => panic!("thread {thread} of broker {broker}: {error}"),
    }
}

/// One thread of the broker that leads everything hangs: others lead, the broker says that it is not ready and why, and
/// it is whole again once the thread goes on.
fn a_thread_hangs(thread: &str) {
    let mut cluster = Cluster::with(&ClusterOptions {
        // Longer than the hiccups of a machine on which other tests run.
        settings: vec!["cluster.failover_budget_ms = 1000".to_owned()],
        ..ClusterOptions::default()
    });
    let load = load(&cluster, 3);
    let victim = wait_until("partition 0 has a leader", || leader(&cluster, 0));
    let began = Instant::now();
    let Some(hung) = hang(&mut cluster, victim, thread) else {
        return;
    };
    for partition in 0..3 {
        wait_until(&format!("partition {partition} is led by another broker"), || {
            let lost = leader(&cluster, partition).is_none_or(|leader| leader == victim);
            (!lost).then_some(())
        });
    }
    goes_on(&load, 3);
    announce(&format!(
        "`{thread}` hangs: partition 0 without acknowledgement for {:?}",
        load.longest_gap(0, began)
    ));
    let admin = cluster.broker(victim).admin;
    let reply = get(admin, "/health/ready").expect("health is answered");
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert!(reply.body.contains(&format!("`{thread}`")), "{}", reply.body);
    assert_eq!(get(admin, "/health/live").expect("health is answered").status, 200);
    assert_eq!(
        metric(&mut cluster, victim, "trimaran_failover_budget_unsafe"),
        Some(1.0)
    );
    let busy = format!("trimaran_thread_busy_seconds{{thread=\"{thread}\"}}");
    wait_until("the metric says for how long", || {
        metric(&mut cluster, victim, &busy).filter(|seconds| *seconds >= 1.0)
    });
    wait_until("the log says that the thread is stalled", || {
        let log = cluster.broker(victim).log();
        log.lines()
            .any(|line| line.contains("thread stalled") && line.contains(thread))
            .then_some(())
    });
    drop(hung);
    cluster.wait_ready();
    wait_until("the log says that the thread goes on", || {
        cluster.broker(victim).log().contains("thread goes on").then_some(())
    });
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn a_shard_that_hangs_loses_its_leaderships() {
    a_thread_hangs("shard-0");
}

#[test]
fn a_journal_that_hangs_loses_its_leaderships() {
    a_thread_hangs("journal");
}

/// A broker of which a thread hangs for good still ends when it is told to.
#[test]
fn a_broker_with_a_hanging_thread_can_be_stopped() {
    let mut cluster = Cluster::with(&ClusterOptions {
        settings: vec!["broker.stop_deadline_ms = 1000".to_owned()],
        ..ClusterOptions::default()
    });
    let load = load(&cluster, 1);
    let Some(hung) = hang(&mut cluster, 2, "shard-0") else {
        return;
    };
    cluster.broker(2).terminate();
    cluster.broker(2).wait();
    drop(hung);
    goes_on(&load, 1);
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn a_hangup_is_no_reason_to_stop() {
    let mut cluster = Cluster::with(&ClusterOptions {
        brokers: 1,
        ..ClusterOptions::default()
    });
    cluster.broker(1).hang_up();
    wait_until("the log says so", || {
        cluster.broker(1).log().contains("SIGHUP is ignored").then_some(())
    });
    assert!(cluster.broker(1).is_running() && cluster.broker(1).is_ready());
}

/// A limit on open files that can't be raised, and is too low for the connections that are configured.
#[test]
fn a_low_limit_on_open_files_is_warned_of() {
    let cluster = Cluster::prepare(&ClusterOptions {
        brokers: 1,
        ..ClusterOptions::default()
    });
    let mut broker = Command::new("sh")
        .args(["-c", "ulimit -n 256 && exec \"$0\" broker --config \"$1\""])
        .arg(binary())
        .arg(cluster.brokers[0].config_path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell starts");
    let log = BufReader::new(broker.stderr.take().expect("standard error is piped"));
    let start = log.lines().map_while(Result::ok);
    let warned = start
        .take_while(|line| !line.contains("ready"))
        .any(|line| line.contains("may open 256 files and sockets"));
    broker.kill().expect("it runs");
    broker.wait().expect("a child of ours can be waited for");
    assert!(warned, "nothing is said of the limit");
}

/// An address in `cluster.voters` behind which no broker is: that is said, once that has lasted.
#[test]
fn a_peer_that_is_never_reached_is_logged() {
    let mut cluster = Cluster::prepare(&ClusterOptions::default());
    cluster.broker(1).start();
    wait_until("the log says whom it does not reach", || {
        let log = cluster.broker(1).log();
        let unreachable: Vec<&str> = log.lines().filter(|line| line.contains("can't be reached")).collect();
        let of = |broker: &str| {
            unreachable
                .iter()
                .any(|line| line.contains(broker) && line.contains("refused"))
        };
        (of("broker=2") && of("broker=3")).then_some(())
    });
}
