//! Organizations and people that change while their events flow. They are added to those of the load, and what becomes
//! of them is judged here.

use std::{sync::Arc, time::Instant};

use sqlx::PgConnection;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Fault, TIMES, fault};
use crate::{
    scene::Scene,
    support::{
        Place,
        community::{create_org, messages_of, said},
        publish_through_outages,
    },
};

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// An organization goes: events before it leave nothing, events after it are dead letters.
    Deleted,
    /// People are merged, again and again.
    Merged,
}

pub(super) fn all() -> Vec<Fault> {
    let named = |name, act| fault(name, super::Act::Community(act));
    vec![
        // Whoever deletes goes another way through the tables.
        Fault { deadlocks: true, ..named("database: an organization is deleted while its events flow", Act::Deleted) },
        named("database: people are merged while their events flow", Act::Merged),
    ]
}

impl Act {
    pub(super) async fn happen(self, scene: &mut Scene) -> Result<(), String> {
        match self {
            Self::Deleted => deleted(scene).await,
            Self::Merged => merged(scene).await,
        }
    }
}

/// Publishes messages of an organization in the background.
fn publish(scene: &Scene, org: Uuid, update_ids: std::ops::RangeInclusive<i64>) -> JoinHandle<u64> {
    let bodies: Vec<_> = said(org, update_ids).collect();
    scene.detector.leave_out(&bodies);
    let settings = Arc::clone(&scene.place.settings);
    tokio::spawn(async move { publish_through_outages(&settings, &bodies).await })
}

async fn deleted(scene: &mut Scene) -> Result<(), String> {
    const EVENTS: i64 = 150;
    scene.wanted = 1;
    let mut connection = scene.place.connect().await;
    let org = create_org(&mut connection).await;
    let before = publish(scene, org, 1..=EVENTS);
    scene.until("some of it is written", async || messages_of(&scene.place, org).await > 0).await?;
    let meanwhile = publish(scene, org, EVENTS + 1..=2 * EVENTS);
    while let Err(error) = delete(&mut connection, org).await {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
        // Somebody who went the other way, and rows that came meanwhile.
        if !["40P01", "23503"].contains(&&*code) {
            return Err(format!("deleting an organization: {error}"));
        }
        sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
    }
    scene.recovered(Instant::now()).await?;
    let after = publish(scene, org, 2 * EVENTS + 1..=3 * EVENTS);
    for publishing in [before, meanwhile, after] {
        publishing.await.unwrap();
    }
    scene.emptied().await?;

    let rows = "select (select count(*) from activity_events where org_id = $1)
        + (select count(*) from participants where org_id = $1) + (select count(*) from group_metrics where org_id = $1)";
    let rows: i64 = sqlx::query_scalar(rows).bind(org).fetch_one(&mut connection).await.unwrap();
    // Settled by this, they are no longer dead letters that the load does not explain.
    let settle = "update dead_letters set status = 'discarded', resolved_at = now()
        where org_id = $1 and reason = 'unknown_org'";
    let letters = sqlx::query(settle).bind(org).execute(&mut connection).await.unwrap().rows_affected();
    if rows > 0 || letters < EVENTS.unsigned_abs() {
        return Err(format!("{rows} rows of a deleted organization, {letters} dead letters of {EVENTS} or more"));
    }
    Ok(())
}

/// As roughly as somebody might do it who knows nothing of the worker.
async fn delete(connection: &mut PgConnection, org: Uuid) -> sqlx::Result<()> {
    sqlx::raw_sql("begin").execute(&mut *connection).await?;
    sqlx::query("select from organizations where id = $1 for update").bind(org).execute(&mut *connection).await?;
    for table in [
        "delete from activity_events where org_id = $1",
        "delete from participant_groups where org_id = $1",
        "delete from participants where org_id = $1",
        "delete from group_metrics where org_id = $1",
        "delete from org_telegram_groups where org_id = $1",
        "delete from organizations where id = $1",
    ] {
        sqlx::query(table).bind(org).execute(&mut *connection).await?;
    }
    sqlx::raw_sql("commit").execute(connection).await.map(drop)
}

/// People who are not merged.
async fn people_of(place: &Place, org: Uuid) -> i64 {
    let query =
        sqlx::query_scalar("select count(*) from participants where org_id = $1 and merged_into is null").bind(org);
    query.fetch_one(&mut place.connect().await).await.unwrap()
}

async fn merged(scene: &mut Scene) -> Result<(), String> {
    const EVENTS: i64 = 80;
    scene.wanted = TIMES;
    let mut connection = scene.place.connect().await;
    let org = create_org(&mut connection).await;
    for time in 0..i64::from(TIMES) {
        let before = messages_of(&scene.place, org).await;
        let publishing = publish(scene, org, time * EVENTS + 1..=(time + 1) * EVENTS);
        scene.until("some of it is written", async || messages_of(&scene.place, org).await > before).await?;
        scene.until("two people are there", async || people_of(&scene.place, org).await > 1).await?;
        let merge = "select merge_participants($1, a.id, b.id) from participants a, participants b
            where a.org_id = $1 and b.org_id = $1 and a.merged_into is null and b.merged_into is null and a.id < b.id
            limit 1";
        let merged = sqlx::query(merge).bind(org).execute(&mut connection).await;
        if merged.map_err(|error| format!("merging people: {error}"))?.rows_affected() == 0 {
            return Err("nobody is left to be merged".into());
        }
        scene.recovered(Instant::now()).await?;
        publishing.await.unwrap();
    }
    scene.emptied().await?;
    // Nothing stays with somebody who was merged, and nobody comes back.
    let query = "select (select count(*) from activity_events where org_id = $1),
            (select count(*) from activity_events join participants p on p.id = participant_id
                where p.org_id = $1 and merged_into is not null)
            + (select count(*) from participant_groups g join participants p on p.id = g.participant_id
                where p.org_id = $1 and merged_into is not null),
            (select count(*) from participants where org_id = $1 and merged_into is null)";
    let found: (i64, i64, i64) = sqlx::query_as(query).bind(org).fetch_one(&mut connection).await.unwrap();
    // Seven people, of whom so many were merged.
    let expected = (i64::from(TIMES) * EVENTS, 0, 7 - i64::from(TIMES));
    if found != expected {
        return Err(format!("messages, rows of merged people, people: {found:?} instead of {expected:?}"));
    }
    Ok(())
}
