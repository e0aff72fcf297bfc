//! Byte streams, and where they come from: TCP here, and whatever a caller puts around it.

use crate::PeerId;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};

/// A connection's bytes, in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Its bytes.
    pub stream: S,
    /// The client's address.
    pub remote: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
}

/// A source of incoming connections.
pub trait Accept: Send {
    /// The kind of stream that it accepts.
    type Stream: Stream;

    /// Waits for the next connection. Nothing is lost if the future is dropped. Nothing but waiting belongs here: a
    /// client that keeps it busy would keep out all others.
    ///
    /// # Errors
    /// Those of one connection ([`io::ErrorKind::ConnectionAborted`], [`io::ErrorKind::ConnectionReset`],
    /// [`io::ErrorKind::Interrupted`]) are passed over; after any other, the listener pauses before it tries again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted<Self::Stream>>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<Accepted<TcpStream>> {
        let (stream, remote) = TcpListener::accept(self).await?;
        // Fails only on a socket that is broken already.
        let local = stream.local_addr().map_err(|_| io::ErrorKind::ConnectionAborted)?;
        send_at_once(&stream);
        Ok(Accepted { stream, remote, local })
    }
}

/// A named source of incoming connections.
#[derive(Clone, Debug)]
pub struct Listener<A> {
    /// The name that connections carry ([`crate::Connection::listener`]).
    pub name: Arc<str>,
    /// Where they come from.
    pub source: A,
}

impl<A: Accept> Listener<A> {
    /// A listener of this name.
    pub fn new(name: &str, source: A) -> Listener<A> {
        Listener {
            name: name.into(),
            source,
        }
    }
}

/// A way to connect to peers.
pub trait Connect: Send + Sync + 'static {
    /// The kind of stream that it makes.
    type Stream: Stream;

    /// Makes a connection to a peer at an address (`host:port`).
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] only if nobody listens there, under any address that the name stands for:
    /// it is taken as evidence that the peer's process is gone.
    fn connect(&self, peer: PeerId, address: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Plain TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Connect for Tcp {
    type Stream = TcpStream;

    async fn connect(&self, _: PeerId, address: &str) -> io::Result<TcpStream> {
        let mut failure = None;
        for candidate in lookup_host(address).await? {
            match TcpStream::connect(candidate).await {
                Ok(stream) => {
                    send_at_once(&stream);
                    return Ok(stream);
                }
                // Any other error says more: the peer may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    failure = failure.or(Some(error));
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::Error::other("the name stands for no address")))
    }
}

/// Frames are written whole; waiting for more to fill a packet would only delay them. A failure means that the
/// connection is gone already, which reading will tell.
fn send_at_once(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
}
