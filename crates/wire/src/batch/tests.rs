use super::*;
use crate::testing::Rng;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression as Codec, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};

fn sample() -> BytesMut {
    build(
        1_700_000_000_123,
        &[(Some(b"k"), Some(b"one")), (None, Some(b"")), (Some(b""), None)],
    )
}

fn their_record(offset: i64, timestamp: i64, value: &[u8]) -> TheirRecord {
    TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 7,
        producer_id: 42,
        producer_epoch: 3,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32 + 10,
        timestamp,
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::copy_from_slice(value)),
        headers: IndexMap::new(),
    }
}

fn their_batch(compression: Codec, values: &[&[u8]]) -> Bytes {
    let records: Vec<TheirRecord> = (0i64..)
        .zip(values)
        .map(|(i, value)| their_record(i, 1_000 + 10 * i, value))
        .collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

#[test]
fn what_is_built_parses_and_passes_its_crc() {
    let batch = sample().freeze();
    let header = BatchHeader::parse_only(&batch).unwrap();
    assert_eq!(header.length as usize, batch.len());
    assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (1_700_000_000_123, 1_700_000_000_123)
    );
    assert_eq!(header.producer(), None);
    assert_eq!((header.last_offset(), header.next_offset()), (Offset(2), Offset(3)));
    verify_crc(&batch).unwrap();
    let values = values(&batch).unwrap();
    assert_eq!(values, [Some(Bytes::from_static(b"one")), Some(Bytes::new()), None]);
}

#[test]
fn an_independent_decoder_reads_what_is_built() {
    let mut batch = sample();
    stamp(&mut batch, Offset(100), LeaderEpoch(5));
    let records = RecordBatchDecoder::decode(&mut batch.freeze()).unwrap().records;
    let found: Vec<_> = records
        .iter()
        .map(|r| (r.offset, r.key.clone(), r.value.clone()))
        .collect();
    let slice = |s: &'static [u8]| Some(Bytes::from_static(s));
    assert_eq!(
        found,
        [
            (100, slice(b"k"), slice(b"one")),
            (101, None, slice(b"")),
            (102, slice(b""), None)
        ]
    );
    assert_eq!(
        (records[0].timestamp, records[0].partition_leader_epoch),
        (1_700_000_000_123, 5)
    );
}

#[test]
fn a_header_of_an_independent_encoder_is_read() {
    let header = BatchHeader::parse_only(&their_batch(Codec::Zstd, &[b"a", b"b"])).unwrap();
    assert_eq!(
        header.producer(),
        Some(ProducerStamp {
            id: 42,
            epoch: 3,
            first_sequence: 10
        })
    );
    assert_eq!(header.leader_epoch, LeaderEpoch(7));
    assert_eq!(header.compression(), Ok(Compression::Zstd));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_010));
    assert!(!header.is_control() && !header.is_transactional() && !header.is_log_append_time());
}

#[test]
fn stamping_keeps_the_crc() {
    let mut batch = sample();
    stamp(&mut batch, Offset(1 << 40), LeaderEpoch(9));
    verify_crc(&batch).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        (header.base_offset, header.leader_epoch),
        (Offset(1 << 40), LeaderEpoch(9))
    );
}

#[test]
fn log_append_time_is_every_records_time() {
    let mut batch = sample();
    set_log_append_time(&mut batch, 2_000_000_000_000);
    verify_crc(&batch).unwrap();
    let batch = batch.freeze();
    let header = BatchHeader::parse(&batch).unwrap();
    assert!(header.is_log_append_time());
    let times: Vec<i64> = records(&batch, 1 << 20)
        .unwrap()
        .map(|r| r.unwrap().timestamp_ms)
        .collect();
    assert_eq!(times, [2_000_000_000_000; 3]);
    assert_eq!(
        find_timestamp(&batch, 1_999_999_999_999, 0).unwrap(),
        Some((Offset(0), 2_000_000_000_000))
    );
}

