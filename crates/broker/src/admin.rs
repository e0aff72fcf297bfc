//! The administration port: HTTP with health, metrics, and JSON requests.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health/live` | 200 as long as the process runs |
//! | `GET /health/ready` | 200 once this broker is registered and has opened its replicas; 503 before, while it leaves, and while a thread that it needs is stalled |
//! | `GET /metrics` | for Prometheus |
//! | `POST /rpc` | `partition_leader` and `partition_failover`, as JSON; see [`rpc`] |

mod limited;
pub mod rpc;

use crate::engine::Engine;
use crate::metrics::Exporter;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use limited::Limited;
use std::sync::Arc;
use tokio::net::TcpListener;

/// A request that is larger is no request of ours: the largest holds a topic's name.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What the routes share.
struct Shared {
    engine: Engine,
    exporter: Exporter,
}

/// Serves until `stop` completes.
pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    exporter: Exporter,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let routes = routes(engine, exporter);
    let served = axum::serve(Limited::new(listener), routes).with_graceful_shutdown(stop);
    if let Err(error) = served.await {
        tracing::error!(%error, "the administration port has failed");
    }
}

fn routes(engine: Engine, exporter: Exporter) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/rpc", post(answer))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(Shared { engine, exporter }))
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

async fn answer(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    let (status, text) = match body {
        Ok(body) => rpc::answer(&shared.engine, &body).await,
        Err(rejection) => rpc::unreadable(rejection.status(), format!("the request can't be read: {rejection}")),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn unknown() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "there are GET /health/live, /health/ready and /metrics, and POST /rpc\n",
    )
}
