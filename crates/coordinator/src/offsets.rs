//! Committed offsets of consumer groups.

use crate::command::{Command, Commit, Mode};
use crate::limits;
use core::fmt;
use std::collections::BTreeMap;

/// The place of a command in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandIndex(pub u64);

/// Why a command should not be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffsetError {
    /// The asker's fault: a name is empty or too long.
    InvalidName,
    /// The asker's fault: an offset or a partition is negative.
    InvalidOffset,
    /// The asker's fault: a note is longer than [`limits::METADATA_BYTES`] (Kafka: OFFSET_METADATA_TOO_LARGE).
    MetadataTooLarge,
    /// The asker's fault: too much in one commit; in parts it would do.
    CommitTooLarge,
    /// A limit of the coordinator: it keeps no more offsets or groups.
    Full,
}

impl fmt::Display for OffsetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OffsetError::InvalidName => "a group or topic name is empty or too long",
            OffsetError::InvalidOffset => "an offset or a partition is negative",
            OffsetError::MetadataTooLarge => "the metadata of an offset is too long",
            OffsetError::CommitTooLarge => "too many offsets for one commit",
            OffsetError::Full => "the coordinator keeps as many offsets as it may",
        })
    }
}

impl std::error::Error for OffsetError {}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// There was no such group: nothing was done.
    UnknownGroup,
    /// The group has members: nothing was done.
    NotEmpty,
    /// A command with that index was applied before: nothing was done.
    Repeated,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    /// Since when it has no members; none while it has some. A group that never had any is empty from the start.
    empty_since_ms: Option<i64>,
    offsets: BTreeMap<(String, i32), Kept>,
}

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    commit: Commit,
    committed_ms: i64,
}

/// The committed offsets of all groups of one partition of the coordinator's topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetStore {
    applied: CommandIndex,
    groups: BTreeMap<String, Group>,
    /// Offsets of all groups together.
    count: usize,
}

impl OffsetStore {
    /// The last command applied.
    pub fn applied(&self) -> CommandIndex {
        self.applied
    }

