//! One outgoing link: connects, shakes hands, sends what is queued, and begins again.

use crate::backoff::Backoff;
use crate::failing::Failing;
use crate::frame::{FrameReader, ReadError, WriteQueue, length_of};
use crate::queue::FrameQueue;
use crate::statistics::add;
use crate::{Connect, Handshake, LinkEvent, LinkLimits, LinkStatistics, PeerId};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Bytes that are sent to a peer at a time: enough to be worth a system call, and few enough that frames behind them are
/// dropped by the queue's rule and not stuck here.
const SEND_TOGETHER: usize = 256 * 1024;

/// After a connection was lost, so many attempts that die between TCP's handshake and the welcome are repeated without
/// a pause: a dying process' connections may be closed before its listener is, and then the next connection is made,
/// and reset at once. Only the one after that is refused.
const URGENT_ATTEMPTS: u32 = 3;

/// A connection that stood for less is no success: two processes that take each other's connections away would do so
/// thousands of times a second if each attempt followed the last one at once. Then the pauses grow as after failures.
const STANDS_AFTER: Duration = Duration::from_secs(1);

/// Losses of such connections in a row that are still followed by an attempt at once: the refusal of that attempt is
/// evidence of a process that is gone, and one that has just started may end again.
const SHORT_LIVES: u32 = 3;

/// The least that is read at a time. The other end says little.
const READ_CHUNK: usize = 256;

/// The state that all links of a process share.
pub(crate) struct Context<C> {
    pub(crate) connect: C,
    pub(crate) handshake: Arc<dyn Handshake>,
    pub(crate) limits: LinkLimits,
    pub(crate) seed: u64,
    pub(crate) events: Box<dyn Fn(LinkEvent) + Send + Sync>,
}

/// One link, as others see it.
pub(crate) struct Link {
    peer: PeerId,
    address: watch::Sender<String>,
    pub(crate) queue: FrameQueue,
    pub(crate) statistics: Arc<LinkStatistics>,
    /// Ends a pause.
    woken: Notify,
    /// Send what is queued, and end.
    finish: CancellationToken,
}

impl Link {
    pub(crate) fn new(peer: PeerId, address: &str, limits: &LinkLimits) -> Link {
        let statistics = Arc::<LinkStatistics>::default();
        Link {
            peer,
            address: watch::Sender::new(address.to_owned()),
            queue: FrameQueue::new(limits, statistics.clone()),
            statistics,
            woken: Notify::new(),
            finish: CancellationToken::new(),
        }
    }

    pub(crate) fn move_to(&self, address: &str) {
        self.address.send_if_modified(|current| {
            let moved = current != address;
            address.clone_into(current);
            moved
        });
    }

    pub(crate) fn wake(&self) {
        self.woken.notify_waiters();
    }

    pub(crate) fn finish(&self) {
        self.finish.cancel();
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.statistics.connected.load(Ordering::Acquire) == 1
    }

    fn set_connected(&self, connected: bool) {
        self.statistics.connected.store(connected.into(), Ordering::Release);
    }
}

/// Why an attempt failed.
enum Failure {
    /// Nobody listens there.
    Refused,
    /// The connection was made, and lost before the welcome.
    Lost(String),
    /// The peer is not the right one.
    Rejected(String),
    /// Anything else: no answer, no such host, no route.
    Unreachable(String),
}

impl Failure {
    /// For the log.
    fn reason(&self) -> &str {
        match self {
            Failure::Refused => "refused",
            Failure::Lost(reason) | Failure::Rejected(reason) | Failure::Unreachable(reason) => reason,
        }
    }
}

/// Why a connection that stood is gone.
enum Closing {
    Lost(String),
    Moved,
    Finished,
}

/// Keeps one link up until it is told to finish, or dropped.
pub(crate) async fn run<C: Connect>(context: Arc<Context<C>>, link: Arc<Link>) {
    let mut address = link.address.subscribe();
    let mut keeper = Keeper {
        backoff: Backoff::new(
            context.limits.backoff_min,
            context.limits.backoff_max,
            context.seed ^ link.peer.0.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ),
        been_connected: false,
        failing: Failing::default(),
        urgent: 0,
        short_lives: 0,
        context,
        link,
    };
    while keeper.attempt_and_serve(&mut address).await {}
    keeper.link.queue.shut();
}

