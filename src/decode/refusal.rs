use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why an event went to the dead letters: the closed list of reason codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The body is longer than `limits.max_body_bytes`.
    TooLarge,
    /// Not UTF-8, not JSON, nested deeper than 64 levels, or empty.
    MalformedJson,
    /// JSON, but no envelope or bare update with what its facts need.
    InvalidEnvelope,
    /// An id or a date outside its range.
    InvalidEvent,
    /// The organization does not exist.
    UnknownOrg,
    /// A bare update whose chat belongs to no organization.
    UnmappedChat,
    /// PostgreSQL refused the data of this event alone.
    DatabaseRejected,
    /// Failed `limits.max_attempts` times for a reason that is neither an outage nor the data.
    RetriesExhausted,
    /// Redelivered more than `limits.max_redeliveries` times.
    Quarantined,
    /// Put into the dead queue by something else than rollcall.
    Foreign,
}

impl Reason {
    /// Every reason, in the order of the contract.
    pub const ALL: [Self; 10] = [
        Self::TooLarge,
        Self::MalformedJson,
        Self::InvalidEnvelope,
        Self::InvalidEvent,
        Self::UnknownOrg,
        Self::UnmappedChat,
        Self::DatabaseRejected,
        Self::RetriesExhausted,
        Self::Quarantined,
        Self::Foreign,
    ];

    /// The code as it stands in headers, rows and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::MalformedJson => "malformed_json",
            Self::InvalidEnvelope => "invalid_envelope",
            Self::InvalidEvent => "invalid_event",
            Self::UnknownOrg => "unknown_org",
            Self::UnmappedChat => "unmapped_chat",
            Self::DatabaseRejected => "database_rejected",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Quarantined => "quarantined",
            Self::Foreign => "foreign",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| reason.code() == code).ok_or(UnknownReason)
    }
}

/// A code that is not on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no reason code of a dead letter")]
pub struct UnknownReason;

/// The verdict on an event that can never succeed as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// What exactly, for people: paths, numbers, SQLSTATEs; never a name or a text.
    pub detail: String,
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_serde_names_agree() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
            assert_eq!(reason.code().parse(), Ok(reason));
        }
        assert_eq!("other".parse::<Reason>(), Err(UnknownReason));
    }
}
