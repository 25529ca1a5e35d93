//! The rows that the contract promises, without what lies outside the law.

use std::fmt::Debug;

use proptest::test_runner::TestCaseError;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, postgres::PgRow};
use uuid::Uuid;

#[derive(Debug)]
pub struct Rows {
    pub groups: Vec<Group>,
    pub participants: Vec<Participant>,
    pub memberships: Vec<Membership>,
    pub activity: Vec<Activity>,
    pub metrics: Vec<Metrics>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Group {
    pub org_id: Uuid,
    pub tg_chat_id: i64,
    pub title: Option<String>,
    pub chat_type: Option<String>,
    pub status: String,
    pub last_event_at: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Participant {
    pub org_id: Uuid,
    pub tg_user_id: Option<i64>,
    pub merged_into: Option<Uuid>,
    pub username: Option<String>,
    pub tg_first_name: Option<String>,
    pub tg_last_name: Option<String>,
    pub full_name: Option<String>,
    pub tg_full_name: Option<String>,
    pub source: String,
    #[sqlx(rename = "participant_status")]
    pub status: String,
    pub first_seen_at: Option<i64>,
    pub last_activity_at: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Membership {
    pub org_id: Uuid,
    pub tg_chat_id: i64,
    /// Of the participant.
    pub tg_user_id: Option<i64>,
    pub first_seen_at: i64,
    pub last_joined_at: Option<i64>,
    pub last_left_at: Option<i64>,
    pub last_message_at: Option<i64>,
    pub is_active: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Activity {
    pub org_id: Uuid,
    pub tg_chat_id: i64,
    pub event_type: String,
    pub source_id: i64,
    pub tg_user_id: i64,
    /// The user that the participant is.
    pub participant: Option<i64>,
    pub occurred_at: i64,
    pub edited_at: Option<i64>,
    pub message_thread_id: Option<i64>,
    pub reply_to_message_id: Option<i64>,
    pub media_type: Option<String>,
    pub has_media: bool,
    pub message_text: Option<String>,
    pub chars_count: i32,
    pub links_count: i32,
    pub mentions_count: i32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Metrics {
    pub org_id: Uuid,
    pub tg_chat_id: i64,
    pub date: String,
    pub message_count: i32,
    pub reply_count: i32,
    pub reply_ratio: i32,
    pub dau: i32,
    pub join_count: i32,
    pub leave_count: i32,
    pub net_member_change: i32,
}

const GROUPS: &str =
    "select org_id, tg_chat_id, title, chat_type, status, extract(epoch from last_event_at)::bigint as last_event_at
    from org_telegram_groups where org_id = any($1)";
const PARTICIPANTS: &str =
    "select org_id, tg_user_id, merged_into, username, tg_first_name, tg_last_name, full_name, tg_full_name,
        source, participant_status, extract(epoch from first_seen_at)::bigint as first_seen_at,
        extract(epoch from last_activity_at)::bigint as last_activity_at
    from participants where org_id = any($1)";
const MEMBERSHIPS: &str = "select g.org_id, g.tg_chat_id, p.tg_user_id, extract(epoch from g.first_seen_at)::bigint as first_seen_at,
        extract(epoch from g.last_joined_at)::bigint as last_joined_at, extract(epoch from g.last_left_at)::bigint as last_left_at,
        extract(epoch from g.last_message_at)::bigint as last_message_at, g.is_active
    from participant_groups g left join participants p on p.org_id = g.org_id and p.id = g.participant_id
    where g.org_id = any($1)";
const ACTIVITY: &str = "select a.org_id, a.tg_chat_id, a.event_type, a.source_id, a.tg_user_id, p.tg_user_id as participant,
        extract(epoch from a.occurred_at)::bigint as occurred_at, extract(epoch from a.edited_at)::bigint as edited_at,
        a.message_thread_id, a.reply_to_message_id, a.media_type, a.has_media, a.message_text, a.chars_count, a.links_count, a.mentions_count
    from activity_events a left join participants p on p.org_id = a.org_id and p.id = a.participant_id
    where a.org_id = any($1)";
const METRICS: &str =
    "select org_id, tg_chat_id, date::text as date, message_count, reply_count, reply_ratio, dau, join_count,
        leave_count, net_member_change
    from group_metrics where org_id = any($1)";

/// The rows of some organizations.
pub async fn read(connection: &mut PgConnection, orgs: &[Uuid]) -> Rows {
    Rows {
        groups: fetch(connection, GROUPS, orgs).await,
        participants: fetch(connection, PARTICIPANTS, orgs).await,
        memberships: fetch(connection, MEMBERSHIPS, orgs).await,
        activity: fetch(connection, ACTIVITY, orgs).await,
        metrics: fetch(connection, METRICS, orgs).await,
    }
}

async fn fetch<T>(connection: &mut PgConnection, query: &'static str, orgs: &[Uuid]) -> Vec<T>
where
    T: for<'row> FromRow<'row, PgRow> + Send + Unpin,
{
    sqlx::query_as(query).bind(orgs).fetch_all(connection).await.unwrap()
}

/// Every column of every row of some organizations, with the transaction that wrote it.
pub async fn read_versions(connection: &mut PgConnection, orgs: &[Uuid]) -> Vec<String> {
    let mut rows = Vec::new();
    for table in ["org_telegram_groups", "participants", "participant_groups", "activity_events", "group_metrics"] {
        let query =
            format!("select '{table} ' || t.xmin::text || t::text from {table} t where org_id = any($1) order by 1");
        let found = sqlx::query_scalar(AssertSqlSafe(query)).bind(orgs).fetch_all(&mut *connection).await;
        rows.extend(found.unwrap());
    }
    rows
}

impl Rows {
    /// Fails with the rows that differ.
    pub fn ensure_are(self, expected: Self) -> Result<(), TestCaseError> {
        ensure_equal(expected.groups, self.groups)?;
        ensure_equal(expected.participants, self.participants)?;
        ensure_equal(expected.memberships, self.memberships)?;
        ensure_equal(expected.activity, self.activity)?;
        ensure_equal(expected.metrics, self.metrics)
    }
}

/// Fails with the rows that only one side has; their order does not matter.
pub fn ensure_equal<T: Ord + Debug>(mut expected: Vec<T>, mut found: Vec<T>) -> Result<(), TestCaseError> {
    expected.sort();
    found.sort();
    if expected == found {
        return Ok(());
    }
    let lacking: Vec<_> = expected.iter().filter(|row| !found.contains(row)).collect();
    let surplus: Vec<_> = found.iter().filter(|row| !expected.contains(row)).collect();
    let (expected, found) = (expected.len(), found.len());
    Err(TestCaseError::fail(format!("{expected} rows, but {found}: expected {lacking:#?}, found {surplus:#?}")))
}
