//! Kafka's primitive types.

use super::DecodeError;

/// A reader that never reads past the end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed)
        }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string behind a length of two bytes.
    pub(super) fn string(&mut self) -> Result<String, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError::Malformed)
    }

    /// A string behind a length of two bytes, which is −1 for none.
    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, DecodeError> {
        match self.i16()? {
            -1 => Ok(None),
            length => self
                .text(length.try_into().map_err(|_| DecodeError::Malformed)?)
                .map(Some),
        }
    }

    /// A string behind its length and one as a varint.
    pub(super) fn compact_string(&mut self) -> Result<String, DecodeError> {
        self.compact_nullable_string()?.ok_or(DecodeError::Malformed)
    }

    /// A string behind its length and one as a varint, which is zero for none.
    pub(super) fn compact_nullable_string(&mut self) -> Result<Option<String>, DecodeError> {
        match self.compact_length()? {
            None => Ok(None),
            Some(length) => self.text(length).map(Some),
        }
    }

    /// Bytes behind a length of four bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.i32()?;
        self.take(length.try_into().map_err(|_| DecodeError::Malformed)?)
    }

    /// Bytes behind their length and one as a varint.
    pub(super) fn compact_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.compact_length()?.ok_or(DecodeError::Malformed)?;
        self.take(length)
    }

    /// A count of four bytes, of things that take at least `size` bytes each.
    pub(super) fn count(&mut self, size: usize) -> Result<usize, DecodeError> {
        let count = self.i32()?.try_into().map_err(|_| DecodeError::Malformed)?;
        self.check_count(count, size)
    }

    /// A count and one as a varint, of things that take at least `size` bytes each.
    pub(super) fn compact_count(&mut self, size: usize) -> Result<usize, DecodeError> {
        let count = self.compact_length()?.ok_or(DecodeError::Malformed)?;
        self.check_count(count, size)
    }

    /// Tagged fields, each with its tag.
    pub(super) fn tagged(
        &mut self,
        mut each: impl FnMut(u32, &'a [u8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut earlier = None;
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            // In rising order, each once.
            if earlier.is_some_and(|earlier| earlier >= tag) {
                return Err(DecodeError::Malformed);
            }
            earlier = Some(tag);
            let length = self.varint()?.try_into().map_err(|_| DecodeError::Malformed)?;
            each(tag, self.take(length)?)?;
        }
        Ok(())
    }

    fn check_count(&self, count: usize, size: usize) -> Result<usize, DecodeError> {
        if count.checked_mul(size).is_some_and(|bytes| bytes <= self.rest.len()) {
            Ok(count)
        } else {
            Err(DecodeError::Malformed)
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.varint()?.checked_sub(1) {
            None => Ok(None),
            Some(length) => length.try_into().map(Some).map_err(|_| DecodeError::Malformed),
        }
    }

    fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Malformed);
            }
        }
        Err(DecodeError::Malformed)
    }

    /// A text that can be written again: no string of Kafka's is longer, whatever a varint may say.
    fn text(&mut self, length: usize) -> Result<String, DecodeError> {
        if length > usize::from(i16::MAX.unsigned_abs()) {
            return Err(DecodeError::Malformed);
        }
        let text = core::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Malformed)?;
        Ok(text.to_owned())
    }
}

/// Puts a string behind a length of two bytes.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("limits are below 32,767 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Puts a string, or none, behind a length of two bytes.
pub(super) fn put_nullable_string(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.extend_from_slice(&(-1_i16).to_be_bytes()),
    }
}

/// Puts bytes behind a length of four bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Puts a count of four bytes.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = i32::try_from(count).expect("limits are below 2 GiB");
    out.extend_from_slice(&count.to_be_bytes());
}

/// Puts a string behind its length and one as a varint.
pub(super) fn put_compact_string(out: &mut Vec<u8>, text: &str) {
    let mut length = u32::try_from(text.len() + 1).expect("limits are below 4 GiB");
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("seven bits"));
    out.extend_from_slice(text.as_bytes());
}
