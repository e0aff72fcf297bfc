use super::super::{HEADER_LEN, Offset, build, decompression_cost, records};
use super::*;
use bytes::{BufMut, Bytes, BytesMut};
use std::io::Write;

const LIMIT: usize = 1 << 20;
const BASE: i64 = 1_700_000_000_000;

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// A record without a key, around which the length is right.
fn record(offset_delta: i64, timestamp_delta: i64, value: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, timestamp_delta);
    varint(&mut body, offset_delta);
    varint(&mut body, -1);
    varint(&mut body, value.len() as i64);
    body.extend_from_slice(value);
    varint(&mut body, 0);
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, body.len() as i64);
    out.extend_from_slice(body);
    out
}

/// A batch around these bytes, whose header and CRC are right, whatever the bytes are.
fn batch(attributes: i16, count: i32, records: &[u8]) -> Bytes {
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32((HEADER_LEN - 12 + records.len()) as i32);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(attributes);
    batch.put_i32(count - 1);
    batch.put_i64(BASE);
    batch.put_i64(BASE);
    batch.put_i64(-1);
    batch.put_i16(-1);
    batch.put_i32(-1);
    batch.put_i32(count);
    batch.put_slice(records);
    super::super::write_crc(&mut batch);
    batch.freeze()
}

fn check(attributes: i16, count: i32, records: &[u8]) -> Result<Contents, BatchError> {
    validate(&batch(attributes, count, records), LIMIT)
}

/// What is wrong with which record.
fn blamed(count: i32, records: &[u8]) -> (i32, &'static str) {
    match check(0, count, records) {
        Err(BatchError::InvalidRecord { position, what }) => (position, what),
        other => panic!("{other:?}"),
    }
}

