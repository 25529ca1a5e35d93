//! Stops, absent servers and broken connections: no event is lost or applied twice by any of them.

use std::{ops::RangeInclusive, time::Duration};

use serde_json::Value;
use sqlx::PgConnection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{
    Place, Replica,
    community::{create_org, messages_of, said},
    eventually,
    proxy::Proxy,
    rollcall,
};

/// Little is held and written at once, so that there is a middle.
const SMALL: [(&str, &str); 5] = [
    ("ROLLCALL_BROKER__PREFETCH", "100"),
    ("ROLLCALL_BATCH__MAX_EVENTS", "50"),
    ("ROLLCALL_BATCH__MAX_TRANSACTION_EVENTS", "50"),
    ("ROLLCALL_DATABASE__LOCK_TIMEOUT", "60s"),
    ("ROLLCALL_DATABASE__STATEMENT_TIMEOUT", "60s"),
];

/// Waits that a test can wait for.
const IMPATIENT: [(&str, &str); 2] = [("ROLLCALL_RETRY__FIRST", "10ms"), ("ROLLCALL_RETRY__LONGEST", "300ms")];

/// Of one organization, more than a replica of [`SMALL`] settings holds.
const PUBLISHED: u64 = 1_000;
const ALL: RangeInclusive<i64> = 1..=1_000;

/// A lock that every transaction of a worker meets at its last statement.
struct Roadblock(PgConnection);

impl Roadblock {
    async fn set(place: &Place) -> Self {
        let mut connection = place.connect().await;
        let locking = sqlx::raw_sql("begin; lock table org_telegram_groups in exclusive mode");
        locking.execute(&mut connection).await.unwrap();
        Self(connection)
    }

    /// Waits until a transaction stands before it.
    async fn met(&self, place: &Place) {
        let waiting = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
            where not granted and relation = 'org_telegram_groups'::regclass and datname = current_database()";
        eventually("a transaction waits at its last statement", async || {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut place.connect().await).await.unwrap();
            waiting > 0
        })
        .await;
    }

    async fn lift(mut self) {
        sqlx::raw_sql("commit").execute(&mut self.0).await.unwrap();
    }
}

/// A replica with a transaction that is written and not committed.
async fn stuck(place: &Place, environment: &[(&str, &str)]) -> (Uuid, Roadblock, Replica) {
    let org = create_org(&mut place.connect().await).await;
    place.publish(said(org, ALL)).await;
    let roadblock = Roadblock::set(place).await;
    let replica = Replica::start(place, &[&SMALL, environment].concat());
    roadblock.met(place).await;
    (org, roadblock, replica)
}

async fn begins_to_stop(replica: &Replica) {
    eventually("the replica begins to stop", async || replica.log().contains("stopping")).await;
}

/// All is applied once, and nothing else is anywhere.
async fn assert_complete(place: &Place, org: Uuid) {
    assert_eq!(messages_of(place, org).await, PUBLISHED);
    assert_eq!(place.ready().await, 0);
    assert_eq!(dead_letters(place).await, 0);
    place.assert_metrics_recompute().await;
}

async fn dead_letters(place: &Place) -> i64 {
    sqlx::query_scalar("select count(*) from dead_letters").fetch_one(&mut place.connect().await).await.unwrap()
}

