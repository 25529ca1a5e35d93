use std::time::Duration;

use anyhow::{Context as _, anyhow};
use lapin::{Connection, ConnectionProperties, ErrorKind};

use crate::settings;

/// Opens a connection that the broker lists under `name`.
///
/// Without lapin's automatic recovery: after a recovered channel error its consumers stay silent.
///
/// # Errors
///
/// What keeps the connection from being opened; never with the URL's password.
pub async fn connect(settings: &settings::Broker, name: &str) -> anyhow::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect(settings.url.expose(), properties);
    // lapin ignores the URL's connection_timeout
    match tokio::time::timeout(settings.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| anyhow!(describe(&error))).context("broker unavailable"),
        Err(_) => Err(anyhow!("no connection within {:?}", settings.connect_timeout)).context("broker unavailable"),
    }
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
