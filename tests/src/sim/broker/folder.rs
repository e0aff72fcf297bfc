//! A broker's data folder: its name, the last start that was made with it, with whom the cluster was
//! founded in it, and the starts of other brokers that were seen.

use crate::sim::bug::Bug;
use crate::sim::rng::Rng;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use trimaran_registry::folder::{Description, FolderParts, FolderState, JournalPart};
use trimaran_registry::starts::{Announcement, Start, Starts};
use trimaran_registry::{BrokerId, FolderId, Founders, Incarnation};
use trimaran_storage::fs::{Fs, Mode, read_exact_at};
use trimaran_storage::journal::{JournalError, Owner, OwnerId, Presence, look};

/// The data folder.
pub(super) const DATA: &str = "/data";
const NAME: &str = "/data/name";
const FOUNDED_WITH: &str = "/data/founders";
const STARTS: &str = "/data/starts";
const MEMBER: &str = "/data/member";
const MARK: &str = "/data/journal.mark";

/// Where it is noted who founded the cluster.
pub const FOUNDERS: &str = "/data/voters";

/// Where the journal lies.
pub const JOURNAL: &str = "/data/journal";

/// Bytes of a broker's id and of its folder's.
const FOUNDER_BYTES: usize = 4 + 16;

/// The same, and an incarnation.
const START_BYTES: usize = FOUNDER_BYTES + 8;

/// The facts that a process that starts needs to know of its folder.
pub(super) struct Folder {
    /// Its name.
    pub(super) id: FolderId,
    /// The folders that [`note_founding`] noted.
    pub(super) founded_with: Option<Vec<(BrokerId, FolderId)>>,
    /// Whether [`note_membership`] was called.
    pub(super) is_member: bool,
    /// The founders that [`note_founders`] noted.
    pub(super) founders: Option<Founders>,
}

impl Folder {
    /// Reads what is noted in it.
    pub(super) fn read(fs: &dyn Fs, id: FolderId) -> io::Result<Folder> {
        Ok(Folder {
            id,
            founded_with: founded_with(fs)?,
            is_member: is_member(fs)?,
            founders: founders(fs)?,
        })
    }

    /// The owner of the journal.
    pub(super) fn owner(&self, incarnation: u64) -> Owner {
        Owner {
            id: OwnerId(self.id.0),
            start: incarnation,
            mark: PathBuf::from(MARK),
        }
    }
}

/// The last start that was made with the folder; its incarnation is zero if the folder holds nothing that can be relied
/// on. And the highest incarnation that the folder names.
pub fn last_start(fs: &dyn Fs, bug: Option<Bug>) -> io::Result<(Start, Incarnation)> {
    let description = description(fs)?;
    let state = parts(fs, description, bug)?.state().map_err(io::Error::other)?;
    let start = description.map(|(start, _)| start).unwrap_or_default();
    match state {
        FolderState::Same(_) => Ok((start, start.incarnation)),
        FolderState::New { .. } => Ok((Start::default(), start.incarnation)),
    }
}

/// The parts that are there. Whether they belong together is decided by the code that a real broker runs.
fn parts(fs: &dyn Fs, description: Option<(Start, bool)>, bug: Option<Bug>) -> io::Result<FolderParts> {
    let mut parts = FolderParts::default();
    parts.description = match description {
        Some((start, is_lost)) => Some(Description {
            folder: Some(start.folder),
            is_member: is_member(fs)? || founded_with(fs)?.is_some(),
            is_lost,
        }),
        None => None,
    };
    parts.journal = match look(fs, Path::new(JOURNAL)) {
        Ok(Presence::Nothing) => JournalPart::Missing,
        Ok(Presence::Of(owner)) => JournalPart::Of(FolderId(owner.0)),
        Err(JournalError::Io { source, .. }) => return Err(source),
        // Where it is damaged is said when it is opened.
        Ok(Presence::Nameless) | Err(_) => JournalPart::Nameless,
    };
    parts.has_metadata = has_metadata(fs);
    if let Some(bug) = bug {
        bug.build_into_folder(&mut parts);
    }
    Ok(parts)
}

fn has_metadata(fs: &dyn Fs) -> bool {
    let files = fs.list(Path::new("/data/group-0"));
    files.is_ok_and(|files| !files.is_empty())
}