/// A link's own memory between attempts.
struct Keeper<C> {
    context: Arc<Context<C>>,
    link: Arc<Link>,
    backoff: Backoff,
    /// To the present address: only then is a refusal evidence of a process that is gone.
    been_connected: bool,
    /// When to say that attempts fail.
    failing: Failing,
    /// Attempts left that are repeated without a pause.
    urgent: u32,
    /// Connections in a row that were lost before [`STANDS_AFTER`].
    short_lives: u32,
}

impl<C: Connect> Keeper<C> {
    /// Makes one attempt, and serves the connection to its end. Says whether there is to be another.
    async fn attempt_and_serve(&mut self, address: &mut watch::Receiver<String>) -> bool {
        let target = address.borrow_and_update().clone();
        let attempt = connect(&self.context, &self.link, &target);
        let attempted = tokio::select! {
            attempted = attempt => attempted,
            Ok(()) = address.changed() => { self.moved(); return true }
            () = self.link.finish.cancelled() => return false,
        };
        match attempted {
            Ok((writer, reader)) => self.serve(writer, reader, address).await,
            Err(failure) => {
                debug!(peer = %self.link.peer, address = target, reason = failure.reason(), "no connection");
                self.report(target, &failure);
                self.failed(failure, address).await
            }
        }
    }

    /// A rejection is reported by itself.
    fn report(&mut self, address: String, failure: &Failure) {
        if matches!(failure, Failure::Rejected(_)) {
            return self.failing.end();
        }
        let reason = failure.reason();
        if let Some(since) = self.failing.failed(Instant::now(), reason) {
            self.emit(LinkEvent::Unreachable {
                peer: self.link.peer,
                address,
                reason: reason.to_owned(),
                since,
            });
        }
    }

    /// Reports a failure, and pauses where it calls for a pause.
    async fn failed(&mut self, failure: Failure, address: &mut watch::Receiver<String>) -> bool {
        add(&self.link.statistics.failed_attempts, 1);
        if matches!(failure, Failure::Lost(_)) && self.urgent > 0 {
            self.urgent -= 1;
            return true;
        }
        self.urgent = 0;
        self.link.queue.shut();
        let pause = match failure {
            Failure::Rejected(reason) => {
                warn!(peer = %self.link.peer, reason, "the peer's welcome is not acceptable");
                self.emit(LinkEvent::HandshakeRejected(self.link.peer, reason));
                self.backoff.longest()
            }
            Failure::Refused if self.been_connected => {
                self.emit(LinkEvent::Refused(self.link.peer));
                self.backoff.pause()
            }
            Failure::Refused | Failure::Lost(_) | Failure::Unreachable(_) => self.backoff.pause(),
        };
        self.pause(pause, address).await
    }

