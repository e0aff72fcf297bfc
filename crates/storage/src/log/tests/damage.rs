//! Recovery after a crash, and from a disk that changed what it was given.

use super::*;
use std::io::IoSlice;

#[test]
fn what_the_journal_holds_of_flushed_entries_is_ignored() {
    let entries = entries(9);
    let (fs, _) = flushed(&entries[..6]);
    let log = open(&fs, mark(6, &entries[2..])).unwrap();
    assert_eq!((log.flushed_index(), log.last_index()), (LogIndex(6), LogIndex(9)));
    let log = open(&fs, mark(6, &entries[2..4])).unwrap();
    assert_eq!((log.flushed_index(), log.last_index()), (LogIndex(6), LogIndex(6)));
}

#[test]
fn a_hole_between_segments_and_journal_is_noticed() {
    let entries = entries(9);
    let (fs, _) = flushed(&entries[..6]);
    let error = open(&fs, mark(6, &entries[7..])).err().unwrap();
    assert!(
        matches!(
            error,
            LogError::Gap {
                expected: LogIndex(7),
                found: LogIndex(8)
            }
        ),
        "{error}"
    );
    let error = open(&fs, mark(7, &[])).err().unwrap();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    let error = open(&FaultyFs::new(1), mark(7, &[])).err().unwrap();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    let error = open(&FaultyFs::new(1), mark(0, &entries[3..])).err().unwrap();
    assert!(
        matches!(
            error,
            LogError::Gap {
                expected: LogIndex(1),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn another_groups_folder_is_refused_and_left_alone() {
    let (fs, _) = flushed(&entries(9));
    let before = fs.files();
    let other = ReplicaLog::open(
        Arc::new(fs.clone()),
        Path::new(DIR),
        GroupId(8),
        options(),
        RecoveredGroup::default(),
    );
    let error = other.err().unwrap();
    assert!(matches!(error, LogError::Corrupt { position: 0, .. }), "{error}");
    assert_eq!(fs.files(), before);
}

#[test]
fn a_damaged_end_is_taken_from_the_journal_if_it_is_there() {
    let entries = entries(9);
    let (fs, log) = flushed(&entries);
    let index = log.segments[1].index_path(Path::new(DIR));
    fs.corrupt(&index, 64 * 4 + 9);
    let error = open(&fs, mark(9, &[])).err().unwrap();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    let mut log = open(&fs, mark(9, &entries[7..])).unwrap();
    assert_eq!((log.flushed_index(), log.last_index()), (LogIndex(8), LogIndex(9)));
    flush(&mut log);
    fs.crash();
    assert_eq!(load(&open(&fs, mark(9, &[])).unwrap(), 1, 9).unwrap(), entries);
}

fn image(fs: &FaultyFs) -> Vec<(PathBuf, Vec<u8>)> {
    fs.files()
        .into_iter()
        .map(|(path, _)| (path.clone(), fs.contents(&path).unwrap()))
        .collect()
}

fn restore(image: &[(PathBuf, Vec<u8>)]) -> FaultyFs {
    let fs = FaultyFs::new(7);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    for (path, bytes) in image {
        fs.open(path, crate::fs::Mode::Create)
            .unwrap()
            .write_all_at(&[IoSlice::new(bytes)], 0)
            .unwrap();
    }
    fs
}

/// The same files on another disk.
pub(super) fn copy(fs: &FaultyFs) -> FaultyFs {
    restore(&image(fs))
}

/// Entries as followers get them, bytes as consumers do, and what is known of the batches.
type Everything = (Vec<Entry>, Vec<u8>, Vec<BatchMeta>);

/// Opens and reads everything in every way.
fn read_all(fs: &FaultyFs, recovered: RecoveredGroup) -> Result<Everything, LogError> {
    let log = open(fs, recovered)?;
    let entries = load(&log, log.first_index().0, log.last_index().0)?;
    let upto = HighWatermark(log.next_offset());
    let mut bytes = Vec::new();
    for chunk in log.read(log.start_offset(), upto, usize::MAX)? {
        match chunk {
            Chunk::Memory(memory) => bytes.extend_from_slice(&memory),
            Chunk::File(slice) => bytes.extend_from_slice(&slice.read()?),
        }
    }
    for timestamp in [0, 1030, 1050] {
        log.batch_by_timestamp(timestamp, upto)?;
    }
    log.max_timestamp(upto)?;
    Ok((entries, bytes, log.batches(log.first_index())?))
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_and_never_other_entries() {
    let mut entries = entries(9);
    entries.push(blank(10, 2));
    entries.push(super::configurations::configured(11, 2, &[1, 2, 3]));
    entries.push(super::configurations::configured(12, 2, &[2, 3]));
    let (fs, _) = flushed(&entries);
    let image = image(&fs);
    let mark = |entries: &[Entry]| RecoveredGroup {
        configured: LogIndex(12),
        ..mark(12, entries)
    };
    let expected = read_all(&fs, mark(&[])).unwrap();
    assert_eq!(expected.0, entries);
    let (mut noticed, mut repaired) = (0, 0);
    for (path, bytes) in &image {
        for position in 0..bytes.len() as u64 {
            let fs = restore(&image);
            fs.corrupt(path, position);
            match read_all(&fs, mark(&[])) {
                Err(LogError::Corrupt { path: named, .. }) => {
                    assert_eq!(named.file_stem(), path.file_stem());
                    noticed += 1;
                }
                Err(error) => panic!("{path:?} at {position}: {error}"),
                Ok(_) => panic!("{path:?} at {position}: not noticed"),
            }
            // What the journal still holds is never worse than an error.
            match read_all(&fs, mark(&entries[6..])) {
                Ok(found) => {
                    assert!(found == expected, "{path:?} at {position}");
                    repaired += 1;
                }
                Err(error) => assert!(
                    matches!(error, LogError::Corrupt { .. } | LogError::Gap { .. }),
                    "{error}"
                ),
            }
        }
    }
    assert!(noticed > 1000 && repaired > 50, "{noticed} {repaired}");
}

#[test]
fn any_bytes_are_an_error_and_never_a_panic() {
    let mut noise = 1u64;
    let mut byte = || {
        noise = noise
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (noise >> 56) as u8
    };
    let (fs, _) = flushed(&entries(9));
    let good = image(&fs);
    for round in 0..300 {
        let mut image = good.clone();
        let bytes = &mut image[round % good.len()].1;
        match byte() % 3 {
            0 => bytes.truncate(usize::from(byte()) * bytes.len() / 256),
            1 => bytes.extend((0..byte()).map(|_| 7)),
            _ => {
                let from = usize::from(byte()) * bytes.len() / 256;
                bytes[from..].iter_mut().for_each(|old| *old = byte());
            }
        }
        for flushed in [0, 4, 9] {
            let _ = read_all(&restore(&image), mark(flushed, &[]));
            let _ = read_all(&restore(&image), mark(flushed, &entries(9)[flushed as usize..]));
        }
        // Without its log, the first segment looks like one whose deletion was interrupted.
        let (missing, _) = image.remove(round % good.len());
        let first = good[1].0 == missing;
        assert!(
            first || read_all(&restore(&image), mark(9, &[])).is_err(),
            "{missing:?} is missing"
        );
    }
}

/// Where the new segment's name was not synced, and the process died: what is flushed into it later must not vanish.
#[test]
fn a_segment_that_an_interrupted_process_made_is_made_durable_before_it_is_used() {
    let entries = entries(4);
    for seed in 0..20 {
        let fs = FaultyFs::new(seed);
        let mut log = open(&fs, RecoveredGroup::default()).unwrap();
        log.append(&entries).unwrap();
        let is_sync = Fault {
            operation: Operation::Sync,
            path_contains: "/data/7".into(),
            after: 2,
            times: 1,
            kind: io::ErrorKind::Other,
        };
        fs.fail(is_sync);
        assert!(
            log.flush(LogIndex(3)).unwrap().run().is_err(),
            "the third sync is the folder's"
        );
        fs.kill();
        let mut log = open(&fs, mark(0, &entries)).unwrap();
        flush(&mut log);
        fs.crash();
        let log = open(&fs, mark(4, &[])).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(load(&log, 1, 4).unwrap(), entries);
    }
}

/// Segments hold nothing that the journal has not held before: one that knows less is not the one they were written
/// behind.
#[test]
fn segments_that_go_further_than_the_journal_are_damage_and_left_alone() {
    let all = entries(25);
    let (fs, _) = flushed(&all);
    let before = fs.files();
    for known in 0..25 {
        for flushed in [0_u64, known / 2, known] {
            let first = flushed.saturating_sub(2) as usize;
            let kept: &[Entry] = if flushed == known {
                &[]
            } else {
                &all[first..known as usize]
            };
            let error = open(&fs, mark(flushed, kept)).map(|_| ()).unwrap_err();
            assert!(error.is_damage(), "{known} {flushed}: {error}");
            assert!(
                error.to_string().contains("the journal knows nothing"),
                "{known} {flushed}: {error}"
            );
        }
    }
    assert_eq!(fs.files(), before, "nothing is cut off");
    assert_eq!(open(&fs, mark(25, &[])).unwrap().last_index(), LogIndex(25));
    assert_eq!(open(&fs, mark(0, &all)).unwrap().last_index(), LogIndex(25));
    drop(ReplicaLog::open_lost(Arc::new(fs.clone()), Path::new(DIR), GROUP, options()).unwrap());
    let log = open(&fs, RecoveredGroup::default()).unwrap();
    assert_eq!(log.last_index(), LogIndex::ZERO, "they were quarantined");
}
