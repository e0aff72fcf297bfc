//! The layout of messages, as far as it takes to walk over them before kafka-protocol decodes them.
//!
//! kafka-protocol allocates what an array's count says, unchecked: five bytes could ask for gigabytes. So every message
//! that it decodes is walked first, with every count and length checked against the bytes that are left; afterwards
//! each element that it allocates for is known to be there. Tests compare each schema, in every version that is
//! offered, with Kafka's own definition of the message and with kafka-protocol's encoder.

pub(crate) mod requests;
pub(crate) mod responses;
#[cfg(test)]
mod tests;

use crate::WireError;
use crate::reader::Reader;

/// A field of a structure, and the versions that have it.
pub(crate) struct Field {
    from: i16,
    upto: i16,
    kind: Kind,
}

enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A text, nullable or not.
    Text,
    /// An array of structures, nullable or not.
    List(&'static [Field]),
    /// An array of so many bytes each.
    FixedList(usize),
    /// An array of texts.
    TextList,
    /// Bytes behind their length, nullable or not.
    Bytes,
    /// A structure within another.
    Struct(&'static [Field]),
    /// A tagged field that kafka-protocol knows, and decodes. It stands behind all others.
    Tagged(u32, &'static Kind),
}

const LAST: i16 = i16::MAX;

const fn field(kind: Kind) -> Field {
    Field {
        from: 0,
        upto: LAST,
        kind,
    }
}

const fn from(from: i16, kind: Kind) -> Field {
    Field { from, upto: LAST, kind }
}

const fn upto(upto: i16, kind: Kind) -> Field {
    Field { from: 0, upto, kind }
}

const fn between(from: i16, upto: i16, kind: Kind) -> Field {
    Field { from, upto, kind }
}

const BOOL: Kind = Kind::Fixed(1);
const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);

/// Walks over a message; the reader is behind it afterwards.
pub(crate) fn walk(fields: &[Field], version: i16, reader: &mut Reader<'_>) -> Result<(), WireError> {
    let fields = fields
        .iter()
        .filter(|field| (field.from..=field.upto).contains(&version));
    for field in fields.clone() {
        walk_kind(&field.kind, version, reader)?;
    }
    reader.known_tags(|number, content| {
        let known = fields.clone().find_map(|field| match field.kind {
            Kind::Tagged(tag, kind) if tag == number => Some(kind),
            _ => None,
        });
        known.map_or(Ok(()), |kind| walk_tag(number, kind, version, content))
    })
}

/// kafka-protocol does not look at a known tag's length, so its content must have exactly that length.
fn walk_tag(number: u32, kind: &Kind, version: i16, content: &[u8]) -> Result<(), WireError> {
    let mut reader = Reader::new(content, true);
    walk_kind(kind, version, &mut reader)?;
    if reader.left() == 0 {
        Ok(())
    } else {
        Err(WireError::Tag(number))
    }
}

fn walk_kind(kind: &Kind, version: i16, reader: &mut Reader<'_>) -> Result<(), WireError> {
    match kind {
        Kind::Fixed(length) => reader.skip(*length).map(drop),
        Kind::Text => reader.text().map(drop),
        Kind::Bytes => reader.bytes().map(drop),
        Kind::Struct(fields) => walk(fields, version, reader),
        Kind::List(fields) => {
            let count = reader.count()?.unwrap_or(0);
            (0..count).try_for_each(|_| walk(fields, version, reader))
        }
        Kind::FixedList(length) => {
            let count = reader.count()?.unwrap_or(0);
            let bytes = count.checked_mul(*length).ok_or(WireError::Truncated)?;
            reader.skip(bytes).map(drop)
        }
        Kind::TextList => {
            let count = reader.count()?.unwrap_or(0);
            (0..count).try_for_each(|_| reader.text().map(drop))
        }
        // It comes, if at all, with the tags.
        Kind::Tagged(..) => Ok(()),
    }
}
