//! The statements: a set of rows each, as arrays, one cached plan for any size.
//!
//! What is written stands in a procedure of the database, `rollcall_apply` (in `migrations/`), beside what tells whether it was written before. The arrays are sorted by key,
//! and rows are locked in their order: `unnest` stands in a select list of its own, and all joins are nested loops. In
//! `from`, each array would be copied row by row first, a twelfth of `PostgreSQL`'s CPU time.

use std::{
    collections::{BTreeSet, HashSet},
    iter::Peekable,
};

use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use super::{Applied, Claim, timestamp::Timestamp};
use crate::{
    clock,
    database::Fault,
    plan::{ActivityKey, ChatKey, Group, Participant, Plan, Rows, UserKey},
    sabotage::{Bug, is_on},
};

/// What kept everything from being written.
#[derive(Debug, Default, sqlx::FromRow)]
struct Answer {
    busy: Option<Vec<Uuid>>,
    unknown: Option<Vec<Uuid>>,
    met: Option<bool>,
    known: Option<bool>,
    claimed: Option<i32>,
    others: Option<bool>,
}

type Call<'q> = QueryAs<'q, Postgres, Answer, PgArguments>;

/// Binds one array per column, so that no array can be shorter than another.
macro_rules! bind_columns {
    ($query:expr, $rows:expr => |$row:pat_param| { $($column:ident: $type:ty = $value:expr),* $(,)? }) => {{
        $(let mut $column: Vec<$type> = Vec::with_capacity($rows.len());)*
        for $row in $rows {
            $($column.push($value);)*
        }
        $query$(.bind($column))*
    }};
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
    let query = sqlx::query_scalar(include_str!("sql/find_activity.sql"));
    let query = bind_columns!(query, keys => |&(org, user, chat, event_type, source)| {
        orgs: Uuid = org,
        chats: i64 = chat,
        event_types: &str = event_type,
        sources: i64 = source,
        users: i64 = user,
    });
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

/// Writes a plan, all or nothing; outside a transaction, in one of its own.
pub(super) async fn write(
    connection: &mut PgConnection,
    plan: &Plan<'_>,
    claim: &mut Claim<'_>,
) -> Result<Applied, Fault> {
    let orgs = plan.orgs();
    let call = bind_versions(sqlx::query_as(include_str!("sql/apply.sql")), &orgs, plan);
    let call = bind_activity(call, plan);
    let call = bind_groups(call, &plan.groups);
    let call = bind_people(call, &orgs, &plan.participants).bind(new_ids(plan.participants.len())?);
    let call = bind_memberships(call, &orgs, plan);
    let wanted = (!claim.wanted.is_empty()).then_some(claim.wanted);
    let call = call.bind(wanted).bind(claim.claims).bind(claim.held);
    let Answer { busy, unknown, met, known, claimed, others } = answer(call, connection).await?;
    claim.held = claimed;
    let set = |orgs: Option<Vec<Uuid>>| orgs.into_iter().flatten().collect();
    Ok(Applied {
        busy: set(busy),
        unknown: set(unknown),
        met: met.unwrap_or_default(),
        known: known.unwrap_or_default(),
        others: others.unwrap_or_default(),
    })
}

/// Gives back what is claimed.
pub(super) async fn give_back(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::query("select pg_advisory_unlock_all()").execute(connection).await?;
    Ok(())
}

/// Whether all of a plan was surely written before.
pub(super) async fn are_known(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<bool, Fault> {
    if !plan.is_told_by_activity() {
        return Ok(false);
    }
    let call = bind_versions(sqlx::query_as(include_str!("sql/are_known.sql")), &plan.orgs(), plan);
    Ok(answer(call, connection).await?.known.unwrap_or_default())
}

async fn answer(call: Call<'_>, connection: &mut PgConnection) -> Result<Answer, Fault> {
    // All of it is read: an error of the commit comes after the row.
    let answers: Vec<Answer> = call.fetch_all(connection).await?;
    Ok(answers.into_iter().next().unwrap_or_default())
}

/// Ids in the order of time, so that those who come at the same time stand together in their index.
fn new_ids(count: usize) -> Result<Vec<Uuid>, Fault> {
    const RANDOM: usize = 10;
    let mut random = vec![0; count * RANDOM];
    getrandom::fill(&mut random).map_err(|error| Fault::Setup(format!("no random bytes: {error}")))?;
    let now = u64::try_from(clock::now_ms()).unwrap_or_default();
    let (random, _) = random.as_chunks::<RANDOM>();
    Ok(random.iter().map(|random| uuid::Builder::from_unix_timestamp_millis(now, random).into_uuid()).collect())
}

fn bind_people<'q>(call: Call<'q>, orgs: &[Uuid], rows: &'q Rows<UserKey, Participant<'_>>) -> Call<'q> {
    let mut org_position = Positions::among(orgs);
    bind_columns!(call, rows => |&((org, user), ref row)| {
        person_orgs: i32 = org_position.of(&org),
        person_users: i64 = user,
        usernames: Option<&str> = row.profile.value.username.as_deref(),
        first_names: Option<&str> = row.profile.value.first_name.as_deref(),
        last_names: Option<&str> = row.profile.value.last_name.as_deref(),
        full_names: String = row.profile.value.full_name(user),
        profiles_at: Timestamp = Timestamp(if is_on(Bug::ArrivalWins) { clock::now_ms() } else { row.profile.version.at }),
        profile_update_ids: i64 = row.profile.version.update_id,
        people_seen_at: Timestamp = Timestamp(row.first_seen_at),
        people_active_at: Option<Timestamp> = row.last_activity_at.map(|at| Timestamp(if is_on(Bug::OwnClock) { clock::now() } else { at })),
    })
}

