mod golden;
mod group_commit;
mod misuse;
mod owner;

use super::*;
use crate::fs::faulty::{Fault, FaultyFs, Operation};
use bytes::Bytes;
use std::io::IoSlice;
use trimaran_raft::{Configuration, Entry, Life, NodeId, Payload, Term};

const DIR: &str = "/data/journal";
const SMALL: JournalOptions = JournalOptions {
    file_bytes: 1500,
    max_files: 3,
};

fn entry(index: u64, term: u64, payload: &[u8]) -> Entry {
    let payload = if payload.is_empty() {
        Payload::Blank
    } else {
        Payload::Data(Bytes::copy_from_slice(payload))
    };
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload,
    }
}

fn hard(term: u64, vote: Option<u64>) -> HardState {
    HardState {
        term: Term(term),
        vote: vote.map(NodeId),
        ..HardState::default()
    }
}

fn configuration(voters: &[u64]) -> Configuration {
    Configuration {
        voters: voters.iter().copied().map(NodeId).collect(),
        ..Configuration::default()
    }
}

fn configured(index: u64, term: u64, voters: &[u64]) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload: Payload::Configuration(Box::new(configuration(voters))),
    }
}

/// A position, with data of which the journal understands nothing.
fn start(index: u64, term: u64, data: &'static [u8]) -> Snapshot {
    Snapshot {
        index: LogIndex(index),
        term: Term(term),
        configuration: configuration(&[1, 2, 3]),
        data: Bytes::from_static(data),
    }
}

fn open(fs: &FaultyFs) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError> {
    Journal::open(Arc::new(fs.clone()), Path::new(DIR), SMALL)
}

fn append(group: u64, entries: &[Entry]) -> JournalBatch {
    let mut batch = JournalBatch::default();
    batch.entries(GroupId(group), entries);
    batch
}

/// What a step of a scripted workload does.
#[derive(Clone)]
enum Step {
    Write(JournalBatch),
    Release(u64, u64),
}

/// Groups 1 to 3 write in turn, are released, truncated and rewritten; group 3 never releases but rewrites, and group 2
/// is forgotten in the end. Group 5 changes its members, is lost and begins empty, and is reset to what its leader
/// still has. Long enough for several files to be recycled.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut first = JournalBatch::default();
    for group in 1..=3 {
        first.hard_state(GroupId(group), hard(1, Some(group)));
        first.entries(GroupId(group), &[entry(1, 1, b"")]);
    }
    steps.push(Step::Write(first));
    for round in 0..14u64 {
        let index = 2 + 2 * round;
        let mut batch = JournalBatch::default();
        batch.hard_state(GroupId(1), hard(2 + round, None));
        batch.entries(
            GroupId(1),
            &[entry(index, 2 + round, &[1; 90]), entry(index + 1, 2 + round, b"x")],
        );
        batch.entries(GroupId(2), &[entry(2 + round, 1, &[2; 60])]);
        steps.push(Step::Write(batch));
        if round == 4 {
            let mut replaced = JournalBatch::default();
            replaced.truncate(GroupId(1), LogIndex(index + 1));
            replaced.entries(GroupId(1), &[entry(index + 1, 2 + round, &[3; 5000])]);
            steps.push(Step::Write(replaced));
        }
        if round % 3 == 2 {
            steps.push(Step::Release(1, index));
            steps.push(Step::Release(2, 2 + round));
        }
        steps.extend(repair(round));
        if round % 5 == 1 {
            let mut again = JournalBatch::default();
            again.rewrite(GroupId(3), &[entry(1, 1, b"")]);
            steps.push(Step::Write(again));
        }
    }
    let mut last = JournalBatch::default();
    last.forget(GroupId(2));
    last.hard_state(GroupId(4), hard(9, None));
    steps.push(Step::Write(last));
    steps
}

