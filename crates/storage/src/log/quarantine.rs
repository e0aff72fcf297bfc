//! Damaged data is quarantined, not deleted, until the group has filled the replica again: should the other replicas be
//! lost too, it is all there is.

use super::segment::{self, Name};
use super::{LogError, configurations, io_error, producer_snapshot};
use crate::fs::{Fs, Mode};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use trimaran_raft::GroupId;

/// The suffix of a quarantined file's name.
const SUFFIX: &str = ".damaged";

/// Takes everything that a log holds out of its way, durably. The last segment goes first: what a crash leaves is a log
/// that ends early, which the journal knows, and not one that begins late, which it would take for retention's work.
pub(super) fn quarantine(fs: &dyn Fs, dir: &Path, group: GroupId) -> Result<(), LogError> {
    let mut names: Vec<Name> = list(fs, dir)?
        .iter()
        .filter_map(|path| Name::parse(path))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    let segments = names.iter().rev().flat_map(|name| segment::paths(dir, name, group));
    let mut moved = false;
    for path in segments.chain([configurations::path(dir), producer_snapshot::path(dir)]) {
        moved |= rename(fs, &path)?;
    }
    if moved {
        fs.sync_dir(dir).map_err(io_error(dir))?;
    }
    Ok(())
}

/// False if there is no such file.
fn rename(fs: &dyn Fs, path: &Path) -> Result<bool, LogError> {
    let mut renamed = path.to_owned().into_os_string();
    renamed.push(SUFFIX);
    match fs.rename(path, Path::new(&renamed)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true).map_err(io_error(path)),
    }
}

/// Writes a file, durably, and removes it.
pub(super) fn check_writable(fs: &dyn Fs, dir: &Path) -> Result<(), LogError> {
    let path = dir.join("writable");
    fs.create_dir_all(dir).map_err(io_error(dir))?;
    let written = fs.open(&path, Mode::Create).and_then(|file| {
        file.write_all_at(&[IoSlice::new(b"yes")], 0)?;
        file.sync_data()
    });
    let removed = fs.remove_file(&path);
    written.and(removed).map_err(io_error(&path))
}

/// The quarantined files.
pub(super) fn files(fs: &dyn Fs, dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let mut paths = list(fs, dir)?;
    paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(SUFFIX)));
    Ok(paths)
}

/// Deletes what [`super::ReplicaLog::open_lost`] has quarantined in this replica's folder, once it holds again what the
/// damaged log should have held. May block.
///
/// # Errors
/// [`LogError::Io`]; what was not deleted is found again at the next start.
pub fn delete(fs: &dyn Fs, dir: &Path) -> Result<(), LogError> {
    for path in files(fs, dir)? {
        fs.remove_file(&path).map_err(io_error(&path))?;
    }
    Ok(())
}

/// The folder's files; none if it is not there.
fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        paths => paths.map_err(io_error(dir)),
    }
}
