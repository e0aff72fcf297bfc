//! The operating system's files.

use super::{DirLock, File, Fs, Misread, Mode};
use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Slices that one system call takes: Linux's IOV_MAX.
const MAX_SLICES: usize = 1024;

/// The kernel drops what it keeps of a file in pieces that lie at multiples of their length, and no longer ones than
/// this; a piece that is only named in part stays.
const CACHED_PIECE: u64 = 2 << 20;

/// The receiver of misreads.
type Witness = Arc<dyn Fn(Misread) + Send + Sync>;

/// The operating system's files.
#[derive(Clone, Default)]
pub struct RealFs {
    witness: Option<Witness>,
}

impl RealFs {
    /// Reports each misread to `witness`, on the thread that reads.
    pub fn telling(witness: impl Fn(Misread) + Send + Sync + 'static) -> RealFs {
        RealFs {
            witness: Some(Arc::new(witness)),
        }
    }
}

impl fmt::Debug for RealFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealFs").finish_non_exhaustive()
    }
}

impl Fs for RealFs {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(mode != Mode::Read)
            .create(mode == Mode::Create);
        Ok(Arc::new(RealFile {
            file: options.truncate(false).open(path)?,
            path: path.to_owned(),
            witness: self.witness.clone(),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if parent != path {
            self.create_dir_all(parent)?;
        }
        match fs::create_dir(path) {
            // Another thread made it; its name may not be durable yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            result => result?,
        }
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    /// By a file `lock` in the folder, which stays there: locks on folders themselves are not known to all file
    /// systems.
    fn lock_dir(&self, dir: &Path) -> io::Result<DirLock> {
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(DirLock::new(file))
    }
}

struct RealFile {
    file: fs::File,
    path: PathBuf,
    witness: Option<Witness>,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        match slices {
            [one] => self.file.write_all_at(one, offset),
            many => write_many(&self.file, many, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        let start = offset / CACHED_PIECE * CACHED_PIECE;
        let end = offset.saturating_add(len).checked_next_multiple_of(CACHED_PIECE);
        // None: to the end of the file.
        let len = end.and_then(|end| NonZeroU64::new(end - start));
        // Where it can't be done, the next read shows the same again, and is taken for damage: the safe side.
        let _ = fadvise(&self.file, start, len, Advice::DontNeed);
    }

    fn note_misread(&self, position: u64, what: &'static str) {
        if let Some(witness) = &self.witness {
            let path = self.path.clone();
            witness(Misread { path, position, what });
        }
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let modified = self.file.metadata()?.modified()?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Vectored writes until everything is written; the kernel may take less than it is given.
fn write_many(file: &fs::File, slices: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    for some in slices.chunks(MAX_SLICES) {
        let mut rest = some.to_vec();
        let mut rest = rest.as_mut_slice();
        // Removes empty slices at the front, which a write would report as nothing written.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match rustix::io::pwritev(file, rest, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
