use super::*;
use crate::{AssignmentFault, Fault, NameFault, limits};
use std::collections::BTreeSet;

/// A catalog with what it takes to change it.
struct Story {
    catalog: Catalog,
    sequence: u64,
}

impl Story {
    fn with_brokers(count: i32) -> Story {
        let mut story = Story {
            catalog: Catalog::default(),
            sequence: 0,
        };
        for id in 0..count {
            story.must(register(broker(id)));
        }
        story
    }

    fn command(&mut self, change: Change) -> Command {
        self.sequence += 1;
        Command {
            request: request(self.sequence),
            settled: self.sequence,
            change,
        }
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.catalog.apply(CommandIndex(self.catalog.applied().0 + 1), command)
    }

    fn wish(&mut self, wish: Wish) -> Result<Outcome, CatalogError> {
        let change = self.catalog.plan(&wish, &BTreeSet::new())?;
        let command = self.command(change);
        match self.apply(&command) {
            Outcome::Refused(error) => Err(error),
            outcome => Ok(outcome),
        }
    }

    fn must(&mut self, wish: Wish) -> Outcome {
        self.wish(wish.clone())
            .unwrap_or_else(|error| panic!("{wish:?}: {error}"))
    }

    fn create(&mut self, name: &str, partitions: i32) -> Result<Arc<Topic>, CatalogError> {
        let id = topic_id(name, self.sequence);
        match self.wish(Wish::CreateTopic(id, new_topic(name, partitions, 2)))? {
            Outcome::TopicCreated(topic) => Ok(topic),
            other => panic!("{other:?}"),
        }
    }

    /// Nothing speaks against it before its turn comes.
    fn refuses_at_application(&mut self, wish: Wish, error: CatalogError) {
        assert_eq!(self.wish(wish), Err(error));
    }

    fn refuses(&mut self, wish: Wish, error: CatalogError) {
        let before = self.catalog.clone();
        assert_eq!(self.wish(wish), Err(error));
        assert_eq!(self.catalog, before, "nothing was done");
    }
}

fn broker(id: i32) -> Broker {
    let endpoint = |port| Endpoint {
        host: format!("broker-{id}"),
        port,
    };
    Broker {
        id: BrokerId(id),
        incarnation: Incarnation(1),
        rack: None,
        client: endpoint(9092),
        peer: endpoint(9093),
        admin: endpoint(9094),
    }
}

/// With the same folder every time.
fn register(broker: Broker) -> Wish {
    let folder = FolderId([9; 16]);
    Wish::RegisterBroker { broker, folder }
}

fn request(sequence: u64) -> RequestId {
    RequestId {
        broker: BrokerId(0),
        incarnation: Incarnation(1),
        sequence,
    }
}

fn topic_id(name: &str, salt: u64) -> TopicId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&salt.to_be_bytes());
    let taken = name.len().min(8);
    id[8..8 + taken].copy_from_slice(&name.as_bytes()[..taken]);
    TopicId(id)
}

fn new_topic(name: &str, partitions: i32, replication_factor: i32) -> NewTopic {
    NewTopic {
        name: name.into(),
        layout: Layout::Spread {
            partitions,
            replication_factor,
        },
        config: BTreeMap::new(),
    }
}

fn wished(name: &str, partitions: i32, replication_factor: i32) -> Wish {
    Wish::CreateTopic(topic_id(name, 0), new_topic(name, partitions, replication_factor))
}

fn groups(topic: &Topic) -> Vec<u64> {
    topic.partitions.iter().map(|partition| partition.group.0).collect()
}

fn named(name: &str) -> TopicRef {
    TopicRef::Name(name.into())
}

#[test]
fn a_topic_from_wish_to_query() {
    let mut story = Story::with_brokers(3);
    let topic = story.create("orders", 4).unwrap();
    assert_eq!(groups(&topic), [1, 2, 3, 4]);
    assert!(topic.partitions.iter().all(|partition| partition.replicas.len() == 2));
    let catalog = &story.catalog;
    assert_eq!(catalog.topic("orders"), Some(&topic));
    assert_eq!(catalog.topic_by_id(topic.id), Some(&topic));
    assert_eq!(
        catalog.partition("orders", PartitionIndex(3)).unwrap().group,
        GroupId(4)
    );
    assert_eq!(catalog.partition("orders", PartitionIndex(4)), None);
    assert_eq!(catalog.partition("orders", PartitionIndex(-1)), None);
    assert_eq!(catalog.partition_of(GroupId(3)), Some((&topic, PartitionIndex(2))));
    assert_eq!(catalog.partition_of(GroupId(5)), None);
    assert_eq!(catalog.partition_of(crate::METADATA_GROUP), None);
    assert_eq!((catalog.topic_count(), catalog.partition_count()), (1, 4));
}

