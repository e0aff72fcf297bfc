//! The client's side of Kafka's framing, without I/O: requests become frames, and bytes that arrive become responses.

use crate::RequestError;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use tokio_util::codec::Decoder;
use trimaran_wire::frame::FrameCodec;
use trimaran_wire::request::{Call, decode_response, put_request};

/// No broker's response is longer: a fetch is answered with at most what it asks for, and the metadata of a million
/// partitions takes about 60 MB.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// A request as one frame, its length before it.
///
/// # Errors
/// [`RequestError::Malformed`]: the version does not have a field that is set, or the frame would be too long.
pub fn encode_request<C: Call>(
    client_id: &str,
    version: i16,
    correlation: i32,
    request: &C,
) -> Result<BytesMut, RequestError> {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    put_request(&mut frame, version, correlation, Some(client_id), request).map_err(malformed)?;
    let length = i32::try_from(frame.len() - 4).map_err(malformed)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

fn malformed(error: impl ToString) -> RequestError {
    RequestError::Malformed(error.to_string())
}

/// Cuts a stream into frames.
#[derive(Debug, Default)]
pub struct Frames {
    arrived: BytesMut,
}

impl Frames {
    /// The buffer that arriving bytes are appended to.
    pub fn arrived(&mut self) -> &mut BytesMut {
        &mut self.arrived
    }

    /// The next whole frame, its length taken off; none if more bytes must arrive.
    ///
    /// # Errors
    /// [`RequestError::Malformed`]: the stream holds no frames, or one that is too long.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, RequestError> {
        let frame = FrameCodec::new(MAX_RESPONSE_BYTES).decode(&mut self.arrived);
        frame.map(|frame| frame.map(BytesMut::freeze)).map_err(malformed)
    }
}

/// The requests of one connection and their responses, which come in the order of the requests.
#[derive(Debug)]
pub struct Exchange {
    client_id: String,
    correlation: i32,
    /// The requests that have no response yet.
    awaited: VecDeque<i32>,
    frames: Frames,
}

impl Exchange {
    /// A connection on which nothing was said. Brokers log the client's id.
    pub fn new(client_id: &str) -> Exchange {
        Exchange {
            client_id: client_id.to_owned(),
            correlation: 0,
            awaited: VecDeque::new(),
            frames: Frames::default(),
        }
    }

    /// The frame of a request that is answered.
    ///
    /// # Errors
    /// As [`encode_request`].
    pub fn request<C: Call>(&mut self, version: i16, request: &C) -> Result<BytesMut, RequestError> {
        let frame = self.unanswered(version, request)?;
        self.awaited.push_back(self.correlation);
        Ok(frame)
    }

    /// The frame of a request that gets no answer: Produce without acknowledgement.
    ///
    /// # Errors
    /// As [`encode_request`].
    pub fn unanswered<C: Call>(&mut self, version: i16, request: &C) -> Result<BytesMut, RequestError> {
        self.correlation = self.correlation.wrapping_add(1);
        encode_request(&self.client_id, version, self.correlation, request)
    }

    /// The buffer that arriving bytes are appended to.
    pub fn arrived(&mut self) -> &mut BytesMut {
        self.frames.arrived()
    }

    /// The response to the first request that has none yet; none if more bytes must arrive.
    ///
    /// # Errors
    /// [`RequestError::Malformed`]: what arrived is not that response.
    pub fn response<C: Call>(&mut self, version: i16) -> Result<Option<C::Response>, RequestError> {
        let Some(frame) = self.frames.next_frame()? else {
            return Ok(None);
        };
        let (correlation, response) = decode_response::<C::Response>(version, frame).map_err(malformed)?;
        let awaited = self.awaited.pop_front();
        if awaited != Some(correlation) {
            return Err(malformed(format!("a response to {correlation} instead of {awaited:?}")));
        }
        Ok(Some(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trimaran_wire::kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
    use trimaran_wire::request::encode_response;

    fn response(correlation: i32) -> Vec<u8> {
        let frame = encode_response(0, correlation, &ApiVersionsResponse::default()).unwrap();
        let length = i32::try_from(frame.len()).unwrap();
        [&length.to_be_bytes()[..], &frame].concat()
    }

    #[test]
    fn responses_are_taken_in_the_order_of_the_requests_wherever_the_stream_is_cut() {
        let bytes = [response(1), response(2)].concat();
        for cut in 0..bytes.len() {
            let mut exchange = Exchange::new("test");
            for _ in 0..2 {
                exchange.request(0, &ApiVersionsRequest::default()).unwrap();
            }
            let mut found = 0;
            for part in [&bytes[..cut], &bytes[cut..]] {
                exchange.arrived().extend_from_slice(part);
                while exchange.response::<ApiVersionsRequest>(0).unwrap().is_some() {
                    found += 1;
                }
            }
            assert_eq!(found, 2, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        let too_long = (MAX_RESPONSE_BYTES as i32 + 1).to_be_bytes().to_vec();
        let negative = [0xff; 4].to_vec();
        for bytes in [too_long, negative, b"HTTP/1.1 400 Bad Request".to_vec(), response(2)] {
            let mut exchange = Exchange::new("test");
            exchange.request(0, &ApiVersionsRequest::default()).unwrap();
            exchange.arrived().extend_from_slice(&bytes);
            let result = exchange.response::<ApiVersionsRequest>(0);
            assert!(
                matches!(result, Err(RequestError::Malformed(_))),
                "{result:?} of {bytes:?}"
            );
        }
    }

    #[test]
    fn a_request_is_a_frame_with_its_length() {
        let frame = encode_request("load", 0, 7, &ApiVersionsRequest::default()).unwrap();
        assert_eq!(&frame[..], b"\0\0\0\x0e\0\x12\0\0\0\0\0\x07\0\x04load");
    }
}
