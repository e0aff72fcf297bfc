//! Messages that no honest member sends: nothing panics, nothing is believed that can't be.

use super::chance::Chance;
use super::replica::{Replica, entries, member};
use crate::*;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

fn number(chance: &mut Chance) -> u64 {
    match chance.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX - 1,
        3 => 1 << 62,
        4 => chance.next(),
        _ => chance.below(9),
    }
}

fn some_entries(chance: &mut Chance) -> Vec<Entry> {
    let terms: Vec<u64> = (0..chance.below(4)).map(|_| number(chance)).collect();
    let first = number(chance).min(u64::MAX - 4);
    let mut entries = entries(first, &terms);
    if chance.percent(20) && !entries.is_empty() {
        let at = chance.below(entries.len() as u64) as usize;
        entries[at].index = LogIndex(number(chance));
    }
    if chance.percent(20) && !entries.is_empty() {
        let at = chance.below(entries.len() as u64) as usize;
        entries[at].payload = Payload::Configuration(Box::new(configuration(chance)));
    }
    entries
}

fn body(chance: &mut Chance) -> Body {
    let (index, other) = (LogIndex(number(chance)), LogIndex(number(chance)));
    let (term, flag) = (Term(number(chance)), chance.percent(50));
    match chance.below(15) {
        0 => Body::PreVote {
            last_index: index,
            last_term: term,
        },
        1 => Body::PreVoteReply {
            granted: flag,
            longer_log: chance.percent(50),
        },
        2 => Body::Vote {
            last_index: index,
            last_term: term,
            transfer: flag,
        },
        3 => Body::VoteReply { granted: flag },
        4 | 5 => {
            let replicated_index = LogIndex(number(chance));
            let entries = some_entries(chance);
            Body::Append {
                prev_index: index,
                prev_term: term,
                commit: other,
                replicated_index,
                entries,
            }
        }
        6 => Body::AppendAccepted {
            match_index: index,
            commit: other,
            life: Life(chance.below(2)),
        },
        7 => Body::AppendRejected {
            prev_index: index,
            hint_index: other,
            hint_term: term,
        },
        8 => Body::Heartbeat {
            commit: index,
            round: chance.below(3),
        },
        9 => Body::HeartbeatReply {
            commit: index,
            round: chance.below(3),
        },
        10 => Body::Snapshot {
            snapshot: Box::new(Snapshot {
                index,
                term,
                configuration: configuration(chance),
                data: "data".into(),
            }),
            commit: other,
            replicated_index: LogIndex(number(chance)),
        },
        11 => Body::Lost {
            life: Life(chance.below(2)),
        },
        12 => Body::Rejoin {
            since: index,
            life: Life(chance.below(2)),
        },
        13 => Body::Seek,
        _ => Body::TimeoutNow,
    }
}

fn configuration(chance: &mut Chance) -> Configuration {
    let mut nodes = || (0..chance.below(3)).map(|_| NodeId(chance.below(5))).collect();
    Configuration {
        voters: nodes(),
        outgoing: nodes(),
        learners: nodes(),
    }
}

fn input(chance: &mut Chance, now: Instant) -> (Instant, Input) {
    let now = Instant(now.0 + chance.below(60_000));
    let node = NodeId(chance.below(5));
    let input = match chance.below(24) {
        0 => Input::Tick,
        1 => Input::Propose((0..chance.below(3)).map(|_| "payload".into()).collect()),
        2 => Input::Persisted(Token(number(chance))),
        3 => Input::Applied(LogIndex(number(chance))),
        4 => Input::Liveness(
            node,
            [Liveness::Alive, Liveness::Suspected, Liveness::Dead][chance.below(3) as usize],
        ),
        5 => Input::Restored(node),
        6 => Input::Transfer(Some(node).filter(|_| chance.percent(50))),
        7 => Input::Campaign,
        8 => Input::ForgetLeader,
        9 => Input::Change(configuration(chance)),
        10 => Input::Read(ReadId(number(chance))),
        11 => {
            let snapshot = Snapshot {
                index: LogIndex(number(chance)),
                term: Term(number(chance)),
                configuration: configuration(chance),
                data: "data".into(),
            };
            let snapshot = Box::new(snapshot);
            Input::Snapshot { to: node, snapshot }
        }
        _ => {
            let term = Term(number(chance));
            let body = body(chance);
            Input::Message(node, Message { term, body })
        }
    };
    (now, input)
}

