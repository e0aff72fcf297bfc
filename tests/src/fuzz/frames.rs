//! What stands in a stream, wherever the stream is cut.

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};
use trimaran_wire::frame::FrameCodec;
use trimaran_wire::json::{Line, LineCodec};

/// Small, so that it is reached.
const LIMIT: usize = 300;

/// The first byte says where the stream is cut.
pub(super) fn target(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else {
        return;
    };
    let cut = usize::from(*cut).min(stream.len());
    frames(stream, cut);
    lines(stream, cut);
}

fn frames(stream: &[u8], cut: usize) {
    let whole = cut_frames(&[stream]);
    assert_eq!(cut_frames(&[&stream[..cut], &stream[cut..]]), whole);
    let mut again = BytesMut::new();
    for frame in &whole.0 {
        assert!(frame.len() <= LIMIT);
        FrameCodec::new(LIMIT)
            .encode(Bytes::copy_from_slice(frame), &mut again)
            .expect("a frame that was accepted can be sent");
    }
    assert!(stream.starts_with(&again));
}

/// The frames, and whether the stream ended with an error.
fn cut_frames(parts: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut codec, mut buffer, mut found) = (FrameCodec::new(LIMIT), BytesMut::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => found.push(frame.to_vec()),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fn lines(stream: &[u8], cut: usize) {
    let whole = cut_lines(&[stream]);
    assert_eq!(cut_lines(&[&stream[..cut], &stream[cut..]]), whole);
    // What is not too long is in the stream, and the number of lines is the stream's.
    let expected =
        stream.split(|byte| *byte == b'\n').count() - usize::from(stream.is_empty() || stream.ends_with(b"\n"));
    assert_eq!(whole.len(), expected);
    for line in whole {
        if let Line::Text(text) = line {
            assert!(text.len() <= LIMIT && !text.contains(&b'\n'));
        }
    }
}

fn cut_lines(parts: &[&[u8]]) -> Vec<Line> {
    let (mut codec, mut buffer, mut found) = (LineCodec::new(LIMIT), BytesMut::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        while let Some(line) = codec.decode(&mut buffer).expect("no I/O is done") {
            found.push(line);
        }
    }
    while let Some(line) = codec.decode_eof(&mut buffer).expect("no I/O is done") {
        found.push(line);
    }
    found
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut stream = BytesMut::from(&[9][..]);
    for frame in [&b"one"[..], b"", &[7; 299]] {
        let sent = FrameCodec::new(LIMIT).encode(Bytes::copy_from_slice(frame), &mut stream);
        sent.expect("below the limit");
    }
    let long = [&b"\x05{\"a\": 1}\r\n\n"[..], &[b'x'; 310], b"\nlast"].concat();
    vec![stream.to_vec(), long]
}
