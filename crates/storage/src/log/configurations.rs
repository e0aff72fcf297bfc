//! The configurations that a log holds: all of them in memory, those of flushed entries also in a file of their own,
//! since segments hold record batches and nothing else.
//!
//! The file is `configurations`, in the replica's folder: records back to back, ascending by index, appended and synced
//! before the segment that holds the entry. A log that was reset replaces it by one with the
//! configuration at its start.
//!
//! | at | field |
//! |---|---|
//! | 0 | magic `TRIC` |
//! | 4 | version `u16`, 1 |
//! | 6 | zero `u16` |
//! | 8 | length of the configuration in bytes `u32` |
//! | 12 | CRC-32C of the group `u64`, of the 12 bytes before it and of everything after it `u32` |
//! | 16 | index `u64` |
//! | 24 | configuration: three counts `u32` (voters, outgoing voters, learners), then their ids `u64` in that order |
//!
//! All little-endian.

use super::segment::read_bounded;
use super::{LogError, corrupt, io_error};
use crate::codec::{put_configuration, take_configuration, take_counted};
use crate::fs::{Fs, Mode};
use crate::fs::{Wrong, read_until_sound};
use crate::snapshot::LogStart;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use trimaran_raft::{Configuration, Entry, GroupId, LogIndex, Payload};

const MAGIC: [u8; 4] = *b"TRIC";
const VERSION: u16 = 1;
const HEAD_LEN: usize = 24;

/// The configurations of a log's group.
#[derive(Clone, Debug, Default)]
pub(super) struct Configurations {
    /// Ascending; the first one may be of an entry that has been deleted.
    pub(super) list: Vec<(LogIndex, Configuration)>,
    /// Bytes of the file that hold records.
    pub(super) file_bytes: u64,
}

impl Configurations {
    /// As a log that begins at this position knows them, before anything is in its folder.
    pub(super) fn at(start: &LogStart) -> Configurations {
        Configurations {
            list: vec![(start.end.index, start.configuration.clone())],
            file_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, entry: &Entry) {
        if let Payload::Configuration(configuration) = &entry.payload {
            self.list.push((entry.index, (**configuration).clone()));
        }
    }

    /// Entries from here on are gone.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        while self.list.pop_if(|(index, _)| *index >= from).is_some() {}
    }

    /// As [`Configurations::truncate`], of a log all of whose entries are in its folder: the file is cut as well, by
    /// the next one that is written to it. What was behind had been written before its entry's segment was.
    pub(super) fn cut(&mut self, from: LogIndex) {
        while let Some((_, configuration)) = self.list.pop_if(|(index, _)| *index >= from) {
            self.file_bytes -= record_bytes(&configuration);
        }
    }

    /// Nothing before `first` will be asked for, but what is in force there.
    pub(super) fn trim(&mut self, first: LogIndex) {
        let later = self.list.partition_point(|(index, _)| *index < first);
        self.list.drain(..later.saturating_sub(1));
    }

    /// The configuration that this very entry carries.
    pub(super) fn of(&self, index: LogIndex) -> Option<&Configuration> {
        let place = self.list.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.list[place].1)
    }

    /// The configurations of the entries `first..=last`.
    pub(super) fn between(&self, first: LogIndex, last: LogIndex) -> Vec<(LogIndex, Configuration)> {
        let within = |index: &LogIndex| (first..=last).contains(index);
        let list = self.list.iter().filter(|(index, _)| within(index));
        list.cloned().collect()
    }
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("configurations")
}

/// Appends records to the file, durably, and cuts off what an interrupted attempt left behind them. Returns how long it
/// is then.
pub(super) fn append<'a>(
    fs: &dyn Fs,
    dir: &Path,
    group: GroupId,
    at: u64,
    list: impl Iterator<Item = (LogIndex, &'a Configuration)>,
) -> Result<u64, LogError> {
    let mut bytes = Vec::new();
    list.for_each(|(index, configuration)| encode(&mut bytes, group, index, configuration));
    if bytes.is_empty() {
        return Ok(at);
    }
    let path = path(dir);
    fs.create_dir_all(dir).map_err(io_error(dir))?;
    let file = fs.open(&path, Mode::Create).map_err(io_error(&path))?;
    let end = at + bytes.len() as u64;
    file.write_all_at(&[IoSlice::new(&bytes)], at)
        .map_err(io_error(&path))?;
    if file.len().map_err(io_error(&path))? > end {
        file.set_len(end).map_err(io_error(&path))?;
    }
    file.sync_data().map_err(io_error(&path))?;
    if at == 0 {
        fs.sync_dir(dir).map_err(io_error(dir))?;
    }
    Ok(end)
}

/// The configurations that a replica's folder must hold, and others that it may.
pub(super) struct Expected<'a> {
    pub(super) group: GroupId,
    /// The configuration of this entry was durable; zero if there was none.
    pub(super) configured: LogIndex,
    /// The log was reset to this position, and its folder may not reflect that.
    pub(super) start: Option<&'a LogStart>,
}

