//! A replica's folder after a restart, whatever is in it.

use super::disk::{self, Image};
use super::pieces::{Pieces, put_piece};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use trimaran_raft::{Entry, GroupId, LogIndex, LogView, Payload, Term};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{Chunk, Entries, HighWatermark, LogError, LogOptions, ReplicaLog, Retention};
use trimaran_storage::offsets::leader_epoch;
use trimaran_storage::producers::ProducedBatch;
use trimaran_wire::batch::{self, BatchHeader, Offset};

const DIR: &str = "/replica";
const GROUP: GroupId = GroupId(7);
/// Entries that are in segments.
const FLUSHED: u64 = 10;

/// A record of the index, as `log/index.rs` documents it.
const RECORD_LEN: usize = 64;
const CRC_AT: usize = 60;

/// The file that `log/producer_snapshot.rs` documents.
const PRODUCERS: &str = "producers";

fn open(fs: &FaultyFs, recovered: RecoveredGroup) -> Result<ReplicaLog, LogError> {
    let options = LogOptions {
        segment_bytes: 250,
        segment_ms: u64::MAX,
        tail_bytes: 0,
    };
    ReplicaLog::open(Arc::new(fs.clone()), Path::new(DIR), GROUP, options, recovered)
}

/// The entries that were written: blank ones where a term begins, batches of one to three records.
fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let mut offset = 0;
        (1..=FLUSHED + 2)
            .map(|index| {
                let term = Term(1 + index / 4);
                let records = if index == 1 || index % 4 == 0 {
                    0
                } else {
                    index as i64 % 3 + 1
                };
                let payload = if records == 0 {
                    Payload::Blank
                } else {
                    let pairs: Vec<batch::KeyValue<'_>> = vec![(None, Some(b"value")); records as usize];
                    let mut bytes = batch::build(1000 + 10 * index as i64, &pairs);
                    batch::stamp(&mut bytes, Offset(offset), leader_epoch(term));
                    Payload::Data(bytes.freeze())
                };
                offset += records;
                Entry {
                    index: LogIndex(index),
                    term,
                    payload,
                }
            })
            .collect()
    })
}

/// What the journal has: how far the log was flushed, and entries from `from` on (none if there is no such entry).
fn journal(flushed: u64, from: u64) -> RecoveredGroup {
    let from = usize::try_from(from.max(1) - 1).unwrap_or(usize::MAX);
    RecoveredGroup {
        flushed: LogIndex(flushed),
        entries: entries().get(from..).unwrap_or_default().to_vec(),
        ..RecoveredGroup::default()
    }
}

/// The first byte says whether checksums are made right, the next two what the journal has. Then files: kind, offset and
/// index (of one byte each; nothing to the file of producers, which has no such name) and bytes.
pub(super) fn target(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let seal = pieces.u8() % 2 == 1;
    let (flushed, from) = (u64::from(pieces.u8()), u64::from(pieces.u8()));
    let mut image = Image::new();
    while !pieces.is_empty() && image.len() < 8 {
        let (kind, offset, index) = (pieces.u8() % 3, number(pieces.u8()), number(pieces.u8()));
        let mut bytes = pieces.piece().to_vec();
        match (seal, kind) {
            (false, _) => {}
            (true, 0) => make_batches_right(&mut bytes),
            (true, 1) => make_index_right(&mut bytes, offset, index),
            (true, _) => make_producers_right(&mut bytes),
        }
        let name = match kind {
            0 => format!("{offset:020}.{index}.log"),
            1 => format!("{offset:020}.{index}.index"),
            _ => PRODUCERS.to_owned(),
        };
        image.push((Path::new(DIR).join(name), bytes));
    }
    let fs = disk::restore(Path::new(DIR), &image);
    match open(&fs, journal(flushed, from)).and_then(|log| read_all(&log)) {
        Ok(Everything {
            entries, remembered, ..
        }) => {
            assert!(remembered.is_sorted_by_key(|batch| batch.index), "in log order");
            let mut pairs = entries.windows(2);
            assert!(
                pairs.all(|pair| pair[1].index == pair[0].index.next()),
                "entries are contiguous"
            );
        }
        // What is missing is missing beyond the end.
        Err(error) => clear(&error, &[]),
    }
}

/// Small numbers as they are, and the largest ones.
fn number(byte: u8) -> u64 {
    match byte {
        0xff => u64::MAX,
        0xfe => i64::MAX as u64,
        0xfd => u64::from(u32::MAX),
        small => u64::from(small),
    }
}

