//! Recovery of a journal from its files, whatever happened to them.

use super::batch::Record;
use super::configured::Configured;
use super::file_refs::FileRefs;
use super::frame::{FrameReader, Header};
use super::owner::{self, Mark, Owner, OwnerId};
use super::{Current, GroupState, JournalError, apply, file_path, file_sequence, io_error};
use crate::fs::{Fs, Mode};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use trimaran_raft::{Entry, GroupId, HardState, LogIndex, Snapshot};

/// The recovered state of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The last hard state.
    pub hard_state: HardState,
    /// Entries after truncations, in index order and contiguous; may begin below what its segments hold already.
    pub entries: Vec<Entry>,
    /// Everything up to here was once durable in its segments ([`super::Journal::release`]): segments that end earlier
    /// have been damaged.
    pub flushed: LogIndex,
    /// This configuration entry was once durable in its folder, and was the last one of those; zero if there was none.
    pub configured: LogIndex,
    /// The log begins behind this position, and the group's store may not reflect that: whatever it holds from before
    /// is void. None if it does, or if the log has never been reset.
    pub start: Option<Box<Snapshot>>,
}

impl RecoveredGroup {
    pub(super) fn state(&self) -> GroupState {
        GroupState {
            hard_state: self.hard_state,
            flushed: self.flushed,
            configured: self.configured,
            start: self.start.clone(),
        }
    }
}

/// All that [`super::Journal::open`] needs.
pub(super) struct Found {
    pub(super) groups: BTreeMap<GroupId, RecoveredGroup>,
    pub(super) file_refs: FileRefs,
    pub(super) configured: Configured,
    pub(super) recycled: BTreeSet<u64>,
    pub(super) current: Option<Current>,
    pub(super) next_batch: u64,
    /// Whether the journal names its owner.
    pub(super) is_owned: bool,
}

/// The content of a journal's folder, at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No journal: the folder is not there, is empty, or holds nothing that a journal has written. A crash may have
    /// come while its first file was made.
    Nothing,
    /// A journal without an owner. Those of versions before 4 have none.
    Nameless,
    /// A journal of this owner.
    Of(OwnerId),
}

/// Looks whether there is a journal, and whose. Changes nothing. Whether it is whole, [`super::Journal::open_owned`]
/// says.
///
/// # Errors
/// [`JournalError::Io`]; and [`JournalError::Corrupt`] if there is a journal, and its last file can't be read.
pub fn look(fs: &dyn Fs, dir: &Path) -> Result<Presence, JournalError> {
    let files = match files(fs, dir) {
        Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
        files => files?,
    };
    if are_blank(fs, dir, &files)? {
        return Ok(Presence::Nothing);
    }
    let Some(last) = last_begun(fs, dir, &files)? else {
        return Ok(Presence::Nothing);
    };
    let owner = first_frame(fs, dir, last)?.1;
    Ok(owner.map_or(Presence::Nameless, Presence::Of))
}

fn files(fs: &dyn Fs, dir: &Path) -> Result<BTreeSet<u64>, JournalError> {
    let names = fs.list(dir).map_err(io_error(dir))?;
    Ok(names.iter().filter_map(|path| file_sequence(path)).collect())
}

/// Recovers a journal. It is compared with its owner and its mark before anything is written.
pub(super) fn recover(
    fs: &dyn Fs,
    dir: &Path,
    owner: Option<&Owner>,
    mark: Option<Mark>,
) -> Result<Found, JournalError> {
    let files = match files(fs, dir)? {
        // There was a journal, perhaps. Its mark knows.
        files if owner.is_some() && are_blank(fs, dir, &files)? => {
            check_owner(dir, owner, mark, None)?;
            remove(fs, dir, &files)?;
            BTreeSet::new()
        }
        files => files,
    };
    let Some(last) = last_begun(fs, dir, &files)? else {
        check_owner(dir, owner, mark, None)?;
        return Ok(empty(files));
    };
    let mut reader = Reader::open(fs, dir, last)?;
    let end = reader.find_end()?;
    let mut replay = Replay::default();
    let oldest = end.last.numbers.oldest;
    if oldest == 0 || oldest > last {
        return Err(reader.corrupt(end.last_position, "it names an oldest file that can't be"));
    }
    replay.files(fs, dir, oldest, last, end.position)?;
    let found = Mark {
        start: replay.owner.map_or(0, |(_, start)| start),
        batch: end.last.numbers.batch,
    };
    check_owner(dir, owner, mark, Some((replay.owner.map(|(id, _)| id), found)))?;
    // It may have been in the page cache only: an interrupted process had written but not synced it, or its sync failed
    // and the kernel took the pages for clean. From here on others rely on it.
    reader.write_again(end.last_position)?;
    let file = fs.open(&reader.path, Mode::Write).map_err(io_error(&reader.path))?;
    if reader.header(end.position)?.is_some() {
        // A torn frame. The next one may be shorter: what was left of these records behind it would be searched for
        // frames, and records contain what clients send.
        let cut = file.set_len(end.position).and_then(|()| file.sync_data());
        cut.map_err(io_error(&reader.path))?;
    }
    Ok(Found {
        recycled: files
            .into_iter()
            .filter(|file| *file < oldest || *file > last)
            .collect(),
        groups: replay.groups(),
        file_refs: replay.file_refs,
        configured: replay.configured,
        current: Some(Current {
            sequence: last,
            file,
            path: reader.path,
            position: end.position,
        }),
        next_batch: end.last.numbers.batch + 1,
        is_owned: replay.owner.is_some(),
    })
}

