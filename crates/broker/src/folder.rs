//! The data folder: whose it is, who has it open, and what lies where.
//!
//! ```text
//! trimaran-data/
//!   identity.toml   cluster, broker, format, the folder's own name, and the number of the last start
//!   lock            held by the process that has the folder open; names it
//!   journal/        the one write-ahead journal; its files name the folder
//!   journal.mark    how far the journal has come: an older copy of it is recognised
//!   partitions/     a folder a replica: group-0 is the cluster's metadata; `folder.id` names the folder
//! ```

mod parts;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use trimaran_registry::folder::FolderState;
use trimaran_registry::starts::{Announcement, Start};
use trimaran_registry::{BrokerId, FolderId, Founders, Incarnation};
use trimaran_storage::journal::{Owner, OwnerId};

/// The files of a journal that is older than what its broker has promised. Nobody needs them when the broker is whole
/// again.
const FORMER: &str = "journal.former";

/// The folder's description.
const IDENTITY: &str = "identity.toml";

/// The format that is written. A folder of a later one is refused, not guessed at. In format 1 the founders are not
/// noted, but follow from `founded_with`.
const FORMAT: i64 = 2;

/// Formats that are read.
const FORMATS: std::ops::RangeInclusive<i64> = 1..=FORMAT;

/// A data folder that this process, and no other, has open. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    identity: Identity,
    last: Start,
    known: Incarnation,
    /// The number that the last start counts for, now that it is known whether the folder can be relied on.
    previous: Incarnation,
    /// Holds the lock for as long as it is open.
    _lock: File,
}

/// Why a data folder can't be opened. Says what to do.
#[derive(Debug)]
pub enum FolderError {
    /// The system refuses.
    Io {
        /// The file or folder that was touched.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has it.
    Locked {
        /// The folder.
        path: PathBuf,
        /// Which process, as far as it has told.
        process: Option<u32>,
    },
    /// It is of another cluster, broker or format, or its description can't be read.
    Mismatch {
        /// The file that says so.
        path: PathBuf,
        /// The fault, and what to do.
        what: String,
    },
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FolderError::Io { path, source } => write!(f, "can't use {}: {source}", path.display()),
            FolderError::Locked { path, process } => {
                write!(f, "the data folder {} is in use by ", path.display())?;
                match process {
                    Some(process) => write!(f, "process {process}")?,
                    None => f.write_str("another process")?,
                }
                f.write_str("; stop it first, or give this broker another folder with `broker.data`")
            }
            FolderError::Mismatch { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for FolderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FolderError::Io { source, .. } => Some(source),
            FolderError::Locked { .. } | FolderError::Mismatch { .. } => None,
        }
    }
}

/// The content of `identity.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    cluster: String,
    broker: u32,
    incarnation: u64,
    /// None in a folder that was made before folders had names.
    folder: Option<FolderId>,
    /// The others that this broker founded the cluster with, and their folders.
    founded_with: Option<Vec<(BrokerId, FolderId)>>,
    /// The folder's content is older than what its broker has promised: the next start must not take it for sound.
    lost: bool,
    /// The folder has been part of the metadata group, under this name or an earlier one.
    is_member: bool,
    /// The founders that the metadata group was opened with. Outlives the journal: it is about the cluster.
    founders: Option<Founders>,
}

/// Writes notes into the folder's description, for threads that don't hold the folder itself.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    path: PathBuf,
    identity: Identity,
}

impl Notes {
    /// Notes durably who founded the cluster, and with which folders of the others this broker did, if it is founding
    /// it now.
    ///
    /// # Errors
    /// When the system refuses: then the metadata group must not be opened.
    pub(crate) fn founders(&mut self, founders: &Founders, with: Option<&[(BrokerId, FolderId)]>) -> io::Result<()> {
        let before = self.identity.clone();
        self.identity.founders = Some(founders.clone());
        if let Some(with) = with {
            self.identity.founded_with = Some(with.to_vec());
        }
        if self.identity != before {
            write_identity(&self.path, &self.path.join(IDENTITY), &self.identity)?;
        }
        Ok(())
    }

