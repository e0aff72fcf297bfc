//! The rules that the Raft paper states, each with its words.

use super::replica::{Replica, entries, member};
use crate::*;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

pub(super) fn append(prev: (u64, u64), terms: &[u64], commit: u64) -> Body {
    let (prev_term, prev_index) = prev;
    Body::Append {
        prev_index: LogIndex(prev_index),
        prev_term: Term(prev_term),
        commit: LogIndex(commit),
        replicated_index: LogIndex::ZERO,
        entries: entries(prev_index + 1, terms),
    }
}

fn vote(last: (u64, u64), transfer: bool) -> Body {
    let (last_term, last_index) = last;
    Body::Vote {
        last_index: LogIndex(last_index),
        last_term: Term(last_term),
        transfer,
    }
}

pub(super) fn accepted(match_index: u64, commit: u64) -> Body {
    Body::AppendAccepted {
        match_index: LogIndex(match_index),
        commit: LogIndex(commit),
        life: Life::default(),
    }
}

pub(super) fn says(from: u64, term: u64, body: Body) -> Vec<(NodeId, Message)> {
    vec![(NodeId(from), Message { term: Term(term), body })]
}

/// "Reply false if term < currentTerm" (figure 2, RequestVote and AppendEntries).
#[test]
fn a_request_of_an_earlier_term_is_refused_with_the_current_one() {
    let mut replica = member(5, &[1]);
    assert_eq!(
        replica.answer(2, 4, vote((9, 9), false)),
        says(2, 5, Body::VoteReply { granted: false })
    );
    let answer = replica.answer(2, 4, append((1, 1), &[4], 0));
    assert!(matches!(
        &answer[..],
        [(
            NodeId(2),
            Message {
                term: Term(5),
                body: Body::AppendRejected { .. }
            }
        )]
    ));
    assert_eq!(replica.log_terms(), [1]);
}

/// "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis" (section 5.2).
#[test]
fn a_vote_is_given_once_a_term_also_after_a_restart() {
    let mut replica = member(1, &[]);
    assert_eq!(
        replica.answer(2, 2, vote((0, 0), false)),
        says(2, 2, Body::VoteReply { granted: true })
    );
    assert_eq!(
        replica.answer(3, 2, vote((0, 0), false)),
        says(3, 2, Body::VoteReply { granted: false })
    );
    replica.crash();
    replica.restart(Instant::ZERO, LogIndex::ZERO);
    assert_eq!(
        replica.answer(3, 2, vote((0, 0), false)),
        says(3, 2, Body::VoteReply { granted: false })
    );
    assert_eq!(
        replica.answer(2, 2, vote((0, 0), false)),
        says(2, 2, Body::VoteReply { granted: true })
    );
    assert_eq!(
        replica.answer(3, 3, vote((0, 0), false)),
        says(3, 3, Body::VoteReply { granted: true })
    );
}

/// "If the logs have last entries with different terms, then the log with the later term is more up-to-date. If the logs
/// end with the same term, then whichever log is longer is more up-to-date" (section 5.4.1).
#[test]
fn a_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date() {
    let own = [1, 2, 2];
    for (theirs, granted) in [
        ((2, 3), true),
        ((2, 4), true),
        ((3, 1), true),
        ((2, 2), false),
        ((1, 9), false),
    ] {
        let answer = member(2, &own).answer(2, 3, vote(theirs, false));
        assert_eq!(
            answer,
            says(2, 3, Body::VoteReply { granted }),
            "a log that ends {theirs:?}"
        );
    }
}

/// "If a server receives a RequestVote RPC within the minimum election timeout of hearing from a current leader, it does
/// not update its term or grant its vote" (section 6); but a leader that hands over wants it granted.
#[test]
fn a_live_leader_is_not_disturbed_unless_it_hands_over() {
    let mut replica = member(2, &[]);
    replica.answer(2, 2, append((0, 0), &[2], 0));
    assert_eq!(replica.answer(3, 3, vote((2, 1), false)), vec![]);
    assert_eq!((replica.up().term(), replica.up().leader()), (Term(2), Some(NodeId(2))));
    assert_eq!(
        replica.answer(3, 3, vote((2, 1), true)),
        says(3, 3, Body::VoteReply { granted: true })
    );
}

