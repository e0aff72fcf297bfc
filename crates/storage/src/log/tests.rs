mod configurations;
mod damage;
mod model;
mod producer_snapshot;
mod reset;
mod timestamps;

use super::*;
use crate::fs::faulty::{Fault, FaultyFs, Operation};
use crate::offsets::leader_epoch;
use crate::producers::ProducedBatch;
use std::io;
use trimaran_raft::TermAt;
use trimaran_wire::batch::{self, LeaderEpoch, ProducerStamp};

const DIR: &str = "/data/7";
const GROUP: GroupId = GroupId(7);

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 400,
        segment_ms: u64::MAX,
        tail_bytes: 0,
    }
}

fn blank(index: u64, term: u64) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload: Payload::Blank,
    }
}

/// A batch of `records` records from offset `base` on, all with the same timestamp.
fn data(index: u64, term: u64, base: i64, records: usize, timestamp: i64) -> Entry {
    let mut bytes = batch::build(timestamp, &vec![(None, Some(&b"value"[..])); records]);
    batch::stamp(&mut bytes, Offset(base), leader_epoch(Term(term)));
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload: Payload::Data(bytes.freeze()),
    }
}

/// A blank entry, then batches of two records, timestamps 1000, 1010, ...; offsets from 0.
fn entries(count: u64) -> Vec<Entry> {
    let batches = (2..=count).map(|index| {
        let number = index as i64 - 2;
        data(index, 1, 2 * number, 2, 1000 + 10 * number)
    });
    std::iter::once(blank(1, 1)).chain(batches).collect()
}

fn open_with(fs: &FaultyFs, options: LogOptions, recovered: RecoveredGroup) -> Result<ReplicaLog, LogError> {
    ReplicaLog::open(Arc::new(fs.clone()), Path::new(DIR), GROUP, options, recovered)
}

fn open(fs: &FaultyFs, recovered: RecoveredGroup) -> Result<ReplicaLog, LogError> {
    open_with(fs, options(), recovered)
}

fn fresh() -> (FaultyFs, ReplicaLog) {
    let fs = FaultyFs::new(1);
    let log = open(&fs, RecoveredGroup::default()).unwrap();
    (fs, log)
}

/// A log with these entries, all of them in segments.
fn flushed(entries: &[Entry]) -> (FaultyFs, ReplicaLog) {
    let (fs, mut log) = fresh();
    log.append(entries).unwrap();
    flush(&mut log);
    (fs, log)
}

fn flush(log: &mut ReplicaLog) {
    let job = log.flush(log.last_index()).expect("there is something to flush");
    log.flushed(job.run().unwrap());
}

fn no_producers(_: LogIndex) -> Vec<ProducedBatch> {
    Vec::new()
}

fn bytes_of(chunks: Vec<Chunk>) -> Vec<u8> {
    let bytes = chunks.into_iter().map(|chunk| match chunk {
        Chunk::Memory(bytes) => bytes,
        Chunk::File(slice) => slice.read().unwrap(),
    });
    bytes.flatten().collect()
}

fn load(log: &ReplicaLog, first: u64, last: u64) -> Result<Vec<Entry>, LogError> {
    match log.entries(LogIndex(first), LogIndex(last))? {
        Entries::Ready(entries) => Ok(entries),
        Entries::Load(job) => job.run(),
    }
}

fn mark(flushed: u64, entries: &[Entry]) -> RecoveredGroup {
    RecoveredGroup {
        flushed: LogIndex(flushed),
        entries: entries.to_vec(),
        ..RecoveredGroup::default()
    }
}

