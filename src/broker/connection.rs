use std::{io, time::Duration};

use anyhow::{Context as _, anyhow};
use lapin::{Connection, ConnectionProperties, ErrorKind, uri::AMQPUri};

use crate::settings;

/// How long frames a connection agrees to, unless `broker.url` says it. What is read goes round in 32 of them, and
/// what is sent in as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// 64 KiB: less memory. A body may be longer, headers may not.
    Short,
    /// As the broker proposes: 128 KiB.
    Long,
}

const SHORT: u32 = 64 << 10;

/// Opens a connection of short frames that the broker lists under `name`.
///
/// # Errors
///
/// As for [`connect_with`].
pub async fn connect(settings: &settings::Broker, name: &str) -> anyhow::Result<Connection> {
    connect_with(settings, name, Frames::Short).await
}

/// Opens a connection that the broker lists under `name`.
///
/// Without lapin's automatic recovery: after a recovered channel error its consumers stay silent.
///
/// # Errors
///
/// What keeps the connection from being opened; never with the URL's password.
pub async fn connect_with(settings: &settings::Broker, name: &str, frames: Frames) -> anyhow::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let mut uri = uri(settings)?;
    if frames == Frames::Short {
        uri.query.frame_max.get_or_insert(SHORT);
    }
    let connecting = Connection::connect_uri(uri, properties);
    // lapin ignores the URL's connection_timeout
    match tokio::time::timeout(settings.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| anyhow!(describe(&error))).context("broker unavailable"),
        Err(_) => Err(anyhow!("no connection within {:?}", settings.connect_timeout)).context("broker unavailable"),
    }
}

/// Asks over a connection, but waits no longer than this: lapin never ends a channel's opening that meets the end of its
/// connection.
///
/// # Errors
///
/// What the asking ends with, and that nothing came in time.
pub async fn in_time<T, E: From<io::Error>>(
    patience: Duration,
    asking: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}"));
    tokio::time::timeout(patience, Box::pin(asking)).await.map_err(late)?
}

/// `broker.url` in its parts.
pub(super) fn uri(settings: &settings::Broker) -> anyhow::Result<AMQPUri> {
    // The parser's own text would do no harm, but no text at all cannot.
    settings.url.expose().parse().map_err(|_| anyhow!("broker.url cannot be read"))
}

/// An error in words. lapin's own text of an I/O error names no URL.
#[must_use]
pub fn describe(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => format!("{} {}", error.get_id(), error.get_message()),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// Closes a connection without waiting for ever.
pub async fn close(connection: Connection) {
    let closing = connection.close(200, "bye".into());
    // A broker that does not answer learns it from the closed socket.
    let _ = tokio::time::timeout(Duration::from_secs(5), closing).await;
}
