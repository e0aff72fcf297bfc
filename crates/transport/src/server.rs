//! A listener: accepts, counts, and ends.

use crate::{Limits, Service, Statistics};
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections whose requests were all answered in time.
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
    let _ = (listener, service, limits, statistics, shutdown);
    todo!()
}
