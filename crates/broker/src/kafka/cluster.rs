//! ApiVersions, DescribeCluster and FindCoordinator.

use super::partitions::text;
use crate::engine::ClusterView;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse,
};
use kafka_protocol::protocol::StrBytes;
use trimaran_registry::catalog::Broker;

/// The first version of ApiVersions in which a client names its software (KIP-511).
const FIRST_SOFTWARE_VERSION: i16 = 3;

/// What is wrong with the names that a client gives its software: they end up in metrics, so that Kafka takes only letters,
/// digits, dots and hyphens, of which the last two neither begin nor end a name.
pub(super) fn software_error(version: i16, request: &ApiVersionsRequest) -> Option<ResponseError> {
    let names = [&request.client_software_name, &request.client_software_version];
    let is_valid = |name: &&StrBytes| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        let is_outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        is_outer(bytes.first()) && is_outer(bytes.last()) && bytes.iter().all(|byte| is_inner(*byte))
    };
    let is_refused = version >= FIRST_SOFTWARE_VERSION && !names.iter().all(is_valid);
    is_refused.then_some(ResponseError::InvalidRequest)
}

/// What stands for "not asked for" among authorized operations.
const NOT_ASKED: i32 = i32::MIN;

/// Without an authorizer, everything that can be done to a cluster may be done: the bits of create (5), alter (7),
/// describe (8), cluster action (9), describe configs (10), alter configs (11) and idempotent write (12), as in Kafka.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Kafka's endpoint types (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn cluster_operations(asked: bool) -> i32 {
    if asked { CLUSTER_OPERATIONS } else { NOT_ASKED }
}

/// The controller as clients know it; -1 if there is none.
pub(super) fn controller(view: &ClusterView) -> BrokerId {
    BrokerId(view.controller.map_or(-1, |controller| controller.0))
}

/// The id that the cluster has; before it has one, the id that it shall have.
pub(super) fn cluster_id(view: &ClusterView, configured: &str) -> StrBytes {
    text(view.catalog.cluster_id().unwrap_or(configured))
}

pub(super) fn describe(
    view: &ClusterView,
    configured_id: &str,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_endpoint_type(request.endpoint_type);
    let refuse = |error: ResponseError, message: &'static str| {
        response
            .clone()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message)))
    };
    match request.endpoint_type {
        BROKERS => response
            .clone()
            .with_cluster_id(cluster_id(view, configured_id))
            .with_controller_id(controller(view))
            .with_brokers(view.reachable_brokers().map(|broker| described(broker)).collect())
            .with_cluster_authorized_operations(cluster_operations(request.include_cluster_authorized_operations)),
        CONTROLLERS => refuse(
            ResponseError::MismatchedEndpointType,
            "this is a broker's listener: controllers have none of their own",
        ),
        _ => refuse(ResponseError::UnsupportedEndpointType, "there is no such endpoint type"),
    }
}

fn described(broker: &Broker) -> DescribeClusterBroker {
    DescribeClusterBroker::default()
        .with_broker_id(BrokerId(broker.id.0))
        .with_host(text(&broker.client.host))
        .with_port(i32::from(broker.client.port))
        .with_rack(broker.rack.as_deref().map(text))
}

/// Consumer groups and transactions are not offered yet. librdkafka's consumer asks for its group's coordinator even if
/// it is only assigned partitions, which needs none, and hands every error to the application that does not say "later":
/// so this one does. For transactions it is one that clients pass on at once with the message: any other, librdkafka's
/// transactional producer would retry until a time-out hides the reason.
pub(super) fn find_coordinator(request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    let (error, message) = match request.key_type {
        0 => (
            ResponseError::CoordinatorNotAvailable,
            "consumer groups are not supported yet",
        ),
        1 => (
            ResponseError::TransactionalIdAuthorizationFailed,
            "transactions are not supported yet",
        ),
        _ => (ResponseError::InvalidRequest, "there is no such type of coordinator"),
    };
    let message = StrBytes::from_static_str(message);
    let none = BrokerId(-1);
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(none)
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(message.clone()))
    });
    let response = FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    if request.coordinator_keys.is_empty() {
        // Before v4 there is one key, and the answer is the response itself.
        return response
            .with_node_id(none)
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(message));
    }
    response
}
