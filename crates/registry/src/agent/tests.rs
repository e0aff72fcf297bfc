mod cluster;
mod founders;

use super::*;
use crate::catalog::{Endpoint, Layout};
use cluster::{Cluster, Faults};

const SECOND: Duration = Duration::from_secs(1);

fn create(name: &str, partitions: i32, replication_factor: i32) -> AdminRequest {
    let layout = Layout::Spread {
        partitions,
        replication_factor,
    };
    let topic = NewTopic {
        name: name.into(),
        layout,
        config: BTreeMap::new(),
    };
    AdminRequest::CreateTopic {
        topic,
        validate_only: false,
    }
}

fn ensure(name: &str) -> AdminRequest {
    AdminRequest::EnsureTopic { name: name.into() }
}

fn topic(answer: Option<&Result<AdminReply, AdminError>>) -> Arc<Topic> {
    match answer {
        Some(Ok(AdminReply::Topic(topic))) => topic.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn brokers_register_and_found_the_cluster() {
    let mut cluster = Cluster::new(3, Faults::none(), 1);
    cluster.lead(0);
    cluster.run(SECOND);
    for id in 0..3 {
        let agent = cluster.agent(id);
        assert_eq!(agent.catalog().cluster_id(), Some("test"));
        assert_eq!(agent.catalog().brokers().count(), 3);
        assert_eq!(agent.registration(), Registration::Registered);
        assert_eq!(agent.controller(), Some(BrokerId(0)));
    }
}

#[test]
fn any_broker_takes_a_request_and_answers_from_its_own_catalog() {
    let mut cluster = Cluster::started(3);
    for asked in 0..3 {
        let name = format!("topic-{asked}");
        let ticket = cluster.request(asked, create(&name, 2, 3));
        cluster.run_until_answered();
        let created = topic(cluster.answer(ticket));
        assert_eq!(cluster.agent(asked).catalog().topic(&name), Some(&created));
        assert_eq!(created.partitions.len(), 2);
    }
}

#[test]
fn errors_come_back_to_the_asker() {
    let mut cluster = Cluster::started(3);
    let tickets = [0, 1].map(|asked| cluster.request(asked, create("orders", 1, 9)));
    cluster.run_until_answered();
    for ticket in tickets {
        let refused = CatalogError::InvalidReplicationFactor { asked: 9, available: 3 };
        assert_eq!(cluster.answer(ticket), Some(&Err(AdminError::Refused(refused))));
    }
    let first = cluster.request(1, create("orders", 1, 3));
    cluster.run_until_answered();
    topic(cluster.answer(first));
    let second = cluster.request(2, create("orders", 1, 3));
    cluster.run_until_answered();
    assert_eq!(
        cluster.answer(second),
        Some(&Err(AdminError::Refused(CatalogError::TopicExists)))
    );
}

#[test]
fn requests_in_flight_see_each_other() {
    let mut cluster = Cluster::started(6);
    let tickets: Vec<Ticket> = (0..12)
        .map(|n| cluster.request(n % 6, create(&format!("t{n}"), 1, 3)))
        .collect();
    let twins = [0, 1].map(|asked| cluster.request(asked, create("twin", 1, 3)));
    cluster.run_until_answered();
    tickets.iter().for_each(|ticket| drop(topic(cluster.answer(*ticket))));
    let existing = twins
        .iter()
        .filter(|t| cluster.answer(**t).is_some_and(Result::is_err))
        .count();
    assert_eq!(existing, 1, "one of the twins is refused");
    cluster.run(SECOND);
    let catalog = cluster.agent(0).catalog();
    let leaders: Vec<usize> = (0..6).map(|id| catalog.load(BrokerId(id)).leaders).collect();
    assert!(
        leaders.iter().max().unwrap() - leaders.iter().min().unwrap() <= 1,
        "{leaders:?}"
    );
}

/// "It exists" is no truth as long as the command that creates it may be lost.
#[test]
fn nothing_is_refused_because_of_what_is_not_committed() {
    let mut cluster = Cluster::started(3);
    cluster.drop_proposals(true);
    let first = cluster.request(0, create("twin", 1, 3));
    let second = cluster.request(0, create("twin", 1, 3));
    cluster.run(Duration::from_millis(150));
    assert_eq!((cluster.answer(first), cluster.answer(second)), (None, None));
    cluster.drop_proposals(false);
    cluster.run_until_answered();
    let answers = [first, second].map(|ticket| cluster.answer(ticket).is_some_and(Result::is_ok));
    assert_ne!(answers[0], answers[1], "one of them creates it");
    assert!(cluster.agent(0).catalog().topic("twin").is_some());
}

/// A proposal that is refused takes with it what was planned behind it: that is planned again, on what there is.
#[test]
fn nothing_counts_on_a_lost_registration() {
    let mut cluster = Cluster::new(3, Faults::none(), 1);
    cluster.drop_proposals(true);
    cluster.lead(0);
    cluster.run(Duration::from_millis(50));
    assert_eq!(
        cluster.agent(0).catalog().brokers().count(),
        0,
        "the controller only expects them"
    );
    cluster.drop_proposals(false);
    let early = cluster.request(0, create("orders", 1, 3));
    cluster.run_until_answered();
    let refused = CatalogError::InvalidReplicationFactor { asked: 3, available: 0 };
    assert_eq!(cluster.answer(early), Some(&Err(AdminError::Refused(refused))));
    cluster.run(SECOND);
    let late = cluster.request(0, create("orders", 1, 3));
    cluster.run_until_answered();
    let created = topic(cluster.answer(late));
    for id in 0..3 {
        let broker = BrokerId(i32::try_from(id).unwrap());
        let since = cluster.agent(id).catalog().folder_since(broker);
        assert_eq!(created.partitions[0].standing(broker, since), crate::Standing::Founding);
    }
}

/// "It exists" is no truth either where something else speaks against it for now.
#[test]
fn nothing_is_refused_for_a_reason_that_may_be_lost() {
    let mut cluster = Cluster::new(3, Faults::none(), 1);
    cluster.drop_proposals(true);
    cluster.lead(0);
    cluster.run(Duration::from_millis(50));
    // Behind registrations that are lost.
    let first = cluster.request(0, create("twin", 1, 3));
    cluster.run(Duration::from_millis(1));
    cluster.drop_proposals(false);
    let second = cluster.request(0, create("twin", 1, 3));
    cluster.run_until_answered();
    for ticket in [first, second] {
        let answer = cluster.answer(ticket);
        let exists = cluster.agent(0).catalog().topic("twin").is_some();
        assert!(
            exists || answer != Some(&Err(AdminError::Refused(CatalogError::TopicExists))),
            "{answer:?}"
        );
    }
}

#[test]
fn replicas_open_configure_and_close() {
    let mut cluster = Cluster::started(3);
    cluster.request(1, create("orders", 4, 2));
    cluster.run_until_answered();
    cluster.run(SECOND);
    let held: usize = (0..3).map(|id| cluster.open_replicas(id).len()).sum();
    assert_eq!(held, 8);
    let config = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let topic = TopicRef::Name("orders".into());
    cluster.request(
        2,
        AdminRequest::ConfigureTopic {
            topic: topic.clone(),
            config,
            validate_only: false,
        },
    );
    let grow = |total| AdminRequest::AddPartitions {
        topic: "orders".into(),
        total,
        assignments: None,
        validate_only: false,
    };
    cluster.run_until_answered();
    cluster.request(0, grow(6));
    cluster.run_until_answered();
    cluster.run(SECOND);
    cluster.check_replicas();
    for id in 0..3 {
        assert!(
            cluster
                .open_replicas(id)
                .values()
                .all(|config| config.retention_ms == Some(5))
        );
    }
    cluster.request(0, AdminRequest::DeleteTopic(topic.clone()));
    cluster.run_until_answered();
    cluster.run(SECOND);
    for id in 0..3 {
        assert!(cluster.open_replicas(id).is_empty());
    }
    let again = cluster.request(0, AdminRequest::DeleteTopic(topic));
    cluster.run_until_answered();
    assert_eq!(
        cluster.answer(again),
        Some(&Err(AdminError::Refused(CatalogError::UnknownTopic)))
    );
}

#[test]
fn a_check_changes_nothing() {
    let mut cluster = Cluster::started(3);
    let AdminRequest::CreateTopic { topic, .. } = create("orders", 1, 3) else {
        panic!()
    };
    let before = cluster.log_length();
    let valid = cluster.request(
        1,
        AdminRequest::CreateTopic {
            topic,
            validate_only: true,
        },
    );
    assert_eq!(cluster.answer(valid), Some(&Ok(AdminReply::Valid)));
    let AdminRequest::CreateTopic { topic, .. } = create("or ders", 1, 3) else {
        panic!()
    };
    let invalid = cluster.request(
        1,
        AdminRequest::CreateTopic {
            topic,
            validate_only: true,
        },
    );
    assert!(matches!(
        cluster.answer(invalid),
        Some(Err(AdminError::Refused(CatalogError::InvalidName(_))))
    ));
    cluster.run(SECOND);
    assert_eq!(cluster.log_length(), before);
}

#[test]
fn many_wishes_for_one_topic_are_one_request() {
    let mut cluster = Cluster::started(3);
    let before = cluster.log_length();
    let tickets: Vec<Ticket> = (0..200).map(|_| cluster.request(1, ensure("orders"))).collect();
    cluster.run_until_answered();
    let id = topic(cluster.answer(tickets[0])).id;
    assert!(tickets.iter().all(|ticket| topic(cluster.answer(*ticket)).id == id));
    assert_eq!(cluster.log_length(), before + 1);
    let later = cluster.request(1, ensure("orders"));
    assert_eq!(topic(cluster.answer(later)).id, id, "at once");
}

#[test]
fn wishes_for_one_topic_on_several_brokers_are_one_topic() {
    let mut cluster = Cluster::started(3);
    let tickets: Vec<Ticket> = (0..30).map(|n| cluster.request(n % 3, ensure("orders"))).collect();
    cluster.run_until_answered();
    let id = topic(cluster.answer(tickets[0])).id;
    assert!(tickets.iter().all(|ticket| topic(cluster.answer(*ticket)).id == id));
}

#[test]
fn a_topic_waits_for_the_brokers_that_shall_hold_it() {
    let mut cluster = Cluster::new(3, Faults::none(), 1);
    cluster.cut(2);
    cluster.lead(0);
    let ticket = cluster.request(0, ensure("orders"));
    cluster.run(SECOND);
    assert_eq!(cluster.answer(ticket), None, "two brokers are not three");
    cluster.heal();
    cluster.run_until_answered();
    assert_eq!(topic(cluster.answer(ticket)).partitions[0].replicas.len(), 3);
}

#[test]
fn a_topic_that_no_cluster_can_hold_says_why() {
    let mut cluster = Cluster::new(1, Faults::none(), 1);
    cluster.lead(0);
    let ticket = cluster.request(0, ensure("orders"));
    cluster.run_until_answered();
    let refused = CatalogError::InvalidReplicationFactor { asked: 3, available: 1 };
    assert_eq!(cluster.answer(ticket), Some(&Err(AdminError::Refused(refused))));
}

#[test]
fn producer_ids_differ_everywhere() {
    let mut cluster = Cluster::started(3);
    let tickets: Vec<Ticket> = (0..5000)
        .map(|n| cluster.request(n % 3, AdminRequest::ProducerId))
        .collect();
    cluster.run_until_answered();
    let mut ids = BTreeSet::new();
    for ticket in tickets {
        match cluster.answer(ticket) {
            Some(Ok(AdminReply::ProducerId(id))) => assert!(ids.insert(*id), "{id} twice"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn without_a_controller_requests_time_out() {
    let mut cluster = Cluster::new(3, Faults::none(), 1);
    let tickets = [create("a", 1, 1), ensure("b"), AdminRequest::ProducerId].map(|r| cluster.request(1, r));
    cluster.run_until_answered();
    for ticket in tickets {
        assert_eq!(cluster.answer(ticket), Some(&Err(AdminError::TimedOut)));
    }
    assert!(cluster.agent(1).deadline() > cluster.now());
}

#[test]
fn requests_beyond_the_limit_are_refused_at_once() {
    let mut cluster = Cluster::new(3, Faults::none(), 1);
    let many = 3 * crate::limits::REQUESTS_PER_BROKER;
    let tickets: Vec<Ticket> = (0..many)
        .map(|n| cluster.request(1, create(&format!("t{n}"), 1, 1)))
        .collect();
    let refused = |ticket: &&Ticket| cluster.answer(**ticket) == Some(&Err(AdminError::Overloaded));
    assert!(tickets.iter().filter(refused).count() >= many - crate::limits::REQUESTS_PER_BROKER);
    cluster.lead(2);
    cluster.run_until_answered();
    let done = tickets
        .iter()
        .filter(|ticket| cluster.answer(**ticket).is_some_and(Result::is_ok))
        .count();
    assert!(
        done >= crate::limits::REQUESTS_PER_BROKER - 1,
        "those that were taken are done: {done}"
    );
}

#[test]
fn a_request_outlives_its_controller() {
    let mut cluster = Cluster::started(3);
    cluster.drop_proposals(true);
    let ticket = cluster.request(1, create("orders", 1, 3));
    cluster.run(SECOND);
    assert_eq!(cluster.answer(ticket), None);
    cluster.drop_proposals(false);
    cluster.lead(2);
    cluster.run(SECOND / 10);
    topic(cluster.answer(ticket));
}

#[test]
fn a_request_that_comes_late_again_is_not_done_again() {
    let mut cluster = Cluster::started(3);
    cluster.request(1, create("orders", 1, 3));
    cluster.run_until_answered();
    let request = AdminRequest::DeleteTopic(TopicRef::Name("orders".into()));
    let effects = cluster.tell(
        1,
        Input::Request {
            ticket: Ticket(1000),
            timeout: SECOND,
            request,
        },
    );
    let [Effect::Send(BrokerId(0), forward)] = &effects[..] else {
        panic!("{effects:?}")
    };
    for _ in 0..2 {
        let effects = cluster.tell(
            0,
            Input::Peer {
                from: BrokerId(1),
                message: forward,
            },
        );
        cluster.perform(0, effects);
    }
    cluster.run(SECOND);
    assert_eq!(cluster.agent(1).catalog().topic("orders"), None);
    let again = cluster.request(1, create("orders", 1, 3));
    cluster.run_until_answered();
    topic(cluster.answer(again));
    let before = cluster.log_length();
    let effects = cluster.tell(
        0,
        Input::Peer {
            from: BrokerId(1),
            message: forward,
        },
    );
    assert_eq!(effects, [], "neither done nor refused: it was answered long ago");
    cluster.run(SECOND);
    assert_eq!(cluster.log_length(), before);
    assert!(cluster.agent(1).catalog().topic("orders").is_some());
}

#[test]
fn everyone_learns_who_leads_and_who_is_in_sync() {
    let mut cluster = Cluster::started(3);
    cluster.request(1, create("orders", 3, 3));
    cluster.run_until_answered();
    cluster.run(SECOND);
    cluster.lead_partition(GroupId(1), 1, Term(1), &[1, 2]);
    cluster.run(SECOND / 100);
    for id in 0..3 {
        let known = cluster.agent(id).leaders().leadership(GroupId(1)).unwrap();
        assert_eq!(
            (known.leader, known.serving, known.term),
            (Some(BrokerId(1)), true, Term(1))
        );
        assert_eq!(*known.in_sync, [BrokerId(1), BrokerId(2)]);
    }
    cluster.resign_partition(GroupId(1), 1, Term(2));
    cluster.lead_partition(GroupId(1), 2, Term(2), &[2]);
    cluster.run(SECOND / 100);
    for id in 0..3 {
        assert_eq!(cluster.agent(id).leaders().leader(GroupId(1)), Some(BrokerId(2)));
    }
    assert!(
        cluster.idle_messages(SECOND * 10) <= 3 * 2 * 11,
        "nothing but digests when nothing happens"
    );
}

#[test]
fn a_broker_that_missed_news_catches_up() {
    let mut cluster = Cluster::started(3);
    let partitions = 2 * crate::limits::NEWS_PER_MESSAGE as i32 + 10;
    cluster.request(1, create("orders", partitions, 3));
    cluster.run_until_answered();
    cluster.run(SECOND);
    cluster.cut(2);
    for group in 1..=partitions as u64 {
        cluster.lead_partition(GroupId(group), 1, Term(1), &[1]);
    }
    cluster.run(SECOND);
    assert_eq!(cluster.agent(2).leaders().leader(GroupId(1)), None);
    cluster.heal();
    cluster.run(SECOND * 3);
    cluster.check_views();
    assert_eq!(
        cluster.agent(2).leaders().leader(GroupId(partitions as u64)),
        Some(BrokerId(1))
    );
}

#[test]
fn a_broker_that_restarts_learns_everything_again() {
    let mut cluster = Cluster::started(3);
    cluster.request(1, create("orders", 3, 3));
    cluster.run_until_answered();
    cluster.lead_partition(GroupId(1), 1, Term(1), &[1]);
    cluster.run(SECOND);
    cluster.restart(2);
    cluster.run(SECOND * 3);
    cluster.check_views();
    assert_eq!(cluster.agent(2).leaders().leader(GroupId(1)), Some(BrokerId(1)));
    assert_eq!(cluster.agent(2).registration(), Registration::Registered);
    cluster.check_replicas();
}

#[test]
fn news_of_a_deleted_topic_leaves_nothing() {
    let mut cluster = Cluster::started(3);
    cluster.request(1, create("orders", 1, 3));
    cluster.run_until_answered();
    cluster.run(SECOND);
    cluster.lead_partition(GroupId(1), 1, Term(1), &[1]);
    cluster.run(SECOND);
    cluster.request(0, AdminRequest::DeleteTopic(TopicRef::Name("orders".into())));
    cluster.run_until_answered();
    cluster.run(SECOND);
    cluster.lead_partition(GroupId(1), 1, Term(2), &[1]);
    cluster.run(SECOND * 2);
    for id in 0..3 {
        assert_eq!(cluster.agent(id).leaders().leadership(GroupId(1)), None);
    }
}

/// A topic was deleted, its group forgotten on all disks, and then everybody restarts: as long as only the topic's
/// creation is known to be committed, an empty member would vote in terms in which it has voted before.
#[test]
fn a_forgotten_group_is_not_opened_again_before_the_catalog_is_up_to_date() {
    let mut cluster = Cluster::started(3);
    cluster.request(1, create("gone", 1, 3));
    cluster.run_until_answered();
    cluster.request(1, create("stays", 1, 3));
    cluster.run_until_answered();
    let created = cluster.log_length();
    cluster.request(1, AdminRequest::DeleteTopic(TopicRef::Name("gone".into())));
    cluster.run_until_answered();
    let deleted = cluster.log_length();

    let mut agent = cluster.starting(2, &[]);
    assert_eq!(cluster.replay(&mut agent, 0..created), []);
    assert_eq!(cluster.replay(&mut agent, created..deleted), []);
    // A replica that the disk knows can't have forgotten anything.
    let mut agent = cluster.starting(2, &[GroupId(1), GroupId(2)]);
    let opened = cluster.replay(&mut agent, 0..created);
    assert_eq!(opened, [(GroupId(1), true), (GroupId(2), true)]);
    assert_eq!(cluster.replay(&mut agent, created..deleted), [(GroupId(1), false)]);

    cluster.restart(2);
    cluster.run(SECOND * 3);
    let registered = cluster.log_length();
    let mut agent = cluster.starting(2, &[]);
    agent.config.broker.incarnation = cluster.agent(2).config.broker.incarnation;
    assert_eq!(cluster.replay(&mut agent, 0..registered), [(GroupId(2), true)]);
}

#[test]
fn two_processes_with_one_id_notice() {
    let mut cluster = Cluster::started(3);
    let old = cluster.restart(2);
    cluster.run(SECOND * 2);
    assert_eq!(cluster.agent(2).registration(), Registration::Registered);
    let mut old = old;
    cluster.replay_into(&mut old);
    assert_eq!(old.registration(), Registration::Superseded);
}

#[test]
fn bytes_from_anywhere_do_no_harm() {
    let mut cluster = Cluster::started(3);
    let mut seed = 3;
    for round in 0..20_000_u64 {
        seed = scramble(seed);
        let length = (seed % 40) as usize;
        let mut bytes: Vec<u8> = (0..length as u64).map(|n| (scramble(seed ^ n) % 9) as u8).collect();
        if round % 2 == 0 && !bytes.is_empty() {
            bytes[0] = 1;
        }
        let effects = cluster.tell(
            0,
            Input::Peer {
                from: BrokerId(1),
                message: &bytes,
            },
        );
        assert!(effects.len() < 10);
    }
    let huge = vec![1; crate::limits::MESSAGE_BYTES + 1];
    let effects = cluster.tell(
        0,
        Input::Peer {
            from: BrokerId(1),
            message: &huge,
        },
    );
    assert!(matches!(
        effects[..],
        [Effect::Rejected {
            error: DecodeError::TooLong(_),
            ..
        }]
    ));
    let effects = cluster.tell(
        0,
        Input::Applied {
            index: CommandIndex(u64::MAX),
            command: &[9, 9],
        },
    );
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unreadable { .. })));
}

#[test]
fn nobody_registers_somebody_else() {
    let mut cluster = Cluster::started(3);
    let request = crate::catalog::RequestId {
        broker: BrokerId(1),
        incarnation: crate::Incarnation(9),
        sequence: 1,
    };
    let broker = Broker {
        id: BrokerId(2),
        ..Broker::default()
    };
    let folder = FolderId::default();
    let wish = Wish::RegisterBroker { broker, folder };
    let forged = Message::Forward {
        request,
        settled: 1,
        wish,
    }
    .encode();
    for from in [1, 2] {
        let effects = cluster.tell(
            0,
            Input::Peer {
                from: BrokerId(from),
                message: &forged,
            },
        );
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Rejected { .. })));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Propose(_))));
    }
}

