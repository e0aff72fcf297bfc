//! Requests that would lose entries, or make the next open fail, and are refused before anything is written.

use super::*;

const GROUP: GroupId = GroupId(1);

/// A journal with entries 1 to 3 of the group in terms 1, 2 and 2, the first one released.
fn begun(fs: &FaultyFs) -> Journal {
    let (mut journal, _) = open(fs).unwrap();
    journal
        .write(&append(1, &[entry(1, 1, b"a"), entry(2, 2, b"b"), entry(3, 2, b"c")]))
        .unwrap();
    journal.release(GROUP, LogIndex(1)).unwrap();
    journal
}

/// The refusal of a batch. It leaves the disk as it was, and the journal goes on.
#[track_caller]
fn check_refused(change: impl Fn(&mut JournalBatch), expected: Refusal) {
    // Once as the journal wrote it itself, and once as it found it.
    for reopened in [false, true] {
        let fs = FaultyFs::new(1);
        let mut journal = begun(&fs);
        if reopened {
            journal.write(&append(2, &[entry(1, 1, b"")])).unwrap();
            drop(journal);
            journal = open(&fs).unwrap().0;
        }
        let (before, operations) = (image(&fs), fs.operations());
        let mut batch = append(3, &[entry(1, 1, b"of another group")]);
        change(&mut batch);
        match journal.write(&batch) {
            Err(JournalError::Refused { group, what }) => assert_eq!((group, what), (GROUP, expected)),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            (image(&fs), fs.operations()),
            (before, operations),
            "nothing was written"
        );
        journal.write(&append(1, &[entry(4, 2, b"d")])).unwrap();
        drop(journal);
        let (_, found) = open(&fs).unwrap();
        assert_eq!(found[&GROUP].entries.last(), Some(&entry(4, 2, b"d")));
        assert!(
            !found.contains_key(&GroupId(3)),
            "a batch is written as a whole, or not at all"
        );
    }
}

#[test]
fn a_gap_is_refused() {
    let gap = |index, last| Refusal::Gap {
        index: LogIndex(index),
        last: LogIndex(last),
    };
    check_refused(|batch| batch.entries(GROUP, &[entry(5, 2, b"")]), gap(5, 3));
    check_refused(
        |batch| batch.entries(GROUP, &[entry(4, 2, b""), entry(6, 2, b"")]),
        gap(6, 4),
    );
    check_refused(|batch| batch.entries(GROUP, &[entry(0, 2, b"")]), gap(0, 3));
    check_refused(|batch| batch.rewrite(GROUP, &[entry(5, 2, b"")]), gap(5, 3));
    let truncate_first = |batch: &mut JournalBatch| {
        batch.truncate(GROUP, LogIndex(3));
        batch.entries(GROUP, &[entry(4, 2, b"")]);
    };
    check_refused(truncate_first, gap(4, 2));
    let reset_first = |batch: &mut JournalBatch| {
        batch.reset(GROUP, &start(10, 2, b""));
        batch.entries(GROUP, &[entry(12, 2, b"")]);
    };
    check_refused(reset_first, gap(12, 10));
    let forget_first = |batch: &mut JournalBatch| {
        batch.forget(GROUP);
        batch.entries(GROUP, &[entry(4, 2, b"")]);
    };
    check_refused(forget_first, gap(4, 0));
}

