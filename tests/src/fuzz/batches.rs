//! Record batches: what producers send, followers replicate and consumers get.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::records::RecordBatchDecoder;
use std::io::Write;
use trimaran_wire::batch::{
    self, BatchError, BatchHeader, Compression, HEADER_LEN, LeaderEpoch, Offset, ProducerStamp, Record,
};

/// A limit for decompression that inputs of a few kilobytes can reach.
const LIMIT: usize = 64 << 10;

/// How the Java library's framing begins.
const SNAPPY_HEADER: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";

pub(super) fn target(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = batch::verify_crc(data);
    let _ = batch::values(&bytes);
    batches_are_what_the_bytes_are(&bytes);
    let Ok(header) = BatchHeader::parse(data) else { return };
    assert!((HEADER_LEN..=data.len()).contains(&(header.length as usize)));
    let whole = bytes.slice(..header.length as usize);
    assert_eq!(BatchHeader::parse_only(&whole), Ok(header));
    assert!(header.last_offset() >= header.base_offset && header.record_count >= 0);
    let _ = batch::find_timestamp(&whole, header.max_timestamp, LIMIT);
    stamping_keeps_the_rest(&whole, &header);
    records(&whole, &header);
    what_is_accepted_can_be_read(&whole, &header);
}

fn batches_are_what_the_bytes_are(bytes: &Bytes) {
    let mut whole = BytesMut::new();
    let mut last = None;
    for part in batch::split(bytes.clone()) {
        assert_ne!(last, Some(false), "nothing comes after an error");
        last = Some(part.is_ok());
        if let Ok((header, part)) = part {
            assert_eq!(header.length as usize, part.len());
            whole.extend_from_slice(&part);
        }
    }
    assert!(bytes.starts_with(&whole));
    assert!(last == Some(false) || whole.len() == bytes.len());
}

fn stamping_keeps_the_rest(whole: &Bytes, header: &BatchHeader) {
    let mut stamped = BytesMut::from(&whole[..]);
    batch::stamp(&mut stamped, Offset(42), LeaderEpoch(7));
    let expected = BatchHeader {
        base_offset: Offset(42),
        leader_epoch: LeaderEpoch(7),
        ..*header
    };
    assert_eq!(BatchHeader::parse_only(&stamped), Ok(expected));
    assert_eq!(batch::verify_crc(&stamped), batch::verify_crc(whole));
    batch::set_log_append_time(&mut stamped, 99);
    assert_eq!(batch::verify_crc(&stamped), Ok(()));
    let producer = ProducerStamp {
        id: 3,
        epoch: 4,
        first_sequence: 5,
    };
    batch::set_producer(&mut stamped, producer);
    assert_eq!(batch::verify_crc(&stamped), Ok(()));
    let rewritten = BatchHeader::parse_only(&stamped).expect("its length and counts are the same");
    assert_eq!((rewritten.producer(), rewritten.max_timestamp), (Some(producer), 99));
}

fn records(whole: &Bytes, header: &BatchHeader) {
    let records = match batch::records(whole, LIMIT) {
        Ok(records) => records,
        Err(error) => return refused(header, error),
    };
    let mut found: Vec<Record> = Vec::new();
    let mut failed = false;
    for record in records {
        assert!(!failed, "nothing comes after an error");
        match record {
            Ok(record) => found.push(record),
            Err(_) => failed = true,
        }
    }
    let bytes: usize = found.iter().map(size).sum();
    let limit = if header.compression() == Ok(Compression::None) {
        whole.len()
    } else {
        LIMIT
    };
    assert!(bytes <= limit, "{bytes} of {limit}");
    let count = usize::try_from(header.record_count).expect("parsed");
    assert!(found.len() <= count && (failed || found.len() == count));
    let offsets = header.base_offset..=header.last_offset();
    assert!(found.iter().all(|record| offsets.contains(&record.offset)));
    if !failed && count > 0 {
        built_again(&found);
    }
}

/// Damaged or too large, but nothing that only an uncompressed batch can be.
fn refused(header: &BatchHeader, error: BatchError) {
    let expected = match header.compression() {
        Err(unknown) => error == unknown,
        Ok(Compression::None) => false,
        Ok(_) => matches!(
            error,
            BatchError::BadCompression | BatchError::TooLarge { limit: LIMIT }
        ),
    };
    assert!(expected, "{error:?} of {header:?}");
}

fn size(record: &Record) -> usize {
    let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record
        .headers
        .iter()
        .map(|header| header.key.len() + bytes(&header.value));
    bytes(&record.key) + bytes(&record.value) + headers.sum::<usize>()
}

