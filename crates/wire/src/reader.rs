//! Kafka's primitive types, read with every count and length checked against what is left.

use crate::WireError;
use crate::request::MAX_ELEMENTS;
use std::borrow::Cow;

/// A position in a frame.
pub(crate) struct Reader<'a> {
    frame: &'a [u8],
    position: usize,
    /// Flexible versions have compact lengths and tagged fields (KIP-482).
    flexible: bool,
    /// Array elements and tags that may still come.
    elements_left: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a [u8], flexible: bool) -> Reader<'a> {
        Reader {
            frame,
            position: 0,
            flexible,
            elements_left: MAX_ELEMENTS,
        }
    }

    /// Without a limit to the elements but the frame's length.
    pub(crate) fn without_element_limit(frame: &'a [u8], flexible: bool) -> Reader<'a> {
        Reader {
            elements_left: usize::MAX,
            ..Reader::new(frame, flexible)
        }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn left(&self) -> usize {
        self.frame.len() - self.position
    }

    pub(crate) fn skip(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let taken = self.frame[self.position..].get(..length).ok_or(WireError::Truncated)?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.skip(N)?.try_into().map_err(|_| WireError::Truncated)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, WireError> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<[u8; 16], WireError> {
        self.array()
    }

    pub(crate) fn uvarint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| WireError::Number);
            }
        }
        Err(WireError::Number)
    }

    /// A length or count where -1 is null: a compact one is stored plus one.
    fn nullable_length(&mut self, plain: fn(&mut Self) -> Result<i64, WireError>) -> Result<Option<usize>, WireError> {
        let claimed = if self.flexible {
            i64::from(self.uvarint()?) - 1
        } else {
            plain(self)?
        };
        if claimed == -1 {
            return Ok(None);
        }
        let left = self.left();
        let fits = usize::try_from(claimed).ok().filter(|length| *length <= left);
        fits.map(Some).ok_or(WireError::Count { claimed, left })
    }

    fn plain_i16(&mut self) -> Result<i64, WireError> {
        self.i16().map(i64::from)
    }

    fn plain_i32(&mut self) -> Result<i64, WireError> {
        self.i32().map(i64::from)
    }

    /// A nullable text.
    pub(crate) fn text(&mut self) -> Result<Option<&'a str>, WireError> {
        let Some(length) = self.nullable_length(Reader::plain_i16)? else {
            return Ok(None);
        };
        let bytes = self.skip(length)?;
        core::str::from_utf8(bytes).map(Some).map_err(|_| WireError::Text)
    }

    /// The text of a request header, which stays plain in flexible versions too (KIP-482: brokers must read the client
    /// id of a version that they don't know). It only serves logs and metrics, so what is no UTF-8 in it is replaced, as Kafka
    /// does, and not refused.
    pub(crate) fn plain_text(&mut self) -> Result<Option<Cow<'a, str>>, WireError> {
        let flexible = core::mem::replace(&mut self.flexible, false);
        let length = self.nullable_length(Reader::plain_i16);
        self.flexible = flexible;
        let Some(length) = length? else { return Ok(None) };
        self.skip(length).map(|bytes| Some(String::from_utf8_lossy(bytes)))
    }

    /// A text that is not null.
    pub(crate) fn required_text(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        self.text()?.ok_or(WireError::Null(field))
    }

    /// Nullable bytes.
    pub(crate) fn bytes(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        let Some(length) = self.nullable_length(Reader::plain_i32)? else {
            return Ok(None);
        };
        self.skip(length).map(Some)
    }

    /// The count of a nullable array. An element takes at least one byte, so a count that passes here is at most the
    /// bytes that are left, and at most what is left of [`MAX_ELEMENTS`].
    pub(crate) fn count(&mut self) -> Result<Option<usize>, WireError> {
        let Some(count) = self.nullable_length(Reader::plain_i32)? else {
            return Ok(None);
        };
        self.spend(count)?;
        Ok(Some(count))
    }

    fn spend(&mut self, elements: usize) -> Result<(), WireError> {
        self.elements_left = self
            .elements_left
            .checked_sub(elements)
            .ok_or(WireError::TooManyElements)?;
        Ok(())
    }

    /// An array that is not null, element by element.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.count()?.ok_or(WireError::Null(field))?;
        (0..count).map(|_| element(self)).collect()
    }

    /// Skips the tagged fields that end a structure of a flexible version.
    pub(crate) fn tags(&mut self) -> Result<(), WireError> {
        self.known_tags(|_, _| Ok(()))
    }

    /// Hands every tagged field's number and content to `tag`.
    pub(crate) fn known_tags(
        &mut self,
        mut tag: impl FnMut(u32, &'a [u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.uvarint()? as usize;
        self.spend(count)?;
        for _ in 0..count {
            let number = self.uvarint()?;
            if i32::try_from(number).is_err() {
                return Err(WireError::Number); // Kafka's tags are signed, and not negative
            }
            let length = self.uvarint()? as usize;
            tag(number, self.skip(length)?)?;
        }
        Ok(())
    }
}
