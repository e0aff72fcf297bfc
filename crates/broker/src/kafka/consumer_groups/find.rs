//! FindCoordinator.

use crate::coordinators::topic;
use crate::engine::ClusterView;
use crate::ids;
use crate::kafka::authorization::{Operation, Resource};
use crate::kafka::context::{Answer, Context};
use crate::kafka::errors::Failure;
use crate::kafka::partitions::text;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use trimaran_registry::catalog::Broker;
use trimaran_transport::Reply;

/// Kafka's types of coordinators.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The first version that asks for several coordinators (KIP-699).
const FIRST_BATCHED_VERSION: i16 = 4;

/// The time that an answer waits for a coordinator: until the first group's topic is created, or a lost leader has a
/// successor. Clients give an answer 30 seconds, and ask again after it has said that there is no coordinator yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time after which a creation that has failed is begun again, while an answer waits for it: brokers register one
/// after the other as a cluster starts.
const CREATE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Describe on each group or transactional id.
impl Answer for FindCoordinatorRequest {
    async fn answer(self, context: Context) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        let response = FindCoordinatorResponse::default();
        if context.version() < FIRST_BATCHED_VERSION {
            let found = find(&context, self.key_type, &self.key, deadline).await;
            return context.respond(&match found {
                Ok(broker) => response
                    .with_node_id(BrokerId(broker.id.0))
                    .with_host(text(&broker.client.host))
                    .with_port(i32::from(broker.client.port)),
                Err(failure) => response
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(failure.code())
                    .with_error_message(failure.text()),
            });
        }
        let mut coordinators = Vec::with_capacity(self.coordinator_keys.len());
        for key in self.coordinator_keys {
            let coordinator = Coordinator::default().with_key(key.clone());
            coordinators.push(match find(&context, self.key_type, &key, deadline).await {
                Ok(broker) => coordinator
                    .with_node_id(BrokerId(broker.id.0))
                    .with_host(text(&broker.client.host))
                    .with_port(i32::from(broker.client.port)),
                Err(failure) => coordinator
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(failure.code())
                    .with_error_message(failure.text()),
            });
        }
        context.respond(&response.with_coordinators(coordinators))
    }
}

async fn find(context: &Context, key_type: i8, key: &str, deadline: Instant) -> Result<Arc<Broker>, Failure> {
    match key_type {
        GROUP => {
            context.authorize(Operation::Describe, Resource::Group(key))?;
            let not_available = || {
                let message = "the group's coordinator is being elected, or its topic is being created; ask again";
                Failure::new(ResponseError::CoordinatorNotAvailable, message)
            };
            find_group(context, key, deadline).await.ok_or_else(not_available)
        }
        TRANSACTION => {
            context.authorize(Operation::Describe, Resource::TransactionalId(key))?;
            // One that clients pass on at once with the message: any other, librdkafka's transactional producer would
            // retry until a time-out hides the reason.
            let message = "transactions are not supported yet";
            Err(Failure::new(ResponseError::TransactionalIdAuthorizationFailed, message))
        }
        _ => {
            let message = "there is no such type of coordinator";
            Err(Failure::new(ResponseError::InvalidRequest, message))
        }
    }
}

/// The broker that coordinates a group. Creates the topic that holds the groups, if there is none.
async fn find_group(context: &Context, group: &str, deadline: Instant) -> Option<Arc<Broker>> {
    let engine = context.engine();
    loop {
        let view = engine.view();
        if let Some(broker) = coordinator(&view, group) {
            return Some(broker);
        }
        if view.catalog.topic(topic::NAME).is_none() {
            context.shared.creations.begin(engine, topic::NAME);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || engine.is_stopping() {
            return None;
        }
        let found = |view: &Arc<ClusterView>| coordinator(view, group).is_some();
        let _ = engine.wait_until(left.min(CREATE_AGAIN_AFTER), found).await;
    }
}

/// The broker that leads the group's partition, and serves.
fn coordinator(view: &ClusterView, group: &str) -> Option<Arc<Broker>> {
    let partition = ids::catalog_group(topic::partition_of(view, group)?);
    let serves = view.leaders.leadership(partition)?.serving;
    let leader = view.leader(partition).filter(|_| serves)?;
    view.catalog.broker(leader).cloned()
}
