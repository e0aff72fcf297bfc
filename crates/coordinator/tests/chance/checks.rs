//! What must hold, judged by the replies only.

use std::collections::{BTreeMap, BTreeSet};
use trimaran_coordinator::Generation;

/// What clients of a group have been told.
#[derive(Default)]
pub(super) struct Checks {
    /// The offset of each partition: what was answered, and what was shown.
    offsets: BTreeMap<i32, Known>,
    /// The latest generation of which a commit was accepted.
    latest: Option<Generation>,
    /// The assignments that members were given, by generation.
    assignments: BTreeMap<Generation, BTreeMap<String, BTreeSet<i32>>>,
    /// The member that joined last with an instance id.
    owners: BTreeMap<String, String>,
}

#[derive(Default)]
struct Known {
    least: i64,
    /// Whether the group has been without members since: the offset may have expired.
    may_be_gone: bool,
}

impl Checks {
    /// A commit was answered. Offsets in this world only rise, so that the largest is the latest.
    pub(super) fn committed(&mut self, generation: Generation, partition: i32, offset: i64) -> Result<(), String> {
        if self.latest.is_some_and(|latest| latest > generation) {
            return Err(format!(
                "a commit of {generation:?} was accepted after one of {:?}",
                self.latest
            ));
        }
        self.latest = Some(generation);
        let known = self.offsets.entry(partition).or_default();
        if offset > known.least {
            *known = Known {
                least: offset,
                may_be_gone: false,
            };
        }
        Ok(())
    }

    /// An offset was shown.
    pub(super) fn fetched(&mut self, partition: i32, offset: Option<i64>) -> Result<(), String> {
        let known = self.offsets.entry(partition).or_default();
        match offset {
            Some(offset) if offset < known.least => Err(format!(
                "partition {partition} went back from {} to {offset}",
                known.least
            )),
            Some(offset) => {
                known.least = offset;
                Ok(())
            }
            None if known.least > 0 && !known.may_be_gone => {
                Err(format!("offset {} of partition {partition} is gone", known.least))
            }
            None => Ok(()),
        }
    }

    /// The group is without members.
    pub(super) fn is_empty(&mut self) {
        self.offsets.values_mut().for_each(|known| known.may_be_gone = true);
    }

    /// The group is gone with all that was known of it. Another one may begin with the first generation.
    pub(super) fn is_gone(&mut self) {
        self.is_empty();
        self.latest = None;
        self.assignments.clear();
    }

    /// A member was given its assignment.
    pub(super) fn assigned(
        &mut self,
        generation: Generation,
        member: &str,
        instance_id: Option<&str>,
        partitions: &BTreeSet<i32>,
    ) -> Result<(), String> {
        let given = self.assignments.entry(generation).or_default();
        if let Some(before) = given.get(member)
            && before != partitions
        {
            return Err(format!(
                "{member} was given {before:?} and {partitions:?} in {generation:?}"
            ));
        }
        for (other, theirs) in given.iter() {
            // A static member has its former self's place.
            let is_twin = instance_id.is_some_and(|instance_id| other.starts_with(&format!("{instance_id}-")));
            if other != member && !is_twin && !theirs.is_disjoint(partitions) {
                return Err(format!("{member} and {other} share {partitions:?} in {generation:?}"));
            }
        }
        given.insert(member.to_owned(), partitions.clone());
        Ok(())
    }

    /// A member has joined with an instance id.
    pub(super) fn joined(&mut self, instance_id: &str, member: &str) {
        self.owners.insert(instance_id.to_owned(), member.to_owned());
    }

    /// Whether another member has joined with an instance id since.
    pub(super) fn is_replaced(&self, instance_id: &str, member: &str) -> bool {
        self.owners.get(instance_id).is_some_and(|owner| owner != member)
    }
}
