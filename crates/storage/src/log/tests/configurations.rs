//! Entries that say who belongs to the group: they take an index and no offset, and come back with their payload.

use super::*;
use crate::fs::{Fs as _, Mode};

pub(super) fn voters(ids: &[u64]) -> Configuration {
    Configuration {
        voters: ids.iter().copied().map(trimaran_raft::NodeId).collect(),
        ..Configuration::default()
    }
}

pub(super) fn configured(index: u64, term: u64, ids: &[u64]) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload: Payload::Configuration(Box::new(voters(ids))),
    }
}

fn path() -> PathBuf {
    super::super::configurations::path(Path::new(DIR))
}

/// Four entries, a configuration, a batch, another configuration.
fn mixed() -> Vec<Entry> {
    let mut entries = entries(4);
    entries.push(configured(5, 1, &[1, 2, 4]));
    entries.push(data(6, 1, 6, 1, 1_100));
    entries.push(configured(7, 1, &[2, 4]));
    entries
}

/// What the journal knows when everything up to here is flushed.
fn known(flushed: u64, configured: u64, entries: &[Entry]) -> RecoveredGroup {
    RecoveredGroup {
        configured: LogIndex(configured),
        ..mark(flushed, entries)
    }
}

#[test]
fn a_configuration_takes_an_index_and_no_offset() {
    let entries = mixed();
    let (fs, log) = flushed(&entries);
    assert_eq!((log.last_index(), log.next_offset()), (LogIndex(7), Offset(7)));
    assert_eq!(load(&log, 1, 7).unwrap(), entries, "from segments");
    assert_eq!(load(&log, 5, 5).unwrap(), entries[4..5]);
    let batches: Vec<_> = log
        .batches(LogIndex(1))
        .unwrap()
        .iter()
        .map(|batch| batch.index.0)
        .collect();
    assert_eq!(batches, [2, 3, 4, 6]);
    let all = bytes_of(log.read(Offset(0), HighWatermark(Offset(7)), usize::MAX).unwrap());
    assert_eq!(
        all,
        entries
            .iter()
            .flat_map(|entry| payload(entry).to_vec())
            .collect::<Vec<_>>()
    );
    let log = open(&fs, known(7, 7, &[])).unwrap();
    assert_eq!(load(&log, 1, 7).unwrap(), entries, "after a restart");
    let expected = [(LogIndex(5), voters(&[1, 2, 4])), (LogIndex(7), voters(&[2, 4]))];
    assert_eq!(log.configurations(), expected);
}

#[test]
fn a_truncation_takes_configurations_back() {
    let (_, mut log) = fresh();
    log.append(&mixed()).unwrap();
    assert_eq!(log.configurations().len(), 2);
    log.truncate_from(LogIndex(7));
    assert_eq!(log.configurations(), [(LogIndex(5), voters(&[1, 2, 4]))]);
    log.truncate_from(LogIndex(5));
    assert!(log.configurations().is_empty());
}

#[test]
fn the_one_in_force_at_the_start_outlives_retention() {
    let mut entries = mixed();
    for n in 0..12 {
        entries.push(data(8 + n, 1, 7 + n as i64, 1, 1_200));
    }
    let (fs, mut log) = flushed(&entries);
    let all = Retention {
        bytes: Some(0),
        ms: None,
    };
    assert!(log.retain(0, &all, LogIndex(19), no_producers).unwrap() >= 2);
    assert!(log.first_index() > LogIndex(8));
    assert_eq!(log.configurations(), [(LogIndex(7), voters(&[2, 4]))]);
    assert_eq!(log.start().index, log.first_index().prev());
    let log = open(&fs, known(19, 7, &[])).unwrap();
    assert_eq!(log.configurations(), [(LogIndex(7), voters(&[2, 4]))]);
}

/// The journal says that it was there: it was no torn write.
#[test]
fn a_file_that_has_lost_its_end_is_damaged() {
    let (fs, _) = flushed(&mixed());
    let whole = fs.contents(&path()).unwrap().len() as u64;
    let file = fs.open(&path(), Mode::Write).unwrap();
    for len in [whole - 1, whole / 2, 0] {
        file.set_len(len).unwrap();
        match open(&fs, known(7, 7, &[])) {
            Err(LogError::Corrupt {
                path: named, position, ..
            }) => {
                assert_eq!(named, path());
                assert!(position <= len);
            }
            other => panic!("{len}: {:?}", other.err()),
        }
        assert!(
            open(&fs, known(3, 0, &[])).is_err(),
            "{len}: segments hold entries of it"
        );
    }
}

/// The file is written before the segment: whatever a crash leaves in it is of no entry yet.
#[test]
fn what_a_crash_left_in_the_file_is_written_over() {
    let entries = mixed();
    let (fs, mut log) = flushed(&entries[..6]);
    log.append(&[configured(7, 1, &[9, 8, 7, 6, 5])]).unwrap();
    fs.fail(Fault {
        operation: Operation::Write,
        path_contains: ".index".into(),
        after: 0,
        times: 1,
        kind: io::ErrorKind::Other,
    });
    assert!(log.flush(LogIndex(7)).unwrap().run().is_err());
    let len = fs.contents(&path()).unwrap().len();
    // As it is, or torn anywhere.
    for cut in (0..=76).step_by(4) {
        let fs = super::damage::copy(&fs);
        fs.open(&path(), Mode::Write)
            .unwrap()
            .set_len((len - cut) as u64)
            .unwrap();
        let mut log = open(&fs, known(6, 5, &entries[6..])).unwrap();
        assert_eq!(log.configurations().len(), 2);
        flush(&mut log);
        let log = open(&fs, known(7, 7, &[])).unwrap();
        assert_eq!(load(&log, 1, 7).unwrap(), entries, "cut by {cut}");
    }
}

/// The format is a promise: logs of today must be readable tomorrow.
#[test]
fn the_bytes_of_the_file() {
    let (fs, log) = flushed(&[blank(1, 1), configured(2, 1, &[1, 3])]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let golden = [
        // Magic, version; length and CRC; index; three counts; two voters.
        "5452494301000000",
        "1c000000dd24d7f3",
        "0200000000000000",
        "020000000000000000000000",
        "01000000000000000300000000000000",
    ];
    assert_eq!(hex(&fs.contents(&path()).unwrap()), golden.concat());
    let index = fs.contents(&log.segments[0].index_path(Path::new(DIR))).unwrap();
    let golden = [
        "0103ffff010000000100000000000000",
        "00000000ffffffff0000000000000000",
        "00000000000000800000000000000080",
        "ffffffffffffffffffffffffc96144f6",
    ];
    assert_eq!(hex(&index[128..]), golden.concat());
}
