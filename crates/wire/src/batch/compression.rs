//! Kafka's four compressions, read with a limit on what comes out.

use super::BatchError;
use std::io::Read;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in the Java library's framing or raw.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878; clients may send it from Produce v7 on (KIP-110).
    Zstd,
}

impl Compression {
    pub(super) fn from_bits(bits: u8) -> Result<Compression, BatchError> {
        match bits {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            other => Err(BatchError::UnknownCompression(other)),
        }
    }

    /// Decompresses, to at most `limit` bytes. Memory follows what really comes out, not what the bytes promise.
    pub(super) fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => read_at_most(flate2::read::MultiGzDecoder::new(bytes), limit),
            Compression::Snappy => snappy(bytes, limit),
            Compression::Lz4 => {
                let decoder = lz4::Decoder::new(bytes).map_err(|_| BatchError::BadCompression)?;
                read_at_most(decoder, limit)
            }
            // The window that a frame may ask for is limited by zstd itself (128 MiB) and becomes resident only as it
            // is written, which `limit` stops.
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|_| BatchError::BadCompression)?;
                read_at_most(decoder, limit)
            }
        }
    }
}

fn read_at_most(reader: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(one_more)
        .read_to_end(&mut out)
        .map_err(|_| BatchError::BadCompression)?;
    if out.len() > limit {
        Err(BatchError::TooLarge { limit })
    } else {
        Ok(out)
    }
}

/// How the Java library's framing begins; two version numbers of four bytes follow.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\x00";
const XERIAL_HEADER_LEN: usize = 16;

/// Either the Java library's framing (blocks with a length each) or one raw block, as the Java client reads it.
fn snappy(bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !bytes.starts_with(XERIAL_MAGIC) {
        snappy_block(bytes, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = bytes.get(XERIAL_HEADER_LEN..).ok_or(BatchError::BadCompression)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(BatchError::BadCompression)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BatchError::BadCompression)?;
        let block = after.get(..length).ok_or(BatchError::BadCompression)?;
        snappy_block(block, limit, &mut out)?;
        rest = &after[length..];
    }
    Ok(out)
}

fn snappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let length = snap::raw::decompress_len(block).map_err(|_| BatchError::BadCompression)?;
    let start = out.len();
    let end = start
        .checked_add(length)
        .filter(|end| *end <= limit)
        .ok_or(BatchError::TooLarge { limit })?;
    // A snappy element of at most three bytes yields at most 64: a promise beyond that is a lie, made to allocate.
    if length > block.len().saturating_mul(64) {
        return Err(BatchError::BadCompression);
    }
    out.resize(end, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|_| BatchError::BadCompression)?;
    out.truncate(start + written);
    Ok(())
}
