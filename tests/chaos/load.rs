//! The events of a seed, and what the contract makes of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rollcall::{
    clock,
    decode::{Event, Fact, Limits, Reason, decode, org_of},
    scenario,
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::{
    Place,
    model::{self, Mapped, rows::Rows},
};

/// 2026-09-21, before any clock that runs this.
const UNTIL: i64 = 1_790_000_000;

/// A row of `activity_events` by its key, and when it was edited if an edit says so.
pub type Key = (Uuid, i64, &'static str, i64, i64, Option<i64>);

/// What an event leaves behind.
pub enum Effect {
    /// Rows that show it.
    Rows(Vec<Key>),
    /// A dead letter.
    Dead(Reason),
    /// Nothing.
    Ignored,
}

/// The events of a seed.
pub struct Load {
    pub seed: u64,
    /// In publishing order, each with its routing key.
    pub bodies: Vec<(String, Vec<u8>)>,
    /// By distinct body.
    pub effects: HashMap<Vec<u8>, Effect>,
    orgs: Vec<scenario::Org>,
    mapped: Vec<Mapped>,
    events: Vec<Event<'static>>,
}

impl Load {
    pub fn generate(seed: u64, events: u64) -> Self {
        let options = scenario::Options { bad: 0.03, ..scenario::Options::new(events, UNTIL, seed) };
        let orgs = scenario::orgs(&options);
        let mut written = Vec::new();
        scenario::write(&options, &mut written).expect("memory takes it");
        let mut lines: Vec<_> = written.split(|byte| *byte == b'\n').collect();
        lines.pop();
        disorder(&mut lines, seed);
        lines.push(b"\xff\xfe is not UTF-8");
        let mapped = mapped(&orgs);
        let mut load = Self {
            seed,
            bodies: lines.iter().map(|line| (routing_key(line), line.to_vec())).collect(),
            effects: HashMap::new(),
            orgs,
            mapped,
            events: Vec::new(),
        };
        load.foresee();
        load
    }

    fn foresee(&mut self) {
        let known: HashSet<_> = self.orgs.iter().map(|org| org.id).collect();
        for (_, body) in &self.bodies {
            if self.effects.contains_key(body) {
                continue;
            }
            let effect = match decode(body, &limits(), clock::now()) {
                Ok(None) => Effect::Ignored,
                Err(refusal) => Effect::Dead(refusal.reason),
                Ok(Some(event)) => {
                    let orgs = self.orgs_of(&event);
                    let effect = if event.org.is_some_and(|org| !known.contains(&org)) {
                        Effect::Dead(Reason::UnknownOrg)
                    } else if orgs.is_empty() {
                        Effect::Dead(Reason::UnmappedChat)
                    } else {
                        let keys = orgs.iter().flat_map(|org| event.facts.iter().map(|fact| key(*org, fact)));
                        Effect::Rows(keys.collect())
                    };
                    if matches!(effect, Effect::Rows(_)) {
                        self.events.push(event.into_owned());
                    }
                    effect
                }
            };
            self.effects.insert(body.clone(), effect);
        }
    }

    fn orgs_of(&self, event: &Event) -> Vec<Uuid> {
        let mapped = || self.mapped.iter().filter(|mapped| mapped.chat == event.chat_id()).map(|mapped| mapped.org);
        event.org.map_or_else(|| mapped().collect(), |org| vec![org])
    }

    /// Inserts what has to be there before the events.
    pub async fn set_up(&self, place: &Place) {
        let mut connection = place.connect().await;
        for org in &self.orgs {
            let query = sqlx::query("insert into organizations (id, name, timezone) values ($1, $2, $3)");
            let query = query.bind(org.id).bind(&org.name).bind(org.timezone);
            query.execute(&mut connection).await.unwrap();
        }
        for Mapped { org, chat, status } in &self.mapped {
            let query = sqlx::query("insert into org_telegram_groups (org_id, tg_chat_id, status) values ($1, $2, $3)");
            query.bind(org).bind(chat).bind(status).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    /// The rows of all tables but the metrics, which are held against a recount.
    pub fn rows(&self) -> Rows {
        let facts: Vec<_> = self
            .events
            .iter()
            .flat_map(|event| {
                self.orgs_of(event).into_iter().flat_map(move |org| event.facts.iter().map(move |fact| (org, fact)))
            })
            .collect();
        model::expected(&[], &self.mapped, &facts)
    }

    pub fn org_ids(&self) -> Vec<Uuid> {
        self.orgs.iter().map(|org| org.id).collect()
    }

    /// The dead letters, by body.
    pub fn dead(&self) -> BTreeMap<Vec<u8>, Reason> {
        let dead = |(body, effect): (&Vec<u8>, &Effect)| match effect {
            Effect::Dead(reason) => Some((body.clone(), *reason)),
            Effect::Rows(_) | Effect::Ignored => None,
        };
        self.effects.iter().filter_map(dead).collect()
    }

    /// Distinct events that leave rows, and such that leave nothing.
    pub fn counts(&self) -> (usize, usize) {
        let ignored = self.effects.values().filter(|effect| matches!(effect, Effect::Ignored)).count();
        (self.events.len(), ignored)
    }

    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

fn limits() -> Limits {
    Limits { max_body_bytes: 1 << 20, max_clock_skew: Duration::from_hours(24), store_text: true }
}

/// Every chat is active in its organization, and the first chat of all in the second one too.
fn mapped(orgs: &[scenario::Org]) -> Vec<Mapped> {
    let own = orgs.iter().flat_map(|org| org.chats.iter().map(|chat| (org.id, *chat)));
    let mapped = |(org, chat)| Mapped { org, chat, status: "active" };
    own.chain([(orgs[1].id, orgs[0].chats[0])]).map(mapped).collect()
}

/// Moves one event in five to some other place: edits before their messages, leaves before joins.
fn disorder(lines: &mut [&[u8]], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for place in 0..lines.len() {
        if random.u8(..5) == 0 {
            lines.swap(place, random.usize(..lines.len()));
        }
    }
}

fn routing_key(body: &[u8]) -> String {
    match decode(body, &limits(), clock::now()) {
        Ok(Some(event)) => event.routing_key(),
        _ => org_of(body, 1 << 20).map(|org| org.to_string()).unwrap_or_default(),
    }
}

fn key(org: Uuid, fact: &Fact<'_>) -> Key {
    let is_edit = matches!(&fact.what, rollcall::decode::What::Message(message) if message.is_edit);
    (org, fact.chat.id, fact.what.name(), fact.source_id, fact.user.id, is_edit.then_some(fact.version.at))
}

/// How many of these rows are not there, or were not edited then.
pub async fn missing(connection: &mut PgConnection, keys: &[Key]) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
             as k (org_id, tg_chat_id, event_type, source_id, tg_user_id, edited_at)
         where not exists (
             select from activity_events a
             where (a.org_id, a.tg_chat_id, a.event_type, a.source_id, a.tg_user_id)
                 = (k.org_id, k.tg_chat_id, k.event_type, k.source_id, k.tg_user_id)
                 and (k.edited_at is null or a.edited_at >= to_timestamp(k.edited_at)))",
    )
    .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.3).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.4).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.5).collect::<Vec<_>>())
    .fetch_one(connection)
    .await
}
