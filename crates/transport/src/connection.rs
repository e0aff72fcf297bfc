//! One client's connection: requests in, side by side, and responses out in their order.

mod replies;

use crate::flow::{Flow, InFlight};
use crate::frame::{BadLength, Cut, FrameReader, LENGTH_BYTES};
use crate::statistics::add;
use crate::{Connection, Limits, Reply, Service, Statistics};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

/// The least that is read at a time: an idle connection costs so much, and small requests come many at a time.
const READ_CHUNK: usize = 8 * 1024;

/// Responses that are ready are written together up to so many bytes.
const WRITE_TOGETHER: usize = 256 * 1024;

/// The time for which a client is still read from after its connection was closed, until it closes too. Otherwise bytes
/// that nobody read would make the kernel reset the connection, and the reset may overtake the last response.
const LINGER: Duration = Duration::from_millis(500);

/// The state that all connections of a listener share.
pub(crate) struct Shared<S> {
    pub(crate) service: Arc<S>,
    pub(crate) limits: Limits,
    pub(crate) statistics: Arc<Statistics>,
    /// A permit a byte: see [`Limits::in_flight_bytes_total`].
    pub(crate) budget: Arc<Semaphore>,
    /// The listener ends.
    pub(crate) stop: CancellationToken,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything that was asked was answered, as far as the client let us.
    Finished,
    /// Requests were cut off at the end of [`Limits::drain_timeout`].
    Cut,
}

/// A request's outcome, and its part of what is in flight, which lasts until the response is sent.
type Outcome = (Reply, InFlight);

/// Why reading ended.
#[derive(Debug)]
enum ReadEnd {
    Eof,
    Stop,
    Length(BadLength),
    Idle,
    Stalled,
    NoRoom,
    Io(io::Error),
}

/// Why writing ended.
#[derive(Debug)]
enum WriteEnd {
    /// Reading has ended, and every response is out.
    Done,
    ByService,
    Failed(String),
    /// The rest of a response can't be read any more.
    Unreadable(String),
    Slow,
    Io(io::Error),
    /// The deadline after the end of reading has passed.
    NotDrained,
}

/// Serves one connection to its end.
pub(crate) async fn run<S, R, W>(
    shared: &Shared<S>,
    connection: &Connection,
    session: &S::Session,
    reader: R,
    mut writer: W,
) -> End
where
    S: Service,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let flow = Arc::new(Flow::default());
    let mut frames = FrameReader::new(reader, READ_CHUNK);
    let (requests, receiver) = unbounded_channel();
    let mut pending = Pending {
        receiver,
        queue: VecDeque::new(),
    };

    let (read_end, write_end) = {
        let mut reading = pin!(read_requests(shared, session, &mut frames, requests, &flow));
        let mut writing = pin!(replies::write(shared, &mut pending, &mut writer));
        tokio::select! {
            write_end = &mut writing => (None, write_end),
            read_end = &mut reading => {
                let write_end = match read_end {
                    ReadEnd::Io(_) => WriteEnd::Done,
                    _ => timeout(shared.limits.drain_timeout, writing).await.unwrap_or(WriteEnd::NotDrained),
                };
                (Some(read_end), write_end)
            }
        }
    };
    pending.abort().await;
    report(shared, connection, read_end.as_ref(), &write_end);
    if says_goodbye(read_end.as_ref(), &write_end) {
        // A failure here means that the client has gone already.
        let _ = writer.shutdown().await;
        let _ = timeout(LINGER, frames.discard()).await;
    }
    if matches!(write_end, WriteEnd::NotDrained) {
        End::Cut
    } else {
        End::Finished
    }
}

/// Whether the client may still be there and reading, so that closing must not overtake the last response.
fn says_goodbye(read_end: Option<&ReadEnd>, write_end: &WriteEnd) -> bool {
    matches!(write_end, WriteEnd::Done | WriteEnd::ByService)
        && !matches!(read_end, Some(ReadEnd::Io(_) | ReadEnd::Eof))
}

/// Cuts frames and starts requests until the client, a limit or the listener ends it.
async fn read_requests<S: Service, R: AsyncRead + Unpin>(
    shared: &Shared<S>,
    session: &S::Session,
    frames: &mut FrameReader<R>,
    requests: UnboundedSender<AbortOnDropHandle<Outcome>>,
    flow: &Arc<Flow>,
) -> ReadEnd {
    let reading = async {
        loop {
            match next_request(shared, frames, flow).await {
                Ok((frame, permit)) => {
                    let handle = start(shared, session, flow, frame, permit);
                    // Unbounded, but never longer than the pipeline. Nobody takes it when writing has ended, and then
                    // this future is about to be dropped.
                    let _ = requests.send(handle);
                }
                Err(end) => return end,
            }
        }
    };
    tokio::select! {
        end = reading => end,
        () = shared.stop.cancelled() => ReadEnd::Stop,
    }
}