    /// Waits, unless something ends the wait. Says whether there is to be another attempt.
    async fn pause(&mut self, pause: Duration, address: &mut watch::Receiver<String>) -> bool {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.link.woken.notified() => {}
            Ok(()) = address.changed() => { self.moved(); }
            () = self.link.finish.cancelled() => return false,
        }
        true
    }

    /// Serves a connection until it ends.
    async fn serve(
        &mut self,
        mut writer: WriteHalf<C::Stream>,
        mut reader: FrameReader<ReadHalf<C::Stream>>,
        address: &mut watch::Receiver<String>,
    ) -> bool {
        self.been_connected = true;
        self.failing.end();
        let connected_at = Instant::now();
        self.link.queue.open();
        self.link.set_connected(true);
        add(&self.link.statistics.connects, 1);
        info!(peer = %self.link.peer, address = *address.borrow(), "connected");
        self.emit(LinkEvent::Connected(self.link.peer));
        let closing = tokio::select! {
            reason = pump(&self.context.limits, &self.link, &mut reader, &mut writer) => reason,
            Ok(()) = address.changed() => Closing::Moved,
        };
        self.link.set_connected(false);
        let reason = match closing {
            Closing::Finished => return false,
            Closing::Moved => {
                self.moved();
                "the peer has another address".to_owned()
            }
            Closing::Lost(reason) => {
                self.urgent = URGENT_ATTEMPTS;
                self.lost_after(connected_at.elapsed());
                reason
            }
        };
        add(&self.link.statistics.closes, 1);
        info!(peer = %self.link.peer, reason, "connection lost");
        self.emit(LinkEvent::Closed(self.link.peer, reason));
        if self.short_lives > SHORT_LIVES {
            let pause = self.backoff.pause();
            // Nothing ends this pause early: the peer that would wake the link is connected here all the time.
            tokio::select! {
                () = sleep(pause) => {}
                () = self.link.finish.cancelled() => return false,
            }
        }
        true
    }

    /// A connection was lost that had stood for so long.
    fn lost_after(&mut self, stood: Duration) {
        if stood < STANDS_AFTER {
            self.short_lives = self.short_lives.saturating_add(1);
        } else {
            self.short_lives = 0;
            self.backoff.reset();
        }
    }

    /// Forgets what was known of the old address: it says nothing about the new one.
    fn moved(&mut self) {
        self.been_connected = false;
        self.failing.end();
        self.urgent = 0;
        self.short_lives = 0;
        self.backoff.reset();
    }

    fn emit(&self, event: LinkEvent) {
        (self.context.events)(event);
    }
}

type Connected<S> = (WriteHalf<S>, FrameReader<ReadHalf<S>>);

/// Makes a connection and shakes hands.
async fn connect<C: Connect>(
    context: &Context<C>,
    link: &Link,
    address: &str,
) -> Result<Connected<C::Stream>, Failure> {
    let limits = &context.limits;
    let connecting = context.connect.connect(link.peer, address);
    let stream = match timeout(limits.connect_timeout, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Failure::Refused),
        Ok(Err(error)) => return Err(Failure::Unreachable(error.to_string())),
        Err(_) => {
            let reason = format!("no connection within {:?}", limits.connect_timeout);
            return Err(Failure::Unreachable(reason));
        }
    };
    let (reader, mut writer) = split(stream);
    let mut reader = FrameReader::new(reader, READ_CHUNK);
    timeout(
        limits.handshake_timeout,
        shake_hands(&*context.handshake, limits, link.peer, &mut reader, &mut writer),
    )
    .await
    .map_err(|_| Failure::Unreachable(format!("no welcome within {:?}", limits.handshake_timeout)))??;
    Ok((writer, reader))
}

/// Says hello, and checks the welcome.
async fn shake_hands<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    handshake: &dyn Handshake,
    limits: &LinkLimits,
    peer: PeerId,
    reader: &mut FrameReader<R>,
    writer: &mut W,
) -> Result<(), Failure> {
    let lost = |error: io::Error| Failure::Lost(error.to_string());
    let mut hello = WriteQueue::default();
    hello
        .push(handshake.hello(peer))
        .map_err(|long| Failure::Rejected(format!("our own hello of {} bytes fits into no frame", long.0)))?;
    while !hello.is_empty() {
        hello.write_some(writer).await.map_err(lost)?;
    }
    match reader.next(limits.max_welcome_bytes).await {
        Ok(Some(welcome)) => handshake
            .check_welcome(peer, welcome.freeze())
            .map_err(Failure::Rejected),
        Ok(None) => Err(Failure::Lost("closed before the welcome".to_owned())),
        Err(ReadError::Io(error)) => Err(lost(error)),
        Err(ReadError::Length(bad)) => Err(Failure::Rejected(format!("a welcome of {} bytes", bad.length))),
    }
}

