//! A partition's records on their way to a consumer, read as its socket takes them.
//!
//! What a pass has found is at hand: batches of the tail, and slices of segment files, which stay open. A consumer that
//! takes it at once gets it from there. One that doesn't, holds neither: what it has not taken is asked for again, by its
//! offset, when the socket goes on. Batches below the high watermark don't change, so it is the same bytes.

use crate::engine::{Engine, ReadRequest};
use crate::memory::Reservation;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use trimaran_multiraft::Input;
use trimaran_raft::GroupId;
use trimaran_storage::log::{Chunk, FileSlice, LogError};
use trimaran_transport::{Reading, Source};
use trimaran_wire::batch::{BatchHeader, Offset};

/// The time that a read waits for its part of the memory for responses. What others hold they give back within a second, or
/// their clients are cut; a client that is not served for longer should rather try again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The records of one partition in one response.
pub(super) struct Records {
    engine: Engine,
    group: GroupId,
    /// Where the next byte is.
    at: Position,
    /// Bytes from there on.
    remaining: usize,
    /// Batches from `at` on that were read before they were asked for.
    ahead: Vec<Bytes>,
    /// The chunks that follow them, as far as they are known.
    chunks: VecDeque<Chunk>,
    /// The last read: where it began, and the whole batches that it took.
    last: (Position, Vec<Bytes>),
}

/// A place in a partition's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    /// A batch's first offset.
    offset: Offset,
    /// Bytes of it that are sent already.
    skip: usize,
}

impl Position {
    fn at(offset: Offset) -> Position {
        Position { offset, skip: 0 }
    }

    /// The place so many bytes behind this one's batch's beginning, in these batches from there on.
    fn seek(self, batches: &[Bytes], mut bytes: usize) -> Position {
        for piece in batches {
            let mut rest = &piece[..];
            while let Some(length) = BatchHeader::length_in(rest).filter(|length| *length <= rest.len()) {
                if bytes < length {
                    let header = BatchHeader::parse(rest);
                    let offset = header.map_or(self.offset, |header| header.base_offset);
                    return Position { offset, skip: bytes };
                }
                bytes -= length;
                rest = &rest[length..];
            }
        }
        self
    }
}

impl Records {
    /// Whole batches that a read of the group has returned, one after the other. None if there are none.
    pub(super) fn new(engine: &Engine, group: GroupId, chunks: Vec<Chunk>) -> Option<Records> {
        let at = Position::at(base_offset(chunks.first()?)?);
        Some(Records {
            engine: engine.clone(),
            group,
            at,
            remaining: chunks.iter().map(super::chunk_len).sum(),
            ahead: Vec::new(),
            chunks: chunks.into(),
            last: (at, Vec::new()),
        })
    }

    /// Whether the first batches are in a file.
    pub(super) fn begins_in_file(&self) -> bool {
        self.ahead.is_empty() && matches!(self.chunks.front(), Some(Chunk::File(_)))
    }

    /// Reads the first batches now, so that damage to them can still be told as an error. Says how many bytes they are.
    pub(super) async fn read_ahead(&mut self, bytes: usize) -> Result<usize, LogError> {
        if let Some(Chunk::File(slice)) = self.chunks.pop_front() {
            let (read, rest) = self.load(slice, bytes).await?;
            self.ahead.push(read);
            if !rest.is_empty() {
                self.chunks.push_front(Chunk::File(rest));
            }
        }
        Ok(self.ahead.iter().map(Bytes::len).sum())
    }

    /// Reads the first batches of a slice where blocking is allowed, within the memory for responses.
    async fn load(&self, slice: FileSlice, bytes: usize) -> Result<(Bytes, FileSlice), LogError> {
        let share = &self.engine.memory().responses;
        let mut slice = slice;
        let mut reserved = share.try_reserve(slice.len().min(bytes) as u64);
        loop {
            let (returned, read) = read_front(slice, bytes, reserved.take()).await;
            slice = returned;
            match read {
                Ok(read) => return Ok((read, slice)),
                Err(Unread::NeedsBytes(needed)) => {
                    reserved = share.reserve(needed as u64, PATIENCE).await;
                    if reserved.is_none() {
                        return Err(no_memory());
                    }
                }
                Err(Unread::Failed(error)) => {
                    tracing::error!(group = %self.group, %error, "records can't be read for a consumer");
                    let input = Input::Unreadable(self.group, error.clone());
                    self.engine.mailbox(self.group).tell(input);
                    return Err(error);
                }
            }
        }
    }

    /// Asks the log again for what follows.
    async fn find(&mut self, bytes: usize) -> Result<(), String> {
        let request = ReadRequest {
            group: self.group,
            from: self.at.offset,
            max_bytes: bytes.min(self.remaining) + self.at.skip,
            current_epoch: None,
            // The records are committed, even if there is another leader by now.
            follower_ok: true,
            wait: false,
        };
        let found = self.engine.read(request).await;
        let found = found.map_err(|error| format!("the log was asked again for {}: {error}", self.at.offset))?;
        let first = found.chunks.first().and_then(base_offset);
        if first != Some(self.at.offset) {
            return Err(format!(
                "the log was asked again for {} and holds it no longer",
                self.at.offset
            ));
        }
        self.chunks = found.chunks.into();
        Ok(())
    }

