//! What clients wait for: every request goes on step by step, until it is answered or its time is up.

use super::body::{Forwarded, Replied};
use super::room::{Fault, Message, News, OFFSETS_TOPIC, RESERVED, Room};
use super::{Names, Now};
use crate::ids;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use trimaran_coordinator::{self as coordinator, Command, Commit, Mode, OffsetStore, partition_for};
use trimaran_multiraft::{AppendError, Appended, ReadError};
use trimaran_raft::{GroupId, Instant, NodeId};
use trimaran_registry::agent::{AdminError, AdminReply, AdminRequest};
use trimaran_registry::{CatalogError, CommandIndex, Fault as Blame, PartitionIndex};
use trimaran_wire::json::{ErrorCode, Reply, Request};

/// How long a client's request may take: less than Maelstrom's clients wait, so that they learn whether it happened.
const CLIENT_TIME: Duration = Duration::from_millis(4_000);

/// How long a request of another node may take: less than that node waits.
const FORWARDED_TIME: Duration = Duration::from_millis(3_000);

/// How long a failover may take.
const FAILOVER_TIME: Duration = Duration::from_secs(10);

/// Between two attempts at what could not be done.
const RETRY: Duration = Duration::from_millis(100);

/// Requests that wait at once, at most.
const MOST_WAITING: usize = 10_000;

/// A partition's number that a request may create: a caller that asks for more means something else.
const LAST_PARTITION: u32 = 999;

/// Logs in one poll, at most.
const LOGS_PER_POLL: usize = 10_000;

/// The consumer group of all of Maelstrom's clients.
const GROUP: &str = "maelstrom";

/// Who is to be answered.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) src: String,
    pub(super) msg_id: Option<u64>,
    /// Another node, which has been asked by a client: not to be sent on again.
    node: bool,
}

/// An answer.
pub(super) enum Outcome {
    Own(Reply),
    /// Another node's.
    Relayed(Map<String, Value>),
}

/// An answer, and for whom.
pub(super) struct Answered {
    pub(super) asker: Asker,
    pub(super) outcome: Outcome,
}

/// What is to become of a record once it is committed.
#[derive(Clone, Debug)]
enum Then {
    Sent,
    Committed,
    /// The commit was empty: it only made sure that all commits before it are seen.
    Listed(Vec<String>),
}

enum Task {
    Leader {
        topic: String,
        partition: u32,
    },
    Failover {
        topic: String,
        partition: u32,
        failed: NodeId,
        began: Instant,
        /// The term known when the replicas were told.
        told: Option<u64>,
    },
    Append {
        topic: String,
        value: Vec<u8>,
        then: Then,
        request: Request,
    },
    Poll {
        wanted: BTreeMap<String, u64>,
        found: BTreeMap<String, Vec<(u64, Value)>>,
        /// Reads and questions to other nodes that are not answered.
        open: usize,
        asked: bool,
    },
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// It goes on when something changes, or then.
    Waiting(Instant),
    /// Somebody works on it, and will say so. Whether it happens is not known until then.
    Handed,
}

struct Pending {
    asker: Asker,
    deadline: Instant,
    stage: Stage,
    task: Task,
    /// The controller was asked for its topic or partition.
    creating: bool,
}

/// What one step of a request came to.
enum Step {
    /// It waits for news, and is tried again after a while.
    Wait,
    /// It was handed to somebody.
    Handed,
    Done(Reply),
}

/// All requests that wait.
pub(super) struct Requests {
    names: Names,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    /// Appends at this node's replicas, by ticket.
    appends: BTreeMap<u64, u64>,
    /// Reads at this node's replicas, with their logs.
    reads: BTreeMap<u64, (u64, String)>,
    /// Questions to the controller.
    creations: BTreeMap<u64, u64>,
    /// Questions to other nodes, by their number, with the node.
    forwards: BTreeMap<u64, (u64, NodeId)>,
    forwarded: Vec<Forwarded>,
    answered: Vec<Answered>,
    /// Versions of what was last looked at.
    seen: (CommandIndex, u64),
}

