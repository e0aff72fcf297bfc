//! One a broker: keeps its catalog and its view of leaders up to date, takes its administrative requests to the
//! controller, and is the controller where the metadata group is led.
//!
//! Sans-I/O: it is told, and answers with effects. Time comes with every input.

use crate::catalog::{Broker, Catalog, DecodeError, NewTopic, Topic, TopicRef};
use crate::{
    BrokerId, CatalogError, CommandIndex, GroupId, Instant, LeaderView, PartitionIndex, Term, TopicConfig, TopicId,
};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names who waits for an answer; chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What an agent must know from the start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its own broker, as it wants to be registered.
    pub broker: Broker,
    /// The cluster's id as configured here. The first controller founds the cluster with it.
    pub cluster_id: String,
    /// Replicas of the metadata group: whom to ask before any controller is known.
    pub metadata_replicas: Vec<BrokerId>,
    /// Random bits: topic ids are made from them. Two brokers, or two starts of one, should not have the same.
    pub seed: u64,
    /// Partitions of a topic that is created without saying how many.
    pub default_partitions: i32,
    /// Replicas of a topic that is created without saying how many; fewer if there are fewer brokers and the topic is
    /// created automatically.
    pub default_replication_factor: i32,
    /// How long an unanswered request waits before it is sent again.
    pub retry_after: Duration,
    /// Between two messages that tell a peer which version of the leadership news it should have.
    pub digest_every: Duration,
}

/// What a client or the administration port may ask for. Answered by [`Effect::Reply`] under the same ticket, once the
/// result is applied to this broker's own catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminRequest {
    /// Create a topic.
    CreateTopic {
        /// What it shall be. -1 partitions or replicas in its layout mean the defaults.
        topic: NewTopic,
        /// Check it only, against this broker's catalog.
        validate_only: bool,
    },
    /// The topic of that name, created with the defaults if it doesn't exist.
    EnsureTopic {
        /// Its name.
        name: String,
    },
    /// Delete a topic.
    DeleteTopic(TopicRef),
    /// Give a topic more partitions.
    AddPartitions {
        /// The topic's name.
        topic: String,
        /// How many it shall have in all.
        total: i32,
        /// Replicas of the new ones, if the asker chooses them.
        assignments: Option<Vec<Vec<BrokerId>>>,
        /// Check it only, against this broker's catalog.
        validate_only: bool,
    },
    /// Replace a topic's own settings.
    ConfigureTopic {
        /// The topic.
        topic: TopicRef,
        /// All of its own settings.
        config: BTreeMap<String, String>,
        /// Check it only, against this broker's catalog.
        validate_only: bool,
    },
    /// A producer id that nobody else has or will have.
    ProducerId,
}

/// A good answer to an [`AdminRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminReply {
    /// The topic as it is now (as it was, if it was deleted).
    Topic(Arc<Topic>),
    /// It was only to be checked, and would be done.
    Valid,
    /// The producer id.
    ProducerId(i64),
}

/// Why an [`AdminRequest`] failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// The catalog refuses it. Nothing was done.
    Refused(CatalogError),
    /// No answer before the deadline. It may or may not be done yet.
    TimedOut,
    /// This broker has too many requests under way. Nothing was done.
    Overloaded,
}

/// What an agent is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A committed command of the metadata group, in order. Must come before a `Led` that was decided after it.
    Applied {
        /// Its index in the group's log.
        index: CommandIndex,
        /// As given to [`Effect::Propose`].
        command: &'a [u8],
    },
    /// A replica on this broker (of any group, the metadata group included) sees another term or leader.
    Led {
        /// The group.
        group: GroupId,
        /// The replica's term.
        term: Term,
        /// Its leader as far as known there.
        leader: Option<BrokerId>,
        /// This broker leads, and may serve clients.
        serving: bool,
    },
    /// This broker leads a group, and these replicas are in sync, itself included.
    InSync {
        /// The group.
        group: GroupId,
        /// The term it leads in.
        term: Term,
        /// The replicas.
        replicas: &'a [BrokerId],
    },
    /// A message from another broker's agent.
    Peer {
        /// That broker, authenticated by the transport.
        from: BrokerId,
        /// As given to [`Effect::Send`].
        message: &'a [u8],
    },
    /// Someone asks this broker.
    Request {
        /// Goes into the answer.
        ticket: Ticket,
        /// How long the asker waits; at most a minute counts.
        timeout: Duration,
        /// What is asked.
        request: AdminRequest,
    },
    /// Another broker is in contact again after a restart or an interruption.
    Restored(BrokerId),
    /// Another broker is believed to be down: it gets no new replicas while others can have them.
    Down(BrokerId),
    /// [`Agent::deadline`] has passed.
    Tick,
}

/// What an agent wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Propose this payload to the metadata group, which is led here. If it is refused, nothing needs to be said.
    Propose(Vec<u8>),
    /// Send this to another broker's agent. May be lost.
    Send(BrokerId, Vec<u8>),
    /// This broker has a replica of this group: open or create it. (If its log and hard state are empty and this
    /// broker is the first of the replicas, the group is new and may campaign at once.)
    Open(OpenReplica),
    /// The group's configuration changed.
    Configure {
        /// The group.
        group: GroupId,
        /// What is in force now.
        config: TopicConfig,
    },
    /// The group is gone for good: its replica and its data can go.
    Close(GroupId),
    /// The answer to a request.
    Reply(Ticket, Result<AdminReply, AdminError>),
    /// A committed command can't be read: this broker's catalog would differ from the others'. Stop this broker.
    Unreadable {
        /// Its index.
        index: CommandIndex,
        /// Why.
        error: DecodeError,
    },
}

/// A replica that this broker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReplica {
    /// Its group.
    pub group: GroupId,
    /// All replicas of the group, the preferred leader first.
    pub replicas: Arc<[BrokerId]>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: PartitionIndex,
    /// The configuration in force.
    pub config: TopicConfig,
}

/// Whether this broker is in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Not yet, or only an earlier start of it.
    Pending,
    /// As it is now.
    Registered,
    /// A later start of the same id is: this process must stop.
    Superseded,
    /// The cluster has another id than the one configured: this process must stop.
    WrongCluster,
}

/// See the module.
#[derive(Debug)]
pub struct Agent {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl Agent {
    pub fn new(config: AgentConfig, now: Instant) -> Agent {
        todo!()
    }
    /// Tell it one thing; effects are appended in the order in which they should be done.
    pub fn step(&mut self, now: Instant, input: Input<'_>, effects: &mut Vec<Effect>) {
        todo!()
    }
    /// When to send [`Input::Tick`] next.
    pub fn deadline(&self) -> Instant {
        todo!()
    }
    /// Cheap to clone and publish; see [`Catalog::applied`].
    pub fn catalog(&self) -> &Catalog {
        todo!()
    }
    /// Cheap to clone and publish; see [`LeaderView::version`].
    pub fn leaders(&self) -> &LeaderView {
        todo!()
    }
    /// The leader of the metadata group as far as known.
    pub fn controller(&self) -> Option<BrokerId> {
        todo!()
    }
    pub fn registration(&self) -> Registration {
        todo!()
    }
}
