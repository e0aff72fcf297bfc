//! A file system in memory that loses, tears, fails and fills; deterministic from a seed.
//!
//! What POSIX leaves open is decided against the caller: at a [`FaultyFs::crash`] every unsynced sector of 512 bytes
//! may be kept or lost, new lengths included, and in every folder only some of the unsynced names (a prefix of what was
//! done, as on a file system with a journal) survive.

mod disk;

use self::disk::{Disk, NodeId};
use super::{DirLock, File, Fs, Misread, Mode};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An operation that can be made to fail.
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
    /// Making, renaming or removing a name.
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
    disk: Arc<Mutex<Disk>>,
}

impl FaultyFs {
    /// An empty one. The seed decides what survives crashes, and which bits flip.
    pub fn new(seed: u64) -> FaultyFs {
        FaultyFs {
            disk: Arc::new(Mutex::new(Disk::new(seed))),
        }
    }

    /// Another disk with all that programs see on this one now, as a copy of its files would hold it, durably.
    pub fn copy(&self, seed: u64) -> FaultyFs {
        FaultyFs {
            disk: Arc::new(Mutex::new(self.disk().copy(seed))),
        }
    }

    /// Power loss: unsynced bytes are lost or torn by sectors of 512 bytes, unsynced names are lost, and files that are
    /// open become useless. Afterwards it works again.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// The process was killed, the machine was not: all that was written stays, files that are open become useless.
    pub fn kill(&self) {
        self.disk().kill();
    }

    /// Goes down at this operation that changes something (see [`FaultyFs::operations`]): from there on everything
    /// fails until [`FaultyFs::crash`] or [`FaultyFs::kill`]. A write at that point has reached the page cache; a sync
    /// has done nothing.
    pub fn crash_at(&self, operation: u64) {
        self.disk().crash_at = Some(operation);
    }

    /// Whether it went down, and [`FaultyFs::crash`] is to be called.
    pub fn is_down(&self) -> bool {
        self.disk().down
    }

    /// Operations that change something (writes, syncs, names) so far. The first is number 1.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Adds a planned fault.
    pub fn fail(&self, fault: Fault) {
        self.disk().faults.push(fault);
    }

    /// Drops all planned faults and limits, and tells the truth about syncs again.
    pub fn heal(&self) {
        self.disk().heal();
    }

    /// Sets the machine's clock, in milliseconds since 1970: the files that are written to are as old as
    /// that. It begins at 0 and stands still.
    pub fn set_clock(&self, now_ms: i64) {
        self.disk().now_ms = now_ms;
    }

    /// Bytes that all files may have together; none is no limit. A write that does not fit is cut where the room ends
    /// and fails with [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// From now on syncs return at once and make nothing durable.
    pub fn lie_about_syncs(&self, lie: bool) {
        self.disk().lying = lie;
    }

    /// Flips a bit at rest; false if there is no such byte.
    pub fn corrupt(&self, path: &Path, position: u64) -> bool {
        self.disk().corrupt(path, position)
    }

    /// Flips a bit in what the next `times` reads of that byte return.
    pub fn corrupt_reads(&self, path: &Path, position: u64, times: u64) {
        self.disk().corrupt_reads(path, position, times);
    }

    /// Flips a bit in what the operating system holds of the file in memory: every read returns it, until
    /// [`File::forget_cached`].
    pub fn corrupt_cached(&self, path: &Path, position: u64) {
        self.disk().corrupt_cached(path, position);
    }

    /// The misreads ([`File::note_misread`]) since this was last called.
    pub fn misreads(&self) -> Vec<Misread> {
        std::mem::take(&mut self.disk().misreads)
    }

    /// All files with their lengths, in order.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.disk().files()
    }

    /// The bytes of a file as a read would return them now; none if there is no such file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.disk().contents(path)
    }

    /// A test that panicked elsewhere leaves the disk as it is.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fs for FaultyFs {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let (node, epoch) = self.disk().open(path, mode)?;
        Ok(Arc::new(FaultyFile {
            fs: self.clone(),
            path: path.to_owned(),
            node,
            epoch,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk().create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk().list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk().remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk().remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().sync_dir(dir)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<DirLock> {
        let epoch = self.disk().lock_dir(dir)?;
        Ok(DirLock::new(FaultyLock {
            fs: self.clone(),
            dir: dir.to_owned(),
            epoch,
        }))
    }
}

/// A folder's lock. Its process is gone after a crash, and it with it.
struct FaultyLock {
    fs: FaultyFs,
    dir: PathBuf,
    epoch: u64,
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.fs.disk().unlock_dir(&self.dir, self.epoch);
    }
}

struct FaultyFile {
    fs: FaultyFs,
    path: PathBuf,
    node: NodeId,
    /// The number of crashes before it was opened: after another one it is useless.
    epoch: u64,
}

impl FaultyFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.fs.disk();
        if disk.epoch == self.epoch {
            Ok(disk)
        } else {
            Err(io::Error::other("this file was open when the machine crashed"))
        }
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk()?.read(&self.path, self.node, buf, offset)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.disk()?.write(&self.path, self.node, slices, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk()?.sync_data(&self.path, self.node)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk()?.set_len(&self.path, self.node, len)
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        self.fs.disk().forget_cached(&self.path, offset, len);
    }

    fn note_misread(&self, position: u64, what: &'static str) {
        let path = self.path.clone();
        self.fs.disk().misreads.push(Misread { path, position, what });
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.disk()?.modified_ms(self.node)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk()?.len(self.node)
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.fs.disk().close(self.node, self.epoch);
    }
}
