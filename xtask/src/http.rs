//! As much HTTP as asking a broker's administration port takes: one request, one connection, one answer.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than the longest answer of interest; what is beyond it is not read.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks for a page.
pub(crate) fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Answer> {
    request(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
        timeout,
    )
}

/// Sends JSON, and takes JSON.
pub(crate) fn post_json(
    address: SocketAddr,
    path: &str,
    body: &serde_json::Value,
    timeout: Duration,
) -> Result<serde_json::Value> {
    let body = body.to_string();
    let length = body.len();
    let answer = request(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
        timeout,
    )?;
    serde_json::from_str(&answer.body)
        .with_context(|| format!("{address}{path} answered {} with {:?}", answer.status, answer.body))
}

fn request(address: SocketAddr, text: &str, timeout: Duration) -> Result<Answer> {
    let mut stream =
        TcpStream::connect_timeout(&address, timeout).with_context(|| format!("can't connect to {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut answer)
        .with_context(|| format!("{address} gave no answer"))?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{address} did not answer as HTTP does"))
}

/// Takes an answer apart. The body may come in chunks.
fn parse(text: &str) -> Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").context("the headers don't end")?;
    let mut lines = head.lines();
    let status_line = lines.next().unwrap_or_default();
    if !status_line.starts_with("HTTP/1.") {
        bail!("no status line: {status_line:?}");
    }
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("no status")?;
    let chunked = lines.any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("transfer-encoding:") && line.contains("chunked")
    });
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Ok(Answer { status, body })
}

fn unchunk(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..size).context("a chunk is cut off")?);
        rest = after.get(size + 2..).context("a chunk is cut off")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let plain = parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nnot y").unwrap();
        assert_eq!(
            plain,
            Answer {
                status: 503,
                body: "not y".to_owned()
            }
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(
            parse(chunked).unwrap(),
            Answer {
                status: 200,
                body: "abcde".to_owned()
            }
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc";
        assert!(parse(cut).is_err());
    }
}