fn reassign(name: &str, replicas: Option<&[i32]>) -> AdminRequest {
    AdminRequest::Reassign {
        topic: TopicRef::Name(name.into()),
        partition: PartitionIndex(0),
        replicas: replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect()),
    }
}

fn manual(name: &str, replicas: &[i32]) -> AdminRequest {
    let replicas = replicas.iter().map(|id| BrokerId(*id)).collect();
    AdminRequest::CreateTopic {
        topic: NewTopic {
            name: name.into(),
            layout: Layout::Manual(vec![replicas]),
            config: BTreeMap::new(),
        },
        validate_only: false,
    }
}

#[test]
fn a_partition_moves_to_other_brokers() {
    let mut cluster = Cluster::started(5);
    let created = cluster.request(0, manual("orders", &[0, 1, 2]));
    cluster.run_until_answered();
    cluster.run(SECOND);
    let group = topic(cluster.answer(created)).partitions[0].group;
    cluster.elect(group);
    let asked = cluster.request(4, reassign("orders", Some(&[3, 2, 4])));
    cluster.run_until_answered();
    assert!(cluster.answer(asked).is_some_and(Result::is_ok));
    cluster.run(SECOND);
    let open = |cluster: &Cluster| {
        (0..5)
            .filter(|id| cluster.open_replicas(*id).contains_key(&group))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        open(&cluster),
        [0, 1, 2, 3, 4],
        "nobody goes before the group has moved"
    );
    for id in [3, 4] {
        assert_eq!(cluster.opened(id, group), [Standing::Joining]);
    }
    cluster.change_members(group);
    cluster.run(SECOND);
    assert_eq!(open(&cluster), [2, 3, 4]);
    cluster.check_members();
    // And back again: whoever was there before has lost what it promised.
    cluster.request(1, reassign("orders", Some(&[0, 1, 2])));
    cluster.run(SECOND);
    cluster.change_members(group);
    cluster.run(SECOND);
    assert_eq!(open(&cluster), [0, 1, 2]);
    assert_eq!(cluster.opened(0, group), [Standing::Founding, Standing::Joining]);
    cluster.check_views();
}