fn check_owner(
    dir: &Path,
    owner: Option<&Owner>,
    mark: Option<Mark>,
    found: Option<(Option<OwnerId>, Mark)>,
) -> Result<(), JournalError> {
    let checked = match (owner, found) {
        (Some(owner), found) => owner::check(owner, mark, found),
        (None, Some((Some(found), _))) => Err(owner::Mismatch::Foreign { found, expected: None }),
        (None, _) => Ok(()),
    };
    checked.map_err(|what| JournalError::Mismatch {
        dir: dir.to_owned(),
        what,
    })
}

/// Nothing was ever durable.
fn empty(files: BTreeSet<u64>) -> Found {
    Found {
        groups: BTreeMap::new(),
        file_refs: FileRefs::default(),
        configured: Configured::default(),
        recycled: files,
        current: None,
        next_batch: 1,
        is_owned: false,
    }
}

/// Whether there is nothing but zeros in the files: they were made, or overwritten, by something else than a journal.
/// Where there is a journal, this ends with the first bytes.
fn are_blank(fs: &dyn Fs, dir: &Path, files: &BTreeSet<u64>) -> Result<bool, JournalError> {
    for sequence in files {
        let mut reader = Reader::open(fs, dir, *sequence)?;
        if !reader.frames.is_blank().map_err(io_error(&reader.path))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove(fs: &dyn Fs, dir: &Path, files: &BTreeSet<u64>) -> Result<(), JournalError> {
    for sequence in files {
        let path = file_path(dir, *sequence);
        fs.remove_file(&path).map_err(io_error(&path))?;
    }
    fs.sync_dir(dir).map_err(io_error(dir))
}

/// The last file that has a valid first frame. The one after it may be there without: a crash came while it was begun.
fn last_begun(fs: &dyn Fs, dir: &Path, files: &BTreeSet<u64>) -> Result<Option<u64>, JournalError> {
    for (number, sequence) in files.iter().rev().enumerate() {
        let mut reader = Reader::open(fs, dir, *sequence)?;
        if reader.has_begun()? {
            return Ok(Some(*sequence));
        }
        // A file is begun only once the one before it is there, whole.
        let predecessor_missing = *sequence != 1 && !files.contains(&(sequence - 1));
        if number > 0 || predecessor_missing {
            return Err(reader.corrupt(0, "its first frame is damaged"));
        }
    }
    Ok(None)
}

/// Where the last file ends.
struct End {
    position: u64,
    last: Header,
    last_position: u64,
}

/// One file, with the errors it causes.
struct Reader {
    frames: FrameReader,
    path: PathBuf,
    sequence: u64,
}

impl Reader {
    fn open(fs: &dyn Fs, dir: &Path, sequence: u64) -> Result<Reader, JournalError> {
        let path = file_path(dir, sequence);
        let file = fs.open(&path, Mode::Write).map_err(io_error(&path))?;
        let frames = FrameReader::new(file).map_err(io_error(&path))?;
        Ok(Reader { frames, path, sequence })
    }

    fn corrupt(&self, position: u64, what: &'static str) -> JournalError {
        JournalError::Corrupt {
            path: self.path.clone(),
            position,
            what,
        }
    }

    /// The header of a whole frame of this file at `position`. Read more than once if there seems to be none: a flip on
    /// the way must neither pass for damage nor cut off, as torn, what was acknowledged.
    fn frame(&mut self, position: u64) -> Result<Option<Header>, JournalError> {
        let sequence = self.sequence;
        let found = self
            .frames
            .read_until_sound(position, "a frame's checksum is wrong", |frames| {
                Ok(match frames.header(position)? {
                    // A frame from before the file was recycled is sound.
                    Some(header) if header.numbers.file != sequence => Some(None),
                    Some(header) if !header.is_known_version() => Some(Some(header)),
                    Some(header) => frames.body(position, &header)?.is_some().then_some(Some(header)),
                    None => None,
                })
            });
        self.known(position, found.map_err(io_error(&self.path))?.flatten())
    }

    /// The header of a frame of this file at `position`; whether its records are whole is another question.
    fn header(&mut self, position: u64) -> Result<Option<Header>, JournalError> {
        let header = self.frames.header(position).map_err(io_error(&self.path))?;
        self.known(position, header.filter(|header| header.numbers.file == self.sequence))
    }

    fn known(&self, position: u64, header: Option<Header>) -> Result<Option<Header>, JournalError> {
        if header.is_some_and(|header| !header.is_known_version()) {
            return Err(self.corrupt(position, "it was written by a newer version"));
        }
        Ok(header)
    }

    fn has_begun(&mut self) -> Result<bool, JournalError> {
        if self.frame(0)?.is_some() {
            return Ok(true);
        }
        self.check_torn(0, 0)?;
        Ok(false)
    }

    /// Walks to the end of the last file.
    fn find_end(&mut self) -> Result<End, JournalError> {
        let mut position = 0;
        let mut end: Option<End> = None;
        while let Some(header) = self.frame(position)? {
            let batch = header.numbers.batch;
            let expected = end.as_ref().map_or(batch, |end| end.last.numbers.batch + 1);
            if batch > expected {
                return Err(self.corrupt(position, "a batch is missing"));
            }
            if batch < expected {
                break; // only bytes that happen to look like a frame
            }
            end = Some(End {
                position: position + header.frame_len(),
                last: header,
                last_position: position,
            });
            position += header.frame_len();
        }
        let end = end.ok_or_else(|| self.corrupt(0, "its first frame is damaged"))?;
        self.check_torn(position, end.last.numbers.batch)?;
        Ok(end)
    }

    /// A bad frame with a valid later one behind it was not torn: the later one was written after it was synced.
    fn check_torn(&mut self, position: u64, last_batch: u64) -> Result<(), JournalError> {
        // What the records of a frame contain is not searched where the header says how long they are.
        let from = match self.header(position)? {
            Some(header) if header.numbers.batch > last_batch => position + header.frame_len(),
            _ => position,
        };
        let sequence = self.sequence;
        let later = |header: &Header| header.numbers.file == sequence && header.numbers.batch > last_batch;
        match self.frames.find(from, later).map_err(io_error(&self.path))? {
            Some(_) => Err(self.corrupt(position, "a frame is damaged, and valid ones follow it")),
            None => Ok(()),
        }
    }

    fn write_again(&mut self, position: u64) -> Result<(), JournalError> {
        match self.frames.write_again(position).map_err(io_error(&self.path))? {
            true => Ok(()),
            false => Err(self.corrupt(position, "a frame is damaged")),
        }
    }
}

/// The state that the frames so far lead to.
#[derive(Default)]
struct Replay {
    states: BTreeMap<GroupId, GroupState>,
    entries: BTreeMap<GroupId, Vec<Entry>>,
    file_refs: FileRefs,
    configured: Configured,
    last_batch: Option<u64>,
    /// The owner, and its last start that wrote to the journal.
    owner: Option<(OwnerId, u64)>,
}

impl Replay {
    /// Reads the live files in order; the last one ends at `end`, the others where the next one says.
    fn files(&mut self, fs: &dyn Fs, dir: &Path, oldest: u64, last: u64, end: u64) -> Result<(), JournalError> {
        for sequence in oldest..=last {
            let mut reader = Reader::open(fs, dir, sequence).map_err(missing_file)?;
            let end = if sequence == last {
                end
            } else {
                previous_end(fs, dir, sequence + 1)?
            };
            self.file_refs.begin_file(sequence);
            self.file(&mut reader, end)?;
        }
        Ok(())
    }

    fn file(&mut self, reader: &mut Reader, end: u64) -> Result<(), JournalError> {
        let mut position = 0;
        while position < end {
            let header = reader
                .frame(position)?
                .ok_or_else(|| reader.corrupt(position, "a frame is damaged"))?;
            let batch = header.numbers.batch;
            if self.last_batch.is_some_and(|last| last + 1 != batch) {
                return Err(reader.corrupt(position, "a batch is missing"));
            }
            self.last_batch = Some(batch);
            self.frame(reader, position, &header)?;
            position += header.frame_len();
        }
        if position != end {
            return Err(reader.corrupt(end, "the next file says that this one ends within a frame"));
        }
        Ok(())
    }

    fn frame(&mut self, reader: &mut Reader, position: u64, header: &Header) -> Result<(), JournalError> {
        let body = reader.frames.body(position, header).map_err(io_error(&reader.path))?;
        let result = self.records(body.unwrap_or_default(), header.records, position == 0);
        result.map_err(|what| reader.corrupt(position, what))
    }

    fn records(&mut self, mut body: &[u8], count: u32, first_of_file: bool) -> Result<(), &'static str> {
        for number in 0..count {
            let record = Record::decode(&mut body)?;
            let begins = matches!(record, Record::Begin { .. });
            if begins != (first_of_file && number == 0) {
                return Err("a file begins with its summary, and only there");
            }
            // The files of the versions before journals had owners may come first.
            if first_of_file && number == 1 && self.owner.is_some() && !matches!(record, Record::Owner { .. }) {
                return Err("the file names no owner, and those before it do");
            }
            self.record(record)?;
        }
        if body.is_empty() {
            Ok(())
        } else {
            Err("there is more than its records")
        }
    }

    fn record(&mut self, record: Record) -> Result<(), &'static str> {
        apply(&record, &mut self.states, &mut self.file_refs, &mut self.configured);
        match record {
            Record::Begin { .. } => self.states.clear(),
            Record::Truncate { group, from } => {
                if let Some(entries) = self.entries.get_mut(&group) {
                    cut(entries, from);
                }
            }
            Record::Entry { group, entry } => {
                let entries = self.entries.entry(group).or_default();
                cut(entries, entry.index);
                if entries.last().is_some_and(|last| last.index.next() != entry.index) {
                    return Err("entries are not contiguous");
                }
                entries.push(entry);
            }
            Record::Forget { group } | Record::Reset { group, .. } => {
                self.entries.remove(&group);
            }
            Record::Owner { id, start } => {
                if self.owner.is_some_and(|(known, last)| id != known || start < last) {
                    return Err("it belongs to another data folder, or to an earlier start");
                }
                self.owner = Some((id, start));
            }
            Record::HardState { .. } | Record::Flushed { .. } | Record::Configured { .. } | Record::Start { .. } => {}
        }
        Ok(())
    }

    fn groups(&mut self) -> BTreeMap<GroupId, RecoveredGroup> {
        let mut groups = BTreeMap::<GroupId, RecoveredGroup>::new();
        for (id, state) in &self.states {
            let state = state.clone();
            let group = RecoveredGroup {
                hard_state: state.hard_state,
                entries: Vec::new(),
                flushed: state.flushed,
                configured: state.configured,
                start: state.start,
            };
            groups.insert(*id, group);
        }
        for (id, entries) in std::mem::take(&mut self.entries) {
            if !entries.is_empty() {
                groups.entry(id).or_default().entries = entries;
            }
        }
        groups
    }
}

