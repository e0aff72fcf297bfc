//! A leader dies, and its successor goes on.

use super::rig::*;
use crate::request::*;
use crate::{Error, Generation, WriteError};

#[test]
fn members_do_not_notice() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable_with(vec![joining(1), joining(2), static_joining("i", 3)]);
    let before = rig.describe("g");
    // Their sessions would be over long ago by the former leader's clock.
    rig.fail_over();
    assert_eq!(rig.describe("g"), before);
    for _ in 0..3 {
        rig.pass(SESSION_MS - 1);
        for seat in &seats {
            assert_eq!(rig.heartbeat(seat), Ok(()));
            assert_eq!(rig.commit_offset(seat.committing("t", 7)), Ok(()));
        }
    }
    assert_eq!(rig.describe("g"), before);
    rig.pass(SESSION_MS);
    assert_eq!(
        rig.heartbeat(&seats[0]),
        Err(Error::UnknownMemberId),
        "its session is as long as before"
    );
}

#[test]
fn a_follower_that_joins_unchanged_causes_no_rebalance() {
    let mut rig = Rig::new(prompt());
    let with_two = |random| JoinGroup {
        protocols: vec![protocol("range", &["t"]), protocol("sticky", &["t"])],
        ..joining(random)
    };
    let seats = rig.stable_with(vec![with_two(1), with_two(2)]);
    rig.fail_over();
    let follower = seats.iter().find(|seat| !seat.is_leader).unwrap();
    let again = JoinGroup {
        member_id: follower.id.clone(),
        ..with_two(0)
    };
    // The record holds the chosen protocol only; the other one is as good as known.
    assert_eq!(rig.join(again.clone()).unwrap().generation, follower.generation);
    let less = JoinGroup {
        protocols: vec![protocol("range", &["t"])],
        ..again
    };
    rig.ask(Request::JoinGroup(less));
    assert_eq!(rig.state(), GroupState::PreparingRebalance, "now both are known");
}

#[test]
fn a_lost_assignment_was_given_to_nobody() {
    let mut rig = Rig::new(prompt());
    let joined = rig.join(joining(1)).unwrap();
    let sync = SyncGroup {
        group: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        ..SyncGroup::default()
    };
    let ticket = rig.ask(Request::SyncGroup(sync));
    assert_eq!(rig.reply(ticket), None);
    rig.fail_write(WriteError::Unknown);
    assert_eq!(rig.synced(ticket), Err(Error::NotCoordinator));
    assert!(!rig.leader.is_leading());
    assert_eq!(rig.leader.deadline(), None);
    assert_eq!(rig.describe("g"), Err(Error::NotCoordinator));
    rig.fail_over();
    assert_eq!(rig.describe("g"), Err(Error::GroupIdNotFound));
}

#[test]
fn all_that_wait_are_refused_when_the_leadership_ends() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(2);
    let join = rig.ask(Request::JoinGroup(joining(3)));
    let commit = rig.ask(Request::OffsetCommit(committing("other", "t", 1)));
    let commit_as_well = rig.ask(Request::OffsetCommit(seats[0].committing("t", 1)));
    let delete = rig.ask(Request::DeleteTopic(DeleteTopic { topic: "t".into() }));
    let describe = rig.ask(Request::DescribeGroups(DescribeGroups::default()));
    assert!(rig.reply(describe).is_some(), "nothing is waited for");
    rig.fail_write(WriteError::NotLeader);
    assert_eq!(rig.joined(join).unwrap_err().error, Error::NotCoordinator);
    for ticket in [commit, commit_as_well] {
        let Some(Reply::OffsetCommit(topics)) = rig.reply(ticket) else {
            panic!("a reply")
        };
        assert_eq!(topics[0].topic, "t");
        assert_eq!(topics[0].partitions, [(0, Err(Error::NotCoordinator))]);
    }
    assert_eq!(rig.reply(delete), Some(Reply::DeleteTopic(Err(Error::NotCoordinator))));
    assert_eq!(rig.leader.committed("g", "t", 0), None);
}