#[test]
fn group_ids_are_never_used_again() {
    let mut story = Story::with_brokers(3);
    let first = story.create("orders", 2).unwrap();
    story.must(Wish::DeleteTopic(named("orders")));
    assert_eq!(story.catalog.partition_count(), 0);
    assert!(story.catalog.is_gone(GroupId(1)));
    assert!(!story.catalog.is_gone(GroupId(3)), "not yet created is not gone");
    assert!(!story.catalog.is_gone(crate::METADATA_GROUP));
    let second = story.create("orders", 2).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(groups(&second), [3, 4]);
    assert_eq!(story.catalog.topic_by_id(first.id), None);
}

#[test]
fn partitions_are_added_behind_the_present_ones() {
    let mut story = Story::with_brokers(3);
    story.create("orders", 2).unwrap();
    story.create("other", 1).unwrap();
    let wish = Wish::AddPartitions {
        topic: "orders".into(),
        total: 4,
        assignments: None,
    };
    let Outcome::PartitionsAdded { topic, first } = story.must(wish.clone()) else {
        panic!()
    };
    assert_eq!((groups(&topic), first), (vec![1, 2, 4, 5], PartitionIndex(2)));
    assert_eq!(
        story.catalog.partition_of(GroupId(5)),
        Some((&topic, PartitionIndex(3)))
    );
    story.refuses(wish, CatalogError::InvalidPartitions { asked: 4, present: 4 });
    let assigned = |assignments| Wish::AddPartitions {
        topic: "orders".into(),
        total: 5,
        assignments,
    };
    let fault = |reason| CatalogError::InvalidAssignment { partition: 4, reason };
    story.refuses(assigned(Some(vec![vec![BrokerId(1)]])), fault(AssignmentFault::Uneven));
    story.refuses(
        assigned(Some(vec![vec![BrokerId(1), BrokerId(9)]])),
        fault(AssignmentFault::UnknownBroker(9)),
    );
    story.refuses(assigned(Some(vec![])), fault(AssignmentFault::Count));
    story.must(assigned(Some(vec![vec![BrokerId(1), BrokerId(2)]])));
}

#[test]
fn two_plans_for_the_same_partitions_are_one_too_many() {
    let mut story = Story::with_brokers(3);
    story.create("orders", 1).unwrap();
    let wish = Wish::AddPartitions {
        topic: "orders".into(),
        total: 3,
        assignments: None,
    };
    let change = story.catalog.plan(&wish, &BTreeSet::new()).unwrap();
    let (first, second) = (story.command(change.clone()), story.command(change));
    assert!(matches!(story.apply(&first), Outcome::PartitionsAdded { .. }));
    assert_eq!(
        story.apply(&second),
        Outcome::Refused(CatalogError::InvalidPartitions { asked: 3, present: 3 })
    );
    assert_eq!(story.catalog.partition_count(), 3);
}

#[test]
fn a_request_is_applied_once_however_often_it_stands_in_the_log() {
    let mut story = Story::with_brokers(3);
    let change = story.catalog.plan(&wished("orders", 1, 3), &BTreeSet::new()).unwrap();
    let create = story.command(change);
    assert!(matches!(story.apply(&create), Outcome::TopicCreated(_)));
    assert_eq!(story.apply(&create), Outcome::Repeated);
    story.must(Wish::DeleteTopic(named("orders")));
    assert_eq!(story.apply(&create), Outcome::Stale, "the asker had settled it");
    assert_eq!(story.catalog.topic("orders"), None);
}

