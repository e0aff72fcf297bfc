use super::judge::judge;
use super::operation::{Answer, Operation, Outcome, Request};
use crate::checker::Law;
use std::collections::BTreeMap;

/// A history whose operations follow one another, each a second long, unless said otherwise.
#[derive(Default)]
struct History(Vec<Operation>);

impl History {
    fn then(mut self, request: Request, outcome: Outcome) -> History {
        let begin = self.0.len() as u64 * 10;
        self.0.push(Operation {
            client: 0,
            node: "n1".into(),
            invoked_us: begin,
            completed_us: begin + 5,
            request,
            outcome,
            last: false,
        });
        self
    }

    fn send(self, value: u64, offset: u64) -> History {
        self.then(
            Request::Send { key: "a".into(), value },
            Outcome::Done(Answer::Sent { offset }),
        )
    }

    fn poll(self, from: u64, messages: &[(u64, u64)]) -> History {
        let messages = BTreeMap::from([("a".into(), messages.to_vec())]);
        let offsets = BTreeMap::from([("a".into(), from)]);
        self.then(Request::Poll { offsets }, Outcome::Done(Answer::Polled { messages }))
    }

    fn last(mut self) -> History {
        self.0.last_mut().unwrap().last = true;
        self
    }

    fn commit(self, offset: u64, outcome: Outcome) -> History {
        self.then(
            Request::Commit {
                offsets: BTreeMap::from([("a".into(), offset)]),
            },
            outcome,
        )
    }

    fn list(self, offset: Option<u64>) -> History {
        let offsets = offset.map(|offset| ("a".to_owned(), offset)).into_iter().collect();
        self.then(
            Request::List { keys: vec!["a".into()] },
            Outcome::Done(Answer::Listed { offsets }),
        )
    }

    fn leader(self, leader: &str, term: u64) -> History {
        let request = Request::Leader {
            topic: "a".into(),
            partition: 0,
        };
        self.then(
            request,
            Outcome::Done(Answer::Leads {
                leader: leader.into(),
                term,
            }),
        )
    }

    /// Everything that was acknowledged is read at the end.
    fn read_at_the_end(self) -> History {
        let sends = self
            .0
            .iter()
            .filter_map(|operation| match (&operation.request, &operation.outcome) {
                (Request::Send { value, .. }, Outcome::Done(Answer::Sent { offset })) => Some((*offset, *value)),
                _ => None,
            });
        let mut messages: Vec<(u64, u64)> = sends.collect();
        messages.sort_unstable();
        messages.dedup_by_key(|(offset, _)| *offset);
        self.poll(0, &messages).last()
    }

    #[track_caller]
    fn passes(self) {
        assert_eq!(judge(&self.0), []);
    }

    #[track_caller]
    fn breaks(self, law: Law) {
        let wrong = judge(&self.0);
        assert!(
            wrong.iter().any(|violation| violation.law == law),
            "{law:?} is not in {wrong:?}"
        );
    }
}

fn start() -> History {
    History::default()
}

const COMMITTED: Outcome = Outcome::Done(Answer::Committed);

fn unknown(value: u64) -> (Request, Outcome) {
    (Request::Send { key: "a".into(), value }, Outcome::Unknown)
}

#[test]
fn a_right_history_passes() {
    let (request, outcome) = unknown(3);
    start()
        .send(1, 0)
        .send(2, 1)
        .then(request, outcome)
        .poll(0, &[(0, 1), (1, 2), (2, 3)])
        .poll(3, &[])
        .poll(1, &[(1, 2)])
        .list(None)
        .commit(1, COMMITTED)
        .commit(2, Outcome::Unknown)
        .list(Some(2))
        .leader("n1", 1)
        .leader("n2", 2)
        .poll(0, &[(0, 1), (1, 2), (2, 3)])
        .last()
        .passes();
}

