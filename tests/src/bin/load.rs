//! A load generator for `cargo xtask bench`: a few connections that speak Kafka's protocol, each with several produce
//! requests on their way, bounded in time and in bytes. Prints one line of JSON.
//!
//! Its batches are built once and sent over and over: on a machine that it shares with the brokers, what it costs itself
//! is taken from what it measures.

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kafka_protocol::messages::ProduceResponse;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trimaran_client::RequestError;
use trimaran_client::exchange::{Frames, encode_request};
use trimaran_client::requests;
use trimaran_tests::process::{KafkaClient, Leader};
use trimaran_wire::batch::{self, KeyValue};
use trimaran_wire::request::decode_response;

const VERSION: i16 = 9;

/// Where a request's correlation id stands: after the length, the key and the version.
const CORRELATION_AT: usize = 8;

/// Bytes that are read at once; a produce response is short.
const CHUNK_BYTES: usize = 64 << 10;

/// Between two attempts while a cluster starts.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// How long anything may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Puts load on a cluster.
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    /// The brokers' addresses, separated by commas.
    #[arg(long)]
    bootstrap: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tries until a topic is created and one record in it acknowledged by a majority's disks.
    First,
    /// Sends records, and measures.
    Run(Run),
}

/// What is sent.
#[derive(Args, Clone)]
struct Run {
    /// The topic, which is created.
    #[arg(long, default_value = "load")]
    topic: String,
    /// Its partitions. Each connection sends to one.
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    /// Its replicas.
    #[arg(long, default_value_t = 3)]
    replicas: i16,
    /// Which acknowledgement is waited for.
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 100)]
    record_bytes: usize,
    /// Records of a request.
    #[arg(long, default_value_t = 1)]
    batch_records: usize,
    /// Connections.
    #[arg(long, default_value_t = 6)]
    connections: usize,
    /// Requests on their way on one connection.
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// Stops after so many seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The first milliseconds, which are not measured.
    #[arg(long, default_value_t = 500)]
    warmup_ms: u64,
    /// Stops after so many bytes of values, warm-up included.
    #[arg(long, default_value_t = 100 << 20)]
    max_bytes: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Acks {
    /// The disks of a majority.
    All,
    /// The leader.
    #[value(name = "1")]
    Leader,
}

impl Acks {
    fn wire(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let brokers: Result<Vec<SocketAddr>, _> = arguments.bootstrap.split(',').map(str::parse).collect();
    let client = KafkaClient::new(brokers.context("--bootstrap is a list of IP:PORT")?);
    let report = match arguments.command {
        Command::First => first(&client)?,
        Command::Run(run) => measure(&client, &run)?,
    };
    println!("{report}");
    Ok(())
}

/// Waits for the first acknowledgement that a starting cluster gives.
fn first(client: &KafkaClient) -> Result<serde_json::Value> {
    let began = Instant::now();
    let topic = "first";
    patiently("the topic is created", || {
        // A second attempt may find what the first one left.
        client.create_topic(topic, 1, 3, &[]).is_ok() || client.leader(topic, 0).is_some()
    })?;
    let run = Run {
        topic: topic.to_owned(),
        partitions: 1,
        replicas: 3,
        acks: Acks::All,
        record_bytes: 100,
        batch_records: 1,
        connections: 1,
        in_flight: 1,
        seconds: 0,
        warmup_ms: 0,
        max_bytes: 0,
    };
    let request = template(&run, 0)?;
    patiently("a record is acknowledged", || {
        let Some(leader) = client.leader(topic, 0) else {
            return false;
        };
        let acknowledged = || -> Result<i16> {
            let mut stream = open(leader)?;
            stream.write_all(&request)?;
            read_answer(&mut stream, &mut Frames::default()).map(|answer| answer.code)
        };
        acknowledged().is_ok_and(|code| code == 0)
    })?;
    Ok(serde_json::json!({ "first_ack_ms": began.elapsed().as_millis() }))
}

fn patiently(what: &str, mut attempt: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !attempt() {
        if Instant::now() >= deadline {
            bail!("{what}: not within {PATIENCE:?}");
        }
        std::thread::sleep(TRY_AGAIN);
    }
    Ok(())
}

/// What all connections share.
struct Shared {
    run: Run,
    begin: Instant,
    /// Bytes of values sent.
    sent: AtomicU64,
}

impl Shared {
    fn measured_from(&self) -> Instant {
        self.begin + Duration::from_millis(self.run.warmup_ms)
    }