/// Removes the entries from `from` on.
fn cut(entries: &mut Vec<Entry>, from: LogIndex) {
    let kept = entries.first().map_or(0, |first| from.0.saturating_sub(first.index.0));
    entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
}

/// Where a file's successor says that it ends.
fn previous_end(fs: &dyn Fs, dir: &Path, successor: u64) -> Result<u64, JournalError> {
    Ok(first_frame(fs, dir, successor)?.0)
}

/// Where the file before it ends, and the owner that it names.
fn first_frame(fs: &dyn Fs, dir: &Path, sequence: u64) -> Result<(u64, Option<OwnerId>), JournalError> {
    let mut reader = Reader::open(fs, dir, sequence).map_err(missing_file)?;
    let header = reader
        .frame(0)?
        .ok_or_else(|| reader.corrupt(0, "a frame is damaged"))?;
    let body = reader.frames.body(0, &header).map_err(io_error(&reader.path))?;
    let mut body = body.unwrap_or_default();
    let Ok(Record::Begin { previous_end }) = Record::decode(&mut body) else {
        return Err(reader.corrupt(0, "a file begins with its summary"));
    };
    match Record::decode(&mut body) {
        Ok(Record::Owner { id, .. }) => Ok((previous_end, Some(id))),
        _ => Ok((previous_end, None)),
    }
}

/// A live file that is not there has been removed by someone: not the journal.
fn missing_file(error: JournalError) -> JournalError {
    match error {
        JournalError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => JournalError::Corrupt {
            path,
            position: 0,
            what: "the file is missing, and younger ones need it",
        },
        other => other,
    }
}