#[test]
fn messages_in_the_wrong_place_are_found() {
    start().send(1, 0).send(2, 0).read_at_the_end().breaks(Law::OneOffset);
    let twice = [(0, 1), (1, 1)];
    start().send(1, 0).poll(0, &twice).last().breaks(Law::NoDuplicate);
    start()
        .send(1, 0)
        .poll(0, &twice)
        .read_at_the_end()
        .breaks(Law::OneOffset);
    let invented = [(0, 1), (1, 9)];
    start()
        .send(1, 0)
        .poll(0, &invented)
        .read_at_the_end()
        .breaks(Law::NothingInvented);
    let refused = Request::Send {
        key: "a".into(),
        value: 1,
    };
    start()
        .then(refused, Outcome::Refused(11))
        .poll(0, &[(0, 1)])
        .last()
        .breaks(Law::RefusedStaysOut);
    start().send(1, 1).send(2, 0).read_at_the_end().breaks(Law::SentInOrder);
}

#[test]
fn lost_messages_are_found() {
    let sent = || start().send(1, 0).send(2, 1);
    sent().poll(0, &[(0, 1)]).last().breaks(Law::AcknowledgedStays);
    sent().read_at_the_end().passes();
    let on_another_node = |messages: &[(u64, u64)]| {
        let mut history = sent().read_at_the_end().poll(0, messages).last();
        history.0.last_mut().unwrap().node = "n2".into();
        history
    };
    on_another_node(&[(0, 1), (1, 2)]).passes();
    on_another_node(&[(0, 1)]).breaks(Law::AcknowledgedStays);
    on_another_node(&[(0, 2), (1, 1)]).breaks(Law::OneOffset);
}

#[test]
fn what_was_read_and_taken_back_is_found() {
    let (request, outcome) = unknown(2);
    let history = start().send(1, 0).then(request, outcome).poll(0, &[(0, 1), (1, 2)]);
    history.read_at_the_end().breaks(Law::ReadStays);
}

#[test]
fn polls_with_gaps_or_out_of_order_are_found() {
    let sent = || start().send(1, 0).send(2, 1).send(3, 2);
    for (from, messages) in [
        (0, &[(0, 1), (2, 3)][..]),
        (0, &[(1, 2), (0, 1)]),
        (0, &[(1, 2)]),
        (2, &[(1, 2), (2, 3)]),
    ] {
        sent().poll(from, messages).read_at_the_end().breaks(Law::ReadsInOrder);
    }
}

#[test]
fn a_log_that_nobody_asked_for_is_found() {
    let mut history = start().send(1, 0).poll(0, &[(0, 1)]);
    let operation = history.0.last_mut().unwrap();
    operation.request = Request::Poll {
        offsets: BTreeMap::from([("b".into(), 0)]),
    };
    history.read_at_the_end().breaks(Law::NothingInvented);
}

#[test]
fn commits_that_go_back_are_found() {
    start()
        .commit(5, COMMITTED)
        .list(None)
        .breaks(Law::CommittedOffsetStays);
    start()
        .commit(5, Outcome::Refused(11))
        .list(Some(5))
        .breaks(Law::CommittedOffsetStays);
    start().commit(5, Outcome::Unknown).list(Some(5)).passes();
    let mut at_once = start().commit(5, COMMITTED).list(None);
    at_once.0[1].invoked_us = 1;
    at_once.passes();
}

#[test]
fn two_leaders_of_a_term_are_found() {
    start().leader("n1", 4).leader("n2", 4).breaks(Law::OneLeaderATerm);
    start().leader("n1", 4).leader("n2", 5).passes();
    start().leader("somebody", 4).breaks(Law::NothingInvented);
    let failover = Request::Failover {
        topic: "a".into(),
        partition: 0,
        failed: "n1".into(),
    };
    let leads = |leader: &str, term| {
        Outcome::Done(Answer::Leads {
            leader: leader.into(),
            term,
        })
    };
    start()
        .then(failover.clone(), leads("n1", 5))
        .breaks(Law::FailoverMoves);
    start()
        .leader("n1", 4)
        .then(failover, leads("n2", 4))
        .breaks(Law::OneLeaderATerm);
}
