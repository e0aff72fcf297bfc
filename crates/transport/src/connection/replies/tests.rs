//! Responses that are read as the client takes them, on a clock that jumps and over a pipe.

use super::*;
use crate::connection::{End, budget, run};
use crate::response::Reading;
use crate::{Connection, ConnectionId, Limits, Statistics};
use bytes::BytesMut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A pipe takes so much of a response that nobody reads.
const PIPE: usize = 64 << 10;

/// What sources and requests did.
#[derive(Default)]
struct Seen {
    /// Bytes read of sources and not put back.
    read: AtomicUsize,
    put_back: AtomicUsize,
    begun: Mutex<Vec<String>>,
}

/// The byte at a place in what a source has.
fn byte_at(place: usize) -> u8 {
    (place % 251) as u8
}

/// Bytes that say where they are; after `fails_at` of them they can't be read.
struct Counting {
    at: usize,
    length: usize,
    fails_at: usize,
    /// Each read takes so long.
    delay: Duration,
    seen: Arc<Seen>,
}

impl Source for Counting {
    fn remaining(&self) -> usize {
        self.length - self.at
    }

    fn read(&mut self, bytes: usize) -> Reading<'_> {
        Box::pin(async move {
            sleep(self.delay).await;
            if self.at >= self.fails_at {
                return Err(std::io::Error::other("a bad sector"));
            }
            let end = (self.at + bytes).min(self.length);
            let piece: Vec<u8> = (self.at..end).map(byte_at).collect();
            self.seen.read.fetch_add(piece.len(), Ordering::SeqCst);
            self.at = end;
            let (first, rest) = piece.split_at(piece.len() / 3);
            Ok([first, rest].map(|half| Bytes::from(half.to_vec())).to_vec())
        })
    }

    fn put_back(&mut self, bytes: usize) {
        self.at -= bytes;
        self.seen.read.fetch_sub(bytes, Ordering::SeqCst);
        self.seen.put_back.fetch_add(1, Ordering::SeqCst);
    }
}

/// Answers `N` with N bytes of a source between two other parts, in turn; `fail N` likewise, but its source fails
/// half-way.
struct Streaming {
    seen: Arc<Seen>,
}

impl Service for Streaming {
    type Session = ();

    fn open(&self, _: &Connection) {}

    fn call(&self, (): &(), frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
        let request = String::from_utf8_lossy(&frame).into_owned();
        let seen = self.seen.clone();
        let work = async move {
            seen.begun.lock().unwrap().push(request.clone());
            let (length, fails) = match request.strip_prefix("fail ") {
                Some(length) => (length, true),
                None => (request.as_str(), false),
            };
            let length = length.parse().unwrap();
            Reply::Parts(vec![
                Part::Bytes(Bytes::from_static(b"<")),
                Part::Source(Box::new(Counting {
                    at: 0,
                    length,
                    fails_at: if fails { length / 2 } else { length },
                    delay: Duration::ZERO,
                    seen,
                })),
                Part::Bytes(Bytes::from_static(b">")),
            ])
        };
        std::future::ready(Reply::InTurn(Box::pin(work)))
    }
}

struct Served {
    client: DuplexStream,
    seen: Arc<Seen>,
    statistics: Arc<Statistics>,
    task: JoinHandle<End>,
}

fn start() -> Served {
    let (client, server) = duplex(PIPE);
    let seen = Arc::<Seen>::default();
    let statistics = Arc::<Statistics>::default();
    let limits = Limits::default();
    let shared = Shared {
        service: Arc::new(Streaming { seen: seen.clone() }),
        budget: budget(&limits),
        limits,
        statistics: statistics.clone(),
        stop: CancellationToken::new(),
    };
    let nowhere = ([127, 0, 0, 1], 0).into();
    let connection = Connection {
        id: ConnectionId(1),
        listener: "test".into(),
        remote: nowhere,
        local: nowhere,
    };
    let task = tokio::spawn(async move {
        let (reader, writer) = split(server);
        run(&shared, &connection, &(), reader, writer).await
    });
    Served {
        client,
        seen,
        statistics,
        task,
    }
}

impl Served {
    async fn ask(&mut self, request: &str) {
        let length = u32::try_from(request.len()).unwrap().to_be_bytes();
        self.client
            .write_all(&[&length, request.as_bytes()].concat())
            .await
            .unwrap();
    }

