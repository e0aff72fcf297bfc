//! Members, snapshots and reads: what no transcript shows well.

use super::replica::{Replica, entries, member, tuning};
use crate::*;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::size_of;

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
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
        commit: LogIndex(index),
        replicated_index: LogIndex::ZERO,
    }
}

fn accepted(match_index: u64) -> Body {
    Body::AppendAccepted {
        match_index: LogIndex(match_index),
        commit: LogIndex::ZERO,
        life: Life::default(),
    }
}

/// raft-rs #417: snapshot 10 arrives (once more) while snapshot 20 is being written.
#[test]
fn a_late_snapshot_does_not_replace_a_newer_one() {
    let mut replica = member(1, &[]);
    let tell = |replica: &mut Replica, body| {
        let message = Message { term: Term(1), body };
        replica.step(Instant::ZERO, Input::Message(NodeId(2), message))
    };
    let first = tell(&mut replica, snapshot(20, 1));
    assert!(first.persist.is_some_and(|persist| persist.reset.is_some()));
    let late = tell(&mut replica, snapshot(10, 1));
    assert_eq!(late.persist, None);
    let token = replica.sync_one().expect("it was written");
    let done = replica.step(Instant::ZERO, Input::Persisted(token));
    assert_eq!(done.committed, Some(LogIndex(20)));
    assert_eq!(
        done.messages,
        [(
            NodeId(2),
            Message {
                term: Term(1),
                body: accepted_at(20)
            }
        )]
    );
}

fn accepted_at(index: u64) -> Body {
    Body::AppendAccepted {
        match_index: LogIndex(index),
        commit: LogIndex(index),
        life: Life::default(),
    }
}

/// A snapshot that contradicts what is committed, or isn't one, changes nothing.
#[test]
fn what_is_no_snapshot_is_ignored() {
    let mut replica = member(2, &[1, 1]);
    for body in [snapshot(0, 1), snapshot(9, 3), snapshot(u64::MAX, 1)] {
        assert_eq!(replica.answer(2, 2, body), []);
    }
    assert_eq!(replica.log_terms(), [1, 1]);
}

/// "If existing log entry has same index and term as snapshot's last included entry, retain log entries following it"
/// (figure 13).
#[test]
fn a_snapshot_of_what_is_held_keeps_the_log() {
    let mut replica = member(1, &[1, 1, 1]);
    assert_eq!(
        replica.answer(2, 1, snapshot(2, 1)),
        [(
            NodeId(2),
            Message {
                term: Term(1),
                body: accepted_at(2)
            }
        )]
    );
    assert_eq!(replica.log_terms(), [1, 1, 1]);
}

/// What only learners hold is not committed; nor do their votes elect.
#[test]
fn learners_count_for_nothing() {
    let mut replica = member(1, &[]);
    replica.elect();
    replica.answer(2, 2, accepted(1));
    let change = Configuration {
        voters: nodes(&[1, 2, 3]),
        learners: nodes(&[4, 5]),
        outgoing: Vec::new(),
    };
    let output = replica.tell(Input::Change(change));
    assert_eq!(output.changed, Some(Ok(LogIndex(2))));
    for learner in [4, 5] {
        replica.answer(learner, 2, accepted(2));
    }
    assert_eq!(replica.up().commit(), LogIndex(1));
    assert_eq!(replica.up().held_by(1), LogIndex(2));
    assert_eq!(replica.up().held_by(2), LogIndex(1));
    replica.answer(3, 2, accepted(2));
    assert_eq!(replica.up().commit(), LogIndex(2));
}

/// The erratum to the dissertation's section 4.1: "a leader may not propose a change until an entry of its own term is
/// committed" (in substance).
#[test]
fn a_leader_changes_nothing_before_it_knows_what_is_committed() {
    let mut replica = member(1, &[]);
    replica.elect();
    let change = Configuration::of_voters(nodes(&[1, 2]));
    let output = replica.tell(Input::Change(change.clone()));
    assert_eq!(output.changed, Some(Err(ChangeError::NotServing)));
    replica.answer(2, 2, accepted(1));
    let output = replica.tell(Input::Change(change.clone()));
    assert_eq!(output.changed, Some(Ok(LogIndex(2))));
    let output = replica.tell(Input::Change(change));
    assert_eq!(output.changed, Some(Err(ChangeError::InProgress)));
}

/// A member that lost what it promised votes for nobody, however good the candidate, until its log reaches the place.
#[test]
fn a_barred_member_does_not_vote() {
    let mut replica = member(1, &[]);
    replica.crash();
    replica.wipe(Life(4));
    replica.restart(Instant::ZERO, LogIndex::ZERO);
    let vote = Body::Vote {
        last_index: LogIndex(9),
        last_term: Term(9),
        transfer: true,
    };
    let refused = |term| {
        [(
            NodeId(3),
            Message {
                term: Term(term),
                body: Body::VoteReply { granted: false },
            },
        )]
    };
    assert_eq!(replica.answer(3, 10, vote.clone()), refused(10));
    // It is let back in, and gets what it lacks.
    let (since, life) = (LogIndex(2), Life(4));
    replica.answer(2, 10, Body::Rejoin { since, life });
    assert!(replica.up().is_lost());
    assert_eq!(replica.answer(3, 10, vote), refused(10));
    let append = Body::Append {
        prev_index: LogIndex::ZERO,
        prev_term: Term::ZERO,
        commit: LogIndex(2),
        replicated_index: LogIndex::ZERO,
        entries: entries(1, &[1, 10]),
    };
    replica.answer(2, 10, append);
    assert!(!replica.up().is_lost());
}

/// Tens of thousands of groups live on one broker.
#[test]
fn a_group_is_small() {
    let config = Config {
        id: NodeId(1),
        configuration: Configuration::of_voters(nodes(&[1, 2, 3])),
        tuning: tuning(Heartbeats::External),
    };
    let group = Group::new(config, Recovered::default(), Instant::ZERO, &MemoryLog::new());
    let peers = group.peers.capacity() * size_of::<crate::progress::Peer>();
    let sizes = [size_of::<Group>() + peers, size_of::<Entry>(), size_of::<Message>()];
    let most = [1536, 56, 64];
    let fits = sizes.iter().zip(most).all(|(size, most)| *size <= most);
    assert!(fits, "a group, an entry, a message: {sizes:?}");
}
