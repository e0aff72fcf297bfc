//! The write-ahead journal of a broker: all groups' hard states and entries, one write and one sync a batch.
//!
//! # Files
//! The journal is a row of files, `SEQUENCE.journal`, of which a contiguous run is live: from the oldest that still
//! holds an entry which some group needs, to the current one. A file holds frames back to back; a frame is one batch.
//! The first frame of a file begins with everything that is known of all groups beside their entries (hard states, and
//! how far each is flushed), so that older files are needed for nothing else.
//!
//! Files that nothing needs are kept and overwritten, under a new name: blocks that were written before make the sync
//! cheaper. Their old frames are told from new ones by the file's sequence number, which every frame carries.
//!
//! # What recovery relies on
//! - What a checksum does not confirm is read again, so that an end is not cut off that was only read wrong.
//! - A frame is written only after the one before it was synced. So a bad frame with a valid one behind it was not torn
//!   by a crash but damaged later: corruption. A bad frame at the end is a torn one, and cut: it was never reported
//!   durable. (Damage to the very last frame can't be told from a torn write by anyone who has only the journal.)
//! - A file's first frame says where the file before it ends. So in all files but the last, every frame must be there.
//! - Every frame says which file is the oldest live one. A file is overwritten or removed only once a durable frame has
//!   said that it is not needed, so every file from there on must be there.
//! - How far a group is flushed is written no later than the frame that gives up its entries. So an entry is either in
//!   a live file, or the group's segments are known to have held it.
//! - A journal that is deleted, or replaced by an older copy, may look sound. An owned journal
//!   ([`Journal::open_owned`]) is compared with what its owner has noted elsewhere: [`Owner`] says how.

mod batch;
mod configured;
mod file_refs;
mod frame;
mod group_commit;
mod owner;
mod recovery;
mod refusal;

#[cfg(test)]
mod tests;

pub use batch::{JournalBatch, MAX_RESET_BYTES};
pub use group_commit::{Counts, GroupCommit, Outcome, Ticket};
pub use owner::{Mark, Mismatch, Owner, OwnerId, read_mark};
pub use recovery::{Presence, RecoveredGroup, look};
pub use refusal::Refusal;

use self::batch::Record;
use self::configured::Configured;
use self::file_refs::FileRefs;
use self::frame::FrameWriter;
use self::refusal::{Ends, NewEnds};
use crate::fs::{DirLock, File, Fs, Mode};
use crate::sabotage::{Breakage, Sabotage};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{GroupId, HardState, LogIndex, Snapshot};

/// Sizes and limits.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// A file's size in bytes before the next one is begun. A batch larger than this gets its own file.
    pub file_bytes: u64,
    /// Files beyond which [`Journal::groups_to_flush`] names the groups that hold the oldest ones, and up to which
    /// files that nothing needs are kept for reuse.
    pub max_files: usize,
}

/// Why the journal can't be opened or written. Names file and position where there is one.
#[derive(Debug)]
pub enum JournalError {
    /// The operating system refused: a full or broken disk, missing rights.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The disk, or someone, changed what had been written and synced.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        position: u64,
        /// The defect.
        what: &'static str,
    },
    /// The journal is not the latest one of the owner that opens it.
    Mismatch {
        /// The journal's folder.
        dir: PathBuf,
        /// The mismatch.
        what: Mismatch,
    },
    /// Another process, or another [`Journal`] of this one, has the journal open.
    Locked {
        /// The journal's folder.
        dir: PathBuf,
    },
    /// The request contradicts what the journal holds of the group, and would lose entries. Nothing was written, and
    /// the journal can be used as before.
    Refused {
        /// The group that the request is wrong about.
        group: GroupId,
        /// The contradiction.
        what: Refusal,
    },
    /// An earlier write or sync failed: nothing is accepted until the journal is opened again.
    Poisoned,
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            JournalError::Corrupt { path, position, what } => {
                write!(f, "{} is corrupt at byte {position}: {what}", path.display())
            }
            JournalError::Mismatch { dir, what } => {
                write!(f, "{} is not this data folder's latest journal: {what}", dir.display())
            }
            JournalError::Locked { dir } => write!(
                f,
                "the journal in {} is in use, and has one owner at a time; stop the process that has it open, or \
                 choose another folder",
                dir.display()
            ),
            JournalError::Refused { group, what } => {
                write!(f, "the journal refuses a request of group {group}: {what}")
            }
            JournalError::Poisoned => f.write_str("an earlier write to the journal failed; it must be opened again"),
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JournalError::Io { source, .. } => Some(source),
            JournalError::Corrupt { .. }
            | JournalError::Mismatch { .. }
            | JournalError::Locked { .. }
            | JournalError::Refused { .. }
            | JournalError::Poisoned => None,
        }
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> JournalError + '_ {
    move |source| JournalError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A group's state at the beginning of every file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct GroupState {
    hard_state: HardState,
    flushed: LogIndex,
    /// The last configuration entry that is known to be in its folder.
    configured: LogIndex,
    /// A reset that its folder may not reflect.
    start: Option<Box<Snapshot>>,
}

