//! Every limit of this crate, with its reason.

use std::time::Duration;

/// The limits of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame accepted, in bytes, without its length. A longer (or negative) length closes the connection:
    /// the sender is either hostile or speaks another protocol (`GET ` is a length of 1.2 GB). Kafka's
    /// `socket.request.max.bytes`, and its default.
    pub max_frame_bytes: usize,
    /// Connections at a time, all clients together. One more is closed at once: a file descriptor and two tasks each.
    pub max_connections: usize,
    /// Connections at a time from one IP address, so that one client with a leak can't lock out the others.
    pub max_connections_per_ip: usize,
    /// Requests of one connection that are worked on at a time. When it is reached, reading pauses: TCP tells the
    /// client to wait. A service whose responses may be long makes them in turn ([`crate::Reply::InTurn`]), so that
    /// only one of them waits in memory for a client that doesn't read. Java's idempotent producers have five requests
    /// on their way at most.
    pub pipeline: usize,
    /// Bytes of one connection in flight: requests being worked on, and responses not yet sent. When it is exceeded,
    /// reading pauses. One request is always let through, however long.
    pub in_flight_bytes: usize,
    /// Bytes of requests in flight, all connections together; counted from the moment that a frame's length is known.
    /// Frames up to [`Limits::SMALL_FRAME_BYTES`] are not counted, unless a connection has many of them. A frame that
    /// finds no room waits for it, at most `read_timeout`. Never less than `max_frame_bytes`.
    pub in_flight_bytes_total: usize,
    /// A connection with nothing in flight and no byte received for so long is closed, cleanly. Kafka's
    /// `connections.max.idle.ms`.
    pub idle_timeout: Duration,
    /// A frame that has begun must go on: without a byte for so long, the connection is closed. The whole of a frame
    /// must arrive within this plus one second for each [`Limits::MIN_BYTES_PER_SECOND`] of its length.
    pub read_timeout: Duration,
    /// A response that has begun must be taken: when not a byte can be written for so long, the connection is closed.
    pub write_timeout: Duration,
    /// The time that requests in flight may take to finish on shutdown, or when the client has closed its half.
    pub drain_timeout: Duration,
}

impl Limits {
    /// Frames up to here don't count towards [`Limits::in_flight_bytes_total`] while a connection has fewer than
    /// [`Limits::FEW_REQUESTS`] in flight: together that is no more than a connection's buffers take anyway.
    pub const SMALL_FRAME_BYTES: usize = 4 * 1024;
    /// See [`Limits::SMALL_FRAME_BYTES`]. Java's producers have five requests on their way at most.
    pub const FEW_REQUESTS: usize = 8;
    /// Slower than this, a frame is an attack or a network on which nothing else would work either.
    pub const MIN_BYTES_PER_SECOND: usize = 16 * 1024;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_frame_bytes: 100 * 1024 * 1024,
            max_connections: 10_000,
            max_connections_per_ip: 2_000,
            pipeline: 32,
            in_flight_bytes: 64 * 1024 * 1024,
            in_flight_bytes_total: 1024 * 1024 * 1024,
            idle_timeout: Duration::from_secs(600),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// The limits of an outgoing link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Frames that wait in one peer's queue. One more drops the oldest: the newest says most about the present.
    pub queue_frames: usize,
    /// Bytes that wait in one peer's queue, with the same rule. A longer frame waits alone.
    pub queue_bytes: usize,
    /// The longest frame that is sent, in bytes: what a peer accepts. A longer one is dropped.
    pub max_frame_bytes: usize,
    /// The longest welcome accepted, in bytes.
    pub max_welcome_bytes: usize,
    /// The time that a connection may take to be made.
    pub connect_timeout: Duration,
    /// The time that a peer may take to answer the hello.
    pub handshake_timeout: Duration,
    /// When not a byte can be written for so long, the connection is closed and made again.
    pub write_timeout: Duration,
    /// The other end is asked for a sign of life in this interval (an empty frame, which it answers with one). A
    /// connection whose question has not been answered when the next but one is due is closed and made again: TCP alone
    /// would notice a network that swallows packets only after minutes.
    pub probe_interval: Duration,
    /// The first pause between attempts. Doubled at each failure, halved to whole at random.
    pub backoff_min: Duration,
    /// The longest pause between attempts.
    pub backoff_max: Duration,
}

impl Default for LinkLimits {
    fn default() -> LinkLimits {
        LinkLimits {
            queue_frames: 16 * 1024,
            queue_bytes: 64 * 1024 * 1024,
            max_frame_bytes: PeerLimits::default().max_frame_bytes,
            max_welcome_bytes: 64 * 1024,
            connect_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(2),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// The limits of the listener for peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// The longest frame accepted from a peer that was admitted, in bytes.
    pub max_frame_bytes: usize,
    /// The longest hello accepted, in bytes: its sender is still a stranger.
    pub max_hello_bytes: usize,
    /// Connections at a time, strangers included. One more is closed at once.
    pub max_connections: usize,
    /// The time that a stranger may take to send its hello.
    pub handshake_timeout: Duration,
    /// A connection without a byte for so long is closed: a link probes far more often.
    pub idle_timeout: Duration,
}

impl Default for PeerLimits {
    fn default() -> PeerLimits {
        PeerLimits {
            max_frame_bytes: 256 * 1024 * 1024,
            max_hello_bytes: 64 * 1024,
            max_connections: 1_000,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
        }
    }
}
