//! Headers are read by the client before rollcall sees a message; the worst of them must not end it.

use rollcall::broker::{self, Topology};

use crate::support::{
    Place, RawChannel,
    community::{create_org, enveloped, message},
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
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    broker::declare(&place.settings.broker).await.unwrap();
    let topology = Topology::new(&place.settings.broker);
    let (key, body) = enveloped(org, &message(1, 1, "deep"));
    let mut channel = RawChannel::open(place.settings.broker.url.expose());
    channel.publish_nested(&topology.events_exchange(), &key, deepest(), &body);
    channel.publish_nested(&topology.dead_exchange(), &key, deepest(), b"dead and deep");
    place.publish([enveloped(org, &message(2, 1, "neighbour"))]).await;
    place.work_off(1, &[]).await;
    let counted: (i64, i64) =
        sqlx::query_as("select (select count(*) from activity_events), (select count(*) from dead_letters)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(counted, (2, 1));
}