#[test]
fn a_producer_can_be_set() {
    let mut batch = sample();
    let producer = ProducerStamp {
        id: 1,
        epoch: 2,
        first_sequence: 3,
    };
    set_producer(&mut batch, producer);
    verify_crc(&batch).unwrap();
    assert_eq!(BatchHeader::parse(&batch).unwrap().producer(), Some(producer));
}

#[test]
fn every_compression_is_read() {
    let values: [&[u8]; 3] = [b"first", &[b'x'; 5_000], b"third"];
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = their_batch(codec, &values);
        let found: Vec<Record> = records(&batch, 1 << 20).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(found.len(), 3, "{codec:?}");
        for (i, record) in found.iter().enumerate() {
            assert_eq!(record.offset, Offset(i as i64));
            assert_eq!(record.timestamp_ms, 1_000 + 10 * i as i64);
            assert_eq!(record.value.as_deref(), Some(values[i]));
        }
        assert_eq!(
            find_timestamp(&batch, 1_005, 1 << 20).unwrap(),
            Some((Offset(1), 1_010))
        );
        assert_eq!(find_timestamp(&batch, 1_021, 1 << 20).unwrap(), None);
    }
}

#[test]
fn raw_snappy_is_read() {
    let framed = their_batch(Codec::None, &[b"hello"]);
    let raw = snap::raw::Encoder::new().compress_vec(&framed[HEADER_LEN..]).unwrap();
    let out = Compression::Snappy.decompress(&raw, 1_000).unwrap();
    assert_eq!(out, framed[HEADER_LEN..]);
}

#[test]
fn decompression_stops_at_the_limit() {
    let bomb = vec![0u8; 4 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = their_batch(codec, &[&bomb]);
        assert!(batch.len() < 1 << 20, "{codec:?}");
        assert_eq!(
            records(&batch, 1 << 20).unwrap_err(),
            BatchError::TooLarge { limit: 1 << 20 },
            "{codec:?}"
        );
        assert!(records(&batch, 5 << 20).is_ok(), "{codec:?}");
    }
}

#[test]
fn a_snappy_block_that_promises_too_much_is_refused() {
    // A raw block whose length says 512 MiB: five bytes of varint, nothing behind it.
    let lie = [0x80, 0x80, 0x80, 0x80, 0x02];
    assert_eq!(
        Compression::Snappy.decompress(&lie, 1 << 30),
        Err(BatchError::BadCompression)
    );
}

#[test]
fn header_keys_may_repeat_and_need_not_be_text() {
    let mut batch = sample();
    batch.truncate(HEADER_LEN);
    // One record: attributes, timestamp delta 0, offset delta 0, null key, null value, two headers of the same key.
    let body = [0, 0, 0, 1, 1, 4, 2, 0xff, 2, b'a', 2, 0xff, 1];
    put_record(&mut batch, &body);
    let found: Vec<Record> = records(&batch.freeze(), 0).unwrap().collect::<Result<_, _>>().unwrap();
    let key = Bytes::from_static(b"\xff");
    let expected = [
        RecordHeader {
            key: key.clone(),
            value: Some(Bytes::from_static(b"a")),
        },
        RecordHeader { key, value: None },
    ];
    assert_eq!(found[0].headers, expected);
}

/// Puts one raw record body behind a header and repairs length, counts and CRC.
fn put_record(batch: &mut BytesMut, body: &[u8]) {
    batch.put_u8(body.len() as u8 * 2);
    batch.put_slice(body);
    put(batch, at::LAST_OFFSET_DELTA, &0i32.to_be_bytes());
    put(batch, at::RECORD_COUNT, &1i32.to_be_bytes());
    let length = (batch.len() - LENGTH_OVERHEAD) as i32;
    put(batch, at::LENGTH, &length.to_be_bytes());
    write_crc(batch);
}