    fn end(&self) -> Instant {
        self.measured_from() + Duration::from_secs(self.run.seconds)
    }
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    /// Of each good answer: when it came, and how long that took.
    answers: Vec<(Instant, Duration)>,
    errors: u64,
    last_error: i16,
}

fn measure(client: &KafkaClient, run: &Run) -> Result<serde_json::Value> {
    client
        .create_topic(&run.topic, run.partitions, run.replicas, &[])
        .with_context(|| format!("topic `{}` can't be created", run.topic))?;
    let mut connections = Vec::new();
    for number in 0..run.connections {
        let partition = i32::try_from(number)? % run.partitions;
        let mut leader = None;
        patiently("every partition has a leader", || {
            leader = client.leader(&run.topic, partition);
            leader.is_some()
        })?;
        connections.push((open(leader.context("no leader")?)?, template(run, partition)?));
    }
    let shared = Arc::new(Shared {
        run: run.clone(),
        begin: Instant::now(),
        sent: AtomicU64::new(0),
    });
    let mut threads = Vec::new();
    for (stream, request) in connections {
        let (sending, receiving) = (Arc::clone(&shared), stream.try_clone()?);
        let (free, places) = channel();
        for _ in 0..run.in_flight {
            free.send(()).context("the receiver is right here")?;
        }
        let (sent, to_come) = channel();
        threads.push((
            std::thread::spawn(move || send(&sending, stream, request, &places, &sent)),
            std::thread::spawn(move || receive(receiving, &to_come, &free)),
        ));
    }
    let mut all = Seen::default();
    for (sender, receiver) in threads {
        sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        let seen = receiver.join().map_err(|_| anyhow::anyhow!("a receiver panicked"))??;
        all.answers.extend(seen.answers);
        all.errors += seen.errors;
        if seen.errors > 0 {
            all.last_error = seen.last_error;
        }
    }
    report(&shared, &all)
}

/// Sends until the time or the bytes are used up, as long as there is a place for one more request on its way.
fn send(
    shared: &Shared,
    mut stream: TcpStream,
    mut request: BytesMut,
    places: &Receiver<()>,
    sent: &Sender<(i32, Instant)>,
) -> Result<()> {
    let value_bytes = (shared.run.record_bytes * shared.run.batch_records) as u64;
    for correlation in 0.. {
        if places.recv().is_err() {
            // The receiver has ended, and says why.
            break;
        }
        let over = shared.sent.fetch_add(value_bytes, Ordering::Relaxed) + value_bytes > shared.run.max_bytes;
        if over || Instant::now() >= shared.end() {
            break;
        }
        request[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&i32::to_be_bytes(correlation));
        if sent.send((correlation, Instant::now())).is_err() {
            break;
        }
        stream.write_all(&request)?;
    }
    Ok(())
}

/// Takes an answer for each request, in order, and gives its place back.
fn receive(mut stream: TcpStream, to_come: &Receiver<(i32, Instant)>, free: &Sender<()>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut frames = Frames::default();
    while let Ok((correlation, began)) = to_come.recv() {
        let answer = read_answer(&mut stream, &mut frames)?;
        if answer.correlation != correlation {
            bail!(
                "an answer to request {} where {correlation} was due",
                answer.correlation
            );
        }
        let now = Instant::now();
        if answer.code == 0 {
            seen.answers.push((now, now - began));
        } else {
            seen.errors += 1;
            seen.last_error = answer.code;
        }
        // A sender that has ended needs no place.
        let _ = free.send(());
    }
    Ok(seen)
}

fn open(leader: Leader) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&leader.address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A produce request, whole but for its correlation id.
fn template(run: &Run, partition: i32) -> Result<BytesMut> {
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let value = vec![b'x'; run.record_bytes];
    let records: Vec<KeyValue<'_>> = (0..run.batch_records).map(|_| (None, Some(value.as_slice()))).collect();
    let batch = batch::build(now_ms, &records).freeze();
    let timeout_ms = i32::try_from(PATIENCE.as_millis())?;
    let request = requests::produce(&run.topic, partition, batch, run.acks.wire(), timeout_ms);
    Ok(encode_request("load", VERSION, 0, &request)?)
}

struct Answer {
    correlation: i32,
    code: i16,
}

fn read_answer(stream: &mut TcpStream, frames: &mut Frames) -> Result<Answer> {
    let mut chunk = [0; CHUNK_BYTES];
    let frame = loop {
        if let Some(frame) = frames.next_frame()? {
            break frame;
        }
        match stream.read(&mut chunk)? {
            0 => bail!("the broker closed the connection"),
            read => frames.arrived().extend_from_slice(&chunk[..read]),
        }
    };
    let (correlation, response) = decode_response::<ProduceResponse>(VERSION, frame)?;
    let code = match requests::produced(&response) {
        Ok(_) => 0,
        Err(RequestError::Code(code)) => code,
        Err(error) => return Err(error.into()),
    };
    Ok(Answer { correlation, code })
}

/// The measured part, in numbers.
fn report(shared: &Shared, seen: &Seen) -> Result<serde_json::Value> {
    let run = &shared.run;
    let from = shared.measured_from();
    let mut latencies: Vec<Duration> = seen
        .answers
        .iter()
        .filter(|(at, _)| *at >= from)
        .map(|(_, latency)| *latency)
        .collect();
    latencies.sort_unstable();
    let last = seen.answers.iter().map(|(at, _)| *at).max();
    let Some(last) = last.filter(|last| *last > from) else {
        bail!(
            "nothing was acknowledged after the warm-up ({} errors, the last with code {}); too few --max-bytes?",
            seen.errors,
            seen.last_error
        );
    };
    let seconds = (last - from).as_secs_f64();
    let records = (latencies.len() * run.batch_records) as f64;
    let per_second = records / seconds;
    Ok(serde_json::json!({
        "acks": match run.acks { Acks::All => "all", Acks::Leader => "1" },
        "record_bytes": run.record_bytes,
        "batch_records": run.batch_records,
        "connections": run.connections,
        "in_flight": run.in_flight,
        "seconds": seconds,
        "requests": latencies.len(),
        "records_per_second": per_second.round(),
        "megabytes_per_second": per_second * run.record_bytes as f64 / 1e6,
        "p50_us": percentile(&latencies, 0.5),
        "p99_us": percentile(&latencies, 0.99),
        "p999_us": percentile(&latencies, 0.999),
        "max_us": percentile(&latencies, 1.0),
        "errors": seen.errors,
        "last_error": seen.last_error,
    }))
}

/// The latency, in microseconds, that so large a part did not exceed (nearest rank).
fn percentile(sorted: &[Duration], part: f64) -> u128 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).map_or(0, Duration::as_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<Duration> = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(percentile(&sorted, 0.5), 500);
        assert_eq!(percentile(&sorted, 0.99), 990);
        assert_eq!(percentile(&sorted, 0.999), 999);
        assert_eq!(percentile(&sorted, 1.0), 1000);
        assert_eq!(percentile(&sorted[..1], 0.5), 1);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
