//! A sans-I/O Raft consensus core.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
mod durability;
mod group;
mod input;
mod log;
mod message;
mod output;
mod progress;
mod quorum;
mod types;

pub use config::{Config, Heartbeats, Recovered, Tuning};
pub use group::Group;
pub use input::Input;
pub use log::{LogView, MemoryLog, TermAt};
pub use message::{AppendPlan, Body, Message};
pub use output::{Event, Output, Persist, Progress, ProposeError, Proposed, Role, TransferError};
pub use types::{Entry, GroupId, HardState, Instant, Liveness, LogIndex, NodeId, Payload, Term, Token};
