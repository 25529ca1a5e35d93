//! The proxy acts where it says, does what it says there, and passes everything else on as it was.

use std::{
    io::ErrorKind,
    mem,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use uuid::Uuid;

use crate::support::{
    Place, Replica,
    community::{create_org, messages_of, said},
    eventually,
    proxy::{Action, Delivered, Point, Proxy, Published, Watcher},
};

const A_WHILE: Duration = Duration::from_millis(300);
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I";

/// A connection through a proxy that ends in this process on both sides.
struct Short {
    proxy: Proxy,
    client: TcpStream,
    server: TcpStream,
    _listener: TcpListener,
}

impl Short {
    async fn open(scheme: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::to(&format!("{scheme}://{}/", listener.local_addr().unwrap())).await;
        let client = TcpStream::connect(address(&proxy)).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        Self { proxy, client, server, _listener: listener }
    }
}

/// Host and port in a proxy's URL that has no user.
fn address(proxy: &Proxy) -> &str {
    proxy.url().split('/').nth(2).unwrap()
}

async fn read_all(stream: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.map_err(|error| error.kind())?;
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_see_how_a_connection_is_closed() {
    let half = &COMMITTED[..6];
    for (action, at_client, at_server) in [
        (Action::Cut, Ok(&b""[..]), Ok(&b""[..])),
        (Action::Reset, Err(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)),
        (Action::CutInTheMiddle, Ok(half), Ok(b"")),
        (Action::CutAfter, Ok(COMMITTED), Ok(b"")),
    ] {
        let mut short = Short::open("postgres").await;
        let trap = short.proxy.arm(Point::Committed, 1, action);
        // What belongs together comes in two pieces, where both are still awaited.
        let (first, second) = COMMITTED.split_at(14);
        short.server.write_all(first).await.unwrap();
        eventually("the point is met", async || short.proxy.seen(Point::Committed) == 1).await;
        if at_client == Ok(COMMITTED) {
            short.server.write_all(second).await.unwrap();
        }
        assert_eq!(read_all(&mut short.client).await.as_deref(), at_client.as_ref().copied());
        assert_eq!(read_all(&mut short.server).await.as_deref(), at_server.as_ref().copied());
        trap.sprung().await;
        assert!(trap.has_sprung());
        assert_eq!(short.proxy.connections(), 0);
    }
}

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, channel], &size[..], payload, &[0xce]].concat()
}

