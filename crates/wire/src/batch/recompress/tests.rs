use super::super::{ProducerStamp, build, records, set_producer, validate, verify_crc};
use super::*;
use crate::testing::Rng;
use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use zstd::zstd_safe;

const LIMIT: usize = 8 << 20;

const ALL: [Compressor; 14] = [
    Compressor::None,
    Compressor::Gzip(-1),
    Compressor::Gzip(1),
    Compressor::Gzip(9),
    Compressor::Snappy,
    Compressor::Lz4(1),
    Compressor::Lz4(9),
    Compressor::Lz4(17),
    Compressor::Zstd(-131_072),
    Compressor::Zstd(1),
    Compressor::Zstd(3),
    Compressor::Zstd(9),
    Compressor::Zstd(10),
    Compressor::Zstd(22),
];

/// Records that compress well, and records that don't, over several blocks of each compression.
fn batch() -> BytesMut {
    let noise = Rng(7).bytes(100_000);
    let text = b"all work and no play ".repeat(20_000);
    let records = [
        (Some(&b"key"[..]), Some(&b"value"[..])),
        (None, Some(&noise[..])),
        (Some(&b""[..]), Some(&text[..])),
        (None, None),
    ];
    let mut batch = build(1_700_000_000_000, &records);
    set_producer(
        &mut batch,
        ProducerStamp {
            id: 5,
            epoch: 1,
            first_sequence: 77,
        },
    );
    batch
}

fn contents(batch: &Bytes) -> Vec<super::super::Record> {
    records(batch, LIMIT).unwrap().map(Result::unwrap).collect()
}

#[test]
fn every_compression_becomes_every_other_and_nothing_else_changes() {
    let plain = batch();
    let expected = contents(&plain.clone().freeze());
    for from in ALL {
        let from = recompress(&plain, from, LIMIT, usize::MAX).unwrap();
        for to in ALL {
            let recompressed = recompress(&from, to, LIMIT, usize::MAX).unwrap().freeze();
            verify_crc(&recompressed).unwrap();
            let (before, after) = (
                BatchHeader::parse_only(&from).unwrap(),
                BatchHeader::parse_only(&recompressed).unwrap(),
            );
            assert_eq!(after.compression(), Ok(to.compression()));
            let same = BatchHeader {
                length: before.length,
                crc: before.crc,
                attributes: before.attributes,
                ..after
            };
            assert_eq!(same, before, "{to:?}");
            assert_eq!(contents(&recompressed), expected, "{to:?}");
            assert_eq!(validate(&recompressed, LIMIT), validate(&from, LIMIT), "{to:?}");
        }
    }
}

#[test]
fn an_independent_decoder_reads_it() {
    for to in ALL {
        let mut recompressed = recompress(&batch(), to, LIMIT, usize::MAX).unwrap().freeze();
        let set = RecordBatchDecoder::decode(&mut recompressed).unwrap();
        let found: Vec<_> = set
            .records
            .iter()
            .map(|record| (record.offset, record.value.clone()))
            .collect();
        let expected = contents(&batch().freeze());
        let expected: Vec<_> = expected
            .into_iter()
            .map(|record| (record.offset.0, record.value))
            .collect();
        assert_eq!(found, expected, "{to:?}");
    }
}

#[test]
fn what_grows_beyond_the_limit_is_refused() {
    let small = recompress(&batch(), Compressor::Zstd(3), LIMIT, usize::MAX).unwrap();
    for to in ALL {
        let whole = recompress(&small, to, LIMIT, usize::MAX).unwrap();
        assert_eq!(recompress(&small, to, LIMIT, whole.len()).unwrap(), whole, "{to:?}");
        for limit in [0, HEADER_LEN, whole.len() - 1] {
            let refused = recompress(&small, to, LIMIT, limit);
            assert_eq!(refused, Err(BatchError::Grown { limit }), "{to:?}");
        }
    }
}

#[test]
fn no_more_is_decompressed_than_allowed() {
    for from in &ALL[1..] {
        let from = recompress(&batch(), *from, LIMIT, usize::MAX).unwrap();
        let refused = recompress(&from, Compressor::None, 1000, usize::MAX);
        assert_eq!(refused, Err(BatchError::TooLarge { limit: 1000 }));
    }
}

#[test]
fn damage_is_an_error_and_no_panic() {
    let mut rng = Rng(3);
    for from in &ALL[1..] {
        let from = recompress(&build(5, &[(None, Some(b"a value"))]), *from, LIMIT, usize::MAX).unwrap();
        for _ in 0..200 {
            let _ = recompress(&rng.mutate(&from), Compressor::Lz4(1), LIMIT, LIMIT);
        }
    }
}

/// As zstd itself counts it.
#[test]
fn zstd_takes_no_more_memory_than_it_says() {
    for level in [-131_072, -1, 1, 3, 6, 9, 10, 15, 19, 22] {
        let mut context = zstd_safe::CCtx::create();
        for parameter in zstd_parameters(level) {
            context.set_parameter(parameter).unwrap();
        }
        let input = Rng(1).bytes(1 << 20);
        let mut out = vec![0; 2 << 20];
        let mut out = zstd_safe::OutBuffer::around(&mut out[..]);
        context
            .compress_stream(&mut out, &mut zstd_safe::InBuffer::around(&input))
            .unwrap();
        let (taken, said) = (context.sizeof(), Compressor::Zstd(level).memory());
        assert!(taken <= said, "level {level}: {taken} bytes, not {said}");
    }
}