fn make_batches_right(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Ok(header) = BatchHeader::parse(rest) {
        let (batch, after) = rest.split_at_mut(header.length as usize);
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        rest = after;
    }
}

fn make_index_right(bytes: &mut [u8], offset: u64, index: u64) {
    let numbers = [GROUP.0, index, offset];
    let seed = numbers
        .iter()
        .fold(0, |crc, number| crc32c::crc32c_append(crc, &number.to_le_bytes()));
    for (place, record) in bytes.chunks_exact_mut(RECORD_LEN).enumerate() {
        let crc = crc32c::crc32c_append(if place == 0 { 0 } else { seed }, &record[..CRC_AT]);
        record[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }
}

fn make_producers_right(bytes: &mut [u8]) {
    let Some((head, body)) = bytes.split_at_mut_checked(16) else {
        return;
    };
    let parts = [&GROUP.0.to_le_bytes()[..], &head[..12], body];
    let crc = parts.into_iter().fold(0, crc32c::crc32c_append);
    head[12..].copy_from_slice(&crc.to_le_bytes());
}

/// A log, read in every way.
#[derive(Debug, PartialEq)]
struct Everything {
    /// As followers get them.
    entries: Vec<Entry>,
    /// As consumers do.
    bytes: Vec<u8>,
    /// Of what is not there any more.
    remembered: Vec<ProducedBatch>,
}

fn read_all(log: &ReplicaLog) -> Result<Everything, LogError> {
    let (first, last) = (log.first_index(), log.last_index());
    let entries = match log.entries(first, last)? {
        Entries::Ready(entries) => entries,
        Entries::Load(job) => job.run()?,
    };
    assert_eq!(entries.len() as u64, (last.0 + 1).saturating_sub(first.0));
    let upto = HighWatermark(log.next_offset());
    let mut bytes = Vec::new();
    for chunk in log.read(log.start_offset(), upto, usize::MAX)? {
        match chunk {
            Chunk::Memory(memory) => bytes.extend_from_slice(&memory),
            Chunk::File(slice) => bytes.extend_from_slice(&slice.read()?),
        }
    }
    for timestamp in [0, 1030, 1095, i64::MAX] {
        log.batch_by_timestamp(timestamp, upto)?;
    }
    log.max_timestamp(upto)?;
    log.batches(first)?;
    for epoch in 0..5 {
        log.epoch_end(leader_epoch(Term(epoch)));
    }
    Ok(Everything {
        entries,
        bytes,
        remembered: log.producer_snapshot()?,
    })
}

fn clear(error: &LogError, before: &[(PathBuf, Vec<u8>)]) {
    match error {
        LogError::Corrupt { path, position, .. } => disk::named(path, *position, Path::new(DIR), before),
        LogError::Gap { .. } | LogError::Malformed { .. } => {}
        LogError::Io { path, source } => panic!("{}: {source}", path.display()),
        LogError::NotHeld { .. } | LogError::OutOfRange { .. } => panic!("only what is there was asked for: {error}"),
    }
}

/// What retention leaves behind, where it deleted some entries of two producers.
fn producers() -> &'static [u8] {
    static PRODUCERS_FILE: OnceLock<Vec<u8>> = OnceLock::new();
    PRODUCERS_FILE.get_or_init(|| {
        let fs = disk::restore(Path::new(DIR), folder());
        let mut log = open(&fs, journal(FLUSHED, 99)).expect("it is whole");
        let sent = |index| ProducedBatch {
            producer: 70 + index as i64 % 2,
            epoch: 2,
            first_sequence: 10 * index as i32,
            last_sequence: 10 * index as i32 + 9,
            index: LogIndex(index),
            base_offset: Offset(index as i64),
        };
        let retention = Retention {
            bytes: Some(0),
            ms: None,
        };
        let before = |first: LogIndex| (1..first.0).map(sent).collect();
        log.retain(0, &retention, LogIndex(FLUSHED), before)
            .expect("nothing fails");
        fs.contents(&Path::new(DIR).join(PRODUCERS)).expect("it is written")
    })
}

/// A folder with several segments.
fn folder() -> &'static Image {
    static FOLDER: OnceLock<Image> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let fs = FaultyFs::new(1);
        let mut log = open(&fs, RecoveredGroup::default()).expect("nothing fails");
        log.append(entries()).expect("they follow each other");
        for upto in [3, FLUSHED] {
            let job = log.flush(LogIndex(upto)).expect("there is something");
            let flushed = job.run().expect("nothing fails");
            log.flushed(flushed);
        }
        disk::image(&fs)
    })
}

