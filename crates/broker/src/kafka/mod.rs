//! Kafka's protocol: a frame in, perhaps a frame out.
//!
//! The seam to the rest of the broker is one type, [`Handlers`]: the server makes one for the client listener, and the
//! transport calls it once a frame. Everything that a handler needs is behind the [`Engine`].

use crate::engine::Engine;
use bytes::BytesMut;
use std::future::Future;
use trimaran_transport::{Connection, Reply, Service};

/// Answers Kafka clients.
pub struct Handlers {
    engine: Engine,
}

impl Handlers {
    /// Handlers of this broker.
    pub fn new(engine: Engine) -> Handlers {
        Handlers { engine }
    }
}

impl Service for Handlers {
    fn call(&self, connection: &Connection, frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
        let _ = (&self.engine, connection, frame);
        std::future::ready(Reply::Close)
    }
}
