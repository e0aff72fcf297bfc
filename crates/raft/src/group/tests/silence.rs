//! Leaders whose followers are silent, or whose messages get lost: situations in which this core once did worse than others.

use super::replica::{Replica, tuning};
use crate::*;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// Tells it one thing at a time, lets its disk answer at once, and returns all that it says.
fn tell(replica: &mut Replica, now: Instant, input: Input) -> Output {
    let mut output = replica.step(now, input);
    while let Some(token) = replica.sync_one() {
        let more = replica.step(now, Input::Persisted(token));
        output.messages.extend(more.messages);
        output.events.extend(more.events);
        output.reads.extend(more.reads);
        output.committed = more.committed.or(output.committed);
    }
    output
}

fn says(replica: &mut Replica, now: Instant, from: u64, body: Body) -> Output {
    let term = match &body {
        Body::PreVoteReply { .. } => replica.up().term().next(),
        _ => replica.up().term(),
    };
    tell(replica, now, Input::Message(NodeId(from), Message { term, body }))
}

fn accepted(index: u64, commit: u64) -> Body {
    Body::AppendAccepted {
        match_index: LogIndex(index),
        commit: LogIndex(commit),
        life: Life::default(),
    }
}

/// Member 1 of so many, elected by all; its first entry is committed and everybody knows.
fn leader(of: u64, heartbeats: Heartbeats) -> Replica {
    let configuration = Configuration::of_voters((1..=of).map(NodeId));
    let config = Config {
        id: NodeId(1),
        configuration,
        tuning: tuning(heartbeats),
    };
    let mut replica = Replica::new(config, Instant::ZERO);
    let now = Instant::ZERO;
    tell(&mut replica, now, Input::Campaign);
    for other in 2..=of {
        says(
            &mut replica,
            now,
            other,
            Body::PreVoteReply {
                granted: true,
                longer_log: false,
            },
        );
    }
    for other in 2..=of {
        says(&mut replica, now, other, Body::VoteReply { granted: true });
    }
    for other in 2..=of {
        says(&mut replica, now, other, accepted(1, 0));
    }
    for other in 2..=of {
        says(&mut replica, now, other, accepted(1, 1));
    }
    assert_eq!(
        (replica.up().role(), replica.up().commit()),
        (Role::Leader, LogIndex(1))
    );
    replica
}

const BEAT: Duration = Duration::from_millis(30);

/// The leader removes itself. 2 and 3 fall silent after they have learnt that this is committed; 4, 5 and 6 are a
/// majority, and answer. They are asked as well: 2 and 3 in turns would be asked for ever, with all proposals refused.
#[test]
fn a_leader_that_removes_itself_finds_the_successor_that_lives() {
    let mut replica = leader(6, Heartbeats::Own(BEAT));
    let mut now = Instant::ZERO;
    let change = Configuration::of_voters((2..=6).map(NodeId));
    tell(&mut replica, now, Input::Change(change));
    for (index, commit) in [(2, 1), (3, 2), (3, 3)] {
        for other in 2..=6 {
            says(&mut replica, now, other, accepted(index, commit));
        }
    }
    let mut asked = Vec::new();
    let mut admitted = 0;
    while now < Instant::ZERO + Duration::from_secs(5) {
        now = replica.up().deadline().expect("it leads");
        let output = tell(&mut replica, now, Input::Tick);
        assert_eq!(replica.up().role(), Role::Leader, "a majority answers");
        for (to, message) in output.messages {
            match message.body {
                Body::TimeoutNow => asked.push(to.0),
                Body::Heartbeat { round, .. } if to.0 >= 4 => {
                    let commit = replica.up().commit();
                    says(&mut replica, now, to.0, Body::HeartbeatReply { commit, round });
                }
                _ => {}
            }
        }
        let proposed = tell(&mut replica, now, Input::Propose(vec!["x".into()])).proposed;
        admitted += usize::from(matches!(proposed, Some(Ok(_))));
        if admitted > 0 {
            break;
        }
    }
    assert!(
        admitted > 0 || asked.iter().any(|node| *node >= 4),
        "asked, within 5 s: {asked:?}"
    );
}