    /// Notes durably that what the folder holds is older than what its broker has promised.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn lost(&mut self) -> io::Result<()> {
        self.identity.lost = true;
        write_identity(&self.path, &self.path.join(IDENTITY), &self.identity)
    }

    /// Notes durably that this folder is part of the metadata group: without its journal, it must not be taken for a
    /// new one.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn is_member(&mut self) -> io::Result<()> {
        if !self.identity.is_member {
            self.identity.is_member = true;
            write_identity(&self.path, &self.path.join(IDENTITY), &self.identity)?;
        }
        Ok(())
    }
}

impl Folder {
    /// Opens or creates the folder, takes its lock, and checks that it belongs to this broker of this cluster, and that
    /// its parts belong together. It is not to be used before [`Folder::begin`]. A folder without a journal holds
    /// nothing that was promised, even if the rest is still there.
    ///
    /// # Errors
    /// [`FolderError`]: in use, another broker's, mixed up, or the system refuses.
    pub(crate) fn open(path: &Path, cluster: &str, broker: u32) -> Result<Folder, FolderError> {
        Folder::open_as(path, cluster, broker, false)
    }

    /// As [`Folder::open`], for a broker that is the only one of its cluster: nobody could fill its replicas again.
    ///
    /// # Errors
    /// As [`Folder::open`]; and if the folder's journal is gone.
    pub(crate) fn open_alone(path: &Path, cluster: &str, broker: u32) -> Result<Folder, FolderError> {
        Folder::open_as(path, cluster, broker, true)
    }

    fn open_as(path: &Path, cluster: &str, broker: u32, alone: bool) -> Result<Folder, FolderError> {
        for folder in [path, &path.join("journal"), &path.join("partitions")] {
            fs::create_dir_all(folder).map_err(io_error(folder))?;
        }
        let lock = lock(path)?;
        let file = path.join(IDENTITY);
        let before = read_identity(&file)?;
        if let Some(before) = &before {
            before.check(&file, path, cluster, broker)?;
        }
        let state = parts::state(path, before.as_ref(), alone)?;
        let known = before
            .as_ref()
            .map_or(Incarnation(0), |before| Incarnation(before.incarnation));
        let last = match state {
            FolderState::Same(name) => Start {
                folder: name.unwrap_or_default(),
                incarnation: known,
            },
            FolderState::New { .. } => Start::default(),
        };
        let mut identity = before.unwrap_or_else(|| Identity {
            cluster: cluster.to_owned(),
            broker,
            incarnation: 0,
            folder: None,
            founded_with: None,
            lost: false,
            is_member: false,
            founders: None,
        });
        identity.is_member |= state == FolderState::New { lost: true };
        identity.founders = identity.known_founders();
        Ok(Folder {
            path: path.to_owned(),
            identity,
            last,
            known,
            previous: Incarnation(0),
            _lock: lock,
        })
    }

    /// Counts this start, durably. A folder that holds nothing that can be relied on gets a new name. `lost`: what it
    /// holds is older than what its broker has promised, so its journal is set aside.
    ///
    /// # Errors
    /// [`FolderError::Io`]: when the system refuses.
    pub(crate) fn begin(&mut self, incarnation: Incarnation, lost: bool) -> Result<(), FolderError> {
        let file = self.path.join(IDENTITY);
        let is_sound = self.last.incarnation > Incarnation(0) && !lost;
        self.previous = if is_sound {
            self.last.incarnation
        } else {
            Incarnation(0)
        };
        self.identity.incarnation = incarnation.0;
        if is_sound {
            self.identity.folder.get_or_insert_with(random);
        } else {
            self.identity.folder = Some(random());
            self.identity.is_member |= self.identity.founded_with.is_some();
            self.identity.lost = true;
            // Before the journal goes: a crash in between must not leave half of it under a name that vouches for it.
            write_identity(&self.path, &file, &self.identity).map_err(io_error(&file))?;
            self.set_journal_aside()?;
            self.identity.lost = false;
        }
        // Before the description vouches for it: with another name, they would look like another folder's.
        parts::name_replicas(&self.path, self.id())?;
        write_identity(&self.path, &file, &self.identity).map_err(io_error(&file))
    }

