//! What requests look like, as far as it takes to walk over them before kafka-protocol decodes them.
//!
//! kafka-protocol allocates what an array's count says, unchecked: five bytes could ask for gigabytes. So every request
//! that it decodes is walked first, with every count and length checked against the bytes that are left; afterwards each
//! element that it allocates for is known to be there. Tests compare each schema with kafka-protocol's own encoders, for
//! every version.

use crate::WireError;
use crate::api::Api;
use crate::reader::Reader;

/// A field of a request, and the versions that have it.
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

const BOOL: Kind = Kind::Fixed(1);
const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);

const API_VERSIONS: &[Field] = &[from(3, Kind::Text), from(3, Kind::Text)];

const METADATA: &[Field] = &[
    field(Kind::List(&[from(10, UUID), field(Kind::Text)])),
    from(4, BOOL),
    Field {
        from: 8,
        upto: 10,
        kind: BOOL,
    },
    from(8, BOOL),
];

const LIST_OFFSETS: &[Field] = &[
    field(I32),
    from(2, I8),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), from(4, I32), field(I64)])),
    ])),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    from(3, I32),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), field(I32), field(I32)])),
    ])),
];

const CREATE_TOPICS: &[Field] = &[
    field(Kind::List(&[
        field(Kind::Text),
        field(I32),
        field(I16),
        field(Kind::List(&[field(I32), field(Kind::FixedList(4))])),
        field(Kind::List(&[field(Kind::Text), field(Kind::Text)])),
    ])),
    field(I32),
    field(BOOL),
];

const DELETE_TOPICS: &[Field] = &[
    from(6, Kind::List(&[field(Kind::Text), field(UUID)])),
    upto(5, Kind::TextList),
    field(I32),
];

const CREATE_PARTITIONS: &[Field] = &[
    field(Kind::List(&[
        field(Kind::Text),
        field(I32),
        field(Kind::List(&[field(Kind::FixedList(4))])),
    ])),
    field(I32),
    field(BOOL),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    field(Kind::List(&[field(I8), field(Kind::Text), field(Kind::TextList)])),
    field(BOOL),
    from(3, BOOL),
];

const DESCRIBE_CLUSTER: &[Field] = &[field(BOOL), from(1, I8)];

const FIND_COORDINATOR: &[Field] = &[upto(3, Kind::Text), from(1, I8), from(4, Kind::TextList)];

const INIT_PRODUCER_ID: &[Field] = &[field(Kind::Text), field(I32), from(3, I64), from(3, I16)];

/// The schema of a request that kafka-protocol decodes; Produce and Fetch have decoders of their own.
pub(crate) fn of(api: Api) -> Option<&'static [Field]> {
    match api {
        Api::Produce | Api::Fetch => None,
        Api::ListOffsets => Some(LIST_OFFSETS),
        Api::Metadata => Some(METADATA),
        Api::FindCoordinator => Some(FIND_COORDINATOR),
        Api::ApiVersions => Some(API_VERSIONS),
        Api::CreateTopics => Some(CREATE_TOPICS),
        Api::DeleteTopics => Some(DELETE_TOPICS),
        Api::InitProducerId => Some(INIT_PRODUCER_ID),
        Api::OffsetForLeaderEpoch => Some(OFFSET_FOR_LEADER_EPOCH),
        Api::DescribeConfigs => Some(DESCRIBE_CONFIGS),
        Api::CreatePartitions => Some(CREATE_PARTITIONS),
        Api::DescribeCluster => Some(DESCRIBE_CLUSTER),
    }
}

/// Walks over a request; the reader is behind it afterwards.
pub(crate) fn walk(fields: &[Field], version: i16, reader: &mut Reader<'_>) -> Result<(), WireError> {
    for field in fields
        .iter()
        .filter(|field| (field.from..=field.upto).contains(&version))
    {
        walk_kind(&field.kind, version, reader)?;
    }
    reader.tags()
}

fn walk_kind(kind: &Kind, version: i16, reader: &mut Reader<'_>) -> Result<(), WireError> {
    match kind {
        Kind::Fixed(length) => reader.skip(*length).map(drop),
        Kind::Text => reader.text().map(drop),
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
    }
}
