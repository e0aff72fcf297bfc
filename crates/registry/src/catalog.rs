//! The replicated state machine of the metadata group.
//!
//! The log holds facts, not wishes: [`Catalog::plan`] checks a wish against rules, limits and load, and makes a
//! [`Command`] of it that says exactly what should be; [`Catalog::apply`] checks only what other commands may have
//! changed meanwhile. So rules, limits and the placement of replicas may change between versions, and an old log still
//! replays to the same state.

mod apply;
mod command;
mod partition;
mod plan;
mod session;

pub use command::{Change, Command, DecodeError, RequestId};
pub use partition::{Partition, Reassignment};
pub use plan::check_name;

use crate::starts::Start;
use crate::{
    BrokerId, CatalogError, CommandIndex, FolderId, GroupId, Incarnation, PartitionIndex, Standing, TopicConfig,
    TopicId,
};
use serde::{Deserialize, Serialize};
use session::Session;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a broker listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an address, as others reach it.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A broker as it registered itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its id; chosen by its operator.
    pub id: BrokerId,
    /// Which start of its process this is.
    pub incarnation: Incarnation,
    /// Its rack, for placement and for reads from the nearest replica.
    pub rack: Option<String>,
    /// Where Kafka clients connect.
    pub client: Endpoint,
    /// Where other brokers connect.
    pub peer: Endpoint,
    /// Where the administration port is.
    pub admin: Endpoint,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name; unique while it exists.
    pub name: Arc<str>,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
    /// The configuration that was set for it, as text.
    pub overrides: BTreeMap<String, String>,
    /// The configuration in force.
    pub config: TopicConfig,
}

/// How many partitions and replicas, or which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// So many, placed by the controller.
    Spread {
        /// Partitions.
        partitions: i32,
        /// Replicas of each.
        replication_factor: i32,
    },
    /// Exactly these replicas, by partition, the preferred leader first.
    Manual(Vec<Vec<BrokerId>>),
}

/// A topic that someone wishes for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub layout: Layout,
    /// Its own settings; see [`crate::topic_config`].
    pub config: BTreeMap<String, String>,
}

/// Names a topic that should exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// What someone wishes the catalog to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Gives the cluster this id, unless it has one.
    FoundCluster(String),
    /// A broker has started.
    RegisterBroker {
        /// As it is now.
        broker: Broker,
        /// The folder that it has its data in.
        folder: FolderId,
    },
    /// Creates a topic; the asker chooses its id, so that a retry is no second topic.
    CreateTopic(TopicId, NewTopic),
    /// Deletes a topic.
    DeleteTopic(TopicRef),
    /// Adds partitions to a topic.
    AddPartitions {
        /// The topic.
        topic: String,
        /// How many it should have in all.
        total: i32,
        /// Replicas of the new ones, if the asker chooses them.
        assignments: Option<Vec<Vec<BrokerId>>>,
    },
    /// Replaces a topic's own settings.
    ConfigureTopic {
        /// The topic.
        topic: TopicRef,
        /// All its own settings.
        config: BTreeMap<String, String>,
    },
    /// A block of producer ids for the asker.
    AllocateProducerIds,
    /// Moves a partition to exactly these brokers.
    Reassign {
        /// The topic.
        topic: TopicRef,
        /// The partition.
        partition: PartitionIndex,
        /// The preferred leader first.
        replicas: Vec<BrokerId>,
    },
    /// Cancels a partition's reassignment.
    CancelReassignment {
        /// The topic.
        topic: TopicRef,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The leader of a partition's group says that its members are these, and that it has nothing more to change.
    FinishReassignment {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// [`Reassignment::since`] of the reassignment that it means.
        since: CommandIndex,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster has its id.
    ClusterFounded,
    /// The broker is registered.
    BrokerRegistered(BrokerId),
    /// The topic is there.
    TopicCreated(Arc<Topic>),
    /// The topic, as it was, is gone.
    TopicDeleted(Arc<Topic>),
    /// The topic has more partitions, from this number on.
    PartitionsAdded {
        /// The topic as it is now.
        topic: Arc<Topic>,
        /// The first new partition.
        first: PartitionIndex,
    },
    /// The topic has another configuration.
    TopicConfigured(Arc<Topic>),
    /// A partition is to be kept elsewhere from now on (or where it was: the reassignment is to be undone).
    Reassigning {
        /// The topic as it is now.
        topic: Arc<Topic>,
        /// The partition.
        partition: PartitionIndex,
    },
    /// A partition is kept where it was to be; other replicas of it can go.
    Reassigned {
        /// The topic as it is now.
        topic: Arc<Topic>,
        /// The partition.
        partition: PartitionIndex,
        /// Brokers that may have a replica of it still.
        left: Vec<BrokerId>,
    },
    /// The asker may hand out these producer ids.
    ProducerIds {
        /// The first of [`crate::limits::PRODUCER_ID_BLOCK`].
        first: i64,
        /// How many.
        count: i64,
    },
    /// Something changed between plan and application: nothing was done.
    Refused(CatalogError),
    /// It counts on a broker that is not registered: it was planned behind commands of which one was lost. Nothing was
    /// done and nothing is remembered, so it is to be asked for again.
    Baseless,
    /// The same request was applied before: nothing was done.
    Repeated,
    /// The request is from an earlier start of its broker, or was settled long ago: nothing was done.
    Stale,
}

/// All that the cluster agrees on. A clone is cheap (it shares everything) and never changes: publish one after every
/// change.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    applied: CommandIndex,
    cluster_id: Option<Arc<str>>,
    brokers: Arc<BTreeMap<BrokerId, Arc<Broker>>>,
    /// Where each broker has its data.
    folders: Arc<BTreeMap<BrokerId, Folder>>,
    topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    names: Arc<BTreeMap<TopicId, Arc<str>>>,
    /// Runs of groups that were created together, by their first.
    runs: Arc<BTreeMap<GroupId, Run>>,
    /// What each broker holds, kept beside the topics because placement asks for it every time.
    loads: Arc<BTreeMap<BrokerId, Load>>,
    sessions: Arc<BTreeMap<BrokerId, Arc<Session>>>,
    /// The next partition's group. Never goes back: a group's id is never used again.
    next_group: GroupId,
    /// The first producer id that nobody has been given.
    next_producer_id: i64,
    partition_count: usize,
    pub(crate) breakage: crate::sabotage::Breakage,
}

