//! Bodies of one organization's events.

use rollcall::{
    clock,
    decode::{Event, Limits, decode},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::Place;

pub const CHAT: i64 = -1_001_234_567_890;
/// 2026-01-01 12:00 UTC.
pub const NOON: i64 = 1_767_268_800;

/// Inserts an organization with one active chat.
pub async fn create_org(connection: &mut PgConnection) -> Uuid {
    let org = Uuid::new_v4();
    sqlx::query("insert into organizations (id, name) values ($1, 'Organization')")
        .bind(org)
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query("insert into org_telegram_groups (org_id, tg_chat_id, status) values ($1, $2, 'active')")
        .bind(org)
        .bind(CHAT)
        .execute(connection)
        .await
        .unwrap();
    org
}

/// A text message.
pub fn message(update_id: i64, user: i64, text: &str) -> Value {
    let chat = json!({ "id": CHAT, "type": "supergroup", "title": "Chat" });
    let from = json!({ "id": user, "is_bot": false, "first_name": format!("First {user}") });
    json!({ "update_id": update_id, "message": {
        "message_id": update_id, "date": NOON + update_id, "chat": chat, "from": from, "text": text,
    } })
}

/// The envelope around an update, as a publisher makes it: routing key and body.
pub fn enveloped(org: Uuid, update: &Value) -> (String, Vec<u8>) {
    (org.to_string(), json!({ "org_id": org, "update": update }).to_string().into_bytes())
}

/// Lets the database reject every message with the text `poison`, in a way that quotes the row.
pub async fn reject_poison(connection: &mut PgConnection) {
    let constraint = "alter table activity_events add constraint no_poison check (message_text not like '%poison%')";
    sqlx::query(constraint).execute(connection).await.unwrap();
}

/// Lets the database fail at every message with the text `odd`, with an error of unknown kind that quotes the row.
/// The sequence `tries` counts.
pub async fn fail_at_odd(connection: &mut PgConnection) {
    let trigger = "create sequence tries;
         create function fail() returns trigger language plpgsql as $$ begin
             if new.message_text like '%odd%' then perform nextval('tries'); raise exception 'odd: %', new; end if;
             return new;
         end $$;
         create trigger fail before insert on activity_events for each row execute function fail();";
    sqlx::raw_sql(trigger).execute(connection).await.unwrap();
}

/// Enveloped text messages with these update ids, of seven people.
pub fn said(org: Uuid, update_ids: std::ops::RangeInclusive<i64>) -> impl Iterator<Item = (String, Vec<u8>)> {
    update_ids.map(move |id| enveloped(org, &message(id, 1 + id % 7, "hello")))
}

/// How many messages there are of an organization.
pub async fn messages_of(place: &Place, org: Uuid) -> u64 {
    let query = sqlx::query_scalar("select count(*) from activity_events where org_id = $1").bind(org);
    let count: i64 = query.fetch_one(&mut place.connect().await).await.unwrap();
    u64::try_from(count).unwrap()
}

/// The decoded event of a valid body.
pub fn event(body: &[u8]) -> Event<'static> {
    let limits = Limits { max_body_bytes: 1 << 20, max_clock_skew: std::time::Duration::ZERO, store_text: true };
    decode(body, &limits, clock::now()).expect("a valid event").expect("an event with facts").into_owned()
}

/// An open merge of people: nothing of its organization is written.
pub struct Merge(PgConnection);

impl Merge {
    pub async fn begin(place: &Place, org: Uuid) -> Self {
        let mut connection = place.connect().await;
        let lock = "select pg_advisory_lock(1919904876, rollcall_resolver_slot($1))";
        sqlx::query(lock).bind(org).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    pub async fn end(self) {
        self.0.close().await.unwrap();
    }
}