impl Requests {
    pub(super) fn new(names: Names) -> Requests {
        Requests {
            names,
            pending: BTreeMap::new(),
            next: 0,
            appends: BTreeMap::new(),
            reads: BTreeMap::new(),
            creations: BTreeMap::new(),
            forwards: BTreeMap::new(),
            forwarded: Vec::new(),
            answered: Vec::new(),
            seen: (CommandIndex(0), 0),
        }
    }

    /// When something is to be tried again, or given up.
    pub(super) fn deadline(&self) -> Instant {
        let next = |pending: &Pending| match pending.stage {
            Stage::Waiting(at) => at.min(pending.deadline),
            Stage::Handed => pending.deadline,
        };
        self.pending.values().map(next).min().unwrap_or(Instant(u64::MAX))
    }

    /// Takes a request, or answers it at once.
    pub(super) fn take(&mut self, now: Now, asker: Asker, request: Request) -> Option<Reply> {
        if self.pending.len() >= MOST_WAITING {
            return Some(unavailable("too many requests wait here"));
        }
        let task = match self.task(now, request) {
            Ok(task) => task,
            Err(reply) => return Some(reply),
        };
        let time = match (&task, asker.node) {
            (Task::Failover { .. }, _) => FAILOVER_TIME,
            (_, true) => FORWARDED_TIME,
            (_, false) => CLIENT_TIME,
        };
        let pending = Pending {
            asker,
            deadline: now.at + time,
            stage: Stage::Waiting(now.at),
            task,
            creating: false,
        };
        self.next += 1;
        self.pending.insert(self.next, pending);
        None
    }

    fn task(&self, now: Now, request: Request) -> Result<Task, Reply> {
        match &request {
            Request::PartitionLeader { topic, partition } => {
                check_partition(topic, *partition)?;
                Ok(Task::Leader {
                    topic: topic.clone(),
                    partition: *partition,
                })
            }
            Request::PartitionFailover {
                topic,
                partition,
                failed_leader,
            } => {
                check_partition(topic, *partition)?;
                let failed = self.names.node(failed_leader).ok_or_else(|| {
                    error(
                        ErrorCode::PreconditionFailed,
                        format!("there is no node {failed_leader:?}"),
                    )
                })?;
                let (topic, partition) = (topic.clone(), *partition);
                Ok(Task::Failover {
                    topic,
                    partition,
                    failed,
                    began: now.at,
                    told: None,
                })
            }
            Request::Send { key, msg } => {
                check_topic(key)?;
                let value = serde_json::to_vec(msg).map_err(|bad| malformed(bad.to_string()))?;
                Ok(Task::Append {
                    topic: key.clone(),
                    value,
                    then: Then::Sent,
                    request,
                })
            }
            Request::Poll { offsets } if offsets.len() > LOGS_PER_POLL => {
                Err(malformed(format!("a poll is for at most {LOGS_PER_POLL} logs")))
            }
            Request::Poll { offsets } => Ok(Task::Poll {
                wanted: offsets.clone(),
                found: BTreeMap::new(),
                open: 0,
                asked: false,
            }),
            Request::CommitOffsets { offsets } => {
                let value = commit(now, offsets)?;
                Ok(Task::Append {
                    topic: OFFSETS_TOPIC.to_owned(),
                    value,
                    then: Then::Committed,
                    request,
                })
            }
            Request::ListCommittedOffsets { keys } => {
                let value = commit(now, &BTreeMap::new())?;
                let then = Then::Listed(keys.clone());
                Ok(Task::Append {
                    topic: OFFSETS_TOPIC.to_owned(),
                    value,
                    then,
                    request,
                })
            }
            Request::Init { .. } | Request::Peer { .. } => {
                Err(error(ErrorCode::NotSupported, "not a client's request".to_owned()))
            }
        }
    }

    /// Another node has answered. An answer to nothing that is open came too late.
    pub(super) fn replied(&mut self, now: Now, replied: Replied) {
        let Some(number) = replied.in_reply_to else { return };
        let asked = self.forwards.get(&number).copied();
        let Some((id, _)) = asked.filter(|(_, node)| self.names.node(&replied.src) == Some(*node)) else {
            return;
        };
        self.forwards.remove(&number);
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        if let Task::Poll { found, open, .. } = &mut pending.task {
            *open -= 1;
            found.extend(replied.polled());
            pending.stage = Stage::Waiting(now.at);
        } else if replied.is_unavailable() {
            pending.stage = Stage::Waiting(now.at + RETRY);
        } else {
            self.finish(id, Outcome::Relayed(replied.body));
        }
    }

