//! Kafka's protocol: a frame in, perhaps a frame out.
//!
//! The seam to the rest of the broker is one type, [`Handlers`]: the server makes one for the client listener, and the
//! transport calls it once a frame. Everything that a handler needs is behind the [`Engine`]. One file a concern; what
//! can be decided without asking anyone is decided by functions of a [`crate::engine::ClusterView`] and the request.
//!
//! What must begin in the order of a connection's requests (appends) begins before [`Service::call`] returns; everything
//! else happens in the future that it returns.

mod cluster;
mod configs;
mod decompression;
mod errors;
mod fetch;
mod metadata;
mod offsets;
mod partitions;
mod produce;
mod producer_ids;
mod reassignments;
mod topics;
mod turns;

#[cfg(test)]
mod tests;

use crate::engine::Engine;
use crate::memory::Share;
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::Encodable;
use std::future::Future;
use std::sync::Arc;
use trimaran_transport::{Connection, ConnectionId, Reply, Service, Work};
use trimaran_wire::WireError;
use trimaran_wire::api::{self, Api, RequestHeader};
use trimaran_wire::request::{self, Request};

/// Responses up to here don't count towards the memory for responses: a connection's buffers take as much.
const SMALL_RESPONSE_BYTES: usize = 16 << 10;

/// Answers Kafka clients.
#[derive(Clone)]
pub struct Handlers {
    engine: Engine,
    creations: metadata::Creations,
    decompression: decompression::Decompression,
    appends: produce::Appends,
}

impl Handlers {
    /// Handlers of this broker.
    pub fn new(engine: Engine) -> Handlers {
        let decompression = decompression::Decompression::new(Arc::clone(engine.memory()));
        Handlers {
            creations: metadata::Creations::default(),
            appends: produce::Appends {
                engine: engine.clone(),
                decompression: decompression.clone(),
                turns: turns::Turns::default(),
            },
            decompression,
            engine,
        }
    }

    /// Begins a request: reads it, hands over what must stay in order, and returns the rest of the work.
    fn begin(&self, connection: &Connection, mut frame: BytesMut) -> Work {
        let header = match api::decode_header(&mut frame) {
            Ok(header) => header,
            Err(error) => return done(refuse_header(connection, &error)),
        };
        match request::decode_request(&header, frame) {
            Ok(request) => self.dispatch(connection.id, header, request),
            Err(error) => {
                let (api, version) = (header.api.spec().name, header.version);
                tracing::info!(client = %connection.remote, api, version, %error, "a request can't be read");
                done(Reply::Close)
            }
        }
    }

    /// Appends are begun at once; everything else in its turn, when what was asked before it on its connection is answered,
    /// as Kafka does: a client that asks ahead and doesn't read has one response in memory.
    fn dispatch(&self, connection: ConnectionId, header: RequestHeader, request: Request) -> Work {
        if matches!(request, Request::Produce(_)) {
            return self.answer(connection, header, request);
        }
        let handlers = self.clone();
        done(Reply::InTurn(Box::pin(async move {
            let reply = handlers.answer(connection, header, request).await;
            within(&handlers.engine.memory().responses, reply)
        })))
    }

    fn answer(&self, connection: ConnectionId, header: RequestHeader, request: Request) -> Work {
        let (engine, version) = (self.engine.clone(), header.version);
        match request {
            Request::Produce(request) => self.appends.begin(connection, header, request),
            Request::Fetch(request) => Box::pin(fetch::answer(engine, header, request)),
            Request::ListOffsets(request) => {
                let decompression = self.decompression.clone();
                reply(header, offsets::list(engine, decompression, version, request))
            }
            Request::OffsetForLeaderEpoch(request) => reply(header, offsets::epoch_ends(engine, request)),
            Request::Metadata(request) => done(metadata::answer(&engine, &self.creations, &header, &request)),
            Request::CreateTopics(request) => reply(header, topics::create(engine, request)),
            Request::DeleteTopics(request) => reply(header, topics::delete(engine, request)),
            Request::CreatePartitions(request) => reply(header, topics::grow(engine, request)),
            Request::AlterPartitionReassignments(request) => reply(header, reassignments::alter(engine, request)),
            Request::ListPartitionReassignments(request) => {
                done(respond(&header, &reassignments::list(&engine.view(), &request)))
            }
            Request::DescribeConfigs(request) => {
                let view = engine.view();
                done(respond(&header, &configs::describe(engine.settings(), &view, &request)))
            }
            Request::DescribeCluster(request) => {
                let id = &engine.settings().cluster.id;
                done(respond(&header, &cluster::describe(&engine.view(), id, &request)))
            }
            Request::FindCoordinator(request) => done(respond(&header, &cluster::find_coordinator(&request))),
            Request::InitProducerId(request) => reply(header, producer_ids::answer(engine, request)),
            Request::ApiVersions(request) => {
                let code = cluster::software_error(version, &request).map_or(0, |error| error.code());
                done(respond(&header, &api::versions_response(code)))
            }
        }
    }
}

impl Service for Handlers {
    fn call(&self, connection: &Connection, frame: BytesMut) -> impl Future<Output = Reply> + Send + 'static {
        self.begin(connection, frame)
    }
}

/// ApiVersions of an unknown version is answered in version 0, with the range that is known (KIP-511). Nothing else that
/// is unknown has an error that the client could read, so the connection is closed, as Kafka does.
fn refuse_header(connection: &Connection, error: &WireError) -> Reply {
    let WireError::UnsupportedVersion {
        api: Api::ApiVersions,
        correlation_id,
        ..
    } = error
    else {
        tracing::info!(client = %connection.remote, %error, "closes a connection");
        return Reply::Close;
    };
    let response = api::versions_response(ResponseError::UnsupportedVersion.code());
    frame(request::encode_response(
        Api::ApiVersions,
        0,
        *correlation_id,
        &response,
    ))
}

/// The reply, with its part of the memory for responses until it is sent. What finds no room is dropped, with its
/// connection: clients that ask again later are better off than a broker that runs out of memory.
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

/// A response that has to be waited for.
fn reply<R: Encodable>(header: RequestHeader, response: impl Future<Output = R> + Send + 'static) -> Work {
    Box::pin(async move { respond(&header, &response.await) })
}

fn respond(header: &RequestHeader, response: &impl Encodable) -> Reply {
    frame(request::encode_response(
        header.api,
        header.version,
        header.correlation_id,
        response,
    ))
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
