//! What a broker's data folder says of itself: its name, the last start that was made with it, with whom the cluster was
//! founded in it, and the starts of other brokers that were seen.

use crate::sim::rng::Rng;
use std::io::{self, IoSlice};
use std::path::Path;
use trimaran_registry::starts::{Announcement, Start, Starts};
use trimaran_registry::{BrokerId, FolderId, Incarnation};
use trimaran_storage::fs::{Fs, Mode, read_exact_at};

const DATA: &str = "/data";
const NAME: &str = "/data/name";
const FOUNDERS: &str = "/data/founders";
const STARTS: &str = "/data/starts";

/// Where the journal lies.
pub(super) const JOURNAL: &str = "/data/journal";

/// Bytes of a broker's id and of its folder's.
const FOUNDER_BYTES: usize = 4 + 16;

/// The same, and an incarnation.
const START_BYTES: usize = FOUNDER_BYTES + 8;

/// The last start that was made with the folder; its incarnation is zero if the folder holds nothing that can be relied on.
/// And the highest incarnation that the folder names.
pub fn last_start(fs: &dyn Fs) -> io::Result<(Start, Incarnation)> {
    let Some((start, lost)) = description(fs)? else {
        return Ok((Start::default(), Incarnation(0)));
    };
    let last = if lost { Start::default() } else { start };
    Ok((last, start.incarnation))
}

/// Counts a start. A folder that can't be relied on gets another name, and its journal goes.
pub fn begin(fs: &dyn Fs, rng: &mut Rng, incarnation: Incarnation, lost: bool) -> io::Result<Announcement> {
    let (last, _) = last_start(fs)?;
    let random = [rng.next().to_be_bytes(), rng.next().to_be_bytes()].concat();
    let is_sound = last.incarnation > Incarnation(0) && !lost;
    let mut start = Start { incarnation, ..last };
    if !is_sound {
        start.folder.0.copy_from_slice(&random);
        describe(fs, start, true)?;
        write(fs, FOUNDERS, &[])?;
        match fs.remove_dir_all(Path::new(JOURNAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs.sync_dir(Path::new(DATA))?,
        }
    }
    describe(fs, start, false)?;
    let previous = if is_sound { last.incarnation } else { Incarnation(0) };
    Ok(Announcement { start, previous })
}

/// What the folder holds is older than what its broker has promised.
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

/// What [`note_founders`] noted.
pub(super) fn founders(fs: &dyn Fs) -> io::Result<Option<Vec<(BrokerId, FolderId)>>> {
    let noted = read(fs, FOUNDERS)?.filter(|bytes| !bytes.is_empty());
    Ok(noted.map(|bytes| bytes.chunks_exact(FOUNDER_BYTES).map(founder).collect()))
}

/// Notes durably with whom the cluster is founded.
pub(super) fn note_founders(fs: &dyn Fs, with: &[(BrokerId, FolderId)]) -> io::Result<()> {
    let bytes: Vec<u8> = with
        .iter()
        .flat_map(|(broker, folder)| [&broker.0.to_be_bytes()[..], &folder.0].concat())
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
