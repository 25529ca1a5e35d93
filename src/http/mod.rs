//! The HTTP port: whether the process lives, whether it works, and its metrics.

mod listener;

use std::{future::IntoFuture as _, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    runtime::{self, Handle},
};
use tokio_util::sync::CancellationToken;

use crate::{failure::Died, metrics, status::Status};
use listener::Bounded;

/// How long open requests may take once the worker stops.
const DRAIN: Duration = Duration::from_secs(1);

/// Opens the port.
///
/// # Errors
///
/// When the address cannot be had.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Answers until `stop` is cancelled, on a thread of its own: a storm of requests takes that one's share of the cores and no more.
///
/// # Errors
///
/// When the listener breaks.
pub async fn serve(listener: TcpListener, status: Arc<Status>, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = listener.into_std().context("the listener of the HTTP port")?;
    let work = Handle::current();
    let serving = work.clone().spawn_blocking(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("a thread for HTTP")?;
        runtime.block_on(answer(listener, status, work, stop))
    });
    serving.await.map_err(|_| Died("the thread for HTTP"))?
}

async fn answer(
    listener: std::net::TcpListener,
    status: Arc<Status>,
    work: Handle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener).context("the listener of the HTTP port")?;
    let router = Router::new()
        .route("/healthz", get(move || alive(work)))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(status);
    let serving = axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        served = serving.into_future() => served.context("serving HTTP"),
        // Whoever sends half a request must not hold up the end of the worker.
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

/// An outage is no reason to be restarted: alive means that tasks run where the work is done.
async fn alive(work: Handle) -> Result<&'static str, StatusCode> {
    work.spawn(async { "ok\n" }).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn ready(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let readiness = status.readiness();
    let code = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let told = |trouble: &Option<String>| trouble.clone().unwrap_or_else(|| "ok".to_owned());
    let body = json!({
        "ready": readiness.is_ready(),
        "database": told(&readiness.database),
        "broker": told(&readiness.broker),
        "dead_letters": told(&readiness.dead_letters),
    });
    (code, Json(body))
}

async fn scrape(State(status): State<Arc<Status>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], status.metrics_text())
}
