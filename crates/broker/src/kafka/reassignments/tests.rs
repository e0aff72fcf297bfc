use super::*;
use crate::kafka::tests::{full_access, view};
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use trimaran_registry::CommandIndex;
use trimaran_registry::catalog::{Change, Command, RequestId};

fn moving() -> ClusterView {
    let mut view = view();
    let index = CommandIndex(view.catalog.applied().0 + 1);
    let id = view.catalog.topic("orders").unwrap().id;
    let change = Change::Reassign {
        id,
        partition: PartitionIndex(1),
        replicas: vec![BrokerId(2)],
    };
    let request = RequestId {
        broker: BrokerId(1),
        incarnation: trimaran_registry::Incarnation(1),
        sequence: index.0,
    };
    let command = Command {
        request,
        settled: 0,
        change,
    };
    view.catalog.apply(index, &command);
    view
}

fn listed(request: ListPartitionReassignmentsRequest) -> Vec<(String, i32, usize, usize, usize)> {
    let response = list(full_access(), &moving(), &request);
    let topics = response.topics.into_iter();
    topics
        .flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |partition| {
                (
                    name.clone(),
                    partition.partition_index,
                    partition.replicas.len(),
                    partition.adding_replicas.len(),
                    partition.removing_replicas.len(),
                )
            })
        })
        .collect()
}

#[test]
fn only_what_is_under_way_is_listed() {
    let asked = |name: &str, partitions: &[i32]| {
        let topic = ListPartitionReassignmentsTopics::default()
            .with_name(TopicName(text(name)))
            .with_partition_indexes(partitions.to_vec());
        ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic]))
    };
    let all = ListPartitionReassignmentsRequest::default().with_topics(None);
    let expected = vec![("orders".to_owned(), 1, 3, 0, 2)];
    assert_eq!(listed(all), expected);
    assert_eq!(listed(asked("orders", &[0, 1])), expected);
    assert_eq!(listed(asked("orders", &[0, 7, -1])), []);
    assert_eq!(listed(asked("unknown", &[0])), []);
}

#[test]
fn a_partition_named_twice_is_told_from_one_named_once() {
    let name = |name: &str| TopicName(text(name));
    let named = [(name("a"), 0), (name("a"), 1), (name("b"), 0), (name("a"), 0)];
    assert_eq!(repeated(named.into_iter()), BTreeSet::from([(name("a"), 0)]));
}

#[test]
fn answers_come_by_topic() {
    let name = |name: &str| TopicName(text(name));
    let refused = Failure::new(ResponseError::NoReassignmentInProgress, "none");
    let outcomes = vec![
        ((name("a"), 0), Ok(())),
        ((name("a"), 1), Err(refused)),
        ((name("b"), 0), Ok(())),
    ];
    let topics = by_topic(outcomes);
    let codes = |topic: &ReassignableTopicResponse| topic.partitions.iter().map(|p| p.error_code).collect::<Vec<_>>();
    assert_eq!(topics.iter().map(codes).collect::<Vec<_>>(), [vec![0, 85], vec![0]]);
}
