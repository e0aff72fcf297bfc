//! Going through a batch's records without keeping them: as they lie in the batch, or as they are decompressed.

use super::compression::Decoder;
use super::{BatchError, BatchHeader, Compression, HEADER_LEN};
use core::ops::ControlFlow;

/// Decompressed bytes that are held at a time.
const BUFFER_LEN: usize = 16 * 1024;

/// A header has a key length and a value length of at least one byte each.
const MIN_HEADER_LEN: u64 = 2;

/// What is looked at in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its place in the batch, from zero.
    pub(super) position: i32,
    /// Its offset, relative to the batch's.
    pub(super) offset_delta: i32,
    /// Its timestamp, relative to the batch's.
    pub(super) timestamp_delta: i64,
}

/// Goes through the records in order until `visit` breaks off, which is not asked about a record before all of it was read.
/// If it doesn't, there are exactly as many records as the header counts, and nothing else.
///
/// Records may decompress to `limit` bytes. `is_strict` also refuses compressed bytes that some client can't read, or does
/// not read to the end.
pub(super) fn walk(
    batch: &[u8],
    header: &BatchHeader,
    limit: usize,
    is_strict: bool,
    visit: impl FnMut(Seen) -> Result<ControlFlow<()>, BatchError>,
) -> Result<(), BatchError> {
    let stored = batch
        .get(HEADER_LEN..header.length as usize)
        .ok_or(BatchError::Truncated)?;
    let compression = header.compression()?;
    if is_strict && compression == Compression::Lz4 {
        super::compression::check_lz4_frame(stored)?;
    }
    match Decoder::new(compression, stored, limit)? {
        None => walk_input(header, &mut Slice { rest: stored, read: 0 }, visit).map(|_| ()),
        Some(decoder) => {
            let mut stream = Stream::new(decoder, limit);
            match walk_input(header, &mut stream, visit)? {
                ControlFlow::Continue(()) if is_strict => stream.decoder.finish(),
                ControlFlow::Continue(()) | ControlFlow::Break(()) => Ok(()),
            }
        }
    }
}