impl GroupState {
    /// Everything up to here is durable in the group's folder, a reset included. False if that is no news, or is about
    /// what was there before the reset.
    fn flush(&mut self, upto: LogIndex) -> bool {
        let reset_at = self.start.as_ref().map(|start| start.index);
        if upto <= self.flushed || reset_at.is_some_and(|index| upto < index) {
            return false;
        }
        self.flushed = upto;
        if let Some(index) = reset_at {
            self.configured = self.configured.max(index);
            self.start = None;
        }
        true
    }

    /// The group's log begins behind this position.
    fn reset(&mut self, start: &Snapshot) {
        (self.flushed, self.configured) = (LogIndex::ZERO, LogIndex::ZERO);
        // An empty folder says by itself that its log begins at the beginning.
        self.start = (start.index > LogIndex::ZERO).then(|| Box::new(start.clone()));
    }
}

/// The journal, owned by one thread. See the module for what it promises.
pub struct Journal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: JournalOptions,
    groups: BTreeMap<GroupId, GroupState>,
    ends: Ends,
    /// Groups that were flushed further since the last frame; the next one says so.
    newly_flushed: BTreeSet<GroupId>,
    file_refs: FileRefs,
    configured: Configured,
    /// Files whose content is not needed, as a durable frame has said.
    recycled: BTreeSet<u64>,
    current: Option<Current>,
    /// The next frame's number.
    next_batch: u64,
    /// None if nothing outside the folder is compared with it.
    owner: Option<Owner>,
    /// As its file says.
    mark: Option<Mark>,
    /// The current file names no owner, and the journal has one: the next frame begins another.
    is_nameless: bool,
    writer: FrameWriter,
    poisoned: bool,
    /// Held as long as the journal is open.
    _lock: DirLock,
}

/// The file that is being written.
struct Current {
    sequence: u64,
    file: Arc<dyn File>,
    path: PathBuf,
    /// Where the next frame goes.
    position: u64,
}