/// The project's own builder, from the same keys and values.
fn built_again(found: &[Record]) {
    let pairs: Vec<batch::KeyValue<'_>> = found
        .iter()
        .map(|record| (record.key.as_deref(), record.value.as_deref()))
        .collect();
    let built = batch::build(5, &pairs).freeze();
    assert_eq!(batch::verify_crc(&built), Ok(()));
    let again: Vec<Record> = batch::records(&built, 0)
        .and_then(Iterator::collect)
        .expect("what was built can be read");
    let pairs_again = again
        .iter()
        .map(|record| (record.key.as_deref(), record.value.as_deref()));
    assert!(pairs_again.eq(pairs.iter().copied()));
}

/// The first byte says which compression, the second how many records, the rest is compressed.
pub(super) fn decompression(data: &[u8]) {
    let [attributes, count, compressed @ ..] = data else {
        return;
    };
    let batch = wrapped(*attributes % 8, i32::from(*count), compressed);
    let header = BatchHeader::parse_only(&batch).expect("counts of compressed records are believed");
    records(&batch, &header);
    what_is_accepted_can_be_read(&batch, &header);
}

/// What the broker takes from a producer, every consumer reads to the end: this project's own reader, and kafka-protocol's.
fn what_is_accepted_can_be_read(whole: &Bytes, header: &BatchHeader) {
    let Ok(contents) = batch::validate(whole, LIMIT) else {
        return;
    };
    let mut stored = BytesMut::from(&whole[..]);
    batch::stamp(&mut stored, Offset(42), LeaderEpoch(7));
    batch::set_create_time(&mut stored, contents.max_timestamp());
    let producer = ProducerStamp {
        id: 3,
        epoch: 4,
        first_sequence: 5,
    };
    // Makes the CRC right as well, whatever the input's was.
    batch::set_producer(&mut stored, producer);
    let stored = stored.freeze();
    let found: Vec<Record> = batch::records(&stored, LIMIT)
        .and_then(Iterator::collect)
        .expect("what is accepted can be read");
    let offsets = found.iter().map(|record| record.offset.0);
    assert!(
        offsets.eq(42..42 + i64::from(header.record_count)),
        "offsets are contiguous"
    );
    let timestamps = || {
        let all = found.iter().map(|record| record.timestamp_ms);
        all.filter(|timestamp| *timestamp != batch::NO_TIMESTAMP)
    };
    assert_eq!(contents.earliest.map(|of| of.timestamp_ms), timestamps().min());
    assert_eq!(contents.latest.map(|of| of.timestamp_ms), timestamps().max());
    let latest = contents.max_timestamp();
    assert_eq!(
        BatchHeader::parse_only(&stored).expect("as before").max_timestamp,
        latest
    );
    if latest >= 0 {
        let searched = batch::find_timestamp(&stored, latest, LIMIT).expect("the same records");
        let first = found.iter().find(|record| record.timestamp_ms == latest);
        assert_eq!(searched, first.map(|record| (record.offset, latest)));
    }
    if others_read_it(&stored, header, &found) {
        read_by_another_decoder(stored, &found);
    }
}

/// kafka-protocol reads one stream only, overflows where Java's clients wrap around, and takes header keys for text.
fn others_read_it(stored: &[u8], header: &BatchHeader, found: &[Record]) -> bool {
    let records = &stored[HEADER_LEN..];
    let is_one_stream = match header.compression() {
        Ok(Compression::Gzip) => {
            let mut first = flate2::bufread::GzDecoder::new(records);
            std::io::copy(&mut first, &mut std::io::sink()).is_ok() && first.into_inner().is_empty()
        }
        Ok(Compression::Snappy) => {
            let header = &SNAPPY_HEADER[..];
            let streams = records.windows(8).filter(|bytes| *bytes == &header[..8]).count();
            streams == 0 || (streams == 1 && records.starts_with(header))
        }
        Ok(Compression::None | Compression::Lz4 | Compression::Zstd) => true,
        Err(_) => false,
    };
    let fits = |record: &Record| {
        let delta = record.timestamp_ms.wrapping_sub(header.base_timestamp);
        header.base_timestamp.checked_add(delta).is_some()
    };
    let is_text = |record: &Record| record.headers.iter().all(|header| str::from_utf8(&header.key).is_ok());
    is_one_stream && found.iter().all(|record| fits(record) && is_text(record))
}

fn read_by_another_decoder(mut stored: Bytes, found: &[Record]) {
    let theirs = RecordBatchDecoder::decode(&mut stored)
        .expect("what is accepted, others can read")
        .records;
    let theirs = theirs
        .iter()
        .map(|record| (record.offset, record.timestamp, &record.key, &record.value));
    let ours = found
        .iter()
        .map(|record| (record.offset.0, record.timestamp_ms, &record.key, &record.value));
    assert!(theirs.eq(ours));
}

