//! The statements: a set of rows each, as arrays through `unnest`, one cached plan for any size.
//!
//! The arrays are sorted by key, and rows come in their order: `unnest` stands in a select list of its own, and all
//! joins are nested loops. In `from`, each array would be copied row by row first, a twelfth of PostgreSQL's CPU time.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    clock,
    database::Fault,
    decode::What,
    plan::{Activity, ActivityKey, ChatKey, Group, Membership, MembershipKey, Plan, Resolution},
    sabotage::{Bug, is_on},
};

/// What a transaction adds to a day of a chat.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Added {
    messages: i64,
    replies: i64,
    writers: i64,
    joined: i64,
    gone: i64,
}

/// What is new on a day of a chat; a day may come in parts.
#[derive(Debug, sqlx::FromRow)]
struct Day {
    org_id: Uuid,
    tg_chat_id: i64,
    day: i32,
    replies: i64,
    writers: i64,
    joined: i64,
    gone: i64,
    messages: Vec<i64>,
    authors: Vec<i64>,
}

/// What a transaction adds to the daily figures, by organization, chat and day since 1970.
#[derive(Debug, Default)]
pub(super) struct Additions(BTreeMap<(Uuid, i64, i32), Added>);

/// Builds one array per column, so that no array can be shorter than another.
macro_rules! columns {
    ($rows:expr => |$row:pat_param| { $($column:ident: $type:ty = $value:expr),* $(,)? }) => {
        $(let mut $column: Vec<$type> = Vec::with_capacity($rows.len());)*
        for $row in $rows {
            $($column.push($value);)*
        }
    };
}

/// The organizations whose resolver locks could be had.
pub(super) async fn lock_resolvers(
    connection: &mut PgConnection,
    orgs: &HashSet<Uuid>,
) -> Result<HashSet<Uuid>, Fault> {
    let mut slots: Vec<i32> = orgs.iter().map(resolver_slot).collect();
    slots.sort_unstable();
    slots.dedup();
    let query = sqlx::query_scalar(include_str!("sql/lock_resolvers.sql")).bind(slots);
    let locked: HashSet<i32> = query.fetch_all(connection).await?.into_iter().collect();
    Ok(orgs.iter().filter(|org| locked.contains(&resolver_slot(org))).copied().collect())
}

