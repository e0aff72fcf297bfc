//! The JSON requests: who leads a partition, and make another broker lead it.
//!
//! ```json
//! {"type":"partition_leader","msg_id":1,"topic":"orders","partition":0}
//! {"type":"partition_leader_ok","in_reply_to":1,"leader":"broker-1","followers":["broker-2","broker-3"],"term":3}
//! {"type":"partition_failover","msg_id":2,"topic":"orders","partition":0,"failed_leader":"broker-1"}
//! {"type":"partition_failover_ok","in_reply_to":2,"new_leader":"broker-2","new_term":4,"failover_ms":250}
//! ```
//!
//! Any broker answers. What goes wrong is answered as Maelstrom does, with its codes:
//! `{"type":"error","in_reply_to":1,"code":20,"text":"there is no topic `orders`"}`.

use crate::engine::{ClusterView, Engine};
use crate::ids;
use axum::http::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trimaran_registry::catalog::Partition;
use trimaran_registry::leaders::Leadership;
use trimaran_registry::{BrokerId, GroupId, PartitionIndex};
use trimaran_wire::json::{self, Answer, ErrorCode, Reply, Request};

/// How long a question waits for a leader: longer than any election in a cluster that has a majority.
const LEADER_DEADLINE: Duration = Duration::from_secs(3);

/// How long a failover on request may take.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);

/// Why a request fails, in Maelstrom's words (<https://github.com/jepsen-io/maelstrom/blob/main/doc/protocol.md#errors>).
#[derive(Debug)]
enum Failure {
    Malformed(String),
    /// A request of somewhere else.
    NotHere(String),
    NotThere(String),
    /// The cluster is not as the request says.
    Precondition(String),
    /// Try again later.
    Unavailable(String),
    /// It may or may not happen yet.
    TimedOut(String),
}

impl Failure {
    fn reply(self) -> (StatusCode, Reply) {
        let (status, code, text) = match self {
            Failure::Malformed(text) => (StatusCode::BAD_REQUEST, ErrorCode::MalformedRequest, text),
            Failure::NotHere(text) => (StatusCode::BAD_REQUEST, ErrorCode::NotSupported, text),
            Failure::NotThere(text) => (StatusCode::NOT_FOUND, ErrorCode::KeyDoesNotExist, text),
            Failure::Precondition(text) => (StatusCode::CONFLICT, ErrorCode::PreconditionFailed, text),
            Failure::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TemporarilyUnavailable, text),
            Failure::TimedOut(text) => (StatusCode::GATEWAY_TIMEOUT, ErrorCode::Timeout, text),
        };
        (status, Reply::Error { code, text })
    }
}

/// The answer to a body.
pub(super) async fn answer(engine: &Engine, body: &[u8]) -> (StatusCode, String) {
    let (in_reply_to, request) = match json::parse_body(body) {
        Ok(request) => request,
        Err(error) => return text(StatusCode::BAD_REQUEST, error.msg_id, error.reply()),
    };
    let result = match request {
        Request::PartitionLeader { topic, partition } => partition_leader(engine, &topic, partition).await,
        Request::PartitionFailover {
            topic,
            partition,
            failed_leader,
        } => partition_failover(engine, &topic, partition, &failed_leader).await,
        Request::Init { .. }
        | Request::Send { .. }
        | Request::Poll { .. }
        | Request::CommitOffsets { .. }
        | Request::ListCommittedOffsets { .. }
        | Request::Peer { .. } => Err(Failure::NotHere(
            "this is a request of `trimaran node`; here there are partition_leader and partition_failover".to_owned(),
        )),
    };
    let (status, reply) = match result {
        Ok(reply) => (StatusCode::OK, reply),
        Err(failure) => failure.reply(),
    };
    text(status, in_reply_to, reply)
}

/// The answer to a body that can't be read at all.
pub(super) fn unreadable(status: StatusCode, what: String) -> (StatusCode, String) {
    let (_, reply) = Failure::Malformed(what).reply();
    text(status, None, reply)
}

fn text(status: StatusCode, in_reply_to: Option<u64>, reply: Reply) -> (StatusCode, String) {
    let answer = Answer {
        in_reply_to,
        msg_id: None,
        reply,
    };
    // Strings and numbers always have a JSON form; were it otherwise, an empty object says so.
    let mut text = serde_json::to_string(&answer).unwrap_or_else(|_| "{}".to_owned());
    text.push('\n');
    (status, text)
}

async fn partition_leader(engine: &Engine, topic: &str, partition: u32) -> Result<Reply, Failure> {
    let found = find(engine, topic, partition)?;
    let (leader, term) = leader_of(engine, found.group).await?;
    Ok(Reply::PartitionLeaderOk {
        leader: ids::broker_name(leader),
        followers: found
            .assigned()
            .into_iter()
            .filter(|replica| *replica != leader)
            .map(ids::broker_name)
            .collect(),
        term,
    })
}

async fn partition_failover(
    engine: &Engine,
    topic: &str,
    partition: u32,
    failed_leader: &str,
) -> Result<Reply, Failure> {
    let began = Instant::now();
    let failed = ids::broker_of_name(failed_leader).ok_or_else(|| {
        Failure::Malformed(format!(
            "`failed_leader` is `{failed_leader}`, but brokers are called broker-1, broker-2, ..."
        ))
    })?;
    let found = find(engine, topic, partition)?;
    let replicas = found.assigned();
    if !replicas.contains(&failed) {
        return Err(Failure::Precondition(format!(
            "{failed_leader} has no replica of {topic}/{partition}"
        )));
    }
    if replicas.len() == 1 {
        return Err(Failure::Precondition(format!(
            "{topic}/{partition} has no other replica than {failed_leader}"
        )));
    }
    // If another one leads already, a repeated request does no harm, and gets the same answer.
    let now = engine
        .fail_over(ids::group(found.group), failed, FAILOVER_DEADLINE)
        .await;
    let Some((leader, term)) = now.and_then(|now| Some((now.leader?, now.term.0))) else {
        return Err(Failure::TimedOut(format!(
            "no other replica of {topic}/{partition} has taken over within {} s: a majority of its replicas must be alive",
            FAILOVER_DEADLINE.as_secs()
        )));
    };
    Ok(Reply::PartitionFailoverOk {
        new_leader: ids::broker_name(leader),
        new_term: term,
        failover_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn find(engine: &Engine, topic: &str, partition: u32) -> Result<Partition, Failure> {
    let catalog = engine.catalog();
    let Some(known) = catalog.topic(topic) else {
        return Err(Failure::NotThere(format!("there is no topic `{topic}`")));
    };
    let index = i32::try_from(partition).ok().map(PartitionIndex);
    match index.and_then(|index| catalog.partition(topic, index)) {
        Some(found) => Ok(found.clone()),
        None => Err(Failure::NotThere(format!(
            "topic `{topic}` has {} partition(s), counted from 0: there is no partition {partition}",
            known.partitions.len()
        ))),
    }
}

/// The leader that serves, after an election if one is under way.
async fn leader_of(engine: &Engine, group: GroupId) -> Result<(BrokerId, u64), Failure> {
    let leads = |view: &Arc<ClusterView>| {
        let now = leadership(view, group)?;
        Some((now.leader?, now.term.0))
    };
    let view = engine.wait_until(LEADER_DEADLINE, |view| leads(view).is_some()).await;
    view.as_ref()
        .and_then(leads)
        .ok_or_else(|| Failure::Unavailable("no leader is known: a majority of the replicas must be alive".to_owned()))
}

fn leadership(view: &ClusterView, group: GroupId) -> Option<Leadership> {
    view.leaders.leadership(group).cloned()
}
