//! The rows depend on the set of events only, however these come to the database.

use proptest::test_runner::TestCaseResult;
use rollcall::{
    apply::{Lane, apply_again},
    database,
    decode::Event,
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    model::{Mapped, Org, OrgFact, expected},
    rows::{ensure_equal, read, read_versions},
    runner::{apply, apply_all, create_orgs, decoded, decoded_all, facts, holds_in_a_database, ids},
    world::{CHATS, World},
};
use crate::support::Place;

fn lane(place: &Place) -> Lane {
    Lane::new(place.settings.database.clone())
}

/// The rows are those of the model, and the same events in another way change none of them.
async fn ensure_settled(
    (place, connection): (&Place, &mut PgConnection),
    (world, way): (&World, usize),
    orgs: [Org; 2],
    events: &[Event<'_>],
) -> TestCaseResult {
    read(connection, &ids(orgs)).await.ensure_are(expected(&orgs, &[], &facts(events)))?;
    let before = read_versions(connection, &ids(orgs)).await;
    apply_all(&mut lane(place), &world.batches(way), events).await?;
    ensure_equal(before, read_versions(connection, &ids(orgs)).await)
}

#[test]
fn any_order_number_and_split_give_the_rows_of_the_model() {
    holds_in_a_database(async |place, world| {
        let mut connection = place.connect().await;
        let orgs = create_orgs(&mut connection).await;
        let events = decoded_all(world, orgs, true);
        apply_all(&mut lane(place), &world.batches(0), &events).await?;
        ensure_settled((place, &mut connection), (world, 1), orgs, &events).await
    });
}

#[test]
fn asking_first_gives_the_rows_of_the_model() {
    holds_in_a_database(async |place, world| {
        let mut connection = place.connect().await;
        let orgs = create_orgs(&mut connection).await;
        let events = decoded_all(world, orgs, true);
        let mut asking = database::connect(&place.settings.database).await.unwrap();
        for batch in world.batches(0).iter().chain(&world.batches(1)) {
            let facts = facts(batch.iter().map(|&index| &events[index]));
            let before = read_versions(&mut connection, &ids(orgs)).await;
            let applied = apply_again(&mut asking, &facts).await.unwrap();
            let after = read_versions(&mut connection, &ids(orgs)).await;
            ensure_equal(vec![applied.known], vec![before == after])?;
        }
        ensure_settled((place, &mut connection), (world, 2), orgs, &events).await
    });
}

#[test]
fn two_lanes_at_once_give_the_rows_of_the_model() {
    holds_in_a_database(async |place, world| {
        let mut connection = place.connect().await;
        let orgs = create_orgs(&mut connection).await;
        let events = decoded_all(world, orgs, true);
        let (mut one, mut other) = (lane(place), lane(place));
        let (one_way, other_way) = (world.batches(0), world.batches(1));
        let applied = tokio::join!(apply_all(&mut one, &one_way, &events), apply_all(&mut other, &other_way, &events));
        applied.0.and(applied.1)?;
        ensure_settled((place, &mut connection), (world, 2), orgs, &events).await
    });
}

#[test]
fn texts_that_are_not_stored_are_null_and_counted() {
    holds_in_a_database(async |place, world| {
        let mut connection = place.connect().await;
        let orgs = create_orgs(&mut connection).await;
        apply_all(&mut lane(place), &world.batches(0), &decoded_all(world, orgs, false)).await?;
        let mut rows = expected(&orgs, &[], &facts(&decoded_all(world, orgs, true)));
        for row in &mut rows.activity {
            row.message_text = None;
        }
        read(&mut connection, &ids(orgs)).await.ensure_are(rows)
    });
}

/// The first chat is active in both organizations, the second only in the first.
const MAPPED: [(usize, usize, &str); 4] = [(0, 0, "active"), (1, 0, "active"), (0, 1, "active"), (1, 1, "archived")];

async fn map_chats(connection: &mut PgConnection, orgs: [Org; 2]) -> [Mapped; 4] {
    let mapped = MAPPED.map(|(org, chat, status)| Mapped { org: orgs[org].id, chat: CHATS[chat], status });
    for Mapped { org, chat, status } in mapped {
        let query = sqlx::query("insert into org_telegram_groups (org_id, tg_chat_id, status) values ($1, $2, $3)");
        query.bind(org).bind(chat).bind(status).execute(&mut *connection).await.unwrap();
    }
    mapped
}

/// The facts of bare updates, for each organization that the database names, of those of this case.
async fn routed<'a>(lane: &mut Lane, events: &[&'a Event<'a>], orgs: [Uuid; 2]) -> Vec<OrgFact<'a>> {
    let routes = lane.route(&CHATS).await.unwrap();
    let mut facts = Vec::new();
    for event in events {
        assert_eq!(event.org, None);
        for org in routes[&event.chat_id()].iter().filter(|org| orgs.contains(org)) {
            facts.extend(event.facts.iter().map(|fact| (*org, fact)));
        }
    }
    facts
}

#[test]
fn bare_updates_give_their_rows_to_every_organization_with_the_chat_active() {
    holds_in_a_database(async |place, world| {
        let mut connection = place.connect().await;
        let orgs = create_orgs(&mut connection).await;
        let mapped = map_chats(&mut connection, orgs).await;
        let events: Vec<_> = world.updates.iter().map(|sent| decoded(&sent.bare(), true)).collect();
        let mut lane = lane(place);
        for batch in world.batches(0) {
            let batch: Vec<_> = batch.iter().map(|&index| &events[index]).collect();
            let facts = routed(&mut lane, &batch, ids(orgs)).await;
            apply(&mut lane, &facts).await?;
        }
        let active = mapped.iter().filter(|mapped| mapped.status == "active");
        let told: Vec<_> = active
            .flat_map(|&Mapped { org, chat, .. }| {
                let own = events.iter().filter(move |event| event.chat_id() == chat);
                own.flat_map(|event| &event.facts).map(move |fact| (org, fact))
            })
            .collect();
        read(&mut connection, &ids(orgs)).await.ensure_are(expected(&orgs, &mapped, &told))
    });
}
