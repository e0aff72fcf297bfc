//! Real Kafka clients against three brokers: librdkafka as the rdkafka crate brings it, and kcat as Debian ships it.

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trimaran_tests::checker::history::{Delivery, History, Operation, RecordId};
use trimaran_tests::process::{self, Cluster, ClusterOptions, DEADLINE, KafkaClient, Load, LoadOptions, wait_until};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const RECORDS: i64 = 500;

/// The timestamp of the record at an offset: ten milliseconds apart, so that each can be searched for, and recent, since
/// retention goes by it.
fn timestamp(offset: i64) -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        i64::try_from(since.as_millis()).expect("it is before the year 292 million")
    });
    base - 100_000 + 10 * offset
}

fn payload(offset: i64) -> String {
    // Something to compress.
    format!("record {offset} {}", "a trimaran has three hulls ".repeat(4))
}

/// Collects the offsets that deliveries report.
#[derive(Default)]
struct Deliveries {
    offsets: Mutex<Vec<i64>>,
    errors: Mutex<Vec<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => self
                .offsets
                .lock()
                .expect("no test panics in here")
                .push(message.offset()),
            Err((error, _)) => self
                .errors
                .lock()
                .expect("no test panics in here")
                .push(error.to_string()),
        }
    }
}

fn topic(cluster: &Cluster, name: &str, partitions: i32) {
    KafkaClient::new(cluster.clients())
        .create_topic(name, partitions, 3, &[])
        .expect("a topic can be created");
}

fn producer(cluster: &Cluster, codec: &str) -> ThreadedProducer<Deliveries> {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", codec)
        .set("linger.ms", "5")
        .set("batch.num.messages", "50")
        .create_with_context(Deliveries::default())
        .expect("librdkafka takes this configuration")
}

fn consumer(cluster: &Cluster) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        // librdkafka's consumer wants one, also if it is only assigned partitions.
        .set("group.id", "nobody")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .expect("librdkafka takes this configuration")
}

fn produce(cluster: &Cluster, topic: &str, codec: &str) {
    let producer = producer(cluster, codec);
    for offset in 0..RECORDS {
        let key = format!("key {offset}");
        let payload = payload(offset);
        // Two headers of one name: both must survive.
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "hull",
                value: Some("port"),
            })
            .insert(Header {
                key: "hull",
                value: Some("starboard"),
            });
        let record = BaseRecord::to(topic)
            .partition(0)
            .key(&key)
            .payload(&payload)
            .timestamp(timestamp(offset))
            .headers(headers);
        producer.send(record).expect("the queue takes a record");
    }
    producer.flush(DEADLINE).expect("everything is delivered");
    let errors = producer.context().errors.lock().expect("no test panics in here");
    assert_eq!(*errors, Vec::<String>::new());
    let offsets = producer.context().offsets.lock().expect("no test panics in here");
    assert_eq!(
        *offsets,
        (0..RECORDS).collect::<Vec<_>>(),
        "{codec}: offsets are 0, 1, 2, ..."
    );
}

fn consume(cluster: &Cluster, topic: &str, from: Offset, until: i64) -> Vec<i64> {
    let consumer = consumer(cluster);
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, from).expect("a good offset");
    consumer.assign(&assignment).expect("a good assignment");
    let mut offsets = Vec::new();
    wait_until(&format!("{topic} is read up to {until}"), || {
        while let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.expect("a record, not an error");
            let offset = message.offset();
            assert_eq!(message.payload(), Some(payload(offset).as_bytes()));
            assert_eq!(message.key(), Some(format!("key {offset}").as_bytes()));
            assert_eq!(message.timestamp().to_millis(), Some(timestamp(offset)));
            assert_eq!(message.headers().map(Headers::count), Some(2));
            offsets.push(offset);
            if offset + 1 >= until {
                return Some(());
            }
        }
        None
    });
    offsets
}

