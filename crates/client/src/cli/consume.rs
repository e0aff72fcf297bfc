//! `trimaran consume`: records in, lines out.

use super::{Exit, Failure, Reach};
use crate::requests::{self, EARLIEST, FetchLimits, LATEST};
use crate::{BrokerInfo, Client, ClientError, Connection, RequestError};
use bytes::Bytes;
use clap::Args;
use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Write};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trimaran_wire::batch::{self, BatchError, Record};
use trimaran_wire::kafka_protocol::ResponseError;
use trimaran_wire::kafka_protocol::messages::fetch_request::FetchTopic;
use trimaran_wire::kafka_protocol::messages::fetch_response::PartitionData;
use trimaran_wire::kafka_protocol::messages::{FetchRequest, FetchResponse};

/// The limits of one fetch: memory for a few of them side by side, and half a second until an answer without records.
const LIMITS: FetchLimits = FetchLimits {
    max_wait_ms: 500,
    max_bytes: 16 << 20,
    partition_max_bytes: 1 << 20,
};

/// The time that a broker may take beyond that.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The most that a batch may decompress to.
const MAX_BATCH_BYTES: usize = 256 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Try it:
  trimaran consume greetings --from-beginning
  trimaran consume greetings --partition 0 --offset 42 --max-messages 10
  trimaran consume scores --from-beginning --until-end --key-separator :

Without --from-beginning or --offset it begins with what comes next, and goes on until Ctrl-C (which is a good end: 0).")]
pub struct Arguments {
    /// The topic
    topic: String,
    /// Begin with the oldest record there is
    #[arg(long)]
    from_beginning: bool,
    /// Only this partition
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Begin at this offset
    #[arg(long, short, value_name = "N", requires = "partition", conflicts_with = "from_beginning", value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_messages: Option<u64>,
    /// End at what is there when the command begins
    #[arg(long)]
    until_end: bool,
    /// Write keys, too, before this text and the value
    #[arg(long, short = 'k', value_name = "TEXT")]
    key_separator: Option<String>,
    /// Write partition and offset before each record
    #[arg(long)]
    show_position: bool,
    /// The rack that this consumer is in: a cluster that selects replicas by rack sends it to one there
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut consumer = Consumer::open(arguments).await?;
    tokio::select! {
        result = consumer.run() => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }?;
    // The reader may have gone away, which is a good end as well.
    let _ = std::io::stdout().flush();
    Ok(Exit::Done)
}

struct Consumer {
    arguments: Arguments,
    client: Client,
    /// Each partition's next offset.
    positions: BTreeMap<i32, i64>,
    /// With `until_end`: where each partition ends. Partitions that got there are taken out.
    ends: Option<BTreeMap<i32, i64>>,
    /// Replicas that leaders have sent this consumer to.
    preferred: HashMap<i32, i32>,
    connections: HashMap<String, Connection>,
    left: u64,
}

/// The decision whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    More,
    Enough,
}

/// A fetch that has ended: the address that was asked, and its answer.
struct Fetched {
    address: String,
    outcome: Result<(Connection, FetchResponse), RequestError>,
}

impl Consumer {
    async fn open(arguments: Arguments) -> Result<Consumer, Failure> {
        let mut client = arguments.reach.client();
        let topic = arguments.topic.clone();
        let all: Vec<i32> = client
            .topic(&topic, false)
            .await?
            .iter()
            .map(|known| known.index)
            .collect();
        let wanted = match arguments.partition {
            None => all,
            Some(one) if all.contains(&one) => vec![one],
            Some(one) => {
                return Err(Failure::usage(format!(
                    "topic `{topic}` has {} partition(s), counted from 0: there is no partition {one}",
                    all.len()
                )));
            }
        };
        let mut positions = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for partition in wanted {
            let begin = match arguments.offset {
                Some(offset) => offset,
                None if arguments.from_beginning => client.offset(&topic, partition, EARLIEST).await?,
                None => client.offset(&topic, partition, LATEST).await?,
            };
            positions.insert(partition, begin);
            if arguments.until_end {
                ends.insert(partition, client.offset(&topic, partition, LATEST).await?);
            }
        }
        Ok(Consumer {
            client,
            positions,
            ends: arguments.until_end.then_some(ends),
            preferred: HashMap::new(),
            connections: HashMap::new(),
            left: arguments.max_messages.unwrap_or(u64::MAX),
            arguments,
        })
    }

