//! A flipped bit in every region of every file that storage writes, and what becomes of it. Enumerated: every bit of
//! every file, and the regions are those of the formats' own tables (`journal/frame.rs`, `journal/batch.rs`,
//! `log/index.rs`, `log/configurations.rs`, `log/producer_snapshot.rs`, Kafka's record batch).
//!
//! `testdata/damage.txt` is the outcome; `UPDATE_DAMAGE=1 cargo test -p trimaran-storage --test damage` writes it. What
//! may not come out, whatever the table says, is anything else than what was written: [`outcome`] panics then.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Configuration, Entry, GroupId, HardState, Life, LogIndex, LogView, NodeId, Payload, Term};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::fs::{Fs, Mode};
use trimaran_storage::journal::{Journal, JournalBatch, JournalError, JournalOptions, RecoveredGroup};
use trimaran_storage::log::{Chunk, Entries, HighWatermark, LogError, LogOptions, ReplicaLog, Retention};
use trimaran_storage::offsets::{LogEnd, leader_epoch};
use trimaran_storage::producers::ProducedBatch;
use trimaran_storage::snapshot::LogStart;
use trimaran_wire::batch::{self, Offset};

const JOURNAL: &str = "/data/journal";
const LOG: &str = "/data/partitions/group-7";
/// The group that has a log.
const GROUP: GroupId = GroupId(7);

type Image = Vec<(PathBuf, Vec<u8>)>;

fn image(fs: &FaultyFs) -> Image {
    let names = fs.files().into_iter().map(|(path, _)| path);
    names.map(|path| (path.clone(), fs.contents(&path).unwrap())).collect()
}

fn restore(image: &Image) -> FaultyFs {
    let fs = FaultyFs::new(7);
    for folder in [JOURNAL, LOG] {
        fs.create_dir_all(Path::new(folder)).unwrap();
    }
    for (path, bytes) in image {
        let file = fs.open(path, Mode::Create).unwrap();
        file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
    }
    fs
}

/// Why a folder can't be used, and where it was noticed.
#[derive(Debug)]
enum Failure {
    Journal(JournalError),
    Opening(LogError),
    Reading(LogError),
}

/// All that a folder holds, read in every way.
#[derive(Clone, Debug, PartialEq)]
struct Everything {
    groups: BTreeMap<GroupId, RecoveredGroup>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    remembered: Vec<ProducedBatch>,
}

fn open(fs: &FaultyFs) -> Result<(Journal, ReplicaLog, BTreeMap<GroupId, RecoveredGroup>), Failure> {
    let shared = Arc::new(fs.clone());
    let options = JournalOptions {
        file_bytes: 1800,
        max_files: 4,
    };
    let (mut journal, groups) = Journal::open(shared.clone(), Path::new(JOURNAL), options).map_err(Failure::Journal)?;
    let options = LogOptions {
        segment_bytes: 250,
        segment_ms: u64::MAX,
        tail_bytes: 0,
    };
    let recovered = groups.get(&GROUP).cloned().unwrap_or_default();
    let log = ReplicaLog::open(shared, Path::new(LOG), GROUP, options, recovered).map_err(Failure::Opening)?;
    journal.release(GROUP, log.flushed_index()).map_err(Failure::Journal)?;
    Ok((journal, log, groups))
}

fn read(fs: &FaultyFs) -> Result<Everything, Failure> {
    let (_, log, groups) = open(fs)?;
    read_log(&log, groups).map_err(Failure::Reading)
}

fn read_log(log: &ReplicaLog, groups: BTreeMap<GroupId, RecoveredGroup>) -> Result<Everything, LogError> {
    let entries = match log.entries(log.first_index(), log.last_index())? {
        Entries::Ready(entries) => entries,
        Entries::Load(job) => job.run()?,
    };
    let mut bytes = Vec::new();
    let upto = HighWatermark(log.next_offset());
    for chunk in log.read(log.start_offset(), upto, usize::MAX)? {
        match chunk {
            Chunk::Memory(memory) => bytes.extend_from_slice(&memory),
            Chunk::File(slice) => bytes.extend_from_slice(&slice.read()?),
        }
    }
    log.batches(log.first_index())?;
    for timestamp in [0, 1025, 1065] {
        log.batch_by_timestamp(timestamp, upto)?;
    }
    log.max_timestamp(upto)?;
    Ok(Everything {
        groups,
        entries,
        bytes,
        remembered: log.producer_snapshot()?,
    })
}

