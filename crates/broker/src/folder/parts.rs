//! The parts of a data folder: what each of them says of the folder that it belongs to.

use super::{FolderError, Identity, io_error};
use std::fs;
use std::io;
use std::path::Path;
use trimaran_registry::FolderId;
use trimaran_registry::folder::{Description, FolderParts, FolderState, JournalPart, MixedParts};
use trimaran_storage::fs::RealFs;
use trimaran_storage::journal::{JournalError, Presence, look, read_mark};

/// In `partitions/`: the name of the folder that the replicas belong to.
const NAME: &str = "folder.id";

/// Looks at the parts, and says what the folder is. Changes nothing. `alone`: no other broker could fill its replicas
/// again.
pub(super) fn state(path: &Path, before: Option<&Identity>, alone: bool) -> Result<FolderState, FolderError> {
    let parts = parts(path, before)?;
    let state = parts.state().map_err(|mixed| FolderError::Mismatch {
        path: path.to_owned(),
        what: advice(&mixed),
    })?;
    match state {
        FolderState::New { lost: true } if alone => Err(FolderError::Mismatch {
            path: path.join("journal"),
            what: "the journal of this data folder is gone, and this broker is the only one, so nobody can fill its \
                   replicas again. Put the journal back (is its disk mounted?). If it is lost, what is in `partitions` \
                   can't be used without it: set `broker.data` to an empty folder to begin with nothing"
                .to_owned(),
        }),
        FolderState::New { lost: true } if parts.journal == JournalPart::Missing => {
            tracing::error!(
                data = %path.display(),
                "the journal of this data folder is gone, and with it what this broker had promised: the folder gets a \
                 new name, its replicas are set aside, and the other brokers fill them again. See \"A disk is \
                 damaged\" in docs/operations.md"
            );
            Ok(state)
        }
        FolderState::New { .. } => Ok(state),
        FolderState::Same(_) => {
            warn_of_missing_mark(path, &parts);
            Ok(state)
        }
    }
}

fn parts(path: &Path, before: Option<&Identity>) -> Result<FolderParts, FolderError> {
    let mut parts = FolderParts::default();
    parts.description = before.map(|before| Description {
        folder: before.folder,
        is_member: before.is_member || before.founded_with.is_some(),
        is_lost: before.lost,
    });
    parts.journal = match look(&RealFs::default(), &path.join("journal")) {
        Ok(Presence::Nothing) => JournalPart::Missing,
        Ok(Presence::Of(owner)) => JournalPart::Of(FolderId(owner.0)),
        // Where it is damaged is said when it is opened.
        Err(JournalError::Io { path, source }) => return Err(FolderError::Io { path, source }),
        Ok(Presence::Nameless) | Err(_) => JournalPart::Nameless,
    };
    parts.replicas = replicas_folder(path)?;
    parts.has_metadata = has_files(&path.join("partitions/group-0"))?;
    Ok(parts)
}

fn has_files(folder: &Path) -> Result<bool, FolderError> {
    match fs::read_dir(folder) {
        Ok(mut files) => Ok(files.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(folder)(error)),
    }
}

/// The folder that the replicas say they belong to.
fn replicas_folder(path: &Path) -> Result<Option<FolderId>, FolderError> {
    let file = path.join("partitions").join(NAME);
    match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(io_error(&file)(error)),
        text => match text.map(|text| text.trim().parse()) {
            Ok(Ok(folder)) => Ok(Some(folder)),
            _ => Err(FolderError::Mismatch {
                path: file,
                what: "can't be understood; it names the data folder that these replicas belong to. Delete it if you \
                       know that they belong to this one"
                    .to_owned(),
            }),
        },
    }
}

/// Writes down whose the replicas are, unless that is known already.
pub(super) fn name_replicas(path: &Path, folder: FolderId) -> Result<(), FolderError> {
    let dir = path.join("partitions");
    let file = dir.join(NAME);
    if replicas_folder(path).ok().flatten() == Some(folder) {
        return Ok(());
    }
    super::replace(&dir, &file, &format!("{folder}\n")).map_err(io_error(&file))
}

fn advice(mixed: &MixedParts) -> String {
    let what = match mixed {
        MixedParts::NoDescription { .. } => {
            "put `identity.toml` back. If it is lost, and other brokers have this one's replicas, move `journal` away \
             and start again: the others then fill this broker"
        }
        MixedParts::Journal { .. } => {
            "put `journal` and `identity.toml` of the same data folder together (is the right disk mounted?). If this \
             folder's journal is lost, and other brokers have this one's replicas, move `journal` away and start \
             again: the others then fill this broker"
        }
        MixedParts::Replicas { .. } => {
            "put `partitions` and `identity.toml` of the same data folder together (is the right disk mounted?). If \
             this folder's replicas are lost, and other brokers have them, move `partitions` away and start again: the \
             others then fill them"
        }
    };
    format!("the parts of this data folder don't belong together: {mixed}; {what}")
}

