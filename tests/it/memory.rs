//! The memory of a replica is bounded by its settings, whatever waits in the queues.

use rollcall::scenario::{self, Options};

use crate::support::{
    Place, Replica,
    community::{NOON, create_org, enveloped, message},
    eventually, is_full,
};

const MB: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_queue_of_events_takes_less_than_100_mb() {
    let events = if is_full() { 200_000 } else { 30_000 };
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let options = Options::new(events, NOON, 1);
    for org in scenario::orgs(&options) {
        sqlx::query("insert into organizations (id, name, timezone) values ($1, $2, $3)")
            .bind(org.id)
            .bind(&org.name)
            .bind(org.timezone)
            .execute(&mut connection)
            .await
            .unwrap();
        sqlx::query(
            "insert into org_telegram_groups (org_id, tg_chat_id, status) select $1, unnest($2::bigint[]), 'active'",
        )
        .bind(org.id)
        .bind(&org.chats)
        .execute(&mut connection)
        .await
        .unwrap();
    }
    let mut bodies = Vec::new();
    scenario::write(&options, &mut bodies).unwrap();
    let key = |body: &[u8]| rollcall::decode::org_of(body, 1 << 20).map(|org| org.to_string()).unwrap_or_default();
    let lines = bodies.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n');
    place.publish(lines.map(|body| (key(body), body.to_vec()))).await;
    assert_eq!(place.ready().await, events);

    let replica = Replica::start(&place, &[]);
    eventually("the queues are empty", async || place.ready().await == 0).await;
    let (_, peak) = replica.memory();
    replica.stop().await;
    place.work_off(1, &[]).await;
    eprintln!("peak of a replica with {events} events in the queues: {} MB", peak / MB);
    assert!(peak < 100 * MB, "{peak} bytes");
    place.assert_metrics_recompute().await;
}

/// The bound that config/default.toml gives: prefetch x partitions x body size x 3, beside the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_one_mebibyte_take_what_the_settings_allow() {
    const PREFETCH: u64 = 10;
    // Even the fewer are twice what a replica holds.
    let events = if is_full() { 300 } else { 80 };
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let mut orgs = Vec::new();
    for _ in 0..8 {
        orgs.push(create_org(&mut connection).await);
    }
    let text = "x".repeat((1 << 20) - 600);
    let org = |id: i64| orgs[usize::try_from(id).unwrap() % orgs.len()];
    let body = |id: i64| enveloped(org(id), &message(id, 1 + id % 7, &text));
    assert!((1_048_000..=1 << 20).contains(&body(1).1.len()));
    // In portions: what is not confirmed yet is kept by this process.
    for ids in (1..=events).collect::<Vec<_>>().chunks(50) {
        place.publish(ids.iter().map(|id| body(*id))).await;
    }
    let environment = [("ROLLCALL_BROKER__PREFETCH", "10"), ("ROLLCALL_BATCH__MAX_EVENTS", "10")];
    let replica = Replica::start(&place, &environment);
    eventually("all is applied", async || {
        let query = sqlx::query_scalar("select count(*) from activity_events");
        let rows: i64 = query.fetch_one(&mut place.connect().await).await.unwrap();
        rows == events
    })
    .await;
    let (_, peak) = replica.memory();
    replica.stop().await;
    assert_eq!(place.ready().await, 0);
    let bound = 100 * MB + PREFETCH * u64::from(place.settings.broker.partitions) * (1 << 20) * 3;
    eprintln!("peak of a replica with {events} bodies of 1 MiB: {} MB of {} MB", peak / MB, bound / MB);
    assert!(peak < bound, "{peak} bytes, allowed are {bound}");
}
