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
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trimaran_registry::catalog::Partition;
use trimaran_registry::leaders::Leadership;
use trimaran_registry::{BrokerId, GroupId, PartitionIndex};

/// How long a question waits for a leader: longer than any election in a cluster that has a majority.
const LEADER_DEADLINE: Duration = Duration::from_secs(3);

/// How long a failover on request may take.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);

/// A request, as it stands in the body.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    PartitionLeader {
        msg_id: Option<u64>,
        topic: String,
        partition: i32,
    },
    PartitionFailover {
        msg_id: Option<u64>,
        topic: String,
        partition: i32,
        failed_leader: String,
    },
}

/// A response; the order of fields is the document's.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Answer {
    PartitionLeaderOk {
        #[serde(skip_serializing_if = "Option::is_none")]
        in_reply_to: Option<u64>,
        leader: String,
        followers: Vec<String>,
        term: u64,
    },
    PartitionFailoverOk {
        #[serde(skip_serializing_if = "Option::is_none")]
        in_reply_to: Option<u64>,
        new_leader: String,
        new_term: u64,
        failover_ms: u64,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        in_reply_to: Option<u64>,
        code: u32,
        text: String,
    },
}

/// Why a request fails, in Maelstrom's words (<https://github.com/jepsen-io/maelstrom/blob/main/doc/protocol.md#errors>).
#[derive(Debug)]
enum Failure {
    Malformed(String),
    NotThere(String),
    /// The cluster is not as the request says.
    Precondition(String),
    /// Try again later.
    Unavailable(String),
    /// It may or may not happen yet.
    TimedOut(String),
}

impl Failure {
    fn answer(self, in_reply_to: Option<u64>) -> (StatusCode, Answer) {
        let (status, code, text) = match self {
            Failure::Malformed(text) => (StatusCode::BAD_REQUEST, 12, text),
            Failure::NotThere(text) => (StatusCode::NOT_FOUND, 20, text),
            Failure::Precondition(text) => (StatusCode::CONFLICT, 22, text),
            Failure::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, 11, text),
            Failure::TimedOut(text) => (StatusCode::GATEWAY_TIMEOUT, 0, text),
        };
        let error = Answer::Error {
            in_reply_to,
            code,
            text,
        };
        (status, error)
    }
}

/// The answer to a body.
pub(super) async fn answer(engine: &Engine, body: &[u8]) -> (StatusCode, String) {
    let request: Request = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => return malformed(format!("not a request that is known here: {error}")),
    };
    let (in_reply_to, result) = match request {
        Request::PartitionLeader {
            msg_id,
            topic,
            partition,
        } => (msg_id, partition_leader(engine, msg_id, &topic, partition).await),
        Request::PartitionFailover {
            msg_id,
            topic,
            partition,
            failed_leader,
        } => {
            let result = partition_failover(engine, msg_id, &topic, partition, &failed_leader).await;
            (msg_id, result)
        }
    };
    let (status, answer) = match result {
        Ok(answer) => (StatusCode::OK, answer),
        Err(failure) => failure.answer(in_reply_to),
    };
    (status, text(&answer))
}

/// The answer to a body that is no request.
pub(super) fn malformed(what: String) -> (StatusCode, String) {
    let (status, answer) = Failure::Malformed(what).answer(None);
    (status, text(&answer))
}

fn text(answer: &Answer) -> String {
    // Strings and numbers always have a JSON form; were it otherwise, an empty object says so.
    let mut text = serde_json::to_string(answer).unwrap_or_else(|_| "{}".to_owned());
    text.push('\n');
    text
}

async fn partition_leader(
    engine: &Engine,
    in_reply_to: Option<u64>,
    topic: &str,
    partition: i32,
) -> Result<Answer, Failure> {
    let found = find(engine, topic, partition)?;
    let (leader, term) = leader_of(engine, found.group).await?;
    Ok(Answer::PartitionLeaderOk {
        in_reply_to,
        leader: ids::broker_name(leader),
        followers: found
            .replicas
            .iter()
            .filter(|replica| **replica != leader)
            .map(|replica| ids::broker_name(*replica))
            .collect(),
        term,
    })
}

async fn partition_failover(
    engine: &Engine,
    in_reply_to: Option<u64>,
    topic: &str,
    partition: i32,
    failed_leader: &str,
) -> Result<Answer, Failure> {
    let began = Instant::now();
    let failed = ids::broker_of_name(failed_leader).ok_or_else(|| {
        Failure::Malformed(format!(
            "`failed_leader` is `{failed_leader}`, but brokers are called broker-1, broker-2, ..."
        ))
    })?;
    let found = find(engine, topic, partition)?;
    if !found.replicas.contains(&failed) {
        return Err(Failure::Precondition(format!(
            "{failed_leader} has no replica of {topic}/{partition}"
        )));
    }
    if found.replicas.len() == 1 {
        return Err(Failure::Precondition(format!(
            "{topic}/{partition} has no other replica than {failed_leader}"
        )));
    }
    let before = leadership(&engine.view(), found.group);
    let known_term = before.as_ref().map_or(0, |before| before.term.0);
    // Another one leads already: a repeated request does no harm, and gets the same answer.
    let done = before.is_some_and(|before| before.serving && before.leader != Some(failed));
    if !done {
        engine.fail_over(ids::group(found.group), Some(failed));
    }
    let group = found.group;
    let view = engine
        .wait_until(FAILOVER_DEADLINE, |view| {
            leadership(view, group).is_some_and(|now| {
                let newer = done || now.term.0 > known_term;
                newer && now.serving && now.leader.is_some_and(|leader| leader != failed)
            })
        })
        .await;
    let now = view.and_then(|view| leadership(&view, group));
    let Some((leader, term)) = now.and_then(|now| Some((now.leader?, now.term.0))) else {
        return Err(Failure::TimedOut(format!(
            "no other replica of {topic}/{partition} has taken over within {} s: a majority of its replicas must be alive",
            FAILOVER_DEADLINE.as_secs()
        )));
    };
    Ok(Answer::PartitionFailoverOk {
        in_reply_to,
        new_leader: ids::broker_name(leader),
        new_term: term,
        failover_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn find(engine: &Engine, topic: &str, partition: i32) -> Result<Partition, Failure> {
    let catalog = engine.catalog();
    let Some(known) = catalog.topic(topic) else {
        return Err(Failure::NotThere(format!("there is no topic `{topic}`")));
    };
    match catalog.partition(topic, PartitionIndex(partition)) {
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
