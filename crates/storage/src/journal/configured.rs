//! Which configuration entries of which groups are in the journal only.
//!
//! A log keeps its configurations in a file beside its segments. A lost end of that file would look like one that was
//! never written, and the replica would take an old configuration for the current one. So the journal notes, with how
//! far a group is flushed, which configuration was the last one to get there.

use std::collections::{BTreeMap, VecDeque};
use trimaran_raft::{Entry, GroupId, LogIndex, Payload};

/// The configuration entries that are not known to be in their groups' folders. Nearly always none.
#[derive(Debug, Default)]
pub(super) struct Configured(BTreeMap<GroupId, VecDeque<LogIndex>>);

impl Configured {
    /// The group's entry is in the journal now. It supersedes what was there from its index on.
    pub(super) fn append(&mut self, group: GroupId, entry: &Entry) {
        self.truncate(group, entry.index);
        if matches!(entry.payload, Payload::Configuration(_)) {
            self.0.entry(group).or_default().push_back(entry.index);
        }
    }

    /// The group's entries from here on are gone.
    pub(super) fn truncate(&mut self, group: GroupId, from: LogIndex) {
        if !self.0.is_empty()
            && let Some(indices) = self.0.get_mut(&group)
        {
            let kept = indices.partition_point(|index| *index < from);
            indices.truncate(kept);
            self.drop_if_empty(group);
        }
    }

    /// The group's entries up to here are in its folder; returns the last of them that is a configuration, if it was
    /// not known to be there.
    pub(super) fn release(&mut self, group: GroupId, upto: LogIndex) -> Option<LogIndex> {
        let indices = self.0.get_mut(&group)?;
        let flushed = indices.partition_point(|index| *index <= upto);
        let last = indices.drain(..flushed).next_back();
        self.drop_if_empty(group);
        last
    }

    /// Nothing of the group is needed.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.0.remove(&group);
    }

    fn drop_if_empty(&mut self, group: GroupId) {
        if self.0.get(&group).is_some_and(VecDeque::is_empty) {
            self.0.remove(&group);
        }
    }
}
