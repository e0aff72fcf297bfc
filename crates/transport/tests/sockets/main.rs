//! The crate from outside, over real sockets on the loopback interface, and over pipes in memory. Nothing here sleeps
//! for a guess: whatever takes time is asked for by a condition, and a condition that never comes true fails by
//! [`support::PATIENCE`].

mod garbage;
mod limits;
mod links;
mod order;
mod pipes;
mod shutdown;
mod support;
