//! A sans-I/O Raft consensus core.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod group;
mod log;
mod message;
mod types;

pub use group::{
    Config, Event, Group, Heartbeats, Input, Output, Persist, Progress, ProposeError, Proposed, Recovered, Role,
    TransferError, Tuning,
};
pub use log::{LogView, TermAt};
pub use message::{AppendPlan, Body, Message};
pub use types::{Entry, GroupId, HardState, Instant, Liveness, LogIndex, NodeId, Payload, Term, Token};
