//! Requests, from Kafka's `*Request.json`.

use super::{BOOL, Field, I8, I16, I32, I64, Kind, UUID, between, field, from, upto};

pub(crate) const API_VERSIONS: &[Field] = &[from(3, Kind::Text), from(3, Kind::Text)];

pub(crate) const METADATA: &[Field] = &[
    field(Kind::List(&[from(10, UUID), field(Kind::Text)])),
    from(4, BOOL),
    between(8, 10, BOOL),
    from(8, BOOL),
];

pub(crate) const LIST_OFFSETS: &[Field] = &[
    field(I32),
    from(2, I8),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), from(4, I32), field(I64)])),
    ])),
];

pub(crate) const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    from(3, I32),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), field(I32), field(I32)])),
    ])),
];

pub(crate) const CREATE_TOPICS: &[Field] = &[
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

pub(crate) const DELETE_TOPICS: &[Field] = &[
    from(6, Kind::List(&[field(Kind::Text), field(UUID)])),
    upto(5, Kind::TextList),
    field(I32),
];

pub(crate) const CREATE_PARTITIONS: &[Field] = &[
    field(Kind::List(&[
        field(Kind::Text),
        field(I32),
        field(Kind::List(&[field(Kind::FixedList(4))])),
    ])),
    field(I32),
    field(BOOL),
];

pub(crate) const DESCRIBE_CONFIGS: &[Field] = &[
    field(Kind::List(&[field(I8), field(Kind::Text), field(Kind::TextList)])),
    field(BOOL),
    from(3, BOOL),
];

pub(crate) const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    field(I32),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), field(Kind::FixedList(4))])),
    ])),
];

pub(crate) const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    field(I32),
    field(Kind::List(&[field(Kind::Text), field(Kind::FixedList(4))])),
];

pub(crate) const DESCRIBE_CLUSTER: &[Field] = &[field(BOOL), from(1, I8)];

pub(crate) const FIND_COORDINATOR: &[Field] = &[upto(3, Kind::Text), from(1, I8), from(4, Kind::TextList)];

pub(crate) const INIT_PRODUCER_ID: &[Field] = &[field(Kind::Text), field(I32), from(3, I64), from(3, I16)];

pub(crate) const OFFSET_COMMIT: &[Field] = &[
    field(Kind::Text),
    from(1, I32),
    from(1, Kind::Text),
    from(7, Kind::Text),
    between(2, 4, I64),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), field(I64), from(6, I32), field(Kind::Text)])),
    ])),
];

pub(crate) const OFFSET_FETCH: &[Field] = &[
    upto(7, Kind::Text),
    upto(7, Kind::List(&[field(Kind::Text), field(Kind::FixedList(4))])),
    from(
        8,
        Kind::List(&[
            field(Kind::Text),
            from(9, Kind::Text),
            from(9, I32),
            field(Kind::List(&[field(Kind::Text), field(Kind::FixedList(4))])),
        ]),
    ),
    from(7, BOOL),
];

pub(crate) const JOIN_GROUP: &[Field] = &[
    field(Kind::Text),
    field(I32),
    from(1, I32),
    field(Kind::Text),
    from(5, Kind::Text),
    field(Kind::Text),
    field(Kind::List(&[field(Kind::Text), field(Kind::Bytes)])),
    from(8, Kind::Text),
];

pub(crate) const HEARTBEAT: &[Field] = &[field(Kind::Text), field(I32), field(Kind::Text), from(3, Kind::Text)];

pub(crate) const LEAVE_GROUP: &[Field] = &[
    field(Kind::Text),
    upto(2, Kind::Text),
    from(
        3,
        Kind::List(&[field(Kind::Text), field(Kind::Text), from(5, Kind::Text)]),
    ),
];

pub(crate) const SYNC_GROUP: &[Field] = &[
    field(Kind::Text),
    field(I32),
    field(Kind::Text),
    from(3, Kind::Text),
    from(5, Kind::Text),
    from(5, Kind::Text),
    field(Kind::List(&[field(Kind::Text), field(Kind::Bytes)])),
];

pub(crate) const DESCRIBE_GROUPS: &[Field] = &[field(Kind::TextList), from(3, BOOL)];

pub(crate) const LIST_GROUPS: &[Field] = &[from(4, Kind::TextList), from(5, Kind::TextList)];

pub(crate) const DELETE_GROUPS: &[Field] = &[field(Kind::TextList)];

pub(crate) const OFFSET_DELETE: &[Field] = &[
    field(Kind::Text),
    field(Kind::List(&[field(Kind::Text), field(Kind::List(&[field(I32)]))])),
];
