use super::*;

fn bytes(parts: &[&[u8]]) -> BytesMut {
    BytesMut::from(parts.concat().as_slice())
}

#[test]
fn a_frame_is_cut_whatever_the_pieces() {
    let stream = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0], &[0, 0, 0, 1], b"d"].concat();
    for piece in 1..=stream.len() {
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for bytes in stream.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Cut::Frame(frame) = cut(&mut buffer, 3).unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [&b"abc"[..], b"", b"d"], "in pieces of {piece}");
        assert!(buffer.is_empty());
    }
}

#[test]
fn what_is_missing_is_said() {
    let need = |length, missing| Ok(Cut::Need { length, missing });
    assert_eq!(cut(&mut bytes(&[]), 9), need(None, 4));
    assert_eq!(cut(&mut bytes(&[&[0, 0, 0]]), 9), need(None, 1));
    assert_eq!(cut(&mut bytes(&[&[0, 0, 0, 9]]), 9), need(Some(9), 9));
    assert_eq!(cut(&mut bytes(&[&[0, 0, 0, 9], b"12345678"]), 9), need(Some(9), 1));
}

#[test]
fn bad_lengths_are_refused_before_anything_is_reserved() {
    let bad = |length| Err(BadLength { length, max: 9 });
    assert_eq!(cut(&mut bytes(&[&10i32.to_be_bytes()]), 9), bad(10));
    assert_eq!(cut(&mut bytes(&[&(-1i32).to_be_bytes()]), 9), bad(-1));
    assert_eq!(cut(&mut bytes(&[&i32::MIN.to_be_bytes()]), 9), bad(i32::MIN));
    assert_eq!(cut(&mut bytes(&[&i32::MAX.to_be_bytes()]), 9), bad(i32::MAX));
}

#[test]
fn room_follows_what_arrived_and_not_what_was_claimed() {
    assert_eq!(room(4, 100 << 20, 8192), 8192);
    assert_eq!(room(8192, 100 << 20, 8192), 8192);
    assert_eq!(room(1 << 20, 100 << 20, 8192), 1 << 20);
    assert_eq!(room(1 << 20, 100, 8192), 8192);
}

#[tokio::test]
async fn a_claimed_length_reserves_no_memory() {
    let stream = [&(64i32 << 20).to_be_bytes()[..], &[7; 1000]].concat();
    let mut reader = FrameReader::new(stream.as_slice(), 4096);
    assert!(matches!(reader.next(64 << 20).await, Ok(None)));
    assert!(reader.buffer.capacity() <= 16 * 1024, "{}", reader.buffer.capacity());
}

#[tokio::test]
async fn frames_longer_than_a_chunk_arrive_whole() {
    let body: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    let stream = [&1_000_000i32.to_be_bytes()[..], &body, &1i32.to_be_bytes(), b"x"].concat();
    let mut reader = FrameReader::new(stream.as_slice(), 4096);
    assert_eq!(reader.next(1_000_000).await.unwrap().unwrap(), body);
    assert_eq!(reader.next(1_000_000).await.unwrap().unwrap(), &b"x"[..]);
    assert!(reader.next(1_000_000).await.unwrap().is_none());
}

/// Takes a few bytes at a time, of one slice or of several.
struct Trickle(Vec<u8>, usize);

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.1);
        self.0.extend_from_slice(&bytes[..taken]);
        std::task::Poll::Ready(Ok(taken))
    }
    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> std::task::Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = all.len().min(self.1);
        self.0.extend_from_slice(&all[..taken]);
        std::task::Poll::Ready(Ok(taken))
    }
    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn what_is_written_is_what_was_pushed_however_little_the_writer_takes() {
    let large = vec![b'L'; COPY_BELOW];
    for step in [1, 3, 7, 1000, 1 << 20] {
        let mut queue = WriteQueue::default();
        queue
            .push(vec![
                Bytes::from_static(b"ab"),
                Bytes::new(),
                Bytes::from(large.clone()),
            ])
            .unwrap();
        queue.push(vec![]).unwrap();
        queue
            .push(vec![Bytes::from(large.clone()), Bytes::from_static(b"z")])
            .unwrap();
        let mut writer = Trickle(Vec::new(), step);
        let mut total = 0;
        while !queue.is_empty() {
            total += queue.write_some(&mut writer).await.unwrap();
        }
        let length = |n: usize| (n as i32).to_be_bytes();
        let expected = [
            &length(2 + COPY_BELOW)[..],
            b"ab",
            &large,
            &length(0),
            &length(COPY_BELOW + 1),
            &large,
            b"z",
        ]
        .concat();
        assert_eq!(total, expected.len());
        assert_eq!(writer.0, expected, "in steps of {step}");
    }
}

#[tokio::test]
async fn more_chunks_than_one_write_takes() {
    let mut queue = WriteQueue::default();
    let chunk = Bytes::from(vec![1; COPY_BELOW]);
    queue.push(vec![chunk; 3 * SLICES]).unwrap();
    let mut writer = Trickle(Vec::new(), usize::MAX);
    let mut writes = 0;
    while !queue.is_empty() {
        queue.write_some(&mut writer).await.unwrap();
        writes += 1;
    }
    assert_eq!(writes, 4);
    assert_eq!(writer.0.len(), LENGTH_BYTES + 3 * SLICES * COPY_BELOW);
}
