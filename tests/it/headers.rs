//! Headers are read by the client before rollcall sees a message; the worst of them must not end it.

use rollcall::broker::{self, Topology};

use crate::support::{
    Place, RawChannel, Replica,
    community::{create_org, enveloped, message, messages_of, said},
    eventually, private_servers,
};

/// The most that a frame of 128 KiB holds; an unoptimised client needs several times the stack for it. Half
/// of what is tried on one of those already ends a process with the usual stack.
fn deepest() -> u32 {
    let is_optimised = !cfg!(debug_assertions) || std::env::var_os("ROLLCALL_TEST_PROGRAM").is_some();
    if is_optimised { 18_000 } else { 2_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deepest_headers_end_no_replica() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    broker::declare(&place.settings.broker).await.unwrap();
    let topology = Topology::new(&place.settings.broker);
    let (key, body) = enveloped(org, &message(1, 1, "deep"));
    let mut channel = RawChannel::open(place.settings.broker.url.expose());
    channel.publish_nested(&topology.events_exchange(), &key, deepest(), &body);
    channel.publish_nested(&topology.dead_exchange(), &key, deepest(), b"dead and deep");
    place.publish([enveloped(org, &message(2, 1, "neighbour"))]).await;
    let replica = Replica::start(&place, &[]);
    eventually("all is applied, and the dead letter is kept", async || {
        let count = "select (select count(*) from activity_events), (select count(*) from dead_letters)";
        sqlx::query_as::<_, (i64, i64)>(count).fetch_one(&mut place.connect().await).await.unwrap() == (2, 1)
    })
    .await;
    replica.stop().await;
    assert_eq!(place.ready().await, 0);
}

/// What connections agree to at first is less than what publishers may send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_headers_are_taken_after_connecting_again() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    broker::declare(&place.settings.broker).await.unwrap();
    let topology = Topology::new(&place.settings.broker);
    let (key, body) = enveloped(org, &message(1, 1, "long"));
    let mut channel = RawChannel::open(place.settings.broker.url.expose());
    channel.publish_long(&topology.events_exchange(), &key, 100_000, &body);
    channel.publish_long(&topology.dead_exchange(), &key, 100_000, b"dead and long");
    place.publish(said(org, 2..=50)).await;
    let replica = Replica::start(&place, &[]);
    eventually("all is applied", async || messages_of(&place, org).await == 50).await;
    eventually("the dead letter is kept", async || {
        let count = "select count(*) from dead_letters where length(headers::text) > 100000";
        let kept: i64 = sqlx::query_scalar(count).fetch_one(&mut place.connect().await).await.unwrap();
        kept == 1
    })
    .await;
    assert!(replica.metric("rollcall_retries_total").await < 1.0, "something was waited for:\n{}", replica.log());
    replica.stop().await;
    assert_eq!(place.ready().await, 0);
}

/// It comes a second time already when connections agree to longer frames, and the broker has added to its headers: it fits
/// into none, and everything behind it waits until an operator does what readiness says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_as_long_as_a_frame_are_explained_and_taken_when_frames_are_longer() {
    let Some(servers) = private_servers() else {
        eprintln!("SKIPPED: needs a broker whose settings may be changed");
        return;
    };
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    broker::declare(&place.settings.broker).await.unwrap();
    let (key, body) = enveloped(org, &message(1, 1, "long"));
    let exchange = Topology::new(&place.settings.broker).events_exchange();
    RawChannel::open(place.settings.broker.url.expose()).publish_long(&exchange, &key, 131_020, &body);
    place.publish(said(org, 2..=50)).await;
    let replica = Replica::start(&place, &[("ROLLCALL_RETRY__LONGEST", "200ms")]);
    eventually("readiness says what to do", async || replica.get("/readyz").await.1.contains("frame_max")).await;
    let set = |bytes: u32| {
        let eval = format!("application:set_env(rabbit, frame_max, {bytes}).");
        tokio::task::spawn_blocking(move || servers.rabbitmqctl(&["eval", &eval]))
    };
    set(1 << 20).await.unwrap().unwrap();
    eventually("all is applied", async || messages_of(&place, org).await == 50).await;
    replica.stop().await;
    set(131_072).await.unwrap().unwrap();
    assert_eq!(place.ready().await, 0);
}
