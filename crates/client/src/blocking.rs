//! The same connection without a runtime, for programs with threads: tests, and load that is measured.

use crate::exchange::Exchange;
use crate::{CLIENT_ID, RequestError};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use trimaran_wire::request::Call;

/// The time that connecting may take: the brokers of a program with threads are on its machine, or near.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The time for which a broker may take none of a request's bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A blocking connection. Several requests may be on their way; responses come in their order. After an error it is of
/// no use any more.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    exchange: Exchange,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`RequestError::Connect`].
    pub fn open(address: SocketAddr) -> Result<Connection, RequestError> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(RequestError::Connect)?;
        stream.set_nodelay(true).map_err(RequestError::Connect)?;
        stream
            .set_write_timeout(Some(WRITE_TIMEOUT))
            .map_err(RequestError::Connect)?;
        Ok(Connection {
            stream,
            exchange: Exchange::new(CLIENT_ID),
        })
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// Any but [`RequestError::Connect`] and [`RequestError::Code`].
    pub fn call<C: Call>(&mut self, version: i16, request: &C, wait: Duration) -> Result<C::Response, RequestError> {
        self.send(version, request)?;
        self.poll::<C>(version, wait)?.ok_or(RequestError::TimedOut)
    }

    /// Sends a request; its response comes by [`Connection::poll`].
    ///
    /// # Errors
    /// Any but [`RequestError::Connect`] and [`RequestError::Code`].
    pub fn send<C: Call>(&mut self, version: i16, request: &C) -> Result<(), RequestError> {
        let frame = self.exchange.request(version, request)?;
        self.stream.write_all(&frame).map_err(RequestError::from_io)
    }

    /// Waits until a response begins, and leaves it where it is.
    ///
    /// # Errors
    /// No response begins in time, or the connection broke.
    pub fn await_bytes(&mut self, wait: Duration) -> Result<(), RequestError> {
        self.set_read_timeout(wait)?;
        match self.stream.peek(&mut [0]).map_err(RequestError::from_io)? {
            0 => Err(RequestError::closed()),
            _ => Ok(()),
        }
    }

    /// Waits so long for the response to the first request that has none yet; none if it has not come by then.
    ///
    /// # Errors
    /// Any but [`RequestError::Connect`] and [`RequestError::Code`].
    pub fn poll<C: Call>(&mut self, version: i16, wait: Duration) -> Result<Option<C::Response>, RequestError> {
        let deadline = Instant::now() + wait;
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            if let Some(response) = self.exchange.response::<C>(version)? {
                return Ok(Some(response));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.set_read_timeout(left)?;
            match self.stream.read(&mut chunk).map_err(RequestError::from_io) {
                Ok(0) => return Err(RequestError::closed()),
                Ok(read) => self.exchange.arrived().extend_from_slice(&chunk[..read]),
                Err(RequestError::TimedOut) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn set_read_timeout(&self, wait: Duration) -> Result<(), RequestError> {
        // The system counts in milliseconds, and zero would mean no limit.
        let wait = wait.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(wait)).map_err(RequestError::Io)
    }
}
