//! The schemas, against the definitions in Kafka's own client: `testdata/kafka-messages.txt`, which `cargo xtask
//! messages` generates.

use super::{Field, Kind, walk};
use crate::api::{Api, ApiSpec, NEVER_FLEXIBLE, RequestHeader, TABLE};
use crate::produce::FIRST_SERVED_VERSION;
use crate::reader::Reader;
use crate::request::decode_request;
use bytes::{BufMut, BytesMut};

/// A range of versions, as `0+`, `3`, `0-12` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Versions(i16, i16);

impl Versions {
    const NONE: Versions = Versions(i16::MAX, -1);

    fn parse(text: &str) -> Versions {
        let number = |text: &str| text.parse().unwrap();
        if text == "none" {
            Versions::NONE
        } else if let Some(from) = text.strip_suffix('+') {
            Versions(number(from), i16::MAX)
        } else if let Some((from, to)) = text.split_once('-') {
            Versions(number(from), number(to))
        } else {
            Versions(number(text), number(text))
        }
    }

    fn contain(self, version: i16) -> bool {
        (self.0..=self.1).contains(&version)
    }
}

/// A field as Kafka defines it.
#[derive(Debug)]
struct Defined {
    name: &'static str,
    kind: &'static str,
    versions: Versions,
    tag: Option<(u32, Versions)>,
    nullable: Versions,
    fields: Vec<Defined>,
}

impl Defined {
    fn parse(line: &'static str) -> Defined {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap();
        let (name, kind, versions) = (next(), next(), Versions::parse(next()));
        let mut field = Defined {
            name,
            kind,
            versions,
            tag: None,
            nullable: Versions::NONE,
            fields: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word {
                "tag" => {
                    let tag = words.next().unwrap().parse().unwrap();
                    field.tag = Some((tag, Versions::parse(words.next().unwrap())));
                }
                "nullable" => field.nullable = Versions::parse(words.next().unwrap()),
                other => panic!("{other:?} in {line:?}"),
            }
        }
        field
    }

    /// The tag, in a version in which the field is a tagged one.
    fn tag(&self, version: i16) -> Option<u32> {
        let (tag, _) = self.tag.filter(|(_, versions)| versions.contain(version))?;
        Some(tag)
    }
}

/// A message as Kafka defines it.
struct Message {
    versions: Versions,
    flexible: Versions,
    fields: Vec<Defined>,
}

/// The request or the response of an API.
fn defined(spec: &ApiSpec, kind: &str) -> Message {
    let text = include_str!("../../testdata/kafka-messages.txt");
    let name = format!("{}{kind}", spec.name);
    let is_it = |line: &&str| line.split(' ').nth(1) == Some(&name);
    let mut lines = text.lines().skip_while(|line| !is_it(line));
    let first = lines.next();
    let words: Vec<_> = first.unwrap_or_default().split(' ').collect();
    let [key, _, versions, "flexible", flexible] = words[..] else {
        panic!("{name} is not defined: {first:?}");
    };
    assert_eq!(key, spec.key.to_string(), "{name}");
    let lines: Vec<_> = lines.take_while(|line| line.starts_with(' ')).collect();
    Message {
        versions: Versions::parse(versions),
        flexible: Versions::parse(flexible),
        fields: fields(&lines, 2),
    }
}

/// The fields at a depth of indentation, each with those below it.
fn fields(lines: &[&'static str], depth: usize) -> Vec<Defined> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut fields_here = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if indent(line) == depth {
            let inner = lines[at + 1..].iter().take_while(|line| indent(line) > depth).count();
            let mut field = Defined::parse(line);
            field.fields = fields(&lines[at + 1..=at + inner], depth + 2);
            fields_here.push(field);
        }
    }
    fields_here
}

/// The bytes of a type of fixed length.
fn fixed(kind: &str) -> Option<usize> {
    match kind {
        "bool" | "int8" => Some(1),
        "int16" | "uint16" => Some(2),
        "int32" | "uint32" => Some(4),
        "int64" | "float64" => Some(8),
        "uuid" => Some(16),
        _ => None,
    }
}

