//! Journals that are lost, in part or as a whole, or replaced by others.

use super::*;
use std::collections::BTreeSet;

type Image = Vec<(PathBuf, Vec<u8>)>;

const MARK: &str = "/data/journal.mark";
const ID: OwnerId = OwnerId([7; 16]);

fn owner(id: OwnerId, start: u64) -> Owner {
    let mark = PathBuf::from(MARK);
    Owner { id, start, mark }
}

fn open_as(
    fs: &FaultyFs,
    id: OwnerId,
    start: u64,
) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
    Journal::open_owned(Arc::new(fs.clone()), Path::new(DIR), SMALL, owner(id, start))
}

fn open_owned(fs: &FaultyFs, start: u64) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
    open_as(fs, ID, start)
}

fn glance(fs: &FaultyFs) -> Presence {
    look(fs, Path::new(DIR)).unwrap()
}

fn mark(fs: &FaultyFs) -> Option<Mark> {
    read_mark(fs, Path::new(MARK)).unwrap().map(|(_, mark)| mark)
}

fn mismatch<T>(opened: Result<T, JournalError>) -> Mismatch {
    match opened {
        Err(JournalError::Mismatch { dir, what }) => {
            assert_eq!(dir, Path::new(DIR));
            what
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("nothing was noticed"),
    }
}

/// The script, by one start after the other: after each, the image and what is held.
fn starts(fs: &FaultyFs) -> Vec<(Image, Model)> {
    let steps = script();
    let models = models(&steps);
    let mut images = Vec::new();
    let mut done = 0;
    for (start, steps) in (1..).zip(steps.chunks(5)) {
        let (mut journal, _) = open_owned(fs, start).unwrap();
        for (group, model) in &models[done] {
            journal.release(*group, model.flushed).unwrap();
        }
        for step in steps {
            run(&mut journal, step).unwrap();
        }
        done += steps.len();
        images.push((image(fs), models[done].clone()));
    }
    images
}

fn is_journal(path: &Path) -> bool {
    path.starts_with(DIR)
}

#[test]
fn the_bytes_of_an_owned_journal_and_of_its_mark() {
    let fs = FaultyFs::new(1);
    drop(open_owned(&fs, 2).unwrap());
    drop(open_owned(&fs, 3).unwrap());
    let id = "07070707070707070707070707070707";
    let golden = [
        "5452494a0500000022000000e5b58f52010000000000000001000000000000000100000000000000020000007bc2e4ae",
        // The file's summary: begin, owner, and no group.
        "010000000000000000",
        "0f",
        id,
        "0200000000000000",
        "000000000000",
        // The second start.
        "5452494a05000000190000002445cca101000000000000000200000000000000010000000000000001000000035ce857",
        "0f",
        id,
        "0300000000000000",
        "00000000000000",
    ];
    let hex = |path: &Path| {
        let bytes = fs.contents(path).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(hex(&file_path(Path::new(DIR), 1)), golden.concat());
    let golden = [
        "5452494d01000000",
        id,
        "0300000000000000",
        "0200000000000000",
        "3f051bec",
    ];
    assert_eq!(hex(Path::new(MARK)), golden.concat());
}

#[test]
fn an_owned_journal_is_found_again_by_its_owner_only() {
    let fs = FaultyFs::new(1);
    assert_eq!(glance(&fs), Presence::Nothing);
    let images = starts(&fs);
    let last = images.len() as u64;
    assert_eq!(glance(&fs), Presence::Of(ID));
    let other = OwnerId([8; 16]);
    let foreign = |expected| Mismatch::Foreign { found: ID, expected };
    assert_eq!(mismatch(open_as(&fs, other, last + 1)), foreign(Some(other)));
    assert_eq!(mismatch(open(&fs)), foreign(None));
    assert_eq!(
        mismatch(open_owned(&fs, last - 1)),
        Mismatch::Ahead {
            found: last,
            start: last - 1
        }
    );
    assert_eq!(image(&fs), images[images.len() - 1].0, "a refusal writes nothing");
    let (_, found) = open_owned(&fs, last + 1).unwrap();
    assert!(agrees(&found, &images[images.len() - 1].1));
}

#[test]
fn a_crash_at_any_operation_of_an_owned_journal_is_not_taken_for_a_loss() {
    let steps = script();
    let models = models(&steps);
    let whole = FaultyFs::new(0);
    starts(&whole);
    let operations = whole.operations();
    for seed in 0..4 {
        for at in 1..=operations {
            let fs = FaultyFs::new(seed * 1000 + at);
            fs.crash_at(at);
            let (mut start, mut done, mut next_crash) = (0, 0, Some(at + 1 + seed * 3));
            // Starts again and again, each time a few steps later, and once more through a crash while it starts.
            while done < steps.len() {
                start += 1;
                let Ok((mut journal, found)) = open_owned(&fs, start) else {
                    assert!(fs.is_down(), "seed {seed}, at {at}, start {start}");
                    if seed.is_multiple_of(2) {
                        fs.crash()
                    } else {
                        fs.kill()
                    }
                    if let Some(next) = next_crash.take() {
                        fs.crash_at(next);
                    }
                    continue;
                };
                let with_in_flight = models.get(done + 1).is_some_and(|model| agrees(&found, model));
                let before = agrees(&found, &models[done]);
                assert!(
                    before || with_in_flight,
                    "seed {seed}, at {at}, start {start}: {found:?}"
                );
                done += usize::from(!before);
                for (group, model) in &models[done] {
                    journal.release(*group, model.flushed).unwrap();
                }
                for step in steps.iter().skip(done).take(5) {
                    if run(&mut journal, step).is_err() {
                        break;
                    }
                    done += 1;
                }
                if fs.is_down() {
                    if seed.is_multiple_of(2) {
                        fs.crash()
                    } else {
                        fs.kill()
                    }
                    if let Some(next) = next_crash.take() {
                        fs.crash_at(next);
                    }
                }
            }
        }
    }
}

/// What may happen to one file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Kept,
    Deleted,
    Zeroed,
    Emptied,
}

/// All that can happen to so many files together.
fn fates(files: usize) -> Vec<Vec<Fate>> {
    let all = [Fate::Kept, Fate::Deleted, Fate::Zeroed, Fate::Emptied];
    (0..files).fold(vec![Vec::new()], |fates, _| {
        let longer = |fate: Vec<Fate>| all.map(|last| [&fate[..], &[last]].concat());
        fates.into_iter().flat_map(longer).collect()
    })
}

#[test]
fn deleted_and_zeroed_files_are_noticed_whichever_they_are() {
    let fs = FaultyFs::new(1);
    let images = starts(&fs);
    let mut noticed = 0;
    for (number, (image, model)) in images.iter().enumerate() {
        let start = number as u64 + 2;
        let files: Vec<&Path> = { image.iter() }
            .map(|(path, _)| &**path)
            .filter(|path| is_journal(path))
            .collect();
        for fates in fates(files.len()) {
            let fate = |path: &Path| {
                let at = files.iter().position(|file| *file == path);
                at.map_or(Fate::Kept, |at| fates[at])
            };
            let left: Vec<_> = { image.iter() }
                .filter_map(|(path, bytes)| match fate(path) {
                    Fate::Kept => Some((path.clone(), bytes.clone())),
                    Fate::Deleted => None,
                    Fate::Zeroed => Some((path.clone(), vec![0; bytes.len()])),
                    Fate::Emptied => Some((path.clone(), Vec::new())),
                })
                .collect();
            match open_owned(&restore(&left), start) {
                // A file that nothing needs may go.
                Ok((_, found)) => assert!(agrees(&found, model), "{fates:?}: {found:?}"),
                Err(JournalError::Mismatch {
                    what: Mismatch::Missing { .. } | Mismatch::Behind { .. },
                    ..
                })
                | Err(JournalError::Corrupt { .. }) => noticed += 1,
                Err(error) => panic!("{fates:?}: {error}"),
            }
        }
    }
    assert!(noticed > 100, "{noticed}");
}

#[test]
fn an_old_copy_is_noticed_after_each_start_and_each_file() {
    let fs = FaultyFs::new(1);
    let images = starts(&fs);
    for (at, (newer, model)) in images.iter().enumerate() {
        for (older, _) in &images[..at] {
            let outside = newer.iter().filter(|(path, _)| !is_journal(path));
            let inside = older.iter().filter(|(path, _)| is_journal(path));
            let mixed: Vec<_> = outside.chain(inside).cloned().collect();
            let what = mismatch(open_owned(&restore(&mixed), at as u64 + 2));
            assert!(matches!(what, Mismatch::Behind { .. }), "{what}");
        }
        let (_, found) = open_owned(&restore(newer), at as u64 + 2).unwrap();
        assert!(agrees(&found, model));
    }
    // Within one start.
    let (mut journal, _) = open_owned(&fs, 90).unwrap();
    let mut index = 1;
    for file in 0..3 {
        let copy = image(&fs);
        fill_to_next_file(&mut journal, &mut index);
        let mixed: Vec<_> = { image(&fs).into_iter() }
            .filter(|(path, _)| !is_journal(path))
            .chain(copy.into_iter().filter(|(path, _)| is_journal(path)))
            .collect();
        let what = mismatch(open_owned(&restore(&mixed), 91));
        assert!(matches!(what, Mismatch::Behind { .. }), "file {file}: {what}");
    }
}

fn fill_to_next_file(journal: &mut Journal, index: &mut u64) {
    let sequence = |journal: &Journal| journal.current.as_ref().map(|current| current.sequence);
    let before = sequence(journal);
    while sequence(journal) == before {
        journal.write(&append(77, &[entry(*index, 1, &[1; 300])])).unwrap();
        *index += 1;
    }
}

#[test]
fn what_was_written_before_a_clean_end_or_a_note_is_missed() {
    for ends_well in [true, false] {
        let fs = FaultyFs::new(1);
        let (mut journal, _) = open_owned(&fs, 1).unwrap();
        journal.write(&append(1, &[entry(1, 1, b"a")])).unwrap();
        let before = image(&fs);
        journal.write(&append(1, &[entry(2, 1, b"b")])).unwrap();
        if ends_well {
            journal.close().unwrap();
        } else {
            journal.note_progress().unwrap();
            let operations = fs.operations();
            journal.note_progress().unwrap();
            assert_eq!(fs.operations(), operations, "there is nothing new to note");
            drop(journal);
        }
        let now = mark(&fs).unwrap();
        assert_eq!(now, Mark { start: 1, batch: 3 });
        let mixed: Vec<_> = { image(&fs).into_iter() }
            .filter(|(path, _)| !is_journal(path))
            .chain(before.into_iter().filter(|(path, _)| is_journal(path)))
            .collect();
        let found = Mark { start: 1, batch: 2 };
        assert_eq!(
            mismatch(open_owned(&restore(&mixed), 2)),
            Mismatch::Behind { found, mark: now }
        );
        assert!(open_owned(&fs, 2).is_ok());
    }
}

#[test]
fn a_journal_from_before_journals_had_owners_gets_one_once() {
    let fs = finished(1);
    assert_eq!(glance(&fs), Presence::Nameless);
    let nameless = image(&fs);
    let (journal, found) = open_owned(&fs, 1).unwrap();
    assert!(agrees(&found, models(&script()).last().unwrap()));
    drop(journal);
    assert_eq!(glance(&fs), Presence::Of(ID));
    let (_, found) = open_owned(&fs, 2).unwrap();
    assert!(agrees(&found, models(&script()).last().unwrap()));
    let mixed: Vec<_> = { image(&fs).into_iter() }
        .filter(|(path, _)| !is_journal(path))
        .chain(nameless)
        .collect();
    assert_eq!(mismatch(open_owned(&restore(&mixed), 3)), Mismatch::Nameless);
}

#[test]
fn a_file_of_another_journal_among_the_others_is_corruption() {
    let other = FaultyFs::new(2);
    let (mut journal, _) = open_as(&other, OwnerId([9; 16]), 1).unwrap();
    let mut index = 1;
    for _ in 0..3 {
        fill_to_next_file(&mut journal, &mut index);
    }
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open_owned(&fs, 1).unwrap();
    index = 1;
    for _ in 0..3 {
        fill_to_next_file(&mut journal, &mut index);
    }
    let (ours, theirs) = (image(&fs), image(&other));
    let mut noticed = BTreeSet::new();
    for at in 0..ours.len() {
        let mut mixed = ours.clone();
        if mixed[at] == theirs[at] || !is_journal(&mixed[at].0) {
            continue;
        }
        mixed[at] = theirs[at].clone();
        let Err(JournalError::Corrupt { path, .. } | JournalError::Mismatch { dir: path, .. }) =
            open_owned(&restore(&mixed), 2)
        else {
            panic!("{} was not noticed", mixed[at].0.display());
        };
        noticed.insert(path);
    }
    assert!(noticed.len() > 1, "{noticed:?}");
}

#[test]
fn a_mark_that_is_gone_says_nothing_and_one_that_is_damaged_is_named() {
    let fs = FaultyFs::new(1);
    starts(&fs);
    let whole = image(&fs);
    let gone: Vec<_> = { whole.iter() }.filter(|(path, _)| is_journal(path)).cloned().collect();
    let without = restore(&gone);
    assert_eq!(mark(&without), None);
    drop(open_owned(&without, 90).unwrap());
    assert_eq!(mark(&without).map(|mark| mark.start), Some(90));
    for at in 0..44 {
        let fs = restore(&whole);
        assert!(fs.corrupt(Path::new(MARK), at));
        match open_owned(&fs, 90).map(|_| ()) {
            Err(JournalError::Corrupt { path, .. }) => assert_eq!(path, Path::new(MARK)),
            outcome => panic!("byte {at}: {outcome:?}"),
        }
    }
}

#[test]
fn a_mark_that_cannot_be_written_poisons_before_anything_is_reported_durable() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open_owned(&fs, 1).unwrap();
    let mut index = 1;
    fill_to_next_file(&mut journal, &mut index);
    fs.fail(Fault {
        operation: Operation::Sync,
        path_contains: "journal.mark".into(),
        after: 0,
        times: 1,
        kind: io::ErrorKind::Other,
    });
    let error = loop {
        if let Err(error) = journal.write(&append(77, &[entry(index, 1, &[1; 300])])) {
            break error;
        }
        index += 1;
    };
    assert!(error.to_string().contains("journal.mark"), "{error}");
    let again = journal.write(&append(77, &[entry(index, 1, b"")]));
    assert!(matches!(again, Err(JournalError::Poisoned)));
    drop(journal);
    let (_, found) = open_owned(&fs, 2).unwrap();
    assert!(found[&GroupId(77)].entries.len() as u64 >= index - 1);
}

