//! The state that the committed records say: the same on every replica that has replayed the same records.

use crate::record::{DecodeError, GroupValue, Key, OffsetValue};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Groups by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    groups: BTreeMap<Arc<str>, StoredGroup>,
    /// Committed offsets of all groups together.
    offset_count: usize,
}

/// A group as it is stored. Groups that have neither part are not kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredGroup {
    /// Generation and members, if the group ever had any.
    pub(crate) metadata: Option<GroupValue>,
    offsets: BTreeMap<Arc<str>, BTreeMap<i32, OffsetValue>>,
    offset_count: usize,
}

/// The part of the state that a record has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// A group's committed offset.
    Offset,
    /// A group's generation and members.
    Group,
    /// Nothing: the key is of another protocol, by its version.
    Skipped(i16),
    /// Nothing: the record was replayed before.
    Repeated,
}

impl State {
    /// Applies a record. Changes nothing if there is an error.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Replayed, DecodeError> {
        match Key::decode(key)? {
            Key::Offset(key) => {
                match value.map(OffsetValue::decode).transpose()? {
                    Some(value) => self.commit(key.group, key.topic, key.partition, value),
                    None => self.forget_offset(&key.group, &key.topic, key.partition),
                }
                Ok(Replayed::Offset)
            }
            Key::Group(group) => {
                match value.map(GroupValue::decode).transpose()? {
                    Some(value) => self.group_or_new(group).metadata = Some(value),
                    None => self.forget_metadata(&group),
                }
                Ok(Replayed::Group)
            }
            Key::Unknown(version) => Ok(Replayed::Skipped(version)),
        }
    }

    /// A group's stored state.
    pub(crate) fn group(&self, group: &str) -> Option<&StoredGroup> {
        self.groups.get(group)
    }

    /// The groups with ids after the given one, or all, by id.
    pub(crate) fn groups_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<str>, &StoredGroup)> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.groups.range::<str, _>((from, Unbounded))
    }

    /// The number of groups.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The number of committed offsets.
    pub(crate) fn offset_count(&self) -> usize {
        self.offset_count
    }

    fn group_or_new(&mut self, group: String) -> &mut StoredGroup {
        self.groups.entry(group.into()).or_default()
    }

    fn commit(&mut self, group: String, topic: String, partition: i32, value: OffsetValue) {
        let group = self.group_or_new(group);
        let topic = group.offsets.entry(topic.into()).or_default();
        if topic.insert(partition, value).is_none() {
            group.offset_count += 1;
            self.offset_count += 1;
        }
    }

    fn forget_offset(&mut self, id: &str, topic: &str, partition: i32) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let Some(partitions) = group.offsets.get_mut(topic) else {
            return;
        };
        if partitions.remove(&partition).is_some() {
            group.offset_count -= 1;
            self.offset_count -= 1;
        }
        if partitions.is_empty() {
            group.offsets.remove(topic);
        }
        self.forget_if_nothing(id);
    }

    fn forget_metadata(&mut self, id: &str) {
        if let Some(group) = self.groups.get_mut(id) {
            group.metadata = None;
            self.forget_if_nothing(id);
        }
    }

    fn forget_if_nothing(&mut self, id: &str) {
        if self
            .groups
            .get(id)
            .is_some_and(|group| group.metadata.is_none() && group.offset_count == 0)
        {
            self.groups.remove(id);
        }
    }
}

impl StoredGroup {
    /// The committed offset of a partition.
    pub(crate) fn offset(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// All committed offsets, by topic and partition.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (&Arc<str>, i32, &OffsetValue)> {
        self.offsets.iter().flat_map(|(topic, partitions)| {
            let each = partitions.iter();
            each.map(move |(partition, value)| (topic, *partition, value))
        })
    }

    /// The partitions of a topic for which an offset is committed.
    pub(crate) fn partitions(&self, topic: &str) -> impl Iterator<Item = i32> {
        let partitions = self.offsets.get(topic).into_iter();
        partitions.flat_map(|partitions| partitions.keys().copied())
    }

    /// The number of committed offsets.
    pub(crate) fn offset_count(&self) -> usize {
        self.offset_count
    }
}