#[test]
fn a_replica_that_never_wrote_takes_no_file() {
    let (fs, mut log) = fresh();
    assert_eq!((log.first_index(), log.last_index()), (LogIndex(1), LogIndex::ZERO));
    assert_eq!((log.start_offset(), log.next_offset()), (Offset(0), Offset(0)));
    assert_eq!(log.term_at(LogIndex::ZERO), TermAt::Known(Term::ZERO));
    assert_eq!(log.term_at(LogIndex(1)), TermAt::Missing);
    assert!(log.flush(LogIndex(9)).is_none());
    assert!(log.read(Offset(0), HighWatermark(Offset(0)), 1).unwrap().is_empty());
    assert_eq!(log.epoch_end(LeaderEpoch(3)), None);
    assert_eq!(log.max_timestamp(HighWatermark(Offset(0))).unwrap().map(|_| ()), None);
    assert_eq!(
        log.retain(
            0,
            &Retention {
                bytes: Some(0),
                ms: Some(0)
            },
            LogIndex(9),
            no_producers
        )
        .unwrap(),
        0
    );
    assert!(fs.files().is_empty());
    assert!(
        size_of::<ReplicaLog>() < 400,
        "thousands of them are idle: {}",
        size_of::<ReplicaLog>()
    );
}

#[test]
fn segments_hold_batches_and_nothing_else() {
    let entries = entries(9);
    let (fs, log) = flushed(&entries);
    let files: Vec<String> = fs
        .files()
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_str().unwrap().into())
        .collect();
    let expected = ["00000000000000000000.1", "00000000000000000008.6"];
    assert_eq!(
        files,
        expected
            .iter()
            .flat_map(|stem| [format!("{stem}.index"), format!("{stem}.log")])
            .collect::<Vec<_>>()
    );
    let stored: Vec<u8> = expected
        .iter()
        .flat_map(|stem| fs.contents(&Path::new(DIR).join(format!("{stem}.log"))).unwrap())
        .collect();
    let sent: Vec<u8> = entries.iter().flat_map(|entry| payload(entry).to_vec()).collect();
    assert_eq!(stored, sent);
    assert_eq!(log.size_bytes(), sent.len() as u64);
    assert_eq!(log.unflushed_bytes(), 0);
    assert!(log.unflushed().is_empty());
}

fn payload(entry: &Entry) -> &[u8] {
    match &entry.payload {
        Payload::Data(bytes) => bytes,
        Payload::Blank | Payload::Configuration(_) => &[],
    }
}

#[test]
fn a_read_returns_whole_batches_and_one_at_least() {
    for tail_bytes in [0, 300, u64::MAX] {
        let entries = entries(9);
        let (_, mut log) = flushed(&entries);
        log.reconfigure(LogOptions {
            tail_bytes,
            ..options()
        });
        let upto = HighWatermark(log.next_offset());
        assert_eq!(upto.0, Offset(16));
        let all: Vec<u8> = entries.iter().flat_map(|entry| payload(entry).to_vec()).collect();
        let one = payload(&entries[1]).len();
        assert_eq!(bytes_of(log.read(Offset(0), upto, usize::MAX).unwrap()), all);
        assert_eq!(
            bytes_of(log.read(Offset(1), upto, usize::MAX).unwrap()),
            all,
            "from within a batch"
        );
        assert_eq!(
            bytes_of(log.read(Offset(3), upto, 1).unwrap()),
            payload(&entries[2]),
            "the one it is in"
        );
        assert_eq!(
            bytes_of(log.read(Offset(4), upto, 2 * one).unwrap()),
            all[2 * one..4 * one]
        );
        assert_eq!(
            bytes_of(log.read(Offset(4), HighWatermark(Offset(6)), usize::MAX).unwrap()),
            all[2 * one..3 * one]
        );
        assert!(log.read(Offset(16), upto, 100).unwrap().is_empty());
        let beyond = log.read(Offset(17), upto, 100).err().unwrap();
        assert!(
            matches!(
                beyond,
                LogError::OutOfRange {
                    start: Offset(0),
                    end: Offset(16)
                }
            ),
            "{beyond}"
        );
        assert!(log.read(Offset(-1), upto, 100).is_err());
    }
}

