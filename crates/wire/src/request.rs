//! Requests as values, and responses as frames: the hot path's own codecs, and kafka-protocol behind size checks.

#[cfg(test)]
mod tests;

pub use crate::api::Request;

use crate::WireError;
use crate::api::{self, Api, RequestHeader};
use crate::reader::Reader;
use crate::schema::{self, Field};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

/// Array elements and tagged fields in one request, all arrays together. A request that names every partition of a
/// large cluster stays below; a frame full of empty elements, each of which would take a hundred bytes of memory, does
/// not.
pub const MAX_ELEMENTS: usize = 200_000;

/// A handler for the requests of one API. A service that takes every request implements it for each type; see
/// [`Request::dispatch`].
pub trait Handle<R> {
    /// The outcome, of one type for all APIs.
    type Output;

    /// Handles a request.
    fn handle(self, request: R) -> Self::Output;
}

/// Reads the body behind a header that [`crate::api::decode_header`] has taken off. Bytes behind it are ignored, as
/// Kafka ignores them. Allocates no more than a small multiple of the body; records are not copied.
pub fn decode_request(header: &RequestHeader, body: BytesMut) -> Result<Request, WireError> {
    api::decode(header, body)
}

/// kafka-protocol's decoder, behind a walk over the same bytes that checks every count.
pub(crate) fn guarded<T: Decodable>(schema: &[Field], header: &RequestHeader, body: BytesMut) -> Result<T, WireError> {
    let mut reader = Reader::new(&body, header.api.is_flexible(header.version));
    schema::walk(schema, header.version, &mut reader)?;
    let length = reader.position();
    let mut walked = body.freeze().slice(..length);
    T::decode(&mut walked, header.version).map_err(|error| WireError::Malformed(error.to_string()))
}

/// A response as one frame, its header before it. The length before the frame is the transport's.
///
/// # Errors
/// [`WireError::Malformed`] if the response sets a field that its version does not have: our own fault.
pub fn encode_response(
    api: Api,
    version: i16,
    correlation_id: i32,
    response: &impl Encodable,
) -> Result<Bytes, WireError> {
    let size = response
        .compute_size(version)
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    let mut out = BytesMut::with_capacity(size + 5);
    put_response_header(&mut out, api, version, correlation_id);
    response
        .encode(&mut out, version)
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    Ok(out.freeze())
}

/// Reads a response frame: the correlation id, and the body. For clients: every count is checked before kafka-protocol
/// allocates for it, but there is no [`MAX_ELEMENTS`]: a large cluster's Metadata has more.
pub fn decode_response<T: Decodable>(api: Api, version: i16, frame: Bytes) -> Result<(i32, T), WireError> {
    let mut header = Reader::new(&frame, api.response_header_version(version) == 1);
    let correlation_id = header.i32()?;
    header.tags()?;
    let mut body = frame.slice(header.position()..);
    let mut reader = Reader::without_element_limit(&body, api.is_flexible(version));
    schema::walk(api.spec().response, version, &mut reader)?;
    let length = reader.position();
    body.truncate(length);
    let decoded = T::decode(&mut body, version).map_err(|error| WireError::Malformed(error.to_string()))?;
    Ok((correlation_id, decoded))
}

/// The correlation id, and no tagged fields where the header has them.
pub(crate) fn put_response_header(out: &mut BytesMut, api: Api, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if api.response_header_version(version) == 1 {
        out.put_u8(0);
    }
}
