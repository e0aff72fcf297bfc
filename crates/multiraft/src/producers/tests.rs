use super::*;
use trimaran_wire::batch::Offset;

const NOW: Instant = Instant(1_000_000);

/// A batch of producer 7.
fn batch(epoch: i16, first: i32, last: i32, index: u64) -> ProducedBatch {
    ProducedBatch {
        producer: 7,
        epoch,
        first_sequence: first,
        last_sequence: last,
        index: LogIndex(index),
        base_offset: Offset(index as i64 * 100),
    }
}

fn table(batches: &[ProducedBatch], committed: u64) -> ProducerTable {
    let mut table = ProducerTable::default();
    batches
        .iter()
        .for_each(|&batch| table.note(batch, LogIndex(committed), NOW));
    table
}

/// Judges a batch that would go to index 99.
#[track_caller]
fn check(table: &ProducerTable, (epoch, first, last): (i16, i32, i32), expected: Verdict) {
    assert_eq!(table.judge(&[], &batch(epoch, first, last, 99), NOW), expected);
}

fn out_of_order(expected: i32, found: i32) -> Verdict {
    Verdict::Refused(AppendError::OutOfOrderSequence { expected, found })
}

/// Seven batches of ten records each.
fn seven() -> Vec<ProducedBatch> {
    (0..7).map(|n| batch(0, n * 10, n * 10 + 9, n as u64 + 1)).collect()
}

#[test]
fn an_unknown_producer_begins_anywhere() {
    check(&ProducerTable::default(), (3, 1_234, 1_240), Verdict::New);
}

#[test]
fn an_unknown_producer_does_not_overtake_what_was_refused() {
    let mut table = ProducerTable::default();
    table.refuse(&batch(0, 10, 19, 0));
    table.refuse(&batch(0, 20, 29, 0));
    check(&table, (0, 20, 29), out_of_order(10, 20));
    // It gave up, and started over.
    check(&table, (1, 0, 3), Verdict::New);
    check(&table, (0, 10, 19), Verdict::New);
    table.refuse(&batch(0, 0, 9, 0));
    check(&table, (0, 10, 19), out_of_order(0, 10));
    table.note(batch(0, 0, 9, 1), LogIndex(1), NOW);
    check(&table, (0, 10, 19), Verdict::New);
    check(&table, (0, 20, 29), out_of_order(10, 20));
    table.truncate(LogIndex(1));
    check(&table, (0, 10, 19), Verdict::New);
}

#[test]
fn refused_producers_are_bounded() {
    let mut table = ProducerTable::default();
    for producer in 0..2 * MAX_REFUSED as i64 {
        let batch = ProducedBatch {
            producer,
            ..batch(0, 0, 9, 0)
        };
        table.refuse(&batch);
        table.refuse(&batch);
    }
    assert_eq!(table.refused.len(), MAX_REFUSED);
}

#[test]
fn sequences_continue() {
    let table = table(&seven(), 7);
    check(&table, (0, 70, 71), Verdict::New);
    check(&table, (0, 71, 72), out_of_order(70, 71));
    check(&table, (0, 69, 72), out_of_order(70, 69));
}

#[test]
fn the_last_five_are_recognized() {
    let table = table(&seven(), 7);
    for stored in &seven()[2..] {
        check(
            &table,
            (0, stored.first_sequence, stored.last_sequence),
            Verdict::Duplicate(*stored),
        );
    }
    check(&table, (0, 10, 19), out_of_order(70, 10));
    // Same beginning, other end: no duplicate.
    check(&table, (0, 60, 68), out_of_order(70, 60));
}

#[test]
fn epochs_fence_and_begin_at_zero() {
    let table = table(&[batch(4, 0, 9, 1)], 1);
    check(&table, (3, 10, 11), Verdict::Refused(AppendError::Fenced));
    check(&table, (5, 0, 3), Verdict::New);
    check(&table, (5, 10, 11), out_of_order(0, 10));
}

#[test]
fn a_new_epoch_does_not_take_the_old_ones_batches_for_its_own() {
    let table = table(&[batch(0, 0, 4, 1), batch(1, 0, 9, 2)], 2);
    check(&table, (1, 0, 4), out_of_order(10, 0));
}