#[test]
fn a_slice_is_readable_after_its_segment_was_deleted() {
    let (fs, mut log) = flushed(&entries(20));
    let chunks = log.read(Offset(0), HighWatermark(log.next_offset()), 100).unwrap();
    let retention = Retention {
        bytes: Some(0),
        ms: None,
    };
    assert!(log.retain(0, &retention, LogIndex(20), no_producers).unwrap() > 0);
    assert!(
        !fs.files()
            .iter()
            .any(|(path, _)| path.ends_with("00000000000000000000.1.log"))
    );
    assert_eq!(bytes_of(chunks), payload(&entries(20)[1]));
}

#[test]
fn a_batch_by_its_timestamp() {
    for flush_upto in [0, 4, 9] {
        let (_, mut log) = fresh();
        log.append(&entries(9)).unwrap();
        if let Some(job) = log.flush(LogIndex(flush_upto)) {
            log.flushed(job.run().unwrap());
        }
        let all = HighWatermark(log.next_offset());
        let find = |timestamp, upto| {
            log.batch_by_timestamp(timestamp, upto)
                .unwrap()
                .map(|(meta, _)| meta.base_offset.0)
        };
        assert_eq!(find(i64::MIN, all), Some(0));
        assert_eq!(find(0, all), Some(0));
        assert_eq!(find(1010, all), Some(2));
        assert_eq!(find(1011, all), Some(4));
        assert_eq!(find(1070, all), Some(14));
        assert_eq!(find(1071, all), None);
        assert_eq!(find(1070, HighWatermark(Offset(14))), None, "not committed");
        let (meta, chunk) = log.batch_by_timestamp(1030, all).unwrap().unwrap();
        assert_eq!(
            (meta.index, meta.last_offset, meta.max_timestamp),
            (LogIndex(5), Offset(7), 1030)
        );
        assert_eq!(bytes_of(vec![chunk]), payload(&entries(9)[4]));
        let (latest, _) = log.max_timestamp(all).unwrap().unwrap();
        assert_eq!(latest.base_offset, Offset(14));
    }
}

#[test]
fn timestamps_need_not_ascend() {
    let (_, log) = flushed(&[
        data(1, 1, 0, 1, 50),
        data(2, 1, 1, 1, 90),
        data(3, 1, 2, 1, 20),
        blank(4, 2),
        data(5, 2, 3, 1, 90),
        data(6, 2, 4, 1, 70),
    ]);
    let all = HighWatermark(log.next_offset());
    let find = |timestamp| {
        log.batch_by_timestamp(timestamp, all)
            .unwrap()
            .map(|(meta, _)| meta.index.0)
    };
    assert_eq!((find(10), find(51), find(91)), (Some(1), Some(2), None));
    assert_eq!(
        log.max_timestamp(all).unwrap().unwrap().0.index,
        LogIndex(2),
        "the first of those with the largest"
    );
}

#[test]
fn what_producers_sent_is_found_without_reading_it() {
    let mut bytes = batch::build(5, &[(None, None), (None, None)]);
    batch::set_producer(
        &mut bytes,
        ProducerStamp {
            id: 77,
            epoch: 3,
            first_sequence: 40,
        },
    );
    batch::stamp(&mut bytes, Offset(0), LeaderEpoch(1));
    let entry = Entry {
        index: LogIndex(2),
        term: Term(1),
        payload: Payload::Data(bytes.freeze()),
    };
    let (fs, mut log) = fresh();
    log.append(&[blank(1, 1), entry]).unwrap();
    let in_memory = log.batches(LogIndex(1)).unwrap();
    flush(&mut log);
    assert_eq!(log.batches(LogIndex(1)).unwrap(), in_memory);
    assert_eq!(
        open(&fs, mark(2, &[])).unwrap().batches(LogIndex(2)).unwrap(),
        in_memory
    );
    assert!(log.batches(LogIndex(3)).unwrap().is_empty());
    let expected = BatchMeta {
        index: LogIndex(2),
        term: Term(1),
        base_offset: Offset(0),
        last_offset: Offset(1),
        max_timestamp: 5,
        producer_id: 77,
        producer_epoch: 3,
        base_sequence: 40,
    };
    assert_eq!(in_memory, [expected]);
}

