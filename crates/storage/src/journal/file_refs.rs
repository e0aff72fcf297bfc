//! The references of groups to the journal's live files.

use std::collections::{BTreeMap, VecDeque};
use trimaran_raft::{GroupId, LogIndex};

/// The live files, and for every group the entries in them that are still needed. A group whose entries are all
/// released takes no memory.
#[derive(Debug, Default)]
pub(super) struct FileRefs {
    /// Contiguous sequence numbers; the last one is current.
    files: VecDeque<LiveFile>,
    /// In the order of files; no two of the same group in one file, ranges ascending.
    groups: BTreeMap<GroupId, VecDeque<FileRef>>,
}

#[derive(Debug)]
struct LiveFile {
    sequence: u64,
    /// Groups that refer to it.
    groups: usize,
}

/// A group's entries in one file, both ends included.
#[derive(Clone, Copy, Debug)]
struct FileRef {
    file: u64,
    first: LogIndex,
    last: LogIndex,
}

impl FileRefs {
    /// The file that entries are appended to from now on.
    pub(super) fn begin_file(&mut self, sequence: u64) {
        debug_assert!(self.files.back().is_none_or(|file| file.sequence + 1 == sequence));
        self.files.push_back(LiveFile { sequence, groups: 0 });
    }

    /// The group's entry at `index` is in the current file now. It supersedes what was there from `index` on.
    pub(super) fn append(&mut self, group: GroupId, index: LogIndex) {
        let current = self
            .files
            .back_mut()
            .expect("a file was begun before entries are in it");
        let refs = self.groups.entry(group).or_default();
        if let Some(last) = refs.back_mut()
            && last.file == current.sequence
            && last.last.next() == index
        {
            last.last = index;
            return;
        }
        self.cut(group, index);
        let current = self.files.back_mut().expect("checked above");
        let refs = self.groups.entry(group).or_default();
        match refs.back_mut() {
            Some(last) if last.file == current.sequence => last.last = index,
            _ => {
                refs.push_back(FileRef {
                    file: current.sequence,
                    first: index,
                    last: index,
                });
                current.groups += 1;
            }
        }
    }

    /// The group's entries from `from` on are gone.
    pub(super) fn truncate(&mut self, group: GroupId, from: LogIndex) {
        self.cut(group, from);
        self.drop_if_empty(group);
    }

    /// The group's entries up to `upto` are not needed any more.
    pub(super) fn release(&mut self, group: GroupId, upto: LogIndex) {
        let Some(refs) = self.groups.get_mut(&group) else {
            return;
        };
        while let Some(file_ref) = refs.front_mut() {
            if file_ref.last > upto {
                file_ref.first = file_ref.first.max(upto.next());
                break;
            }
            drop_ref(&mut self.files, file_ref.file);
            refs.pop_front();
        }
        self.drop_if_empty(group);
    }

    /// Nothing of the group is needed.
    pub(super) fn forget(&mut self, group: GroupId) {
        for file_ref in self.groups.remove(&group).into_iter().flatten() {
            drop_ref(&mut self.files, file_ref.file);
        }
    }

    /// Files from the oldest that is needed to the current one.
    pub(super) fn live_files(&self) -> usize {
        self.files.len()
    }

    /// The oldest live file; zero if there is none at all.
    pub(super) fn oldest(&self) -> u64 {
        self.files.front().map_or(0, |file| file.sequence)
    }

    /// Takes away the oldest files that nothing needs. In order only: a younger file may hold the record that deleted
    /// an older one's entries.
    pub(super) fn recycle(&mut self) -> Vec<u64> {
        let mut recycled = Vec::new();
        while self.files.len() > 1 && self.files[0].groups == 0 {
            recycled.extend(self.files.pop_front().map(|file| file.sequence));
        }
        recycled
    }

    /// The groups that need the oldest file.
    pub(super) fn holders_of_oldest(&self) -> Vec<GroupId> {
        let oldest = self.oldest();
        let holds = |refs: &VecDeque<FileRef>| refs.front().is_some_and(|file_ref| file_ref.file == oldest);
        self.groups
            .iter()
            .filter(|(_, refs)| holds(refs))
            .map(|(group, _)| *group)
            .collect()
    }

    fn cut(&mut self, group: GroupId, from: LogIndex) {
        let Some(refs) = self.groups.get_mut(&group) else {
            return;
        };
        while let Some(file_ref) = refs.back_mut() {
            if file_ref.first < from {
                file_ref.last = file_ref.last.min(from.prev());
                break;
            }
            drop_ref(&mut self.files, file_ref.file);
            refs.pop_back();
        }
    }

    fn drop_if_empty(&mut self, group: GroupId) {
        if self.groups.get(&group).is_some_and(VecDeque::is_empty) {
            self.groups.remove(&group);
        }
    }
}

fn drop_ref(files: &mut VecDeque<LiveFile>, sequence: u64) {
    let place = files.front().map_or(0, |oldest| sequence - oldest.sequence) as usize;
    files[place].groups -= 1;
}
