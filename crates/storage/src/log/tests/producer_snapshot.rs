//! Batches of producers are recognised although retention has deleted them.

use super::configurations::voters;
use super::*;
use crate::fs::{Fs as _, Mode};
use std::io::IoSlice;

fn path() -> PathBuf {
    super::super::producer_snapshot::path(Path::new(DIR))
}

/// A batch of one record of this producer.
fn sent(index: u64, producer: i64, sequence: i32) -> ProducedBatch {
    ProducedBatch {
        producer,
        epoch: 3,
        first_sequence: sequence,
        last_sequence: sequence + 1,
        index: LogIndex(index),
        base_offset: Offset(2 * (index as i64 - 2)),
    }
}

/// What a table knows of producers 7 and 8.
fn known() -> Vec<ProducedBatch> {
    vec![sent(2, 7, 0), sent(3, 8, 40), sent(9, 7, 2), sent(24, 8, 42)]
}

fn before(first: LogIndex) -> Vec<ProducedBatch> {
    known().into_iter().filter(|batch| batch.index < first).collect()
}

fn by_bytes(bytes: u64) -> Retention {
    Retention {
        bytes: Some(bytes),
        ms: None,
    }
}

/// A log of 25 entries of which retention has deleted the first ones.
fn shortened() -> (FaultyFs, ReplicaLog) {
    let (fs, mut log) = flushed(&entries(25));
    assert!(log.retain(0, &by_bytes(1000), LogIndex(25), before).unwrap() > 0);
    assert!(log.first_index() > LogIndex(9) && log.first_index() < LogIndex(24));
    (fs, log)
}

#[test]
fn what_retention_deletes_is_remembered() {
    let (fs, log) = shortened();
    let expected = &known()[..3];
    assert_eq!(log.producer_snapshot().unwrap(), expected);
    fs.kill();
    let mut log = open(&fs, mark(25, &[])).unwrap();
    assert_eq!(log.producer_snapshot().unwrap(), expected);
    let old = Retention {
        bytes: None,
        ms: Some(0),
    };
    log.retain(i64::MAX, &old, LogIndex(25), before).unwrap();
    assert_eq!(log.first_index(), LogIndex(26));
    fs.kill();
    assert_eq!(open(&fs, mark(25, &[])).unwrap().producer_snapshot().unwrap(), known());
}

#[test]
fn what_is_not_deleted_is_not_asked_for_and_takes_no_file() {
    let (fs, mut log) = flushed(&entries(25));
    let nobody = |first| panic!("asked for what lies before {first}");
    assert_eq!(log.retain(0, &by_bytes(u64::MAX), LogIndex(25), nobody).unwrap(), 0);
    assert!(log.retain(0, &by_bytes(1000), LogIndex(25), no_producers).unwrap() > 0);
    assert!(fs.contents(&path()).is_none(), "no producer is idempotent");
}

/// What is deleted when the crash comes is kept there, and what is not is not taken from there.
#[test]
fn a_crash_at_any_operation_of_retention_forgets_nothing() {
    let (fs, mut log) = flushed(&entries(25));
    let so_far = fs.operations();
    log.retain(0, &by_bytes(1000), LogIndex(25), before).unwrap();
    let operations = fs.operations() - so_far;
    assert!(operations > 10, "{operations}");
    for at in 1..=operations {
        let (fs, mut log) = flushed(&entries(25));
        fs.crash_at(so_far + at);
        let _ = log.retain(0, &by_bytes(1000), LogIndex(25), before);
        fs.crash();
        let log = open(&fs, mark(25, &[])).unwrap();
        let remembered = log.producer_snapshot().unwrap();
        assert_eq!(remembered, before(log.first_index()), "operation {at}");
    }
}

#[test]
fn nothing_is_deleted_that_can_not_be_remembered() {
    for operation in [Operation::Open, Operation::Write, Operation::Sync, Operation::Name] {
        let (fs, mut log) = flushed(&entries(25));
        fs.fail(Fault {
            operation,
            path_contains: "producers".into(),
            after: 0,
            times: 1,
            kind: io::ErrorKind::Other,
        });
        let error = log.retain(0, &by_bytes(1000), LogIndex(25), before).unwrap_err();
        assert!(matches!(error, LogError::Io { .. }), "{error}");
        assert_eq!(log.first_index(), LogIndex(1), "{operation:?}");
        assert!(log.retain(0, &by_bytes(1000), LogIndex(25), before).unwrap() > 0);
        assert_eq!(log.producer_snapshot().unwrap(), before(log.first_index()));
    }
}

/// What producers sent between what it holds and where it begins is not known.
#[test]
fn a_log_that_was_reset_has_forgotten_what_was_before() {
    let (fs, mut log) = shortened();
    let end = LogEnd {
        index: LogIndex(100),
        term: Term(6),
        offset: Offset(500),
    };
    let configuration = voters(&[1, 2, 3]);
    log.reset(LogStart {
        end,
        configuration,
        producers: Vec::new(),
    });
    assert!(log.producer_snapshot().unwrap().is_empty());
    flush(&mut log);
    assert!(log.producer_snapshot().unwrap().is_empty());
    let log = open(&fs, mark(100, &[])).unwrap();
    assert!(log.producer_snapshot().unwrap().is_empty());
}