    /// Whatever can go on does.
    pub(super) fn work(&mut self, now: Now, room: &mut Room) -> Result<(), Fault> {
        loop {
            let news = room.news();
            let progress = !news.is_empty();
            news.into_iter().for_each(|news| self.hear(now, room, news));
            let versions = (room.catalog().applied(), room.leaders().version());
            let changed = std::mem::replace(&mut self.seen, versions) != versions;
            let due = |pending: &Pending| match pending.stage {
                Stage::Waiting(at) => changed || at <= now.at,
                Stage::Handed => false,
            };
            let ready: Vec<u64> = self.pending.iter().filter(|(_, p)| due(p)).map(|(id, _)| *id).collect();
            if ready.is_empty() && !progress {
                self.expire(now);
                return Ok(());
            }
            for id in ready {
                self.go_on(now, room, id)?;
            }
            room.work(now)?;
        }
    }

    /// Gives up what has run out of time.
    pub(super) fn expire(&mut self, now: Now) {
        let over: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, p)| p.deadline <= now.at)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let Some(pending) = self.pending.get_mut(&id) else {
                continue;
            };
            let reply = match (&mut pending.task, pending.stage) {
                // A poll may return less than there is.
                (Task::Poll { found, asked: true, .. }, _) => Reply::PollOk {
                    msgs: std::mem::take(found),
                },
                (Task::Failover { told: Some(_), .. }, _) => error(
                    ErrorCode::Timeout,
                    "no other node has taken over: a majority of the replicas must be alive".to_owned(),
                ),
                (_, Stage::Waiting(_)) => unavailable("no leader is known: a majority of the replicas must be alive"),
                (_, Stage::Handed) => error(
                    ErrorCode::Timeout,
                    "no answer in time: it may or may not happen".to_owned(),
                ),
            };
            self.finish(id, Outcome::Own(reply));
        }
    }

    /// Answers since the last time.
    pub(super) fn answers(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    /// Questions to other nodes since the last time.
    pub(super) fn forwarded(&mut self) -> Vec<Forwarded> {
        std::mem::take(&mut self.forwarded)
    }

    fn finish(&mut self, id: u64, outcome: Outcome) {
        if let Some(pending) = self.pending.remove(&id) {
            self.answered.push(Answered {
                asker: pending.asker,
                outcome,
            });
            self.forwards.retain(|_, (of, _)| *of != id);
        }
    }

    fn hear(&mut self, now: Now, room: &Room, news: News) {
        match news {
            News::Appended(ticket, result) => {
                if let Some(id) = self.appends.remove(&ticket.0) {
                    self.appended(now, room, id, result);
                }
            }
            News::Read(ticket, result) => {
                if let Some((id, key)) = self.reads.remove(&ticket.0) {
                    self.read(now, id, key, result);
                }
            }
            News::Administered(ticket, result) => {
                if let Some(id) = self.creations.remove(&ticket.0) {
                    self.created(now, id, result);
                }
            }
        }
    }

    fn go_on(&mut self, now: Now, room: &mut Room, id: u64) -> Result<(), Fault> {
        // Taken out while it goes on: it may ask anything of anybody.
        let Some(mut pending) = self.pending.remove(&id) else {
            return Ok(());
        };
        let step = self.step(now, room, id, &mut pending)?;
        pending.stage = match step {
            Step::Handed => Stage::Handed,
            Step::Wait | Step::Done(_) => Stage::Waiting(now.at + RETRY),
        };
        self.pending.insert(id, pending);
        if let Step::Done(reply) = step {
            self.finish(id, Outcome::Own(reply));
        }
        Ok(())
    }

    fn step(&mut self, now: Now, room: &mut Room, id: u64, pending: &mut Pending) -> Result<Step, Fault> {
        let (topic, partition) = match &pending.task {
            Task::Poll { .. } => return Ok(self.poll(room, id, pending)),
            Task::Leader { topic, partition } | Task::Failover { topic, partition, .. } => (topic.clone(), *partition),
            Task::Append {
                topic,
                then: Then::Sent,
                ..
            } => (topic.clone(), 0),
            Task::Append { topic, .. } => {
                let partitions = room.catalog().topic(topic).map_or(1, |topic| topic.partitions.len());
                (
                    topic.clone(),
                    partition_for(GROUP, u32::try_from(partitions).unwrap_or(1)),
                )
            }
        };
        let index = PartitionIndex(i32::try_from(partition).unwrap_or(i32::MAX));
        let Some(found) = room.catalog().partition(&topic, index) else {
            return self.create(now, room, id, pending, topic, partition);
        };
        let group = ids::group(found.group);
        let replicas: Vec<NodeId> = found.replicas.iter().copied().map(ids::node).collect();
        Ok(match &mut pending.task {
            Task::Leader { .. } => self.leader(room, group, &replicas),
            Task::Failover {
                failed, began, told, ..
            } => self.failover(now, room, (group, &replicas), *failed, *began, told)?,
            Task::Append { value, request, .. } => {
                let limit = room
                    .catalog()
                    .topic(&topic)
                    .map_or(0, |topic| topic.config.max_message_bytes);
                if value.len() + batch_overhead() > limit as usize {
                    Step::Done(malformed(format!("the message is longer than {limit} bytes")))
                } else {
                    self.append(now, room, id, group, (value, request), pending.asker.node)
                }
            }
            Task::Poll { .. } => Step::Wait,
        })
    }

    /// Topic and partition are created by the first request for them.
    fn create(
        &mut self,
        now: Now,
        room: &mut Room,
        id: u64,
        pending: &mut Pending,
        topic: String,
        partition: u32,
    ) -> Result<Step, Fault> {
        if !pending.creating {
            let request = match room.catalog().topic(&topic) {
                None => AdminRequest::EnsureTopic { name: topic },
                Some(_) => AdminRequest::AddPartitions {
                    topic,
                    total: i32::try_from(partition).unwrap_or(i32::MAX).saturating_add(1),
                    assignments: None,
                    validate_only: false,
                },
            };
            let ticket = room.administer(now, pending.deadline.since(now.at), request)?;
            self.creations.insert(ticket.0, id);
            pending.creating = true;
        }
        Ok(Step::Wait)
    }

    fn created(&mut self, now: Now, id: u64, result: Result<AdminReply, AdminError>) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        pending.creating = false;
        pending.stage = Stage::Waiting(now.at);
        let failure = match result {
            Ok(_) => return,
            // Another request has added as many.
            Err(AdminError::Refused(CatalogError::InvalidPartitions { .. })) => return,
            Err(AdminError::Refused(error)) => error,
            Err(AdminError::TimedOut | AdminError::Overloaded) => {
                pending.stage = Stage::Waiting(now.at + RETRY);
                return;
            }
        };
        let code = match failure.fault() {
            Blame::Request => ErrorCode::MalformedRequest,
            Blame::State => ErrorCode::PreconditionFailed,
            Blame::Limit => ErrorCode::Abort,
        };
        self.finish(id, Outcome::Own(error(code, failure.to_string())));
    }

    fn leader(&self, room: &Room, group: GroupId, replicas: &[NodeId]) -> Step {
        let Some((leader, term)) = serving(room, group) else {
            return Step::Wait;
        };
        let name = |node: &NodeId| self.names.name(*node).to_owned();
        let followers = replicas.iter().filter(|node| **node != leader).map(name).collect();
        Step::Done(Reply::PartitionLeaderOk {
            leader: name(&leader),
            followers,
            term,
        })
    }

    fn failover(
        &self,
        now: Now,
        room: &mut Room,
        (group, replicas): (GroupId, &[NodeId]),
        failed: NodeId,
        began: Instant,
        told: &mut Option<u64>,
    ) -> Result<Step, Fault> {
        if !replicas.contains(&failed) || replicas.len() == 1 {
            let name = self.names.name(failed);
            let text = format!("{name} has no replica of it, or the only one");
            return Ok(Step::Done(error(ErrorCode::PreconditionFailed, text)));
        }
        // Another one leads already, or has taken over: a repeated request gets the same answer.
        if let Some((leader, term)) = serving(room, group).filter(|(leader, _)| *leader != failed) {
            let failover_ms = u64::try_from(now.at.since(began).as_millis()).unwrap_or(u64::MAX);
            let new_leader = self.names.name(leader).to_owned();
            return Ok(Step::Done(Reply::PartitionFailoverOk {
                new_leader,
                new_term: term,
                failover_ms,
            }));
        }
        told.get_or_insert_with(|| serving(room, group).map_or(0, |(_, term)| term));
        room.fail_over(now, group, failed)?;
        Ok(Step::Wait)
    }

    fn append(
        &mut self,
        now: Now,
        room: &mut Room,
        id: u64,
        group: GroupId,
        (value, request): (&[u8], &Request),
        from_node: bool,
    ) -> Step {
        match serving(room, group) {
            Some((leader, _)) if leader == room.own() => {
                let ticket = room.append(now, group, value);
                self.appends.insert(ticket.0, id);
                Step::Handed
            }
            Some((leader, _)) if !from_node => {
                self.forward(id, leader, request.clone());
                Step::Handed
            }
            Some(_) => Step::Done(unavailable("this node does not lead it")),
            None => Step::Wait,
        }
    }

    fn forward(&mut self, id: u64, to: NodeId, request: Request) {
        self.next += 1;
        self.forwards.insert(self.next, (id, to));
        self.forwarded.push(Forwarded {
            to,
            number: self.next,
            request,
        });
    }

    fn appended(&mut self, now: Now, room: &Room, id: u64, result: Result<Appended, AppendError>) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let reply = match result {
            Ok(appended) => {
                let Task::Append { then, .. } = &pending.task else {
                    return;
                };
                let store = room.catalog().topic(OFFSETS_TOPIC).and_then(|topic| {
                    let partition = partition_for(GROUP, u32::try_from(topic.partitions.len()).ok()?);
                    room.offsets(ids::group(topic.partitions.get(partition as usize)?.group))
                });
                done(then, &appended, store)
            }
            // Nothing was appended: it is tried again.
            Err(
                AppendError::UnknownGroup
                | AppendError::NotLeader { .. }
                | AppendError::NotServing
                | AppendError::Busy
                | AppendError::TooManyProducers
                | AppendError::NotEnoughReplicas { .. },
            ) => {
                pending.stage = Stage::Waiting(now.at + RETRY);
                return;
            }
            Err(failure @ (AppendError::Lost | AppendError::NotEnoughReplicasAfterAppend { .. })) => {
                error(ErrorCode::Timeout, failure.to_string())
            }
            Err(
                failure @ (AppendError::BadBatch(_)
                | AppendError::OutOfOrderSequence { .. }
                | AppendError::Fenced
                | AppendError::Storage),
            ) => error(ErrorCode::Crash, failure.to_string()),
        };
        self.finish(id, Outcome::Own(reply));
    }

    /// Every log from this node's own replica where it has one, from the leader otherwise. What can't be had now is
    /// left for the next poll.
    fn poll(&mut self, room: &mut Room, id: u64, pending: &mut Pending) -> Step {
        let Task::Poll {
            wanted,
            found,
            open,
            asked,
        } = &mut pending.task
        else {
            return Step::Wait;
        };
        if std::mem::replace(asked, true) {
            return match open {
                0 => Step::Done(Reply::PollOk {
                    msgs: std::mem::take(found),
                }),
                _ => Step::Handed,
            };
        }
        let mut elsewhere: BTreeMap<NodeId, BTreeMap<String, u64>> = BTreeMap::new();
        for (key, from) in std::mem::take(wanted) {
            found.insert(key.clone(), Vec::new());
            let Some(placed) = room.catalog().partition(&key, PartitionIndex(0)) else {
                continue;
            };
            let group = ids::group(placed.group);
            if room.hosts(group) {
                let ticket = room.read(group, i64::try_from(from).unwrap_or(i64::MAX));
                self.reads.insert(ticket.0, (id, key));
                *open += 1;
            } else if let (Some((leader, _)), false) = (serving(room, group), pending.asker.node) {
                elsewhere.entry(leader).or_default().insert(key, from);
            }
        }
        *open += elsewhere.len();
        for (node, offsets) in elsewhere {
            self.forward(id, node, Request::Poll { offsets });
        }
        match open {
            0 => Step::Done(Reply::PollOk {
                msgs: std::mem::take(found),
            }),
            _ => Step::Handed,
        }
    }

    fn read(&mut self, now: Now, id: u64, key: String, result: Result<Vec<Message>, ReadError>) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let Task::Poll { found, open, .. } = &mut pending.task else {
            return;
        };
        *open -= 1;
        pending.stage = Stage::Waiting(now.at);
        // Errors (a replica that is behind, or has no leader yet) mean: nothing for now.
        let messages = result.unwrap_or_default();
        let parse = |(offset, value): Message| Some((offset, serde_json::from_slice(&value).ok()?));
        found.insert(key, messages.into_iter().filter_map(parse).collect());
    }
}