#[test]
fn a_flipped_bit_in_an_owned_journal_is_noticed_or_a_torn_end() {
    let fs = FaultyFs::new(1);
    let steps = script();
    let models = models(&steps);
    starts(&fs);
    let whole = image(&fs);
    let (mut refused, mut torn, mut harmless) = (0, 0, 0);
    for (path, bytes) in whole.iter().filter(|(path, _)| is_journal(path)) {
        for position in 0..bytes.len() as u64 {
            let fs = restore(&whole);
            assert!(fs.corrupt(path, position));
            match open_owned(&fs, 90) {
                Err(JournalError::Corrupt { .. })
                | Err(JournalError::Mismatch {
                    what: Mismatch::Behind { .. },
                    ..
                }) => refused += 1,
                Err(error) => panic!("{path:?} at {position}: {error}"),
                Ok((_, found)) if agrees(&found, &models[models.len() - 1]) => harmless += 1,
                Ok((_, found)) if agrees(&found, &models[models.len() - 2]) => torn += 1,
                Ok((_, found)) => panic!("{path:?} at {position}: {found:?}"),
            }
        }
    }
    assert!(refused > 1000 && torn + harmless > 20, "{refused} {torn} {harmless}");
}

#[test]
fn files_of_zeros_are_no_journal() {
    let fs = FaultyFs::new(1);
    starts(&fs);
    let zeroed: Vec<_> = { image(&fs).into_iter() }
        .map(|(path, bytes)| match is_journal(&path) {
            true => (path, vec![0; bytes.len()]),
            false => (path, bytes),
        })
        .collect();
    assert!(zeroed.len() > 2, "several files");
    let fs = restore(&zeroed);
    assert_eq!(glance(&fs), Presence::Nothing);
    assert!(matches!(mismatch(open_owned(&fs, 90)), Mismatch::Missing { .. }));
    assert_eq!(image(&fs), zeroed, "a refusal writes nothing");
    // Another owner begins with nothing, and is found again after a crash at any operation.
    let other = OwnerId([8; 16]);
    let operations = {
        let fs = restore(&zeroed);
        let before = fs.operations();
        drop(open_as(&fs, other, 91).unwrap());
        fs.operations() - before
    };
    for at in 1..=operations {
        let fs = restore(&zeroed);
        fs.crash_at(fs.operations() + at);
        drop(open_as(&fs, other, 91));
        fs.kill();
        let (mut journal, found) = open_as(&fs, other, 92).unwrap_or_else(|error| panic!("at {at}: {error}"));
        assert!(found.is_empty());
        journal.write(&append(1, &[entry(1, 1, b"a")])).unwrap();
        drop(journal);
        assert_eq!(open_as(&fs, other, 93).unwrap().1[&GroupId(1)].entries.len(), 1);
    }
}
