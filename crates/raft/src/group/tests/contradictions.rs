//! Leaders that contradict what a member knows to be committed, or another leader of the term.

use super::replica::{Replica, entries, member};
use crate::*;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Member 1, which follows 2 in term 3, and knows its three entries of terms 1, 1 and 3 to be committed.
fn follower() -> Replica {
    let mut replica = member(3, &[1, 1, 3]);
    replica.answer(2, 3, append((3, 3), &[], 3));
    assert_eq!(replica.up().commit(), LogIndex(3));
    replica
}

fn append((prev_index, prev_term): (u64, u64), terms: &[u64], commit: u64) -> Body {
    Body::Append {
        prev_index: LogIndex(prev_index),
        prev_term: Term(prev_term),
        commit: LogIndex(commit),
        replicated_index: LogIndex::ZERO,
        entries: entries(prev_index + 1, terms),
    }
}

fn snapshot(index: u64, term: u64) -> Body {
    let snapshot = Snapshot {
        index: LogIndex(index),
        term: Term(term),
        configuration: Configuration::of_voters([1, 2, 3].map(NodeId)),
        data: "data".into(),
    };
    Body::Snapshot {
        snapshot: Box::new(snapshot),
        commit: LogIndex::ZERO,
        replicated_index: LogIndex::ZERO,
    }
}

fn violations(replica: &mut Replica, from: u64, term: u64, body: Body) -> Vec<(NodeId, SafetyViolation)> {
    let message = Message { term: Term(term), body };
    let output = replica.tell(Input::Message(NodeId(from), message));
    let violations = output.events.iter().filter_map(|event| match event {
        Event::SafetyViolated {
            leader,
            term: led,
            violation,
        } => {
            assert_eq!(*led, Term(term));
            Some((*leader, *violation))
        }
        _ => None,
    });
    violations.collect()
}

fn differs(index: u64, committed: u64, sent: u64) -> SafetyViolation {
    SafetyViolation::CommittedEntryDiffers {
        index: LogIndex(index),
        committed: Term(committed),
        sent: Term(sent),
    }
}

/// State Machine Safety: whether it shows in the entries, in what precedes them, or in a snapshot.
#[test]
fn another_entry_where_one_is_committed_is_reported() {
    let check = |body: Body, expected: &[SafetyViolation]| {
        for (leader, term) in [(2, 3), (3, 4)] {
            let mut replica = follower();
            let found = violations(&mut replica, leader, term, body.clone());
            let expected: Vec<_> = expected.iter().map(|found| (NodeId(leader), *found)).collect();
            assert_eq!(found, expected, "{body:?}");
            if !expected.is_empty() {
                assert_eq!(replica.log_terms(), [1, 1, 3], "nothing is taken over");
            }
        }
    };
    check(append((1, 1), &[2, 3], 0), &[differs(2, 1, 2)]);
    check(append((2, 1), &[1], 0), &[differs(3, 3, 1)]);
    check(append((2, 2), &[3], 0), &[differs(2, 1, 2)]);
    check(append((3, 1), &[], 0), &[differs(3, 3, 1)]);
    check(snapshot(2, 2), &[differs(2, 1, 2)]);
    // What agrees, and what lies beyond, is none.
    check(append((1, 1), &[1, 3, 3], 0), &[]);
    check(append((3, 3), &[3], 0), &[]);
    check(append((4, 3), &[3], 0), &[]);
    check(snapshot(2, 1), &[]);
}

/// What is deleted can't be compared; the place before the first entry can.
#[test]
fn the_place_before_the_first_entry_is_compared() {
    let mut replica = follower();
    replica.log.compact(LogIndex(2));
    assert_eq!(
        violations(&mut replica, 2, 3, append((1, 9), &[], 0)),
        [],
        "no term is so late"
    );
    assert_eq!(violations(&mut replica, 2, 3, append((1, 2), &[1], 0)), []);
    assert_eq!(
        violations(&mut replica, 2, 3, append((1, 1), &[2], 0)),
        [(NodeId(2), differs(2, 1, 2))]
    );
}

/// Election Safety: whatever a second leader of the term sends.
#[test]
fn a_second_leader_of_the_term_is_reported() {
    let heartbeat = Body::Heartbeat {
        commit: LogIndex::ZERO,
        round: 0,
    };
    let rejoin = Body::Rejoin {
        since: LogIndex(1),
        life: Life::default(),
    };
    for body in [heartbeat, rejoin, append((3, 3), &[], 3), snapshot(3, 3)] {
        let mut replica = follower();
        let first = SafetyViolation::SecondLeader { first: NodeId(2) };
        assert_eq!(
            violations(&mut replica, 3, 3, body.clone()),
            [(NodeId(3), first)],
            "{body:?}"
        );
        assert_eq!(replica.up().leader(), Some(NodeId(2)));
        let mut leader = member(2, &[]);
        leader.elect();
        let first = SafetyViolation::SecondLeader { first: NodeId(1) };
        assert_eq!(violations(&mut leader, 3, 3, body), [(NodeId(3), first)]);
        assert_eq!(leader.up().role(), Role::Leader);
    }
}
