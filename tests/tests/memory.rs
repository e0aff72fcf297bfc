//! What a broker's memory does when its clients don't read, when many partitions are written, and when they are deleted.

use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use trimaran_client::requests::{self, FetchLimits};
use trimaran_tests::process::{Cluster, ClusterOptions, Connection, get, wait_until};
use trimaran_tests::sim::rng::Rng;
use trimaran_wire::batch;

/// The budget that these brokers are given.
const BUDGET: u64 = 128 << 20;

/// What a broker takes besides: code, stacks, and what the allocator has not given back yet.
const BESIDES_KIB: u64 = 96 << 10;

/// Longer than anything here takes on a machine with too much to do.
const PATIENCE: Duration = Duration::from_secs(60);

const PRODUCE: i16 = 9;
const FETCH: i16 = 12;

fn broker() -> Cluster {
    Cluster::with(&ClusterOptions {
        brokers: 1,
        settings: vec![
            format!("limits.memory_bytes = {BUDGET}"),
            "cluster.auto_create_topics = false".to_owned(),
        ],
        ..ClusterOptions::default()
    })
}

fn open(cluster: &Cluster) -> Connection {
    Connection::open(cluster.brokers[0].client).expect("the broker listens")
}

fn create(cluster: &Cluster, topic: &str, partitions: i32) {
    let request = requests::create_topic(topic, partitions, 1, [], 30_000);
    let answer = open(cluster).call(7, &request, PATIENCE).expect("an answer");
    assert_eq!(answer.topics[0].error_code, 0);
}

/// A batch of about so many bytes that nothing compresses.
fn noise(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    for chunk in value.chunks_mut(8) {
        let random = rng.below(u64::MAX).to_le_bytes();
        chunk.copy_from_slice(&random[..chunk.len()]);
    }
    batch::build(0, &[(None, Some(&value))]).to_vec()
}

/// Produces one batch to each of some partitions, again where the broker is busy.
fn produce(connection: &mut Connection, topic: &str, partitions: std::ops::Range<i32>, batch: &[u8]) {
    let mut left: Vec<i32> = partitions.collect();
    wait_until("everything is acknowledged", || {
        let data = left.iter().map(|partition| {
            PartitionProduceData::default()
                .with_index(*partition)
                .with_records(Some(batch.to_vec().into()))
        });
        let data = TopicProduceData::default()
            .with_name(requests::topic_name(topic))
            .with_partition_data(data.collect());
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![data]);
        let answer = connection.call(PRODUCE, &request, PATIENCE).expect("an answer");
        let refused = answer.responses[0]
            .partition_responses
            .iter()
            .filter(|part| part.error_code != 0);
        left = refused.map(|part| part.index).collect();
        left.is_empty().then_some(())
    });
}

/// Asks for 50 MB from the beginning.
fn fetch(topic: &str) -> FetchRequest {
    let limits = FetchLimits {
        max_wait_ms: 100,
        max_bytes: 50 << 20,
        partition_max_bytes: 50 << 20,
    };
    let topic = FetchTopic::default().with_topic(requests::topic_name(topic));
    requests::fetch(topic, &[(0, 0)], "", limits)
}

/// The most memory that the broker's process ever had, in KiB.
fn peak_kib(cluster: &Cluster) -> u64 {
    let broker = &cluster.brokers[0];
    broker.peak_resident_kib().expect("the broker runs")
}

/// The value of a metric's line that begins so.
fn metric(admin: SocketAddr, line: &str) -> u64 {
    let text = get(admin, "/metrics").expect("metrics").body;
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    let value = found.unwrap_or_else(|| panic!("no `{line}` in {text}"));
    value.trim().parse().expect("a number")
}

