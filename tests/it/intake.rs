//! Queues that vanish or are not as expected, updates of several organizations, and organizations that
//! are in each other's way.

use std::time::Duration;

use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use rollcall::broker::{self, Topology};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::{
    Place, Replica,
    community::{create_org, enveloped, message, messages_of, said},
    eventually, rollcall,
};

const IMPATIENT: [(&str, &str); 2] = [("ROLLCALL_RETRY__FIRST", "10ms"), ("ROLLCALL_RETRY__LONGEST", "300ms")];

async fn delete_queues(place: &Place, queues: impl IntoIterator<Item = String>) {
    let connection = broker::connect(&place.settings.broker, "test").await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    for queue in queues {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    broker::close(connection).await;
}

/// Waits until every queue is there and somebody consumes from it.
async fn consumed(place: &Place) {
    eventually("every queue has a consumer", async || {
        let queues = broker::inspect(&place.settings.broker).await.unwrap();
        queues.iter().all(|queue| queue.messages.is_some() && queue.consumers > 0)
    })
    .await;
}

async fn dead_letters(place: &Place) -> Vec<String> {
    let query = sqlx::query_scalar("select reason from dead_letters order by 1");
    query.fetch_all(&mut place.connect().await).await.unwrap()
}

/// Publishes without declaring anything.
async fn publish_undeclared(place: &Place, bodies: impl IntoIterator<Item = (String, Vec<u8>)>) {
    place.publish_to(&Topology::new(&place.settings.broker).events_exchange(), bodies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_queues_are_declared_and_consumed_again() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let replica = Replica::start(&place, &IMPATIENT);
    consumed(&place).await;
    publish_undeclared(&place, said(org, 1..=100)).await;
    eventually("the first are applied", async || messages_of(&place, org).await == 100).await;

    let topology = Topology::new(&place.settings.broker);
    // The last one alone, then all of them.
    for deleted in [topology.event_queues().skip(3).collect::<Vec<_>>(), topology.event_queues().collect()] {
        let before = messages_of(&place, org).await;
        delete_queues(&place, deleted).await;
        consumed(&place).await;
        let first = i64::try_from(before).unwrap() + 1;
        publish_undeclared(&place, said(org, first..=first + 99)).await;
        eventually("the next are applied", async || messages_of(&place, org).await == before + 100).await;
    }
    replica.ready().await;
    replica.stop().await;
    assert_eq!(dead_letters(&place).await, [""; 0]);
    place.assert_metrics_recompute().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_dead_queue_refused_events_are_kept() {
    let place = Place::new().await;
    let replica = Replica::start(&place, &IMPATIENT);
    consumed(&place).await;
    for round in 1..=3 {
        delete_queues(&place, [Topology::new(&place.settings.broker).dead_queue()]).await;
        // At once: whoever publishes the dead letter may find no queue there.
        publish_undeclared(&place, [(String::new(), format!("not JSON {round}").into_bytes())]).await;
        eventually("the dead letter is archived", async || dead_letters(&place).await.len() == round).await;
        consumed(&place).await;
    }
    replica.stop().await;
    assert_eq!(place.ready().await, 0);
    assert_eq!(dead_letters(&place).await, ["malformed_json"; 3]);
}

/// A person must drain or delete it; the worker says so, waits, and goes on by itself afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_arguments_is_reported_and_waited_for() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let queue = Topology::new(&place.settings.broker).event_queues().next().unwrap();
    let connection = broker::connect(&place.settings.broker, "test").await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
    broker::close(connection).await;

    let replica = Replica::start(&place, &IMPATIENT);
    eventually("the queue is reported", async || replica.log().contains("exists with other arguments")).await;
    let log = replica.log();
    let line = log.lines().find(|line| line.contains("exists with other arguments")).unwrap();
    assert!(line.contains(&queue) && line.contains("drain and delete it"), "{line}");
    assert_eq!(replica.get("/healthz").await.0, 200);
    let (status, body) = replica.get("/readyz").await;
    assert!(status == 503 && body.contains(&queue), "{body}");

    delete_queues(&place, [queue.clone()]).await;
    consumed(&place).await;
    publish_undeclared(&place, said(org, 1..=10)).await;
    eventually("all is applied", async || messages_of(&place, org).await == 10).await;
    replica.ready().await;
    replica.stop().await;
    assert!(line.contains("ERROR"), "somebody must act, so it is an error: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_partition_is_enough() {
    const ONE: (&str, &str) = ("ROLLCALL_BROKER__PARTITIONS", "1");
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let orgs = [create_org(&mut connection).await, create_org(&mut connection).await];
    let mut bodies: Vec<_> = orgs.iter().flat_map(|org| said(*org, 1..=200)).map(|(_, body)| body).collect();
    bodies.push(message(1_000, 1, "bare").to_string().into_bytes());
    bodies.push(b"not JSON".to_vec());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bodies.join(&b'\n')).unwrap();
    let published = rollcall(&place, &[ONE]).args(["publish", "--raw"]).arg(file.path()).output().await.unwrap();
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let queues = broker::inspect(&place.settings.broker).await.unwrap();
    let counts: Vec<_> = queues.iter().filter_map(|queue| queue.messages).collect();
    assert_eq!(counts, [402, 0], "one queue of events, and that of dead letters");

    place.work_off(2, &[ONE]).await;
    for org in orgs {
        assert_eq!(messages_of(&place, org).await, 201);
    }
    assert_eq!(dead_letters(&place).await, ["malformed_json"]);
    place.assert_metrics_recompute().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_update_is_applied_to_each_organization_and_acked_once() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let orgs =
        [create_org(&mut connection).await, create_org(&mut connection).await, create_org(&mut connection).await];
    let archived = orgs[2];
    let archive = sqlx::query("update org_telegram_groups set status = 'archived' where org_id = $1").bind(archived);
    archive.execute(&mut connection).await.unwrap();
    place.publish((1..=50).map(|id| ("any".to_owned(), message(id, id, "bare").to_string().into_bytes()))).await;
    let mut replica = Replica::start(&place, &[]);
    eventually("both have them", async || {
        messages_of(&place, orgs[0]).await == 50 && messages_of(&place, orgs[1]).await == 50
    })
    .await;
    replica.terminate().await;
    assert!(replica.ended().await.success(), "{}", replica.log());
    assert_eq!((replica.counted("received"), replica.counted("applied")), (50, 50));
    assert_eq!(place.ready().await, 0);
    assert_eq!(messages_of(&place, archived).await, 0);
    assert_eq!(dead_letters(&place).await, [""; 0]);
    place.assert_metrics_recompute().await;
}

/// What one organization rejects is a dead letter, and a row at the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_update_that_one_organization_rejects_is_applied_to_the_other() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let (strict, other) = (create_org(&mut connection).await, create_org(&mut connection).await);
    let rejecting = format!("alter table activity_events add constraint strict check (org_id <> '{strict}')");
    sqlx::raw_sql(sqlx::AssertSqlSafe(rejecting)).execute(&mut connection).await.unwrap();
    place.publish((1..=5).map(|id| ("any".to_owned(), message(id, id, "bare").to_string().into_bytes()))).await;
    place.work_off(1, &[]).await;
    assert_eq!(messages_of(&place, strict).await, 0);
    assert_eq!(messages_of(&place, other).await, 5);
    assert_eq!(dead_letters(&place).await, ["database_rejected"; 5]);
    place.assert_metrics_recompute().await;
}

/// What is held and what a transaction takes are bounds of their own, also below that of a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefetch_smaller_than_a_batch_works() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    place.publish(said(org, 1..=200)).await;
    place.work_off(1, &[("ROLLCALL_BROKER__PREFETCH", "3"), ("ROLLCALL_BATCH__MAX_TRANSACTION_EVENTS", "2")]).await;
    assert_eq!(messages_of(&place, org).await, 200);
    place.assert_metrics_recompute().await;
}

