//! Requests, from Kafka's `*Request.json`.

use super::{BOOL, Field, I8, I16, I32, I64, Kind, UUID, field, from, upto};
use crate::api::Api;

const API_VERSIONS: &[Field] = &[from(3, Kind::Text), from(3, Kind::Text)];

const METADATA: &[Field] = &[
    field(Kind::List(&[from(10, UUID), field(Kind::Text)])),
    from(4, BOOL),
    super::between(8, 10, BOOL),
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

const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    field(I32),
    field(Kind::List(&[
        field(Kind::Text),
        field(Kind::List(&[field(I32), field(Kind::FixedList(4))])),
    ])),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    field(I32),
    field(Kind::List(&[field(Kind::Text), field(Kind::FixedList(4))])),
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
        Api::AlterPartitionReassignments => Some(ALTER_PARTITION_REASSIGNMENTS),
        Api::ListPartitionReassignments => Some(LIST_PARTITION_REASSIGNMENTS),
        Api::DescribeCluster => Some(DESCRIBE_CLUSTER),
    }
}
