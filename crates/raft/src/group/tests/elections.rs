//! What keeps members from hurrying each other on.

use super::replica::{Replica, member};
use crate::*;
use alloc::vec::Vec;
use core::time::Duration;

fn pre_vote(last: (u64, u64)) -> Body {
    let (last_term, last_index) = last;
    Body::PreVote {
        last_index: LogIndex(last_index),
        last_term: Term(last_term),
    }
}

const REFUSED: Body = Body::PreVoteReply {
    granted: false,
    longer_log: false,
};

/// Whether it asks for pre-votes, now that it has heard this of member 2.
fn stands(replica: &mut Replica, term: u64, body: Body) -> bool {
    let said = replica.answer(2, term, body);
    said.iter()
        .any(|(_, message)| matches!(message.body, Body::PreVote { .. }))
}

/// When its turn comes it stands, and may be hurried again.
fn wait_for_its_turn(replica: &mut Replica) {
    let turn = replica.up().deadline().expect("it waits for something");
    assert!(turn <= Instant::ZERO + Duration::from_millis(400), "and not for long");
    let output = replica.step(turn, Input::Tick);
    assert!(!output.messages.is_empty());
}

/// Refusals of later and later terms come faster than any of the candidates there can write its vote.
#[test]
fn a_candidate_runs_after_the_term_for_a_while_only() {
    let mut replica = member(1, &[1]);
    replica.tell(Input::Campaign);
    let hurried: Vec<bool> = (2..7).map(|term| stands(&mut replica, term, REFUSED)).collect();
    assert_eq!(hurried, [true, true, true, false, false]);
    assert_eq!((replica.up().role(), replica.up().term()), (Role::Follower, Term(6)));
    wait_for_its_turn(&mut replica);
    assert!(stands(&mut replica, 7, REFUSED));
}

/// Those who can't win for their shorter logs stand again and again.
#[test]
fn a_longer_log_stands_instead_for_a_while_only() {
    let mut replica = member(1, &[1, 1]);
    let hurried: Vec<bool> = (3..8)
        .map(|term| stands(&mut replica, term, pre_vote((1, 1))))
        .collect();
    assert_eq!(hurried, [true, true, true, false, false]);
    wait_for_its_turn(&mut replica);
    assert!(stands(&mut replica, 9, pre_vote((1, 1))));
}

/// A node says so for a member of which it can't tell what it holds: if all others stood at once whenever it does, they
/// would collide.
#[test]
fn who_names_no_entry_makes_nobody_stand_that_did_not_believe_in_it() {
    let mut replica = member(1, &[1]);
    let due = replica.up().deadline();
    assert!(!stands(&mut replica, 2, pre_vote((0, 0))));
    assert_eq!(replica.up().deadline(), due);
}

/// Its followers stand in their order: this is the first of them.
#[test]
fn who_names_no_entry_leads_no_more() {
    let mut replica = member(1, &[1]);
    let append = Body::Append {
        prev_index: LogIndex(1),
        prev_term: Term(1),
        commit: LogIndex(1),
        replicated_index: LogIndex::ZERO,
        entries: Vec::new(),
    };
    replica.answer(2, 2, append);
    assert_eq!(replica.up().leader(), Some(NodeId(2)));
    assert!(stands(&mut replica, 3, pre_vote((0, 0))));
}
