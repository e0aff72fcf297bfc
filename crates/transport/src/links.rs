//! Outgoing links: one connection a peer, kept up by itself.

use crate::link::{self, Link};
use crate::{Connect, LinkLimits, LinkStatistics, Tcp};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// Names a peer. What the number means is the caller's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "peer-{}", self.0)
    }
}

/// An event of the connection to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected, and the welcome was accepted. Frames sent from now on have a chance to arrive.
    Connected(PeerId),
    /// A connection that was [`LinkEvent::Connected`] is gone. Frames on their way are lost. The link tries again at
    /// once.
    Closed(PeerId, String),
    /// The peer's machine answered that nobody listens on the peer's port, where there was a peer before: evidence that
    /// its process is gone. Only after a [`LinkEvent::Connected`] to the same address; repeated at most once an
    /// attempt.
    Refused(PeerId),
    /// The peer can't be reached at this address for this reason, and has not been for that long. Said once that has
    /// lasted a while (a restart is no news), when the reason changes, and then after pauses that double.
    Unreachable {
        /// The peer.
        peer: PeerId,
        /// The address at which it is looked for.
        address: String,
        /// The error of the last attempt.
        reason: String,
        /// Since the first attempt that failed.
        since: Duration,
    },
    /// The peer answered, but the welcome was not acceptable: another cluster, another version, another peer at that
    /// address. Tried again with the longest pause.
    HandshakeRejected(PeerId, String),
}

/// The exchange of the two ends before frames flow. The bytes belong to the caller.
pub trait Handshake: Send + Sync + 'static {
    /// The first frame on every connection to this peer, as chunks.
    fn hello(&self, to: PeerId) -> Vec<Bytes>;

    /// Checks the peer's answer.
    ///
    /// # Errors
    /// Why the peer is not the right one, for a [`LinkEvent::HandshakeRejected`].
    fn check_welcome(&self, from: PeerId, welcome: Bytes) -> Result<(), String>;
}

/// The outgoing links of this process, one a peer.
///
/// All methods may be called from any thread, and none blocks. Dropping the last clone closes every link.
#[derive(Clone)]
pub struct PeerLinks {
    shared: Arc<Shared>,
}

struct Shared {
    /// None once closed.
    links: RwLock<Option<BTreeMap<PeerId, Running>>>,
    limits: LinkLimits,
    /// Starts the task that keeps a link up: of whatever streams it is made.
    start: Box<dyn Fn(Arc<Link>) -> AbortOnDropHandle<()> + Send + Sync>,
}

/// A link with the task that keeps it up, which ends when this is dropped.
struct Running {
    link: Arc<Link>,
    task: AbortOnDropHandle<()>,
}

impl PeerLinks {
    /// Links over plain TCP, without a peer yet. `events` is called from the links' tasks, and must not block; events
    /// of one peer come in order. `seed` sets the pauses' jitter: give each process its own.
    ///
    /// # Panics
    /// Outside of a Tokio runtime (with I/O and time enabled), on which the links will run.
    pub fn new<H: Handshake>(
        handshake: Arc<H>,
        limits: LinkLimits,
        seed: u64,
        events: impl Fn(LinkEvent) + Send + Sync + 'static,
    ) -> PeerLinks {
        PeerLinks::over(Tcp, handshake, limits, seed, events)
    }

    /// As [`PeerLinks::new`], over the streams that `connect` makes.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn over<C: Connect, H: Handshake>(
        connect: C,
        handshake: Arc<H>,
        limits: LinkLimits,
        seed: u64,
        events: impl Fn(LinkEvent) + Send + Sync + 'static,
    ) -> PeerLinks {
        let context = Arc::new(link::Context {
            connect,
            handshake,
            limits: limits.clone(),
            seed,
            events: Box::new(events),
        });
        let runtime = Handle::current();
        let start = move |link| AbortOnDropHandle::new(runtime.spawn(link::run(context.clone(), link)));
        PeerLinks {
            shared: Arc::new(Shared {
                links: RwLock::new(Some(BTreeMap::new())),
                limits,
                start: Box::new(start),
            }),
        }
    }

    /// Adds a peer at `address` (`host:port`, resolved at each attempt), or moves it there. Does nothing if it is there
    /// already, or all links were closed. A connection to the old address is closed.
    pub fn set_peer(&self, peer: PeerId, address: &str) {
        let mut links = self.write();
        let Some(links) = links.as_mut() else { return };
        if let Some(running) = links.get(&peer) {
            running.link.move_to(address);
            return;
        }
        let link = Arc::new(Link::new(peer, address, &self.shared.limits));
        let task = (self.shared.start)(link.clone());
        links.insert(peer, Running { link, task });
    }

    /// Closes the link to a peer and forgets it. No event follows, but for one that is being delivered already.
    pub fn remove_peer(&self, peer: PeerId) {
        let removed = self.write().as_mut().and_then(|links| links.remove(&peer));
        drop(removed);
    }

    /// Queues one frame for a peer, as chunks that are written back to back. Says whether it was queued: `false` if the
    /// peer is unknown, or its last attempt to connect failed, or the frame is longer than the whole queue may be. A
    /// queued frame may still be lost: the caller repeats what matters.
    ///
    /// An empty frame is the links' own sign of life, and is not delivered.
    pub fn send(&self, peer: PeerId, chunks: Vec<Bytes>) -> bool {
        self.with(peer, |link| link.queue.put(chunks)).unwrap_or(false)
    }

    /// As [`PeerLinks::send`], but before everything that waits: for the few small frames that say "I am alive", which
    /// must not queue behind megabytes of records. Of many that wait, only the newest are kept.
    pub fn send_urgent(&self, peer: PeerId, chunks: Vec<Bytes>) -> bool {
        self.with(peer, |link| link.queue.put_urgent(chunks)).unwrap_or(false)
    }

    /// The peer gave a sign of life by another way: if the link is pausing, it tries at once.
    pub fn wake(&self, peer: PeerId) {
        self.with(peer, Link::wake);
    }

    /// Whether the link is connected, its handshake done.
    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.with(peer, Link::is_connected).unwrap_or(false)
    }

    /// The counters of every link, in the order of the ids.
    pub fn statistics(&self) -> Vec<(PeerId, Arc<LinkStatistics>)> {
        self.read()
            .iter()
            .flatten()
            .map(|(peer, running)| (*peer, running.link.statistics.clone()))
            .collect()
    }

    /// Sends what is queued, at most until `deadline` from now, and closes every link. Frames sent later are dropped.
    pub async fn close(&self, deadline: Duration) {
        let deadline = Instant::now() + deadline;
        let links = self.write().take().unwrap_or_default();
        for running in links.values() {
            running.link.finish();
        }
        for running in links.into_values() {
            // What isn't done by the deadline is cut when the handle is dropped.
            let _ = timeout_at(deadline, running.task).await;
        }
    }

    fn with<R>(&self, peer: PeerId, act: impl FnOnce(&Link) -> R) -> Option<R> {
        self.read().as_ref()?.get(&peer).map(|running| act(&running.link))
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<BTreeMap<PeerId, Running>>> {
        self.shared.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<BTreeMap<PeerId, Running>>> {
        self.shared.links.write().unwrap_or_else(PoisonError::into_inner)
    }
}