#[test]
fn librdkafka_with_every_compression() {
    let cluster = Cluster::start();
    for codec in CODECS {
        let name = format!("rdkafka-{codec}");
        topic(&cluster, &name, 1);
        produce(&cluster, &name, codec);
        let read = consume(&cluster, &name, Offset::Beginning, RECORDS);
        assert_eq!(read, (0..RECORDS).collect::<Vec<_>>(), "{codec}");
        let read = consume(&cluster, &name, Offset::Offset(RECORDS - 7), RECORDS);
        assert_eq!(
            read,
            (RECORDS - 7..RECORDS).collect::<Vec<_>>(),
            "{codec}: from inside a batch"
        );
        list_and_seek(&cluster, &name);
    }
}

fn list_and_seek(cluster: &Cluster, topic: &str) {
    let consumer = consumer(cluster);
    let metadata = consumer
        .fetch_metadata(Some(topic), DEADLINE)
        .expect("metadata is answered");
    assert_eq!(metadata.brokers().len(), 3);
    let partition = &metadata.topics()[0].partitions()[0];
    assert_eq!(partition.replicas().len(), 3);
    assert_eq!(
        consumer
            .fetch_watermarks(topic, 0, DEADLINE)
            .expect("watermarks are answered"),
        (0, RECORDS)
    );
    let by_time = |timestamp: i64| {
        let mut query = TopicPartitionList::new();
        query
            .add_partition_offset(topic, 0, Offset::Offset(timestamp))
            .expect("a good timestamp");
        let answer = consumer
            .offsets_for_times(query, DEADLINE)
            .expect("timestamps are looked up");
        answer.elements()[0].offset()
    };
    assert_eq!(by_time(0), Offset::Offset(0));
    assert_eq!(by_time(timestamp(123)), Offset::Offset(123));
    assert_eq!(
        by_time(timestamp(123) - 3),
        Offset::Offset(123),
        "the first record at or after it"
    );
    assert_eq!(by_time(timestamp(RECORDS)), Offset::End, "nothing is that late");
}

#[test]
fn librdkafka_with_each_acks() {
    let cluster = Cluster::start();
    topic(&cluster, "acks", 1);
    for acks in ["0", "1", "all"] {
        let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap())
            .set("acks", acks)
            .create_with_context(Deliveries::default())
            .expect("librdkafka takes this configuration");
        for _ in 0..20 {
            let record: BaseRecord<'_, str, str> = BaseRecord::to("acks").partition(0).payload(acks);
            producer.send(record).expect("the queue takes a record");
        }
        producer.flush(DEADLINE).expect("everything is delivered");
        assert_eq!(
            producer.context().errors.lock().expect("no test panics in here").len(),
            0,
            "acks={acks}"
        );
    }
    let consumer = consumer(&cluster);
    wait_until("all sixty are there", || {
        let watermarks = consumer.fetch_watermarks("acks", 0, DEADLINE).ok()?;
        (watermarks == (0, 60)).then_some(())
    });
}

#[test]
fn a_topic_is_created_by_asking_for_it() {
    let cluster = Cluster::start();
    let producer = producer(&cluster, "none");
    let record: BaseRecord<'_, str, str> = BaseRecord::to("asked-for").payload("first");
    producer.send(record).expect("the queue takes a record");
    producer.flush(DEADLINE).expect("it is delivered");
    assert_eq!(*producer.context().offsets.lock().expect("no test panics in here"), [0]);
}

#[test]
fn a_consumer_reads_from_a_replica_in_its_rack() {
    let cluster = Cluster::with(&ClusterOptions {
        settings: vec!["cluster.replica_selector = \"rack-aware\"".to_owned()],
        racks: vec!["north".to_owned(), "south".to_owned(), "west".to_owned()],
        ..ClusterOptions::default()
    });
    topic(&cluster, "racks", 1);
    produce(&cluster, "racks", "none");
    for rack in ["north", "south", "west"] {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap())
            .set("group.id", "nobody")
            .set("enable.auto.commit", "false")
            .set("client.rack", rack)
            .set("statistics.interval.ms", "0")
            .create()
            .expect("librdkafka takes this configuration");
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset("racks", 0, Offset::Beginning)
            .expect("a good offset");
        consumer.assign(&assignment).expect("a good assignment");
        let mut next = 0;
        wait_until(&format!("a consumer in {rack} has read everything"), || {
            while let Some(message) = consumer.poll(Duration::from_millis(100)) {
                assert_eq!(message.expect("a record, not an error").offset(), next);
                next += 1;
            }
            (next == RECORDS).then_some(())
        });
    }
}

