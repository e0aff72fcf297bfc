//! A member's snapshot on disk: one file, replaced as a whole.
//!
//! | at | field |
//! |---|---|
//! | 0 | magic `TRIS` |
//! | 4 | version `u16`, 1 |
//! | 6 | zero `u16` |
//! | 8 | CRC-32C of the 8 bytes before it and of everything after it `u32` |
//! | 12 | index `u64` |
//! | 20 | term `u64` |
//! | 28 | the configuration in force there: three counts `u32` (voters, outgoing voters, learners), then their ids `u64` |
//! | … | the state machine's bytes |
//!
//! All little-endian.

use super::MemberError;
use crate::codec::{put_configuration, take, take_configuration, take_counted};
use crate::fs::{Fs, Mode, Wrong, read_exact_at, read_until_sound};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use trimaran_raft::{LogIndex, Snapshot, Term};

const MAGIC: [u8; 4] = *b"TRIS";
const VERSION: u16 = 1;
/// What the checksum is of, besides the body.
const PREFIX_LEN: usize = 8;

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// Replaces the file, durably. A crash leaves the old one or the new one.
pub(super) fn write(fs: &dyn Fs, dir: &Path, snapshot: &Snapshot) -> Result<(), MemberError> {
    let (path, beside) = (path(dir), dir.join("snapshot.new"));
    let head = encode_head(snapshot);
    let file = fs.open(&beside, Mode::Create).map_err(io_error(&beside))?;
    file.set_len(0)
        .and_then(|()| file.write_all_at(&[IoSlice::new(&head), IoSlice::new(&snapshot.data)], 0))
        .and_then(|()| file.sync_data())
        .map_err(io_error(&beside))?;
    fs.rename(&beside, &path).map_err(io_error(&path))?;
    fs.sync_dir(dir).map_err(io_error(dir))
}

/// The snapshot; none if none was ever written.
pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Snapshot>, MemberError> {
    let path = path(dir);
    let file = match fs.open(&path, Mode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io_error(&path))?,
    };
    let length = file.len().map_err(io_error(&path))?;
    let read = || {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        read_exact_at(&*file, &mut bytes, 0)?;
        Ok(decode(Bytes::from(bytes)).map_err(|what| Wrong { position: 0, what }))
    };
    match read_until_sound(&*file, length, read).map_err(io_error(&path))? {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(Wrong { what, .. }) => Err(MemberError::BadSnapshot { path, what }),
    }
}

/// Everything but the state machine's bytes.
fn encode_head(snapshot: &Snapshot) -> Vec<u8> {
    let mut prefix = MAGIC.to_vec();
    prefix.extend(VERSION.to_le_bytes());
    prefix.extend([0; 2]);
    let mut position = snapshot.index.0.to_le_bytes().to_vec();
    position.extend(snapshot.term.0.to_le_bytes());
    put_configuration(&mut position, &snapshot.configuration);
    let crc = [&position[..], &snapshot.data]
        .into_iter()
        .fold(crc32c::crc32c(&prefix), crc32c::crc32c_append);
    [&prefix[..], &crc.to_le_bytes(), &position].concat()
}

fn decode(file: Bytes) -> Result<Snapshot, &'static str> {
    let mut rest = &file[..];
    let prefix: [u8; PREFIX_LEN] = take(&mut rest)?;
    if prefix[..4] != MAGIC {
        return Err("it is no snapshot");
    }
    let crc = u32::from_le_bytes(take(&mut rest)?);
    if crc32c::crc32c_append(crc32c::crc32c(&prefix), rest) != crc {
        return Err("its checksum is wrong");
    }
    if prefix[4..] != u32::from(VERSION).to_le_bytes() {
        return Err("it was written by a newer version");
    }
    Ok(Snapshot {
        index: LogIndex(take_counted(&mut rest)?),
        term: Term(take_counted(&mut rest)?),
        configuration: take_configuration(&mut rest)?,
        data: file.slice(file.len() - rest.len()..),
    })
}

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> MemberError + use<> {
    let path = path.to_owned();
    move |source| MemberError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::faulty::FaultyFs;
    use trimaran_raft::{Configuration, NodeId};

    fn snapshot() -> Snapshot {
        Snapshot {
            index: LogIndex(7),
            term: Term(3),
            configuration: Configuration::of_voters([1, 2].map(NodeId)),
            data: Bytes::from_static(b"state"),
        }
    }

    #[test]
    fn a_snapshot_is_these_bytes() {
        let bytes = [&encode_head(&snapshot())[..], b"state"].concat();
        let mut golden = b"TRIS\x01\0\0\0".to_vec();
        golden.extend(0x13ef_d221_u32.to_le_bytes());
        golden.extend(7u64.to_le_bytes());
        golden.extend(3u64.to_le_bytes());
        golden.extend([2u32, 0, 0].iter().flat_map(|count| count.to_le_bytes()));
        golden.extend([1u64, 2].iter().flat_map(|id| id.to_le_bytes()));
        golden.extend(b"state");
        assert_eq!(bytes, golden);
        assert_eq!(decode(Bytes::from(bytes)), Ok(snapshot()));
    }

    #[test]
    fn damage_at_any_byte_is_noticed() {
        let bytes = [&encode_head(&snapshot())[..], b"state"].concat();
        for at in 0..bytes.len() {
            assert!(decode(Bytes::copy_from_slice(&bytes[..at])).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(decode(Bytes::from(flipped)).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let (fs, dir) = (FaultyFs::new(1), Path::new("/member"));
        fs.create_dir_all(dir).unwrap();
        assert!(read(&fs, dir).unwrap().is_none());
        write(&fs, dir, &snapshot()).unwrap();
        let shorter = Snapshot {
            data: Bytes::new(),
            ..snapshot()
        };
        write(&fs, dir, &shorter).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), Some(shorter));
    }
}
