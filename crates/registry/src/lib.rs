//! Knows: the cluster's brokers, topics, partitions and configuration, and who leads what.
#![forbid(unsafe_code)]

pub mod agent;
pub mod catalog;
mod codec;
mod error;
mod ids;
pub mod leaders;
pub mod limits;
pub mod placement;
pub mod topic_config;

pub use agent::Agent;
pub use catalog::Catalog;
pub use error::{AssignmentFault, CatalogError, Fault, NameFault};
pub use ids::{BrokerId, CommandIndex, GroupId, Incarnation, Instant, METADATA_GROUP, PartitionIndex, Term, TopicId};
pub use leaders::LeaderView;
pub use topic_config::TopicConfig;
