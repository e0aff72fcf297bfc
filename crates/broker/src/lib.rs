//! The Trimaran broker: a replicated log that Apache Kafka clients use unmodified.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod client;
mod clock;
pub mod config;
mod control;
pub mod engine;
mod fatal;
mod files;
mod folder;
pub mod ids;
mod journal;
pub mod kafka;
pub mod metrics;
pub mod node;
mod peers;
mod queue;
pub mod server;
mod shards;
mod threads;
mod tickets;

pub use config::Settings;
pub use engine::Engine;
pub use folder::FolderError;
pub use server::Server;
