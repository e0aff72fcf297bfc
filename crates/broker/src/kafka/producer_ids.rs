//! InitProducerId for idempotent producers.

use super::authorization::{Access, Operation, Resource};
use super::context::{Answer, Context};
use super::errors::{self, Failure};
use crate::engine::Engine;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use std::time::Duration;
use trimaran_registry::agent::AdminError;
use trimaran_transport::Reply;

/// The time that the controller may take: Kafka's clients wait 30 seconds for an answer, and should have time to ask again.
const DEADLINE: Duration = Duration::from_secs(10);

/// Write on the transactional id; without one, IdempotentWrite on the cluster, or Write on any topic: a producer that
/// may write somewhere may do so without duplicates.
fn authorize(access: Access<'_>, request: &InitProducerIdRequest) -> Result<(), Failure> {
    match &request.transactional_id {
        Some(id) => access.authorize(Operation::Write, Resource::TransactionalId(id)),
        None if access.allows(Operation::Write, Resource::AnyTopic) => Ok(()),
        None => access.authorize(Operation::IdempotentWrite, Resource::Cluster),
    }
}

impl Answer for InitProducerIdRequest {
    async fn answer(self, context: Context) -> Reply {
        let response = match authorize(context.access(), &self) {
            Ok(()) => init(context.engine(), &self).await,
            Err(failure) => refused(failure.error),
        };
        context.respond(&response)
    }
}

/// A producer without a transactional id always gets a new id, with epoch 0, as from Kafka.
async fn init(engine: &Engine, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    if let Some(transactional_id) = &request.transactional_id {
        // An empty id is the client's mistake; any other asks for what is not there yet.
        return refused(if transactional_id.is_empty() {
            ResponseError::InvalidRequest
        } else {
            ResponseError::TransactionalIdAuthorizationFailed
        });
    }
    match engine.producer_id(DEADLINE).await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        // The one error that every client's idempotent producer retries here.
        Err(AdminError::TimedOut | AdminError::Overloaded) => refused(ResponseError::CoordinatorLoadInProgress),
        Err(error @ AdminError::Refused(_)) => refused(errors::admin(&error).error),
    }
}

fn refused(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