/// "If an existing entry conflicts with a new one (same index but different terms), delete the existing entry and all
/// that follow it. Append any new entries not already in the log" (figure 2).
#[test]
fn only_a_conflict_truncates() {
    let check = |own: &[u64], prev, new: &[u64], expected: &[u64]| {
        let mut replica = member(4, own);
        replica.answer(2, 4, append(prev, new, 0));
        assert_eq!(replica.log_terms(), expected, "{own:?} told {new:?} after {prev:?}");
    };
    check(&[1, 2, 2], (1, 1), &[2], &[1, 2, 2]);
    check(&[1, 2, 2], (1, 1), &[], &[1, 2, 2]);
    check(&[1, 2, 2], (1, 1), &[4], &[1, 4]);
    check(&[1, 2, 2], (2, 3), &[4, 4], &[1, 2, 2, 4, 4]);
    check(&[1, 2, 2], (1, 1), &[2, 3], &[1, 2, 3]);
    check(&[1, 2, 2], (4, 3), &[4], &[1, 2, 2]);
    check(&[1, 2, 2], (4, 9), &[4], &[1, 2, 2]);
}

/// "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm"; otherwise what is
/// acknowledged is what the append has shown to agree, not whatever the log holds beyond.
#[test]
fn what_was_not_compared_is_not_acknowledged() {
    let mut replica = member(4, &[1, 1, 3, 3]);
    assert_eq!(
        replica.answer(2, 4, append((1, 1), &[1], 0)),
        says(2, 4, accepted(2, 0))
    );
    assert_eq!(replica.answer(2, 4, append((1, 1), &[], 0)), says(2, 4, accepted(2, 0)));
}

/// "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)" (figure 2).
#[test]
fn a_commit_never_passes_what_agrees() {
    let mut replica = member(4, &[1, 1, 3, 3]);
    assert_eq!(
        replica.answer(2, 4, append((1, 1), &[1], 4)),
        says(2, 4, accepted(2, 2))
    );
    assert_eq!(
        replica.answer(
            2,
            4,
            Body::Heartbeat {
                commit: LogIndex(9),
                round: 7
            }
        ),
        says(
            2,
            4,
            Body::HeartbeatReply {
                commit: LogIndex(2),
                round: 7
            }
        )
    );
    replica.answer(2, 4, append((1, 2), &[4], 9));
    assert_eq!(replica.up().commit(), LogIndex(3));
    assert_eq!(replica.log_terms(), [1, 1, 4]);
}

/// "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower" (figure 2).
#[test]
fn a_later_term_in_an_answer_ends_a_leadership() {
    let answers = [
        accepted(1, 0),
        Body::VoteReply { granted: false },
        Body::HeartbeatReply {
            commit: LogIndex(0),
            round: 7,
        },
        Body::AppendRejected {
            prev_index: LogIndex(0),
            hint_index: LogIndex(0),
            hint_term: Term(0),
        },
        Body::PreVoteReply {
            granted: false,
            longer_log: false,
        },
    ];
    for answer in answers {
        let mut replica = member(1, &[]);
        replica.elect();
        assert_eq!(replica.up().role(), Role::Leader);
        replica.answer(3, 7, answer.clone());
        let group = replica.up();
        assert_eq!(
            (group.role(), group.term(), group.leader()),
            (Role::Follower, Term(7), None),
            "{answer:?}"
        );
        assert!(group.deadline().is_some(), "it waits for a leader, but not for ever");
    }
}

/// "While waiting for votes, a candidate may receive an AppendEntries RPC from another server claiming to be leader ...
/// the candidate recognizes the leader as legitimate and returns to follower state" (section 5.2).
#[test]
fn a_candidate_follows_who_has_won() {
    let mut replica = member(1, &[]);
    replica.tell(Input::Campaign);
    replica.answer(
        2,
        2,
        Body::PreVoteReply {
            granted: true,
            longer_log: false,
        },
    );
    assert_eq!(replica.up().role(), Role::Candidate);
    replica.answer(3, 2, append((0, 0), &[2], 0));
    assert_eq!(
        (replica.up().role(), replica.up().leader()),
        (Role::Follower, Some(NodeId(3)))
    );
    replica.answer(2, 2, Body::VoteReply { granted: true });
    assert_eq!(replica.up().role(), Role::Follower, "a late vote elects nobody");
}

/// Figure 7: a follower may lack entries, or have extra ones, or both; it ends up with the leader's log.
#[test]
fn every_follower_of_figure_7_converges() {
    let followers: [&[u64]; 7] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        &[],
    ];
    for own in followers {
        let mut leader = member(7, &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
        let mut follower = member(7, own);
        let mut to_follower = leader.elect().messages;
        let mut refusals = 0;
        while !to_follower.is_empty() {
            let told: Vec<_> = to_follower.drain(..).filter(|(to, _)| *to == NodeId(3)).collect();
            for (_, message) in told {
                // Seen from the follower, the leader is another member: it doesn't matter which.
                for (_, answer) in follower.answer(2, message.term.0, message.body) {
                    refusals += usize::from(matches!(answer.body, Body::AppendRejected { .. }));
                    to_follower.extend(leader.answer(3, answer.term.0, answer.body));
                }
            }
        }
        assert_eq!(follower.log_terms(), [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8], "was {own:?}");
        assert!(refusals <= 1, "{refusals} refusals for {own:?}");
        assert_eq!(follower.up().commit(), LogIndex(11));
    }
}

