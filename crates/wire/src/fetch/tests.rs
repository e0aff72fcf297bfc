use super::*;
use crate::testing::Rng;
use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{
    FetchPartition as TheirPartition, FetchTopic as TheirTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::{
    BrokerId, FetchRequest as TheirRequest, FetchResponse as TheirResponse, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn versions() -> core::ops::RangeInclusive<i16> {
    Api::Fetch.spec().min..=Api::Fetch.spec().max
}

fn their_partition(version: i16, index: i32) -> TheirPartition {
    TheirPartition::default()
        .with_partition(index)
        .with_current_leader_epoch(if version >= 9 { 6 } else { -1 })
        .with_fetch_offset(1_000)
        .with_last_fetched_epoch(if version >= 12 { 5 } else { -1 })
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1 << 20)
}

fn their_request(version: i16) -> TheirRequest {
    let topic = TheirTopic::default().with_partitions(vec![their_partition(version, 2), their_partition(version, 0)]);
    let forgotten = ForgottenTopic::default().with_partitions(vec![7, 8]);
    let id = uuid::Uuid::from_bytes([7; 16]);
    let (topic, forgotten) = if version >= 13 {
        (topic.with_topic_id(id), forgotten.with_topic_id(id))
    } else {
        (
            topic.with_topic(TopicName(text("t"))),
            forgotten.with_topic(TopicName(text("old"))),
        )
    };
    let mut request = TheirRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 22)
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    if version <= 14 {
        request = request.with_replica_id(BrokerId(3));
    } else {
        request = request.with_replica_state(ReplicaState::default().with_replica_id(BrokerId(3)));
    }
    if version >= 7 {
        request = request
            .with_session_id(4)
            .with_session_epoch(5)
            .with_forgotten_topics_data(vec![forgotten]);
    }
    if version >= 11 {
        request = request.with_rack_id(text("rack"));
    }
    if version >= 12 {
        request = request.with_cluster_id(Some(text("cluster")));
    }
    request
}

fn encoded(version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    their_request(version).encode(&mut out, version).unwrap();
    out
}

fn expected(version: i16) -> FetchRequest {
    let partition = |index| FetchPartition {
        index,
        current_leader_epoch: (version >= 9).then_some(LeaderEpoch(6)),
        fetch_offset: Offset(1_000),
        last_fetched_epoch: (version >= 12).then_some(LeaderEpoch(5)),
        max_bytes: 1 << 20,
    };
    let named = version < FIRST_TOPIC_ID_VERSION;
    FetchRequest {
        replica_id: 3,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 22,
        isolation_level: 1,
        session_id: if version >= 7 { 4 } else { 0 },
        session_epoch: if version >= 7 { 5 } else { -1 },
        topics: vec![FetchTopic {
            name: if named { "t".into() } else { String::new() },
            topic_id: if named { TopicId::NONE } else { TopicId([7; 16]) },
            partitions: vec![partition(2), partition(0)],
        }],
        rack_id: if version >= 11 { "rack".into() } else { String::new() },
    }
}

#[test]
fn requests_of_every_version_are_read_as_an_independent_encoder_writes_them() {
    for version in versions() {
        assert_eq!(
            decode_request(version, encoded(version)),
            Ok(expected(version)),
            "{version}"
        );
    }
}

#[test]
fn cut_requests_are_errors() {
    for version in versions() {
        let body = encoded(version);
        for length in 0..body.len() {
            assert!(
                decode_request(version, BytesMut::from(&body[..length])).is_err(),
                "{version} {length}"
            );
        }
    }
}

fn response(records: Vec<Bytes>) -> FetchResponse {
    let full = FetchPartitionResponse {
        high_watermark: Offset(20),
        last_stable_offset: Offset(19),
        log_start_offset: Offset(3),
        aborted_transactions: Some(vec![(11, Offset(12))]),
        records,
        ..FetchPartitionResponse::failed(2, 0)
    };
    let moved = FetchPartitionResponse {
        preferred_read_replica: Some(3),
        diverging_epoch: Some((LeaderEpoch(4), Offset(15))),
        current_leader: Some(LeaderHint {
            leader_id: 2,
            leader_epoch: LeaderEpoch(9),
        }),
        ..FetchPartitionResponse::failed(0, 6)
    };
    let topic = FetchTopicResponse {
        name: "t".into(),
        topic_id: TopicId([7; 16]),
        partitions: vec![full, moved],
    };
    let endpoint = NodeEndpoint {
        node_id: 2,
        host: "h".into(),
        port: 9092,
        rack: None,
    };
    FetchResponse {
        throttle_time_ms: 1,
        error_code: 0,
        session_id: 0,
        topics: vec![topic],
        node_endpoints: vec![endpoint],
    }
}