/// How Kafka lays out a structure in a version: bytes of fixed length by their number, `text`, `bytes`, `{…}`, `[…]`,
/// and tagged fields at the end.
fn their_layout(fields: &[Defined], version: i16) -> String {
    let mut words = Vec::new();
    let mut tags = Vec::new();
    for field in fields.iter().filter(|field| field.versions.contain(version)) {
        let layout = their_field(field, version);
        match field.tag(version) {
            Some(tag) => tags.push((tag, layout)),
            None => words.push(layout),
        }
    }
    laid_out(words, tags)
}

fn laid_out(mut words: Vec<String>, mut tags: Vec<(u32, String)>) -> String {
    tags.sort();
    words.extend(tags.into_iter().map(|(tag, layout)| format!("#{tag}={layout}")));
    words.join(" ")
}

fn their_field(field: &Defined, version: i16) -> String {
    match field.kind {
        "[]" => format!("[{{{}}}]", their_layout(&field.fields, version)),
        "{}" => {
            // It would be a byte longer.
            assert!(
                !field.nullable.contain(version),
                "{}: no schema can say that yet",
                field.name
            );
            format!("{{{}}}", their_layout(&field.fields, version))
        }
        kind => match kind.strip_prefix("[]") {
            Some(element) => format!("[{}]", primitive(element)),
            None => primitive(kind),
        },
    }
}

fn primitive(kind: &str) -> String {
    match kind {
        "string" => "text".to_owned(),
        "bytes" | "records" => "bytes".to_owned(),
        kind => fixed(kind).unwrap_or_else(|| panic!("{kind:?} is new")).to_string(),
    }
}

/// How a schema of ours lays out a structure, in the same words.
fn our_layout(fields: &[Field], version: i16) -> String {
    let mut words = Vec::new();
    let mut tags = Vec::new();
    for field in fields
        .iter()
        .filter(|field| (field.from..=field.upto).contains(&version))
    {
        match &field.kind {
            Kind::Tagged(tag, kind) => tags.push((*tag, our_field(kind, version))),
            kind => words.push(our_field(kind, version)),
        }
    }
    laid_out(words, tags)
}

fn our_field(kind: &Kind, version: i16) -> String {
    match kind {
        Kind::Fixed(bytes) => bytes.to_string(),
        Kind::Text => "text".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
        Kind::Struct(fields) => format!("{{{}}}", our_layout(fields, version)),
        Kind::List(fields) => format!("[{{{}}}]", our_layout(fields, version)),
        Kind::FixedList(bytes) => format!("[{bytes}]"),
        Kind::TextList => "[text]".to_owned(),
        Kind::Tagged(..) => unreachable!("a tag within a tag"),
    }
}

fn each_version() -> impl Iterator<Item = (&'static ApiSpec, i16)> {
    TABLE
        .iter()
        .flat_map(|spec| (spec.min..=spec.max).map(move |version| (spec, version)))
}

#[test]
fn schemas_are_laid_out_as_kafka_defines_them() {
    for (spec, version) in each_version() {
        let response = defined(spec, "Response");
        assert_eq!(
            our_layout(spec.response, version),
            their_layout(&response.fields, version),
            "the response of {} {version}",
            spec.name
        );
        let Some(schema) = spec.request else { continue };
        let request = defined(spec, "Request");
        assert_eq!(
            our_layout(schema, version),
            their_layout(&request.fields, version),
            "the request of {} {version}",
            spec.name
        );
    }
}

#[test]
fn versions_and_their_flexibility_are_kafkas() {
    for spec in TABLE {
        for message in [defined(spec, "Request"), defined(spec, "Response")] {
            let flexible = match spec.first_flexible {
                NEVER_FLEXIBLE => Versions::NONE,
                first => Versions(first, i16::MAX),
            };
            assert_eq!(message.flexible, flexible, "{}", spec.name);
            // Offered for the sake of old clients, and answered with an error.
            let first = if spec.api == Api::Produce {
                FIRST_SERVED_VERSION
            } else {
                spec.min
            };
            for version in first..=spec.max {
                assert!(message.versions.contain(version), "{} {version}", spec.name);
            }
        }
    }
}

