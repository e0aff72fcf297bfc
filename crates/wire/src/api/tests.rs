use super::*;
use kafka_protocol::messages::{
    self as kp, ApiKey, RequestHeader as TheirHeader, RequestKind, ResponseHeader as TheirResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};

fn each_version() -> impl Iterator<Item = (&'static ApiSpec, i16)> {
    TABLE
        .iter()
        .flat_map(|spec| (spec.min..=spec.max).map(move |version| (spec, version)))
}

#[test]
fn every_api_has_one_line_in_the_order_of_the_keys() {
    assert!(TABLE.windows(2).all(|pair| pair[0].key < pair[1].key));
    for spec in TABLE {
        assert!(std::ptr::eq(spec.api.spec(), spec));
        assert_eq!(Api::from_key(spec.key), Some(spec.api));
        let theirs = ApiKey::try_from(spec.key).unwrap();
        assert_eq!(format!("{theirs:?}"), spec.name);
        assert_eq!(format!("{:?}", spec.api), spec.name);
    }
}

/// Never offer what the decoder rejects.
#[test]
fn what_is_offered_can_be_decoded_and_encoded() {
    let ranges = [
        (
            Api::ListOffsets,
            kp::ListOffsetsRequest::VERSIONS,
            kp::ListOffsetsResponse::VERSIONS,
        ),
        (
            Api::Metadata,
            kp::MetadataRequest::VERSIONS,
            kp::MetadataResponse::VERSIONS,
        ),
        (
            Api::OffsetCommit,
            kp::OffsetCommitRequest::VERSIONS,
            kp::OffsetCommitResponse::VERSIONS,
        ),
        (
            Api::OffsetFetch,
            kp::OffsetFetchRequest::VERSIONS,
            kp::OffsetFetchResponse::VERSIONS,
        ),
        (
            Api::FindCoordinator,
            kp::FindCoordinatorRequest::VERSIONS,
            kp::FindCoordinatorResponse::VERSIONS,
        ),
        (
            Api::JoinGroup,
            kp::JoinGroupRequest::VERSIONS,
            kp::JoinGroupResponse::VERSIONS,
        ),
        (
            Api::Heartbeat,
            kp::HeartbeatRequest::VERSIONS,
            kp::HeartbeatResponse::VERSIONS,
        ),
        (
            Api::LeaveGroup,
            kp::LeaveGroupRequest::VERSIONS,
            kp::LeaveGroupResponse::VERSIONS,
        ),
        (
            Api::SyncGroup,
            kp::SyncGroupRequest::VERSIONS,
            kp::SyncGroupResponse::VERSIONS,
        ),
        (
            Api::DescribeGroups,
            kp::DescribeGroupsRequest::VERSIONS,
            kp::DescribeGroupsResponse::VERSIONS,
        ),
        (
            Api::ListGroups,
            kp::ListGroupsRequest::VERSIONS,
            kp::ListGroupsResponse::VERSIONS,
        ),
        (
            Api::ApiVersions,
            kp::ApiVersionsRequest::VERSIONS,
            kp::ApiVersionsResponse::VERSIONS,
        ),
        (
            Api::CreateTopics,
            kp::CreateTopicsRequest::VERSIONS,
            kp::CreateTopicsResponse::VERSIONS,
        ),
        (
            Api::DeleteTopics,
            kp::DeleteTopicsRequest::VERSIONS,
            kp::DeleteTopicsResponse::VERSIONS,
        ),
        (
            Api::InitProducerId,
            kp::InitProducerIdRequest::VERSIONS,
            kp::InitProducerIdResponse::VERSIONS,
        ),
        (
            Api::OffsetForLeaderEpoch,
            kp::OffsetForLeaderEpochRequest::VERSIONS,
            kp::OffsetForLeaderEpochResponse::VERSIONS,
        ),
        (
            Api::DescribeConfigs,
            kp::DescribeConfigsRequest::VERSIONS,
            kp::DescribeConfigsResponse::VERSIONS,
        ),
        (
            Api::CreatePartitions,
            kp::CreatePartitionsRequest::VERSIONS,
            kp::CreatePartitionsResponse::VERSIONS,
        ),
        (
            Api::DeleteGroups,
            kp::DeleteGroupsRequest::VERSIONS,
            kp::DeleteGroupsResponse::VERSIONS,
        ),
        (
            Api::AlterPartitionReassignments,
            kp::AlterPartitionReassignmentsRequest::VERSIONS,
            kp::AlterPartitionReassignmentsResponse::VERSIONS,
        ),
        (
            Api::ListPartitionReassignments,
            kp::ListPartitionReassignmentsRequest::VERSIONS,
            kp::ListPartitionReassignmentsResponse::VERSIONS,
        ),
        (
            Api::OffsetDelete,
            kp::OffsetDeleteRequest::VERSIONS,
            kp::OffsetDeleteResponse::VERSIONS,
        ),
        (
            Api::DescribeCluster,
            kp::DescribeClusterRequest::VERSIONS,
            kp::DescribeClusterResponse::VERSIONS,
        ),
    ];
    for (api, request, response) in ranges {
        let spec = api.spec();
        assert!(request.min <= spec.min && spec.max <= request.max, "{}", spec.name);
        assert!(response.min <= spec.min && spec.max <= response.max, "{}", spec.name);
    }
    // Produce and Fetch have codecs of their own.
    assert_eq!(ranges.len() + 2, TABLE.len());
}