/// What happens to group 5 in each round.
fn repair(round: u64) -> Option<Step> {
    let mut batch = JournalBatch::default();
    let group = GroupId(5);
    match round {
        0 => batch.entries(group, &[entry(1, 1, b""), configured(2, 1, &[1, 2])]),
        1 => batch.entries(group, &[configured(3, 1, &[1, 4]), entry(4, 1, &[5; 40])]),
        2 | 9 => {
            batch.truncate(group, LogIndex(3 + round / 9 * 150));
            batch.entries(group, &[configured(3 + round / 9 * 150, 2 + round / 9 * 8, &[1, 2, 3])]);
        }
        3 => return Some(Step::Release(5, 2)),
        4 => {
            batch.reset(group, &start(0, 0, b""));
            let barred = LogIndex(u64::MAX);
            batch.hard_state(
                group,
                HardState {
                    barred,
                    ..hard(4, Some(2))
                },
            );
        }
        5 => {
            batch.reset(group, &start(150, 9, b"of nobody's concern"));
            batch.entries(group, &[entry(151, 9, &[6; 50])]);
        }
        6 => return Some(Step::Release(5, 120)),
        7 => {
            let barred = LogIndex(152);
            batch.hard_state(
                group,
                HardState {
                    barred,
                    ..hard(9, None)
                },
            );
            batch.entries(group, &[entry(152, 10, b""), configured(153, 10, &[2, 3])]);
        }
        11 => return Some(Step::Release(5, 151)),
        12 => batch.hard_state(group, hard(10, None)),
        13 => return Some(Step::Release(5, 153)),
        _ => return None,
    }
    Some(Step::Write(batch))
}

type Model = BTreeMap<GroupId, RecoveredGroup>;

/// The journal's meaning, written again in the plainest way.
fn step_model(model: &mut Model, step: &Step) {
    match step {
        Step::Release(group, upto) => release_model(model.entry(GroupId(*group)).or_default(), LogIndex(*upto)),
        Step::Write(batch) => {
            for record in batch.records() {
                match record {
                    Record::HardState { group, state } => model.entry(*group).or_default().hard_state = *state,
                    Record::Truncate { group, from } => {
                        model
                            .entry(*group)
                            .or_default()
                            .entries
                            .retain(|entry| entry.index < *from);
                    }
                    Record::Entry { group, entry } => {
                        let entries = &mut model.entry(*group).or_default().entries;
                        entries.retain(|old| old.index < entry.index);
                        entries.push(entry.clone());
                    }
                    Record::Forget { group } => drop(model.remove(group)),
                    Record::Reset { group, start } => {
                        let group = model.entry(*group).or_default();
                        *group = RecoveredGroup {
                            hard_state: group.hard_state,
                            start: (start.index > LogIndex::ZERO).then(|| start.clone()),
                            ..RecoveredGroup::default()
                        };
                    }
                    Record::Begin { .. }
                    | Record::Flushed { .. }
                    | Record::Configured { .. }
                    | Record::Owner { .. }
                    | Record::Start { .. } => unreachable!("no batch holds these"),
                }
            }
        }
    }
}

fn release_model(group: &mut RecoveredGroup, upto: LogIndex) {
    let reset_at = group.start.as_ref().map_or(LogIndex::ZERO, |start| start.index);
    if upto < reset_at {
        return;
    }
    group.start = None;
    group.flushed = group.flushed.max(upto);
    let is_configuration = |entry: &&Entry| matches!(entry.payload, Payload::Configuration(_));
    let flushed = group.entries.iter().filter(|entry| entry.index <= upto);
    let last = flushed.filter(is_configuration).map(|entry| entry.index).max();
    group.configured = group.configured.max(reset_at).max(last.unwrap_or_default());
}

/// Whether what was recovered is what the model holds, but for what had been released: of that, some may be there, and
/// what is missing must be known to be flushed.
fn agrees(found: &Model, model: &Model) -> bool {
    found.keys().eq(model.keys())
        && found.iter().zip(model).all(|((_, found), (_, model))| {
            let kept = &model.entries[model.entries.len() - found.entries.len().min(model.entries.len())..];
            let missing = model.entries.len() - kept.len();
            let last_missing = missing
                .checked_sub(1)
                .map_or(LogIndex::ZERO, |last| model.entries[last].index);
            found.hard_state == model.hard_state
                && found.entries == kept
                && last_missing <= found.flushed
                && found.flushed <= model.flushed
                && found.configured <= model.configured
                && (found.configured == model.configured || found.flushed < model.flushed)
                && (found.start == model.start || (found.flushed < model.flushed && model.start.is_none()))
        })
}

