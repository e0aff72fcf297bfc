//! A log that is reset to a position, and one that is lost and begins empty.

use super::configurations::{configured, voters};
use super::*;
use crate::journal::{Journal, JournalBatch, JournalOptions};

fn position(index: u64, term: u64, offset: i64) -> LogStart {
    LogStart {
        end: LogEnd {
            index: LogIndex(index),
            term: Term(term),
            offset: Offset(offset),
        },
        configuration: voters(&[1, 2, 3]),
        producers: Vec::new(),
    }
}

/// What producers sent before [`position`] 100.
fn sent() -> Vec<ProducedBatch> {
    let batch = |index, sequence| ProducedBatch {
        producer: 77,
        epoch: 0,
        first_sequence: sequence,
        last_sequence: sequence + 9,
        index: LogIndex(index),
        base_offset: Offset(4 * index as i64),
    };
    vec![batch(60, 20), batch(99, 30)]
}

#[test]
fn what_producers_sent_before_a_position_is_kept_whenever_a_crash_comes() {
    let start = LogStart {
        producers: sent(),
        ..position(100, 6, 500)
    };
    let reset = |fs: &FaultyFs, at: Option<u64>| {
        let mut log = open(fs, mark(0, &[])).unwrap();
        log.append(&entries(9)).unwrap();
        flush(&mut log);
        log.reset(start.clone());
        assert_eq!(log.producer_snapshot().unwrap(), sent(), "in memory at once");
        let before = fs.operations();
        if let Some(at) = at {
            fs.crash_at(before + at);
        }
        let done = log.flush(LogIndex(100)).unwrap().run().is_ok();
        (fs.operations() - before, done)
    };
    let (operations, _) = reset(&FaultyFs::new(1), None);
    assert!(operations > 10, "{operations}");
    for at in 1..=operations + 1 {
        let fs = FaultyFs::new(at);
        let (_, done) = reset(&fs, Some(at));
        fs.crash();
        // The journal holds on to the position until the folder says it.
        let told = if done { mark(100, &[]) } else { known(&start, &[]) };
        let log = open(&fs, told).unwrap();
        assert_eq!(
            (log.start(), log.producer_snapshot().unwrap()),
            (start.end, sent()),
            "operation {at}"
        );
        fs.crash();
        let log = open(&fs, mark(100, &[])).unwrap();
        assert_eq!(log.producer_snapshot().unwrap(), sent(), "operation {at}, later");
    }
}

/// What the journal tells after a crash in the middle of a reset.
fn known(start: &LogStart, entries: &[Entry]) -> RecoveredGroup {
    RecoveredGroup {
        entries: entries.to_vec(),
        start: Some(Box::new(start.to_snapshot())),
        ..RecoveredGroup::default()
    }
}

/// Three entries behind [`position`] 100.
fn behind() -> Vec<Entry> {
    vec![
        data(101, 7, 500, 1, 5_000),
        configured(102, 7, &[2, 3]),
        data(103, 8, 501, 2, 5_010),
    ]
}

fn check(log: &ReplicaLog) {
    assert_eq!((log.first_index(), log.last_index()), (LogIndex(101), LogIndex(103)));
    assert_eq!((log.start_offset(), log.next_offset()), (Offset(500), Offset(503)));
    assert_eq!(log.term_at(LogIndex(99)), TermAt::Compacted);
    assert_eq!(log.term_at(LogIndex(100)), TermAt::Known(Term(6)));
    assert_eq!(log.term_at(LogIndex(103)), TermAt::Known(Term(8)));
    assert_eq!(log.epoch_end(LeaderEpoch(7)), Some((LeaderEpoch(7), Offset(501))));
    assert_eq!(load(log, 101, 103).unwrap(), behind());
    let configurations = [(LogIndex(100), voters(&[1, 2, 3])), (LogIndex(102), voters(&[2, 3]))];
    assert_eq!(log.configurations(), configurations);
}

