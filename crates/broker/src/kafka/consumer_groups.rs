//! Consumer groups: finding their coordinators, membership, committed offsets, and their administration.
//!
//! A request becomes a [`Request`] of the coordinator crate, is handed to the coordinator of its group's partition
//! ([`crate::coordinators`]), and its reply becomes the response. Nothing is decided here but permissions, the existence
//! of topics, and what the versions of a message differ in.

mod administration;
mod find;
mod membership;
mod offsets;

use super::context::Context;
use super::errors::{self, Failure};
use crate::coordinators::topic;
use crate::engine::Engine;
use kafka_protocol::protocol::StrBytes;
use trimaran_coordinator::{Error, Reply, Request};
use trimaran_raft::GroupId;

/// Hands a request to the coordinator of a group.
///
/// # Errors
/// The coordinator is elsewhere, or can't answer yet.
async fn ask(context: &Context, group: &str, request: Request) -> Result<Reply, Error> {
    // The view of now, and not the one of the request's arrival: a group may have waited for its topic.
    let engine = context.engine();
    let partition = topic::partition_of(&engine.view(), group).ok_or(Error::NotCoordinator)?;
    match engine.coordinators().ask(partition, request).await {
        // Its task has not heard yet that this broker leads: to look elsewhere would be in vain.
        Err(Error::NotCoordinator) if leads(engine, partition) => Err(Error::CoordinatorLoadInProgress),
        outcome => outcome,
    }
}

/// Whether this broker leads and serves, as far as it knows.
fn leads(engine: &Engine, partition: GroupId) -> bool {
    let leadership = engine.leader_of(partition);
    leadership.is_some_and(|found| found.serving && found.leader == Some(engine.broker_id()))
}

/// A reply to another request would be a bug of the coordinator; to the client it is no reply.
fn unexpected() -> Failure {
    errors::coordinator(Error::CoordinatorNotAvailable)
}

fn owned(text: &Option<StrBytes>) -> Option<String> {
    text.as_ref().map(|text| text.to_string())
}
