use super::*;
use crate::kafka::tests::{full_access, view};
use kafka_protocol::protocol::{Decodable, Encodable};

fn resource(kind: i8, name: &str) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None)
}

fn request(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(resources)
}

fn answer(request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    describe(full_access(), &Settings::default(), &view(), request)
}

#[test]
fn every_key_of_a_topic_is_told() {
    let response = answer(&request(vec![resource(TOPIC, "orders")]));
    let configs = &response.results[0].configs;
    let names: Vec<_> = configs.iter().map(|config| config.name.to_string()).collect();
    let keys: Vec<_> = topic_config::keys().iter().map(|key| key.name.to_string()).collect();
    assert_eq!(names, keys);
    let find = |name: &str| configs.iter().find(|config| config.name.as_str() == name).unwrap();
    let retention = find("retention.ms");
    assert_eq!(
        (
            retention.value.as_deref(),
            retention.config_source,
            retention.config_type
        ),
        (Some("1000"), 1, 5)
    );
    let policy = find("cleanup.policy");
    assert_eq!(
        (policy.value.as_deref(), policy.config_source, policy.config_type),
        (Some("delete"), 5, 7)
    );
    assert!(!policy.is_sensitive && !policy.read_only && policy.documentation.is_none());
}

#[test]
fn keys_can_be_named() {
    let keys = vec![text("cleanup.policy"), text("no.such.key")];
    let asked = resource(TOPIC, "orders").with_configuration_keys(Some(keys));
    let response = answer(&request(vec![asked]));
    let names: Vec<_> = response.results[0]
        .configs
        .iter()
        .map(|config| config.name.as_str())
        .collect();
    assert_eq!(names, ["cleanup.policy"]);
}

#[test]
fn synonyms_and_documentation_are_told_if_asked_for() {
    let asked = request(vec![resource(TOPIC, "orders")])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let response = answer(&asked);
    let configs = &response.results[0].configs;
    assert!(
        configs
            .iter()
            .all(|config| config.documentation.as_ref().is_some_and(|doc| !doc.is_empty()))
    );
    let retention = configs
        .iter()
        .find(|config| config.name.as_str() == "retention.ms")
        .unwrap();
    let synonyms: Vec<_> = retention
        .synonyms
        .iter()
        .map(|s| (s.value.as_deref(), s.source))
        .collect();
    assert_eq!(synonyms, [(Some("1000"), 1), (Some("604800000"), 5)]);
}

#[test]
fn each_resource_fails_for_itself() {
    let asked = vec![
        resource(TOPIC, "none"),
        resource(BROKER, "1"),
        resource(BROKER, "2"),
        resource(8, "1"),
    ];
    let response = answer(&request(asked));
    let outcomes: Vec<_> = response
        .results
        .iter()
        .map(|r| (r.error_code, r.configs.is_empty()))
        .collect();
    assert_eq!(outcomes, [(3, true), (0, false), (42, true), (42, true)]);
    assert!(
        response.results[2]
            .error_message
            .as_ref()
            .is_some_and(|message| message.contains("broker 1"))
    );
}

#[test]
fn a_brokers_settings_are_told_under_kafkas_names() {
    let mut settings = Settings::default();
    settings.cluster.default_partitions = 6;
    let response = describe(
        full_access(),
        &settings,
        &view(),
        &request(vec![resource(BROKER, "1"), resource(BROKER, "")]),
    );
    let configs = &response.results[0].configs;
    let partitions = configs
        .iter()
        .find(|config| config.name.as_str() == "num.partitions")
        .unwrap();
    assert_eq!(
        (
            partitions.value.as_deref(),
            partitions.config_source,
            partitions.read_only
        ),
        (Some("6"), 4, true)
    );
    assert!(BROKER_KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(
        (response.results[1].error_code, response.results[1].configs.len()),
        (0, 0)
    );
}

#[test]
fn every_version_says_the_same() {
    for version in 1..=4 {
        let asked = request(vec![
            resource(TOPIC, "orders"),
            resource(BROKER, "1"),
            resource(TOPIC, "none"),
        ])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
        let mut out = bytes::BytesMut::new();
        let answer = answer(&asked);
        answer
            .encode(&mut out, version)
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        let read = DescribeConfigsResponse::decode(&mut out.freeze(), version)
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        let told = |response: &DescribeConfigsResponse| -> Vec<_> {
            let results = response.results.iter();
            let keys =
                results.flat_map(|result| result.configs.iter().map(|key| (key.name.clone(), key.value.clone())));
            keys.collect()
        };
        assert_eq!(told(&read), told(&answer), "{version}");
        assert!(!told(&read).is_empty());
    }
}
