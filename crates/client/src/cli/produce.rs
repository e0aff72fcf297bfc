//! `trimaran produce`: lines in, records out.

use super::{Exit, Failure, Reach};
use crate::{Client, Producer, partition_for_key};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::io::BufRead;
use tokio::sync::mpsc;

/// Lines that are read ahead.
const READ_AHEAD: usize = 4096;

/// Records of one batch, at most.
const BATCH_RECORDS: usize = 1000;

/// Bytes of one batch, about: a batch must stay below a topic's `max.message.bytes`, a MiB by default.
const BATCH_BYTES: usize = 256 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "\
Try it:
  echo hello | trimaran produce greetings
  printf 'alice:1\\nbob:2\\n' | trimaran produce scores --key-separator :
  trimaran produce greetings < lines.txt

With --acks all (the default) every line is on the disks of a majority when the command ends with 0, and is stored once,
however often it had to be sent.")]
pub struct Arguments {
    /// The topic; created if the cluster allows it
    topic: String,
    /// Splits a line into key and value at its first occurrence; lines without it are an error
    #[arg(long, short = 'k', value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// Send everything to this partition
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Whose disks a record must be on before the next is sent
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Print each batch's partition and offset
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Acks {
    /// A majority's
    All,
    /// The leader's
    #[value(name = "1")]
    Leader,
    /// Nobody's: no answer is awaited
    #[value(name = "0")]
    None,
}

impl Acks {
    fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

/// A record as it was read.
struct Record {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl Record {
    fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.len()
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut client = arguments.reach.client();
    let partitions = client.topic(&arguments.topic, true).await?.len();
    if let Some(partition) = arguments.partition
        && partition as usize >= partitions
    {
        return Err(Failure::usage(format!(
            "topic `{}` has {partitions} partition(s), counted from 0: there is no partition {partition}",
            arguments.topic
        )));
    }
    let producer = Producer::open(&mut client, &arguments.topic, arguments.acks.code()).await?;
    let mut sender = Sender {
        client,
        producer,
        partitions,
        fixed: arguments.partition,
        keyless: 0,
        verbose: arguments.verbose,
        topic: arguments.topic.clone(),
    };
    let mut lines = read_lines(arguments.key_separator);
    let mut batch = Vec::new();
    while let Some(first) = lines.recv().await {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(record) = next {
            let record = match record {
                Ok(record) => record,
                Err(failure) => {
                    // What came before the bad line is sent: it was good.
                    sender.send(&batch).await?;
                    return Err(failure);
                }
            };
            bytes += record.bytes();
            batch.push(record);
            let full = batch.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES;
            next = if full { None } else { lines.try_recv().ok() };
        }
        sender.send(&batch).await?;
        batch.clear();
    }
    Ok(Exit::Done)
}

/// Reads standard input on a separate thread, since that blocks.
fn read_lines(separator: Option<String>) -> mpsc::Receiver<Result<Record, Failure>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        for number in 1_u64.. {
            let mut line = Vec::new();
            let record = match input.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => record(line, separator.as_deref(), number),
                Err(error) => Err(error.into()),
            };
            let failed = record.is_err();
            if sender.blocking_send(record).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

fn record(mut line: Vec<u8>, separator: Option<&str>, number: u64) -> Result<Record, Failure> {
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    let Some(separator) = separator else {
        return Ok(Record { key: None, value: line });
    };
    let found = line
        .windows(separator.len())
        .position(|part| part == separator.as_bytes());
    match found {
        Some(at) => {
            let value = line.split_off(at + separator.len());
            line.truncate(at);
            Ok(Record { key: Some(line), value })
        }
        None => Err(Failure::failed(format!(
            "line {number} has no `{separator}` between key and value; lines before it were sent"
        ))),
    }
}

struct Sender {
    client: Client,
    producer: Producer,
    topic: String,
    partitions: usize,
    fixed: Option<i32>,
    /// The partition that the next records without a key go to: a batch to each in turn.
    keyless: usize,
    verbose: bool,
}

impl Sender {
    async fn send(&mut self, records: &[Record]) -> Result<(), Failure> {
        let mut parts: BTreeMap<i32, Vec<&Record>> = BTreeMap::new();
        for record in records {
            parts.entry(self.partition_of(record)).or_default().push(record);
        }
        self.keyless = (self.keyless + 1) % self.partitions.max(1);
        for (partition, records) in parts {
            let pairs: Vec<_> = records
                .iter()
                .map(|record| (record.key.as_deref(), Some(record.value.as_slice())))
                .collect();
            let offset = self.producer.send(&mut self.client, partition, &pairs).await?;
            if let (true, Some(offset)) = (self.verbose, offset) {
                eprintln!("{}/{partition} offset {offset}: {} record(s)", self.topic, pairs.len());
            }
        }
        Ok(())
    }

    fn partition_of(&self, record: &Record) -> i32 {
        let partition = match (self.fixed, &record.key) {
            (Some(fixed), _) => return fixed,
            (None, Some(key)) => partition_for_key(key, self.partitions),
            (None, None) => self.keyless,
        };
        i32::try_from(partition).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_records() {
        let split = |line: &str, separator| {
            let record = record(line.as_bytes().to_vec(), separator, 7);
            record.map(|r| {
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                (r.key.map(text), text(r.value))
            })
        };
        assert_eq!(split("a:b\n", None).unwrap(), (None, "a:b".to_owned()));
        assert_eq!(split("a\r\n", None).unwrap(), (None, "a".to_owned()));
        assert_eq!(split("", None).unwrap(), (None, String::new()));
        let keyed = |key: &str, value: &str| (Some(key.to_owned()), value.to_owned());
        assert_eq!(split("a:b:c\n", Some(":")).unwrap(), keyed("a", "b:c"));
        assert_eq!(split("a => b\n", Some(" => ")).unwrap(), keyed("a", "b"));
        assert_eq!(split(":\n", Some(":")).unwrap(), keyed("", ""));
        assert!(split("ab\n", Some(":")).unwrap_err().text.contains("line 7"));
    }
}
