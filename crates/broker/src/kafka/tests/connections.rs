//! What holds for every connection, whatever it asks.

use super::words::{fetch_request, records};
use super::{TestBroker, text};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchResponse, MetadataRequest, MetadataResponse,
};
use kafka_protocol::protocol::Decodable;
use std::time::{Duration, Instant};
use trimaran_wire::api::{Api, TABLE};

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_are_told_in_every_version() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    for version in 0..=4 {
        let request = ApiVersionsRequest::default();
        let request = if version < 3 {
            request
        } else {
            request
                .with_client_software_name(text("librdkafka"))
                .with_client_software_version(text("2.0.2"))
        };
        let response: ApiVersionsResponse = client.ask(Api::ApiVersions, version, &request).await;
        assert_eq!((response.error_code, response.api_keys.len()), (0, TABLE.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let correlation_id = client.send_body(18, 99, true, b"whatever the future brings").await;
    let mut frame = client.frame().await.unwrap();
    assert_eq!(frame.split_to(4), correlation_id.to_be_bytes()[..]);
    let response = ApiVersionsResponse::decode(&mut frame, 0).unwrap();
    assert_eq!(response.error_code, 35);
    let own = response.api_keys.iter().find(|api| api.api_key == 18).unwrap();
    assert_eq!((own.min_version, own.max_version), (0, 4));
    // The connection goes on.
    let again: ApiVersionsResponse = client.ask(Api::ApiVersions, 0, &ApiVersionsRequest::default()).await;
    assert_eq!(again.error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_names_its_software() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    for (name, version, code) in [
        ("librdkafka", "2.0.2", 0),
        ("a", "1", 0),
        ("", "1.0", 42),
        ("kcat", "", 42),
        ("two words", "1.0", 42),
        ("-begins", "1.0", 42),
        ("ends.", "1.0", 42),
    ] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        let response: ApiVersionsResponse = client.ask(Api::ApiVersions, 3, &request).await;
        assert_eq!(response.error_code, code, "{name} {version}");
        let response: ApiVersionsResponse = client.ask(Api::ApiVersions, 2, &ApiVersionsRequest::default()).await;
        assert_eq!(response.error_code, 0, "earlier versions name nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_offered_closes_the_connection() {
    let broker = TestBroker::start().await;
    for (key, version) in [(1, 3), (1, 17), (3, 13), (11, 0), (9_999, 0), (-1, 0)] {
        let mut client = broker.connect().await;
        client.send_body(key, version, false, b"").await;
        client.assert_closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_can_not_be_read_closes_the_connection() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.send_body(3, 1, false, &[0x7f, 0xff, 0xff, 0xff]).await;
    client.assert_closed().await;
}

/// Java's client gives up a connection on which a response overtakes another.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_holds_up_the_responses_behind_it() {
    let broker = TestBroker::start().await;
    let mut client = broker.with_topic("t", 1, &[]).await;
    let mut producer = broker.connect().await;
    let poll = fetch_request("t", 0, 0).with_max_wait_ms(20_000);
    let poll = client.send(Api::Fetch, 12, &poll).await;
    let metadata = client.send(Api::Metadata, 12, &MetadataRequest::default()).await;
    producer.produce("t", 0, records(&["x"])).await;
    let _: FetchResponse = client.receive(Api::Fetch, 12, poll).await;
    let _: MetadataResponse = client.receive(Api::Metadata, 12, metadata).await;
}

/// Random and cut bytes: no panic, no hang; the connection gets an answer or is closed, and the broker goes on.
#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_hurt_nobody_else() {
    let broker = TestBroker::start().await;
    let started = Instant::now();
    let mut state = 1u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..300 {
        let mut client = broker.connect().await;
        let spec = &TABLE[random() % TABLE.len()];
        let versions = (spec.max - spec.min + 1) as usize;
        let version = spec.min + i16::try_from(random() % versions).unwrap();
        let body: Vec<u8> = (0..random() % 60)
            .map(|_| random() as u8 & [0xff, 0x03][random() % 2])
            .collect();
        client
            .send_body(spec.key, version, spec.api.is_flexible(version), &body)
            .await;
        // Whether it was understood by chance or not, it has been read: the broker sees the end of the stream behind it.
        client.finish().await;
    }
    let mut client = broker.connect().await;
    let response: ApiVersionsResponse = client.ask(Api::ApiVersions, 0, &ApiVersionsRequest::default()).await;
    assert_eq!(response.error_code, 0);
    assert!(started.elapsed() < Duration::from_secs(60));
}