/// Anything at all, in any order, to a member in any role: it goes on, and its commit index never passes its log.
#[test]
fn nothing_that_arrives_makes_it_panic() {
    let mut led = 0;
    for seed in 0..300 {
        let mut chance = Chance::new(seed);
        let mut replica = member(2, &[1, 1, 2]);
        if chance.percent(50) {
            replica.elect();
        }
        let mut now = Instant::ZERO;
        for _ in 0..150 {
            let (then, input) = input(&mut chance, now);
            now = then;
            let before = (replica.up().term(), replica.up().commit());
            let output = replica.step(now, input);
            if chance.percent(70) {
                while let Some(token) = replica.sync_one() {
                    replica.step(now, Input::Persisted(token));
                }
            }
            let group = replica.up();
            assert!(group.term() >= before.0 && group.commit() >= before.1, "nothing falls");
            assert!(group.commit() <= replica.log.last_index());
            assert!(group.replicated_index() <= group.commit());
            assert!(output.messages.len() < 50, "one input causes few messages");
            led += u64::from(group.role() == Role::Leader);
        }
    }
    assert!(led > 1000, "leaders were among them");
}

/// A stranger was asked nothing: its answers are as if they had not come. But if one follows this member as a leader, it is
/// told that it doesn't lead. (In a later term that is a question, and any request tells a term.)
#[test]
fn answers_of_strangers_are_ignored() {
    let mut chance = Chance::new(7);
    let mut replica = member(2, &[1, 1, 2]);
    let before = format!("{:?}", replica.up());
    for _ in 0..500 {
        let term = Term(number(&mut chance));
        let body = body(&mut chance);
        let is_answer = matches!(
            body,
            Body::PreVoteReply { .. }
                | Body::VoteReply { .. }
                | Body::AppendAccepted { .. }
                | Body::AppendRejected { .. }
                | Body::HeartbeatReply { .. }
                | Body::Lost { .. }
        );
        let asks = matches!(body, Body::HeartbeatReply { .. }) && term > Term(2);
        if !is_answer || asks {
            continue;
        }
        let from = [NodeId(0), NodeId(1), NodeId(4)][chance.below(3) as usize];
        let follows = matches!(body, Body::HeartbeatReply { .. }) && from != NodeId(1);
        let denial = Message {
            term: Term(2),
            body: Body::Seek,
        };
        let expected: Vec<_> = follows.then_some((from, denial)).into_iter().collect();
        let output = tell(&mut replica, from, Message { term, body });
        assert_eq!(output.messages, expected);
        assert!(output.persist.is_none());
    }
    assert_eq!(format!("{:?}", replica.up()), before);
}

/// A member that has lost its disk led a term that it has forgotten, and doesn't know who follows it there.
#[test]
fn a_follower_that_was_forgotten_is_answered_in_its_term() {
    let mut replica = member(2, &[]);
    let (commit, round) = (LogIndex(3), 0);
    let answer = replica.answer(4, 5, Body::HeartbeatReply { commit, round });
    let denial = Message {
        term: Term(5),
        body: Body::Seek,
    };
    assert_eq!(answer, [(NodeId(4), denial)]);
    assert_eq!(replica.up().term(), Term(5));
}

/// A term that leaves no room for another is not entered.
#[test]
fn the_last_term_there_is_is_not_entered() {
    let mut replica = member(2, &[]);
    for term in [u64::MAX, u64::MAX - 1, 1 << 62] {
        tell(
            &mut replica,
            NodeId(2),
            Message {
                term: Term(term),
                body: Body::VoteReply { granted: false },
            },
        );
        assert_eq!(replica.up().term(), Term(2));
    }
}

/// A leader that contradicts what is committed is not obeyed: nothing is deleted.
#[test]
fn what_is_committed_is_never_replaced() {
    let mut replica = member(2, &[]);
    let append = |prev_term, prev_index, terms: &[u64], commit| Body::Append {
        prev_index: LogIndex(prev_index),
        prev_term: Term(prev_term),
        commit: LogIndex(commit),
        replicated_index: LogIndex(0),
        entries: entries(prev_index + 1, terms),
    };
    replica.answer(2, 2, append(0, 0, &[1, 2, 2], 2));
    assert_eq!(replica.up().commit(), LogIndex(2));
    replica.answer(3, 3, append(0, 0, &[3, 3, 3], 3));
    assert_eq!(replica.log_terms(), [1, 2, 2]);
    replica.answer(3, 3, append(1, 1, &[2, 3], 3));
    assert_eq!(replica.log_terms(), [1, 2, 3]);
}

fn tell(replica: &mut Replica, from: NodeId, message: Message) -> Output {
    replica.step(Instant::ZERO, Input::Message(from, message))
}
