//! Kafka's four compressions, read as a stream, with a limit on what comes out.

use super::{BatchError, HEADER_LEN};
use core::ops::Range;
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

    pub(super) fn to_bits(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// Decompresses, to at most `limit` bytes. Memory follows what really comes out, not what the bytes promise.
    pub(super) fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        /// Read at a time.
        const CHUNK: usize = 64 * 1024;
        let Some(mut decoder) = Decoder::new(self, bytes, limit)? else {
            return Ok(bytes.to_vec());
        };
        let mut out = Vec::new();
        loop {
            let filled = out.len();
            out.resize(filled + CHUNK, 0);
            let read = decoder.read(&mut out[filled..])?;
            out.truncate(filled + read);
            match read {
                0 => return Ok(out),
                _ if out.len() > limit => return Err(BatchError::TooLarge { limit }),
                _ => {}
            }
        }
    }
}

/// What reading a batch's records takes. Told from the first bytes, before anything is decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressionCost {
    /// Bytes of memory, at most.
    pub memory: usize,
    /// Bytes that are decompressed in one piece, so that a limit on what comes out is noticed only after them.
    pub piece: usize,
}

/// What reading the records of a batch takes, if they may decompress to `limit` bytes. Zero if they are not compressed.
pub fn decompression_cost(batch: &[u8], limit: usize) -> Result<DecompressionCost, BatchError> {
    let compression = super::BatchHeader::parse_only(batch)?.compression()?;
    let bytes = &batch[HEADER_LEN..];
    /// Blocks of deflate and zstd, and the buffers and tables around them.
    const SMALL: usize = 256 * 1024;
    let (memory, piece) = match compression {
        Compression::None => (0, 0),
        Compression::Gzip => (SMALL, SMALL),
        Compression::Snappy => {
            let block = largest_snappy_block(bytes);
            (block + SMALL, block)
        }
        Compression::Lz4 => {
            let block = lz4_block(bytes);
            (2 * block + SMALL, block)
        }
        Compression::Zstd => ((1 << window_log(bytes)) + SMALL, SMALL),
    };
    Ok(DecompressionCost {
        memory: memory.min(limit.saturating_add(SMALL)),
        piece: piece.min(limit),
    })
}

/// A stream of decompressed bytes.
pub(super) enum Decoder<'a> {
    /// One member or several, as Java's `GZIPInputStream` reads them.
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyBlocks<'a>),
    /// The first frame.
    Lz4(lz4::Decoder<&'a [u8]>),
    /// One frame or several.
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decoder<'a> {
    /// None if nothing is compressed. `limit` is how much may come out; it is enforced here only where a single piece
    /// would exceed it.
    pub(super) fn new(
        compression: Compression,
        bytes: &'a [u8],
        limit: usize,
    ) -> Result<Option<Decoder<'a>>, BatchError> {
        let decoder = match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(bytes))),
            Compression::Snappy => Decoder::Snappy(SnappyBlocks::new(bytes, limit)?),
            Compression::Lz4 => Decoder::Lz4(lz4::Decoder::new(bytes).map_err(|_| BatchError::BadCompression)?),
            Compression::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| BatchError::BadCompression)?;
                // A later frame must not ask for more memory than the first one announced.
                decoder
                    .window_log_max(window_log(bytes))
                    .map_err(|_| BatchError::BadCompression)?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Some(decoder))
    }

    /// Some bytes; zero at the end.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        let read = match self {
            Decoder::Gzip(decoder) => decoder.read(out),
            Decoder::Snappy(blocks) => return blocks.read(out),
            Decoder::Lz4(decoder) => decoder.read(out),
            Decoder::Zstd(decoder) => decoder.read(out),
        };
        read.map_err(|_| BatchError::BadCompression)
    }

    /// Checks, after everything was read, that the compressed bytes were whole and nothing follows them. Gzip, snappy and
    /// zstd have read to the end by then. An lz4 frame ends by itself: what follows it, Java's client doesn't see, and
    /// librdkafka refuses.
    pub(super) fn finish(self) -> Result<(), BatchError> {
        let Decoder::Lz4(decoder) = self else { return Ok(()) };
        match decoder.finish() {
            ([], Ok(())) => Ok(()),
            _ => Err(BatchError::BadCompression),
        }
    }
}

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Checks that the bytes begin with an lz4 frame that Java's client reads (`Lz4BlockOutputStream.FLG.validate`): version 1,
/// independent blocks, no dictionary.
pub(super) fn check_lz4_frame(bytes: &[u8]) -> Result<(), BatchError> {
    const VERSION_AND_INDEPENDENCE: u8 = 0b1110_0000;
    const RESERVED: u8 = 0b0000_0011;
    match bytes {
        [m0, m1, m2, m3, flags, ..] if [*m0, *m1, *m2, *m3] == LZ4_MAGIC => {
            if flags & VERSION_AND_INDEPENDENCE == 0b0110_0000 && flags & RESERVED == 0 {
                Ok(())
            } else {
                Err(BatchError::UnreadableFrame)
            }
        }
        _ => Err(BatchError::BadCompression),
    }
}

/// The largest block of an lz4 frame, from its descriptor: 64 KiB to 4 MiB.
fn lz4_block(bytes: &[u8]) -> usize {
    let code = bytes.get(5).map_or(7, |descriptor| (descriptor >> 4) & 0b111);
    1 << (8 + 2 * u32::from(code.clamp(4, 7)))
}