/// Waits for room, and for a whole frame.
async fn next_request<S, R: AsyncRead + Unpin>(
    shared: &Shared<S>,
    frames: &mut FrameReader<R>,
    flow: &Flow,
) -> Result<(BytesMut, Option<OwnedSemaphorePermit>), ReadEnd> {
    let limits = &shared.limits;
    flow.room(0, limits).await;
    let mut permit = None;
    let mut body: Option<Instant> = None;
    loop {
        let (length, missing) = match frames.cut(limits.max_frame_bytes).map_err(ReadEnd::Length)? {
            Cut::Frame(frame) => {
                flow.room(frame.len(), limits).await;
                if body.is_none() {
                    permit = reserve(shared, flow, frame.len()).await?;
                }
                return Ok((frame, permit));
            }
            Cut::Need { length, missing } => (length, missing),
        };
        if let (Some(length), None) = (length, body) {
            flow.room(length, limits).await;
            permit = reserve(shared, flow, length).await?;
            body = Some(Instant::now() + time_for(length, limits));
        }
        let read = match body {
            Some(deadline) => read_on(frames, missing, deadline.min(Instant::now() + limits.read_timeout)).await?,
            None if frames.begun() => read_on(frames, missing, Instant::now() + limits.read_timeout).await?,
            None => read_first(frames, missing, flow, limits).await?,
        };
        add(&shared.statistics.bytes_in, read);
    }
}

/// The time that a whole frame may take.
fn time_for(length: usize, limits: &Limits) -> Duration {
    limits.read_timeout + Duration::from_secs((length / Limits::MIN_BYTES_PER_SECOND) as u64)
}

/// Room in the budget of all connections, for a frame that counts: one that is large, or one of many.
async fn reserve<S>(shared: &Shared<S>, flow: &Flow, length: usize) -> Result<Option<OwnedSemaphorePermit>, ReadEnd> {
    if length <= Limits::SMALL_FRAME_BYTES && flow.requests() < Limits::FEW_REQUESTS {
        return Ok(None);
    }
    // A frame's length is an i32 on the wire. The budget is never closed.
    let permits = u32::try_from(length).unwrap_or(u32::MAX);
    match timeout(
        shared.limits.read_timeout,
        shared.budget.clone().acquire_many_owned(permits),
    )
    .await
    {
        Ok(Ok(permit)) => Ok(Some(permit)),
        _ => Err(ReadEnd::NoRoom),
    }
}

/// More bytes of a frame that has begun.
async fn read_on<R: AsyncRead + Unpin>(
    frames: &mut FrameReader<R>,
    missing: usize,
    deadline: Instant,
) -> Result<usize, ReadEnd> {
    match timeout_at(deadline, frames.read_more(missing)).await {
        Ok(read) => bytes_or_end(read),
        Err(_) => Err(ReadEnd::Stalled),
    }
}

/// The first bytes of the next frame. Waiting for a response is not idleness.
async fn read_first<R: AsyncRead + Unpin>(
    frames: &mut FrameReader<R>,
    missing: usize,
    flow: &Flow,
    limits: &Limits,
) -> Result<usize, ReadEnd> {
    loop {
        match timeout(limits.idle_timeout, frames.read_more(missing)).await {
            Ok(read) => return bytes_or_end(read),
            Err(_) if flow.requests() > 0 => {}
            Err(_) => return Err(ReadEnd::Idle),
        }
    }
}

fn bytes_or_end(read: io::Result<usize>) -> Result<usize, ReadEnd> {
    match read {
        Ok(0) => Err(ReadEnd::Eof),
        Ok(read) => Ok(read),
        Err(error) => Err(ReadEnd::Io(error)),
    }
}