/// The controller plans behind registrations that are in flight. If one of them is lost, what was planned behind it would found
/// a group whose founders are there later than it is.
#[test]
fn nothing_is_put_on_brokers_that_are_not_registered() {
    let mut story = Story::with_brokers(2);
    let ahead = Story::with_brokers(3);
    let plan = |wish: &Wish| ahead.catalog.plan(wish, &BTreeSet::new()).unwrap();
    let change = plan(&wished("orders", 1, 3));
    let create = story.command(change);
    let (topics, groups) = (story.catalog.topic_count(), story.catalog.partition_count());
    assert_eq!(story.apply(&create), Outcome::Baseless);
    assert_eq!(
        (story.catalog.topic_count(), story.catalog.partition_count()),
        (topics, groups)
    );
    let registration = Command {
        settled: create.request.sequence,
        ..story.command(plan(&register(broker(2))))
    };
    assert_eq!(story.apply(&registration), Outcome::BrokerRegistered(BrokerId(2)));
    assert!(
        matches!(story.apply(&create), Outcome::TopicCreated(_)),
        "it is asked for again"
    );
}

#[test]
fn a_retry_that_its_session_forgot_makes_no_second_topic() {
    let mut story = Story::with_brokers(3);
    let change = story.catalog.plan(&wished("orders", 1, 3), &BTreeSet::new()).unwrap();
    let (first, again) = (story.command(change.clone()), story.command(change));
    assert!(matches!(story.apply(&first), Outcome::TopicCreated(_)));
    assert_eq!(story.apply(&again), Outcome::Repeated);
    assert_eq!(story.catalog.partition_count(), 1);
}

#[test]
fn an_index_is_applied_once() {
    let mut story = Story::with_brokers(1);
    let change = story.catalog.plan(&wished("orders", 1, 1), &BTreeSet::new()).unwrap();
    let command = story.command(change);
    let index = story.catalog.applied();
    assert_eq!(story.catalog.apply(index, &command), Outcome::Repeated);
    assert_eq!(story.catalog.topic_count(), 0);
}

#[test]
fn the_same_log_gives_the_same_catalog() {
    let mut story = Story::with_brokers(5);
    let mut log = Vec::new();
    for round in 0..50_u64 {
        let name = format!("topic-{}", round % 7);
        let wish = match round % 4 {
            0 | 1 => Wish::CreateTopic(topic_id(&name, round), new_topic(&name, 3, 3)),
            2 => Wish::DeleteTopic(named(&name)),
            _ => Wish::AllocateProducerIds,
        };
        if let Ok(change) = story.catalog.plan(&wish, &BTreeSet::new()) {
            let command = story.command(change);
            story.apply(&command);
            log.push((story.catalog.applied(), command.encode()));
        }
    }
    let mut replayed = Story::with_brokers(5).catalog;
    for (index, bytes) in &log {
        replayed.apply(*index, &Command::decode(bytes).unwrap());
    }
    assert_eq!(replayed, story.catalog);
    assert!(replayed.topic_count() > 0);
}

#[test]
fn names_follow_kafkas_rules() {
    let fault = |name: &str| check_name(name).unwrap_err();
    assert_eq!(fault(""), NameFault::Empty);
    assert_eq!(fault("."), NameFault::Dots);
    assert_eq!(fault(".."), NameFault::Dots);
    assert_eq!(fault(&"x".repeat(250)), NameFault::TooLong);
    assert_eq!(fault("a b"), NameFault::Character(' '));
    assert_eq!(fault("größe"), NameFault::Character('ö'));
    assert_eq!(fault("a/../b"), NameFault::Character('/'));
    for good in ["a", "...", "A.b_c-9", "__consumer_offsets", &"x".repeat(249)] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    let mut story = Story::with_brokers(2);
    story.create("a.b", 1).unwrap();
    let collides = CatalogError::InvalidName(NameFault::Collides("a.b".into()));
    assert_eq!(collides.fault(), Fault::State);
    story.refuses(wished("a_b", 1, 1), collides);
    story.refuses(wished("a.b", 1, 1), CatalogError::TopicExists);
    story.create("a-b", 1).unwrap();
}

