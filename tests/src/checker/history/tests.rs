use super::*;
use crate::checker::Law;

fn id(number: u32) -> RecordId {
    RecordId { producer: 1, number }
}

fn sent(number: u32) -> Operation {
    sent_as(number, Delivery::ExactlyOnce)
}

fn sent_as(number: u32, delivery: Delivery) -> Operation {
    Operation::Sent {
        record: id(number),
        partition: 0,
        delivery,
    }
}

fn together(first: u32, count: u32) -> Operation {
    Operation::SentTogether {
        first: id(first),
        count,
    }
}

fn acknowledged(number: u32, offset: i64) -> Operation {
    Operation::Acknowledged {
        record: id(number),
        offset,
    }
}

fn refused(number: u32) -> Operation {
    Operation::Refused { record: id(number) }
}

const READER: u32 = 9;

fn polled() -> Operation {
    Operation::Polled { consumer: READER }
}

fn read(offset: i64, number: u32) -> Operation {
    read_by(READER, offset, number)
}

fn read_by(consumer: u32, offset: i64, number: u32) -> Operation {
    Operation::Read {
        consumer,
        partition: 0,
        offset,
        record: id(number),
    }
}

fn sought(to: i64) -> Operation {
    Operation::Sought {
        consumer: READER,
        partition: 0,
        to,
    }
}

fn skipped(to: i64) -> Operation {
    Operation::Skipped {
        consumer: READER,
        partition: 0,
        to,
    }
}

fn drained() -> Operation {
    Operation::Drained {
        consumer: READER,
        partition: 0,
    }
}

fn log(records: &[(i64, u32)]) -> Log {
    let records: Vec<_> = records.iter().map(|(offset, number)| (*offset, id(*number))).collect();
    records.into()
}

fn trimmed(start: i64, numbers: &[u32]) -> Log {
    let records = (start..).zip(numbers.iter().map(|number| id(*number))).collect();
    Log { start, records }
}

fn judge(operations: &[Operation], log: Log) -> Judgement {
    let history = History {
        operations: operations.to_vec(),
    };
    history.judge(&[log])
}

/// The history shows this anomaly, and no other.
#[track_caller]
fn caught(operations: &[Operation], log: Log, anomaly: Anomaly) {
    let judgement = judge(operations, log);
    let kinds: Vec<Anomaly> = judgement.counts.keys().copied().collect();
    assert_eq!(kinds, [anomaly], "{:?}", judgement.findings);
}

#[track_caller]
fn good(operations: &[Operation], log: Log) -> Tally {
    let judgement = judge(operations, log);
    assert_eq!(judgement.findings, []);
    judgement.tally
}

#[test]
fn a_good_history_is_counted() {
    let operations = [
        sent(0),
        sent(1),
        acknowledged(0, 0),
        read(0, 0),
        sent(2),
        acknowledged(2, 2),
        read(1, 1),
        sent_as(3, Delivery::LeaderOnly),
        acknowledged(3, 3),
        sent_as(4, Delivery::AtMostOnce),
        refused(4),
    ];
    let tally = good(&operations, log(&[(0, 0), (1, 1), (2, 2), (3, 3)]));
    let expected = Tally {
        sent: 5,
        acknowledged: 3,
        by_leader_only: 1,
        refused: 1,
        stored: 4,
        read: 2,
    };
    assert_eq!(tally, expected);
}

#[test]
fn a_check_tells_the_broken_law_and_the_anomaly() {
    let mut history = History::new();
    history.push(sent(0));
    history.push(acknowledged(0, 0));
    let violation = history.check(&[Log::default()]).expect_err("a bad history passed");
    assert_eq!(violation.law, Law::AcknowledgedStays);
    assert!(violation.detail.starts_with("lost-write: p1#0 "), "{violation}");
}

// lost-write

