//! The HTTP port: whether the process lives, and whether it works.

use std::{future::IntoFuture as _, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::pipeline::Status;

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

/// Answers until `stop` is cancelled.
///
/// # Errors
///
/// When the listener breaks.
pub async fn serve(listener: TcpListener, status: Arc<Status>, stop: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new()
        // An outage is no reason to be restarted: alive means that this answers.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(status);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        served = serving.into_future() => served.context("serving HTTP"),
        // Whoever sends half a request must not hold up the end of the worker.
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

async fn ready(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let troubles = status.troubles();
    let code = if troubles.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let told = |name| {
        troubles.iter().find(|(dependency, _)| *dependency == name).map_or("ok", |(_, trouble)| trouble.as_str())
    };
    (code, Json(json!({ "ready": troubles.is_empty(), "database": told("database"), "broker": told("broker") })))
}
