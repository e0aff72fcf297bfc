//! Generations, one after the other.

use super::rig::*;
use crate::request::*;
use crate::{Error, Generation};
use bytes::Bytes;

#[test]
fn a_generation_from_the_first_request_to_the_assignments() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(3);
    for seat in &seats {
        assert_eq!(seat.assignment, seat.id.as_bytes());
        assert_eq!(seat.generation, seats[0].generation);
    }
    assert_eq!(seats.iter().filter(|seat| seat.is_leader).count(), 1);
    let description = rig.describe("g").unwrap();
    assert_eq!(description.state, GroupState::Stable);
    assert_eq!(description.protocol_type, "consumer");
    assert_eq!(description.protocol, "range");
    assert_eq!(description.members.len(), 3);
    let member = &description.members[0];
    assert_eq!(member.client_id, "client");
    assert_eq!(member.client_host, "/127.0.0.1");
    assert_eq!(member.metadata, protocol("range", &["t"]).metadata);
    assert_eq!(member.assignment, member.member_id.as_bytes());
}

/// With a cooperative assignor, members give up partitions in one generation and get others in the next one.
#[test]
fn several_generations_in_a_row() {
    let mut rig = Rig::new(prompt());
    let mut seats = rig.stable(3);
    for round in 0_u8..5 {
        let generation = seats[0].generation;
        let leader = seats.iter().position(|seat| seat.is_leader).unwrap();
        let mut joins: Vec<JoinGroup> = seats.iter().map(Seat::joining_again).collect();
        for join in &mut joins {
            // What the member owns is in its metadata.
            let mut metadata = join.protocols[0].metadata.to_vec();
            metadata.push(round);
            join.protocols[0].metadata = metadata.into();
        }
        joins.swap(0, leader);
        let tickets: Vec<Ticket> = joins
            .iter()
            .map(|join| rig.ask(Request::JoinGroup(join.clone())))
            .collect();
        let joined: Vec<Joined> = tickets.into_iter().map(|ticket| rig.joined(ticket).unwrap()).collect();
        seats = rig.sync_all(&joins, &joined);
        assert_eq!(seats[0].generation, Generation(generation.0 + 1));
    }
}

