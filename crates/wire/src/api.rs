//! The one table of what is offered to Kafka clients, a row an API: ApiVersions is answered from it, requests are
//! accepted, decoded and dispatched by it, and `docs/kafka-apis.md` is generated from it.
//!
//! kafka-protocol's own `ApiKey::valid_versions` says other things than its decoders do for some keys, and knows
//! nothing of what this broker implements. What is not in this table is not answered.

mod table;
#[cfg(test)]
mod tests;

pub(crate) use table::decode;
pub use table::{Api, Request, TABLE};

use crate::WireError;
use crate::reader::Reader;
use crate::schema::Field;
use bytes::{Buf, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use std::borrow::Cow;
use std::fmt;

/// [`ApiSpec::first_flexible`] of an API that has no flexible version.
pub const NEVER_FLEXIBLE: i16 = i16::MAX;

/// One row of the table.
#[derive(Clone, Copy)]
pub struct ApiSpec {
    /// The API.
    pub api: Api,
    /// Its key on the wire.
    pub key: i16,
    /// Its name in Kafka's documentation.
    pub name: &'static str,
    /// The lowest version that ApiVersions offers.
    pub min: i16,
    /// The highest version that is offered and accepted.
    pub max: i16,
    /// The first version with compact lengths and tagged fields (KIP-482), or [`NEVER_FLEXIBLE`].
    pub first_flexible: i16,
    /// A remark for the documentation.
    pub note: &'static str,
    /// The layout of its request; none where a decoder of this crate checks sizes itself.
    #[cfg(test)]
    pub(crate) request: Option<&'static [Field]>,
    /// The layout of its response.
    pub(crate) response: &'static [Field],
}

impl fmt::Debug for ApiSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {}", self.name, self.min, self.max)
    }
}

impl Api {
    /// The API's row in the table.
    pub fn spec(self) -> &'static ApiSpec {
        // Both are in the order of the rows.
        &TABLE[self as usize]
    }

    /// Whether a version has compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.spec().first_flexible
    }

    /// The response's header: 1 has tagged fields, 0 has none. ApiVersions stays at 0, so that a client can read the
    /// answer to a version that the broker does not know (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Api::ApiVersions && self.is_flexible(version))
    }
}

impl ApiSpec {
    /// Whether a version may be sent.
    pub fn accepts(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// The header of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api: Api,
    /// Its version, one that the table offers.
    pub version: i16,
    /// Comes back with the response.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<String>,
}

/// Takes the header off a request frame.
///
/// [`WireError::UnsupportedVersion`] of [`Api::ApiVersions`] is to be answered with [`versions_response`] in version 0
/// and error 35 (KIP-511). After any other error there is nothing that the client could understand: close the
/// connection, as Kafka does.
pub fn decode_header(frame: &mut BytesMut) -> Result<RequestHeader, WireError> {
    let mut reader = Reader::new(frame, false);
    let (key, version, correlation_id) = (reader.i16()?, reader.i16()?, reader.i32()?);
    let api = Api::from_key(key).ok_or(WireError::UnknownApi { key })?;
    if !api.spec().accepts(version) {
        return Err(WireError::UnsupportedVersion {
            api,
            version,
            correlation_id,
        });
    }
    let fixed = reader.position();
    let mut reader = Reader::new(&frame[fixed..], api.is_flexible(version));
    let client_id = reader.plain_text()?.map(Cow::into_owned);
    reader.tags()?;
    let length = fixed + reader.position();
    frame.advance(length);
    Ok(RequestHeader {
        api,
        version,
        correlation_id,
        client_id,
    })
}

/// The answer to ApiVersions: the table, and an error (0 for none).
pub fn versions_response(error_code: i16) -> ApiVersionsResponse {
    let versions = TABLE.iter().map(|spec| {
        ApiVersion::default()
            .with_api_key(spec.key)
            .with_min_version(spec.min)
            .with_max_version(spec.max)
    });
    ApiVersionsResponse::default()
        .with_error_code(error_code)
        .with_api_keys(versions.collect())
}

/// `docs/kafka-apis.md`. A test compares; `UPDATE_DOCS=1 cargo test -p trimaran-wire` writes it.
pub fn docs() -> String {
    let mut text = String::from(
        "# Kafka APIs\n\nWhat Trimaran answers to Kafka clients. Generated from the table that answers ApiVersions \
         (`crates/wire/src/api/table.rs`); don't edit.\n\n| Key | API | Versions | Flexible from | Note |\n\
         |----:|-----|----------|--------------:|------|\n",
    );
    for spec in TABLE {
        let ApiSpec {
            key,
            name,
            min,
            max,
            first_flexible,
            note,
            ..
        } = spec;
        let flexible = match *first_flexible {
            NEVER_FLEXIBLE => "never".to_owned(),
            version => version.to_string(),
        };
        text.push_str(&format!("| {key} | {name} | {min}–{max} | {flexible} | {note} |\n"));
    }
    text.push_str(
        "\nA request of another API, or of another version, closes the connection, as Kafka does; only ApiVersions \
         answers an unknown version, with its own range in version 0.\n",
    );
    text
}
