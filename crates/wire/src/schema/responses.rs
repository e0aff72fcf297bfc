//! Responses, from Kafka's `*Response.json`: what the project's own client reads.

use super::{BOOL, Field, I8, I16, I32, I64, Kind, UUID, between, field, from, upto};

const FEATURES: &Kind = &Kind::List(&[field(Kind::Text), field(I16), field(I16)]);

pub(crate) const API_VERSIONS: &[Field] = &[
    field(I16),
    field(Kind::List(&[field(I16), field(I16), field(I16)])),
    from(1, I32),
    from(3, Kind::Tagged(0, FEATURES)),
    from(3, Kind::Tagged(1, &I64)),
    from(3, Kind::Tagged(2, FEATURES)),
    from(3, Kind::Tagged(3, &BOOL)),
];

pub(crate) const METADATA: &[Field] = &[
    from(3, I32),
    field(Kind::List(&[
        field(I32),
        field(Kind::Text),
        field(I32),
        from(1, Kind::Text),
    ])),
    from(2, Kind::Text),
    from(1, I32),
    field(Kind::List(&[
        field(I16),
        field(Kind::Text),
        from(10, UUID),
        from(1, BOOL),
        field(Kind::List(&[
            field(I16),
            field(I32),
            field(I32),
            from(7, I32),
            field(Kind::FixedList(4)),
            field(Kind::FixedList(4)),
            from(5, Kind::FixedList(4)),
        ])),
        from(8, I32),
    ])),
    between(8, 10, I32),
    from(13, I16),
];

const LEADER: &Kind = &Kind::Struct(&[field(I32), field(I32)]);

const ENDPOINTS: &Kind = &Kind::List(&[field(I32), field(Kind::Text), field(I32), field(Kind::Text)]);

pub(crate) const PRODUCE: &[Field] = &[
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[
            field(I32),
            field(I16),
            field(I64),
            from(2, I64),
            from(5, I64),
            from(8, Kind::List(&[field(I32), field(Kind::Text)])),
            from(8, Kind::Text),
            from(10, Kind::Tagged(0, LEADER)),
        ])),
    ])),
    from(1, I32),
    from(10, Kind::Tagged(0, ENDPOINTS)),
];

pub(crate) const FETCH: &[Field] = &[
    field(I32),
    from(7, I16),
    from(7, I32),
    field(Kind::List(&[
        upto(12, Kind::Text),
        from(13, UUID),
        field(Kind::List(&[
            field(I32),
            field(I16),
            field(I64),
            field(I64),
            from(5, I64),
            field(Kind::List(&[field(I64), field(I64)])),
            from(11, I32),
            field(Kind::Bytes),
            from(12, Kind::Tagged(0, &Kind::Struct(&[field(I32), field(I64)]))),
            from(12, Kind::Tagged(1, LEADER)),
            from(12, Kind::Tagged(2, &Kind::Struct(&[field(I64), field(I32)]))),
        ])),
    ])),
    from(16, Kind::Tagged(0, ENDPOINTS)),
];

pub(crate) const LIST_OFFSETS: &[Field] = &[
    from(2, I32),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[
            field(I32),
            field(I16),
            field(I64),
            field(I64),
            from(4, I32),
        ])),
    ])),
];

pub(crate) const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    field(I32),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I16), field(I32), field(I32), field(I64)])),
    ])),
];

pub(crate) const CREATE_TOPICS: &[Field] = &[
    field(I32),
    field(Kind::List(&[
        field(Kind::Text),
        from(7, UUID),
        field(I16),
        field(Kind::Text),
        from(5, I32),
        from(5, I16),
        from(
            5,
            Kind::List(&[
                field(Kind::Text),
                field(Kind::Text),
                field(BOOL),
                field(I8),
                field(BOOL),
            ]),
        ),
        from(5, Kind::Tagged(0, &I16)),
    ])),
];

pub(crate) const DELETE_TOPICS: &[Field] = &[
    field(I32),
    field(Kind::List(&[
        field(Kind::Text),
        from(6, UUID),
        field(I16),
        from(5, Kind::Text),
    ])),
];

pub(crate) const CREATE_PARTITIONS: &[Field] = &[
    field(I32),
    field(Kind::List(&[field(Kind::Text), field(I16), field(Kind::Text)])),
];

pub(crate) const DESCRIBE_CONFIGS: &[Field] = &[
    field(I32),
    field(Kind::List(&[
        field(I16),
        field(Kind::Text),
        field(I8),
        field(Kind::Text),
        field(Kind::List(&[
            field(Kind::Text),
            field(Kind::Text),
            field(BOOL),
            field(I8),
            field(BOOL),
            field(Kind::List(&[field(Kind::Text), field(Kind::Text), field(I8)])),
            from(3, I8),
            from(3, Kind::Text),
        ])),
    ])),
];