    async fn next(&mut self, wanted: usize) -> Result<Vec<Bytes>, String> {
        // These are sent. Kept while the next read waits for memory, they would keep others waiting that do the same.
        self.last = (self.at, Vec::new());
        if self.ahead.is_empty() && self.chunks.is_empty() {
            self.find(wanted).await?;
        }
        let mut batches = std::mem::take(&mut self.ahead);
        let mut bytes: usize = batches.iter().map(Bytes::len).sum();
        while bytes < wanted {
            match self.chunks.pop_front() {
                Some(Chunk::Memory(batch)) => {
                    bytes += batch.len();
                    batches.push(batch);
                }
                Some(Chunk::File(slice)) if batches.is_empty() => {
                    let read = self.load(slice, wanted).await;
                    let (read, rest) = read.map_err(|error| error.to_string())?;
                    bytes += read.len();
                    batches.push(read);
                    if !rest.is_empty() {
                        self.chunks.push_front(Chunk::File(rest));
                    }
                }
                Some(file) => {
                    self.chunks.push_front(file);
                    break;
                }
                None => break,
            }
        }
        self.hand_out(batches)
    }

    /// Notes what is handed out, without what is sent already.
    fn hand_out(&mut self, batches: Vec<Bytes>) -> Result<Vec<Bytes>, String> {
        let end = batches.last().and_then(|piece| end_offset(piece));
        let end = end.ok_or("a batch's header can't be read")?;
        let mut pieces = batches.clone();
        let mut skip = self.at.skip;
        for piece in &mut pieces {
            let skipped = skip.min(piece.len());
            *piece = piece.slice(skipped..);
            skip -= skipped;
        }
        pieces.retain(|piece| !piece.is_empty());
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        self.remaining = self
            .remaining
            .checked_sub(bytes)
            .ok_or("there are more bytes than there were")?;
        self.last = (self.at, batches);
        self.at = Position::at(end);
        Ok(pieces)
    }
}

impl Source for Records {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn read(&mut self, bytes: usize) -> Reading<'_> {
        Box::pin(async move { self.next(bytes).await.map_err(io::Error::other) })
    }

    fn put_back(&mut self, bytes: usize) {
        self.ahead.clear();
        self.chunks.clear();
        let (start, batches) = (self.last.0, std::mem::take(&mut self.last.1));
        if bytes > 0 {
            let whole: usize = batches.iter().map(Bytes::len).sum();
            self.at = start.seek(&batches, whole.saturating_sub(bytes));
            self.remaining += bytes;
        }
    }
}

/// Why nothing was read of a slice.
enum Unread {
    /// So many bytes must be reserved first.
    NeedsBytes(usize),
    Failed(LogError),
}

/// Reads the first batches of a slice, if that many bytes are reserved for them, and what is left of it.
async fn read_front(
    mut slice: FileSlice,
    bytes: usize,
    reserved: Option<Reservation>,
) -> (FileSlice, Result<Bytes, Unread>) {
    let unread = slice.clone();
    let read = move || {
        let read = match slice.front_len(bytes) {
            Err(error) => Err(Unread::Failed(error)),
            Ok(needed) => match reserved.filter(|reserved| reserved.covers(needed as u64)) {
                None => Err(Unread::NeedsBytes(needed)),
                Some(reserved) => slice
                    .read_front(bytes)
                    .map_err(Unread::Failed)
                    .map(|read| reserved.hold(read)),
            },
        };
        (slice, read)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(_) => (unread, Err(Unread::Failed(stopping()))),
    }
}

fn stopping() -> LogError {
    unreadable("the broker is stopping")
}

fn no_memory() -> LogError {
    unreadable("no memory for the response became free; `limits.memory_bytes` may be too low for this many consumers")
}

fn unreadable(why: &'static str) -> LogError {
    LogError::Io {
        path: std::path::PathBuf::new(),
        source: io::Error::other(why),
    }
}

fn base_offset(chunk: &Chunk) -> Option<Offset> {
    match chunk {
        Chunk::Memory(batch) => BatchHeader::parse(batch).ok().map(|header| header.base_offset),
        Chunk::File(slice) => Some(slice.base_offset()),
    }
}

/// The offset after the last batch of whole batches.
fn end_offset(batches: &[u8]) -> Option<Offset> {
    let mut rest = batches;
    loop {
        let length = BatchHeader::length_in(rest)?;
        if length >= rest.len() {
            return BatchHeader::parse(rest).ok().map(|header| header.next_offset());
        }
        rest = &rest[length..];
    }
}

#[cfg(test)]
mod tests;
