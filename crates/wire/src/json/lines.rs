//! Lines with a limit. A line that is too long is an item, not an error: the next line may be fine.

use bytes::{Buf, BytesMut};
use std::io;
use tokio_util::codec::{Decoder, Encoder};

/// Bytes in a line. The longest that is sent holds a peer frame of a few appends, in hexadecimal.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(BytesMut),
    /// A line that was longer than the limit, and has been skipped.
    TooLong,
}

/// Cuts lines out of a stream, and puts line ends behind lines.
#[derive(Clone, Debug)]
pub struct LineCodec {
    max_bytes: usize,
    /// Bytes at the start of the buffer that are known to hold no line end.
    searched: usize,
    /// Skipping the rest of a line that was too long.
    skipping: bool,
}

impl LineCodec {
    /// A codec for lines of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> LineCodec {
        LineCodec {
            max_bytes,
            searched: 0,
            skipping: false,
        }
    }

    /// What is in the buffer has no line end.
    fn unfinished(&mut self, stream: &mut BytesMut) {
        // One more for a carriage return that may be the line's end.
        self.skipping |= stream.len() > self.max_bytes + 1;
        if self.skipping {
            stream.clear();
        }
        self.searched = stream.len();
    }

    fn finished(&mut self, mut line: BytesMut) -> Line {
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        let too_long = core::mem::take(&mut self.skipping) || line.len() > self.max_bytes;
        if too_long { Line::TooLong } else { Line::Text(line) }
    }
}

impl Decoder for LineCodec {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, stream: &mut BytesMut) -> Result<Option<Line>, io::Error> {
        let found = stream[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = found else {
            self.unfinished(stream);
            return Ok(None);
        };
        let line = stream.split_to(self.searched + end);
        stream.advance(1);
        self.searched = 0;
        Ok(Some(self.finished(line)))
    }

    /// A last line needs no line end.
    fn decode_eof(&mut self, stream: &mut BytesMut) -> Result<Option<Line>, io::Error> {
        if let Some(line) = self.decode(stream)? {
            return Ok(Some(line));
        }
        if stream.is_empty() && !self.skipping {
            return Ok(None);
        }
        self.searched = 0;
        let rest = stream.split();
        Ok(Some(self.finished(rest)))
    }
}

impl Encoder<&str> for LineCodec {
    type Error = io::Error;

    fn encode(&mut self, line: &str, stream: &mut BytesMut) -> Result<(), io::Error> {
        stream.extend_from_slice(line.as_bytes());
        stream.extend_from_slice(b"\n");
        Ok(())
    }
}
