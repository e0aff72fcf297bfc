//! Cuts frames out of a stream of bytes, and puts them into one.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the length before every frame.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Chunks shorter than this are copied together: a copy is cheaper than one more slice for the kernel to walk.
const COPY_BELOW: usize = 1024;

/// Slices handed to one vectored write; well below the 1024 of Linux' `IOV_MAX`.
const SLICES: usize = 64;

/// A length that no frame may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLength {
    /// As it stood on the wire.
    pub(crate) length: i32,
    /// The longest that is allowed.
    pub(crate) max: usize,
}

/// The result of an attempt to cut a frame out of the bytes that are here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A whole frame, without its length.
    Frame(BytesMut),
    /// More bytes are needed.
    Need {
        /// The frame's length, once it is known.
        length: Option<usize>,
        /// At least so many bytes are missing; never zero.
        missing: usize,
    },
}

/// The first frame of `buffer`, taken out of it, or how much is missing. Reserves nothing: a length is only a claim.
///
/// # Errors
/// The length is negative or more than `max`.
pub(crate) fn cut(buffer: &mut BytesMut, max: usize) -> Result<Cut, BadLength> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(Cut::Need {
            length: None,
            missing: LENGTH_BYTES - buffer.len(),
        });
    };
    let claimed = i32::from_be_bytes(*prefix);
    let length = usize::try_from(claimed)
        .ok()
        .filter(|length| *length <= max)
        .ok_or(BadLength { length: claimed, max })?;
    let here = buffer.len() - LENGTH_BYTES;
    if here < length {
        return Ok(Cut::Need {
            length: Some(length),
            missing: length - here,
        });
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Cut::Frame(buffer.split_to(length)))
}

/// The room to make when `here` bytes have arrived and `missing` are still to come: at most as much as has arrived
/// (so that memory follows the bytes and not the claim), but a `chunk` at least (so that small frames come together).
fn room(here: usize, missing: usize, chunk: usize) -> usize {
    missing.min(here).max(chunk)
}

/// Reads from a stream into a buffer that grows with what arrives.
pub(crate) struct FrameReader<R> {
    reader: R,
    buffer: BytesMut,
    /// The least that is asked of the stream.
    chunk: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(reader: R, chunk: usize) -> FrameReader<R> {
        FrameReader {
            reader,
            buffer: BytesMut::new(),
            chunk,
        }
    }

    /// See [`cut`].
    pub(crate) fn cut(&mut self, max: usize) -> Result<Cut, BadLength> {
        cut(&mut self.buffer, max)
    }

    /// Whether a frame has begun.
    pub(crate) fn begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Waits for more bytes: how many came, zero at the end of the stream. Loses nothing when it is dropped.
    pub(crate) async fn read_more(&mut self, missing: usize) -> io::Result<usize> {
        if self.buffer.capacity() - self.buffer.len() < missing.min(self.chunk) {
            self.buffer.reserve(room(self.buffer.len(), missing, self.chunk));
        }
        self.reader.read_buf(&mut self.buffer).await
    }

    /// The next frame; none at the end of the stream, also in the middle of a frame. Loses nothing when it is dropped.
    pub(crate) async fn next(&mut self, max: usize) -> Result<Option<BytesMut>, ReadError> {
        loop {
            match self.cut(max).map_err(ReadError::Length)? {
                Cut::Frame(frame) => return Ok(Some(frame)),
                Cut::Need { missing, .. } => {
                    if self.read_more(missing).await.map_err(ReadError::Io)? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads and forgets whatever comes, until the end of the stream or an error.
    pub(crate) async fn discard(&mut self) {
        self.buffer.clear();
        while matches!(self.read_more(1).await, Ok(1..)) {
            self.buffer.clear();
        }
    }
}

/// Why a frame can't be had.
#[derive(Debug)]
pub(crate) enum ReadError {
    Length(BadLength),
    Io(io::Error),
}

/// Frames on their way out: lengths and small chunks copied together, large chunks as they are.
#[derive(Default)]
pub(crate) struct WriteQueue {
    sealed: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes in `sealed` and `tail`.
    bytes: usize,
}

/// A frame longer than its length can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong(pub(crate) usize);

impl WriteQueue {
    /// Adds one frame.
    ///
    /// # Errors
    /// The chunks are together longer than 2³¹−1 bytes. Nothing was added.
    pub(crate) fn push(&mut self, chunks: Vec<Bytes>) -> Result<(), TooLong> {
        self.begin(length_of(&chunks))?;
        for chunk in chunks {
            self.append(chunk);
        }
        Ok(())
    }

    /// Begins a frame of so many bytes, which [`WriteQueue::append`] adds.
    ///
    /// # Errors
    /// See [`WriteQueue::push`].
    pub(crate) fn begin(&mut self, length: usize) -> Result<(), TooLong> {
        let prefix = i32::try_from(length).map_err(|_| TooLong(length))?;
        self.tail.extend_from_slice(&prefix.to_be_bytes());
        self.bytes += LENGTH_BYTES;
        Ok(())
    }

    /// Adds bytes of a frame that has begun.
    pub(crate) fn append(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if chunk.len() < COPY_BELOW {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.seal();
            self.sealed.push_back(chunk);
        }
    }

    /// Drops everything but the first `bytes`, of which it keeps a copy: what they were a part of can be freed.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.seal();
        let mut kept = BytesMut::with_capacity(bytes.min(self.bytes));
        for chunk in self.sealed.drain(..) {
            let rest = bytes - kept.len();
            kept.extend_from_slice(&chunk[..rest.min(chunk.len())]);
        }
        self.bytes = kept.len();
        self.tail = kept;
    }

    /// Adds a frame without content.
    pub(crate) fn push_empty(&mut self) {
        self.tail.extend_from_slice(&[0; LENGTH_BYTES]);
        self.bytes += LENGTH_BYTES;
    }

    /// Bytes still to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// One vectored write: how many bytes went out, never zero. Loses nothing when it is dropped. There must be something
    /// to write.
    pub(crate) async fn write_some<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> io::Result<usize> {
        self.seal();
        let written = {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut filled = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.sealed) {
                *slice = IoSlice::new(chunk);
                filled += 1;
            }
            writer.write_vectored(&slices[..filled]).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.advance(written);
        Ok(written)
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed.push_back(self.tail.split().freeze());
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.sealed.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.sealed.pop_front();
        }
    }
}

/// The bytes of a frame's chunks together.
pub(crate) fn length_of(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

#[cfg(test)]
mod tests;
