//! Cores that are broken on purpose: the model check finds each of them. Built with the switches (the feature
//! `sabotage`), and so apart from all other tests: those judge what is delivered.

use trimaran_raft::{Group, Sabotage};
use trimaran_tests::model::{Law, Limits, Scenario, explore};

/// So many states take a second or two.
const LIMITS: Limits = Limits {
    depth: u32::MAX,
    states: 300_000,
    converge_one_in: 100,
};

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
        (Scenario::repair(), bug!(KeepDurable), PromisesAreDurable),
        (Scenario::succession(), bug!(MistakeWrites), PromisesAreDurable),
        (Scenario::replication(), bug!(KeepInflight), Converges),
        (Scenario::replication(), bug!(SendOnce), Converges),
        (Scenario::replication(), bug!(TakeRefusalForLoss), NoAssertionFails),
        (Scenario::repair(), bug!(CountHints), Converges),
        (Scenario::late_answer(), bug!(CommitUnverified), Converges),
        (Scenario::figure_8(), bug!(CommitOldTerms), Converges),
        (Scenario::late_answer(), bug!(CountOldAnswers), CommittedIsDurable),
        (Scenario::reads(), bug!(ReadAtOnce), ReadsAreFresh),
    ];
    found(&cases);
}

/// Bugs of members that come and go, of logs whose beginning is deleted, of disks that are lost.
#[test]
fn a_core_that_is_broken_for_members_is_found_out() {
    use Law::*;
    let cases = [
        (Scenario::exchange(), bug!(ForgetOutgoing), Converges),
        (Scenario::exchange(), bug!(ConfigureAtCommit), CommittedIsDurable),
        (Scenario::promotion(), bug!(LetLearnersLead), LeaderIsElected),
        (Scenario::minority(), bug!(LeaveAtOnce), Converges),
        (Scenario::minority(), bug!(ChangeAtOnce), Converges),
        (Scenario::removal(), bug!(AcceptNoVoters), NoAssertionFails),
        (Scenario::longer_log(), bug!(LearnersNeverStand), Converges),
        (Scenario::catch_up(), bug!(InventTerms), NoAssertionFails),
        (Scenario::catch_up(), bug!(LeaveBehind), Converges),
        (Scenario::catch_up(), bug!(LoseSecondSnapshot), Converges),
        (Scenario::moved_on(), bug!(KeepConfiguration), LeaderIsElected),
        (Scenario::loss(), bug!(ForgetLoss), Converges),
        (Scenario::former_life(), bug!(CountFormerLives), Converges),
        (Scenario::former_life(), bug!(IgnoreRefusals), Converges),
    ];
    found(&cases);
}

type Case = (Scenario, (Sabotage, fn(&mut Group)), Law);

#[track_caller]
fn found(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (scenario, (how, break_it), law) in cases {
        let name = scenario.name;
        let broken = Scenario {
            prepare: *break_it,
            ..scenario.clone()
        };
        match explore(&broken, LIMITS, |_, _| {}) {
            Err(failure) if failure.violation.law == *law => {
                let (actions, states) = (failure.trace.actions, failure.states);
                println!(
                    "{how:?} in {name}: {} ({actions} actions, {states} states)",
                    failure.violation
                );
            }
            Err(failure) => wrong.push(format!("{how:?} in {name}, but not by {law:?}:\n{failure}")),
            Ok(exploration) => wrong.push(format!("{how:?} is not found in {name}: {exploration}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What a reader gets: every step of a shortest way, what was written and said, and how the member was then.
#[test]
fn a_failure_tells_a_shortest_way() {
    let (_, prepare) = bug!(StandAtOnce);
    let broken = Scenario {
        prepare,
        ..Scenario::elections()
    };
    let failure = explore(&broken, LIMITS, |_, _| {}).expect_err("it is found");
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
