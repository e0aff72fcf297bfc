//! Compressing a batch's records in another way than its producer did: a topic's `compression.type`.

use super::compression::Decoder;
use super::{BatchError, BatchHeader, Compression, HEADER_LEN, LENGTH_OVERHEAD, at, bits, put, write_crc};
use bytes::BytesMut;
use std::io::{self, Write};
use zstd::zstd_safe::CParameter;

/// How records are to be compressed, and how hard it is tried. Levels are those of the compression's own library, and are cut off
/// at its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    /// Not at all.
    None,
    /// 1 to 9; the library's default if it is negative.
    Gzip(i32),
    /// In the Java library's framing. There are no levels.
    Snappy,
    /// 1 to 17, as Java's library counts. Above 12 there is no difference.
    Lz4(i32),
    /// -131,072 to 22.
    Zstd(i32),
}

impl Compressor {
    /// The compression that comes out.
    pub fn compression(self) -> Compression {
        match self {
            Compressor::None => Compression::None,
            Compressor::Gzip(_) => Compression::Gzip,
            Compressor::Snappy => Compression::Snappy,
            Compressor::Lz4(_) => Compression::Lz4,
            Compressor::Zstd(_) => Compression::Zstd,
        }
    }

    /// Bytes of memory that compressing takes, at most, without what comes out.
    pub fn memory(self) -> usize {
        match self {
            Compressor::None => 0,
            // Tables and a block: 64 KiB here as in what readers of lz4 are sent.
            Compressor::Snappy | Compressor::Gzip(_) | Compressor::Lz4(_) => 512 << 10,
            Compressor::Zstd(level) if level <= LAST_SMALL_ZSTD_LEVEL => 32 << 20,
            // The window, two tables of four bytes for each of its positions, and the search for the best of several ways.
            Compressor::Zstd(_) => 9 * (1 << MAX_ZSTD_WINDOW_LOG) + (8 << 20),
        }
    }
}

/// The last level of zstd that takes no more than 32 MiB by itself. The highest takes 800 MiB.
const LAST_SMALL_ZSTD_LEVEL: i32 = 9;

/// The window of higher levels, 4 MiB: larger than most batches are.
const MAX_ZSTD_WINDOW_LOG: u32 = 22;

/// The batch with its records compressed in this way; offsets, timestamps and producer stay as they are, and the CRC is right. The
/// batch must have been validated ([`super::validate`]); its records may decompress to `limit` bytes.
///
/// # Errors
/// [`BatchError::Grown`] if it would be longer than `max_len` bytes; otherwise as [`super::validate`].
pub fn recompress(batch: &[u8], to: Compressor, limit: usize, max_len: usize) -> Result<BytesMut, BatchError> {
    /// Decompressed at a time.
    const CHUNK: usize = 64 * 1024;
    let header = BatchHeader::parse_only(batch)?;
    let (head, stored) = batch.split_at_checked(HEADER_LEN).ok_or(BatchError::Truncated)?;
    let mut out = BytesMut::with_capacity(batch.len().min(max_len));
    out.extend_from_slice(head);
    let mut encoder = Encoder::new(to, Limited { out, max_len }).map_err(|error| failed(&error, max_len))?;
    match Decoder::new(header.compression()?, stored, limit)? {
        None => encoder.write(stored).map_err(|error| failed(&error, max_len))?,
        Some(mut decoder) => {
            let (mut chunk, mut total) = (vec![0; CHUNK], 0);
            loop {
                let read = decoder.read(&mut chunk)?;
                total += read;
                if read == 0 {
                    break;
                }
                if total > limit {
                    return Err(BatchError::TooLarge { limit });
                }
                encoder.write(&chunk[..read]).map_err(|error| failed(&error, max_len))?;
            }
            decoder.finish()?;
        }
    }
    let mut out = encoder.finish().map_err(|error| failed(&error, max_len))?;
    let length = i32::try_from(out.len() - LENGTH_OVERHEAD).map_err(|_| BatchError::Grown { limit: max_len })?;
    put(&mut out, at::LENGTH, &length.to_be_bytes());
    let attributes = (header.attributes & !bits::COMPRESSION) | i16::from(to.compression().to_bits());
    put(&mut out, at::ATTRIBUTES, &attributes.to_be_bytes());
    write_crc(&mut out);
    Ok(out)
}