impl Journal {
    /// Opens or creates; returns what each group had. Cuts a torn end of the last file.
    ///
    /// Every entry that is returned keeps its file from being recycled until [`Journal::release`] is called for its
    /// group: call it once the group's store is open, with the last entry that is durable there. Groups that the caller
    /// no longer knows are to be forgotten by a batch.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] if something that was synced is not there any more; nothing is skipped. The broker
    /// must not vote or lead with what is left. [`JournalError::Locked`] if the journal is open already.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
        Journal::open_as(fs, dir, options, None, Breakage::default())
    }

    /// As [`Journal::open`], for an owner that notes elsewhere how far its journal has come. A journal that has no
    /// owner yet gets this one.
    ///
    /// On return, the journal and its mark durably name this start. A mark of another owner counts as none.
    ///
    /// # Errors
    /// As [`Journal::open`]; and [`JournalError::Mismatch`] if it is not the owner's latest journal, in which case
    /// nothing was written.
    pub fn open_owned(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: JournalOptions,
        owner: Owner,
    ) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
        let (mut journal, groups) = Journal::open_as(fs, dir, options, Some(owner), Breakage::default())?;
        journal.begin_start()?;
        Ok((journal, groups))
    }

    /// As [`Journal::open_owned`], and wrong in that way: for tests of tests.
    ///
    /// # Errors
    /// As [`Journal::open_owned`].
    #[cfg(feature = "sabotage")]
    pub fn open_sabotaged(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: JournalOptions,
        owner: Owner,
        how: Sabotage,
    ) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
        let (mut journal, groups) = Journal::open_as(fs, dir, options, Some(owner), Breakage::of(how))?;
        journal.begin_start()?;
        Ok((journal, groups))
    }

    fn open_as(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: JournalOptions,
        owner: Option<Owner>,
        breakage: Breakage,
    ) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
        fs.create_dir_all(dir).map_err(io_error(dir))?;
        let lock = fs.lock_dir(dir).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => JournalError::Locked { dir: dir.to_owned() },
            _ => io_error(dir)(source),
        })?;
        let mark = match &owner {
            Some(owner) => read_mark(&*fs, &owner.mark)?.filter(|(id, _)| *id == owner.id),
            None => None,
        };
        let mark = mark.map(|(_, mark)| mark);
        let mark = mark.filter(|_| !breakage.is(Sabotage::IgnoreMark));
        let found = recovery::recover(&*fs, dir, owner.as_ref(), mark)?;
        let journal = Journal {
            fs,
            dir: dir.to_owned(),
            options,
            groups: found.groups.iter().map(|(id, group)| (*id, group.state())).collect(),
            ends: Ends::recovered(&found.groups),
            newly_flushed: BTreeSet::new(),
            file_refs: found.file_refs,
            configured: found.configured,
            recycled: found.recycled,
            current: found.current,
            next_batch: found.next_batch,
            is_nameless: owner.is_some() && !found.is_owned,
            owner,
            mark,
            writer: FrameWriter::default(),
            poisoned: false,
            _lock: lock,
        };
        Ok((journal, found.groups))
    }

    /// One write, one sync; on return all of the batch is durable. An empty batch is not written.
    ///
    /// # Errors
    /// [`JournalError::Refused`] if the batch contradicts what the journal holds of a group: nothing was written. After
    /// any other error it is unknown how much of the batch is durable, and nothing more is accepted
    /// ([`JournalError::Poisoned`]): open the journal again to find out.
    pub fn write(&mut self, batch: &JournalBatch) -> Result<(), JournalError> {
        let mut ends = NewEnds::default();
        // After a failure, what the journal holds is not known, and can't be compared with anything.
        if !self.poisoned {
            self.ends.check(batch, &mut ends)?;
        }
        self.write_checked(batch, ends)
    }

    /// Writes the batches that are not refused, with one write and one sync. Returns why batches were refused, by their
    /// place, and how the write of the others went.
    fn write_each(&mut self, batches: Vec<JournalBatch>) -> (Vec<Option<JournalError>>, Result<(), JournalError>) {
        let (mut together, mut ends) = (JournalBatch::default(), NewEnds::default());
        let mut take = |batch: JournalBatch| match self.ends.check(&batch, &mut ends) {
            Ok(()) => {
                together.extend(batch);
                None
            }
            Err(refusal) => Some(refusal),
        };
        let refusals = batches.into_iter().map(&mut take).collect();
        let written = self.write_checked(&together, ends);
        (refusals, written)
    }

    fn write_checked(&mut self, batch: &JournalBatch, ends: NewEnds) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let result = self.write_frame(batch.records());
        self.poisoned = result.is_err();
        self.ends.apply(ends);
        result
    }

    /// Notes outside the journal's folder that it has come this far, so that an older copy is recognised from here on.
    /// Without, that is noted for each file and each start only. Does nothing for a journal without an owner.
    ///
    /// # Errors
    /// [`JournalError::Io`]; nothing more is accepted then.
    pub fn note_progress(&mut self) -> Result<(), JournalError> {
        let batch = self.next_batch - 1;
        let Some(owner) = self.owner.as_ref().filter(|_| !self.poisoned) else {
            return Ok(());
        };
        let mark = Mark {
            start: owner.start,
            batch,
        };
        if self.mark != Some(mark) {
            let written = owner::write_mark(&*self.fs, owner, mark);
            self.poisoned = written.is_err();
            written?;
            self.mark = Some(mark);
        }
        Ok(())
    }

    /// Ends this start: nothing of what it has written can be lost unnoticed.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn close(mut self) -> Result<(), JournalError> {
        self.note_progress()
    }

    /// A group's entries up to here are durable in its segments; files that nothing needs are recycled. Unknown and
    /// forgotten groups are ignored, and so is what was durable before a reset that lies further ahead. (A reset to the
    /// very beginning is to be written after all releases of what was there before.)
    ///
    /// # Errors
    /// [`JournalError::Refused`] if the group's entries end before `upto`: nothing was released. Writes nothing; names
    /// of files change only with the next write.
    pub fn release(&mut self, group: GroupId, upto: LogIndex) -> Result<(), JournalError> {
        if !self.ends.release(group, upto)? {
            return Ok(());
        }
        self.file_refs.release(group, upto);
        let state = self.groups.entry(group).or_default();
        if state.flush(upto) {
            let configured = self.configured.release(group, upto);
            state.configured = configured.unwrap_or(state.configured);
            self.newly_flushed.insert(group);
        }
        Ok(())
    }

    /// Groups whose entries hold the oldest file while there are more than `max_files`. Each should be flushed and then
    /// released; what can't be flushed because it is not committed is to be written again
    /// ([`JournalBatch::rewrite`]), which frees the older files as well; a group that no longer exists is to be
    /// forgotten.
    pub fn groups_to_flush(&self) -> Vec<GroupId> {
        if self.file_refs.live_files() > self.options.max_files {
            self.file_refs.holders_of_oldest()
        } else {
            Vec::new()
        }
    }

    /// Files that hold something that is needed, the current one included.
    pub fn live_files(&self) -> usize {
        self.file_refs.live_files()
    }

    /// A tail that was to be written again may have been flushed and released while it waited: it would never be
    /// released again.
    fn let_go_of_flushed(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Entry { group, entry } = record
                && let Some(state) = self.groups.get(group)
                && entry.index <= state.flushed
            {
                self.file_refs.release(*group, state.flushed);
            }
        }
    }

    /// Writes the number of the start that begins, as the beginning of a file or as a separate frame.
    fn begin_start(&mut self) -> Result<(), JournalError> {
        let owner = self.owner.as_ref();
        let record = owner.map(|Owner { id, start, .. }| Record::Owner { id: *id, start: *start });
        // A file that is begun names it in any case.
        let record = record.filter(|_| self.current.is_some() && !self.is_nameless);
        self.write_frame(record.as_slice())?;
        self.note_progress()
    }

    fn write_frame(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.writer.begin();
        self.put_newly_flushed();
        self.writer.put_all(records);
        let begins_file = !self.fits_current() || self.is_nameless;
        if begins_file {
            self.begin_file()?;
            self.is_nameless = false;
            self.writer.put_all(records);
        }
        self.recycled.extend(self.file_refs.recycle());
        let oldest = self.file_refs.oldest();
        self.append_frame(records, oldest)?;
        self.newly_flushed.clear();
        self.next_batch += 1;
        for record in records {
            apply(record, &mut self.groups, &mut self.file_refs, &mut self.configured);
        }
        self.let_go_of_flushed(records);
        if begins_file {
            // Before anything in it is reported durable: from here on the file can't be lost unnoticed.
            self.note_progress()?;
        }
        self.remove_surplus()
    }

    fn put_newly_flushed(&mut self) {
        for group in &self.newly_flushed {
            if let Some(state) = self.groups.get(group) {
                self.writer.put_flushed(*group, state);
            }
        }
    }

    fn fits_current(&self) -> bool {
        let end = |current: &Current| current.position + self.writer.frame_len();
        self.current
            .as_ref()
            .is_some_and(|current| end(current) <= self.options.file_bytes)
    }

    fn append_frame(&mut self, records: &[Record], oldest: u64) -> Result<(), JournalError> {
        let current = self.current.as_mut().expect("a file was begun before it is written");
        let header = frame::Numbers {
            file: current.sequence,
            batch: self.next_batch,
            oldest,
        };
        let written = self
            .writer
            .write(&*current.file, current.position, header, records)
            .map_err(io_error(&current.path))?;
        current.file.sync_data().map_err(io_error(&current.path))?;
        current.position += written;
        Ok(())
    }

    /// Goes on in the next file, and leaves in the writer what its first frame begins with.
    fn begin_file(&mut self) -> Result<(), JournalError> {
        let sequence = self.current.as_ref().map_or(1, |current| current.sequence + 1);
        let previous_end = self.current.as_ref().map_or(0, |current| current.position);
        let path = file_path(&self.dir, sequence);
        let was_torn = self.take_recycled(sequence, &path)?;
        let file = self.fs.open(&path, Mode::Create).map_err(io_error(&path))?;
        if was_torn {
            // As a torn end is cut: its records must not be searched for frames.
            file.set_len(0).map_err(io_error(&path))?;
        }
        self.fs.sync_dir(&self.dir).map_err(io_error(&self.dir))?;
        self.current = Some(Current {
            sequence,
            file,
            path,
            position: 0,
        });
        self.file_refs.begin_file(sequence);
        self.writer.begin();
        self.writer.put(&Record::Begin { previous_end });
        if let Some(Owner { id, start, .. }) = &self.owner {
            self.writer.put(&Record::Owner { id: *id, start: *start });
        }
        for (group, state) in &self.groups {
            self.writer.put_state(*group, state);
        }
        Ok(())
    }

    /// Gives a file that nothing needs, if there is one, the name of the next file. Whether a file has that name
    /// already: a crash came after its renaming, and perhaps in the midst of its first frame.
    fn take_recycled(&mut self, sequence: u64, path: &Path) -> Result<bool, JournalError> {
        if self.recycled.remove(&sequence) {
            return Ok(true);
        }
        let Some(recycled) = self.recycled.first().copied() else {
            return Ok(false);
        };
        let from = file_path(&self.dir, recycled);
        self.fs.rename(&from, path).map_err(io_error(&from))?;
        self.recycled.remove(&recycled);
        Ok(false)
    }

    /// Keeps no more than `max_files`.
    fn remove_surplus(&mut self) -> Result<(), JournalError> {
        while self.file_refs.live_files() + self.recycled.len() > self.options.max_files {
            let Some(recycled) = self.recycled.first().copied() else {
                break;
            };
            let path = file_path(&self.dir, recycled);
            self.fs.remove_file(&path).map_err(io_error(&path))?;
            self.recycled.remove(&recycled);
        }
        Ok(())
    }
}