/// Calls the service, here and now, and lets what it returns run by itself.
fn start<S: Service>(
    shared: &Shared<S>,
    session: &S::Session,
    flow: &Arc<Flow>,
    frame: BytesMut,
    permit: Option<OwnedSemaphorePermit>,
) -> AbortOnDropHandle<Outcome> {
    add(&shared.statistics.frames_in, 1);
    let mut in_flight = InFlight::begin(flow.clone(), shared.statistics.clone(), frame.len(), permit);
    let reply = shared.service.call(session, frame);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let reply = reply.await;
        // Work that waits for its turn still holds its request.
        if !matches!(reply, Reply::InTurn(_)) {
            in_flight.exchange(replies::bytes_in_memory(&reply));
        }
        (reply, in_flight)
    }))
}

/// Requests whose responses are not yet sent, the oldest first.
struct Pending {
    receiver: UnboundedReceiver<AbortOnDropHandle<Outcome>>,
    queue: VecDeque<AbortOnDropHandle<Outcome>>,
}

impl Pending {
    /// The oldest request's outcome, once it is there; none when there will be no more.
    async fn next(&mut self) -> Option<Result<Outcome, JoinError>> {
        if self.queue.is_empty() {
            self.queue.push_back(self.receiver.recv().await?);
        }
        let outcome = self.queue.front_mut()?.await;
        self.queue.pop_front();
        Some(outcome)
    }

    /// Whether the oldest request is done.
    fn is_ready(&mut self) -> bool {
        self.collect();
        self.queue.front().is_some_and(AbortOnDropHandle::is_finished)
    }

    /// Ends all requests, and waits until nothing of them is left.
    async fn abort(&mut self) {
        self.receiver.close();
        self.collect();
        self.queue.iter().for_each(AbortOnDropHandle::abort);
        for handle in self.queue.drain(..) {
            let _ = handle.await;
        }
    }

    fn collect(&mut self) {
        while let Ok(handle) = self.receiver.try_recv() {
            self.queue.push_back(handle);
        }
    }
}

/// One log line and one count for the end of a connection.
fn report<S>(shared: &Shared<S>, connection: &Connection, read_end: Option<&ReadEnd>, write_end: &WriteEnd) {
    let closed = &shared.statistics.closed;
    let Connection { id, remote, .. } = connection;
    match write_end {
        WriteEnd::Done => {}
        WriteEnd::ByService => {
            add(&closed.by_service, 1);
            debug!(%id, %remote, "closed as the service asked");
        }
        WriteEnd::Failed(reason) => {
            add(&closed.failed, 1);
            error!(%id, %remote, reason, "closed: a request failed without an answer");
        }
        WriteEnd::Unreadable(reason) => {
            add(&closed.unreadable, 1);
            warn!(%id, %remote, reason, "closed: the rest of a response can't be read");
        }
        WriteEnd::Slow => {
            add(&closed.slow_reader, 1);
            let timeout = shared.limits.write_timeout;
            warn!(%id, %remote, ?timeout, "closed: the client doesn't read its responses");
        }
        WriteEnd::Io(error) => debug!(%id, %remote, %error, "lost while writing"),
        WriteEnd::NotDrained => {
            add(&closed.not_drained, 1);
            info!(%id, %remote, "closed with requests unanswered: they took longer than the time to drain");
        }
    }
    match read_end {
        None | Some(ReadEnd::Eof | ReadEnd::Stop) => debug!(%id, %remote, "closed"),
        Some(ReadEnd::Length(BadLength { length, max })) => {
            add(&closed.oversized, 1);
            let shown = printable(*length);
            warn!(%id, %remote, length, max, shown, "closed: a frame's length is not acceptable; is this our protocol?");
        }
        Some(ReadEnd::Idle) => {
            add(&closed.idle, 1);
            debug!(%id, %remote, "closed: idle");
        }
        Some(ReadEnd::Stalled) => {
            add(&closed.stalled, 1);
            warn!(%id, %remote, "closed: a frame began and didn't go on");
        }
        Some(ReadEnd::NoRoom) => {
            add(&closed.stalled, 1);
            warn!(%id, %remote, "closed: no room for its frame; too many large requests at a time");
        }
        Some(ReadEnd::Io(error)) => debug!(%id, %remote, %error, "lost while reading"),
    }
}

/// The four bytes of a length as text: `GET ` and the like name the protocol.
fn printable(length: i32) -> String {
    length.to_be_bytes().escape_ascii().to_string()
}

/// The permits that the budget of all connections begins with: no frame may need more than there are.
pub(crate) fn budget(limits: &Limits) -> Arc<Semaphore> {
    let bytes = limits.in_flight_bytes_total.max(limits.max_frame_bytes + LENGTH_BYTES);
    Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests;
