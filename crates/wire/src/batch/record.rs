//! The records inside a batch.

use super::walk::walk;
use super::{BatchError, BatchHeader, Compression, HEADER_LEN, Offset};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use core::ops::ControlFlow;

/// A record has seven fields of at least one byte: length, attributes, timestamp, offset, key, value, header count.
pub(super) const MIN_RECORD_LEN: usize = 7;

/// A header has a key length and a value length of at least one byte each.
const MIN_HEADER_LEN: usize = 2;

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970: the producer's, or the time of appending if the batch says so.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers in order; keys may repeat and need not be UTF-8.
    pub headers: Vec<RecordHeader>,
}

/// A record's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// The records of the batch at the start of `batch`, as slices of it, or of what it decompresses to: at most `limit`
/// bytes, above which the answer is [`BatchError::TooLarge`]. Does not check the CRC.
pub fn records(batch: &Bytes, limit: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let stored = batch.slice(HEADER_LEN..header.length as usize);
    let rest = match header.compression()? {
        Compression::None => stored,
        compressed => Bytes::from(compressed.decompress(&stored, limit)?),
    };
    Ok(Records {
        header,
        rest,
        left: header.record_count,
    })
}

/// The first record whose timestamp is at least `timestamp_ms`, with its timestamp (ListOffsets). Nothing is kept of what
/// is decompressed, at most `limit` bytes. For the rest see [`records`].
pub fn find_timestamp(batch: &[u8], timestamp_ms: i64, limit: usize) -> Result<Option<(Offset, i64)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let mut found = None;
    walk(batch, &header, limit, false, |seen| {
        let timestamp = timestamp_of(&header, seen.timestamp_delta);
        if timestamp < timestamp_ms {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some((offset_of(&header, seen.offset_delta), timestamp));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

fn offset_of(header: &BatchHeader, delta: i32) -> Offset {
    Offset(header.base_offset.0.saturating_add(i64::from(delta)))
}

/// Wraps around as Java's clients do: a base far from zero is met again by a delta of the opposite sign.
fn timestamp_of(header: &BatchHeader, delta: i64) -> i64 {
    if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(delta)
    }
}

/// The iterator of [`records`]: ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    rest: Bytes,
    left: i32,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 && self.rest.is_empty() {
            return None;
        }
        // Bytes after the last record: the count is wrong.
        let record = if self.left == 0 {
            Err(BatchError::BadRecord)
        } else {
            self.read()
        };
        match &record {
            Ok(_) => self.left -= 1,
            Err(_) => (self.left, self.rest) = (0, Bytes::new()),
        }
        Some(record)
    }
}

impl Records {
    fn read(&mut self) -> Result<Record, BatchError> {
        let length = varint(&mut self.rest)?;
        let mut body = take(&mut self.rest, length)?;
        if body.is_empty() {
            return Err(BatchError::BadRecord);
        }
        body.advance(1); // attributes: none is defined
        let timestamp_delta = varlong(&mut body)?;
        let offset_delta = varint(&mut body)?;
        let key = nullable(&mut body)?;
        let value = nullable(&mut body)?;
        let headers = headers(&mut body)?;
        if !body.is_empty() || !(0..=self.header.last_offset_delta).contains(&offset_delta) {
            return Err(BatchError::BadRecord);
        }
        Ok(Record {
            offset: offset_of(&self.header, offset_delta),
            timestamp_ms: timestamp_of(&self.header, timestamp_delta),
            key,
            value,
            headers,
        })
    }
}

fn headers(body: &mut Bytes) -> Result<Vec<RecordHeader>, BatchError> {
    let count = usize::try_from(varint(body)?).map_err(|_| BatchError::BadRecord)?;
    if count > body.len() / MIN_HEADER_LEN {
        return Err(BatchError::BadRecord);
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let key_length = varint(body)?;
        let key = take(body, key_length)?;
        headers.push(RecordHeader {
            key,
            value: nullable(body)?,
        });
    }
    Ok(headers)
}

/// Bytes behind their length, where -1 is null.
fn nullable(body: &mut Bytes) -> Result<Option<Bytes>, BatchError> {
    match varint(body)? {
        -1 => Ok(None),
        length => take(body, length).map(Some),
    }
}

fn take(bytes: &mut Bytes, length: i32) -> Result<Bytes, BatchError> {
    let length = usize::try_from(length).map_err(|_| BatchError::BadRecord)?;
    if length > bytes.len() {
        Err(BatchError::BadRecord)
    } else {
        Ok(bytes.split_to(length))
    }
}

/// A zigzag varint of at most 32 bits.
fn varint(bytes: &mut Bytes) -> Result<i32, BatchError> {
    i32::try_from(varlong(bytes)?).map_err(|_| BatchError::BadRecord)
}

/// A zigzag varint of at most 64 bits.
fn varlong(bytes: &mut Bytes) -> Result<i64, BatchError> {
    let mut raw = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.first().copied().ok_or(BatchError::BadRecord)?;
        bytes.advance(1);
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    Err(BatchError::BadRecord)
}

fn put_varint(out: &mut BytesMut, value: i32) {
    let mut raw = ((value << 1) ^ (value >> 31)) as u32;
    while raw >= 0x80 {
        out.put_u8(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw as u8);
}

fn varint_len(value: i32) -> usize {
    let raw = ((value << 1) ^ (value >> 31)) as u32;
    (38 - (raw | 1).leading_zeros() as usize) / 7
}

/// No fewer bytes than the record will need.
pub(super) fn max_len(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
    let bytes = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    // Four varints of up to five bytes, and three single bytes.
    23 + bytes(key) + bytes(value)
}

/// Appends a record whose timestamp is the batch's base timestamp, and that has no headers.
pub(super) fn encode(out: &mut BytesMut, offset_delta: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
    let length = 3 + varint_len(offset_delta) + nullable_len(key) + nullable_len(value);
    put_varint(out, i32::try_from(length).expect("a record is shorter than 2 GiB"));
    out.put_u8(0); // attributes
    out.put_u8(0); // timestamp delta
    put_varint(out, offset_delta);
    put_nullable(out, key);
    put_nullable(out, value);
    out.put_u8(0); // headers
}

fn field_len(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("a field is shorter than 2 GiB")
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(field_len(bytes)) + bytes.len())
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, field_len(bytes));
            out.put_slice(bytes);
        }
    }
}