#[test]
fn nobody_is_told_of_a_target_that_a_member_of_it_may_not_know() {
    let mut cluster = Cluster::started(4);
    let created = cluster.request(0, manual("orders", &[0, 1, 2]));
    cluster.run_until_answered();
    cluster.run(SECOND);
    let group = topic(cluster.answer(created)).partitions[0].group;
    cluster.elect(group);
    cluster.cut(2);
    cluster.request(0, reassign("orders", Some(&[3, 2])));
    cluster.run(5 * SECOND);
    cluster.change_members(group);
    cluster.run(SECOND);
    let placed = |cluster: &Cluster| {
        cluster
            .agent(0)
            .catalog()
            .partition("orders", PartitionIndex(0))
            .cloned()
            .unwrap()
    };
    assert!(
        placed(&cluster).reassignment.is_some(),
        "broker 2 could lead it back to where it was"
    );
    cluster.heal();
    cluster.run(2 * SECOND);
    cluster.change_members(group);
    cluster.run(SECOND);
    assert_eq!(*placed(&cluster).replicas, [BrokerId(3), BrokerId(2)]);
    cluster.check_members();
}

#[test]
fn a_reassignment_can_be_taken_back() {
    let mut cluster = Cluster::started(4);
    let created = cluster.request(0, manual("orders", &[0, 1, 2]));
    cluster.run_until_answered();
    cluster.run(SECOND);
    let group = topic(cluster.answer(created)).partitions[0].group;
    cluster.elect(group);
    let refused = cluster.request(0, reassign("orders", None));
    cluster.run_until_answered();
    assert_eq!(
        cluster.answer(refused),
        Some(&Err(AdminError::Refused(CatalogError::NoReassignment)))
    );
    for moved_meanwhile in [false, true] {
        cluster.request(0, reassign("orders", Some(&[3, 2, 1])));
        cluster.run(SECOND);
        if moved_meanwhile {
            cluster.drop_proposals(true);
            cluster.change_members(group);
            cluster.run(Duration::from_millis(100));
        }
        // The arrival was never committed, so the way back is still open.
        cluster.drop_proposals(false);
        cluster.request(0, reassign("orders", None));
        cluster.run(Duration::from_millis(50));
        cluster.change_members(group);
        cluster.run(2 * SECOND);
        cluster.change_members(group);
        cluster.run(2 * SECOND);
        cluster.check_members();
        cluster.check_replicas();
    }
}