/// "The leader must ... have each leader commit a blank no-op entry into the log at the start of its term" (section 8);
/// and it serves only once that is committed, and all before it applied.
#[test]
fn a_leader_serves_when_its_first_entry_is_committed_and_the_rest_applied() {
    let mut replica = member(1, &[1, 1]);
    let output = replica.elect();
    let is_append = |(to, message): &(NodeId, Message)| {
        let Body::Append { entries, .. } = &message.body else {
            return false;
        };
        *to == NodeId(3) && entries.len() == 1 && entries[0].payload == Payload::Blank
    };
    assert!(output.messages.iter().any(is_append));
    assert!(!replica.up().is_serving());
    let output = replica.tell(Input::Message(
        NodeId(3),
        Message {
            term: Term(2),
            body: accepted(3, 0),
        },
    ));
    assert_eq!(output.committed, Some(LogIndex(3)));
    assert!(!replica.up().is_serving());
    replica.tell(Input::Applied(LogIndex(1)));
    assert!(!replica.up().is_serving());
    let output = replica.tell(Input::Applied(LogIndex(2)));
    assert_eq!(output.events, [Event::Serving { term: Term(2) }]);
    assert!(replica.up().is_serving());
}

/// "Only log entries from the leader's current term are committed by counting replicas" (section 5.4.2).
#[test]
fn an_earlier_entry_is_not_committed_by_counting() {
    let mut replica = member(4, &[1, 2]);
    replica.elect();
    replica.answer(3, 5, accepted(2, 0));
    assert_eq!(replica.up().commit(), LogIndex::ZERO);
    assert_eq!(replica.up().held_by(2), LogIndex(2));
    replica.answer(3, 5, accepted(3, 0));
    assert_eq!(replica.up().commit(), LogIndex(3));
}

/// An acknowledgement beyond what there is, or of another term, or from someone else, counts for nothing (CCF 6016).
#[test]
fn an_acknowledgement_beyond_the_log_is_none() {
    let mut replica = member(1, &[]);
    replica.elect();
    replica.answer(3, 2, accepted(2, 2));
    replica.answer(3, 1, accepted(1, 1));
    replica.answer(9, 2, accepted(1, 1));
    replica.answer(1, 2, accepted(1, 1));
    assert_eq!(replica.up().commit(), LogIndex::ZERO);
    replica.answer(3, 2, accepted(1, 0));
    assert_eq!(replica.up().commit(), LogIndex(1));
}

/// The leader's own log counts only as far as it is durable (etcd 14370, openraft a9f696a9).
#[test]
fn a_leader_counts_itself_only_when_durable() {
    let mut replica = member(1, &[]);
    replica.elect();
    replica.answer(3, 2, accepted(1, 0));
    let output = replica.step(Instant::ZERO, Input::Propose(vec!["a".into()]));
    let token = output.persist.map(|persist| persist.token);
    assert_eq!(replica.up().held_by(1), LogIndex(1));
    let term = Term(2);
    let ack = Input::Message(
        NodeId(3),
        Message {
            term,
            body: accepted(2, 1),
        },
    );
    replica.step(Instant::ZERO, ack);
    assert_eq!(replica.up().commit(), LogIndex(1), "one disk of three");
    let output = replica.step(Instant::ZERO, Input::Persisted(token.expect("a write")));
    assert_eq!(output.committed, Some(LogIndex(2)));
}

/// Exactly what is proposed and not committed counts, whatever happens in between (etcd-raft a370b6f, e419ba5).
#[test]
fn uncommitted_bytes_are_counted_exactly() {
    let mut replica = member(1, &[]);
    replica.elect();
    replica.answer(3, 2, accepted(1, 1));
    let payload = |bytes: usize| bytes::Bytes::from(vec![0; bytes]);
    let propose = |replica: &mut Replica, sizes: &[usize]| {
        let payloads = sizes.iter().map(|size| payload(*size)).collect();
        replica.tell(Input::Propose(payloads)).proposed.expect("an answer")
    };
    assert!(propose(&mut replica, &[1000, 999]).is_ok());
    assert_eq!(propose(&mut replica, &[1, 1]), Err(ProposeError::Busy));
    assert!(propose(&mut replica, &[1]).is_ok(), "2000 is the limit");
    assert_eq!(propose(&mut replica, &[1]), Err(ProposeError::Busy));
    replica.answer(3, 2, accepted(3, 1));
    assert!(propose(&mut replica, &[1999]).is_ok(), "one byte was left");
    replica.answer(3, 2, accepted(5, 5));
    assert!(propose(&mut replica, &[5000]).is_ok(), "alone, it may exceed the limit");
    assert_eq!(propose(&mut replica, &[1]), Err(ProposeError::Busy));
    // Another leads, and this member again: nothing is left of it.
    replica.answer(2, 3, append((1, 1), &[3], 0));
    assert_eq!(
        propose(&mut replica, &[1]),
        Err(ProposeError::NotLeader(Some(NodeId(2))))
    );
    replica.elect();
    assert!(propose(&mut replica, &[2000]).is_ok());
    assert_eq!(
        propose(&mut replica, &[]).map(|proposed| proposed.last.next() == proposed.first),
        Ok(true)
    );
}