fn run(journal: &mut Journal, step: &Step) -> Result<(), JournalError> {
    match step {
        Step::Write(batch) => journal.write(batch),
        Step::Release(group, upto) => journal.release(GroupId(*group), LogIndex(*upto)),
    }
}

/// The model after each step, the one before the first included.
fn models(steps: &[Step]) -> Vec<Model> {
    let mut models = vec![Model::new()];
    for step in steps {
        let mut model = models.last().unwrap().clone();
        step_model(&mut model, step);
        models.push(model);
    }
    models
}

fn finished(seed: u64) -> FaultyFs {
    let fs = FaultyFs::new(seed);
    let (mut journal, _) = open(&fs).unwrap();
    for step in script() {
        run(&mut journal, &step).unwrap();
    }
    fs
}

#[test]
fn what_was_written_is_found_again() {
    let fs = finished(1);
    let (_, found) = open(&fs).unwrap();
    let models = models(&script());
    assert!(agrees(&found, models.last().unwrap()), "{found:?}");
    assert_eq!(found[&GroupId(3)].entries, [entry(1, 1, b"")]);
    assert!(!found.contains_key(&GroupId(2)), "forgotten");
    assert!(found[&GroupId(1)].flushed > LogIndex::ZERO);
    let five = &found[&GroupId(5)];
    assert_eq!(
        (five.flushed, five.configured, &five.start),
        (LogIndex(153), LogIndex(153), &None)
    );
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged_and_invents_nothing() {
    let steps = script();
    let models = models(&steps);
    let operations = finished(0).operations();
    let mut in_flight_survived = 0;
    for seed in 0..4 {
        for at in 1..=operations {
            let fs = FaultyFs::new(seed * 1000 + at);
            fs.crash_at(at);
            let done = match open(&fs) {
                Err(_) => 0,
                Ok((mut journal, _)) => steps
                    .iter()
                    .position(|step| run(&mut journal, step).is_err())
                    .unwrap_or(steps.len()),
            };
            fs.crash();
            let (mut journal, found) = open(&fs).unwrap_or_else(|error| panic!("seed {seed}, at {at}: {error}"));
            let before = agrees(&found, &models[done]);
            let with_in_flight = models.get(done + 1).is_some_and(|model| agrees(&found, model));
            assert!(
                before || with_in_flight,
                "seed {seed}, at {at}, after {done} steps: {found:?}"
            );
            in_flight_survived += usize::from(!before);

            // Goes on from there, and once more through a crash between two writes.
            let from = if before { done } else { done + 1 };
            for (group, model) in &models[from] {
                journal.release(*group, model.flushed).unwrap();
            }
            for step in &steps[from..] {
                run(&mut journal, step).unwrap();
            }
            fs.crash();
            let (_, found) = open(&fs).unwrap();
            assert!(
                agrees(&found, models.last().unwrap()),
                "seed {seed}, at {at}: {found:?}"
            );
        }
    }
    assert!(
        in_flight_survived > 0,
        "no crash ever kept what it could have lost: the test tears nothing"
    );
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
        fs.open(path, Mode::Create)
            .unwrap()
            .write_all_at(&[IoSlice::new(bytes)], 0)
            .unwrap();
    }
    fs
}

#[test]
fn a_flipped_bit_is_corruption_or_a_torn_end_and_never_something_else() {
    let steps = script();
    let image = image(&finished(1));
    let models = models(&steps);
    let last = models.last().unwrap();
    let last_write = &models[models.len() - 2];
    let (mut corrupt, mut torn, mut harmless) = (0, 0, 0);
    for (path, bytes) in &image {
        for position in 0..bytes.len() as u64 {
            let fs = restore(&image);
            assert!(fs.corrupt(path, position));
            match open(&fs) {
                Err(JournalError::Corrupt {
                    path: named,
                    position: at,
                    ..
                }) => {
                    // An end that does not fit may be blamed on the file that ends or on the one that says so.
                    assert!(
                        named == *path && at <= position || at == 0,
                        "{named:?} {at} {path:?} {position}"
                    );
                    corrupt += 1;
                }
                Err(error) => panic!("{path:?} at {position}: {error}"),
                Ok((_, found)) if agrees(&found, last) => harmless += 1,
                Ok((_, found)) if agrees(&found, last_write) => torn += 1,
                Ok((_, found)) => panic!("{path:?} at {position}: {found:?}"),
            }
        }
    }
    assert!(
        corrupt > 1000 && torn > 20 && harmless > 20,
        "{corrupt} {torn} {harmless}"
    );
}