/// Some clients ask for everything, each so often at once, and read only the first bytes.
fn slow_readers(clients: usize, requests: usize) {
    let cluster = broker();
    create(&cluster, "slow", 1);
    let mut rng = Rng::new(1);
    let batch = noise(&mut rng, 1_000_000);
    let mut producer = open(&cluster);
    for _ in 0..24 {
        produce(&mut producer, "slow", 0..1, &batch);
    }
    let mut readers: Vec<Connection> = (0..clients).map(|_| open(&cluster)).collect();
    for reader in &mut readers {
        for _ in 0..requests {
            reader.send(FETCH, &fetch("slow")).expect("a request can be sent");
        }
    }
    // A response has begun for each of them; who held it in memory would hold it now.
    for reader in &mut readers {
        reader.await_bytes(PATIENCE).expect("the response begins");
    }
    produce(&mut producer, "slow", 0..1, &batch);
    let admin = cluster.brokers[0].admin;
    let used = r#"trimaran_memory_used_bytes{share="responses"}"#;
    wait_until("nothing is held for clients that don't read", || {
        (metric(admin, used) == 0).then_some(())
    });
    assert_eq!(get(admin, "/health/live").expect("an answer").status, 200);
    let peak = peak_kib(&cluster);
    println!("{clients} slow readers with {requests} request(s) each: {peak} KiB at most");
    let most = BUDGET / 1024 + BESIDES_KIB;
    assert!(
        peak < most,
        "{peak} KiB for {clients} readers, and at most {most} were to be"
    );
    // One that reads after all gets everything, as it was stored.
    let answer: FetchResponse = readers[0]
        .poll::<FetchRequest>(FETCH, PATIENCE)
        .expect("a response")
        .expect("a whole one");
    let records = answer.responses[0].partitions[0].records.clone().expect("records");
    assert!(records.len() >= 24 * batch.len(), "{} bytes", records.len());
    for (at, stored) in records.chunks_exact(batch.len()).enumerate() {
        // What the leader stamps is before the checksum: the base offset and its epoch.
        let offset = i64::from_be_bytes(stored[..8].try_into().expect("eight bytes"));
        assert_eq!(offset, i64::try_from(at).expect("few batches"));
        assert!(stored[16..] == batch[16..], "batch {at} is another one");
    }
}

#[test]
fn fifty_clients_that_do_not_read_cost_no_memory() {
    slow_readers(50, 1);
}

#[test]
fn a_hundred_clients_that_ask_ahead_and_do_not_read_cost_no_memory() {
    slow_readers(100, 20);
}

/// Fills partitions beyond what their tails were once allowed, and deletes them.
#[test]
fn many_partitions_share_one_budget_and_give_it_back() {
    const PARTITIONS: i32 = 200;
    let cluster = broker();
    let before = cluster.brokers[0].resident_kib().expect("the broker runs");
    create(&cluster, "many", PARTITIONS);
    let mut rng = Rng::new(2);
    let mut producer = open(&cluster);
    // 300 MB in all.
    for _ in 0..15 {
        let batch = noise(&mut rng, 100_000);
        for first in (0..PARTITIONS).step_by(20) {
            produce(&mut producer, "many", first..first + 20, &batch);
        }
    }
    let admin = cluster.brokers[0].admin;
    let of = |kind: &str, share: &str| metric(admin, &format!("trimaran_memory_{kind}_bytes{{share=\"{share}\"}}"));
    let (used, limit) = (of("used", "tails"), of("limit", "tails"));
    assert!(
        used > 0 && used <= limit,
        "the tails take {used} bytes, and may take {limit}"
    );
    let peak = peak_kib(&cluster);
    println!("{PARTITIONS} partitions: {before} KiB before, {peak} KiB at most");
    assert!(peak < before + BUDGET / 1024 + BESIDES_KIB / 2, "{peak} KiB");
    let request = requests::delete_topic("many", 30_000);
    let answer = open(&cluster).call(4, &request, PATIENCE).expect("an answer");
    assert_eq!(answer.responses[0].error_code, 0);
    wait_until("the tails are gone", || (of("used", "tails") < 1 << 20).then_some(()));
    wait_until("the memory is given back", || {
        let now = cluster.brokers[0].resident_kib()?;
        (now < before + BESIDES_KIB / 2).then_some(())
    });
}

/// Consumers that wait for records that don't come are answered when the broker stops, and don't hold it up.
#[test]
fn a_broker_that_stops_does_not_wait_for_long_polls() {
    let mut cluster = broker();
    create(&cluster, "idle", 1);
    let mut consumer = open(&cluster);
    let request = fetch("idle").with_max_wait_ms(i32::MAX);
    consumer.send(FETCH, &request).expect("a request can be sent");
    let admin = cluster.brokers[0].admin;
    wait_until("the long poll waits", || {
        (metric(admin, "trimaran_requests_in_flight") == 1).then_some(())
    });
    cluster.brokers[0].terminate();
    let answer = consumer
        .poll::<FetchRequest>(FETCH, PATIENCE)
        .expect("the answer comes before the end");
    assert!(answer.is_some());
    let mut rest = Vec::new();
    drop(TcpStream::connect(admin).map(|mut stream| stream.read_to_end(&mut rest)));
    assert!(cluster.brokers[0].wait().success());
}