/// Keeps workers and merges of people out of these organizations until the end of the transaction; they wait.
pub(crate) async fn lock_out(connection: &mut PgConnection, orgs: impl IntoIterator<Item = Uuid>) -> Result<(), Fault> {
    let slots: BTreeSet<i32> = orgs.into_iter().map(|org| resolver_slot(&org)).collect();
    for slot in slots {
        let query = sqlx::query("select pg_advisory_xact_lock(1919904876, $1)").bind(slot);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Which of these rows of `activity_events` are there.
pub(crate) async fn find_activity(
    connection: &mut PgConnection,
    keys: &BTreeSet<ActivityKey>,
) -> Result<BTreeSet<ActivityKey>, Fault> {
    columns!(keys => |&(org, chat, event_type, source, user)| {
        orgs: Uuid = org,
        chats: i64 = chat,
        event_types: &str = event_type,
        sources: i64 = source,
        users: i64 = user,
    });
    let query = sqlx::query_scalar(include_str!("sql/find_activity.sql"))
        .bind(orgs)
        .bind(chats)
        .bind(event_types)
        .bind(sources)
        .bind(users);
    let found: HashSet<i64> = query.fetch_all(connection).await?.into_iter().collect();
    Ok(keys.iter().zip(1..).filter(|(_, position)| found.contains(position)).map(|(key, _)| *key).collect())
}

/// The same as the SQL function `rollcall_resolver_slot`.
fn resolver_slot(org: &Uuid) -> i32 {
    i32::from(org.as_bytes()[15])
}

/// Which of these organizations exist.
pub(crate) async fn find_organizations(
    connection: &mut PgConnection,
    orgs: &HashSet<Uuid>,
) -> Result<HashSet<Uuid>, Fault> {
    let orgs: Vec<_> = orgs.iter().copied().collect();
    let query = sqlx::query_scalar(include_str!("sql/find_organizations.sql")).bind(orgs);
    Ok(query.fetch_all(connection).await?.into_iter().collect())
}

pub(super) async fn find_active_groups(
    connection: &mut PgConnection,
    chats: &[i64],
) -> Result<Vec<(i64, Uuid)>, Fault> {
    Ok(sqlx::query_as(include_str!("sql/find_active_groups.sql")).bind(chats).fetch_all(connection).await?)
}

pub(super) async fn resolve_participants(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<Resolution, Fault> {
    let rows = &plan.participants;
    columns!(rows => |(&(org, user), row)| {
        orgs: Uuid = org,
        users: i64 = user,
        usernames: Option<&str> = row.profile.value.username.as_deref(),
        first_names: Option<&str> = row.profile.value.first_name.as_deref(),
        last_names: Option<&str> = row.profile.value.last_name.as_deref(),
        full_names: String = row.profile.value.full_name(user),
        profile_at: i64 = if is_on(Bug::ArrivalWins) { clock::now_ms() } else { row.profile.version.at },
        profile_update_ids: i64 = row.profile.version.update_id,
        first_seen_at: i64 = row.first_seen_at,
        last_activity_at: Option<i64> = row.last_activity_at.map(|at| if is_on(Bug::OwnClock) { clock::now() } else { at }),
    });
    let mut statement = include_str!("sql/resolve_participants.sql");
    if is_on(Bug::Unsorted) {
        statement = statement.replace("order by org_id, tg_user_id", "order by random()").leak();
    }
    let query = sqlx::query_as(statement)
        .bind(orgs)
        .bind(users)
        .bind(usernames)
        .bind(first_names)
        .bind(last_names)
        .bind(full_names)
        .bind(profile_at)
        .bind(profile_update_ids)
        .bind(first_seen_at)
        .bind(last_activity_at);
    let resolved: Vec<(Uuid, i64, Uuid)> = query.fetch_all(connection).await?;
    Ok(resolved.into_iter().map(|(org, user, participant)| ((org, user), participant)).collect())
}

pub(super) async fn write_memberships(
    connection: &mut PgConnection,
    rows: &BTreeMap<MembershipKey, Membership>,
) -> Result<(), Fault> {
    columns!(rows => |(&(org, participant, chat), row)| {
        orgs: Uuid = org,
        participants: Uuid = participant,
        chats: i64 = chat,
        first_seen_at: i64 = row.first_seen_at,
        last_joined_at: Option<i64> = row.last_joined_at,
        last_left_at: Option<i64> = row.last_left_at,
        last_message_at: Option<i64> = row.last_message_at,
    });
    let query = sqlx::query(include_str!("sql/write_memberships.sql"))
        .bind(orgs)
        .bind(participants)
        .bind(chats)
        .bind(first_seen_at)
        .bind(last_joined_at)
        .bind(last_left_at)
        .bind(last_message_at);
    query.execute(connection).await?;
    Ok(())
}

/// Inserts what is new. Returns what that adds to the daily figures, and the messages that were there already.
pub(super) async fn insert_activity(
    connection: &mut PgConnection,
    rows: &BTreeMap<ActivityKey, Activity<'_>>,
    resolution: &Resolution,
) -> Result<(Additions, BTreeSet<ActivityKey>), Fault> {
    columns!(rows => |(&(org, chat, event_type, source, user), row)| {
        orgs: Uuid = org,
        chats: i64 = chat,
        event_types: &str = event_type,
        sources: i64 = source,
        users: i64 = user,
        participants: Option<Uuid> = resolution.get(&(org, user)).copied(),
        occurred_at: i64 = row.occurred_at,
        edited_at: Option<i64> = row.edited_at,
        threads: Option<i64> = row.thread_id,
        replies: Option<i64> = row.reply_to,
        media: Option<&str> = row.content.value.media,
        texts: Option<&str> = row.content.value.text,
        chars: i32 = row.content.value.chars,
        links: i32 = row.content.value.links,
        mentions: i32 = row.content.value.mentions,
        content_at: i64 = row.content.version.at,
        content_update_ids: i64 = row.content.version.update_id,
    });
    let query = sqlx::query_as(include_str!("sql/insert_activity.sql"))
        .bind(orgs)
        .bind(chats)
        .bind(event_types)
        .bind(sources)
        .bind(users)
        .bind(participants)
        .bind(occurred_at)
        .bind(edited_at)
        .bind(threads)
        .bind(replies)
        .bind(media)
        .bind(texts)
        .bind(chars)
        .bind(links)
        .bind(mentions)
        .bind(content_at)
        .bind(content_update_ids);
    let mut additions = Additions::default();
    let mut known: BTreeSet<ActivityKey> = rows.keys().filter(|key| key.2 == What::MESSAGE).copied().collect();
    for day in query.fetch_all(connection).await? {
        let Day { org_id, tg_chat_id, day, replies, writers, joined, gone, messages, authors } = day;
        let added = additions.0.entry((org_id, tg_chat_id, day)).or_default();
        added.messages += i64::try_from(messages.len()).unwrap_or_default();
        added.replies += replies;
        added.writers += writers;
        added.joined += joined;
        added.gone += gone;
        for (source, author) in messages.into_iter().zip(authors) {
            known.remove(&(org_id, tg_chat_id, What::MESSAGE, source, author));
        }
    }
    Ok((additions, known))
}

/// Revises messages that were there already; joins and leaves say nothing that could be newer.
pub(super) async fn revise_activity(
    connection: &mut PgConnection,
    rows: &BTreeMap<ActivityKey, Activity<'_>>,
    known: &BTreeSet<ActivityKey>,
    additions: &mut Additions,
) -> Result<(), Fault> {
    let rows: Vec<_> = known.iter().filter_map(|key| rows.get(key).map(|row| (*key, row))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    columns!(&rows => |&((org, chat, event_type, source, user), row)| {
        orgs: Uuid = org,
        chats: i64 = chat,
        event_types: &str = event_type,
        sources: i64 = source,
        users: i64 = user,
        edited_at: Option<i64> = row.edited_at,
        threads: Option<i64> = row.thread_id,
        replies: Option<i64> = row.reply_to,
        media: Option<&str> = row.content.value.media,
        texts: Option<&str> = row.content.value.text,
        chars: i32 = row.content.value.chars,
        links: i32 = row.content.value.links,
        mentions: i32 = row.content.value.mentions,
        content_at: i64 = row.content.version.at,
        content_update_ids: i64 = row.content.version.update_id,
    });
    let query = sqlx::query_as(include_str!("sql/revise_activity.sql"))
        .bind(orgs)
        .bind(chats)
        .bind(event_types)
        .bind(sources)
        .bind(users)
        .bind(edited_at)
        .bind(threads)
        .bind(replies)
        .bind(media)
        .bind(texts)
        .bind(chars)
        .bind(links)
        .bind(mentions)
        .bind(content_at)
        .bind(content_update_ids);
    let days: Vec<(Uuid, i64, i32, i64)> = query.fetch_all(connection).await?;
    for (org, chat, day, replies) in days {
        additions.0.entry((org, chat, day)).or_default().replies += replies;
    }
    Ok(())
}

pub(super) async fn add_metrics(connection: &mut PgConnection, additions: &Additions) -> Result<(), Fault> {
    // Somebody's second join of a day adds nothing.
    let rows: Vec<_> = additions.0.iter().filter(|(_, added)| **added != Added::default()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    columns!(rows => |(&(org, chat, day), row)| {
        orgs: Uuid = org,
        chats: i64 = chat,
        days: i32 = day,
        messages: i64 = row.messages,
        replies: i64 = row.replies,
        writers: i64 = row.writers,
        joined: i64 = row.joined,
        gone: i64 = row.gone,
    });
    let query = sqlx::query(include_str!("sql/add_metrics.sql"))
        .bind(orgs)
        .bind(chats)
        .bind(days)
        .bind(messages)
        .bind(replies)
        .bind(writers)
        .bind(joined)
        .bind(gone);
    query.execute(connection).await?;
    Ok(())
}

/// What [`Bug::CountTwice`] does with events that came before.
pub(super) async fn count_again(connection: &mut PgConnection) -> Result<(), Fault> {
    let again = "update group_metrics set message_count = message_count + 1 where (org_id, tg_chat_id, date) =
        (select org_id, tg_chat_id, date from group_metrics limit 1)";
    sqlx::query(again).execute(connection).await?;
    Ok(())
}

pub(super) async fn write_groups(
    connection: &mut PgConnection,
    rows: &BTreeMap<ChatKey, Group<'_>>,
) -> Result<(), Fault> {
    columns!(rows => |(&(org, chat), row)| {
        orgs: Uuid = org,
        chats: i64 = chat,
        titles: Option<&str> = row.titled.map(|titled| titled.value.title),
        chat_types: Option<&str> = row.titled.map(|titled| titled.value.chat_type),
        title_at: Option<i64> = row.titled.map(|titled| titled.version.at),
        title_update_ids: Option<i64> = row.titled.map(|titled| titled.version.update_id),
        last_event_at: i64 = row.last_event_at,
    });
    let query = sqlx::query(include_str!("sql/write_groups.sql"))
        .bind(orgs)
        .bind(chats)
        .bind(titles)
        .bind(chat_types)
        .bind(title_at)
        .bind(title_update_ids)
        .bind(last_event_at);
    query.execute(connection).await?;
    Ok(())
}
