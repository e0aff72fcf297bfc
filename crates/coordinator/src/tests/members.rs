//! Joining, leaving, and what is refused.

use super::rig::*;
use crate::request::*;
use crate::{Config, Error, Generation, limits};
use bytes::Bytes;

#[test]
fn a_request_that_breaks_a_rule_gets_its_error() {
    let mut rig = Rig::new(prompt());
    let mut refused = |change: &dyn Fn(&mut JoinGroup)| {
        let mut join = joining(1);
        change(&mut join);
        rig.join(join).unwrap_err().error
    };
    assert_eq!(refused(&|join| join.group.clear()), Error::InvalidGroupId);
    assert_eq!(refused(&|join| join.group = "g".repeat(40_000)), Error::InvalidGroupId);
    assert_eq!(
        refused(&|join| join.session_timeout_ms = 5_999),
        Error::InvalidSessionTimeout
    );
    assert_eq!(
        refused(&|join| join.session_timeout_ms = 1_800_001),
        Error::InvalidSessionTimeout
    );
    assert_eq!(
        refused(&|join| join.protocols.clear()),
        Error::InconsistentGroupProtocol
    );
    assert_eq!(
        refused(&|join| join.protocol_type.clear()),
        Error::InconsistentGroupProtocol
    );
    assert_eq!(
        refused(&|join| join.member_id = "unknown".into()),
        Error::UnknownMemberId
    );
    assert_eq!(
        refused(&|join| join.client_id = "c".repeat(2_000)),
        Error::InvalidRequest
    );
    assert_eq!(
        refused(&|join| join.instance_id = Some(String::new())),
        Error::InvalidRequest
    );
    let large = Bytes::from(vec![0; limits::MEMBER_METADATA_BYTES]);
    assert_eq!(
        refused(&|join| join.protocols[0].metadata = large.clone()),
        Error::InvalidRequest
    );
    assert_eq!(rig.leader.group_count(), 0);
    assert_eq!(rig.describe("g"), Err(Error::GroupIdNotFound), "nothing is left of it");
}

#[test]
fn members_have_a_protocol_in_common() {
    let mut rig = Rig::new(prompt());
    rig.stable(1);
    let other = JoinGroup {
        protocols: vec![protocol("sticky", &["t"])],
        ..joining(2)
    };
    assert_eq!(rig.join(other).unwrap_err().error, Error::InconsistentGroupProtocol);
    let other = JoinGroup {
        protocol_type: "connect".into(),
        ..joining(2)
    };
    assert_eq!(rig.join(other).unwrap_err().error, Error::InconsistentGroupProtocol);
    assert_eq!(rig.state(), GroupState::Stable);
}

#[test]
fn an_empty_group_takes_another_kind_of_members() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(1);
    rig.leave(&seats[0].id, None).unwrap();
    let other = JoinGroup {
        protocol_type: "connect".into(),
        ..joining(2)
    };
    assert_eq!(rig.join(other).unwrap().protocol_type, "connect");
}

#[test]
fn a_full_group_takes_no_more_members() {
    let mut rig = Rig::new(Config {
        group_max_size: 2,
        ..prompt()
    });
    let seats = rig.stable_with(vec![joining(1), static_joining("i", 2)]);
    assert_eq!(rig.join(joining(3)).unwrap_err().error, Error::GroupMaxSizeReached);
    assert_eq!(rig.heartbeat(&seats[0]), Ok(()), "nobody noticed");
    // A static member that is started again is no new one.
    assert!(rig.join(static_joining("i", 4)).is_ok());
    rig.leave(&seats[0].id, None).unwrap();
    let ticket = rig.ask(Request::JoinGroup(joining(5)));
    rig.pass(REBALANCE_MS);
    assert!(rig.joined(ticket).is_ok());
}

/// However large the metadata of single members is, a group's record must fit into one write.
#[test]
fn a_group_has_a_size() {
    let mut rig = Rig::new(prompt());
    let mut accepted = 0;
    for number in 1..100 {
        let mut join = joining(number);
        join.protocols[0].metadata = vec![0; 200 << 10].into();
        let ticket = rig.ask(Request::JoinGroup(join));
        match rig.reply(ticket) {
            Some(Reply::JoinGroup(Err(refused))) => {
                assert_eq!(refused.error, Error::GroupMaxSizeReached);
                break;
            }
            _ => accepted += 1,
        }
    }
    assert_eq!(accepted, limits::GROUP_MEMBERS_BYTES / (200 << 10));
}