/// The level, and what keeps its memory within bounds.
fn zstd_parameters(level: i32) -> Vec<CParameter> {
    let mut parameters = vec![CParameter::CompressionLevel(level.clamp(-131_072, 22))];
    if level > LAST_SMALL_ZSTD_LEVEL {
        parameters.extend([
            CParameter::WindowLog(MAX_ZSTD_WINDOW_LOG),
            CParameter::HashLog(MAX_ZSTD_WINDOW_LOG),
            CParameter::ChainLog(MAX_ZSTD_WINDOW_LOG),
        ]);
    }
    parameters
}

/// Writing to memory fails at the limit only.
fn failed(error: &io::Error, max_len: usize) -> BatchError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => BatchError::Grown { limit: max_len },
        _ => BatchError::BadCompression,
    }
}

/// What comes out, up to a limit.
struct Limited {
    out: BytesMut,
    max_len: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max_len.saturating_sub(self.out.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that is being compressed.
enum Encoder {
    None(Limited),
    Gzip(flate2::write::GzEncoder<Limited>),
    Snappy(Box<SnappyStream>),
    Lz4(lz4::Encoder<Limited>),
    Zstd(zstd::stream::write::Encoder<'static, Limited>),
}

impl Encoder {
    fn new(to: Compressor, out: Limited) -> io::Result<Encoder> {
        Ok(match to {
            Compressor::None => Encoder::None(out),
            Compressor::Gzip(level) => {
                let level = u32::try_from(level).map_or(flate2::Compression::default(), |level| {
                    flate2::Compression::new(level.min(9))
                });
                Encoder::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            Compressor::Snappy => Encoder::Snappy(Box::new(SnappyStream::new(out)?)),
            // Independent blocks of 64 KiB: Java's client reads no others, and needs no more memory for these.
            Compressor::Lz4(level) => Encoder::Lz4(
                lz4::EncoderBuilder::new()
                    .level(level.clamp(1, 12).unsigned_abs())
                    .block_size(lz4::BlockSize::Max64KB)
                    .block_mode(lz4::BlockMode::Independent)
                    .checksum(lz4::ContentChecksum::NoChecksum)
                    .build(out)?,
            ),
            Compressor::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(out, 0)?;
                for parameter in zstd_parameters(level) {
                    encoder.set_parameter(parameter)?;
                }
                Encoder::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::None(out) => out.write_all(bytes),
            Encoder::Gzip(encoder) => encoder.write_all(bytes),
            Encoder::Snappy(encoder) => encoder.write(bytes),
            Encoder::Lz4(encoder) => encoder.write_all(bytes),
            Encoder::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<BytesMut> {
        let out = match self {
            Encoder::None(out) => out,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Snappy(encoder) => encoder.finish()?,
            Encoder::Lz4(encoder) => {
                let (out, result) = encoder.finish();
                result?;
                out
            }
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        Ok(out.out)
    }
}

/// The Java library's framing: a header, and blocks behind their length.
struct SnappyStream {
    out: Limited,
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
}

/// As Java's clients write them.
const SNAPPY_BLOCK: usize = 32 * 1024;

impl SnappyStream {
    fn new(mut out: Limited) -> io::Result<SnappyStream> {
        out.write_all(super::compression::XERIAL_MAGIC)?;
        // The version, and the lowest that can read it.
        out.write_all(&[0, 0, 0, 1, 0, 0, 0, 1])?;
        Ok(SnappyStream {
            out,
            block: Vec::with_capacity(SNAPPY_BLOCK),
            encoder: snap::raw::Encoder::new(),
        })
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(SNAPPY_BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == SNAPPY_BLOCK {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let compressed = self.encoder.compress_vec(&self.block).map_err(io::Error::other)?;
        self.block.clear();
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&compressed)
    }

    fn finish(mut self) -> io::Result<Limited> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests;
