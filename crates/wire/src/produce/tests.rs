use super::*;
use crate::batch::LeaderEpoch;
use crate::testing::Rng;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::ProduceResponse as TheirResponse;
use kafka_protocol::messages::{ProduceRequest as TheirRequest, ResponseHeader, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn their_partition(index: i32, records: Option<&'static [u8]>) -> PartitionProduceData {
    PartitionProduceData::default()
        .with_index(index)
        .with_records(records.map(Bytes::from_static))
}

fn their_request() -> TheirRequest {
    let first = TopicProduceData::default()
        .with_name(TopicName(text("orders")))
        .with_partition_data(vec![their_partition(4, Some(b"first")), their_partition(5, None)]);
    let second = TopicProduceData::default()
        .with_name(TopicName(text("users")))
        .with_partition_data(vec![their_partition(0, Some(b"")), their_partition(1, Some(b"second"))]);
    TheirRequest::default()
        .with_transactional_id(Some(TransactionalId(text("tx"))))
        .with_acks(-1)
        .with_timeout_ms(1_500)
        .with_topic_data(vec![first, second])
}

fn encoded(version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    their_request().encode(&mut out, version).unwrap();
    out
}

fn expected() -> ProduceRequest {
    let partition = |index, records: Option<&[u8]>| ProducePartition {
        index,
        records: records.map(|records| records.into()),
    };
    ProduceRequest {
        transactional_id: Some("tx".into()),
        acks: -1,
        timeout_ms: 1_500,
        topics: vec![
            ProduceTopic {
                name: "orders".into(),
                partitions: vec![partition(4, Some(b"first")), partition(5, None)],
            },
            ProduceTopic {
                name: "users".into(),
                partitions: vec![partition(0, Some(b"")), partition(1, Some(b"second"))],
            },
        ],
    }
}

#[test]
fn requests_of_every_version_are_read_as_an_independent_encoder_writes_them() {
    for version in FIRST_SERVED_VERSION..=Api::Produce.spec().max {
        assert_eq!(
            decode_request(version, encoded(version)).as_ref(),
            Ok(&expected()),
            "{version}"
        );
    }
}

/// The layout of versions 0 to 2 is version 3's without a transactional id.
#[test]
fn the_oldest_versions_are_read_to_be_answered() {
    let body = encoded(3);
    for version in 0..FIRST_SERVED_VERSION {
        let decoded = decode_request(version, BytesMut::from(&body[4..])).unwrap();
        assert_eq!(
            decoded,
            ProduceRequest {
                transactional_id: None,
                ..expected()
            }
        );
    }
}

#[test]
fn records_are_not_copied() {
    for version in [3, 9] {
        let body = encoded(version);
        let range = body.as_ptr_range();
        let request = decode_request(version, body).unwrap();
        let records = request.topics[1].partitions[1].records.as_ref().unwrap();
        assert!(range.contains(&records.as_ptr()), "{version}");
    }
}

#[test]
fn cut_requests_are_errors() {
    for version in [3, 8, 9, 11] {
        let body = encoded(version);
        for length in 0..body.len() {
            assert!(
                decode_request(version, BytesMut::from(&body[..length])).is_err(),
                "{version} {length}"
            );
        }
    }
}

fn response() -> ProduceResponse {
    let stored = ProducePartitionResponse {
        log_append_time_ms: 1_700_000_000_000,
        ..ProducePartitionResponse::stored(4, Offset(100), Offset(7))
    };
    let refused = ProducePartitionResponse {
        record_errors: vec![(2, Some("no key".into())), (3, None)],
        current_leader: Some(LeaderHint {
            leader_id: 2,
            leader_epoch: LeaderEpoch(9),
        }),
        ..ProducePartitionResponse::refused(5, 87, Some("invalid".into()))
    };
    let partitions = vec![stored, refused];
    let topics = vec![
        ProduceTopicResponse {
            name: "orders".into(),
            partitions,
        },
        ProduceTopicResponse {
            name: "none".into(),
            partitions: Vec::new(),
        },
    ];
    let endpoint = NodeEndpoint {
        node_id: 2,
        host: "h".into(),
        port: 9092,
        rack: Some("r".into()),
    };
    ProduceResponse {
        topics,
        throttle_time_ms: 3,
        node_endpoints: vec![endpoint],
    }
}

fn decoded(version: i16, response: &ProduceResponse) -> TheirResponse {
    let mut frame = Bytes::from(encode_response(version, 77, response).concat());
    let header = ResponseHeader::decode(&mut frame, Api::Produce.response_header_version(version)).unwrap();
    assert_eq!(header.correlation_id, 77);
    let response = TheirResponse::decode(&mut frame, version).unwrap();
    assert!(frame.is_empty(), "{version}");
    response
}

#[test]
fn an_independent_decoder_reads_responses_of_every_version() {
    for version in FIRST_SERVED_VERSION..=Api::Produce.spec().max {
        let theirs = decoded(version, &response());
        assert_eq!(theirs.throttle_time_ms, 3);
        assert_eq!(theirs.responses.len(), 2);
        let [stored, refused] = &theirs.responses[0].partition_responses[..] else {
            panic!("two partitions")
        };
        assert_eq!((stored.index, stored.error_code, stored.base_offset), (4, 0, 100));
        assert_eq!(stored.log_append_time_ms, 1_700_000_000_000);
        assert_eq!(stored.log_start_offset, if version >= 5 { 7 } else { -1 });
        assert_eq!((refused.index, refused.error_code, refused.base_offset), (5, 87, -1));
        if version >= 8 {
            assert_eq!(refused.error_message.as_deref(), Some("invalid"));
            let errors: Vec<_> = refused.record_errors.iter().map(|e| e.batch_index).collect();
            assert_eq!(errors, [2, 3]);
            assert_eq!(
                refused.record_errors[0].batch_index_error_message.as_deref(),
                Some("no key")
            );
        }
        if version >= 10 {
            assert_eq!(
                (refused.current_leader.leader_id.0, refused.current_leader.leader_epoch),
                (2, 9)
            );
            let endpoint = &theirs.node_endpoints[0];
            assert_eq!(
                (endpoint.node_id.0, endpoint.port, endpoint.rack.as_deref()),
                (2, 9092, Some("r"))
            );
        }
    }
}

/// Byte by byte, since kafka-protocol does not know these versions: topics, and the throttle time from version 1 on.
#[test]
fn the_oldest_responses_are_kafkas() {
    let refused = ProducePartitionResponse::refused(1, 35, Some("unseen".into()));
    let topics = vec![ProduceTopicResponse {
        name: "t".into(),
        partitions: vec![refused],
    }];
    let response = ProduceResponse {
        topics,
        ..ProduceResponse::default()
    };
    let mut expected = vec![0, 0, 0, 5, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 1, 0, 35];
    expected.extend([0xff; 8]);
    assert_eq!(encode_response(0, 5, &response).concat(), expected);
    expected.extend([0; 4]);
    assert_eq!(encode_response(1, 5, &response).concat(), expected);
    expected.truncate(expected.len() - 4);
    expected.extend([0xff; 8]);
    expected.extend([0; 4]);
    assert_eq!(encode_response(2, 5, &response).concat(), expected);
}

#[test]
fn long_messages_are_cut_at_a_character() {
    let message = "ä".repeat(20_000);
    let mut response = response();
    response.topics[0].partitions[0].error_message = Some(message);
    for version in [8, 9] {
        let theirs = decoded(version, &response);
        let found = theirs.responses[0].partition_responses[0]
            .error_message
            .clone()
            .unwrap();
        assert_eq!(found.len(), 32_766);
    }
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(5);
    for version in 0..=Api::Produce.spec().max {
        let body = encoded(version.max(3));
        for _ in 0..1_000 {
            let _ = decode_request(version, BytesMut::from(&rng.mutate(&body)[..]));
            let _ = decode_request(version, BytesMut::from(&rng.bytes(80)[..]));
        }
    }
}