fn decoded(version: i16, response: &FetchResponse) -> TheirResponse {
    let mut frame = Bytes::from(encode_response(version, 77, response).concat());
    let header = ResponseHeader::decode(&mut frame, Api::Fetch.response_header_version(version)).unwrap();
    assert_eq!(header.correlation_id, 77);
    let response = TheirResponse::decode(&mut frame, version).unwrap();
    assert!(frame.is_empty(), "{version}");
    response
}

#[test]
fn an_independent_decoder_reads_responses_of_every_version() {
    for version in versions() {
        let pieces = vec![
            Bytes::from_static(b"first "),
            Bytes::new(),
            Bytes::from_static(b"second"),
        ];
        let theirs = decoded(version, &response(pieces));
        assert_eq!(
            (theirs.throttle_time_ms, theirs.error_code, theirs.session_id),
            (1, 0, 0)
        );
        let topic = &theirs.responses[0];
        if version >= FIRST_TOPIC_ID_VERSION {
            assert_eq!(topic.topic_id.into_bytes(), [7; 16]);
        } else {
            assert_eq!(&*topic.topic.0, "t");
        }
        let [full, moved] = &topic.partitions[..] else {
            panic!("two partitions")
        };
        assert_eq!((full.partition_index, full.error_code), (2, 0));
        assert_eq!((full.high_watermark, full.last_stable_offset), (20, 19));
        assert_eq!(full.log_start_offset, if version >= 5 { 3 } else { -1 });
        let aborted = &full.aborted_transactions.as_ref().unwrap()[0];
        assert_eq!((aborted.producer_id.0, aborted.first_offset), (11, 12));
        assert_eq!(full.records.as_deref(), Some(&b"first second"[..]));
        assert_eq!((moved.partition_index, moved.error_code), (0, 6));
        assert_eq!(moved.records.as_deref(), Some(&b""[..]));
        assert_eq!(moved.aborted_transactions, None);
        assert_eq!(moved.preferred_read_replica.0, if version >= 11 { 3 } else { -1 });
        if version >= 12 {
            assert_eq!((moved.diverging_epoch.epoch, moved.diverging_epoch.end_offset), (4, 15));
            assert_eq!(
                (moved.current_leader.leader_id.0, moved.current_leader.leader_epoch),
                (2, 9)
            );
        }
        if version >= 16 {
            assert_eq!(
                (theirs.node_endpoints[0].node_id.0, theirs.node_endpoints[0].port),
                (2, 9092)
            );
        }
    }
}

#[test]
fn records_are_not_copied() {
    let records = Bytes::from(vec![1u8; 5_000]);
    for version in versions() {
        let chunks = encode_response(version, 1, &response(vec![records.clone(), records.slice(10..)]));
        let pointers: Vec<_> = chunks.iter().map(|chunk| chunk.as_ptr()).collect();
        assert!(pointers.contains(&records.as_ptr()));
        assert!(pointers.contains(&records[10..].as_ptr()));
        assert_eq!(
            chunks.len(),
            4,
            "what stands before, two pieces of records, what stands behind"
        );
    }
}

#[test]
fn a_replica_state_too_short_is_refused() {
    let request = their_request(15);
    let mut body = BytesMut::new();
    request.encode(&mut body, 15).unwrap();
    let at = body.windows(3).position(|bytes| bytes == [1, 13, 0]).unwrap();
    body[at + 1] = 2;
    assert!(decode_request(15, body).is_err());
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(6);
    for version in versions() {
        let body = encoded(version);
        for _ in 0..1_000 {
            let _ = decode_request(version, BytesMut::from(&rng.mutate(&body)[..]));
            let _ = decode_request(version, BytesMut::from(&rng.bytes(100)[..]));
        }
    }
}
