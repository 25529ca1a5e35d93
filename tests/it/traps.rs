//! Traps of the clients and the protocols, each of which somebody fell into.

use std::time::Duration;

use futures_util::{StreamExt as _, future::BoxFuture};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldArray, FieldTable},
};
use rollcall::{
    apply::Lane,
    broker::{self, Publisher, Topology},
    database::Fault,
    settings,
};
use tokio::process::Command;

use crate::support::{
    DEADLINE, Place, Replica,
    community::{create_org, enveloped, event, message, messages_of, said},
    eventually,
    proxy::{Action, Point, Proxy},
};

/// sqlx 0.9.0 leaves what was sent on a connection when a call is given up. Here the connection is given up with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_leaves_no_transaction_behind() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let proxy = Proxy::to(place.settings.database.url.expose()).await;
    let settings = settings::Database {
        url: settings::SecretUrl::new(proxy.url()),
        transaction_timeout: Duration::from_millis(500),
        ..place.settings.database.clone()
    };
    let mut lane = Lane::new(settings);
    let event = event(&enveloped(org, &message(1, 1, "hello")).1);
    let facts: Vec<_> = event.facts.iter().map(|fact| (org, fact)).collect();
    for point in [Point::Commit, Point::Committed, Point::Ready] {
        let trap = proxy.arm(point, 1, Action::Hold(Duration::from_secs(2)));
        let fault = lane.apply(&facts).await.unwrap_err();
        assert!(matches!(fault, Fault::Outage(_)) && trap.has_sprung(), "{point:?}: {fault}");
        lane.apply(&facts).await.unwrap();
    }
    let idle = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'";
    eventually("no transaction is left open", async || {
        let idle: i64 = sqlx::query_scalar(idle).fetch_one(&mut place.connect().await).await.unwrap();
        idle == 0
    })
    .await;
    assert_eq!(messages_of(&place, org).await, 1);
}

/// lapin ignores the URL's timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_takes_connections_and_says_nothing_is_given_up() {
    let place = Place::new().await;
    let proxy = Proxy::to(place.settings.broker.url.expose()).await;
    proxy.swallow(true);
    let settings = settings::Broker {
        url: settings::SecretUrl::new(proxy.url()),
        connect_timeout: Duration::from_millis(300),
        ..place.settings.broker.clone()
    };
    let refused = tokio::time::timeout(DEADLINE, broker::connect(&settings, "test")).await.expect("an end");
    assert!(format!("{:#}", refused.err().unwrap()).contains("no connection within 300ms"));
}

/// To who asks, this is what lapin makes of a connection that ends while a channel is opened: no end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_falls_silent_while_a_channel_is_opened_is_given_up() {
    let place = Place::new().await;
    let proxy = Proxy::to(place.settings.broker.url.expose()).await;
    let settings = settings::Broker {
        url: settings::SecretUrl::new(proxy.url()),
        connect_timeout: Duration::from_millis(500),
        ..place.settings.broker.clone()
    };
    let askings: [(&str, BoxFuture<'_, anyhow::Result<()>>); 5] = [
        ("declare", Box::pin(async { broker::declare(&settings).await.map(drop) })),
        ("inspect", Box::pin(async { broker::inspect(&settings).await.map(drop) })),
        ("publish", Box::pin(async { Publisher::open(&settings).await.map(drop) })),
        ("prune", Box::pin(async { Ok(broker::prune(&settings, DEADLINE, drop).await?) })),
        ("remove", Box::pin(async { broker::remove(&settings).await })),
    ];
    for (what, asking) in askings {
        let trap = proxy.arm(Point::Open, 1, Action::Swallow);
        let refused = tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("{what} ends"));
        trap.sprung().await;
        let told = format!("{:#}", refused.unwrap_err());
        assert!(told.contains("no answer within 500ms"), "{what}: {told}");
    }
}