#[test]
fn impossible_topics_are_refused() {
    let mut story = Story::with_brokers(3);
    let factor = |asked| CatalogError::InvalidReplicationFactor { asked, available: 3 };
    story.refuses(wished("t", 1, 4), factor(4));
    story.refuses(wished("t", 1, 0), factor(0));
    story.refuses(wished("t", 1, -1), factor(-1));
    story.refuses(
        wished("t", 0, 1),
        CatalogError::InvalidPartitions { asked: 0, present: 0 },
    );
    story.refuses(
        wished("t", -5, 1),
        CatalogError::InvalidPartitions { asked: -5, present: 0 },
    );
    let limit = limits::PARTITIONS_PER_TOPIC;
    story.refuses(
        wished("t", limit as i32 + 1, 1),
        CatalogError::TooManyPartitions { limit },
    );
    let manual = |layout| {
        let topic = NewTopic {
            name: "t".into(),
            layout: Layout::Manual(layout),
            config: BTreeMap::new(),
        };
        Wish::CreateTopic(TopicId([1; 16]), topic)
    };
    let fault = |partition, reason| CatalogError::InvalidAssignment { partition, reason };
    let ids = |ids: &[i32]| ids.iter().map(|&id| BrokerId(id)).collect::<Vec<_>>();
    story.refuses(manual(vec![]), CatalogError::InvalidPartitions { asked: 0, present: 0 });
    story.refuses(manual(vec![ids(&[])]), fault(0, AssignmentFault::Count));
    story.refuses(manual(vec![ids(&[1, 2]), ids(&[1])]), fault(1, AssignmentFault::Uneven));
    story.refuses(manual(vec![ids(&[1, 1])]), fault(0, AssignmentFault::Duplicate(1)));
    story.refuses(manual(vec![ids(&[3])]), fault(0, AssignmentFault::UnknownBroker(3)));
    story.must(manual(vec![ids(&[2, 0]), ids(&[1, 2])]));
    assert_eq!(
        *story.catalog.partition("t", PartitionIndex(0)).unwrap().replicas,
        [BrokerId(2), BrokerId(0)]
    );
}

#[test]
fn a_cluster_of_full_size_is_full() {
    let mut story = Story::with_brokers(1);
    let each = limits::PARTITIONS_PER_TOPIC;
    for number in 0..limits::PARTITIONS_PER_CLUSTER / each {
        let name = format!("t{number}");
        story.must(Wish::CreateTopic(
            topic_id(&name, number as u64),
            new_topic(&name, each as i32, 1),
        ));
    }
    story.refuses(
        wished("more", 1, 1),
        CatalogError::TooManyPartitions {
            limit: limits::PARTITIONS_PER_CLUSTER,
        },
    );
}

#[test]
fn configuration_is_checked_and_parsed() {
    let mut story = Story::with_brokers(1);
    let config = |value: &str| BTreeMap::from([("retention.ms".to_owned(), value.to_owned())]);
    let wish = |value| {
        let topic = NewTopic {
            config: config(value),
            ..new_topic("orders", 1, 1)
        };
        Wish::CreateTopic(TopicId([1; 16]), topic)
    };
    assert!(matches!(
        story.wish(wish("soon")),
        Err(CatalogError::InvalidConfig { .. })
    ));
    story.must(wish("1000"));
    assert_eq!(story.catalog.topic("orders").unwrap().config.retention_ms, Some(1000));
    story.must(Wish::ConfigureTopic {
        topic: named("orders"),
        config: config("-1"),
    });
    assert_eq!(story.catalog.topic("orders").unwrap().config.retention_ms, None);
    story.refuses(
        Wish::ConfigureTopic {
            topic: named("nothing"),
            config: BTreeMap::new(),
        },
        CatalogError::UnknownTopic,
    );
}

#[test]
fn brokers_come_back_with_a_later_start_only() {
    let mut story = Story::with_brokers(1);
    let later = Broker {
        incarnation: Incarnation(5),
        rack: Some("r".into()),
        ..broker(0)
    };
    story.must(register(later.clone()));
    assert_eq!(**story.catalog.broker(BrokerId(0)).unwrap(), later);
    story.refuses(register(broker(0)), CatalogError::StaleIncarnation);
    let negative = Broker {
        id: BrokerId(-1),
        ..broker(0)
    };
    assert!(matches!(
        story.wish(register(negative)),
        Err(CatalogError::InvalidBroker(_))
    ));
    let mut endless = broker(7);
    endless.client.host = "x".repeat(limits::HOST_BYTES + 1);
    assert!(matches!(
        story.wish(register(endless)),
        Err(CatalogError::InvalidBroker(_))
    ));
}

#[test]
fn brokers_that_are_down_get_replicas_only_if_they_must() {
    let story = Story::with_brokers(4);
    let down = BTreeSet::from([BrokerId(2)]);
    let placed = |factor| match story.catalog.plan(&wished("t", 8, factor), &down) {
        Ok(Change::CreateTopic { partitions, .. }) => partitions.concat(),
        other => panic!("{other:?}"),
    };
    assert!(!placed(3).contains(&BrokerId(2)));
    assert!(placed(4).contains(&BrokerId(2)));
}