#[test]
fn ids_that_are_given_away_are_limited() {
    let mut rig = Rig::new(prompt());
    for number in 0..=limits::PROMISED_IDS_PER_GROUP {
        let join = JoinGroup {
            member_id_required: true,
            ..joining(number as u128)
        };
        let expected = if number < limits::PROMISED_IDS_PER_GROUP {
            Error::MemberIdRequired
        } else {
            Error::GroupMaxSizeReached
        };
        assert_eq!(rig.join(join).unwrap_err().error, expected);
    }
    rig.pass(SESSION_MS);
    assert_eq!(rig.describe("g"), Err(Error::GroupIdNotFound));
}

#[test]
fn a_session_ends_unless_the_member_is_heard_of() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(2);
    for _ in 0..5 {
        rig.pass(SESSION_MS - 1);
        rig.heartbeat(&seats[0]).unwrap();
        assert_eq!(
            rig.commit_offset(seats[1].committing("t", 1)),
            Ok(()),
            "a commit is a sign of life"
        );
    }
    rig.pass(SESSION_MS - 1);
    rig.heartbeat(&seats[0]).unwrap();
    assert_eq!(rig.state(), GroupState::Stable);
    rig.pass(1);
    assert_eq!(rig.heartbeat(&seats[0]), Err(Error::RebalanceInProgress));
    assert_eq!(rig.heartbeat(&seats[1]), Err(Error::UnknownMemberId));
    let joined = rig.join(seats[0].joining_again()).unwrap();
    assert_eq!(joined.generation, Generation(seats[0].generation.0 + 1));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn several_members_leave_at_once() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable_with(vec![joining(1), static_joining("i", 2), static_joining("j", 3)]);
    let member = |member_id: &str, instance_id: Option<&str>| LeavingMember {
        member_id: member_id.into(),
        instance_id: instance_id.map(str::to_owned),
    };
    let leave = LeaveGroup {
        group: "g".into(),
        members: vec![
            member(&seats[0].id, None),
            member("", Some("i")),
            member("", Some("nobody")),
            member("nobody", None),
            member("nobody", Some("j")),
        ],
    };
    let reply = rig.call(Request::LeaveGroup(leave));
    let Reply::LeaveGroup(Ok(outcomes)) = reply else {
        panic!("{reply:?}")
    };
    let results: Vec<_> = outcomes.iter().map(|outcome| outcome.result).collect();
    let unknown = Err(Error::UnknownMemberId);
    assert_eq!(
        results,
        [Ok(()), Ok(()), unknown, unknown, Err(Error::FencedInstanceId)]
    );
    assert_eq!(rig.describe("g").unwrap().members.len(), 1);
    let nowhere = LeaveGroup {
        group: "none".into(),
        members: vec![member("m", None)],
    };
    let Reply::LeaveGroup(Ok(outcomes)) = rig.call(Request::LeaveGroup(nowhere)) else {
        panic!("a result for each")
    };
    assert_eq!(outcomes[0].result, unknown);
}

#[test]
fn a_waiting_member_that_leaves_waits_no_longer() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(2);
    let ticket = rig.ask(Request::JoinGroup(seats[0].joining_again()));
    rig.leave(&seats[0].id, None).unwrap();
    assert_eq!(rig.joined(ticket).unwrap_err().error, Error::UnknownMemberId);
}

#[test]
fn a_leader_that_is_static_goes_on_with_the_assignment_in_force() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable_with(vec![static_joining("a", 1), static_joining("b", 2)]);
    let leader = seats.iter().find(|seat| seat.is_leader).unwrap();
    let instance_id = leader.instance_id.clone().unwrap();
    let joined = rig.join(static_joining(&instance_id, 8)).unwrap();
    assert!(joined.skip_assignment);
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 2);
    // An older client must take itself for a follower.
    let older = JoinGroup {
        knows_skip_assignment: false,
        ..static_joining(&instance_id, 9)
    };
    let again = rig.join(older).unwrap();
    assert!(!again.skip_assignment);
    assert_eq!(again.leader, joined.member_id);
    assert!(again.members.is_empty());
    assert_eq!(rig.state(), GroupState::Stable);
}

/// A consumer's metadata is another one after each restart, since it names what the consumer owns.
#[test]
fn a_static_member_rebalances_if_it_wants_other_topics() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable_with(vec![static_joining("a", 1), static_joining("b", 2)]);
    let mut same = static_joining("a", 3);
    let mut metadata = same.protocols[0].metadata.to_vec();
    metadata.extend_from_slice(&[1, 2, 3]);
    same.protocols[0].metadata = metadata.into();
    assert_eq!(rig.join(same).unwrap().generation, seats[0].generation);
    let other = JoinGroup {
        protocols: vec![protocol("range", &["t", "u"])],
        ..static_joining("a", 4)
    };
    let ticket = rig.ask(Request::JoinGroup(other));
    rig.commit();
    assert_eq!(rig.reply(ticket), None);
    assert_eq!(rig.state(), GroupState::PreparingRebalance);
}
