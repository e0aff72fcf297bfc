use super::checker::{Answer, Operation, Outcome, Request, check};
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

    fn passes(self) {
        assert_eq!(check(&self.0), [""; 0]);
    }

    fn fails_with(self, word: &str) {
        let wrong = check(&self.0);
        assert!(
            wrong.iter().any(|violation| violation.contains(word)),
            "{word} is not in {wrong:?}"
        );
    }
}

fn start() -> History {
    History::default()
}

const COMMITTED: Outcome = Outcome::Done(Answer::Committed);

#[test]
fn a_right_history_passes() {
    start()
        .send(1, 0)
        .send(2, 1)
        .then(
            Request::Send {
                key: "a".into(),
                value: 3,
            },
            Outcome::Unknown,
        )
        .poll(0, &[(0, 1), (1, 2), (2, 3)])
        .poll(3, &[])
        .list(None)
        .commit(1, COMMITTED)
        .commit(2, Outcome::Unknown)
        .list(Some(2))
        .leader("n1", 1)
        .leader("n2", 2)
        .poll(0, &[(0, 1), (1, 2)])
        .last()
        .passes();
}

#[test]
fn messages_in_the_wrong_place_are_found() {
    start().send(1, 0).send(2, 0).fails_with("two messages");
    start()
        .send(1, 0)
        .poll(0, &[(0, 1), (1, 1)])
        .fails_with("and at offset 1");
    start().send(1, 0).poll(0, &[(0, 1), (1, 9)]).fails_with("never sent");
    let refused = Outcome::Refused(11);
    start()
        .then(
            Request::Send {
                key: "a".into(),
                value: 1,
            },
            refused,
        )
        .poll(0, &[(0, 1)])
        .fails_with("refused");
    start().send(1, 1).send(2, 0).fails_with("a later send");
}

#[test]
fn lost_messages_are_found() {
    start()
        .send(1, 0)
        .send(2, 1)
        .poll(0, &[(0, 1)])
        .last()
        .fails_with("lost on n1");
    start().send(1, 0).send(2, 1).poll(0, &[(0, 1)]).passes();
}

#[test]
fn polls_with_gaps_or_out_of_order_are_found() {
    let sent = || start().send(1, 0).send(2, 1).send(3, 2);
    sent().poll(0, &[(0, 1), (2, 3)]).fails_with("gap");
    sent().poll(0, &[(1, 2), (0, 1)]).fails_with("out of order");
    sent().poll(0, &[(1, 2)]).fails_with("gap");
    sent().poll(2, &[(1, 2), (2, 3)]).fails_with("out of order");
}

#[test]
fn commits_that_go_back_are_found() {
    start().commit(5, COMMITTED).list(None).fails_with("went back");
    start()
        .commit(3, COMMITTED)
        .commit(5, COMMITTED)
        .list(Some(3))
        .fails_with("went back");
    start()
        .commit(3, COMMITTED)
        .commit(5, Outcome::Unknown)
        .list(Some(5))
        .list(Some(3))
        .fails_with("went back");
    start().commit(5, COMMITTED).list(Some(7)).fails_with("never committed");
    start()
        .commit(5, Outcome::Refused(11))
        .list(Some(5))
        .fails_with("never committed");
    let mut at_once = start().commit(5, COMMITTED).list(None);
    at_once.0[1].invoked_us = 1;
    at_once.passes();
}

#[test]
fn two_leaders_of_a_term_are_found() {
    start().leader("n1", 4).leader("n2", 4).fails_with("two leaders");
    let failover = Request::Failover {
        topic: "a".into(),
        partition: 0,
        failed: "n1".into(),
    };
    let stays = Outcome::Done(Answer::Leads {
        leader: "n1".into(),
        term: 5,
    });
    start().then(failover.clone(), stays).fails_with("leads on");
    let moves = Outcome::Done(Answer::Leads {
        leader: "n2".into(),
        term: 4,
    });
    start().leader("n1", 4).then(failover, moves).fails_with("two leaders");
}