/// Reads the file, and makes of it what the log's start says it must be.
pub(super) fn open(fs: &dyn Fs, dir: &Path, expected: &Expected<'_>) -> Result<Configurations, LogError> {
    let (found, damage) = read(fs, dir, expected.group)?;
    if let Some(start) = expected.start
        && found.list.first().is_none_or(|(index, _)| *index != start.end.index)
    {
        return begin(fs, dir, expected.group, start);
    }
    // What a torn write left at the end is overwritten by the next one. It was no torn write if it was durable.
    if expected.configured > LogIndex::ZERO && found.of(expected.configured).is_none() {
        let what = damage.unwrap_or("the configuration of an entry is missing");
        return Err(corrupt(&path(dir), found.file_bytes, what));
    }
    Ok(found)
}

/// Replaces the file by one with the configuration at a log's start. A crash leaves it to be done again: the journal
/// holds on to the start until the log's folder reflects it.
pub(super) fn begin(fs: &dyn Fs, dir: &Path, group: GroupId, start: &LogStart) -> Result<Configurations, LogError> {
    let mut configurations = Configurations::at(start);
    let list = configurations
        .list
        .iter()
        .map(|(index, configuration)| (*index, configuration));
    configurations.file_bytes = append(fs, dir, group, 0, list)?;
    Ok(configurations)
}

/// All records from the front that are whole, and what is wrong with the one after them.
fn read(fs: &dyn Fs, dir: &Path, group: GroupId) -> Result<(Configurations, Option<&'static str>), LogError> {
    let path = path(dir);
    let file = match fs.open(&path, Mode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Configurations::default(), None)),
        file => file.map_err(io_error(&path))?,
    };
    let len = file.len().map_err(io_error(&path))?;
    let len_in_memory = usize::try_from(len).unwrap_or(usize::MAX);
    let mut best = Configurations::default();
    let verdict = read_until_sound(&*file, len, || {
        let (found, damage) = decode_all(&read_bounded(&*file, &path, 0, len_in_memory)?, group);
        let position = found.file_bytes;
        if position >= best.file_bytes {
            best = found;
        }
        Ok(damage.map_or(Ok(()), |what| Err(Wrong { position, what })))
    })?;
    Ok((best, verdict.err().map(|wrong| wrong.what)))
}

fn decode_all(bytes: &[u8], group: GroupId) -> (Configurations, Option<&'static str>) {
    let mut found = Configurations::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match decode(&mut rest, group) {
            Ok((index, _)) if found.list.last().is_some_and(|(last, _)| *last >= index) => {
                return (found, Some("its entries go back"));
            }
            Ok(record) => found.list.push(record),
            Err(what) => return (found, Some(what)),
        }
        found.file_bytes = (bytes.len() - rest.len()) as u64;
    }
    (found, None)
}

fn encode(to: &mut Vec<u8>, group: GroupId, index: LogIndex, configuration: &Configuration) {
    let mut body = index.0.to_le_bytes().to_vec();
    put_configuration(&mut body, configuration);
    let len = (body.len() - size_of::<u64>()) as u32;
    let mut head = [0; 12];
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&VERSION.to_le_bytes());
    head[8..].copy_from_slice(&len.to_le_bytes());
    to.extend_from_slice(&head);
    to.extend_from_slice(&checksum(group, &head, &body).to_le_bytes());
    to.extend_from_slice(&body);
}

fn record_bytes(configuration: &Configuration) -> u64 {
    let mut body = Vec::new();
    put_configuration(&mut body, configuration);
    (HEAD_LEN + body.len()) as u64
}

fn checksum(group: GroupId, head: &[u8], body: &[u8]) -> u32 {
    let group = group.0.to_le_bytes();
    [&group, head, body].into_iter().fold(0, crc32c::crc32c_append)
}

fn decode(from: &mut &[u8], group: GroupId) -> Result<(LogIndex, Configuration), &'static str> {
    const SHORT: &str = "a record is cut short";
    let (head, rest) = from.split_first_chunk::<HEAD_LEN>().ok_or(SHORT)?;
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..4] != MAGIC {
        return Err("there is no record");
    }
    let len = u32_at(8) as usize;
    if rest.len() < len {
        return Err(SHORT);
    }
    let (mut body, rest) = (&from[16..HEAD_LEN + len], &rest[len..]);
    if checksum(group, &head[..12], body) != u32_at(12) {
        return Err("a record's checksum is wrong");
    }
    if head[4..6] != VERSION.to_le_bytes() {
        return Err("it was written by a newer version");
    }
    let index = LogIndex(take_counted(&mut body)?);
    let configuration = take_configuration(&mut body)?;
    if !body.is_empty() {
        return Err("there is more than a configuration");
    }
    *from = rest;
    Ok((index, configuration))
}
