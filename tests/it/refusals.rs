//! Every reason has its bytes, and a refused event changes nothing for its neighbours.

use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use rollcall::broker::{self, Topology};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::{
    Place, Replica,
    community::{NOON, create_org, enveloped, fail_at_odd, message},
    eventually,
};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
struct Dead {
    reason: String,
    org_id: Option<Uuid>,
    body: Vec<u8>,
}

async fn dead(connection: &mut PgConnection) -> Vec<Dead> {
    let query = sqlx::query_as("select reason, org_id, body from dead_letters where status = 'parked'");
    let mut dead: Vec<Dead> = query.fetch_all(connection).await.unwrap();
    dead.sort();
    dead
}

async fn messages(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from activity_events").fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reason_that_the_body_gives() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let nobody = Uuid::new_v4();
    let mut undated = message(2, 1, "x");
    undated["message"]["date"] = json!("yesterday");
    let mut outside = message(3, 1, "x");
    outside["message"]["message_id"] = json!(0);
    let mut unmapped = message(4, 1, "x");
    unmapped["message"]["chat"]["id"] = json!(-77);
    let large = enveloped(org, &message(5, 1, &"x".repeat(1 << 20))).1;
    let expected = [
        ("too_large", None, large),
        ("malformed_json", None, b"{\"org_id\":".to_vec()),
        ("malformed_json", None, b"\xff\xfe".to_vec()),
        ("malformed_json", None, Vec::new()),
        ("invalid_envelope", Some(org), enveloped(org, &undated).1),
        ("invalid_envelope", None, b"[1,{\"update_id\":1}]".to_vec()),
        ("invalid_event", Some(org), enveloped(org, &outside).1),
        ("unknown_org", Some(nobody), enveloped(nobody, &message(6, 1, "x")).1),
        ("unmapped_chat", None, unmapped.to_string().into_bytes()),
    ];
    let mut bodies: Vec<_> = expected.iter().map(|(_, _, body)| ("key".to_owned(), body.clone())).collect();
    bodies.push(enveloped(org, &message(1, 1, "fine")));
    place.publish(bodies).await;
    place.work_off(1, &[]).await;

    let mut expected: Vec<_> =
        expected.map(|(reason, org_id, body)| Dead { reason: reason.into(), org_id, body }).into();
    expected.sort();
    assert_eq!(dead(&mut connection).await, expected);
    assert_eq!(messages(&mut connection).await, 1);
    let keys: Vec<String> =
        sqlx::query_scalar("select distinct routing_key from dead_letters").fetch_all(&mut connection).await.unwrap();
    assert_eq!(keys, ["key"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_unknown_kind_is_tried_a_bounded_number_of_times() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    fail_at_odd(&mut connection).await;
    place.publish((1..=50).map(|id| enveloped(org, &message(id, 1, if id == 25 { "odd" } else { "fine" })))).await;
    let replica = Replica::start(&place, &[("ROLLCALL_LIMITS__MAX_ATTEMPTS", "3"), ("ROLLCALL_RETRY__FIRST", "10ms")]);
    eventually("it is given up", async || dead(&mut place.connect().await).await.len() == 1).await;
    replica.stop().await;
    let dead = dead(&mut connection).await;
    assert_eq!(dead.iter().map(|dead| dead.reason.as_str()).collect::<Vec<_>>(), ["retries_exhausted"]);
    assert_eq!(messages(&mut connection).await, 49);
    let tries: i64 = sqlx::query_scalar("select last_value from tries").fetch_one(&mut connection).await.unwrap();
    assert!((3..40).contains(&tries), "{tries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_redelivered_too_often_is_quarantined() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let (key, body) = enveloped(org, &message(1, 1, "crashes"));
    place.publish([(key, body.clone())]).await;
    for _ in 0..3 {
        take_and_drop(&place).await;
    }
    // Forged on a first delivery, the count means nothing.
    let publisher = lapin_connection(&place).await;
    let channel = publisher.create_channel().await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(1_000_000));
    let properties = lapin::BasicProperties::default().with_headers(headers);
    let forged = enveloped(org, &message(2, 1, "forged")).1;
    let exchange = Topology::new(&place.settings.broker).events_exchange();
    let options = lapin::options::BasicPublishOptions::default();
    channel
        .basic_publish(exchange.into(), org.to_string().into(), options, &forged, properties)
        .await
        .unwrap()
        .await
        .unwrap();
    publisher.close(200, "".into()).await.unwrap();

    place.work_off(1, &[("ROLLCALL_LIMITS__MAX_REDELIVERIES", "2")]).await;
    assert_eq!(dead(&mut connection).await, [Dead { reason: "quarantined".into(), org_id: Some(org), body }]);
    assert_eq!(messages(&mut connection).await, 1);
}

async fn lapin_connection(place: &Place) -> Connection {
    Connection::connect(place.settings.broker.url.expose(), ConnectionProperties::default()).await.unwrap()
}

/// Takes what is there and goes away without an ack, as a crashing replica does.
async fn take_and_drop(place: &Place) {
    use futures_util::StreamExt as _;
    let connection = lapin_connection(place).await;
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(10, BasicQosOptions::default()).await.unwrap();
    let mut consumers = futures_util::stream::SelectAll::new();
    for queue in Topology::new(&place.settings.broker).event_queues() {
        let consumer =
            channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        consumers.push(consumer.await.unwrap());
    }
    consumers.next().await.unwrap().unwrap();
    connection.close(200, "".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_into_the_dead_queue_is_foreign() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    broker::declare(&place.settings.broker).await.unwrap();
    let publisher = lapin_connection(&place).await;
    let channel = publisher.create_channel().await.unwrap();
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
    let exchange = Topology::new(&place.settings.broker).dead_exchange();
    let mut hostile = FieldTable::default();
    hostile.insert("x-rollcall-reason".into(), AMQPValue::LongString("drop table".into()));
    hostile.insert("nul".into(), AMQPValue::LongString(b"a\0\xffb".to_vec().into()));
    let body = b"\x00\xff binary".to_vec();
    for headers in [hostile, FieldTable::default()] {
        let properties = lapin::BasicProperties::default().with_headers(headers);
        let options = lapin::options::BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = channel.basic_publish(exchange.as_str().into(), "some\u{1}key".into(), options, &body, properties);
        assert!(matches!(sent.await.unwrap().await.unwrap(), lapin::Confirmation::Ack(None)));
    }
    publisher.close(200, "".into()).await.unwrap();
    place.work_off(1, &[]).await;
    assert_eq!(dead(&mut connection).await, [Dead { reason: "foreign".into(), org_id: None, body }]);
    let attempts: i32 =
        sqlx::query_scalar("select attempts from dead_letters").fetch_one(&mut connection).await.unwrap();
    assert_eq!(attempts, 2, "one row per body, counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_comes_again_is_parked_again() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut outside = message(1, 1, "x");
    outside["message"]["date"] = json!(NOON * 2);
    place.publish([enveloped(org, &outside)]).await;
    place.work_off(1, &[]).await;
    sqlx::query("update dead_letters set status = 'discarded', resolved_at = now()")
        .execute(&mut connection)
        .await
        .unwrap();
    place.publish([enveloped(org, &outside)]).await;
    place.work_off(1, &[]).await;
    let row: (String, i32, bool) = sqlx::query_as("select status, attempts, resolved_at is null from dead_letters")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(row, ("parked".into(), 2, true));
}
