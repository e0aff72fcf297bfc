use super::*;
use trimaran_wire::batch::{build, stamp};

#[test]
fn special_timestamps_depend_on_the_version() {
    let code = |version, timestamp| query(version, timestamp).map_err(|failure| failure.code());
    assert_eq!(code(1, -1), Ok(OffsetQuery::Latest));
    assert_eq!(code(1, -2), Ok(OffsetQuery::Earliest));
    assert_eq!(code(6, -3), Err(35));
    assert_eq!(code(7, -3), Ok(OffsetQuery::MaxTimestamp));
    assert_eq!(code(7, -4), Err(35));
    assert_eq!(code(8, -4), Ok(OffsetQuery::Earliest));
    assert_eq!(code(8, -5), Err(35));
    assert_eq!(code(1, 0), Ok(OffsetQuery::Timestamp(0)));
}

#[test]
fn partitions_named_twice_are_found() {
    let named = [("a", 0), ("b", 0), ("a", 1), ("a", 0), ("a", 0)];
    assert_eq!(asked_twice(named.into_iter()), BTreeSet::from([("a", 0)]));
}

#[test]
fn a_record_is_found_by_its_timestamp() {
    let mut batch = build(1_000, &[(None, Some(b"x")), (None, Some(b"y"))]);
    stamp(&mut batch, Offset(40), LeaderEpoch(3));
    let batch = batch.freeze();
    let found = Found {
        offset: Offset(40),
        timestamp_ms: 1_000,
        epoch: 3,
    };
    assert_eq!(search_batch(&batch, 999).unwrap(), Some(found));
    assert_eq!(search_batch(&batch, 1_001).unwrap(), None);
}

/// The CRC was right when it was produced, and the compressed bytes are still no compression.
#[test]
fn a_batch_that_cannot_be_decompressed_answers_with_its_first_offset() {
    let mut batch = build(1_000, &[(None, Some(b"x"))]);
    stamp(&mut batch, Offset(40), LeaderEpoch(3));
    batch[22] = 4; // zstd
    let found = Found {
        offset: Offset(40),
        timestamp_ms: 1_000,
        epoch: 3,
    };
    assert_eq!(search_batch(&batch.freeze(), 1_000).unwrap(), Some(found));
}

#[test]
fn the_end_of_an_unknown_epoch_is_no_error() {
    let end = |asked: i32, current: i32, answer| {
        let lookup = OffsetLookup {
            epoch: LeaderEpoch(current),
            answer,
        };
        epoch_end(LeaderEpoch(asked), Ok(lookup)).unwrap()
    };
    let found = || OffsetAnswer::EpochEnd(LeaderEpoch(2), Offset(10));
    assert_eq!(end(2, 3, found()), Some((LeaderEpoch(2), Offset(10))));
    assert_eq!(
        end(3, 3, found()),
        Some((LeaderEpoch(2), Offset(10))),
        "nothing was stored in epoch 3"
    );
    assert_eq!(end(4, 3, found()), None, "newer than anything this leader knows");
    assert_eq!(end(-1, 3, found()), None);
    assert_eq!(end(1, 3, OffsetAnswer::None), None);
    let fenced = epoch_end(LeaderEpoch(1), Err(ReadError::FencedEpoch)).unwrap_err();
    assert_eq!(fenced.code(), 74);
}
