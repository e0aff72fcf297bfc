//! Kafka's protocol: a frame in, perhaps a frame out.
//!
//! The seam to the rest of the broker is one type, [`Handlers`]: the server makes one for the client listener, and the
//! transport opens a [`Session`] with it for each connection and calls it once a frame. One file a concern.
//!
//! Every request is answered by an implementation of one trait, `context::Answer`, in a `context::Context`: the
//! session, the request's header, the view of the cluster, and the [`Engine`], behind which everything else is. Each
//! names the operations that it needs on which resources, and asks its [`Authorizer`] (`Context::authorize`) before it
//! does or shows anything. Everything that can be decided without the engine is decided by functions of a
//! [`crate::engine::ClusterView`], the client's access and the request.
//!
//! What must begin in the order of a connection's requests (appends) begins before [`Service::call`] returns;
//! everything else happens in the future that it returns.

mod authorization;
mod cluster;
mod configs;
mod consumer_groups;
mod context;
mod decompression;
mod errors;
mod fetch;
mod metadata;
mod offsets;
mod partitions;
mod produce;
mod producer_ids;
mod reassignments;
mod session;
mod topics;
mod turns;

#[cfg(test)]
mod tests;

pub use authorization::{AllowAll, Authorizer, Operation, Resource};
pub use session::{Authentication, Client, Principal, Session, Software};

use crate::engine::Engine;
use crate::memory::Share;
use bytes::{Bytes, BytesMut};
use context::{Arrival, Shared};
use kafka_protocol::ResponseError;
use std::future::Future;
use std::sync::Arc;
use trimaran_transport::{Connection, Reply, Service, Work};
use trimaran_wire::WireError;
use trimaran_wire::api::{self, Api};
use trimaran_wire::request;

/// Responses up to here don't count towards the memory for responses: a connection's buffers take as much.
const SMALL_RESPONSE_BYTES: usize = 16 << 10;

/// Answers Kafka clients.
#[derive(Clone)]
pub struct Handlers {
    shared: Arc<Shared>,
}

impl Handlers {
    /// Handlers of this broker, which allow everything to everybody.
    pub fn new(engine: Engine) -> Handlers {
        Handlers::with_authorizer(engine, Arc::new(AllowAll))
    }

    /// Handlers of this broker that ask for permissions here.
    pub fn with_authorizer(engine: Engine, authorizer: Arc<dyn Authorizer>) -> Handlers {
        let shared = Shared {
            authorizer,
            creations: metadata::Creations::default(),
            decompression: decompression::Decompression::new(Arc::clone(engine.memory())),
            turns: turns::Turns::default(),
            engine,
        };
        Handlers {
            shared: Arc::new(shared),
        }
    }

    /// Begins a request: reads it, hands over what must stay in order, and returns the rest of the work.
    fn begin(&self, session: &Arc<Session>, mut frame: BytesMut) -> Work {
        let header = match api::decode_header(&mut frame) {
            Ok(header) => header,
            Err(error) => return done(refuse_header(session, &error)),
        };
        session.note_client_id(header.client_id.as_deref());
        match request::decode_request(&header, frame) {
            Ok(request) => request.dispatch(Arrival {
                session: Arc::clone(session),
                header,
                shared: Arc::clone(&self.shared),
            }),
            Err(error) => {
                let (api, version) = (header.api.spec().name, header.version);
                tracing::info!(client = %session, api, version, %error, "a request can't be read");
                done(Reply::Close)
            }
        }
    }
}

impl Service for Handlers {
    type Session = Arc<Session>;

    fn open(&self, connection: &Connection) -> Arc<Session> {
        Arc::new(Session::new(connection.clone()))
    }

    fn call(&self, session: &Arc<Session>, frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
        self.begin(session, frame)
    }
}

/// ApiVersions of an unknown version is answered in version 0, with the range that is known (KIP-511). Nothing else
/// that is unknown has an error that the client could read, so the connection is closed, as Kafka does.
fn refuse_header(session: &Session, error: &WireError) -> Reply {
    let WireError::UnsupportedVersion {
        api: Api::ApiVersions,
        correlation_id,
        ..
    } = error
    else {
        tracing::info!(client = %session, %error, "closes a connection");
        return Reply::Close;
    };
    let response = api::versions_response(ResponseError::UnsupportedVersion.code());
    frame(request::encode_response(0, *correlation_id, &response))
}

/// The reply, with its part of the memory for responses until it is sent. A response that finds no room is dropped,
/// with its connection: clients that ask again later are better off than a broker that runs out of memory.
fn within(share: &Share, reply: Reply) -> Reply {
    let Reply::Frame(chunks) = reply else { return reply };
    let bytes = chunks.iter().map(Bytes::len).sum::<usize>();
    if bytes <= SMALL_RESPONSE_BYTES {
        return Reply::Frame(chunks);
    }
    match share.try_reserve(bytes as u64) {
        Some(reserved) => Reply::Frame(vec![reserved.hold(joined(chunks))]),
        None => {
            tracing::warn!(
                bytes,
                "closes a connection: too many long responses wait for clients that don't read them; \
                 `limits.memory_bytes` says how many may"
            );
            Reply::Close
        }
    }
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.pop() {
        Some(only) if chunks.is_empty() => only,
        last => {
            chunks.extend(last);
            Bytes::from(chunks.concat())
        }
    }
}

fn done(reply: Reply) -> Work {
    Box::pin(std::future::ready(reply))
}

/// A response that can't be encoded is a bug of this broker; the client can only be disconnected.
fn frame(encoded: Result<Bytes, WireError>) -> Reply {
    match encoded {
        Ok(bytes) => Reply::Frame(vec![bytes]),
        Err(error) => {
            tracing::error!(%error, "a response can't be encoded");
            Reply::Close
        }
    }
}