#[test]
fn a_lost_write() {
    caught(&[sent(0), acknowledged(0, 0)], log(&[]), Anomaly::LostWrite);
    let overwritten = [sent(0), acknowledged(0, 0), sent_as(1, Delivery::AtMostOnce)];
    caught(&overwritten, log(&[(0, 1)]), Anomaly::LostWrite);
}

#[test]
fn no_lost_write_is_what_nobody_was_promised() {
    // It was not acknowledged.
    good(&[sent(0), sent(1), acknowledged(1, 0)], log(&[(0, 1)]));
    // Only its leader had it.
    let operations = [
        sent_as(0, Delivery::LeaderOnly),
        acknowledged(0, 0),
        sent_as(1, Delivery::LeaderOnly),
        acknowledged(1, 0),
    ];
    good(&operations, log(&[(0, 1)]));
}

#[test]
fn a_write_behind_the_deleted_ones_is_lost() {
    let history = [sent(0), sent(1), acknowledged(1, 1)];
    caught(&history, trimmed(1, &[]), Anomaly::LostWrite);
    good(&history, trimmed(2, &[]));
}

// duplicate

#[test]
fn a_duplicate() {
    let operations = [sent(0), acknowledged(0, 0)];
    caught(&operations, log(&[(0, 0), (1, 0)]), Anomaly::Duplicate);
    let once = [sent_as(0, Delivery::LeaderOnly)];
    caught(&once, log(&[(0, 0), (1, 0)]), Anomaly::Duplicate);
}

#[test]
fn no_duplicate_is_another_producers_record_of_the_same_number() {
    let other = RecordId { producer: 2, number: 0 };
    let operations = [
        sent(0),
        Operation::Sent {
            record: other,
            partition: 0,
            delivery: Delivery::ExactlyOnce,
        },
    ];
    good(&operations, vec![(0, id(0)), (1, other)].into());
}

// inconsistent-offsets

#[test]
fn an_acknowledgement_of_another_offset() {
    let operations = [sent(0), sent(1), acknowledged(1, 0)];
    caught(&operations, log(&[(0, 0), (1, 1)]), Anomaly::InconsistentOffsets);
    let by_its_leader = [sent(0), sent_as(1, Delivery::LeaderOnly), acknowledged(1, 0)];
    caught(&by_its_leader, log(&[(0, 0), (1, 1)]), Anomaly::InconsistentOffsets);
}

#[test]
fn two_acknowledgements_that_differ() {
    let operations = [sent(0), acknowledged(0, 0), acknowledged(0, 1)];
    caught(&operations, log(&[(0, 0)]), Anomaly::InconsistentOffsets);
    good(&[sent(0), acknowledged(0, 0), acknowledged(0, 0)], log(&[(0, 0)]));
}

#[test]
fn one_offset_for_two_acknowledged_records() {
    let operations = [sent(0), sent(1), acknowledged(0, 0), acknowledged(1, 0)];
    caught(&operations, log(&[(0, 0), (1, 1)]), Anomaly::InconsistentOffsets);
}

#[test]
fn a_read_of_another_offset() {
    let operations = [sent(0), sent(1), read(0, 1)];
    caught(&operations, log(&[(0, 0), (1, 1)]), Anomaly::InconsistentOffsets);
}

#[test]
fn deleted_records_that_were_read_differently() {
    let operations = [sent(0), sent(1), sent(2), read(0, 0), read_by(8, 0, 1)];
    caught(&operations, trimmed(1, &[2]), Anomaly::InconsistentOffsets);
    let operations = [sent(0), sent(1), sent(2), read(0, 0), read_by(8, 0, 0)];
    good(&operations, trimmed(1, &[2]));
}

#[test]
fn replicas_that_differ() {
    let leader = log(&[(0, 0), (1, 1), (2, 2)]);
    assert_eq!(compare_replica(0, "broker 2", &leader.clone(), &leader), None);
    // It deletes in its own time.
    assert_eq!(compare_replica(0, "broker 2", &trimmed(1, &[1, 2]), &leader), None);
    assert_eq!(compare_replica(0, "broker 2", &leader, &trimmed(1, &[1, 2])), None);
    for other in [
        log(&[(0, 0), (1, 3), (2, 2)]),
        log(&[(0, 0), (1, 1)]),
        trimmed(0, &[0, 1, 2, 3]),
    ] {
        let finding = compare_replica(0, "broker 2", &other, &leader).expect("a bad replica passed");
        assert_eq!(finding.anomaly, Anomaly::InconsistentOffsets);
    }
}