/// A follower takes a snapshot over; its acknowledgement is lost. The refusal of the next append shows that it is there
/// now ("try 1/2"): it goes on by appends, without another snapshot.
#[test]
fn a_refusal_may_show_that_a_snapshot_has_arrived() {
    let mut replica = leader(3, Heartbeats::External);
    let mut now = Instant::ZERO;
    for payload in ["a", "b"] {
        tell(&mut replica, now, Input::Propose(vec![payload.into()]));
    }
    says(&mut replica, now, 2, accepted(3, 1));
    assert_eq!(replica.up().commit(), LogIndex(3));
    replica.log.compact(LogIndex(2));
    let needs = |output: &Output| output.events.contains(&Event::NeedsSnapshot(NodeId(3)));
    assert!(needs(&tell(&mut replica, now, Input::Restored(NodeId(3)))));
    let configuration = replica.up().configuration().clone();
    let (index, term, data) = (LogIndex(2), Term(1), "everything".into());
    let snapshot = Box::new(Snapshot {
        index,
        term,
        configuration,
        data,
    });
    let sent = tell(
        &mut replica,
        now,
        Input::Snapshot {
            to: NodeId(3),
            snapshot,
        },
    );
    assert!(
        sent.messages
            .iter()
            .any(|(_, message)| matches!(message.body, Body::Snapshot { .. }))
    );
    // It arrives; the answer does not. Later the leader looks again.
    now = replica.up().deadline().expect("it looks again");
    let looks = tell(&mut replica, now, Input::Tick);
    let probe = looks.messages.iter().find_map(|(to, message)| match message.body {
        Body::Append { prev_index, .. } if *to == NodeId(3) => Some(prev_index),
        _ => None,
    });
    // What the follower says to that, with a log that begins and ends at 2.
    let answer = match probe.expect("an append") {
        LogIndex(2) => accepted(3, 3),
        prev_index => Body::AppendRejected {
            prev_index,
            hint_index: LogIndex(2),
            hint_term: Term(1),
        },
    };
    let output = says(&mut replica, now, 3, answer);
    let goes_on = |(to, message): &(NodeId, Message)| {
        *to == NodeId(3)
            && matches!(
                message.body,
                Body::Append {
                    prev_index: LogIndex(2 | 3),
                    ..
                }
            )
    };
    assert!(
        output.messages.iter().any(goes_on),
        "silence, and another snapshot is wanted: {}",
        needs(&looks)
    );
}

/// A group that keeps its own time: 3 is gone and needs a snapshot. It says nothing for 20 seconds, which the leader knows
/// (check-quorum counts it so): there is no point in making snapshots meanwhile.
#[test]
fn no_snapshot_is_made_for_one_that_is_silent() {
    let mut replica = leader(3, Heartbeats::Own(BEAT));
    let mut now = Instant::ZERO;
    tell(&mut replica, now, Input::Propose(vec!["a".into()]));
    says(&mut replica, now, 2, accepted(2, 1));
    says(&mut replica, now, 2, accepted(2, 2));
    replica.log.compact(LogIndex(2));
    let mut asked = 0;
    while now < Instant::ZERO + Duration::from_secs(20) {
        now = replica.up().deadline().expect("it leads");
        let output = tell(&mut replica, now, Input::Tick);
        assert_eq!(replica.up().role(), Role::Leader);
        asked += output
            .events
            .iter()
            .filter(|event| **event == Event::NeedsSnapshot(NodeId(3)))
            .count();
        for (to, message) in output.messages {
            if let (NodeId(2), Body::Heartbeat { round, .. }) = (to, message.body) {
                says(
                    &mut replica,
                    now,
                    2,
                    Body::HeartbeatReply {
                        commit: LogIndex(2),
                        round,
                    },
                );
            }
        }
    }
    assert!(asked <= 2, "{asked} snapshots were asked for within 20 s");
}

/// The leader's own name withdraws a transfer: proposals are admitted again.
#[test]
fn a_transfer_can_be_taken_back() {
    let mut replica = leader(3, Heartbeats::External);
    let now = Instant::ZERO;
    tell(&mut replica, now, Input::Transfer(Some(NodeId(3))));
    let refused = tell(&mut replica, now, Input::Propose(vec!["a".into()])).proposed;
    assert_eq!(refused, Some(Err(ProposeError::Transferring)));
    let output = tell(&mut replica, now, Input::Transfer(Some(NodeId(1))));
    let proposed = tell(&mut replica, now, Input::Propose(vec!["a".into()])).proposed;
    assert!(
        matches!(proposed, Some(Ok(_))),
        "{:?}, and then {proposed:?}",
        output.events
    );
}
