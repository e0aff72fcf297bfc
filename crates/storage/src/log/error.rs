//! Errors, sorted by whose fault they are.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use trimaran_raft::LogIndex;
use trimaran_wire::batch::Offset;

/// Why a log can't be opened, read or written.
#[derive(Debug)]
pub enum LogError {
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
    /// The tail found in the journal does not continue the segments: some were removed, or the folder is another's.
    Gap {
        /// The entry after the segments' last.
        expected: LogIndex,
        /// The journal's first.
        found: LogIndex,
    },
    /// An entry that can't stand where it was put: not the next index, or not a record batch with the next offset and
    /// the entry's term. The caller's fault, or that of the peer that the caller had it from.
    Malformed {
        /// The entry.
        index: LogIndex,
        /// The mismatch.
        what: &'static str,
    },
    /// The log does not hold these entries: deleted, or not there yet.
    NotHeld {
        /// The first one asked for.
        first: LogIndex,
        /// The last one asked for.
        last: LogIndex,
    },
    /// Below the log's start or beyond the high watermark.
    OutOfRange {
        /// The first offset that is still held.
        start: Offset,
        /// The high watermark.
        end: Offset,
    },
}

impl LogError {
    /// Whether what was once durable is not there any more: nothing but the group's other members can make it good.
    /// (Where the operating system refuses, a later attempt may succeed.)
    pub fn is_damage(&self) -> bool {
        match self {
            LogError::Corrupt { .. } | LogError::Gap { .. } => true,
            LogError::Io { .. }
            | LogError::Malformed { .. }
            | LogError::NotHeld { .. }
            | LogError::OutOfRange { .. } => false,
        }
    }
}

impl Clone for LogError {
    fn clone(&self) -> LogError {
        match self {
            LogError::Io { path, source } => LogError::Io {
                path: path.clone(),
                source: copy(source),
            },
            LogError::Corrupt { path, position, what } => corrupt(path, *position, what),
            &LogError::Gap { expected, found } => LogError::Gap { expected, found },
            &LogError::Malformed { index, what } => LogError::Malformed { index, what },
            &LogError::NotHeld { first, last } => LogError::NotHeld { first, last },
            &LogError::OutOfRange { start, end } => LogError::OutOfRange { start, end },
        }
    }
}

/// The operating system's number if it has one, and otherwise what it says.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            LogError::Corrupt { path, position, what } => {
                write!(f, "{} is corrupt at byte {position}: {what}", path.display())
            }
            LogError::Gap { expected, found } => {
                write!(
                    f,
                    "the segments end before entry {expected}, and the journal begins with entry {found}"
                )
            }
            LogError::Malformed { index, what } => write!(f, "entry {index} does not continue the log: {what}"),
            LogError::NotHeld { first, last } => write!(f, "entries {first} to {last} are not in the log"),
            LogError::OutOfRange { start, end } => write!(f, "the log holds offsets from {start} to before {end}"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } => Some(source),
            LogError::Corrupt { .. }
            | LogError::Gap { .. }
            | LogError::Malformed { .. }
            | LogError::NotHeld { .. }
            | LogError::OutOfRange { .. } => None,
        }
    }
}

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> LogError + '_ {
    move |source| LogError::Io {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn corrupt(path: &Path, position: u64, what: &'static str) -> LogError {
    LogError::Corrupt {
        path: path.to_owned(),
        position,
        what,
    }
}
