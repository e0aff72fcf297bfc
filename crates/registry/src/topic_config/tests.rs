use super::*;

fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn refusal(key: &str, value: &str) -> (String, Option<String>) {
    match TopicConfig::parse(&overrides(&[(key, value)])) {
        Err(CatalogError::InvalidConfig {
            key: named,
            reason,
            nearest,
        }) => {
            assert_eq!(named, key);
            (reason, nearest)
        }
        other => panic!("{key}={value} gave {other:?}"),
    }
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_accepted() {
    assert!(keys().windows(2).all(|pair| pair[0].name < pair[1].name));
    for key in keys() {
        assert_eq!(key.rule.check(key.default, key.default), Ok(()), "{}", key.name);
        assert!(key.doc.ends_with('.'), "{}", key.name);
    }
}

#[test]
fn defaults_are_those_of_kafka_4() {
    let week_ms = 7 * 24 * 60 * 60 * 1000;
    let expected = TopicConfig {
        retention_ms: Some(week_ms),
        retention_bytes: None,
        segment_bytes: 1 << 30,
        segment_ms: week_ms,
        max_message_bytes: 1_048_588,
        min_insync_replicas: 1,
        compression: CompressionType::Producer,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX as u64,
        timestamp_after_max_ms: 60 * 60 * 1000,
    };
    assert_eq!(TopicConfig::default(), expected);
}

#[test]
fn values_are_parsed() {
    let config = TopicConfig::parse(&overrides(&[
        ("retention.ms", "-1"),
        ("retention.bytes", "1000"),
        ("segment.bytes", "1048576"),
        ("max.message.bytes", "2000"),
        ("min.insync.replicas", "2"),
        ("message.timestamp.type", "LogAppendTime"),
    ]))
    .unwrap();
    assert_eq!(config.retention_ms, None);
    assert_eq!(config.retention_bytes, Some(1000));
    assert_eq!(config.segment_bytes, 1 << 20);
    assert_eq!(config.max_message_bytes, 2000);
    assert_eq!(config.min_insync_replicas, 2);
    assert_eq!(config.timestamp_type, TimestampType::LogAppendTime);
}

#[test]
fn what_is_not_implemented_is_refused_with_the_reason() {
    for (key, value) in [
        ("cleanup.policy", "compact"),
        ("remote.storage.enable", "true"),
        ("unclean.leader.election.enable", "true"),
    ] {
        let (reason, nearest) = refusal(key, value);
        assert!(reason.starts_with("only the default"), "{reason}");
        assert_eq!(nearest, None);
    }
}

#[test]
fn every_compression_of_kafka_is_taken_with_its_level() {
    let parsed = |settings: &[(&str, &str)]| TopicConfig::parse(&overrides(settings)).unwrap().compression;
    let of = |name| parsed(&[("compression.type", name)]);
    assert_eq!(of("producer"), CompressionType::Producer);
    assert_eq!(of("uncompressed"), CompressionType::Uncompressed);
    assert_eq!(of("gzip"), CompressionType::Gzip(-1));
    assert_eq!(of("snappy"), CompressionType::Snappy);
    assert_eq!(of("lz4"), CompressionType::Lz4(9));
    assert_eq!(of(" zstd "), CompressionType::Zstd(3));
    let with_level = [("compression.type", "zstd"), ("compression.zstd.level", "-5")];
    assert_eq!(parsed(&with_level), CompressionType::Zstd(-5));
    refusal("compression.type", "none");
    refusal("compression.type", "LZ4");
}

/// Every acknowledged batch is synced: what asks for no more than that holds.
#[test]
fn a_sync_of_every_batch_may_be_asked_for_and_a_rarer_one_may_not() {
    for accepted in [
        ("flush.messages", "1"),
        ("flush.messages", " 9223372036854775807 "),
        ("flush.ms", "0"),
    ] {
        check(&overrides(&[accepted])).unwrap();
    }
    for (key, value) in [("flush.messages", "2"), ("flush.messages", "0"), ("flush.ms", "1000")] {
        let (reason, _) = refusal(key, value);
        assert!(reason.contains("on the disks of a majority"), "{reason}");
    }
}

/// As Kafka's own parser has it.
#[test]
fn blanks_around_values_and_capitals_in_flags_do_not_count() {
    let config = TopicConfig::parse(&overrides(&[
        ("retention.ms", " 5000 "),
        ("segment.bytes", "1048576\n"),
        ("message.timestamp.type", "\tLogAppendTime"),
        ("cleanup.policy", " delete"),
        ("unclean.leader.election.enable", "FALSE"),
    ]))
    .unwrap();
    assert_eq!(
        (config.retention_ms, config.segment_bytes, config.timestamp_type),
        (Some(5000), 1_048_576, TimestampType::LogAppendTime)
    );
    let flag = overrides(&[("preallocate", " TRUE ")]);
    check(&flag).unwrap();
    let told = describe(&flag).into_iter().find(|line| line.name == "preallocate");
    assert_eq!(told.unwrap().value, "true");
    assert!(check(&overrides(&[("retention.ms", "5 000")])).is_err());
    assert!(
        check(&overrides(&[("message.timestamp.type", "logappendtime")])).is_err(),
        "as in Kafka"
    );
}

#[test]
fn values_out_of_range_and_of_the_wrong_kind_are_refused() {
    for (key, value) in [
        ("retention.ms", "-2"),
        ("retention.ms", "a week"),
        ("retention.ms", "9223372036854775808"),
        ("segment.bytes", "1000"),
        ("min.insync.replicas", "0"),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("preallocate", "yes"),
        ("retention.ms", ""),
    ] {
        refusal(key, value);
    }
    refusal("retention.ms", &"1".repeat(10_000));
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    assert_eq!(refusal("retention.msec", "1").1.as_deref(), Some("retention.ms"));
    assert_eq!(
        refusal("min.insync.replica", "1").1.as_deref(),
        Some("min.insync.replicas")
    );
    assert_eq!(refusal("colour", "blue").1, None);
    let long = "x".repeat(100_000);
    assert!(TopicConfig::parse(&overrides(&[(&long, "1")])).is_err());
}

#[test]
fn describe_tells_every_key() {
    let described = describe(&overrides(&[("retention.ms", "5")]));
    assert_eq!(described.len(), keys().len());
    let own: Vec<_> = described.iter().filter(|line| line.overridden).collect();
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].name, own[0].value.as_str()), ("retention.ms", "5"));
    assert!(
        described
            .iter()
            .any(|line| line.name == "cleanup.policy" && line.value == "delete")
    );
}

#[test]
fn what_the_catalog_holds_already_never_fails() {
    let strange = overrides(&[
        ("retention.ms", "soon"),
        ("from.the.future", "1"),
        ("min.insync.replicas", "3"),
    ]);
    let config = TopicConfig::lenient(&strange);
    assert_eq!(config.retention_ms, TopicConfig::default().retention_ms);
    assert_eq!(config.min_insync_replicas, 3);
}
