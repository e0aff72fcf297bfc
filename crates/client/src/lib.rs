//! A small Kafka client, and the client commands of the `trimaran` binary over it.
//!
//! | module | responsibility |
//! |---|---|
//! | [`Client`] | one cluster: any broker to begin with, leaders followed, requests retried until a deadline |
//! | [`Producer`] | idempotent sending: a batch that is sent again after a lost answer is stored once |
//! | [`Connection`], [`blocking::Connection`] | one connection to one broker, with a runtime and without |
//! | [`requests`] | requests about one topic or partition, and what of their responses is of interest |
//! | [`exchange`] | framing and correlation of requests and responses, without I/O |
//! | [`cli`] | the commands `topic`, `produce`, `consume` and `cluster` |
//!
//! It speaks one fixed version of each API, which Apache Kafka 2.4 and later understands as well.
//!
//! # What it does not know
//!
//! How a broker works: it sees one through Kafka's protocol only, and nothing here is shared with what answers it but
//! the bytes of `trimaran-wire`. It has no threads, no background tasks and no consumer groups: everything happens
//! inside the call that asks for it, and ends at that call's deadline.
//!
//! How to drive it in a dozen lines is in the README.
#![forbid(unsafe_code)]

mod admin;
pub mod blocking;
pub mod cli;
mod client;
mod cluster;
mod connection;
mod error;
pub mod exchange;
mod producer;
pub mod requests;

pub use client::{Account, Client, ClientOptions, ELECTION_WAIT};
pub use cluster::{BrokerInfo, ClusterInfo, PartitionInfo, ReassignmentInfo};
pub use connection::Connection;
pub use error::{ClientError, RequestError, Unanswered};
pub use producer::{Producer, partition_for_key};

/// The client id of all requests.
const CLIENT_ID: &str = "trimaran";

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
