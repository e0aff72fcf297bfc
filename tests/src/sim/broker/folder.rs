//! What a broker's data folder says of itself: its name, and with whom the cluster was founded in it.

use crate::sim::rng::Rng;
use std::io::{self, IoSlice};
use std::path::Path;
use trimaran_registry::{BrokerId, FolderId};
use trimaran_storage::fs::{Fs, Mode, read_exact_at};

const DATA: &str = "/data";
const NAME: &str = "/data/name";
const FOUNDERS: &str = "/data/founders";

/// Bytes of a broker's id and of its folder's.
const FOUNDER_BYTES: usize = 4 + 16;

/// The folder's name; made now if there is none yet.
pub(super) fn name(fs: &dyn Fs, rng: &mut Rng) -> io::Result<FolderId> {
    let random = [rng.next().to_be_bytes(), rng.next().to_be_bytes()].concat();
    let known = read(fs, NAME)?.filter(|bytes| bytes.len() == random.len());
    if known.is_none() {
        write(fs, NAME, &random)?;
    }
    let mut id = FolderId::default();
    id.0.copy_from_slice(&known.unwrap_or(random));
    Ok(id)
}

/// What [`note_founders`] noted.
pub(super) fn founders(fs: &dyn Fs) -> io::Result<Option<Vec<(BrokerId, FolderId)>>> {
    let founder = |bytes: &[u8]| {
        let (broker, folder) = bytes.split_at(4);
        let broker = broker.iter().fold(0, |id, byte| id << 8 | i32::from(*byte));
        let mut id = FolderId::default();
        id.0.copy_from_slice(folder);
        (BrokerId(broker), id)
    };
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