/// Whoever consumes, events and dead letters alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_channels_are_not_opened_connects_again_and_stops_when_told() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    place.publish([enveloped(org, &message(1, 1, "fine")), ("key".to_owned(), b"not JSON".to_vec())]).await;
    let proxy = Proxy::to(place.settings.broker.url.expose()).await;
    // The one meets the connection that the other has left.
    let swallow = || [1, 1].map(|kth| proxy.arm(Point::Open, kth, Action::Swallow));

    let traps = swallow();
    let mut replica = Replica::start(&place, &[("AMQP_URL", proxy.url()), ("ROLLCALL_BROKER__CONNECT_TIMEOUT", "1h")]);
    for trap in traps {
        trap.sprung().await;
    }
    replica.terminate().await;
    let status = replica.ends_within(Duration::from_secs(20)).await.expect("an end within the grace period");
    assert!(status.success(), "{status}: {}", replica.log());

    let traps = swallow();
    let replica = Replica::start(&place, &[("AMQP_URL", proxy.url()), ("ROLLCALL_BROKER__CONNECT_TIMEOUT", "1s")]);
    for trap in traps {
        trap.sprung().await;
    }
    eventually("the message is applied", async || messages_of(&place, org).await == 1).await;
    eventually("the letter is archived", async || replica.metric("rollcall_dead_letters_archived_total").await >= 1.0)
        .await;
    replica.stop().await;
}

/// What publishers put beside the body goes no further: copied headers can kill a broker's queue, a copied
/// expiration loses the letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_has_properties_of_its_own_only() {
    let place = Place::new().await;
    broker::declare(&place.settings.broker).await.unwrap();
    let topology = Topology::new(&place.settings.broker);
    let connection =
        Connection::connect(place.settings.broker.url.expose(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    // A copy of what goes to the dead queue.
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let exchange = topology.dead_exchange();
    let bound = QueueBindOptions::default();
    channel.queue_bind(queue.name().clone(), exchange.into(), "".into(), bound, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut copies =
        channel.basic_consume(queue.name().clone(), "".into(), options, FieldTable::default()).await.unwrap();

    let mut headers = FieldTable::default();
    let deaths = FieldArray::from(vec![AMQPValue::LongString("a".into())]);
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths));
    headers.insert("x-rollcall-reason".into(), AMQPValue::LongString("foreign".into()));
    headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongString("x".into())])));
    let hostile = BasicProperties::default()
        .with_headers(headers)
        .with_expiration("60000".into())
        .with_priority(9)
        .with_reply_to("somebody".into())
        .with_correlation_id("1".into())
        .with_message_id("2".into())
        .with_content_encoding("gzip".into())
        .with_delivery_mode(1);
    let published = BasicPublishOptions { mandatory: true, ..Default::default() };
    let exchange = topology.events_exchange();
    channel.basic_publish(exchange.into(), "key".into(), published, b"not JSON", hostile).await.unwrap();

    let replica = Replica::start(&place, &[]);
    let copy = tokio::time::timeout(DEADLINE, copies.next()).await.expect("a letter").unwrap().unwrap();
    assert_eq!((copy.data.as_slice(), copy.routing_key.as_str()), (b"not JSON".as_slice(), "key"));
    let properties = &copy.properties;
    let own: Vec<_> = properties.headers().as_ref().unwrap().inner().keys().map(ToString::to_string).collect();
    assert_eq!(own, ["timestamp_in_ms", "x-rollcall-detail", "x-rollcall-reason"]);
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert!(properties.expiration().is_none() && properties.priority().is_none() && properties.reply_to().is_none());
    assert!(properties.correlation_id().is_none() && properties.message_id().is_none());
    assert!(properties.content_encoding().is_none());
    replica.stop().await;
    connection.close(200, "bye".into()).await.unwrap();
}

/// Whoever does not read the log must not stop the work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_stops_nothing() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let mut command = crate::support::rollcall(&place, &[("RUST_LOG", "trace")]);
    let mut child = command.arg("run").stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Held open, never read: the pipe is full after 64 KiB.
    let _unread = child.stderr.take();
    place.publish(said(org, 1..=3_000)).await;
    eventually("all is applied", async || messages_of(&place, org).await == 3_000).await;
    eventually("all is acked", async || place.ready().await == 0).await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(&pid).status().await.unwrap().success());
    let status = tokio::time::timeout(DEADLINE, child.wait()).await.expect("an end").unwrap();
    assert!(status.success(), "{status}");
}

/// Too few file descriptors for one connection: it waits and says so, and does not spin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_file_descriptors_are_told() {
    let place = Place::new().await;
    let program = crate::support::rollcall(&place, &[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 11; exec \"$0\" run"]).arg(program.as_std().get_program());
    for (key, value) in program.as_std().get_envs() {
        limited.env(key, value.unwrap_or_default());
    }
    let replica = Replica::start_command(limited);
    eventually("it says what it lacks", async || replica.log().contains("Too many open files")).await;
}
