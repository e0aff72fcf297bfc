//! Records whose timestamps say nothing of their age.

use super::*;

const DAY: i64 = 86_400_000;

fn expired(log: &mut ReplicaLog, now_ms: i64) -> usize {
    let retention = Retention {
        bytes: None,
        ms: Some(7 * DAY as u64),
    };
    log.retain(now_ms, &retention, LogIndex(u64::MAX), no_producers)
        .unwrap()
}

/// A log whose batches, all with this timestamp, were written at this time.
fn written(timestamp: i64, now_ms: i64) -> (FaultyFs, ReplicaLog) {
    let (fs, mut log) = fresh();
    fs.set_clock(now_ms);
    let entries: Vec<Entry> = (1..=20)
        .map(|index| data(index, 1, index as i64 - 1, 1, timestamp))
        .collect();
    log.append(&entries).unwrap();
    let flushed = log.flush(LogIndex(20)).unwrap().run().unwrap();
    log.flushed(flushed);
    (fs, log)
}

/// Clients leave the timestamp out, or send Go's zero time: the file's age is the record's.
#[test]
fn records_without_a_timestamp_are_as_old_as_their_file() {
    let now = 20_000 * DAY;
    for timestamp in [-1, -5, -62_135_596_800_000, i64::MIN] {
        let (fs, mut log) = written(timestamp, now);
        assert_eq!(expired(&mut log, now + 7 * DAY), 0, "{timestamp}");
        drop(log);
        let mut log = open(&fs, mark(20, &[])).unwrap();
        assert_eq!(expired(&mut log, now + 7 * DAY), 0, "{timestamp}, after a restart");
        assert!(expired(&mut log, now + 7 * DAY + 1) > 1, "{timestamp}");
        assert_eq!(log.start_offset(), Offset(20));
    }
}

#[test]
fn records_with_a_timestamp_are_as_old_as_that_says() {
    let now = 20_000 * DAY;
    let (_, mut log) = written(now - 7 * DAY - 1, now);
    assert!(expired(&mut log, now) > 1);
    let (_, mut log) = written(now + DAY, now);
    assert_eq!(expired(&mut log, now + 8 * DAY), 0, "they are of tomorrow");
}

#[test]
fn one_timestamp_is_enough_to_tell_the_age_of_a_segment() {
    let now = 20_000 * DAY;
    let (fs, mut log) = fresh();
    fs.set_clock(now);
    log.append(&[data(1, 1, 0, 1, -1), data(2, 1, 1, 1, now - DAY), data(3, 1, 2, 1, -1)])
        .unwrap();
    let flushed = log.flush(LogIndex(3)).unwrap().run().unwrap();
    log.flushed(flushed);
    fs.set_clock(now + 30 * DAY);
    assert_eq!(expired(&mut log, now + 6 * DAY), 0);
    assert_eq!(expired(&mut log, now + 6 * DAY + 1), 1);
}

#[test]
fn there_is_no_largest_timestamp_where_there_is_none() {
    let all = HighWatermark(Offset(20));
    for timestamp in [-1, -5] {
        let (_, log) = written(timestamp, 5);
        assert!(log.max_timestamp(all).unwrap().is_none(), "{timestamp}");
        assert!(log.batch_by_timestamp(0, all).unwrap().is_none(), "{timestamp}");
        let (_, mut log) = fresh();
        log.append(&[data(1, 1, 0, 1, timestamp)]).unwrap();
        assert!(
            log.max_timestamp(HighWatermark(Offset(1))).unwrap().is_none(),
            "{timestamp}"
        );
    }
}