#[test]
fn a_cluster_begins_once_all_its_brokers_have_been_asked() {
    let mut cluster = Cluster::new(3, Faults::none(), 1);
    cluster.cut(2);
    cluster.run(5 * SECOND);
    assert!(cluster.begun(0).is_empty() && cluster.begun(1).is_empty());
    assert_eq!(cluster.agent(0).founding_waits_for(), [BrokerId(2)]);
    cluster.heal();
    cluster.run(SECOND);
    for id in 0..3 {
        assert!(matches!(cluster.begun(id)[..], [Decision::Found(_)]));
        assert!(cluster.agent(id).founding_waits_for().is_empty());
    }
    cluster.restart(1);
    cluster.wipe(2);
    cluster.run(SECOND);
    assert!(matches!(cluster.begun(1)[..], [_, Decision::Resume]));
    assert!(matches!(cluster.begun(2)[..], [_, Decision::Join]));
}

#[test]
fn what_was_given_to_a_lost_folder_is_joined_anew() {
    let mut cluster = Cluster::started(3);
    let before = cluster.request(0, create("before", 1, 3));
    cluster.run_until_answered();
    cluster.run(SECOND);
    cluster.wipe(2);
    cluster.lead(0);
    cluster.run(SECOND);
    let after = cluster.request(0, create("after", 1, 3));
    cluster.run_until_answered();
    cluster.run(SECOND);
    let group = |ticket| topic(cluster.answer(ticket)).partitions[0].group;
    assert_eq!(
        cluster.opened(2, group(before)),
        [Standing::Founding, Standing::Joining]
    );
    assert_eq!(cluster.opened(2, group(after)), [Standing::Founding]);
    cluster.check_replicas();
}

