//! One broker without threads, sockets or a clock: the liveness monitor, the registry's agent and the life cycle of the
//! replicas, composed once for every host.
//!
//! A [`Node`] takes [`Input`]s and answers with [`Output`]s. Its hosts are the threads of the broker, the simulation,
//! and the program that Maelstrom drives. A host owns what takes time or blocks: the shards
//! ([`trimaran_multiraft::Shard`]), the journal, the disk, the connections. It
//!
//! - hands on what a shard's step reports ([`reports`]), heartbeats, peers' messages and clients' requests;
//! - calls [`Node::tick`] at [`Node::deadline`], and [`Node::publish`] once it has handed in all that was waiting;
//! - does what the outputs say, in their order.
//!
//! Two parts are kept apart: [`FailureDetector`] has what must never be late (heartbeats, who is alive), [`Control`] has
//! what is as slow as the catalog is large (committed metadata, replicas, views).
//!
//! # The life of a replica
//!
//! ```text
//!            Output::Open            Input::Opened                  Report::Lost
//!  catalog ───────────────▶ opening ───────────────▶ open ─────────────────────────▶ opening, as lost
//!                            ▲    │                    │
//!                   a pause  │    │ can't be opened    │ the catalog takes it away
//!                            │    ▼                    ▼
//!                           failed                  closing ───────────────▶ gone, or opening again
//!                                                             Input::Deleted
//! ```
//!
//! A group has one replica here at a time: a job that opens one is under way at most once, and what is closed is opened
//! again only when nothing is left of it on the disk. The job is [`OpenJob::run`], which blocks: a host runs it where
//! that is allowed.
//!
//! # What it deliberately does not know
//!
//! How frames reach other brokers, how clients ask, where notes about the data folder are kept, what is logged: hosts
//! translate [`Output`] and [`Notice`].
#![forbid(unsafe_code)]

mod config;
mod control;
mod failure_detector;
pub mod ids;
mod input;
mod node;
mod opening;
mod output;
mod replicas;
mod sabotage;
mod view;

pub use config::{Config, ReplicaOptions, RetryPauses};
pub use control::Control;
pub use failure_detector::FailureDetector;
pub use input::{Health, Input, Now, Report, reports};
pub use node::Node;
pub use opening::{OpenJob, Opened, Outcome, folder};
pub use output::{AdminAnswer, Broadcast, Fatal, Notice, Output};
pub use replicas::{Counts, Replicas};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use view::{ClusterView, PartitionHealth};

/// The group that replicates the catalog.
pub const METADATA: trimaran_raft::GroupId = trimaran_raft::GroupId(trimaran_registry::METADATA_GROUP.0);

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