/// The least that every decoder of zstd should take (RFC 8878, 3.1.1.1.2): 8 MiB. Encoders stay within it up to level 19.
const MIN_WINDOW_LOG: u32 = 23;
/// The most that zstd itself takes unless it is told otherwise, in C as in Java: 128 MiB.
const MAX_WINDOW_LOG: u32 = 27;

/// The logarithm of the memory that the first frame of zstd asks for, within the bounds.
fn window_log(bytes: &[u8]) -> u32 {
    let window = first_window(bytes).unwrap_or(0);
    let log = u64::BITS - window.saturating_sub(1).leading_zeros();
    log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG)
}

/// The window of the first frame that is not skippable (RFC 8878, 3.1.1.1).
fn first_window(mut bytes: &[u8]) -> Option<u64> {
    const FRAME: u32 = 0xfd2f_b528;
    const SKIPPABLE: Range<u32> = 0x184d_2a50..0x184d_2a60;
    loop {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let magic = u32::from_le_bytes(*magic);
        if SKIPPABLE.contains(&magic) {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            bytes = rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)?;
            continue;
        }
        if magic != FRAME {
            return None;
        }
        let (descriptor, rest) = rest.split_first()?;
        let is_single_segment = descriptor & (1 << 5) != 0;
        if !is_single_segment {
            let window = u64::from(*rest.first()?);
            let base = 1u64 << (10 + (window >> 3));
            return Some(base + base / 8 * (window & 0b111));
        }
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
        let size = rest.get(dictionary..)?;
        return match descriptor >> 6 {
            0 => size.first().map(|size| u64::from(*size)),
            1 => size
                .first_chunk::<2>()
                .map(|size| u64::from(u16::from_le_bytes(*size)) + 256),
            2 => size.first_chunk::<4>().map(|size| u64::from(u32::from_le_bytes(*size))),
            _ => size.first_chunk::<8>().map(|size| u64::from_le_bytes(*size)),
        };
    }
}

/// How the Java library's framing begins; two version numbers of four bytes follow.
pub(super) const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\x00";
const XERIAL_HEADER_LEN: usize = 16;

/// Either the Java library's framing (blocks with a length each, several streams one after another) or one raw block, as
/// the Java client reads it.
pub(super) struct SnappyBlocks<'a> {
    rest: &'a [u8],
    is_framed: bool,
    /// How much more may come out.
    left: usize,
    limit: usize,
    /// The block that is being read, and how far.
    block: Vec<u8>,
    at: usize,
}

impl<'a> SnappyBlocks<'a> {
    fn new(bytes: &'a [u8], limit: usize) -> Result<SnappyBlocks<'a>, BatchError> {
        let is_framed = bytes.starts_with(XERIAL_MAGIC);
        Ok(SnappyBlocks {
            rest: if is_framed { after_xerial_header(bytes)? } else { bytes },
            is_framed,
            left: limit,
            limit,
            block: Vec::new(),
            at: 0,
        })
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        while self.at == self.block.len() {
            let Some(block) = self.next_block()? else { return Ok(0) };
            self.decompress(block)?;
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }

    /// The next compressed block; none at the end.
    fn next_block(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        if !self.is_framed {
            let block = std::mem::take(&mut self.rest);
            return Ok((!block.is_empty()).then_some(block));
        }
        while self.rest.starts_with(XERIAL_MAGIC) {
            self.rest = after_xerial_header(self.rest)?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (block, rest) = framed_block(self.rest).ok_or(BatchError::BadCompression)?;
        self.rest = rest;
        Ok(Some(block))
    }

    fn decompress(&mut self, block: &[u8]) -> Result<(), BatchError> {
        let length = snap::raw::decompress_len(block).map_err(|_| BatchError::BadCompression)?;
        let limit = self.limit;
        self.left = self.left.checked_sub(length).ok_or(BatchError::TooLarge { limit })?;
        if length > possible(block) {
            return Err(BatchError::BadCompression);
        }
        self.at = 0;
        self.block.resize(length, 0);
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(|_| BatchError::BadCompression)?;
        self.block.truncate(written);
        Ok(())
    }
}

/// A snappy element of at most three bytes yields at most 64: a promise beyond that is a lie, made to allocate.
fn possible(block: &[u8]) -> usize {
    block.len().saturating_mul(64)
}

/// What follows the header of the Java library's framing, of a version that it reads.
fn after_xerial_header(bytes: &[u8]) -> Result<&[u8], BatchError> {
    let (header, rest) = bytes
        .split_first_chunk::<XERIAL_HEADER_LEN>()
        .ok_or(BatchError::BadCompression)?;
    match i32::from_be_bytes([header[8], header[9], header[10], header[11]]) {
        1.. => Ok(rest),
        _ => Err(BatchError::BadCompression),
    }
}

/// A block behind its length, and what follows it.
fn framed_block(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, after) = bytes.split_first_chunk::<4>()?;
    after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// What the largest block says to decompress to, as far as that is possible.
fn largest_snappy_block(bytes: &[u8]) -> usize {
    let promised = |block: &[u8]| snap::raw::decompress_len(block).unwrap_or(0).min(possible(block));
    if !bytes.starts_with(XERIAL_MAGIC) {
        return promised(bytes);
    }
    let mut largest = 0;
    let mut rest = bytes;
    loop {
        while rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).unwrap_or_default();
        }
        let Some((block, after)) = framed_block(rest) else {
            return largest;
        };
        largest = largest.max(promised(block));
        rest = after;
    }
}