async fn recorded_after(connection: &mut PgConnection, flooding: Uuid, quiet: Uuid) -> i64 {
    let query = "select count(*) from activity_events where org_id = $1
                 and recorded_at > (select recorded_at from activity_events where org_id = $2)";
    sqlx::query_scalar(query).bind(flooding).bind(quiet).fetch_one(connection).await.unwrap()
}

/// The quiet ones come in the middle: one in the flood's own queue, one wherever it belongs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_organization_is_not_held_up_by_a_flood() {
    const FLOOD: i64 = 5_000;
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let (flooding, near, far) =
        (create_org(&mut connection).await, create_org(&mut connection).await, create_org(&mut connection).await);
    let mut bodies: Vec<_> = said(flooding, 1..=FLOOD / 2).collect();
    let quiet = enveloped(near, &message(1, 1, "excuse me")).1;
    bodies.push((flooding.to_string(), quiet));
    bodies.push(enveloped(far, &message(1, 1, "excuse me")));
    bodies.extend(said(flooding, FLOOD / 2 + 1..=FLOOD));
    place.publish(bodies).await;
    // The worst case: all share one connection to the database.
    place.work_off(1, &[("ROLLCALL_DATABASE__WRITERS", "1")]).await;
    assert_eq!(messages_of(&place, flooding).await, u64::try_from(FLOOD).unwrap());
    for quiet in [near, far] {
        assert_eq!(messages_of(&place, quiet).await, 1);
        // It had at most a batch of the flood in its own transaction.
        let after = recorded_after(&mut connection, flooding, quiet).await;
        assert!(after >= FLOOD / 2 - 1_000, "{after} of the flood were written after it");
    }
}

