use super::*;

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

fn acknowledged(number: u32, offset: i64) -> Operation {
    Operation::Acknowledged {
        record: id(number),
        offset,
    }
}

fn read(offset: i64, number: u32) -> Operation {
    Operation::Read {
        consumer: 9,
        partition: 0,
        offset,
        record: id(number),
    }
}

fn check(operations: &[Operation], log: &[(i64, u32)]) -> Result<Tally, Violation> {
    let history = History {
        operations: operations.to_vec(),
    };
    let records: Vec<_> = log.iter().map(|(offset, number)| (*offset, id(*number))).collect();
    history.check(&[records.into()])
}

#[track_caller]
fn caught(operations: &[Operation], log: &[(i64, u32)], law: Law) {
    assert_eq!(check(operations, log).expect_err("a bad history passed").law, law);
}

#[test]
fn a_good_history_passes() {
    let operations = [
        sent(0),
        sent(1),
        acknowledged(0, 0),
        read(0, 0),
        sent(2),
        acknowledged(2, 2),
        read(1, 1),
    ];
    let tally = check(&operations, &[(0, 0), (1, 1), (2, 2)]).unwrap();
    let expected = Tally {
        sent: 3,
        acknowledged: 2,
        by_leader_only: 0,
        stored: 3,
        read: 2,
    };
    assert_eq!(tally, expected);
}

#[test]
fn an_unacknowledged_record_may_be_missing() {
    check(&[sent(0), sent(1), acknowledged(1, 0)], &[(0, 1)]).unwrap();
}

#[test]
fn a_lost_acknowledged_record_is_caught() {
    caught(&[sent(0), acknowledged(0, 0)], &[], Law::AcknowledgedStays);
}

#[test]
fn a_record_that_only_its_leader_acknowledged_may_be_lost() {
    let operations = [
        sent_as(0, Delivery::LeaderOnly),
        acknowledged(0, 0),
        sent_as(1, Delivery::LeaderOnly),
        acknowledged(1, 0),
    ];
    check(&operations, &[(0, 1)]).unwrap();
}

#[test]
fn a_duplicate_is_caught() {
    caught(&[sent(0), acknowledged(0, 0)], &[(0, 0), (1, 0)], Law::NoDuplicate);
}

#[test]
fn an_acknowledgement_of_another_offset_is_caught() {
    caught(
        &[sent(0), sent(1), acknowledged(1, 0)],
        &[(0, 0), (1, 1)],
        Law::OneOffset,
    );
}

#[test]
fn two_acknowledgements_that_differ_are_caught() {
    caught(
        &[sent(0), acknowledged(0, 0), acknowledged(0, 1)],
        &[(0, 0)],
        Law::OneOffset,
    );
}

#[test]
fn one_offset_for_two_records_is_caught() {
    caught(
        &[sent(0), sent(1), acknowledged(0, 0), acknowledged(1, 0)],
        &[(0, 0), (1, 1)],
        Law::OneOffset,
    );
}

#[test]
fn a_gap_in_the_offsets_is_caught() {
    caught(&[sent(0), sent(1)], &[(0, 0), (2, 1)], Law::OffsetsContiguous);
}

#[test]
fn offsets_that_do_not_begin_at_zero_are_caught() {
    caught(&[sent(0)], &[(1, 0)], Law::OffsetsContiguous);
}

#[test]
fn a_read_record_that_disappears_is_caught() {
    caught(&[sent(0), sent(1), read(0, 0)], &[(0, 1)], Law::ReadStays);
    caught(&[sent(0), read(0, 0)], &[], Law::ReadStays);
}

#[test]
fn a_read_that_goes_back_is_caught() {
    caught(&[sent(0), read(0, 0), read(0, 0)], &[(0, 0)], Law::ReadsInOrder);
}

#[test]
fn a_read_that_skips_is_caught() {
    caught(&[sent(0), sent(1), read(1, 1)], &[(0, 0), (1, 1)], Law::ReadsInOrder);
}

#[test]
fn an_order_other_than_the_producers_is_caught() {
    caught(&[sent(0), sent(1)], &[(0, 1), (1, 0)], Law::SentInOrder);
}

#[test]
fn an_order_against_real_time_is_caught() {
    let other = RecordId { producer: 2, number: 0 };
    let mut history = History::new();
    for operation in [
        sent(0),
        acknowledged(0, 1),
        Operation::Sent {
            record: other,
            partition: 0,
            delivery: Delivery::ExactlyOnce,
        },
    ] {
        history.push(operation);
    }
    let violation = history
        .check(&[vec![(0, other), (1, id(0))].into()])
        .expect_err("a bad history passed");
    assert_eq!(violation.law, Law::SentInOrder);
}

#[test]
fn an_invented_record_is_caught() {
    caught(&[], &[(0, 0)], Law::NothingInvented);
    caught(&[acknowledged(0, 0)], &[], Law::NothingInvented);
}

#[test]
fn a_record_in_the_wrong_partition_is_caught() {
    let history = History {
        operations: vec![sent(0)],
    };
    let violation = history
        .check(&[Log::default(), vec![(0, id(0))].into()])
        .expect_err("a bad history passed");
    assert_eq!(violation.law, Law::NothingInvented);
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

fn trimmed(operations: &[Operation], start: i64, numbers: &[u32]) -> Result<Tally, Violation> {
    let history = History {
        operations: operations.to_vec(),
    };
    let records = (start..).zip(numbers.iter().map(|number| id(*number))).collect();
    history.check(&[Log { start, records }])
}

fn skipped(to: i64) -> Operation {
    Operation::Skipped {
        consumer: 9,
        partition: 0,
        to,
    }
}

#[test]
fn what_retention_deleted_is_not_missed() {
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
    ];
    trimmed(&operations, 2, &[2]).unwrap();
}

#[test]
fn a_reader_that_is_sent_past_what_is_there_is_caught() {
    let history = [sent(0), sent(1), skipped(1)];
    assert_eq!(
        trimmed(&history, 0, &[0, 1]).expect_err("a bad history passed").law,
        Law::ReadStays
    );
    let back = [sent(0), sent(1), skipped(1), skipped(0)];
    assert_eq!(
        trimmed(&back, 1, &[1]).expect_err("a bad history passed").law,
        Law::ReadStays
    );
}

#[test]
fn deleted_records_that_were_read_differently_are_caught() {
    let other = Operation::Read {
        consumer: 8,
        partition: 0,
        offset: 0,
        record: id(1),
    };
    let history = [sent(0), sent(1), sent(2), read(0, 0), other];
    assert_eq!(
        trimmed(&history, 1, &[2]).expect_err("a bad history passed").law,
        Law::ReadStays
    );
}

#[test]
fn an_acknowledged_record_behind_the_deleted_ones_is_missed() {
    let history = [sent(0), sent(1), acknowledged(1, 1)];
    assert_eq!(
        trimmed(&history, 1, &[]).expect_err("a bad history passed").law,
        Law::AcknowledgedStays
    );
}
