//! What checking a producer's batch costs: header and CRC alone, and with all of its records read.
//!
//! ```text
//! cargo run --release -p trimaran-wire --example validation_cost
//! ```

use bytes::{Bytes, BytesMut};
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};
use trimaran_wire::batch::{self, BatchHeader, HEADER_LEN, KeyValue};

/// How long each figure is measured.
const MEASURED: Duration = Duration::from_millis(400);
const LIMIT: usize = 128 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("| batch | records | compression | CRC and copy, ms/GB | with records, ms/GB | ns a record |");
    println!("|---:|---:|---|---:|---:|---:|");
    for batch_bytes in [16 << 10, 1 << 20] {
        for record_bytes in [100, 1024] {
            for code in 0..=4 {
                measure(batch_bytes, record_bytes, code)?;
            }
        }
    }
    Ok(())
}

/// GB are of records, not of what they are compressed to.
fn measure(batch_bytes: usize, record_bytes: usize, code: u8) -> Result<(), Box<dyn std::error::Error>> {
    let count = batch_bytes / record_bytes;
    let values = values(count, record_bytes);
    let pairs: Vec<KeyValue<'_>> = values.iter().map(|value| (None, Some(&value[..]))).collect();
    let plain = batch::build(1_700_000_000_000, &pairs);
    let batch = compressed(&plain, code)?;
    let before = time(|| {
        black_box(BatchHeader::parse_only(&batch)).ok();
        black_box(batch::verify_crc(&batch)).ok();
        black_box(BytesMut::from(&batch[..]));
    });
    let after = time(|| {
        black_box(batch::verify_crc(&batch)).ok();
        black_box(batch::validate(&batch, LIMIT)).ok();
        black_box(BytesMut::from(&batch[..]));
    });
    batch::validate(&batch, LIMIT)?;
    let per_gb = |time: Duration| time.as_secs_f64() * 1e3 * 1e9 / plain.len() as f64;
    println!(
        "| {} KiB | {record_bytes} B | {} | {:.0} | {:.0} | {:.1} |",
        batch_bytes >> 10,
        ["none", "gzip", "snappy", "lz4", "zstd"][usize::from(code)],
        per_gb(before),
        per_gb(after),
        after.saturating_sub(before).as_nanos() as f64 / count as f64,
    );
    Ok(())
}

/// The median of some rounds.
fn time(mut work: impl FnMut()) -> Duration {
    let mut rounds = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < MEASURED {
        let round = Instant::now();
        for _ in 0..16 {
            work();
        }
        rounds.push(round.elapsed() / 16);
    }
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

/// Text of which about half can be compressed away.
fn values(count: usize, length: usize) -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let words: Vec<Vec<u8>> = (0..512).map(|_| (0..6).map(|_| b'a' + next() % 26).collect()).collect();
    let mut value = || -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 6);
        while out.len() < length {
            out.extend_from_slice(&words[usize::from(next()) * 2]);
        }
        out.truncate(length);
        out
    };
    (0..count).map(|_| value()).collect()
}

fn compressed(plain: &[u8], code: u8) -> Result<Bytes, Box<dyn std::error::Error>> {
    let (header, records) = plain.split_at(HEADER_LEN);
    let payload = match code {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(records)?;
            encoder.finish()?
        }
        2 => snap::raw::Encoder::new().compress_vec(records)?,
        3 => {
            let mut encoder = lz4::EncoderBuilder::new()
                .block_mode(lz4::BlockMode::Independent)
                .build(Vec::new())?;
            encoder.write_all(records)?;
            let (out, result) = encoder.finish();
            result?;
            out
        }
        4 => zstd::encode_all(records, 3)?,
        _ => records.to_vec(),
    };
    let mut batch = BytesMut::from(&[header, &payload[..]].concat()[..]);
    let length = i32::try_from(batch.len() - 12)?;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = code;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(batch.freeze())
}
