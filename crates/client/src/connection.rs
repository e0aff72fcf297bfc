//! One connection to one broker.

use crate::exchange::Exchange;
use crate::{CLIENT_ID, RequestError};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimaran_wire::request::Call;

/// An asynchronous connection, for one request at a time. After an error it is of no use any more.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    exchange: Exchange,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// [`RequestError::Connect`].
    pub async fn open(address: &str, wait: Duration) -> Result<Connection, RequestError> {
        let stream = match tokio::time::timeout(wait, TcpStream::connect(address)).await {
            Ok(connected) => connected.map_err(RequestError::Connect)?,
            Err(_) => return Err(RequestError::Connect(io::ErrorKind::TimedOut.into())),
        };
        // Without it, small requests would wait for each other's acknowledgements; that it fails harms nothing else.
        let _ = stream.set_nodelay(true);
        Ok(Connection {
            stream,
            exchange: Exchange::new(CLIENT_ID),
        })
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// Any but [`RequestError::Connect`] and [`RequestError::Code`].
    pub async fn call<C: Call>(
        &mut self,
        version: i16,
        request: &C,
        wait: Duration,
    ) -> Result<C::Response, RequestError> {
        let exchange = async {
            let frame = self.exchange.request(version, request)?;
            self.stream.write_all(&frame).await.map_err(RequestError::from_io)?;
            loop {
                if let Some(response) = self.exchange.response::<C>(version)? {
                    return Ok(response);
                }
                let read = self.stream.read_buf(self.exchange.arrived()).await;
                if read.map_err(RequestError::from_io)? == 0 {
                    return Err(RequestError::closed());
                }
            }
        };
        let answered = tokio::time::timeout(wait, exchange).await;
        answered.unwrap_or(Err(RequestError::TimedOut))
    }

    /// Sends a request that gets no response.
    ///
    /// # Errors
    /// Any but [`RequestError::Connect`] and [`RequestError::Code`].
    pub async fn send<C: Call>(&mut self, version: i16, request: &C, wait: Duration) -> Result<(), RequestError> {
        let frame = self.exchange.unanswered(version, request)?;
        let written = tokio::time::timeout(wait, self.stream.write_all(&frame)).await;
        written
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
            .map_err(RequestError::from_io)
    }
}