#[test]
fn load_counts_what_was_placed_and_deleted() {
    let mut story = Story::with_brokers(3);
    story.create("a", 3).unwrap();
    story.create("b", 3).unwrap();
    for id in 0..3 {
        assert_eq!(
            story.catalog.load(BrokerId(id)),
            Load {
                replicas: 4,
                leaders: 2
            }
        );
    }
    story.must(Wish::DeleteTopic(named("a")));
    story.must(Wish::DeleteTopic(named("b")));
    for id in 0..3 {
        assert_eq!(story.catalog.load(BrokerId(id)), Load::default());
    }
}

#[test]
fn producer_ids_are_handed_out_once() {
    let mut story = Story::with_brokers(1);
    let block = |first| Outcome::ProducerIds {
        first,
        count: limits::PRODUCER_ID_BLOCK,
    };
    assert_eq!(story.must(Wish::AllocateProducerIds), block(0));
    assert_eq!(story.must(Wish::AllocateProducerIds), block(1000));
}

#[test]
fn the_first_cluster_id_stays() {
    let mut story = Story::with_brokers(1);
    story.must(Wish::FoundCluster("alpha".into()));
    story.must(Wish::FoundCluster("alpha".into()));
    story.refuses(
        Wish::FoundCluster("beta".into()),
        CatalogError::WrongCluster { is: "alpha".into() },
    );
    assert_eq!(story.catalog.cluster_id(), Some("alpha"));
}

#[test]
fn a_snapshot_does_not_change() {
    let mut story = Story::with_brokers(2);
    let snapshot = story.catalog.clone();
    story.create("orders", 1).unwrap();
    assert_eq!(snapshot.topic_count(), 0);
    assert_eq!(story.catalog.topic_count(), 1);
}

fn golden(change: Change) -> Vec<u8> {
    let command = Command {
        request: request(300),
        settled: 2,
        change,
    };
    let bytes = command.encode();
    assert_eq!(Command::decode(&bytes), Ok(command));
    bytes
}