#[test]
fn sequences_wrap() {
    let table = table(&[batch(0, i32::MAX - 4, i32::MAX, 1)], 1);
    check(&table, (0, 0, 9), Verdict::New);
    let table = ProducerTable::rebuild(&[], &[meta(1, i32::MAX - 1, 4)], LogIndex(1));
    check(&table, (0, 2, 9), Verdict::New);
}

/// The batch of producer 7 at an index, with as many records as told.
fn meta(index: u64, base_sequence: i32, records: i64) -> BatchMeta {
    BatchMeta {
        index: LogIndex(index),
        term: trimaran_raft::Term(1),
        base_offset: Offset(50),
        last_offset: Offset(50 + records - 1),
        max_timestamp: 0,
        producer_id: 7,
        producer_epoch: 0,
        base_sequence,
    }
}

#[test]
fn what_is_remembered_of_before_a_log_counts_as_stored() {
    let told = seven();
    let known = table(&told, 7);
    // Entries 1 to 5 are deleted.
    let remembered = known.before(LogIndex(6));
    assert_eq!(remembered, told[2..5]);
    let held = [meta(6, 50, 10), meta(7, 60, 10)];
    let rebuilt = ProducerTable::rebuild(&remembered, &held, LogIndex(7));
    check(&rebuilt, (0, 20, 29), Verdict::Duplicate(told[2]));
    check(&rebuilt, (0, 70, 79), Verdict::New);
    check(&rebuilt, (0, 10, 19), out_of_order(70, 10));
    // All are.
    let rebuilt = ProducerTable::rebuild(&known.before(LogIndex(8)), &[], LogIndex(7));
    check(&rebuilt, (0, 60, 69), Verdict::Duplicate(told[6]));
}

#[test]
fn five_batches_a_producer_are_told_of_before_an_entry() {
    // None was known to be committed when the next one was appended.
    let known = table(&seven(), 0);
    assert_eq!(known.before(LogIndex(8)), seven()[2..]);
    let other = ProducedBatch {
        producer: 8,
        ..batch(0, 0, 9, 8)
    };
    let mut known = known;
    known.note(other, LogIndex(8), NOW);
    let told: Vec<_> = known.before(LogIndex(9)).iter().map(|batch| batch.index.0).collect();
    assert_eq!(told, [3, 4, 5, 6, 7, 8], "in log order");
}

#[test]
fn staged_batches_count_as_stored() {
    let table = table(&[batch(0, 0, 9, 1)], 1);
    let staged = [
        batch(0, 10, 19, 2),
        ProducedBatch {
            producer: 8,
            ..batch(0, 500, 501, 3)
        },
    ];
    assert_eq!(table.judge(&staged, &batch(0, 20, 29, 4), NOW), Verdict::New);
    assert_eq!(
        table.judge(&staged, &batch(0, 10, 19, 4), NOW),
        Verdict::Duplicate(staged[0])
    );
    assert_eq!(table.judge(&staged, &batch(0, 30, 39, 4), NOW), out_of_order(20, 30));
}

#[test]
fn truncation_takes_away_exactly_what_it_takes_from_the_log() {
    let mut sut = table(&seven(), 2);
    sut.truncate(LogIndex(4));
    check(&sut, (0, 30, 39), Verdict::New);
    for stored in &seven()[..3] {
        check(
            &sut,
            (0, stored.first_sequence, stored.last_sequence),
            Verdict::Duplicate(*stored),
        );
    }
    check(&sut, (0, 70, 79), out_of_order(30, 70));
    sut.truncate(LogIndex(1));
    check(&sut, (0, 70, 79), Verdict::New);
    assert!(sut.by_age.is_empty() && sut.producers.is_empty());
}

#[test]
fn a_truncated_epoch_gives_the_old_one_back() {
    let mut sut = table(&[batch(0, 0, 9, 1), batch(1, 0, 0, 2)], 1);
    sut.truncate(LogIndex(2));
    check(&sut, (0, 10, 19), Verdict::New);
}

#[test]
fn five_committed_ones_stay_behind_the_uncommitted() {
    let batches: Vec<_> = (0..20).map(|n| batch(0, n, n, n as u64 + 1)).collect();
    let mut sut = table(&batches, 9);
    assert_eq!(sut.producers[&7].batches.front().expect("kept").index, LogIndex(5));
    sut.truncate(LogIndex(10));
    assert_eq!(sut.producers[&7].batches.len(), 5);
}