    /// What a group has committed for a partition, if anything.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Commit> {
        let group = self.groups.get(group)?;
        group
            .offsets
            .get(&(topic.to_owned(), partition))
            .map(|kept| &kept.commit)
    }

    /// All that a group has committed, by topic and partition.
    pub fn offsets(&self, group: &str) -> impl Iterator<Item = (&str, i32, &Commit)> {
        let offsets = self.groups.get(group).into_iter().flat_map(|group| &group.offsets);
        offsets.map(|((topic, partition), kept)| (topic.as_str(), *partition, &kept.commit))
    }

    /// The names of all groups that have members or offsets.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Whether a command should be proposed: rules and limits. Not asked again when it is applied, so that they may
    /// change from version to version.
    ///
    /// # Errors
    /// [`OffsetError`]
    pub fn check(&self, command: &Command) -> Result<(), OffsetError> {
        match command {
            Command::Commit { group, offsets, .. } => self.check_commit(group, offsets),
            Command::Occupied { group } => self.check_group(group),
            Command::Emptied { .. }
            | Command::Expire { .. }
            | Command::DeleteOffsets { .. }
            | Command::DeleteGroup { .. }
            | Command::DeleteTopic { .. } => Ok(()),
        }
    }

    fn check_commit(&self, group: &str, offsets: &[(String, i32, Commit)]) -> Result<(), OffsetError> {
        self.check_group(group)?;
        offsets
            .iter()
            .try_for_each(|(topic, partition, commit)| check_offset(topic, *partition, commit))?;
        let bytes: usize = offsets
            .iter()
            .map(|(topic, _, commit)| topic.len() + commit.metadata.len() + 24)
            .sum();
        if offsets.len() > limits::OFFSETS_PER_COMMIT || group.len() + bytes > limits::COMMAND_BYTES / 2 {
            return Err(OffsetError::CommitTooLarge);
        }
        if self.count + offsets.len() > limits::OFFSETS_PER_STORE {
            return Err(OffsetError::Full);
        }
        Ok(())
    }

    fn check_group(&self, group: &str) -> Result<(), OffsetError> {
        if group.len() > limits::GROUP_ID_BYTES {
            return Err(OffsetError::InvalidName);
        }
        if self.groups.len() >= limits::GROUPS_PER_STORE && !self.groups.contains_key(group) {
            return Err(OffsetError::Full);
        }
        Ok(())
    }

    /// Applies the command at `index`: the same on every replica. An index that was applied before does nothing.
    pub fn apply(&mut self, index: CommandIndex, command: &Command) -> Outcome {
        if index <= self.applied {
            return Outcome::Repeated;
        }
        self.applied = index;
        match command {
            Command::Commit {
                group,
                now_ms,
                mode,
                offsets,
            } => self.commit(group, *now_ms, *mode, offsets),
            Command::Occupied { group } => self.occupied(group),
            Command::Emptied { group, now_ms } => self.emptied(group, *now_ms),
            Command::Expire { now_ms, retention_ms } => self.expire(*now_ms, *retention_ms),
            Command::DeleteOffsets { group, partitions } => self.delete_offsets(group, partitions),
            Command::DeleteGroup { group } => self.delete_group(group),
            Command::DeleteTopic { topic } => self.retain(|_, of, _| of != topic),
        }
    }

    fn commit(&mut self, group: &str, now_ms: i64, mode: Mode, offsets: &[(String, i32, Commit)]) -> Outcome {
        let new = || Group {
            empty_since_ms: Some(now_ms),
            offsets: BTreeMap::new(),
        };
        let group = self.groups.entry(group.to_owned()).or_insert_with(new);
        let before = group.offsets.len();
        for (topic, partition, commit) in offsets {
            let key = (topic.clone(), *partition);
            let later = group
                .offsets
                .get(&key)
                .is_some_and(|kept| kept.commit.offset > commit.offset);
            if mode == Mode::Replace || !later {
                group.offsets.insert(
                    key,
                    Kept {
                        commit: commit.clone(),
                        committed_ms: now_ms,
                    },
                );
            }
        }
        self.count += group.offsets.len() - before;
        Outcome::Done
    }

    fn occupied(&mut self, group: &str) -> Outcome {
        self.groups.entry(group.to_owned()).or_default().empty_since_ms = None;
        Outcome::Done
    }

    fn emptied(&mut self, group: &str, now_ms: i64) -> Outcome {
        let Some(known) = self.groups.get_mut(group) else {
            return Outcome::UnknownGroup;
        };
        known.empty_since_ms = Some(now_ms);
        if known.offsets.is_empty() {
            self.groups.remove(group);
        }
        Outcome::Done
    }

    /// An offset goes when its group has been empty for the retention time, and it is itself no younger than that (a
    /// consumer without a group membership commits to an empty group).
    fn expire(&mut self, now_ms: i64, retention_ms: u64) -> Outcome {
        let retention_ms = i64::try_from(retention_ms).unwrap_or(i64::MAX);
        let over = |since_ms: i64| now_ms.saturating_sub(since_ms) >= retention_ms;
        self.retain(|empty_since_ms, _, kept| !(empty_since_ms.is_some_and(over) && over(kept.committed_ms)))
    }

    fn delete_offsets(&mut self, group: &str, partitions: &[(String, i32)]) -> Outcome {
        let Some(known) = self.groups.get_mut(group) else {
            return Outcome::UnknownGroup;
        };
        for key in partitions {
            self.count -= usize::from(known.offsets.remove(key).is_some());
        }
        if known.is_forgettable() {
            self.groups.remove(group);
        }
        Outcome::Done
    }

    fn delete_group(&mut self, group: &str) -> Outcome {
        match self.groups.get(group) {
            None => Outcome::UnknownGroup,
            Some(known) if known.empty_since_ms.is_none() => Outcome::NotEmpty,
            Some(known) => {
                self.count -= known.offsets.len();
                self.groups.remove(group);
                Outcome::Done
            }
        }
    }

    /// Keeps the offsets that `keep` wants, given since when the group is empty and the offset's topic; groups that
    /// have neither members nor offsets after that go.
    fn retain(&mut self, keep: impl Fn(Option<i64>, &str, &Kept) -> bool) -> Outcome {
        self.groups.retain(|_, group| {
            let empty_since_ms = group.empty_since_ms;
            group
                .offsets
                .retain(|(topic, _), kept| keep(empty_since_ms, topic, kept));
            !group.is_forgettable()
        });
        self.count = self.groups.values().map(|group| group.offsets.len()).sum();
        Outcome::Done
    }
}

impl Group {
    fn is_forgettable(&self) -> bool {
        self.offsets.is_empty() && self.empty_since_ms.is_some()
    }
}

fn check_offset(topic: &str, partition: i32, commit: &Commit) -> Result<(), OffsetError> {
    if topic.is_empty() || topic.len() > limits::TOPIC_BYTES {
        return Err(OffsetError::InvalidName);
    }
    if partition < 0 || commit.offset.0 < 0 {
        return Err(OffsetError::InvalidOffset);
    }
    if commit.metadata.len() > limits::METADATA_BYTES {
        return Err(OffsetError::MetadataTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
