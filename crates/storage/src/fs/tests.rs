use super::faulty::{Fault, FaultyFs, Operation};
use super::*;
use std::io::IoSlice;
use std::sync::Mutex;

fn write(file: &dyn File, bytes: &[u8], offset: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], offset).unwrap();
}

fn read(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

/// The contract of both file systems.
fn check_contract(fs: &dyn Fs, root: &Path) {
    let dir = root.join("a/b");
    fs.create_dir_all(&dir).unwrap();
    fs.create_dir_all(&dir).unwrap();
    let path = dir.join("one");
    let missing = fs.open(&path, Mode::Write).err().unwrap();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    let file = fs.open(&path, Mode::Create).unwrap();
    assert!(file.is_empty().unwrap());
    // More slices than one system call takes, some of them empty.
    let pieces: Vec<Vec<u8>> = (0..3000u32).map(|n| vec![n as u8; (n % 7) as usize]).collect();
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    file.write_all_at(&slices, 5).unwrap();
    file.write_all_at(&[], 0).unwrap();
    file.sync_data().unwrap();
    let expected = [vec![0; 5], pieces.concat()].concat();
    assert_eq!(read(&*fs.open(&path, Mode::Read).unwrap()), expected);
    let mut past = [0; 4];
    assert_eq!(file.read_at(&mut past, expected.len() as u64).unwrap(), 0);
    let error = read_exact_at(&*file, &mut past, expected.len() as u64 - 2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    file.set_len(3).unwrap();
    assert_eq!(file.len().unwrap(), 3);

    let other = dir.join("two");
    write(&*fs.open(&other, Mode::Create).unwrap(), b"two", 0);
    assert_eq!(fs.list(&dir).unwrap(), [path.clone(), other.clone()]);
    fs.rename(&other, &path).unwrap();
    assert_eq!(fs.list(&dir).unwrap(), std::slice::from_ref(&path));
    assert_eq!(fs.list(root).unwrap(), [root.join("a")]);
    assert_eq!(read(&*fs.open(&path, Mode::Write).unwrap()), b"two");
    // The old file is still there where it is open.
    assert_eq!(file.len().unwrap(), 3);
    fs.sync_dir(&dir).unwrap();
    fs.remove_file(&path).unwrap();
    assert!(fs.list(&dir).unwrap().is_empty());

    let lock = fs.lock_dir(&dir).unwrap();
    assert_eq!(fs.lock_dir(&dir).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    fs.lock_dir(root).expect("another folder");
    drop(lock);
    fs.lock_dir(&dir).expect("nobody holds it");
    let missing = fs.lock_dir(&root.join("none")).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    fs.remove_dir_all(&root.join("a")).unwrap();
    assert_eq!(fs.list(&dir).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_real_file_system_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    check_contract(&RealFs::default(), root.path());
}

#[test]
fn the_faulty_file_system_keeps_the_contract() {
    check_contract(&FaultyFs::new(1), Path::new("/root"));
}

fn fresh(seed: u64) -> (FaultyFs, PathBuf, Arc<dyn File>) {
    let fs = FaultyFs::new(seed);
    let dir = PathBuf::from("/d");
    fs.create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    let file = fs.open(&path, Mode::Create).unwrap();
    fs.sync_dir(&dir).unwrap();
    (fs, path, file)
}

#[test]
fn synced_bytes_survive_every_crash_and_unsynced_sectors_some() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (fs, path, file) = fresh(seed);
        write(&*file, &[1; 2048], 0);
        file.sync_data().unwrap();
        write(&*file, &[2; 2048], 1024);
        fs.crash();
        assert!(file.sync_data().is_err(), "a file that was open is useless");
        let data = fs.contents(&path).unwrap();
        assert_eq!(data[..1024], [1; 1024]);
        assert!((2048..=3072).contains(&data.len()));
        for sector in data[1024..].chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is not torn");
        }
        outcomes.insert(data[1024..].chunks(512).map(|sector| sector[0]).collect::<Vec<_>>());
    }
    assert!(outcomes.len() > 8, "only {outcomes:?}");
    assert!(outcomes.contains(&vec![1, 1]) && outcomes.contains(&vec![2, 2, 2, 2]));
}

#[test]
fn a_cut_file_may_have_its_old_bytes_again() {
    let lengths: std::collections::BTreeSet<usize> = (0..50)
        .map(|seed| {
            let (fs, path, file) = fresh(seed);
            write(&*file, &[1; 1500], 0);
            file.sync_data().unwrap();
            file.set_len(700).unwrap();
            fs.crash();
            let data = fs.contents(&path).unwrap();
            assert_eq!(data[..700], [1; 700]);
            data.len()
        })
        .collect();
    assert!(lengths.contains(&700) && lengths.contains(&1500), "{lengths:?}");
}

#[test]
fn unsynced_names_may_be_lost_but_never_both() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let (fs, path, file) = fresh(seed);
        write(&*file, b"x", 0);
        file.sync_data().unwrap();
        let other = path.with_file_name("g");
        fs.rename(&path, &other).unwrap();
        fs.open(&path.with_file_name("h"), Mode::Create).unwrap();
        fs.crash();
        let files = fs.files();
        assert_eq!(files[0].1, 1);
        outcomes.insert(files.into_iter().map(|(path, _)| path).collect::<Vec<_>>());
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

#[test]
fn the_same_seed_tears_alike() {
    let run = |seed| {
        let (fs, path, file) = fresh(seed);
        write(&*file, &[7; 20_000], 0);
        fs.crash();
        fs.contents(&path).unwrap()
    };
    assert_eq!(run(5), run(5));
}

#[test]
fn killing_the_process_loses_nothing() {
    let (fs, path, file) = fresh(3);
    write(&*file, b"kept", 0);
    fs.kill();
    assert!(file.len().is_err());
    assert_eq!(fs.contents(&path).unwrap(), b"kept");
}

#[test]
fn planned_faults_come_when_planned() {
    let (fs, _, file) = fresh(1);
    let fault = |operation, after, times, kind| Fault {
        operation,
        path_contains: "f".into(),
        after,
        times,
        kind,
    };
    fs.fail(fault(Operation::Sync, 1, 1, io::ErrorKind::TimedOut));
    file.sync_data().unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::TimedOut);
    file.sync_data().unwrap();
    fs.fail(fault(Operation::Read, 0, 1, io::ErrorKind::Other));
    assert!(file.read_at(&mut [0], 0).is_err());
    fs.fail(fault(Operation::Write, 0, u64::MAX, io::ErrorKind::Other));
    assert!(file.set_len(4).is_err());
    fs.heal();
    file.set_len(4).unwrap();
}

