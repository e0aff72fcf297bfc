use super::*;
use crate::kafka::tests::text;
use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;

fn topic() -> CreatableTopic {
    CreatableTopic::default()
        .with_name(TopicName(text("t")))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
}

fn assignment(partition: i32, brokers: &[i32]) -> CreatableReplicaAssignment {
    CreatableReplicaAssignment::default()
        .with_partition_index(partition)
        .with_broker_ids(brokers.iter().map(|id| kafka::BrokerId(*id)).collect())
}

fn code<T>(result: Result<T, Failure>) -> i16 {
    result.map_or_else(|failure| failure.code(), |_| 0)
}

#[test]
fn replicas_are_counted_or_named_but_not_both() {
    let spread = layout(&topic().with_num_partitions(3).with_replication_factor(2)).unwrap();
    assert_eq!(
        spread,
        Layout::Spread {
            partitions: 3,
            replication_factor: 2
        }
    );
    let named = topic().with_assignments(vec![assignment(1, &[2]), assignment(0, &[1])]);
    let expected = Layout::Manual(vec![vec![BrokerId(1)], vec![BrokerId(2)]]);
    assert_eq!(layout(&named).unwrap(), expected, "in the order of the partitions");
    assert_eq!(code(layout(&named.with_num_partitions(2))), 42);
}

#[test]
fn assigned_partitions_have_no_gaps() {
    let code = |assignments: &[CreatableReplicaAssignment]| code(manual(assignments));
    assert_eq!(code(&[assignment(0, &[1]), assignment(2, &[1])]), 39);
    assert_eq!(code(&[assignment(1, &[1])]), 39);
    assert_eq!(code(&[assignment(0, &[1]), assignment(0, &[2])]), 39);
}

#[test]
fn settings_need_values_and_come_before_the_clusters_defaults() {
    let entry = |key: &str, value: Option<&str>| {
        CreatableTopicConfig::default()
            .with_name(text(key))
            .with_value(value.map(text))
    };
    let defaults = BTreeMap::from([("a".to_string(), "1".to_string()), ("b".to_string(), "1".to_string())]);
    let own = topic().with_configs(vec![entry("b", Some("2"))]);
    let wish = new_topic(&own, &defaults).unwrap();
    let expected = BTreeMap::from([("a".to_string(), "1".to_string()), ("b".to_string(), "2".to_string())]);
    assert_eq!(wish.config, expected);
    assert_eq!(
        code(new_topic(&topic().with_configs(vec![entry("b", None)]), &defaults)),
        40
    );
}

#[test]
fn a_topic_to_delete_is_named_in_one_way() {
    let by_name = DeleteTopicState::default().with_name(Some(TopicName(text("t"))));
    let by_id = DeleteTopicState::default()
        .with_name(None)
        .with_topic_id(TopicId([1; 16]).into());
    let both = by_name.clone().with_topic_id(TopicId([1; 16]).into());
    let neither = DeleteTopicState::default().with_name(None);
    let named = to_delete(DeleteTopicsRequest::default().with_topics(vec![by_name, by_id, both, neither]));
    let codes: Vec<_> = named.iter().map(|named| code(named.reference())).collect();
    assert_eq!(codes, [0, 0, 42, 42]);
    let old = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("t"))]);
    assert!(to_delete(old).iter().all(|named| matches!(named, Named::Name(_))));
}

#[test]
fn an_unknown_id_has_an_error_of_its_own() {
    let unknown = AdminError::Refused(CatalogError::UnknownTopic);
    assert_eq!(delete_failure(&Named::Id(TopicId([1; 16])), &unknown).code(), 100);
    assert_eq!(delete_failure(&Named::Name(TopicName(text("t"))), &unknown).code(), 3);
}

#[test]
fn names_that_repeat_are_found() {
    assert_eq!(repeated(["a", "b", "a", "c", "a"].into_iter()), BTreeSet::from(["a"]));
}

#[test]
fn deadlines_have_bounds() {
    assert_eq!(deadline(-1), MIN_DEADLINE);
    assert_eq!(deadline(5_000), Duration::from_secs(5));
    assert_eq!(deadline(i32::MAX), MAX_DEADLINE);
}
