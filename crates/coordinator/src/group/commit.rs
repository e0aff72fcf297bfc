//! OffsetCommit: the checks of a member's commit, and the offsets that are being written.

use super::Group;
use crate::context::Context;
use crate::request::{GroupState, OffsetCommit};
use crate::sabotage::Sabotage;
use crate::{Error, Generation};
use std::sync::Arc;

impl Group {
    /// Whether a commit is a member's of the present generation, or comes from outside to a group without members.
    pub(crate) fn check_commit(&mut self, commit: &OffsetCommit, context: &mut Context<'_>) -> Result<(), Error> {
        if self.state == GroupState::Dead {
            return Err(Error::CoordinatorNotAvailable);
        }
        let has_generation = commit.generation > Generation::NONE;
        if !has_generation && self.state == GroupState::Empty {
            return Ok(());
        }
        if !has_generation && commit.member_id.is_empty() && commit.instance_id.is_none() {
            return Err(Error::UnknownMemberId);
        }
        self.check_member(&commit.member_id, commit.instance_id.as_deref())?;
        if commit.generation != self.generation && !context.breakage.is(Sabotage::IgnoreGeneration) {
            return Err(Error::IllegalGeneration);
        }
        // A commit is a sign of life; but members that have their generation's assignment yet to come have nothing to commit.
        match self.state {
            GroupState::CompletingRebalance => Err(Error::RebalanceInProgress),
            _ => {
                self.restart_session(&commit.member_id, context);
                Ok(())
            }
        }
    }

    /// Counts offsets that are being written.
    pub(crate) fn begin_commits(&mut self, keys: &[(Arc<str>, i32)]) {
        for (topic, partition) in keys {
            let partitions = self.commits.entry(topic.clone()).or_default();
            *partitions.entry(*partition).or_default() += 1;
        }
    }

    /// Counts offsets that are written.
    pub(crate) fn end_commits(&mut self, keys: &[(Arc<str>, i32)]) {
        for (topic, partition) in keys {
            let Some(partitions) = self.commits.get_mut(topic) else {
                continue;
            };
            let Some(count) = partitions.get_mut(partition) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                partitions.remove(partition);
                if partitions.is_empty() {
                    self.commits.remove(topic);
                }
            }
        }
    }

    /// Whether an offset is being written.
    pub(crate) fn is_committing(&self, topic: &str, partition: i32) -> bool {
        let partitions = self.commits.get(topic);
        partitions.is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// The offsets that are being written.
    pub(crate) fn committing(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let topics = self.commits.iter();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)))
    }
}