// aborted-read

#[test]
fn an_aborted_read() {
    let stored = [sent_as(0, Delivery::AtMostOnce), refused(0)];
    caught(&stored, log(&[(0, 0)]), Anomaly::AbortedRead);
    let only_read = [sent_as(0, Delivery::AtMostOnce), refused(0), read(0, 0)];
    caught(&only_read, log(&[]), Anomaly::AbortedRead);
}

#[test]
fn no_aborted_read_is_what_was_left_open() {
    // No answer is no refusal.
    good(&[sent_as(0, Delivery::AtMostOnce), read(0, 0)], log(&[(0, 0)]));
    // A refusal that was true.
    good(&[sent_as(0, Delivery::AtMostOnce), refused(0)], log(&[]));
}

// precommitted-read

#[test]
fn a_precommitted_read() {
    // A failover took back what had been shown, and wrote something else, or nothing.
    caught(
        &[sent(0), sent(1), read(0, 0)],
        log(&[(0, 1)]),
        Anomaly::PrecommittedRead,
    );
    caught(&[sent(0), read(0, 0)], log(&[]), Anomaly::PrecommittedRead);
    let by_its_leader = [sent_as(0, Delivery::LeaderOnly), acknowledged(0, 0), read(0, 0)];
    caught(&by_its_leader, log(&[]), Anomaly::PrecommittedRead);
}

#[test]
fn no_precommitted_read_is_one_before_the_acknowledgement() {
    good(&[sent(0), read(0, 0), acknowledged(0, 0)], log(&[(0, 0)]));
    // Retention deleted it after it was read.
    good(&[sent(0), sent(1), read(0, 0)], trimmed(1, &[1]));
}

// unseen

#[test]
fn an_unseen_record() {
    let operations = [
        sent(0),
        sent(1),
        acknowledged(0, 0),
        acknowledged(1, 1),
        read(0, 0),
        drained(),
    ];
    caught(&operations, log(&[(0, 0), (1, 1)]), Anomaly::Unseen);
}

#[test]
fn no_unseen_record_is_one_that_nobody_looked_for() {
    let begun = [sent(0), sent(1), acknowledged(0, 0), acknowledged(1, 1), read(0, 0)];
    good(&begun, log(&[(0, 0), (1, 1)]));
    let by_another = [sent(0), acknowledged(0, 0), read_by(8, 0, 0), sought(1), drained()];
    good(&by_another, log(&[(0, 0)]));
}

// nonmonotonic-poll, poll-skip, and the same within one poll

const THREE: [(i64, u32); 3] = [(0, 0), (1, 1), (2, 2)];

/// Three records, and then these operations.
fn after_three(operations: &[Operation]) -> Vec<Operation> {
    [sent(0), sent(1), sent(2)].iter().chain(operations).cloned().collect()
}

#[test]
fn a_nonmonotonic_poll() {
    let operations = after_three(&[polled(), read(0, 0), read(1, 1), polled(), read(1, 1)]);
    caught(&operations, log(&THREE), Anomaly::NonmonotonicPoll);
    // From those who don't say what a poll is, too.
    caught(
        &after_three(&[read(0, 0), read(0, 0)]),
        log(&THREE),
        Anomaly::NonmonotonicPoll,
    );
}

#[test]
fn a_poll_that_skips() {
    let operations = after_three(&[polled(), read(0, 0), polled(), read(2, 2)]);
    caught(&operations, log(&THREE), Anomaly::PollSkip);
    caught(&after_three(&[read(1, 1)]), log(&THREE), Anomaly::PollSkip);
}