#[test]
fn a_lost_log_has_forgotten_what_was_before() {
    let (fs, log) = shortened();
    drop(log);
    let log = ReplicaLog::open_lost(Arc::new(fs.clone()), Path::new(DIR), GROUP, options()).unwrap();
    assert!(log.producer_snapshot().unwrap().is_empty());
    assert!(fs.contents(&path()).is_none(), "it is set aside");
    assert!(fs.contents(&path().with_extension("damaged")).is_some());
}

#[test]
fn the_bytes_of_the_file() {
    let (fs, log) = shortened();
    let first = log.first_index().0;
    let mut body = first.to_le_bytes().to_vec();
    for (producer, index, offset, sequence) in [(7i64, 2u64, 0i64, 0i32), (8, 3, 2, 40), (7, 9, 14, 2)] {
        body.extend(producer.to_le_bytes());
        body.extend(index.to_le_bytes());
        body.extend(offset.to_le_bytes());
        body.extend(sequence.to_le_bytes());
        body.extend((sequence + 1).to_le_bytes());
        body.extend([3, 0, 0, 0]);
    }
    let head = *b"TRIP\x01\0\0\0\x03\0\0\0";
    let sealed = [&7u64.to_le_bytes()[..], &head, &body].concat();
    let expected = [&head[..], &crc32c::crc32c(&sealed).to_le_bytes(), &body].concat();
    assert_eq!(fs.contents(&path()).unwrap(), expected);
}

fn replace(fs: &FaultyFs, bytes: &[u8]) {
    let file = fs.open(&path(), Mode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
}

#[test]
fn a_file_that_is_cut_or_longer_is_damaged() {
    let (fs, log) = shortened();
    let whole = fs.contents(&path()).unwrap();
    let longer = [&whole[..], &[0]].concat();
    let cut = (0..whole.len()).map(|length| &whole[..length]);
    for bytes in cut.chain([&longer[..]]) {
        replace(&fs, bytes);
        let error = log.producer_snapshot().unwrap_err();
        assert!(error.is_damage(), "{error}");
        let LogError::Corrupt { path: named, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(named, path());
    }
    replace(&fs, &whole);
    assert_eq!(log.producer_snapshot().unwrap().len(), 3);
}

#[test]
fn another_groups_file_is_damaged() {
    let (fs, _) = shortened();
    let read = super::super::producer_snapshot::read(&fs, Path::new(DIR), GroupId(8), LogIndex(1));
    assert!(read.unwrap_err().is_damage());
}

/// With a checksum that is right: nothing is allocated for what is not there, and nothing passes that can't be.
#[test]
fn what_can_not_be_is_refused() {
    let check = |count: u32, version: u16, batches: &[ProducedBatch], first: u64| {
        let fs = FaultyFs::new(1);
        fs.create_dir_all(Path::new(DIR)).unwrap();
        let mut body = first.to_le_bytes().to_vec();
        for batch in batches {
            crate::producers::put_batch(&mut body, batch);
        }
        let mut head = *b"TRIP\x01\0\0\0\0\0\0\0";
        head[4..6].copy_from_slice(&version.to_le_bytes());
        head[8..].copy_from_slice(&count.to_le_bytes());
        let sealed = [&7u64.to_le_bytes()[..], &head, &body].concat();
        let bytes = [&head[..], &crc32c::crc32c(&sealed).to_le_bytes(), &body].concat();
        replace(&fs, &bytes);
        super::super::producer_snapshot::read(&fs, Path::new(DIR), GROUP, LogIndex(first))
    };
    let good = [sent(2, 7, 0), sent(3, 8, 0)];
    assert_eq!(check(2, 1, &good, 4).unwrap(), good);
    let refused = [
        check(u32::MAX, 1, &good, 4),
        check(1, 1, &good, 4),
        check(2, 2, &good, 4),
        check(2, 1, &good, 3),
        check(2, 1, &good, u64::MAX),
        check(2, 1, &[good[1], good[0]], 4),
        check(1, 1, &[sent(2, -1, 0)], 4),
        check(1, 1, &[sent(2, 7, -1)], 4),
    ];
    for (number, read) in refused.into_iter().enumerate() {
        assert!(read.unwrap_err().is_damage(), "{number}");
    }
}

#[test]
fn a_file_of_any_length_is_not_read_into_memory() {
    let (fs, log) = shortened();
    let file = fs.open(&path(), Mode::Write).unwrap();
    file.set_len(1 << 30).unwrap();
    let error = log.producer_snapshot().unwrap_err();
    assert!(error.to_string().contains("longer than it can be"), "{error}");
}