/// Without its mark, an older copy of the journal would not be recognised.
fn warn_of_missing_mark(path: &Path, parts: &FolderParts) {
    let JournalPart::Of(folder) = parts.journal else { return };
    let mark = read_mark(&RealFs::default(), &super::mark(path));
    if matches!(mark, Ok(found) if found.is_none_or(|(owner, _)| owner.0 != folder.0)) {
        tracing::warn!(
            data = %path.display(),
            "`journal.mark` is missing, or another folder's: whether the journal is the latest one can't be told this time"
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Folder, FolderError};
    use super::*;
    use std::path::PathBuf;
    use std::sync::Arc;
    use trimaran_raft::{GroupId, HardState, Term};
    use trimaran_registry::{BrokerId, Founders, Incarnation};
    use trimaran_storage::journal::{Journal, JournalBatch, JournalOptions};

    const OPTIONS: JournalOptions = JournalOptions {
        file_bytes: 1 << 16,
        max_files: 2,
    };

    fn batch() -> JournalBatch {
        let mut batch = JournalBatch::default();
        let state = HardState {
            term: Term(1),
            ..HardState::default()
        };
        batch.hard_state(GroupId(0), state);
        batch
    }

    /// Writes to the folder's journal, and ends that start well.
    pub(in crate::folder) fn journal(folder: &Folder) {
        let fs = Arc::new(RealFs::default());
        let (mut journal, _) = Journal::open_owned(fs, &folder.journal(), OPTIONS, folder.owner()).unwrap();
        journal.write(&batch()).unwrap();
        journal.close().unwrap();
    }

    /// Writes a journal as versions did before journals named their folder.
    pub(in crate::folder) fn nameless_journal(path: &Path) {
        let fs = Arc::new(RealFs::default());
        let (mut journal, _) = Journal::open(fs, &path.join("journal"), OPTIONS).unwrap();
        journal.write(&batch()).unwrap();
    }

    /// A folder that has founded a cluster, with a journal, and a replica of the metadata group.
    fn used() -> (tempfile::TempDir, FolderId) {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path()).unwrap();
        folder
            .notes()
            .founders(&Founders::new([BrokerId(1)]), Some(&[]))
            .unwrap();
        journal(&folder);
        let replica = folder.partitions().join("group-0");
        fs::create_dir(&replica).unwrap();
        fs::write(replica.join("configurations"), "x").unwrap();
        let id = folder.id();
        (dir, id)
    }

    fn open(path: &Path) -> Result<Folder, FolderError> {
        let mut folder = Folder::open(path, "c", 1)?;
        folder.begin(Incarnation(folder.known().0 + 1), false)?;
        Ok(folder)
    }

    fn refused(path: &Path) -> String {
        let identity = fs::read(path.join("identity.toml")).ok();
        let error = open(path).map(|_| ()).unwrap_err();
        assert!(matches!(error, FolderError::Mismatch { .. }), "{error}");
        assert_eq!(
            fs::read(path.join("identity.toml")).ok(),
            identity,
            "a refusal writes nothing"
        );
        error.to_string()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = { fs::read_dir(folder).unwrap() }
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn what_lies_beside_a_journal_is_no_journal() {
        for left in ["nothing", "lost+found", "zeros", "torn"] {
            let (dir, id) = used();
            assert_eq!(open(dir.path()).unwrap().id(), id);
            let journal = dir.path().join("journal");
            let is_journal = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "journal");
            let [file] = &files(&journal).into_iter().filter(is_journal).collect::<Vec<_>>()[..] else {
                panic!("one file")
            };
            let bytes = fs::read(file).unwrap();
            match left {
                "zeros" => fs::write(file, vec![0; bytes.len()]).unwrap(),
                "torn" => fs::write(file, &bytes[..20]).unwrap(),
                _ => fs::remove_file(file).unwrap(),
            }
            if left == "lost+found" {
                fs::create_dir(journal.join(left)).unwrap();
            }
            let error = Folder::open_alone(dir.path(), "c", 1)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(error.contains("journal of this data folder is gone"), "{left}: {error}");
            let folder = open(dir.path()).unwrap();
            assert!(folder.id() != id && folder.is_member(), "{left}");
        }
    }

    #[test]
    fn a_replica_of_the_metadata_group_alone_shows_that_something_is_lost() {
        let (dir, id) = used();
        fs::remove_dir_all(dir.path().join("journal")).unwrap();
        fs::remove_file(dir.path().join("identity.toml")).unwrap();
        assert!(Folder::open_alone(dir.path(), "c", 1).is_err());
        let folder = open(dir.path()).unwrap();
        assert!(folder.id() != id && folder.is_member());
        journal(&folder);
        drop(folder);
        assert!(open(dir.path()).unwrap().is_member());
    }

    #[test]
    fn a_journal_without_its_description_is_refused() {
        let (dir, id) = used();
        fs::remove_file(dir.path().join("identity.toml")).unwrap();
        let error = refused(dir.path());
        assert!(
            error.contains(&id.to_string()) && error.contains("put `identity.toml` back"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        nameless_journal(dir.path());
        let error = refused(dir.path());
        assert!(error.contains("put `identity.toml` back"), "{error}");
    }

    #[test]
    fn parts_of_another_folder_are_refused_with_both_names() {
        for part in ["journal", "partitions"] {
            let ((ours, our_id), (other, other_id)) = (used(), used());
            fs::remove_dir_all(ours.path().join(part)).unwrap();
            fs::rename(other.path().join(part), ours.path().join(part)).unwrap();
            let error = refused(ours.path());
            assert!(
                error.contains(&our_id.to_string()) && error.contains(&other_id.to_string()),
                "{error}"
            );
            assert!(error.contains(&format!("put `{part}` and `identity.toml`")), "{error}");
            fs::remove_dir_all(ours.path().join(part)).unwrap();
            let folder = open(ours.path()).unwrap();
            assert_eq!(folder.id() == our_id, part == "partitions", "as the error says");
        }
    }

    #[test]
    fn whose_the_replicas_are_must_be_readable() {
        let (dir, _) = used();
        let name = dir.path().join("partitions/folder.id");
        for text in [&b"x"[..], b"", &[0xff; 40]] {
            fs::write(&name, text).unwrap();
            let error = refused(dir.path());
            assert!(error.contains("folder.id") && error.contains("Delete it"), "{error}");
        }
        fs::remove_file(&name).unwrap();
        let id = open(dir.path()).unwrap().id();
        assert_eq!(fs::read_to_string(&name).unwrap(), format!("{id}\n"));
    }
}