impl Asker {
    pub(super) fn new(src: String, msg_id: Option<u64>, node: bool) -> Asker {
        Asker { src, msg_id, node }
    }
}

/// What a client is told once its record is committed.
fn done(then: &Then, appended: &Appended, store: Option<&OffsetStore>) -> Reply {
    match then {
        Then::Sent => Reply::SendOk {
            offset: u64::try_from(appended.base_offset.0).unwrap_or(0),
        },
        Then::Committed => Reply::CommitOffsetsOk,
        Then::Listed(keys) => {
            let Some(store) = store else {
                return unavailable("this node has no replica of the offsets any more");
            };
            let committed = |key: &String| {
                let commit = store.committed(GROUP, key, 0)?;
                Some((key.clone(), u64::try_from(commit.offset.0).ok()?))
            };
            let keys: BTreeSet<&String> = keys.iter().collect();
            Reply::ListCommittedOffsetsOk {
                offsets: keys.into_iter().filter_map(committed).collect(),
            }
        }
    }
}

/// The command that commits these offsets. None at all is the way to read: it takes its place in the log behind every
/// commit that was answered before.
fn commit(now: Now, offsets: &BTreeMap<String, u64>) -> Result<Vec<u8>, Reply> {
    let one = |(key, offset): (&String, &u64)| {
        check_topic(key)?;
        let offset = i64::try_from(*offset).map_err(|_| malformed(format!("offset {offset} is too large")))?;
        let commit = Commit {
            offset: coordinator::Offset(offset),
            leader_epoch: None,
            metadata: String::new(),
        };
        Ok((key.clone(), 0, commit))
    };
    let offsets = offsets.iter().map(one).collect::<Result<Vec<_>, Reply>>()?;
    let command = Command::Commit {
        group: GROUP.to_owned(),
        now_ms: now.wall_ms,
        mode: Mode::Advance,
        offsets,
    };
    // Rules and limits of one command; how much the store holds in all is bounded by the number of logs.
    OffsetStore::default()
        .check(&command)
        .map_err(|bad| malformed(bad.to_string()))?;
    Ok(command.encode())
}

