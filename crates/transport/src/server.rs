//! A listener: accepts, counts, and ends.

use crate::connection::{self, End, Shared};
use crate::slots::{Full, Slot, Slots};
use crate::statistics::{Open, add};
use crate::{Accept, Accepted, Connection, ConnectionId, Limits, Listener, Service, Statistics, Stream};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::split;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// The end of a listener.
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
pub async fn serve<S: Service, A: Accept>(
    listener: Listener<A>,
    service: Arc<S>,
    limits: Limits,
    statistics: Arc<Statistics>,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let Listener { name, mut source } = listener;
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
            admitted = door.accept(&mut source) => if let Some((accepted, slot)) = admitted {
                connections.spawn(serve_one(shared.clone(), name.clone(), accepted, slot));
            },
        }
    }
    drop(source);
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

/// A connection's outcome. What a service's panic leaves behind is dropped with its task, and costs only its
/// connection.
fn log_panic(ended: Result<End, JoinError>) -> Option<End> {
    ended
        .inspect_err(|error| error!(%error, "a connection's task failed"))
        .ok()
}

/// Serves one connection, from its first byte to its last.
async fn serve_one<S: Service, T: Stream>(
    shared: Arc<Shared<S>>,
    listener: Arc<str>,
    accepted: Accepted<T>,
    slot: Slot,
) -> End {
    let Accepted { stream, remote, local } = accepted;
    // Dropped last: a client that sees its connection closed and comes back finds its slot free.
    let (mut reader, mut writer) = split(stream);
    let _slot = slot;
    let _open = Open::begin(shared.statistics.clone());
    let connection = Connection {
        id: next_id(),
        listener,
        remote,
        local,
    };
    let session = shared.service.open(&connection);
    connection::run(&shared, &connection, &session, &mut reader, &mut writer).await
}

/// Ids are never used again, whichever listener they belong to.
fn next_id() -> ConnectionId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed))
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

    /// A client that opens connections by the thousand must not fill the log as well.
    const LOG_EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn new(slots: Arc<Slots>, statistics: Arc<Statistics>) -> Door {
        Door {
            slots,
            statistics,
            logged: None,
        }
    }

    /// The next connection, if it may stay. Loses nothing when it is dropped.
    pub(crate) async fn accept<A: Accept>(&mut self, source: &mut A) -> Option<(Accepted<A::Stream>, Slot)> {
        match source.accept().await {
            Ok(accepted) => self.admit(accepted),
            Err(error) => {
                self.pause(&error).await;
                None
            }
        }
    }

    fn admit<T>(&mut self, accepted: Accepted<T>) -> Option<(Accepted<T>, Slot)> {
        match self.slots.take(accepted.remote.ip()) {
            Ok(slot) => Some((accepted, slot)),
            Err(full) => {
                add(&self.statistics.turned_away, 1);
                self.log_turned_away(accepted.remote, full);
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
