use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Kind;

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

impl Culprit {
    /// The member that is wrong.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) => Some(path),
            _ => None,
        }
    }

    /// What `PostgreSQL` said.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Rejection { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// The constraint that `PostgreSQL` named.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Rejection { constraint, .. } => constraint.as_deref(),
            _ => None,
        }
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
    /// What the event tells of, where somebody could look.
    pub kind: Kind,
    /// What is at fault, as far as letters with the same trouble have it in common.
    pub culprit: Culprit,
}

/// What an event was refused over.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Culprit {
    /// The body as a whole, or its organization.
    #[default]
    Whole,
    /// A member of the update, like `chat.id` or `new_chat_members[]`.
    Path(String),
    /// What `PostgreSQL` would not store.
    Rejection {
        /// Five characters.
        sqlstate: String,
        /// The constraint, where one is violated.
        constraint: Option<String>,
    },
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), kind: Kind::None, culprit: Culprit::Whole }
    }

    /// The organization does not exist.
    #[must_use]
    pub fn unknown_org(org: Uuid) -> Self {
        Self::new(Reason::UnknownOrg, format!("organization {org} does not exist"))
    }

    /// Nobody has the chat of a bare update.
    #[must_use]
    pub fn unmapped_chat(chat: i64) -> Self {
        Self::new(Reason::UnmappedChat, format!("no organization has chat {chat} as active"))
    }

    /// A member is wrong: `trouble` completes the sentence that begins with its path.
    #[must_use]
    pub fn at(reason: Reason, path: &str, trouble: impl fmt::Display) -> Self {
        Self { culprit: Culprit::Path(path.to_owned()), ..Self::new(reason, format!("{path} {trouble}")) }
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
