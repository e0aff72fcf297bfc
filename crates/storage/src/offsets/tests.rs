use super::*;
use trimaran_wire::batch;

fn blank(index: u64, term: u64) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload: Payload::Blank,
    }
}

fn data(index: u64, term: u64, base: i64, records: usize) -> Entry {
    let mut bytes = batch::build(0, &vec![(None, Some(&b"x"[..])); records]);
    batch::stamp(&mut bytes, Offset(base), leader_epoch(Term(term)));
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload: Payload::Data(bytes.freeze()),
    }
}

#[test]
fn entries_without_records_take_an_index_and_no_offset() {
    let mut end = LogEnd::default();
    let mut offsets = Vec::new();
    for entry in [blank(1, 1), data(2, 1, 0, 3), blank(3, 2), data(4, 2, 3, 2)] {
        end = end.after(&entry).unwrap();
        offsets.push(end.offset.0);
    }
    assert_eq!(offsets, [0, 3, 3, 5], "the module's own example");
    assert_eq!((end.index, end.term), (LogIndex(4), Term(2)));
}

#[test]
fn what_does_not_follow_is_refused() {
    let end = LogEnd {
        index: LogIndex(4),
        term: Term(2),
        offset: Offset(5),
    };
    let refused = |entry| end.after(&entry).unwrap_err();
    assert_eq!(refused(blank(6, 2)), "it is not the next entry");
    assert_eq!(refused(blank(4, 2)), "it is not the next entry");
    assert_eq!(refused(blank(5, 1)), "its term is lower than the one before it");
    assert_eq!(
        refused(data(5, 2, 4, 1)),
        "its record batch is not stamped with the next offset"
    );
    let mut other_term = data(5, 2, 5, 1);
    other_term.term = Term(3);
    assert_eq!(refused(other_term), "its record batch is not stamped with its term");
    let mut cut = data(5, 2, 5, 1);
    cut.payload = Payload::Data(bytes::Bytes::from_static(b"no batch"));
    assert_eq!(refused(cut), "its payload is not exactly one record batch");
    let end = LogEnd {
        offset: Offset(i64::MAX),
        ..end
    };
    assert_eq!(
        end.after(&data(5, 2, i64::MAX, 1)).unwrap_err(),
        "its offsets are too large"
    );
}

#[test]
fn a_leader_epoch_is_a_term() {
    for number in [0, 1, 7, i32::MAX] {
        assert_eq!(term(LeaderEpoch(number)), Some(Term(number as u64)));
        assert_eq!(leader_epoch(Term(number as u64)), LeaderEpoch(number));
    }
    assert_eq!(term(LeaderEpoch(-1)), None);
    assert_eq!(leader_epoch(Term(u64::MAX)), LeaderEpoch(i32::MAX));
}

/// Terms 1, 3 and 4 at indexes 1, 5 and 8, offsets 0, 10 and 10: term 3 has no record. The log ends at 9.
fn starts() -> TermStarts {
    let mut starts = TermStarts::default();
    for (term, index, offset) in [(1, 1, 0), (1, 2, 0), (3, 5, 10), (4, 8, 10), (4, 9, 15)] {
        starts.push(Term(term), LogIndex(index), Offset(offset));
    }
    starts
}

#[test]
fn the_term_at_an_index() {
    let starts = starts();
    let terms: Vec<u64> = (1..=9).map(|index| starts.at(LogIndex(index)).unwrap().0).collect();
    assert_eq!(terms, [1, 1, 1, 1, 3, 3, 3, 4, 4]);
    assert_eq!(starts.at(LogIndex(0)), None);
}

#[test]
fn the_last_index_of_a_term_at_most() {
    let starts = starts();
    let last = |term, upto| starts.last_index_at_most(Term(term), LogIndex(upto)).0;
    assert_eq!(
        (last(0, 9), last(1, 9), last(2, 9), last(3, 9), last(4, 9), last(9, 9)),
        (0, 4, 4, 7, 9, 9)
    );
    assert_eq!((last(1, 2), last(3, 6), last(9, 6)), (2, 6, 6));
}

#[test]
fn an_epoch_ends_where_the_next_one_begins() {
    let starts = starts();
    let end = |epoch| {
        starts
            .epoch_end(LeaderEpoch(epoch), Offset(20))
            .map(|(epoch, offset)| (epoch.0, offset.0))
    };
    assert_eq!(end(0), None);
    assert_eq!(end(-1), None);
    assert_eq!(end(1), Some((1, 10)));
    assert_eq!(end(2), Some((1, 10)), "the largest one that is not above it");
    assert_eq!(end(3), Some((3, 10)));
    assert_eq!(end(4), Some((4, 20)));
    assert_eq!(end(7), Some((4, 20)));
}

#[test]
fn which_epochs_a_run_of_batches_bears() {
    let epochs = starts().epochs(Offset(5), Offset(15));
    assert_eq!(epochs.at(Offset(5)), Some(LeaderEpoch(1)));
    assert_eq!(epochs.at(Offset(10)), Some(LeaderEpoch(4)), "term 3 has no record");
    assert_eq!(starts().epochs(Offset(0), Offset(10)).0.len(), 1);
}

#[test]
fn starts_are_cut_at_both_ends() {
    let mut cut = starts();
    cut.truncate(LogIndex(8));
    assert_eq!(cut.at(LogIndex(7)), Some(Term(3)));
    cut.push(Term(6), LogIndex(8), Offset(10));
    assert_eq!(cut.at(LogIndex(8)), Some(Term(6)));
    cut.trim(LogIndex(6));
    assert_eq!(cut.at(LogIndex(6)), Some(Term(3)));
    assert_eq!(cut.starts.len(), 2);
    cut.trim(LogIndex(100));
    assert_eq!(cut.starts.len(), 1, "the last one stays");
}
