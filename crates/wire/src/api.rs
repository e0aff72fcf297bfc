//! The one table of what is offered to Kafka clients: ApiVersions is answered from it, requests are accepted by it, and
//! `docs/kafka-apis.md` is generated from it.
//!
//! kafka-protocol's own `ApiKey::valid_versions` says other things than its decoders do for some keys, and knows nothing
//! of what this broker implements. What is not in this table is not answered.

#[cfg(test)]
mod tests;

use crate::WireError;
use crate::reader::Reader;
use bytes::{Buf, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use std::borrow::Cow;

/// An API that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "the names are Kafka's, and the table below says what each is for"
)]
pub enum Api {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    FindCoordinator,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    InitProducerId,
    OffsetForLeaderEpoch,
    DescribeConfigs,
    CreatePartitions,
    AlterPartitionReassignments,
    ListPartitionReassignments,
    DescribeCluster,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub first_flexible: i16,
    /// What is worth knowing about it, for the documentation.
    pub note: &'static str,
}

const fn line(
    api: Api,
    key: i16,
    name: &'static str,
    versions: (i16, i16),
    first_flexible: i16,
    note: &'static str,
) -> ApiSpec {
    ApiSpec {
        api,
        key,
        name,
        min: versions.0,
        max: versions.1,
        first_flexible,
        note,
    }
}

/// All of it, in the order of the keys.
pub const TABLE: &[ApiSpec] = &[
    line(
        Api::Produce,
        0,
        "Produce",
        (0, 11),
        9,
        "0 to 2 are offered because older librdkafka turns compression off otherwise, and answered with \
         UNSUPPORTED_VERSION; from 10 on with hints to the new leader",
    ),
    line(
        Api::Fetch,
        1,
        "Fetch",
        (4, 16),
        12,
        "from 13 on by topic id; from 16 on with hints to the new leader",
    ),
    line(
        Api::ListOffsets,
        2,
        "ListOffsets",
        (1, 8),
        6,
        "by timestamp down to the record; -1, -2, and -3 from 7 on",
    ),
    line(
        Api::Metadata,
        3,
        "Metadata",
        (0, 12),
        9,
        "answered by any broker; from 12 on by topic id",
    ),
    line(
        Api::FindCoordinator,
        10,
        "FindCoordinator",
        (0, 4),
        3,
        "consumer groups are not offered yet",
    ),
    line(Api::ApiVersions, 18, "ApiVersions", (0, 4), 3, ""),
    line(
        Api::CreateTopics,
        19,
        "CreateTopics",
        (2, 7),
        5,
        "accepted by any broker",
    ),
    line(
        Api::DeleteTopics,
        20,
        "DeleteTopics",
        (1, 6),
        4,
        "accepted by any broker; 6 by topic id too",
    ),
    line(
        Api::InitProducerId,
        22,
        "InitProducerId",
        (0, 4),
        2,
        "for idempotent producers; no transactions yet",
    ),
    line(
        Api::OffsetForLeaderEpoch,
        23,
        "OffsetForLeaderEpoch",
        (2, 4),
        4,
        "the leader epoch is the Raft term",
    ),
    line(
        Api::DescribeConfigs,
        32,
        "DescribeConfigs",
        (1, 4),
        4,
        "every key, with source, default and type",
    ),
    line(
        Api::CreatePartitions,
        37,
        "CreatePartitions",
        (0, 3),
        2,
        "accepted by any broker",
    ),
    line(
        Api::AlterPartitionReassignments,
        45,
        "AlterPartitionReassignments",
        (0, 0),
        0,
        "accepted by any broker; also for another number of replicas",
    ),
    line(
        Api::ListPartitionReassignments,
        46,
        "ListPartitionReassignments",
        (0, 0),
        0,
        "answered by any broker",
    ),
    line(Api::DescribeCluster, 60, "DescribeCluster", (0, 1), 0, ""),
];

impl Api {
    /// The API with a key, if it is offered.
    pub fn from_key(key: i16) -> Option<Api> {
        TABLE.iter().find(|spec| spec.key == key).map(|spec| spec.api)
    }

    /// The API's line in the table.
    pub fn spec(self) -> &'static ApiSpec {
        TABLE
            .iter()
            .find(|spec| spec.api == self)
            .expect("every API has its line, as a test checks")
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

/// What stands before every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api: Api,
    /// Its version, one that the table offers.
    pub version: i16,
    /// Comes back with the response.
    pub correlation_id: i32,
    /// What the client calls itself; for logs.
    pub client_id: Option<String>,
}

/// Takes the header off a request frame.
///
/// [`WireError::UnsupportedVersion`] of [`Api::ApiVersions`] is to be answered with [`versions_response`] in version 0 and
/// error 35 (KIP-511). After any other error there is nothing that the client could understand: close the connection,
/// as Kafka does.
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
         (`crates/wire/src/api.rs`); don't edit.\n\n| Key | API | Versions | Flexible from | Note |\n\
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
        text.push_str(&format!(
            "| {key} | {name} | {min}–{max} | {first_flexible} | {note} |\n"
        ));
    }
    text.push_str(
        "\nA request of another API, or of another version, closes the connection, as Kafka does; only ApiVersions \
         answers an unknown version, with its own range in version 0.\n",
    );
    text
}