/// What such a consumer is told, without a client that hides it.
#[test]
fn the_leader_sends_a_consumer_to_its_rack_and_a_follower_answers() {
    let cluster = Cluster::with(&ClusterOptions {
        settings: vec!["cluster.replica_selector = \"rack-aware\"".to_owned()],
        racks: vec!["north".to_owned(), "south".to_owned(), "west".to_owned()],
        ..ClusterOptions::default()
    });
    topic(&cluster, "racks", 1);
    let load = Load::start(
        cluster.clients(),
        LoadOptions {
            topic: "racks".to_owned(),
            partitions: 1,
            producers: 1,
            pace: Duration::from_millis(2),
        },
    );
    load.wait_acknowledged(0, 20);
    let client = KafkaClient::new(cluster.clients());
    let leader = wait_until("there is a leader", || client.leader("racks", 0));
    for (broker, rack) in cluster.brokers.iter().zip(["north", "south", "west"]) {
        let id = i32::try_from(broker.id).expect("a small number");
        if id == leader.id {
            continue;
        }
        wait_until(&format!("the leader sends consumers in {rack} to broker {id}"), || {
            let sent = client.fetch_in_rack(leader.address, "racks", 0, rack).ok()?;
            // While a replica is not in sync the leader answers itself.
            assert!(
                sent.preferred.is_none() || sent.records.is_empty(),
                "both an address and records"
            );
            (sent.preferred == Some(id)).then_some(())
        });
        wait_until(&format!("broker {id} answers"), || {
            let read = client.fetch_in_rack(broker.client, "racks", 0, rack).ok()?;
            assert_eq!(read.preferred, None, "a follower sends nobody anywhere");
            let beyond = read.records.iter().find(|record| record.offset >= read.high_watermark);
            assert_eq!(beyond, None, "beyond its high watermark");
            (read.records.len() >= 20).then_some(())
        });
    }
    let sent = client
        .fetch_in_rack(leader.address, "racks", 0, "nowhere")
        .expect("the leader answers");
    assert_eq!(sent.preferred, None);
    assert!(!sent.records.is_empty());
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

/// A record's id travels with it, and comes back with its offset.
#[derive(Default)]
struct Witness {
    history: Mutex<History>,
    acknowledged: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl ClientContext for Witness {}

impl ProducerContext for Witness {
    type DeliveryOpaque = Box<RecordId>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<RecordId>) {
        match result {
            Ok(message) => {
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                self.history
                    .lock()
                    .expect("no test panics in here")
                    .push(Operation::Acknowledged {
                        record: *record,
                        offset: message.offset(),
                    });
            }
            Err((error, _)) => self
                .errors
                .lock()
                .expect("no test panics in here")
                .push(error.to_string()),
        }
    }
}

/// librdkafka's own idempotent producer, with its own retries and several batches in flight.
#[test]
fn librdkafka_keeps_its_promise_while_leaders_are_killed() {
    let mut cluster = Cluster::start();
    topic(&cluster, "promised", 1);
    let producer: ThreadedProducer<Witness> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("batch.num.messages", "20")
        .set("message.timeout.ms", "60000")
        .create_with_context(Witness::default())
        .expect("librdkafka takes this configuration");
    let client = KafkaClient::new(cluster.clients());
    let mut next = 0;
    let mut send = |count: u32| {
        for _ in 0..count {
            let record = RecordId {
                producer: 0,
                number: next,
            };
            next += 1;
            producer
                .context()
                .history
                .lock()
                .expect("no test panics in here")
                .push(Operation::Sent {
                    record,
                    partition: 0,
                    delivery: Delivery::ExactlyOnce,
                });
            let value = record.to_string();
            let message: BaseRecord<'_, str, str, Box<RecordId>> =
                BaseRecord::with_opaque_to("promised", Box::new(record))
                    .partition(0)
                    .payload(&value);
            assert!(producer.send(message).is_ok(), "the queue takes a record");
        }
    };
    let acknowledged = || producer.context().acknowledged.load(Ordering::SeqCst);
    for _ in 0..8 {
        let before = acknowledged();
        send(200);
        wait_until("some are acknowledged", || (acknowledged() > before + 50).then_some(()));
        send(200);
        let leader = wait_until("there is a leader", || client.leader("promised", 0));
        let victim = u32::try_from(leader.id).expect("a broker's id");
        cluster.broker(victim).kill();
        send(200);
        let all = before + 600;
        wait_until("all are acknowledged", || (acknowledged() >= all).then_some(()));
        cluster.broker(victim).start();
        cluster.wait_ready();
    }
    producer.flush(DEADLINE).expect("everything is delivered");
    let errors = producer.context().errors.lock().expect("no test panics in here");
    assert_eq!(*errors, Vec::<String>::new());
    let log = wait_until("the partition can be read", || client.read_all("promised", 0).ok());
    let history = producer.context().history.lock().expect("no test panics in here");
    let tally = history
        .check(&[log.into()])
        .unwrap_or_else(|violation| panic!("{violation}"));
    println!("librdkafka through eight failovers: {tally:?}");
}

/// Runs kcat to its end.
fn kcat(cluster: &Cluster, arguments: &[&str], input: &str) -> Output {
    process::kcat(&cluster.bootstrap(), arguments, input)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn kcat_with_every_compression() {
    let cluster = Cluster::start();
    for codec in CODECS {
        let name = format!("kcat-{codec}");
        topic(&cluster, &name, 1);
        let lines: String = (0..200)
            .map(|at| format!("k{at}:{} value {at}\n", "again and ".repeat(9)))
            .collect();
        kcat(
            &cluster,
            &["-P", "-t", &name, "-p", "0", "-K", ":", "-z", codec],
            &lines,
        );
        let format = [
            "-C",
            "-t",
            &name,
            "-p",
            "0",
            "-o",
            "beginning",
            "-e",
            "-q",
            "-f",
            "%k:%s\n",
        ];
        assert_eq!(text(&kcat(&cluster, &format, "")), lines, "{codec}");
        let offsets = [
            "-C",
            "-t",
            &name,
            "-p",
            "0",
            "-o",
            "beginning",
            "-e",
            "-q",
            "-f",
            "%o\n",
        ];
        let expected: String = (0..200).map(|at| format!("{at}\n")).collect();
        assert_eq!(text(&kcat(&cluster, &offsets, "")), expected, "{codec}");
    }
}

#[test]
fn kcat_lists_and_seeks_by_timestamp() {
    let cluster = Cluster::start();
    topic(&cluster, "listed", 3);
    let listing = text(&kcat(&cluster, &["-L", "-t", "listed"], ""));
    assert!(listing.contains("3 brokers"), "{listing}");
    assert!(listing.contains("topic \"listed\" with 3 partitions"), "{listing}");
    kcat(&cluster, &["-P", "-t", "listed", "-p", "1"], "one\ntwo\nthree\n");
    let with_time = [
        "-C",
        "-t",
        "listed",
        "-p",
        "1",
        "-o",
        "beginning",
        "-e",
        "-q",
        "-f",
        "%T\n",
    ];
    let times = text(&kcat(&cluster, &with_time, ""));
    let first: i64 = times
        .lines()
        .next()
        .and_then(|line| line.parse().ok())
        .expect("records have timestamps");
    let answer = text(&kcat(&cluster, &["-Q", "-t", &format!("listed:1:{first}")], ""));
    assert_eq!(answer.trim(), "listed [1] offset 0");
    let from_time = ["-C", "-t", "listed", "-p", "1", "-o", &format!("s@{first}"), "-e", "-q"];
    assert_eq!(text(&kcat(&cluster, &from_time, "")), "one\ntwo\nthree\n");
}