/// Applies a record to the groups' states and to the references to files.
fn apply(
    record: &Record,
    groups: &mut BTreeMap<GroupId, GroupState>,
    file_refs: &mut FileRefs,
    configured: &mut Configured,
) {
    match record {
        Record::HardState { group, state } => groups.entry(*group).or_default().hard_state = *state,
        Record::Flushed { group, upto } => {
            groups.entry(*group).or_default().flush(*upto);
            configured.release(*group, *upto);
        }
        Record::Configured { group, index } => groups.entry(*group).or_default().configured = *index,
        Record::Truncate { group, from } => {
            file_refs.truncate(*group, *from);
            configured.truncate(*group, *from);
        }
        Record::Entry { group, entry } => {
            file_refs.append(*group, entry.index);
            configured.append(*group, entry);
        }
        Record::Reset { group, start } => {
            file_refs.forget(*group);
            configured.forget(*group);
            groups.entry(*group).or_default().reset(start);
        }
        Record::Start { group, start } => groups.entry(*group).or_default().start = Some(start.clone()),
        Record::Forget { group } => {
            groups.remove(group);
            file_refs.forget(*group);
            configured.forget(*group);
        }
        Record::Begin { .. } | Record::Owner { .. } => {}
    }
}

fn file_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}.journal"))
}

/// No journal counts this far, not files, batches, entries or terms: whatever is beyond was not written by one, and
/// what is below leaves room to count on.
const MAX_NUMBER: u64 = 1 << 62;

/// The sequence number of a journal file; none for other files.
fn file_sequence(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".journal")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = if plain { digits.parse().ok()? } else { return None };
    (1..=MAX_NUMBER).contains(&sequence).then_some(sequence)
}
