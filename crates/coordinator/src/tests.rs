//! Groups from outside: requests in, replies and records out.

mod admin;
mod failover;
mod kafka;
mod members;
mod offsets;
mod rebalances;
mod rig;
