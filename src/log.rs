//! Logging, to stderr.

use tracing_subscriber::{EnvFilter, fmt};

use crate::settings::{Log, LogFormat};

/// Starts logging; `RUST_LOG` wins over the setting.
///
/// # Errors
///
/// When the filter cannot be read.
pub fn start(settings: &Log) -> anyhow::Result<()> {
    let filter = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| settings.filter.clone());
    let builder = fmt().with_env_filter(EnvFilter::try_new(filter)?).with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
