//! One question to a peer's listener, on a connection that is made for it.

use crate::Stream;
use crate::frame::{FrameReader, ReadError, WriteQueue};
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::split;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The least that is read at a time: an answer is short.
const READ_CHUNK: usize = 256;

/// Sends one frame to `address` (`host:port`) and returns the frame that answers it, of at most `max_answer_bytes`.
///
/// # Errors
/// No connection, no answer within `patience`, or one that is too long.
pub async fn ask(
    address: &str,
    question: Vec<Bytes>,
    max_answer_bytes: usize,
    patience: Duration,
) -> io::Result<Bytes> {
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        // Fails only on a connection that is gone already.
        let _ = stream.set_nodelay(true);
        exchange(stream, question, max_answer_bytes).await
    };
    let answered = timeout(patience, asked).await;
    answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends one frame, and reads the one that answers it.
async fn exchange(stream: impl Stream, question: Vec<Bytes>, max_answer_bytes: usize) -> io::Result<Bytes> {
    let (reader, mut writer) = split(stream);
    let mut out = WriteQueue::default();
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "the question fits into no frame");
    out.push(question).map_err(too_long)?;
    while !out.is_empty() {
        out.write_some(&mut writer).await?;
    }
    match FrameReader::new(reader, READ_CHUNK).next(max_answer_bytes).await {
        Ok(Some(answer)) => Ok(answer.freeze()),
        Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(ReadError::Io(error)) => Err(error),
        Err(ReadError::Length(bad)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an answer of {} bytes", bad.length),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn a_question_and_its_answer_go_over_any_stream() {
        let (ours, mut theirs) = duplex(64);
        let asked = tokio::spawn(exchange(ours, vec![Bytes::from_static(b"who?")], 16));
        let mut question = [0; 8];
        theirs.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"\0\0\0\x04who?");
        theirs.write_all(b"\0\0\0\x02me").await.unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), "me");
    }
}