    /// Moves the journal's files to `journal.former`, where nobody reads them. If that is on another disk, they are
    /// deleted.
    fn set_journal_aside(&self) -> Result<(), FolderError> {
        let (journal, former) = (self.journal(), self.path.join(FORMER));
        let mut files = Vec::new();
        for entry in fs::read_dir(&journal).map_err(io_error(&journal))? {
            let entry = entry.map_err(io_error(&journal))?;
            if entry.file_type().map_err(io_error(&journal))?.is_file() {
                files.push(entry.file_name());
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        match fs::remove_dir_all(&former) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&former)(error)),
            _ => fs::create_dir_all(&former).map_err(io_error(&former))?,
        }
        for name in files {
            let path = journal.join(&name);
            let moved = fs::rename(&path, former.join(&name));
            moved.or_else(|_| fs::remove_file(&path)).map_err(io_error(&path))?;
        }
        let synced = File::open(&journal).and_then(|folder| folder.sync_all());
        synced.map_err(io_error(&journal))
    }

    /// The start before this one with this folder; its incarnation is zero if the folder holds nothing that can be
    /// relied on.
    pub(crate) fn last(&self) -> Start {
        self.last
    }

    /// The highest incarnation that the folder names, whatever else it holds.
    pub(crate) fn known(&self) -> Incarnation {
        self.known
    }

    /// This start, as it is announced to others.
    pub(crate) fn announcement(&self) -> Announcement {
        Announcement {
            start: Start {
                folder: self.id(),
                incarnation: Incarnation(self.incarnation()),
            },
            previous: self.previous,
        }
    }

    /// Which start of the broker this is: larger than all before it.
    pub(crate) fn incarnation(&self) -> u64 {
        self.identity.incarnation
    }

    /// Its own name.
    pub(crate) fn id(&self) -> FolderId {
        self.identity.folder.unwrap_or_default()
    }

    /// With whom this broker founded the cluster, if it did, in this folder.
    pub(crate) fn founded_with(&self) -> Option<Vec<(BrokerId, FolderId)>> {
        self.identity.founded_with.clone()
    }

    /// Whether it has been part of the metadata group, under its name or an earlier one.
    pub(crate) fn is_member(&self) -> bool {
        self.identity.is_member
    }

    /// The owner of the journal, for opening it.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            id: OwnerId(self.id().0),
            start: self.incarnation(),
            mark: mark(&self.path),
        }
    }

    /// The founders that the metadata group was opened with here, if it was.
    pub(crate) fn founders(&self) -> Option<Founders> {
        self.identity.founders.clone()
    }

    /// For the thread that founds.
    pub(crate) fn notes(&self) -> Notes {
        Notes {
            path: self.path.clone(),
            identity: self.identity.clone(),
        }
    }

    /// Where the journal lies.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the replicas' folders lie.
    pub(crate) fn partitions(&self) -> PathBuf {
        self.path.join("partitions")
    }
}

impl Identity {
    /// As noted; or, in a folder of format 1, as they follow from the founding.
    fn known_founders(&self) -> Option<Founders> {
        let own = BrokerId(i32::try_from(self.broker).ok()?);
        let with = || {
            let with = self.founded_with.as_ref()?;
            Some(Founders::new(with.iter().map(|(broker, _)| *broker).chain([own])))
        };
        self.founders.clone().or_else(with)
    }

    fn check(&self, file: &Path, folder: &Path, cluster: &str, broker: u32) -> Result<(), FolderError> {
        let mismatch = |what| {
            Err(FolderError::Mismatch {
                path: file.to_owned(),
                what,
            })
        };
        if self.cluster != cluster {
            return mismatch(format!(
                "the folder belongs to cluster `{}`, but `cluster.id` is `{cluster}`; correct `cluster.id`, or set \
                 `broker.data` to another folder than {}",
                self.cluster,
                folder.display()
            ));
        }
        if self.broker != broker {
            return mismatch(format!(
                "the folder belongs to broker {}, but `broker.id` is {broker}; correct `broker.id`, or set \
                 `broker.data` to another folder than {}",
                self.broker,
                folder.display()
            ));
        }
        Ok(())
    }
}

