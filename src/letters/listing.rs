//! Reading letters, singly and in groups with the same trouble.

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::filter::{Filter, about_chosen};
use crate::database::Fault;

/// Letters with the same fingerprint. Times are RFC 3339, in UTC.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Group {
    /// The fingerprint.
    #[serde(rename = "group")]
    #[sqlx(rename = "fingerprint")]
    pub fingerprint: String,
    /// Its code.
    pub reason: String,
    /// Kind of the events.
    pub kind: Option<String>,
    /// The member that is wrong.
    pub path: Option<String>,
    /// What `PostgreSQL` said.
    pub sqlstate: Option<String>,
    /// The constraint that it named.
    #[serde(rename = "constraint")]
    #[sqlx(rename = "constraint_name")]
    pub constraint: Option<String>,
    /// How many.
    pub letters: i64,
    /// Of how many organizations.
    pub organizations: i64,
    /// When the first of them arrived.
    pub first_seen: String,
    /// When the last of them arrived.
    pub last_seen: String,
    /// The id of one.
    pub example: i64,
}

/// A letter as a line of a list.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Entry {
    /// Its id.
    pub id: i64,
    /// Its fingerprint.
    #[serde(rename = "group")]
    #[sqlx(rename = "fingerprint")]
    pub fingerprint: String,
    /// When it last arrived.
    pub received_at: String,
    /// Why.
    pub reason: String,
    /// Kind of the event.
    pub kind: Option<String>,
    /// What exactly.
    pub detail: String,
    /// The organization that the body names.
    pub org_id: Option<Uuid>,
    /// Where it stands.
    pub status: String,
    /// How often it arrived.
    pub attempts: i32,
    /// Length of the body.
    pub bytes: i32,
}

/// What is needed to act on a letter later, and to see that it is still the same.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Chosen {
    /// Its id.
    pub id: i64,
    /// Grows when it comes again.
    pub attempts: i32,
    /// Where it stood.
    pub status: String,
    /// The organization that the body names.
    pub org_id: Option<Uuid>,
    /// Length of the body.
    pub bytes: i32,
}

/// Everything about a letter.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, which have comments in the schema")]
pub struct Letter {
    pub id: i64,
    pub fingerprint: String,
    pub first_received_at: String,
    pub received_at: String,
    pub reason: String,
    pub detail: String,
    pub kind: Option<String>,
    pub path: Option<String>,
    pub sqlstate: Option<String>,
    pub constraint_name: Option<String>,
    pub org_id: Option<Uuid>,
    pub routing_key: String,
    pub headers: Value,
    pub body: Vec<u8>,
    pub sha256: String,
    pub attempts: i32,
    pub status: String,
    pub resolved_at: Option<String>,
}

/// Something that became of a letter.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct History {
    /// When.
    pub at: String,
    /// What.
    pub what: String,
    /// By whom.
    pub who: String,
    /// In which replay.
    #[serde(rename = "replay")]
    #[sqlx(rename = "replay_id")]
    pub replay: Option<i64>,
    /// What there is to say.
    pub detail: String,
}

/// The groups of the chosen letters, largest first.
///
/// # Errors
///
/// When they could not be read.
pub async fn groups(connection: &mut PgConnection, filter: &Filter) -> Result<Vec<Group>, Fault> {
    let query = filter.bind_as(sqlx::query_as(about_chosen!("sql/list_groups.sql")));
    Ok(query.fetch_all(connection).await?)
}

/// The chosen letters, latest first.
///
/// # Errors
///
/// When they could not be read.
pub async fn list(connection: &mut PgConnection, filter: &Filter, limit: i64) -> Result<Vec<Entry>, Fault> {
    let query = filter.bind_as(sqlx::query_as(about_chosen!("sql/list_letters.sql"))).bind(limit);
    Ok(query.fetch_all(connection).await?)
}

/// All of the chosen letters, by organization, in the order in which they first arrived.
///
/// # Errors
///
/// When they could not be read.
pub async fn find(connection: &mut PgConnection, filter: &Filter) -> Result<Vec<Chosen>, Fault> {
    let query = filter.bind_as(sqlx::query_as(about_chosen!("sql/find_letters.sql")));
    Ok(query.fetch_all(connection).await?)
}

/// One letter, if it is there.
///
/// # Errors
///
/// When it could not be read.
pub async fn letter(connection: &mut PgConnection, id: i64) -> Result<Option<Letter>, Fault> {
    Ok(sqlx::query_as(include_str!("sql/read_letter.sql")).bind(id).fetch_optional(connection).await?)
}

/// What became of a letter, oldest first.
///
/// # Errors
///
/// When it could not be read.
pub async fn history(connection: &mut PgConnection, id: i64) -> Result<Vec<History>, Fault> {
    Ok(sqlx::query_as(include_str!("sql/read_history.sql")).bind(id).fetch_all(connection).await?)
}