impl Rig {
    /// The group after a failover in the middle of a rebalance that a departure has caused: the members that are left must
    /// be told to join, and the one that is gone must hold up nothing.
    fn goes_on_without(&mut self, seats: &[Seat]) {
        self.fail_over();
        let tickets: Vec<Ticket> = seats
            .iter()
            .map(|seat| {
                assert_eq!(self.heartbeat(seat), Err(Error::RebalanceInProgress));
                self.ask(Request::JoinGroup(seat.joining_again()))
            })
            .collect();
        for ticket in tickets {
            assert_eq!(
                self.joined(ticket).unwrap().generation,
                Generation(seats[0].generation.0 + 1)
            );
        }
    }
}

#[test]
fn a_rebalance_goes_on_that_a_departure_has_caused() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(3);
    rig.leave(&seats[1].id, None).unwrap();
    rig.goes_on_without(&[seats[0].clone(), seats[2].clone()]);

    let mut rig = Rig::new(prompt());
    let seats = rig.stable(3);
    rig.pass(SESSION_MS - 1);
    rig.heartbeat(&seats[0]).unwrap();
    rig.heartbeat(&seats[2]).unwrap();
    rig.pass(1);
    rig.goes_on_without(&[seats[0].clone(), seats[2].clone()]);
}

/// A member that has left comes back at most as long as its session lasts: the rebalance had a second departure.
#[test]
fn a_second_departure_holds_up_the_next_leader_for_a_session() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(3);
    rig.leave(&seats[0].id, None).unwrap();
    rig.leave(&seats[1].id, None).unwrap();
    assert!(rig.describe("g").unwrap().members.len() == 1);
    rig.fail_over();
    let ticket = rig.ask(Request::JoinGroup(seats[2].joining_again()));
    rig.pass(SESSION_MS - 1);
    assert_eq!(rig.reply(ticket), None);
    rig.pass(1);
    assert_eq!(rig.joined(ticket).unwrap().members.len(), 1);
}

/// With its former id in the record, the restarted member would be taken for the fenced one.
#[test]
fn a_static_member_that_was_replaced_in_a_rebalance_is_not_fenced() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable_with(vec![joining(1), static_joining("i", 2)]);
    rig.ask(Request::JoinGroup(seats[0].joining_again()));
    let other = rig.ask(Request::JoinGroup(joining(3)));
    let replaced = rig.ask(Request::JoinGroup(static_joining("i", 4)));
    assert_eq!(rig.reply(replaced), None, "not before its id is written");
    rig.commit();
    let joined = rig.joined(replaced).unwrap();
    assert!(rig.joined(other).is_ok());
    rig.fail_over();
    let seat = Seat {
        id: joined.member_id,
        generation: joined.generation,
        ..seats[1].clone()
    };
    assert_eq!(rig.sync(seat.syncing()), Err(Error::IllegalGeneration));
    assert_eq!(rig.join(seat.joining_again()).unwrap().generation, seats[1].generation);
    assert_eq!(rig.heartbeat(&seats[1]), Err(Error::FencedInstanceId));
}

#[test]
fn an_empty_group_keeps_its_generation() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(1);
    rig.leave(&seats[0].id, None).unwrap();
    rig.fail_over();
    assert_eq!(rig.state(), GroupState::Empty);
    assert_eq!(
        rig.join(joining(2)).unwrap().generation,
        Generation(seats[0].generation.0 + 2)
    );
}

#[test]
fn what_is_replayed_twice_counts_once() {
    use crate::{Offset, Replayed};
    let mut rig = Rig::new(prompt());
    rig.commit_offset(committing("g", "t", 1)).unwrap();
    rig.commit_offset(committing("g", "t", 2)).unwrap();
    let mut replica = rig.replayed();
    let first = rig.log[0].clone();
    let replayed = replica.replay(Offset(0), &first.key, first.value.as_deref());
    assert_eq!(replayed, Ok(Replayed::Repeated));
    assert_eq!(replica.committed("g", "t", 0).unwrap().offset, Offset(2));
    // Records of another protocol are counted, and leave no trace.
    assert_eq!(replica.replay(Offset(5), &[0, 3, 0, 0], None), Ok(Replayed::Skipped(3)));
    assert_eq!(replica.skipped(), 1);
    assert_eq!(replica.applied(), Offset(6));
    // What can't be read is not applied.
    assert!(replica.replay(Offset(6), &[0, 2, 0, 9], None).is_err());
    assert_eq!(replica.applied(), Offset(6));
}
