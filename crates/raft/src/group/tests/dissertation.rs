//! The rules that Ongaro's dissertation adds to the paper, and the paper's section 6, each with its words.

use super::paper::accepted;
use super::replica::{Replica, member};
use crate::*;
use alloc::vec;
use alloc::vec::Vec;

/// Member 1 leads term 2; its first entry is committed, and member 3 holds it.
fn leader() -> Replica {
    let mut replica = member(1, &[]);
    replica.elect();
    replica.answer(3, 2, accepted(1, 0));
    assert_eq!(replica.up().commit(), LogIndex(1));
    replica
}

fn told(from: u64, body: Body) -> Input {
    Input::Message(NodeId(from), Message { term: Term(2), body })
}

fn change(replica: &mut Replica, configuration: Configuration) -> Option<Result<LogIndex, ChangeError>> {
    replica.tell(Input::Change(configuration)).changed
}

fn voters(ids: &[u64]) -> Configuration {
    Configuration::of_voters(ids.iter().copied().map(NodeId))
}

fn is_told_to_stand(messages: &[(NodeId, Message)], node: u64) -> bool {
    let is_it = |(to, message): &(NodeId, Message)| *to == NodeId(node) && message.body == Body::TimeoutNow;
    messages.iter().any(is_it)
}

/// "The prior leader stops accepting new client requests", "fully updates the target server's log to match its own" and
/// only then "sends a TimeoutNow request to the target server" (dissertation, section 3.10).
#[test]
fn a_successor_is_brought_up_before_it_stands() {
    let mut replica = leader();
    replica.tell(Input::Propose(vec!["a".into()]));
    let output = replica.tell(Input::Transfer(Some(NodeId(3))));
    assert!(!is_told_to_stand(&output.messages, 3));
    let refused = replica.tell(Input::Propose(vec!["b".into()])).proposed;
    assert_eq!(refused, Some(Err(ProposeError::Transferring)));
    assert!(is_told_to_stand(&replica.answer(3, 2, accepted(2, 1)), 3));
}

/// "A server always uses the latest configuration in its log, regardless of whether the entry is committed", and
/// "agreement ... requires separate majorities from both the old and new configurations" (paper, section 6).
#[test]
fn a_joint_configuration_is_in_force_at_once_and_needs_both_majorities() {
    let mut replica = leader();
    assert_eq!(change(&mut replica, voters(&[1, 2])), Some(Ok(LogIndex(2))));
    assert!(replica.up().configuration().is_joint());
    replica.answer(3, 2, accepted(2, 1));
    assert_eq!(replica.up().commit(), LogIndex(1), "1 and 3 are no majority of 1 and 2");
    replica.answer(2, 2, accepted(2, 1));
    assert_eq!(replica.up().commit(), LogIndex(2));
    assert_eq!(
        replica.up().configuration(),
        &voters(&[1, 2]),
        "it leaves the joint one by itself"
    );
}

/// While it is committing the configuration that removes it, the leader "replicates log entries but does not count
/// itself in majorities" (paper, section 6).
#[test]
fn a_leader_that_is_removed_does_not_count_itself() {
    let mut replica = leader();
    assert_eq!(change(&mut replica, voters(&[2, 3])), Some(Ok(LogIndex(2))));
    replica.answer(2, 2, accepted(2, 1));
    assert_eq!(replica.up().commit(), LogIndex(1), "2 alone is no majority of 2 and 3");
    replica.answer(3, 2, accepted(2, 1));
    assert_eq!(replica.up().commit(), LogIndex(2));
    replica.answer(2, 2, accepted(3, 2));
    assert_eq!(replica.up().commit(), LogIndex(2));
    replica.answer(3, 2, accepted(3, 2));
    assert_eq!(replica.up().commit(), LogIndex(3));
}

