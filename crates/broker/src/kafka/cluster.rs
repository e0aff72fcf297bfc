//! ApiVersions and DescribeCluster.

use super::authorization::{Access, Operation, Resource};
use super::context::{Answer, Context};
use super::partitions::text;
use crate::engine::ClusterView;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{ApiVersionsRequest, BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;
use trimaran_registry::catalog::Broker;
use trimaran_transport::Reply;
use trimaran_wire::api;

/// The first version of ApiVersions in which a client names its software (KIP-511).
const FIRST_SOFTWARE_VERSION: i16 = 3;

/// Needs no permission. The client's software is noted for log lines.
impl Answer for ApiVersionsRequest {
    async fn answer(self, context: Context) -> Reply {
        let version = context.version();
        let error = software_error(version, &self);
        if error.is_none() && version >= FIRST_SOFTWARE_VERSION {
            let (name, version) = (&self.client_software_name, &self.client_software_version);
            context.session.note_software(name, version);
            tracing::debug!(
                client = %context.session,
                listener = %context.session.connection().listener,
                authentication = ?context.session.authentication(),
                "a client has named its software"
            );
        }
        context.respond(&api::versions_response(error.map_or(0, |error| error.code())))
    }
}

/// The error for names of a client's software that Kafka does not take: they end up in metrics, so only letters,
/// digits, dots and hyphens are taken, of which the last two neither begin nor end a name.
fn software_error(version: i16, request: &ApiVersionsRequest) -> Option<ResponseError> {
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

/// The bit field of authorized operations that were not asked for.
pub(super) const NOT_ASKED: i32 = i32::MIN;

/// Kafka's endpoint types (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// The operations on the cluster that the client may do, if it asked for them. A client that may not describe the
/// cluster learns of none, as from Kafka.
pub(super) fn operations(access: Access<'_>, asked: bool) -> i32 {
    match asked {
        false => NOT_ASKED,
        true if access.allows(Operation::Describe, Resource::Cluster) => access.operations(Resource::Cluster),
        true => 0,
    }
}

/// The controller as clients know it; -1 if there is none.
pub(super) fn controller(view: &ClusterView) -> BrokerId {
    BrokerId(view.controller.map_or(-1, |controller| controller.0))
}

/// The cluster's id; before it has one, the id that it will get.
pub(super) fn cluster_id(view: &ClusterView, configured: &str) -> StrBytes {
    text(view.catalog.cluster_id().unwrap_or(configured))
}

/// Needs no permission, but for the operations' bit field.
impl Answer for DescribeClusterRequest {
    async fn answer(self, context: Context) -> Reply {
        let id = &context.engine().settings().cluster.id;
        context.respond(&describe(context.access(), &context.view, id, &self))
    }
}

fn describe(
    access: Access<'_>,
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
            .with_cluster_authorized_operations(operations(access, request.include_cluster_authorized_operations)),
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
