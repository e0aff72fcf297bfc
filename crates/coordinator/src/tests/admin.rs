//! What administrators ask.

use super::rig::*;
use crate::request::*;
use crate::{Config, Error};

impl Rig {
    fn list(&mut self, states: &[&str], types: &[&str]) -> Vec<(String, String, GroupState)> {
        let list = ListGroups {
            states: states.iter().map(|name| (*name).to_owned()).collect(),
            types: types.iter().map(|name| (*name).to_owned()).collect(),
        };
        let Reply::ListGroups(Ok(groups)) = self.call(Request::ListGroups(list)) else {
            panic!("a list")
        };
        let groups = groups.into_iter();
        groups
            .map(|group| (group.group, group.protocol_type, group.state))
            .collect()
    }

    fn delete(&mut self, groups: &[&str]) -> Vec<Result<(), Error>> {
        let delete = DeleteGroups {
            groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        };
        let Reply::DeleteGroups(groups) = self.call(Request::DeleteGroups(delete)) else {
            panic!("a result for each")
        };
        groups.into_iter().map(|(_, result)| result).collect()
    }

    fn delete_offsets(&mut self, group: &str, topics: &[&str]) -> Result<Vec<Result<(), Error>>, Error> {
        let delete = OffsetDelete {
            group: group.into(),
            topics: topics.iter().map(|topic| ((*topic).to_owned(), vec![0])).collect(),
        };
        let Reply::OffsetDelete(result) = self.call(Request::OffsetDelete(delete)) else {
            panic!("a result")
        };
        result.map(|topics| topics.iter().map(|topic| topic.partitions[0].1).collect())
    }
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut rig = Rig::new(prompt());
    rig.stable(1);
    rig.commit_offset(committing("simple", "t", 1)).unwrap();
    let stable = ("g".to_owned(), "consumer".to_owned(), GroupState::Stable);
    let simple = ("simple".to_owned(), String::new(), GroupState::Empty);
    assert_eq!(rig.list(&[], &[]), [stable.clone(), simple.clone()]);
    assert_eq!(rig.list(&["stable"], &["Classic"]), [stable]);
    assert_eq!(rig.list(&["Empty", "Dead"], &[]), [simple]);
    assert!(rig.list(&[], &["consumer"]).is_empty(), "groups of the next protocol");
    assert!(rig.list(&["Unheard"], &[]).is_empty());
}

#[test]
fn a_group_is_deleted_when_its_members_are_gone() {
    let mut rig = Rig::new(prompt());
    let seats = rig.stable(1);
    rig.commit_offset(seats[0].committing("t", 1)).unwrap();
    rig.commit_offset(committing("simple", "t", 1)).unwrap();
    let gone = Err(Error::GroupIdNotFound);
    assert_eq!(
        rig.delete(&["g", "none", "", "simple"]),
        [Err(Error::NonEmptyGroup), gone, Err(Error::InvalidGroupId), Ok(())]
    );
    assert_eq!(rig.describe("simple"), Err(Error::GroupIdNotFound));
    rig.leave(&seats[0].id, None).unwrap();
    assert_eq!(rig.delete(&["g", "g"]), [Ok(()), gone]);
    assert_eq!(rig.offset("g", "t"), None);
    assert_eq!(rig.leader.group_count(), 0);
    rig.fail_over();
    assert!(rig.list(&[], &[]).is_empty());
}

/// A commit that was under way when its group was deleted doesn't come back.
#[test]
fn a_deleted_group_takes_what_is_under_way_with_it() {
    let mut rig = Rig::new(prompt());
    let commit = rig.ask(Request::OffsetCommit(committing("g", "t", 1)));
    let delete = DeleteGroups {
        groups: vec!["g".into()],
    };
    let delete = rig.ask(Request::DeleteGroups(delete));
    assert_eq!(rig.reply(delete), None);
    // Until it is deleted, it takes nothing else.
    assert_eq!(rig.ask_for_error(), Error::CoordinatorNotAvailable);
    rig.commit();
    assert!(rig.reply(commit).is_some());
    assert_eq!(rig.reply(delete), Some(Reply::DeleteGroups(vec![("g".into(), Ok(()))])));
    assert_eq!(rig.offset("g", "t"), None);
    assert_eq!(rig.leader.group_count(), 0);
    assert!(rig.join(joining(1)).is_ok(), "there may be another one of that name");
}

impl Rig {
    fn ask_for_error(&mut self) -> Error {
        let ticket = self.ask(Request::JoinGroup(joining(1)));
        self.joined(ticket).unwrap_err().error
    }
}

#[test]
fn ids_that_were_given_away_do_not_keep_a_group_from_being_deleted() {
    let mut rig = Rig::new(Config::default());
    let join = JoinGroup {
        member_id_required: true,
        ..joining(1)
    };
    rig.join(join).unwrap_err();
    assert_eq!(rig.delete(&["g"]), [Ok(())]);
    assert_eq!(rig.describe("g"), Err(Error::GroupIdNotFound));
}

#[test]
fn offsets_of_topics_that_nobody_subscribes_to_are_deleted() {
    let mut rig = Rig::new(prompt());
    assert_eq!(rig.delete_offsets("g", &["t"]), Err(Error::GroupIdNotFound));
    let seats = rig.stable(1);
    rig.commit_offset(seats[0].committing("t", 1)).unwrap();
    rig.commit_offset(seats[0].committing("former", 1)).unwrap();
    let results = rig.delete_offsets("g", &["t", "former", "never"]).unwrap();
    assert_eq!(results, [Err(Error::GroupSubscribedToTopic), Ok(()), Ok(())]);
    assert_eq!(rig.offset("g", "t"), Some(1));
    assert_eq!(rig.offset("g", "former"), None);
    rig.leave(&seats[0].id, None).unwrap();
    assert_eq!(rig.delete_offsets("g", &["t"]), Ok(vec![Ok(())]));
    assert_eq!(rig.offset("g", "t"), None);
}

#[test]
fn offsets_of_other_kinds_of_groups_are_deleted_when_they_are_empty() {
    let mut rig = Rig::new(prompt());
    let connect = JoinGroup {
        protocol_type: "connect".into(),
        ..joining(1)
    };
    let joined = rig.join(connect).unwrap();
    assert_eq!(rig.delete_offsets("g", &["t"]), Err(Error::NonEmptyGroup));
    rig.leave(&joined.member_id, None).unwrap();
    assert_eq!(
        rig.delete_offsets("g", &["t"]),
        Err(Error::GroupIdNotFound),
        "it never was stored"
    );
}
