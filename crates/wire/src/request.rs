//! Requests and responses, in both directions: the hot path's own codecs, and kafka-protocol behind size checks.
//!
//! A broker reads any request ([`decode_request`]) and writes the response ([`encode_response`]); a client writes a request
//! ([`encode_request`]) and reads its response ([`decode_response`]). Types name their API ([`Call`], [`Response`]), so that
//! nothing can be written or read as something else.

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
    T::decode(&mut walked, header.version).map_err(malformed)
}

/// A request that a client sends, as kafka-protocol has it, tied to its API and to the type of its response.
/// Implemented for the request of every row of [`TABLE`](crate::api::TABLE).
pub trait Call: Encodable {
    /// The API that is called.
    const API: Api;
    /// The type of the response.
    type Response: Response;
}

/// A response as kafka-protocol has it, tied to its API.
/// Implemented for the response of every row of [`TABLE`](crate::api::TABLE).
pub trait Response: Encodable + Decodable {
    /// The API that was called.
    const API: Api;
}

/// A request as one frame, its header before it. The length before the frame is the transport's: see
/// [`FrameCodec`](crate::frame::FrameCodec).
///
/// # Errors
/// As [`put_request`].
pub fn encode_request<C: Call>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &C,
) -> Result<Bytes, WireError> {
    let mut out = BytesMut::new();
    put_request(&mut out, version, correlation_id, client_id, request)?;
    Ok(out.freeze())
}

/// Appends what [`encode_request`] returns, for callers that have a buffer.
///
/// # Errors
/// [`WireError::UnsupportedVersion`] if the table does not have the version; [`WireError::Malformed`] if the request sets a field
/// that its version does not have, or the client id is longer than 32,767 bytes. What was appended by then is of no use.
pub fn put_request<C: Call>(
    out: &mut BytesMut,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &C,
) -> Result<(), WireError> {
    let spec = C::API.spec();
    if !spec.accepts(version) {
        return Err(WireError::UnsupportedVersion {
            api: C::API,
            version,
            correlation_id,
        });
    }
    let id_length = match client_id {
        None => -1,
        Some(id) => i16::try_from(id.len()).map_err(|_| malformed("the client id is longer than 32,767 bytes"))?,
    };
    let id = client_id.unwrap_or_default();
    out.reserve(request.compute_size(version).map_err(malformed)? + 11 + id.len());
    out.put_i16(spec.key);
    out.put_i16(version);
    out.put_i32(correlation_id);
    // Not compact in any version, so that a broker can read it whatever the version.
    out.put_i16(id_length);
    out.put_slice(id.as_bytes());
    if C::API.is_flexible(version) {
        out.put_u8(0); // tagged fields
    }
    request.encode(out, version).map_err(malformed)
}

/// A response as one frame, its header before it. The length before the frame is the transport's.
///
/// # Errors
/// [`WireError::Malformed`] if the response sets a field that its version does not have: our own fault.
pub fn encode_response<R: Response>(version: i16, correlation_id: i32, response: &R) -> Result<Bytes, WireError> {
    let size = response.compute_size(version).map_err(malformed)?;
    let mut out = BytesMut::with_capacity(size + 5);
    put_response_header(&mut out, R::API, version, correlation_id);
    response.encode(&mut out, version).map_err(malformed)?;
    Ok(out.freeze())
}

/// Reads a response frame: the correlation id, and the body. For clients: every count is checked before kafka-protocol
/// allocates for it, but there is no [`MAX_ELEMENTS`]: a large cluster's Metadata has more.
pub fn decode_response<R: Response>(version: i16, frame: Bytes) -> Result<(i32, R), WireError> {
    let mut header = Reader::new(&frame, R::API.response_header_version(version) == 1);
    let correlation_id = header.i32()?;
    header.tags()?;
    let mut body = frame.slice(header.position()..);
    let mut reader = Reader::without_element_limit(&body, R::API.is_flexible(version));
    schema::walk(R::API.spec().response, version, &mut reader)?;
    let length = reader.position();
    body.truncate(length);
    let decoded = R::decode(&mut body, version).map_err(malformed)?;
    Ok((correlation_id, decoded))
}

/// The correlation id, and no tagged fields where the header has them.
pub(crate) fn put_response_header(out: &mut BytesMut, api: Api, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if api.response_header_version(version) == 1 {
        out.put_u8(0);
    }
}

fn malformed(reason: impl ToString) -> WireError {
    WireError::Malformed(reason.to_string())
}