/// A broker may drop what it has read of a connection that is gone, so this one has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_cut_after_passes_whole() {
    let mut short = Short::open("amqp").await;
    let trap = short.proxy.arm(Point::Publish, 1, Action::CutAfter);
    let publish = |channel| frame(1, channel, b"\0\x3c\0\x28\0\0\0\x01q\0");
    let header = |channel| frame(2, channel, b"\0\x3c\0\0\0\0\0\0\0\0\0\x04\0\0");
    let [one, half, heartbeat] = [frame(3, 1, b"body"), frame(3, 2, b"bo"), frame(8, 0, b"")];
    short.client.write_all(&publish(2)).await.unwrap();
    eventually("the point is met", async || short.proxy.seen(Point::Publish) == 1).await;
    let other = [publish(1), header(2), header(1), one].concat();
    let rest = [other, half.clone(), heartbeat.clone(), half].concat();
    short.client.write_all(&[&rest[..], &heartbeat].concat()).await.unwrap();
    assert_eq!(read_all(&mut short.server).await, Ok([publish(2), rest].concat()));
    assert_eq!(read_all(&mut short.client).await, Ok(vec![]));
    trap.sprung().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_and_delays_keep_every_byte_in_order() {
    let mut short = Short::open("postgres").await;
    let numbers: Vec<_> = (0..300_u32).collect();
    let message = |number: &u32| [&b"D\0\0\0\x08"[..], &number.to_be_bytes()].concat();
    let mut read = vec![0; 9];
    let started = Instant::now();
    for (chunk, slice) in numbers.chunks(100).zip([Some(1), Some(7), None]) {
        short.proxy.delay(if slice.is_some() { A_WHILE } else { Duration::ZERO });
        short.proxy.slice(slice);
        let sent: Vec<_> = chunk.iter().flat_map(message).collect();
        short.server.write_all(&sent).await.unwrap();
        if slice == Some(1) {
            short.client.read_exact(&mut read).await.unwrap();
            assert!(started.elapsed() >= A_WHILE);
        }
    }
    short.server.shutdown().await.unwrap();
    read.extend(read_all(&mut short.client).await.unwrap());
    assert_eq!(read, numbers.iter().flat_map(message).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_gives_nothing_and_ends_for_nobody() {
    let mut short = Short::open("postgres").await;
    let trap = short.proxy.arm(Point::Committed, 2, Action::Swallow);
    short.server.write_all(&COMMITTED.repeat(3)).await.unwrap();
    trap.sprung().await;
    let mut first = [0; COMMITTED.len()];
    short.client.read_exact(&mut first).await.unwrap();
    assert_eq!(first, COMMITTED);
    short.server.write_all(COMMITTED).await.unwrap();
    drop(short.client);
    assert!(timeout(A_WHILE, read_all(&mut short.server)).await.is_err());
    assert_eq!((short.proxy.connections(), short.proxy.cut()), (1, 1));
    assert_eq!(read_all(&mut short.server).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_whole_network_swallows_comes_later_and_in_order() {
    let mut short = Short::open("postgres").await;
    short.proxy.swallow(true);
    short.server.write_all(COMMITTED).await.unwrap();
    short.server.shutdown().await.unwrap();
    let reading = tokio::spawn(async move { read_all(&mut short.client).await });
    // A new one connects, and that is all.
    let mut new = TcpStream::connect(address(&short.proxy)).await.unwrap();
    drop(short.server);
    assert!(timeout(A_WHILE, new.read_u8()).await.is_err());
    assert!(!reading.is_finished());
    assert_eq!(short.proxy.seen(Point::Committed), 0);
    short.proxy.swallow(false);
    assert_eq!(reading.await.unwrap().unwrap(), COMMITTED);
    assert_eq!(short.proxy.seen(Point::Committed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_way_opens_again_on_its_port_and_may_lead_elsewhere() {
    let mut short = Short::open("postgres").await;
    short.proxy.close().await;
    assert_eq!(read_all(&mut short.client).await, Ok(vec![]));
    assert_eq!(TcpStream::connect(address(&short.proxy)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    short.proxy.set_target(&format!("postgres://user:pass@{}/", elsewhere.local_addr().unwrap()));
    short.proxy.open().await;
    let _client = TcpStream::connect(address(&short.proxy)).await.unwrap();
    elsewhere.accept().await.unwrap();
    assert_eq!(short.proxy.connections(), 1);
}

async fn database(place: &Place) -> (Proxy, PgConnection) {
    let proxy = Proxy::to(place.settings.database.url.expose()).await;
    let connection = PgConnection::connect(proxy.url()).await.unwrap();
    (proxy, connection)
}

/// Inserts an organization in a transaction.
async fn insert(connection: &mut PgConnection) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    insert_alone(&mut transaction).await?;
    transaction.commit().await
}

async fn insert_alone(connection: &mut PgConnection) -> sqlx::Result<()> {
    let query = sqlx::query("insert into organizations (id, name) values ($1, 'Organization')").bind(Uuid::new_v4());
    query.execute(connection).await.map(drop)
}

async fn organizations(place: &Place) -> i64 {
    sqlx::query_scalar("select count(*) from organizations").fetch_one(&mut place.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_cut_exactly_where_it_should_be() {
    let place = Place::new().await;
    let mut expected = 0;
    for (point, action, is_committed, is_told) in [
        (Point::Begin, Action::Cut, false, false),
        (Point::Begun, Action::Reset, false, false),
        (Point::Statement, Action::CutAfter, false, false),
        (Point::Commit, Action::Cut, false, false),
        (Point::Commit, Action::CutInTheMiddle, false, false),
        (Point::Commit, Action::CutAfter, true, false),
        (Point::Committed, Action::Cut, true, false),
        (Point::Committed, Action::CutAfter, true, true),
    ] {
        let (proxy, mut connection) = database(&place).await;
        insert(&mut connection).await.unwrap();
        let trap = proxy.arm(point, 2, action.clone());
        insert(&mut connection).await.unwrap();
        let last = insert(&mut connection).await;
        trap.sprung().await;
        assert_eq!(last.is_ok(), is_told, "{point:?} {action:?}: {last:?}");
        assert!(insert(&mut connection).await.is_err(), "{point:?} {action:?}: the connection is gone");
        expected += if is_committed { 3 } else { 2 };
        eventually("it is as expected", async || organizations(&place).await == expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_of_the_database_are_counted_in_both_protocols() {
    let place = Place::new().await;
    let (proxy, mut connection) = database(&place).await;
    let count = || {
        use Point::{Begin, Begun, Commit, Committed, Statement};
        [Begin, Begun, Statement, Commit, Committed].map(|point| proxy.seen(point))
    };
    let before = count();
    insert(&mut connection).await.unwrap();
    insert(&mut connection).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    insert_alone(&mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    for prepared in ["Begin", "select 1", " END", "start transaction", "commit"] {
        sqlx::query(prepared).execute(&mut connection).await.unwrap();
    }
    let counted: Vec<_> = count().iter().zip(before).map(|(now, before)| now - before).collect();
    assert_eq!(counted, [5, 4, 4, 4, 4], "start transaction has an answer of its own");
    assert!(proxy.last_seen(Point::Begin) < proxy.last_seen(Point::Committed));
    assert_eq!(proxy.last_seen(Point::Deliver), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_commit_comes_late_and_counts() {
    let place = Place::new().await;
    let (proxy, mut connection) = database(&place).await;
    let trap = proxy.arm(Point::Commit, 1, Action::Hold(A_WHILE));
    let started = Instant::now();
    insert(&mut connection).await.unwrap();
    assert!(trap.has_sprung() && proxy.last_seen(Point::Commit).unwrap() - started >= A_WHILE);
    assert_eq!(organizations(&place).await, 1);

    proxy.delay(A_WHILE / 3);
    let started = Instant::now();
    sqlx::raw_sql("select 1").execute(&mut connection).await.unwrap();
    assert!(started.elapsed() >= A_WHILE * 2 / 3, "once in each direction");
}

/// A channel with confirms on a connection of its own.
async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> lapin::Result<lapin::Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel.basic_publish("".into(), queue.into(), options, body, BasicProperties::default()).await?.await
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), queue.into(), options, FieldTable::default()).await
}

async fn consume_and_ack(channel: &Channel, queue: &str) -> lapin::Result<Vec<u8>> {
    let delivery = consume(channel, queue).await?.next().await.expect("a delivery or an error")?;
    channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await?;
    // Answered after the ack.
    channel.basic_qos(1, lapin::options::BasicQosOptions::default()).await?;
    Ok(delivery.data)
}

/// A way to a queue, and one beside it.
struct Broker {
    proxy: Proxy,
    direct: Channel,
    queue: String,
    _connection: Connection,
}

impl Broker {
    async fn open(place: &Place) -> Self {
        let url = place.settings.broker.url.expose();
        let (connection, direct) = channel(url).await;
        // Named as one of the place's, which is removed with it.
        let queue = format!("{}.events.0", place.name);
        direct.queue_declare(queue.as_str().into(), durable(), FieldTable::default()).await.unwrap();
        Self { proxy: Proxy::to(url).await, direct, queue, _connection: connection }
    }

    async fn is_holding(&self, messages: u32) {
        eventually("the queue holds so many", async || {
            let passive = QueueDeclareOptions { passive: true, ..durable() };
            let declared = self.direct.queue_declare(self.queue.as_str().into(), passive, FieldTable::default());
            declared.await.unwrap().message_count() == messages
        })
        .await;
    }
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_cut_exactly_where_it_should_be() {
    let place = Place::new().await;
    let broker = Broker::open(&place).await;
    let mut expected = 0;
    for (point, action, has_arrived) in [
        (Point::Publish, Action::Cut, false),
        (Point::Publish, Action::CutInTheMiddle, false),
        (Point::Confirm, Action::Cut, true),
        (Point::Confirm, Action::Reset, true),
    ] {
        let trap = broker.proxy.arm(point, 2, action.clone());
        let (_connection, channel) = channel(broker.proxy.url()).await;
        publish(&channel, &broker.queue, b"first").await.unwrap();
        let second = publish(&channel, &broker.queue, &b"second".repeat(50_000)).await;
        assert!(second.is_err(), "{point:?} {action:?}");
        trap.sprung().await;
        expected += if has_arrived { 2 } else { 1 };
        broker.is_holding(expected).await;
    }
    assert_eq!(broker.proxy.seen(Point::Publish), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumption_is_cut_exactly_where_it_should_be() {
    let place = Place::new().await;
    let broker = Broker::open(&place).await;
    publish(&broker.direct, &broker.queue, &b"body".repeat(50_000)).await.unwrap();
    for (point, action) in [
        (Point::Consume, Action::Cut),
        (Point::Deliver, Action::CutInTheMiddle),
        (Point::Deliver, Action::CutAfter),
        (Point::Ack, Action::Cut),
    ] {
        let trap = broker.proxy.arm(point, 1, action.clone());
        let (_connection, channel) = channel(broker.proxy.url()).await;
        assert!(consume_and_ack(&channel, &broker.queue).await.is_err(), "{point:?} {action:?}");
        trap.sprung().await;
        broker.is_holding(1).await;
    }
    let (connection, channel) = channel(broker.proxy.url()).await;
    assert_eq!(consume_and_ack(&channel, &broker.queue).await.unwrap(), b"body".repeat(50_000));
    connection.close(200, "".into()).await.unwrap();
    broker.is_holding(0).await;
    assert_eq!(broker.proxy.seen(Point::Consume), 5);
}

/// Writes down what it is told, and lets an ack pass for each permit.
struct Notes {
    acked: Mutex<Vec<Vec<Delivered>>>,
    confirmed: Mutex<Vec<Published>>,
    permits: Semaphore,
}

impl Notes {
    fn of(proxy: &Proxy, permits: usize) -> Arc<Self> {
        let notes = Self { acked: Mutex::default(), confirmed: Mutex::default(), permits: Semaphore::new(permits) };
        let notes = Arc::new(notes);
        proxy.watch(notes.clone());
        notes
    }

    /// Tags of consumers, whether it came again, and bodies.
    async fn next_acked(&self) -> Vec<(String, bool, Arc<[u8]>)> {
        eventually("an ack comes", async || !self.acked.lock().unwrap().is_empty()).await;
        let acked = self.acked.lock().unwrap().remove(0);
        acked.into_iter().map(|it| (it.queue_consumer_tag, it.redelivered, it.body)).collect()
    }
}

impl Watcher for Notes {
    fn acked(&self, deliveries: Vec<Delivered>) -> BoxFuture<'_, ()> {
        self.acked.lock().unwrap().push(deliveries);
        Box::pin(async { self.permits.acquire().await.unwrap().forget() })
    }

    fn confirmed(&self, published: Published) {
        self.confirmed.lock().unwrap().push(published);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_of_acks_and_holds_them() {
    let place = Place::new().await;
    let broker = Broker::open(&place).await;
    let notes = Notes::of(&broker.proxy, 0);
    let bodies: Vec<_> = (0_u8..7).map(|number| vec![number; usize::from(number) * 50_000]).collect();
    for body in &bodies {
        publish(&broker.direct, &broker.queue, body).await.unwrap();
    }
    let (_connection, channel) = channel(broker.proxy.url()).await;
    let (ack, nack) =
        (|multiple| BasicAckOptions { multiple }, BasicNackOptions { requeue: true, ..Default::default() });
    let delivered =
        |number: usize, tag: &str, redelivered| (tag.to_owned(), redelivered, Arc::from(bodies[number].as_slice()));

    let got = channel.basic_get(broker.queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    channel.basic_ack(got.delivery_tag, ack(false)).await.unwrap();
    assert_eq!(notes.next_acked().await, [delivered(0, "", false)]);
    assert_eq!((broker.proxy.seen(Point::Ack), broker.proxy.last_seen(Point::Ack)), (1, None), "it is held");
    notes.permits.add_permits(1);
    eventually("it is let go", async || broker.proxy.last_seen(Point::Ack).is_some()).await;

    notes.permits.add_permits(10);
    let mut consumer = consume(&channel, &broker.queue).await.unwrap();
    let tags: Vec<_> = consumer.by_ref().take(6).map(|delivery| delivery.unwrap().delivery_tag).collect().await;
    channel.basic_ack(tags[1], ack(false)).await.unwrap();
    channel.basic_nack(tags[2], nack).await.unwrap();
    assert_eq!(consumer.next().await.unwrap().unwrap().data, bodies[3]);
    channel.basic_ack(tags[4], ack(true)).await.unwrap();
    channel.basic_ack(0, ack(true)).await.unwrap();
    assert_eq!(notes.next_acked().await, [delivered(2, &broker.queue, false)]);
    assert_eq!(notes.next_acked().await, [1, 4, 5].map(|number| delivered(number, &broker.queue, false)));
    assert_eq!(
        notes.next_acked().await,
        [delivered(6, &broker.queue, false), delivered(3, &broker.queue, true)],
        "the rest, by tag"
    );
    assert_eq!((broker.proxy.seen(Point::Deliver), broker.proxy.seen(Point::Ack)), (7, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_of_what_was_confirmed_and_not_of_what_was_returned() {
    let place = Place::new().await;
    let broker = Broker::open(&place).await;
    let notes = Notes::of(&broker.proxy, 0);
    let (_connection, channel) = channel(broker.proxy.url()).await;
    let published =
        |body: &[u8]| Published { exchange: String::new(), routing_key: broker.queue.clone(), body: body.into() };
    for body in [&b""[..], b"one", &b"large".repeat(100_000)] {
        publish(&channel, "nowhere", body).await.unwrap();
        publish(&channel, &broker.queue, body).await.unwrap();
        // Told before the client is.
        assert_eq!(mem::take(&mut *notes.confirmed.lock().unwrap()), [published(body)]);
    }
    // At once: what the broker confirms with multiple is told one by one.
    let mut expected = Vec::new();
    let publishing = (0..1_000_u32).map(|number| {
        let queue = if number % 10 == 0 { "nowhere" } else { &broker.queue };
        expected.extend((number % 10 > 0).then(|| published(&number.to_be_bytes())));
        let channel = &channel;
        async move { publish(channel, queue, &number.to_be_bytes()).await.unwrap() }
    });
    futures_util::future::join_all(publishing.collect::<Vec<_>>()).await;
    let mut confirmed = mem::take(&mut *notes.confirmed.lock().unwrap());
    confirmed.sort_by(|one, other| one.body.cmp(&other.body));
    assert!(confirmed == expected, "{} of {}", confirmed.len(), expected.len());
}

/// A worker that reaches both servers through proxies.
struct Worker {
    database: Proxy,
    broker: Proxy,
    replica: Replica,
    org: Uuid,
}

impl Worker {
    async fn start(place: &Place) -> Self {
        let org = create_org(&mut place.connect().await).await;
        let database = Proxy::to(place.settings.database.url.expose()).await;
        let broker = Proxy::to(place.settings.broker.url.expose()).await;
        let replica = Replica::start(place, &[("DATABASE_URL", database.url()), ("AMQP_URL", broker.url())]);
        replica.ready().await;
        Self { database, broker, replica, org }
    }

    async fn has_applied(&self, place: &Place, messages: u64) {
        eventually("all is applied", async || messages_of(place, self.org).await == messages).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_killed_at_a_delivery() {
    let place = Place::new().await;
    let mut worker = Worker::start(&place).await;
    let trap = worker.broker.arm(Point::Deliver, 1, Action::Kill(worker.replica.pid()));
    place.publish(said(worker.org, 1..=10)).await;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&worker.replica.ended().await), Some(9));
    trap.sprung().await;
    eventually("all is back in the queues", async || place.ready().await == 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_freezes_at_a_delivery_and_thaws() {
    let place = Place::new().await;
    let worker = Worker::start(&place).await;
    let trap = worker.broker.arm(Point::Deliver, 1, Action::Freeze(worker.replica.pid(), A_WHILE));
    let started = Instant::now();
    place.publish(said(worker.org, 1..=10)).await;
    worker.has_applied(&place, 10).await;
    assert!(trap.has_sprung());
    assert!(worker.database.last_seen(Point::Commit).unwrap() - started >= A_WHILE);
    worker.replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_gets_all_byte_by_byte() {
    let place = Place::new().await;
    let worker = Worker::start(&place).await;
    let notes = Notes::of(&worker.broker, Semaphore::MAX_PERMITS);
    worker.database.slice(Some(1));
    worker.broker.slice(Some(1));
    place.publish(said(worker.org, 1..=2_000)).await;
    worker.has_applied(&place, 2_000).await;
    eventually("the queues are empty", async || place.ready().await == 0).await;
    worker.replica.stop().await;
    assert_eq!(worker.broker.seen(Point::Deliver), 2_000);
    let acked: Vec<_> = mem::take(&mut *notes.acked.lock().unwrap()).into_iter().flatten().collect();
    assert!(acked.iter().all(|delivered| !delivered.redelivered && !delivered.queue_consumer_tag.is_empty()));
    let mut bodies: Vec<_> = acked.into_iter().map(|delivered| delivered.body.to_vec()).collect();
    bodies.sort();
    let mut published: Vec<_> = said(worker.org, 1..=2_000).map(|(_, body)| body).collect();
    published.sort();
    assert!(bodies == published, "{} acked", bodies.len());
}
