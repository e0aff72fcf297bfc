//! The write-ahead journal of a broker: all groups' hard states and entries, one write and one sync a batch.

use crate::fs::Fs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Entry, GroupId, HardState, LogIndex};

/// What one or more groups want written together.
#[derive(Clone, Debug, Default)]
pub struct JournalBatch {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl JournalBatch {
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Payload bytes in it.
    pub fn bytes(&self) -> u64 {
        todo!()
    }
    pub fn hard_state(&mut self, group: GroupId, state: HardState) {
        todo!()
    }
    pub fn truncate(&mut self, group: GroupId, from: LogIndex) {
        todo!()
    }
    pub fn entries(&mut self, group: GroupId, entries: &[Entry]) {
        todo!()
    }
    /// Writes a group's whole unflushed tail ([`crate::log::ReplicaLog::unflushed`]) again, so that the older files
    /// that held it can be recycled. The answer to [`Journal::laggards`] where nothing (more) can be flushed, because
    /// the rest of the tail is not committed.
    pub fn rewrite(&mut self, group: GroupId, unflushed: &[Entry]) {
        todo!()
    }
    /// The group is gone for good: nothing of it is needed or recovered from here on.
    pub fn forget(&mut self, group: GroupId) {
        todo!()
    }
    /// Appends another batch's records behind this one's.
    pub fn extend(&mut self, other: JournalBatch) {
        todo!()
    }
}

/// Sizes and limits.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// A file's size in bytes before the next one is begun.
    pub file_bytes: u64,
    /// Files beyond which [`Journal::laggards`] names the groups that hold the oldest ones.
    pub max_files: usize,
}

/// What was found for a group.
#[derive(Clone, Debug, Default)]
pub struct RecoveredGroup {
    /// The last hard state.
    pub hard_state: HardState,
    /// Entries after truncations, in index order and contiguous; may begin below what its segments hold already.
    pub entries: Vec<Entry>,
    /// Everything up to here was once durable in its segments ([`Journal::release`]): segments that end earlier have
    /// been damaged.
    pub flushed: LogIndex,
}

/// Why the journal can't be opened or written. Names file and position where there is one.
#[derive(Debug)]
#[allow(missing_docs, reason = "skeleton")]
pub enum JournalError {
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    Corrupt {
        path: PathBuf,
        position: u64,
        what: &'static str,
    },
    /// An earlier write or sync failed: nothing is accepted until the journal is opened again.
    Poisoned,
}

/// The journal, owned by one thread.
pub struct Journal {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl Journal {
    /// Opens or creates; returns what each group had. Cuts a torn end of the last file.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
        todo!()
    }
    /// One write, one sync. After an error nothing more is accepted.
    pub fn write(&mut self, batch: &JournalBatch) -> Result<(), JournalError> {
        todo!()
    }
    /// A group's entries up to here are durable in its segments; files that nothing needs are recycled.
    pub fn release(&mut self, group: GroupId, upto: LogIndex) -> Result<(), JournalError> {
        todo!()
    }
    /// Groups whose entries hold the oldest files while there are more than `max_files`: they should be flushed.
    pub fn laggards(&self) -> Vec<GroupId> {
        todo!()
    }
}
