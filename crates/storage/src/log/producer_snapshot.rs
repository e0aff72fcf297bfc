//! The last batches of idempotent producers before the log's first entry. Retention has deleted them, and they must
//! still be recognised when they are sent again (KIP-98).
//!
//! The file is `producers`, in the replica's folder. It is replaced as a whole (by way of `producers.new`), durably,
//! before the segments go. It says for which first entry it was written, and with it goes what the log holds from its
//! own first entry on:
//!
//! * A log that begins earlier holds some of the file's batches itself, and those are not taken from the file: a crash
//!   came before all the segments were deleted.
//! * A log that begins later was reset since, by a position that named no batches. Of what lies between, the file knows
//!   nothing, so nothing of it counts: it would refuse what a producer sends next. It need not be deleted.
//!
//! | at | field |
//! |---|---|
//! | 0 | magic `TRIP` |
//! | 4 | version `u16`, 1 |
//! | 6 | zero `u16` |
//! | 8 | number of batches `u32` |
//! | 12 | CRC-32C of the group `u64`, of the 12 bytes before it and of everything after it `u32` |
//! | 16 | first index `u64`: all batches lie before it |
//! | 24 | the batches, as told in [`crate::producers`], ascending by index |
//!
//! All little-endian. A log without this file has nothing to remember.

use super::segment::{read_bounded, sound};
use super::{LogError, corrupt, io_error};
use crate::codec::take_counted;
use crate::fs::{Fs, Mode, Wrong};
use crate::producers::{KEPT_BATCHES, MAX_PRODUCERS, ProducedBatch, RECORD_LEN, newest, put_batch, take_so_many};
use crate::snapshot::LogStart;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use trimaran_raft::{GroupId, LogIndex};

const MAGIC: [u8; 4] = *b"TRIP";
const VERSION: u16 = 1;
const HEAD_LEN: usize = 24;
/// Batches in a file: as many as are kept of all producers. What is more was not written by us, and is not read.
const MAX_BATCHES: usize = KEPT_BATCHES * MAX_PRODUCERS;

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("producers")
}

/// Replaces the file, durably: the log is to begin with `first`, and these batches lie before it, ascending. Of more
/// than can be kept, the newest are.
pub(super) fn write(
    fs: &dyn Fs,
    dir: &Path,
    group: GroupId,
    first: LogIndex,
    batches: &[ProducedBatch],
) -> Result<(), LogError> {
    let bytes = encode(group, first, &newest(batches, MAX_BATCHES));
    let (path, beside) = (path(dir), dir.join("producers.new"));
    fs.create_dir_all(dir).map_err(io_error(dir))?;
    let file = fs.open(&beside, Mode::Create).map_err(io_error(&beside))?;
    file.set_len(0)
        .and_then(|()| file.write_all_at(&[IoSlice::new(&bytes)], 0))
        .and_then(|()| file.sync_data())
        .map_err(io_error(&beside))?;
    fs.rename(&beside, &path).map_err(io_error(&path))?;
    fs.sync_dir(dir).map_err(io_error(dir))
}

/// What a position says that the log begins behind. Without any, a file of earlier counts for nothing, or for what is
/// still true: what was committed.
pub(super) fn begin(fs: &dyn Fs, dir: &Path, group: GroupId, start: &LogStart) -> Result<(), LogError> {
    match start.producers.is_empty() {
        true => Ok(()),
        false => write(fs, dir, group, start.end.index.next(), &start.producers),
    }
}

/// The batches that lie before the first entry of a log that begins with `first`.
pub(super) fn read(fs: &dyn Fs, dir: &Path, group: GroupId, first: LogIndex) -> Result<Vec<ProducedBatch>, LogError> {
    let path = path(dir);
    let file = match fs.open(&path, Mode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(io_error(&path))?,
    };
    let longest = HEAD_LEN + MAX_BATCHES * RECORD_LEN;
    let length = usize::try_from(file.len().map_err(io_error(&path))?).unwrap_or(usize::MAX);
    if length > longest {
        return Err(corrupt(&path, longest as u64, "it is longer than it can be"));
    }
    let read = || read_bounded(&*file, &path, 0, length);
    let check = |bytes: Vec<u8>| decode(&bytes, group).map_err(|what| Wrong { position: 0, what });
    let (written_for, mut batches) = sound(&*file, &path, length, read, check)?;
    if written_for < first {
        return Ok(Vec::new());
    }
    batches.retain(|batch| batch.index < first);
    Ok(batches)
}

fn encode(group: GroupId, first: LogIndex, batches: &[ProducedBatch]) -> Vec<u8> {
    let mut body = first.0.to_le_bytes().to_vec();
    batches.iter().for_each(|batch| put_batch(&mut body, batch));
    let mut head = [0; 12];
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&VERSION.to_le_bytes());
    head[8..].copy_from_slice(&(batches.len() as u32).to_le_bytes());
    let crc = checksum(group, &head, &body).to_le_bytes();
    [&head[..], &crc, &body].concat()
}

fn checksum(group: GroupId, head: &[u8], body: &[u8]) -> u32 {
    let group = group.0.to_le_bytes();
    [&group, head, body].into_iter().fold(0, crc32c::crc32c_append)
}

fn decode(bytes: &[u8], group: GroupId) -> Result<(LogIndex, Vec<ProducedBatch>), &'static str> {
    let (head, _) = bytes
        .split_first_chunk::<HEAD_LEN>()
        .ok_or("it ends before its head does")?;
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..4] != MAGIC {
        return Err("it does not begin as a file of producers does");
    }
    let mut body = &bytes[16..];
    if checksum(group, &head[..12], body) != u32_at(12) {
        return Err("its checksum is wrong");
    }
    if head[4..8] != u32::from(VERSION).to_le_bytes() {
        return Err("it was written by a newer version");
    }
    let first = LogIndex(take_counted(&mut body)?);
    let batches = take_so_many(&mut body, u32_at(8) as usize, first)?;
    match body.is_empty() {
        true => Ok((first, batches)),
        false => Err("there is more than its batches"),
    }
}
