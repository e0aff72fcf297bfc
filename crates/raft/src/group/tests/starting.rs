//! How a member starts, with what its caller has recovered.

use super::replica::entries;
use crate::*;
use alloc::vec::Vec;
use core::time::Duration;

fn events(group: &mut Group, now: Instant, input: Input, log: &mut MemoryLog) -> (Vec<Event>, Option<Token>) {
    let mut output = Output::default();
    group.step(now, input, log, &mut output);
    let token = log.carry_out(&mut output).map(|write| write.token);
    (output.events, token)
}

/// A state machine that remembers what it has applied is not given it again: the leader serves without being told so.
#[test]
fn what_is_applied_already_is_not_waited_for() {
    for (applied, serves) in [(3, true), (2, false)] {
        let mut log = MemoryLog::recovered(None, entries(1, &[1, 1, 1]));
        let recovered = Recovered {
            applied: LogIndex(applied),
            ..Recovered::default()
        };
        let config = Config::standalone(NodeId(1), [NodeId(1)]);
        let mut group = Group::new(config, recovered, Instant::ZERO, &log);
        assert_eq!(group.commit(), LogIndex(applied), "what is applied is committed");
        let (mut all, mut token) = events(&mut group, Instant::ZERO, Input::Tick, &mut log);
        while let Some(durable) = token {
            let (more, next) = events(&mut group, Instant::ZERO, Input::Persisted(durable), &mut log);
            all.extend(more);
            token = next;
        }
        assert_eq!(group.role(), Role::Leader);
        let is_serving = |event: &Event| matches!(event, Event::Serving { .. });
        assert_eq!(all.iter().any(is_serving), serves, "applied to {applied}: {all:?}");
    }
}

/// With nothing set and no word about liveness, a follower of a leader that falls silent stands.
#[test]
fn the_defaults_fail_over() {
    let config = Config {
        id: NodeId(2),
        configuration: Configuration::of_voters([1, 2, 3].map(NodeId)),
        tuning: Tuning::default(),
    };
    let mut log = MemoryLog::new();
    let mut group = Group::new(config, Recovered::default(), Instant::ZERO, &log);
    let (term, commit) = (Term(1), LogIndex::ZERO);
    let body = Body::Heartbeat { commit, round: 0 };
    let heard = Input::Message(NodeId(1), Message { term, body });
    events(&mut group, Instant::ZERO, heard, &mut log);
    assert_eq!(group.leader(), Some(NodeId(1)));
    let due = group.deadline().expect("it doesn't wait for ever");
    assert!(due <= Instant::ZERO + Duration::from_millis(250));
    events(&mut group, due, Input::Tick, &mut log);
    assert_eq!(group.role(), Role::PreCandidate);
}