    /// Reads a response with a source of so many bytes, and checks every one of them.
    async fn take(&mut self, length: usize) {
        let mut frame = vec![0; 4 + length + 2];
        self.client.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..4], u32::try_from(length + 2).unwrap().to_be_bytes());
        assert_eq!((frame[4], frame[length + 5]), (b'<', b'>'));
        let wrong = (0..length).find(|&place| frame[5 + place] != byte_at(place));
        assert_eq!(wrong, None, "of {length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_gets_every_byte_once() {
    for length in [0, 1, 1000, PIECE_BYTES, 3 * PIECE_BYTES + 17] {
        let mut served = start();
        served.ask(&length.to_string()).await;
        served.take(length).await;
        assert_eq!(served.seen.read.load(Ordering::SeqCst), length);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_next_to_nothing() {
    let mut served = start();
    let length = 8 * PIECE_BYTES;
    served.ask(&length.to_string()).await;
    sleep(2 * HOLD).await;
    assert!(served.seen.put_back.load(Ordering::SeqCst) > 0, "nothing was put back");
    let read = served.seen.read.load(Ordering::SeqCst);
    assert!(read <= PIPE + KEPT_BYTES, "{read} bytes of {length} are in memory");
    served.take(length).await;
    assert_eq!(served.seen.read.load(Ordering::SeqCst), length);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_every_byte_once() {
    let mut served = start();
    let length = 2 * PIECE_BYTES;
    served.ask(&length.to_string()).await;
    let mut frame = vec![0; 4 + length + 2];
    for chunk in frame.chunks_mut(30_000) {
        sleep(HOLD).await;
        served.client.read_exact(chunk).await.unwrap();
        let read = served.seen.read.load(Ordering::SeqCst);
        assert!(read <= length, "a byte was read twice");
    }
    let wrong = (0..length).find(|&place| frame[5 + place] != byte_at(place));
    assert_eq!(wrong, None);
    assert!(served.seen.put_back.load(Ordering::SeqCst) > 10);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_ahead_begins_when_its_turn_comes() {
    let mut served = start();
    let length = 2 * PIPE;
    for _ in 0..20 {
        served.ask(&length.to_string()).await;
    }
    sleep(2 * HOLD).await;
    assert_eq!(served.seen.begun.lock().unwrap().len(), 1, "one response at a time");
    for _ in 0..20 {
        served.take(length).await;
    }
    assert_eq!(served.seen.begun.lock().unwrap().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_cut() {
    let mut served = start();
    served.ask(&(8 * PIECE_BYTES).to_string()).await;
    let begun = Instant::now();
    assert_eq!(served.task.await.unwrap(), End::Finished);
    assert!(begun.elapsed() < 2 * Limits::default().write_timeout);
    assert_eq!(served.statistics.closed.slow_reader.load(Ordering::SeqCst), 1);
    assert_eq!(served.statistics.in_flight.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_ends_the_connection_in_the_middle_of_the_frame() {
    let mut served = start();
    let length = 4 * PIECE_BYTES;
    served.ask(&format!("fail {length}")).await;
    let mut received = Vec::new();
    served.client.read_to_end(&mut received).await.unwrap();
    assert!(received.len() < length && received.len() > 4, "{}", received.len());
    assert_eq!(served.task.await.unwrap(), End::Finished);
    assert_eq!(served.statistics.closed.unreadable.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_waits_for_a_source_gives_back_what_later_ones_hold() {
    struct Later(Arc<Seen>);
    impl Service for Later {
        type Session = ();

        fn open(&self, _: &Connection) {}

        fn call(&self, (): &(), _: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
            let source = |delay, seen| {
                Part::Source(Box::new(Counting {
                    at: 0,
                    length: 10,
                    fails_at: 10,
                    delay,
                    seen,
                }))
            };
            let slow = source(4 * HOLD, Arc::default());
            let later = source(Duration::ZERO, self.0.clone());
            std::future::ready(Reply::Parts(vec![slow, later]))
        }
    }
    let seen = Arc::<Seen>::default();
    let (mut client, server) = duplex(PIPE);
    let limits = Limits::default();
    let shared = Shared {
        service: Arc::new(Later(seen.clone())),
        budget: budget(&limits),
        limits,
        statistics: Arc::default(),
        stop: CancellationToken::new(),
    };
    let nowhere = ([127, 0, 0, 1], 0).into();
    let connection = Connection {
        id: ConnectionId(1),
        listener: "test".into(),
        remote: nowhere,
        local: nowhere,
    };
    tokio::spawn(async move {
        let (reader, writer) = split(server);
        run(&shared, &connection, &(), reader, writer).await
    });
    client.write_all(&[0, 0, 0, 1, b'?']).await.unwrap();
    sleep(2 * HOLD).await;
    assert_eq!(seen.put_back.load(Ordering::SeqCst), 1);
    let mut frame = [0; 24];
    client.read_exact(&mut frame).await.unwrap();
    assert!(
        frame[4..]
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == byte_at(at % 10))
    );
}