fn walk_input<I: Input>(
    header: &BatchHeader,
    input: &mut I,
    mut visit: impl FnMut(Seen) -> Result<ControlFlow<()>, BatchError>,
) -> Result<ControlFlow<()>, BatchError> {
    for position in 0..header.record_count {
        let (timestamp_delta, offset_delta) = record(input).map_err(|wrong| wrong.of_record(position))?;
        if !(0..=header.last_offset_delta).contains(&offset_delta) {
            let what = "its offset is outside of the batch";
            return Err(BatchError::InvalidRecord { position, what });
        }
        let seen = Seen {
            position,
            offset_delta,
            timestamp_delta,
        };
        if visit(seen)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    if input.is_at_end()? {
        Ok(ControlFlow::Continue(()))
    } else {
        Err(BatchError::MoreRecords)
    }
}

/// Reads a record, and returns its timestamp delta and offset delta.
fn record<I: Input>(input: &mut I) -> Result<(i64, i32), Wrong> {
    let length = u64::try_from(varint(input)?).map_err(|_| Wrong::Record("its length is negative"))?;
    let end = input.position() + length;
    input.byte()?; // attributes: none is defined
    let timestamp_delta = varlong(input)?;
    let offset_delta = varint(input)?;
    field(input, end)?; // key
    field(input, end)?; // value
    let headers = u64::try_from(varint(input)?).map_err(|_| Wrong::Record("its number of headers is negative"))?;
    if headers > left(input, end) / MIN_HEADER_LEN {
        return Err(Wrong::Record("it says to have more headers than fit"));
    }
    for _ in 0..headers {
        match varint(input)? {
            length @ 0.. => bytes(input, end, length)?,
            _ => return Err(Wrong::Record("a header has no key")),
        }
        field(input, end)?;
    }
    if input.position() == end {
        Ok((timestamp_delta, offset_delta))
    } else {
        Err(Wrong::Record("its length is not that of its fields"))
    }
}

/// Bytes behind their length, where -1 is null. Any other negative length is null to Java's client, and an error to others.
fn field<I: Input>(input: &mut I, end: u64) -> Result<(), Wrong> {
    match varint(input)? {
        -1 => Ok(()),
        length @ 0.. => bytes(input, end, length),
        _ => Err(Wrong::Record("a field's length is negative")),
    }
}

fn bytes<I: Input>(input: &mut I, end: u64, length: i32) -> Result<(), Wrong> {
    let length = length.unsigned_abs();
    if u64::from(length) > left(input, end) {
        return Err(Wrong::Record("a field is longer than the record"));
    }
    input.skip(length as usize)
}

/// Bytes of the record that are still to come.
fn left<I: Input>(input: &I, end: u64) -> u64 {
    end.saturating_sub(input.position())
}

/// A zigzag varint of at most 32 bits, which is to say five bytes.
#[inline]
fn varint<I: Input>(input: &mut I) -> Result<i32, Wrong> {
    let mut raw = u32::from(input.byte()?);
    if raw >= 0x80 {
        raw &= 0x7f;
        let mut shift = 7;
        loop {
            let byte = input.byte()?;
            if shift == 28 && byte > 0x0f {
                return Err(Wrong::Record("a number takes more than 32 bits"));
            }
            raw |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
    }
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// A zigzag varint of at most 64 bits, which is to say ten bytes.
#[inline]
fn varlong<I: Input>(input: &mut I) -> Result<i64, Wrong> {
    let mut raw = 0;
    let mut shift = 0;
    loop {
        let byte = input.byte()?;
        if shift == 63 && byte > 1 {
            return Err(Wrong::Record("a number takes more than 64 bits"));
        }
        raw |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
        shift += 7;
    }
}

/// Why a record can't be read.
enum Wrong {
    /// The bytes that it is in can't be had.
    Batch(BatchError),
    /// It does not follow the format.
    Record(&'static str),
}

impl Wrong {
    fn of_record(self, position: i32) -> BatchError {
        match self {
            Wrong::Batch(error) => error,
            Wrong::Record(what) => BatchError::InvalidRecord { position, what },
        }
    }
}

const CUT_SHORT: Wrong = Wrong::Record("the batch ends before it does");

/// The bytes of the records, one after another.
trait Input {
    fn byte(&mut self) -> Result<u8, Wrong>;
    fn skip(&mut self, count: usize) -> Result<(), Wrong>;
    /// Bytes read so far.
    fn position(&self) -> u64;
    fn is_at_end(&mut self) -> Result<bool, BatchError>;
}

/// Records that are not compressed.
struct Slice<'a> {
    rest: &'a [u8],
    read: u64,
}

impl Input for Slice<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Wrong> {
        let (byte, rest) = self.rest.split_first().ok_or(CUT_SHORT)?;
        self.rest = rest;
        self.read += 1;
        Ok(*byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), Wrong> {
        self.rest = self.rest.get(count..).ok_or(CUT_SHORT)?;
        self.read += count as u64;
        Ok(())
    }

    fn position(&self) -> u64 {
        self.read
    }

    fn is_at_end(&mut self) -> Result<bool, BatchError> {
        Ok(self.rest.is_empty())
    }
}

/// Records that are being decompressed.
struct Stream<'a> {
    decoder: Decoder<'a>,
    buffer: Vec<u8>,
    /// What of the buffer is still to be read.
    at: usize,
    end: usize,
    /// Bytes read before those in the buffer.
    before: u64,
    limit: usize,
}

impl<'a> Stream<'a> {
    fn new(decoder: Decoder<'a>, limit: usize) -> Stream<'a> {
        Stream {
            decoder,
            buffer: vec![0; BUFFER_LEN],
            at: 0,
            end: 0,
            before: 0,
            limit,
        }
    }

    /// Fills the empty buffer; whether anything came.
    fn fill(&mut self) -> Result<bool, BatchError> {
        self.before += self.end as u64;
        (self.at, self.end) = (0, 0);
        self.end = self.decoder.read(&mut self.buffer)?;
        if self.before + self.end as u64 > self.limit as u64 {
            return Err(BatchError::TooLarge { limit: self.limit });
        }
        Ok(self.end > 0)
    }
}

impl Input for Stream<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Wrong> {
        if self.at == self.end && !self.fill().map_err(Wrong::Batch)? {
            return Err(CUT_SHORT);
        }
        let byte = self.buffer[self.at];
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, mut count: usize) -> Result<(), Wrong> {
        loop {
            let here = count.min(self.end - self.at);
            self.at += here;
            count -= here;
            if count == 0 {
                return Ok(());
            }
            if !self.fill().map_err(Wrong::Batch)? {
                return Err(CUT_SHORT);
            }
        }
    }

    fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    fn is_at_end(&mut self) -> Result<bool, BatchError> {
        Ok(self.at == self.end && !self.fill()?)
    }
}