#[test]
fn damage_is_named() {
    let good = sample();
    let damaged = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        put(&mut batch, at, bytes);
        batch
    };
    let parse = |batch: BytesMut| BatchHeader::parse(&batch).unwrap_err();
    assert_eq!(parse(damaged(at::MAGIC, &[1])), BatchError::BadMagic(1));
    assert_eq!(
        parse(damaged(at::LENGTH, &(-1i32).to_be_bytes())),
        BatchError::BadLength(-1)
    );
    assert_eq!(
        parse(damaged(at::LENGTH, &48i32.to_be_bytes())),
        BatchError::BadLength(48)
    );
    assert_eq!(
        parse(damaged(at::LENGTH, &i32::MAX.to_be_bytes())),
        BatchError::Truncated
    );
    assert_eq!(
        parse(damaged(at::RECORD_COUNT, &4i32.to_be_bytes())),
        BatchError::BadCount
    );
    assert_eq!(
        parse(damaged(at::RECORD_COUNT, &(-1i32).to_be_bytes())),
        BatchError::BadCount
    );
    assert_eq!(
        parse(damaged(at::LAST_OFFSET_DELTA, &(-1i32).to_be_bytes())),
        BatchError::BadCount
    );
    let crc = verify_crc(&damaged(good.len() - 1, &[9])).unwrap_err();
    assert!(matches!(crc, BatchError::BadCrc { .. }), "{crc}");
    let unknown = BatchHeader::parse(&damaged(at::ATTRIBUTES, &[0, 5]))
        .unwrap()
        .compression();
    assert_eq!(unknown, Err(BatchError::UnknownCompression(5)));
    let mut two = good.clone();
    two.extend_from_slice(&good);
    assert_eq!(BatchHeader::parse_only(&two).unwrap_err(), BatchError::TrailingBytes);
    assert_eq!(BatchHeader::parse(&[]).unwrap_err(), BatchError::Truncated);
}

#[test]
fn more_records_than_bytes_are_refused() {
    let mut batch = sample();
    put(&mut batch, at::LAST_OFFSET_DELTA, &(i32::MAX - 1).to_be_bytes());
    put(&mut batch, at::RECORD_COUNT, &i32::MAX.to_be_bytes());
    assert_eq!(BatchHeader::parse(&batch).unwrap_err(), BatchError::BadCount);
}

#[test]
fn offsets_near_the_end_of_the_scale_do_not_wrap() {
    let mut batch = sample();
    stamp(&mut batch, Offset(i64::MAX), LeaderEpoch(1));
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(header.next_offset(), Offset(i64::MAX));
}

#[test]
fn batches_back_to_back_are_split() {
    let first = sample();
    let mut all = first.clone();
    all.extend_from_slice(&their_batch(Codec::Gzip, &[b"x"]));
    let whole = all.len();
    all.extend_from_slice(&first[..80]);
    let all = all.freeze();
    let parts: Vec<_> = split(all.slice(..whole)).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].1, first.freeze());
    let with_cut: Vec<_> = split(all).collect();
    assert_eq!(with_cut.len(), 3);
    assert_eq!(with_cut[2], Err(BatchError::Truncated));
}

/// Everything that reads a batch, on bytes that may be anything.
fn read_all(bytes: &Bytes) {
    let _ = verify_crc(bytes);
    let _ = BatchHeader::parse_only(bytes);
    let _ = values(bytes);
    let _ = find_timestamp(bytes, 5, 100_000);
    if let Ok(records) = records(bytes, 100_000) {
        assert!(records.count() <= 200_000);
    }
    assert!(split(bytes.clone()).count() <= bytes.len());
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(1);
    let seeds: Vec<Bytes> = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]
        .iter()
        .map(|codec| their_batch(*codec, &[b"first", &[7; 300], b"third"]))
        .collect();
    for _ in 0..4_000 {
        let seed = &seeds[rng.below(seeds.len())];
        read_all(&Bytes::from(rng.mutate(seed)));
    }
    for _ in 0..1_000 {
        let bytes = rng.bytes(200);
        read_all(&Bytes::from(bytes));
    }
}
