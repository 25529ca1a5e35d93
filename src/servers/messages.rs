//! What the owner and the user say to each other, one line of JSON each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the owner says first, when both servers take connections.
#[derive(Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) database_url: String,
    pub(super) amqp_url: String,
    pub(super) dir: PathBuf,
    pub(super) postgres_log: PathBuf,
    pub(super) rabbitmq_log: PathBuf,
    pub(super) postgres_pid: u32,
    pub(super) rabbitmq_pid: u32,
}

/// What the user may ask from then on.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    StopPostgres(PostgresStop),
    StartPostgres,
    StopRabbitmq(RabbitMqStop),
    StartRabbitmq,
    Rabbitmqctl(Vec<String>),
}

/// What the owner says to each request, in the requests' order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Stopped,
    /// The pid.
    Started(u32),
    Printed(String),
    Failed(String),
}

/// How PostgreSQL is stopped; nothing of it runs afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostgresStop {
    /// SIGINT: disconnects everybody, rolls back what is open, and writes a checkpoint.
    Fast,
    /// SIGQUIT: ends at once, so that the next start recovers from the log.
    Immediate,
    /// SIGKILL to the postmaster and its children.
    Kill,
}

/// How RabbitMQ is stopped; nothing of it runs afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RabbitMqStop {
    /// SIGTERM: closes all connections and writes what it holds.
    Graceful,
    /// SIGKILL to the node, its children and its port mapper. A quorum queue may be lost that was declared in the second
    /// before: RabbitMQ writes down its name only when half a second has passed without such changes.
    Kill,
}

#[cfg(test)]
mod tests {
    use super::{PostgresStop, Request};

    #[test]
    fn requests_can_be_typed_by_hand() {
        let line = |request| serde_json::to_string(&request).expect("a line");
        assert_eq!(line(Request::StopPostgres(PostgresStop::Kill)), r#"{"stop_postgres":"kill"}"#);
        assert_eq!(line(Request::StartRabbitmq), r#""start_rabbitmq""#);
        assert_eq!(line(Request::Rabbitmqctl(vec!["status".into()])), r#"{"rabbitmqctl":["status"]}"#);
    }
}