/// Sends what is queued, and watches for signs of life, until the connection ends.
async fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    limits: &LinkLimits,
    link: &Link,
    reader: &mut FrameReader<R>,
    writer: &mut W,
) -> Closing {
    let mut out = WriteQueue::default();
    let mut pulse = Pulse::new(Instant::now());
    let mut ticks = interval_at(Instant::now() + limits.probe_interval, limits.probe_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut finishing = false;
    loop {
        if out.is_empty() {
            fill(link, &mut out);
            pulse.progress = Instant::now();
        }
        if finishing && out.is_empty() {
            // Fails only if the peer has gone already.
            let _ = writer.shutdown().await;
            return Closing::Finished;
        }
        tokio::select! {
            answer = reader.next(0) => match answer {
                Ok(Some(_)) => pulse.unanswered = 0,
                Ok(None) => return Closing::Lost("the peer closed it".to_owned()),
                Err(ReadError::Io(error)) => return Closing::Lost(error.to_string()),
                Err(ReadError::Length(bad)) => return Closing::Lost(format!("an unexpected frame of {} bytes", bad.length)),
            },
            written = out.write_some(writer), if !out.is_empty() => match written {
                Ok(written) => {
                    add(&link.statistics.bytes_out, written);
                    pulse.progress = Instant::now();
                }
                Err(error) => return Closing::Lost(error.to_string()),
            },
            () = link.queue.filled(), if out.is_empty() => {}
            now = ticks.tick() => match pulse.tick(now, out.is_empty(), limits) {
                Verdict::Fine => {}
                Verdict::Ask => out.push_empty(),
                Verdict::Gone(reason) => return Closing::Lost(reason.to_owned()),
            },
            () = link.finish.cancelled(), if !finishing => finishing = true,
        }
    }
}

/// Moves frames from the queue to the connection.
fn fill(link: &Link, out: &mut WriteQueue) {
    for chunks in link.queue.take(SEND_TOGETHER) {
        let length = length_of(&chunks);
        match out.push(chunks) {
            Ok(()) => add(&link.statistics.frames_out, 1),
            Err(_) => {
                warn!(peer = %link.peer, length, "a frame is too long for any connection, and dropped");
                add(&link.statistics.dropped_frames, 1);
                add(&link.statistics.dropped_bytes, length);
            }
        }
    }
}

/// Whether the other end gives signs of life.
struct Pulse {
    /// Empty frames sent since the last answer.
    unanswered: u32,
    /// When bytes were last written, or there were none to write.
    progress: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Ask,
    Gone(&'static str),
}

impl Pulse {
    fn new(now: Instant) -> Pulse {
        Pulse {
            unanswered: 0,
            progress: now,
        }
    }

    /// Once a [`LinkLimits::probe_interval`]. While a lot is being written, and goes on being written, a question would
    /// stand at the end of a long queue, and its answer would say nothing that the writing doesn't.
    fn tick(&mut self, now: Instant, idle: bool, limits: &LinkLimits) -> Verdict {
        let silence = now.saturating_duration_since(self.progress);
        if !idle && silence > limits.write_timeout {
            return Verdict::Gone("the peer takes nothing");
        }
        if !idle && silence < limits.probe_interval {
            return Verdict::Fine;
        }
        if self.unanswered >= 2 {
            return Verdict::Gone("the peer gives no sign of life");
        }
        self.unanswered += 1;
        Verdict::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits() -> LinkLimits {
        LinkLimits {
            probe_interval: Duration::from_secs(2),
            write_timeout: Duration::from_secs(5),
            ..LinkLimits::default()
        }
    }

    #[tokio::test]
    async fn two_unanswered_questions_are_enough() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert_eq!(pulse.tick(start, true, &limits()), Verdict::Ask);
        pulse.unanswered = 0;
        assert_eq!(pulse.tick(start, true, &limits()), Verdict::Ask);
        assert_eq!(pulse.tick(start, true, &limits()), Verdict::Ask);
        assert!(matches!(pulse.tick(start, true, &limits()), Verdict::Gone(_)));
    }

    #[tokio::test]
    async fn a_long_transfer_is_a_sign_of_life_while_it_goes_on() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        for seconds in 0..20 {
            let now = start + Duration::from_secs(seconds);
            pulse.progress = now;
            assert_eq!(pulse.tick(now, false, &limits()), Verdict::Fine);
        }
        let now = pulse.progress + Duration::from_secs(6);
        assert_eq!(
            pulse.tick(now, false, &limits()),
            Verdict::Gone("the peer takes nothing")
        );
    }

    #[test]
    fn a_question_is_a_length_of_zero() {
        let mut out = WriteQueue::default();
        out.push_empty();
        assert_eq!(out.bytes(), 4);
    }
}