#[test]
fn what_does_not_follow_is_refused_and_nothing_of_it_kept() {
    let (_, mut log) = fresh();
    log.append(&entries(3)).unwrap();
    let bad = [data(4, 2, 4, 1, 0), data(5, 2, 99, 1, 0)];
    let error = log.append(&bad).unwrap_err();
    assert!(
        matches!(error, LogError::Malformed { index: LogIndex(5), .. }),
        "{error}"
    );
    assert_eq!(
        (log.last_index(), log.term_at(LogIndex(3))),
        (LogIndex(3), TermAt::Known(Term(1)))
    );
    assert_eq!(log.epoch_end(LeaderEpoch(9)), Some((LeaderEpoch(1), Offset(4))));
}

#[test]
#[should_panic(expected = "committed entries are not truncated")]
fn what_is_in_segments_is_not_truncated() {
    flushed(&entries(3)).1.truncate_from(LogIndex(3));
}

#[test]
fn one_flush_is_out_at_a_time_and_a_truncated_tail_behind_it_does_no_harm() {
    let (_, mut log) = fresh();
    log.append(&entries(5)).unwrap();
    let job = log.flush(LogIndex(3)).unwrap();
    assert!(log.flush(LogIndex(5)).is_none());
    assert_eq!(job.group(), GROUP);
    assert_eq!(job.bytes() as usize, 2 * payload(&entries(3)[1]).len());
    log.truncate_from(LogIndex(4));
    log.append(&[data(4, 2, 4, 1, 0)]).unwrap();
    log.flushed(job.run().unwrap());
    assert_eq!((log.flushed_index(), log.last_index()), (LogIndex(3), LogIndex(4)));
    assert_eq!(log.unflushed(), [data(4, 2, 4, 1, 0)]);
    assert_eq!(load(&log, 2, 4).unwrap()[..2], entries(3)[1..]);
}

#[test]
fn a_failed_flush_is_tried_again() {
    for operation in [Operation::Write, Operation::Sync, Operation::Name] {
        for after in 0..6 {
            let (fs, mut log) = fresh();
            let entries = entries(12);
            log.append(&entries[..3]).unwrap();
            flush(&mut log);
            log.append(&entries[3..]).unwrap();
            fs.fail(Fault {
                operation,
                path_contains: DIR.into(),
                after,
                times: 1,
                kind: io::ErrorKind::Other,
            });
            let job = log.flush(LogIndex(10)).unwrap();
            match job.run() {
                Ok(flushed) => log.flushed(flushed),
                Err(_) => log.flush_failed(),
            }
            fs.heal();
            // Another division into segments than the first attempt's.
            log.reconfigure(LogOptions {
                segment_bytes: 700,
                ..options()
            });
            flush(&mut log);
            fs.crash();
            let log = open(&fs, mark(12, &[])).unwrap_or_else(|error| panic!("{operation:?} {after}: {error}"));
            assert_eq!(load(&log, 1, 12).unwrap(), entries);
        }
    }
}

