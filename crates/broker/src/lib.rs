//! The Trimaran broker: a replicated log that Apache Kafka clients use unmodified.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
mod control;
pub mod engine;
mod fatal;
mod files;
pub mod ids;
mod journal;
pub mod kafka;
mod metrics;
mod peers;
mod queue;
mod shards;
mod tickets;

pub use config::Settings;
pub use engine::Engine;