#[test]
fn any_bytes_are_an_error_or_nothing_and_never_a_panic() {
    let mut noise = 1u64;
    let mut byte = || {
        noise = noise
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (noise >> 56) as u8
    };
    let good = image(&finished(1));
    for round in 0..200 {
        let mut image = good.clone();
        let file = round % image.len();
        let bytes = &mut image[file].1;
        let from = usize::from(byte()) * bytes.len() / 256;
        bytes[from..].iter_mut().for_each(|old| *old = byte());
        let _ = open(&restore(&image));
    }
}

/// Found by fuzzing: a frame within the records of a torn frame, behind the shorter one that is written in its place.
#[test]
fn what_is_left_of_a_torn_frame_is_not_searched_for_frames() {
    let other = FaultyFs::new(1);
    let (mut journal, _) = open(&other).unwrap();
    for index in 1..=5 {
        journal.write(&append(1, &[entry(index, 1, b"forged")])).unwrap();
    }
    let bytes = fs_bytes(&other);
    let last = bytes.windows(4).rposition(|window| window == b"TRIJ").unwrap();
    // Frames are searched for at multiples of eight: one of these is at one.
    let forged: Vec<u8> = (0..8)
        .flat_map(|pad| [&bytes[last..], &[0; 8][..pad]].concat())
        .collect();
    for first in [&[][..], &[entry(1, 1, b"whole")]] {
        let fs = FaultyFs::new(1);
        let (mut journal, _) = open(&fs).unwrap();
        journal.write(&append(1, first)).unwrap();
        let next = LogIndex(first.len() as u64 + 1);
        let torn = Entry {
            payload: Payload::Data([&forged[..], b"torn"].concat().into()),
            ..entry(next.0, 1, b"")
        };
        journal.write(&append(1, &[torn])).unwrap();
        let mut image = image(&fs);
        let bytes = &mut image[0].1;
        let end = bytes.windows(4).rposition(|window| window == b"torn").unwrap();
        bytes[end] ^= 1;
        let fs = restore(&image);
        let (mut journal, found) = open(&fs).unwrap();
        assert_eq!(found.len(), first.len());
        journal.write(&append(1, &[entry(next.0, 1, b"short")])).unwrap();
        drop(journal);
        let (_, found) = open(&fs).unwrap();
        assert_eq!(found[&GroupId(1)].entries.last(), Some(&entry(next.0, 1, b"short")));
    }
}

fn fs_bytes(fs: &FaultyFs) -> Vec<u8> {
    fs.contents(&file_path(Path::new(DIR), 1)).unwrap()
}

/// Found by fuzzing: files count from one, and nothing is before the first.
#[test]
fn a_file_that_no_journal_makes_is_left_alone() {
    let stray = Path::new(DIR).join("00000000000000000000.journal");
    let huge = Path::new(DIR).join("18446744073709551615.journal");
    let mut image = image(&finished(1));
    image.extend([(stray.clone(), b"not a journal".to_vec()), (huge.clone(), Vec::new())]);
    let fs = restore(&image);
    let (_, found) = open(&fs).unwrap();
    assert!(agrees(&found, models(&script()).last().unwrap()));
    assert_eq!(fs.contents(&stray).unwrap(), b"not a journal");
    assert!(fs.contents(&huge).is_some());
}

/// Found by fuzzing: what comes after the largest number?
#[test]
fn numbers_that_no_journal_reaches_are_no_numbers_of_a_frame() {
    let seal = |bytes: &mut [u8]| {
        let body = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
        let crc = crc32c::crc32c(&bytes[48..48 + body]).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
        let crc = crc32c::crc32c(&bytes[..44]).to_le_bytes();
        bytes[44..48].copy_from_slice(&crc);
    };
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    journal.write(&append(1, &[entry(1, 3, b"a")])).unwrap();
    let image = image(&fs);
    // The header's numbers, then index and term of the entry, which stands behind the file's summary.
    for at in [16, 24, 32, 48 + 9 + 9, 48 + 9 + 17] {
        for number in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let mut image = image.clone();
            let bytes = &mut image[0].1;
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            seal(bytes);
            match open(&restore(&image)) {
                Ok((_, found)) => assert!(found.is_empty() && at < 48, "{at}: {found:?}"),
                Err(JournalError::Corrupt { position: 0, .. }) => {}
                Err(error) => panic!("{at}: {error}"),
            }
        }
    }
}

