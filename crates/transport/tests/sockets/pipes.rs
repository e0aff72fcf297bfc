//! Nothing in this crate needs TCP: listeners, sessions and links over pipes in memory.

use crate::links::{Polite, Room};
use crate::support::{Client, count, in_time, until};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use trimaran_transport::{
    Accept, Accepted, Connect, Connection, Limits, LinkEvent, LinkLimits, Listener, PeerId, PeerLimits, PeerLinks,
    Reply, Service, Statistics, serve, serve_peers,
};

const PEER: PeerId = PeerId(2);

/// Less than the frames of these tests, so that reading and writing take turns.
const PIPE_BYTES: usize = 16;

/// Accepts the ends of pipes.
struct Pipes(UnboundedReceiver<DuplexStream>);

/// Makes pipes, and hands their other ends to a [`Pipes`].
type Pipe = UnboundedSender<DuplexStream>;

fn pipes() -> (Pipe, Pipes) {
    let (sender, receiver) = unbounded_channel();
    (sender, Pipes(receiver))
}

fn remote() -> SocketAddr {
    ([10, 1, 2, 3], 4567).into()
}

impl Accept for Pipes {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<Accepted<DuplexStream>> {
        match self.0.recv().await {
            Some(stream) => Ok(Accepted {
                stream,
                remote: remote(),
                local: ([10, 0, 0, 1], 9092).into(),
            }),
            // Nobody can connect any more.
            None => std::future::pending().await,
        }
    }
}

fn connect(pipe: &Pipe) -> io::Result<DuplexStream> {
    let (ours, theirs) = duplex(PIPE_BYTES);
    let sent = pipe.send(theirs);
    sent.map(|()| ours).map_err(|_| io::ErrorKind::ConnectionRefused.into())
}

/// Answers with the number of the request in its session, and where that came from.
#[derive(Default)]
struct Counter {
    /// Sessions that are open.
    sessions: Arc<AtomicUsize>,
}

struct Session {
    connection: Connection,
    requests: AtomicUsize,
    sessions: Arc<AtomicUsize>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service for Counter {
    type Session = Arc<Session>;

    fn open(&self, connection: &Connection) -> Arc<Session> {
        self.sessions.fetch_add(1, Ordering::SeqCst);
        Arc::new(Session {
            connection: connection.clone(),
            requests: AtomicUsize::new(0),
            sessions: self.sessions.clone(),
        })
    }

    fn call(&self, session: &Arc<Session>, frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
        let number = session.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let session = session.clone();
        async move {
            if frame.starts_with(b"wait") {
                std::future::pending::<()>().await;
            }
            let Connection { listener, remote, .. } = &session.connection;
            Reply::Frame(vec![Bytes::from(format!("{listener} {remote} {number}"))])
        }
    }
}

#[tokio::test]
async fn each_connection_has_a_session_for_as_long_as_it_lasts() {
    let (pipe, source) = pipes();
    let service = Arc::<Counter>::default();
    let statistics = Arc::<Statistics>::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(
        Listener::new("inside", source),
        service.clone(),
        Limits::default(),
        statistics.clone(),
        async move { drop(stopped.await) },
    ));
    let mut one = Client(connect(&pipe).unwrap());
    let mut other = Client(connect(&pipe).unwrap());
    for number in 1..=3 {
        one.send("a request").await;
        assert_eq!(one.receive().await, format!("inside 10.1.2.3:4567 {number}"));
    }
    other.send("a request").await;
    assert_eq!(other.receive().await, "inside 10.1.2.3:4567 1", "a session of its own");
    assert_eq!(service.sessions.load(Ordering::SeqCst), 2);
    // A request that holds its session ends with the connection.
    other.send("wait").await;
    until("it is asked", || count(&statistics.in_flight) == 1).await;
    one.send("a request").await;
    assert_eq!(
        one.receive().await,
        "inside 10.1.2.3:4567 4",
        "nobody waits for another's request"
    );
    drop(one);
    until("the session ends", || service.sessions.load(Ordering::SeqCst) == 1).await;
    drop(stop);
    drop(other);
    in_time("the end", server).await.unwrap();
    assert_eq!(service.sessions.load(Ordering::SeqCst), 0);
}

/// Connects to the acceptor of each address.
#[derive(Clone, Default)]
struct Switchboard(Arc<Mutex<HashMap<String, Pipe>>>);

impl Connect for Switchboard {
    type Stream = DuplexStream;

    async fn connect(&self, peer: PeerId, address: &str) -> io::Result<DuplexStream> {
        assert_eq!(peer, PEER);
        let plugged = self.0.lock().unwrap();
        plugged
            .get(address)
            .map_or(Err(io::ErrorKind::ConnectionRefused.into()), connect)
    }
}

#[tokio::test]
async fn links_carry_frames_over_any_stream_and_notice_its_end() {
    let switchboard = Switchboard::default();
    let (pipe, source) = pipes();
    switchboard.0.lock().unwrap().insert("there".to_owned(), pipe);
    let room = Arc::<Room>::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let peers = tokio::spawn(serve_peers(
        source,
        room.clone(),
        PeerLimits::default(),
        Arc::<Statistics>::default(),
        async move { drop(stopped.await) },
    ));
    let (sender, mut events) = unbounded_channel();
    let links = PeerLinks::over(
        switchboard.clone(),
        Arc::new(Polite("I am 1".to_owned())),
        LinkLimits::default(),
        7,
        move |event| drop(sender.send(event)),
    );
    links.set_peer(PEER, "there");
    assert_eq!(
        in_time("an event", events.recv()).await,
        Some(LinkEvent::Connected(PEER))
    );
    let long = Bytes::from(vec![b'x'; 10_000]);
    assert!(links.send(PEER, vec![Bytes::from_static(b"a "), long.clone()]));
    until("it arrives", || !room.frames().is_empty()).await;
    let expected = Bytes::from([b"a ", &long[..]].concat());
    assert_eq!(room.frames(), [(PeerId(1), expected)]);
    // The other end is gone, and nobody listens there any more.
    switchboard.0.lock().unwrap().clear();
    drop(stop);
    in_time("the end of the acceptor", peers).await.unwrap();
    assert!(matches!(
        in_time("an event", events.recv()).await,
        Some(LinkEvent::Closed(PEER, _))
    ));
    assert_eq!(in_time("an event", events.recv()).await, Some(LinkEvent::Refused(PEER)));
}