#[test]
fn a_full_disk_cuts_the_write_that_does_not_fit() {
    let (fs, path, file) = fresh(1);
    fs.set_capacity(Some(10));
    write(&*file, b"12345678", 0);
    let error = file.write_all_at(&[IoSlice::new(b"abcd")], 8).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs.contents(&path).unwrap(), b"12345678ab");
    write(&*file, b"overwritten"[..10].as_ref(), 0);
}

#[test]
fn flipped_bits_at_rest_and_on_the_way() {
    let (fs, path, file) = fresh(1);
    write(&*file, &[0; 4], 0);
    fs.corrupt_reads(&path, 2, 1);
    assert_eq!(read(&*file).iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(read(&*file), [0; 4]);
    assert!(fs.corrupt(&path, 3));
    assert_eq!(read(&*file)[3].count_ones(), 1);
    assert!(!fs.corrupt(&path, 4));
    assert!(!fs.corrupt(Path::new("/d/none"), 0));
}

#[test]
fn what_is_cached_wrong_is_read_again_from_the_disk() {
    let (fs, path, file) = fresh(1);
    write(&*file, &[0; 4], 0);
    fs.corrupt_cached(&path, 2);
    let expected = read(&*file);
    assert_eq!(expected.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    file.forget_cached(3, 1);
    assert_eq!(read(&*file), expected, "another place was forgotten");
    file.forget_cached(0, 3);
    assert_eq!(read(&*file), [0; 4]);
}

#[test]
fn a_misread_is_reported_to_the_witness() {
    let root = tempfile::tempdir().unwrap();
    let (path, told) = (root.path().join("one"), Arc::new(Mutex::new(Vec::new())));
    let witness = Arc::clone(&told);
    let fs = RealFs::telling(move |misread| witness.lock().unwrap().push(misread));
    let file = fs.open(&path, Mode::Create).unwrap();
    write(&*file, &[7; 9], 0);
    file.forget_cached(u64::MAX, 9);
    file.forget_cached(0, 9);
    assert_eq!(read(&*file), [7; 9], "what was not synced stays");
    let mut attempts = 0;
    let verdict = read_until_sound(&*file, 9, || {
        attempts += 1;
        let wrong = Wrong {
            position: 4,
            what: "a checksum is wrong",
        };
        Ok::<_, io::Error>(if attempts < 4 { Err(wrong) } else { Ok(attempts) })
    });
    assert_eq!(verdict.unwrap(), Ok(4));
    let position = 4;
    let what = "a checksum is wrong";
    assert_eq!(*told.lock().unwrap(), [Misread { path, position, what }]);
}

#[test]
fn syncs_that_lie_keep_nothing() {
    let lost = (0..20).any(|seed| {
        let (fs, path, file) = fresh(seed);
        fs.lie_about_syncs(true);
        write(&*file, b"gone", 0);
        file.sync_data().unwrap();
        fs.crash();
        fs.contents(&path).unwrap() != b"gone"
    });
    assert!(lost);
}

#[test]
fn it_goes_down_at_the_operation_asked_for() {
    let (fs, path, file) = fresh(1);
    fs.crash_at(fs.operations() + 2);
    write(&*file, b"a", 0);
    assert!(file.sync_data().is_err());
    assert!(fs.is_down() && file.len().is_err() && fs.open(&path, Mode::Read).is_err());
    fs.crash();
    assert!(!fs.is_down() && fs.open(&path, Mode::Read).is_ok());
}
