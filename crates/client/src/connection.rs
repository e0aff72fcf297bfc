//! One connection to one broker, one request at a time.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Request, StrBytes, encode_request_header_into_buffer};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimaran_wire::api::Api;
use trimaran_wire::request::decode_response;

/// A response that is longer is none of a broker.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    correlation: i32,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// In words, naming the address.
    pub async fn open(address: &str, patience: Duration) -> Result<Connection, String> {
        let stream = match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("{address}: {error}")),
            Err(_) => return Err(format!("{address} does not answer")),
        };
        // Without it, small requests would wait for each other's acknowledgements; that it fails harms nothing else.
        let _ = stream.set_nodelay(true);
        Ok(Connection {
            stream,
            address: address.to_owned(),
            correlation: 0,
        })
    }

    /// Sends a request and waits for its response. After an error the connection is of no use any longer.
    ///
    /// # Errors
    /// In words, naming the address.
    pub async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, String> {
        self.send(version, request).await?;
        let frame = match tokio::time::timeout(patience, self.receive()).await {
            Ok(frame) => frame?,
            Err(_) => return Err(format!("{} does not answer", self.address)),
        };
        self.decode::<R>(version, frame)
    }

    /// Sends a request that gets no response.
    ///
    /// # Errors
    /// In words, naming the address.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<(), String> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = self.encode(version, request).map_err(|error| self.blame(&error))?;
        self.stream.write_all(&frame).await.map_err(|error| self.blame(&error))
    }

    fn encode<R: Request>(&self, version: i16, request: &R) -> Result<BytesMut, String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("trimaran")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        encode_request_header_into_buffer(&mut frame, &header).map_err(|error| error.to_string())?;
        request.encode(&mut frame, version).map_err(|error| error.to_string())?;
        let length = i32::try_from(frame.len() - 4).map_err(|_| "the request is too long".to_owned())?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame)
    }

    async fn receive(&mut self) -> Result<Bytes, String> {
        let length = self.stream.read_i32().await.map_err(|error| self.blame(&error))?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_RESPONSE_BYTES);
        let Some(length) = length else {
            return Err(self.blame(&"it does not speak Kafka's protocol"));
        };
        // Grows with what arrives, not with what is promised.
        let mut frame = BytesMut::new();
        while frame.len() < length {
            let missing = (length - frame.len()) as u64;
            let read = (&mut self.stream).take(missing).read_buf(&mut frame).await;
            if read.map_err(|error| self.blame(&error))? == 0 {
                return Err(self.blame(&"it closed the connection"));
            }
        }
        Ok(frame.freeze())
    }

    fn decode<R: Request>(&self, version: i16, frame: Bytes) -> Result<R::Response, String> {
        let api = Api::from_key(R::KEY).ok_or_else(|| self.blame(&"it was asked what no broker offers"))?;
        let decoded = decode_response(api, version, frame).map_err(|error| self.blame(&error))?;
        let (correlation, response) = decoded;
        if correlation != self.correlation {
            return Err(self.blame(&"it answers another request"));
        }
        Ok(response)
    }

    fn blame(&self, what: &dyn std::fmt::Display) -> String {
        format!("{}: {what}", self.address)
    }
}