#[test]
fn a_missing_file_is_noticed() {
    let mut image = image(&finished(1));
    let live: Vec<PathBuf> = image.iter().map(|(path, _)| path.clone()).collect();
    assert!(live.len() >= 2);
    image.remove(image.len() - 2);
    let Err(JournalError::Corrupt { path, .. }) = open(&restore(&image)) else {
        panic!("not noticed")
    };
    assert_eq!(path, live[live.len() - 2]);
}

#[test]
fn a_newer_version_is_refused_and_not_cut() {
    let mut image = image(&finished(1));
    let bytes = &mut image.last_mut().unwrap().1;
    bytes[4] = 6;
    let crc = crc32c::crc32c(&bytes[..44]).to_le_bytes();
    bytes[44..48].copy_from_slice(&crc);
    let Err(JournalError::Corrupt { position: 0, what, .. }) = open(&restore(&image)) else {
        panic!("accepted")
    };
    assert!(what.contains("newer version"));
}

/// Writes batches of one entry until the journal is in its `file`-th file, releasing behind.
fn fill_to_file(journal: &mut Journal, group: u64, next: &mut u64, file: u64) {
    while journal.current.as_ref().is_none_or(|current| current.sequence < file) {
        journal.write(&append(group, &[entry(*next, 1, &[0; 400])])).unwrap();
        *next += 1;
    }
}

#[test]
fn files_are_recycled_and_not_deleted() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    let mut next = 1;
    for file in 1..20 {
        fill_to_file(&mut journal, 1, &mut next, file);
        journal.release(GroupId(1), LogIndex(next - 1)).unwrap();
        assert!(fs.files().len() <= 3, "{:?}", fs.files());
    }
    assert!(fs.files().len() >= 2, "spares are kept");
    assert!(fs.files()[0].0 > file_path(Path::new(DIR), 15), "and have new names");
    assert_eq!(
        journal.live_files(),
        2,
        "the one before the current one is recycled by the next write"
    );
}

#[test]
fn the_group_that_holds_the_oldest_file_is_named_and_can_write_again() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    journal.write(&append(7, &[entry(1, 1, b"held")])).unwrap();
    let mut next = 1;
    fill_to_file(&mut journal, 8, &mut next, 3);
    journal.release(GroupId(8), LogIndex(next - 1)).unwrap();
    assert!(journal.groups_to_flush().is_empty(), "as many files as allowed");
    fill_to_file(&mut journal, 8, &mut next, 5);
    journal.release(GroupId(8), LogIndex(next - 1)).unwrap();
    assert_eq!(journal.groups_to_flush(), [GroupId(7)]);

    let mut again = JournalBatch::default();
    again.rewrite(GroupId(7), &[entry(1, 1, b"held")]);
    journal.write(&again).unwrap();
    assert!(journal.groups_to_flush().is_empty() || journal.live_files() <= 3);
    journal.write(&append(8, &[entry(next, 1, b"")])).unwrap();
    assert_eq!(journal.live_files(), 1);
    assert!(fs.files().len() <= 3, "what is over the limit is deleted");
    drop(journal);
    let (_, found) = open(&fs).unwrap();
    assert_eq!(found[&GroupId(7)].entries, [entry(1, 1, b"held")]);
}

