use super::*;
use trimaran_raft::{Liveness, ProgressState};

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Checks the next step of voters and learners, led by node 1, with those `lost` and those `behind`.
fn check(voters: &[u64], learners: &[u64], wanted: &[u64], [lost, behind]: [&[u64]; 2], expected: Next) {
    let now = with(&nodes(voters), nodes(learners));
    let found = next_step(&now, &[], (&nodes(wanted), &[]), |node| progress(node, lost, behind));
    assert_eq!(found, expected, "{voters:?} {learners:?} to {wanted:?}");
}

/// The progress of a follower of node 1.
fn progress(node: NodeId, lost: &[u64], behind: &[u64]) -> Option<Progress> {
    let known = Progress {
        state: ProgressState::Replicate,
        match_index: LogIndex(1),
        next_index: LogIndex(1).next(),
        inflight_bytes: 0,
        snapshot_under_way: false,
        commit: LogIndex(1),
        liveness: Liveness::Alive,
        is_lost: lost.contains(&node.0),
        is_retiring: false,
        is_caught_up: !behind.contains(&node.0) && !lost.contains(&node.0),
    };
    (node != NodeId(1)).then_some(known)
}

fn change(voters: &[u64], learners: &[u64]) -> Next {
    Next::Change(with(&nodes(voters), nodes(learners)))
}

const ALL_WELL: [&[u64]; 2] = [&[], &[]];

#[test]
fn who_has_what_it_wants_rests() {
    check(&[1, 2, 3], &[], &[1, 2, 3], ALL_WELL, Next::Rest);
    check(&[1, 2, 3], &[], &[1, 2, 3], [&[], &[2, 3]], Next::Rest);
    check(&[1, 2, 3], &[], &[3, 2, 1], ALL_WELL, change(&[3, 2, 1], &[]));
}

#[test]
fn a_reassignment_adds_learners_and_then_exchanges_voters_at_once() {
    check(&[1, 2, 3], &[], &[2, 3, 4], ALL_WELL, change(&[1, 2, 3], &[4]));
    check(&[1, 2, 3], &[4], &[2, 3, 4], [&[], &[4]], Next::Wait);
    check(&[1, 2, 3], &[4], &[2, 3, 4], ALL_WELL, change(&[2, 3, 4], &[]));
    check(
        &[1, 2, 3],
        &[4, 5],
        &[4, 5, 6],
        ALL_WELL,
        change(&[1, 2, 3], &[4, 5, 6]),
    );
    check(&[1, 2, 3], &[4, 5, 6], &[4, 5, 6], [&[], &[6]], Next::Wait);
}

#[test]
fn what_is_not_wanted_any_more_is_undone() {
    check(&[1, 2, 3], &[4], &[1, 2, 3], [&[], &[4]], change(&[1, 2, 3], &[]));
    check(&[1, 2, 3], &[], &[1], ALL_WELL, change(&[1], &[]));
    check(&[1], &[], &[1, 2, 3], ALL_WELL, change(&[1], &[2, 3]));
}

#[test]
fn a_lost_voter_is_demoted_filled_and_promoted() {
    check(&[1, 2, 3], &[], &[1, 2, 3], [&[3], &[]], change(&[1, 2], &[3]));
    check(&[1, 2], &[3], &[1, 2, 3], [&[3], &[]], Next::Wait);
    check(&[1, 2], &[3], &[1, 2, 3], [&[], &[3]], Next::Wait);
    check(&[1, 2], &[3], &[1, 2, 3], ALL_WELL, change(&[1, 2, 3], &[]));
    check(&[2, 1], &[3], &[3, 1, 2], ALL_WELL, change(&[3, 1, 2], &[]));
}

#[test]
fn a_lost_voter_that_nobody_wants_goes_at_once() {
    check(&[1, 2, 3], &[], &[1, 2, 4], [&[3], &[]], change(&[1, 2], &[4]));
}

/// A change needs a majority of the old voters, and those that are lost are none of it.
#[test]
fn a_majority_that_is_lost_can_not_be_demoted() {
    check(&[1, 2, 3], &[], &[1, 2, 3], [&[2, 3], &[]], Next::Wait);
    check(&[1, 2], &[], &[1, 2], [&[2], &[]], Next::Wait);
    check(
        &[1, 2, 3, 4, 5],
        &[],
        &[1, 2, 3, 4, 5],
        [&[2, 3], &[]],
        change(&[1, 4, 5], &[2, 3]),
    );
}

#[test]
fn a_repaired_replica_does_not_wait_for_a_new_one() {
    check(&[1, 2], &[3, 4], &[1, 3, 4], [&[], &[4]], change(&[1, 3, 2], &[4]));
    check(&[1, 2, 3], &[4], &[2, 3, 4], [&[], &[4]], Next::Wait);
    check(&[1], &[2, 3], &[1, 2, 3], [&[], &[3]], change(&[1, 2], &[3]));
}

#[test]
fn while_voters_are_exchanged_nothing_else_happens() {
    let joint = Configuration {
        outgoing: nodes(&[1, 2, 3]),
        ..with(&nodes(&[1, 2, 4]), Vec::new())
    };
    assert_eq!(
        next_step(&joint, &joint.outgoing, (&nodes(&[1, 2, 4]), &[]), |_| None),
        Next::Wait
    );
}

