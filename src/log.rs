//! Logging, to stderr.

use std::{panic, thread};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt};

use crate::settings::{Log, LogFormat};

/// Lines that wait for a reader of stderr; more are dropped and counted. Whoever does not read the log must not
/// stop the work.
const WAITING_LINES: usize = 10_000;

/// Logging that has started; what waits is written when this is dropped, as far as somebody reads it.
#[must_use = "what still waits when this is dropped early is not written"]
#[derive(Debug)]
pub struct Logging {
    _guard: WorkerGuard,
    /// Counts the lines that were dropped.
    pub dropped: ErrorCounter,
}

/// Lets a panic tell where it happened, and nothing else: its message may quote what was being read.
pub fn hook_panics() {
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let current = thread::current();
        let thread = current.name().unwrap_or("unnamed");
        if tracing::dispatcher::has_been_set() {
            tracing::error!(panic.location = location, panic.thread = thread, "panicked: this is a bug");
        } else {
            eprintln!("error: panicked at {location} in thread {thread}: this is a bug");
        }
    }));
}

/// Starts logging; `RUST_LOG` wins over the setting.
///
/// # Errors
///
/// When the filter cannot be read.
pub fn start(settings: &Log) -> anyhow::Result<Logging> {
    let filter = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| settings.filter.clone());
    let filter = EnvFilter::try_new(filter)?;
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).lossy(true).finish(std::io::stderr());
    let dropped = writer.error_counter();
    let builder = fmt().with_env_filter(filter).with_writer(writer);
    match settings.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(Logging { _guard: guard, dropped })
}