#[test]
fn what_was_flushed_while_it_waited_to_be_written_again_holds_nothing() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    journal.write(&append(7, &[entry(1, 1, b"held")])).unwrap();
    let mut next = 1;
    fill_to_file(&mut journal, 8, &mut next, 5);
    journal.release(GroupId(8), LogIndex(next - 1)).unwrap();
    assert_eq!(journal.groups_to_flush(), [GroupId(7)]);
    // Its tail is handed over to be written again, and a flush comes back before the disk takes it.
    let mut again = JournalBatch::default();
    again.rewrite(GroupId(7), &[entry(1, 1, b"held"), entry(2, 1, b"not flushed")]);
    journal.release(GroupId(7), LogIndex(1)).unwrap();
    journal.write(&again).unwrap();
    fill_to_file(&mut journal, 8, &mut next, 9);
    journal.release(GroupId(8), LogIndex(next - 1)).unwrap();
    assert_eq!(journal.groups_to_flush(), [GroupId(7)], "for its second entry");
    journal.release(GroupId(7), LogIndex(2)).unwrap();
    assert!(journal.groups_to_flush().is_empty());

    let mut again = JournalBatch::default();
    again.rewrite(GroupId(7), &[entry(2, 1, b"flushed")]);
    journal.write(&again).unwrap();
    fill_to_file(&mut journal, 8, &mut next, 14);
    journal.release(GroupId(8), LogIndex(next - 1)).unwrap();
    assert!(journal.groups_to_flush().is_empty(), "it would never be released again");
}

#[test]
fn a_group_that_truncates_or_is_forgotten_lets_go() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    journal
        .write(&append(1, &[entry(1, 1, b"a"), entry(2, 1, b"b")]))
        .unwrap();
    journal.write(&append(2, &[entry(1, 1, b"a")])).unwrap();
    let mut next = 1;
    fill_to_file(&mut journal, 3, &mut next, 5);
    journal.release(GroupId(3), LogIndex(next - 1)).unwrap();
    assert_eq!(journal.groups_to_flush(), [GroupId(1), GroupId(2)]);
    let mut batch = JournalBatch::default();
    batch.truncate(GroupId(1), LogIndex(1));
    journal.write(&batch).unwrap();
    assert_eq!(journal.groups_to_flush(), [GroupId(2)]);
    let mut batch = JournalBatch::default();
    batch.forget(GroupId(2));
    journal.write(&batch).unwrap();
    journal.release(GroupId(2), LogIndex(1)).unwrap();
    journal.write(&append(3, &[entry(next, 1, b"")])).unwrap();
    assert_eq!(journal.live_files(), 1);
    drop(journal);
    assert!(
        !open(&fs).unwrap().1.contains_key(&GroupId(2)),
        "a late release does not bring it back"
    );
}

fn check_poisoned_by(operation: Operation) {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    journal.write(&append(1, &[entry(1, 1, b"a")])).unwrap();
    fs.fail(Fault {
        operation,
        path_contains: "journal".into(),
        after: 0,
        times: 1,
        kind: io::ErrorKind::Other,
    });
    let second = append(1, &[entry(2, 1, b"b")]);
    assert!(matches!(journal.write(&second), Err(JournalError::Io { .. })));
    assert!(matches!(journal.write(&second), Err(JournalError::Poisoned)));
    drop(journal);
    let (mut journal, found) = open(&fs).unwrap();
    assert_eq!(found[&GroupId(1)].entries[0], entry(1, 1, b"a"));
    journal.write(&second).unwrap();
    fs.crash();
    assert_eq!(
        open(&fs).unwrap().1[&GroupId(1)].entries,
        [entry(1, 1, b"a"), entry(2, 1, b"b")]
    );
}

#[test]
fn a_failed_write_or_sync_poisons_until_it_is_opened_again() {
    check_poisoned_by(Operation::Write);
    check_poisoned_by(Operation::Sync);
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    fs.set_capacity(Some(3000));
    let written = (1..)
        .find(|index| journal.write(&append(1, &[entry(*index, 1, &[5; 200])])).is_err())
        .unwrap()
        - 1;
    fs.crash();
    fs.heal();
    let (_, found) = open(&fs).unwrap();
    let expected: Vec<Entry> = (1..=written).map(|index| entry(index, 1, &[5; 200])).collect();
    assert!(found[&GroupId(1)].entries.starts_with(&expected));
}

