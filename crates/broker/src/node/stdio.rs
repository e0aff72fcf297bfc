//! Standard input and output, and the time between them.

use super::room::Fault;
use super::{Node, Now};
use bytes::BytesMut;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};
use tokio_util::codec::Decoder;
use trimaran_raft::Instant;
use trimaran_wire::json::{Line, LineCodec, MAX_LINE_BYTES};

/// Lines read ahead of the node.
const LINES_AHEAD: usize = 1_024;

/// Bytes asked for at once.
const READ_BYTES: usize = 64 << 10;

/// Lines answered before the clock is looked at: input comes first, but not for ever.
const LINES_PER_TICK: usize = 256;

/// Answers lines until `input` ends: everything that was in it by then has been read, and nobody waits for an answer any
/// more.
///
/// # Errors
/// When `input` or `output` fails, or the node can't go on.
pub fn run(input: impl Read + Send + 'static, mut output: impl Write) -> io::Result<()> {
    let (lines, read) = sync_channel(LINES_AHEAD);
    // Never joined: it may wait for input that doesn't come, and ends with the process.
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || read_lines(input, &lines))?;
    answer_lines(&read, &mut output)
}

/// A line, or why there will be none.
type Item = io::Result<Line>;

fn read_lines(mut input: impl Read, lines: &SyncSender<Item>) {
    let mut codec = LineCodec::new(MAX_LINE_BYTES);
    let mut buffer = BytesMut::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let read = match input.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = lines.send(Err(error)); // if the other side has ended, it needs no reason
                return;
            }
        };
        buffer.extend_from_slice(&chunk[..read]);
        loop {
            let next = if read == 0 {
                codec.decode_eof(&mut buffer)
            } else {
                codec.decode(&mut buffer)
            };
            match next.transpose() {
                Some(item) => {
                    if lines.send(item).is_err() {
                        return;
                    }
                }
                None => break,
            }
        }
        if read == 0 {
            return;
        }
    }
}

struct Clock {
    origin: StdInstant,
}

impl Clock {
    fn now(&self) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
        Now {
            at: Instant(micros),
            wall_ms,
        }
    }

    /// How long to wait for that moment; a moment longer, so that it has passed then.
    fn until(&self, at: Instant) -> Duration {
        at.since(self.now().at) + Duration::from_micros(1)
    }
}

fn answer_lines(lines: &Receiver<Item>, output: &mut impl Write) -> io::Result<()> {
    let clock = Clock {
        origin: StdInstant::now(),
    };
    let mut node = Node::new(seed());
    let mut out = Vec::new();
    loop {
        match next(&clock, &node, lines) {
            Next::Lines(first) => {
                let more = lines.try_iter().take(LINES_PER_TICK - 1);
                for item in std::iter::once(first).chain(more) {
                    take(&mut node, clock.now(), item, &mut out)?;
                }
                if node.deadline().is_some_and(|at| at <= clock.now().at) {
                    node.tick(clock.now(), &mut out).map_err(stopped)?;
                }
            }
            Next::Time => node.tick(clock.now(), &mut out).map_err(stopped)?,
            Next::End => return Ok(()),
        }
        write_lines(output, &mut out)?;
    }
}

enum Next {
    Lines(Item),
    Time,
    End,
}

/// What has been read comes before what the clock says.
fn next(clock: &Clock, node: &Node, lines: &Receiver<Item>) -> Next {
    let received = match node.deadline() {
        None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(at) => lines.recv_timeout(clock.until(at)),
    };
    match received {
        Ok(item) => Next::Lines(item),
        Err(RecvTimeoutError::Timeout) => Next::Time,
        Err(RecvTimeoutError::Disconnected) => Next::End,
    }
}

fn take(node: &mut Node, now: Now, item: Item, out: &mut Vec<String>) -> io::Result<()> {
    match item? {
        Line::Text(line) => node.line(now, &line, out).map_err(stopped),
        Line::TooLong => {
            node.too_long(out);
            Ok(())
        }
    }
}

fn stopped(Fault(reason): Fault) -> io::Error {
    io::Error::other(format!("the node can't go on: {reason}"))
}

fn write_lines(output: &mut impl Write, lines: &mut Vec<String>) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for line in lines.drain(..) {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    output.write_all(&bytes)?;
    output.flush()
}

/// Random bits, from the keys that the standard library draws for its hash maps.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