async fn stops_in_the_middle_of_a_batch(signal: &str) {
    let place = Place::new().await;
    let (org, roadblock, mut replica) = stuck(&place, &[]).await;
    replica.signal(signal).await;
    begins_to_stop(&replica).await;
    roadblock.lift().await;
    let status = replica.ended().await;
    assert!(status.success(), "{status}: {}", replica.log());

    let committed = messages_of(&place, org).await;
    assert!((1..PUBLISHED).contains(&committed), "{committed}: {}", replica.log());
    assert_eq!(replica.counted("applied"), committed);
    let rest = PUBLISHED - committed;
    eventually("the rest is back in the queues", async || place.ready().await == rest).await;

    let mut second = Replica::start(&place, &[]);
    eventually("all is applied", async || messages_of(&place, org).await == PUBLISHED).await;
    second.terminate().await;
    assert!(second.ended().await.success(), "{}", second.log());
    assert_eq!((second.counted("received"), second.counted("applied")), (rest, rest), "nothing came twice");
    assert_complete(&place, org).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_in_the_middle_of_a_batch_loses_and_repeats_nothing() {
    stops_in_the_middle_of_a_batch("TERM").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_in_the_middle_of_a_batch_loses_and_repeats_nothing() {
    stops_in_the_middle_of_a_batch("INT").await;
}

/// What was not committed is applied by the next replica.
async fn assert_ended_hard(place: &Place, org: Uuid, roadblock: Roadblock, mut replica: Replica, why: &str) {
    let status = replica.ended().await;
    assert_eq!(status.code(), Some(1), "{}", replica.log());
    assert!(replica.log().contains(why), "{}", replica.log());
    roadblock.lift().await;
    eventually("all is back in the queues", async || place.ready().await == PUBLISHED).await;
    place.work_off(1, &[]).await;
    assert_complete(place, org).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_hard_and_loses_nothing() {
    let place = Place::new().await;
    let (org, roadblock, replica) = stuck(&place, &[]).await;
    replica.terminate().await;
    begins_to_stop(&replica).await;
    replica.signal("INT").await;
    assert_ended_hard(&place, org, roadblock, replica, "a second signal came").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_grace_period_ends_it_hard_and_loses_nothing() {
    let place = Place::new().await;
    let (org, roadblock, replica) = stuck(&place, &[("ROLLCALL_SHUTDOWN__GRACE", "1s")]).await;
    replica.terminate().await;
    assert_ended_hard(&place, org, roadblock, replica, "the grace period is over").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_while_the_database_is_away_ends_well_and_leaves_the_events() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let database = Proxy::closed(place.settings.database.url.expose()).await;
    database.open().await;
    let mut replica = Replica::start(&place, &[("DATABASE_URL", database.url()), ("ROLLCALL_SHUTDOWN__GRACE", "60s")]);
    replica.ready().await;
    database.close().await;
    place.publish(said(org, ALL)).await;
    eventually("the replica waits for the database", async || replica.get("/readyz").await.0 == 503).await;
    replica.terminate().await;
    let status = replica.ends_within(Duration::from_secs(20)).await.expect("an end within the grace period");
    assert!(status.success(), "{status}: {}", replica.log());
    eventually("all is back in the queues", async || place.ready().await == PUBLISHED).await;
    place.work_off(1, &[]).await;
    assert_complete(&place, org).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_before_any_server_is_there_ends_well() {
    let place = Place::new().await;
    let (database, broker) = absent(&place).await;
    let mut replica = Replica::start(&place, &[("DATABASE_URL", database.url()), ("AMQP_URL", broker.url())]);
    eventually("the replica waits", async || replica.log().contains("waiting for the database")).await;
    replica.terminate().await;
    let status = replica.ends_within(Duration::from_secs(20)).await.expect("an end within the grace period");
    assert!(status.success(), "{status}: {}", replica.log());
}

/// Nobody who is merely connected to the HTTP port can hold up a stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_http_connections_hold_up_no_stop() {
    let place = Place::new().await;
    let mut replica = Replica::start(&place, &[("ROLLCALL_SHUTDOWN__GRACE", "15s")]);
    replica.ready().await;
    let address = replica.http_address().await;
    let _silent = TcpStream::connect(&address).await.unwrap();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
    let mut kept_alive = TcpStream::connect(&address).await.unwrap();
    kept_alive.write_all(b"GET /healthz HTTP/1.1\r\nHost: replica\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    kept_alive.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    replica.terminate().await;
    let status = replica.ended().await;
    assert!(status.success(), "{status}: {}", replica.log());
}

/// Ways to both servers, closed.
async fn absent(place: &Place) -> (Proxy, Proxy) {
    (Proxy::closed(place.settings.database.url.expose()).await, Proxy::closed(place.settings.broker.url.expose()).await)
}

/// What readiness says about a dependency, when not ready.
async fn trouble(replica: &Replica, dependency: &str) -> Option<String> {
    let (status, body) = replica.get("/readyz").await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["ready"], status == 200, "{body}");
    Some(told[dependency].as_str().unwrap().to_owned()).filter(|told| status == 503 && told != "ok")
}

#[derive(Clone, Copy, PartialEq)]
enum First {
    Database,
    Broker,
}

async fn waits_for_absent_servers(first: First) {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    place.publish(said(org, ALL)).await;
    let (database, broker) = absent(&place).await;
    let environment = [&IMPATIENT[..], &[("DATABASE_URL", database.url()), ("AMQP_URL", broker.url())]].concat();
    let replica = Replica::start(&place, &environment);
    eventually("readiness says that the database is away", async || {
        trouble(&replica, "database").await.is_some_and(|trouble| trouble.contains("database unavailable"))
    })
    .await;
    assert!(trouble(&replica, "broker").await.is_some());
    assert_eq!(replica.get("/healthz").await.0, 200);

    if first == First::Database {
        database.open().await;
        eventually("readiness says that only the broker is away", async || {
            trouble(&replica, "database").await.is_none()
                && trouble(&replica, "broker").await.is_some_and(|trouble| trouble.contains("broker unavailable"))
        })
        .await;
        broker.open().await;
    } else {
        broker.open().await;
        // The archivist is there before the database: it says nothing about events.
        eventually("something connects to the broker", async || broker.connections() > 0).await;
        assert!(trouble(&replica, "database").await.is_some());
        assert_eq!(place.ready().await, PUBLISHED, "nothing is taken that could not be written");
        database.open().await;
    }
    eventually("all is applied", async || messages_of(&place, org).await == PUBLISHED).await;
    replica.ready().await;
    replica.stop().await;
    assert_complete(&place, org).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_the_database_and_then_for_the_broker() {
    waits_for_absent_servers(First::Database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_the_broker_and_then_for_the_database() {
    waits_for_absent_servers(First::Broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_the_schema() {
    let place = Place::unmigrated().await;
    let replica = Replica::start(&place, &IMPATIENT);
    eventually("readiness says that migrations are missing", async || {
        trouble(&replica, "database").await.is_some_and(|trouble| trouble.contains("rollcall migrate"))
    })
    .await;
    assert_eq!(replica.get("/healthz").await.0, 200);
    let migrated = rollcall(&place, &[]).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    replica.ready().await;
    let org = create_org(&mut place.connect().await).await;
    place.publish(said(org, ALL)).await;
    eventually("all is applied", async || messages_of(&place, org).await == PUBLISHED).await;
    replica.stop().await;
    assert_complete(&place, org).await;
}

/// Cuts what is connected, which may be nothing for a moment.
async fn cut_one(way: &Proxy) {
    eventually("a cut that cuts something", async || way.cut() > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_and_repeat_nothing() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    place.publish(said(org, ALL)).await;
    let (database, broker) = absent(&place).await;
    database.open().await;
    broker.open().await;
    let environment = [&SMALL[..], &IMPATIENT, &[("DATABASE_URL", database.url()), ("AMQP_URL", broker.url())]];
    let replica = Replica::start(&place, &environment.concat());
    for cut in 0..8 {
        let applied = messages_of(&place, org).await;
        eventually("it works on", async || messages_of(&place, org).await > applied.min(PUBLISHED - 1)).await;
        cut_one(if cut % 2 == 0 { &database } else { &broker }).await;
    }
    eventually("all is applied", async || messages_of(&place, org).await == PUBLISHED).await;
    eventually("the queues are empty", async || place.ready().await == 0).await;
    replica.ready().await;
    replica.stop().await;
    place.work_off(1, &[]).await;
    assert_complete(&place, org).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_no_dead_letter() {
    let place = Place::new().await;
    place.publish((1..=PUBLISHED).map(|number| (String::new(), format!("not JSON {number}").into_bytes()))).await;
    let (database, broker) = absent(&place).await;
    database.open().await;
    broker.open().await;
    let environment = [&SMALL[..], &IMPATIENT, &[("DATABASE_URL", database.url()), ("AMQP_URL", broker.url())]];
    let replica = Replica::start(&place, &environment.concat());
    let all = i64::try_from(PUBLISHED).unwrap();
    for cut in 0..8 {
        let archived = dead_letters(&place).await;
        eventually("it works on", async || dead_letters(&place).await > archived.min(all - 1)).await;
        cut_one(if cut % 2 == 0 { &database } else { &broker }).await;
    }
    eventually("all are archived", async || dead_letters(&place).await == all).await;
    replica.stop().await;
    place.work_off(1, &[]).await;
    let reasons: Vec<(String, i64)> = sqlx::query_as("select reason, count(*) from dead_letters group by 1")
        .fetch_all(&mut place.connect().await)
        .await
        .unwrap();
    assert_eq!(reasons, [("malformed_json".into(), all)]);
}

/// An outage that only the archivist meets is over for readiness too when the archivist works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_returns_after_an_outage_that_only_dead_letters_met() {
    let place = Place::new().await;
    let database = Proxy::closed(place.settings.database.url.expose()).await;
    database.open().await;
    let replica = Replica::start(&place, &[&IMPATIENT[..], &[("DATABASE_URL", database.url())]].concat());
    replica.ready().await;
    database.close().await;
    place.publish([(String::new(), b"not JSON".to_vec())]).await;
    eventually("the replica waits for the database", async || trouble(&replica, "database").await.is_some()).await;
    database.open().await;
    eventually("the dead letter is archived", async || dead_letters(&place).await == 1).await;
    replica.ready().await;
    replica.stop().await;
}

/// Few connections at a time, each for a short time: silent clients cannot shut the probes out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_http_clients_do_not_keep_others_out_for_long() {
    let place = Place::new().await;
    let replica = Replica::start(&place, &[]);
    replica.ready().await;
    let address = replica.http_address().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut client = TcpStream::connect(&address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
        silent.push(client);
    }
    // Behind all of them, and answered when the first are cut.
    assert_eq!(replica.get("/healthz").await.0, 200);
    let mut first = silent.swap_remove(0);
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    replica.stop().await;
}