#[test]
fn a_reset_log_begins_behind_a_position() {
    let (fs, mut log) = flushed(&entries(9));
    log.append(&[blank(10, 2), data(11, 2, 16, 1, 2_000)]).unwrap();
    log.reset(position(100, 6, 500));
    assert!(log.is_resetting());
    assert_eq!(
        (log.start(), log.end()),
        (position(100, 6, 500).end, position(100, 6, 500).end)
    );
    assert_eq!(log.read(Offset(500), HighWatermark(Offset(500)), 9).unwrap().len(), 0);
    assert!(matches!(
        log.read(Offset(9), HighWatermark(Offset(500)), 9),
        Err(LogError::OutOfRange { .. })
    ));
    log.append(&behind()).unwrap();
    check(&log);
    let old = fs.files().len();
    assert!(log.flush(LogIndex(99)).is_none(), "the journal may not have it");
    assert_eq!(fs.files().len(), old, "nothing happens before");
    flush(&mut log);
    check(&log);
    assert!(!log.is_resetting());
    assert_eq!(fs.files().len(), 3, "{:?}", fs.files());
    // The folder says it by itself from here on.
    let recovered = RecoveredGroup {
        configured: LogIndex(102),
        ..mark(103, &[])
    };
    check(&open(&fs, recovered).unwrap());
}

#[test]
fn a_reset_without_anything_behind_it_is_flushed_too() {
    let (fs, mut log) = flushed(&entries(9));
    log.reset(position(100, 6, 500));
    let job = log.flush(LogIndex(100)).expect("the reset itself");
    let flushed = job.run().unwrap();
    assert_eq!(flushed.upto, LogIndex(100));
    log.flushed(flushed);
    assert!(log.flush(LogIndex(100)).is_none());
    let recovered = RecoveredGroup {
        configured: LogIndex(100),
        ..mark(100, &behind())
    };
    check(&open(&fs, recovered).unwrap());
}

#[test]
fn a_job_that_was_out_meanwhile_says_nothing_about_the_new_log() {
    for times in 1..3 {
        let (fs, mut log) = flushed(&entries(9));
        log.append(&[blank(10, 2), data(11, 2, 16, 1, 2_000)]).unwrap();
        let job = log.flush(LogIndex(11)).unwrap();
        for time in 1..=times {
            log.reset(position(50 * time, 6, 250 * time as i64));
        }
        log.reset(position(100, 6, 500));
        log.append(&behind()).unwrap();
        assert!(log.flush(LogIndex(103)).is_none(), "one at a time");
        log.flushed(job.run().unwrap());
        check(&log);
        flush(&mut log);
        check(&log);
        assert_eq!(fs.files().len(), 3, "{:?}", fs.files());
    }
}

#[test]
fn what_a_crash_interrupted_is_finished_at_open() {
    let start = position(100, 6, 500);
    let (fs, mut log) = flushed(&entries(9));
    log.reset(start.clone());
    log.append(&behind()).unwrap();
    let before = fs.operations();
    log.flush(LogIndex(103)).unwrap().run().unwrap();
    let operations = fs.operations() - before;
    assert!(operations > 10, "{operations}");
    for at in 0..=operations {
        for upto in [100, 103] {
            let (fs, mut log) = flushed(&entries(9));
            log.reset(start.clone());
            log.append(&behind()).unwrap();
            fs.crash_at(fs.operations() + at + 1);
            let result = log.flush(LogIndex(upto)).unwrap().run();
            assert!(at == operations || upto == 100 || result.is_err());
            fs.crash();
            let log = open(&fs, known(&start, &behind())).unwrap_or_else(|error| panic!("at {at}: {error}"));
            check(&log);
            assert_eq!(
                log.flushed_index(),
                LogIndex(100),
                "what is released clears the journal's mark"
            );
            fs.crash();
            let recovered = RecoveredGroup {
                configured: LogIndex(100),
                ..mark(100, &behind())
            };
            check(&open(&fs, recovered).unwrap_or_else(|error| panic!("at {at}: {error}")));
        }
    }
}

#[test]
fn a_job_that_failed_is_done_again() {
    let start = position(100, 6, 500);
    for operation in [Operation::Name, Operation::Write, Operation::Sync] {
        for after in 0..4 {
            let (fs, mut log) = flushed(&entries(9));
            log.reset(start.clone());
            log.append(&behind()).unwrap();
            fs.fail(Fault {
                operation,
                path_contains: String::new(),
                after,
                times: 1,
                kind: io::ErrorKind::StorageFull,
            });
            match log.flush(LogIndex(103)).unwrap().run() {
                Ok(flushed) => log.flushed(flushed),
                Err(_) => {
                    log.flush_failed();
                    assert!(log.is_resetting());
                    flush(&mut log);
                }
            }
            check(&log);
            assert_eq!(fs.files().len(), 3, "{operation:?} after {after}: {:?}", fs.files());
        }
    }
}

