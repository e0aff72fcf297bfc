//! Whose journal it is, and how a journal that is not the owner's latest one is recognised.
//!
//! A journal that was deleted, zeroed, or replaced by an older copy looks like a sound one with less in it. Nothing
//! inside its folder can tell, so two things are known in two places:
//!
//! - The journal carries the owner's id and the number of the owner's start: at the beginning of each file, and in a
//!   frame of its own for each start.
//! - A small file outside the journal's folder holds a [`Mark`]: how far the journal had come. It is written after the
//!   frame that it speaks of is durable, and before anything in that file, or of that start, is reported durable. So a
//!   journal that ends before its mark has lost something, and a crash at any moment leaves one that doesn't.
//!
//! A loss behind the mark within one file and one start can't be told from a write that a crash tore:
//! [`super::Journal::note_progress`] narrows that down, and [`super::Journal::close`] closes it for a start that ends
//! well.
//!
//! # The mark's file
//! Replaced as a whole. 44 bytes, little-endian:
//!
//! | at | field |
//! |---|---|
//! | 0 | magic `TRIM` |
//! | 4 | version `u16`: 1 |
//! | 6 | zero `u16` |
//! | 8 | owner, 16 bytes |
//! | 24 | number of the owner's start `u64` |
//! | 32 | number of the last batch `u64` |
//! | 40 | CRC-32C of the 40 bytes before it `u32` |

use super::JournalError;
use crate::fs::{Fs, Mode, read_exact_at};
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

const MARK_BYTES: usize = 44;
const MAGIC: [u8; 4] = *b"TRIM";
const VERSION: u16 = 1;

/// The owner of a journal: the data folder that it belongs to, by its random name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerId(pub [u8; 16]);

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How far a journal has come. Neither number ever falls in the life of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The owner's start that wrote last.
    pub start: u64,
    /// The number of the last batch, at least.
    pub batch: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {}, batch {}", self.start, self.batch)
    }
}

/// The owner of a journal, at one of its starts.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its id.
    pub id: OwnerId,
    /// The number of this start: higher than at all earlier ones.
    pub start: u64,
    /// The file of the journal's mark. Must not lie in the journal's folder, and its folder must be there.
    pub mark: PathBuf,
}

/// Reads a mark, and whose it is. None if there is no such file.
///
/// # Errors
/// [`JournalError::Corrupt`] if it is damaged; [`JournalError::Io`].
pub fn read_mark(fs: &dyn Fs, path: &Path) -> Result<Option<(OwnerId, Mark)>, JournalError> {
    let read = || {
        let file = fs.open(path, Mode::Read)?;
        let mut bytes = [0; MARK_BYTES];
        let whole = file.len()? == MARK_BYTES as u64;
        if whole {
            read_exact_at(&*file, &mut bytes, 0)?;
        }
        Ok(bytes)
    };
    let bytes = match read() {
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(super::io_error(path))?,
    };
    let mark = decode(&bytes).map_err(|what| JournalError::Corrupt {
        path: path.to_owned(),
        position: 0,
        what,
    })?;
    Ok(Some(mark))
}

/// Replaces a mark, durably. A crash leaves the old one or the new one.
pub(super) fn write_mark(fs: &dyn Fs, owner: &Owner, mark: Mark) -> Result<(), JournalError> {
    let path = &owner.mark;
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        let file = fs.open(&beside, Mode::Create)?;
        file.set_len(0)?;
        file.write_all_at(&[IoSlice::new(&encode(owner.id, mark))], 0)?;
        file.sync_data()?;
        fs.rename(&beside, path)?;
        fs.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(super::io_error(path))
}

fn encode(id: OwnerId, mark: Mark) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..24].copy_from_slice(&id.0);
    bytes[24..32].copy_from_slice(&mark.start.to_le_bytes());
    bytes[32..40].copy_from_slice(&mark.batch.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; MARK_BYTES]) -> Result<(OwnerId, Mark), &'static str> {
    let mut rest = &bytes[..];
    let mut take = |len| rest.split_off(..len).unwrap_or_default();
    let (magic, version, _, id) = (take(4), take(2), take(2), take(16));
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (start, batch, crc) = (number(take(8)), number(take(8)), number(take(4)));
    if magic != MAGIC || crc != u64::from(crc32c::crc32c(&bytes[..40])) {
        return Err(
            "the journal's mark is damaged; delete this file if you know that the journal beside it is the latest one",
        );
    }
    if number(version) != u64::from(VERSION) {
        return Err("the journal's mark was written by a newer version");
    }
    let mut owner = OwnerId::default();
    owner.0.copy_from_slice(id);
    Ok((owner, Mark { start, batch }))
}

/// Why a journal is not the owner's latest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The journal belongs to another owner; or it has one, and is opened without.
    Foreign {
        /// The owner that the journal names.
        found: OwnerId,
        /// The owner that opens it.
        expected: Option<OwnerId>,
    },
    /// The journal names no owner, and so is older than the one that the owner had.
    Nameless,
    /// There is none, and the owner had one.
    Missing {
        /// How far it had come.
        mark: Mark,
    },
    /// The journal ends before its mark: its last files are gone, or it is an older copy.
    Behind {
        /// How far it has come.
        found: Mark,
        /// How far it had come.
        mark: Mark,
    },
    /// The journal was written by a later start than this one: the owner's own description is an older copy.
    Ahead {
        /// The start that wrote last.
        found: u64,
        /// This start.
        start: u64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Foreign {
                found,
                expected: Some(expected),
            } => write!(f, "it belongs to the data folder {found}, and this is {expected}"),
            Mismatch::Foreign { found, expected: None } => {
                write!(
                    f,
                    "it belongs to the data folder {found}, and is opened without an owner"
                )
            }
            Mismatch::Nameless => f.write_str("it names no owner, so it is older than the journal that was here"),
            Mismatch::Missing { mark } => write!(f, "it is gone; it had come to {mark}"),
            Mismatch::Behind { found, mark } => write!(
                f,
                "it ends at {found}, and had come to {mark}: its last files are missing, or it is an older copy"
            ),
            Mismatch::Ahead { found, start } => write!(
                f,
                "start {found} has written to it, and this is start {start}: the data folder's description is an \
                 older copy"
            ),
        }
    }
}

/// Compares what was found with what the owner knows. A mark that is not there says nothing.
pub(super) fn check(owner: &Owner, mark: Option<Mark>, found: Option<(Option<OwnerId>, Mark)>) -> Result<(), Mismatch> {
    match (found, mark) {
        (None, None) | (Some((None, _)), None) => Ok(()),
        (None, Some(mark)) => Err(Mismatch::Missing { mark }),
        (Some((None, _)), Some(_)) => Err(Mismatch::Nameless),
        (Some((Some(id), _)), _) if id != owner.id => Err(Mismatch::Foreign {
            found: id,
            expected: Some(owner.id),
        }),
        (Some((_, found)), Some(mark)) if found.start < mark.start || found.batch < mark.batch => {
            Err(Mismatch::Behind { found, mark })
        }
        (Some((_, found)), _) if found.start > owner.start => Err(Mismatch::Ahead {
            found: found.start,
            start: owner.start,
        }),
        (Some(_), _) => Ok(()),
    }
}