#[test]
fn a_poll_that_is_nonmonotonic_within() {
    let operations = after_three(&[polled(), read(0, 0), read(1, 1), read(1, 1)]);
    caught(&operations, log(&THREE), Anomaly::IntNonmonotonicPoll);
}

#[test]
fn a_poll_that_skips_within() {
    let operations = after_three(&[polled(), read(0, 0), read(2, 2)]);
    caught(&operations, log(&THREE), Anomaly::IntPollSkip);
}

#[test]
fn polls_may_follow_a_seek_and_go_on() {
    let operations = after_three(&[
        polled(),
        read(0, 0),
        read(1, 1),
        sought(1),
        polled(),
        polled(),
        read(1, 1),
        read(2, 2),
        sought(0),
        polled(),
        read(0, 0),
    ]);
    good(&operations, log(&THREE));
}

#[test]
fn a_seek_is_followed() {
    let operations = after_three(&[polled(), read(0, 0), sought(2), polled(), read(1, 1)]);
    caught(&operations, log(&THREE), Anomaly::NonmonotonicPoll);
}

#[test]
fn what_retention_deleted_may_be_skipped() {
    let operations = [
        sent(0),
        acknowledged(0, 0),
        sent(1),
        acknowledged(1, 1),
        read(0, 0),
        sent(2),
        acknowledged(2, 2),
        skipped(2),
        read(2, 2),
        drained(),
    ];
    good(&operations, trimmed(2, &[2]));
}

#[test]
fn what_is_there_may_not_be_skipped() {
    caught(&[sent(0), sent(1), skipped(1)], trimmed(0, &[0, 1]), Anomaly::PollSkip);
    let back = [sent(0), sent(1), skipped(1), skipped(0)];
    caught(&back, trimmed(1, &[1]), Anomaly::NonmonotonicPoll);
}

// nonmonotonic-send, and within one batch

#[test]
fn a_nonmonotonic_send() {
    caught(&[sent(0), sent(1)], log(&[(0, 1), (1, 0)]), Anomaly::NonmonotonicSend);
    let batches = [sent(0), sent(1), sent(2), together(0, 1), together(1, 2)];
    caught(&batches, log(&[(0, 1), (1, 2), (2, 0)]), Anomaly::NonmonotonicSend);
}

#[test]
fn only_idempotent_producers_are_promised_an_order() {
    let operations = [sent_as(0, Delivery::AtMostOnce), sent_as(1, Delivery::AtMostOnce)];
    good(&operations, log(&[(0, 1), (1, 0)]));
}

#[test]
fn a_batch_that_is_nonmonotonic_within() {
    let operations = [sent(0), sent(1), together(0, 2)];
    caught(&operations, log(&[(0, 1), (1, 0)]), Anomaly::IntNonmonotonicSend);
}

#[test]
fn a_batch_with_something_in_it() {
    let operations = [sent(0), sent(1), together(0, 2), sent_as(2, Delivery::AtMostOnce)];
    caught(&operations, log(&[(0, 0), (1, 2), (2, 1)]), Anomaly::IntSendSkip);
}

#[test]
fn a_torn_batch() {
    let operations = [sent(0), sent(1), together(0, 2)];
    caught(&operations, log(&[(0, 0)]), Anomaly::TornBatch);
    caught(&operations, log(&[(0, 1)]), Anomaly::TornBatch);
}

#[test]
fn a_batch_may_be_whole_or_missing() {
    let operations = [sent(0), sent(1), together(0, 2), sent(2)];
    good(&operations, log(&[(0, 0), (1, 1), (2, 2)]));
    good(&operations, log(&[(0, 2)]));
    // Its beginning was deleted.
    good(&operations, trimmed(1, &[1, 2]));
}

// G0-realtime

