//! Shutdown in two stages: finish what was begun; then, on a second signal or after the grace period, hard.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    ///
    /// When the system does not let it.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Cancels `stop` at the first signal; returns why to end hard, if it comes to that.
    pub async fn guard(mut self, stop: CancellationToken, grace: Duration) -> &'static str {
        tokio::select! {
            name = self.next() => tracing::info!(signal = name, ?grace, "stopping: finishing what was begun"),
            () = stop.cancelled() => {}
        }
        stop.cancel();
        tokio::select! {
            _ = self.next() => "a second signal came",
            () = tokio::time::sleep(grace) => "the grace period is over",
        }
    }
}