#[test]
fn a_segment_ends_with_its_size_or_its_age() {
    let segments = |options: LogOptions| {
        let fs = FaultyFs::new(1);
        let mut log = open_with(&fs, options, RecoveredGroup::default()).unwrap();
        for entry in entries(9) {
            log.append(&[entry]).unwrap();
            flush(&mut log);
        }
        log.segments
            .iter()
            .map(|segment| segment.start.index.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(segments(options()), [1, 6]);
    assert_eq!(
        segments(LogOptions {
            segment_bytes: u64::MAX,
            ..options()
        }),
        [1]
    );
    assert_eq!(
        segments(LogOptions {
            segment_bytes: 1,
            ..options()
        }),
        [1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
    assert_eq!(
        segments(LogOptions {
            segment_bytes: u64::MAX,
            segment_ms: 25,
            ..options()
        }),
        [1, 5, 8]
    );
}

#[test]
fn a_segments_age_survives_a_restart() {
    let options = LogOptions {
        segment_bytes: u64::MAX,
        segment_ms: 25,
        ..options()
    };
    let (fs, _) = flushed(&entries(3));
    let mut log = open_with(&fs, options, mark(3, &entries(9)[3..])).unwrap();
    flush(&mut log);
    assert_eq!(
        log.segments
            .iter()
            .map(|segment| segment.start.index.0)
            .collect::<Vec<_>>(),
        [1, 5, 8]
    );
}

#[test]
fn retention_deletes_whole_segments_up_to_the_floor() {
    let entries = entries(25);
    let (fs, mut log) = flushed(&entries);
    let firsts = |log: &ReplicaLog| {
        log.segments
            .iter()
            .map(|segment| segment.start.index.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(firsts(&log), [1, 6, 10, 14, 18, 22]);
    let none = Retention::default();
    assert_eq!(log.retain(i64::MAX, &none, LogIndex(25), no_producers).unwrap(), 0);
    let by_bytes = Retention {
        bytes: Some(log.size_bytes() - 400),
        ms: None,
    };
    assert_eq!(
        log.retain(0, &by_bytes, LogIndex(4), no_producers).unwrap(),
        0,
        "the floor is within the first"
    );
    assert_eq!(log.retain(0, &by_bytes, LogIndex(25), no_producers).unwrap(), 1);
    assert_eq!((log.first_index(), log.start_offset()), (LogIndex(6), Offset(8)));
    assert_eq!(log.term_at(LogIndex(5)), TermAt::Known(Term(1)));
    assert_eq!(log.term_at(LogIndex(4)), TermAt::Compacted);
    assert!(matches!(
        log.entries(LogIndex(5), LogIndex(7)),
        Err(LogError::NotHeld { .. })
    ));
    assert!(log.read(Offset(7), HighWatermark(Offset(48)), 1).is_err());
    assert_eq!(log.last_index_with_term_at_most(Term(0), LogIndex(20)), LogIndex(5));

    // The third segment's last batch has index 17 and timestamp 1150.
    let by_age = Retention {
        bytes: None,
        ms: Some(100),
    };
    assert_eq!(log.retain(1251, &by_age, LogIndex(25), no_producers).unwrap(), 3);
    assert_eq!(firsts(&log), [18, 22]);
    let log = open(&fs, mark(25, &[])).unwrap();
    assert_eq!(firsts(&log), [18, 22]);
    assert_eq!(log.term_at(LogIndex(17)), TermAt::Known(Term(1)));
    assert_eq!(load(&log, 18, 25).unwrap(), entries[17..]);
}

#[test]
fn trimming_deletes_whole_segments_below_an_offset() {
    let entries = entries(25);
    let (fs, mut log) = flushed(&entries);
    let (second, last) = (log.segments[1].start, log.segments[5].start);
    let end = log.next_offset();
    assert_eq!(log.trim(Offset::ZERO, LogIndex(25), no_producers).unwrap(), 0);
    let within = Offset(second.end().offset.0 - 1);
    assert_eq!(
        log.trim(within, LogIndex(25), no_producers).unwrap(),
        0,
        "its last record is needed"
    );
    assert_eq!(
        log.trim(end, second.index.prev().prev(), no_producers).unwrap(),
        0,
        "the floor is within the first"
    );
    assert_eq!(log.trim(second.end().offset, LogIndex(25), no_producers).unwrap(), 1);
    assert_eq!((log.first_index(), log.start_offset()), (LogIndex(6), Offset(8)));
    assert_eq!(
        log.trim(end, LogIndex(25), no_producers).unwrap(),
        4,
        "the last one stays"
    );
    assert_eq!(log.first_index(), last.index);
    let log = open(&fs, mark(25, &[])).unwrap();
    assert_eq!((log.first_index(), log.next_offset()), (last.index, end));
}

/// The journal notes how far a flush went with its next write, and retention does not wait for that.
#[test]
fn retention_may_be_ahead_of_what_the_journal_noted() {
    let entries = entries(25);
    let (fs, mut log) = flushed(&entries);
    let keep = |bytes| Retention {
        bytes: Some(bytes),
        ms: None,
    };
    for (bytes, first) in [(log.size_bytes() / 2, 14), (0, 22)] {
        log.retain(0, &keep(bytes), LogIndex(25), no_producers).unwrap();
        assert_eq!(log.first_index(), LogIndex(first));
        // Everything in the journal still, and what it noted lies in a segment that is gone.
        for noted in [0, 7] {
            let mut log = open(&fs, mark(noted, &entries)).unwrap();
            assert_eq!((log.first_index(), log.last_index()), (LogIndex(first), LogIndex(25)));
            assert_eq!(load(&log, first, 25).unwrap(), entries[first as usize - 1..]);
            log.append(&[data(26, 3, 48, 1, 9000)]).unwrap();
        }
    }
    let log = open(&fs, mark(7, &entries[4..])).unwrap();
    assert_eq!(log.last_index(), LogIndex(25));
}

#[test]
fn when_all_is_too_old_an_empty_segment_remembers_where_the_log_is() {
    let (fs, mut log) = flushed(&entries(25));
    log.append(&[data(26, 3, 48, 1, 9000)]).unwrap();
    let by_age = Retention {
        bytes: None,
        ms: Some(100),
    };
    assert_eq!(
        log.retain(5000, &by_age, LogIndex(24), no_producers).unwrap(),
        5,
        "the last one is above the floor"
    );
    assert_eq!(log.retain(5000, &by_age, LogIndex(25), no_producers).unwrap(), 1);
    assert_eq!(log.retain(5000, &by_age, LogIndex(25), no_producers).unwrap(), 0);
    let check = |log: &ReplicaLog| {
        assert_eq!(
            (log.first_index(), log.last_index(), log.flushed_index()),
            (LogIndex(26), LogIndex(26), LogIndex(25))
        );
        assert_eq!((log.start_offset(), log.next_offset()), (Offset(48), Offset(49)));
        assert_eq!(log.term_at(LogIndex(25)), TermAt::Known(Term(1)));
        assert_eq!(log.epoch_end(LeaderEpoch(2)), Some((LeaderEpoch(1), Offset(48))));
    };
    check(&log);
    fs.crash();
    let mut log = open(&fs, mark(25, &[data(26, 3, 48, 1, 9000)])).unwrap();
    check(&log);
    flush(&mut log);
    fs.crash();
    let log = open(&fs, mark(26, &[])).unwrap();
    assert_eq!(load(&log, 26, 26).unwrap(), [data(26, 3, 48, 1, 9000)]);
}

#[test]
fn how_much_fits_an_append() {
    let entries = entries(9);
    let one = payload(&entries[1]).len() as u64;
    let (_, mut log) = flushed(&entries[..5]);
    log.append(&entries[5..]).unwrap();
    let fit = |first, last, bytes| log.fit(LogIndex(first), LogIndex(last), bytes);
    assert_eq!(fit(6, 9, u64::MAX), (LogIndex(9), 4 * one));
    assert_eq!(fit(6, 8, 3 * one), (LogIndex(8), 3 * one));
    assert_eq!(fit(6, 9, 3 * one - 1), (LogIndex(7), 2 * one));
    assert_eq!(fit(6, 9, 0), (LogIndex(6), one), "one at least");
    let average = 4 * one / 5;
    assert_eq!(
        fit(2, 9, 2 * average),
        (LogIndex(3), 2 * average),
        "an estimate for what is not in memory"
    );
    assert_eq!(fit(4, 9, 2 * average + one), (LogIndex(6), 2 * average + one), "across");
    assert_eq!(fit(2, 9, 0), (LogIndex(2), average));
}

#[test]
fn the_tail_in_memory_has_a_limit() {
    let (_, mut log) = fresh();
    log.reconfigure(LogOptions {
        tail_bytes: 400,
        ..options()
    });
    log.append(&entries(30)).unwrap();
    assert!(
        matches!(log.entries(LogIndex(1), LogIndex(30)), Ok(Entries::Ready(_))),
        "unflushed entries always stay"
    );
    flush(&mut log);
    assert!(matches!(log.entries(LogIndex(30), LogIndex(30)), Ok(Entries::Ready(_))));
    assert!(matches!(log.entries(LogIndex(20), LogIndex(30)), Ok(Entries::Load(_))));
    assert_eq!(load(&log, 20, 30).unwrap(), entries(30)[19..]);
    let mut kept = 0;
    while matches!(log.entries(LogIndex(30 - kept), LogIndex(30)), Ok(Entries::Ready(_))) {
        kept += 1;
    }
    assert!((1..=3).contains(&kept), "{kept}");
}

/// The format is a promise: logs of today must be readable tomorrow.
#[test]
fn the_bytes_of_an_index() {
    let mut bytes = batch::build(0x0102_0304, &[(None, Some(b"v")), (None, None)]);
    batch::set_producer(
        &mut bytes,
        ProducerStamp {
            id: 0x77,
            epoch: 3,
            first_sequence: 0x40,
        },
    );
    batch::stamp(&mut bytes, Offset(0), LeaderEpoch(5));
    let entry = Entry {
        index: LogIndex(2),
        term: Term(5),
        payload: Payload::Data(bytes.freeze()),
    };
    let (fs, log) = flushed(&[blank(1, 5), entry]);
    let bytes = fs.contents(&log.segments[0].index_path(Path::new(DIR))).unwrap();
    let lines: Vec<String> = bytes
        .chunks(16)
        .map(|chunk| chunk.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let golden = [
        // The segment: version and kind, magic, first index; base offset, previous term; group; CRC.
        "01000000545249530100000000000000",
        "00000000000000000000000000000000",
        "07000000000000000000000000000000",
        "000000000000000000000000c3c60db0",
        // A blank entry.
        "0101ffff000000000500000000000000",
        "00000000ffffffff0000000000000000",
        "00000000000000800000000000000080",
        "ffffffffffffffffffffffff1398ee9a",
        // A batch: version and kind, producer epoch, index, term; offset and delta, position and length; timestamps;
        // producer id, base sequence, CRC.
        "01020300010000000500000000000000",
        "0000000001000000000000004c000000",
        "04030201000000000403020100000000",
        "770000000000000040000000e61e5f04",
    ];
    assert_eq!(lines, golden);
}

#[test]
fn it_works_on_a_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("logs/7");
    let entries = entries(40);
    let open = |recovered| {
        ReplicaLog::open(
            Arc::new(crate::fs::RealFs::default()),
            &dir,
            GROUP,
            options(),
            recovered,
        )
        .unwrap()
    };
    let mut log = open(RecoveredGroup::default());
    log.append(&entries).unwrap();
    let job = log.flush(LogIndex(33)).unwrap();
    log.flushed(std::thread::spawn(|| job.run()).join().unwrap().unwrap());
    drop(log);
    let log = open(mark(30, &entries[25..]));
    assert_eq!((log.flushed_index(), log.last_index()), (LogIndex(30), LogIndex(40)));
    assert_eq!(load(&log, 1, 40).unwrap(), entries);
    let all: Vec<u8> = entries.iter().flat_map(|entry| payload(entry).to_vec()).collect();
    assert_eq!(
        bytes_of(
            log.read(Offset(0), HighWatermark(log.next_offset()), usize::MAX)
                .unwrap()
        ),
        all
    );
}
