//! The accepting side of peer links.

use crate::frame::{BadLength, FrameReader, ReadError, WriteQueue};
use crate::server::Door;
use crate::slots::{Slot, Slots};
use crate::statistics::{Open, add};
use crate::{Accept, Accepted, PeerId, PeerLimits, Statistics, Stream};
use bytes::Bytes;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The least that is read from a peer at a time: peers say much.
const READ_CHUNK: usize = 64 * 1024;

/// The outcome of a stranger's hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is this peer. The chunks are sent to it as one frame, and then its frames are taken. An older connection of
    /// the same peer is closed: it reconnected.
    Welcome(PeerId, Vec<Bytes>),
    /// It had a question, which the chunks answer as one frame; the connection is closed behind it. No chunks: it is
    /// closed without an answer, and without a word.
    Answered(Vec<Bytes>),
    /// It is not let in. The chunks (none: nothing) are sent to it as one frame, the reason is logged, and the
    /// connection is closed.
    Rejected {
        /// The answer to the stranger.
        answer: Vec<Bytes>,
        /// For the log.
        reason: String,
    },
}

/// A receiver of peers' frames.
pub trait PeerService: Send + Sync + 'static {
    /// Looks at a stranger's first frame and decides who it is. Called on a thread where it may block: what it notes of
    /// the peer may have to be durable before anything is taken from it.
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
pub async fn serve_peers<P: PeerService, A: Accept>(
    mut listener: A,
    service: Arc<P>,
    limits: PeerLimits,
    statistics: Arc<Statistics>,
    shutdown: impl Future<Output = ()> + Send,
) {
    // Peers may well share an address, and there are few of them: only the total is limited.
    let slots = Slots::new(limits.max_connections, limits.max_connections);
    let shared = Arc::new(Shared {
        service,
        limits,
        statistics,
        present: Mutex::default(),
        generations: AtomicU64::new(0),
    });
    let mut door = Door::new(slots, shared.statistics.clone());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                error!(%error, "a peer connection's task failed");
            },
            admitted = door.accept(&mut listener) => if let Some((accepted, slot)) = admitted {
                connections.spawn(serve_one(shared.clone(), accepted, slot));
            },
        }
    }
    connections.shutdown().await;
}

/// The state that all connections of peers share.
struct Shared<P> {
    service: Arc<P>,
    limits: PeerLimits,
    statistics: Arc<Statistics>,
    /// The newest connection of each peer.
    present: Mutex<HashMap<PeerId, Newest>>,
    /// Admissions so far.
    generations: AtomicU64,
}

/// A peer's newest connection.
struct Newest {
    /// Ends it when there is a newer one.
    replaced: CancellationToken,
    /// Tells it from older and newer ones of the same peer.
    generation: u64,
}

impl<P> Shared<P> {
    fn present(&self) -> MutexGuard<'_, HashMap<PeerId, Newest>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, from its hello to its end.
async fn serve_one<P: PeerService, T: Stream>(shared: Arc<Shared<P>>, accepted: Accepted<T>, slot: Slot) {
    let Accepted { stream, remote, .. } = accepted;
    // The writer is dropped last: a peer that sees its connection closed and comes back finds its slot free.
    let (reader, mut writer) = split(stream);
    let _slot = slot;
    let _open = Open::begin(shared.statistics.clone());
    let mut reader = FrameReader::new(reader, READ_CHUNK);
    let handshake = admit(&shared, remote, &mut reader, &mut writer);
    let admitted = timeout(shared.limits.handshake_timeout, handshake).await;
    if let Ok(Ok(None)) = admitted {
        return;
    }
    let Ok(Ok(Some(peer))) = admitted else {
        add(&shared.statistics.closed.not_admitted, 1);
        let reason = admitted.map_or_else(
            |_| "no hello in time".to_owned(),
            |result| result.err().unwrap_or_default(),
        );
        warn!(%remote, reason, "a peer was not let in");
        return;
    };
    let stay = Stay::begin(shared.clone(), peer);
    info!(%peer, %remote, "a peer arrived");
    let reason = tokio::select! {
        reason = take_frames(&shared, peer, &mut reader, &mut writer) => reason,
        () = stay.replaced.cancelled() => "it reconnected".to_owned(),
    };
    info!(%peer, %remote, reason, "a peer's connection ended");
}

/// Reads the hello, asks the service, and answers. No peer: it only had a question.
async fn admit<P: PeerService, R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    shared: &Shared<P>,
    remote: SocketAddr,
    reader: &mut FrameReader<R>,
    writer: &mut W,
) -> Result<Option<PeerId>, String> {
    let hello = match reader.next(shared.limits.max_hello_bytes).await {
        Ok(Some(hello)) => hello.freeze(),
        Ok(None) => return Err("closed before its hello".to_owned()),
        Err(error) => return Err(describe(&error)),
    };
    let service = shared.service.clone();
    let admission = tokio::task::spawn_blocking(move || service.admit(remote, hello));
    let admission = admission.await.map_err(|error| error.to_string())?;
    let (answer, verdict) = match admission {
        Admission::Welcome(peer, answer) => (answer, Ok(Some(peer))),
        Admission::Answered(answer) => (answer, Ok(None)),
        Admission::Rejected { answer, reason } => (answer, Err(reason)),
    };
    if matches!(verdict, Ok(Some(_))) || !answer.is_empty() {
        let mut queue = WriteQueue::default();
        queue
            .push(answer)
            .map_err(|long| format!("our own answer of {} bytes fits into no frame", long.0))?;
        while !queue.is_empty() {
            let written = queue.write_some(writer).await.map_err(|error| error.to_string())?;
            add(&shared.statistics.bytes_out, written);
        }
    }
    if !matches!(verdict, Ok(Some(_))) {
        let _ = writer.shutdown().await;
        // Until it has read the answer and closes too, or the handshake's time is over: a reset might overtake it.
        reader.discard().await;
    }
    verdict
}

