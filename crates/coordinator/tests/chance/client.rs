//! A consumer, as clients implement it.

use crate::checks::Checks;
use bytes::Bytes;
use std::collections::BTreeSet;
use trimaran_coordinator::request::*;
use trimaran_coordinator::{Error, Generation, Offset};

/// Partitions of the one topic.
pub(super) const PARTITIONS: i32 = 7;

pub(super) const SESSION_MS: i32 = 6_000;
pub(super) const REBALANCE_MS: i32 = 20_000;
const HEARTBEAT_MS: u64 = 1_000;

/// A consumer's subscription to the topic: version 1, one topic, no user data, no owned partitions.
const SUBSCRIPTION: &[u8] = &[0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It must join.
    Out,
    Joining,
    /// It has joined, and asks for its assignment.
    In,
    Syncing,
    Active,
}

pub(super) struct Client {
    pub(super) group: String,
    name: String,
    instance_id: Option<String>,
    member_id: String,
    generation: Generation,
    stage: Stage,
    /// The request that is under way.
    ticket: Option<Ticket>,
    /// The leader's assignments.
    plan: Vec<(String, Bytes)>,
    pub(super) partitions: BTreeSet<i32>,
    /// Whether its id is in a record.
    is_stored: bool,
    next_heartbeat_ms: u64,
    commits: Vec<(Ticket, Generation, i32, i64)>,
    /// Another one was started with its instance id.
    pub(super) has_twin: bool,
    /// It was told that it has been replaced, and stops.
    pub(super) is_over: bool,
}

impl Client {
    pub(super) fn new(group: &str, name: String, instance_id: Option<String>) -> Client {
        Client {
            group: group.to_owned(),
            name,
            instance_id,
            member_id: String::new(),
            generation: Generation::NONE,
            stage: Stage::Out,
            ticket: None,
            plan: Vec::new(),
            partitions: BTreeSet::new(),
            is_stored: false,
            next_heartbeat_ms: 0,
            commits: Vec::new(),
            has_twin: false,
            is_over: false,
        }
    }

    pub(super) fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    pub(super) fn may_have_twin(&self) -> bool {
        self.instance_id.is_some() && !self.has_twin
    }

