//! Every state that small groups can reach, within bounds that a minute allows; and broken cores, each of which is found.

use trimaran_raft::{Group, Sabotage};
use trimaran_tests::model::{Budget, Exploration, Failure, Law, Limits, Scenario, explore};

/// So many states take some seconds.
const LIMITS: Limits = Limits {
    depth: u32::MAX,
    states: 100_000,
    converge_one_in: 200,
};

#[track_caller]
fn explored(scenario: &Scenario) -> Exploration {
    let exploration =
        explore(scenario, LIMITS, |_, _| {}).unwrap_or_else(|failure| panic!("{}:\n{failure}", scenario.name));
    println!("{}: {exploration}", scenario.name);
    assert!(
        exploration.converged > 0,
        "from some states on, it was seen to converge"
    );
    exploration
}

#[test]
fn no_law_is_broken_in_any_state_near_the_start() {
    for scenario in Scenario::all() {
        explored(&scenario);
    }
}

#[test]
fn a_leader_that_replicates_is_explored_to_the_end() {
    let mut scenario = Scenario::replication();
    scenario.budget.proposals = 1;
    assert!(explored(&scenario).is_complete);
    scenario.budget = Budget {
        proposals: 2,
        ..Budget::default()
    };
    assert!(explored(&scenario).is_complete);
}

#[track_caller]
fn failure(scenario: Scenario, how: Sabotage, prepare: fn(&mut Group)) -> Box<Failure> {
    let name = scenario.name;
    match explore(&Scenario { prepare, ..scenario }, LIMITS, |_, _| {}) {
        Ok(exploration) => panic!("{how:?} is not found in {name}: {exploration}"),
        Err(failure) => failure,
    }
}

/// A bug, and how to build it in.
macro_rules! bug {
    ($how:ident) => {{
        let break_it: fn(&mut Group) = |group| group.sabotage(Sabotage::$how);
        (Sabotage::$how, break_it)
    }};
}

/// Each of these bugs is found, by the law that it breaks first.
#[test]
fn a_broken_core_is_found_out() {
    use Law::*;
    let cases = [
        (Scenario::elections(), bug!(VoteAtOnce), PromisesAreDurable),
        (Scenario::elections(), bug!(StandAtOnce), PromisesAreDurable),
        (Scenario::elections(), bug!(AcknowledgeAtOnce), PromisesAreDurable),
        (Scenario::elections(), bug!(ServeAtOnce), ServesWhenItMay),
        (Scenario::repair(), bug!(KeepMarks), PromisesAreDurable),
        (Scenario::elections(), bug!(CountFirstAtOnce), CommittedIsDurable),
        (Scenario::replication(), bug!(CountSelfAtOnce), CommittedIsDurable),
        (Scenario::replication(), bug!(CountUnsorted), CommittedIsDurable),
        (Scenario::replication(), bug!(TruncateWithoutConflict), Converges),
        (Scenario::replication(), bug!(BelieveForEver), Converges),
        (Scenario::succession(), bug!(HideTerm), Converges),
        (Scenario::succession(), bug!(VoteForShorterLog), Converges),
        (Scenario::succession(), bug!(ForgetVote), OneVoteATerm),
        (Scenario::handover(), bug!(CommitAfterResigning), CommittedIsDurable),
        (Scenario::reads(), bug!(ReadAtOnce), ReadsAreFresh),
    ];
    for (scenario, (how, break_it), law) in cases {
        let name = scenario.name;
        let failure = failure(scenario, how, break_it);
        let (actions, states) = (failure.trace.actions, failure.states);
        println!(
            "{how:?} in {name}: {} ({actions} actions, {states} states)",
            failure.violation
        );
        assert_eq!(failure.violation.law, law, "{how:?} in {name}:\n{failure}");
    }
}

/// What a reader gets: every step of a shortest way, what was written and said, and how the member was then.
#[test]
fn a_failure_tells_a_shortest_way() {
    let (how, break_it) = bug!(StandAtOnce);
    let failure = failure(Scenario::elections(), how, break_it);
    let expected = [
        "    1: Follower, term 0, log [] durable 0 commit 0",
        "    2: Follower, term 0, log [] durable 0 commit 0",
        "    3: Follower, term 0, log [] durable 0 commit 0",
        "  1 1: its deadline comes",
        "      1 -> 2: PreVote for term 1, log ends 0/0",
        "      1 -> 3: PreVote for term 1, log ends 0/0",
        "      1: PreCandidate, term 0, log [] durable 0 commit 0",
        "  2 1 -> 2 arrives: PreVote for term 1, log ends 0/0",
        "      2 -> 1: PreVote granted for term 1",
        "      2: Follower, term 0, log [] durable 0 commit 0",
        "  3 2 -> 1 arrives: PreVote granted for term 1",
        "      what is promised is on disk: 1 could forget its vote in term 1",
    ];
    assert_eq!(failure.trace.to_string(), expected.join("\n"));
}
