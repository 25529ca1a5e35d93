//! What an error of the database asks for, decided once, by SQLSTATE or kind of I/O error.

use std::fmt;

use crate::{
    decode::{Culprit, Reason, Refusal},
    sabotage::{Bug, is_on},
};

/// What to do about an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The server is away, starting, full or read-only: wait, over a new connection. Never the events' fault.
    #[error("database unavailable: {0}")]
    Outage(String),
    /// Schema, rights or configuration are wrong: wait until a person has mended them.
    #[error("database set up wrongly: {0}")]
    Setup(String),
    /// Another transaction was in the way: again, soon.
    #[error("database conflict: {0}")]
    Conflict(String),
    /// It took too long: try less at once.
    #[error("database timeout: {0}")]
    Timeout(Rejection),
    /// The data cannot be stored: find the culprit.
    #[error("database rejected the data: {0}")]
    Data(Rejection),
    /// None of these: try some times.
    #[error("database error: {0}")]
    Unknown(String, Option<Rejection>),
}

/// The kind of a fault, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// [`Fault::Outage`].
    Outage,
    /// [`Fault::Setup`].
    Setup,
    /// [`Fault::Conflict`].
    Conflict,
    /// [`Fault::Timeout`].
    Timeout,
    /// [`Fault::Data`].
    Data,
    /// [`Fault::Unknown`].
    Unknown,
}

impl FaultKind {
    /// As it stands in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Setup => "setup",
            Self::Conflict => "conflict",
            Self::Timeout => "timeout",
            Self::Data => "data",
            Self::Unknown => "unknown",
        }
    }
}

/// Why data was rejected, without the data: the server's own message may quote the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Five characters.
    pub sqlstate: String,
    /// The constraint, where one is violated.
    pub constraint: Option<String>,
    /// The table, where the server names one.
    pub table: Option<String>,
}

impl Rejection {
    /// Whether a row that this one refers to is not there.
    #[must_use]
    pub fn is_missing_reference(&self) -> bool {
        self.sqlstate == "23503"
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLSTATE {}", self.sqlstate)?;
        if let Some(constraint) = &self.constraint {
            write!(f, ", constraint {constraint}")?;
        }
        if let Some(table) = &self.table {
            write!(f, ", table {table}")?;
        }
        Ok(())
    }
}

impl From<&Rejection> for Culprit {
    fn from(rejection: &Rejection) -> Self {
        Self::Rejection { sqlstate: rejection.sqlstate.clone(), constraint: rejection.constraint.clone() }
    }
}

impl From<&Rejection> for Refusal {
    /// For an event that stood alone.
    fn from(rejection: &Rejection) -> Self {
        Self { culprit: rejection.into(), ..Self::new(Reason::DatabaseRejected, rejection.to_string()) }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let Some(server) = error.as_database_error() else {
            return match &error {
                sqlx::Error::Io(cause) => Self::Outage(cause.to_string()),
                sqlx::Error::Tls(cause) => Self::Outage(format!("TLS: {cause}")),
                sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
                    Self::Outage("protocol broken".into())
                }
                sqlx::Error::Configuration(_) => Self::Setup("connection settings".into()),
                // The remaining kinds may quote values.
                _ => Self::Unknown("unexpected answer".into(), None),
            };
        };
        let sqlstate = server.code().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let rejection = Rejection {
            constraint: server.constraint().map(str::to_owned),
            table: server.table().map(str::to_owned),
            sqlstate,
        };
        Self::of(rejection)
    }
}

impl Fault {
    fn of(rejection: Rejection) -> Self {
        let told = rejection.to_string();
        match rejection.sqlstate.as_str() {
            "25006" if is_on(Bug::ReadOnlyIsData) => Self::Data(rejection),
            "53100" if is_on(Bug::FullDiskIsUnknown) => Self::Unknown(told, Some(rejection)),
            "40001" | "40P01" | "40003" | "55P03" => Self::Conflict(told),
            "57014" => Self::Timeout(rejection),
            // read-only: a failover is under way; 25P02: the connection is stale
            "25006" | "25P02" | "25P03" | "08P01" | "58030" => Self::Outage(told),
            "0A000" => Self::Setup(told),
            state => match &state[..state.len().min(2)] {
                "08" | "53" | "57" => Self::Outage(told),
                "26" | "28" | "3D" | "3F" | "42" => Self::Setup(told),
                "22" | "23" | "54" => Self::Data(rejection),
                _ => Self::Unknown(told, Some(rejection)),
            },
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Outage(_) => FaultKind::Outage,
            Self::Setup(_) => FaultKind::Setup,
            Self::Conflict(_) => FaultKind::Conflict,
            Self::Timeout(_) => FaultKind::Timeout,
            Self::Data(_) => FaultKind::Data,
            Self::Unknown(..) => FaultKind::Unknown,
        }
    }

    /// What the server told, where it is not about the server itself.
    #[must_use]
    pub const fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Data(rejection) | Self::Timeout(rejection) | Self::Unknown(_, Some(rejection)) => Some(rejection),
            _ => None,
        }
    }

    /// Whether the server told it over a connection that is still sound.
    #[must_use]
    pub const fn leaves_connection(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Timeout(_) | Self::Data(_))
    }

    /// Whether waiting helps, however long, and splitting does not.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Outage(_) | Self::Setup(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(sqlstate: &str) -> Fault {
        Fault::of(Rejection { sqlstate: sqlstate.into(), constraint: None, table: None })
    }

    #[test]
    fn outages_never_look_like_data() {
        for state in ["57P01", "57P02", "57P03", "25006", "53100", "53200", "53300", "08006", "58030", "25P02", "25P03"]
        {
            assert!(matches!(fault(state), Fault::Outage(_)), "{state}");
        }
        for state in ["42P01", "42703", "42501", "42P10", "28P01", "3D000", "0A000", "26000"] {
            assert!(matches!(fault(state), Fault::Setup(_)), "{state}");
        }
    }

    #[test]
    fn only_data_is_data() {
        for state in ["22021", "22P05", "22003", "23502", "23503", "23505", "23514", "54000"] {
            assert!(matches!(fault(state), Fault::Data(_)), "{state}");
        }
        for state in ["40001", "40P01", "55P03"] {
            assert!(matches!(fault(state), Fault::Conflict(_)), "{state}");
        }
        assert!(matches!(fault("57014"), Fault::Timeout(_)));
        assert!(matches!(fault("XX000"), Fault::Unknown(..)));
        assert!(matches!(fault(""), Fault::Unknown(..)));
    }
}
