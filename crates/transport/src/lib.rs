//! Moves frames over streams of bytes, and is ignorant of what is in them.
//!
//! A frame is a length (four bytes, big endian, as Kafka has it) and that many bytes. This crate knows neither Kafka
//! nor Raft: a service is handed the bytes of a request and answers with the bytes of a response; a peer is a number
//! and an address.
//!
//! * **Listeners** ([`serve`]): a [`Service`] makes a session for each connection, and is called with it once a
//!   frame, in the order of arrival. Requests of one connection are worked on side by side, up to
//!   [`Limits::pipeline`]; their responses leave in the order of the requests, long polls included, in vectored
//!   writes. A response may be made when its turn comes ([`Reply::InTurn`]), and read as the client takes it
//!   ([`Source`]). Everything a client can do to a server has a limit: see [`Limits`].
//! * **Peer links** ([`PeerLinks`] out, [`serve_peers`] in): one outgoing connection a peer, kept up by itself, with
//!   a handshake whose bytes belong to the caller, a bounded queue that drops rather than grows, and [`LinkEvent`]s
//!   that say what happened to the connection. Frames go one way: what a peer has to say comes over its own link.
//!
//! Both work over any [`Stream`]: TCP is one kind ([`Accept`] and [`Connect`] say where streams come from).
//!
//! What it deliberately does not do: interpret, retry or acknowledge frames; authenticate; look into the clock for
//! anything but time-outs.
#![forbid(unsafe_code)]

mod ask;
mod backoff;
mod connection;
mod failing;
mod flow;
mod frame;
mod limits;
mod link;
mod links;
mod peers;
mod queue;
mod response;
mod server;
mod service;
mod slots;
mod statistics;
mod stream;

pub use ask::ask;
pub use limits::{Limits, LinkLimits, PeerLimits};
pub use links::{Handshake, LinkEvent, PeerId, PeerLinks};
pub use peers::{Admission, PeerService, serve_peers};
pub use response::{Part, Reading, Source};
pub use server::{Drained, serve};
pub use service::{Connection, ConnectionId, Reply, Service, Work};
pub use statistics::{CloseCounters, LinkStatistics, Statistics};
pub use stream::{Accept, Accepted, Connect, Listener, Stream, Tcp};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
