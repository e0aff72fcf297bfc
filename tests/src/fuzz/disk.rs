//! Folders as inputs, and what disks do to folders.

use super::pieces::Pieces;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::fs::{Fs, Mode};

/// All files of a folder.
pub(super) type Image = Vec<(PathBuf, Vec<u8>)>;

pub(super) fn image(fs: &FaultyFs) -> Image {
    let names = fs.files().into_iter().map(|(path, _)| path);
    names
        .map(|path| (path.clone(), fs.contents(&path).expect("it was listed")))
        .collect()
}

pub(super) fn restore(dir: &Path, image: &[(PathBuf, Vec<u8>)]) -> FaultyFs {
    let fs = FaultyFs::new(7);
    fs.create_dir_all(dir).expect("nothing fails yet");
    for (path, bytes) in image {
        let file = fs.open(path, Mode::Create).expect("nothing fails yet");
        file.write_all_at(&[IoSlice::new(bytes)], 0).expect("nothing fails yet");
    }
    fs
}

/// Changes a disk's files as disks and their firmware do: bits flip, what was written goes to another place, sectors come
/// back as zeros or ones, files lose their end or their name. No checksum is made right again: whoever could do that
/// would be no disk.
pub(super) fn damage(image: &mut Image, pieces: &mut Pieces<'_>) {
    for _ in 0..MOST_DAMAGES {
        if pieces.is_empty() || image.is_empty() {
            return;
        }
        let (what, which) = (pieces.u8(), usize::from(pieces.u8()) % image.len());
        let (place, length) = (usize::from(pieces.u16()), usize::from(pieces.u8()));
        let other = image[usize::from(pieces.u8()) % image.len()].1.clone();
        let bytes = &mut image[which].1;
        let at = place % bytes.len().max(1);
        let upto = bytes.len().min(at + length);
        match what % 6 {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << (length % 8),
            1 => bytes.truncate(at),
            2 => bytes[at.min(upto)..upto].fill(if place % 2 == 0 { 0 } else { 0xff }),
            3 => {
                let from = &other[at.min(other.len())..other.len().min(at + length)];
                let to = (at / 2).min(bytes.len())..bytes.len().min(at / 2 + from.len());
                let count = to.len();
                bytes[to].copy_from_slice(&from[..count]);
            }
            4 => bytes.extend(std::iter::repeat_n(0, length)),
            _ => drop(image.remove(which)),
        }
    }
}

/// Enough flipped bits could make a checksum right.
const MOST_DAMAGES: usize = 5;

/// What [`damage`] reads: one of its kinds, on a file, at a place.
pub(super) fn damaged(what: u8, which: u8, place: u16, length: u8) -> Vec<u8> {
    let [low, high] = place.to_le_bytes();
    vec![what, which, low, high, length, which]
}

/// An error about a file must name one of the folder, and a position that the file has, or had before it was damaged.
pub(super) fn named(path: &Path, position: u64, dir: &Path, before: &[(PathBuf, Vec<u8>)]) {
    assert!(path.starts_with(dir), "{} is not in {}", path.display(), dir.display());
    let file = before.iter().find(|(before, _)| before == path);
    if let Some((_, bytes)) = file {
        assert!(
            position <= bytes.len() as u64,
            "{} had no byte {position}",
            path.display()
        );
    }
}