/// What stands in a log must be readable for ever: if one of these fails, a new version is needed, not new bytes.
#[test]
fn golden_bytes() {
    // version 1; request: broker 0 (zigzag), incarnation 1, sequence 300 (varint); settled 2; then the change
    let head = [1, 0, 1, 0xac, 0x02, 2];
    let check = |change, body: &[u8]| assert_eq!(golden(change), [&head, body].concat());
    check(Change::FoundCluster("ab".into()), &[0, 2, b'a', b'b']);
    let endpoint = |port| Endpoint { host: "h".into(), port };
    let broker = Broker {
        id: BrokerId(3),
        incarnation: Incarnation(7),
        rack: Some("r".into()),
        client: endpoint(1),
        peer: endpoint(2),
        admin: endpoint(300),
    };
    let body = [1, 6, 7, 1, 1, b'r', 1, b'h', 1, 1, b'h', 2, 1, b'h', 0xac, 0x02];
    check(Change::RegisterBroker(broker), &body);
    let id = TopicId([9; 16]);
    let create = Change::CreateTopic {
        id,
        name: "t".into(),
        partitions: vec![vec![BrokerId(1), BrokerId(2)], vec![BrokerId(2)]],
        config: BTreeMap::from([("k".into(), "v".into())]),
    };
    let rest = [1, b't', 2, 2, 2, 4, 1, 4, 1, 1, b'k', 1, b'v'];
    check(create, &[&[2][..], &[9; 16], &rest].concat());
    check(Change::DeleteTopic(id), &[&[3][..], &[9; 16]].concat());
    let add = Change::AddPartitions {
        id,
        present: 2,
        partitions: vec![vec![BrokerId(1)]],
    };
    check(add, &[&[4][..], &[9; 16], &[2, 1, 1, 2]].concat());
    check(
        Change::ConfigureTopic {
            id,
            config: BTreeMap::new(),
        },
        &[&[5][..], &[9; 16], &[0]].concat(),
    );
    check(Change::AllocateProducerIds { count: 1000 }, &[6, 0xe8, 0x07]);
    let broker = Broker {
        id: BrokerId(3),
        ..Broker::default()
    };
    let folder = FolderId([5; 16]);
    let registered = [&[7, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], &[5; 16]].concat();
    check(Change::RegisterFolder { broker, folder }, &registered);
    let partition = PartitionIndex(2);
    let reassign = Change::Reassign {
        id,
        partition,
        replicas: vec![BrokerId(1), BrokerId(2)],
    };
    check(reassign, &[&[8][..], &[9; 16], &[4, 2, 2, 4]].concat());
    check(
        Change::CancelReassignment { id, partition },
        &[&[9][..], &[9; 16], &[4]].concat(),
    );
    let since = CommandIndex(300);
    let finish = Change::FinishReassignment { id, partition, since };
    check(finish, &[&[10][..], &[9; 16], &[4, 0xac, 2]].concat());
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

fn reassign(topic: &str, replicas: &[i32]) -> Wish {
    Wish::Reassign {
        topic: named(topic),
        partition: PartitionIndex(0),
        replicas: ids(replicas),
    }
}

impl Story {
    fn partition(&self) -> Partition {
        self.catalog.partition("t", PartitionIndex(0)).unwrap().clone()
    }

    fn manual(&mut self, replicas: &[i32]) {
        let topic = NewTopic {
            name: "t".into(),
            layout: Layout::Manual(vec![ids(replicas)]),
            config: BTreeMap::new(),
        };
        self.must(Wish::CreateTopic(topic_id("t", self.sequence), topic));
    }

    fn finish(&mut self) -> Vec<BrokerId> {
        let topic = self.catalog.topic("t").unwrap().id;
        let since = self.partition().wanted_since();
        let wish = Wish::FinishReassignment {
            topic,
            partition: PartitionIndex(0),
            since,
        };
        match self.must(wish) {
            Outcome::Reassigned { left, .. } => left,
            other => panic!("{other:?}"),
        }
    }

    fn loads(&self) -> Vec<(usize, usize)> {
        let load = |broker: &Arc<Broker>| self.catalog.load(broker.id);
        self.catalog
            .brokers()
            .map(load)
            .map(|load| (load.replicas, load.leaders))
            .collect()
    }
}

#[test]
fn a_partition_is_where_it_was_until_it_has_arrived() {
    let mut story = Story::with_brokers(5);
    story.manual(&[0, 1, 2]);
    story.must(reassign("t", &[3, 2, 4]));
    let moving = story.partition();
    assert_eq!(*moving.replicas, *ids(&[0, 1, 2]));
    assert_eq!(**moving.wanted(), *ids(&[3, 2, 4]));
    assert_eq!(moving.assigned(), ids(&[0, 1, 2, 3, 4]));
    assert_eq!((moving.adding(), moving.removing()), (ids(&[3, 4]), ids(&[0, 1])));
    assert_eq!(story.loads(), [(1, 0), (1, 0), (1, 0), (1, 1), (1, 0)]);
    assert_eq!(story.finish(), ids(&[0, 1]));
    let there = story.partition();
    assert_eq!(
        (&*there.replicas, there.reassignment.clone()),
        (&*ids(&[3, 2, 4]), None)
    );
    assert_eq!(
        *there.founders,
        *ids(&[0, 1, 2]),
        "its first configuration never changes"
    );
    assert_eq!(story.loads(), [(0, 0), (0, 0), (1, 0), (1, 1), (1, 0)]);
    story.must(Wish::DeleteTopic(named("t")));
    assert_eq!(story.loads(), [(0, 0); 5]);
}

#[test]
fn an_arrival_counts_for_the_reassignment_that_it_means() {
    let mut story = Story::with_brokers(5);
    story.manual(&[0, 1]);
    story.must(reassign("t", &[2, 3]));
    let (topic, partition) = (story.catalog.topic("t").unwrap().id, PartitionIndex(0));
    let first = story.partition().wanted_since();
    story.must(reassign("t", &[4]));
    assert!(
        [0, 1, 2, 3, 4]
            .into_iter()
            .all(|id| story.partition().is_on(BrokerId(id)))
    );
    assert_eq!(story.partition().adding(), ids(&[4]));
    let late = Wish::FinishReassignment {
        topic,
        partition,
        since: first,
    };
    story.refuses_at_application(late, CatalogError::NoReassignment);
    assert_eq!(
        story.finish(),
        ids(&[0, 1, 2, 3]),
        "also where an earlier target may have left something"
    );
    let cancel = Wish::CancelReassignment {
        topic: named("t"),
        partition,
    };
    story.refuses(cancel.clone(), CatalogError::NoReassignment);
    story.must(reassign("t", &[0]));
    story.must(cancel);
    assert_eq!(**story.partition().wanted(), *ids(&[4]));
    assert_eq!(story.finish(), ids(&[0]));
}

#[test]
fn impossible_reassignments_are_refused() {
    let mut story = Story::with_brokers(3);
    story.manual(&[0, 1]);
    let fault = |reason| CatalogError::InvalidAssignment { partition: 0, reason };
    story.refuses(reassign("t", &[]), fault(AssignmentFault::Count));
    story.refuses(reassign("t", &[1, 1]), fault(AssignmentFault::Duplicate(1)));
    story.refuses(reassign("t", &[7]), fault(AssignmentFault::UnknownBroker(7)));
    story.refuses(reassign("other", &[0]), CatalogError::UnknownTopic);
    for partition in [-1, 1] {
        let wish = Wish::Reassign {
            topic: named("t"),
            partition: PartitionIndex(partition),
            replicas: ids(&[0]),
        };
        story.refuses(wish, CatalogError::UnknownPartition);
    }
    story.must(reassign("t", &[0, 1, 2])); // another replication factor is possible
}

#[test]
fn a_founder_is_one_as_long_as_it_has_its_folder_and_its_place() {
    use crate::Standing::{Founding, Joining};
    let mut story = Story::with_brokers(4);
    story.manual(&[0, 1, 2]);
    let standing = |story: &Story, id: i32| {
        let since = story.catalog.folder_since(BrokerId(id));
        story.partition().standing(BrokerId(id), since)
    };
    assert_eq!(
        [0, 1, 2, 3].map(|id| standing(&story, id)),
        [Founding, Founding, Founding, Joining]
    );
    let again = |story: &mut Story, folder: u8, incarnation| {
        let broker = Broker {
            incarnation: Incarnation(incarnation),
            ..broker(1)
        };
        let folder = FolderId([folder; 16]);
        story.must(Wish::RegisterBroker { broker, folder });
    };
    again(&mut story, 9, 2);
    assert_eq!(standing(&story, 1), Founding, "the same folder as before");
    again(&mut story, 8, 3);
    assert_eq!(standing(&story, 1), Joining, "another folder");
    again(&mut story, 8, 4);
    assert_eq!(standing(&story, 1), Joining);
    story.must(reassign("t", &[0, 1]));
    story.finish();
    story.must(reassign("t", &[0, 1, 2]));
    story.finish();
    assert_eq!(standing(&story, 2), Joining, "it was away, and its replica deleted");
    assert_eq!(standing(&story, 0), Founding);
    assert_eq!(standing(&story, 9), Joining, "not even registered");
}

/// Before folders were known a registration said nothing of them; each may have been with another one.
#[test]
fn registrations_of_an_older_version_vouch_for_nothing() {
    let mut story = Story::with_brokers(2);
    let old = |story: &mut Story| {
        let command = story.command(Change::RegisterBroker(broker(0)));
        story.apply(&command);
        story.catalog.folder_since(BrokerId(0)).unwrap()
    };
    let (first, second) = (old(&mut story), old(&mut story));
    assert!(first < second);
    story.must(register(broker(0)));
    assert!(second < story.catalog.folder_since(BrokerId(0)).unwrap());
}

#[test]
fn bytes_that_are_no_command_are_refused() {
    let good = golden(Change::AllocateProducerIds { count: 1000 });
    for cut in 0..good.len() {
        assert_eq!(
            Command::decode(&good[..cut]),
            Err(DecodeError::Malformed),
            "cut at {cut}"
        );
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(Command::decode(&longer), Err(DecodeError::Malformed));
    let mut later = good.clone();
    later[0] = 2;
    assert_eq!(Command::decode(&later), Err(DecodeError::Version(2)));
    let huge = vec![1; limits::MESSAGE_BYTES + 1];
    assert_eq!(Command::decode(&huge), Err(DecodeError::TooLong(huge.len())));
    let mut seed = 1;
    for _ in 0..20_000 {
        seed = crate::placement::scramble(seed);
        let length = (seed % 64) as usize;
        let bytes: Vec<u8> = (0..length)
            .map(|n| (crate::placement::scramble(seed ^ n as u64) % 11) as u8)
            .collect();
        let _ = Command::decode(&bytes); // whatever it is: no panic, and no memory beyond its own size
    }
}
