//! What a process serves over HTTP: its metrics, whether it lives, whether it is ready, and a way to reload.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Rendered;

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// The metrics.
    pub metrics: Rendered,
    /// What is not ready.
    pub missing: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What waits for its turn while another process has it.
    pub standing_by: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Asks for a reload; full means that one is asked for already. `None` where there is nothing to load from.
    pub reload: Option<mpsc::Sender<()>>,
}

/// Serves until it is told to stop.
pub fn serve(
    listener: TcpListener,
    served: Served,
    stop: CancellationToken,
) -> impl Future<Output = std::io::Result<()>> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/-/reload", post(reload))
        .with_state(served);
    async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await }
}

async fn metrics(State(served): State<Served>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.metrics.text())
        .into_response()
}

async fn ready(State(served): State<Served>) -> Response {
    let missing = (served.missing)();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let standing_by = (served.standing_by)();
    let body =
        serde_json::json!({ "ready": missing.is_empty(), "missing": missing, "standing_by": standing_by });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn reload(State(served): State<Served>) -> Response {
    let Some(reload) = &served.reload else {
        let text = "nothing to apply: this process was started without --config\n";
        return (StatusCode::CONFLICT, text).into_response();
    };
    let _ = reload.try_send(());
    (StatusCode::ACCEPTED, "the configuration is applied again\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reload_is_refused_where_there_is_nothing_to_load_from() {
        let state = |reload| Served {
            metrics: crate::telemetry::init_metrics().unwrap_or_else(|error| panic!("{error}")),
            missing: Arc::new(Vec::new),
            standing_by: Arc::new(Vec::new),
            reload,
        };
        let (ask, mut asked) = mpsc::channel(1);
        let served = state(Some(ask));
        assert_eq!(super::reload(State(served.clone())).await.status(), StatusCode::ACCEPTED);
        assert_eq!(asked.recv().await, Some(()));
        let without = Served { reload: None, ..served };
        assert_eq!(super::reload(State(without)).await.status(), StatusCode::CONFLICT);
    }
}
