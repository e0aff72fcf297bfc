//! Kafka's primitive types, written.

use bytes::{BufMut, Bytes, BytesMut};

/// A frame being written, as chunks: what is written here, and slices that are put between without a copy.
pub(crate) struct Writer {
    chunks: Vec<Bytes>,
    out: BytesMut,
    flexible: bool,
    /// Positions in `out` where the caller puts bytes in.
    gaps: Vec<usize>,
}

impl Writer {
    pub(crate) fn new(flexible: bool, capacity: usize) -> Writer {
        Writer {
            chunks: Vec::new(),
            out: BytesMut::with_capacity(capacity),
            flexible,
            gaps: Vec::new(),
        }
    }

    /// The frame's chunks.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.chunks
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.chunks.push(self.out.split().freeze());
        }
    }

    /// What stands before the response of an API whose header is flexible in the same versions as its body.
    pub(crate) fn response_header(&mut self, correlation_id: i32) {
        self.i32(correlation_id);
        self.tags(&[]);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub(crate) fn uuid(&mut self, value: [u8; 16]) {
        self.out.put_slice(&value);
    }

    pub(crate) fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    /// A length in as many bytes as `plain` writes, or a compact one, which is stored plus one.
    fn length(&mut self, length: Option<usize>, plain: fn(&mut Self, i32)) {
        let length = length.map(|length| i32::try_from(length).expect("a frame is shorter than 2 GiB"));
        match (self.flexible, length) {
            (true, length) => self.uvarint(length.map_or(0, |length| length as u32 + 1)),
            (false, length) => plain(self, length.unwrap_or(-1)),
        }
    }

    /// A text; what is longer than Kafka's plain texts can be (32,767 bytes) is cut, at a character.
    pub(crate) fn text(&mut self, text: &str) {
        self.nullable_text(Some(text));
    }

    pub(crate) fn nullable_text(&mut self, text: Option<&str>) {
        let text = text.map(|text| cut(text, i16::MAX as usize));
        self.length(text.map(str::len), |writer, length| writer.i16(length as i16));
        self.out.put_slice(text.unwrap_or_default().as_bytes());
    }

    /// The count of an array; `None` is null.
    pub(crate) fn count(&mut self, count: Option<usize>) {
        self.length(count, Writer::i32);
    }

    /// Bytes that are sent from where they are.
    pub(crate) fn bytes(&mut self, pieces: &[Bytes]) {
        self.length(Some(pieces.iter().map(Bytes::len).sum()), Writer::i32);
        if pieces.iter().any(|piece| !piece.is_empty()) {
            self.flush();
            self.chunks
                .extend(pieces.iter().filter(|piece| !piece.is_empty()).cloned());
        }
    }

    /// So many bytes that the caller puts in.
    pub(crate) fn gap(&mut self, length: usize) {
        self.length(Some(length), Writer::i32);
        self.gaps.push(self.out.len());
    }

    /// What is before, between and behind the gaps. For frames without [`Writer::bytes`].
    pub(crate) fn finish_around(mut self) -> Vec<Bytes> {
        debug_assert!(self.chunks.is_empty(), "there are chunks between the gaps");
        let mut rest = self.out.split().freeze();
        let mut parts = Vec::with_capacity(self.gaps.len() + 1);
        let mut before = 0;
        for gap in self.gaps {
            parts.push(rest.split_to(gap - before));
            before = gap;
        }
        parts.push(rest);
        parts
    }

    /// The tagged fields that end a structure of a flexible version: their numbers and contents, in ascending order.
    pub(crate) fn tags(&mut self, tags: &[(u32, &[u8])]) {
        if !self.flexible {
            return;
        }
        self.uvarint(tags.len() as u32);
        for (number, content) in tags {
            self.uvarint(*number);
            self.uvarint(u32::try_from(content.len()).expect("a tagged field is shorter than 4 GiB"));
            self.out.put_slice(content);
        }
    }
}

/// The text, or as much of it as fits in `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}