/// Rounds after which the journal has a frame between others, and after which it still holds what the segments end
/// with; and where it holds positions that name what producers sent, before which entry.
const ROUNDS: [[u64; 2]; 3] = [[23, 1], [20, 1], [22, 3]];

/// A folder as a broker's: segments, a journal of several files that were used more than once, and one that is spare.
fn folder([rounds, told]: [u64; 2]) -> Image {
    let fs = FaultyFs::new(1);
    let (mut journal, mut log, _) = open(&fs).unwrap();
    for round in 1..=rounds {
        let term = 1 + round / 6;
        let mut batch = JournalBatch::default();
        let mut hard_state = HardState::default();
        (hard_state.term, hard_state.vote) = (Term(term), Some(NodeId(3)));
        batch.hard_state(GROUP, hard_state);
        let entry = next_entry(&log, term, round);
        log.append(std::slice::from_ref(&entry)).unwrap();
        batch.entries(GROUP, &[entry]);
        // A group of which only the journal knows.
        if round > 2 {
            batch.truncate(GroupId(8), LogIndex(round));
        }
        batch.entries(GroupId(8), &[blank(round, term), data(round + 1, term)]);
        batch.forget(GroupId(9));
        if round > 15 {
            others(&mut batch, round, LogIndex(told));
        }
        journal.write(&batch).unwrap();
        if round > 3 && round % 3 == 0 {
            let flushed = log.flush(LogIndex(round - 3)).unwrap().run().unwrap();
            journal.release(GROUP, flushed.upto).unwrap();
            log.flushed(flushed);
            journal.release(GroupId(8), LogIndex(round - 3)).unwrap();
        }
        if round == 15 {
            let retention = Retention {
                bytes: Some(500),
                ms: None,
            };
            assert!(log.retain(0, &retention, log.flushed_index(), sent_before).unwrap() > 0);
        }
    }
    assert!(journal.live_files() > 1, "older files are needed");
    image(&fs)
}

/// What producers are said to have sent in what retention deletes.
fn sent_before(first: LogIndex) -> Vec<ProducedBatch> {
    let sent = |index| ProducedBatch {
        producer: 0x0102_0304_0506_0708,
        epoch: 9,
        first_sequence: 7 * index as i32,
        last_sequence: 7 * index as i32 + 6,
        index: LogIndex(index),
        base_offset: Offset(30 + index as i64),
    };
    (1..first.0).map(sent).collect()
}

/// Groups of which only the journal knows: one lost what it had promised, one was reset to a position, and was told
/// what producers sent before an entry.
fn others(batch: &mut JournalBatch, round: u64, told: LogIndex) {
    let loser = HardState {
        barred: LogIndex(round),
        life: Life(5),
        ..HardState::default()
    };
    batch.hard_state(GroupId(10), loser);
    let end = LogEnd {
        index: LogIndex(round),
        term: Term(1),
        offset: Offset(40),
    };
    let start = LogStart {
        end,
        configuration: members(round),
        producers: sent_before(told),
    };
    batch.reset(GroupId(11), &start.to_snapshot());
}

/// Voters are being exchanged, and there is a learner.
fn members(round: u64) -> Configuration {
    Configuration {
        outgoing: vec![NodeId(1), NodeId(round)],
        learners: vec![NodeId(90)],
        ..Configuration::of_voters([1, 2, 3].map(NodeId))
    }
}

fn blank(index: u64, term: u64) -> Entry {
    let payload = Payload::Blank;
    let (index, term) = (LogIndex(index), Term(term));
    Entry { index, term, payload }
}

fn data(index: u64, term: u64) -> Entry {
    let payload = Payload::Data(Bytes::from_static(b"some payload"));
    Entry {
        payload,
        ..blank(index, term)
    }
}

/// Blank where a term begins, a configuration now and then, otherwise a batch of two records.
fn next_entry(log: &ReplicaLog, term: u64, round: u64) -> Entry {
    let end = log.end();
    let entry = blank(end.index.next().0, term);
    if end.term != Term(term) {
        return entry;
    }
    if round % 8 == 3 {
        let payload = Payload::Configuration(Box::new(members(round)));
        return Entry { payload, ..entry };
    }
    let mut bytes = batch::build(1000 + 10 * end.offset.0, &[(None, Some(b"value")), (Some(b"k"), None)]);
    batch::stamp(&mut bytes, Offset(end.offset.0), leader_epoch(Term(term)));
    Entry {
        payload: Payload::Data(bytes.freeze()),
        ..entry
    }
}

