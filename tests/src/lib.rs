//! Judges Trimaran from outside: the simulation of a whole cluster on one seed, checkers that know nothing of the code
//! they judge, an exploration of every state of a small group, and a harness for real processes.
//!
//! [`sim`] runs the real rooms (`raft`, `multiraft`, `storage`, `registry`) in one thread on virtual time. [`checker`]
//! holds the laws: what Raft promises, and what a Kafka client may expect. Neither knows the broker, Tokio or a socket.
//! [`fuzz`] holds a target for every decoder of bytes from outside.
#![forbid(unsafe_code)]

pub mod checker;
pub mod fuzz;
pub mod maelstrom;
pub mod model;
pub mod process;
pub mod sabotage;
pub mod sim;
pub mod torture;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
