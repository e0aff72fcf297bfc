//! A listener: accepts, counts, and ends.

use crate::connection::{self, End, Shared};
use crate::slots::{Full, Slot, Slots};
use crate::statistics::{add, subtract};
use crate::{Connection, ConnectionId, Limits, Service, Statistics};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// How a listener ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were open when the shutdown began, and whose requests were all answered in time.
    pub finished: usize,
    /// Connections that were cut at the deadline with requests in flight.
    pub cut: usize,
}

/// Serves one listener until `shutdown` completes, then stops accepting and reading, finishes what is in flight within
/// [`Limits::drain_timeout`], closes every connection and returns.
///
/// Errors of single connections are logged and counted, and concern nobody else. Must run inside a Tokio runtime with
/// I/O and time enabled.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    limits: Limits,
    statistics: Arc<Statistics>,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let stop = CancellationToken::new();
    let slots = Slots::new(limits.max_connections, limits.max_connections_per_ip);
    let budget = connection::budget(&limits);
    let shared = Arc::new(Shared {
        service,
        limits,
        statistics,
        budget,
        stop: stop.clone(),
    });
    let mut door = Door::new(slots, shared.statistics.clone());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => { log_panic(ended); }
            admitted = door.accept(&listener) => if let Some((stream, remote, slot)) = admitted {
                connections.spawn(serve_one(shared.clone(), stream, remote, slot));
            },
        }
    }
    drop(listener);
    stop.cancel();
    let mut drained = Drained::default();
    while let Some(ended) = connections.join_next().await {
        match log_panic(ended) {
            Some(End::Cut) => drained.cut += 1,
            Some(End::Finished) | None => drained.finished += 1,
        }
    }
    drained
}

/// A connection's outcome. What a service's panic leaves behind is dropped with its task, and costs only its connection.
fn log_panic(ended: Result<End, JoinError>) -> Option<End> {
    ended
        .inspect_err(|error| error!(%error, "a connection's task failed"))
        .ok()
}

/// Serves one connection, from its first byte to its last.
async fn serve_one<S: Service>(shared: Arc<Shared<S>>, mut stream: TcpStream, remote: SocketAddr, slot: Slot) -> End {
    // Fails only on a socket that is broken already.
    let Ok(local) = stream.local_addr() else {
        return End::Finished;
    };
    let visit = Visit::begin(
        shared,
        Connection {
            id: next_id(),
            remote,
            local,
        },
        slot,
    );
    let (reader, writer) = stream.split();
    connection::run(&visit.shared, &visit.connection, reader, writer).await
}

/// Ids are never used again, whichever listener they belong to.
fn next_id() -> ConnectionId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One connection's stay: opened and closed are told to the service as a pair, whatever happens in between.
struct Visit<S: Service> {
    shared: Arc<Shared<S>>,
    connection: Connection,
    _slot: Slot,
}

impl<S: Service> Visit<S> {
    fn begin(shared: Arc<Shared<S>>, connection: Connection, slot: Slot) -> Visit<S> {
        add(&shared.statistics.accepted, 1);
        add(&shared.statistics.open, 1);
        shared.service.opened(&connection);
        Visit {
            shared,
            connection,
            _slot: slot,
        }
    }
}

impl<S: Service> Drop for Visit<S> {
    fn drop(&mut self) {
        subtract(&self.shared.statistics.open, 1);
        self.shared.service.closed(&self.connection);
    }
}

/// Accepts connections within the limits on their number.
pub(crate) struct Door {
    slots: Arc<Slots>,
    statistics: Arc<Statistics>,
    /// When a connection that was turned away was last logged.
    logged: Option<Instant>,
}

impl Door {
    /// After a failure to accept (out of file descriptors, usually), so long until the next attempt: the reason doesn't
    /// go away by asking, and asking costs a core.
    const PAUSE: Duration = Duration::from_millis(50);

    /// Whoever opens connections by the thousand shall not fill the log as well.
    const LOG_EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn new(slots: Arc<Slots>, statistics: Arc<Statistics>) -> Door {
        Door {
            slots,
            statistics,
            logged: None,
        }
    }

    /// The next connection, if it may stay. Loses nothing when it is dropped.
    pub(crate) async fn accept(&mut self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr, Slot)> {
        match listener.accept().await {
            Ok((stream, remote)) => self.admit(stream, remote),
            Err(error) => {
                self.pause(&error).await;
                None
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, remote: SocketAddr) -> Option<(TcpStream, SocketAddr, Slot)> {
        match self.slots.take(remote.ip()) {
            Ok(slot) => {
                // Responses are written whole; waiting for more to fill a packet would only delay them. A failure means
                // that the connection is gone already, which reading will tell.
                let _ = stream.set_nodelay(true);
                Some((stream, remote, slot))
            }
            Err(full) => {
                add(&self.statistics.turned_away, 1);
                self.log_turned_away(remote, full);
                None
            }
        }
    }

    fn log_turned_away(&mut self, remote: SocketAddr, full: Full) {
        if self.logged.is_some_and(|logged| logged.elapsed() < Door::LOG_EVERY) {
            return;
        }
        self.logged = Some(Instant::now());
        let limit = match full {
            Full::Total => "connections",
            Full::PerIp => "connections from one address",
        };
        let so_far = self.statistics.turned_away.load(Ordering::Relaxed);
        warn!(%remote, so_far, "turned away: the limit of {limit} is reached");
    }

    async fn pause(&self, error: &io::Error) {
        // These say something about one connection, not about the listener.
        let passing = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
        ];
        if !passing.contains(&error.kind()) {
            error!(%error, "a connection can't be accepted; trying again");
            tokio::time::sleep(Door::PAUSE).await;
        }
    }
}
