//! The administration port: HTTP with health, metrics, and JSON requests.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health/live` | 200 as long as the process runs |
//! | `GET /health/ready` | 200 once this broker is registered and has opened its replicas; 503 before, while it leaves, and while a thread that it needs is stalled |
//! | `GET /metrics` | for Prometheus |
//! | `POST /rpc` | `partition_leader` and `partition_failover`, as JSON; see [`rpc`] |
//!
//! `POST /rpc` takes JSON only, addressed to this broker: see `guard`.

mod guard;
mod limited;
pub mod rpc;

use crate::engine::Engine;
use crate::metrics::Exporter;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use limited::{Limited, Visit};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// A request that is larger is no request of ours: the largest holds a topic's name.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Requests at a time that take a while: the JSON requests, and metrics. Far fewer than the port has places, so that a health
/// probe always finds one.
const MAX_SLOW_REQUESTS: usize = limited::MAX_CONNECTIONS / 4;

/// How long a request may take, its body included. A failover on request may take ten seconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the routes share.
struct Shared {
    engine: Engine,
    exporter: Exporter,
    /// See [`MAX_SLOW_REQUESTS`].
    slow: Semaphore,
}

/// Serves until `stop` completes.
pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    exporter: Exporter,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let routes = routes(engine, exporter);
    let service = routes.into_make_service_with_connect_info::<Visit>();
    let served = axum::serve(Limited::new(listener), service).with_graceful_shutdown(stop);
    if let Err(error) = served.await {
        tracing::error!(%error, "the administration port has failed");
    }
}

fn routes(engine: Engine, exporter: Exporter) -> Router {
    let shared = Arc::new(Shared {
        engine,
        exporter,
        slow: Semaphore::new(MAX_SLOW_REQUESTS),
    });
    let slow = Router::new()
        .route("/metrics", get(metrics))
        .route("/rpc", post(answer))
        .route_layer(from_fn_with_state(Arc::clone(&shared), few_at_a_time));
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .merge(slow)
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(attended))
        .with_state(shared)
}

/// Notes that a request is being answered, so that its connection keeps its place; but not for ever.
async fn attended(ConnectInfo(visit): ConnectInfo<Visit>, request: Request, next: Next) -> Response {
    visit.set_answering(true);
    let answered = tokio::time::timeout(DEADLINE, next.run(request)).await;
    visit.set_answering(false);
    answered.unwrap_or_else(|_| (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response())
}

async fn few_at_a_time(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match shared.slow.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => {
            let why = "too many requests at a time; try again\n";
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match shared.engine.stalled_thread() {
        Some((thread, busy)) => {
            let text = format!(
                "not ready: the thread `{thread}` has been stalled for {} ms\n",
                busy.as_millis()
            );
            (unavailable, text)
        }
        None if shared.engine.is_ready() => (StatusCode::OK, "ready\n".to_owned()),
        None => (unavailable, "not ready\n".to_owned()),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.exporter.text()).into_response()
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let (status, text) = match (guard::check(&headers, shared.engine.settings()), body) {
        (Err((status, why)), _) => rpc::unreadable(status, why),
        (Ok(()), Ok(body)) => rpc::answer(&shared.engine, &body).await,
        (Ok(()), Err(rejection)) => {
            rpc::unreadable(rejection.status(), format!("the request can't be read: {rejection}"))
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn unknown() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "there are GET /health/live, /health/ready and /metrics, and POST /rpc\n",
    )
}
