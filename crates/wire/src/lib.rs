//! Turns bytes into values and back: Kafka's frames and record batches, the envelope between brokers, JSON lines.
//!
//! # A tour
//!
//! * [`batch`]: a record batch is stored, replicated and served as the client sent it. Its 61-byte header is read, its
//!   CRC checked, and the two fields that a leader decides are patched in place. Records inside are looked at only for
//!   searches by timestamp and by the command line, with a limit on what compressed ones may grow to.
//! * [`api`]: the one table of what is offered to Kafka clients, and the header of requests.
//! * [`request`]: a frame's body as a [`request::Request`], a response as a frame, and the same for clients: a request as a
//!   frame, a frame as its response. Most messages are [`kafka_protocol`]'s; since that crate allocates what a count says, a
//!   schema is walked over the bytes before it may decode them.
//! * [`produce`] and [`fetch`]: the hot path, written by hand. A producer's records are split off the frame, a consumer's
//!   are chunks of the response; neither is copied.
//! * [`peer`]: what brokers say to each other. [`frame`]: Kafka's frames as a codec. [`json`]: Maelstrom's lines.
//!
//! What this crate deliberately does not know: sockets, files, clocks, and the other crates of Trimaran. Ids are
//! newtypes of its own where it needs them; their user converts them.
//!
//! # Driving it
//!
//! ```
//! use bytes::BytesMut;
//! use trimaran_wire::WireError;
//! use trimaran_wire::api::{self, Api};
//! use trimaran_wire::request::{self, Request};
//!
//! /// What a service does with a frame; `None` closes the connection.
//! fn answer(mut frame: BytesMut) -> Option<bytes::Bytes> {
//!     let header = match api::decode_header(&mut frame) {
//!         Ok(header) => header,
//!         Err(WireError::UnsupportedVersion { api: Api::ApiVersions, correlation_id, .. }) => {
//!             return request::encode_response(0, correlation_id, &api::versions_response(35)).ok();
//!         }
//!         Err(_) => return None,
//!     };
//!     match request::decode_request(&header, frame).ok()? {
//!         Request::ApiVersions(_) => {
//!             let response = api::versions_response(0);
//!             request::encode_response(header.version, header.correlation_id, &response).ok()
//!         }
//!         _ => None,
//!     }
//! }
//! # let frame = BytesMut::from(&[0, 18, 0, 99, 0, 0, 0, 5][..]);
//! # assert!(answer(frame).unwrap().starts_with(&[0, 0, 0, 5, 0, 35]));
//! ```
#![forbid(unsafe_code)]

pub mod api;
pub mod batch;
mod error;
pub mod fetch;
pub mod frame;
mod hint;
pub mod json;
pub mod peer;
pub mod produce;
mod reader;
pub mod request;
mod schema;
#[cfg(test)]
mod testing;
mod topic_id;
mod writer;

pub use error::WireError;
/// The crate whose messages [`request`] reads and writes, in the version that it does so with.
pub use kafka_protocol;

pub use hint::{LeaderHint, NodeEndpoint};
pub use topic_id::TopicId;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