    pub(super) fn is_active(&self) -> bool {
        self.stage == Stage::Active
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Its next request, if it has one to make.
    pub(super) fn next(&mut self, now_ms: u64, random: u128) -> Option<Request> {
        if self.ticket.is_some() || self.is_over {
            return None;
        }
        match self.stage {
            Stage::Out => {
                self.stage = Stage::Joining;
                Some(Request::JoinGroup(self.joining(random)))
            }
            Stage::In => {
                self.stage = Stage::Syncing;
                Some(Request::SyncGroup(SyncGroup {
                    group: self.group.clone(),
                    generation: self.generation,
                    member_id: self.member_id.clone(),
                    instance_id: self.instance_id.clone(),
                    protocol_type: Some("consumer".into()),
                    protocol_name: Some("range".into()),
                    assignments: self.plan.clone(),
                }))
            }
            Stage::Active if now_ms >= self.next_heartbeat_ms => {
                self.next_heartbeat_ms = now_ms + HEARTBEAT_MS;
                Some(Request::Heartbeat(Heartbeat {
                    group: self.group.clone(),
                    generation: self.generation,
                    member_id: self.member_id.clone(),
                    instance_id: self.instance_id.clone(),
                }))
            }
            _ => None,
        }
    }

    fn joining(&self, random: u128) -> JoinGroup {
        JoinGroup {
            group: self.group.clone(),
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.name.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: Bytes::from_static(SUBSCRIPTION),
            }],
            member_id_required: true,
            knows_skip_assignment: true,
            random,
            ..JoinGroup::default()
        }
    }

    pub(super) fn sent(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// A commit for one of its partitions.
    pub(super) fn committing(&self, partition: i32, offset: i64) -> OffsetCommit {
        OffsetCommit {
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            ..committing(&self.group, partition, offset)
        }
    }

    pub(super) fn sent_commit(&mut self, ticket: Ticket, partition: i32, offset: i64) {
        self.commits.push((ticket, self.generation, partition, offset));
    }

    pub(super) fn leaving(&self) -> LeaveGroup {
        LeaveGroup {
            group: self.group.clone(),
            members: vec![LeavingMember {
                member_id: self.member_id.clone(),
                instance_id: self.instance_id.clone(),
            }],
        }
    }

    /// Takes a reply, if it is one to this client's requests.
    pub(super) fn take(&mut self, ticket: Ticket, reply: &Reply, checks: &mut Checks) -> Result<(), String> {
        if let Some(place) = self.commits.iter().position(|commit| commit.0 == ticket) {
            let (_, generation, partition, offset) = self.commits.swap_remove(place);
            let Reply::OffsetCommit(topics) = reply else {
                return Err(format!("{reply:?} to a commit"));
            };
            return match topics[0].partitions[0].1 {
                Ok(()) => {
                    // Answers come in the order in which commits were accepted.
                    checks.committed(generation, partition, offset)
                }
                Err(error) => self.refused(error, false),
            };
        }
        if self.ticket != Some(ticket) {
            return Ok(());
        }
        self.ticket = None;
        match reply {
            Reply::JoinGroup(Ok(joined)) => self.take_joined(joined, checks),
            Reply::JoinGroup(Err(refused)) => {
                if refused.error == Error::MemberIdRequired {
                    self.member_id = refused.member_id.clone();
                    self.stage = Stage::Out;
                    return Ok(());
                }
                self.refused(refused.error, true)
            }
            Reply::SyncGroup(Ok(synced)) => {
                self.is_stored = true;
                self.stage = Stage::Active;
                self.partitions = synced.assignment.iter().map(|byte| i32::from(*byte)).collect();
                checks.assigned(self.generation, &self.member_id, self.instance_id(), &self.partitions)
            }
            Reply::SyncGroup(Err(error)) | Reply::Heartbeat(Err(error)) => self.refused(*error, true),
            Reply::Heartbeat(Ok(())) => Ok(()),
            other => Err(format!("{other:?} to {:?}", self.stage)),
        }
    }

    fn take_joined(&mut self, joined: &Joined, checks: &mut Checks) -> Result<(), String> {
        self.member_id = joined.member_id.clone();
        self.generation = joined.generation;
        self.stage = Stage::In;
        self.plan.clear();
        if let Some(instance_id) = &self.instance_id {
            checks.joined(instance_id, &self.member_id);
        }
        if joined.leader == joined.member_id && !joined.skip_assignment {
            let everyone = joined.members.len() as i32;
            let members = joined.members.iter().zip(0..);
            self.plan = members
                .map(|(member, number)| {
                    let own = (0..PARTITIONS).filter(|partition| partition % everyone == number);
                    (member.member_id.clone(), own.map(|partition| partition as u8).collect())
                })
                .collect();
        }
        Ok(())
    }

    /// Goes on after a refusal: to its request, or to a commit beside it.
    fn refused(&mut self, error: Error, to_request: bool) -> Result<(), String> {
        let next = match error {
            Error::NotCoordinator | Error::CoordinatorNotAvailable | Error::CoordinatorLoadInProgress => {
                match self.stage {
                    Stage::Joining => Stage::Out,
                    Stage::Syncing => Stage::In,
                    stage => stage,
                }
            }
            Error::RebalanceInProgress | Error::IllegalGeneration => Stage::Out,
            // Its twin has been in its place, and has left.
            Error::UnknownMemberId if self.has_twin => {
                self.is_over = true;
                return Ok(());
            }
            Error::UnknownMemberId if self.is_stored => {
                return Err(format!(
                    "{} ({}) was expelled without a reason",
                    self.member_id, self.group
                ));
            }
            Error::UnknownMemberId => {
                self.member_id.clear();
                Stage::Out
            }
            Error::FencedInstanceId if !self.has_twin => {
                return Err(format!("{} was fenced, and there is no other", self.member_id));
            }
            Error::FencedInstanceId => {
                self.is_over = true;
                return Ok(());
            }
            error => return Err(format!("{error:?} in {:?}", self.stage)),
        };
        // What a commit is told of an earlier generation says nothing about the request under way.
        if to_request {
            self.stage = next;
            if next == Stage::Out {
                self.partitions.clear();
            }
        }
        Ok(())
    }

    /// Whether a twin of this client has joined: then nothing of it may be accepted any more.
    pub(super) fn is_replaced(&self, checks: &Checks) -> bool {
        let instance_id = self.instance_id.as_deref();
        instance_id.is_some_and(|instance_id| checks.is_replaced(instance_id, &self.member_id))
    }

    pub(super) fn member_id(&self) -> &str {
        &self.member_id
    }
}

/// A commit from outside the group.
pub(super) fn committing(group: &str, partition: i32, offset: i64) -> OffsetCommit {
    let of = PartitionCommit {
        partition,
        offset: Offset(offset),
        ..PartitionCommit::default()
    };
    OffsetCommit {
        group: group.to_owned(),
        generation: Generation::NONE,
        topics: vec![TopicCommit {
            topic: "t".into(),
            topic_id: None,
            partitions: vec![of],
        }],
        ..OffsetCommit::default()
    }
}