    /// One fetch at a time from each broker that leads something, all brokers side by side.
    async fn run(&mut self) -> Result<(), Failure> {
        let mut fetches: JoinSet<Fetched> = JoinSet::new();
        let mut busy: Vec<String> = Vec::new();
        let mut heard = Instant::now();
        loop {
            self.drop_finished();
            if self.positions.is_empty() {
                return Ok(());
            }
            for (address, partitions) in self.by_broker() {
                if !busy.contains(&address) {
                    busy.push(address.clone());
                    fetches.spawn(self.fetch(address, &partitions));
                }
            }
            let trouble = match fetches.join_next().await {
                Some(Ok(Fetched { address, outcome })) => {
                    busy.retain(|other| *other != address);
                    match outcome {
                        Ok((connection, response)) => {
                            self.connections.insert(address, connection);
                            match self.take(response)? {
                                (Flow::Enough, _) => return Ok(()),
                                (Flow::More, trouble) => trouble,
                            }
                        }
                        Err(error) => Some(format!("{address}: {error}")),
                    }
                }
                Some(Err(error)) => Some(error.to_string()),
                None => Some("no partition has a leader".to_owned()),
            };
            match trouble {
                None => heard = Instant::now(),
                Some(last) => self.recover(heard, last).await?,
            }
        }
    }

    /// Partitions that got to their end are done.
    fn drop_finished(&mut self) {
        if let Some(ends) = &self.ends {
            self.positions
                .retain(|partition, position| ends.get(partition).is_some_and(|end| *position < *end));
        }
    }

    /// The partitions to ask each broker for.
    fn by_broker(&self) -> BTreeMap<String, Vec<i32>> {
        let mut parts: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for partition in self.positions.keys() {
            if let Some(broker) = self.broker_of(*partition) {
                parts.entry(broker.address.clone()).or_default().push(*partition);
            }
        }
        parts
    }

    fn broker_of(&self, partition: i32) -> Option<&BrokerInfo> {
        let cluster = self.client.cluster();
        let preferred = self.preferred.get(&partition);
        let nearby = preferred.and_then(|id| cluster.brokers.iter().find(|broker| broker.id == *id));
        nearby.or_else(|| cluster.leader(&self.arguments.topic, partition))
    }

