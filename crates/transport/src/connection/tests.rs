//! Time-outs, on a clock that jumps and over a pipe: what would take hours takes none.

use super::*;
use crate::ConnectionId;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, DuplexStream, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

/// Answers after as many seconds as the frame says.
struct After;

impl Service for After {
    type Session = ();

    fn open(&self, _: &Connection) {}

    fn call(&self, (): &(), frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
        let seconds = String::from_utf8_lossy(&frame).parse().unwrap();
        async move {
            sleep(Duration::from_secs(seconds)).await;
            Reply::Frame(vec![Bytes::from_static(b"done")])
        }
    }
}

fn start(limits: Limits) -> (DuplexStream, Arc<Statistics>, JoinHandle<End>) {
    let (client, server) = duplex(1 << 20);
    let statistics = Arc::<Statistics>::default();
    let budget = budget(&limits);
    let stop = CancellationToken::new();
    let shared = Shared {
        service: Arc::new(After),
        limits,
        statistics: statistics.clone(),
        budget,
        stop,
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
    (client, statistics, task)
}

fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_long_poll_is_not_idleness() {
    let (mut client, statistics, task) = start(Limits::default());
    client.write_all(b"\0\0\0\x049999").await.unwrap();
    let mut answer = [0; 8];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\0\0\0\x04done");
    let answered = Instant::now();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty() && answered.elapsed() <= Limits::default().idle_timeout);
    assert_eq!(count(&statistics.closed.idle), 1);
    drop(client);
    assert_eq!(task.await.unwrap(), End::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_byte_by_byte_is_not_waited_for() {
    let (mut client, statistics, task) = start(Limits::default());
    client.write_all(&(1i32 << 20).to_be_bytes()).await.unwrap();
    let begun = Instant::now();
    while count(&statistics.closed.stalled) == 0 {
        client.write_all(b"x").await.unwrap();
        advance(Duration::from_secs(20)).await;
        tokio::task::yield_now().await;
    }
    // A megabyte at the least rate: a minute, and half a minute of grace.
    assert!(begun.elapsed() <= Duration::from_secs(120), "{:?}", begun.elapsed());
    drop(client);
    assert_eq!(task.await.unwrap(), End::Finished);
}

#[tokio::test(start_paused = true)]
async fn after_a_half_close_requests_have_the_time_to_drain() {
    for (seconds, end, answered) in [("0004", End::Finished, 8), ("0006", End::Cut, 0)] {
        let (mut client, statistics, task) = start(Limits::default());
        client
            .write_all(&[b"\0\0\0\x04", seconds.as_bytes()].concat())
            .await
            .unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), answered);
        assert_eq!(task.await.unwrap(), end);
        assert_eq!(count(&statistics.in_flight), 0);
    }
}

#[test]
fn a_frames_time_grows_with_its_length() {
    let limits = Limits::default();
    assert_eq!(time_for(0, &limits), limits.read_timeout);
    let minute = 60 * Limits::MIN_BYTES_PER_SECOND;
    assert_eq!(time_for(minute, &limits), limits.read_timeout + Duration::from_secs(60));
}