#[test]
fn what_an_interrupted_process_left_unsynced_is_made_durable_before_it_is_believed() {
    for seed in 0..10 {
        let fs = FaultyFs::new(seed);
        let (mut journal, _) = open(&fs).unwrap();
        fs.fail(Fault {
            operation: Operation::Sync,
            path_contains: ".journal".into(),
            after: 0,
            times: 1,
            kind: io::ErrorKind::Other,
        });
        assert!(journal.write(&append(1, &[entry(1, 1, &[1; 3000])])).is_err());
        fs.kill();
        let (_, found) = open(&fs).unwrap();
        assert_eq!(found[&GroupId(1)].entries.len(), 1);
        fs.crash();
        assert_eq!(open(&fs).unwrap().1, found);
    }
}

#[test]
fn one_batch_is_one_write_and_one_sync() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = Journal::open(
        Arc::new(fs.clone()),
        Path::new(DIR),
        JournalOptions {
            file_bytes: 1 << 20,
            max_files: 2,
        },
    )
    .unwrap();
    let mut first = JournalBatch::default();
    (0..1000).for_each(|group| first.entries(GroupId(group), &[entry(1, 1, b"")]));
    journal.write(&first).unwrap();
    let before = fs.operations();
    let mut batch = JournalBatch::default();
    for group in 0..1000 {
        batch.hard_state(GroupId(group), hard(2, None));
        batch.entries(
            GroupId(group),
            &[
                entry(2, 2, &[1; 100]),
                entry(3, 2, &[2; 6000][..(group as usize % 2) * 6000]),
            ],
        );
    }
    assert_eq!(batch.bytes(), 1000 * 100 + 500 * 6000);
    journal.write(&batch).unwrap();
    assert_eq!(
        fs.operations() - before,
        4,
        "a new file, its name's sync, one write and one sync"
    );
    journal.write(&JournalBatch::default()).unwrap();
    assert_eq!(fs.operations() - before, 4, "nothing for an empty batch");
    let mut one = append(2000, &[entry(1, 1, b"")]);
    one.extend(append(2000, &[entry(2, 1, b"x")]));
    journal.write(&one).unwrap();
    drop(journal);
    let (_, found) = open(&fs).unwrap();
    assert_eq!(found.len(), 1001);
    assert!(found[&GroupId(1)].entries[2] == entry(3, 2, &[2; 6000]));
    assert_eq!(found[&GroupId(2000)].entries.len(), 2);
}

#[test]
fn a_reset_is_remembered_until_the_folder_reflects_it() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    let group = GroupId(1);
    journal.write(&append(1, &[entry(1, 1, &[1; 1000])])).unwrap();
    let mut batch = JournalBatch::default();
    let position = start(100, 3, &[7; 300]);
    batch.reset(group, &position);
    batch.entries(group, &[entry(101, 3, b"x")]);
    journal.write(&batch).unwrap();
    // What was before is not needed, and the position goes from file to file.
    for n in 0..20 {
        let mut batch = append(2, &[entry(n + 1, 1, &[2; 900])]);
        batch.rewrite(group, &[entry(101, 3, b"x")]);
        journal.write(&batch).unwrap();
        journal.release(GroupId(2), LogIndex(n + 1)).unwrap();
        // That was in its folder before.
        journal.release(group, LogIndex(1)).unwrap();
    }
    assert!(journal.live_files() <= 2, "{}", journal.live_files());
    drop(journal);
    let (mut journal, found) = open(&fs).unwrap();
    let recovered = &found[&group];
    assert_eq!(recovered.start.as_deref(), Some(&position));
    assert_eq!(recovered.entries, [entry(101, 3, b"x")]);
    journal.release(group, LogIndex(100)).unwrap();
    journal.write(&append(2, &[entry(21, 1, b"")])).unwrap();
    drop(journal);
    let (_, found) = open(&fs).unwrap();
    let recovered = &found[&group];
    assert_eq!((&recovered.start, recovered.flushed), (&None, LogIndex(100)));
    assert_eq!(recovered.configured, LogIndex(100), "the folder begins with it");
}

#[test]
fn it_works_on_a_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let steps = script();
    let open = || {
        Journal::open(
            Arc::new(crate::fs::RealFs::default()),
            &root.path().join("deep/journal"),
            SMALL,
        )
        .unwrap()
    };
    let (mut journal, _) = open();
    for step in &steps {
        run(&mut journal, step).unwrap();
    }
    drop(journal);
    assert!(agrees(&open().1, models(&steps).last().unwrap()));
}
