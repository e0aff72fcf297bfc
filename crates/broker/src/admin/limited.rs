//! A listener with limits, since axum's own has none: connections at a time, and patience with idle ones.
//!
//! A probe is always let in. When all places are taken, the connection that has been idle for longest makes room; only
//! requests being answered keep theirs, and those that take time are limited to fewer than there are places.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Administrators and scrapers are few; more is a leak or an attack.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// A connection is closed if the next whole request has not come so long after it was made, or after its last answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connections of the listener.
#[derive(Default)]
struct Visits {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    visits: BTreeMap<u64, State>,
}

struct State {
    /// Since when no request is being answered; none while one is.
    idle_since: Option<Instant>,
    evicted: CancellationToken,
}

impl Visits {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection, if need be that of the one that has been idle for longest. None if all are being
    /// answered.
    fn admit(self: &Arc<Visits>) -> Option<(Visit, CancellationToken)> {
        let mut open = self.lock();
        if open.visits.len() >= MAX_CONNECTIONS {
            let idle = open
                .visits
                .iter()
                .filter_map(|(id, state)| Some((state.idle_since?, *id)));
            let (_, longest) = idle.min()?;
            if let Some(state) = open.visits.remove(&longest) {
                state.evicted.cancel();
            }
        }
        let id = open.next;
        open.next += 1;
        let evicted = CancellationToken::new();
        let state = State {
            idle_since: Some(Instant::now()),
            evicted: evicted.clone(),
        };
        open.visits.insert(id, state);
        let visit = Visit {
            visits: Arc::clone(self),
            id,
        };
        Some((visit, evicted))
    }
}

/// One connection's place.
#[derive(Clone)]
pub(super) struct Visit {
    visits: Arc<Visits>,
    id: u64,
}

impl Visit {
    /// Says whether a request is being answered.
    pub(super) fn set_answering(&self, answering: bool) {
        if let Some(state) = self.visits.lock().visits.get_mut(&self.id) {
            state.idle_since = (!answering).then(Instant::now);
        }
    }

    /// When the patience with it is at its end, if nothing happens.
    fn deadline(&self) -> Instant {
        let open = self.visits.lock();
        let idle_since = open.visits.get(&self.id).and_then(|state| state.idle_since);
        idle_since.unwrap_or_else(Instant::now) + PATIENCE
    }
}

impl Connected<IncomingStream<'_, Limited>> for Visit {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Visit {
        stream.io().place.0.clone()
    }
}

/// Gives a place back.
struct Place(Visit);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.visits.lock().visits.remove(&self.0.id);
    }
}

pub(super) struct Limited {
    listener: TcpListener,
    visits: Arc<Visits>,
}

impl Limited {
    pub(super) fn new(listener: TcpListener) -> Limited {
        Limited {
            listener,
            visits: Arc::default(),
        }
    }
}

impl Listener for Limited {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Where every place is taken by a request being answered, the connection is closed.
            let Some((visit, evicted)) = self.visits.admit() else {
                continue;
            };
            let connection = Patient {
                stream,
                patience: Box::pin(tokio::time::sleep_until(visit.deadline())),
                evicted: Box::pin(evicted.cancelled_owned()),
                place: Place(visit),
            };
            return (connection, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when it was idle for too long, or its place is needed.
pub(super) struct Patient {
    stream: TcpStream,
    patience: Pin<Box<Sleep>>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
}

impl Patient {
    /// An error if the connection is to end.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.evicted.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.patience.as_mut().poll(context).is_ready() {
            let deadline = self.place.0.deadline();
            if deadline <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.patience.as_mut().reset(deadline);
        }
        Ok(())
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many visits as there are places.
    fn full() -> (Arc<Visits>, Vec<(Place, CancellationToken)>) {
        let visits = Arc::<Visits>::default();
        let taken = (0..MAX_CONNECTIONS).map(|_| visits.admit().unwrap());
        let taken = taken.map(|(visit, evicted)| (Place(visit), evicted)).collect();
        (visits, taken)
    }

    #[test]
    fn the_one_that_was_idle_for_longest_makes_room() {
        let (visits, taken) = full();
        taken[0].0.0.set_answering(true);
        let (_visit, evicted) = visits.admit().unwrap();
        let gone: Vec<usize> = (0..taken.len()).filter(|at| taken[*at].1.is_cancelled()).collect();
        assert_eq!(gone, [1], "the first is being answered");
        assert!(!evicted.is_cancelled());
        assert_eq!(visits.lock().visits.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn requests_being_answered_keep_their_places() {
        let (visits, taken) = full();
        for (place, _) in &taken {
            place.0.set_answering(true);
        }
        assert!(visits.admit().is_none());
        taken[7].0.0.set_answering(false);
        assert!(visits.admit().is_some());
        assert!(taken[7].1.is_cancelled());
    }

    #[test]
    fn a_place_is_given_back_once() {
        let (visits, mut taken) = full();
        drop(taken.pop());
        assert_eq!(visits.lock().visits.len(), MAX_CONNECTIONS - 1);
        let (_, evicted) = visits.admit().unwrap();
        assert!(!evicted.is_cancelled() && taken.iter().all(|(_, evicted)| !evicted.is_cancelled()));
        drop(taken);
        assert_eq!(
            visits.lock().visits.len(),
            1,
            "the last visit's place is not held by a Place here"
        );
    }
}
