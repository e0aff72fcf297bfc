//! The replicated state machine of the metadata group.
//!
//! The log holds facts, not wishes: [`Catalog::plan`] checks a wish against rules, limits and load, and makes a
//! [`Command`] of it that says exactly what shall be; [`Catalog::apply`] checks only what other commands may have
//! changed meanwhile. So rules, limits and the placement of replicas may change between versions, and an old log still
//! replays to the same state.

mod command;

pub use command::{Change, Command, DecodeError, RequestId};

use crate::{BrokerId, CatalogError, CommandIndex, GroupId, Incarnation, PartitionIndex, TopicConfig, TopicId};
use serde::{Deserialize, Serialize};
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
    /// Its id; chosen by whoever configures it.
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

/// A partition: a consensus group with its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its consensus group.
    pub group: GroupId,
    /// Its replicas, the preferred leader first.
    pub replicas: Arc<[BrokerId]>,
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
    /// The cluster shall have this id, unless it has one.
    FoundCluster(String),
    /// A broker has started.
    RegisterBroker(Broker),
    /// A topic shall be; the asker chooses its id, so that a retry is no second topic.
    CreateTopic(TopicId, NewTopic),
    /// A topic shall be gone.
    DeleteTopic(TopicRef),
    /// A topic shall have more partitions.
    AddPartitions {
        /// The topic.
        topic: String,
        /// How many it shall have in all.
        total: i32,
        /// Replicas of the new ones, if the asker chooses them.
        assignments: Option<Vec<Vec<BrokerId>>>,
    },
    /// A topic shall have exactly these settings of its own.
    ConfigureTopic {
        /// The topic.
        topic: TopicRef,
        /// All its own settings.
        config: BTreeMap<String, String>,
    },
    /// A block of producer ids for the asker.
    AllocateProducerIds,
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
    /// The asker may hand out these producer ids.
    ProducerIds {
        /// The first of [`crate::limits::PRODUCER_ID_BLOCK`].
        first: i64,
        /// How many.
        count: i64,
    },
    /// Something changed between plan and application: nothing was done.
    Refused(CatalogError),
    /// The same request was applied before: nothing was done.
    Repeated,
    /// The request is from an earlier start of its broker, or was settled long ago: nothing was done.
    Stale,
}

/// All that the cluster agrees on. A clone is cheap and never changes: publish one after every change.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    _todo: (),
}

#[allow(missing_docs, unused_variables, reason = "skeleton")]
impl Catalog {
    /// Makes a command of a wish, or says why it can't be. Changes nothing. `avoid` names brokers that are known to be
    /// down: they get replicas only if there are not enough others.
    pub fn plan(&self, wish: &Wish, avoid: &[BrokerId]) -> Result<Change, CatalogError> {
        todo!()
    }
    /// Applies the command at `index` of the metadata group's log. Indices must increase; one that doesn't is ignored
    /// (`Repeated`).
    pub fn apply(&mut self, index: CommandIndex, command: &Command) -> Outcome {
        todo!()
    }
    /// The last command applied.
    pub fn applied(&self) -> CommandIndex {
        todo!()
    }
    /// The cluster's id, once it has one.
    pub fn cluster_id(&self) -> Option<&str> {
        todo!()
    }
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        todo!()
    }
    /// All brokers by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        std::iter::empty()
    }
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        todo!()
    }
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        todo!()
    }
    /// All topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        std::iter::empty()
    }
    pub fn topic_count(&self) -> usize {
        todo!()
    }
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&Partition> {
        todo!()
    }
    /// The topic and the number of the partition whose group this is.
    pub fn partition_of(&self, group: GroupId) -> Option<(&Arc<Topic>, PartitionIndex)> {
        todo!()
    }
    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        todo!()
    }
}
