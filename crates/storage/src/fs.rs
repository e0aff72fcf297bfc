//! The file system as storage needs it: the real one, and a faulty one for tests.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod faulty;
mod misread;
mod real;

pub use misread::Misread;
pub(crate) use misread::{Wrong, read_until_sound};
pub use real::RealFs;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read only; it must exist.
    Read,
    /// Read and write; it must exist.
    Write,
    /// Read and write; made if missing. A new name is durable only after [`Fs::sync_dir`].
    Create,
}

/// A file system. Durability follows POSIX: data after [`File::sync_data`], names after [`Fs::sync_dir`]. Errors are
/// the operating system's.
pub trait Fs: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;

    /// Makes the folder and its missing parents. Durable on return.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The files and folders in `dir`, as full paths in order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Renames a file within a folder, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name; the file is readable where it is open.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable: new, renamed and removed ones.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the folder for one holder, among all threads and processes, until the lock is dropped or the process ends.
    /// Keeps nobody from reading or writing its files. Fails with [`io::ErrorKind::WouldBlock`] if there is a holder.
    fn lock_dir(&self, dir: &Path) -> io::Result<DirLock>;
}

/// A folder's lock; dropping it unlocks.
pub struct DirLock {
    _held: Box<dyn Any + Send + Sync>,
}

impl DirLock {
    /// The lock that is held until `held` is dropped: for implementations of [`Fs`].
    pub fn new(held: impl Any + Send + Sync) -> DirLock {
        DirLock { _held: Box::new(held) }
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirLock").finish_non_exhaustive()
    }
}

/// An open file, shared between threads; positions are explicit, in bytes from the start.
pub trait File: Send + Sync {
    /// Reads some bytes at `offset`; zero at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all the slices back to back from `offset` on, in one system call if the operating system takes them.
    /// After an error any part may have been written.
    fn write_all_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable, and the length that is needed to read it. After an error nothing is
    /// known: what was written since the last success must be written again.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Lets the next read of this range come from the device, and not from what the operating system holds of it in
    /// memory, as far as possible: what was read did not pass its check. What was not yet written to the device stays.
    fn forget_cached(&self, offset: u64, len: u64);

    /// Reports that what did not pass its check did when it was read again, for the disk's operator.
    fn note_misread(&self, position: u64, what: &'static str);

    /// When the file was last written to, in milliseconds since 1970, by the clock of the machine.
    fn modified_ms(&self) -> io::Result<i64>;

    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Fills `buf` from `offset` on; [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
pub fn read_exact_at(file: &dyn File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buf = &mut buf[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
