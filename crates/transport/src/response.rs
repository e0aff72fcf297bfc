//! Responses that are longer than should be held in memory: parts that are read when the socket takes them.

use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

/// One part of a response frame.
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes that are read as the socket takes them.
    Source(Box<dyn Source>),
}

impl Part {
    /// Bytes that it adds to the frame.
    pub fn bytes(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Source(source) => source.remaining(),
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Bytes(bytes) => f.debug_tuple("Bytes").field(bytes).finish(),
            Part::Source(source) => write!(f, "Source({} bytes)", source.remaining()),
        }
    }
}

/// The result of a [`Source`]'s read: pieces, in order, or an error.
pub type Reading<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<Bytes>>> + Send + 'a>>;

/// A known number of bytes that are read in pieces, each when the one before is on its way. What a client doesn't take is
/// put back, and read again later: a client that doesn't read costs no memory.
pub trait Source: Send + Sync + 'static {
    /// Bytes still to be read. What was said before the first [`Source::read`] is part of the frame's length, so exactly
    /// as many must come.
    fn remaining(&self) -> usize;

    /// Reads the next bytes: about `bytes` of them, at least one, and no more than remain. Not called when none remain.
    ///
    /// # Errors
    /// They can't be had any more. The connection is closed: its client waits for the rest of a frame.
    fn read(&mut self, bytes: usize) -> Reading<'_>;

    /// The last `bytes` of those that the last [`Source::read`] returned were not sent: they are to be read again. Zero
    /// if it is only to give back whatever memory it holds.
    fn put_back(&mut self, bytes: usize);
}
