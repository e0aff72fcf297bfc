//! The trait that a listener's owner implements.

use crate::Part;
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

/// Names a connection within this process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection-{}", self.0)
    }
}

/// A client's connection, as far as the transport knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Names the connection within this process.
    pub id: ConnectionId,
    /// The name of the listener that accepted it.
    pub listener: Arc<str>,
    /// The client's address.
    pub remote: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
}

/// Work that leads to a reply.
pub type Work = Pin<Box<dyn Future<Output = Reply> + Send + 'static>>;

/// The outcome of a request.
pub enum Reply {
    /// No response (Kafka's `acks=0`). The next request's response is not held up.
    Nothing,
    /// One response frame, as chunks that are written back to back; the transport puts the length before them.
    Frame(Vec<Bytes>),
    /// One response frame, of which not everything is in memory.
    Parts(Vec<Part>),
    /// Work that begins when the responses to all earlier requests of the connection are sent. For requests whose
    /// responses may be large: a connection then has one of them at a time, however many requests it sends ahead.
    InTurn(Work),
    /// The connection is closed, after the responses to all earlier requests. Say why in a log line: the client can't
    /// be told.
    Close,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Nothing => f.write_str("Nothing"),
            Reply::Frame(chunks) => f.debug_tuple("Frame").field(chunks).finish(),
            Reply::Parts(parts) => f.debug_tuple("Parts").field(parts).finish(),
            Reply::InTurn(_) => f.write_str("InTurn"),
            Reply::Close => f.write_str("Close"),
        }
    }
}

/// A frame in, perhaps a frame out.
pub trait Service: Send + Sync + 'static {
    /// The state that the service keeps for one connection. A service whose requests outlive their call needs something that is
    /// cheap to clone, such as an [`Arc`].
    type Session: Send + Sync + 'static;

    /// Begins the session of a connection that was accepted, before its first [`Service::call`]. The session is dropped
    /// when the connection has ended, and all its futures are gone or done.
    fn open(&self, connection: &Connection) -> Self::Session;

    /// Starts a request.
    ///
    /// Called synchronously, once a frame, in the order in which the frames of a connection arrived: what must begin in
    /// that order (appends of one producer) begins in this call. What has to be awaited goes into the future that it
    /// returns; the futures of one connection run side by side, and their replies leave in the order of the calls.
    ///
    /// The call itself must not block. The future is dropped when its connection ends before it does.
    fn call(&self, session: &Self::Session, frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static;
}