/// The first byte says which entries the journal still has. Then damages, done to a valid folder.
pub(super) fn damage(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let recovered = journal(FLUSHED, u64::from(pieces.u8() % 16));
    let last = recovered
        .entries
        .last()
        .map_or(FLUSHED, |entry| entry.index.0.max(FLUSHED));
    let mut image = folder().clone();
    disk::damage(&mut image, &mut pieces);
    // The one before a segment that is missing is blamed for what it should hold then.
    let before = if image.len() == folder().len() {
        &folder()[..]
    } else {
        &[]
    };
    let fs = disk::restore(Path::new(DIR), &image);
    let log = match open(&fs, recovered) {
        Ok(log) => log,
        Err(error) => return clear(&error, before),
    };
    // Its first segments may have been deleted by retention, as far as anyone can tell. Its end is known.
    assert_eq!(log.last_index(), LogIndex(last));
    match read_all(&log) {
        Ok(found) => {
            let first = usize::try_from(log.first_index().0 - 1).expect("few entries");
            let expected = &entries()[first..last as usize];
            assert_eq!(found.entries, expected);
            let bytes = expected.iter().map(|entry| match &entry.payload {
                Payload::Data(batch) => &batch[..],
                _ => &[],
            });
            assert_eq!(found.bytes, bytes.collect::<Vec<_>>().concat());
        }
        Err(error) => clear(&error, before),
    }
}

fn script(seal: bool, flushed: u8, from: u8, image: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut seed = vec![u8::from(seal), flushed, from];
    for (path, bytes) in image {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut parts = name.split('.');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).expect("small numbers");
        let (offset, index): (u8, u8) = (number(), number());
        seed.extend([u8::from(name.ends_with(".index")), offset, index]);
        put_piece(&mut seed, bytes);
    }
    seed
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let flushed = FLUSHED as u8;
    for seal in [false, true] {
        for (flushed, from) in [(flushed, 0), (flushed, 6), (3, 4), (0, 99)] {
            seeds.push(script(seal, flushed, from, folder()));
        }
        seeds.push(script(seal, 0, 99, &folder()[..2]));
        let mut with_producers = script(seal, flushed, 99, &folder()[folder().len() - 2..]);
        with_producers.extend([2, 0, 0]);
        put_piece(&mut with_producers, producers());
        seeds.push(with_producers);
    }
    seeds
}

pub(super) fn damage_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for file in 0..u8::try_from(folder().len()).expect("few files") {
        for what in 0..6 {
            for from in [0, 4, 11] {
                seeds.push([&[from][..], &disk::damaged(what, file, 100, 64)].concat());
            }
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_holds_several_segments_and_all_entries() {
        assert!(folder().len() >= 6, "{}", folder().len());
        let fs = disk::restore(Path::new(DIR), folder());
        let log = open(&fs, journal(FLUSHED, 99)).unwrap();
        assert_eq!(read_all(&log).unwrap().entries, entries()[..FLUSHED as usize]);
    }

    #[test]
    fn what_producers_sent_is_read_behind_segments_that_are_gone() {
        let seeds = seeds();
        let last = seeds.last().expect("there are some");
        let mut image = folder()[folder().len() - 2..].to_vec();
        image.push((Path::new(DIR).join(PRODUCERS), producers().to_vec()));
        assert!(last.ends_with(producers()));
        let fs = disk::restore(Path::new(DIR), &image);
        let log = open(&fs, journal(FLUSHED, 99)).unwrap();
        assert!(!read_all(&log).unwrap().remembered.is_empty());
    }

    #[test]
    fn right_checksums_stay_as_they_are() {
        let mut sealed = producers().to_vec();
        make_producers_right(&mut sealed);
        assert_eq!(sealed, producers());
        for (path, bytes) in folder() {
            let mut sealed = bytes.clone();
            let name = path.file_name().unwrap().to_str().unwrap();
            let mut numbers = name.split('.').map(|part| part.parse::<u64>().unwrap_or_default());
            match path.extension().unwrap().to_str().unwrap() {
                "index" => make_index_right(&mut sealed, numbers.next().unwrap(), numbers.next().unwrap()),
                _ => make_batches_right(&mut sealed),
            }
            assert_eq!(&sealed, bytes, "{name}");
        }
    }
}