/// The leader of a group that serves, with its term.
fn serving(room: &Room, group: GroupId) -> Option<(NodeId, u64)> {
    let known = room.leaders().leadership(ids::catalog_group(group))?;
    let leader = known.leader.filter(|_| known.serving)?;
    Some((ids::node(leader), known.term.0))
}

fn check_topic(name: &str) -> Result<(), Reply> {
    if name.starts_with(RESERVED) {
        return Err(malformed(format!(
            "names that begin with {RESERVED:?} are the node's own"
        )));
    }
    trimaran_registry::catalog::check_name(name)
        .map_err(|fault| malformed(format!("{name:?} can't be a topic's name: {fault}")))
}

fn check_partition(topic: &str, partition: u32) -> Result<(), Reply> {
    check_topic(topic)?;
    if partition > LAST_PARTITION {
        return Err(malformed(format!(
            "partitions are created up to number {LAST_PARTITION} only"
        )));
    }
    Ok(())
}

/// What a batch takes beyond its one record's value, at most.
fn batch_overhead() -> usize {
    trimaran_wire::batch::HEADER_LEN + 32
}

fn error(code: ErrorCode, text: String) -> Reply {
    Reply::Error { code, text }
}

fn malformed(text: String) -> Reply {
    error(ErrorCode::MalformedRequest, text)
}

fn unavailable(text: &str) -> Reply {
    error(ErrorCode::TemporarilyUnavailable, text.to_owned())
}