/// Durable marks of replaced entries are void (Ra 39490978; redpanda 2327254c; etcd: "append ABA race").
#[test]
fn a_late_write_does_not_vouch_for_what_replaced_it() {
    let mut replica = member(2, &[1]);
    let told = |term, body| Input::Message(NodeId(2), Message { term: Term(term), body });
    let first = replica
        .step(Instant::ZERO, told(2, append((1, 1), &[2, 2], 0)))
        .persist
        .expect("a write")
        .token;
    let other = Input::Message(
        NodeId(3),
        Message {
            term: Term(3),
            body: append((1, 1), &[3, 3], 0),
        },
    );
    let second = replica.step(Instant::ZERO, other).persist.expect("a write").token;
    assert_eq!(replica.step(Instant::ZERO, Input::Persisted(first)).messages, vec![]);
    assert_eq!(replica.up().durable(), LogIndex(1));
    let answer = replica.step(Instant::ZERO, Input::Persisted(second)).messages;
    assert_eq!(answer, says(3, 3, accepted(3, 0)));
}

/// The limits of the window: messages, bytes, and one append that exceeds them alone.
#[test]
fn the_window_is_kept() {
    let mut replica = member(1, &[]);
    replica.elect();
    replica.answer(3, 2, accepted(1, 1));
    let sizes = |output: &Output| -> Vec<usize> {
        let size = |entries: &Vec<Entry>| entries.iter().map(|entry| entry.payload.len()).sum();
        let to_3 = output.messages.iter().filter(|(to, _)| *to == NodeId(3));
        let appends = to_3.filter_map(|(_, message)| match &message.body {
            Body::Append { entries, .. } => Some(size(entries)),
            _ => None,
        });
        appends.collect()
    };
    let payloads = [200, 100, 1, 400, 299, 1, 300, 300].map(|size| bytes::Bytes::from(vec![0; size]));
    let output = replica.tell(Input::Propose(payloads.to_vec()));
    // 300 bytes an append, but one entry of 400 alone; 4 appends and 1000 bytes in flight.
    assert_eq!(sizes(&output), [300, 1, 400, 299]);
    let mut accept = |index, commit| {
        let body = accepted(index, commit);
        sizes(&replica.tell(Input::Message(NodeId(3), Message { term: Term(2), body })))
    };
    assert_eq!(
        accept(3, 1),
        [1],
        "room for 300 bytes, but the entry behind is too large"
    );
    assert_eq!(accept(4, 3), [300]);
    assert_eq!(accept(4, 3), [], "four are in flight");
    assert_eq!(accept(8, 4), [300], "the last one; the commit index goes with it");
}

/// Where the group keeps time itself, a leader that a majority doesn't answer steps down, and one that it answers stays.
#[test]
fn check_quorum_with_own_heartbeats() {
    let mut replica = member(1, &[]);
    replica.config.tuning.heartbeats = Heartbeats::Own(Duration::from_millis(25));
    replica.crash();
    replica.restart(Instant::ZERO, LogIndex::ZERO);
    replica.elect();
    let at = |millis: u64| Instant(millis * 1000);
    let answer = |commit| {
        Input::Message(
            NodeId(3),
            Message {
                term: Term(2),
                body: Body::HeartbeatReply {
                    commit: LogIndex(commit),
                    round: 7,
                },
            },
        )
    };
    replica.step(at(80), answer(0));
    replica.step(at(100), Input::Tick);
    assert_eq!(replica.up().role(), Role::Leader);
    replica.step(at(200), Input::Tick);
    assert_eq!(replica.up().role(), Role::Follower);
    assert_eq!(replica.up().leader(), None);
}

/// Tokens that come late, twice, or from nowhere change nothing.
#[test]
fn tokens_complete_once() {
    let mut replica = member(1, &[]);
    replica.elect();
    let before = alloc::format!("{:?}", replica.up());
    for token in [0, 1, 2, 99, u64::MAX] {
        let output = replica.step(Instant::ZERO, Input::Persisted(Token(token)));
        assert!(output.messages.is_empty() && output.persist.is_none());
    }
    assert_eq!(alloc::format!("{:?}", replica.up()), before);
}
