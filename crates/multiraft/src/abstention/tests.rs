use super::*;

const OWN: NodeId = NodeId(1);

/// The members that one without a part tells that it doesn't lead.
fn check(input: CoreInput, expected: &[u64]) {
    let abstention = Abstention {
        own: OWN,
        group: GroupId(7),
        term: Term(4),
    };
    let mut out = Outbox::default();
    abstention.answer(&input, &mut out);
    let told: Vec<u64> = out.messages.iter().map(|(to, _)| to.0).collect();
    assert_eq!(told, expected, "{input:?}");
    for (_, messages) in out.messages {
        assert_eq!(messages, [(GroupId(7), denial(Term(4)))]);
    }
}

fn message(from: u64, body: Body) -> CoreInput {
    CoreInput::Message(NodeId(from), Message { term: Term(4), body })
}

#[test]
fn members_that_may_take_it_for_the_leader_are_told_and_no_others() {
    let (match_index, commit) = (LogIndex(3), LogIndex(3));
    check(CoreInput::Restored(NodeId(3)), &[3]);
    check(CoreInput::Restored(NodeId(9)), &[9]);
    check(
        message(
            2,
            Body::AppendAccepted {
                match_index,
                commit,
                life: trimaran_raft::Life::default(),
            },
        ),
        &[2],
    );
    check(
        message(
            9,
            Body::AppendAccepted {
                match_index,
                commit,
                life: trimaran_raft::Life::default(),
            },
        ),
        &[9],
    );
    check(message(2, Body::HeartbeatReply { commit, round: 0 }), &[2]);
    check(message(2, Body::TimeoutNow), &[]);
    check(CoreInput::Tick, &[]);
}

/// A member may remember less than those that believe in it.
#[test]
fn the_answer_names_the_term_of_the_belief() {
    let abstention = Abstention {
        own: OWN,
        group: GroupId(7),
        term: Term(4),
    };
    let mut out = Outbox::default();
    let body = Body::HeartbeatReply {
        commit: LogIndex(3),
        round: 0,
    };
    let message = Message { term: Term(9), body };
    abstention.answer(&CoreInput::Message(NodeId(2), message), &mut out);
    assert_eq!(out.messages, [(NodeId(2), vec![(GroupId(7), denial(Term(9)))])]);
}

#[test]
fn each_member_is_told_once() {
    let abstention = Abstention {
        own: OWN,
        group: GroupId(7),
        term: Term(4),
    };
    let mut out = Outbox::default();
    abstention.announce([2, 1, 3, 2, 5].map(NodeId), &mut out);
    let told: Vec<u64> = out.messages.iter().map(|(to, _)| to.0).collect();
    assert_eq!(told, [2, 3, 5]);
}

/// A member that refuses a candidate because it believes in this member asks it. To tell the others whenever one stands
/// would make all of them stand.
#[test]
fn who_stands_gets_no_answer() {
    let last_term = Term(4);
    let last_index = LogIndex(3);
    check(message(2, Body::PreVote { last_index, last_term }), &[]);
    check(CoreInput::Message(NodeId(2), denial(Term(4))), &[]);
}