/// What becomes of a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Nothing,
    Torn,
    FromJournal,
    JournalRefused,
    LogRefused,
    ReadRefused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Nothing => "nothing depends on it",
            Outcome::Torn => "the last write counts as torn",
            Outcome::FromJournal => "the journal still holds it",
            Outcome::JournalRefused => "error when the journal is opened",
            Outcome::LogRefused => "error when the log is opened",
            Outcome::ReadRefused => "error when it is read",
        })
    }
}

/// What the folder holds, and what it would hold if the last write had been torn.
struct Expected {
    whole: Everything,
    torn: Everything,
}

/// # Panics
/// If what was flipped is not noticed, or the error does not say where it is.
fn outcome(fs: &FaultyFs, path: &Path, at: u64, expected: &Expected) -> Outcome {
    let shown = || format!("{} at byte {at}", path.display());
    let is_segment = path.starts_with(LOG);
    match read(fs) {
        Ok(found) if found == expected.whole && is_segment => Outcome::FromJournal,
        Ok(found) if found == expected.whole => Outcome::Nothing,
        Ok(found) if found == expected.torn => Outcome::Torn,
        Ok(found) => panic!("{}: {found:?}", shown()),
        Err(Failure::Journal(JournalError::Corrupt {
            path: named, position, ..
        })) => {
            // An end that does not fit may be blamed on the file that ends or on the one that says so.
            let place = named == path && position <= at || position == 0 && named.starts_with(JOURNAL);
            assert!(place, "{}: blamed on {} at {position}", shown(), named.display());
            Outcome::JournalRefused
        }
        Err(Failure::Opening(error)) => blamed(&error, path, Outcome::LogRefused),
        Err(Failure::Reading(error)) => blamed(&error, path, Outcome::ReadRefused),
        Err(error) => panic!("{}: {error:?}", shown()),
    }
}

/// The error names one of the segment's two files.
fn blamed(error: &LogError, path: &Path, outcome: Outcome) -> Outcome {
    match error {
        LogError::Corrupt { path: named, .. } => assert_eq!(named.file_stem(), path.file_stem(), "{error}"),
        error => panic!("{}: {error}", path.display()),
    }
    outcome
}

/// What a file consists of: where regions begin, and what they are called.
type Regions = BTreeMap<usize, String>;

fn regions(path: &Path, bytes: &[u8], place: Place) -> Regions {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("journal") => journal_regions(path, bytes, place),
        Some("log") => log_regions(bytes, segment(place)),
        Some("index") => index_regions(bytes, segment(place)),
        None if path.ends_with("configurations") => configuration_regions(bytes),
        None if path.ends_with("producers") => producers_regions(bytes),
        _ => panic!("{} has no table here: every file must have one", path.display()),
    }
}

/// A file's place among others of its kind.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// A journal file that nothing needs.
    Spare,
    Earlier,
    Last,
}

impl Place {
    fn of(path: &Path, image: &Image) -> Place {
        let of_its_kind = |other: &&(PathBuf, Vec<u8>)| other.0.extension() == path.extension();
        let (last, bytes) = image.iter().rfind(of_its_kind).unwrap();
        if last == path {
            return Place::Last;
        }
        if !path.starts_with(JOURNAL) {
            return Place::Earlier;
        }
        let newest = *frames(bytes, sequence(last)).last().unwrap();
        if sequence(path) < u64_at(bytes, newest + 32) {
            Place::Spare
        } else {
            Place::Earlier
        }
    }
}