/// What brokers of different builds say to each other: new bytes need a new version.
#[test]
fn golden_bytes() {
    let request = crate::catalog::RequestId {
        broker: BrokerId(1),
        incarnation: crate::Incarnation(2),
        sequence: 3,
    };
    let word = crate::leaders::Word {
        group: GroupId(300),
        term: Term(4),
        leads: true,
        in_sync: Arc::new([BrokerId(1), BrokerId(2)]),
    };
    let incarnation = crate::Incarnation(2);
    let (asker, folder) = (FolderId([1; 16]), FolderId([2; 16]));
    let answer = [[2, 7].as_slice(), &[1; 16], &[2; 16], &[1]].concat();
    let ask = [[2, 6].as_slice(), &[2; 16]].concat();
    let index = CommandIndex(300);
    let cases: [(Message, &[u8]); 8] = [
        (
            Message::Forward {
                request,
                settled: 2,
                wish: Wish::AllocateProducerIds,
            },
            &[2, 0, 2, 2, 3, 2, 6],
        ),
        (
            Message::Refused {
                request,
                error: CatalogError::TopicExists,
            },
            &[2, 1, 2, 2, 3, 0],
        ),
        (
            Message::Elsewhere {
                request,
                controller: Some(BrokerId(3)),
            },
            &[2, 2, 2, 2, 3, 1, 6],
        ),
        (
            Message::News {
                incarnation,
                after: 6,
                upto: 9,
                words: vec![(9, word)],
            },
            &[2, 3, 2, 6, 9, 1, 9, 0xac, 2, 4, 1, 2, 2, 4],
        ),
        (Message::Want { incarnation, after: 6 }, &[2, 4, 2, 6]),
        (Message::Applied { index }, &[2, 5, 0xac, 2]),
        (Message::Ask { folder }, &ask),
        (
            Message::Answer {
                asker,
                folder,
                found: crate::founding::Found::TogetherWithYou,
            },
            &answer,
        ),
    ];
    for (message, bytes) in cases {
        assert_eq!(message.encode(), bytes);
        assert_eq!(Message::decode(bytes), Ok(message));
    }
}

#[test]
fn whatever_happens_everyone_converges() {
    for seed in 0..100 {
        cluster::chaos(seed);
    }
}

fn endpoint(id: i32, port: u16) -> Endpoint {
    Endpoint {
        host: format!("broker-{id}"),
        port,
    }
}
