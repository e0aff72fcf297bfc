//! Replicas whose logs can't be opened, read or written for now while their brokers live: nobody would notice by
//! heartbeats. (Those that are damaged are another story: `repair.rs`.)

use crate::harness::{Cluster, G, Settings, batch_of, from, unreadable};
use trimaran_multiraft::{Acks, AppendError, Contradiction, Input, OffsetQuery, ReadError, ReadRequest};
use trimaran_raft::{Body, LogIndex, Message, NodeId, Role, SafetyViolation, Term};
use trimaran_storage::fs::faulty::{Fault, Operation};
use trimaran_wire::batch::Offset;

/// A cluster that node 1 leads, with records in segments.
fn filled() -> Cluster {
    let mut cluster = Cluster::new(Settings {
        flush_bytes: 500,
        tail_bytes: 300,
        ..Settings::default()
    });
    for n in 0..20 {
        cluster.produce(batch_of(&[&format!("{n:0100}")])).expect("accepted");
    }
    cluster.run(100);
    assert_eq!(cluster.leader(G), Some(1));
    cluster
}

/// When a node's log is opened next, the operating system refuses.
fn forbid(cluster: &Cluster, id: u64) {
    cluster.nodes[&id].fs.fail(Fault {
        operation: Operation::Open,
        path_contains: "group-1".into(),
        after: 0,
        times: 1,
        kind: std::io::ErrorKind::PermissionDenied,
    });
}

fn is_out(cluster: &mut Cluster, id: u64) -> bool {
    let status = cluster.status(id, G).expect("here");
    status.failed && status.role == Role::Follower && !status.serving
}

#[test]
fn the_group_of_a_replica_that_can_not_be_opened_is_led_by_another() {
    // As the leader that it was, and as the preferred one of a group without any.
    for all in [false, true] {
        let mut cluster = filled();
        let restarted = if all { 1..=3 } else { 1..=1 };
        restarted.clone().for_each(|id| cluster.crash(id));
        forbid(&cluster, 1);
        restarted.for_each(|id| cluster.start(id));
        let appended = cluster.produce(batch_of(&["on"])).expect("the others go on");
        assert_eq!(appended.base_offset, Offset(20));
        assert_ne!(cluster.leader(G), Some(1));
        assert!(is_out(&mut cluster, 1));
        assert!(
            cluster
                .in_sync
                .last()
                .is_some_and(|view| !view.replicas.contains(&NodeId(1)))
        );
    }
}

#[test]
fn a_replica_that_can_not_be_opened_does_not_vote() {
    let mut cluster = filled();
    cluster.crash(1);
    forbid(&cluster, 1);
    cluster.start(1);
    cluster.produce(batch_of(&["two are enough"])).expect("accepted");
    let leader = cluster.leader_of(G);
    cluster.crash(leader);
    cluster.elections = 0;
    cluster.run(2_000);
    assert_eq!((cluster.leader(G), cluster.elections), (None, 0), "one is not");
    cluster.start(leader);
    cluster.produce(batch_of(&["two again"])).expect("accepted");
    assert!(is_out(&mut cluster, 1));
}

#[test]
fn what_a_replica_sent_when_it_led_may_arrive_late() {
    let mut cluster = filled();
    forbid(&cluster, 1);
    let old = cluster.status(1, G).expect("here");
    cluster.restart_at_once(1);
    cluster.until("both know that it restarted", |cluster| {
        [2, 3]
            .iter()
            .all(|&id| cluster.status(id, G).expect("here").leader.is_none())
    });
    let body = Body::Append {
        prev_index: old.last_index,
        prev_term: old.term,
        commit: old.commit,
        replicated_index: LogIndex(0),
        entries: Vec::new(),
    };
    for id in [2, 3] {
        let message = Message {
            term: old.term,
            body: body.clone(),
        };
        cluster.tell(id, Input::Messages(NodeId(1), vec![(G, message)]));
    }
    cluster.run(1);
    let believed = cluster.status(2, G).expect("here").leader;
    assert_eq!(believed, Some(NodeId(1)), "nothing speaks against it");
    let began = cluster.now;
    cluster.produce(batch_of(&["on"])).expect("the others go on");
    assert!(cluster.now.since(began).as_millis() <= 60, "it denied at once");
}