/// Counts a start. A folder that can't be relied on gets another name, and its journal goes.
pub fn begin(
    fs: &dyn Fs,
    rng: &mut Rng,
    incarnation: Incarnation,
    lost: bool,
    bug: Option<Bug>,
) -> io::Result<Announcement> {
    let (last, _) = last_start(fs, bug)?;
    let random = [rng.next().to_be_bytes(), rng.next().to_be_bytes()].concat();
    let is_sound = last.incarnation > Incarnation(0) && !lost;
    let mut start = Start { incarnation, ..last };
    if !is_sound {
        start.folder.0.copy_from_slice(&random);
        describe(fs, start, true)?;
        if founded_with(fs)?.is_some() || has_metadata(fs) {
            note_membership(fs)?;
        }
        match fs.remove_dir_all(Path::new(JOURNAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs.sync_dir(Path::new(DATA))?,
        }
    }
    describe(fs, start, false)?;
    let previous = if is_sound { last.incarnation } else { Incarnation(0) };
    Ok(Announcement { start, previous })
}

/// Notes durably that the folder has been part of the metadata group.
pub(super) fn note_membership(fs: &dyn Fs) -> io::Result<()> {
    match is_member(fs)? {
        true => Ok(()),
        false => write(fs, MEMBER, b"member"),
    }
}

fn is_member(fs: &dyn Fs) -> io::Result<bool> {
    Ok(read(fs, MEMBER)?.is_some())
}

/// Notes that the folder is older than what its broker has promised.
pub fn note_lost(fs: &dyn Fs) -> io::Result<()> {
    match description(fs)? {
        Some((start, _)) => describe(fs, start, true),
        None => Ok(()),
    }
}

/// The starts that were seen.
pub fn starts(fs: &dyn Fs) -> io::Result<Starts> {
    let noted = read(fs, STARTS)?.unwrap_or_default();
    let start = |bytes: &[u8]| {
        let (broker, incarnation) = bytes.split_at(FOUNDER_BYTES);
        let (broker, folder) = founder(broker);
        let incarnation = Incarnation(number(incarnation));
        (broker, Start { folder, incarnation })
    };
    Ok(Starts::recovered(noted.chunks_exact(START_BYTES).map(start)))
}

/// Notes them durably.
pub fn note_starts(fs: &dyn Fs, starts: &Starts) -> io::Result<()> {
    let bytes = |(broker, start): (BrokerId, Start)| {
        let incarnation = start.incarnation.0.to_be_bytes();
        [&broker.0.to_be_bytes()[..], &start.folder.0, &incarnation].concat()
    };
    write(fs, STARTS, &starts.iter().flat_map(bytes).collect::<Vec<u8>>())
}

fn founded_with(fs: &dyn Fs) -> io::Result<Option<Vec<(BrokerId, FolderId)>>> {
    let noted = read(fs, FOUNDED_WITH)?.filter(|bytes| !bytes.is_empty());
    Ok(noted.map(|bytes| bytes.chunks_exact(FOUNDER_BYTES).map(founder).collect()))
}

/// Notes durably with whom the cluster is founded.
pub(super) fn note_founding(fs: &dyn Fs, with: &[(BrokerId, FolderId)]) -> io::Result<()> {
    let bytes: Vec<u8> = with
        .iter()
        .flat_map(|(broker, folder)| [&broker.0.to_be_bytes()[..], &folder.0].concat())
        .collect();
    write(fs, FOUNDED_WITH, &bytes)
}

fn founders(fs: &dyn Fs) -> io::Result<Option<Founders>> {
    let id = |bytes: &[u8]| BrokerId(bytes.iter().fold(0, |id, byte| id << 8 | i32::from(*byte)));
    let noted = read(fs, FOUNDERS)?.filter(|bytes| !bytes.is_empty());
    Ok(noted.map(|bytes| Founders::new(bytes.chunks_exact(4).map(id))))
}

/// Notes durably who founded the cluster.
pub(super) fn note_founders(fs: &dyn Fs, founders: &Founders) -> io::Result<()> {
    let bytes: Vec<u8> = founders
        .ids()
        .iter()
        .flat_map(|broker| broker.0.to_be_bytes())
        .collect();
    write(fs, FOUNDERS, &bytes)
}

fn founder(bytes: &[u8]) -> (BrokerId, FolderId) {
    let (broker, folder) = bytes.split_at(4);
    let mut id = FolderId::default();
    id.0.copy_from_slice(folder);
    (BrokerId(i32::try_from(number(broker)).unwrap_or(0)), id)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The last start, and whether the folder is known to be lost.
fn description(fs: &dyn Fs) -> io::Result<Option<(Start, bool)>> {
    let known = read(fs, NAME)?.filter(|bytes| bytes.len() == 16 + 8 + 1);
    Ok(known.map(|bytes| {
        let mut start = Start {
            incarnation: Incarnation(number(&bytes[16..24])),
            ..Start::default()
        };
        start.folder.0.copy_from_slice(&bytes[..16]);
        (start, bytes[24] != 0)
    }))
}

fn describe(fs: &dyn Fs, start: Start, lost: bool) -> io::Result<()> {
    let incarnation = start.incarnation.0.to_be_bytes();
    write(
        fs,
        NAME,
        &[&start.folder.0[..], &incarnation, &[u8::from(lost)]].concat(),
    )
}

fn read(fs: &dyn Fs, path: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match fs.open(Path::new(path), Mode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Beside, and renamed over: a crash leaves all of it or nothing.
fn write(fs: &dyn Fs, path: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!("{path}.new");
    fs.create_dir_all(Path::new(DATA))?;
    let file = fs.open(Path::new(&beside), Mode::Create)?;
    file.set_len(0)?;
    file.write_all_at(&[IoSlice::new(bytes)], 0)?;
    file.sync_data()?;
    fs.rename(Path::new(&beside), Path::new(path))?;
    fs.sync_dir(Path::new(DATA))
}
