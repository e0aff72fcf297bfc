//! A file system in memory that loses, tears, fails and fills; deterministic from a seed.

use super::{File, Fs, Mode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a file.
    Open,
    /// Reading from a file.
    Read,
    /// Writing to a file, or changing its length.
    Write,
    /// [`File::sync_data`] and [`Fs::sync_dir`].
    Sync,
    /// Renaming or removing.
    Name,
}

/// Operations that will fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Of this kind...
    pub operation: Operation,
    /// ... on paths that contain this text (all do contain the empty one)...
    pub path_contains: String,
    /// ... after this many that succeed...
    pub after: u64,
    /// ... this many times...
    pub times: u64,
    /// ... with this error.
    pub kind: io::ErrorKind,
}

/// The faulty file system; a clone is the same one.
#[derive(Clone)]
pub struct FaultyFs {
    _todo: (),
}

#[allow(unused_variables, reason = "skeleton")]
impl FaultyFs {
    /// An empty one.
    pub fn new(seed: u64) -> FaultyFs {
        todo!()
    }
    /// Power loss: unsynced bytes are lost or torn by sectors of 512 bytes, unsynced names are lost, and files that are
    /// open become useless. Afterwards it works again.
    pub fn crash(&self) {
        todo!()
    }
    /// Goes down at this operation that changes something (see [`FaultyFs::operations`]): from there on everything fails
    /// until [`FaultyFs::crash`].
    pub fn crash_at(&self, operation: u64) {
        todo!()
    }
    /// Whether it went down, and [`FaultyFs::crash`] is to be called.
    pub fn is_down(&self) -> bool {
        todo!()
    }
    /// Operations that change something (writes, syncs, names) so far.
    pub fn operations(&self) -> u64 {
        todo!()
    }
    /// Adds a planned fault.
    pub fn fail(&self, fault: Fault) {
        todo!()
    }
    /// Drops all planned faults and limits.
    pub fn heal(&self) {
        todo!()
    }
    /// Bytes that all files may have together; none is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        todo!()
    }
    /// From now on syncs return at once and make nothing durable.
    pub fn lie_about_syncs(&self, lie: bool) {
        todo!()
    }
    /// Flips a bit at rest; false if there is no such byte.
    pub fn corrupt(&self, path: &Path, position: u64) -> bool {
        todo!()
    }
    /// Flips a bit in what the next `times` reads of that byte return.
    pub fn corrupt_reads(&self, path: &Path, position: u64, times: u64) {
        todo!()
    }
    /// All files with their lengths, in order.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        todo!()
    }
}

#[allow(unused_variables, reason = "skeleton")]
impl Fs for FaultyFs {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        todo!()
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        todo!()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        todo!()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        todo!()
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        todo!()
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        todo!()
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        todo!()
    }
}