/// A name that no other folder has.
fn random() -> FolderId {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_i64(crate::clock::wall_clock_ms());
        hasher.write_u32(std::process::id());
        half.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    FolderId(bytes)
}

/// The file in which it is noted how far the journal has come: not in the journal's own folder, which may be on a disk
/// of its own.
fn mark(path: &Path) -> PathBuf {
    path.join("journal.mark")
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { path, source }
}

fn lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // What can't be read names nobody.
            let _ = (&file).take(32).read_to_string(&mut holder);
            return Err(FolderError::Locked {
                path: folder.to_owned(),
                process: holder.trim().parse().ok(),
            });
        }
        Err(error) => return Err(io_error(&path)(error.into())),
    }
    let named = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    named.map_err(io_error(&path))?;
    Ok(file)
}

/// An error that names the file.
pub(crate) fn mismatch(file: &Path, what: &str) -> FolderError {
    FolderError::Mismatch {
        path: file.to_owned(),
        what: what.to_owned(),
    }
}

const DAMAGED: &str = "can't be understood; restore it, or set `broker.data` to an empty folder";

/// A file that describes something of the folder, if it is there and has the checksum that it was written with. One
/// that says nothing but these keys may have been written without a checksum.
pub(crate) fn read_description(
    file: &Path,
    keys_without_checksum: &[&str],
) -> Result<Option<toml::Table>, FolderError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(mismatch(file, DAMAGED)),
        Err(error) => return Err(io_error(file)(error)),
    };
    let table: toml::Table = text.parse().map_err(|_| mismatch(file, DAMAGED))?;
    check_sum(&text, &table, keys_without_checksum).map_err(|what| mismatch(file, what))?;
    Ok(Some(table))
}

fn read_identity(file: &Path) -> Result<Option<Identity>, FolderError> {
    let Some(table) = read_description(file, &KEYS_WITHOUT_CHECKSUM)? else {
        return Ok(None);
    };
    let mismatch = |what| mismatch(file, what);
    let damaged = || mismatch(DAMAGED);
    let number = |key: &str| table.get(key).and_then(toml::Value::as_integer);
    match number("format") {
        Some(format) if FORMATS.contains(&format) => {}
        Some(_) => {
            return Err(mismatch(
                "the folder was written by a later version of Trimaran; start that version, or set `broker.data` to \
                 another folder",
            ));
        }
        None => return Err(damaged()),
    }
    let identity = || {
        Some(Identity {
            cluster: table.get("cluster_id")?.as_str()?.to_owned(),
            broker: number("broker_id")?.try_into().ok()?,
            incarnation: number("incarnation")?.try_into().ok()?,
            folder: match table.get("folder_id") {
                None => None,
                Some(id) => Some(id.as_str()?.parse().ok()?),
            },
            founded_with: match table.get("founded_with") {
                None => None,
                Some(with) => Some(with.as_array()?.iter().map(founder).collect::<Option<_>>()?),
            },
            lost: table.get("lost").is_some_and(|lost| lost.as_bool() != Some(false)),
            is_member: table
                .get("member")
                .is_some_and(|member| member.as_bool() != Some(false)),
            founders: match table.get("founders") {
                None => None,
                Some(founders) => Some(noted_founders(founders)?),
            },
        })
    };
    identity().map(Some).ok_or_else(damaged)
}

/// The keys of descriptions that were written without a checksum.
const KEYS_WITHOUT_CHECKSUM: [&str; 6] = [
    "format",
    "cluster_id",
    "broker_id",
    "incarnation",
    "folder_id",
    "founded_with",
];

/// A changed digit would be another broker, another folder or another number of starts, and nobody would know.
fn check_sum(text: &str, table: &toml::Table, keys_without: &[&str]) -> Result<(), &'static str> {
    let stored = match table.get("checksum") {
        Some(stored) => stored.as_str().unwrap_or_default(),
        None if table.keys().all(|key| keys_without.contains(&key.as_str())) => return Ok(()),
        None => {
            return Err(
                "has lost its checksum: it has been damaged; restore it, or set `broker.data` to an empty folder",
            );
        }
    };
    if stored == checksum(text) {
        Ok(())
    } else {
        Err(
            "does not have the checksum that it was written with: it has been damaged or edited; restore it, or set \
             `broker.data` to an empty folder",
        )
    }
}

