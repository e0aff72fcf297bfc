//! The one shape of all handlers: a request, and the context that it is answered in.

use super::authorization::{Access, Authorizer, Operation, Resource};
use super::decompression::Decompression;
use super::errors::Failure;
use super::metadata::Creations;
use super::session::Session;
use super::turns::Turns;
use super::{done, frame, within};
use crate::engine::{ClusterView, Engine};
use std::future::Future;
use std::sync::Arc;
use trimaran_transport::{Reply, Work};
use trimaran_wire::api::RequestHeader;
use trimaran_wire::request::{self, Handle, Response};

/// The state that all requests of a listener share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) authorizer: Arc<dyn Authorizer>,
    /// Topics that are being created because clients asked for them.
    pub(super) creations: Creations,
    pub(super) decompression: Decompression,
    pub(super) turns: Turns,
}

/// Everything that a handler needs beside its request.
pub(super) struct Context {
    pub(super) session: Arc<Session>,
    pub(super) header: RequestHeader,
    /// The cluster, as it is known when the request's turn comes.
    pub(super) view: Arc<ClusterView>,
    pub(super) shared: Arc<Shared>,
}

impl Context {
    pub(super) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The version of the request, and so of its response.
    pub(super) fn version(&self) -> i16 {
        self.header.version
    }

    /// The client's permissions.
    pub(super) fn access(&self) -> Access<'_> {
        Access {
            session: &self.session,
            authorizer: &*self.shared.authorizer,
        }
    }

    /// See [`Access::authorize`].
    pub(super) fn authorize(&self, operation: Operation, resource: Resource<'_>) -> Result<(), Failure> {
        self.access().authorize(operation, resource)
    }

    /// The response as a frame.
    ///
    /// # Panics
    /// If it is the response to another API.
    pub(super) fn respond<R: Response>(&self, response: &R) -> Reply {
        let RequestHeader {
            api,
            version,
            correlation_id,
            ..
        } = self.header;
        assert_eq!(R::API, api, "a handler answers what it was asked");
        frame(request::encode_response(version, correlation_id, response))
    }
}

/// A request that can be answered.
pub(super) trait Answer: Sized + Send + 'static {
    /// Whether the answer begins when the request arrives, and not when what was asked before it on its connection is
    /// answered.
    const AT_ONCE: bool = false;

    /// Answers the request. What must happen in the order of the connection's requests happens before this returns.
    fn answer(self, context: Context) -> impl Future<Output = Reply> + Send + 'static;
}

/// A request that has arrived.
pub(super) struct Arrival {
    pub(super) session: Arc<Session>,
    pub(super) header: RequestHeader,
    pub(super) shared: Arc<Shared>,
}

impl Arrival {
    fn context(self) -> Context {
        Context {
            view: self.shared.engine.view(),
            session: self.session,
            header: self.header,
            shared: self.shared,
        }
    }
}

/// A request is answered in its turn, as Kafka does, unless it says otherwise: a client that asks ahead and doesn't
/// read has one response in memory.
impl<R: Answer> Handle<R> for Arrival {
    type Output = Work;

    fn handle(self, request: R) -> Work {
        if R::AT_ONCE {
            return Box::pin(request.answer(self.context()));
        }
        done(Reply::InTurn(Box::pin(async move {
            let shared = Arc::clone(&self.shared);
            let reply = request.answer(self.context()).await;
            within(&shared.engine.memory().responses, reply)
        })))
    }
}