fn bind_memberships<'q>(call: Call<'q>, orgs: &[Uuid], plan: &Plan<'_>) -> Call<'q> {
    let rows = &plan.memberships;
    let (mut org_position, mut person) =
        (Positions::among(orgs), Positions::among(plan.participants.iter().map(|(user, _)| user)));
    bind_columns!(call, rows => |&((user, chat), ref row)| {
        member_orgs: i32 = org_position.of(&user.0),
        member_people: i32 = person.of(&user),
        member_chats: i64 = chat,
        members_seen_at: Timestamp = Timestamp(row.first_seen_at),
        joined_at: Option<Timestamp> = row.last_joined_at.map(Timestamp),
        left_at: Option<Timestamp> = row.last_left_at.map(Timestamp),
        wrote_at: Option<Timestamp> = row.last_message_at.map(Timestamp),
        message_ids: Option<i64> = row.newest_message_id,
    })
}

/// The organizations, and what tells whether the rest was written before.
fn bind_versions<'q>(call: Call<'q>, orgs: &[Uuid], plan: &Plan<'_>) -> Call<'q> {
    let (rows, mut org_position) = (&plan.activity, Positions::among(orgs));
    let call = bind_columns!(call.bind(orgs.to_vec()), rows => |&((org, user, chat, event_type, source), ref row)| {
        activity_orgs: i32 = org_position.of(&org),
        activity_users: i64 = user,
        activity_chats: i64 = chat,
        event_types: &str = event_type,
        source_ids: i64 = source,
        edits_at: Option<Timestamp> = row.edited_at.map(Timestamp),
        thread_ids: Option<i64> = row.thread_id,
        reply_ids: Option<i64> = row.reply_to,
        contents_at: Timestamp = Timestamp(row.content.version.at),
        content_update_ids: i64 = row.content.version.update_id,
    });
    let (rows, mut org_position) = (&plan.groups, Positions::among(orgs));
    bind_columns!(call, rows => |&((org, chat), ref row)| {
        group_orgs: i32 = org_position.of(&org),
        group_chats: i64 = chat,
        titles_at: Option<Timestamp> = row.titled.map(|titled| Timestamp(titled.version.at)),
        title_update_ids: Option<i64> = row.titled.map(|titled| titled.version.update_id),
        events_at: Timestamp = Timestamp(row.last_event_at),
    })
}

fn bind_activity<'q>(call: Call<'q>, plan: &'q Plan<'_>) -> Call<'q> {
    let rows = &plan.activity;
    let mut membership = Positions::among(plan.memberships.iter().map(|(place, _)| place));
    bind_columns!(call, rows => |&((org, user, chat, ..), ref row)| {
        activity_memberships: i32 = membership.of(&((org, user), chat)),
        occurred_at: Timestamp = Timestamp(row.occurred_at),
        media_types: Option<&str> = row.content.value.media,
        texts: Option<&str> = row.content.value.text,
        chars: i32 = row.content.value.chars,
        links: i32 = row.content.value.links,
        mentions: i32 = row.content.value.mentions,
    })
}

fn bind_groups<'q>(call: Call<'q>, rows: &'q Rows<ChatKey, Group<'_>>) -> Call<'q> {
    bind_columns!(call, rows => |(_, row)| {
        titles: Option<&str> = row.titled.map(|titled| titled.value.title),
        chat_types: Option<&str> = row.titled.map(|titled| titled.value.chat_type),
    })
}

/// Finds one after the other, in ascending order, where keys stand that are sorted; the first one is at 1.
struct Positions<'a, K: 'a, I: Iterator<Item = &'a K>> {
    keys: Peekable<I>,
    position: i32,
}

impl<'a, K: Ord + 'a, I: Iterator<Item = &'a K>> Positions<'a, K, I> {
    fn among(keys: impl IntoIterator<IntoIter = I>) -> Self {
        Self { keys: keys.into_iter().peekable(), position: 1 }
    }

    fn of(&mut self, key: &K) -> i32 {
        while self.keys.next_if(|known| *known < key).is_some() {
            self.position += 1;
        }
        self.position
    }
}

/// What [`Bug::CountTwice`] does with events that came before.
pub(super) async fn count_again(connection: &mut PgConnection) -> Result<(), Fault> {
    let again = "update group_metrics set message_count = message_count + 1 where (org_id, tg_chat_id, date) =
        (select org_id, tg_chat_id, date from group_metrics limit 1)";
    sqlx::query(again).execute(connection).await?;
    Ok(())
}