    fn fetch(&mut self, address: String, partitions: &[i32]) -> impl Future<Output = Fetched> + Send + 'static {
        let position = |partition: &i32| (*partition, self.positions.get(partition).copied().unwrap_or(0));
        let positions: Vec<(i32, i64)> = partitions.iter().map(position).collect();
        let topic = FetchTopic::default().with_topic(requests::topic_name(&self.arguments.topic));
        let rack = self.arguments.rack.as_deref().unwrap_or_default();
        let request = requests::fetch(topic, &positions, rack, LIMITS);
        let kept = self.connections.remove(&address);
        async move {
            let outcome = ask(kept, &address, &request).await;
            Fetched { address, outcome }
        }
    }

    /// Writes what came. Says whether it is enough, and what was wrong with single partitions.
    fn take(&mut self, response: FetchResponse) -> Result<(Flow, Option<String>), Failure> {
        let mut trouble = None;
        for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            if let Some(error) = ResponseError::try_from_code(data.error_code) {
                trouble = Some(self.partition_failed(&data, error)?);
                continue;
            }
            if data.preferred_read_replica.0 >= 0 {
                self.preferred
                    .insert(data.partition_index, data.preferred_read_replica.0);
                continue;
            }
            if self.write_all(data.partition_index, data.records.unwrap_or_default())? == Flow::Enough {
                return Ok((Flow::Enough, None));
            }
        }
        Ok((Flow::More, trouble))
    }

    fn partition_failed(&mut self, data: &PartitionData, error: ResponseError) -> Result<String, Failure> {
        // Whatever it is, the leader knows best.
        let from_leader = self.preferred.remove(&data.partition_index).is_none();
        if error == ResponseError::OffsetOutOfRange && from_leader {
            let position = self.positions.get(&data.partition_index).copied().unwrap_or(0);
            return Err(Failure::failed(format!(
                "{}/{} has no offset {position}: it begins at {} and ends before {}; `--from-beginning` begins with what there is",
                self.arguments.topic, data.partition_index, data.log_start_offset, data.high_watermark
            )));
        }
        if error.is_retriable() || error == ResponseError::OffsetOutOfRange {
            return Ok(error.to_string());
        }
        Err(Failure::failed(format!(
            "reading {}/{} is refused: {error}",
            self.arguments.topic, data.partition_index
        )))
    }

    fn write_all(&mut self, partition: i32, records: Bytes) -> Result<Flow, Failure> {
        let mut out = std::io::stdout().lock();
        let flow = self.write(partition, records, &mut out)?;
        match out.flush() {
            Ok(()) => Ok(flow),
            // The reader has had enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Flow::Enough),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, partition: i32, records: Bytes, out: &mut impl Write) -> Result<Flow, Failure> {
        for batch in batch::split(records) {
            let batch = match batch {
                Ok((_, batch)) => batch,
                // The answer's limit cut it off; it comes whole next time.
                Err(BatchError::Truncated) => break,
                Err(error) => return Err(self.damaged(partition, &error)),
            };
            let header = batch::BatchHeader::parse(&batch).map_err(|error| self.damaged(partition, &error))?;
            if !header.is_control() {
                let all = batch::records(&batch, MAX_BATCH_BYTES).map_err(|error| self.damaged(partition, &error))?;
                for record in all {
                    let record = record.map_err(|error| self.damaged(partition, &error))?;
                    if self.write_one(partition, &record, out)? == Flow::Enough {
                        return Ok(Flow::Enough);
                    }
                }
            }
            self.positions.insert(partition, header.next_offset().0);
        }
        Ok(Flow::More)
    }

    /// A batch may begin before the offset that was asked for.
    fn write_one(&mut self, partition: i32, record: &Record, out: &mut impl Write) -> Result<Flow, Failure> {
        let offset = record.offset.0;
        let end = self.ends.as_ref().and_then(|ends| ends.get(&partition)).copied();
        if offset < self.positions.get(&partition).copied().unwrap_or(0) || end.is_some_and(|end| offset >= end) {
            return Ok(Flow::More);
        }
        match self.line(partition, record, out) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Flow::Enough),
            Err(error) => return Err(error.into()),
        }
        self.left -= 1;
        Ok(if self.left == 0 { Flow::Enough } else { Flow::More })
    }

    fn line(&self, partition: i32, record: &Record, out: &mut impl Write) -> std::io::Result<()> {
        if self.arguments.show_position {
            write!(out, "{partition}:{} ", record.offset.0)?;
        }
        if let Some(separator) = &self.arguments.key_separator {
            out.write_all(record.key.as_deref().unwrap_or_default())?;
            out.write_all(separator.as_bytes())?;
        }
        out.write_all(record.value.as_deref().unwrap_or_default())?;
        out.write_all(b"\n")
    }

    fn damaged(&self, partition: i32, error: &BatchError) -> Failure {
        Failure::failed(format!(
            "what came from {}/{partition} is damaged: {error}",
            self.arguments.topic
        ))
    }

    /// Looks for the leaders again, unless nothing good was heard for too long.
    async fn recover(&mut self, heard: Instant, last: String) -> Result<(), Failure> {
        let patience = Duration::from_millis(self.arguments.reach.timeout_ms);
        if heard.elapsed() > patience {
            if self.client.cluster().controller.is_none() {
                let what = format!("who leads topic `{}`", self.arguments.topic);
                return Err(self.client.no_quorum(what).into());
            }
            let what = format!("reading topic `{}`", self.arguments.topic);
            return Err(ClientError::TimedOut { what, last }.into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let topic = self.arguments.topic.clone();
        self.client.metadata(Some(&[&topic]), false).await?;
        Ok(())
    }
}

async fn ask(
    kept: Option<Connection>,
    address: &str,
    request: &FetchRequest,
) -> Result<(Connection, FetchResponse), RequestError> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => Connection::open(address, Duration::from_secs(3)).await?,
    };
    let wait = Duration::from_millis(LIMITS.max_wait_ms.unsigned_abs().into()) + ANSWER_WAIT;
    let response = connection.call(11, request, wait).await?;
    Ok((connection, response))
}