#[test]
fn a_new_group_begins_with_its_first_entry_or_with_a_reset() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    let error = journal.write(&append(1, &[entry(10, 1, b"")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal refuses a request of group 1: entry 10 does not follow entry 0, the last one of the group; write \
         entry 1 first, or let the log begin elsewhere by a reset"
    );
    let mut batch = JournalBatch::default();
    batch.reset(GROUP, &start(9, 1, b""));
    batch.entries(GROUP, &[entry(10, 1, b"")]);
    journal.write(&batch).unwrap();
    drop(journal);
    assert_eq!(open(&fs).unwrap().1[&GROUP].entries, [entry(10, 1, b"")]);
}

#[test]
fn a_term_that_goes_back_is_refused() {
    let what = Refusal::TermGoesBack {
        index: LogIndex(4),
        term: Term(1),
        before: Term(2),
    };
    check_refused(|batch| batch.entries(GROUP, &[entry(4, 1, b"")]), what);
}

#[test]
fn what_was_released_is_not_replaced() {
    let released = |index, released| Refusal::Released {
        index: LogIndex(index),
        released: LogIndex(released),
    };
    check_refused(|batch| batch.entries(GROUP, &[entry(1, 2, b"")]), released(1, 1));
    check_refused(|batch| batch.truncate(GROUP, LogIndex(1)), released(1, 1));
    let reset_first = |batch: &mut JournalBatch| {
        batch.reset(GROUP, &start(10, 2, b""));
        batch.entries(GROUP, &[entry(10, 2, b"")]);
    };
    check_refused(reset_first, released(10, 10));
}

#[test]
fn numbers_and_configurations_that_recovery_would_not_take_are_refused() {
    check_refused(
        |batch| batch.entries(GROUP, &[entry(u64::MAX, 2, b"")]),
        Refusal::TooLarge,
    );
    check_refused(
        |batch| batch.entries(GROUP, &[entry(4, u64::MAX, b"")]),
        Refusal::TooLarge,
    );
    check_refused(|batch| batch.truncate(GROUP, LogIndex(u64::MAX)), Refusal::TooLarge);
    check_refused(|batch| batch.hard_state(GROUP, hard(u64::MAX, None)), Refusal::TooLarge);
    check_refused(|batch| batch.reset(GROUP, &start(u64::MAX, 2, b"")), Refusal::TooLarge);
    check_refused(
        |batch| batch.entries(GROUP, &[configured(4, 2, &[])]),
        Refusal::BadConfiguration,
    );
    let of_nobody = Snapshot {
        configuration: configuration(&[]),
        ..start(9, 2, b"")
    };
    check_refused(|batch| batch.reset(GROUP, &of_nobody), Refusal::BadConfiguration);
    let long = Snapshot {
        data: vec![0; MAX_RESET_BYTES + 1].into(),
        ..start(9, 2, b"")
    };
    check_refused(|batch| batch.reset(GROUP, &long), Refusal::TooLong);
}

#[test]
fn what_was_not_written_is_not_released() {
    let fs = FaultyFs::new(1);
    let mut journal = begun(&fs);
    let error = journal.release(GROUP, LogIndex(100)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal refuses a request of group 1: entries up to 100 can't be released: the group's last entry is 3; \
         release only what was written"
    );
    // 60 KB, in many files. None of it is lost, since nobody has released it.
    for index in 4..=63 {
        journal.write(&append(1, &[entry(index, 2, &[7; 1000])])).unwrap();
    }
    drop(journal);
    let (_, found) = open(&fs).unwrap();
    let entries = &found[&GROUP].entries;
    assert_eq!(
        (entries.len(), entries.last().map(|last| last.index)),
        (63, Some(LogIndex(63)))
    );
    assert_eq!(found[&GROUP].flushed, LogIndex(1));
}

#[test]
fn what_a_truncation_took_away_is_not_released() {
    let fs = FaultyFs::new(1);
    let mut journal = begun(&fs);
    let mut batch = JournalBatch::default();
    batch.truncate(GROUP, LogIndex(3));
    journal.write(&batch).unwrap();
    let error = journal.release(GROUP, LogIndex(3)).unwrap_err();
    let what = Refusal::BeyondEnd {
        upto: LogIndex(3),
        last: LogIndex(2),
    };
    assert!(
        matches!(error, JournalError::Refused { what: found, .. } if found == what),
        "{error}"
    );
    journal.release(GROUP, LogIndex(2)).unwrap();
}

#[test]
fn a_journal_has_one_owner() {
    let fs = FaultyFs::new(1);
    let mut first = begun(&fs);
    let error = open(&fs).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal in /data/journal is in use, and has one owner at a time; stop the process that has it open, \
         or choose another folder"
    );
    first.write(&append(1, &[entry(4, 2, b"d")])).unwrap();
    drop(first);
    assert_eq!(open(&fs).unwrap().1[&GROUP].entries.len(), 4);

    // The lock of a process that is gone does not count, and dropping what is left of it frees nobody else's.
    let (old, _) = open(&fs).unwrap();
    fs.kill();
    let (_new, _) = open(&fs).unwrap();
    drop(old);
    assert!(matches!(open(&fs), Err(JournalError::Locked { .. })));
}

#[test]
fn a_journal_on_a_real_disk_has_one_owner() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("journal");
    let open = || Journal::open(Arc::new(crate::fs::RealFs::default()), &dir, SMALL);
    let (mut first, _) = open().unwrap();
    first.write(&append(1, &[entry(1, 1, b"a")])).unwrap();
    assert!(matches!(open(), Err(JournalError::Locked { dir: named }) if named == dir));
    first.write(&append(1, &[entry(2, 1, b"b")])).unwrap();
    drop(first);
    assert_eq!(open().unwrap().1[&GROUP].entries.len(), 2);
}