fn three() -> Vec<u8> {
    [record(0, 0, b"one"), record(1, 20, b"two"), record(2, 10, b"three")].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xerial(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
    for block in bytes.chunks(64) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

fn lz4_as(bytes: &[u8], mode: lz4::BlockMode) -> Vec<u8> {
    let mut encoder = lz4::EncoderBuilder::new().block_mode(mode).build(Vec::new()).unwrap();
    encoder.write_all(bytes).unwrap();
    let (out, result) = encoder.finish();
    result.unwrap();
    out
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    lz4_as(bytes, lz4::BlockMode::Independent)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

const GZIP: i16 = 1;
const SNAPPY: i16 = 2;
const LZ4: i16 = 3;
const ZSTD: i16 = 4;

/// In each compression, and in each way of writing it.
fn compressed(bytes: &[u8]) -> Vec<(i16, Vec<u8>)> {
    vec![
        (0, bytes.to_vec()),
        (GZIP, gzip(bytes)),
        (SNAPPY, snap::raw::Encoder::new().compress_vec(bytes).unwrap()),
        (SNAPPY, xerial(bytes)),
        (LZ4, lz4(bytes)),
        (ZSTD, zstd(bytes)),
    ]
}

#[test]
fn a_sound_batch_tells_its_timestamps() {
    for (attributes, bytes) in compressed(&three()) {
        let contents = check(attributes, 3, &bytes).unwrap();
        let at = |position, timestamp_ms| Some(TimestampOf { position, timestamp_ms });
        assert_eq!((contents.earliest, contents.latest), (at(0, BASE), at(1, BASE + 20)));
        assert_eq!(contents.max_timestamp(), BASE + 20);
    }
    assert!(validate(&build(5, &[(Some(b"k"), None), (None, Some(b""))]), LIMIT).is_ok());
}

#[test]
fn fewer_or_more_records_than_counted_are_refused() {
    for (attributes, bytes) in compressed(&three()) {
        let fewer = check(attributes, 4, &bytes).unwrap_err();
        assert!(
            matches!(
                fewer,
                BatchError::InvalidRecord { position: 3, .. } | BatchError::BadCount
            ),
            "{attributes}: {fewer}"
        );
        assert_eq!(
            check(attributes, 2, &bytes),
            Err(BatchError::MoreRecords),
            "{attributes}"
        );
    }
}

#[test]
fn the_count_must_be_that_of_the_offsets() {
    let whole = batch(0, 3, &three());
    for (last_offset_delta, count) in [(9i32, 3i32), (2, 2), (-1, 0), (-2, -1)] {
        let mut batch = BytesMut::from(&whole[..]);
        batch[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        assert_eq!(
            validate(&batch, LIMIT),
            Err(BatchError::BadCount),
            "{last_offset_delta} {count}"
        );
    }
}

#[test]
fn random_bytes_are_no_records() {
    assert_eq!(blamed(1, &[0xff; 70]), (0, "a number takes more than 32 bits"));
}

#[test]
fn a_record_ends_within_the_batch() {
    let mut long = Vec::new();
    varint(&mut long, 1000);
    long.extend_from_slice(&[0, 0, 0, 1, 2, b'v', 0]);
    long.extend_from_slice(&[0; 40]);
    assert_eq!(blamed(1, &long).0, 0);
    let cut = three();
    assert_eq!(blamed(3, &cut[..cut.len() - 1]).0, 2);
}

#[test]
fn a_record_is_as_long_as_its_fields() {
    for body in [&[0, 0, 0, 1, 2, b'v', 0, 9][..], &[0, 0, 0, 1, 2, b'v', 0, 9, 9, 9, 9]] {
        assert_eq!(blamed(1, &framed(body)), (0, "its length is not that of its fields"));
    }
    let mut short = Vec::new();
    varint(&mut short, 2);
    short.extend_from_slice(&[0, 0, 0, 1, 1, 0, 0]);
    assert_eq!(blamed(1, &short), (0, "its length is not that of its fields"));
    assert_eq!(
        blamed(1, &framed(&[0, 0, 0, 1, 20, b'v', 0])),
        (0, "a field is longer than the record")
    );
    let mut negative = Vec::new();
    varint(&mut negative, -1);
    negative.extend_from_slice(&[0; 7]);
    assert_eq!(blamed(1, &negative), (0, "its length is negative"));
}

/// Java's client takes any negative length for null; librdkafka and others don't.
#[test]
fn only_minus_one_is_null() {
    let of_length = |zigzag| framed(&[0, 0, 0, 1, zigzag, 0]);
    assert!(check(0, 1, &[of_length(1), vec![]].concat()).is_ok());
    assert_eq!(
        blamed(1, &framed(&[0, 0, 0, 1, 3, 0, 0])),
        (0, "a field's length is negative")
    );
}

#[test]
fn headers_are_counted_and_have_keys() {
    let with = |headers: &[u8]| framed(&[&[0, 0, 0, 1, 1][..], headers].concat());
    assert!(
        check(0, 1, &with(&[4, 2, b'a', 2, b'b', 0, 1])).is_ok(),
        "an empty key, a null value"
    );
    assert_eq!(blamed(1, &with(&[1, 0, 0])), (0, "its number of headers is negative"));
    assert_eq!(
        blamed(1, &with(&[200, 1, 2, b'a', 1])),
        (0, "it says to have more headers than fit")
    );
    assert_eq!(blamed(1, &with(&[2, 1, 1])), (0, "a header has no key"));
    assert_eq!(
        blamed(1, &with(&[2, 40, b'a', 1])),
        (0, "a field is longer than the record")
    );
}

/// Wider than the number needs is fine, wider than any number is not: clients wrap around or stop.
#[test]
fn numbers_have_their_width() {
    let padded = [0, 0x80, 0x00, 0x80, 0x80, 0x80, 0x80, 0x00, 1, 1, 0];
    assert!(check(0, 1, &framed(&padded)).is_ok());
    let six_bytes = [0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 1, 1, 0];
    assert_eq!(blamed(1, &framed(&six_bytes)), (0, "a number takes more than 32 bits"));
    let mut eleven = vec![0];
    eleven.extend_from_slice(&[0x80; 10]);
    eleven.extend_from_slice(&[0, 0, 1, 1, 0]);
    assert_eq!(blamed(1, &framed(&eleven)), (0, "a number takes more than 64 bits"));
}

#[test]
fn offsets_are_contiguous() {
    let follow = "its offset does not follow that of the record before it";
    let at = |deltas: &[i64]| -> Vec<u8> { deltas.iter().flat_map(|delta| record(*delta, 0, b"v")).collect() };
    assert_eq!(blamed(2, &at(&[0, 0])), (1, follow));
    assert_eq!(blamed(2, &at(&[1, 0])), (0, follow));
    assert_eq!(blamed(2, &at(&[0, 5])), (1, "its offset is outside of the batch"));
    assert_eq!(blamed(2, &at(&[-1, 0])), (0, "its offset is outside of the batch"));
}

#[test]
fn what_is_not_compressed_as_it_says_is_refused() {
    for attributes in [GZIP, SNAPPY, LZ4, ZSTD] {
        let error = check(attributes, 1, &b"this is not compressed at all".repeat(5)).unwrap_err();
        assert!(
            matches!(error, BatchError::BadCompression | BatchError::TooLarge { .. }),
            "{attributes}: {error}"
        );
        assert!(check(attributes, 1, &[]).is_err(), "{attributes}: nothing");
    }
    for attributes in [5, 6, 7] {
        assert_eq!(
            check(attributes, 1, &record(0, 0, b"v")),
            Err(BatchError::UnknownCompression(attributes as u8))
        );
    }
}

#[test]
fn compressed_nothing_holds_no_record() {
    for (attributes, bytes) in compressed(&[]).into_iter().skip(1) {
        let error = check(attributes, 1, &bytes).unwrap_err();
        assert!(
            matches!(error, BatchError::InvalidRecord { position: 0, .. }),
            "{attributes}: {error}"
        );
    }
}

#[test]
fn a_count_of_two_thousand_million_is_refused() {
    for (attributes, bytes) in compressed(&record(0, 0, b"v")).into_iter().skip(1) {
        let error = check(attributes, i32::MAX, &bytes).unwrap_err();
        assert!(
            matches!(error, BatchError::InvalidRecord { position: 1, .. }),
            "{attributes}: {error}"
        );
    }
}

#[test]
fn what_was_cut_off_is_refused() {
    let records: Vec<u8> = (0..200).flat_map(|at| record(at, 0, &[at as u8; 500])).collect();
    for (attributes, bytes) in compressed(&records) {
        assert!(check(attributes, 200, &bytes).is_ok(), "{attributes}");
        for cut in [1, 4, 9, bytes.len() / 2] {
            let cut = &bytes[..bytes.len() - cut];
            assert!(
                check(attributes, 200, cut).is_err(),
                "{attributes} cut to {}",
                cut.len()
            );
        }
    }
}

/// As Kafka: Java's readers of gzip, of snappy's framing and of zstd go on where one stream ends; that of lz4 doesn't.
#[test]
fn several_streams_in_one_batch_are_read_where_kafka_reads_them() {
    let (first, second) = (record(0, 0, b"one"), record(1, 5, b"two"));
    let joined = |compress: fn(&[u8]) -> Vec<u8>| [compress(&first), compress(&second)].concat();
    for (attributes, bytes) in [(GZIP, joined(gzip)), (SNAPPY, joined(xerial)), (ZSTD, joined(zstd))] {
        assert_eq!(
            check(attributes, 2, &bytes).unwrap().max_timestamp(),
            BASE + 5,
            "{attributes}"
        );
        let batch = batch(attributes, 2, &bytes);
        let offsets: Vec<Offset> = records(&batch, LIMIT)
            .unwrap()
            .map(|record| record.unwrap().offset)
            .collect();
        assert_eq!(offsets, [Offset(0), Offset(1)], "our own consumer reads it as well");
    }
    let error = check(LZ4, 2, &joined(lz4)).unwrap_err();
    assert!(
        matches!(error, BatchError::InvalidRecord { position: 1, .. }),
        "{error}"
    );
    let skippable = [&b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"[..], &zstd(&three())].concat();
    assert!(check(ZSTD, 3, &skippable).is_ok());
    let with_empty = [gzip(&three()), gzip(&[])].concat();
    assert!(check(GZIP, 3, &with_empty).is_ok());
}

#[test]
fn nothing_follows_what_is_compressed() {
    for (attributes, mut bytes) in compressed(&three()).into_iter().skip(1) {
        bytes.extend_from_slice(b"garbage");
        assert!(check(attributes, 3, &bytes).is_err(), "{attributes}");
    }
    let second_frame = [lz4(&three()), lz4(&[])].concat();
    assert_eq!(check(LZ4, 3, &second_frame), Err(BatchError::BadCompression));
}

/// Java's client refuses dependent blocks, so a batch with them would stop it.
#[test]
fn lz4_blocks_are_independent() {
    let linked = lz4_as(&three(), lz4::BlockMode::Linked);
    assert_eq!(check(LZ4, 3, &linked), Err(BatchError::UnreadableFrame));
}

#[test]
fn what_decompresses_to_too_much_stops_at_the_limit() {
    let bomb = record(0, 0, &vec![0; 4 << 20]);
    for (attributes, bytes) in compressed(&bomb).into_iter().skip(1) {
        assert!(bytes.len() < 1 << 20, "{attributes}");
        assert_eq!(
            check(attributes, 1, &bytes),
            Err(BatchError::TooLarge { limit: LIMIT }),
            "{attributes}"
        );
        assert!(validate(&batch(attributes, 1, &bytes), 8 << 20).is_ok(), "{attributes}");
    }
}

#[test]
fn timestamps_of_minus_one_and_below_are_none() {
    let at = |deltas: &[i64]| -> Contents {
        let records = (0..).zip(deltas).flat_map(|(at, delta)| record(at, *delta, b"v"));
        check(0, deltas.len() as i32, &records.collect::<Vec<u8>>()).unwrap()
    };
    assert_eq!(at(&[-BASE - 1]).latest, None);
    assert_eq!(at(&[-BASE - 1]).max_timestamp(), -1);
    assert_eq!(at(&[-BASE - 5]).latest.unwrap().timestamp_ms, -5);
    assert_eq!(at(&[-BASE - 5]).max_timestamp(), -1);
    assert_eq!(at(&[-BASE - 5, 3, -BASE - 1]).max_timestamp(), BASE + 3);
    assert_eq!(at(&[-BASE]).max_timestamp(), 0);
}

#[test]
fn the_memory_that_reading_takes_is_known_before() {
    let cost = |attributes, bytes: &[u8], limit| decompression_cost(&batch(attributes, 1, bytes), limit).unwrap();
    assert_eq!(cost(0, &three(), LIMIT).memory, 0);
    let zeros = vec![0; 3 << 20];
    let raw = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    assert_eq!(cost(SNAPPY, &raw, 8 << 20).piece, 3 << 20);
    assert_eq!(cost(SNAPPY, &raw, LIMIT).piece, LIMIT);
    let lie = [0x80, 0x80, 0x80, 0x80, 0x02];
    assert_eq!(cost(SNAPPY, &lie, 1 << 30).piece, 5 * 64);
    assert_eq!(cost(SNAPPY, &xerial(&zeros), LIMIT).piece, 64);
    assert_eq!(cost(LZ4, &lz4(&zeros), LIMIT).piece, 64 << 10);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&zeros).unwrap();
    let window = encoder.finish().unwrap();
    assert!(cost(ZSTD, &window, 1 << 30).memory > 128 << 20);
    assert!(cost(ZSTD, &window, LIMIT).memory < 2 << 20);
    let records = record(0, 0, &zeros);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&records).unwrap();
    let window = encoder.finish().unwrap();
    assert!(
        validate(&batch(ZSTD, 1, &window), 8 << 20).is_ok(),
        "as large a window as Java's client takes"
    );
}