/// Hands frames on until the connection ends; says why it ended.
async fn take_frames<P: PeerService, R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    shared: &Shared<P>,
    peer: PeerId,
    reader: &mut FrameReader<R>,
    writer: &mut W,
) -> String {
    let Shared {
        service,
        limits,
        statistics,
        ..
    } = shared;
    let mut answers = WriteQueue::default();
    loop {
        let next = async {
            tokio::select! {
                next = reader.next(limits.max_frame_bytes) => Some(next.map_err(|error| count(statistics, &error))),
                written = answers.write_some(writer), if !answers.is_empty() => match written {
                    Ok(written) => { add(&statistics.bytes_out, written); None }
                    Err(error) => Some(Err(error.to_string())),
                },
            }
        };
        let frame = match timeout(limits.idle_timeout, next).await {
            Ok(None) => continue,
            Ok(Some(Ok(Some(frame)))) => frame,
            Ok(Some(Ok(None))) => return "the peer closed it".to_owned(),
            Ok(Some(Err(reason))) => return reason,
            Err(_) => {
                add(&statistics.closed.idle, 1);
                return format!("not a frame in {:?}", limits.idle_timeout);
            }
        };
        add(&statistics.frames_in, 1);
        add(&statistics.bytes_in, frame.len() + crate::frame::LENGTH_BYTES);
        if !frame.is_empty() {
            service.frame(peer, frame.freeze());
        } else if answers.is_empty() {
            // One answer on its way is enough, however often a peer asks.
            answers.push_empty();
        }
    }
}

/// Counts what a peer did wrong, and says it.
fn count(statistics: &Statistics, error: &ReadError) -> String {
    if matches!(error, ReadError::Length(_)) {
        add(&statistics.closed.oversized, 1);
    }
    describe(error)
}

fn describe(error: &ReadError) -> String {
    match error {
        ReadError::Io(error) => error.to_string(),
        ReadError::Length(BadLength { length, max }) => format!("a frame of {length} bytes, where {max} are allowed"),
    }
}

/// A peer's stay over one connection.
struct Stay<P: PeerService> {
    shared: Arc<Shared<P>>,
    peer: PeerId,
    replaced: CancellationToken,
    generation: u64,
}

impl<P: PeerService> Stay<P> {
    fn begin(shared: Arc<Shared<P>>, peer: PeerId) -> Stay<P> {
        let replaced = CancellationToken::new();
        let generation = shared.generations.fetch_add(1, Ordering::Relaxed);
        let newest = Newest {
            replaced: replaced.clone(),
            generation,
        };
        let older = shared.present().insert(peer, newest);
        if let Some(older) = older {
            older.replaced.cancel();
        }
        shared.service.arrived(peer);
        Stay {
            shared,
            peer,
            replaced,
            generation,
        }
    }
}

impl<P: PeerService> Drop for Stay<P> {
    fn drop(&mut self) {
        let was_newest = {
            let mut present = self.shared.present();
            let newest = present
                .get(&self.peer)
                .is_some_and(|newest| newest.generation == self.generation);
            if newest {
                present.remove(&self.peer);
            }
            newest
        };
        if was_newest {
            self.shared.service.left(self.peer);
        }
    }
}
