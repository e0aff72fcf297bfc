//! Responses on their way out, in the order of their requests.

use super::{Outcome, Pending, Shared, WRITE_TOGETHER, WriteEnd};
use crate::flow::InFlight;
use crate::frame::{TooLong, WriteQueue};
use crate::response::{Part, Source};
use crate::statistics::add;
use crate::{Reply, Service};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes that are read from a source at a time, if the client takes them as fast: enough that a read costs little beside
/// what it reads.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes that stay in memory for a client that takes nothing: enough to notice that it goes on.
const KEPT_BYTES: usize = 16 << 10;

/// The sources of a response are read on until so much is there to be written together.
const GATHERED_BYTES: usize = 64 << 10;

/// A piece that is not on its way after so long is put back: its client is slower than its source, and the memory is
/// somebody else's meanwhile.
const HOLD: Duration = Duration::from_millis(500);

/// Writes responses in the order of their requests; those that are ready together go out together.
pub(super) async fn write<S: Service, W: AsyncWrite + Unpin>(
    shared: &Shared<S>,
    pending: &mut Pending,
    writer: &mut W,
) -> WriteEnd {
    let mut out = Outgoing {
        shared,
        writer,
        queue: WriteQueue::default(),
        in_flight: Vec::new(),
    };
    while let Some(outcome) = pending.next().await {
        if let Err(end) = out.take(outcome).await {
            return match end {
                // What was answered before is still sent.
                WriteEnd::ByService | WriteEnd::Failed(_) => out.drain().await.err().unwrap_or(end),
                _ => end,
            };
        }
        let more = out.queue.bytes() < WRITE_TOGETHER && pending.is_ready();
        if !more && let Err(end) = out.drain().await {
            return end;
        }
    }
    WriteEnd::Done
}

/// The responses on their way to one client.
struct Outgoing<'a, S, W> {
    shared: &'a Shared<S>,
    writer: &'a mut W,
    queue: WriteQueue,
    /// Of the responses in the queue.
    in_flight: Vec<InFlight>,
}

impl<S: Service, W: AsyncWrite + Unpin> Outgoing<'_, S, W> {
    /// Puts one outcome into the queue, and writes it as far as there is more of it than the queue should hold.
    async fn take(&mut self, outcome: Result<Outcome, JoinError>) -> Result<(), WriteEnd> {
        let (mut reply, mut held) =
            outcome.map_err(|error| WriteEnd::Failed(format!("the request's task failed: {error}")))?;
        while let Reply::InTurn(work) = reply {
            self.drain().await?;
            reply = work.await;
            held.exchange(bytes_in_memory(&reply));
        }
        self.in_flight.push(held);
        match reply {
            Reply::Nothing | Reply::InTurn(_) => return Ok(()),
            Reply::Close => return Err(WriteEnd::ByService),
            Reply::Frame(chunks) => self.queue.push(chunks).map_err(too_long)?,
            Reply::Parts(parts) => self.parts(parts).await?,
        }
        add(&self.shared.statistics.frames_out, 1);
        Ok(())
    }

    /// Writes the parts of one frame, all but the last bytes.
    async fn parts(&mut self, parts: Vec<Part>) -> Result<(), WriteEnd> {
        let length = parts.iter().map(Part::bytes).sum();
        self.queue.begin(length).map_err(too_long)?;
        let mut parts = VecDeque::from(parts);
        while let Some(part) = parts.pop_front() {
            match part {
                Part::Bytes(bytes) => self.queue.append(bytes),
                Part::Source(source) => self.source(source, &mut parts).await?,
            }
        }
        if !self.drain_within(HOLD).await? {
            self.queue.keep(self.queue.bytes());
        }
        Ok(())
    }

    /// Reads a source and writes what it has, at the pace of the slower of source and client.
    async fn source(&mut self, mut source: Box<dyn Source>, later: &mut VecDeque<Part>) -> Result<(), WriteEnd> {
        let mut wanted = PIECE_BYTES;
        while source.remaining() > 0 {
            let most = source.remaining();
            let pieces = self.read(&mut *source, wanted, later).await?;
            let read: usize = pieces.iter().map(Bytes::len).sum();
            if read == 0 || read > most {
                return Err(WriteEnd::Failed(format!(
                    "{read} bytes were read of {most} that remained"
                )));
            }
            for piece in pieces {
                self.queue.append(piece);
            }
            if self.queue.bytes() < GATHERED_BYTES {
                continue;
            }
            if self.drain_within(HOLD).await? {
                wanted = (2 * wanted).min(PIECE_BYTES);
                continue;
            }
            let back = read.min(self.queue.bytes().saturating_sub(KEPT_BYTES));
            self.queue.keep(self.queue.bytes() - back);
            source.put_back(back);
            give_back(later);
            // About what the client takes in that time.
            wanted = (read - back).clamp(KEPT_BYTES, PIECE_BYTES);
            self.drain_queue().await?;
        }
        Ok(())
    }

    /// Reads the next piece of a source. A read that takes long may wait for memory: others could wait for what this
    /// response holds, so it holds nothing meanwhile.
    async fn read(
        &mut self,
        source: &mut dyn Source,
        wanted: usize,
        later: &mut VecDeque<Part>,
    ) -> Result<Vec<Bytes>, WriteEnd> {
        let mut reading = source.read(wanted);
        let read = match timeout(HOLD, &mut reading).await {
            Ok(read) => read,
            Err(_) => {
                self.queue.keep(self.queue.bytes());
                give_back(later);
                reading.await
            }
        };
        read.map_err(|error| WriteEnd::Unreadable(error.to_string()))
    }

    /// Writes everything; the requests that were answered are in flight no longer.
    async fn drain(&mut self) -> Result<(), WriteEnd> {
        self.drain_queue().await?;
        self.in_flight.clear();
        Ok(())
    }

    async fn drain_queue(&mut self) -> Result<(), WriteEnd> {
        while !self.queue.is_empty() {
            match timeout(self.shared.limits.write_timeout, self.queue.write_some(self.writer)).await {
                Ok(Ok(written)) => add(&self.shared.statistics.bytes_out, written),
                Ok(Err(error)) => return Err(WriteEnd::Io(error)),
                Err(_) => return Err(WriteEnd::Slow),
            }
        }
        Ok(())
    }

    /// Writes everything if the client takes it in that time; says whether it did.
    async fn drain_within(&mut self, patience: Duration) -> Result<bool, WriteEnd> {
        let deadline = Instant::now() + patience;
        while !self.queue.is_empty() {
            match timeout_at(deadline, self.queue.write_some(self.writer)).await {
                Ok(Ok(written)) => add(&self.shared.statistics.bytes_out, written),
                Ok(Err(error)) => return Err(WriteEnd::Io(error)),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Gives back what sources hold before their turn; they read it again.
fn give_back(parts: &mut VecDeque<Part>) {
    for part in parts {
        if let Part::Source(source) = part {
            source.put_back(0);
        }
    }
}

/// Bytes that a reply holds in memory until it is sent.
pub(super) fn bytes_in_memory(reply: &Reply) -> usize {
    match reply {
        Reply::Frame(chunks) => crate::frame::length_of(chunks),
        Reply::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Bytes(bytes) => bytes.len(),
                Part::Source(_) => 0,
            })
            .sum(),
        Reply::Nothing | Reply::InTurn(_) | Reply::Close => 0,
    }
}

fn too_long(TooLong(length): TooLong) -> WriteEnd {
    WriteEnd::Failed(format!("a response of {length} bytes fits into no frame"))
}

#[cfg(test)]
mod tests;