#[test]
fn an_order_against_real_time() {
    let once = |number| sent_as(number, Delivery::AtMostOnce);
    let operations = [once(0), acknowledged(0, 1), once(1)];
    caught(&operations, log(&[(0, 1), (1, 0)]), Anomaly::G0Realtime);
    // Sent before the acknowledgement, so it may stand anywhere.
    good(&[once(0), once(1), acknowledged(0, 1)], log(&[(0, 1), (1, 0)]));
}

// offset-gap

#[test]
fn a_gap_in_the_offsets() {
    caught(&[sent(0), sent(1)], log(&[(0, 0), (2, 1)]), Anomaly::OffsetGap);
    caught(&[sent(0)], log(&[(1, 0)]), Anomaly::OffsetGap);
    good(&[sent(0)], trimmed(1, &[0]));
}

// invented

#[test]
fn an_invented_record() {
    caught(&[], log(&[(0, 0)]), Anomaly::Invented);
    caught(&[acknowledged(0, 0)], log(&[]), Anomaly::Invented);
    caught(&[read(0, 0)], log(&[]), Anomaly::Invented);
}

#[test]
fn a_record_that_is_read_before_it_is_sent() {
    caught(&[read(0, 0), sent(0)], log(&[(0, 0)]), Anomaly::Invented);
    good(&[sent(0), read(0, 0)], log(&[(0, 0)]));
}

#[test]
fn a_record_in_the_wrong_partition() {
    let history = History {
        operations: vec![sent(0)],
    };
    let judgement = history.judge(&[Log::default(), log(&[(0, 0)])]);
    assert_eq!(judgement.counts, BTreeMap::from([(Anomaly::Invented, 1)]));
}

#[test]
fn a_record_that_is_handed_over_twice() {
    caught(&[sent(0), sent(0)], log(&[(0, 0)]), Anomaly::Invented);
}

#[test]
fn findings_of_a_kind_are_counted_and_the_first_ones_kept() {
    let operations: Vec<Operation> = (0..100)
        .flat_map(|at| [sent(at), acknowledged(at, i64::from(at))])
        .collect();
    let judgement = judge(&operations, log(&[]));
    assert_eq!(judgement.counts, BTreeMap::from([(Anomaly::LostWrite, 100)]));
    assert_eq!(judgement.findings.len(), KEPT_OF_A_KIND);
}

#[test]
fn a_history_tells_what_is_about_a_partition() {
    let elsewhere = RecordId { producer: 2, number: 0 };
    let history = History {
        operations: vec![
            sent(0),
            Operation::Sent {
                record: elsewhere,
                partition: 1,
                delivery: Delivery::ExactlyOnce,
            },
            Operation::Acknowledged {
                record: elsewhere,
                offset: 0,
            },
            acknowledged(0, 0),
            read(0, 0),
        ],
    };
    let about: Vec<_> = history.about(0).map(|(at, seen)| (at, seen.clone())).collect();
    assert_eq!(about, [(0, sent(0)), (3, acknowledged(0, 0)), (4, read(0, 0))]);
}

#[test]
fn a_part_of_a_history_can_be_judged_alone() {
    let history = History {
        operations: vec![
            sent(0),
            together(0, 1),
            acknowledged(0, 0),
            polled(),
            read(0, 0),
            drained(),
        ],
    };
    let first = history.within(|partition| partition == 0);
    assert_eq!(first.operations(), history.operations());
    assert_eq!(history.within(|partition| partition == 1).operations(), [polled()]);
}

#[test]
fn anomalies_have_names_of_their_own() {
    let names: BTreeSet<&str> = Anomaly::ALL.iter().map(|anomaly| anomaly.name()).collect();
    assert_eq!(names.len(), Anomaly::ALL.len());
}

#[test]
fn a_record_id_survives_its_text_and_padding() {
    let record = RecordId {
        producer: 3,
        number: 17,
    };
    assert_eq!(record.to_string().parse(), Ok(record));
    assert_eq!(format!("{record} xxxxx").parse(), Ok(record));
    assert!("p3-17".parse::<RecordId>().is_err());
    assert!("".parse::<RecordId>().is_err());
}