#[test]
fn a_follower_that_joins_unchanged_gets_its_generation_back() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(2);
    let follower = seats.iter().find(|seat| !seat.is_leader).unwrap();
    let joined = rig.join(follower.joining_again()).unwrap();
    assert_eq!(joined.generation, follower.generation);
    assert!(joined.members.is_empty());
    assert_eq!(rig.sync(follower.syncing()).unwrap().assignment, follower.assignment);
    // With another subscription there is a rebalance, and so if the leader joins.
    let mut changed = follower.joining_again();
    changed.protocols = vec![protocol("range", &["u"])];
    rig.ask(Request::JoinGroup(changed));
    assert_eq!(rig.state(), GroupState::PreparingRebalance);
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(2);
    let leader = seats.iter().find(|seat| seat.is_leader).unwrap();
    rig.ask(Request::JoinGroup(leader.joining_again()));
    assert_eq!(rig.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_reply_that_was_lost_is_given_again() {
    let mut rig = Rig::new(prompt());
    let joined = rig.join(joining(1)).unwrap();
    let again = JoinGroup {
        member_id: joined.member_id.clone(),
        ..joining(1)
    };
    assert_eq!(rig.join(again), Ok(joined));
}

#[test]
fn members_that_do_not_join_in_time_are_removed() {
    let mut rig = Rig::new(prompt());
    let mut joins = vec![joining(1), joining(2), joining(3)];
    // Sessions that last longer than the rebalance.
    joins.iter_mut().for_each(|join| join.session_timeout_ms = 600_000);
    let seats = rig.stable_with(joins.clone());
    let ticket = rig.ask(Request::JoinGroup(JoinGroup {
        member_id: seats[2].id.clone(),
        protocols: vec![protocol("range", &["other"])],
        ..joins[2].clone()
    }));
    rig.pass(REBALANCE_MS - 1);
    assert_eq!(rig.reply(ticket), None);
    rig.pass(1);
    let joined = rig.joined(ticket).unwrap();
    assert_eq!(joined.leader, seats[2].id, "the leader didn't come");
    assert_eq!(joined.members.len(), 1);
    assert_eq!(rig.heartbeat(&seats[0]), Err(Error::UnknownMemberId));
}

#[test]
fn a_static_member_keeps_its_place_without_joining() {
    let mut rig = Rig::new(prompt());
    let long = |join: JoinGroup| JoinGroup {
        session_timeout_ms: 600_000,
        ..join
    };
    let seats = rig.stable_with(vec![long(joining(1)), long(static_joining("i", 2))]);
    let ticket = rig.ask(Request::JoinGroup(long(joining(3))));
    let again = rig.ask(Request::JoinGroup(long(seats[0].joining_again())));
    rig.pass(REBALANCE_MS);
    rig.commit();
    let joined = [rig.joined(ticket).unwrap(), rig.joined(again).unwrap()];
    let leader = joined.iter().find(|joined| !joined.members.is_empty()).unwrap();
    assert_eq!(leader.members.len(), 3);
    let away = leader
        .members
        .iter()
        .find(|member| member.instance_id.is_some())
        .unwrap();
    assert_eq!(away.member_id, seats[1].id);
}

#[test]
fn members_that_do_not_ask_for_their_assignment_are_removed() {
    let mut rig = Rig::new(prompt());
    let mut joins = vec![joining(1), joining(2)];
    joins.iter_mut().for_each(|join| join.session_timeout_ms = 600_000);
    let seats = rig.stable_with(joins.clone());
    let leader = seats.iter().position(|seat| seat.is_leader).unwrap();
    let rejoin = |place: usize| JoinGroup {
        member_id: seats[place].id.clone(),
        ..joins[place].clone()
    };
    let tickets = [leader, 1 - leader].map(|place| rig.ask(Request::JoinGroup(rejoin(place))));
    let joined = tickets.map(|ticket| rig.joined(ticket).unwrap());
    let mut sync = Seat {
        generation: joined[0].generation,
        ..seats[leader].clone()
    }
    .syncing();
    sync.assignments = vec![(sync.member_id.clone(), Bytes::from_static(b"all"))];
    assert_eq!(rig.sync(sync).unwrap().assignment, "all");
    assert_eq!(rig.state(), GroupState::Stable);
    rig.pass(REBALANCE_MS);
    assert_eq!(rig.state(), GroupState::PreparingRebalance);
    assert_eq!(rig.describe("g").unwrap().members.len(), 1);
}

#[test]
fn sync_group_refuses_what_does_not_fit() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(2);
    let mut refused = |change: &dyn Fn(&mut SyncGroup)| {
        let mut sync = seats[0].syncing();
        change(&mut sync);
        rig.sync(sync).unwrap_err()
    };
    assert_eq!(refused(&|sync| sync.group = "none".into()), Error::UnknownMemberId);
    assert_eq!(refused(&|sync| sync.group.clear()), Error::InvalidGroupId);
    assert_eq!(refused(&|sync| sync.member_id.clear()), Error::UnknownMemberId);
    assert_eq!(refused(&|sync| sync.generation.0 += 1), Error::IllegalGeneration);
    assert_eq!(
        refused(&|sync| sync.protocol_type = Some("connect".into())),
        Error::InconsistentGroupProtocol
    );
    assert_eq!(
        refused(&|sync| sync.protocol_name = Some("sticky".into())),
        Error::InconsistentGroupProtocol
    );
    rig.ask(Request::JoinGroup(joining(3)));
    assert_eq!(rig.sync(seats[0].syncing()), Err(Error::RebalanceInProgress));
}

/// A rebalance that begins while members wait for their assignments sends them back to join.
#[test]
fn a_new_member_interrupts_a_generation_that_waits_for_its_assignments() {
    let mut rig = Rig::new(prompt());
    let joined = rig.join(joining(1)).unwrap();
    let seat = Seat {
        id: joined.member_id.clone(),
        generation: joined.generation,
        instance_id: None,
        assignment: Bytes::new(),
        is_leader: true,
    };
    // The leader's assignments are on their way to the log when another member comes.
    let sync = rig.ask(Request::SyncGroup(seat.syncing()));
    assert_eq!(
        rig.commit_offset_without_writing(&seat),
        Some(Err(Error::RebalanceInProgress))
    );
    rig.ask(Request::JoinGroup(joining(2)));
    assert_eq!(rig.synced(sync), Err(Error::RebalanceInProgress));
    rig.commit();
    assert_eq!(
        rig.state(),
        GroupState::PreparingRebalance,
        "the write's outcome comes too late"
    );
    let again = rig.join(seat.joining_again()).unwrap();
    assert_eq!(again.generation, Generation(2));
    assert_eq!(again.members.len(), 2);
}

#[test]
fn the_last_generation_is_followed_by_the_first() {
    use crate::record::{GroupValue, group_record};
    let mut rig = Rig::new(prompt());
    let value = GroupValue {
        protocol_type: "consumer".into(),
        generation: Generation(i32::MAX),
        ..GroupValue::default()
    };
    rig.log.push(group_record("g", &value));
    rig.follow_log();
    rig.fail_over();
    assert_eq!(rig.join(joining(1)).unwrap().generation, Generation(1));
}

impl Rig {
    /// A commit's reply before anything is written.
    fn commit_offset_without_writing(&mut self, seat: &Seat) -> Option<Result<(), Error>> {
        let ticket = self.ask(Request::OffsetCommit(seat.committing("t", 1)));
        match self.reply(ticket)? {
            Reply::OffsetCommit(topics) => Some(topics[0].partitions[0].1),
            other => panic!("{other:?}"),
        }
    }
}