#[test]
fn header_versions_agree_with_kafkas() {
    for (spec, version) in each_version() {
        let theirs = ApiKey::try_from(spec.key).unwrap();
        let flexible = spec.api.is_flexible(version);
        assert_eq!(
            1 + i16::from(flexible),
            theirs.request_header_version(version),
            "{} {version}",
            spec.name
        );
        let ours = spec.api.response_header_version(version);
        assert_eq!(ours, theirs.response_header_version(version), "{} {version}", spec.name);
    }
}

fn request_header(key: i16, version: i16, client_id: Option<&'static str>) -> BytesMut {
    let header = TheirHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(client_id.map(StrBytes::from_static_str));
    let mut out = BytesMut::new();
    let header_version = ApiKey::try_from(key).unwrap().request_header_version(version);
    header.encode(&mut out, header_version).unwrap();
    out
}

#[test]
fn headers_of_every_version_are_taken_off() {
    for (spec, version) in each_version() {
        for client_id in [None, Some("kcat")] {
            let mut frame = request_header(spec.key, version, client_id);
            frame.extend_from_slice(b"body");
            let header = decode_header(&mut frame).unwrap();
            assert_eq!(
                (header.api, header.version, header.correlation_id),
                (spec.api, version, 77)
            );
            assert_eq!(header.client_id.as_deref(), client_id);
            assert_eq!(&frame[..], b"body");
        }
    }
}

#[test]
fn a_client_id_that_is_no_text_is_replaced_where_it_is_none() {
    let mut frame = request_header(18, 0, Some("abc"));
    let length = frame.len();
    frame[length - 3..].copy_from_slice(b"a\xff\xfe");
    let header = decode_header(&mut frame).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("a\u{fffd}\u{fffd}"));
    let mut cut = request_header(18, 0, Some("abc"));
    cut.truncate(length - 1);
    assert!(decode_header(&mut cut).is_err(), "its length must be right");
}

/// Found by fuzzing: kafka-protocol reads it as -1, and writes something else.
#[test]
fn a_tag_that_no_encoder_writes_is_refused() {
    let header = [0, 18, 0, 3, 0, 0, 0, 5, 0xff, 0xff];
    for (tag, expected) in [
        (&[0xff, 0xff, 0xff, 0xff, 0x0f][..], Err(WireError::Number)),
        (&[0xff, 0xff, 0xff, 0xff, 0x07], Ok(())),
    ] {
        let mut frame = BytesMut::from(&[&header[..], &[1], tag, &[0]].concat()[..]);
        assert_eq!(decode_header(&mut frame).map(drop), expected);
    }
}

#[test]
fn tagged_fields_of_a_header_are_skipped() {
    let mut frame = request_header(18, 3, Some("x"));
    frame.truncate(frame.len() - 1);
    frame.extend_from_slice(&[1, 5, 2, 0xaa, 0xbb]);
    frame.extend_from_slice(b"body");
    decode_header(&mut frame).unwrap();
    assert_eq!(&frame[..], b"body");
}

#[test]
fn what_is_not_offered_is_named() {
    // The version 9 of ApiVersions, whose header nobody knows beyond the correlation id.
    let mut future = BytesMut::from(&[0, 18, 0, 9, 0, 0, 0, 77, 0xff][..]);
    let unsupported = WireError::UnsupportedVersion {
        api: Api::ApiVersions,
        version: 9,
        correlation_id: 77,
    };
    assert_eq!(decode_header(&mut future), Err(unsupported));
    let mut old = request_header(1, 3, None);
    let unsupported = WireError::UnsupportedVersion {
        api: Api::Fetch,
        version: 3,
        correlation_id: 77,
    };
    assert_eq!(decode_header(&mut old), Err(unsupported));
    let mut other = BytesMut::from(&[0, 99, 0, 0, 0, 0, 0, 77][..]);
    assert_eq!(decode_header(&mut other), Err(WireError::UnknownApi { key: 99 }));
    assert_eq!(
        decode_header(&mut BytesMut::from(&[0, 18, 0][..])),
        Err(WireError::Truncated)
    );
}

#[test]
fn the_answer_to_api_versions_is_the_table() {
    for version in 0..=4 {
        let frame = crate::request::encode_response(version, 5, &versions_response(35)).unwrap();
        let mut frame = frame;
        let header = TheirResponseHeader::decode(&mut frame, 0).unwrap();
        assert_eq!(header.correlation_id, 5);
        let response = ApiVersionsResponse::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty());
        assert_eq!(response.error_code, 35);
        let offered = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version));
        assert!(offered.eq(TABLE.iter().map(|spec| (spec.key, spec.min, spec.max))));
    }
}

/// librdkafka before 2.8 turns compression off when Produce 0 is not offered.
#[test]
fn produce_is_offered_from_zero_on() {
    assert_eq!(Api::Produce.spec().min, 0);
}

#[test]
fn the_documentation_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kafka-apis.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, docs()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == docs(),
        "docs/kafka-apis.md is out of date: run UPDATE_DOCS=1 cargo test -p trimaran-wire"
    );
}

/// Only to be sure that kafka-protocol's own table is not what clients are told: it offers what its decoders refuse.
#[test]
fn their_table_is_not_used() {
    let theirs = ApiKey::InitProducerId.valid_versions();
    let decoded = RequestKind::decode(
        ApiKey::InitProducerId,
        &mut bytes::Bytes::from_static(&[0; 64]),
        theirs.max,
    );
    assert!(decoded.is_err());
}
