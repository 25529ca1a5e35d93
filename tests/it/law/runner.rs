//! Runs properties, the pure ones and those over a database.

use std::{env, time::Duration};

use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use rollcall::{
    apply::Lane,
    decode::{Event, Limits, decode},
};
use sqlx::PgConnection;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{
    calendar::{NOW, ZONES},
    model::{Org, OrgFact},
    world::{SMALL, World, worlds},
};
use crate::support::Place;

/// Checks a property of small worlds; panics with the smallest world found for which it does not hold.
pub fn holds(cases: u32, property: impl Fn(&World) -> TestCaseResult) {
    let cases = env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let done = TestRunner::new(config).run(&worlds(SMALL), |world| property(&world));
    done.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Checks a property over a database, which all cases share.
pub fn holds_in_a_database(property: impl AsyncFn(&Place, &World) -> TestCaseResult) {
    let runtime = Runtime::new().unwrap();
    let place = runtime.block_on(Place::new());
    holds(24, move |world| runtime.block_on(property(&place, world)));
}

/// Two organizations that no other case knows, in different timezones.
pub async fn create_orgs(connection: &mut PgConnection) -> [Org; 2] {
    let orgs = [0, 1].map(|index| Org { id: Uuid::new_v4(), zone: &ZONES[index] });
    for org in orgs {
        let query = sqlx::query("insert into organizations (id, name, timezone) values ($1, 'Organization', $2)");
        query.bind(org.id).bind(org.zone.name).execute(&mut *connection).await.unwrap();
    }
    orgs
}

/// The ids of organizations.
pub fn ids(orgs: [Org; 2]) -> [Uuid; 2] {
    orgs.map(|org| org.id)
}

/// The event of a valid body that holds a fact.
pub fn decoded(body: &[u8], store_text: bool) -> Event<'static> {
    let limits = Limits { max_body_bytes: 1 << 20, max_clock_skew: Duration::ZERO, store_text };
    decode(body, &limits, NOW).expect("a valid event").expect("an event with facts").into_owned()
}

/// The events of a world whose bodies have envelopes.
pub fn decoded_all(world: &World, orgs: [Org; 2], store_text: bool) -> Vec<Event<'static>> {
    world.updates.iter().map(|sent| decoded(&sent.enveloped(ids(orgs)), store_text)).collect()
}

/// The facts of events that name their organization.
pub fn facts<'a>(events: impl IntoIterator<Item = &'a Event<'a>>) -> Vec<OrgFact<'a>> {
    let facts = |event: &'a Event<'a>| event.facts.iter().map(|fact| (event.org.expect("an envelope"), fact));
    events.into_iter().flat_map(facts).collect()
}

/// Applies facts; nobody merges people, so nothing may stand in the way.
pub async fn apply(lane: &mut Lane, facts: &[OrgFact<'_>]) -> TestCaseResult {
    let applied = lane.apply(facts).await.map_err(|fault| TestCaseError::fail(format!("not applied: {fault}")))?;
    if applied.unknown.is_empty() && applied.busy.is_empty() {
        return Ok(());
    }
    Err(TestCaseError::fail(format!("not applied: {applied:?}")))
}

/// Applies batches of events, one after the other.
pub async fn apply_all(lane: &mut Lane, batches: &[Vec<usize>], events: &[Event<'_>]) -> TestCaseResult {
    for batch in batches {
        apply(lane, &facts(batch.iter().map(|&index| &events[index]))).await?;
    }
    Ok(())
}