/// New servers join "as non-voting members (the leader replicates log entries to them, but they are not considered for
/// majorities)" (paper, section 6).
#[test]
fn a_learner_gets_the_log_and_does_not_count() {
    let mut replica = leader();
    let with_learner = Configuration {
        learners: vec![NodeId(4)],
        ..voters(&[1, 2, 3])
    };
    let output = replica.tell(Input::Change(with_learner));
    assert_eq!(output.changed, Some(Ok(LogIndex(2))));
    assert!(output.messages.iter().any(|(to, _)| *to == NodeId(4)));
    replica.answer(4, 2, accepted(2, 1));
    assert_eq!(replica.up().commit(), LogIndex(1));
    replica.answer(2, 2, accepted(2, 1));
    assert_eq!(replica.up().commit(), LogIndex(2));
}

/// A leader begins no change before an entry of its own term is committed (the erratum to the dissertation's section 4.1:
/// a leader that did could pass over a change of an earlier term, with a disjoint majority); and one at a time (4.1).
#[test]
fn a_change_waits_for_an_entry_of_the_leaders_term_and_for_the_change_before() {
    let mut replica = member(1, &[]);
    replica.elect();
    assert_eq!(
        change(&mut replica, voters(&[1, 2])),
        Some(Err(ChangeError::NotServing))
    );
    let mut replica = leader();
    assert_eq!(change(&mut replica, voters(&[1, 2])), Some(Ok(LogIndex(2))));
    assert_eq!(
        change(&mut replica, voters(&[1, 3])),
        Some(Err(ChangeError::InProgress))
    );
}

/// "If the leader has not yet marked an entry from its current term committed", it can't answer; then it "saves its
/// current commit index in a local variable readIndex", and answers once a round of heartbeats that began afterwards is
/// acknowledged by a majority (dissertation, section 6.4).
#[test]
fn a_read_waits_for_a_round_of_heartbeats() {
    let mut replica = member(1, &[]);
    replica.elect();
    let early = replica.tell(Input::Read(ReadId(1))).reads;
    assert_eq!(early, [(ReadId(1), Err(ReadError::NotServing))]);
    let mut replica = leader();
    let output = replica.tell(Input::Read(ReadId(2)));
    assert_eq!(output.reads, []);
    let rounds = output.messages.iter().filter_map(|(_, message)| match message.body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    let rounds: Vec<u64> = rounds.collect();
    assert_eq!(rounds.len(), 2, "both others are asked");
    let reply = |round| {
        let commit = LogIndex(1);
        told(3, Body::HeartbeatReply { commit, round })
    };
    assert_eq!(
        replica.tell(reply(rounds[0] - 1)).reads,
        [],
        "an answer from before says nothing"
    );
    let answered = replica.tell(reply(rounds[0])).reads;
    assert_eq!(answered, [(ReadId(2), Ok(LogIndex(1)))]);
}

/// A candidate "only increments its term if it first learns from a majority of the cluster that they would be willing to
/// grant the candidate their votes" (dissertation, section 9.6); to be willing is not to vote.
#[test]
fn a_pre_vote_changes_no_term_and_spends_no_vote() {
    let mut replica = member(1, &[]);
    replica.tell(Input::Campaign);
    assert_eq!(
        (replica.up().role(), replica.up().term()),
        (Role::PreCandidate, Term(1))
    );
    let granted = Body::PreVoteReply {
        granted: true,
        longer_log: false,
    };
    replica.answer(2, 2, granted.clone());
    assert_eq!((replica.up().role(), replica.up().term()), (Role::Candidate, Term(2)));

    let mut voter = member(1, &[]);
    let asked = Body::PreVote {
        last_index: LogIndex::ZERO,
        last_term: Term::ZERO,
    };
    for candidate in [2, 3] {
        let answer = voter.answer(candidate, 2, asked.clone());
        let (term, body) = (Term(2), granted.clone());
        assert_eq!(answer, vec![(NodeId(candidate), Message { term, body })]);
    }
    assert_eq!(voter.up().term(), Term(1));
}