#[test]
fn whoever_asks_a_replica_that_can_not_be_opened_is_told_that_its_log_failed() {
    let mut cluster = filled();
    cluster.crash(1);
    forbid(&cluster, 1);
    cluster.start(1);
    let ticket = cluster.append(1, G, Acks::All, batch_of(&["x"]));
    assert_eq!(cluster.appended(ticket), Err(AppendError::Storage));
    let near = ReadRequest {
        follower_ok: true,
        wait: true,
        ..from(0)
    };
    let ticket = cluster.read_from(1, near);
    assert_eq!(
        cluster.read_outcome(ticket).expect_err("unreadable"),
        ReadError::Storage
    );
    let answer = cluster.offsets(1, OffsetQuery::Latest).err();
    assert_eq!(answer, Some(ReadError::Storage));
    let ticket = cluster.ticket();
    cluster.tell(1, Input::Transfer(ticket, G, None));
    assert_eq!(cluster.transferred(ticket).handed_over, 0);
    cluster.tell(1, Input::Close(G));
    cluster.run(1);
    assert!(cluster.status(1, G).is_none());
}

#[test]
fn a_replica_that_could_not_be_opened_is_opened_at_the_next_start_with_all_it_had() {
    let mut cluster = filled();
    let term = cluster.status(1, G).expect("here").term;
    cluster.crash(1);
    forbid(&cluster, 1);
    cluster.start(1);
    cluster.run(5);
    assert!(is_out(&mut cluster, 1));
    // Its journal is needed, and lets go of nothing.
    for _ in 0..3 {
        cluster.tell(1, Input::FlushNow(G));
        cluster.run(5);
    }
    cluster.crash(1);
    cluster.start(1);
    cluster.run(1);
    let status = cluster.status(1, G).expect("here");
    assert!(!status.failed && status.term >= term && status.next_offset == Offset(20));
    cluster.until("it is in sync again", |cluster| {
        cluster.in_sync.last().is_some_and(|view| view.replicas.len() == 3)
    });
}

#[test]
fn a_leader_whose_log_can_not_be_read_hands_over_to_whoever_can() {
    let mut cluster = filled();
    // The first in line is as badly off.
    cluster.tell(2, unreadable());
    cluster.run(1);
    cluster.tell(1, unreadable());
    let began = cluster.now;
    cluster.until("the third one leads", |cluster| cluster.leader(G) == Some(3));
    assert!(cluster.now.since(began).as_millis() <= 150);
    cluster.produce(batch_of(&["on"])).expect("accepted");
}

#[test]
fn a_replica_whose_log_failed_does_not_keep_what_it_is_elected_to() {
    let mut cluster = filled();
    cluster.tell(1, unreadable());
    cluster.until("another leads", |cluster| {
        cluster.leader(G).is_some_and(|leader| leader != 1)
    });
    let second = cluster.leader_of(G);
    cluster.crash(second);
    let began = cluster.now;
    cluster.until("the third one leads", |cluster| {
        cluster.leader(G).is_some_and(|leader| ![1, second].contains(&leader))
    });
    assert!(cluster.now.since(began).as_millis() <= 100);
    cluster
        .produce(batch_of(&["on"]))
        .expect("the failed one still votes and holds");
}

/// A leader whose log contradicts what a follower knows to be committed is reported once, however often it repeats
/// itself, and nothing of it is taken over. A second leader of the term is reported as well.
#[test]
fn a_leader_that_contradicts_what_is_committed_is_reported() {
    let mut cluster = filled();
    let status = cluster.status(2, G).expect("here");
    let (term, index) = (status.term, status.commit);
    let append = |prev_index, prev_term| Message {
        term,
        body: Body::Append {
            prev_index,
            prev_term,
            commit: LogIndex::ZERO,
            replicated_index: LogIndex::ZERO,
            entries: Vec::new(),
        },
    };
    let contradicting = append(index, Term(term.0 - 1));
    for _ in 0..3 {
        cluster.tell(2, Input::Messages(NodeId(1), vec![(G, contradicting.clone())]));
        cluster.run(10);
    }
    cluster.tell(3, Input::Messages(NodeId(2), vec![(G, append(index, term))]));
    cluster.run(10);
    let found = |violation, leader| Contradiction {
        group: G,
        leader: NodeId(leader),
        term,
        violation,
    };
    let differs = SafetyViolation::CommittedEntryDiffers {
        index,
        committed: term,
        sent: Term(term.0 - 1),
    };
    let second = SafetyViolation::SecondLeader { first: NodeId(1) };
    assert_eq!(cluster.contradictions, [(2, found(differs, 1)), (3, found(second, 2))]);
    // Both go on as before.
    cluster.produce(batch_of(&["on"])).expect("accepted");
    cluster.run(100);
    for id in 1..=3 {
        let status = cluster.status(id, G).expect("here");
        assert_eq!(
            (status.commit, status.leader),
            (index.next(), Some(NodeId(1))),
            "node {id}"
        );
    }
}
