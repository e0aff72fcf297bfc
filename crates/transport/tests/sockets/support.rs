//! A service whose requests end when the test says so, a client that speaks in frames, and patience.

use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use trimaran_transport::{Connection, Drained, Limits, Listener, Reply, Service, Statistics, Stream, serve};

/// Longer than anything here takes on a busy machine; only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(what, waiting).await;
}

/// Waits for a future, but not for ever.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("in vain: {what}"),
    }
}

pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A loopback address that no other test uses, with a port still to be chosen: a port that is given up here can't be
/// taken by a neighbour.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let [high, low] = (NEXT.fetch_add(1, Ordering::Relaxed) as u16).to_be_bytes();
    SocketAddr::from(([127, 1, high, low], 0))
}

/// Answers as the requests say: `echo …` at once, `wait NAME` when [`Scripted::finish`] is called with that name,
/// `nothing` never, `close` by closing, `panic` by panicking, `large N` with N bytes.
#[derive(Default)]
pub(crate) struct Scripted {
    /// Requests in the order in which they were started.
    pub(crate) started: Mutex<Vec<String>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
    /// Requests whose future exists.
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) most_running: AtomicUsize,
    pub(crate) opened: AtomicUsize,
    pub(crate) closed: Arc<AtomicUsize>,
}

/// Counts the end of its connection.
pub(crate) struct Session(Arc<AtomicUsize>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scripted {
    pub(crate) fn finish(&self, name: &str) {
        let sender = self
            .waiting
            .lock()
            .unwrap()
            .remove(name)
            .expect("a request of that name");
        // Its connection may be gone.
        let _ = sender.send(());
    }

    pub(crate) fn started(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

impl Service for Scripted {
    type Session = Session;

    fn open(&self, _: &Connection) -> Session {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Session(self.closed.clone())
    }

    fn call(&self, _: &Session, frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
        let request = String::from_utf8_lossy(&frame).into_owned();
        self.started.lock().unwrap().push(request.clone());
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(now, Ordering::SeqCst);
        let running = Running(self.running.clone());
        let (word, rest) = request.split_once(' ').unwrap_or((&request, ""));
        let (finish, finished) = oneshot::channel();
        if word == "wait" {
            self.waiting.lock().unwrap().insert(rest.to_owned(), finish);
        }
        assert_ne!(word, "panic-at-once");
        let (word, rest) = (word.to_owned(), rest.to_owned());
        async move {
            let _running = running;
            match word.as_str() {
                "wait" => {
                    let _ = finished.await;
                    Reply::Frame(vec![Bytes::from(rest)])
                }
                "large" => Reply::Frame(vec![Bytes::from(vec![7; rest.parse().unwrap()])]),
                "nothing" => Reply::Nothing,
                "close" => Reply::Close,
                "panic" => panic!("as asked"),
                _ => Reply::Frame(vec![frame.freeze()]),
            }
        }
    }
}

/// A listener with a [`Scripted`] service.
pub(crate) struct Server {
    pub(crate) service: Arc<Scripted>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Server {
        let listener = TcpListener::bind(own_address()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::<Scripted>::default();
        let statistics = Arc::<Statistics>::default();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let listener = Listener::new("test", listener);
        let task = tokio::spawn(serve(listener, service.clone(), limits, statistics.clone(), shutdown));
        Server {
            service,
            statistics,
            address,
            stop,
            task,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Begins the shutdown, without waiting for its end.
    pub(crate) fn stop(self) -> JoinHandle<Drained> {
        drop(self.stop);
        self.task
    }
}

/// Speaks in frames.
pub(crate) struct Client<S = TcpStream>(pub(crate) S);

impl<S: Stream> Client<S> {
    pub(crate) async fn send(&mut self, request: &str) {
        self.send_bytes(request.as_bytes()).await;
    }

    pub(crate) async fn send_bytes(&mut self, frame: &[u8]) {
        self.0.write_all(&framed(frame)).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> String {
        String::from_utf8(self.receive_bytes().await).unwrap()
    }

    pub(crate) async fn receive_bytes(&mut self) -> Vec<u8> {
        let read = async {
            let length = self.0.read_i32().await.unwrap();
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut frame).await.unwrap();
            frame
        };
        in_time("a response", read).await
    }

    /// Whether the server has closed the connection, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match in_time("the end of the connection", self.0.read_to_end(&mut rest)).await {
            Ok(_) => rest.is_empty(),
            // Reset: bytes of ours were never read.
            Err(_) => true,
        }
    }
}

/// A frame with its length before it.
pub(crate) fn framed(frame: &[u8]) -> Vec<u8> {
    [&i32::try_from(frame.len()).unwrap().to_be_bytes()[..], frame].concat()
}
