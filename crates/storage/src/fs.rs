//! The file system as storage needs it: the real one, and a faulty one for tests.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod faulty;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must exist.
    Read,
    /// Read and write; it must exist.
    Write,
    /// Read and write; made if missing.
    Create,
}

/// A file system. Durability follows POSIX: data after [`File::sync_data`], names after [`Fs::sync_dir`].
#[allow(missing_docs, reason = "skeleton")]
pub trait Fs: Send + Sync + 'static {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;
    /// Makes the folder and its missing parents; durable on return.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file, shared between threads; positions are explicit.
#[allow(missing_docs, reason = "skeleton")]
pub trait File: Send + Sync {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all the slices back to back from `offset` on.
    fn write_all_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

#[allow(unused_variables, reason = "skeleton")]
impl Fs for RealFs {
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