pub(crate) const DESCRIBE_CLUSTER: &[Field] = &[
    field(I32),
    field(I16),
    field(Kind::Text),
    from(1, I8),
    field(Kind::Text),
    field(I32),
    field(Kind::List(&[
        field(I32),
        field(Kind::Text),
        field(I32),
        field(Kind::Text),
    ])),
    field(I32),
];

pub(crate) const FIND_COORDINATOR: &[Field] = &[
    from(1, I32),
    upto(3, I16),
    between(1, 3, Kind::Text),
    upto(3, I32),
    upto(3, Kind::Text),
    upto(3, I32),
    from(
        4,
        Kind::List(&[
            field(Kind::Text),
            field(I32),
            field(Kind::Text),
            field(I32),
            field(I16),
            field(Kind::Text),
        ]),
    ),
];

pub(crate) const INIT_PRODUCER_ID: &[Field] = &[field(I32), field(I16), field(I64), field(I16)];

pub(crate) const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    field(I32),
    field(I16),
    field(Kind::Text),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), field(I16), field(Kind::Text)])),
    ])),
];

pub(crate) const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    field(I32),
    field(I16),
    field(Kind::Text),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[
            field(I32),
            field(Kind::FixedList(4)),
            field(Kind::FixedList(4)),
            field(Kind::FixedList(4)),
        ])),
    ])),
];

const PARTITION_ERRORS: Kind = Kind::List(&[field(Kind::Text), field(Kind::List(&[field(I32), field(I16)]))]);

pub(crate) const OFFSET_COMMIT: &[Field] = &[from(3, I32), field(PARTITION_ERRORS)];

pub(crate) const OFFSET_FETCH: &[Field] = &[
    from(3, I32),
    upto(
        7,
        Kind::List(&[
            field(Kind::Text),
            field(Kind::List(&[
                field(I32),
                field(I64),
                from(5, I32),
                field(Kind::Text),
                field(I16),
            ])),
        ]),
    ),
    between(2, 7, I16),
    from(
        8,
        Kind::List(&[
            field(Kind::Text),
            field(Kind::List(&[
                field(Kind::Text),
                field(Kind::List(&[
                    field(I32),
                    field(I64),
                    field(I32),
                    field(Kind::Text),
                    field(I16),
                ])),
            ])),
            field(I16),
        ]),
    ),
];

pub(crate) const JOIN_GROUP: &[Field] = &[
    from(2, I32),
    field(I16),
    field(I32),
    from(7, Kind::Text),
    field(Kind::Text),
    field(Kind::Text),
    from(9, BOOL),
    field(Kind::Text),
    field(Kind::List(&[
        field(Kind::Text),
        from(5, Kind::Text),
        field(Kind::Bytes),
    ])),
];

pub(crate) const HEARTBEAT: &[Field] = &[from(1, I32), field(I16)];

pub(crate) const LEAVE_GROUP: &[Field] = &[
    from(1, I32),
    field(I16),
    from(3, Kind::List(&[field(Kind::Text), field(Kind::Text), field(I16)])),
];

pub(crate) const SYNC_GROUP: &[Field] = &[
    from(1, I32),
    field(I16),
    from(5, Kind::Text),
    from(5, Kind::Text),
    field(Kind::Bytes),
];

pub(crate) const DESCRIBE_GROUPS: &[Field] = &[
    from(1, I32),
    field(Kind::List(&[
        field(I16),
        from(6, Kind::Text),
        field(Kind::Text),
        field(Kind::Text),
        field(Kind::Text),
        field(Kind::Text),
        field(Kind::List(&[
            field(Kind::Text),
            from(4, Kind::Text),
            field(Kind::Text),
            field(Kind::Text),
            field(Kind::Bytes),
            field(Kind::Bytes),
        ])),
        from(3, I32),
    ])),
];

pub(crate) const LIST_GROUPS: &[Field] = &[
    from(1, I32),
    field(I16),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::Text),
        from(4, Kind::Text),
        from(5, Kind::Text),
    ])),
];

pub(crate) const DELETE_GROUPS: &[Field] = &[field(I32), field(Kind::List(&[field(Kind::Text), field(I16)]))];

pub(crate) const OFFSET_DELETE: &[Field] = &[field(I16), field(I32), field(PARTITION_ERRORS)];