/// A batch with these bytes for its records.
fn wrapped(compression: u8, count: i32, records: &[u8]) -> Bytes {
    let mut batch = BytesMut::with_capacity(HEADER_LEN + records.len());
    batch.put_i64(0);
    batch.put_i32(i32::try_from(HEADER_LEN - 12 + records.len()).expect("inputs are small"));
    batch.put_i32(0);
    batch.put_i8(2);
    batch.put_u32(0);
    // Without compression, a count is checked against the bytes: 0 stands for the one after the last.
    batch.put_i16(i16::from(if compression == 0 { 5 } else { compression }));
    batch.put_i32(count.max(1) - 1);
    batch.put_i64(1000);
    batch.put_i64(1000);
    batch.put_i64(-1);
    batch.put_i16(-1);
    batch.put_i32(-1);
    batch.put_i32(count);
    batch.put_slice(records);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

fn plain() -> BytesMut {
    batch::build(
        1_700_000_000_000,
        &[
            (Some(b"key"), Some(&b"value value value value"[..])),
            (None, Some(b"")),
            (Some(b"tombstone"), None),
        ],
    )
}

/// A record with headers: `build` makes none.
fn with_headers() -> Bytes {
    // Length, attributes, timestamp, offset, key, value, two headers of which one has no value.
    let body = [0, 2, 0, 2, b'k', 4, b'v', b'w', 4, 2, b'a', 2, b'b', 2, b'c', 1];
    let mut batch = BytesMut::from(&wrapped(1, 1, &[&[2 * body.len() as u8][..], &body].concat())[..]);
    batch[22] = 0;
    batch::set_log_append_time(&mut batch, 5);
    batch.freeze()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut idempotent = plain();
    let producer = ProducerStamp {
        id: 7,
        epoch: 1,
        first_sequence: 12,
    };
    batch::set_producer(&mut idempotent, producer);
    let mut seeds = vec![plain().to_vec(), idempotent.to_vec(), with_headers().to_vec()];
    seeds.push([plain(), plain()].concat());
    let compressed = compressed_seeds();
    seeds.extend(
        compressed
            .iter()
            .map(|seed| wrapped(seed[0], i32::from(seed[1]), &seed[2..]).to_vec()),
    );
    seeds
}

/// Three records in each compression, and 200 kB of zeros in each.
pub(super) fn compressed_seeds() -> Vec<Vec<u8>> {
    let plain = plain();
    let records = &plain[HEADER_LEN..];
    let zeros = vec![0; 200_000];
    let mut seeds = Vec::new();
    for code in 1..=5 {
        seeds.push([&[code % 5, 3][..], &compressed(code, records)].concat());
        seeds.push([&[code % 5, 255][..], &compressed(code, &zeros)].concat());
    }
    // 0 is the code that no compression has.
    seeds.retain(|seed| seed[0] != 0);
    seeds.push([&[2, 3][..], &compressed(5, records)].concat());
    seeds
}

/// As clients do it; 5 is snappy in the Java library's framing.
fn compressed(code: u8, bytes: &[u8]) -> Vec<u8> {
    const IN_MEMORY: &str = "memory takes all";
    match code {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        2 => snap::raw::Encoder::new().compress_vec(bytes).expect(IN_MEMORY),
        3 => {
            let mut encoder = lz4::EncoderBuilder::new()
                .block_mode(lz4::BlockMode::Independent)
                .build(Vec::new())
                .expect(IN_MEMORY);
            encoder.write_all(bytes).expect(IN_MEMORY);
            let (out, result) = encoder.finish();
            result.expect(IN_MEMORY);
            out
        }
        4 => zstd::encode_all(bytes, 0).expect(IN_MEMORY),
        _ => {
            let mut out = SNAPPY_HEADER.to_vec();
            for block in bytes.chunks(1000) {
                let block = compressed(2, block);
                out.extend_from_slice(&u32::try_from(block.len()).expect("a small block").to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the fuzzer would look at refusals only.
    #[test]
    fn most_seeds_are_accepted_and_read_by_both_decoders() {
        let mut accepted = 0;
        for seed in seeds() {
            let Ok(header) = BatchHeader::parse_only(&seed) else {
                continue;
            };
            let seed = Bytes::from(seed);
            if batch::validate(&seed, LIMIT).is_ok() {
                what_is_accepted_can_be_read(&seed, &header);
                accepted += 1;
            }
        }
        // Three that are not compressed, and three records in each of five compressions.
        assert_eq!(accepted, 8);
    }

    #[test]
    fn the_seeds_are_what_they_should_be() {
        for seed in seeds() {
            let header = BatchHeader::parse(&seed).unwrap();
            assert_eq!(batch::verify_crc(&seed[..header.length as usize]), Ok(()));
        }
        let mut read = 0;
        for seed in compressed_seeds() {
            let batch = wrapped(seed[0], i32::from(seed[1]), &seed[2..]);
            match batch::records(&batch, LIMIT) {
                Ok(records) => read += records.filter(Result::is_ok).count(),
                Err(error) => assert_eq!(error, BatchError::TooLarge { limit: LIMIT }),
            }
        }
        assert_eq!(read, 5 * 3);
        let headers = batch::records(&with_headers(), 0)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .headers;
        assert_eq!(headers.len(), 2);
    }
}