/// A batch of another producer.
fn of(producer: i64, index: u64) -> ProducedBatch {
    ProducedBatch {
        producer,
        ..batch(0, 3, 3, index)
    }
}

fn after(age: Duration) -> Instant {
    NOW + age
}

#[test]
fn a_producer_is_known_for_a_day_whoever_else_comes() {
    let mut sut = ProducerTable::default();
    sut.note(of(7, 1), LogIndex(1), NOW);
    // More than there was room for once.
    for n in 0..10_000 {
        sut.note(
            of(1_000 + n, 2 + n as u64),
            LogIndex(2 + n as u64),
            after(Duration::from_secs(1)),
        );
    }
    let almost = after(EXPIRATION - Duration::from_secs(1));
    assert_eq!(sut.trim(LogIndex(20_000), MAX_PRODUCERS, almost), 0);
    assert_eq!(sut.judge(&[], &of(7, 20_000), almost), Verdict::Duplicate(of(7, 1)));
    assert_eq!(
        sut.trim(LogIndex(20_000), MAX_PRODUCERS, after(EXPIRATION)),
        0,
        "not for lack of room"
    );
    assert_eq!(
        sut.producers.len(),
        10_000,
        "only the one that has been silent for a day is forgotten"
    );
    assert_eq!(sut.judge(&[], &of(7, 20_000), after(EXPIRATION)), Verdict::New);
}

#[test]
fn what_is_read_at_the_start_is_as_old_as_the_start() {
    let read = ProducerTable::rebuild(&[of(7, 1)], &[], LogIndex(1));
    let mut sut = read.made_at(after(EXPIRATION));
    sut.trim(LogIndex(1), MAX_PRODUCERS, after(EXPIRATION));
    assert_eq!(sut.len(), 1);
    sut.trim(LogIndex(1), MAX_PRODUCERS, after(2 * EXPIRATION));
    assert_eq!(sut.len(), 0);
}

#[test]
fn of_too_many_those_go_that_came_first() {
    let mut sut = ProducerTable::default();
    (1..=20).for_each(|n| sut.note(of(n, n as u64), LogIndex(20), NOW));
    assert_eq!(sut.trim(LogIndex(20), 15, NOW), 5);
    let fresh = |producer| ProducedBatch {
        producer,
        ..batch(0, 77, 77, 9_999_999)
    };
    assert_eq!(sut.judge(&[], &fresh(5), NOW), Verdict::New);
    assert_eq!(sut.judge(&[], &fresh(6), NOW), out_of_order(4, 77));
    assert_eq!((sut.len(), sut.by_age.len()), (15, 15));
}

/// Otherwise a replica whose log was truncated would know fewer than one that never had what was truncated.
#[test]
fn what_may_be_truncated_takes_nobodys_place() {
    let mut sut = ProducerTable::default();
    (1..=15).for_each(|n| sut.note(of(n, n as u64), LogIndex(15), NOW));
    (16..=30).for_each(|n| sut.note(of(n, n as u64), LogIndex(15), NOW));
    assert_eq!(sut.trim(LogIndex(15), 15, NOW), 0);
    sut.truncate(LogIndex(16));
    let mut other = ProducerTable::default();
    (1..=15).for_each(|n| other.note(of(n, n as u64), LogIndex(15), NOW));
    assert_eq!(sut.before(LogIndex(99)), other.before(LogIndex(99)));
    assert_eq!(sut.len(), 15);
}

#[test]
fn nobody_takes_the_place_of_one_that_may_still_send_something_again() {
    let mut sut = ProducerTable::default();
    (1..=MAX_PRODUCERS as i64).for_each(|n| sut.note(of(n, n as u64), LogIndex(n as u64), NOW));
    let next = of(MAX_PRODUCERS as i64 + 1, MAX_PRODUCERS as u64 + 1);
    let early = after(RETRIED_WITHIN - Duration::from_secs(1));
    assert_eq!(
        sut.judge(&[], &next, early),
        Verdict::Refused(AppendError::TooManyProducers)
    );
    let again = of(1, next.index.0);
    assert_eq!(
        sut.judge(&[], &again, early),
        Verdict::Duplicate(of(1, 1)),
        "it is still known"
    );
    assert_eq!(sut.judge(&[], &next, after(RETRIED_WITHIN)), Verdict::New);
}
