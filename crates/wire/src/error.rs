//! Why bytes from a socket are no value.

use crate::api::Api;
use core::fmt;

/// Why a Kafka frame could not be read. All of these are the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A field ends beyond the frame.
    Truncated,
    /// A count or length that the rest of the frame can't hold.
    Count {
        /// What the frame says.
        claimed: i64,
        /// Bytes that are left.
        left: usize,
    },
    /// More array elements in one request than anyone needs: see [`crate::request::MAX_ELEMENTS`].
    TooManyElements,
    /// A text that is not UTF-8.
    Text,
    /// A null where the schema has none.
    Null(&'static str),
    /// A number that no encoder writes.
    Number,
    /// An API that is not offered.
    UnknownApi {
        /// Its key.
        key: i16,
    },
    /// A version that is not offered.
    UnsupportedVersion {
        /// The API.
        api: Api,
        /// The version asked for.
        version: i16,
        /// The request's correlation id: ApiVersions answers in spite of it.
        correlation_id: i32,
    },
    /// A tagged field whose content does not have its own length.
    Tag(u32),
    /// What the schema allows, and the message does not.
    Malformed(String),
    /// A frame longer than the receiver accepts.
    FrameTooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A negative frame length.
    NegativeLength(i32),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Truncated => f.write_str("the frame ends within a field"),
            WireError::Count { claimed, left } => {
                write!(
                    f,
                    "a count or length of {claimed} does not fit the {left} bytes that are left"
                )
            }
            WireError::TooManyElements => {
                write!(
                    f,
                    "more than {} array elements in one request",
                    crate::request::MAX_ELEMENTS
                )
            }
            WireError::Text => f.write_str("a text is not UTF-8"),
            WireError::Null(field) => write!(f, "{field} must not be null"),
            WireError::Number => f.write_str("a variable-length number is too long"),
            WireError::UnknownApi { key } => write!(f, "there is no API with key {key} here"),
            WireError::UnsupportedVersion { api, version, .. } => {
                write!(f, "version {version} of {} is not supported", api.spec().name)
            }
            WireError::Tag(tag) => write!(f, "tagged field {tag} has a wrong length"),
            WireError::Malformed(reason) => write!(f, "malformed: {reason}"),
            WireError::FrameTooLong { length, limit } => {
                write!(f, "a frame of {length} bytes is longer than the limit of {limit}")
            }
            WireError::NegativeLength(length) => write!(f, "{length} is no frame length"),
        }
    }
}

impl std::error::Error for WireError {}
