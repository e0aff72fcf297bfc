//! Bytes that fail their check are read again before they count as damage.
//!
//! A flip may have happened on the way: in the controller, on the bus, in the memory that the operating system keeps of
//! the file. Only what is wrong each time is taken for what the disk holds.

use super::File;
use std::fmt;
use std::path::PathBuf;

/// Reads in all before a check's verdict stands. One is too few (a replica gives up its whole log); each more costs a
/// damaged disk some milliseconds, once.
const MAX_READS: u32 = 4;

/// Something that was wrong when it was read, and right when it was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub position: u64,
    /// The defect.
    pub what: &'static str,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Misread { path, position, what } = self;
        write!(f, "{} was read wrong at byte {position} ({what})", path.display())
    }
}

/// A check's verdict: what is wrong, and where in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) position: u64,
    pub(crate) what: &'static str,
}

/// Calls `read` until what it reads passes its check, but not for ever; `len` bytes from the verdict's position on are
/// taken from the device then. Errors of the operating system (`E`) stand at once.
pub(crate) fn read_until_sound<T, E>(
    file: &dyn File,
    len: u64,
    mut read: impl FnMut() -> Result<Result<T, Wrong>, E>,
) -> Result<Result<T, Wrong>, E> {
    let mut first = match read()? {
        Ok(sound) => return Ok(Ok(sound)),
        Err(wrong) => wrong,
    };
    for _ in 1..MAX_READS {
        file.forget_cached(first.position, len);
        match read()? {
            Ok(sound) => {
                file.note_misread(first.position, first.what);
                return Ok(Ok(sound));
            }
            // Another one lies further ahead: what was wrong before is right now.
            Err(wrong) if wrong.position > first.position => {
                file.note_misread(first.position, first.what);
                first = wrong;
            }
            Err(wrong) => first = wrong,
        }
    }
    Ok(Err(first))
}
