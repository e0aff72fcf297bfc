//! The rows, and everything that follows from them.

use super::{ApiSpec, NEVER_FLEXIBLE, RequestHeader};
use crate::WireError;
use crate::fetch::{self, FetchRequest};
use crate::produce::{self, ProduceRequest};
use crate::request::{Call, Handle, Response, guarded};
use crate::schema::{requests, responses};
use bytes::BytesMut;
use kafka_protocol::messages::{
    self, AlterPartitionReassignmentsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, SyncGroupRequest,
};

/// A row says how its request is decoded: `guarded(SCHEMA)` by kafka-protocol, behind a walk over the schema;
/// `own(FUNCTION)` by a decoder of this crate, into a type of the same name. Clients use kafka-protocol's types for all.
macro_rules! apis {
    ($($(#[$attribute:meta])* $api:ident = $key:literal {
        versions: $min:literal..=$max:literal,
        flexible: $flexible:expr,
        request: $request:ident => $decoder:ident($with:expr),
        response: $response:ident => $layout:expr,
        note: $note:literal,
    })*) => {
        /// An API that is offered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are Kafka's, and the table says what each is for")]
        pub enum Api {
            $($api,)*
        }

        impl Api {
            /// The API with a key, if it is offered.
            pub fn from_key(key: i16) -> Option<Api> {
                match key {
                    $($key => Some(Api::$api),)*
                    _ => None,
                }
            }
        }

        /// All rows, in the order of the keys.
        pub static TABLE: &[ApiSpec] = &[$(ApiSpec {
            api: Api::$api,
            key: $key,
            name: stringify!($api),
            min: $min,
            max: $max,
            first_flexible: $flexible,
            note: $note,
            #[cfg(test)]
            request: apis!(@schema $decoder $with),
            response: $layout,
        },)*];

        /// A request's body.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each is named as its API")]
        pub enum Request {
            $($api($request),)*
        }

        impl Request {
            /// Hands the request to what handles its API.
            pub fn dispatch<H, T>(self, to: H) -> T
            where
                $(H: Handle<$request, Output = T>,)*
            {
                match self {
                    $(Request::$api(request) => to.handle(request),)*
                }
            }
        }

        $(
            impl Call for messages::$request {
                const API: Api = Api::$api;
                type Response = messages::$response;
            }

            impl Response for messages::$response {
                const API: Api = Api::$api;
            }
        )*

        /// Reads the body behind a header.
        pub(crate) fn decode(header: &RequestHeader, body: BytesMut) -> Result<Request, WireError> {
            match header.api {
                $(Api::$api => apis!(@decode $decoder $with, header, body).map(Request::$api),)*
            }
        }
    };
    (@schema guarded $schema:expr) => { Some($schema) };
    (@schema own $decode:expr) => { None };
    (@decode guarded $schema:expr, $header:ident, $body:ident) => { guarded($schema, $header, $body) };
    (@decode own $decode:expr, $header:ident, $body:ident) => { $decode($header.version, $body) };
}

