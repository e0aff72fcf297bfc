//! What happens to a running broker, and what it wants of its world.

use crate::checker::Violation;
use crate::sim::clients::{Answer, Request};
use crate::sim::queue::Micros;
use crate::sim::trace::Happening;
use bytes::Bytes;
use trimaran_multiraft::LeaderChange;
use trimaran_raft::GroupId;
use trimaran_registry::BrokerId;
use trimaran_registry::starts::Start;
use trimaran_storage::log::LogError;
use trimaran_wire::peer::Frame;

/// What happens to a running broker.
#[derive(Debug)]
pub enum Event {
    /// A shard has input.
    Step(usize),
    /// A shard's timer, if it was not set again since.
    Timer(usize, Micros),
    /// The control thread's timer, if it was not set again since.
    Control(Micros),
    /// The journal's write is done.
    Journal,
    /// A job of the threads for files is done.
    Job(u64),
    /// A long poll has waited long enough.
    Cancel(u64),
    /// A frame from another broker.
    Frame {
        /// The other broker.
        from: u32,
        /// The frame.
        bytes: Bytes,
    },
    /// Another broker's process refuses connections.
    Refused(u32),
    /// A client asks.
    Request {
        /// The client.
        client: u32,
        /// The client's number for the request.
        number: u64,
        /// What it asks.
        request: Request,
    },
    /// Hand over one group.
    Transfer(GroupId),
    /// Believe a group's leader gone.
    Failover(GroupId),
    /// Its clock is ahead by so much more.
    ClockJump(Micros),
    /// Its wall clock is ahead of the others' by so much from now on (behind, if that is negative).
    ClockSet(i64),
    /// Hand over everything, then stop.
    Leave,
}

/// What a running broker wants of its world.
#[derive(Debug)]
pub enum Effect {
    /// Send a frame.
    Send(u32, Frame),
    /// Answer a client.
    Answer(u32, u64, Answer),
    /// Let this happen here at that time.
    At(Micros, Event),
    /// For the trace.
    Trace(Happening),
    /// A replica here reports a leader.
    Leader(LeaderChange),
    /// A replica is opened.
    Opened(GroupId),
    /// The catalog tells of a start of another broker.
    NoteStart(BrokerId, Start),
    /// A replica gives up its log, for this reason.
    GivesUp(GroupId, LogError),
    /// A shard took a step: its replicas may be looked at.
    Stepped(usize),
    /// The disk has synced what a shard wrote, up to that batch.
    Synced(usize, u64),
    /// It handed over what it could and is ready to stop.
    Left,
    /// It broke a law.
    Broken(Violation),
    /// It can't go on.
    Fail(String),
}
