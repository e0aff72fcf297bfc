//! Knows: the cluster's brokers, topics, partitions and configuration, and who leads what.
//!
//! [`Catalog`] is the replicated state machine of the metadata group: every broker applies the same commands and has
//! the same catalog. [`LeaderView`] is what a broker has heard of who leads which group; it is never replicated, only
//! spread, and ordered by term. [`Agent`] keeps both on one broker, without I/O: it is told what was applied, who
//! leads, what other agents said and what clients ask, and answers with effects.
//!
//! It deliberately does not know Raft (it is told what is committed), Kafka's protocol (the broker maps requests and
//! errors), sockets, threads or clocks (time comes with every input). What it sends and stores is versioned postcard.
//!
//! To drive an agent:
//!
//! ```
//! use std::time::Duration;
//! use trimaran_registry::agent::{Agent, AgentConfig, Effect, Input};
//! use trimaran_registry::catalog::Broker;
//! use trimaran_registry::{BrokerId, CommandIndex, FolderId, Instant, METADATA_GROUP, Term};
//!
//! let config = AgentConfig {
//!     broker: Broker { id: BrokerId(1), ..Broker::default() },
//!     folder: FolderId([7; 16]),
//!     founded_with: None,
//!     is_member: false,
//!     noted_founders: None,
//!     cluster_id: "demo".into(),
//!     metadata_replicas: vec![BrokerId(1)],
//!     seed: 1,
//!     default_partitions: 1,
//!     default_replication_factor: Some(1),
//!     retry_after: Duration::from_millis(200),
//!     digest_every: Duration::from_secs(1),
//!     known_groups: Default::default(),
//! };
//! let (mut now, mut effects) = (Instant(0), Vec::new());
//! let mut agent = Agent::new(config, now);
//! let led = Input::Led { group: METADATA_GROUP, term: Term(1), leader: Some(BrokerId(1)), serving: true };
//! agent.step(now, led, &mut effects);
//! let mut log = Vec::new(); // stands in for the metadata group
//! while let Some(effect) = effects.pop() {
//!     if let Effect::Propose(command) = effect {
//!         log.push(command);
//!         let index = CommandIndex(log.len() as u64);
//!         agent.step(now, Input::Applied { index, command: &log[log.len() - 1] }, &mut effects);
//!     }
//! }
//! assert_eq!(agent.catalog().cluster_id(), Some("demo"));
//! assert!(agent.catalog().broker(BrokerId(1)).is_some());
//! now = agent.deadline();
//! agent.step(now, Input::Tick, &mut effects);
//! ```
#![forbid(unsafe_code)]

pub mod agent;
pub mod catalog;
mod codec;
mod error;
pub mod folder;
mod founders;
pub mod founding;
mod ids;
pub mod leaders;
pub mod limits;
pub mod placement;
mod sabotage;
pub mod starts;
pub mod topic_config;

pub use agent::Agent;
pub use catalog::Catalog;
pub use error::{AssignmentFault, CatalogError, Fault, NameFault};
pub use founders::Founders;
pub use founding::Standing;
pub use ids::{
    BrokerId, CommandIndex, FolderId, GroupId, Incarnation, Instant, METADATA_GROUP, NotAFolderId, PartitionIndex,
    Term, TopicId,
};
pub use leaders::LeaderView;
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use topic_config::TopicConfig;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