/// Of all lines that say something but its own, in hexadecimal. Later versions may say more.
pub(crate) fn checksum(text: &str) -> String {
    let says_something = |line: &&str| !line.starts_with('#') && !line.starts_with("checksum");
    let sum = text.lines().filter(says_something).fold(0, |sum, line| {
        crc32c::crc32c_append(crc32c::crc32c_append(sum, line.as_bytes()), b"\n")
    });
    format!("{sum:08x}")
}

/// `[1, 2, 3]`, and at least one.
fn noted_founders(ids: &toml::Value) -> Option<Founders> {
    let id = |id: &toml::Value| Some(BrokerId(id.as_integer()?.try_into().ok()?));
    let ids: Vec<BrokerId> = ids.as_array()?.iter().map(id).collect::<Option<_>>()?;
    (!ids.is_empty()).then(|| Founders::new(ids))
}

/// `2@0123…`: a broker and its folder.
fn founder(text: &toml::Value) -> Option<(BrokerId, FolderId)> {
    let (broker, folder) = text.as_str()?.split_once('@')?;
    Some((BrokerId(broker.parse().ok()?), folder.parse().ok()?))
}

fn write_identity(folder: &Path, file: &Path, identity: &Identity) -> io::Result<()> {
    let text = describe(identity);
    replace(folder, file, &format!("{text}checksum = \"{}\"\n", checksum(&text)))
}