#[test]
fn a_damaged_log_is_quarantined_and_deleted_when_it_is_held_again() {
    let all = entries(9);
    let (fs, log) = flushed(&all);
    fs.corrupt(&log.segments[0].index_path(Path::new(DIR)), 70);
    drop(log);
    let lost = || ReplicaLog::open_lost(Arc::new(fs.clone()), Path::new(DIR), GROUP, options()).unwrap();
    let mut log = lost();
    assert!(log.has_quarantine() && log.last_index() == LogIndex::ZERO);
    let names = fs.files();
    assert!(
        names
            .iter()
            .all(|(path, _)| path.to_str().unwrap().ends_with(".damaged")),
        "{names:?}"
    );
    log.append(&all).unwrap();
    flush(&mut log);
    drop(log);
    let mut log = open(&fs, mark(9, &[])).unwrap();
    assert!(log.has_quarantine(), "after a restart, too");
    log.delete_quarantine().unwrap();
    assert!(!log.has_quarantine());
    assert_eq!(fs.files().len(), 4, "{:?}", fs.files());
    assert_eq!(load(&log, 1, 9).unwrap(), all);
}

/// Half quarantined, it must not look like a log that retention has shortened.
#[test]
fn a_crash_while_a_log_is_quarantined_leaves_it_damaged_or_whole_or_empty() {
    let mut all = entries(12);
    all.push(configured(13, 1, &[1, 2]));
    let flush_all = || flushed(&all).0;
    let fs = flush_all();
    let lost = |fs: &FaultyFs| ReplicaLog::open_lost(Arc::new(fs.clone()), Path::new(DIR), GROUP, options());
    let before = fs.operations();
    lost(&fs).unwrap();
    let operations = fs.operations() - before;
    let recovered = RecoveredGroup {
        configured: LogIndex(13),
        ..mark(13, &[])
    };
    let mut damaged = 0;
    for at in 0..=operations {
        let fs = flush_all();
        fs.crash_at(fs.operations() + at + 1);
        let _ = lost(&fs);
        fs.crash();
        match open(&fs, recovered.clone()) {
            Ok(log) => assert_eq!(load(&log, 1, 13).unwrap(), all, "nothing was moved"),
            Err(LogError::Corrupt { .. }) => damaged += 1,
            Err(error) => panic!("at {at}: {error}"),
        }
        assert_eq!(lost(&fs).unwrap().last_index(), LogIndex::ZERO);
    }
    assert!(damaged > 3, "{damaged}");
}

/// As a broker does it: one journal, and a reset in it that says that the log is empty.
#[test]
fn a_lost_log_is_filled_again_and_the_journal_forgets_what_it_promised() {
    let all = entries(9);
    let fs = FaultyFs::new(3);
    let options = JournalOptions {
        file_bytes: 1 << 16,
        max_files: 3,
    };
    let journal = || Journal::open(Arc::new(fs.clone()), Path::new("/journal"), options.clone()).unwrap();
    let (mut writer, _) = journal();
    let mut log = open(&fs, RecoveredGroup::default()).unwrap();
    log.append(&all).unwrap();
    let mut batch = JournalBatch::default();
    batch.entries(GROUP, &all);
    writer.write(&batch).unwrap();
    let flushed = log.flush(LogIndex(9)).unwrap().run().unwrap();
    writer.release(GROUP, flushed.upto).unwrap();
    let log = ReplicaLog::open_lost(Arc::new(fs.clone()), Path::new(DIR), GROUP, super::options()).unwrap();
    assert_eq!(log.last_index(), LogIndex::ZERO);
    let mut batch = JournalBatch::default();
    batch.reset(
        GROUP,
        &LogStart {
            end: LogEnd::default(),
            configuration: voters(&[1]),
            producers: Vec::new(),
        }
        .to_snapshot(),
    );
    writer.write(&batch).unwrap();
    drop(writer);
    let (_, mut found) = journal();
    let recovered = found.remove(&GROUP).unwrap();
    assert_eq!(recovered, RecoveredGroup::default());
    assert_eq!(open(&fs, recovered).unwrap().last_index(), LogIndex::ZERO);
}