/// Two organizations with locks of their own.
async fn two_orgs(connection: &mut PgConnection) -> (Uuid, Uuid) {
    let merging = create_org(connection).await;
    loop {
        let other = create_org(connection).await;
        // The last byte chooses the lock.
        if other.as_bytes()[15] != merging.as_bytes()[15] {
            return (merging, other);
        }
    }
}

async fn begin_merge(connection: &mut PgConnection, org: Uuid) {
    sqlx::raw_sql("begin").execute(&mut *connection).await.unwrap();
    let locking = sqlx::query("select pg_advisory_xact_lock(1919904876, rollcall_resolver_slot($1))").bind(org);
    locking.execute(connection).await.unwrap();
}

/// A hundred of each in turns, all in one queue.
fn interleaved(first: Uuid, second: Uuid) -> impl Iterator<Item = (String, Vec<u8>)> {
    let pairs = said(first, 1..=100).zip(said(second, 1..=100));
    pairs.flat_map(|((key, first), (_, second))| [(key.clone(), first), (key, second)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_merge_delays_no_other_organization() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let (merging, other) = two_orgs(&mut connection).await;
    begin_merge(&mut connection, merging).await;
    place.publish(interleaved(merging, other)).await;
    // One writer: both organizations go the same way.
    let replica = Replica::start(&place, &[("ROLLCALL_DATABASE__WRITERS", "1")]);
    eventually("the other organization's are applied", async || messages_of(&place, other).await == 100).await;
    assert_eq!(messages_of(&place, merging).await, 0);
    sqlx::raw_sql("commit").execute(&mut connection).await.unwrap();
    eventually("all are applied", async || messages_of(&place, merging).await == 100).await;
    replica.stop().await;
    assert_eq!(place.ready().await, 0);
    place.assert_metrics_recompute().await;
}

/// What waits for the merge keeps nobody from stopping. It goes back, and what was committed does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_during_an_open_merge_gives_back_what_waits_for_it_and_nothing_else() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let (merging, other) = two_orgs(&mut connection).await;
    begin_merge(&mut connection, merging).await;
    place.publish(interleaved(merging, other)).await;
    let mut replica = Replica::start(&place, &[]);
    eventually("the other organization's are applied", async || messages_of(&place, other).await == 100).await;
    eventually("all is taken", async || place.ready().await == 0).await;
    replica.terminate().await;
    let status = replica.ends_within(Duration::from_secs(20)).await.expect("an end within the grace period");
    assert!(status.success(), "{status}: {}", replica.log());
    sqlx::raw_sql("commit").execute(&mut connection).await.unwrap();

    let mut second = Replica::start(&place, &[]);
    eventually("all are applied", async || messages_of(&place, merging).await == 100).await;
    second.terminate().await;
    assert!(second.ended().await.success(), "{}", second.log());
    assert_eq!(place.ready().await, 0);
    place.assert_metrics_recompute().await;
    assert_eq!((replica.counted("applied"), second.counted("received")), (100, 100));
}