/// Checks the next step of an exchange of `before` for `voters` that is not complete, with these `lost`: while it is
/// joint, and once it is not any more.
fn check_incomplete(before: &[u64], voters: &[u64], wanted: &[u64], lost: &[u64], expected: [Next; 2]) {
    check_unfinished(before, voters, wanted, [lost, &[]], expected);
}

/// As before; some are lost, and some can't be reached.
fn check_unfinished(before: &[u64], voters: &[u64], wanted: &[u64], [lost, gone]: [&[u64]; 2], expected: [Next; 2]) {
    let left = with(&nodes(voters), Vec::new());
    let joint = Configuration {
        outgoing: nodes(before),
        ..left.clone()
    };
    let progress = |node: NodeId| {
        let known = Progress {
            state: ProgressState::Replicate,
            match_index: LogIndex(1),
            next_index: LogIndex(1).next(),
            inflight_bytes: 0,
            snapshot_under_way: false,
            commit: LogIndex(1),
            liveness: match gone.contains(&node.0) {
                true => Liveness::Dead,
                false => Liveness::Alive,
            },
            is_lost: lost.contains(&node.0),
            is_retiring: false,
            is_caught_up: true,
        };
        (node != NodeId(1)).then_some(known)
    };
    let found = [joint, left].map(|now| next_step(&now, &nodes(before), (&nodes(wanted), &[]), progress));
    assert_eq!(
        found, expected,
        "{before:?} for {voters:?} with {lost:?} and {gone:?}, to {wanted:?}"
    );
}

#[test]
fn a_change_that_can_not_be_completed_is_taken_back() {
    let back = || change(&[1], &[2]);
    check_incomplete(&[1], &[1, 2], &[1, 2], &[2], [back(), back()]);
    check_incomplete(&[1], &[1, 2], &[], &[2], [back(), back()]);
    let back = || change(&[1, 2, 3], &[4, 5]);
    check_incomplete(&[1, 2, 3], &[1, 4, 5], &[1, 4, 5], &[4, 5], [back(), back()]);
    let back = || change(&[1, 2, 3], &[4, 5]);
    let gone = [&[4][..], &[5]];
    check_unfinished(&[1, 2, 3], &[1, 4, 5], &[1, 4, 5], gone, [back(), back()]);
    // Nor can that be.
    let gone = [&[][..], &[2, 3, 4, 5]];
    check_unfinished(&[1, 2, 3], &[1, 4, 5], &[1, 4, 5], gone, [Next::Wait, Next::Rest]);
    // It can be, and the lost one is demoted then.
    let demoted = change(&[1, 2], &[3]);
    check_incomplete(&[1, 2], &[1, 2, 3], &[1, 2, 3], &[3], [Next::Wait, demoted]);
}

#[test]
fn a_change_that_is_not_wanted_any_more_is_taken_back() {
    let back = change(&[1, 2, 3], &[]);
    let rest = change(&[1, 4, 5], &[2, 3]);
    check_incomplete(&[1, 2, 3], &[1, 4, 5], &[1, 2, 3], &[], [back, rest]);
    // A lost one is demoted, and is to come back.
    let rest = change(&[1, 2], &[3]);
    check_incomplete(&[1, 2, 3], &[1, 2], &[1, 2, 3], &[3], [Next::Wait, rest]);
}

#[test]
fn as_long_as_nobody_says_who_is_wanted_only_the_lost_are_demoted() {
    check(&[1, 2, 3], &[], &[], ALL_WELL, Next::Rest);
    check(&[1, 2, 3], &[4], &[], ALL_WELL, Next::Rest);
    check(&[1, 2, 3], &[], &[], [&[3], &[]], change(&[1, 2], &[3]));
    check(&[1, 2, 3], &[4], &[], [&[3], &[]], change(&[1, 2], &[3, 4]));
}

/// Nodes 4 and 5 hold the log without a vote, led by node 1 of three voters that are wanted.
#[test]
fn lasting_learners_stay_beside_every_change_and_are_never_promoted() {
    let lasting = nodes(&[4, 5]);
    let check = |voters: &[u64], learners: &[u64], lost: &[u64], expected: Next| {
        let now = with(&nodes(voters), nodes(learners));
        let wanted = nodes(&[1, 2, 3]);
        let found = next_step(&now, &[], (&wanted, &lasting), |node| progress(node, lost, &[]));
        assert_eq!(found, expected, "{voters:?} {learners:?}, lost {lost:?}");
    };
    check(&[1, 2, 3], &[], &[], change(&[1, 2, 3], &[4, 5]));
    check(&[1, 2, 3], &[4], &[], change(&[1, 2, 3], &[4, 5]));
    check(&[1, 2, 3], &[5, 4], &[], Next::Rest);
    check(&[1, 2, 3], &[4, 5], &[4], Next::Rest);
    check(&[1, 2, 3], &[4, 5], &[3], change(&[1, 2], &[3, 4, 5]));
    check(&[1, 2], &[3, 4, 5], &[3], Next::Wait);
    check(&[1, 2], &[3, 4, 5], &[], change(&[1, 2, 3], &[4, 5]));
    check(&[1, 2, 3], &[4, 5, 6], &[], change(&[1, 2, 3], &[4, 5]));
}