fn sequence(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

const FRAME_HEADER: [(usize, &str); 10] = [
    (0, "magic"),
    (4, "version"),
    (6, "zero"),
    (8, "length of the records"),
    (12, "CRC of the records"),
    (16, "file"),
    (24, "batch"),
    (32, "oldest file"),
    (40, "number of records"),
    (44, "CRC of the header"),
];

fn journal_regions(path: &Path, bytes: &[u8], place: Place) -> Regions {
    if place == Place::Spare {
        return Regions::from([(0, "spare file: all of it".to_owned())]);
    }
    let starts = frames(bytes, sequence(path));
    let mut regions = Regions::new();
    let last = starts.last().expect("a file that is needed begins with a frame");
    for start in &starts {
        let frame = match (place, *start) {
            (Place::Earlier, 0) => "older file, first frame",
            (Place::Earlier, _) => "older file, later frame",
            (_, 0) => "current file, first frame",
            (_, start) if start == *last => "current file, last frame",
            (_, _) => "current file, frame between",
        };
        for (at, field) in FRAME_HEADER {
            regions.insert(start + at, format!("{frame}: header, {field}"));
        }
        let body = start + 48;
        let length = u32_at(bytes, start + 8);
        records(&bytes[body..body + length], |at, kind| {
            regions.insert(body + at, format!("{frame}: {kind}"));
        });
        regions.insert(body + length, format!("{frame}: zeros behind the records"));
    }
    let end = last + frame_len(bytes, *last);
    regions.insert(end, "behind the last frame: what the file held before".to_owned());
    regions
}

fn frame_len(bytes: &[u8], start: usize) -> usize {
    48 + u32_at(bytes, start + 8).next_multiple_of(8)
}

/// Where this life's frames begin.
fn frames(bytes: &[u8], sequence: u64) -> Vec<usize> {
    let (mut starts, mut start) = (Vec::new(), 0);
    while bytes.len() >= start + 48 && &bytes[start..start + 4] == b"TRIJ" && u64_at(bytes, start + 16) == sequence {
        starts.push(start);
        start += frame_len(bytes, start);
    }
    starts
}

/// Where each record's parts begin in a frame's body.
fn records(body: &[u8], mut part: impl FnMut(usize, &'static str)) {
    let mut at = 0;
    while at < body.len() {
        let (kind, length) = match body[at] {
            1 => ("end of the file before", 9),
            2 => ("hard state", 26),
            3 => ("flushed", 17),
            4 => ("truncate", 17),
            5 => ("blank entry", 25),
            6 => {
                part(at, "entry");
                part(at + 29, "entry's payload");
                at += 29 + u32_at(body, at + 25);
                continue;
            }
            7 => ("forget", 9),
            8 => ("configuration entry", 25 + configuration_len(&body[at + 25..])),
            9 => ("hard state of a loser", 42),
            12 => ("configured", 17),
            kind @ (16 | 17) => {
                let data = at + 25 + configuration_len(&body[at + 25..]);
                let (position, its_data) = match kind {
                    16 => ("reset", "reset's data"),
                    _ => ("start", "start's data"),
                };
                part(at, position);
                part(data, its_data);
                at = data + 4 + u32_at(body, data);
                continue;
            }
            other => panic!("a record of kind {other} has no line here"),
        };
        part(at, kind);
        at += length;
    }
}

/// Three counts, and so many ids.
fn configuration_len(bytes: &[u8]) -> usize {
    12 + 8 * (u32_at(bytes, 0) + u32_at(bytes, 4) + u32_at(bytes, 8))
}

const CONFIGURATION: [(usize, &str); 7] = [
    (0, "magic"),
    (4, "version"),
    (6, "zero"),
    (8, "length"),
    (12, "CRC"),
    (16, "index"),
    (24, "configuration"),
];

fn configuration_regions(bytes: &[u8]) -> Regions {
    let (mut regions, mut start) = (Regions::new(), 0);
    while start < bytes.len() {
        let length = 24 + configuration_len(&bytes[start + 24..]);
        let record = if start + length == bytes.len() {
            "last record"
        } else {
            "earlier record"
        };
        regions.extend(CONFIGURATION.map(|(at, field)| (start + at, format!("{record}: {field}"))));
        start += length;
    }
    regions
}

const PRODUCERS: [(usize, &str); 6] = [
    (0, "magic"),
    (4, "version"),
    (6, "zero"),
    (8, "number of batches"),
    (12, "CRC"),
    (16, "first index"),
];

const PRODUCED: [(usize, &str); 7] = [
    (0, "producer id"),
    (8, "index"),
    (16, "offset"),
    (24, "first sequence"),
    (28, "last sequence"),
    (32, "producer epoch"),
    (34, "zero"),
];

fn producers_regions(bytes: &[u8]) -> Regions {
    let mut regions: Regions = PRODUCERS.map(|(at, field)| (at, format!("head: {field}"))).into();
    for start in (24..bytes.len()).step_by(36) {
        regions.extend(PRODUCED.map(|(at, field)| (start + at, format!("batch: {field}"))));
    }
    regions
}

const BATCH_HEADER: [(usize, &str); 14] = [
    (0, "base offset"),
    (8, "length"),
    (12, "leader epoch"),
    (16, "magic"),
    (17, "CRC"),
    (21, "attributes"),
    (23, "last offset delta"),
    (27, "base timestamp"),
    (35, "max timestamp"),
    (43, "producer id"),
    (51, "producer epoch"),
    (53, "base sequence"),
    (57, "number of records"),
    (61, "records"),
];

fn segment(place: Place) -> &'static str {
    if place == Place::Last {
        "last segment"
    } else {
        "earlier segment"
    }
}

fn log_regions(bytes: &[u8], segment: &str) -> Regions {
    let (mut regions, mut start) = (Regions::new(), 0);
    while start < bytes.len() {
        for (at, field) in BATCH_HEADER {
            regions.insert(start + at, format!("{segment}, batch: {field}"));
        }
        let length = u32::from_be_bytes(bytes[start + 8..start + 12].try_into().unwrap());
        start += 12 + length as usize;
    }
    regions
}

const SEGMENT_RECORD: [(usize, &str); 10] = [
    (0, "version"),
    (1, "kind"),
    (2, "zero"),
    (4, "magic"),
    (8, "first index"),
    (16, "base offset"),
    (24, "term before"),
    (32, "group"),
    (40, "zero"),
    (60, "CRC"),
];

const ENTRY_RECORD: [(usize, &str); 14] = [
    (0, "version"),
    (1, "kind"),
    (2, "producer epoch"),
    (4, "index"),
    (8, "term"),
    (16, "offset"),
    (20, "last offset delta"),
    (24, "position"),
    (28, "length"),
    (32, "max timestamp"),
    (40, "latest timestamp"),
    (48, "producer id"),
    (56, "base sequence"),
    (60, "CRC"),
];

fn index_regions(bytes: &[u8], segment: &str) -> Regions {
    let mut regions: Regions = SEGMENT_RECORD
        .map(|(at, field)| (at, format!("{segment}, its own record: {field}")))
        .into();
    for start in (64..bytes.len()).step_by(64) {
        regions.extend(ENTRY_RECORD.map(|(at, field)| (start + at, format!("{segment}, an entry's record: {field}"))));
    }
    regions
}

/// Region by region, what came out.
type Table = BTreeMap<(String, String), BTreeSet<Outcome>>;

fn show(table: &Table) -> String {
    let mut text = String::from(
        "A bit is flipped in every region of every file that storage writes, one at a time; this is what becomes of it.\n\
         Written by `UPDATE_DAMAGE=1 cargo test -p trimaran-storage --test damage`.\n",
    );
    let mut file = "";
    for ((kind, region), outcomes) in table {
        if file != kind {
            text.push_str(&format!("\n{kind}\n"));
            file = kind;
        }
        let outcomes: Vec<String> = outcomes.iter().map(Outcome::to_string).collect();
        text.push_str(&format!("  {region:<58} {}\n", outcomes.join("; ")));
    }
    text
}

#[test]
fn a_flipped_bit_in_any_region_of_any_file_is_survived_or_named() {
    let (mut table, mut bits) = (Table::new(), 0);
    bits += flip(&folder(ROUNDS[0]), |_| true, &mut table);
    bits += flip(&folder(ROUNDS[1]), |path| path.starts_with(LOG), &mut table);
    bits += flip(&folder(ROUNDS[2]), |path| path.starts_with(JOURNAL), &mut table);
    assert!(bits > 20_000, "{bits}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/damage.txt");
    let found = show(&table);
    if std::env::var_os("UPDATE_DAMAGE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{} is not what was found:\n{found}", file.display());
}

/// Flips every bit of the files that are chosen, and says how many.
fn flip(whole: &Image, chosen: impl Fn(&Path) -> bool, table: &mut Table) -> usize {
    let journals = |path: &&PathBuf| path.starts_with(JOURNAL);
    let current = whole.iter().map(|(path, _)| path).rfind(journals).unwrap();
    let expected = Expected {
        whole: read(&restore(whole)).unwrap(),
        torn: read(&restore(&without_last_frame(whole, current))).unwrap(),
    };
    assert_ne!(expected.whole, expected.torn);
    let mut bits = 0;
    for (number, (path, bytes)) in whole.iter().enumerate().filter(|(_, (path, _))| chosen(path)) {
        let regions = regions(path, bytes, Place::of(path, whole));
        let kind = match path.extension() {
            Some(extension) => format!("*.{}", extension.to_str().unwrap()),
            None => path.file_name().unwrap().to_str().unwrap().to_owned(),
        };
        for at in 0..bytes.len() {
            let region = regions.range(..=at).next_back().expect("the first begins at 0").1;
            let outcomes = table.entry((kind.clone(), region.clone())).or_default();
            for bit in 0..8 {
                let mut image = whole.clone();
                image[number].1[at] ^= 1 << bit;
                outcomes.insert(outcome(&restore(&image), path, at as u64, &expected));
                bits += 1;
            }
        }
    }
    bits
}

fn without_last_frame(image: &Image, current: &Path) -> Image {
    let mut image = image.clone();
    let (path, bytes) = image.iter_mut().find(|(path, _)| path == current).unwrap();
    let last = *frames(bytes, sequence(path)).last().unwrap();
    assert!(last > 0, "the current file has more than one frame");
    bytes[last..].fill(0);
    image
}

/// Every region that the formats have must have been met, or the table would say less than it seems to.
#[test]
fn the_folders_have_every_region() {
    let mut found = BTreeSet::new();
    for rounds in [ROUNDS[0], ROUNDS[2]] {
        let whole = folder(rounds);
        for (path, bytes) in &whole {
            found.extend(regions(path, bytes, Place::of(path, &whole)).into_values());
        }
    }
    let expected = [
        "spare file: all of it",
        "older file, first frame: end of the file before",
        "older file, first frame: hard state",
        "older file, first frame: flushed",
        "older file, later frame: truncate",
        "current file, frame between: entry's payload",
        "current file, last frame: blank entry",
        "current file, last frame: forget",
        "current file, last frame: zeros behind the records",
        "behind the last frame: what the file held before",
        "current file, last frame: hard state of a loser",
        "current file, last frame: reset",
        "current file, first frame: start",
        "current file, last frame: reset's data",
        "current file, first frame: start's data",
        "older file, later frame: configuration entry",
        "earlier record: configuration",
        "last record: CRC",
        "head: first index",
        "batch: producer id",
        "earlier segment, batch: records",
        "last segment, batch: records",
        "last segment, its own record: group",
        "earlier segment, an entry's record: CRC",
    ];
    let missing: Vec<_> = expected.iter().filter(|region| !found.contains(**region)).collect();
    assert!(missing.is_empty(), "{missing:?} of {found:#?}");
}

/// How a bit may be wrong on its way from the disk.
const ON_THE_WAY: [fn(&FaultyFs, &Path, u64); 3] = [
    |fs, path, at| fs.corrupt_reads(path, at, 1),
    |fs, path, at| fs.corrupt_reads(path, at, 3),
    |fs, path, at| fs.corrupt_cached(path, at),
];

#[test]
fn a_flip_on_the_way_is_no_damage_and_is_told() {
    let whole = folder(ROUNDS[0]);
    let sound = restore(&whole);
    let expected = read(&sound).unwrap();
    let left = image(&sound);
    assert!(sound.misreads().is_empty(), "nothing was read wrong");
    let mut told = BTreeMap::new();
    for (path, bytes) in &whole {
        for at in 0..bytes.len() as u64 {
            for flip in ON_THE_WAY {
                let fs = restore(&whole);
                flip(&fs, path, at);
                let found = read(&fs).unwrap_or_else(|error| panic!("{} at byte {at}: {error:?}", path.display()));
                assert!(found == expected, "{} at byte {at}", path.display());
                assert!(image(&fs) == left, "{} at byte {at}: it was written", path.display());
                for misread in fs.misreads() {
                    assert!(
                        misread.path == *path && misread.position <= at,
                        "{misread} at byte {at}"
                    );
                    *told.entry(path).or_insert(0) += 1;
                }
            }
        }
    }
    let needed = whole.iter().filter(|(path, _)| Place::of(path, &whole) != Place::Spare);
    for (path, bytes) in needed {
        let told = told.get(path).copied().unwrap_or(0);
        assert!(told > bytes.len() / 3, "{}: {told} of {}", path.display(), bytes.len());
    }
}

#[test]
fn what_is_wrong_each_time_is_damage() {
    let whole = folder(ROUNDS[0]);
    let (path, bytes) = whole.iter().find(|(path, _)| path.starts_with(LOG)).unwrap();
    let fs = restore(&whole);
    fs.corrupt_reads(path, bytes.len() as u64 / 2, u64::MAX);
    let error = read(&fs).unwrap_err();
    let is_damage = matches!(&error, Failure::Opening(error) | Failure::Reading(error) if error.is_damage());
    assert!(is_damage, "{error:?}");
    assert!(fs.misreads().is_empty(), "it was never right");
}
