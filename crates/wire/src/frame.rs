//! Kafka's frames: a length of four bytes, big endian, and that many bytes.

use crate::WireError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use tokio_util::codec::{Decoder, Encoder};

/// Bytes of the length before a frame.
const LENGTH_LEN: usize = 4;

/// How much room is made at once for a frame that has only been announced: what was sent decides about memory, not what
/// was promised.
const MAX_RESERVE: usize = 64 * 1024;

/// Cuts frames out of a stream, and puts lengths before frames.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    max_frame_bytes: usize,
}

impl FrameCodec {
    /// A codec for frames of at most `max_frame_bytes`, the length not included.
    pub fn new(max_frame_bytes: usize) -> FrameCodec {
        FrameCodec { max_frame_bytes }
    }

    fn check(&self, length: usize) -> Result<(), FrameError> {
        if length > self.max_frame_bytes {
            return Err(WireError::FrameTooLong {
                length,
                limit: self.max_frame_bytes,
            }
            .into());
        }
        Ok(())
    }
}

/// Why a stream of frames ended.
#[derive(Debug)]
pub enum FrameError {
    /// The socket failed.
    Io(io::Error),
    /// The other end sent no frame.
    Wire(WireError),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> FrameError {
        FrameError::Io(error)
    }
}

impl From<WireError> for FrameError {
    fn from(error: WireError) -> FrameError {
        FrameError::Wire(error)
    }
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FrameError::Io(error) => error.fmt(f),
            FrameError::Wire(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FrameError {}

impl Decoder for FrameCodec {
    type Item = BytesMut;
    type Error = FrameError;

    fn decode(&mut self, stream: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        let Some(length) = stream.first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        let length = usize::try_from(length).map_err(|_| WireError::NegativeLength(length))?;
        self.check(length)?;
        let missing = (LENGTH_LEN + length).saturating_sub(stream.len());
        if missing > 0 {
            stream.reserve(missing.min(MAX_RESERVE));
            return Ok(None);
        }
        stream.advance(LENGTH_LEN);
        Ok(Some(stream.split_to(length)))
    }
}

impl Encoder<Bytes> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Bytes, stream: &mut BytesMut) -> Result<(), FrameError> {
        self.check(frame.len())?;
        let length = i32::try_from(frame.len()).map_err(|_| WireError::FrameTooLong {
            length: frame.len(),
            limit: i32::MAX as usize,
        })?;
        stream.reserve(LENGTH_LEN + frame.len());
        stream.put_i32(length);
        stream.put(frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    fn stream(frames: &[&[u8]]) -> BytesMut {
        let mut stream = BytesMut::new();
        for frame in frames {
            FrameCodec::new(1_000)
                .encode(Bytes::copy_from_slice(frame), &mut stream)
                .unwrap();
        }
        stream
    }

    #[test]
    fn frames_are_cut_wherever_the_stream_is() {
        let frames: [&[u8]; 3] = [b"one", b"", b"three"];
        let bytes = stream(&frames);
        for cut in 0..bytes.len() {
            let mut codec = FrameCodec::new(5);
            let mut stream = BytesMut::from(&bytes[..cut]);
            let mut found = Vec::new();
            while let Some(frame) = codec.decode(&mut stream).unwrap() {
                found.push(frame);
            }
            stream.extend_from_slice(&bytes[cut..]);
            while let Some(frame) = codec.decode(&mut stream).unwrap() {
                found.push(frame);
            }
            assert_eq!(found, frames);
        }
    }

    #[test]
    fn lengths_have_limits() {
        let decode = |bytes: &[u8]| match FrameCodec::new(5).decode(&mut BytesMut::from(bytes)) {
            Err(FrameError::Wire(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(decode(&[0, 0, 0, 6]), WireError::FrameTooLong { length: 6, limit: 5 });
        assert_eq!(
            decode(b"GET / HTTP/1.1"),
            WireError::FrameTooLong {
                length: 1_195_725_856,
                limit: 5
            }
        );
        assert_eq!(decode(&[0xff; 4]), WireError::NegativeLength(-1));
        let long = FrameCodec::new(5).encode(Bytes::from_static(b"longer"), &mut BytesMut::new());
        assert!(matches!(
            long,
            Err(FrameError::Wire(WireError::FrameTooLong { length: 6, limit: 5 }))
        ));
    }

    #[test]
    fn a_promise_takes_no_memory() {
        let mut stream = BytesMut::from(&[0x06, 0, 0, 0][..]);
        assert_eq!(FrameCodec::new(1 << 30).decode(&mut stream).unwrap(), None);
        assert!(stream.capacity() <= 2 * MAX_RESERVE);
    }

    #[test]
    fn no_bytes_panic() {
        let mut rng = Rng(3);
        for _ in 0..5_000 {
            let mut stream = BytesMut::from(&rng.bytes(64)[..]);
            let mut codec = FrameCodec::new(40);
            while let Ok(Some(_)) = codec.decode(&mut stream) {}
        }
    }
}
