//! The Trimaran broker: a replicated log that Apache Kafka clients use unmodified, in which every partition is a Raft
//! group.
//!
//! This crate introduces the others to one another, and stays small. What lives here is what needs threads, clocks and
//! sockets at once:
//!
//! | module | its one sentence |
//! |---|---|
//! | [`config`] | what a broker is told, parsed once |
//! | [`server`] | assembles a broker, and takes it apart in the order that loses nothing |
//! | [`engine`] | the asynchronous face of the threads, which everything that answers requests uses |
//! | `shards` | the threads that drive Raft groups, with bounded mailboxes |
//! | `journal` | the one thread that writes, syncs, and says how far it is durable |
//! | `files` | threads that may block: segments, old entries, opening and deleting |
//! | `control` | one thread for liveness, the registry's agent, and the published view of the cluster |
//! | `coordinators` | the coordinators of consumer groups, a task for each partition of `__consumer_offsets` |
//! | `peers` | what `raft` says as `wire`'s frames, and back |
//! | [`kafka`] | Kafka's requests, answered through the engine |
//! | [`admin`] | health, metrics and JSON requests over HTTP |
//! | [`memory`] | the budget for memory that grows with load, and its shares |
//! | `logging` | logs to standard error, and the limit on what strangers can cause |
//! | [`cli`] | the command line; client commands are `trimaran-client`'s |
//! | [`node`] | the same core over JSON lines, as a node of Jepsen's Maelstrom |
//!
//! # A produce request's way
//!
//! The transport cuts a frame and calls [`kafka::Handlers`] with the connection's session, in its order; the client's
//! permission and the batch's header and CRC are checked and [`Engine::append`] puts it into its shard's mailbox. The
//! shard's next step stamps and proposes it, and hands one batch to the journal thread and one envelope to each peer.
//! Tokens and acknowledgements come back as inputs; when the entry is committed the shard completes the ticket, which
//! wakes the future that the handler awaits, and the response leaves in its connection's turn.
//!
//! # What it deliberately does not know
//!
//! How consensus is reached, how logs lie on disks, where replicas are placed, how a Kafka message is encoded: each has
//! its own crate, which works without this one. Nothing here decides anything that a simulation could not drive.
//!
//! How to drive it in a dozen lines is in the README.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
mod clock;
pub mod config;
mod control;
mod coordinators;
mod descriptors;
pub mod engine;
mod fatal;
mod files;
mod folder;
mod journal;
pub mod kafka;
mod logging;
pub mod memory;
pub mod metrics;
pub mod node;
mod peers;
mod queue;
pub mod server;
mod shards;
mod starts;
mod threads;
mod tickets;
mod workers;

pub use config::Settings;
pub use engine::Engine;
pub use folder::FolderError;
pub use server::Server;
pub use trimaran_node::ids;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