apis! {
    Produce = 0 {
        versions: 0..=11,
        flexible: 9,
        request: ProduceRequest => own(produce::decode_request),
        response: ProduceResponse => responses::PRODUCE,
        note: "0 to 2 are offered because older librdkafka turns compression off otherwise, and answered with \
               UNSUPPORTED_VERSION; from 10 on with hints to the new leader",
    }
    Fetch = 1 {
        versions: 4..=16,
        flexible: 12,
        request: FetchRequest => own(fetch::decode_request),
        response: FetchResponse => responses::FETCH,
        note: "from 13 on by topic id; from 16 on with hints to the new leader",
    }
    ListOffsets = 2 {
        versions: 1..=8,
        flexible: 6,
        request: ListOffsetsRequest => guarded(requests::LIST_OFFSETS),
        response: ListOffsetsResponse => responses::LIST_OFFSETS,
        note: "by timestamp down to the record; -1, -2, and -3 from 7 on",
    }
    Metadata = 3 {
        versions: 0..=12,
        flexible: 9,
        request: MetadataRequest => guarded(requests::METADATA),
        response: MetadataResponse => responses::METADATA,
        note: "answered by any broker; from 12 on by topic id",
    }
    OffsetCommit = 8 {
        versions: 2..=9,
        flexible: 8,
        request: OffsetCommitRequest => guarded(requests::OFFSET_COMMIT),
        response: OffsetCommitResponse => responses::OFFSET_COMMIT,
        note: "",
    }
    OffsetFetch = 9 {
        versions: 1..=9,
        flexible: 6,
        request: OffsetFetchRequest => guarded(requests::OFFSET_FETCH),
        response: OffsetFetchResponse => responses::OFFSET_FETCH,
        note: "from 8 on for many groups",
    }
    FindCoordinator = 10 {
        versions: 0..=4,
        flexible: 3,
        request: FindCoordinatorRequest => guarded(requests::FIND_COORDINATOR),
        response: FindCoordinatorResponse => responses::FIND_COORDINATOR,
        note: "of consumer groups, and from 4 on of many; no transactions yet",
    }
    JoinGroup = 11 {
        versions: 0..=9,
        flexible: 6,
        request: JoinGroupRequest => guarded(requests::JOIN_GROUP),
        response: JoinGroupResponse => responses::JOIN_GROUP,
        note: "the classic protocol",
    }
    Heartbeat = 12 {
        versions: 0..=4,
        flexible: 4,
        request: HeartbeatRequest => guarded(requests::HEARTBEAT),
        response: HeartbeatResponse => responses::HEARTBEAT,
        note: "",
    }
    LeaveGroup = 13 {
        versions: 0..=5,
        flexible: 4,
        request: LeaveGroupRequest => guarded(requests::LEAVE_GROUP),
        response: LeaveGroupResponse => responses::LEAVE_GROUP,
        note: "",
    }
    SyncGroup = 14 {
        versions: 0..=5,
        flexible: 4,
        request: SyncGroupRequest => guarded(requests::SYNC_GROUP),
        response: SyncGroupResponse => responses::SYNC_GROUP,
        note: "",
    }
    DescribeGroups = 15 {
        versions: 0..=6,
        flexible: 5,
        request: DescribeGroupsRequest => guarded(requests::DESCRIBE_GROUPS),
        response: DescribeGroupsResponse => responses::DESCRIBE_GROUPS,
        note: "",
    }
    ListGroups = 16 {
        versions: 0..=5,
        flexible: 3,
        request: ListGroupsRequest => guarded(requests::LIST_GROUPS),
        response: ListGroupsResponse => responses::LIST_GROUPS,
        note: "of the groups that this broker coordinates",
    }
    ApiVersions = 18 {
        versions: 0..=4,
        flexible: 3,
        request: ApiVersionsRequest => guarded(requests::API_VERSIONS),
        response: ApiVersionsResponse => responses::API_VERSIONS,
        note: "",
    }
    CreateTopics = 19 {
        versions: 2..=7,
        flexible: 5,
        request: CreateTopicsRequest => guarded(requests::CREATE_TOPICS),
        response: CreateTopicsResponse => responses::CREATE_TOPICS,
        note: "accepted by any broker",
    }
    DeleteTopics = 20 {
        versions: 1..=6,
        flexible: 4,
        request: DeleteTopicsRequest => guarded(requests::DELETE_TOPICS),
        response: DeleteTopicsResponse => responses::DELETE_TOPICS,
        note: "accepted by any broker; 6 by topic id too",
    }
    InitProducerId = 22 {
        versions: 0..=4,
        flexible: 2,
        request: InitProducerIdRequest => guarded(requests::INIT_PRODUCER_ID),
        response: InitProducerIdResponse => responses::INIT_PRODUCER_ID,
        note: "for idempotent producers; no transactions yet",
    }
    OffsetForLeaderEpoch = 23 {
        versions: 2..=4,
        flexible: 4,
        request: OffsetForLeaderEpochRequest => guarded(requests::OFFSET_FOR_LEADER_EPOCH),
        response: OffsetForLeaderEpochResponse => responses::OFFSET_FOR_LEADER_EPOCH,
        note: "the leader epoch is the Raft term",
    }
    DescribeConfigs = 32 {
        versions: 1..=4,
        flexible: 4,
        request: DescribeConfigsRequest => guarded(requests::DESCRIBE_CONFIGS),
        response: DescribeConfigsResponse => responses::DESCRIBE_CONFIGS,
        note: "every key, with source, default and type",
    }
    CreatePartitions = 37 {
        versions: 0..=3,
        flexible: 2,
        request: CreatePartitionsRequest => guarded(requests::CREATE_PARTITIONS),
        response: CreatePartitionsResponse => responses::CREATE_PARTITIONS,
        note: "accepted by any broker",
    }
    DeleteGroups = 42 {
        versions: 0..=2,
        flexible: 2,
        request: DeleteGroupsRequest => guarded(requests::DELETE_GROUPS),
        response: DeleteGroupsResponse => responses::DELETE_GROUPS,
        note: "",
    }
    AlterPartitionReassignments = 45 {
        versions: 0..=0,
        flexible: 0,
        request: AlterPartitionReassignmentsRequest => guarded(requests::ALTER_PARTITION_REASSIGNMENTS),
        response: AlterPartitionReassignmentsResponse => responses::ALTER_PARTITION_REASSIGNMENTS,
        note: "accepted by any broker; also for another number of replicas",
    }
    ListPartitionReassignments = 46 {
        versions: 0..=0,
        flexible: 0,
        request: ListPartitionReassignmentsRequest => guarded(requests::LIST_PARTITION_REASSIGNMENTS),
        response: ListPartitionReassignmentsResponse => responses::LIST_PARTITION_REASSIGNMENTS,
        note: "answered by any broker",
    }
    OffsetDelete = 47 {
        versions: 0..=0,
        flexible: NEVER_FLEXIBLE,
        request: OffsetDeleteRequest => guarded(requests::OFFSET_DELETE),
        response: OffsetDeleteResponse => responses::OFFSET_DELETE,
        note: "",
    }
    DescribeCluster = 60 {
        versions: 0..=1,
        flexible: 0,
        request: DescribeClusterRequest => guarded(requests::DESCRIBE_CLUSTER),
        response: DescribeClusterResponse => responses::DESCRIBE_CLUSTER,
        note: "",
    }
}