/// Puts something into every field that a version has: two elements into every array, a text, some bytes.
fn put(fields: &[Defined], version: i16, flexible: bool, out: &mut BytesMut) {
    let mut tagged = Vec::new();
    for field in fields.iter().filter(|field| field.versions.contain(version)) {
        match field.tag(version) {
            Some(tag) => tagged.push((tag, field)),
            None => put_field(field, version, flexible, out),
        }
    }
    if !flexible {
        return;
    }
    tagged.sort_by_key(|(tag, _)| *tag);
    put_uvarint(tagged.len(), out);
    for (tag, field) in tagged {
        let mut content = BytesMut::new();
        put_field(field, version, true, &mut content);
        put_uvarint(tag as usize, out);
        put_uvarint(content.len(), out);
        out.extend_from_slice(&content);
    }
}

fn put_field(field: &Defined, version: i16, flexible: bool, out: &mut BytesMut) {
    match field.kind {
        "{}" => put(&field.fields, version, flexible, out),
        "[]" => {
            put_length(2, 4, flexible, out);
            (0..2).for_each(|_| put(&field.fields, version, flexible, out));
        }
        kind => match kind.strip_prefix("[]") {
            Some(element) => {
                put_length(2, 4, flexible, out);
                (0..2).for_each(|_| put_primitive(element, flexible, out));
            }
            None => put_primitive(kind, flexible, out),
        },
    }
}

fn put_primitive(kind: &str, flexible: bool, out: &mut BytesMut) {
    match kind {
        "string" => {
            put_length(3, 2, flexible, out);
            out.extend_from_slice(b"abc");
        }
        "bytes" | "records" => {
            put_length(5, 4, flexible, out);
            out.extend_from_slice(b"bytes");
        }
        kind => out.put_bytes(1, fixed(kind).unwrap()),
    }
}

/// A length or a count: plain in so many bytes, or compact.
fn put_length(length: usize, bytes: usize, flexible: bool, out: &mut BytesMut) {
    if flexible {
        put_uvarint(length + 1, out);
    } else {
        out.put_uint(length as u64, bytes);
    }
}

fn put_uvarint(value: usize, out: &mut BytesMut) {
    assert!(value < 1 << 14);
    if value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        out.put_u8((value >> 7) as u8);
    } else {
        out.put_u8(value as u8);
    }
}

#[test]
fn requests_as_kafka_defines_them_are_decoded() {
    for (spec, version) in each_version() {
        let mut body = BytesMut::new();
        put(
            &defined(spec, "Request").fields,
            version,
            spec.api.is_flexible(version),
            &mut body,
        );
        let header = RequestHeader {
            api: spec.api,
            version,
            correlation_id: 1,
            client_id: None,
        };
        let length = body.len();
        let decoded = decode_request(&header, body.clone());
        assert!(decoded.is_ok(), "{} {version}: {decoded:?}", spec.name);
        // It ends where the definition ends.
        if let Some(shorter) = length.checked_sub(1) {
            let cut = decode_request(&header, body.split_to(shorter));
            assert!(cut.is_err(), "{} {version}: {cut:?}", spec.name);
        }
    }
}

#[test]
fn responses_as_kafka_defines_them_are_walked_over_to_their_end() {
    for (spec, version) in each_version() {
        let flexible = spec.api.is_flexible(version);
        let mut body = BytesMut::new();
        put(&defined(spec, "Response").fields, version, flexible, &mut body);
        let mut reader = Reader::new(&body, flexible);
        assert_eq!(
            walk(spec.response, version, &mut reader),
            Ok(()),
            "{} {version}",
            spec.name
        );
        assert_eq!(reader.left(), 0, "{} {version}", spec.name);
    }
}
