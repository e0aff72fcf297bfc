//! The accepting side of peer links.

use crate::{PeerId, PeerLimits, Statistics};
use bytes::Bytes;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What a stranger's hello led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is this peer. The chunks are sent to it as one frame, and then its frames are taken. An older connection of the
    /// same peer is closed: it reconnected.
    Welcome(PeerId, Vec<Bytes>),
    /// It is not let in. The chunks (none: nothing) are sent to it as one frame, the reason is logged, and the connection
    /// is closed.
    Rejected {
        /// What the stranger is told.
        answer: Vec<Bytes>,
        /// For the log.
        reason: String,
    },
}

/// What takes the frames of peers.
pub trait PeerService: Send + Sync + 'static {
    /// Looks at a stranger's first frame and decides who it is. Must not block.
    fn admit(&self, from: SocketAddr, hello: Bytes) -> Admission;

    /// Takes one frame of a peer that was admitted; never an empty one. Called in the order of arrival on one
    /// connection. Must not block: what can't be taken is dropped, as on a network.
    fn frame(&self, from: PeerId, frame: Bytes);

    /// A peer was admitted.
    fn arrived(&self, peer: PeerId) {
        let _ = peer;
    }

    /// A peer's connection ended, and there is no newer one.
    fn left(&self, peer: PeerId) {
        let _ = peer;
    }
}

/// Accepts peers until `shutdown` completes, then closes every connection and returns. What peers sent and was not yet
/// read is lost, as it may be at any time.
pub async fn serve_peers<P: PeerService>(
    listener: TcpListener,
    service: Arc<P>,
    limits: PeerLimits,
    statistics: Arc<Statistics>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let _ = (listener, service, limits, statistics, shutdown);
    todo!()
}