/// Partitions of one topic, from this number on, whose groups follow one another.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    topic: Arc<str>,
    first: usize,
    count: usize,
}

/// A broker's data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folder {
    /// None: registered by a version that did not say.
    id: Option<FolderId>,
    /// The first registration with it.
    since: CommandIndex,
}

/// How much of the cluster's work a broker has been given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Replicas that it holds, as leader or not.
    pub replicas: usize,
    /// Partitions of which it is the preferred leader.
    pub leaders: usize,
}

impl Default for Catalog {
    /// A cluster before its first command.
    fn default() -> Catalog {
        Catalog {
            applied: CommandIndex(0),
            cluster_id: None,
            brokers: Arc::default(),
            folders: Arc::default(),
            topics: Arc::default(),
            names: Arc::default(),
            runs: Arc::default(),
            loads: Arc::default(),
            sessions: Arc::default(),
            next_group: GroupId(1),
            next_producer_id: 0,
            partition_count: 0,
            breakage: Default::default(),
        }
    }
}

impl Catalog {
    /// The last command applied.
    pub fn applied(&self) -> CommandIndex {
        self.applied
    }

    /// The cluster's id, once it has one.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// A registered broker, whether it runs now or not.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// The command that first registered a broker with the data folder that it has now. What it was given before that,
    /// it has lost. None if it is not registered.
    pub fn folder_since(&self, id: BrokerId) -> Option<CommandIndex> {
        self.folders.get(&id).map(|folder| folder.since)
    }

    /// As what a broker would open its replica of a partition if its disk held nothing of it: [`Standing::Founding`] as long as its
    /// folder is the one that the partition was created on.
    pub fn standing(&self, partition: &Partition, broker: BrokerId) -> Standing {
        partition.standing(broker, self.folder_since(broker))
    }

    /// The start of a broker that is registered. The folder is the default one if the broker did not say which it has.
    pub fn start(&self, id: BrokerId) -> Option<Start> {
        let folder = self.folders.get(&id).and_then(|folder| folder.id);
        self.brokers.get(&id).map(|broker| Start {
            folder: folder.unwrap_or_default(),
            incarnation: broker.incarnation,
        })
    }

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic with that id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// The topic that is meant.
    pub fn resolve(&self, topic: &TopicRef) -> Option<&Arc<Topic>> {
        match topic {
            TopicRef::Name(name) => self.topic(name),
            TopicRef::Id(id) => self.topic_by_id(*id),
        }
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have together.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// A partition of the topic of that name.
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&Partition> {
        self.topic(topic)?.partition(partition)
    }

    /// The topic, and the number of its partition whose group this is.
    pub fn partition_of(&self, group: GroupId) -> Option<(&Arc<Topic>, PartitionIndex)> {
        let (first, run) = self.runs.range(..=group).next_back()?;
        let within = usize::try_from(group.0 - first.0)
            .ok()
            .filter(|within| *within < run.count)?;
        let partition = i32::try_from(run.first + within).ok()?;
        Some((self.topic(&run.topic)?, PartitionIndex(partition)))
    }

    /// What a broker has been given.
    pub fn load(&self, broker: BrokerId) -> Load {
        self.loads.get(&broker).copied().unwrap_or_default()
    }

    /// Whether this group was a partition's, and the partition is deleted. (A group that is not yet known here is not
    /// gone.)
    pub fn is_gone(&self, group: GroupId) -> bool {
        group != crate::METADATA_GROUP && group < self.next_group && self.partition_of(group).is_none()
    }
}

impl Topic {
    /// One of its partitions.
    pub fn partition(&self, partition: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(usize::try_from(partition.0).ok()?)
    }
}

#[cfg(test)]
mod tests;
