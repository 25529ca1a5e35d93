//! Which letters: the same choice for every command.

use sqlx::{Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use crate::decode::{Reason, Seconds};

/// Where a letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waits for somebody.
    Parked,
    /// Published again.
    Replayed,
    /// Given up by a person, and kept.
    Discarded,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Parked, Self::Replayed, Self::Discarded];

    /// As it stands in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// A choice of letters: those to which all of these apply; an empty list leaves all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Why.
    pub reasons: Vec<Reason>,
    /// The organizations that their bodies name.
    pub orgs: Vec<Uuid>,
    /// Fingerprints.
    pub groups: Vec<String>,
    /// Arrived at or after.
    pub since: Option<Seconds>,
    /// Arrived before.
    pub until: Option<Seconds>,
    /// Where they stand; here an empty list leaves none.
    pub statuses: Vec<Status>,
    /// Single letters.
    pub ids: Vec<i64>,
}

/// A statement about the chosen letters, which it finds as `chosen`.
macro_rules! about_chosen {
    ($file:literal) => {
        concat!(
            "with chosen as (select d.* from dead_letters d where ",
            include_str!("sql/filter.sql"),
            ") ",
            include_str!($file)
        )
    };
}
pub(super) use about_chosen;

impl Filter {
    /// Whether it names more than a status.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !(self.reasons.is_empty() && self.orgs.is_empty() && self.groups.is_empty() && self.ids.is_empty())
            || self.since.is_some()
            || self.until.is_some()
    }

    pub(super) fn bind_as<'q, T>(
        &self,
        query: QueryAs<'q, Postgres, T, PgArguments>,
    ) -> QueryAs<'q, Postgres, T, PgArguments> {
        query
            .bind(self.reasons.iter().map(|reason| reason.code()).collect::<Vec<_>>())
            .bind(self.orgs.clone())
            .bind(self.groups.clone())
            .bind(self.since)
            .bind(self.until)
            .bind(self.statuses.iter().map(|status| status.name()).collect::<Vec<_>>())
            .bind(self.ids.clone())
    }
}