/// Writes a file of a folder beside, and renames it over, so that a crash leaves the old one or the new one.
fn replace(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    let mut beside = file.to_owned().into_os_string();
    beside.push(".new");
    let mut new = File::create(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    File::open(folder)?.sync_all()
}

fn describe(identity: &Identity) -> String {
    let mut text = format!(
        "# Whose data this is. Written by Trimaran at every start; do not edit.\n\
         format = {FORMAT}\ncluster_id = \"{}\"\nbroker_id = {}\nincarnation = {}\n",
        identity.cluster, identity.broker, identity.incarnation
    );
    if let Some(id) = identity.folder {
        text.push_str(&format!("folder_id = \"{id}\"\n"));
    }
    if let Some(with) = &identity.founded_with {
        let with: Vec<String> = with
            .iter()
            .map(|(broker, folder)| format!("\"{broker}@{folder}\""))
            .collect();
        text.push_str(&format!("founded_with = [{}]\n", with.join(", ")));
    }
    if identity.lost {
        text.push_str("lost = true\n");
    }
    if identity.is_member {
        text.push_str("member = true\n");
    }
    if let Some(founders) = &identity.founders {
        text.push_str(&format!("founders = [{founders}]\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::parts::tests::{journal, nameless_journal};
    use super::*;
    use std::collections::BTreeSet;

    /// Opens a folder, and begins a start with it whose number is the next one.
    fn open(path: &Path, cluster: &str, broker: u32) -> Result<Folder, FolderError> {
        let mut folder = Folder::open(path, cluster, broker)?;
        folder.begin(Incarnation(folder.known().0 + 1), false)?;
        Ok(folder)
    }

    #[test]
    fn a_second_opening_is_refused_and_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "c", 1).unwrap();
        let error = open(dir.path(), "c", 1).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        open(dir.path(), "c", 1).unwrap();
    }

    #[test]
    fn a_start_is_known_to_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Folder::open(dir.path(), "c", 1).unwrap();
        assert_eq!((first.last(), first.known()), (Start::default(), Incarnation(0)));
        first.begin(Incarnation(5), false).unwrap();
        assert_eq!(first.announcement().previous, Incarnation(0), "it held nothing");
        let start = first.announcement().start;
        journal(&first);
        drop(first);
        let mut second = Folder::open(dir.path(), "c", 1).unwrap();
        assert_eq!((second.last(), second.known()), (start, Incarnation(5)));
        second.begin(Incarnation(9), false).unwrap();
        let expected = Announcement {
            start: Start {
                incarnation: Incarnation(9),
                ..start
            },
            previous: Incarnation(5),
        };
        assert_eq!(second.announcement(), expected);
        fs::remove_dir_all(second.journal()).unwrap();
        drop(second);
        let third = Folder::open(dir.path(), "c", 1).unwrap();
        assert_eq!((third.last(), third.known()), (Start::default(), Incarnation(9)));
    }

    #[test]
    fn a_folder_that_is_behind_gets_another_name_and_an_empty_journal() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "c", 1).unwrap();
        let with = [(BrokerId(2), FolderId([7; 16]))];
        let founders = Founders::new([1, 2].map(BrokerId));
        first.notes().founders(&founders, Some(&with)).unwrap();
        let name = first.id();
        journal(&first);
        fs::create_dir(first.journal().join("lost+found")).unwrap();
        drop(first);
        let mut second = Folder::open(dir.path(), "c", 1).unwrap();
        second.begin(Incarnation(9), true).unwrap();
        assert_ne!(second.id(), name);
        assert_eq!(
            (second.is_member(), second.announcement().previous),
            (true, Incarnation(0))
        );
        assert_eq!(second.founders(), Some(founders), "who founded the cluster stays");
        let file = format!("{:020}.journal", 1);
        assert!(!second.journal().join(&file).exists());
        assert!(dir.path().join(FORMER).join(&file).exists());
        assert!(!read_identity(&dir.path().join(IDENTITY)).unwrap().unwrap().lost);
    }

    #[test]
    fn a_folder_that_was_noted_as_lost_is_not_taken_for_sound() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "c", 1).unwrap();
        let name = first.id();
        journal(&first);
        first.notes().lost().unwrap();
        drop(first);
        let second = Folder::open(dir.path(), "c", 1).unwrap();
        assert_eq!((second.last(), second.known()), (Start::default(), Incarnation(1)));
        drop(second);
        let third = open(dir.path(), "c", 1).unwrap();
        assert_ne!(third.id(), name);
        assert!(!third.journal().join(format!("{:020}.journal", 1)).exists());
    }

    #[test]
    fn a_folder_keeps_its_name_and_its_notes_as_long_as_it_has_its_journal() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "c", 1).unwrap();
        let (name, with) = (
            first.id(),
            vec![(BrokerId(2), FolderId([7; 16])), (BrokerId(3), first.id())],
        );
        assert_eq!(first.founded_with(), None);
        let founders = Founders::new([1, 2, 3].map(BrokerId));
        first.notes().founders(&founders, Some(&with)).unwrap();
        journal(&first);
        drop(first);
        let second = open(dir.path(), "c", 1).unwrap();
        assert_eq!((second.id(), second.founded_with()), (name, Some(with.clone())));
        assert!(!second.is_member());
        fs::remove_dir_all(second.journal()).unwrap();
        drop(second);
        for _ in 0..2 {
            let third = open(dir.path(), "c", 1).unwrap();
            assert_ne!(third.id(), name);
            assert!(third.is_member(), "what was promised is lost, and that is known");
            assert_eq!(third.founded_with(), Some(with.clone()), "for those who ask");
            assert_eq!(
                third.founders(),
                Some(founders.clone()),
                "who founded the cluster is not lost"
            );
        }
    }

    #[test]
    fn a_folder_of_an_earlier_version_gets_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let text = "format = 1\ncluster_id = \"c\"\nbroker_id = 1\nincarnation = 5\n";
        fs::write(dir.path().join("identity.toml"), text).unwrap();
        nameless_journal(dir.path());
        let folder = open(dir.path(), "c", 1).unwrap();
        let name = folder.id();
        assert_ne!(name, FolderId::default());
        drop(folder);
        assert_eq!(open(dir.path(), "c", 1).unwrap().id(), name);
    }

    #[test]
    fn a_folder_of_an_earlier_version_knows_its_founders_by_whom_it_founded_with() {
        let dir = tempfile::tempdir().unwrap();
        let folder = FolderId([7; 16]);
        let text = format!(
            "format = 1\ncluster_id = \"c\"\nbroker_id = 1\nincarnation = 5\nfounded_with = [\"3@{folder}\", \
             \"2@{folder}\"]\n"
        );
        fs::write(dir.path().join("identity.toml"), text).unwrap();
        nameless_journal(dir.path());
        let folder = open(dir.path(), "c", 1).unwrap();
        let founders = Some(Founders::new([1, 2, 3].map(BrokerId)));
        assert_eq!(folder.founders(), founders);
        drop(folder);
        // In the format that is written now.
        let text = fs::read_to_string(dir.path().join("identity.toml")).unwrap();
        assert!(
            text.contains("format = 2\n") && text.contains("founders = [1, 2, 3]\n"),
            "{text}"
        );
        assert_eq!(Folder::open(dir.path(), "c", 1).unwrap().founders(), founders);
    }

    /// Together with `crates/storage/tests/damage.rs`: every file that a data folder can hold.
    #[test]
    fn a_flipped_bit_in_the_description_is_named_or_means_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = open(dir.path(), "c", 1).unwrap();
        folder.identity.incarnation = 1_700_000_000_000;
        folder.identity.lost = true;
        let mut notes = folder.notes();
        let founders = Founders::new([1, 2].map(BrokerId));
        notes
            .founders(&founders, Some(&[(BrokerId(2), FolderId([7; 16]))]))
            .unwrap();
        notes.is_member().unwrap();
        drop(folder);
        let file = dir.path().join(IDENTITY);
        let written = fs::read(&file).unwrap();
        let before = read_identity(&file).unwrap();
        let (mut named, mut harmless) = (0, BTreeSet::new());
        for at in 0..written.len() {
            for bit in 0..8 {
                let mut bytes = written.clone();
                bytes[at] ^= 1 << bit;
                fs::write(&file, &bytes).unwrap();
                match read_identity(&file) {
                    Ok(found) => {
                        assert_eq!(found, before, "bit {bit} of byte {at}");
                        let line = written[..at].iter().filter(|byte| **byte == b'\n').count();
                        harmless.insert(line);
                    }
                    Err(error) => {
                        assert!(error.to_string().contains(IDENTITY), "{error}");
                        named += 1;
                    }
                }
            }
        }
        // What is lost is a letter of the comment.
        assert_eq!(Vec::from_iter(harmless), [0]);
        assert!(named > 1_000, "{named}");
    }

    #[test]
    fn nothing_depends_on_the_other_two_files() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), "c", 1).unwrap());
        fs::write(dir.path().join("lock"), [0xff; 100]).unwrap();
        fs::write(dir.path().join("identity.toml.new"), [0xff; 100]).unwrap();
        let folder = open(dir.path(), "c", 1).unwrap();
        let process = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(dir.path().join("lock")).unwrap(), process);
        drop(folder);
        assert!(read_identity(&dir.path().join(IDENTITY)).unwrap().is_some());
    }

    #[test]
    fn a_folder_of_someone_else_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), "here", 1).unwrap());
        let other_cluster = open(dir.path(), "there", 1).unwrap_err().to_string();
        assert!(
            other_cluster.contains("`here`") && other_cluster.contains("cluster.id"),
            "{other_cluster}"
        );
        let other_broker = open(dir.path(), "here", 2).unwrap_err().to_string();
        assert!(
            other_broker.contains("broker 1") && other_broker.contains("broker.id"),
            "{other_broker}"
        );
    }

    #[test]
    fn a_damaged_or_later_description_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), "c", 1).unwrap());
        let file = dir.path().join("identity.toml");
        for text in [
            "",
            "format = 3",
            "format = 1",
            "format = 1\ncluster_id = 3",
            "format = 1\ncluster_id = \"c\"\nbroker_id = 1\nincarnation = 1\nfolder_id = \"x\"",
            "format = 1\ncluster_id = \"c\"\nbroker_id = 1\nincarnation = 1\nfounded_with = [\"2\"]",
            "format = 1\ncluster_id = \"c\"\nbroker_id = 1\nincarnation = 1\nfounders = []",
            "\u{0}\u{0}",
        ] {
            fs::write(&file, text).unwrap();
            let error = open(dir.path(), "c", 1).unwrap_err();
            assert!(matches!(error, FolderError::Mismatch { .. }), "{text}: {error}");
        }
    }
}
