//! What stands in a journal's files, byte for byte: of this version, and of those before it.

use super::*;

/// The format is a promise: journals of today must be readable tomorrow.
#[test]
fn the_bytes_of_a_frame() {
    let fs = FaultyFs::new(1);
    let (mut journal, _) = open(&fs).unwrap();
    let mut batch = JournalBatch::default();
    batch.hard_state(GroupId(1), hard(2, Some(3)));
    batch.truncate(GroupId(1), LogIndex(4));
    batch.entries(GroupId(1), &[entry(4, 2, b""), entry(5, 2, b"hey")]);
    batch.forget(GroupId(6));
    // As it goes on behind entries 1 to 3, of which this file would say no more.
    journal.ends = Ends::recovered(&BTreeMap::from([(
        GroupId(1),
        RecoveredGroup {
            entries: vec![entry(3, 1, b"")],
            ..RecoveredGroup::default()
        },
    )]));
    journal.write(&batch).unwrap();
    journal.release(GroupId(1), LogIndex(4)).unwrap();
    journal.write(&append(1, &[entry(6, 2, b"!")])).unwrap();
    let bytes = fs.contents(&file_path(Path::new(DIR), 1)).unwrap();
    assert_eq!(hex(&bytes), golden_frames(["05", "f3021f4b", "b6025f55"]));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two frames, by their version and their headers' checksums: the records of all versions are alike.
fn golden_frames([version, first, second]: [&str; 3]) -> String {
    let golden = [
        // Magic, version, zero; length and CRC of the records; file, batch, oldest file; count of records, CRC.
        "5452494a",
        version,
        "000000",
        "760000005384b13a",
        "0100000000000000",
        "0100000000000000",
        "0100000000000000",
        "06000000",
        first,
        // The file's summary (empty), hard state, truncate, blank entry, entry, forget; then zeros up to a multiple of
        // 8.
        "010000000000000000",
        "0201000000000000000200000000000000010300000000000000",
        "0401000000000000000400000000000000",
        "05010000000000000004000000000000000200000000000000",
        "0601000000000000000500000000000000020000000000000003000000686579",
        "070600000000000000",
        "0000",
        // The second frame: flushed up to 4, and an entry.
        "5452494a",
        version,
        "000000",
        "2f0000005604aefd",
        "0100000000000000",
        "0200000000000000",
        "0100000000000000",
        "02000000",
        second,
        "0301000000000000000400000000000000",
        "060100000000000000060000000000000002000000000000000100000021",
        "00",
    ];
    golden.concat()
}

#[test]
fn a_journal_of_an_earlier_version_is_read() {
    for version in [
        ["01", "4ccd2b32", "09cd6b2c"],
        ["02", "c0848751", "8584c74f"],
        ["03", "eb91478c", "ae910792"],
        ["04", "d817df96", "9d179f88"],
    ] {
        check_is_read(&golden_frames(version));
    }
}

#[track_caller]
fn check_is_read(golden: &str) {
    let bytes = bytes_of(golden);
    let path = file_path(Path::new(DIR), 1);
    let (mut journal, found) = open(&restore(&[(path, bytes)])).unwrap();
    let expected = RecoveredGroup {
        hard_state: hard(2, Some(3)),
        entries: vec![entry(4, 2, b""), entry(5, 2, b"hey"), entry(6, 2, b"!")],
        flushed: LogIndex(4),
        ..RecoveredGroup::default()
    };
    assert_eq!(found, BTreeMap::from([(GroupId(1), expected)]));
    journal.write(&append(1, &[configured(7, 2, &[1])])).unwrap();
}

fn byte_of_hex(digits: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
}

#[test]
fn the_bytes_of_the_later_records() {
    let group = GroupId(1);
    let barred = HardState {
        barred: LogIndex(7),
        life: Life(8),
        ..hard(2, Some(3))
    };
    let position = Box::new(start(7, 2, b"data"));
    let golden = [
        (
            Record::Entry {
                group,
                entry: configured(4, 2, &[1, 3]),
            },
            // Group, index, term; three counts; two voters.
            "08010000000000000004000000000000000200000000000000\
             020000000000000000000000\
             01000000000000000300000000000000",
        ),
        (
            Record::HardState { group, state: barred },
            "090100000000000000020000000000000001030000000000000007000000000000000800000000000000",
        ),
        (
            Record::Reset {
                group,
                start: position.clone(),
            },
            // Group; index, term; three counts; three voters; the data.
            "100100000000000000\
             07000000000000000200000000000000\
             030000000000000000000000\
             010000000000000002000000000000000300000000000000\
             0400000064617461",
        ),
        (
            Record::Start { group, start: position },
            "110100000000000000\
             07000000000000000200000000000000\
             030000000000000000000000\
             010000000000000002000000000000000300000000000000\
             0400000064617461",
        ),
        (
            Record::Configured {
                group,
                index: LogIndex(7),
            },
            "0c01000000000000000700000000000000",
        ),
    ];
    for (record, expected) in golden {
        let mut bytes = Vec::new();
        record.encode_head(&mut bytes);
        assert_eq!(hex(&bytes), expected, "{record:?}");
        assert_eq!(Record::decode(&mut &bytes[..]).as_ref(), Ok(&record));
    }
}

/// Versions before 5 wrote an offset and what producers had sent, and not bytes of the caller's.
#[test]
fn the_positions_of_earlier_versions_are_read() {
    let offset = "6300000000000000";
    let batches = "01000000\
                   4d0000000000000006000000000000002300000000000000\
                   280000002900000003000000";
    for (kind, producers, data) in [
        ("0a", "", ["01", offset, ""]),
        ("0b", "", ["01", offset, ""]),
        ("0d", batches, ["02", offset, batches]),
        ("0e", batches, ["02", offset, batches]),
    ] {
        let golden = [
            // Group; index, term, offset; three counts; three voters.
            kind,
            "0100000000000000",
            "07000000000000000200000000000000",
            offset,
            "030000000000000000000000",
            "010000000000000002000000000000000300000000000000",
            producers,
        ];
        let bytes = bytes_of(&golden.concat());
        let mut rest = &bytes[..];
        let (Record::Reset { group, start } | Record::Start { group, start }) = Record::decode(&mut rest).unwrap()
        else {
            panic!("another record");
        };
        let expected = Snapshot {
            data: bytes_of(&data.concat()).into(),
            ..super::start(7, 2, b"")
        };
        assert_eq!((group, *start, rest), (GroupId(1), expected, &[][..]));
        for len in 0..bytes.len() {
            assert!(Record::decode(&mut &bytes[..len]).is_err(), "{kind}: {len} bytes");
        }
    }
}

/// What such a position says to the replica logs.
#[cfg(feature = "segments")]
#[test]
fn a_log_knows_the_positions_of_earlier_versions() {
    use crate::producers::ProducedBatch;
    use trimaran_wire::batch::Offset;

    let data = "02\
                6300000000000000\
                01000000\
                4d0000000000000006000000000000002300000000000000\
                280000002900000003000000";
    let snapshot = Snapshot {
        data: bytes_of(data).into(),
        ..start(7, 2, b"")
    };
    let start = crate::snapshot::LogStart::from_snapshot(&snapshot).unwrap();
    assert_eq!(start.end.offset, Offset(99));
    let sent = ProducedBatch {
        producer: 77,
        epoch: 3,
        first_sequence: 40,
        last_sequence: 41,
        index: LogIndex(6),
        base_offset: Offset(35),
    };
    assert_eq!(start.producers, [sent]);
    assert_eq!(start.to_snapshot(), snapshot);
}

fn bytes_of(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(byte_of_hex).collect()
}
