//! The ways in which the owner is told to stop.

use std::future::pending;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Signals, and the end of standard input where that is read.
pub(super) struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    stdin_end: Option<oneshot::Receiver<()>>,
}

impl StopRequests {
    /// Starts to listen; from here on the signals no longer end this process by themselves.
    pub(super) fn listen(stdin_end: Option<oneshot::Receiver<()>>) -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            stdin_end,
        })
    }

    /// Waits for the first request and names it.
    pub(super) async fn first(&mut self) -> &'static str {
        let stdin_end = async {
            match &mut self.stdin_end {
                Some(end) => end.await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
            _ = stdin_end => "the end of standard input",
        }
    }
}
